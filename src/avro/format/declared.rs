//! Types as a pipeline file declares them: `long`, `array<string>`, `decimal(10, 2)?`.

use std::collections::BTreeMap;

use super::types::{Record, Type, TypeKind, Unit};
use crate::config::format::FieldConfig;

/// What can be declared, for messages.
const TYPES: &str = "boolean, int, long, float, double, string, bytes, json, uuid, date, time-millis, time-micros, timestamp-millis, \
                     timestamp-micros, timestamp-nanos, local-timestamp-millis, local-timestamp-micros, local-timestamp-nanos, \
                     decimal(precision, scale), array<type>, map<type>, each with ? behind it where null is allowed";
/// Deepest nesting of declared types.
const MAX_DEPTH: usize = 32;
/// Most digits, as in [`Shape`](crate::avro::Shape).
const MAX_PRECISION: usize = 1_000;

/// The record of declared fields. Errors, in words: no fields; an unknown type.
pub(super) fn record(fields: &BTreeMap<String, FieldConfig>) -> Result<Type, String> {
    if fields.is_empty() {
        return Err("format = \"json\" needs its fields declared, such as fields = { order_time = \"long\" }".into());
    }
    fields_of(fields, "", 0)
}

fn fields_of(fields: &BTreeMap<String, FieldConfig>, path: &str, depth: usize) -> Result<Type, String> {
    if depth > MAX_DEPTH {
        return Err(format!("field {path}: declared fields are nested deeper than {MAX_DEPTH}"));
    }
    let mut found = Vec::with_capacity(fields.len());
    for (name, field) in fields {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let of = match field {
            FieldConfig::Type(text) => parse(text, &path)?,
            FieldConfig::Record(fields) => fields_of(fields, &path, depth + 1)?,
        };
        found.push((name.clone(), of));
    }
    Ok(Type::new(path, TypeKind::Record(Record::new(found)?)))
}

/// A declared type. Errors: what is wrong, naming the field.
pub(super) fn parse(text: &str, path: &str) -> Result<Type, String> {
    read(text.trim(), path, 0).ok_or_else(|| format!("field {path} has the type `{text}`, expected one of: {TYPES}"))
}

fn read(text: &str, path: &str, depth: usize) -> Option<Type> {
    if depth > MAX_DEPTH {
        return None;
    }
    if let Some(text) = text.strip_suffix('?') {
        let of = read(text.trim_end(), path, depth + 1)?;
        return (!of.nullable).then_some(Type { nullable: true, ..of });
    }
    let within = |name: &str, open: char, close: char| -> Option<&str> {
        text.strip_prefix(name)?.trim_start().strip_prefix(open)?.strip_suffix(close).map(str::trim)
    };
    let kind = if let Some(items) = within("array", '<', '>') {
        TypeKind::Array(Box::new(read(items, path, depth + 1)?))
    } else if let Some(values) = within("map", '<', '>') {
        TypeKind::Map(Box::new(read(values, path, depth + 1)?))
    } else if let Some(digits) = within("decimal", '(', ')') {
        let (precision, scale) = digits.split_once(',').unwrap_or((digits, "0"));
        let (precision, scale) = (precision.trim().parse().ok()?, scale.trim().parse().ok()?);
        if precision == 0 || precision > MAX_PRECISION || scale > precision {
            return None;
        }
        TypeKind::Decimal { precision, scale, base64: false }
    } else {
        simple(text)?
    };
    Some(Type::new(path, kind))
}

fn simple(name: &str) -> Option<TypeKind> {
    Some(match name {
        "boolean" => TypeKind::Boolean,
        "int" => TypeKind::Int { bits: 32 },
        "long" => TypeKind::Long,
        "float" => TypeKind::Float,
        "double" => TypeKind::Double,
        "string" => TypeKind::String,
        "bytes" => TypeKind::Bytes,
        "json" => TypeKind::Json,
        "uuid" => TypeKind::Uuid,
        "date" => TypeKind::Date,
        "time-millis" => TypeKind::TimeMillis,
        "time-micros" => TypeKind::TimeMicros,
        "timestamp-millis" => TypeKind::Timestamp(Unit::Millis),
        "timestamp-micros" => TypeKind::Timestamp(Unit::Micros),
        "timestamp-nanos" => TypeKind::Timestamp(Unit::Nanos),
        "local-timestamp-millis" => TypeKind::LocalTimestamp(Unit::Millis),
        "local-timestamp-micros" => TypeKind::LocalTimestamp(Unit::Micros),
        "local-timestamp-nanos" => TypeKind::LocalTimestamp(Unit::Nanos),
        _ => return None,
    })
}
