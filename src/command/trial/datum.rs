//! A datum from JSON, as [`write_json`](crate::avro::write_json) writes it: times as ISO 8601 text or as their number, decimals as
//! numbers, bytes as hexadecimal text. A field that may be null may be left out.

use std::fmt;

use jiff::{Timestamp, civil};
use serde_json::Value;

use crate::avro::format::datum;
use crate::avro::{Field, Shape, UuidForm};

/// Deepest nesting of what is written by hand.
const MAX_DEPTH: usize = 64;

/// JSON that its type cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Path of the field; empty where it is the whole record.
    pub field: String,
    /// What was expected.
    pub what: String,
}

impl Misfit {
    /// Of a field.
    pub fn new(field: &str, what: impl Into<String>) -> Self {
        Self { field: field.into(), what: what.into() }
    }
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.field.as_str() {
            "" => f.write_str(&self.what),
            field => write!(f, "{field}: {}", self.what),
        }
    }
}

/// Appends the datum of a value. Errors: it does not fit; what was appended is then of no use.
pub fn write(shape: &Shape, value: &Value, path: &str, out: &mut Vec<u8>) -> Result<(), Misfit> {
    let expected = || Misfit::new(path, format!("expected {shape}, found {}", kind(value)));
    match shape {
        Shape::Null => value.as_null().ok_or_else(expected)?,
        Shape::Boolean => out.push(u8::from(value.as_bool().ok_or_else(expected)?)),
        Shape::Int => {
            let number = value.as_i64().and_then(|number| i32::try_from(number).ok()).ok_or_else(expected)?;
            datum::long(i64::from(number), out);
        }
        Shape::Long => datum::long(value.as_i64().ok_or_else(expected)?, out),
        Shape::Float => out.extend_from_slice(&(floating(value).ok_or_else(expected)? as f32).to_le_bytes()),
        Shape::Double => out.extend_from_slice(&floating(value).ok_or_else(expected)?.to_le_bytes()),
        Shape::String | Shape::Uuid(UuidForm::Text) => {
            datum::bytes(value.as_str().ok_or_else(expected)?.as_bytes(), out);
        }
        Shape::Bytes => datum::bytes(&hex(value).ok_or_else(expected)?, out),
        Shape::Fixed(size) => {
            let bytes = hex(value).filter(|bytes| bytes.len() == *size).ok_or_else(expected)?;
            out.extend_from_slice(&bytes);
        }
        Shape::Uuid(form) => {
            let uuid = value.as_str().and_then(|text| uuid::Uuid::try_parse(text).ok()).ok_or_else(expected)?;
            match form {
                UuidForm::Fixed => out.extend_from_slice(uuid.as_bytes()),
                _ => datum::bytes(uuid.as_bytes(), out),
            }
        }
        Shape::Enum(symbols) => {
            let index = value.as_str().and_then(|text| symbols.iter().position(|symbol| symbol == text));
            datum::long(index.ok_or_else(expected)? as i64, out);
        }
        Shape::Decimal { precision, scale, fixed } => {
            decimal(value, (*precision, *scale), *fixed, out).ok_or_else(expected)?;
        }
        Shape::Optional { null_first, some } => {
            let is_some = !value.is_null();
            datum::long(i64::from(is_some == *null_first), out);
            if is_some {
                write(some, value, path, out)?;
            }
        }
        Shape::Union(branches) => union(branches, value, path, out).ok_or_else(expected)?,
        Shape::Recursive(of) => {
            if path.matches('.').count() > MAX_DEPTH {
                return Err(Misfit::new(path, "nested too deep"));
            }
            of.with_type(|shape, _| write(shape, value, path, out)).ok_or_else(expected)??;
        }
        Shape::Array(items) => {
            let values = value.as_array().ok_or_else(expected)?;
            begin(values.len(), out);
            for (index, value) in values.iter().enumerate() {
                write(items, value, &join(path, &index.to_string()), out)?;
            }
            out.push(0);
        }
        Shape::Map(values) => {
            let entries = value.as_object().ok_or_else(expected)?;
            begin(entries.len(), out);
            for (key, value) in entries {
                datum::bytes(key.as_bytes(), out);
                write(values, value, &join(path, key), out)?;
            }
            out.push(0);
        }
        Shape::Record(fields) => record(fields, value.as_object().ok_or_else(expected)?, path, out)?,
        time => datum::long(value.as_i64().or_else(|| time_of(time, value.as_str()?)).ok_or_else(expected)?, out),
    }
    Ok(())
}

