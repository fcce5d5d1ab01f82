//! `pressline dlq replay`, killed at every place where a letter and its mark could come apart, and run twice at the same time: each
//! record is there once. That the tests would see it, mutants show.

use std::path::PathBuf;
use std::process::Command;

use crate::cluster::await_that;
use crate::dead_letters::{ACTIONS, rows, with_letters, written};
use crate::relay::{holds_all, project};
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
    assert_eq!(output.status.code(), None, "it was not killed at {fail_point}: {text}");
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
    killed(&stage, &by_relay(), "during_end_txn", "");
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

/// Both have read the marks, and wait for the table.
#[test]
fn two_at_once_write_each_row_once() {
    let Some(stage) = narrow_stage("dlq_two") else { return };
    with_letters(&stage);
    stage.sql("ALTER TABLE SCHEMA.live DROP CONSTRAINT no; BEGIN; LOCK TABLE SCHEMA.live IN EXCLUSIVE MODE");
    let replays: Vec<_> = (0..2)
        .map(|_| {
            let mut command = stage.dlq_command(&INTO_POSTGRES);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    await_that("both to wait for the table", || {
        stage.sql("SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'SCHEMA.live'::regclass") == "2"
    });
    stage.sql("COMMIT");
    let mut replayed = 0;
    for replay in replays {
        let output = replay.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        println!("{text}");
        holds_all(&text, &["3 letters = "]);
        let count = text.split("3 letters = ").nth(1).unwrap().split(' ').next().unwrap();
        replayed += count.parse::<u32>().unwrap();
    }
    assert_eq!((replayed, rows(&stage)), (3, (50, 50)));
}
