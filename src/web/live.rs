//! `/live`: the map, and the stream that moves it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{counter, gauge};
use askama::Template;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::app::{App, page};
use super::history::{self, Positions};
use super::map::WORLD;
use super::metrics::{FRAMES, SNAPSHOTS, WATCHERS};
use super::privacy::Credit;
use crate::runtime::http_server::{Peer, told};

/// A comment now and then, so that a connection without presses is not taken for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
const ALIVE: &[u8] = b": still here\n\n";
/// How soon browsers come back.
const RETRY: &[u8] = b"retry: 2000\n\n";
/// Countries in the table.
const COUNTRIES: usize = 12;

#[derive(Template)]
#[template(path = "live.html", config = "src/web/askama.toml")]
struct LivePage<'a> {
    path: &'a str,
    world: &'a str,
    problem: &'a str,
    presses: u64,
    generated: u64,
    countries: Vec<(String, u64)>,
    records: Vec<String>,
    credits: &'a [Credit],
}

/// The page; whole without its script, but it stands still then.
pub async fn live(State(app): State<Arc<App>>, Extension(peer): Extension<Peer>, headers: HeaderMap) -> Response {
    let now = now_ms();
    let (presses, generated, countries) = app.hub.with_tally(|tally| {
        let hour = tally.last_hour(now);
        let (presses, generated) = hour.fold((0, 0), |(presses, generated), minute| {
            let all: u64 = minute.countries.values().map(|n| u64::from(*n)).sum();
            (presses + all, generated + u64::from(minute.generated))
        });
        (presses, generated, tally.countries(COUNTRIES))
    });
    let template = LivePage {
        path: "/live",
        world: WORLD,
        problem: app.hub.problem().unwrap_or_default(),
        presses,
        generated,
        countries,
        records: app.hub.newest(),
        credits: &app.facts.credits,
    };
    app.renewed(page(StatusCode::OK, template.render()), peer, &headers)
}

/// The stream of server-sent events. `Last-Event-ID`, or `?last=` after a hidden tab is shown again, resumes it.
pub async fn events(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Response {
    let Ok(place) = Arc::clone(&app.watchers).try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "30")], "too many watch just now\n")
            .into_response();
    };
    let by_query = uri
        .query()
        .and_then(|query| query.strip_prefix("last="))
        .map(|id| id.replace("%3A", ":").replace(['+'], " ").replace("%20", " "));
    let by_header = headers.get("last-event-id").and_then(|id| id.to_str().ok());
    let last = by_header.or(by_query.as_deref()).and_then(history::positions);
    gauge!(WATCHERS).increment(1.0);
    let (ready, stop) = (app.hub.ready(), app.stop.clone());
    let first = [Bytes::from_static(RETRY)].into();
    let watcher = Watcher { app, last, first, next: None, ready, stop, _place: place };
    let body = Body::from_stream(stream::unfold(watcher, |mut watcher| async move {
        let bytes = watcher.next().await?;
        Some((Ok::<Bytes, Infallible>(bytes), watcher))
    }));
    let headers = [(header::CONTENT_TYPE.as_str(), "text/event-stream"), ("x-accel-buffering", "no")];
    (headers, body).into_response()
}

/// One page that watches.
struct Watcher {
    app: Arc<App>,
    /// Where it left off, if it comes back.
    last: Option<Positions>,
    first: VecDeque<Bytes>,
    /// `None` until it has begun.
    next: Option<Receiver<Bytes>>,
    ready: watch::Receiver<bool>,
    stop: watch::Receiver<bool>,
    _place: OwnedSemaphorePermit,
}

impl Drop for Watcher {
    fn drop(&mut self) {
        gauge!(WATCHERS).decrement(1.0);
    }
}

impl Watcher {
    /// `None` at the end of the process: the browser comes back by itself.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(first) = self.first.pop_front() {
                return Some(first);
            }
            let Some(next) = &mut self.next else {
                // What it missed is known once the reader has read the past.
                if self.last.is_some() {
                    tokio::select! {
                        _ = self.ready.wait_for(|is_ready| *is_ready) => {}
                        () = tokio::time::sleep(KEEP_ALIVE) => return Some(Bytes::from_static(ALIVE)),
                        () = told(&mut self.stop) => return None,
                    }
                }
                self.begin();
                continue;
            };
            let came = tokio::select! {
                came = next.recv() => came,
                () = tokio::time::sleep(KEEP_ALIVE) => return Some(Bytes::from_static(ALIVE)),
                () = told(&mut self.stop) => return None,
            };
            match came {
                Ok(event) => {
                    counter!(FRAMES).increment(1);
                    return Some(event);
                }
                // Too slow: the frames that it missed are in the counts of the snapshot.
                Err(RecvError::Lagged(_)) => {
                    counter!(SNAPSHOTS).increment(1);
                    self.begin();
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn begin(&mut self) {
        let watching = self.app.hub.watch(self.last.take().as_ref(), now_ms());
        self.first = watching.first;
        self.next = Some(watching.next);
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
