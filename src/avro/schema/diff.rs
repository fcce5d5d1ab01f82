//! What differs between two versions of a schema, field by field.

use serde_json::{Map, Value};

/// Lines such as ``field `cohort`: version 3 has [null, int], ours has int``. `label` names the other version. Order,
/// documentation of fields and formatting make no difference. A text that is no record schema gives no lines.
pub fn diff(label: &str, theirs: &str, ours: &str) -> Vec<String> {
    let (Ok(theirs), Ok(ours)) = (serde_json::from_str::<Value>(theirs), serde_json::from_str::<Value>(ours)) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    let (their_name, our_name) = (full_name(&theirs), full_name(&ours));
    if their_name != our_name {
        lines.push(format!("record name: {label} has {their_name}, ours has {our_name}"));
    }
    records(label, "", &theirs, &ours, &mut lines);
    lines
}

fn records(label: &str, prefix: &str, theirs: &Value, ours: &Value, lines: &mut Vec<String>) {
    for field in fields(theirs) {
        let path = format!("{prefix}{}", name(field));
        match fields(ours).find(|f| name(f) == name(field)) {
            None => lines.push(format!("field `{path}`: only in {label}")),
            Some(our_field) => one_field(label, &path, field, our_field, lines),
        }
    }
    for field in fields(ours).filter(|f| !fields(theirs).any(|t| name(t) == name(f))) {
        let hint = if field.contains_key("default") { "" } else { ", without a default" };
        lines.push(format!("field `{prefix}{}`: only in ours{hint}", name(field)));
    }
}

fn one_field(label: &str, path: &str, theirs: &Map<String, Value>, ours: &Map<String, Value>, lines: &mut Vec<String>) {
    let nothing = Value::Null;
    let (a, b) = (theirs.get("type").unwrap_or(&nothing), ours.get("type").unwrap_or(&nothing));
    let (shown_a, shown_b) = (brief(a), brief(b));
    if shown_a != shown_b {
        lines.push(format!("field `{path}`: {label} has {shown_a}, ours has {shown_b}"));
    } else if is_record(a) && is_record(b) {
        records(label, &format!("{path}."), a, b, lines);
    } else if a != b {
        lines.push(format!("field `{path}`: its type {shown_a} differs inside"));
    }
    if theirs.get("default") != ours.get("default") {
        let show = |d: Option<&Value>| d.map_or("no default".to_string(), |d| format!("default {d}"));
        let (a, b) = (show(theirs.get("default")), show(ours.get("default")));
        lines.push(format!("field `{path}`: {label} has {a}, ours has {b}"));
    }
}

fn fields(record: &Value) -> impl Iterator<Item = &Map<String, Value>> {
    record.get("fields").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn name(field: &Map<String, Value>) -> &str {
    field.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn is_record(schema: &Value) -> bool {
    schema.get("type").is_some_and(|t| t == "record")
}

fn full_name(schema: &Value) -> String {
    let text = |key: &str| schema.get(key).and_then(Value::as_str).unwrap_or_default();
    match (text("namespace"), text("name")) {
        ("", "") => brief(schema),
        ("", name) => name.to_string(),
        (namespace, name) => format!("{namespace}.{name}"),
    }
}

/// A type in few words: `[null, int]`, `string (uuid)`, `record place`, `array of long`.
fn brief(schema: &Value) -> String {
    match schema {
        Value::String(name) => name.clone(),
        Value::Array(branches) => format!("[{}]", branches.iter().map(brief).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            let part = |key: &str| object.get(key).map(brief).unwrap_or_default();
            let base = match part("type").as_str() {
                kind @ ("record" | "enum" | "fixed") => format!("{kind} {}", part("name")),
                "array" => format!("array of {}", part("items")),
                "map" => format!("map of {}", part("values")),
                other => other.to_string(),
            };
            match object.get("logicalType").and_then(Value::as_str) {
                Some(logical) => format!("{base} ({logical})"),
                None => base,
            }
        }
        _ => "no type".into(),
    }
}
