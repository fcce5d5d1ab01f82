//! `pressline dlq replay`, killed at every place where a letter and its mark could come apart, and run twice at the same time: each
//! record is there once. That the tests would see it, mutants show.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseProducer, Producer};

use crate::cluster::{PATIENCE, Raw, await_that, send_one};
use crate::daemon::SHORT;
use crate::dead_letters::{ACTIONS, clickhouse_rows, rows, with_clickhouse_letters, with_letters, written};
use crate::relay::{Relay, holds_all, press, project, session};
use crate::support::{Stage, narrow_stage};

/// The program with fail points and mutants; `None`, said aloud, where it was not made.
fn breakable() -> Option<PathBuf> {
    let path = project("target/faults/pressline");
    if !path.exists() {
        println!("skipped: there is no target/faults/pressline; make build-faults makes it");
    }
    path.exists().then_some(path)
}

/// Runs `pressline dlq` with this fail point, at which it must be killed, and mutant.
fn killed(stage: &Stage, arguments: &[&str], fail_point: &str, mutant: &str) {
    let (code, text) = run(stage, arguments, fail_point, mutant);
    assert_eq!(code, None, "it was not killed at {fail_point}: {text}");
}

/// The same, wherever it ends; no exit code: it was killed.
fn run(stage: &Stage, arguments: &[&str], fail_point: &str, mutant: &str) -> (Option<i32>, String) {
    let plain = stage.dlq_command(arguments);
    let mut command = Command::new(breakable().unwrap());
    command.args(plain.get_args()).current_dir(plain.get_current_dir().unwrap());
    command.env("PRESSLINE_FAIL_POINT", fail_point).env("PRESSLINE_MUTANT", mutant);
    let output = command.output().unwrap();
    let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
    println!(
        "$ PRESSLINE_FAIL_POINT={fail_point} PRESSLINE_MUTANT={mutant} pressline dlq {}\n{text}",
        arguments.join(" ")
    );
    (output.status.code(), text)
}

const INTO_POSTGRES: [&str; 3] = ["replay", "--sink", "postgres"];

fn by_relay() -> Vec<&'static str> {
    [&["replay", "--sink", "relay"][..], &ACTIONS].concat()
}

#[test]
fn a_kill_between_a_row_and_its_mark_writes_no_row_twice() {
    if breakable().is_none() {
        return;
    }
    let Some(stage) = narrow_stage("dlq_kill_pg") else { return };
    with_letters(&stage);
    stage.sql("ALTER TABLE SCHEMA.live DROP CONSTRAINT no");
    for (fail_point, there) in
        [("pg_before_letter", 47), ("pg_after_letter", 48), ("pg_after_letter", 49), ("pg_before_letter:1", 49)]
    {
        killed(&stage, &INTO_POSTGRES, fail_point, "");
        assert_eq!(rows(&stage), (there, there), "{fail_point}");
    }
    // Marked in the database, which the topic was not told.
    stage.dlq_done(&INTO_POSTGRES, &["1 open letter of", "3 letters = 1 replayed + 2 replayed before"]);
    assert_eq!(rows(&stage), (50, 50));
    stage.dlq_done(&["ls", "--sink", "postgres"], &["3 letters: 0 open, 3 replayed or discarded"]);
}

#[test]
fn a_row_whose_mark_is_apart_is_seen_twice() {
    if breakable().is_none() {
        return;
    }
    let Some(stage) = narrow_stage("dlq_mutant_pg") else { return };
    with_letters(&stage);
    stage.sql("ALTER TABLE SCHEMA.live DROP CONSTRAINT no");
    killed(&stage, &INTO_POSTGRES, "pg_after_letter", "letter_mark_apart");
    stage.dlq_done(&INTO_POSTGRES, &["3 letters = 3 replayed"]);
    assert_eq!(rows(&stage), (51, 50), "the mutant was not caught");
}

