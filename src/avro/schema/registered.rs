//! A schema as the registry has it, made ready for apache-avro.
//!
//! What stands in the registry was let through by the writers' library, and Java reads what apache-avro refuses: a default of
//! the wrong type, a hyphen in a namespace, a field named größe, a type that is used before its definition, a type of another
//! schema that this one refers to. None of it matters to a reader of the writer's own schema, so defaults and documentation
//! are left out, each type is defined where it is used first, and names that apache-avro does not take are replaced by others;
//! [`original`] gives them back. Aliases stay as [`former_names`], which sinks look for columns by.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use apache_avro::Schema;
use serde_json::{Map, Value, json};

use super::{MAX_DEPTH, depth, logical};

/// Begins a name that stands for one which apache-avro does not take.
const REPLACED: &str = "_pressline_";
/// Key of a field whose `logicalType` stands beside its type, where readers ignore it.
const MISPLACED: &str = "pressline.misplaced";
/// Key of a field's aliases, which apache-avro would judge.
const FORMER: &str = "pressline.aliases";
const PRIMITIVES: [&str; 8] = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];

/// A registered schema, and the schemas that it refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaText {
    /// JSON text.
    pub text: String,
    /// The schemas in its references, and in theirs.
    pub references: Vec<Reference>,
    /// The registry's name of its kind where that is not Avro: `JSON`, `PROTOBUF`.
    pub other_kind: Option<String>,
}

/// A schema that another one refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// What it is called there: of Avro the type's full name, of JSON Schema what stands in `$ref`.
    pub name: String,
    /// JSON text.
    pub text: String,
}

impl From<&str> for SchemaText {
    fn from(text: &str) -> Self {
        Self { text: text.into(), ..Self::default() }
    }
}

/// Parses a registered schema. Errors, in words: not Avro, not JSON, too deep, a type that is nowhere defined.
pub fn parse_registered(schema: &SchemaText) -> Result<Schema, String> {
    if let Some(kind) = &schema.other_kind {
        return Err(format!("it is a schema of type {kind}, and pressline reads Avro"));
    }
    let main = json_of(&schema.text)?;
    let references: Vec<Value> =
        schema.references.iter().map(|known| json_of(&known.text)).collect::<Result<_, _>>()?;
    let mut ready = Ready::default();
    for value in std::iter::once(&main).chain(&references) {
        ready.collect(value, "")?;
    }
    let value = ready.schema(&main, "", 0)?;
    Schema::parse(&value).map_err(|error| format!("not an Avro schema: {error}"))
}

/// The full name of the record that an Avro schema describes, as it stands in the schema.
pub fn record_name(schema: &SchemaText) -> Option<String> {
    if schema.other_kind.is_some() {
        return None;
    }
    match json_of(&schema.text).ok()? {
        Value::Object(object) => defined_name(&object, ""),
        // The record is in a reference.
        Value::String(name) if !PRIMITIVES.contains(&name.as_str()) => Some(name),
        _ => None,
    }
}

/// The name as the registered schema has it.
pub fn original(name: &str) -> Cow<'_, str> {
    match name.strip_prefix(REPLACED).and_then(from_hex) {
        Some(original) => Cow::Owned(original),
        None => Cow::Borrowed(name),
    }
}

/// The logical type that stands beside a field's type.
pub fn misplaced_logical_type(attributes: &BTreeMap<String, Value>) -> Option<&str> {
    attributes.get(MISPLACED)?.as_str()
}

/// The aliases of a field: names that it had in older schemas.
pub fn former_names(attributes: &BTreeMap<String, Value>) -> Vec<String> {
    let names = attributes.get(FORMER).and_then(Value::as_array).into_iter().flatten();
    names.filter_map(Value::as_str).map(str::to_string).collect()
}

fn json_of(text: &str) -> Result<Value, String> {
    let json: Value =
        serde_json::from_str(text).map_err(|_| "the schema is not JSON, or nested far too deep".to_string())?;
    if depth(&json) > MAX_DEPTH {
        return Err(format!("the schema is nested deeper than {MAX_DEPTH}"));
    }
    Ok(json)
}

/// A named type, and the namespace around it.
type Definition<'a> = (&'a Map<String, Value>, &'a str);

#[derive(Default)]
struct Ready<'a> {
    /// By full name, wherever they stand.
    types: BTreeMap<String, Definition<'a>>,
    /// Of which the definition is written.
    written: BTreeSet<String>,
}

