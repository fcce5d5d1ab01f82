//! `pressline status` beside a daemon that runs: what a person reads, what a program reads, and the exit codes.

use serde_json::Value;

use crate::cluster::{Raw, await_that};
use crate::relay::{Relay, World, press, presses, world};

/// Exit code, standard output and standard error.
fn status(world: &World, arguments: &[&str]) -> (i32, String, String) {
    let output = world.pressline().arg("status").args(arguments).output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code().unwrap(), out, err)
}

pub fn url(daemon: &mut Relay) -> String {
    daemon.await_log("metrics on http://");
    let log = daemon.log();
    format!("http://{}", log.split("metrics on http://").nth(1).unwrap().split('/').next().unwrap())
}

pub fn report(world: &World, url: &str) -> Value {
    let (_, out, err) = status(world, &["--url", url, "--json"]);
    let json: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    json["daemons"][0]["status"].clone()
}

/// A sink whose server does not answer.
fn with_dead_sink(world: &World) {
    let file = world.write("sink.password", "secret\n");
    let sink = format!(
        "[sink.postgres]\nhost = \"127.0.0.1\"\nport = 1\ndatabase = \"d\"\nuser = \"u\"\npassword_file = \"{}\"\ntable = \"presses\"\n",
        file.display()
    );
    world.write(&format!("pipelines/{}.toml", world.name), &format!("{}{sink}", world.pipeline()));
}

#[test]
fn a_running_daemon_tells_positions_lag_rates_and_dead_letters() {
    let Some(world) = world("status") else { return };
    let mut daemon = world.run(&["workers=2", "kafka.consumer.statistics.interval.ms=200"]);
    daemon.await_ready();
    let url = url(&mut daemon);
    let mut records: Vec<Raw> = (0..3).flat_map(|partition| presses(partition, 0..40)).collect();
    // An address in a record that is a dead letter, too: it must be in no answer.
    records.push(Raw::value(0, press(7).replace("8.8.8.8", "203.0.113.77.9")));
    world.send(&records);
    world.await_relayed(&mut daemon);
    let mut found = Value::Null;
    await_that("all of it in the report", || {
        daemon.still_runs();
        found = report(&world, &url);
        let pipeline = &found["pipelines"][0];
        pipeline["records"]["written"] == 120
            && pipeline["lag_records"] == 0
            && pipeline["records"]["per_second_minute"] != 0.0
    });
    assert_eq!((&found["form"], &found["ready"]), (&1.into(), &true.into()), "{found}");
    let pipeline = &found["pipelines"][0];
    assert_eq!(pipeline["name"], world.name.as_str());
    assert_eq!(
        (&pipeline["kind"], &pipeline["from"], &pipeline["to"]),
        (&"relay".into(), &world.raw.as_str().into(), &world.out.as_str().into())
    );
    assert_eq!(pipeline["records"]["dead"]["bad_ip"], 1, "{pipeline}");
    assert_eq!(pipeline["workers"].as_array().map(Vec::len), Some(2));
    // The positions are those that the group has.
    let positions = pipeline["partitions"].as_array().unwrap().iter();
    let positions = positions.map(|one| (one["partition"].as_i64().unwrap() as i32, one["position"].as_i64().unwrap()));
    assert_eq!(positions.collect::<std::collections::BTreeMap<_, _>>(), world.committed());
    let owned: usize =
        pipeline["workers"].as_array().unwrap().iter().map(|one| one["partitions"].as_array().unwrap().len()).sum();
    assert_eq!(owned, 3);
    assert_eq!(pipeline["place_databases"][0]["file"], "demo.mmdb");
    assert!(found["memory"]["resident_bytes"].as_u64().unwrap() > 1 << 20);

    let (code, page, _) = status(&world, &["--url", &url, "--partitions"]);
    assert_eq!(code, 0, "{page}");
    for text in [
        "PIPELINE",
        "since the start: 120 written, 0 filtered, 1 dead letter (bad_ip 1)",
        "GeoIP database demo.mmdb (",
        "PARTITION",
        ", ready",
    ] {
        assert!(page.contains(text), "{text} in\n{page}");
    }
    assert!(page.lines().all(|line| line.chars().count() <= 80), "wider than 80 columns:\n{page}");
    assert!(!page.contains("203.0.113") && !found.to_string().contains("203.0.113"), "an address in\n{page}{found}");
    assert_eq!(daemon.stop(), 0);
}

#[test]
fn a_sink_that_cannot_write_shows_what_when_how_often_and_the_runbook() {
    let Some(world) = world("status-error") else { return };
    with_dead_sink(&world);
    let mut daemon = world.run(&[]);
    let url = url(&mut daemon);
    let mut error = Value::Null;
    await_that("two failures", || {
        daemon.still_runs();
        let found = report(&world, &url);
        error = found["pipelines"][1]["last_error"].clone();
        error["times"].as_u64() >= Some(2)
    });
    assert_eq!(error["over"], false, "{error}");
    let runbook = error["runbook"].as_str().unwrap();
    assert!(include_str!("../../docs/runbooks.md").contains(&format!("## {runbook}\n")), "{runbook}");
    let (code, page, _) = status(&world, &["--url", &url]);
    assert_eq!(code, 1, "{page}");
    for text in
        ["NOT READY", "WAITS", "waits: worker 0: ", "last error ", " times since ", "see docs/runbooks.md#pressline"]
    {
        assert!(page.contains(text), "{text} in\n{page}");
    }
    // The relay beside it is well.
    let (_, page, _) = status(&world, &["--url", &url, "--pipeline", "no such pipeline"]);
    assert!(!page.contains("PIPELINE"), "{page}");
}

#[test]
fn nobody_who_answers_is_said_and_has_a_code_of_its_own() {
    let Some(world) = world("status-none") else { return };
    // Nobody listens on port 1.
    let (code, out, _) = status(&world, &["--url", "http://127.0.0.1:1"]);
    assert_eq!(code, 2, "{out}");
    assert!(out.contains("http://127.0.0.1:1: no pressline answers: ") && out.contains("Connection refused"), "{out}");
    // The configuration of the tests has port 0.
    let (code, _, err) = status(&world, &[]);
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("http.listen: port 0") && err.contains("--url"), "{err}");
    let (code, out, _) = status(&world, &["--set", "http.listen=127.0.0.1:1", "--json"]);
    assert_eq!(code, 2, "{out}");
    let json: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(json["daemons"][0]["status"], Value::Null);
    assert!(json["daemons"][0]["error"].as_str().unwrap().contains("no pressline answers"), "{json}");
    // A password in an address is not repeated.
    let (code, out, err) = status(&world, &["--url", "http://u:hunter2@127.0.0.1:1"]);
    assert!(code == 1 && !format!("{out}{err}").contains("hunter2"), "{out}{err}");
}
