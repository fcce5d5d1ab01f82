//! The fixtures of a pipeline: `pipelines/orders.test.toml` beside `pipelines/orders.toml`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::magic::RelativePathBuf;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::command::trial::{GivenPlace, Input, PlaceAnswer};
use crate::config::finding::Finding;
use crate::config::load::{self, FIXTURES};
use crate::config::{ConfigOrigin, sink};

/// Fixtures of one pipeline: records, and what becomes of each.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FixtureConfig {
    /// What the tests take for now, as ISO 8601 text; the clock's time unless set. Button presses of the future are dead letters.
    pub now: Option<String>,
    /// Avro schema file of the records that are read, in place of a registry.
    #[schemars(with = "Option<String>")]
    pub schema: Option<RelativePathBuf>,
    /// The same of their keys, for sinks that read them.
    #[schemars(with = "Option<String>")]
    pub key_schema: Option<RelativePathBuf>,
    /// GeoIP databases in place of the pipeline's.
    #[schemars(with = "Vec<String>")]
    pub place_files: Vec<RelativePathBuf>,
    /// Address → its place; with any, no GeoIP database is read, and other addresses are unknown.
    pub places: BTreeMap<String, PlaceAnswer>,
    /// The tests, in their order.
    pub test: Vec<TestConfig>,
}

/// One record, and what becomes of it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TestConfig {
    /// What it shows, in words.
    pub name: String,
    /// The record's value: text as it is, or a table of its fields. Not set, the record has no value.
    #[schemars(extend("type" = ["string", "object"]))]
    pub input: Option<Value>,
    /// The record's key, likewise.
    #[schemars(extend("type" = ["string", "number", "object"]))]
    pub key: Option<Value>,
    /// What becomes of it.
    pub expect: ExpectConfig,
}

/// What becomes of a record: one of `output`, `filtered` and `dead`, and for sinks `row`, or `postgres` and `clickhouse`, or `deleted`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ExpectConfig {
    /// All fields of the value that is written, as a table or as JSON text; a field that is null may be left out.
    #[schemars(extend("type" = ["string", "object"]))]
    pub output: Option<Value>,
    /// Topic that it is written to.
    pub topic: Option<String>,
    /// Key that it is written with.
    pub key: Option<String>,
    /// A filter drops it.
    pub filtered: bool,
    /// It is a dead letter, for this reason.
    pub dead: Option<String>,
    /// Field that the dead letter names.
    pub field: Option<String>,
    /// The row that each sink writes: column → value.
    #[schemars(extend("type" = ["string", "object"]))]
    pub row: Option<Value>,
    /// The row that the PostgreSQL sink writes.
    #[schemars(extend("type" = ["string", "object"]))]
    pub postgres: Option<Value>,
    /// The row that the ClickHouse sink writes.
    #[schemars(extend("type" = ["string", "object"]))]
    pub clickhouse: Option<Value>,
    /// The key of the row that each sink deletes: column → value.
    #[schemars(extend("type" = ["string", "object"]))]
    pub deleted: Option<Value>,
}

/// Fixtures that make sense.
pub struct Fixtures {
    /// The file.
    pub file: PathBuf,
    /// Lines of its keys.
    pub origin: ConfigOrigin,
    /// What the tests take for now, microseconds since 1970.
    pub now_us: i64,
    /// Avro schema file of the records.
    pub schema: Option<PathBuf>,
    /// Avro schema file of the keys.
    pub key_schema: Option<PathBuf>,
    /// GeoIP databases in place of the pipeline's.
    pub place_files: Vec<PathBuf>,
    /// Answers in place of GeoIP databases.
    pub places: Option<Vec<GivenPlace>>,
    /// The tests.
    pub tests: Vec<Test>,
}

/// One test.
pub struct Test {
    /// Its number in the file, from 0 on.
    pub index: usize,
    /// What it shows.
    pub name: String,
    /// The record's value.
    pub input: Option<Input>,
    /// The record's key.
    pub key: Option<Input>,
    /// What becomes of it. Texts are read as JSON.
    pub expect: ExpectConfig,
}

/// The file with the fixtures of a pipeline file.
pub fn beside(pipeline: &Path) -> PathBuf {
    let stem = pipeline.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    pipeline.with_file_name(stem + FIXTURES)
}

/// The pipeline file of a file with fixtures.
pub fn pipeline_of(fixtures: &Path) -> PathBuf {
    let name = fixtures.file_name().unwrap_or_default().to_string_lossy().into_owned();
    fixtures.with_file_name(format!("{}.toml", name.trim_end_matches(FIXTURES)))
}

