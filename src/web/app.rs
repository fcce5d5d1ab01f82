//! What all pages share.

use std::net::IpAddr;
use std::sync::Arc;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::{Semaphore, watch};

use super::client_address::{Proxies, VisitorAddress};
use super::hub::Hub;
use super::privacy::Facts;
use super::rate_limit::RateLimit;
use super::sender::Sender;
use super::session::Session;
use super::store::Store;
use crate::config::WebConfig;
use crate::config::web::CohortConfig;
use crate::runtime::http_server::Peer;

/// Draws a public address; the same for the same number.
pub type MadeUp = Box<dyn Fn(u64) -> IpAddr + Send + Sync>;

/// The running web app.
pub struct App {
    /// Its settings.
    pub config: WebConfig,
    /// What visitors are drawn among; never empty.
    pub cohorts: Vec<CohortConfig>,
    /// To the source topic.
    pub sender: Sender,
    /// How often visitors may press.
    pub limits: RateLimit,
    /// Who is believed.
    pub proxies: Proxies,
    /// Addresses for visitors without a public one, where they are asked for.
    pub made_up: Option<MadeUp>,
    /// From the output topic.
    pub hub: Arc<Hub>,
    /// For `/stats`.
    pub store: Store,
    /// For `/about`.
    pub facts: Facts,
    /// Places for watchers.
    pub watchers: Arc<Semaphore>,
    /// Says when it is over.
    pub stop: watch::Receiver<bool>,
}

impl App {
    /// The request's session, if it has one.
    pub fn session(&self, headers: &HeaderMap) -> Option<Session> {
        Session::of(headers, &self.cohorts)
    }

    /// Whom the request comes from.
    pub fn address(&self, session: &Session, peer: Peer, headers: &HeaderMap) -> VisitorAddress {
        let address = self.proxies.visitor(peer.0, headers);
        let Some(draw) = self.made_up.as_ref().filter(|_| address.is_local()) else { return address };
        let digits = session.id.as_str().chars().filter_map(|digit| digit.to_digit(16));
        let seed = digits.fold(0u64, |seed, digit| seed.wrapping_mul(31).wrapping_add(u64::from(digit)));
        VisitorAddress::made_up(draw(seed))
    }

    /// Whether the cookie is for TLS alone.
    pub fn is_secure(&self, peer: Peer, headers: &HeaderMap) -> bool {
        let public = self.config.public_url.as_deref().is_some_and(|url| url.starts_with("https://"));
        public || self.proxies.came_by_tls(peer.0, headers)
    }

    /// The answer, with the visitor's cookie for as long again if the request has one. Not for answers that take long: a press
    /// meanwhile raises the count, which they would put back.
    pub fn renewed(&self, answer: Response, peer: Peer, headers: &HeaderMap) -> Response {
        match self.session(headers) {
            Some(session) => {
                with_cookie(answer, &session.cookie(self.config.cookie_days, self.is_secure(peer, headers)))
            }
            None => answer,
        }
    }

    /// What a visitor in this cohort sees.
    pub fn cohort(&self, number: i16) -> Option<&CohortConfig> {
        self.cohorts.iter().find(|cohort| cohort.number == number)
    }
}

/// A rendered template, or a bare error: a template that cannot be rendered is a defect.
pub fn page(status: StatusCode, rendered: Result<String, askama::Error>) -> Response {
    match rendered {
        Ok(html) => (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], html).into_response(),
        Err(error) => {
            tracing::error!(%error, "a page cannot be rendered");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// The answer with a cookie.
pub fn with_cookie(mut answer: Response, cookie: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(cookie) {
        answer.headers_mut().append(header::SET_COOKIE, value);
    }
    answer
}
