//! A search for bad rows that takes longer than the group waits for a member.

use std::time::{Duration, Instant};

use super::Load;

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
    let interval = format!("kafka.consumer.max.poll.interval.ms={POLL_INTERVAL_MS}");
    let session = format!("kafka.consumer.session.timeout.ms={POLL_INTERVAL_MS}");
    let began = Instant::now();
    let mut run = load.run_with(&[&interval, &session]);
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
