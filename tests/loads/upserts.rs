//! A sink in mode `upsert`, as a user runs it: text keys, tombstones, records without a key, and all of it loaded again.

use serde_json::json;

use super::{Load, orders};
use crate::cluster::{PATIENCE, Raw};

/// What `[sink.NAME]` has for it.
pub const SETTINGS: &str = "auto_create = true\nmode = \"upsert\"\ndeletes = true\npk_mode = \"record_key\"\npk_fields = \
                            [\"id\"]\nkey_format = \"text\"\n";

fn change(load: &Load, key: Option<&str>, number: Option<i64>) -> Raw {
    let (partition, key) = (Some(key.map_or(0, |key| i32::from(key.len() % 2 == 0))), key.map(String::from));
    Raw { partition, key, value: number.map(|number| load.value(number)), ..Raw::default() }
}

/// `rows`: the table's rows as `id|n`, in their order.
pub fn follows(load: &Load, rows: impl Fn() -> Vec<String>) {
    let send = |changes: &[(Option<&str>, Option<i64>)]| {
        let records: Vec<Raw> = changes.iter().map(|(key, number)| change(load, *key, *number)).collect();
        load.cluster.send(&load.topic, &records);
    };
    send(&[(Some("a"), Some(1)), (Some("bb"), Some(2)), (Some("a"), Some(3)), (Some("c"), Some(4)), (Some("c"), None)]);
    let mut run = load.run();
    load.await_loaded(&mut run);
    assert_eq!(rows(), ["a|3", "bb|2"]);
    send(&[
        (Some("bb"), None),
        (Some("c"), Some(5)),
        (None, Some(6)),
        (Some("dd"), None),
        (Some("dd"), Some(7)),
        (None, None),
    ]);
    load.await_loaded(&mut run);
    assert_eq!(rows(), ["a|3", "c|5", "dd|7"]);
    assert_eq!(run.stop(), 0);
    let letters = load.cluster.read(&format!("{}.dead", load.topic));
    let reasons: Vec<&str> = letters.iter().filter_map(|letter| letter.header("pressline.reason")).collect();
    assert_eq!(reasons, ["no_key", "no_key"]);
    // All changes once more, over what they came to.
    load.tool_ok(&["offsets", "set", "--to", "beginning", "--yes"]);
    load.load_all();
    assert_eq!(rows(), ["a|3", "c|5", "dd|7"]);
    load.tool_fails(&["reconcile"], &["mode is upsert"]);
}

/// Formats of values and of keys.
pub const FORMATS: [(&str, &str); 6] = [
    ("json", "json"),
    ("json", "text"),
    ("connect_json", "connect_json"),
    ("json_schema", "json"),
    ("json", "avro"),
    ("avro", "json"),
];

/// A field with its schema around it, as Kafka Connect writes it.
fn in_envelope(field: &str, of: &str, value: &serde_json::Value) -> String {
    let fields = [json!({"field": field, "type": of, "optional": false})];
    json!({"schema": {"type": "struct", "optional": false, "fields": fields}, "payload": {field: value}}).to_string()
}

fn framed(id: u32, bytes: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), bytes].concat()
}

/// Values and keys in every format, each pair of them from a topic of its own into a table of its own. `sink` is the sink's table of a
/// pipeline's file, whose `table` has the topic's name in it, with `CHANGES` for the settings of changes; `rows` gives a table's rows as
/// `id|n`, in their order.
pub fn follows_in_every_format(load: &Load, sink: &str, rows: impl Fn(&str) -> Vec<String>) {
    std::fs::remove_file(load.dir.path().join(format!("pipelines/{}.toml", load.name))).unwrap();
    let table = |(values, keys): (&str, &str)| format!("{values}_{keys}_{}", load.name);
    for (values, keys) in FORMATS {
        let topic = table((values, keys));
        load.cluster.create_topics(&[(&topic, 2), (&format!("{topic}.dead"), 1)]);
        let object = r#"{"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}"#;
        let value_id = if values == "json_schema" { orders::register_as(&topic, object, "JSON") } else { 0 };
        let id = r#"{"type": "record", "name": "key", "fields": [{"name": "id", "type": "string"}]}"#;
        let key_id = if keys == "avro" { load.register(id) } else { 0 };
        let value = |n: i64| match values {
            "avro" => load.value(n),
            "connect_json" => in_envelope("n", "int64", &json!(n)).into_bytes(),
            "json_schema" => framed(value_id, json!({"n": n}).to_string().as_bytes()),
            _ => json!({"n": n}).to_string().into_bytes(),
        };
        let key = |id: &str| match keys {
            "text" => id.into(),
            "avro" => String::from_utf8(framed(key_id, &[&[id.len() as u8 * 2], id.as_bytes()].concat())).unwrap(),
            "connect_json" => in_envelope("id", "string", &json!(id)),
            _ => json!({"id": id}).to_string(),
        };
        let record = |id: &str, n: Option<i64>| Raw {
            partition: Some(i32::from(id == "b")),
            key: Some(key(id)),
            value: n.map(value),
            ..Raw::default()
        };
        let mut records: Vec<Raw> =
            [("a", Some(1)), ("b", Some(2)), ("a", Some(3)), ("b", None), ("c", Some(4)), ("d", None)]
                .map(|(id, n)| record(id, n))
                .to_vec();
        records.push(Raw { key: None, ..record("e", Some(5)) });
        records.push(Raw { key: Some("[".into()), ..record("f", Some(6)) });
        load.cluster.send(&topic, &records);
        let fields = if values == "json" { "fields = { n = \"long\" }\n" } else { "" };
        let (of_key, key_format) = match keys {
            "text" => (String::new(), "key_format = \"text\"\n"),
            // The sink's own default.
            "avro" => (String::new(), ""),
            "json" => ("key = { format = \"json\", fields = { id = \"string\" } }\n".into(), ""),
            other => (format!("key = {{ format = \"{other}\" }}\n"), ""),
        };
        let changes =
            "mode = \"upsert\"\ndeletes = true\npk_mode = \"record_key\"\npk_fields = [\"id\"]\nauto_create = true\n";
        let source = format!("[source]\ntopic = \"{topic}\"\nformat = \"{values}\"\n{fields}{of_key}");
        let sink = sink.replace("CHANGES\n", &format!("{changes}{key_format}"));
        load.write(&format!("pipelines/{values}_{keys}.toml"), &format!("{source}{sink}"));
    }
    let said = load.check();
    assert!(said.contains("0 errors"), "{said}");
    let mut run = load.run();
    for (values, keys) in FORMATS {
        let (topic, group) = (table((values, keys)), format!("pressline.{values}_{keys}.{}", load.sink));
        load.cluster.await_relayed(&group, &topic, PATIENCE, || run.still_runs());
        // Any text is a key.
        let expected = if keys == "text" { vec!["[|6", "a|3", "c|4"] } else { vec!["a|3", "c|4"] };
        assert_eq!(rows(&topic), expected, "{values} by {keys}");
        let dead = load.cluster.read(&format!("{topic}.dead"));
        let mut told: Vec<_> = dead.iter().filter_map(|letter| letter.header("pressline.reason")).collect();
        told.sort_unstable();
        let reasons = match keys {
            "text" => vec!["no_key"],
            "avro" => vec!["key_not_wire_format", "no_key"],
            "connect_json" => vec!["no_key", "not_json"],
            _ => vec!["no_key", "wrong_type"],
        };
        assert_eq!(told, reasons, "{values} by {keys}");
    }
    assert_eq!(run.stop(), 0);
    let said = load.check();
    assert!(said.contains("0 errors"), "{said}");
}
