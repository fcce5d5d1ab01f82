//! The web app: the button, the live map, statistics. What is pressed here goes to the source topic; what the map shows is
//! read from the output topic, and between the two is the relay, wherever that runs.
//!
//! ```text
//! button ─► sender ─► source topic ─► (the relay) ─► output topic ─► reader ─► hub ─► live, one stream a watcher
//!                                                                               └───► store/memory ─► stats
//! ```

mod about;
mod answers;
mod app;
mod assets;
mod button;
mod client_address;
pub mod cohorts;
mod history;
mod hub;
#[cfg(feature = "mutants")]
mod leak;
mod live;
mod map;
mod metrics;
mod press;
mod privacy;
mod rate_limit;
mod reader;
mod security;
mod sender;
mod session;
mod statistics;
mod stats;
mod store;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use crate::avro::registry::Registry;
use crate::config::sink::LoadConfig;
use crate::config::{PipelineConfig, WebConfig};
use crate::runtime::http_server::{self, Limits};

use app::App;
use client_address::Proxies;
use hub::Hub;
use privacy::Facts;
use rate_limit::RateLimit;
use reader::Reader;
use sender::Sender;
use store::Store;

pub use app::MadeUp;
pub use metrics::{METRICS, Outcome};

/// What the web app is made of.
pub struct Parts {
    /// Its settings.
    pub web: WebConfig,
    /// The pipeline whose source topic it writes and whose output topic it shows.
    pub relay: PipelineConfig,
    /// That pipeline's sinks.
    pub load: Option<LoadConfig>,
    /// Credits that the place data asks for.
    pub credits: Vec<String>,
    /// Addresses for visitors without a public one.
    pub made_up: Option<MadeUp>,
}

/// Binds the listener. Errors: the address is in use or not ours, with what to do.
pub async fn bind(config: &WebConfig) -> Result<TcpListener, String> {
    TcpListener::bind(config.listen).await.map_err(|error| {
        format!(
            "cannot listen on {}: {error}. Choose another address with web.listen, or port 0 for a free one",
            config.listen
        )
    })
}

/// Serves until told to stop. Must run within a tokio runtime. Errors: a secret, a property, or a store that is not there.
pub async fn serve(listener: TcpListener, parts: Parts, stop: watch::Receiver<bool>) -> Result<(), String> {
    metrics::describe();
    let Parts { web, relay, load, credits, made_up } = parts;
    let hub = Arc::new(Hub::default());
    let app = Arc::new(App {
        cohorts: cohorts::of(&web),
        sender: Sender::new(&relay.kafka, &relay.source.topic).map_err(|error| error.to_string())?,
        limits: RateLimit::new(web.session_presses_per_minute, web.address_presses_per_minute),
        proxies: Proxies::of(&web),
        made_up,
        store: Store::of(web.store, load.as_ref(), &hub)?,
        facts: Facts::of(&web, &relay, load.as_ref(), &credits),
        watchers: Arc::new(Semaphore::new(web.max_watchers)),
        hub: Arc::clone(&hub),
        stop: stop.clone(),
        config: web,
    });
    let over = Arc::new(AtomicBool::new(false));
    let reader = Reader {
        kafka: relay.kafka.clone(),
        topic: relay.output.topic.clone(),
        registry: Registry::new(&relay.registry).map_err(|error| error.to_string())?,
        runtime: Handle::current(),
        hub,
        stop: Arc::clone(&over),
    };
    let reading = std::thread::Builder::new().name("web-reader".into()).spawn(move || reader.run());
    let reading = reading.map_err(|error| format!("cannot start: {error}"))?;
    let header_timeout = Duration::from_millis(app.config.header_timeout_ms);
    let limits = Limits { max_connections: app.config.max_connections, header_timeout };
    http_server::serve(listener, limits, router(Arc::clone(&app)), stop).await;
    over.store(true, Ordering::Relaxed);
    // It looks at the flag between two polls, and holds nothing that must be brought to an end.
    let _ = tokio::task::spawn_blocking(move || reading.join()).await;
    let _ = tokio::task::spawn_blocking(move || drop(app)).await;
    Ok(())
}

fn router(app: Arc<App>) -> Router {
    let pages = Router::new()
        .route("/", get(button::visit).post(button::press))
        .route("/reset", get(button::ask_reset).post(button::reset))
        .route("/live", get(live::live))
        .route("/live/events", get(live::events))
        .route("/stats", get(stats::stats))
        .route("/stats/numbers", get(stats::refreshed))
        .route("/about", get(about::about))
        .route("/assets/style.css", get(assets::style))
        .route("/assets/cohorts.css", get(assets::cohort_style))
        .route("/assets/button.js", get(assets::button_script))
        .route("/assets/live.js", get(assets::live_script))
        .route("/assets/stats.js", get(assets::stats_script))
        .route("/assets/icon.svg", get(assets::icon))
        .route("/robots.txt", get(|| async { "User-agent: *\nDisallow: /live/events\n" }))
        .fallback(|| async {
            let page = "<!doctype html><html lang=\"en\"><title>Not found</title><h1>Not here</h1><p><a href=\"/\">The button</a></html>";
            (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], page).into_response()
        })
        .layer(middleware::from_fn(security::headers));
    #[cfg(feature = "mutants")]
    let pages = pages.layer(middleware::from_fn_with_state(Arc::clone(&app), leak::everywhere));
    pages.with_state(app)
}