impl Fixtures {
    /// Reads a file. Errors: everything that is wrong with it, by line and key.
    pub fn read(file: &Path) -> Result<Self, Vec<Finding>> {
        let (config, origin): (FixtureConfig, ConfigOrigin) = load::alone(file)?;
        let mut findings = Vec::new();
        let mut complain = |key: &str, what: String, cure: &str| {
            findings.push(Finding::error(origin.place(key), key, what, cure));
        };
        let now_us = match config.now.as_deref().map(str::parse::<Timestamp>) {
            None => Timestamp::now().as_microsecond(),
            Some(Ok(now)) => now.as_microsecond(),
            Some(Err(_)) => {
                complain("now", "no ISO 8601 time".into(), "write it like \"2026-06-01T12:00:00Z\"");
                0
            }
        };
        let mut places = Vec::new();
        for (address, answer) in &config.places {
            match address.parse() {
                Ok(address) if answer.country_code.len() == 2 => {
                    places.push(GivenPlace { address, answer: answer.clone() });
                }
                Ok(_) => {
                    let cure = "give country_code two letters; an address that no database knows is left out";
                    complain("places", "a place without a country".into(), cure);
                }
                Err(_) => {
                    complain("places", "a key that is no IPv4 or IPv6 address".into(), "write the address as text")
                }
            }
        }
        if config.test.is_empty() {
            complain("test", "no test in it".into(), "add [[test]] with input and expect");
        }
        let mut tests = Vec::with_capacity(config.test.len());
        for (index, test) in config.test.into_iter().enumerate() {
            match read_test(index, test) {
                Ok(test) => tests.push(test),
                Err((key, what, cure)) => complain(&format!("test.{index}.{key}"), what, cure),
            }
        }
        if !findings.is_empty() {
            return Err(findings);
        }
        Ok(Self {
            file: file.into(),
            origin,
            now_us,
            schema: sink::path(&config.schema),
            key_schema: sink::path(&config.key_schema),
            place_files: config.place_files.iter().map(RelativePathBuf::relative).collect(),
            places: Some(places).filter(|places| !places.is_empty()),
            tests,
        })
    }

    /// `file:line` of a key of a test.
    pub fn place(&self, test: &Test, key: &str) -> String {
        self.origin.place(&format!("test.{}.{key}", test.index))
    }
}

/// A key, what is wrong with it, and what to do.
type Wrong = (&'static str, String, &'static str);

fn read_test(index: usize, test: TestConfig) -> Result<Test, Wrong> {
    let mut expect = test.expect;
    let rows = [
        ("expect.output", &mut expect.output),
        ("expect.row", &mut expect.row),
        ("expect.postgres", &mut expect.postgres),
        ("expect.clickhouse", &mut expect.clickhouse),
        ("expect.deleted", &mut expect.deleted),
    ];
    let mut rows_there = false;
    for (key, value) in rows {
        let Some(given) = value.take() else { continue };
        rows_there |= key != "expect.output";
        *value = Some(object(given).map_err(|what| (key, what, "write a table, or text with a JSON object"))?);
    }
    let kinds = [
        expect.output.is_some() || expect.topic.is_some() || expect.key.is_some(),
        expect.filtered,
        expect.dead.is_some(),
    ];
    match kinds.iter().filter(|is_set| **is_set).count() {
        0 if !rows_there => {
            return Err((
                "expect",
                "nothing is expected".into(),
                "set one of expect.output, expect.filtered = true, expect.dead, or expect.row for a sink",
            ));
        }
        0 | 1 => {}
        _ => return Err(("expect", "a record has one outcome".into(), "set one of output, filtered and dead")),
    }
    if expect.field.is_some() && expect.dead.is_none() {
        return Err(("expect.field", "a field without `dead`".into(), "set expect.dead to the reason, or remove it"));
    }
    let name = if test.name.is_empty() { format!("test {}", index + 1) } else { test.name };
    Ok(Test {
        index,
        name,
        input: test.input.map(|value| input(value, "input")).transpose()?,
        key: test.key.map(|value| input(value, "key")).transpose()?,
        expect,
    })
}

fn input(value: Value, key: &'static str) -> Result<Input, Wrong> {
    Ok(match without_dates(value) {
        Value::String(text) => Input::Text(text),
        fields @ (Value::Object(_) | Value::Number(_)) => Input::Fields(fields),
        _ => return Err((key, "found something else than text or a table".into(), "write a table, or text")),
    })
}

fn object(value: Value) -> Result<Value, String> {
    match value {
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(fields @ Value::Object(_)) => Ok(fields),
            Ok(_) => Err("text with JSON that is no object".into()),
            Err(error) => Err(format!("text that is no JSON: {error}")),
        },
        fields @ Value::Object(_) => Ok(without_dates(fields)),
        _ => Err("found something else than a table or text".into()),
    }
}

/// A date or time of TOML's own is its text.
fn without_dates(value: Value) -> Value {
    match value {
        Value::Object(mut fields) => match fields.remove("$__toml_private_datetime") {
            Some(text) => text,
            None => Value::Object(fields.into_iter().map(|(name, value)| (name, without_dates(value))).collect()),
        },
        Value::Array(items) => Value::Array(items.into_iter().map(without_dates).collect()),
        other => other,
    }
}
