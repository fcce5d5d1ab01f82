//! JSON Schema, as Confluent's serializers register it: the part that says of which type each field is. What it says besides,
//! such as patterns and limits, is the producer's business.

use serde_json::{Map, Value};

use super::json::datum_of;
use super::types::{Record, Type, TypeKind, Unit};
use crate::avro::schema::{Reference, SchemaText};

/// Deepest nesting, references followed: a schema may refer to itself.
const MAX_DEPTH: usize = 32;
/// Most types of a schema with its references followed.
const MAX_TYPES: usize = 10_000;
/// Digits of a decimal whose schema does not say how many.
const PRECISION: usize = 38;

/// A registered schema with its references. Errors, in words: not JSON Schema, or one that cannot be read.
pub(super) fn registered(schema: &SchemaText) -> Result<Type, String> {
    if schema.other_kind.as_deref() != Some("JSON") {
        let kind = schema.other_kind.as_deref().unwrap_or("AVRO");
        return Err(format!("it is a schema of type {kind}, and source.format is json_schema"));
    }
    let json = |text: &str| {
        serde_json::from_str::<Value>(text).map_err(|_| "the schema is not JSON, or nested far too deep".to_string())
    };
    let main = json(&schema.text)?;
    let other = |known: &Reference| Ok((known.name.clone(), json(&known.text)?));
    let others: Vec<(String, Value)> = schema.references.iter().map(other).collect::<Result<_, String>>()?;
    read(&main, &others)
}

/// The type of a JSON Schema; `others` are those that it refers to, by their names there.
pub(super) fn read(schema: &Value, others: &[(String, Value)]) -> Result<Type, String> {
    let mut reader = Reader { root: schema, others, types: 0 };
    let of = reader.read(schema, schema, "", 0)?;
    match of.kind {
        TypeKind::Record(_) => Ok(Type { nullable: false, ..of }),
        _ => Err("the schema does not describe an object with properties".into()),
    }
}

struct Reader<'a> {
    root: &'a Value,
    others: &'a [(String, Value)],
    types: usize,
}

impl<'a> Reader<'a> {
    /// `root` is the document that the schema stands in.
    fn read(&mut self, schema: &'a Value, root: &'a Value, path: &str, depth: usize) -> Result<Type, String> {
        self.types += 1;
        if depth > MAX_DEPTH || self.types > MAX_TYPES {
            return Err(at(path, "the schema is nested too deep, or refers to itself"));
        }
        let Value::Object(object) = schema else {
            return Ok(Type { nullable: true, ..Type::new(path, TypeKind::Json) });
        };
        if let Some(reference) = object.get("$ref").and_then(Value::as_str) {
            let (found, root) = self.resolve(reference, root).ok_or_else(|| {
                at(path, &format!("the reference {reference} leads to no schema that is registered with this one"))
            })?;
            return self.read(found, root, path, depth + 1);
        }
        for key in ["oneOf", "anyOf"] {
            if let Some(branches) = object.get(key).and_then(Value::as_array) {
                return self.branches(branches, root, path, depth);
            }
        }
        let (kinds, nullable) = kinds(object);
        let kind = match kinds[..] {
            [kind] => self.kind(kind, object, root, path, depth)?,
            [] if object.contains_key("properties") => self.kind("object", object, root, path, depth)?,
            [] if is_texts(object) => TypeKind::String,
            // Of several types, or any.
            _ => TypeKind::Json,
        };
        let nullable = nullable || kinds.is_empty() && kind == TypeKind::Json;
        Ok(Type { nullable, ..Type::new(path, kind) })
    }

    /// One type or null; of several types, the value is kept as JSON.
    fn branches(&mut self, branches: &'a [Value], root: &'a Value, path: &str, depth: usize) -> Result<Type, String> {
        let is_null = |branch: &&Value| branch.get("type").and_then(Value::as_str) == Some("null");
        let others: Vec<&'a Value> = branches.iter().filter(|branch| !is_null(branch)).collect();
        let nullable = others.len() < branches.len();
        match others[..] {
            [one] => {
                let of = self.read(one, root, path, depth + 1)?;
                Ok(Type { nullable: of.nullable || nullable, ..of })
            }
            _ => Ok(Type { nullable, ..Type::new(path, TypeKind::Json) }),
        }
    }

    fn kind(
        &mut self,
        kind: &str,
        object: &'a Map<String, Value>,
        root: &'a Value,
        path: &str,
        depth: usize,
    ) -> Result<TypeKind, String> {
        let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        if let Some(logical) = logical(text("title"), kind, object) {
            return Ok(logical);
        }
        Ok(match (kind, text("connect.type"), text("format")) {
            ("boolean", ..) => TypeKind::Boolean,
            ("integer", "int8", _) => TypeKind::Int { bits: 8 },
            ("integer", "int16", _) => TypeKind::Int { bits: 16 },
            ("integer", "int32", _) | ("integer", "", "int32") => TypeKind::Int { bits: 32 },
            ("integer", ..) => TypeKind::Long,
            ("number", "float32", _) => TypeKind::Float,
            ("number", ..) => TypeKind::Double,
            ("string", "bytes", _) => TypeKind::Bytes,
            ("string", _, "date-time") => TypeKind::Timestamp(Unit::Micros),
            ("string", _, "date") => TypeKind::Date,
            ("string", _, "uuid") => TypeKind::Uuid,
            ("string", ..) => TypeKind::String,
            ("array", ..) => match object.get("items").filter(|items| items.is_object()) {
                Some(items) => TypeKind::Array(Box::new(self.read(items, root, path, depth + 1)?)),
                None => TypeKind::Json,
            },
            ("object", ..) => self.object(object, root, path, depth)?,
            _ => TypeKind::Json,
        })
    }

