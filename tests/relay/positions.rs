//! Where a relay begins, when it refuses to begin, and pipelines beside a broken one.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::await_that;
use crate::support::{Relay, World, holds_all, presses, world};

const PATIENCE: Duration = Duration::from_secs(60);

/// Relays what is there and stops.
fn relay_all(world: &World, sets: &[&str]) {
    let mut relay = world.run(sets);
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);
}

#[track_caller]
fn refused(mut relay: Relay, parts: &[&str]) {
    assert_eq!(relay.exit_code(PATIENCE), 1);
    holds_all(&relay.log(), &["ERROR stopped: "]);
    holds_all(&relay.log(), parts);
}

fn numbers(world: &World) -> Vec<u128> {
    let ids = world.output().into_iter().map(|(_, f)| f["session_id"].as_str().unwrap().parse::<uuid::Uuid>().unwrap());
    let mut numbers: Vec<u128> = ids.map(|id| id.as_u128()).collect();
    numbers.sort_unstable();
    numbers
}

fn range(numbers: std::ops::Range<u128>) -> Vec<u128> {
    numbers.collect()
}

#[test]
fn lost_group_offsets_are_refused_until_somebody_decides() {
    let Some(world) = world("offsets-gone") else { return };
    world.send(&presses(0, 0..100));
    relay_all(&world, &[]);
    world.cluster.delete_group(&world.group());
    refused(
        world.run(&[]),
        &[
            &format!(
                "topic {}: the consumer group has no committed offsets, but output topic {} is not empty",
                world.raw, world.out
            ),
            "beginning now could write events twice",
            "source.start = \"beginning\" or \"end\" says the same in the configuration",
        ],
    );
    assert_eq!(numbers(&world), range(0..100), "nothing was written");

    let mut relay = world.run(&["source.start=end"]);
    relay.await_log("partitions assigned");
    world.send(&presses(1, 100..150));
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);
    assert_eq!(numbers(&world), range(0..150), "only what came since");

    world.cluster.delete_group(&world.group());
    relay_all(&world, &["source.start=beginning"]);
    let found = numbers(&world);
    assert_eq!(found.len(), 300, "everything again, as asked");
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>().len(), 150);
}

#[test]
fn start_at_the_end_holds_over_a_restart_before_the_first_event() {
    let Some(world) = world("start-end") else { return };
    world.send(&presses(0, 0..10));
    let mut relay = world.run(&["source.start=end"]);
    relay.await_log("partitions assigned");
    assert_eq!(relay.stop(), 0);
    // Offsets were committed at the first start, so what came in between is not taken for old.
    world.send(&presses(0, 10..20));
    relay_all(&world, &["source.start=end"]);
    assert_eq!(numbers(&world), range(10..20));
}

