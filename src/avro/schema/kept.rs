//! What a registry keeps of a schema, beside what was sent.

use serde_json::{Map, Value};

/// Most differences that are named.
const MOST: usize = 5;

/// Where the kept text differs from the sent one, such as ``field `action`: aliases``; blanks and the order of keys make no
/// difference. A text that is no JSON gives no lines.
pub fn kept_otherwise(kept: &str, sent: &str) -> Vec<String> {
    let (Ok(kept), Ok(sent)) = (serde_json::from_str::<Value>(kept), serde_json::from_str::<Value>(sent)) else {
        return Vec::new();
    };
    let mut lines = Vec::new();
    compare(&kept, &sent, "", &mut lines);
    lines.truncate(MOST);
    lines
}

fn compare(kept: &Value, sent: &Value, at: &str, lines: &mut Vec<String>) {
    match (plain(kept), plain(sent)) {
        (Value::Object(kept), Value::Object(sent)) => objects(kept, sent, at, lines),
        (Value::Array(kept), Value::Array(sent)) if kept.len() == sent.len() => {
            kept.iter().zip(sent).for_each(|(kept, sent)| compare(kept, sent, at, lines));
        }
        (kept, sent) if kept != sent => lines.push(format!("{}its type", place(at))),
        _ => {}
    }
}

fn objects(kept: &Map<String, Value>, sent: &Map<String, Value>, at: &str, lines: &mut Vec<String>) {
    let keys = sent.keys().chain(kept.keys().filter(|key| !sent.contains_key(*key)));
    for key in keys {
        match (key.as_str(), kept.get(key), sent.get(key)) {
            ("fields", Some(Value::Array(kept)), Some(Value::Array(sent))) if kept.len() == sent.len() => {
                for (kept, sent) in kept.iter().zip(sent) {
                    let name = sent.get("name").and_then(Value::as_str).unwrap_or_default();
                    let at = if at.is_empty() { name.to_string() } else { format!("{at}.{name}") };
                    compare(kept, sent, &at, lines);
                }
            }
            ("type" | "items" | "values", Some(kept), Some(sent)) => compare(kept, sent, at, lines),
            (_, kept, sent) if kept != sent => lines.push(format!("{}{key}", place(at))),
            _ => {}
        }
    }
}

/// `{"type": "string"}` is "string".
fn plain(schema: &Value) -> &Value {
    match schema {
        Value::Object(object) if object.len() == 1 => object.get("type").unwrap_or(schema),
        other => other,
    }
}

fn place(at: &str) -> String {
    if at.is_empty() { String::new() } else { format!("field `{at}`: ") }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SENT: &str = r#"{"type":"record","name":"r","fields":[
        {"name":"action","type":"string","aliases":["deed"]},
        {"name":"kind","type":{"type":"enum","name":"k","symbols":["A"],"default":"A"}},
        {"name":"inner","type":{"type":"record","name":"i","fields":[{"name":"x","type":["null","int"],"doc":"new"}]}}]}"#;

    #[test]
    fn what_the_registry_left_out_is_named() {
        let kept = SENT.replace(r#","aliases":["deed"]"#, "").replace(r#","default":"A""#, "").replace("new", "old");
        assert_eq!(
            kept_otherwise(&kept, SENT),
            ["field `action`: aliases", "field `kind`: default", "field `inner.x`: doc"]
        );
    }

    #[test]
    fn another_writing_is_no_difference() {
        let kept =
            SENT.replace(r#""type":"string","aliases":["deed"]"#, r#""aliases":["deed"], "type":{"type":"string"}"#);
        assert_eq!(kept_otherwise(&kept, SENT), [] as [&str; 0]);
        assert_eq!(kept_otherwise("no JSON", SENT), [] as [&str; 0]);
        assert_eq!(
            kept_otherwise(&SENT.replace(r#"["null","int"]"#, r#"["int","null"]"#), SENT),
            ["field `inner.x`: its type"; 2]
        );
    }
}
