//! What `replay` and `reconcile` ask, refuse and leave alone.

use std::time::{Duration, Instant};

use crate::cluster::Raw;
use crate::relay::{holds_all, press};
use crate::support::{Stage, narrow_stage};

/// Presses, the last two of which are dead letters of the relay.
fn send(stage: &Stage, count: u128) {
    let bad = |number: u128| press(number).replace("PressButton", "Nonsense");
    let raw = |number: u128| Raw::value(0, if number + 2 < count { press(number) } else { bad(number) });
    stage.world.send(&(0..count).map(raw).collect::<Vec<_>>());
}

fn counts(stage: &Stage, topics: [&str; 2]) -> [usize; 2] {
    topics.map(|topic| stage.world.cluster.read(topic).len())
}

#[test]
fn topics_that_a_replay_lacks_are_made_where_that_is_asked_for() {
    let Some(stage) = narrow_stage("replay_makes_topics") else { return };
    send(&stage, 50);
    let (into, dead) = (format!("{}-2", stage.world.out), format!("{}-2.dead", stage.world.out));
    let arguments = ["--sink", "relay", "--into", &into];
    stage.refused(&arguments, &[&into, "does not exist", "--create-topics"]);
    let asked = [&arguments[..], &["--create-topics"]].concat();
    stage.done(&asked, &["50 records = 48 written + 2 dead letters", "all accounted for"]);
    assert_eq!(counts(&stage, [&into, &dead]), [48, 2]);
    // As many partitions as the pipeline's own topic.
    assert_eq!(stage.world.cluster.ends(&into).len(), 1);
    stage.done(&asked, &["it is finished already"]);
    stage.refused(
        &["--sink", "postgres", "--into", &stage.table("t"), "--create-topics"],
        &["--create-topics is for --sink relay"],
    );
}

#[test]
fn an_end_before_the_beginning_is_refused_and_nothing_is_noted_for_nothing() {
    let Some(stage) = narrow_stage("replay_reversed") else { return };
    send(&stage, 42);
    stage.run_live(40, &[]);
    let into = stage.table("t");
    let replay = |more: &[&'static str]| [&["--sink", "postgres", "--into", &into][..], more].concat();
    for reversed in [["--from", "2026-11-29", "--to", "2026-11-28"], ["--from", "30", "--to", "10"]] {
        let says = format!("--to {} lies before --from {}", reversed[3], reversed[1]);
        let (code, text) = stage.replay(&[&["--sink", "postgres", "--into", &into][..], &reversed].concat());
        assert_eq!(code, 1, "{text}");
        holds_all(&text, &["nothing was replayed or noted"]);
        assert!(text.contains(&says[..12]), "{text}");
    }
    stage.done(
        &replay(&["--from", "30", "--to", "30"]),
        &["there is nothing to replay from 30 to 30, and nothing was noted"],
    );
    // The same name with the right arguments is the first replay of that name.
    stage.done(&replay(&["--from", "10", "--to", "30"]), &["20 records = 20 written", "all accounted for"]);
    assert_eq!(stage.postgres_count("t"), 20);
}

#[test]
fn what_would_come_twice_is_asked_about() {
    let Some(stage) = narrow_stage("replay_asks") else { return };
    send(&stage, 42);
    stage.run_live(40, &[]);
    let topics = || counts(&stage, [&stage.world.out, &stage.world.dead]);
    let arguments = ["--sink", "relay", "--into-same"];
    stage.refused(
        &arguments,
        &["up to 42 records", "what is there already will be there twice", "nothing was changed", "add --yes"],
    );
    assert_eq!(topics(), [40, 2]);
    stage.done(&[&arguments[..], &["--yes"]].concat(), &["42 records = 40 written + 2 dead letters"]);
    assert_eq!(topics(), [80, 4]);
    // ClickHouse's rows tell which records they are: only those that it lacks are written, and nobody is asked.
    stage.done(&["--sink", "clickhouse", "--into-same"], &["all accounted for"]);
    assert_eq!(stage.clickhouse_count(stage.live()), 40);
}

/// PostgreSQL's rows do not tell which records they are, so that sink must rest; ClickHouse's do.
#[test]
fn a_sink_that_cannot_be_compared_keeps_no_other_from_it() {
    let Some(stage) = narrow_stage("reconcile_beside") else { return };
    send(&stage, 42);
    let mut run = stage.world.run(&crate::daemon::SHORT);
    crate::cluster::await_that("40 rows in both tables", || {
        run.still_runs();
        stage.postgres_count("live") == 40 && stage.clickhouse_count(stage.live()) == 40
    });
    let reconcile = |more: &[&str]| {
        let mut command = stage.world.pressline();
        let output = command.args(["reconcile", "--pipeline", &stage.world.name]).args(more).output().unwrap();
        let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
        println!("$ pressline reconcile {}\n{text}", more.join(" "));
        (output.status.code(), text)
    };
    let (code, text) = reconcile(&[]);
    assert_eq!(code, Some(2), "could not compare: {text}");
    holds_all(
        &text,
        &["40 rows", "OK", "error: postgres: ", "cannot be compared while its sink runs", "Stop the sink (group "],
    );
    assert!(!text.contains("position was set"), "{text}");
    assert_eq!(reconcile(&["--sink", "clickhouse"]).0, Some(0));
    assert_eq!(run.stop(), 0);
    let (code, text) = reconcile(&[]);
    assert_eq!(code, Some(0), "{text}");
    stage.sql("DELETE FROM SCHEMA.live WHERE ctid IN (SELECT ctid FROM SCHEMA.live LIMIT 1)");
    let (code, text) = reconcile(&["--sink", "postgres"]);
    assert_eq!(code, Some(1), "it differs: {text}");
    let (code, text) = reconcile(&["--sink", "relay"]);
    assert_eq!(code, Some(2), "{text}");
    holds_all(&text, &["a relay has no table to compare"]);
}

/// No faster than asked for. That it is no slower is not held here: the machine may be busy.
#[test]
fn a_replay_keeps_its_rate() {
    let Some(stage) = narrow_stage("replay_rate") else { return };
    send(&stage, 6_002);
    stage.run_live(6_000, &[]);
    let into = stage.table("t");
    stage.sql("CREATE TABLE SCHEMA.t (LIKE SCHEMA.live INCLUDING ALL)");
    let mut replay = stage.start(&["--sink", "postgres", "--into", &into, "--rate", "2000"]);
    crate::cluster::await_that("the first rows", || stage.postgres_count("t") > 0);
    let (begun, first) = (Instant::now(), stage.postgres_count("t"));
    assert_eq!(replay.exit_code(Duration::from_secs(60)), 0);
    let (took, left) = (begun.elapsed().as_secs_f64(), 6_000 - first);
    println!("{left} rows in {took:.2} s: {:.0}/s", left as f64 / took);
    assert_eq!(stage.postgres_count("t"), 6_000);
    // A batch is a quarter of a second's share, and up to two seconds' are made up for.
    assert!(took > left as f64 / 2_000.0 - 2.5, "{left} rows in {took} s");
}
