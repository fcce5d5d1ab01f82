//! A topic whose schema changes while it is loaded by two processes: a field comes, one goes, one gets another name, one a wider type.
//! No column but those that come is altered by the load, and each record is there once.

use std::collections::BTreeMap;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;

use super::{Load, upserts};
use crate::cluster::{PATIENCE, Raw, await_that};

/// Each version of the record's schema, oldest first.
const VERSIONS: [&str; 5] = [
    r#"{"name": "n", "type": "long"}, {"name": "name", "type": "string"}, {"name": "old", "type": ["null", "string"]},
       {"name": "qty", "type": "int"}"#,
    r#"{"name": "n", "type": "long"}, {"name": "name", "type": "string"}, {"name": "old", "type": ["null", "string"]},
       {"name": "qty", "type": "int"}, {"name": "note", "type": ["null", "string"]}, {"name": "size", "type": "int"}"#,
    r#"{"name": "n", "type": "long"}, {"name": "name", "type": "string"}, {"name": "qty", "type": "int"},
       {"name": "note", "type": ["null", "string"]}, {"name": "size", "type": "int"}"#,
    r#"{"name": "n", "type": "long"}, {"name": "title", "type": "string", "aliases": ["name"]}, {"name": "qty", "type": "int"},
       {"name": "note", "type": ["null", "string"]}, {"name": "size", "type": "int"}"#,
    r#"{"name": "n", "type": "long"}, {"name": "title", "type": "string", "aliases": ["name"]}, {"name": "qty", "type": "long"},
       {"name": "note", "type": ["null", "string"]}, {"name": "size", "type": "int"}"#,
];
/// The table's columns, as the rows are compared.
pub const COLUMNS: [&str; 6] = ["n", "name", "old", "qty", "note", "size"];
/// Keys of upserts.
const KEYS: i64 = 10;

/// What differs between the databases.
pub struct Ways<'a> {
    pub is_upsert: bool,
    /// A column that a change does not know stays as it is.
    pub keeps: bool,
    /// Runs a statement.
    pub run: &'a dyn Fn(&str),
    /// The statement that widens `qty`.
    pub widen: &'a str,
    /// The rows, sorted: columns with `|` between them, `-` for null.
    pub rows: &'a dyn Fn() -> Vec<String>,
}

/// Settings of the sink.
pub fn settings(is_upsert: bool) -> String {
    match is_upsert {
        true => format!("auto_evolve = true\n{}", upserts::SETTINGS),
        false => "auto_create = true\nauto_evolve = true\n".into(),
    }
}

type Record = BTreeMap<&'static str, String>;

struct Topic<'a> {
    load: &'a Load,
    is_upsert: bool,
    schemas: Vec<(u32, Schema)>,
    next: i64,
    sent: Vec<Record>,
}

impl Topic<'_> {
    /// Records of these versions in turn, two of each key's partition.
    fn send(&mut self, versions: &[usize], count: i64) {
        let mut raws = Vec::new();
        for _ in 0..count {
            let n = self.next;
            self.next += 1;
            let version = versions[usize::try_from(n / 3).unwrap() % versions.len()];
            let (id, schema) = &self.schemas[version];
            let wide = if version == 4 { 5_000_000_000 + n } else { n };
            let text = |text: String| Value::Union(1, Box::new(Value::String(text)));
            let Schema::Record(of) = schema else { unreachable!() };
            let mut record = Record::new();
            let fields = of.fields.iter().map(|field| {
                let (column, value, shown) = match field.name.as_str() {
                    "n" => ("n", Value::Long(n), n.to_string()),
                    "name" | "title" => ("name", Value::String(format!("name {n}")), format!("name {n}")),
                    "old" => ("old", text(format!("old {n}")), format!("old {n}")),
                    "note" => ("note", text(format!("note {n}")), format!("note {n}")),
                    "size" => ("size", Value::Int(7), "7".to_string()),
                    _ if version == 4 => ("qty", Value::Long(wide), wide.to_string()),
                    _ => ("qty", Value::Int(n as i32), n.to_string()),
                };
                record.insert(column, shown);
                (field.name.clone(), value)
            });
            let row = Value::Record(fields.collect());
            let datum = GenericDatumWriter::builder(schema).build().unwrap().write_value_to_vec(row).unwrap();
            let key = (n * 7) % KEYS;
            record.insert("key", key.to_string());
            raws.push(Raw {
                partition: Some((key % 2) as i32),
                key: self.is_upsert.then(|| format!("k{key}")),
                value: Some([&[0][..], &id.to_be_bytes(), &datum].concat()),
                ..Raw::default()
            });
            self.sent.push(record);
        }
        self.load.cluster.send(&self.load.topic, &raws);
    }

    /// What the table is to hold.
    fn model(&self, keeps: bool) -> Vec<String> {
        let mut rows: BTreeMap<String, Record> = BTreeMap::new();
        for record in &self.sent {
            let row = rows.entry(record[if self.is_upsert { "key" } else { "n" }].clone()).or_default();
            if !keeps {
                row.clear();
            }
            row.extend(record.clone());
        }
        let shown = |row: &Record| COLUMNS.map(|column| row.get(column).map_or("-", String::as_str)).join("|");
        let mut rows: Vec<String> = rows.values().map(shown).collect();
        rows.sort();
        rows
    }
}

/// The whole of it.
pub fn follows(load: &Load, ways: &Ways<'_>) {
    let schema = |fields: &&str| format!(r#"{{"type": "record", "name": "row", "fields": [{fields}]}}"#);
    let texts: Vec<String> = VERSIONS.iter().map(schema).collect();
    let schemas = texts.iter().map(|text| (load.register(text), Schema::parse_str(text).unwrap())).collect();
    let mut topic = Topic { load, is_upsert: ways.is_upsert, schemas, next: 0, sent: Vec::new() };
    // A killed one is missed soon.
    let start = || load.run_with(&["kafka.consumer.session.timeout.ms=8000"]);
    topic.send(&[0], 40);
    let mut first = start();
    load.await_loaded(&mut first);
    let mut second = start();
    await_that("two processes share the topic", || load.cluster.members(&load.group()) == 2);
    // Both meet the new fields, and one of the two adds their columns.
    topic.send(&[1], 40);
    load.await_loaded(&mut second);
    first.kill();
    // Fields go and get other names, and producers of before write on.
    topic.send(&[2, 1, 3, 0], 60);
    let mut third = start();
    load.cluster.await_relayed(&load.group(), &load.topic, PATIENCE, || {
        second.still_runs();
        third.still_runs();
    });
    // The wider type is an operator's; what fits into it since then is written.
    (ways.run)(ways.widen);
    topic.send(&[4, 3, 4], 40);
    load.cluster.await_relayed(&load.group(), &load.topic, PATIENCE, || {
        second.still_runs();
        third.still_runs();
    });
    assert_eq!((second.stop(), third.stop()), (0, 0));
    assert_eq!((ways.rows)(), topic.model(ways.keeps));
    assert!(load.cluster.read(&format!("{}.dead", load.topic)).is_empty());
    let logs = [first.log(), second.log(), third.log()].concat();
    assert!(logs.contains("columns added for records of schema "), "{logs}");
}