#[test]
fn an_added_partition_is_relayed_from_its_beginning() {
    let Some(world) = world("added") else { return };
    world.send(&presses(0, 0..10));
    let mut relay = world.run(&["source.start=end", "kafka.consumer.topic.metadata.refresh.interval.ms=2000"]);
    relay.await_log("partitions assigned");
    world.send(&presses(1, 10..20));
    world.await_relayed(&mut relay);
    world.cluster.add_partitions(&world.raw, 5);
    // At once, so that they are there before the consumer hears of the partition.
    world.send(&presses(4, 20..30));
    world.await_relayed(&mut relay);
    assert_eq!(numbers(&world), range(10..30));
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_topic_made_again_is_refused_however_long_it_is() {
    let Some(world) = world("made-again") else { return };
    world.send(&presses(0, 0..20));
    relay_all(&world, &[]);
    for count in [5_u128, 50] {
        world.cluster.delete_topic(&world.raw);
        world.cluster.create_topics(&[(&world.raw, 3)]);
        world.send(&presses(0, 1_000..1_000 + count));
        // Kafka deletes a group's offsets together with the topic, in its own time.
        await_that("the end of the old offsets", || world.committed().is_empty());
        refused(
            world.run(&[]),
            &[
                &format!("topic {}: the consumer group has no committed offsets, but output topic", world.raw),
                "Kafka deletes them together with a topic, so it may also have been made again",
            ],
        );
        // Where they outlive it, the id that was noted with them tells.
        world.cluster.commit(
            &world.group(),
            &world.raw,
            0,
            20,
            "pressline/1 topic_id=AAAAAAAAAAAAAAAAAAAAAA partitions=3",
        );
        refused(
            world.run(&[]),
            &[
                &format!(
                    "topic {} was deleted and made again: the position of partition 0 belongs to topic id AAAAAAA",
                    world.raw
                ),
                "Its records are others, so the old positions mean nothing",
                &format!("`pressline offsets set --pipeline {} --sink relay --to beginning`", world.name),
            ],
        );
        assert_eq!(numbers(&world), range(0..20), "nothing of the new topic with {count} records was relayed");
    }
}

#[test]
fn a_topic_made_again_while_running_is_refused() {
    let Some(world) = world("remade-live") else { return };
    world.send(&presses(0, 0..20));
    let mut relay = world.run(&[]);
    world.await_relayed(&mut relay);
    world.cluster.delete_topic(&world.raw);
    world.cluster.create_topics(&[(&world.raw, 3)]);
    world.send(&presses(0, 1_000..1_050));
    assert_eq!(relay.exit_code(PATIENCE), 1);
    holds_all(&relay.log(), &[&format!("topic {} was deleted and made again", world.raw)]);
    assert_eq!(numbers(&world), range(0..20));
}

#[test]
fn records_that_retention_took_are_an_alarm() {
    let Some(world) = world("retention") else { return };
    world.send(&presses(2, 0..10));
    relay_all(&world, &[]);
    world.send(&presses(2, 10..40));
    world.cluster.delete_records(&world.raw, 2, 25);
    refused(
        world.run(&[]),
        &[
            &format!(
                "topic {}, partition 2: offsets 10 to 24 were deleted by retention before they were relayed",
                world.raw
            ),
            &format!(
                "To go on without them: `pressline offsets set --pipeline {} --sink relay --partition 2 --to 25`",
                world.name
            ),
        ],
    );
    assert_eq!(numbers(&world), range(0..10));
}

#[test]
fn one_broken_pipeline_does_not_stop_another() {
    let Some(world) = world("beside") else { return };
    world.write("pipelines/a-broken.toml", &format!("wrokers = 3\n{}", world.pipeline()));
    // Refused at run time, not by its file: the registry's address leads elsewhere.
    let elsewhere = format!("[registry]\nurl = \"{}/nowhere\"\n", world.registry);
    world.write("pipelines/b-refused.toml", &format!("instance = \"b\"\n{}{elsewhere}", world.pipeline()));
    world.send(&presses(0, 0..10));
    let mut relay = world.run(&[]);
    relay.await_log("it refused the request (404");
    world.await_relayed(&mut relay);
    relay.await_page(503, "a-broken.toml: not started, 1 finding; run `pressline check`");
    let shown = "pressline_pipeline_ready{pipeline=\"a-broken\"} 0";
    assert!(relay.get("/metrics").1.contains(shown), "an alert can see it");
    relay.await_page(503, "b-refused: start: schema registry");
    let (_, page) = relay.get("/readyz");
    assert!(!page.contains(&format!("{}: ", world.name)), "the sound one waits for nothing: {page}");
    world.send(&presses(1, 10..20));
    world.await_relayed(&mut relay);
    assert_eq!(numbers(&world), range(0..20));
    relay.signal("TERM");
    assert_eq!(relay.exit_code(Duration::from_secs(10)), 1, "the exit code tells of the broken ones");
    holds_all(&relay.log(), &["pipelines/a-broken.toml:1", "wrokers", "unknown key", "this pipeline is not started"]);
}

#[test]
fn unknown_keys_and_protected_properties_are_refused_with_file_line_and_reason() {
    let Some(world) = world("keys") else { return };
    let file = format!("pipelines/{}.toml", world.name);
    let refused = |text: &str, parts: &[&str]| {
        world.write(&file, text);
        let mut relay = world.run(&[]);
        assert_eq!(relay.exit_code(PATIENCE), 1);
        holds_all(&relay.log(), parts);
    };
    let text = world.pipeline().replace("[output]\n", "[output]\ntopci = \"typo\"\n");
    let line = text.lines().position(|line| line.starts_with("topci")).unwrap() + 1;
    refused(&text, &[&format!("{file}:{line}"), "output.topci", "unknown key", "Expected one of `topic`"]);
    assert!(!world.run(&[]).log().contains("typo"), "values are not repeated");

    let text = format!("{}\n[kafka.consumer]\nisolation.level = \"read_uncommitted\"\n", world.pipeline());
    let line = text.lines().count();
    refused(
        &text,
        &[
            &format!("{file}:{line}"),
            "kafka.consumer.isolation.level",
            "may not be set: aborted events must not be read; pressline sets read_committed",
        ],
    );
    let text = format!("{}\n[kafka.producer]\n\"enable.idempotence\" = false\n", world.pipeline());
    refused(&text, &["kafka.producer.enable.idempotence", "may not be set: the exactly-once guarantee rests on"]);
}

#[test]
fn an_offset_with_a_note_of_a_newer_version_is_refused() {
    let Some(world) = world("newer-note") else { return };
    world.send(&presses(0, 0..10));
    world.cluster.commit(&world.group(), &world.raw, 0, 3, "pressline/3 topic_id=x more=y");
    refused(
        world.run(&[]),
        &[
            &format!("topic {}, partition 0: the group's offset was committed by a newer pressline", world.raw),
            "a note of version 3; this one reads version 2. Start the newer one",
        ],
    );
    assert!(world.output().is_empty());
    // Words that a note of our version has in addition are no reason to refuse.
    world.cluster.commit(&world.group(), &world.raw, 0, 3, "pressline/1 unheard_of=7");
    relay_all(&world, &[]);
    assert_eq!(numbers(&world), range(3..10));
}
