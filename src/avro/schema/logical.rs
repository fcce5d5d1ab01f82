//! Logical types: which base types carry them, and how one that stands beside `type` is put inside it.

use serde_json::{Map, Value, json};

/// Keys that belong to a logical type and move with it.
pub const COMPANIONS: [&str; 3] = ["logicalType", "precision", "scale"];

/// The base types a logical type may stand on; `None` if Avro 1.12 does not know it.
pub fn bases(logical: &str) -> Option<&'static [&'static str]> {
    Some(match logical {
        "decimal" => &["bytes", "fixed"],
        "big-decimal" => &["bytes"],
        "uuid" => &["string", "fixed"],
        "date" | "time-millis" => &["int"],
        "time-micros" => &["long"],
        "timestamp-millis" | "timestamp-micros" | "timestamp-nanos" => &["long"],
        "local-timestamp-millis" | "local-timestamp-micros" | "local-timestamp-nanos" => &["long"],
        "duration" => &["fixed"],
        _ => return None,
    })
}

/// The size of `fixed` a logical type asks for.
pub fn fixed_size(logical: &str) -> Option<u64> {
    match logical {
        "uuid" => Some(16),
        "duration" => Some(12),
        _ => None,
    }
}

/// Whether a type's `logicalType` stands on a base that carries it, with the numbers that it needs: else readers ignore it.
pub fn is_sound(object: &Map<String, Value>, base: &str) -> bool {
    let Some(name) = object.get("logicalType").and_then(Value::as_str) else { return false };
    let number = |key: &str| object.get(key).and_then(Value::as_u64);
    match name {
        // Not in the specification, and read all the same.
        "uuid" if base == "bytes" => true,
        _ if !bases(name).is_some_and(|bases| bases.contains(&base)) => false,
        "decimal" => {
            let precision = number("precision").unwrap_or(0);
            let scale_fits = object.get("scale").is_none() || number("scale").is_some_and(|scale| scale <= precision);
            precision > 0 && scale_fits
        }
        _ => base != "fixed" || fixed_size(name) == number("size"),
    }
}

/// The type that was meant by a field which has `logicalType` beside its `type`.
pub fn moved_inside(field: &Map<String, Value>) -> Value {
    let logical = field.get("logicalType").and_then(Value::as_str).unwrap_or_default();
    match field.get("type") {
        Some(Value::Array(branches)) => {
            let takes =
                |branch: &Value| branch.as_str().is_some_and(|name| bases(logical).is_some_and(|b| b.contains(&name)));
            let chosen = branches.iter().position(takes).or_else(|| branches.iter().position(|b| b != "null"));
            let fixed = branches.iter().enumerate().map(|(i, branch)| match Some(i) == chosen {
                true => with_companions(branch, field),
                false => branch.clone(),
            });
            Value::Array(fixed.collect())
        }
        Some(base) => with_companions(base, field),
        None => Value::Null,
    }
}

fn with_companions(base: &Value, field: &Map<String, Value>) -> Value {
    let mut object = match base {
        Value::Object(object) => object.clone(),
        other => Map::from_iter([("type".to_string(), other.clone())]),
    };
    for key in COMPANIONS {
        if let Some(value) = field.get(key) {
            object.entry(key).or_insert_with(|| value.clone());
        }
    }
    Value::Object(object)
}

/// JSON of a type as people write it: `type` first. Nothing else depends on the order.
pub fn shown(schema: &Value) -> String {
    match schema {
        Value::Array(branches) => format!("[{}]", branches.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Value::Object(object) => {
            let first = object.get_key_value("type").into_iter();
            let rest = object.iter().filter(|(key, _)| *key != "type");
            let pairs = first.chain(rest).map(|(key, value)| format!("{}: {}", json!(key), shown(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}
