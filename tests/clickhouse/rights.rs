//! The grants of docs/operations.md are enough, on ClickHouse and on Kafka, and each of them is needed.
//!
//! Not tried: the grants on the tables of `system`, which the engine of the tests gives to everybody.

use std::time::Duration;

use crate::loads::{Load, load, rights};
use crate::offsets::{counts, stage};
use crate::relay::holds_all;
use crate::support::{DATABASE, World, world};

/// The table on which the test users have their grants.
const TABLE: &str = "least";

/// What stands between `GRANT` and `ON` in the page's statements about the table.
fn documented() -> Vec<&'static str> {
    let page = include_str!("../../docs/operations.md");
    let section = page.split("### ClickHouse\n").nth(1).expect("a section on ClickHouse's rights");
    let block = section.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("its statements");
    let on_table = block.lines().filter(|line| line.contains(" ON presses.button_presses "));
    on_table.filter_map(|line| line.strip_prefix("GRANT ")?.split(" ON ").next()).collect()
}

/// A pipeline into the table, as the user with these grants.
fn as_user(world: &World, name: &'static str, grants: &[&str], address: &str) -> Option<Load> {
    let user = [&["least"], grants].concat().join("/");
    let load = load(name, "clickhouse", |_| {
        format!(
            "[sink.clickhouse]\nurl = \"{address}\"\nuser = \"{user}\"\npassword_file = \"../password\"\ndatabase = \
             \"{DATABASE}\"\ntable = \"{TABLE}\"\n"
        )
    })?;
    world.run(&format!("DROP TABLE IF EXISTS {DATABASE}.{TABLE} SYNC"));
    world.run(&format!(
        "CREATE TABLE {DATABASE}.{TABLE} (n Int64, t DateTime64(6, 'UTC'), _topic LowCardinality(String), _partition Int32, \
         _offset Int64) ENGINE = MergeTree ORDER BY (_topic, _partition, _offset) SETTINGS \
         non_replicated_deduplication_window = 1000"
    ));
    Some(load)
}

fn rows(world: &World, load: &Load) -> usize {
    counts(world, load).split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn the_documented_grants_are_enough_and_none_is_too_many() {
    let Some(world) = world("ch_least") else { return };
    let address = std::env::var("PRESSLINE_TEST_CLICKHOUSE").unwrap();
    let in_table = || world.select(&format!("SELECT toString(count()) AS v FROM {DATABASE}.{TABLE}")).remove(0);
    let grants = documented();
    assert_eq!(grants.len(), 2, "{grants:?}");
    let Some(load) = as_user(&world, "ch_least", &grants, &address) else { return };
    load.send(0, 0..50);
    let said = load.check();
    assert!(said.contains("0 errors"), "{said}");
    load.load_all();
    assert_eq!(in_table(), "50");
    // A range that was left pending makes it look into the table.
    load.send(0, 50..60);
    let id = load.tool_ok(&["offsets", "show"]);
    let id = id.split("(id ").nth(1).and_then(|rest| rest.split(')').next()).unwrap();
    load.cluster.commit(
        &load.group(),
        &load.topic,
        0,
        50,
        &format!("pressline/1 topic_id={id} partitions=2 pending=60:0"),
    );
    load.load_all();
    assert_eq!(in_table(), "60");
    load.tool_ok(&["reconcile"]);

    for without in &grants {
        let left: Vec<&str> = grants.iter().copied().filter(|grant| grant != without).collect();
        let load = as_user(&world, "ch_least_without", &left, &address).unwrap();
        load.send(0, 0..10);
        let cure = format!("GRANT {without} ON `{DATABASE}`.`{TABLE}` TO `");
        holds_all(&load.check(), &["sink.clickhouse.user: user least", "lacks 1 grant", &cure]);
        let mut run = load.run();
        run.await_log("code 497 ACCESS_DENIED: the user lacks a grant; check sink.clickhouse.user");
        std::thread::sleep(Duration::from_secs(1));
        assert_eq!(in_table(), "0", "loaded without {without}");
        assert_eq!(run.stop(), 0);
    }
    let load = as_user(&world, "ch_least_none", &[], &address).unwrap();
    holds_all(&load.check(), &["user least lacks 2 grants"]);
    world.run(&format!("DROP TABLE {DATABASE}.{TABLE}"));
}

#[test]
fn the_documented_grants_on_kafka_are_enough_and_none_is_too_many() {
    let Some((world, load)) = stage("ch_kafka_least") else { return };
    rights::each_is_needed(&load, || rows(&world, &load));
}
