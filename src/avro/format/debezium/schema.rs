//! A registered Avro schema as JSON: what attributes of it say beside the type that a reader of Avro sees.

use std::collections::BTreeMap;

use serde_json::Value;

/// The named types of a schema, by their name without the namespace and with it.
#[derive(Default)]
pub(super) struct Schemas<'s>(BTreeMap<String, &'s Value>);

impl<'s> Schemas<'s> {
    /// Those that are defined anywhere within.
    pub fn within(schema: &'s Value) -> Self {
        let mut found = Self::default();
        found.collect(schema);
        found
    }

    fn collect(&mut self, schema: &'s Value) {
        match schema {
            Value::Array(parts) => parts.iter().for_each(|part| self.collect(part)),
            Value::Object(object) => {
                if let Some(name) = object.get("name").and_then(Value::as_str).filter(|_| object.contains_key("type")) {
                    let namespace = object.get("namespace").and_then(Value::as_str);
                    let full = namespace.map(|namespace| format!("{namespace}.{name}"));
                    let is_type = ["record", "enum", "fixed"].iter().any(|kind| object["type"] == *kind);
                    for name in full.into_iter().chain([name.to_string()]).filter(|_| is_type) {
                        self.0.entry(name).or_insert(schema);
                    }
                }
                let parts = ["type", "items", "values", "fields"];
                parts.iter().filter_map(|part| object.get(*part)).for_each(|part| self.collect(part));
            }
            _ => {}
        }
    }

    /// What a name stands for, and what stands in `type` where that is no name.
    pub fn resolve<'v>(&self, schema: &'v Value) -> &'v Value
    where
        's: 'v,
    {
        match schema {
            Value::String(name) => {
                let known = self.0.get(name).or_else(|| self.0.get(name.rsplit('.').next().unwrap_or(name)));
                known.copied().unwrap_or(schema)
            }
            Value::Object(object) => match object.get("type") {
                Some(inner @ (Value::Object(_) | Value::Array(_))) => self.resolve(inner),
                _ => schema,
            },
            _ => schema,
        }
    }

    /// The other branch of a union with null.
    pub fn not_null<'v>(&self, schema: &'v Value) -> Option<&'v Value>
    where
        's: 'v,
    {
        let branches = schema.as_array()?;
        branches.iter().find(|branch| *branch != "null").map(|branch| self.resolve(branch))
    }

    /// The type of a record's field.
    pub fn field<'v>(&self, record: &'v Value, name: &str) -> Option<&'v Value>
    where
        's: 'v,
    {
        let fields = record.get("fields")?.as_array()?;
        fields.iter().find(|field| field["name"] == name)?.get("type").map(|kind| self.resolve(kind))
    }
}
