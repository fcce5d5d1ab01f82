//! Rows that only the server finds bad: found in few inserts, and in the group all the while.

use crate::loads::{Load, search};
use crate::offsets::{counts, stage, stage_at};
use crate::support::{DATABASE, World};

/// A table that refuses odd numbers, and takes its time.
fn slow_stage(test: &'static str) -> Option<(World, Load)> {
    let (world, load) = stage(test)?;
    let slow = format!("ALTER TABLE {DATABASE}.{} ADD CONSTRAINT even CHECK sleep(0.25) = 0 AND n % 2 = 0", load.name);
    world.run(&slow);
    Some((world, load))
}

fn rows(world: &World, load: &Load) -> usize {
    counts(world, load).split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_long_search_stays_in_its_group() {
    let Some((world, load)) = slow_stage("long_search") else { return };
    search::stays_in_its_group(&load, || rows(&world, &load));
}

#[test]
fn a_partition_that_comes_during_a_search_is_taken_over() {
    let Some((world, load)) = slow_stage("search_rebalanced") else { return };
    search::takes_a_partition_over(&load, || rows(&world, &load));
}

/// A view of the pipeline's table that fails on number 55.
fn refusing_view(world: &World, load: &Load) {
    let table = format!("{DATABASE}.{}", load.name);
    world.run(&format!(
        "CREATE MATERIALIZED VIEW {table}_v ENGINE = MergeTree ORDER BY n AS SELECT throwIf(n = 55) AS n FROM {table}"
    ));
}

/// An insert that fails in a view leaves its rows in the table: none comes twice. Each such insert is told of, once.
#[test]
fn rows_that_a_view_refuses_count_as_written() {
    let Some((world, load)) = stage("refusing_view") else { return };
    refusing_view(&world, &load);
    load.send(0, 0..100);
    load.load_all();
    // Alone in its insert.
    load.send(0, 55..56);
    load.load_all();
    assert_eq!(counts(&world, &load), "101 100");
    let letters = load.cluster.read(&format!("{}.dead", load.topic));
    let reasons: Vec<_> = letters.iter().map(|letter| letter.header("pressline.reason").unwrap()).collect();
    assert_eq!(reasons, ["view", "view"]);
}

#[test]
fn the_servers_word_on_which_row_is_bad_is_taken() {
    let Some((world, load)) = stage("named_row") else { return };
    world.run(&format!("ALTER TABLE {DATABASE}.{} ADD CONSTRAINT known CHECK n NOT IN (700, 1700)", load.name));
    load.send(0, 0..1_000);
    load.send(1, 1_000..2_000);
    let mut run = load.run_with(&["log.level=pressline=debug"]);
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "1998 1998");
    assert_eq!(load.cluster.read(&format!("{}.dead", load.topic)).len(), 2);
    // Halves would need ten refused inserts for each. Once it has ended, since its last lines may be on their way until then.
    let log = run.log();
    assert_eq!(log.matches("searching an insert for bad rows").count(), 2, "{log}");
}

/// Without the columns that tell, nobody knows which rows such an insert has left.
#[test]
fn a_view_that_refuses_rows_stops_a_sink_that_cannot_ask() {
    let address = std::env::var("PRESSLINE_TEST_CLICKHOUSE").unwrap_or_default();
    let Some((world, load)) = stage_at("view_stops", &address, "delivery = \"deduplicated\"") else { return };
    refusing_view(&world, &load);
    load.send(0, 0..100);
    load.refused(&["code 395", "materialized views read this table", "delivery = \"exactly_once\""]);
    world.run(&format!("DROP VIEW {DATABASE}.{}_v", load.name));
    load.load_all();
    assert_eq!(counts(&world, &load), "100 100");
    assert!(load.cluster.read(&format!("{}.dead", load.topic)).is_empty());
}
