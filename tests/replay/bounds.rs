//! Where a replay begins and ends: times, offsets, what retention has removed; and what it says when it is started again.

use crate::cluster::Raw;
use crate::relay::press;
use crate::support::{Stage, narrow_stage};

/// 2026-01-01T00:00:00Z, in milliseconds.
const FIRST_MS: i64 = 1_767_225_600_000;

/// Presses, one a minute, all in one partition.
fn send_by_the_minute(stage: &Stage, numbers: std::ops::Range<u128>) {
    let raw =
        |number: u128| Raw { timestamp_ms: Some(FIRST_MS + 60_000 * number as i64), ..Raw::value(0, press(number)) };
    stage.world.send(&numbers.map(raw).collect::<Vec<_>>());
}

/// Arguments of a replay into a table of PostgreSQL.
fn replay<'a>(into: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["--sink", "postgres", "--into", into][..], more].concat()
}

/// Numbers of the sessions in a table of PostgreSQL, which tell which presses it has: least, greatest, how many.
fn numbers(stage: &Stage, table: &str) -> String {
    let number = "('x' || right(session_id::text, 8))::bit(32)::int";
    stage.sql(&format!(
        "SELECT min({number}) || ' ' || max({number}) || ' ' || count(*) || ' ' || count(DISTINCT {number}) FROM SCHEMA.{table}"
    ))
}

#[test]
fn times_bound_a_replay_to_the_record() {
    let Some(stage) = narrow_stage("replay_times") else { return };
    send_by_the_minute(&stage, 0..100);
    stage.run_live(100, &[]);
    let into = stage.table("t");
    let times = ["--from", "2026-01-01T00:20:00Z", "--to", "2026-01-01T01:10:00Z"];
    let arguments = [&["--sink", "postgres", "--into", &into][..], &times].concat();
    stage.done(&arguments, &["50 records = 50 written", "all accounted for"]);
    assert_eq!(numbers(&stage, "t"), "20 69 50 50");
    // The end was fixed: what came since is no part of it.
    send_by_the_minute(&stage, 30..60);
    stage.run_live(130, &[]);
    stage.done(&arguments, &["it is finished already", "50 records = 50 written"]);
    assert_eq!(numbers(&stage, "t"), "20 69 50 50");
    // A date is its first moment; offsets are the partition's own.
    let into = stage.table("u");
    stage.done(
        &["--sink", "postgres", "--into", &into, "--from", "2026-01-01", "--to", "7"],
        &["7 records = 7 written"],
    );
    assert_eq!(numbers(&stage, "u"), "0 6 7 7");
}

#[test]
fn one_name_is_one_replay() {
    let Some(stage) = narrow_stage("replay_again") else { return };
    send_by_the_minute(&stage, 0..40);
    stage.run_live(40, &[]);
    let into = stage.table("t");
    stage.done(&replay(&into, &["--to", "30"]), &["30 records = 30 written"]);
    stage.refused(&replay(&into, &["--to", "35"]), &["was begun with other arguments", "--name", "--restart"]);
    stage.refused(&replay(&into, &["--to", "35", "--restart"]), &["is not empty", "Empty it"]);
    assert_eq!(numbers(&stage, "t"), "0 29 30 30");
    stage.sql("TRUNCATE SCHEMA.t");
    stage.done(&replay(&into, &["--to", "35", "--restart"]), &["35 records = 35 written"]);
    assert_eq!(numbers(&stage, "t"), "0 34 35 35");
    // Other records into the same table, under a name of their own.
    stage.refused(&["--sink", "postgres", "--into", &stage.table("live")], &["that is where pipeline", "--into-same"]);
    stage.done(&replay(&into, &["--from", "35", "--name", "the-rest"]), &["5 records = 5 written"]);
    assert_eq!(numbers(&stage, "t"), "0 39 40 40");
}

#[test]
fn what_retention_has_removed_is_named_and_counted() {
    let Some(stage) = narrow_stage("replay_gap") else { return };
    send_by_the_minute(&stage, 0..100);
    stage.run_live(100, &[]);
    stage.world.cluster.delete_records(&stage.world.out, 0, 30);
    let into = stage.table("t");
    let topic = &stage.world.out;
    stage.refused(
        &replay(&into, &["--from", "10", "--partition", "0"]),
        &[
            &format!("topic {topic}, partition 0: from offset 10 on, 20 offsets were deleted by retention"),
            "the first one kept is 30",
        ],
    );
    stage.refused(
        &replay(&into, &["--from", "2026-01-01T00:05:00Z"]),
        &["records of that time may be among the 30 offsets"],
    );
    assert_eq!(stage.sql(&format!("SELECT to_regclass('{into}') IS NULL")), "t", "nothing is begun");
    stage.done(
        &replay(&into, &["--from", "10", "--partition", "0", "--allow-gaps"]),
        &["91 offsets = 70 records + 1 without a record + 20 removed by retention", "all accounted for"],
    );
    assert_eq!(numbers(&stage, "t"), "30 99 70 70");
}

#[test]
fn what_retention_removes_on_the_way_is_named_too() {
    let Some(stage) = narrow_stage("replay_gap_later") else { return };
    send_by_the_minute(&stage, 0..400);
    stage.run_live(400, &[]);
    let into = stage.table("t");
    stage.sql("CREATE TABLE SCHEMA.t (LIKE SCHEMA.live INCLUDING ALL)");
    let mut slow = stage.start(&replay(&into, &["--rate", "40"]));
    crate::cluster::await_that("some rows", || stage.postgres_count("t") > 50);
    assert_eq!(slow.stop(), 1, "not all is accounted for");
    let there = stage.postgres_count("t") as i64;
    stage.world.cluster.delete_records(&stage.world.out, 0, there + 25);
    stage.refused(&replay(&into, &[]), &[&format!("from offset {there} on, 25 offsets were deleted")]);
    stage.done(
        &replay(&into, &["--allow-gaps"]),
        &[&format!("{} records + 1 without a record + 25 removed by retention", 400 - 25), "all accounted for"],
    );
    assert_eq!(stage.postgres_count("t"), 375);
}
