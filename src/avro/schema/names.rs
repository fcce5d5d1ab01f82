//! Named types of a schema, and how deep it is nested.

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, UuidSchema};

/// Whether Avro takes it for the name of a field or symbol, or one part of a type's.
pub fn is_name(name: &str) -> bool {
    let mut characters = name.chars();
    characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && characters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// How deep brackets are nested in a schema's JSON.
pub fn depth(json: &serde_json::Value) -> usize {
    match json {
        serde_json::Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        serde_json::Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

/// Named types by their full name, so that references to them can be followed.
pub fn collect_names(schema: &Schema, namespace: Option<&str>, names: &mut HashMap<String, Schema>) {
    let name = match schema {
        Schema::Record(record) => Some(&record.name),
        Schema::Enum(inner) => Some(&inner.name),
        Schema::Fixed(inner) | Schema::Duration(inner) | Schema::Uuid(UuidSchema::Fixed(inner)) => Some(&inner.name),
        Schema::Decimal(decimal) => match &decimal.inner {
            InnerDecimalSchema::Fixed(inner) => Some(&inner.name),
            InnerDecimalSchema::Bytes => None,
        },
        _ => None,
    };
    if let Some(name) = name {
        names.insert(name.fullname(namespace), schema.clone());
    }
    match schema {
        Schema::Record(record) => {
            let namespace = record.name.namespace().or(namespace);
            record.fields.iter().for_each(|field| collect_names(&field.schema, namespace, names));
        }
        Schema::Array(array) => collect_names(&array.items, namespace, names),
        Schema::Map(map) => collect_names(&map.types, namespace, names),
        Schema::Union(union) => union.variants().iter().for_each(|variant| collect_names(variant, namespace, names)),
        _ => {}
    }
}
