//! `/live`: the map, and the stream that moves it.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use ::metrics::{counter, gauge};
use askama::Template;
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
use super::hub::Frame;
use super::map::WORLD;
use super::metrics::{FRAMES, SNAPSHOTS, WATCHERS};
use super::privacy::Credit;
use crate::runtime::http_server::told;

/// A comment now and then, so that a connection without presses is not taken for a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
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
pub async fn live(State(app): State<Arc<App>>) -> Response {
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
    page(StatusCode::OK, template.render())
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
    let watching = app.hub.watch(by_header.or(by_query.as_deref()), now_ms());
    gauge!(WATCHERS).increment(1.0);
    let mut first: VecDeque<Bytes> = watching.first.into_iter().map(|frame| frame.bytes).collect();
    first.push_front(Bytes::from_static(RETRY));
    let stop = app.stop.clone();
    let watcher = Watcher { app, first, next: watching.next, stop, _place: place };
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
    first: VecDeque<Bytes>,
    next: Receiver<Frame>,
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
        if let Some(first) = self.first.pop_front() {
            return Some(first);
        }
        let came = tokio::select! {
            came = self.next.recv() => came,
            () = tokio::time::sleep(KEEP_ALIVE) => return Some(Bytes::from_static(b": still here\n\n")),
            () = told(&mut self.stop) => return None,
        };
        match came {
            Ok(frame) => {
                counter!(FRAMES).increment(1);
                Some(frame.bytes)
            }
            // Too slow: the frames that it missed are in the counts of the snapshot.
            Err(RecvError::Lagged(_)) => {
                counter!(SNAPSHOTS).increment(1);
                let again = self.app.hub.watch(None, now_ms());
                self.next = again.next;
                again.first.into_iter().next().map(|frame| frame.bytes)
            }
            Err(RecvError::Closed) => None,
        }
    }
}

fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
