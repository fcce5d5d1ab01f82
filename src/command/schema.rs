//! `pressline schema`: JSON Schemas of the files that people write, for editors. They are made of the configuration's types: a doc
//! comment is a key's description.
//!
//! No key is required, since each may stand in another layer: the shared file, the environment, the command line.

use clap::{Args, ValueEnum};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::command::test_pipelines::fixture::FixtureConfig;
use crate::config::load::RELAY_KEYS;
use crate::config::sink::{LoadConfig, SinkSourceConfig};
use crate::config::{PipelineConfig, ProcessConfig, SourceConfig};
use crate::runtime::stdio;

/// `pressline schema`.
#[derive(Args)]
pub struct SchemaArgs {
    /// The file that the schema is of
    #[arg(value_enum, default_value = "pipeline")]
    of: SchemaOf,
}

/// The files that there are schemas of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// A pipeline's file
    Pipeline,
    /// pressline.toml
    Pressline,
    /// A file with fixtures for `pressline test`
    Test,
}

/// Prints the schema.
pub fn run(args: &SchemaArgs) {
    stdio::print(format_args!("{:#}\n", schema(args.of)));
}

/// The schema (draft 2020-12).
pub fn schema(of: SchemaOf) -> Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let (title, mut root) = match of {
        SchemaOf::Pipeline => ("A pipeline of pressline", pipeline(&mut generator)),
        SchemaOf::Pressline => {
            ("pressline.toml: settings of the process, and those that pipelines share", shared(&mut generator))
        }
        SchemaOf::Test => ("Fixtures of a pipeline, for `pressline test`", object::<FixtureConfig>(&mut generator)),
    };
    let mut definitions = generator.take_definitions(true);
    if let Some(transform) = definitions.get_mut("TransformConfig") {
        one_thing_each(transform);
    }
    let mut schema = Map::new();
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!(title));
    schema.append(&mut root);
    schema.insert("$defs".into(), Value::Object(definitions));
    let mut schema = Value::Object(schema);
    tidy(&mut schema);
    schema
}

/// The keys of a type, as those of a whole file.
fn object<T: JsonSchema>(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let schema = T::json_schema(generator).to_value();
    let properties = schema.get("properties").cloned().unwrap_or_default();
    let mut root = Map::new();
    root.insert("type".into(), json!("object"));
    root.insert("properties".into(), properties);
    root.insert("additionalProperties".into(), json!(false));
    root
}

fn properties(root: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    root.get_mut("properties").and_then(Value::as_object_mut)
}

/// The keys of a relay and those of sinks.
fn of_pipelines(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut root = object::<PipelineConfig>(generator);
    let mut sinks = object::<LoadConfig>(generator);
    if let Some((all, sinks)) = properties(&mut root).zip(properties(&mut sinks)) {
        for (key, value) in std::mem::take(sinks) {
            all.entry(key).or_insert(value);
        }
        let sources = [generator.subschema_for::<SourceConfig>(), generator.subschema_for::<SinkSourceConfig>()];
        let description = "What is read.";
        all.insert("source".into(), json!({"description": description, "anyOf": sources.map(Schema::to_value)}));
    }
    root
}

fn pipeline(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut root = of_pipelines(generator);
    let source_of_relay = generator.subschema_for::<SourceConfig>().to_value();
    let source_of_sinks = generator.subschema_for::<SinkSourceConfig>().to_value();
    let sinks_read_source = json!({"required": ["source", "sink"], "not": {"required": ["output"]}});
    let none_of_relay: Map<String, Value> =
        RELAY_KEYS.iter().filter(|key| **key != "source").map(|key| ((*key).to_owned(), json!(false))).collect();
    root.insert("anyOf".into(), json!([{"required": ["source"]}, {"required": ["sink"]}]));
    root.insert(
        "allOf".into(),
        json!([
            {
                "if": sinks_read_source,
                "then": {"properties": {"source": source_of_sinks}},
                "else": {"properties": {"source": source_of_relay}}
            },
            {
                "if": {"anyOf": [sinks_read_source, {"not": {"required": ["source"]}}]},
                "then": {"properties": none_of_relay}
            }
        ]),
    );
    root
}

