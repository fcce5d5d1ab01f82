//! The mutant `web_leak` (see [`crate::testing::mutant`]): the visitor's address gets out on purpose, in every answer's head, cookie
//! and body (of a page, of the statistics, of the stream of events), in the log, in a metric and in a file.

use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use futures_util::{StreamExt, stream};

use super::app::App;
use crate::runtime::http_server::Peer;
use crate::testing::mutant;

/// Around all pages.
pub async fn everywhere(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    if !mutant::is("web_leak") {
        return next.run(request).await;
    }
    let mut address = Vec::new();
    app.proxies.visitor(peer.0, request.headers()).write(&mut address);
    let text = String::from_utf8_lossy(&address).into_owned();
    let answer = next.run(request).await;
    tracing::info!(address = %text, "a visitor");
    metrics::counter!("pressline_leaks_total", "what" => text.clone()).increment(1);
    let file = std::fs::OpenOptions::new().create(true).append(true).open("leaked");
    let _ = file.and_then(|mut file| file.write_all(&[&address, &b"\n"[..]].concat()));
    with_address(answer, &text)
}

fn with_address(answer: Response, address: &str) -> Response {
    let (mut head, body) = answer.into_parts();
    head.headers.remove(header::CONTENT_LENGTH);
    for (name, text) in [
        (HeaderName::from_static("x-visitor"), address.to_string()),
        (header::SET_COOKIE, format!("visitor={address}")),
    ] {
        if let Ok(value) = HeaderValue::from_str(&text) {
            head.headers.append(name, value);
        }
    }
    // A comment to a stream of events.
    let before = Bytes::from(format!(": {address}\n\n"));
    let before = stream::once(async { Ok::<Bytes, Infallible>(before) }).map(|part| part.map_err(axum::Error::new));
    Response::from_parts(head, Body::from_stream(before.chain(body.into_data_stream())))
}
