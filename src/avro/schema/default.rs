//! Defaults: whether one fits its type. Of a union, only the first branch counts (Avro 1.12 allows any branch, but the
//! readers in use do not).

use std::collections::BTreeMap;

use serde_json::Value;

/// Definitions of named types by full name and by short name.
pub type Names<'a> = BTreeMap<String, &'a Value>;

/// How deep a default is compared: a recursive type can refer to itself.
const MAX_STEPS: usize = 64;

/// Whether `default` is a value of `schema`.
pub fn fits(schema: &Value, default: &Value, names: &Names<'_>) -> bool {
    fits_within(schema, default, names, MAX_STEPS)
}

fn fits_within(schema: &Value, default: &Value, names: &Names<'_>, steps: usize) -> bool {
    let Some(steps) = steps.checked_sub(1) else { return true };
    match schema {
        Value::String(name) => match primitive(name, default) {
            Some(fits) => fits,
            // An unknown name is complained about elsewhere.
            None => names.get(name.as_str()).is_none_or(|defined| fits_within(defined, default, names, steps)),
        },
        Value::Array(branches) => branches.first().is_some_and(|first| fits_within(first, default, names, steps)),
        Value::Object(object) => {
            let part = |key: &str| object.get(key).unwrap_or(&Value::Null);
            let each = |inner: &Value, value: &Value| fits_within(inner, value, names, steps);
            match part("type").as_str() {
                Some("array") => default.as_array().is_some_and(|a| a.iter().all(|v| each(part("items"), v))),
                Some("map") => default.as_object().is_some_and(|m| m.values().all(|v| each(part("values"), v))),
                Some("enum") => part("symbols").as_array().is_some_and(|symbols| symbols.contains(default)),
                Some("fixed") => {
                    let size = part("size").as_u64();
                    is_bytes(default) && default.as_str().map(|s| s.chars().count() as u64) == size
                }
                Some("record" | "error") => record(part("fields"), default, each),
                _ => each(part("type"), default),
            }
        }
        _ => true,
    }
}

fn record(fields: &Value, default: &Value, each: impl Fn(&Value, &Value) -> bool) -> bool {
    let (Some(fields), Some(values)) = (fields.as_array(), default.as_object()) else { return false };
    fields.iter().all(|field| {
        let name = field.get("name").and_then(Value::as_str).unwrap_or_default();
        match (values.get(name), field.get("type")) {
            (Some(value), Some(schema)) => each(schema, value),
            _ => field.get("default").is_some(),
        }
    })
}

fn primitive(name: &str, default: &Value) -> Option<bool> {
    Some(match name {
        "null" => default.is_null(),
        "boolean" => default.is_boolean(),
        "int" => default.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
        "long" => default.as_i64().is_some(),
        "float" | "double" => default.is_number(),
        "string" => default.is_string(),
        "bytes" => is_bytes(default),
        _ => return None,
    })
}

/// Avro writes bytes as text whose characters are U+0000 to U+00FF.
fn is_bytes(default: &Value) -> bool {
    default.as_str().is_some_and(|text| text.chars().all(|c| u32::from(c) < 256))
}

/// What kind of value a default is.
pub fn kind(default: &Value) -> &'static str {
    match default {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(n) if n.is_f64() => "a number with a fraction",
        Value::Number(_) => "a whole number",
        Value::String(s) if s == "null" => "the text \"null\"",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
