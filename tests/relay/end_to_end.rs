//! 200,000 generated presses through the relay, every one compared by a checker that shares no code with pressline.

use std::process::Command;

use serde_json::Value;

use crate::cluster::{Raw, Record};
use crate::support::{World, holds_all, press, project, service, world};

const COUNT: u32 = 200_000;

#[test]
fn every_generated_press_comes_out_as_an_independent_client_works_it_out() {
    let Some(world) = world("end-to-end") else { return };
    let mut relay = world.run(&["workers=2"]);
    relay.await_ready();
    let mmdb = project("data/demo.mmdb");
    let shares = ["--malformed", "3%", "--private", "5%", "--unknown", "5%", "--cohorts", "1,2"];
    let count = ["--count", &COUNT.to_string(), "--mmdb", mmdb.to_str().unwrap()];
    let made = world.generate(&[&count[..], &shares].concat()).wait_with_output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let summary: Value = serde_json::from_slice(&made.stdout).unwrap();
    println!("{summary}");
    world.await_relayed(&mut relay);

    let metrics = relay.metrics();
    let count = |name: &str| metrics.sum(name);
    let dead = count("pressline_records_dead_total");
    assert_eq!(count("pressline_records_in_total"), f64::from(COUNT));
    assert_eq!(
        count("pressline_records_written_total") + count("pressline_records_filtered_total") + dead,
        f64::from(COUNT),
        "every record has exactly one outcome"
    );
    assert!(dead > 5_000.0 && dead < 7_000.0, "{dead} dead letters of 3 % malformed");
    let lookups = |outcome: &str| metrics.with("pressline_place_lookups_total", &format!("outcome=\"{outcome}\""));
    let found = lookups("hit") + lookups("miss");
    assert!(found > 0.8 * f64::from(COUNT), "{found} addresses with a place");
    for outcome in ["private", "not_found"] {
        assert!(lookups(outcome) > 0.02 * f64::from(COUNT), "{} lookups with outcome {outcome}", lookups(outcome));
    }
    // Each doubt about a producer costs a new one: without a cause there is none.
    let (renewed, committed) = (count("pressline_recoveries_total"), count("pressline_transactions_committed_total"));
    assert!(renewed < committed / 10.0, "{renewed} new producers in {committed} transactions");
    assert_eq!(relay.stop(), 0);
    let log = relay.log();
    holds_all(&log, &["relaying, each event exactly once", "schema is registered"]);
    assert!(!log.contains(" ERROR "), "{log}");

    let (agrees, checked) = verify(&world, COUNT);
    println!("{checked}");
    assert!(agrees, "{checked}");
    holds_all(&checked, &["200,000  raw records", "200,000  output records + dead letters, of 200,000 raw records"]);
}

#[test]
fn the_checker_finds_what_is_doubled_lost_or_changed() {
    let Some(world) = world("checker") else { return };
    let made = world.generate(&["--count", "3000", "--malformed", "2%"]).wait_with_output().unwrap();
    assert!(made.status.success());
    let mut relay = world.run(&[]);
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);
    let (agrees, checked) = verify(&world, 3_000);
    assert!(agrees, "{checked}");

    let output = world.cluster.read(&world.out);
    let copy = |record: &Record, value: Vec<u8>| Raw {
        partition: Some(record.partition),
        key: Some(String::from_utf8(record.key.clone()).unwrap()),
        value: Some(value),
        timestamp_ms: record.timestamp_ms,
        ..Raw::default()
    };
    let found = |cluster_topic: &str, raw: Raw, parts: &[&str]| {
        world.cluster.send(cluster_topic, &[raw]);
        let (agrees, checked) = verify(&world, 3_000);
        assert!(!agrees, "{checked}");
        holds_all(&checked, parts);
    };
    let value = output[7].value.clone().unwrap();
    found(&world.out, copy(&output[7], value), &["DIFFERENT", "0 records lost, 1 too many"]);
    let (agrees, checked) = verify(&world, 3_001);
    assert!(!agrees, "{checked}");
    holds_all(&checked, &["3000 records where 3001 were sent"]);
    // A press that was never relayed.
    found(&world.raw, Raw::value(0, press(4711)), &["1 records lost, 0 too many"]);
    // A dead letter without its record.
    let letter = Raw { partition: Some(0), key: Some("x".into()), ..Raw::default() };
    found(&world.dead, letter, &["the headers pressline.partition and pressline.offset are not both numbers"]);
}

/// Runs the checker: whether all agrees, and what it printed.
fn verify(world: &World, sent: u32) -> (bool, String) {
    let done = Command::new(service("PRESSLINE_TEST_PYTHON"))
        .current_dir(project(""))
        .args(["-m", "tests.harness.verify_relay"])
        .args(["--bootstrap", world.cluster.bootstrap(), "--registry", &world.registry])
        .args(["--raw-topic", &world.raw, "--output-topic", &world.out, "--dead-topic", &world.dead])
        .args(["--expect-sent", &sent.to_string(), "--max-record-bytes", "65536", "--mmdb"])
        .arg(project("data/demo.mmdb"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    (done.status.success(), said)
}