impl<'a> Ready<'a> {
    /// Notes all named types. Errors: two of one name that differ.
    fn collect(&mut self, value: &'a Value, namespace: &'a str) -> Result<(), String> {
        match value {
            Value::Array(branches) => branches.iter().try_for_each(|branch| self.collect(branch, namespace)),
            Value::Object(object) => {
                let mut inner = namespace;
                if let Some(full) = defined_name(object, namespace) {
                    match self.types.get(&full) {
                        Some((known, _)) if *known != object => {
                            return Err(format!("type `{full}` is defined twice, in two ways"));
                        }
                        _ => drop(self.types.insert(full, (object, namespace))),
                    }
                    inner = namespace_within(object, namespace);
                }
                let fields = object.get("fields").and_then(Value::as_array).into_iter().flatten();
                let parts = ["type", "items", "values"].into_iter().filter_map(|key| object.get(key));
                parts.chain(fields.filter_map(|field| field.get("type"))).try_for_each(|part| self.collect(part, inner))
            }
            _ => Ok(()),
        }
    }

    fn schema(&mut self, value: &'a Value, namespace: &str, depth: usize) -> Result<Value, String> {
        if depth > MAX_DEPTH {
            return Err(format!("the schema is nested deeper than {MAX_DEPTH} with its types put where they are used"));
        }
        match value {
            Value::String(name) if PRIMITIVES.contains(&name.as_str()) => Ok(value.clone()),
            Value::String(name) => self.named(name, namespace, depth),
            Value::Array(branches) => branches.iter().map(|branch| self.schema(branch, namespace, depth + 1)).collect(),
            Value::Object(object) => self.object(object, namespace, depth),
            _ => Err("not an Avro schema: something else stands where a type should".into()),
        }
    }

    fn object(&mut self, object: &'a Map<String, Value>, namespace: &str, depth: usize) -> Result<Value, String> {
        if let Some(full) = defined_name(object, namespace) {
            return self.definition(&full, depth);
        }
        let part = |key: &str| object.get(key).ok_or_else(|| format!("not an Avro schema: a type without `{key}`"));
        let kind = part("type")?;
        match kind.as_str() {
            Some("array") => Ok(json!({"type": "array", "items": self.schema(part("items")?, namespace, depth + 1)?})),
            Some("map") => Ok(json!({"type": "map", "values": self.schema(part("values")?, namespace, depth + 1)?})),
            Some(name) if PRIMITIVES.contains(&name) && logical::is_sound(object, name) => {
                Ok(with_logical_type(object, json!({ "type": name })))
            }
            _ => self.schema(kind, namespace, depth + 1),
        }
    }

    /// A type by its name: in the namespace around it, else without one, as Java looks for it.
    fn named(&mut self, name: &str, namespace: &str, depth: usize) -> Result<Value, String> {
        let candidates = [full_name(name, namespace), full_name(name, "")];
        let full = candidates.iter().find(|full| self.types.contains_key(*full));
        let full = full.ok_or_else(|| format!("type `{name}` is not in the schema, nor in its references"))?;
        self.definition(full, depth)
    }

    /// The definition where it is used first, later the name.
    fn definition(&mut self, full: &str, depth: usize) -> Result<Value, String> {
        let name = taken(full);
        let Some(&(object, around)) = self.types.get(full) else { return Ok(json!(name)) };
        if !self.written.insert(full.to_string()) {
            return Ok(json!(name));
        }
        let list = |key: &str| {
            let list = object.get(key).and_then(Value::as_array);
            list.ok_or_else(|| format!("not an Avro schema: type `{full}` has no list of {key}"))
        };
        match object.get("type").and_then(Value::as_str) {
            Some("enum") => {
                let symbols: Vec<_> = list("symbols")?.iter().map(|one| taken(one.as_str().unwrap_or(""))).collect();
                Ok(json!({"type": "enum", "name": name, "symbols": symbols}))
            }
            Some("fixed") => {
                let size = object.get("size").cloned().unwrap_or_default();
                let fixed = json!({"type": "fixed", "name": name, "size": size});
                Ok(if logical::is_sound(object, "fixed") { with_logical_type(object, fixed) } else { fixed })
            }
            _ => {
                let namespace = namespace_within(object, around);
                let mut fields = Vec::new();
                for field in list("fields")? {
                    fields.push(self.field(field, namespace, depth)?);
                }
                Ok(json!({"type": "record", "name": name, "fields": fields}))
            }
        }
    }

    fn field(&mut self, field: &'a Value, namespace: &str, depth: usize) -> Result<Value, String> {
        let name = field.get("name").and_then(Value::as_str);
        let name = name.ok_or_else(|| "not an Avro schema: a field without a name".to_string())?;
        let kind = field.get("type").ok_or_else(|| format!("not an Avro schema: field {name} has no type"))?;
        // A field's type is three brackets deeper: those of the record, its list and the field.
        let mut ready = json!({"name": taken(name), "type": self.schema(kind, namespace, depth + 3)?});
        if let (Some(logical), Some(object)) = (field.get("logicalType").and_then(Value::as_str), ready.as_object_mut())
        {
            object.insert(MISPLACED.into(), json!(logical));
        }
        if let (Some(aliases), Some(object)) = (field.get("aliases"), ready.as_object_mut()) {
            object.insert(FORMER.into(), aliases.clone());
        }
        Ok(ready)
    }
}