#[test]
fn a_kill_between_an_event_and_its_mark_writes_no_event_twice() {
    if breakable().is_none() {
        return;
    }
    let Some(stage) = narrow_stage("dlq_kill_relay") else { return };
    with_letters(&stage);
    for (fail_point, there) in [("letters_between", 50), ("before_commit", 50), ("after_commit", 52)] {
        killed(&stage, &by_relay(), fail_point, "");
        // What a killed process left open is ended by the next one.
        if fail_point == "after_commit" {
            assert_eq!(written(&stage), (there, there), "{fail_point}");
        }
    }
    stage.dlq_done(&by_relay(), &["2 letters = 0 replayed + 2 replayed before"]);
    assert_eq!(written(&stage), (52, 52));
}

#[test]
fn a_kill_in_the_commit_of_an_event_writes_it_once() {
    if breakable().is_none() {
        return;
    }
    let Some(stage) = narrow_stage("dlq_kill_commit") else { return };
    with_letters(&stage);
    // It may be through before it is killed.
    run(&stage, &by_relay(), "during_end_txn", "");
    stage.dlq_done(&by_relay(), &["2 letters = "]);
    assert_eq!(written(&stage), (52, 52));
}

#[test]
fn an_event_whose_mark_is_apart_is_seen_twice() {
    if breakable().is_none() {
        return;
    }
    let Some(stage) = narrow_stage("dlq_mutant_relay") else { return };
    with_letters(&stage);
    killed(&stage, &by_relay(), "letters_between", "letter_mark_apart");
    stage.dlq_done(&by_relay(), &["2 letters = 2 replayed"]);
    assert_eq!(written(&stage), (54, 52), "the mutant was not caught");
}

const INTO_CLICKHOUSE: [&str; 3] = ["replay", "--sink", "clickhouse"];

#[test]
fn a_kill_around_an_insert_writes_no_row_twice() {
    if breakable().is_none() {
        return;
    }
    let Some(stage) = narrow_stage("dlq_kill_ch") else { return };
    with_clickhouse_letters(&stage);
    stage.alter_clickhouse("DROP CONSTRAINT no");
    for (fail_point, there) in [("ch_before_letter", 47), ("ch_after_insert", 48), ("ch_after_insert", 49)] {
        killed(&stage, &INTO_CLICKHOUSE, fail_point, "");
        assert_eq!(clickhouse_rows(&stage), (there, there), "{fail_point}");
    }
    stage.dlq_done(&INTO_CLICKHOUSE, &["3 letters = 1 replayed + 2 replayed before"]);
    assert_eq!(clickhouse_rows(&stage), (50, 50));
}

#[test]
fn a_row_for_which_clickhouse_is_not_asked_is_seen_twice() {
    if breakable().is_none() {
        return;
    }
    let Some(stage) = narrow_stage("dlq_mutant_ch") else { return };
    with_clickhouse_letters(&stage);
    stage.alter_clickhouse("DROP CONSTRAINT no");
    killed(&stage, &INTO_CLICKHOUSE, "ch_after_insert:2", "recovery_without_reading");
    assert_eq!(clickhouse_rows(&stage), (49, 48), "the mutant was not caught");
}

/// A letter is acknowledged before the position moves. The sink that is killed in between reads the record again, and the table may
/// take it by then.
#[test]
fn a_row_that_the_sink_writes_after_all_is_there_once() {
    if breakable().is_none() {
        return;
    }
    let Some(stage) = narrow_stage("dlq_after_all") else { return };
    with_letters(&stage);
    stage.sql("ALTER TABLE SCHEMA.live DROP CONSTRAINT no");
    let id = session(60);
    stage.sql(&format!("ALTER TABLE SCHEMA.live ADD CONSTRAINT other CHECK (session_id::text <> '{id}')"));
    stage.world.send(&[Raw::value(0, press(60))]);
    let plain = stage.world.pressline();
    let mut command = Command::new(breakable().unwrap());
    command.arg("run").current_dir(plain.get_current_dir().unwrap()).env("PRESSLINE_FAIL_POINT", "pg_before_commit");
    command.args(SHORT.iter().flat_map(|set| ["--set", set]));
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), None, "it was not killed: {}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stage.dlq_json(&["ls", "--each", "--sink", "postgres"]).len(), 4);
    stage.sql("ALTER TABLE SCHEMA.live DROP CONSTRAINT other");
    let mut run = stage.world.run(&SHORT);
    await_that("the row, and ClickHouse's", || {
        run.still_runs();
        stage.postgres_count("live") == 48 && stage.clickhouse_count(stage.live()) == 51
    });
    assert_eq!(run.stop(), 0);
    stage.dlq_done(
        &INTO_POSTGRES,
        &["3 open letters of", "4 letters = 3 replayed + 1 written by the sink itself after all"],
    );
    assert_eq!(rows(&stage), (51, 51));
    stage.dlq_done(&["ls", "--sink", "postgres"], &["4 letters: 0 open, 4 replayed or discarded"]);
}

