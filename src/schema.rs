//! Avro schema files.
use serde_json::Value;

/// What differs.
pub fn diff(label: &str, theirs: &str, ours: &str) -> Vec<String> {
    let _ = (label, theirs, ours);
    let _: Option<Value> = None;
    Vec::new()
}
