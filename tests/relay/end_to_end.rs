//! 200,000 generated presses through the relay, every one compared by a checker that shares no code with pressline.

use std::process::Command;

use serde_json::Value;

use crate::support::{World, holds_all, project, service, world};

const COUNT: u32 = 200_000;

#[test]
fn every_generated_press_comes_out_as_an_independent_client_works_it_out() {
    let Some(world) = world("end-to-end") else { return };
    let mut relay = world.run(&["workers=2"]);
    relay.await_ready();
    let made = world
        .generate(&[
            "--count",
            &COUNT.to_string(),
            "--malformed",
            "3%",
            "--private",
            "5%",
            "--unknown",
            "5%",
            "--cohorts",
            "1,2",
        ])
        .wait_with_output()
        .unwrap();
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
    for outcome in ["found", "private"] {
        let lookups = metrics.with("pressline_place_lookups_total", outcome);
        assert!(lookups > 1_000.0, "{lookups} lookups with outcome {outcome}");
    }
    assert_eq!(relay.stop(), 0);
    let log = relay.log();
    holds_all(&log, &["relaying, each event exactly once", "schema is registered"]);
    assert!(!log.contains(" ERROR "), "{log}");

    let checked = verify(&world);
    println!("{checked}");
    holds_all(&checked, &["200,000  raw records", "200,000  output records + dead letters, of 200,000 raw records"]);
}

/// Runs the checker; what it printed.
fn verify(world: &World) -> String {
    let done = Command::new(service("PRESSLINE_TEST_PYTHON"))
        .arg(project("tests/python/verify_relay.py"))
        .args(["--bootstrap", world.cluster.bootstrap(), "--registry", &world.registry])
        .args(["--raw-topic", &world.raw, "--output-topic", &world.out, "--dead-topic", &world.dead])
        .args(["--expect-sent", &COUNT.to_string(), "--max-record-bytes", "65536", "--mmdb"])
        .arg(project("data/demo.mmdb"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(done.status.success(), "{said}\n{}", String::from_utf8_lossy(&done.stderr));
    said
}
