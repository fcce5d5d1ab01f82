//! Records behind another producer's open transaction: nobody can read them, but everybody must hear of them.

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};

use crate::cluster::{Cluster, PATIENCE, await_that, send_one};
use crate::support::{World, holds_all, press, presses, world};
use crate::{cluster::Raw, offsets::tool};

/// A producer with a transaction that holds one record of this partition.
fn open_transaction(cluster: &Cluster, topic: &str, partition: i32) -> BaseProducer {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap())
        .set("transactional.id", format!("{topic}.stranger"))
        .create()
        .unwrap();
    producer.init_transactions(PATIENCE).unwrap();
    producer.begin_transaction().unwrap();
    send_one(&producer, topic, &Raw::value(partition, press(1_000)));
    producer.flush(PATIENCE).unwrap();
    producer
}

fn replayed(world: &World, into: &str) -> String {
    let dead = format!("{into}.dead");
    world.cluster.create_topics(&[(into, 3), (&dead, 1)]);
    let output = world
        .pressline()
        .args(["replay", "--pipeline", &world.name, "--sink", "relay", "--from", "2020-01-01", "--into", into])
        .output()
        .unwrap();
    let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
    println!("{text}");
    text
}

#[test]
fn what_is_behind_an_open_transaction_is_told() {
    let Some(world) = world("open-transaction") else { return };
    world.send(&presses(0, 0..10));
    let stranger = open_transaction(&world.cluster, &world.raw, 0);
    world.send(&presses(0, 10..60));
    world.send(&presses(1, 100..120));
    let sets = ["kafka.open_transaction_warn_ms=1000", "kafka.consumer.statistics.interval.ms=300"];
    let mut relay = world.run(&sets);
    relay.await_log("records wait behind an open transaction of another producer");
    holds_all(&relay.log(), &["WARN", "partition=0 offset=10 high_watermark=61"]);
    relay.await_page(200, "partition 0: offsets 10 to 60 are behind an open transaction");
    let gauge = |relay: &mut crate::support::Relay, name: &str, partition: i32| {
        relay.metrics().with(name, &format!("partition=\"{partition}\""))
    };
    await_that("the gauges", || gauge(&mut relay, "pressline_open_transaction_seconds", 0) >= 1.0);
    assert_eq!(gauge(&mut relay, "pressline_open_transaction_records", 0), 51.0);
    assert_eq!(gauge(&mut relay, "pressline_open_transaction_records", 1), 0.0);
    assert_eq!(gauge(&mut relay, "pressline_lag_records", 0), 0.0, "nobody could read it: no lag");
    let (ok, text) = tool(&world, &["show"]);
    assert!(ok);
    holds_all(&text, &["partition 0: offsets 10 to 60 are behind an open transaction of another producer"]);

    let text = replayed(&world, &format!("{}-again", world.out));
    holds_all(&text, &["30 records = 30 written", "partition 0: offsets 10 to 60 are behind an open transaction"]);

    stranger.abort_transaction(PATIENCE).unwrap();
    relay.await_log("the open transaction has ended");
    // The marker of the abort is no record: the group never gets past it.
    await_that("the records behind it", || world.committed().get(&0) == Some(&61));
    await_that("readiness without a note", || relay.get("/readyz") == (200, "ready\n".to_string()));
    assert_eq!(relay.stop(), 0);
    assert_eq!(world.output().len(), 80);
}

#[test]
fn a_time_is_found_although_a_transaction_is_open() {
    let Some(world) = world("open-transaction-time") else { return };
    world.send(&presses(0, 0..10));
    let mut relay = world.run(&[]);
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);
    let stranger = open_transaction(&world.cluster, &world.raw, 0);
    let (ok, text) = tool(&world, &["set", "--sink", "relay", "--to", "2020-01-01", "--yes"]);
    assert!(ok);
    holds_all(&text, &["before=\"10\" after=0"]);
    stranger.abort_transaction(PATIENCE).unwrap();
}

#[test]
fn a_group_that_has_read_all_has_no_lag_although_a_marker_follows() {
    let Some(world) = world("marker") else { return };
    let stranger = open_transaction(&world.cluster, &world.raw, 0);
    stranger.commit_transaction(PATIENCE).unwrap();
    let mut relay = world.run(&[]);
    await_that("the record", || world.committed().get(&0) == Some(&1));
    let (ok, text) = tool(&world, &["show"]);
    assert!(ok && relay.stop() == 0);
    holds_all(&text, &["0          1         0..2   0"]);
    world.send(&presses(0, 0..10));
    let (_, text) = tool(&world, &["show"]);
    holds_all(&text, &["0          1         0..12  11"]);
}
