//! Raw events go through the relay again, with today's GeoIP database, into another topic: each once, dead letters too.

use std::collections::BTreeMap;

use crate::cluster::{Raw, await_that};
use crate::relay::{holds_all, press};
use crate::support::{Stage, stage};

const COUNT: u128 = 30_000;
/// One record in so many is a dead letter.
const BAD: u128 = 50;

fn send(stage: &Stage) {
    let raw = |number: u128| {
        let press = press(number);
        Raw::value(
            (number % 3) as i32,
            if number.is_multiple_of(BAD) { press.replace("PressButton", "Nonsense") } else { press },
        )
    };
    stage.world.send(&(0..COUNT).map(raw).collect::<Vec<_>>());
}

/// Key → how often, of a topic.
fn keys(stage: &Stage, topic: &str) -> BTreeMap<Vec<u8>, usize> {
    let mut keys = BTreeMap::new();
    for record in stage.world.cluster.read(topic) {
        *keys.entry(record.key).or_default() += 1;
    }
    keys
}

#[test]
fn another_topic_gets_each_event_once() {
    let Some(stage) = stage("replay_relay") else { return };
    let world = &stage.world;
    send(&stage);
    stage.run_live((COUNT - COUNT / BAD) as usize, &[]);
    let (live, out) = (stage.live_offsets(), world.cluster.ends(&world.out));
    let into = format!("{}-again", world.out);
    let dead = format!("{into}.dead");
    let arguments = ["--sink", "relay", "--into", &into, "--set", "batch.max_records=1000"];
    stage.refused(&arguments, &["does not exist"]);
    world.cluster.create_topics(&[(&into, 3), (&dead, 1)]);
    stage.refused(&["--sink", "relay", "--into", &world.out], &["that is where pipeline", "--into-same"]);

    let slow = [&arguments[..], &["--rate", "5000"]].concat();
    for part in [5, 2] {
        let mut replay = stage.start(&slow);
        let written = || world.cluster.ends(&into).values().map(|(_, end)| end).sum::<i64>();
        await_that("the replay to get on", || {
            replay.still_runs();
            written() > COUNT as i64 / part
        });
        replay.kill();
        assert!(written() < COUNT as i64, "killed too late: nothing is shown");
    }
    let said = stage.done(&arguments, &["all accounted for"]);
    let bad = COUNT / BAD;
    holds_all(&said, &[&format!("{COUNT} records = {} written + {bad} dead letters", COUNT - bad)]);

    let (once, of_live) = (keys(&stage, &into), keys(&stage, &world.out));
    assert!(once.values().all(|times| *times == 1), "each event once");
    assert_eq!(once, of_live);
    assert_eq!(once.len() as u128, COUNT - bad);
    assert_eq!(keys(&stage, &dead), keys(&stage, &world.dead));
    assert_eq!((stage.live_offsets(), world.cluster.ends(&world.out)), (live, out), "the live pipeline");
    stage.done(&arguments, &["it is finished already"]);
    stage.refused(&[&arguments[..], &["--restart"]].concat(), &["is not empty"]);
}

#[test]
fn several_workers_end_together() {
    let Some(stage) = stage("replay_workers") else { return };
    send(&stage);
    let into = format!("{}-again", stage.world.out);
    stage.world.cluster.create_topics(&[(&into, 3), (&format!("{into}.dead"), 1)]);
    let arguments = ["--sink", "relay", "--into", &into, "--set", "workers=3", "--set", "batch.max_records=1000"];
    // Partitions move between the workers while they join.
    stage.done(&arguments, &["all accounted for", &format!("{COUNT} records = ")]);
    assert!(keys(&stage, &into).values().all(|times| *times == 1), "each event once");
    assert_eq!(keys(&stage, &into).len() as u128, COUNT - COUNT / BAD);
}

#[test]
fn on_a_terminal_a_bar_shows_how_far_it_is() {
    let Some(stage) = stage("replay_bar") else { return };
    send(&stage);
    let into = format!("{}-again", stage.world.out);
    stage.world.cluster.create_topics(&[(&into, 3), (&format!("{into}.dead"), 1)]);
    let (code, drawn) = stage.on_terminal(&["--sink", "relay", "--into", &into, "--rate", "10000"]);
    println!("{drawn}");
    assert_eq!(code, 0);
    holds_all(&drawn, &["\u{2588}\u{2591}", "/30,000 offsets, ", "/s, ", "s left", "all accounted for"]);
    assert!(!drawn.contains(" of 30000 offsets"), "plain lines beside the bar");
}
