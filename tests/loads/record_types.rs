//! Records of two types in turns in one topic, of which the table takes one.

use super::Load;
use crate::cluster::Raw;
use crate::relay::holds_all;

const NOTE: &str =
    r#"{"type": "record", "name": "note", "namespace": "other.till", "fields": [{"name": "text", "type": "string"}]}"#;

/// Numbers, a note behind each: refused in words that name both types, then loaded without the notes.
pub fn one_of_two(load: &Load, rows: impl Fn() -> String) {
    let note = [&[0][..], &load.register(NOTE).to_be_bytes(), &[4, b'h', b'i']].concat();
    let turns = |numbers: std::ops::Range<i64>| {
        let pair = |number| [Raw::value(0, load.value(number)), Raw::value(0, note.clone())];
        load.cluster.send(&load.topic, &numbers.flat_map(pair).collect::<Vec<_>>());
    };
    turns(0..50);
    load.refused(&["record type other.till.note", "are of type row", "sink.records"]);
    holds_all(&load.check(), &["of several types: other.till.note, row", "sink.records"]);

    let file = format!("pipelines/{}.toml", load.name);
    load.write(&file, &load.read(&file).replacen("[sink]\n", "[sink]\nrecords = [\"row\"]\n", 1));
    let mut run = load.run();
    load.await_loaded(&mut run);
    turns(50..80);
    load.await_loaded(&mut run);
    let metrics = run.metrics();
    let sum = |name: &str| metrics.sum(name);
    assert_eq!(sum("pressline_sink_records_left_out_total") + sum("pressline_sink_rows_total"), 160.0);
    assert_eq!(sum("pressline_sink_rows_dead_total"), 0.0);
    assert_eq!(run.stop(), 0);
    assert_eq!(rows(), "80 80");
    holds_all(&load.tool_ok(&["reconcile"]), &["80 records of types that sink.records leaves out", "OK"]);
    let said = load.check();
    holds_all(&said, &["of type other.till.note, which sink.records leaves out"]);
    assert!(!said.contains("of several types"), "{said}");
}