    fn object(
        &mut self,
        object: &'a Map<String, Value>,
        root: &'a Value,
        path: &str,
        depth: usize,
    ) -> Result<TypeKind, String> {
        let Some(properties) = object.get("properties").and_then(Value::as_object) else {
            return Ok(match object.get("additionalProperties").filter(|values| values.is_object()) {
                Some(values) => TypeKind::Map(Box::new(self.read(values, root, path, depth + 1)?)),
                None => TypeKind::Json,
            });
        };
        let required: Vec<&str> =
            object.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        // Confluent's serializer of Connect records writes down the order, which JSON does not keep.
        let index = |schema: &Value| schema.get("connect.index").and_then(Value::as_u64).unwrap_or(u64::MAX);
        let mut ordered: Vec<(&String, &Value)> = properties.iter().collect();
        ordered.sort_by_key(|(_, schema)| index(schema));
        let mut fields = Vec::with_capacity(ordered.len());
        for (name, schema) in ordered {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            let mut of = self.read(schema, root, &path, depth + 1)?;
            let default = schema.get("default").filter(|default| !default.is_null());
            match default {
                Some(default) => {
                    let default = datum_of(&of, default);
                    of.default = Some(default.map_err(|_| at(&path, "the schema's default does not fit its type"))?);
                }
                None => of.nullable |= !required.contains(&name.as_str()),
            }
            fields.push((name.clone(), of));
        }
        Ok(TypeKind::Record(Record::new(fields)?))
    }

    /// `#/$defs/name` in the document, or another document, with such a path behind it: by the reference's name, by its `$id`, or
    /// by the last part of that.
    fn resolve(&self, reference: &str, root: &'a Value) -> Option<(&'a Value, &'a Value)> {
        let (document, pointer) = reference.split_once('#').unwrap_or((reference, ""));
        let root = if document.is_empty() { root } else { self.document(document)? };
        let found = if pointer.is_empty() { Some(root) } else { root.pointer(pointer) };
        found.map(|found| (found, root))
    }

    fn document(&self, name: &str) -> Option<&'a Value> {
        let last = |text: &str| text.rsplit('/').next().unwrap_or_default().to_string();
        let id = |document: &Value| document.get("$id").and_then(Value::as_str).unwrap_or_default().to_string();
        let by_name = self.others.iter().find(|(known, _)| known == name).map(|(_, document)| document);
        let all = || std::iter::once(self.root).chain(self.others.iter().map(|(_, document)| document));
        let by_id = || all().find(|document| id(document) == name);
        let by_last = || all().find(|document| !id(document).is_empty() && last(&id(document)) == last(name));
        by_name.or_else(by_id).or_else(by_last)
    }
}

fn at(path: &str, what: &str) -> String {
    if path.is_empty() { what.to_string() } else { format!("field {path}: {what}") }
}

/// The types that a schema allows but null, and whether it allows null.
fn kinds(object: &Map<String, Value>) -> (Vec<&str>, bool) {
    let kinds: Vec<&str> = match object.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let others: Vec<&str> = kinds.iter().copied().filter(|kind| *kind != "null").collect();
    let nullable = others.len() < kinds.len();
    (others, nullable)
}

/// An `enum` or a `const` of texts alone, which says the type as well.
fn is_texts(object: &Map<String, Value>) -> bool {
    let values = object.get("enum").and_then(Value::as_array);
    values.is_some_and(|values| values.iter().all(Value::is_string))
        || object.get("const").is_some_and(Value::is_string)
}

/// Connect's logical types, by the title that its converter gives them.
fn logical(title: &str, kind: &str, object: &Map<String, Value>) -> Option<TypeKind> {
    let number = |key: &str| {
        let value = object.get("connect.parameters")?.get(key)?;
        value
            .as_str()
            .and_then(|text| text.parse().ok())
            .or_else(|| value.as_u64().and_then(|n| usize::try_from(n).ok()))
    };
    Some(match (title, kind) {
        ("org.apache.kafka.connect.data.Timestamp", "integer") => TypeKind::Timestamp(Unit::Millis),
        ("org.apache.kafka.connect.data.Date", "integer") => TypeKind::Date,
        ("org.apache.kafka.connect.data.Time", "integer") => TypeKind::TimeMillis,
        ("org.apache.kafka.connect.data.Decimal", "number" | "string") => TypeKind::Decimal {
            precision: number("connect.decimal.precision").unwrap_or(PRECISION).clamp(1, 1_000),
            scale: number("scale")?,
            base64: kind == "string",
        },
        _ => return None,
    })
}
