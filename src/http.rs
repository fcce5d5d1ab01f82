//! HTTP: `/metrics` for Prometheus, `/livez` and `/readyz` for whoever watches the process.
//!
//! axum has the routes; connections are served by hyper directly, because `axum::serve` waits for a client's headers
//! for ever and takes any number of connections.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use crate::config::HttpConfig;
use crate::metrics;
use crate::status::Status;

/// What the pages show.
#[derive(Clone)]
pub struct Pages {
    /// Renders the metrics.
    pub metrics: PrometheusHandle,
    /// One for each pipeline that was started.
    pub pipelines: Vec<Arc<Status>>,
    /// Pipelines that could not be started, with the reason.
    pub broken: Vec<String>,
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
        .with_state(pages)
}

/// Serves for ever, with a bound on connections and on the time a client may take for its headers.
pub async fn serve(listener: TcpListener, config: &HttpConfig, router: Router) {
    let places = Arc::new(Semaphore::new(config.max_connections));
    let header_timeout = Duration::from_millis(config.header_timeout_ms.max(1));
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(_) if crate::mutant::is("http_gives_up") => return,
            Err(error) => {
                // Out of file descriptors, mostly: the data path goes on, and so do we when some are free again.
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(Duration::from_millis(500)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let service = TowerToHyperService::new(router.clone());
        tokio::spawn(async move {
            let mut server = hyper::server::conn::http1::Builder::new();
            server.timer(TokioTimer::new()).header_read_timeout(header_timeout).keep_alive(true);
            // A client that goes away or sends nonsense is its own affair.
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
            drop(place);
        });
    }
}

async fn render(State(pages): State<Pages>) -> Response {
    let page = metrics::render(&pages.metrics);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], page).into_response()
}

async fn ready(State(pages): State<Pages>) -> Response {
    let mut waits = pages.broken.clone();
    for pipeline in &pages.pipelines {
        waits.extend(pipeline.waiting_for().into_iter().map(|wait| format!("{}: {wait}", pipeline.name())));
    }
    if waits.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("not ready\n{}\n", waits.join("\n"))).into_response()
}

async fn index(State(pages): State<Pages>) -> String {
    let credits: BTreeSet<String> = pages.pipelines.iter().flat_map(|pipeline| pipeline.credits()).collect();
    format!(
        "pressline {}\n\n/metrics  for Prometheus\n/readyz   whether every pipeline has what it needs\n/livez    whether the \
         process runs\n\n{}\n",
        env!("CARGO_PKG_VERSION"),
        credits.into_iter().collect::<Vec<_>>().join("\n")
    )
}

/// Asks a running pressline whether it is ready; for container health checks. Errors: what it answered.
pub async fn is_ready(listen: SocketAddr) -> Result<(), String> {
    // reqwest panics without a provider, also where no TLS is used. An error only says that there is one already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(Duration::from_secs(3))
        .no_proxy()
        .tls_certs_only([])
        .build()
        .map_err(|error| error.to_string())?;
    let answer = client.get(format!("http://{listen}/readyz")).send().await.map_err(|error| error.to_string())?;
    let ok = answer.status().is_success();
    let text = answer.text().await.unwrap_or_default();
    if ok { Ok(()) } else { Err(text) }
}
