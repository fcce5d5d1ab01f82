//! Scripts and style: in the binary, so that there is nothing to build and nothing to fetch from elsewhere.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::app::App;
use super::cohorts;

const CSS: &str = "text/css; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

fn asset(kind: &'static str, text: impl IntoResponse) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text).into_response()
}

/// For all pages.
pub async fn style() -> Response {
    asset(CSS, include_str!("assets/style.css"))
}

/// The colours of the cohorts, from the configuration.
pub async fn cohort_style(State(app): State<Arc<App>>) -> Response {
    asset(CSS, cohorts::style(&app.cohorts))
}

/// Presses without loading the page again.
pub async fn button_script() -> Response {
    asset(SCRIPT, include_str!("assets/button.js"))
}

/// Moves the map.
pub async fn live_script() -> Response {
    asset(SCRIPT, include_str!("assets/live.js"))
}

/// Refreshes the statistics.
pub async fn stats_script() -> Response {
    asset(SCRIPT, include_str!("assets/stats.js"))
}

/// The site's icon.
pub async fn icon() -> Response {
    asset("image/svg+xml", include_str!("assets/icon.svg"))
}
