//! A rolling upgrade and the way back: an older and the current program in one group.
//!
//! The older one is named by `PRESSLINE_TEST_OLDER`; without it the current one plays both.

use super::Load;
use crate::cluster::await_that;
use crate::relay::holds_all;

/// Partitions go from the older program to the current one and back, with records coming all the while; then each record has
/// its row, once.
pub fn there_and_back(load: &Load) {
    let current = env!("CARGO_BIN_EXE_pressline").to_string();
    let older = std::env::var("PRESSLINE_TEST_OLDER").unwrap_or_else(|_| {
        println!("PRESSLINE_TEST_OLDER is not set: the current program plays the older one");
        current.clone()
    });
    let mut sent = 0;
    let mut running = load.run_by(&older);
    some_more(load, &mut sent);
    load.await_loaded(&mut running);
    for program in [&current, &older, &current] {
        let mut next = load.run_by(program);
        // Both work, each on a partition of the two.
        await_that("two members", || load.tool_ok(&["offsets", "show"]).contains("2 live members"));
        next.await_ready();
        for _ in 0..5 {
            some_more(load, &mut sent);
            std::thread::sleep(std::time::Duration::from_millis(300));
        }
        load.await_loaded(&mut next);
        running.still_runs();
        some_more(load, &mut sent);
        assert_eq!(running.stop(), 0);
        load.await_loaded(&mut next);
        running = next;
    }
    // Killed with what it has begun: the other kind takes that over.
    for program in [&older, &current] {
        some_more(load, &mut sent);
        running.kill();
        some_more(load, &mut sent);
        running = load.run_by(program);
        load.await_loaded(&mut running);
    }
    assert_eq!(running.stop(), 0);
    let all = format!("{sent} records");
    holds_all(&load.tool_ok(&["reconcile"]), &[&all, "OK"]);
}

fn some_more(load: &Load, sent: &mut i64) {
    for partition in [0, 1] {
        load.send(partition, *sent..*sent + 20);
        *sent += 20;
    }
}
