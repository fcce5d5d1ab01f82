//! `pressline dlq`: what it shows of dead letters, and that what it replays is there once.

use serde_json::Value;

use crate::cluster::Raw;
use crate::relay::{holds_all, press, session};
use crate::support::{Stage, narrow_stage};

impl Stage {
    fn dlq_command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.world.pressline();
        command.arg("dlq").args(&arguments[..1]).args(["--pipeline", &self.world.name]).args(&arguments[1..]);
        command
    }

    /// Exit code and all that it said.
    fn dlq(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.dlq_command(arguments).output().unwrap();
        let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
        println!("$ pressline dlq {}\n{text}", arguments.join(" "));
        (output.status.code().unwrap(), text)
    }

    #[track_caller]
    fn dlq_done(&self, arguments: &[&str], parts: &[&str]) -> String {
        let (code, text) = self.dlq(arguments);
        assert_eq!(code, 0, "{text}");
        holds_all(&text, parts);
        text
    }

    #[track_caller]
    fn dlq_refused(&self, arguments: &[&str], parts: &[&str]) {
        let (code, text) = self.dlq(arguments);
        assert_eq!(code, 1, "{text}");
        holds_all(&text, parts);
    }

    fn dlq_json(&self, arguments: &[&str]) -> Vec<Value> {
        let text = self.dlq_done(&[arguments, &["--json"]].concat(), &[]);
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn send(stage: &Stage, presses: Vec<String>) {
    stage.world.send(&presses.into_iter().map(|press| Raw::value(0, press)).collect::<Vec<_>>());
}

fn nonsense(number: u128) -> String {
    press(number).replace("PressButton", "Nonsense")
}

/// 40 presses and two dead letters of the relay; then, by a constraint of the table, three of the PostgreSQL sink.
fn with_letters(stage: &Stage) {
    send(stage, (0..40).map(press).chain([nonsense(40), nonsense(41)]).collect());
    stage.run_live(40, &[]);
    let ids: Vec<String> = (50..53).map(|number| format!("'{}'", session(number))).collect();
    stage.sql(&format!("ALTER TABLE SCHEMA.live ADD CONSTRAINT no CHECK (session_id::text NOT IN ({}))", ids.join(",")));
    send(stage, (50..60).map(press).collect());
    let mut run = stage.world.run(&crate::daemon::SHORT);
    crate::cluster::await_that("the rows that may", || {
        run.still_runs();
        stage.postgres_count("live") == 47 && stage.clickhouse_count(stage.live()) == 50
    });
    assert_eq!(run.stop(), 0);
}

#[test]
fn letters_are_counted_and_shown_without_addresses() {
    let Some(stage) = narrow_stage("dlq_ls") else { return };
    with_letters(&stage);
    stage.dlq_done(
        &["ls"],
        &["PART", "relay     unknown_action  action", "postgres  database", "5 letters: 5 open, 0 replayed or discarded"],
    );
    let counts = stage.dlq_json(&["ls", "--sink", "postgres", "--by", "hour"]);
    let open: u64 = counts.iter().map(|count| count["open"].as_u64().unwrap()).sum();
    assert_eq!((open, &counts[0]["reason"], &counts[0]["part"]), (3, &"database".into(), &"postgres".into()));
    for (filter, left) in [
        (["--reason", "database"], 3),
        (["--reason", "unknown_action"], 2),
        (["--field", "action"], 2),
        (["--from", "-1h"], 5),
        (["--to", "-1h"], 0),
    ] {
        let letters = stage.dlq_json(&["ls", "--each", filter[0], filter[1]]);
        assert_eq!(letters.len(), left, "{filter:?}");
    }

    let letter = &stage.dlq_json(&["ls", "--each", "--sink", "relay"])[0];
    assert_eq!((&letter["record_offset"], &letter["state"]), (&40.into(), &"open".into()));
    let at = format!("{}:{}", letter["partition"], letter["offset"]);
    let page = stage.dlq_done(
        &["show", "--sink", "relay", &at, "--source"],
        &["partition 0 offset 40", "unknown_action", "not on the pipeline's list", "state     open", "\"ip\":\"<withheld>\"", "Nonsense"],
    );
    assert!(!page.contains("8.8.8.8"), "{page}");
    let object = &stage.dlq_json(&["show", "--sink", "relay", &at, "--source"])[0];
    assert_eq!(object["source"]["value"]["ip"], "<withheld>");
    assert_eq!(object["source"]["value"]["session_id"], session(40));

    let letter = &stage.dlq_json(&["ls", "--each", "--sink", "postgres"])[0];
    let at = format!("{}:{}", letter["partition"], letter["offset"]);
    stage.dlq_done(
        &["show", "--sink", "postgres", &at, "--source"],
        &["database", "code 23514", &session(50), "\"country_code\":\"--\""],
    );
    stage.dlq_refused(&["show", &at], &["name one of the parts", "relay, postgres, clickhouse"]);
    stage.dlq_refused(&["show", "--sink", "relay", "0:999999"], &["no letter of pipeline", "at 0:999999", "ls --each"]);
}
