//! Leaving in order: SIGTERM under load, two processes with the same name, and delivery at least once.

use std::time::{Duration, Instant};

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
        holds_all(&relay.log(), &["stopping: open batches are finished", "pipeline ended"]);
        assert!(!relay.log().contains("not everything ended in time"), "{}", relay.log());
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

#[test]
fn of_two_with_one_name_the_older_leaves_and_the_newer_goes_on() {
    let Some(world) = calm_world("twins", 3) else { return };
    let load = Load::start(&world, 3, 2_000.0);
    let mut older = world.run(&["instance=twin"]);
    older.await_ready();
    await_some_output(&world);
    let mut newer = world.run(&["instance=twin"]);
    assert_eq!(older.exit_code(Duration::from_secs(30)), 3);
    holds_all(
        &older.log(),
        &[
            &format!("another process has taken over transactional id pressline.{}.twin.0", world.name),
            "this one leaves so that the two do not throw each other out for ever: give every process its own `instance`",
        ],
    );
    // The newer one takes over all partitions and keeps running.
    let sent = load.stop();
    world.await_relayed(&mut newer);
    assert_eq!(newer.stop(), 0);
    assert!(!newer.log().contains("another process has taken over"), "{}", newer.log());
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
