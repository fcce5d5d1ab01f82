//! The whole way in one process: raw presses, the relay, the Avro topic, a sink, its table; and what must be in the table.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::cluster::{Raw, await_that};
use crate::relay::{World, presses, world};

/// Another process takes over within the test's patience: sessions and transactions are short.
pub const SHORT: [&str; 5] = [
    "kafka.consumer.session.timeout.ms=3000",
    "kafka.consumer.heartbeat.interval.ms=500",
    "kafka.producer.transaction.timeout.ms=2500",
    "kafka.producer.message.timeout.ms=2000",
    "kafka.producer.socket.timeout.ms=2000",
];

/// A world with the topic of the sink's dead letters, or `None`, said aloud, where there are no services.
pub fn chain(test: &str) -> Option<World> {
    let world = world(test)?;
    world.cluster.create_topics(&[(&format!("{}.dead", world.out), 1)]);
    Some(world)
}

/// Gives the pipeline a sink.
pub fn with_sink(world: &World, sink: &str) {
    world.write(&format!("pipelines/{}.toml", world.name), &format!("{}{sink}", world.pipeline()));
}

/// Sends presses with these numbers, spread over the partitions.
pub fn send(world: &World, numbers: std::ops::Range<u128>) {
    let presses: Vec<Raw> = numbers.flat_map(|number| presses((number % 3) as i32, number..number + 1)).collect();
    world.send(&presses);
}

/// The statement that a refusal prints: between its last words and the semicolon.
pub fn printed_statement(text: &str) -> &str {
    let (_, rest) = text.split_once("auto_create = true:\n").unwrap_or_else(|| panic!("no statement in:\n{text}"));
    rest.split_once(';').unwrap().0
}

/// Waits until the table has so many rows.
#[track_caller]
pub fn await_rows(wanted: usize, mut count: impl FnMut() -> usize, mut also: impl FnMut()) {
    await_that(&format!("{wanted} rows"), || {
        also();
        count() >= wanted
    });
}

/// Compares the table's rows, as objects of column and value, with the records of the Avro topic; `own`: columns that hold
/// the record's topic, partition and offset.
#[track_caller]
pub fn assert_same(world: &World, rows: Vec<Value>, own: bool) {
    let mut wanted = BTreeMap::new();
    for (record, mut value) in world.output() {
        if own {
            value["_topic"] = world.out.as_str().into();
            value["_partition"] = record.partition.into();
            value["_offset"] = record.offset.into();
        }
        wanted.insert(session(&value), comparable(value));
    }
    let count = rows.len();
    let found: BTreeMap<String, Value> = rows.into_iter().map(|row| (session(&row), comparable(row))).collect();
    assert_eq!((found.len(), count), (wanted.len(), wanted.len()), "sessions and rows in the table");
    for (session, wanted) in &wanted {
        assert_eq!(found.get(session), Some(wanted), "session {session}");
    }
}

fn session(row: &Value) -> String {
    row["session_id"].as_str().unwrap().to_string()
}

/// 60 and 60.0 are the same number; whole numbers here are below 2^53.
fn comparable(mut row: Value) -> Value {
    for value in row.as_object_mut().unwrap().values_mut() {
        if let Some(number) = value.as_f64() {
            *value = number.into();
        }
    }
    row
}