/// Two replays into PostgreSQL that have both read the marks and wait for the table; how many letters each says it has replayed.
fn two_at_once(stage: &Stage, command: impl Fn() -> Command) -> [usize; 2] {
    stage.sql("ALTER TABLE SCHEMA.live DROP CONSTRAINT no; BEGIN; LOCK TABLE SCHEMA.live IN EXCLUSIVE MODE");
    let replays = [0, 1].map(|_| command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    await_that("both to wait for the table", || {
        stage.sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'SCHEMA.live'::regclass") == "2"
    });
    stage.sql("COMMIT");
    replays.map(|replay| {
        let text = String::from_utf8(replay.wait_with_output().unwrap().stdout).unwrap();
        println!("{text}");
        let count = text.split("3 letters = ").nth(1).expect("a summary");
        count.split(' ').next().unwrap().parse().unwrap()
    })
}

#[test]
fn two_at_once_write_each_row_once() {
    let Some(stage) = narrow_stage("dlq_two") else { return };
    with_letters(&stage);
    let replayed = two_at_once(&stage, || stage.dlq_command(&INTO_POSTGRES));
    assert_eq!((replayed[0] + replayed[1], rows(&stage)), (3, (50, 50)));
}

#[test]
fn two_at_once_that_do_not_look_at_the_mark_are_seen_twice() {
    let Some(program) = breakable() else { return };
    let Some(stage) = narrow_stage("dlq_two_mutants") else { return };
    with_letters(&stage);
    two_at_once(&stage, || {
        let plain = stage.dlq_command(&INTO_POSTGRES);
        let mut command = Command::new(&program);
        command.args(plain.get_args()).current_dir(plain.get_current_dir().unwrap());
        command.env("PRESSLINE_MUTANT", "letter_mark_ignored");
        command
    });
    assert_ne!(rows(&stage), (50, 50), "the mutant was not caught");
}

/// Both have taken over, one after the other, and wait for a transaction of somebody else to end before they read the marks.
#[test]
fn of_two_relays_at_once_the_later_goes_on() {
    let Some(stage) = narrow_stage("dlq_fenced") else { return };
    with_letters(&stage);
    let (cluster, dead) = (&stage.world.cluster, &stage.world.dead);
    let stranger: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", cluster.bootstrap())
        .set("transactional.id", format!("{dead}.stranger"))
        .create()
        .unwrap();
    stranger.init_transactions(PATIENCE).unwrap();
    stranger.begin_transaction().unwrap();
    send_one(&stranger, dead, &Raw::value(0, "not a letter"));
    stranger.flush(PATIENCE).unwrap();
    let mut replays = [0, 1].map(|_| {
        let mut replay = Relay::spawn(stage.dlq_command(&by_relay()));
        replay.await_log("no other process replays letters of the relay any more");
        replay
    });
    assert_eq!(written(&stage), (50, 50));
    stranger.commit_transaction(PATIENCE).unwrap();
    let codes = replays.each_mut().map(|replay| replay.exit_code(PATIENCE));
    assert_eq!(codes, [1, 0], "{}", replays[1].log());
    holds_all(&replays[0].log(), &["error: another pressline dlq replay of this pipeline has begun"]);
    assert_eq!(written(&stage), (52, 52));
}
