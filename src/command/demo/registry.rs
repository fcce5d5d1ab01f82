//! A schema registry in memory: what pressline needs to register and outside clients need to decode, and no more.
//! Every valid Avro schema is taken: compatibility is a real registry's affair.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::{Value, json};

/// Schemas kept at most; the demo itself needs one.
const MOST_VERSIONS: usize = 1_000;

struct Version {
    subject: String,
    number: u32,
    id: u32,
    text: String,
    json: Value,
}

type Versions = Arc<Mutex<Vec<Version>>>;

/// The routes, with a registry that is empty.
pub fn router() -> Router {
    Router::new()
        .route("/subjects", get(subjects))
        .route("/subjects/{subject}", post(look_up))
        .route("/subjects/{subject}/versions", get(numbers).post(register))
        .route("/subjects/{subject}/versions/{number}", get(version))
        .route("/schemas/ids/{id}", get(by_id))
        .route("/compatibility/subjects/{subject}/versions/{number}", post(compatibility))
        .with_state(Versions::default())
}

fn lock(versions: &Versions) -> MutexGuard<'_, Vec<Version>> {
    // Nothing is half done in there: every change is one push.
    versions.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn subjects(State(versions): State<Versions>) -> Response {
    let mut names: Vec<String> = lock(&versions).iter().map(|v| v.subject.clone()).collect();
    names.sort();
    names.dedup();
    answer(json!(names))
}

async fn numbers(State(versions): State<Versions>, Path(subject): Path<String>) -> Response {
    let versions = lock(&versions);
    let numbers: Vec<u32> = versions.iter().filter(|v| v.subject == subject).map(|v| v.number).collect();
    if numbers.is_empty() { absent(40401, "Subject not found") } else { answer(json!(numbers)) }
}

async fn version(State(versions): State<Versions>, Path((subject, number)): Path<(String, String)>) -> Response {
    let versions = lock(&versions);
    let mut of_subject = versions.iter().filter(|v| v.subject == subject);
    let found = match number.as_str() {
        "latest" => of_subject.next_back(),
        number => of_subject.find(|v| number.parse() == Ok(v.number)),
    };
    found.map_or_else(|| absent(40401, "Subject or version not found"), described)
}

async fn by_id(State(versions): State<Versions>, Path(id): Path<String>) -> Response {
    let versions = lock(&versions);
    match versions.iter().find(|v| id.parse() == Ok(v.id)) {
        Some(found) => answer(json!({ "schema": found.text })),
        None => absent(40403, "Schema not found"),
    }
}

async fn look_up(State(versions): State<Versions>, Path(subject): Path<String>, Json(body): Json<Value>) -> Response {
    let Some((_, wanted)) = schema_of(&body) else { return invalid() };
    let versions = lock(&versions);
    match versions.iter().find(|v| v.subject == subject && v.json == wanted) {
        Some(found) => described(found),
        None => absent(40403, "Schema not found"),
    }
}

async fn register(State(versions): State<Versions>, Path(subject): Path<String>, Json(body): Json<Value>) -> Response {
    let Some((text, json)) = schema_of(&body) else { return invalid() };
    let mut versions = lock(&versions);
    if let Some(found) = versions.iter().find(|v| v.subject == subject && v.json == json) {
        return answer(json!({ "id": found.id }));
    }
    if versions.len() >= MOST_VERSIONS {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, 42201, "the demo's registry is full");
    }
    // The same schema has the same id under every subject.
    let same = versions.iter().find(|v| v.json == json).map(|v| v.id);
    let id = same.unwrap_or_else(|| versions.iter().map(|v| v.id).max().unwrap_or(0) + 1);
    let number = versions.iter().filter(|v| v.subject == subject).map(|v| v.number).max().unwrap_or(0) + 1;
    versions.push(Version { subject, number, id, text, json });
    answer(json!({ "id": id }))
}

async fn compatibility(Path((_, _)): Path<(String, String)>, Json(_): Json<Value>) -> Response {
    answer(json!({ "is_compatible": true }))
}

fn schema_of(body: &Value) -> Option<(String, Value)> {
    let text = body.get("schema")?.as_str()?;
    let json: Value = serde_json::from_str(text).ok()?;
    apache_avro::Schema::parse(&json).ok()?;
    Some((text.to_string(), json))
}

fn described(version: &Version) -> Response {
    let Version { subject, number, id, text, .. } = version;
    answer(json!({ "subject": subject, "version": number, "id": id, "schema": text }))
}

fn answer(body: Value) -> Response {
    ([(header::CONTENT_TYPE, "application/vnd.schemaregistry.v1+json")], body.to_string()).into_response()
}

fn absent(code: u32, message: &str) -> Response {
    problem(StatusCode::NOT_FOUND, code, message)
}

fn invalid() -> Response {
    problem(StatusCode::UNPROCESSABLE_ENTITY, 42201, "expected {\"schema\": \"...\"} with a valid Avro schema")
}

fn problem(status: StatusCode, code: u32, message: &str) -> Response {
    (status, answer(json!({ "error_code": code, "message": message }))).into_response()
}