fn with_logical_type(object: &Map<String, Value>, mut plain: Value) -> Value {
    if let Some(plain) = plain.as_object_mut() {
        for key in logical::COMPANIONS {
            plain.extend(object.get(key).map(|value| (key.to_string(), value.clone())));
        }
    }
    plain
}

/// The full name of the type that an object defines, if it defines one.
fn defined_name(object: &Map<String, Value>, namespace: &str) -> Option<String> {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    let (Some("record" | "error" | "enum" | "fixed"), Some(name)) = (text("type"), text("name")) else { return None };
    Some(full_name(name, text("namespace").unwrap_or(namespace)))
}

/// The namespace for names within a named type.
fn namespace_within<'v>(object: &'v Map<String, Value>, around: &'v str) -> &'v str {
    let text = |key: &str| object.get(key).and_then(Value::as_str);
    match text("name").and_then(|name| name.rsplit_once('.')) {
        Some((namespace, _)) => namespace,
        None => text("namespace").unwrap_or(around),
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    match name.strip_prefix('.') {
        Some(global) => global.to_string(),
        None if name.contains('.') || namespace.is_empty() => name.to_string(),
        None => format!("{namespace}.{name}"),
    }
}

/// A name that apache-avro takes in any place: the same, if it does.
fn taken(name: &str) -> Cow<'_, str> {
    if super::is_name(name) && !name.starts_with(REPLACED) {
        return Cow::Borrowed(name);
    }
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    Cow::Owned(format!("{REPLACED}{digits}"))
}

