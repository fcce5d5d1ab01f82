//! JSON in Kafka Connect's envelope (`JsonConverter` with `schemas.enable`): `schema` and `payload` in each record. The same
//! envelope may hold a JSON Schema instead.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::cast::Casts;
use super::json::datum_of;
use super::json_schema;
use super::reject::{Reason, Reject};
use super::types::{Record, Type, TypeKind, Unit};
use crate::avro::Shape;

/// Most schemas that are remembered: each record may bring one.
const MAX_SCHEMAS: usize = 1_000;
/// Deepest nesting of a schema.
const MAX_DEPTH: usize = 64;
/// Numbers of schemas begin here, far from the ids of a registry.
const FIRST: u32 = 0x8000_0000;
/// Digits of a decimal whose schema does not say how many: as many as 128 bits hold.
const PRECISION: usize = 38;

/// Opens envelopes and remembers their schemas.
#[derive(Clone, Debug)]
pub(super) struct Connect {
    read: fn(&Value) -> Result<Type, String>,
    /// By the text that comes along.
    known: HashMap<Box<str>, (u32, Arc<Type>)>,
    /// That of the record before: mostly all records have the same.
    last: Option<(Box<str>, u32, Arc<Type>)>,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    schema: Option<&'a RawValue>,
    /// The JSON Schema, where it is named so.
    #[serde(borrow, default, rename = "$schema")]
    json_schema: Option<&'a RawValue>,
    #[serde(borrow, default)]
    payload: Option<&'a RawValue>,
}

impl Connect {
    /// Of Connect's own schemas.
    pub fn of_connect() -> Self {
        Self { read: |schema| read(schema, "", 0), known: HashMap::new(), last: None }
    }

    /// Of Connect's own schemas, read so.
    pub fn reading(read: fn(&Value) -> Result<Type, String>) -> Self {
        Self { read, known: HashMap::new(), last: None }
    }

    /// Of JSON Schemas.
    pub fn of_json_schema() -> Self {
        Self { read: |schema| json_schema::read(schema, &[]), known: HashMap::new(), last: None }
    }

    /// The number and type of the envelope's schema, and its payload.
    pub fn open<'a>(
        &mut self,
        envelope: &'a [u8],
        casts: &Casts,
        shapes: &mut BTreeMap<u32, Arc<Shape>>,
    ) -> Result<(u32, Arc<Type>, &'a [u8]), Reject> {
        let parsed: Envelope<'a> = serde_json::from_slice(envelope).map_err(|error| {
            let (reason, detail) = if error.is_data() {
                (Reason::WrongType, "expected an object with schema and payload, each once")
            } else {
                (Reason::NotJson, "")
            };
            Reject { detail: detail.into(), ..Reject::record(reason) }
        })?;
        let schema = parsed.schema.or(parsed.json_schema).filter(|schema| schema.get() != "null");
        let schema = schema.ok_or_else(|| {
            Reject::schema(
                "the record has no schema beside its payload; declare the fields with source.format = \"json\"",
            )
        })?;
        let payload = parsed.payload.filter(|payload| payload.get() != "null");
        let payload = payload.ok_or_else(|| Reject::record(Reason::NullValue))?;
        let (number, of) = self.find(schema.get(), casts, shapes)?;
        Ok((number, of, payload.get().as_bytes()))
    }

    fn find(
        &mut self,
        text: &str,
        casts: &Casts,
        shapes: &mut BTreeMap<u32, Arc<Shape>>,
    ) -> Result<(u32, Arc<Type>), Reject> {
        if let Some((_, number, of)) = self.last.as_ref().filter(|(last, ..)| **last == *text) {
            return Ok((*number, Arc::clone(of)));
        }
        let (number, of) = match self.known.get(text) {
            Some((number, of)) => (*number, Arc::clone(of)),
            None => self.learn(text, casts, shapes)?,
        };
        self.last = Some((text.into(), number, Arc::clone(&of)));
        Ok((number, of))
    }

    fn learn(
        &mut self,
        text: &str,
        casts: &Casts,
        shapes: &mut BTreeMap<u32, Arc<Shape>>,
    ) -> Result<(u32, Arc<Type>), Reject> {
        if self.known.len() >= MAX_SCHEMAS {
            return Err(Reject::schema("the records have brought more than 1000 different schemas"));
        }
        let schema: Value = serde_json::from_str(text).map_err(|_| Reject::schema("nested too deep"))?;
        let of = (self.read)(&schema).map_err(Reject::schema)?;
        let mut shape = of.shape();
        casts.apply(&mut shape).map_err(Reject::schema)?;
        let number = FIRST + self.known.len() as u32;
        // Texts may differ in what does not matter.
        let same =
            shapes.iter().find(|(number, known)| **number >= FIRST && ***known == shape).map(|(number, _)| *number);
        let number = same.unwrap_or(number);
        shapes.entry(number).or_insert_with(|| Arc::new(shape));
        let of = Arc::new(of);
        self.known.insert(text.into(), (number, Arc::clone(&of)));
        Ok((number, of))
    }
}

