//! `/`, the button, and `/reset`.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Extension, Json};
use serde_json::json;

use super::app::{App, page, with_cookie};
use super::metrics::{Outcome, count};
use super::sender::Action;
use super::session::{self, Session};
use super::{answers, cohorts, security};
use crate::runtime::http_server::Peer;
use crate::runtime::terminal::counted;

#[derive(Template)]
#[template(path = "button.html", config = "src/web/askama.toml")]
struct ButtonPage<'a> {
    path: &'a str,
    label: &'a str,
    text: &'a str,
    class: String,
    presses: String,
    line: &'a str,
    problem: &'a str,
    cookie_days: u32,
}

#[derive(Template)]
#[template(path = "reset.html", config = "src/web/askama.toml")]
struct ResetPage<'a> {
    path: &'a str,
    done: bool,
}

/// Why an event did not get through.
struct Failed {
    outcome: Outcome,
    wait: Option<Duration>,
}

impl Failed {
    fn status(&self) -> StatusCode {
        match self.outcome {
            Outcome::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Outcome::Refused => StatusCode::FORBIDDEN,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn words(&self) -> &'static str {
        match self.outcome {
            Outcome::RateLimited => "That was very quick. This press was not counted; take a breath and press again.",
            Outcome::Refused => "This press came from another site's page and was not counted. Press the button here.",
            _ => "Kafka does not answer, so this press is not counted. Please try again in a moment.",
        }
    }

    fn with_wait(&self, mut answer: Response) -> Response {
        let seconds = self.wait.map_or(2, |wait| wait.as_secs() + 1);
        answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        answer
    }
}

/// Sends one event of a visitor, within the limits.
async fn send(app: &App, session: &Session, action: Action, peer: Peer, headers: &HeaderMap) -> Result<(), Failed> {
    let address = app.address(session, peer, headers);
    let known = (action == Action::PressButton).then_some(&session.id);
    let sent = match app.limits.take(known, &address) {
        Err(wait) => Err(Failed { outcome: Outcome::RateLimited, wait: Some(wait) }),
        Ok(()) => {
            let sent = app.sender.send(session, action, &address).await;
            sent.map_err(|_| Failed { outcome: Outcome::Unavailable, wait: None })
        }
    };
    count(action, sent.as_ref().map_or_else(|failed| failed.outcome, |()| Outcome::Acknowledged));
    sent
}

fn show(app: &App, session: &Session, failed: Option<&Failed>) -> Response {
    let Some(cohort) = app.cohort(session.cohort) else { return StatusCode::INTERNAL_SERVER_ERROR.into_response() };
    let template = ButtonPage {
        path: "/",
        label: &cohort.label,
        text: &cohort.text,
        class: cohorts::class(cohort.number),
        presses: presses(session),
        line: answers::line(session).unwrap_or_default(),
        problem: failed.map_or("", Failed::words),
        cookie_days: app.config.cookie_days,
    };
    let answer = page(failed.map_or(StatusCode::OK, Failed::status), template.render());
    match failed {
        Some(failed) => failed.with_wait(answer),
        None => answer,
    }
}

fn presses(session: &Session) -> String {
    match session.count {
        0 => "You have not pressed yet.".into(),
        n => format!("You have pressed {}.", counted(n, "time")),
    }
}

/// The page. A first visit becomes a session when the broker has it.
pub async fn visit(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    method: axum::http::Method,
    headers: HeaderMap,
) -> Response {
    let cookie = |session: &Session| session.cookie(app.config.cookie_days, app.is_secure(peer, &headers));
    if let Some(session) = app.session(&headers) {
        return with_cookie(show(&app, &session, None), &cookie(&session));
    }
    let session = Session::begin(&app.cohorts);
    let is_visit = method == axum::http::Method::GET && !headers.contains_key("sec-purpose");
    if !is_visit {
        return show(&app, &session, None);
    }
    match send(&app, &session, Action::EnterPage, peer, &headers).await {
        Ok(()) => with_cookie(show(&app, &session, None), &cookie(&session)),
        Err(failed) => show(&app, &session, Some(&failed)),
    }
}

/// A press: JSON for the page's script, else back to the page.
pub async fn press(State(app): State<Arc<App>>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let wants_json = accept.is_some_and(|accept| accept.contains("application/json"));
    let before = app.session(&headers);
    let session = before.unwrap_or_else(|| Session::begin(&app.cohorts));
    match pressed(&app, before.is_none(), &session, peer, &headers).await {
        Ok(session) => {
            let cookie = session.cookie(app.config.cookie_days, app.is_secure(peer, &headers));
            let line = answers::line(&session).unwrap_or_default();
            let answer = match wants_json {
                true => Json(json!({ "line": line, "presses": presses(&session) })).into_response(),
                false => Redirect::to("/").into_response(),
            };
            with_cookie(answer, &cookie)
        }
        Err(failed) if wants_json => {
            let answer = (failed.status(), Json(json!({ "problem": failed.words() }))).into_response();
            failed.with_wait(answer)
        }
        Err(failed) => show(&app, &session, Some(&failed)),
    }
}

async fn pressed(
    app: &App,
    is_new: bool,
    session: &Session,
    peer: Peer,
    headers: &HeaderMap,
) -> Result<Session, Failed> {
    if !security::is_own(headers, app.config.public_url.as_deref()) {
        count(Action::PressButton, Outcome::Refused);
        return Err(Failed { outcome: Outcome::Refused, wait: None });
    }
    // Without a cookie it is a first visit too: in a session, what was pressed was entered before.
    if is_new {
        send(app, session, Action::EnterPage, peer, headers).await?;
    }
    send(app, session, Action::PressButton, peer, headers).await?;
    Ok(session.pressed())
}

/// Asks whether the session is to be forgotten, or says that it is.
pub async fn ask_reset(uri: Uri) -> Response {
    let done = uri.query() == Some("done");
    page(StatusCode::OK, ResetPage { path: "/reset", done }.render())
}

/// Forgets the session.
pub async fn reset(State(app): State<Arc<App>>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    if !security::is_own(&headers, app.config.public_url.as_deref()) {
        return StatusCode::FORBIDDEN.into_response();
    }
    with_cookie(Redirect::to("/reset?done").into_response(), &session::forget(app.is_secure(peer, &headers)))
}
