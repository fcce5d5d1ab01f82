//! `auto_create` through the daemon: no table, a run, and the table has the documented types and every row.

use serde_json::Value;

use crate::daemon::{assert_same, await_rows, chain, printed_statement, send, with_sink};
use crate::relay;
use crate::support::{DATABASE, World, world};

const PRESSES: usize = 90;

/// The rows, as objects; timestamps as microseconds.
pub fn rows(world: &World, table: &str) -> Vec<Value> {
    let sql = format!("SELECT * REPLACE (toUnixTimestamp64Micro(timestamp) AS timestamp) FROM {DATABASE}.{table}");
    let quoted = " SETTINGS output_format_json_quote_64bit_integers = 0";
    world.runtime.block_on(world.client.rows(&format!("{sql}{quoted}"))).unwrap()
}

/// How many rows the table has; none while it is not there.
pub fn count(world: &World, table: &str) -> usize {
    let there =
        format!("SELECT toString(count()) AS v FROM system.tables WHERE database = '{DATABASE}' AND name = '{table}'");
    if world.select(&there) == ["0"] {
        return 0;
    }
    world.select(&format!("SELECT toString(count()) AS v FROM {DATABASE}.{table}"))[0].parse().unwrap()
}

/// Runs pressline until the table has everything, and compares.
fn load(world: &World, chain: &relay::World, table: &str) {
    let mut process = chain.run(&[]);
    await_rows(PRESSES, || count(world, table), || process.still_runs());
    assert_eq!(process.stop(), 0);
    assert_same(chain, rows(world, table), true);
}

#[test]
fn auto_create_makes_the_table_of_documented_types_and_fills_it() {
    let (Some(chain), Some(world)) = (chain("ch-made"), world("daemon_made")) else { return };
    let table = world.name();
    let sql = "order_by = \"(timestamp, session_id)\"\npartition_by = \"toYYYYMM(timestamp)\"\n";
    with_sink(&chain, &world.sink(&table, &format!("auto_create = true\n{sql}")));
    send(&chain, 0..PRESSES as u128);
    load(&world, &chain, &table);
    let made = world.describe(&table);
    assert_eq!(
        (made.engine.as_str(), made.sorting_key.as_str(), made.partition_key.as_str(), made.deduplication_window),
        ("MergeTree", "timestamp, session_id", "toYYYYMM(timestamp)", 1000)
    );
    let columns: Vec<(&str, &str)> = made.columns.iter().map(|c| (c.name.as_str(), c.type_name.as_str())).collect();
    assert_eq!(
        columns,
        [
            ("session_id", "UUID"),
            ("timestamp", "DateTime64(6, 'UTC')"),
            ("cohort", "Nullable(Int32)"),
            ("action", "LowCardinality(String)"),
            ("country_name", "LowCardinality(String)"),
            ("country_code", "LowCardinality(String)"),
            ("subdivision_name", "LowCardinality(String)"),
            ("subdivision_code", "LowCardinality(String)"),
            ("city_name", "LowCardinality(String)"),
            ("latitude", "Nullable(Float64)"),
            ("longitude", "Nullable(Float64)"),
            ("accuracy_km", "Nullable(Int32)"),
            ("time_zone", "LowCardinality(Nullable(String))"),
            ("_topic", "LowCardinality(String)"),
            ("_partition", "Int32"),
            ("_offset", "Int64"),
        ]
    );
    world.run(&format!("DROP TABLE {DATABASE}.{table}"));
}

#[test]
fn without_auto_create_the_sink_stops_and_its_statement_executed_by_hand_works() {
    let (Some(chain), Some(world)) = (chain("ch-told"), world("daemon_told")) else { return };
    let table = world.name();
    with_sink(&chain, &world.sink(&table, ""));
    send(&chain, 0..PRESSES as u128);
    let mut process = chain.run(&[]);
    process.await_log(&format!("there is no table {DATABASE}.{table}; make it, for example so"));
    chain.await_relayed(&mut process);
    process.await_log("non_replicated_deduplication_window = 1000;");
    assert_eq!(process.stop(), 1, "a sink was refused");
    assert_eq!(count(&world, &table), 0);
    let log = process.log();
    world.run(printed_statement(&log));
    load(&world, &chain, &table);
    world.run(&format!("DROP TABLE {DATABASE}.{table}"));
}
