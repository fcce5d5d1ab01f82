//! A search for bad rows that takes longer than the group waits for a member.

use std::time::{Duration, Instant};

use super::Load;
use crate::cluster::await_that;
use crate::relay::Relay;

/// Rows in each of two partitions; every second one is refused by the table.
const ROWS: i64 = 16;
/// `max.poll.interval.ms`; no less than the shortest session that the broker allows.
const POLL_INTERVAL_MS: u64 = 6_000;

/// Loads into a table that takes its time for each statement and refuses odd numbers: the worker stays in its group all the
/// while, so that each bad row is found once, and the rows that came meanwhile follow.
pub fn stays_in_its_group(load: &Load, rows: impl Fn() -> usize) {
    for partition in [0, 1] {
        load.send(partition, 0..ROWS);
    }
    let began = Instant::now();
    let mut run = run(load);
    run.await_log("partitions assigned");
    // Even ones only: they come while the search goes on.
    for partition in [0, 1] {
        load.send(partition, 100..101);
        load.send(partition, 102..103);
    }
    load.await_loaded(&mut run);
    assert!(
        began.elapsed() > Duration::from_millis(POLL_INTERVAL_MS) * 3 / 2,
        "the search was over in {:?}",
        began.elapsed()
    );
    let log = run.log();
    assert!(!log.contains("maximum poll interval") && !log.contains("partitions revoked"), "{log}");
    assert!(!log.contains("given up"), "{log}");
    assert_eq!(run.stop(), 0);
    assert_eq!(rows(), usize::try_from(ROWS).unwrap() + 4);
    let dead = load.cluster.read(&format!("{}.dead", load.topic));
    assert_eq!(dead.len(), usize::try_from(ROWS).unwrap(), "each bad row once");
}

/// Two processes search, each in a partition of its own. One is killed, and its partition comes to the other in the middle of the
/// search: that goes on, and the partition is loaded after it.
pub fn takes_a_partition_over(load: &Load, rows: impl Fn() -> usize) {
    const LONG: i64 = 3 * ROWS;
    let (mut killed, mut stays) = (run(load), run(load));
    await_that("two members", || load.tool_ok(&["offsets", "show"]).contains("2 live members"));
    for run in [&mut killed, &mut stays] {
        run.await_ready();
    }
    for partition in [0, 1] {
        load.send(partition, 0..LONG);
    }
    for run in [&mut killed, &mut stays] {
        run.await_log("searching");
    }
    killed.kill();
    // Its session is over by then.
    std::thread::sleep(Duration::from_millis(POLL_INTERVAL_MS) * 3 / 2);
    let furthest = load.cluster.committed(&load.group(), &load.topic).into_values().max();
    assert!(furthest < Some(LONG), "the search was over before the partition came");
    load.await_loaded(&mut stays);
    let log = stays.log();
    assert!(!log.contains("defect") && !log.contains("panicked"), "{log}");
    assert_eq!(stays.stop(), 0);
    assert_eq!(rows(), usize::try_from(LONG).unwrap());
    // The killed one may have sent letters before its position moved.
    let dead = load.cluster.read(&format!("{}.dead", load.topic));
    assert!(dead.len() >= usize::try_from(LONG).unwrap(), "{} letters", dead.len());
}

fn run(load: &Load) -> Relay {
    let interval = format!("kafka.consumer.max.poll.interval.ms={POLL_INTERVAL_MS}");
    let session = format!("kafka.consumer.session.timeout.ms={POLL_INTERVAL_MS}");
    load.run_with(&[&interval, &session, "log.level=pressline=debug"])
}