/// The type of a Connect schema.
pub(super) fn read(schema: &Value, path: &str, depth: usize) -> Result<Type, String> {
    let wrong = |what: &str| if path.is_empty() { what.to_string() } else { format!("field {path}: {what}") };
    if depth > MAX_DEPTH {
        return Err(wrong("the schema is nested deeper than 64"));
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    let kind = text("type").ok_or_else(|| wrong("a schema without a type"))?;
    let logical = text("name").and_then(|name| logical(name, kind, schema));
    let part = |key: &str, path: &str| {
        let part = schema.get(key).ok_or_else(|| wrong(&format!("a schema of type {kind} without `{key}`")))?;
        read(part, path, depth + 1)
    };
    let kind = match (logical, kind) {
        (Some(logical), _) => logical,
        (None, "boolean") => TypeKind::Boolean,
        (None, "int8") => TypeKind::Int { bits: 8 },
        (None, "int16") => TypeKind::Int { bits: 16 },
        (None, "int32") => TypeKind::Int { bits: 32 },
        (None, "int64") => TypeKind::Long,
        (None, "float" | "float32") => TypeKind::Float,
        (None, "double" | "float64") => TypeKind::Double,
        (None, "string") => TypeKind::String,
        (None, "bytes") => TypeKind::Bytes,
        (None, "array") => TypeKind::Array(Box::new(part("items", path)?)),
        (None, "map") => TypeKind::Map(Box::new(part("values", path)?)),
        (None, "struct") => TypeKind::Record(fields(schema, path, depth)?),
        (None, other) => return Err(wrong(&format!("the type {other} is not one of Kafka Connect's"))),
    };
    let nullable = schema.get("optional").and_then(Value::as_bool).unwrap_or(false);
    let mut of = Type { nullable, ..Type::new(path, kind) };
    if let Some(default) = schema.get("default").filter(|default| !default.is_null()) {
        of.default = Some(datum_of(&of, default).map_err(|_| wrong("the schema's default does not fit its type"))?);
    }
    Ok(of)
}

fn fields(schema: &Value, path: &str, depth: usize) -> Result<Record, String> {
    let fields = schema.get("fields").and_then(Value::as_array).ok_or("a struct without fields")?;
    let mut found = Vec::with_capacity(fields.len());
    for field in fields {
        let name = field.get("field").and_then(Value::as_str).ok_or("a field without a name")?;
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        found.push((name.to_string(), read(field, &path, depth + 1)?));
    }
    Record::new(found)
}

/// What a schema's name makes of its type: Connect's own logical types and Debezium's.
fn logical(name: &str, kind: &str, schema: &Value) -> Option<TypeKind> {
    let number = |key: &str| schema.get("parameters")?.get(key)?.as_str()?.trim().parse::<usize>().ok();
    Some(match (name, kind) {
        ("org.apache.kafka.connect.data.Decimal", "bytes") => {
            let precision = number("connect.decimal.precision").unwrap_or(PRECISION).clamp(1, 1_000);
            TypeKind::Decimal { precision, scale: number("scale")?, base64: true }
        }
        ("org.apache.kafka.connect.data.Date" | "io.debezium.time.Date", "int32") => TypeKind::Date,
        ("org.apache.kafka.connect.data.Time" | "io.debezium.time.Time", "int32") => TypeKind::TimeMillis,
        ("io.debezium.time.MicroTime", "int64") => TypeKind::TimeMicros,
        ("org.apache.kafka.connect.data.Timestamp", "int64") => TypeKind::Timestamp(Unit::Millis),
        ("io.debezium.time.Timestamp", "int64") => TypeKind::LocalTimestamp(Unit::Millis),
        ("io.debezium.time.MicroTimestamp", "int64") => TypeKind::LocalTimestamp(Unit::Micros),
        ("io.debezium.time.NanoTimestamp", "int64") => TypeKind::LocalTimestamp(Unit::Nanos),
        ("io.debezium.time.ZonedTimestamp", "string") => TypeKind::Timestamp(Unit::Micros),
        ("io.debezium.data.Uuid", "string") => TypeKind::Uuid,
        _ => return None,
    })
}
