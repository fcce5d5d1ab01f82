//! `/stats`: the visitor's own numbers beside everybody's.

use std::sync::Arc;
use std::time::{Duration, Instant};

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;

use super::app::{App, page};
use super::statistics::Statistics;
use crate::runtime::http_server::Peer;

/// An answer that took longer does not renew the session: see [`App::renewed`].
const RENEWS_WITHIN: Duration = Duration::from_millis(500);

#[derive(Template)]
#[template(path = "stats.html", config = "src/web/askama.toml")]
struct StatsPage<'a> {
    path: &'a str,
    numbers: Numbers<'a>,
}

/// The part that refreshes itself.
#[derive(Template)]
#[template(path = "numbers.html", config = "src/web/askama.toml")]
struct Numbers<'a> {
    source: &'a str,
    problem: &'a str,
    has_session: bool,
    statistics: Option<Statistics>,
    /// Countries with the share of the largest in twentieths, for a bar.
    countries: Vec<(String, u64, u64)>,
    hours: Vec<(usize, u64, u64)>,
    has_hours: bool,
}

/// The whole page.
pub async fn stats(State(app): State<Arc<App>>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    let began = Instant::now();
    let (status, numbers) = numbers(&app, &headers).await;
    let answer = page(status, StatsPage { path: "/stats", numbers }.render());
    if began.elapsed() > RENEWS_WITHIN { answer } else { app.renewed(answer, peer, &headers) }
}

/// Its numbers alone. The page asks for them by itself, which is no use of the session.
pub async fn refreshed(State(app): State<Arc<App>>, headers: HeaderMap) -> Response {
    let (status, numbers) = numbers(&app, &headers).await;
    page(status, numbers.render())
}

async fn numbers<'a>(app: &'a App, headers: &HeaderMap) -> (StatusCode, Numbers<'a>) {
    let session = app.session(headers);
    let now_ms = jiff::Timestamp::now().as_millisecond();
    let answer = app.store.ask(session.as_ref().map(|session| session.id.as_str()), now_ms).await;
    let (status, problem, statistics) = match answer {
        Ok(Some(statistics)) => (StatusCode::OK, "", Some(statistics)),
        Ok(None) => {
            (StatusCode::OK, "This server keeps no statistics. The button and the map work without them.", None)
        }
        Err(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "The database does not answer just now, so there are no numbers to show. The button and the map work without it.",
            None,
        ),
    };
    let found = statistics.clone().unwrap_or_default();
    let bar = |n: u64, most: u64| (n * 20).div_ceil(most.max(1)).min(20);
    let most = found.countries.first().map_or(0, |(_, n)| *n);
    let countries = found.countries.iter().map(|(name, n)| (name.clone(), *n, bar(*n, most))).collect();
    let most = found.hours.iter().copied().max().unwrap_or_default();
    let hours = found.hours.iter().enumerate().map(|(hour, n)| (hour, *n, bar(*n, most))).collect();
    let source = app.store.source();
    (
        status,
        Numbers { source, problem, has_session: session.is_some(), statistics, countries, hours, has_hours: most > 0 },
    )
}
