//! Leaving in order: SIGTERM under load, two processes with the same name, and delivery at least once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use figment::Figment;
use figment::providers::{Format, Toml};
use pressline::config::{Delivery, KafkaConfig};
use pressline::kafka::producer::{OutputLimits, OutputRecord, Writer};

use crate::cluster::PATIENCE;
use crate::kill::{Load, verdict};
use crate::support::{World, calm_world, holds_all, presses, world};
use crate::tally::Verdict;

fn await_some_output(world: &World) {
    crate::cluster::await_that("the first output", || {
        world.cluster.ends(&world.out).values().map(|(_, end)| end).sum::<i64>() > 5_000
    });
}

#[test]
fn a_stop_under_load_is_quick_and_loses_and_doubles_nothing() {
    let Some(world) = calm_world("stop", 3) else { return };
    let load = Load::start(&world, 3, 20_000.0);
    for _ in 0..2 {
        let mut relay = world.run(&["workers=2"]);
        relay.await_ready();
        await_some_output(&world);
        std::thread::sleep(Duration::from_millis(700));
        let begun = Instant::now();
        assert_eq!(relay.stop(), 0);
        println!("stopped after {:.2} s", begun.elapsed().as_secs_f64());
        holds_all(&relay.log(), &["shutting down, finishing open batches", "pipeline ended"]);
        assert!(!relay.log().contains("not everything ended in time"), "{}", relay.log());
        world.cluster.await_nothing_open(&world.out);
    }
    let sent = load.stop();
    let begun = Instant::now();
    let mut relay = world.run(&[]);
    world.await_relayed(&mut relay);
    // It left its group in order, so that nobody waits for its session to expire.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    assert_eq!(relay.stop(), 0);
    assert_eq!(verdict(&world, &sent), Verdict::default());
}

/// A transaction aborted in the very moment of the stop: its producer would have been replaced, and is not any more.
#[test]
fn a_writer_that_is_done_leaves_no_transaction_open() {
    let Some(world) = calm_world("done", 1) else { return };
    let toml = format!("bootstrap_servers = \"{}\"", world.cluster.bootstrap());
    let kafka: KafkaConfig = Figment::from(Toml::string(&toml)).extract().unwrap();
    let limits = Arc::new(OutputLimits::new(&kafka, vec![world.out.clone()]));
    let mut writer = Writer::new(&kafka, Delivery::ExactlyOnce, world.name.clone(), limits).unwrap();
    writer.reopen(PATIENCE).unwrap();
    let mut transaction = writer.begin().unwrap();
    let record = OutputRecord { topic: &world.out, key: None, value: Some(b"x"), timestamp_ms: None, headers: None };
    transaction.send(record).unwrap();
    crate::cluster::await_that("the record", || world.cluster.count_with_aborted(&world.out) > 0);
    drop(transaction);
    writer.finish(PATIENCE);
    world.cluster.await_nothing_open(&world.out);
}

/// Stopped at any moment of its life, also without partitions and in the middle of a rebalance.
#[test]
fn no_member_is_left_in_the_group() {
    let Some(world) = calm_world("leaving", 1) else { return };
    for delay_ms in [20, 100, 400, 800, 1_000, 1_100, 2_500] {
        // Of two workers one has the only partition.
        let mut relay = world.run(&["workers=2"]);
        crate::cluster::await_that("the first member", || world.cluster.members(&world.group()) > 0);
        std::thread::sleep(Duration::from_millis(delay_ms));
        assert_eq!(relay.stop(), 0);
        assert_eq!(world.cluster.members(&world.group()), 0, "after {delay_ms} ms; {}", relay.log());
    }
}

/// The newer one takes over, unless the older one was just about to make a new producer: then that one does.
#[test]
fn of_two_with_one_name_one_leaves_and_the_other_goes_on() {
    let Some(world) = calm_world("twins", 3) else { return };
    let load = Load::start(&world, 3, 2_000.0);
    let mut older = world.run(&["instance=twin"]);
    older.await_ready();
    await_some_output(&world);
    let mut newer = world.run(&["instance=twin"]);
    crate::cluster::await_that("one of the two to leave", || older.has_ended() || newer.has_ended());
    let (mut loser, mut winner) = if older.has_ended() { (older, newer) } else { (newer, older) };
    assert_eq!(loser.exit_code(Duration::from_secs(30)), 3);
    holds_all(
        &loser.log(),
        &[
            &format!("fenced by another process with the same transactional id pressline.{}.twin.0", world.name),
            "Give each process a unique `instance`",
        ],
    );
    // The other one takes all partitions and keeps running.
    let sent = load.stop();
    world.await_relayed(&mut winner);
    assert_eq!(winner.stop(), 0);
    assert!(!winner.log().contains("fenced by another process"), "{}", winner.log());
    assert_eq!(verdict(&world, &sent), Verdict::default());
}

#[test]
fn at_least_once_says_so_and_relays_everything() {
    let Some(world) = world("at-least-once") else { return };
    for partition in 0..3 {
        let first = u128::from(partition as u32) * 1_000;
        world.send(&presses(partition, first..first + 1_000));
    }
    let mut relay = world.run(&["delivery=at_least_once"]);
    world.await_relayed(&mut relay);
    let sessions: std::collections::BTreeSet<String> =
        world.output().iter().map(|(_, fields)| fields["session_id"].to_string()).collect();
    assert_eq!(sessions.len(), 3_000);
    assert_eq!(relay.stop(), 0);
    holds_all(&relay.log(), &["WARN relaying AT LEAST ONCE: after a crash the last batch may be written twice"]);
    // From where it left off, not again.
    let mut relay = world.run(&["delivery=at_least_once"]);
    world.send(&presses(0, 3_000..3_010));
    world.await_relayed(&mut relay);
    assert_eq!(world.output().len(), 3_010);
    assert_eq!(relay.stop(), 0);
}