fn from_hex(digits: &str) -> Option<String> {
    let bytes: Option<Vec<u8>> =
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn parse(text: &str) -> Result<Schema, String> {
        parse_registered(&SchemaText::from(text))
    }

    /// The type of the second field.
    fn second(schema: &Schema) -> &Schema {
        let Schema::Record(record) = schema else { panic!("{schema:?}") };
        &record.fields[1].schema
    }

    fn record(second: &str) -> String {
        format!(r#"{{"type":"record","name":"E","fields":[{{"name":"id","type":"long"}},{second}]}}"#)
    }

    #[test]
    fn what_only_readers_with_another_schema_need_is_not_looked_at() {
        for field in [
            r#"{"name":"kind","type":"string","default":null}"#,
            r#"{"name":"kind","type":["string","null"],"default":7}"#,
            r#"{"name":"kind","type":"string","aliases":["a-b",7],"doc":7,"order":"sideways"}"#,
            r#"{"name":"kind","type":{"type":"enum","name":"K","symbols":["A"],"default":"B"}}"#,
            r#"{"name":"kind","type":{"type":"string","connect.name":"io.debezium.data.Json","connect.version":1}}"#,
        ] {
            parse(&record(field)).unwrap_or_else(|why| panic!("{field}: {why}"));
        }
    }

    #[test]
    fn names_that_writers_let_through_are_names() {
        let text = r#"{"type":"record","name":"E","namespace":"com.my-company","fields":[
            {"name":"größe","type":{"type":"enum","name":"K-1","symbols":["a-b","c"]}},
            {"name":"2nd","type":"com.my-company.K-1"}, {"name":"third","type":"K-1"}]}"#;
        let Schema::Record(record) = parse(text).unwrap() else { panic!() };
        let names: Vec<_> = record.fields.iter().map(|field| original(&field.name)).collect();
        assert_eq!(names, ["größe", "2nd", "third"]);
        let Schema::Enum(kinds) = &record.fields[0].schema else { panic!() };
        assert_eq!(kinds.symbols.iter().map(|symbol| original(symbol)).collect::<Vec<_>>(), ["a-b", "c"]);
    }

    #[test]
    fn a_name_that_looks_like_a_replaced_one_comes_back() {
        for name in ["_pressline_", "_pressline_61", "_pressline_zz", "a", "ö", ""] {
            assert_eq!(original(&taken(name)), name);
            assert!(super::super::is_name(&taken(name)), "{name}");
        }
    }

    #[test]
    fn types_are_found_wherever_they_are_defined() {
        let late = r#"{"type":"record","name":"E","namespace":"n","fields":[{"name":"a","type":["null","m.K"]},
            {"name":"b","type":{"type":"enum","name":"m.K","symbols":["A"]}}]}"#;
        assert!(matches!(second(&parse(late).unwrap()), Schema::Ref { .. }));
        let again = r#"{"type":"record","name":"E","fields":[{"name":"a","type":{"type":"fixed","name":"F","size":2}},
            {"name":"b","type":{"type":"fixed","name":"F","size":2}}]}"#;
        parse(again).unwrap();
        let other = again.replacen("2}", "3}", 1);
        assert_eq!(parse(&other).unwrap_err(), "type `F` is defined twice, in two ways");
        // A namespace of "" is none, and names without a dot are looked for there last.
        let outside = r#"{"type":"record","name":"n.E","fields":[{"name":"a","type":"long"},
            {"name":"b","type":{"type":"record","name":"K","namespace":"","fields":[]}},{"name":"c","type":"K"}]}"#;
        parse(outside).unwrap();
        assert_eq!(
            parse(&record(r#"{"name":"b","type":"m.K"}"#)).unwrap_err(),
            "type `m.K` is not in the schema, nor in its references"
        );
    }

    #[test]
    fn references_are_put_in() {
        let main = record(r#"{"name":"kind","type":"bug.t.Kind"}"#);
        let kind = r#"{"type":"record","name":"Kind","namespace":"bug.t","fields":[{"name":"of","type":"Sort"}]}"#;
        let sort = r#"{"type":"enum","name":"Sort","namespace":"bug.t","symbols":["A"]}"#;
        let reference = |text: &str| Reference { name: "bug.t.Kind".into(), text: text.into() };
        let schema = SchemaText { text: main, references: vec![reference(kind), reference(sort)], other_kind: None };
        assert!(matches!(second(&parse_registered(&schema).unwrap()), Schema::Record(_)));
        let union = SchemaText { text: r#"["bug.t.Kind", "bug.t.Sort"]"#.into(), ..schema };
        assert!(matches!(parse_registered(&union).unwrap(), Schema::Union(_)));
    }

    #[test]
    fn a_logical_type_counts_only_where_readers_see_it() {
        let field = |kind: &str| record(&format!(r#"{{"name":"v","type":{kind}}}"#));
        let of = |kind: &str| second(&parse(&field(kind)).unwrap()).clone();
        assert_eq!(of(r#"{"type":"long","logicalType":"timestamp-micros"}"#), Schema::TimestampMicros);
        assert_eq!(of(r#"{"type":"string","logicalType":"timestamp-micros"}"#), Schema::String);
        assert_eq!(of(r#"{"type":"bytes","logicalType":"decimal","precision":0}"#), Schema::Bytes);
        assert_eq!(of(r#"{"type":"bytes","logicalType":"decimal","precision":2,"scale":3}"#), Schema::Bytes);
        assert_eq!(of(r#"{"type":"bytes","logicalType":"decimal"}"#), Schema::Bytes);
        assert!(matches!(of(r#"{"type":"bytes","logicalType":"decimal","precision":4}"#), Schema::Decimal(_)));
        let beside = record(r#"{"name":"v","type":"long","logicalType":"timestamp-micros"}"#);
        let Schema::Record(parsed) = parse(&beside).unwrap() else { panic!() };
        assert_eq!(parsed.fields[1].schema, Schema::Long);
        assert_eq!(misplaced_logical_type(&parsed.fields[1].custom_attributes), Some("timestamp-micros"));
        assert_eq!(misplaced_logical_type(&parsed.fields[0].custom_attributes), None);
    }

    #[test]
    fn what_is_no_avro_is_said_in_words() {
        let other = SchemaText { other_kind: Some("PROTOBUF".into()), ..SchemaText::from("syntax = \"proto3\";") };
        assert_eq!(parse_registered(&other).unwrap_err(), "it is a schema of type PROTOBUF, and pressline reads Avro");
        for (text, why) in [
            ("{", "the schema is not JSON, or nested far too deep"),
            ("7", "not an Avro schema: something else stands where a type should"),
            (r#"{"type":"array"}"#, "not an Avro schema: a type without `items`"),
            (r#"{"type":"record","name":"r"}"#, "not an Avro schema: type `r` has no list of fields"),
        ] {
            assert_eq!(parse(text).unwrap_err(), why);
        }
    }

    #[test]
    fn a_chain_of_types_does_not_unfold_beyond_the_limit() {
        // Each is used before its definition, so that all would be put into one another.
        let field = |at: usize| {
            format!(
                r#"{{"name":"f{at}","type":{{"type":"record","name":"t{at}","fields":[{{"name":"x","type":"t{}"}}]}}}}"#,
                at + 1
            )
        };
        let fields: Vec<String> = (0..100).map(field).collect();
        let text = format!(
            r#"{{"type":"record","name":"E","fields":[{},{{"name":"l","type":{{"type":"record","name":"t100","fields":[]}}}}]}}"#,
            fields.join(",")
        );
        assert!(parse(&text).unwrap_err().contains("nested deeper than 64"));
    }
}
