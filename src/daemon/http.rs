//! HTTP: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever watches the process, `/status` for `pressline status`.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ::metrics::{counter, gauge};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::finding::with_causes;
use crate::config::{HttpConfig, MemoryConfig};
use crate::daemon::reload::{ReloadReport, ReloadRequest};
use crate::daemon::report::ProcessReport;
use crate::daemon::shown::Shown;
use crate::metrics;
use crate::runtime::http_server::Limits;
use crate::runtime::{descriptors, http_server, stdio};

/// Header that a request for `/reload` needs; its value does not matter.
pub const RELOAD_HEADER: &str = "pressline-reload";

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// What runs, and what could not be started.
    pub shown: Shown,
    /// What the workers of the process may hold.
    pub memory: MemoryConfig,
    /// When the process started.
    pub started: Instant,
    /// Who reads the configuration again, where it can be.
    pub reload: Option<mpsc::UnboundedSender<ReloadRequest>>,
}

impl Pages {
    /// From now on, with all pipelines started.
    pub fn new(metrics: PrometheusHandle, shown: Shown) -> Self {
        Self { metrics, shown, memory: MemoryConfig::default(), started: Instant::now(), reload: None }
    }
}

/// Binds the listener. Errors: the address is in use or not ours, with what to do.
pub async fn bind(config: &HttpConfig) -> Result<TcpListener, String> {
    TcpListener::bind(config.listen).await.map_err(|error| {
        format!(
            "cannot listen on {}: {error}. Choose another address with http.listen, or port 0 for a free one",
            config.listen
        )
    })
}

/// The routes.
pub fn router(pages: Pages) -> Router {
    Router::new()
        .route("/", get(index))
        .route("/metrics", get(render))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/status", get(status))
        .route("/reload", post(reload))
        .with_state(pages)
}

/// Serves for ever, with a bound on connections and on the time a client may take for its headers.
pub async fn serve(listener: TcpListener, config: &HttpConfig, router: Router) {
    let header_timeout = Duration::from_millis(config.header_timeout_ms);
    let limits = Limits { max_connections: config.max_connections, header_timeout };
    let (_nobody, stop) = watch::channel(false);
    http_server::serve(listener, limits, router, stop).await;
}

