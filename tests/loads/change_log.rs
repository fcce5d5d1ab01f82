//! Changes in Debezium's envelope as a log: each a row of its own, with what was done.

use super::Load;
use crate::cluster::Raw;

/// `[source]` of a table whose columns take null.
pub const NULLABLE: &str =
    "[source]\nformat = \"json\"\nenvelope = \"debezium\"\nfields = { a = \"int?\", b = \"string?\" }\n";
/// Of one with a column that does not.
pub const NOT_NULL: &str =
    "[source]\nformat = \"json\"\nenvelope = \"debezium\"\nfields = { a = \"int\", b = \"string?\" }\n";

fn row(a: i64) -> String {
    format!(r#"{{"a":{a},"b":"b{a}"}}"#)
}

fn record(op: &str, before: &str, after: &str) -> Raw {
    let value = format!(r#"{{"before":{before},"after":{after},"source":{{"lsn":1}},"op":"{op}","ts_ms":1}}"#);
    Raw { partition: Some(0), value: Some(value.into_bytes()), ..Raw::default() }
}

/// `rows`: the table's rows as `op|a|b`, with `-` for null, sorted.
pub fn each_change_is_a_row(load: &Load, rows: impl Fn() -> Vec<String>) {
    let null = "null";
    let tombstone = Raw { partition: Some(0), key: Some("k".into()), ..Raw::default() };
    load.cluster.send(
        &load.topic,
        &[
            Raw { partition: Some(1), ..record("r", null, &row(9)) },
            record("c", null, &row(1)),
            record("u", &row(1), &row(2)),
            record("d", &row(2), null),
            tombstone,
            record("m", null, null),
            record("t", null, null),
            record("d", null, null),
        ],
    );
    let mut run = load.run();
    load.await_loaded(&mut run);
    assert_eq!(rows(), ["c|1|b1", "d|2|b2", "r|9|b9", "t|-|-", "u|2|b2"]);
    assert_eq!(run.metrics().sum("pressline_sink_records_filtered_total"), 2.0, "the tombstone and the message");
    assert_eq!(run.stop(), 0);
    let letters = load.cluster.read(&format!("{}.dead", load.topic));
    assert_eq!(letters.len(), 1, "a delete that does not say which row has gone");
    assert_eq!(letters[0].header("pressline.field"), Some("before"));
    assert!(letters[0].header("pressline.message").is_some_and(|said| said.contains("REPLICA IDENTITY FULL")));
    let said = load.check();
    assert!(said.contains("0 errors, 1 warning") && said.contains("1 missing_field"), "{said}");
    let said = load.tool_ok(&["reconcile"]);
    assert!(said.contains("2 records that change nothing"), "{said}");
}

/// Of a table with a column that takes no null: the log stops before a truncate, until somebody says what to do. `rows`: as above.
pub fn a_truncate_needs_columns_that_take_null(load: &Load, rows: impl Fn() -> Vec<String>) {
    load.cluster
        .send(&load.topic, &[record("c", "null", &row(1)), record("t", "null", "null"), record("c", "null", &row(2))]);
    load.refused(&["the table was truncated at its source (partition 0 offset 1)", "source.truncate = \"apply\""]);
    let mut run = load.run_with(&["source.truncate=ignore"]);
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    assert_eq!(rows(), ["c|1|b1", "c|2|b2"]);
}
