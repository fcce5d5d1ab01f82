//! The schema of an output that the pipeline file gives none for: that of the fields which are left, each type as the input's
//! schema has it.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::program::TransformPlan;
use crate::avro::schema::original;
use crate::avro::{Shape, UuidForm};

/// The Avro schema of what a plan writes, as JSON without blanks. Of a type that has a name in the input's schema, the name is
/// made from its field's: the names of an input may stand for something else in the output's subject.
/// `record` is the full name of the record, that of the topic where it is empty.
pub fn derived_schema(plan: &TransformPlan, topic: &str, record: &str) -> String {
    let mut names = BTreeSet::new();
    let name = match record.rsplit('.').next() {
        Some(last) if !last.is_empty() => {
            // Types within it lie in its namespace.
            names.insert(last.into());
            record.into()
        }
        _ => type_name(topic, &mut names),
    };
    let fields: Vec<Value> = plan
        .puts
        .iter()
        .map(|put| {
            let mut field = Map::new();
            field.insert("name".into(), json!(put.name));
            field.insert("type".into(), schema(&put.shape, &put.name, &mut names));
            if matches!(put.shape, Shape::Optional { null_first: true, .. } | Shape::Null) {
                field.insert("default".into(), Value::Null);
            }
            Value::Object(field)
        })
        .collect();
    json!({ "type": "record", "name": name, "fields": fields }).to_string()
}

/// A name that no other type has.
fn type_name(wanted: &str, names: &mut BTreeSet<String>) -> String {
    let mut name: String =
        wanted.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' }).collect();
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        name.insert(0, '_');
    }
    while !names.insert(name.clone()) {
        name.push('_');
    }
    name
}

fn schema(shape: &Shape, field: &str, names: &mut BTreeSet<String>) -> Value {
    let logical = |of: &str, logical: &str| json!({ "type": of, "logicalType": logical });
    match shape {
        Shape::Null => json!("null"),
        Shape::Boolean => json!("boolean"),
        Shape::Int => json!("int"),
        Shape::Long => json!("long"),
        Shape::Float => json!("float"),
        Shape::Double => json!("double"),
        Shape::Bytes => json!("bytes"),
        Shape::String => json!("string"),
        Shape::Fixed(size) => json!({ "type": "fixed", "name": type_name(field, names), "size": size }),
        Shape::Enum(symbols) => json!({ "type": "enum", "name": type_name(field, names), "symbols": symbols }),
        Shape::Array(items) => json!({ "type": "array", "items": schema(items, field, names) }),
        Shape::Map(values) => json!({ "type": "map", "values": schema(values, field, names) }),
        Shape::Record(fields) => {
            let name = type_name(field, names);
            let fields: Vec<Value> = fields
                .iter()
                .map(|inner| {
                    let of = format!("{field}_{}", inner.name);
                    json!({ "name": original(&inner.name), "type": schema(&inner.shape, &of, names) })
                })
                .collect();
            json!({ "type": "record", "name": name, "fields": fields })
        }
        Shape::Optional { null_first: true, some } => json!(["null", schema(some, field, names)]),
        Shape::Optional { null_first: false, some } => json!([schema(some, field, names), "null"]),
        Shape::Union(branches) => {
            let branch = |(index, shape): (usize, &Shape)| schema(shape, &format!("{field}_{index}"), names);
            Value::Array(branches.iter().enumerate().map(branch).collect())
        }
        // Refused where the plan is compiled.
        Shape::Recursive(_) => json!("null"),
        Shape::Decimal { precision, scale, fixed: None } => {
            json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale })
        }
        Shape::Decimal { precision, scale, fixed: Some(size) } => json!({
            "type": "fixed", "name": type_name(field, names), "size": size,
            "logicalType": "decimal", "precision": precision, "scale": scale
        }),
        Shape::Uuid(UuidForm::Text) => logical("string", "uuid"),
        Shape::Uuid(UuidForm::Bytes) => logical("bytes", "uuid"),
        Shape::Uuid(UuidForm::Fixed) => {
            json!({ "type": "fixed", "name": type_name(field, names), "size": 16, "logicalType": "uuid" })
        }
        Shape::Date => logical("int", "date"),
        Shape::TimeMillis => logical("int", "time-millis"),
        Shape::TimeMicros => logical("long", "time-micros"),
        Shape::TimestampMillis => logical("long", "timestamp-millis"),
        Shape::TimestampMicros => logical("long", "timestamp-micros"),
        Shape::TimestampNanos => logical("long", "timestamp-nanos"),
        Shape::LocalTimestampMillis => logical("long", "local-timestamp-millis"),
        Shape::LocalTimestampMicros => logical("long", "local-timestamp-micros"),
        Shape::LocalTimestampNanos => logical("long", "local-timestamp-nanos"),
    }
}