async fn render(State(pages): State<Pages>) -> Response {
    surroundings();
    let page = metrics::render(&pages.metrics);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

async fn status(State(pages): State<Pages>) -> Json<ProcessReport> {
    Json(ProcessReport::of(pages.started, &pages.shown.statuses(), &pages.shown.broken(), &pages.memory))
}

/// Has the configuration read again. Only by POST and with a header that no form of a web page can send, so that no page that somebody
/// visits on this machine can ask for it.
async fn reload(
    State(pages): State<Pages>,
    headers: HeaderMap,
) -> Result<Json<ReloadReport>, (StatusCode, &'static str)> {
    if !headers.contains_key(RELOAD_HEADER) {
        return Err((StatusCode::FORBIDDEN, "the header pressline-reload is missing; `pressline reload` sends it\n"));
    }
    let nobody =
        (StatusCode::SERVICE_UNAVAILABLE, "this process reads no configuration again: it stops, or is a demo\n");
    let ask = pages.reload.ok_or(nobody)?;
    let (tell, told) = oneshot::channel();
    ask.send(tell).map_err(|_| nobody)?;
    told.await.map(Json).map_err(|_| nobody)
}

/// What of the process is read at each scrape.
fn surroundings() {
    if let Some(open) = descriptors::open() {
        gauge!(metrics::PROCESS_FDS).set(open as f64);
    }
    if let Some(limit) = descriptors::limit() {
        gauge!(metrics::PROCESS_MAX_FDS).set(limit as f64);
    }
    counter!(metrics::LOG_DROPPED).absolute(stdio::dropped_lines());
}

async fn ready(State(pages): State<Pages>) -> Response {
    let mut waits = pages.shown.broken();
    let mut notes = String::new();
    for pipeline in pages.shown.statuses() {
        waits.extend(pipeline.waiting_for().into_iter().map(|wait| format!("{}: {wait}", pipeline.name())));
        notes.extend(pipeline.notes().into_iter().map(|note| format!("{}: {note}\n", pipeline.name())));
    }
    if waits.is_empty() {
        return format!("ready\n{notes}").into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n{notes}", waits.join("\n"))).into_response()
}

/// For people: each pipeline's state and the other pages, as HTML for a browser and as text for `curl`.
async fn index(State(pages): State<Pages>, headers: HeaderMap) -> Response {
    let wants_html = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    if wants_html.is_some_and(|accept| accept.contains("text/html")) {
        Html(index_html(&pages)).into_response()
    } else {
        index_text(&pages).into_response()
    }
}

const LINKS: [(&str, &str); 4] = [
    ("/metrics", "for Prometheus"),
    ("/readyz", "whether every pipeline has what it needs"),
    ("/livez", "whether the process runs"),
    ("/status", "all of it as JSON, which `pressline status` shows"),
];

/// Name and state of each pipeline, ended ones and those that were not started too.
fn states(pages: &Pages) -> Vec<(String, String)> {
    let (statuses, broken) = (pages.shown.statuses(), pages.shown.broken());
    let started = statuses.iter().map(|pipeline| {
        let waits = pipeline.waiting_for();
        let state = match (pipeline.has_ended(), waits.is_empty()) {
            (true, true) => "ended".to_string(),
            (true, false) => format!("ended: {}", waits.join("; ")),
            (false, true) => "ready".to_string(),
            (false, false) => format!("not ready: {}", waits.join("; ")),
        };
        (pipeline.name().to_string(), state)
    });
    let broken = broken.iter().map(|line| match line.split_once(": ") {
        Some((name, state)) => (name.to_string(), state.to_string()),
        None => (line.clone(), "not started".to_string()),
    });
    started.chain(broken).collect()
}

fn credits(pages: &Pages) -> BTreeSet<String> {
    pages.shown.statuses().iter().flat_map(|pipeline| pipeline.credits()).collect()
}

fn index_text(pages: &Pages) -> String {
    let mut lines = vec![format!("pressline {}", env!("CARGO_PKG_VERSION")), String::new()];
    lines.extend(states(pages).into_iter().map(|(name, state)| format!("{name}: {state}")));
    lines.push(String::new());
    lines.extend(LINKS.iter().map(|(path, what)| format!("{path:<9} {what}")));
    lines.push(String::new());
    lines.extend(credits(pages));
    lines.join("\n") + "\n"
}

fn index_html(pages: &Pages) -> String {
    let rows = states(pages)
        .into_iter()
        .map(|(name, state)| format!("<tr><td><b>{}</b></td><td>{}</td></tr>\n", escaped(&name), escaped(&state)));
    let links = LINKS.iter().map(|(path, what)| format!("<li><a href=\"{path}\">{path}</a> {what}</li>\n"));
    let credits: Vec<String> = credits(pages).iter().map(|credit| escaped(credit)).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>pressline</title>\n\
         <style>body {{ font-family: sans-serif; margin: 2em }} td {{ padding: 0.2em 1em 0.2em 0; vertical-align: top }}</style>\n\
         <h1>pressline {}</h1>\n<table>\n{}</table>\n<ul>\n{}</ul>\n<p>{}</p>\n</html>\n",
        env!("CARGO_PKG_VERSION"),
        rows.collect::<String>(),
        links.collect::<String>(),
        credits.join("<br>")
    )
}

/// Text for HTML: what brokers and servers say stands in states.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Asks a running pressline whether it is ready; for container health checks. Errors: what it answered.
pub async fn is_ready(listen: SocketAddr) -> Result<(), String> {
    if listen.port() == 0 {
        return Err("http.listen: port 0 is a free one that nobody knows here\n    set it to a fixed port".into());
    }
    // reqwest panics without a provider, also where no TLS is used. An error only says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(3))
        .no_proxy()
        .tls_certs_only([])
        .build()
        .map_err(|error| error.to_string())?;
    let answer = client.get(format!("http://{listen}/readyz")).send().await.map_err(|error| {
        let cure =
            if error.is_timeout() { "see what holds it up" } else { "is it running, and is http.listen its own?" };
        format!("pressline does not answer on {listen}: {}\n    {cure}", with_causes(&error.without_url()))
    })?;
    let ok = answer.status().is_success();
    let text = answer.text().await.unwrap_or_default();
    if ok { Ok(()) } else { Err(text) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::runtime::status::Status;

    #[test]
    fn the_first_page_tells_each_pipelines_state() {
        let ready = Arc::new(Status::new("presses"));
        ready.set("start", "");
        let waiting = Arc::new(Status::new("clicks"));
        waiting.set("start", "broker <b> & co");
        let shown = Shown::of(vec![ready, waiting]);
        shown.add_broken("pipelines/x.toml: not started, 1 finding".to_string());
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let pages = Pages::new(recorder.handle(), shown);
        let text = index_text(&pages);
        for line in
            ["presses: ready", "clicks: not ready: start: broker <b> & co", "pipelines/x.toml: not started, 1 finding"]
        {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
        assert!(text.contains("/readyz   whether"), "{text}");
        let html = index_html(&pages);
        assert!(html.contains("broker &lt;b&gt; &amp; co") && !html.contains("<b> &"), "{html}");
        assert!(html.contains("<a href=\"/metrics\">"), "{html}");
    }
}