fn record(
    fields: &[Field],
    value: &serde_json::Map<String, Value>,
    path: &str,
    out: &mut Vec<u8>,
) -> Result<(), Misfit> {
    if let Some(unknown) = value.keys().find(|name| !fields.iter().any(|field| field.name == **name)) {
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        return Err(Misfit::new(
            &join(path, unknown),
            format!("the schema has no such field, only {}", names.join(", ")),
        ));
    }
    for Field { name, shape, .. } in fields {
        let path = join(path, name);
        match value.get(name) {
            Some(value) => write(shape, value, &path, out)?,
            None if matches!(shape, Shape::Null | Shape::Optional { .. }) => write(shape, &Value::Null, &path, out)?,
            None => return Err(Misfit::new(&path, format!("is missing, expected {shape}"))),
        }
    }
    Ok(())
}

/// By the first branch that holds it.
fn union(branches: &[Shape], value: &Value, path: &str, out: &mut Vec<u8>) -> Option<()> {
    let start = out.len();
    for (index, branch) in branches.iter().enumerate() {
        datum::long(index as i64, out);
        if write(branch, value, path, out).is_ok() {
            return Some(());
        }
        out.truncate(start);
    }
    None
}

/// Begins the only block of an array or a map; of none, the 0 behind it is all.
fn begin(items: usize, out: &mut Vec<u8>) {
    if items > 0 {
        datum::long(items as i64, out);
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

fn floating(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some(text @ ("NaN" | "Infinity" | "-Infinity")) => text.parse().ok(),
        Some(_) => None,
        None => value.as_f64(),
    }
}

fn hex(value: &Value) -> Option<Vec<u8>> {
    let text = value.as_str().filter(|text| text.is_ascii() && text.len() % 2 == 0)?;
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

fn decimal(value: &Value, digits: (usize, usize), fixed: Option<usize>, out: &mut Vec<u8>) -> Option<()> {
    let text = match value {
        Value::Number(number) => number.to_string(),
        Value::String(text) => text.clone(),
        _ => return None,
    };
    let bytes = datum::decimal(&text, digits.0, digits.1)?;
    match fixed {
        None => datum::bytes(&bytes, out),
        Some(size) => {
            let sign = if bytes.first()? & 0x80 == 0 { 0 } else { 0xff };
            out.resize(out.len() + size.checked_sub(bytes.len())?, sign);
            out.extend_from_slice(&bytes);
        }
    }
    Some(())
}

/// A time's text as its number.
fn time_of(shape: &Shape, text: &str) -> Option<i64> {
    let nanos = match shape {
        Shape::Date => {
            let days = text.parse::<civil::Date>().ok()?.since(civil::Date::constant(1970, 1, 1)).ok()?;
            return Some(i64::from(days.get_days()));
        }
        Shape::TimeMillis | Shape::TimeMicros => {
            text.parse::<civil::Time>().ok()?.duration_since(civil::Time::midnight()).as_nanos()
        }
        Shape::TimestampMillis | Shape::TimestampMicros | Shape::TimestampNanos => {
            text.parse::<Timestamp>().ok()?.as_nanosecond()
        }
        _ => text.parse::<civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_nanosecond(),
    };
    let per = match shape {
        Shape::TimeMillis | Shape::TimestampMillis | Shape::LocalTimestampMillis => 1_000_000,
        Shape::TimeMicros | Shape::TimestampMicros | Shape::LocalTimestampMicros => 1_000,
        _ => 1,
    };
    i64::try_from(nanos.div_euclid(per)).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::avro::{Cursor, write_json};

    fn shape(schema: &str) -> Shape {
        Shape::parse(schema).unwrap()
    }

    /// What is read of what was written.
    fn back(shape: &Shape, value: &Value) -> Value {
        let (mut datum, mut text) = (Vec::new(), Vec::new());
        write(shape, value, "", &mut datum).unwrap();
        let mut cursor = Cursor::new(&datum);
        write_json(shape, &mut cursor, &mut text).unwrap();
        cursor.finish().unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn every_type_is_read_as_it_was_written() {
        let of = |kind: &str| shape(kind);
        for (kind, value) in [
            (r#""boolean""#, json!(true)),
            (r#""int""#, json!(-7)),
            (r#""long""#, json!(1_795_258_945_000_i64)),
            (r#""double""#, json!(-0.25)),
            (r#""string""#, json!("ä\u{0}")),
            (r#""bytes""#, json!("00ff")),
            (r#"{"type": "fixed", "name": "f", "size": 2}"#, json!("0a0b")),
            (r#"{"type": "enum", "name": "e", "symbols": ["A", "B"]}"#, json!("B")),
            (r#"["null", "string"]"#, json!(null)),
            (r#"["string", "null"]"#, json!("x")),
            (r#"["null", "int", "string"]"#, json!("x")),
            (r#"{"type": "array", "items": "int"}"#, json!([1, 2, 3])),
            (r#"{"type": "array", "items": "int"}"#, json!([])),
            (r#"{"type": "map", "values": "int"}"#, json!({"a": 1, "b": 2})),
            (r#"{"type": "string", "logicalType": "uuid"}"#, json!("66edc67c-2731-4217-9c02-02455b3bf176")),
            (r#"{"type": "int", "logicalType": "date"}"#, json!("1815-12-10")),
            (r#"{"type": "int", "logicalType": "time-millis"}"#, json!("23:59:59.001")),
            (r#"{"type": "long", "logicalType": "time-micros"}"#, json!("00:00:00.000001")),
            (r#"{"type": "long", "logicalType": "timestamp-millis"}"#, json!("1969-12-31T23:59:59.999Z")),
            (r#"{"type": "long", "logicalType": "timestamp-micros"}"#, json!("2026-06-01T12:00:00.000001Z")),
            (r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#, json!("2026-06-01T12:00:00.001")),
            (r#"{"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}"#, json!(-1234.5)),
            (
                r#"{"type": "fixed", "name": "d", "size": 9, "logicalType": "decimal", "precision": 6, "scale": 2}"#,
                json!(-1.25),
            ),
            (
                r#"{"type": "record", "name": "r", "fields": [{"name": "a", "type": "int"}, {"name": "next", "type": ["null", "r"]}]}"#,
                json!({"a": 1, "next": {"a": 2, "next": null}}),
            ),
        ] {
            assert_eq!(back(&of(kind), &value), value, "{kind}");
        }
    }

    #[test]
    fn what_does_not_fit_names_its_field() {
        let of = shape(
            r#"{"type": "record", "name": "r", "fields": [{"name": "a", "type": {"type": "array", "items": "int"}},
                {"name": "b", "type": ["null", "string"]}]}"#,
        );
        let misfit = |value: Value| write(&of, &value, "", &mut Vec::new()).unwrap_err().to_string();
        assert_eq!(misfit(json!({"a": [1, "x"]})), "a.1: expected int, found text");
        assert_eq!(misfit(json!({"b": null})), "a: is missing, expected array of int");
        assert_eq!(misfit(json!({"a": [2_147_483_648_i64]})), "a.0: expected int, found a number");
        assert_eq!(misfit(json!({"a": [], "c": 1})), "c: the schema has no such field, only a, b");
        assert_eq!(misfit(json!([])), "expected record of 2 fields, found a list");
        assert_eq!(back(&of, &json!({"a": []})), json!({"a": [], "b": null}), "null may be left out");
    }

    proptest! {
        #[test]
        fn numbers_and_texts_come_back(long in any::<i64>(), text in ".*", list in proptest::collection::vec(any::<i32>(), 0..200)) {
            let of = shape(
                r#"{"type": "record", "name": "r", "fields": [{"name": "l", "type": "long"}, {"name": "t", "type": "string"},
                    {"name": "i", "type": {"type": "array", "items": "int"}}]}"#,
            );
            let value = json!({"l": long, "t": text, "i": list});
            prop_assert_eq!(back(&of, &value), value);
        }
    }
}
