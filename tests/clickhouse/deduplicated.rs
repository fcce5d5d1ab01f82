//! `delivery = "deduplicated"` through the daemon, into a table without `_topic`, `_partition` and `_offset`: tokens alone.

use std::collections::BTreeMap;

use crate::auto_create::{count, rows};
use crate::cluster::await_that;
use crate::daemon::{SHORT, assert_same, await_rows, chain, send, with_sink};
use crate::link::Link;
use crate::relay;
use crate::support::{DATABASE, World, service, world};

/// What the pipeline fills, without the columns that name the record.
const COLUMNS: &str = "(session_id UUID, timestamp DateTime64(6, 'UTC'), cohort Nullable(Int32), action String, country_name \
                       String, country_code String, subdivision_name String, subdivision_code String, city_name String, \
                       latitude Nullable(Float64), longitude Nullable(Float64), accuracy_km Nullable(Int32), time_zone \
                       Nullable(String)) ENGINE = MergeTree ORDER BY timestamp";
const WINDOW: &str = " SETTINGS non_replicated_deduplication_window = 1000";

/// Waits until the sink's group stands behind the last record of each partition, with no insert in doubt.
fn await_settled(chain: &relay::World) {
    let mut ends = BTreeMap::new();
    for record in chain.cluster.read(&chain.out) {
        ends.insert(record.partition, record.offset + 1);
    }
    let group = format!("{}.clickhouse", chain.group());
    await_that("the group's offsets", || {
        let found = chain.cluster.committed(&group, &chain.out);
        ends.iter().all(|(partition, end)| found.get(partition) >= Some(end))
    });
}

fn settled(chain: &relay::World, world: &World, table: &str) {
    await_settled(chain);
    assert_same(chain, rows(world, table), false);
}

#[test]
fn rows_land_once_after_a_restart_a_lost_answer_and_a_kill_between_insert_and_commit() {
    let (Some(chain), Some(world)) = (chain("ch-tokens"), world("tokens")) else { return };
    let table = world.table(&format!("{COLUMNS}{WINDOW}")).name;
    let link = Link::to(&service("PRESSLINE_TEST_CLICKHOUSE"));
    let sink =
        world.sink(&table, "delivery = \"deduplicated\"\n").replace(&service("PRESSLINE_TEST_CLICKHOUSE"), &link.url());
    with_sink(&chain, &sink);
    let mut process = chain.run(&SHORT);
    process.await_log("delivery = \"deduplicated\" does not promise each row once");
    process.await_log("among the last 1000 inserts into the table");
    send(&chain, 0..60);
    await_rows(60, || count(&world, &table), || process.still_runs());
    settled(&chain, &world, &table);
    assert_eq!(process.stop(), 0);

    // A restart reads nothing twice.
    let mut process = chain.run(&SHORT);
    send(&chain, 60..120);
    await_rows(120, || count(&world, &table), || process.still_runs());
    settled(&chain, &world, &table);
    assert_eq!(link.repeated(), Vec::<String>::new());

    // The server has inserted, and its answer is lost: the same rows go again under the same token.
    link.cut_one();
    send(&chain, 120..180);
    await_that("a lost answer", || link.has_cut());
    await_rows(180, || count(&world, &table), || process.still_runs());
    settled(&chain, &world, &table);
    let after_cut = link.repeated().len();
    assert!(after_cut > 0, "nothing was sent again");

    // The server has inserted, and the process is killed before it commits.
    link.hold();
    send(&chain, 180..240);
    await_rows(181, || count(&world, &table), || process.still_runs());
    chain.await_relayed(&mut process);
    process.kill();
    link.pass();
    let mut process = chain.run(&SHORT);
    await_rows(240, || count(&world, &table), || process.still_runs());
    settled(&chain, &world, &table);
    assert!(link.repeated().len() > after_cut, "nothing was sent again after the kill");
    assert_eq!(process.stop(), 0);
    world.run(&format!("DROP TABLE {DATABASE}.{table}"));
}

#[test]
fn a_table_without_a_deduplication_window_is_refused() {
    let (Some(chain), Some(world)) = (chain("ch-no-window"), world("no_window")) else { return };
    let table = world.table(COLUMNS).name;
    with_sink(&chain, &world.sink(&table, "delivery = \"deduplicated\"\n"));
    send(&chain, 0..3);
    let mut process = chain.run(&[]);
    process.await_log("rests on the table's deduplication window, which is 0");
    process.await_log("MODIFY SETTING non_replicated_deduplication_window = 1000");
    chain.await_relayed(&mut process);
    assert_eq!(process.stop(), 1, "a sink was refused");
    assert_eq!(count(&world, &table), 0);
    world.run(&format!("DROP TABLE {DATABASE}.{table}"));
}
