//! Ranges that somebody began to write.

use crate::cluster::await_that;
use crate::offsets::{counts, stage};
use crate::support::DATABASE;

/// Of a range that was begun, the table may have any row. Where its last records do not come, as from a broker that is away,
/// nothing of it is written or passed over; another partition is loaded meanwhile.
#[test]
fn a_begun_range_waits_for_its_last_record() {
    let Some((world, load)) = stage("ch_begun") else { return };
    world.run(&format!(
        "INSERT INTO {DATABASE}.{} SELECT number, toDateTime64('2026-01-01 00:00:00', 6, 'UTC'), '{}', 0, number FROM numbers(60)",
        load.name, load.topic
    ));
    load.cluster.commit(&load.group(), &load.topic, 0, 0, "pressline/1 partitions=2 pending=60:1");
    // Less than the range.
    load.send(0, 0..30);
    let mut run = load.run();
    run.await_log("the last records do not come");
    load.send(1, 1_000..1_050);
    let committed = || load.cluster.committed(&load.group(), &load.topic);
    await_that("the other partition", || committed().get(&1) == Some(&50));
    assert_eq!(committed().get(&0), Some(&0));
    assert_eq!(counts(&world, &load), "110 110");
    load.send(0, 30..70);
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "120 120");
}

/// Behind a position, an insert that was refused has left rows: they are not written again, however the rest is cut.
#[test]
fn what_a_refused_insert_has_left_is_not_written_again() {
    let Some((world, load)) = stage("ch_left") else { return };
    world.run(&format!(
        "INSERT INTO {DATABASE}.{} SELECT number, toDateTime64('2026-01-01 00:00:00', 6, 'UTC'), '{}', 0, number FROM \
         numbers(60) WHERE number % 3 > 0 OR number < 20",
        load.name, load.topic
    ));
    load.cluster.commit(&load.group(), &load.topic, 0, 20, "pressline/2 partitions=2 begun=60");
    load.send(0, 0..40);
    let mut run = load.run();
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    // Not forgotten at a position on the way.
    load.send(0, 40..70);
    load.load_all();
    assert_eq!(counts(&world, &load), "70 70");
}
