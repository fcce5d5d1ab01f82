//! What the output and dead-letter topics take: the relay keeps to it, whatever it is, and when it changes.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::Raw;
use crate::support::{Relay, World, now_us, press, presses, session, world};

const HOUR_MS: i64 = 3_600_000;

/// A press with a header of so many bytes.
fn with_header(number: u128, bytes: usize) -> Raw {
    let header: &str = Box::leak("x".repeat(bytes).into_boxed_str());
    Raw { headers: vec![("note", header)], ..Raw::value(0, press(number)) }
}

fn at(number: u128, ahead_ms: i64) -> Raw {
    Raw { timestamp_ms: Some(now_us() / 1000 + ahead_ms), ..Raw::value(0, press(number)) }
}

fn sessions(world: &World) -> BTreeSet<String> {
    let output = world.output();
    let sessions: BTreeSet<String> =
        output.iter().map(|(_, fields)| fields["session_id"].as_str().unwrap().to_string()).collect();
    assert_eq!(sessions.len(), output.len(), "each once");
    sessions
}

fn rolled_back(relay: &mut Relay) -> f64 {
    relay.metrics().sum("pressline_transactions_aborted_total")
}

#[test]
fn batches_stay_below_what_the_topic_takes_and_what_is_too_large_alone_is_a_dead_letter() {
    let Some(world) = world("small-batches") else { return };
    world.cluster.configure(&world.out, &[("max.message.bytes", "16384")]);
    world.send(&presses(0, 0..3_000));
    world.send(&[with_header(3_000, 16_000), with_header(3_001, 17_000)]);
    let mut relay = world.run(&["source.headers=[\"note\"]"]);
    world.await_relayed(&mut relay);
    assert_eq!(rolled_back(&mut relay), 0.0, "{}", relay.log());
    let sessions = sessions(&world);
    assert_eq!(sessions.len(), 3_001);
    assert!(sessions.contains(&session(3_000)));
    let dead = world.dead_letters();
    assert_eq!(dead.len(), 1);
    assert_eq!(dead[0].header("pressline.reason"), Some("too_large"));
    assert!(dead[0].header("pressline.message").unwrap().contains("raise its max.message.bytes"), "{dead:?}");
    assert_eq!(relay.stop(), 0);
}

/// Between the start and the batch the limits shrink: what the broker refuses then, the relay reads and keeps to.
#[test]
fn limits_that_change_while_it_runs_are_read_again() {
    let Some(world) = world("new-limits") else { return };
    let mut relay = world.run(&["source.headers=[\"note\"]"]);
    world.send(&presses(0, 0..1));
    world.await_relayed(&mut relay);
    world.cluster.configure(&world.out, &[("max.message.bytes", "16384"), ("message.timestamp.after.max.ms", "60000")]);
    world.send(&presses(0, 1..3_000));
    world.send(&[at(3_000, HOUR_MS), with_header(3_001, 20_000)]);
    world.await_relayed(&mut relay);
    assert!(rolled_back(&mut relay) >= 1.0);
    relay.await_ready();
    assert_eq!(sessions(&world).len(), 3_001);
    assert_eq!(world.dead_letters().len(), 1);
    assert_eq!(relay.stop(), 0);
}

#[test]
fn timestamps_that_the_topic_refuses_become_the_time_of_writing() {
    let Some(world) = world("timestamps") else { return };
    let days_9 = (9 * 24 * HOUR_MS).to_string();
    world.cluster.configure(&world.raw, &[("message.timestamp.after.max.ms", &days_9), ("retention.ms", "-1")]);
    let limits = [("message.timestamp.after.max.ms", "3600000"), ("message.timestamp.before.max.ms", "86400000")];
    world.cluster.configure(&world.out, &limits);
    world.cluster.configure(&world.dead, &limits);
    let begun_ms = now_us() / 1000;
    let bad = |record: Raw| Raw { value: Some(b"{".to_vec()), ..record };
    world.send(&[
        at(0, 2 * HOUR_MS),
        at(1, HOUR_MS / 2),
        at(2, -HOUR_MS),
        at(3, -25 * HOUR_MS),
        bad(at(4, 2 * HOUR_MS)),
        // More than a day ahead: no time that can be one, whatever the topic takes.
        at(5, 30 * HOUR_MS),
    ]);
    let mut relay = world.run(&[]);
    world.await_relayed(&mut relay);
    assert_eq!(rolled_back(&mut relay), 0.0, "{}", relay.log());
    assert_eq!(relay.metrics().sum("pressline_record_timestamps_replaced_total"), 4.0);
    let output = world.output();
    assert_eq!(output.len(), 5);
    let is_of_now = |ms: i64| (begun_ms - 60_000..=begun_ms + 300_000).contains(&ms);
    for (record, fields) in &output {
        let written_ms = record.timestamp_ms.unwrap();
        let kept = [session(1), session(2)].contains(&fields["session_id"].as_str().unwrap().to_string());
        assert_eq!(is_of_now(written_ms), !kept, "{fields}: {written_ms}");
    }
    assert!(is_of_now(world.dead_letters()[0].timestamp_ms.unwrap()));
    assert_eq!(relay.stop(), 0);
}

#[test]
fn other_settings_of_the_topics_do_no_harm() {
    let Some(world) = world("odd-topics") else { return };
    // The broker compresses again, to more bytes than the producer sent; and writes its own time.
    let odd = [
        ("compression.type", "uncompressed"),
        ("message.timestamp.type", "LogAppendTime"),
        ("message.timestamp.after.max.ms", "1000"),
        ("cleanup.policy", "compact"),
        ("segment.bytes", "1048576"),
        ("max.message.bytes", "5000000"),
    ];
    world.cluster.configure(&world.out, &odd);
    let producer = ["kafka.producer.batch.size=4000000", "kafka.producer.message.max.bytes=4000000"];
    world.cluster.configure(&world.raw, &[("message.timestamp.after.max.ms", "9223372036854775807")]);
    world.send(&presses(0, 0..20_000));
    world.send(&[at(20_000, 20 * HOUR_MS)]);
    let mut relay = world.run(&[producer[0], producer[1], "batch.max_records=50000"]);
    world.await_relayed(&mut relay);
    assert_eq!(rolled_back(&mut relay), 0.0, "{}", relay.log());
    assert_eq!(sessions(&world).len(), 20_001);
    assert_eq!(relay.stop(), 0);
}

/// A batch that is refused every time waits longer each time, says why, and is not ready meanwhile.
#[test]
fn what_is_refused_again_and_again_is_tried_with_growing_pauses_and_is_not_ready() {
    let Some(world) = world("refused") else { return };
    world.cluster.delete_topic(&world.dead);
    world.send(&presses(0, 0..10));
    world.send(&[Raw::value(0, "{")]);
    let short = ["kafka.producer.message.timeout.ms=1500", "kafka.producer.socket.timeout.ms=1000"];
    let mut relay = world.run(&short);
    relay.await_page(503, "whether the output topic and the topic of dead letters exist");
    let begun = std::time::Instant::now();
    let mut seen = 0;
    while begun.elapsed() < Duration::from_secs(6) {
        let (status, page) = relay.get("/readyz");
        assert_eq!(status, 503, "{page}");
        seen += 1;
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(seen > 20);
    let attempts = rolled_back(&mut relay);
    assert!((1.0..=6.0).contains(&attempts), "{attempts} attempts");
    world.cluster.create_topics(&[(&world.dead, 3)]);
    world.await_relayed(&mut relay);
    relay.await_ready();
    assert_eq!(sessions(&world).len(), 10);
    assert_eq!(relay.stop(), 0);
}