fn shared(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let mut root = object::<ProcessConfig>(generator);
    let mut pipelines = of_pipelines(generator);
    if let Some((all, pipelines)) = properties(&mut root).zip(properties(&mut pipelines)) {
        all.append(pipelines);
    }
    root
}

/// Each of `[[transforms]]` does one thing.
fn one_thing_each(transform: &mut Value) {
    let kinds = ["filter", "rename", "drop", "cast", "route", "enrich"];
    let one: Vec<Value> = kinds.iter().map(|kind| json!({"required": [kind]})).collect();
    if let Some(transform) = transform.as_object_mut() {
        transform.insert("oneOf".into(), json!(one));
        let needs = json!({"route": ["topic"], "topic": ["route"], "prefix": ["enrich"], "fields": ["enrich"]});
        transform.insert("dependentRequired".into(), needs);
    }
}

/// TOML has no null, layers make no key required, and people read the descriptions.
fn tidy(schema: &mut Value) {
    let Some(schema) = schema.as_object_mut() else { return };
    without_null(schema);
    if schema.contains_key("properties") {
        schema.remove("required");
    }
    let is_plain = schema.get("default").is_none_or(|value| matches!(value, Value::Bool(_) | Value::Number(_)))
        || schema.get("default").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if !is_plain {
        schema.remove("default");
    }
    // Those of Rust's numbers are no formats of JSON Schema.
    schema.remove("format");
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = plain(text);
        // Where it is used it says more.
        if text.starts_with("See `") {
            schema.remove("description");
        }
    }
    for tables in ["properties", "$defs"] {
        if let Some(Value::Object(named)) = schema.get_mut(tables) {
            named.values_mut().for_each(tidy);
        }
    }
    for single in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get_mut(single) {
            tidy(inner);
        }
    }
    for list in ["anyOf", "oneOf"] {
        if let Some(Value::Array(branches)) = schema.get_mut(list) {
            branches.iter_mut().for_each(tidy);
        }
    }
}

/// Takes null out of the types.
fn without_null(schema: &mut Map<String, Value>) {
    let is_null = |schema: &Value| schema.get("type").is_some_and(|kind| kind == "null");
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [only] = types.as_slice() {
            let only = only.clone();
            schema.insert("type".into(), only);
        }
    }
    if let Some(Value::Array(branches)) = schema.get_mut("anyOf") {
        branches.retain(|branch| !is_null(branch));
        if let [Value::Object(only)] = branches.as_slice() {
            let only = only.clone();
            schema.remove("anyOf");
            for (key, value) in only {
                schema.entry(key).or_insert(value);
            }
        }
    }
}

/// A doc comment without the links that only Rust's documentation has.
fn plain(text: &str) -> String {
    text.replace("[`", "`").replace("`]", "`").split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schemas_are_those_of_the_types() {
        for (of, name) in
            [(SchemaOf::Pipeline, "pipeline"), (SchemaOf::Pressline, "pressline"), (SchemaOf::Test, "test")]
        {
            let file = format!("{}/schemas/{name}.schema.json", env!("CARGO_MANIFEST_DIR"));
            let committed: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
            assert!(committed == schema(of), "schemas/{name}.schema.json: run `make schemas`");
        }
    }

    #[test]
    fn every_key_of_the_configuration_has_a_description() {
        fn walk(path: &str, schema: &Value, nameless: &mut Vec<String>) {
            for (name, inner) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
                let path = format!("{path}.{name}");
                if inner.get("description").is_none() {
                    nameless.push(path.clone());
                }
                walk(&path, inner, nameless);
            }
        }
        let mut nameless = Vec::new();
        for of in [SchemaOf::Pipeline, SchemaOf::Pressline, SchemaOf::Test] {
            let schema = schema(of);
            walk("", &schema, &mut nameless);
            for (name, inner) in schema["$defs"].as_object().unwrap() {
                walk(name, inner, &mut nameless);
            }
        }
        assert!(nameless.is_empty(), "{nameless:?}");
    }
}
