//! `pressline reconcile` for tables of ClickHouse.

use crate::cluster::await_that;
use crate::offsets::{counts, stage};
use crate::relay::holds_all;
use crate::support::DATABASE;

#[test]
fn gaps_and_doubles_are_found_exactly() {
    let Some((world, load)) = stage("ch_reconcile") else { return };
    load.send(0, 0..50);
    load.send_junk(0);
    load.send(0, 50..100);
    // Ten records, a marker, an aborted record and its marker, and again.
    load.send_in_transactions(1, 1_000..1_100);
    load.load_all();
    assert_eq!(counts(&world, &load), "200 200");
    let equal = load.tool_ok(&["reconcile"]);
    holds_all(&equal, &["201 records", "200 rows; 1 dead letter, 0 missing, 0 duplicates, 0 orphan rows", "OK"]);

    let table = format!("{DATABASE}.{}", load.name);
    world.run(&format!("DELETE FROM {table} WHERE _partition = 1 AND n BETWEEN 1005 AND 1024"));
    world.run(&format!("DELETE FROM {table} WHERE _partition = 0 AND _offset = 7"));
    world.run(&format!("INSERT INTO {table} SELECT * FROM {table} WHERE _partition = 0 AND _offset IN (60, 61)"));
    world.run(&format!(
        "INSERT INTO {table} SELECT n, t, _topic, _partition, 50 FROM {table} WHERE _partition = 0 AND _offset = 1"
    ));
    world.run(&format!(
        "INSERT INTO {table} SELECT n, t, _topic, _partition, 10 FROM {table} WHERE _partition = 1 AND _offset = 1"
    ));
    load.tool_fails(
        &["reconcile", "--textfile", "result.prom"],
        &[
            "partition 0, offsets 7 to 7: 1 record without a row",
            "partition 0, offsets 60 to 61: 2 records with 2 rows each",
            // 5 to 9, marker, aborted, marker, 13 to 22, ...
            "partition 1, offsets 5 to 9: 5 records without a row",
            "partition 1, offsets 10 to 10: 1 orphan row, without a record",
            "partition 1, offsets 13 to 30: 15 records without a row",
            "21 missing, 2 duplicates, 1 orphan row",
            "DIFFERENCES FOUND",
        ],
    );
    holds_all(&load.tool_ok(&["reconcile", "--from", "62"]), &["OK"]);
    let labels = format!("{{pipeline=\"{}\",sink=\"clickhouse\"}}", load.name);
    let page = load.read("result.prom");
    for (metric, value) in [("missing_rows", 21), ("duplicate_rows", 2), ("stray_rows", 1)] {
        holds_all(&page, &[&format!("\npressline_reconcile_{metric}{labels} {value}\n")]);
    }
    let time = page.rsplit(' ').next().unwrap().trim().parse::<u64>().unwrap();
    assert!(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs() - time < 60, "{page}");
    // One that cannot be compared leaves the file as it is.
    load.tool_fails(
        &["reconcile", "--textfile", "result.prom", "--from", "2026-01-01", "--set", "sink.clickhouse.table=nope"],
        &[],
    );
    assert_eq!(load.read("result.prom"), page);
}

#[test]
fn what_lies_behind_the_position_is_not_compared() {
    let Some((world, load)) = stage("ch_behind") else { return };
    load.send(0, 0..30);
    load.send_in_one_transaction(1, 30..40);
    let mut run = load.run();
    await_that("all rows", || counts(&world, &load) == "40 40");
    assert_eq!(run.stop(), 0);
    load.send(0, 40..60);
    let said = load.tool_ok(&["reconcile"]);
    let behind = "partition 0: offsets 30 to 49 are not loaded yet";
    holds_all(&said, &["partition 0: offsets 0 to before 30", behind, "40 records", "OK"]);
    assert!(!said.contains("partition 1: offsets 10 to 10"), "the marker of a transaction is no record: {said}");
}
