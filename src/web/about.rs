//! `/about`: how it works, whom to thank, and what is stored.

use std::sync::Arc;

use askama::Template;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;

use super::app::{App, page};
use super::privacy::Facts;

#[derive(Template)]
#[template(path = "about.html", config = "src/web/askama.toml")]
struct AboutPage<'a> {
    path: &'a str,
    facts: &'a Facts,
}

/// The page.
pub async fn about(State(app): State<Arc<App>>) -> Response {
    page(StatusCode::OK, AboutPage { path: "/about", facts: &app.facts }.render())
}
