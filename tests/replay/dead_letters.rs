//! `pressline dlq`: what it shows of dead letters, and that what it replays is there once.

use serde_json::Value;

use crate::cluster::Raw;
use crate::relay::{World, holds_all, press, session};
use crate::support::{Stage, narrow_stage};

impl Stage {
    pub fn dlq_command(&self, arguments: &[&str]) -> std::process::Command {
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
    pub fn dlq_done(&self, arguments: &[&str], parts: &[&str]) -> String {
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

    pub fn alter_clickhouse(&self, what: &str) {
        self.clickhouse.run(&format!("ALTER TABLE {}.{} {what}", crate::clickhouse::DATABASE, self.live()));
    }

    pub fn dlq_json(&self, arguments: &[&str]) -> Vec<Value> {
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
pub fn with_letters(stage: &Stage) {
    send(stage, (0..40).map(press).chain([nonsense(40), nonsense(41)]).collect());
    stage.run_live(40, &[]);
    let ids: Vec<String> = (50..53).map(|number| format!("'{}'", session(number))).collect();
    stage
        .sql(&format!("ALTER TABLE SCHEMA.live ADD CONSTRAINT no CHECK (session_id::text NOT IN ({}))", ids.join(",")));
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
        &[
            "PART",
            "relay     unknown_action  action",
            "postgres  database",
            "5 letters: 5 open, 0 replayed or discarded",
        ],
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
        &[
            "partition 0 offset 40",
            "unknown_action",
            "not on the pipeline's list",
            "state     open",
            "\"ip\":\"<withheld>\"",
            "Nonsense",
        ],
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

/// Rows of the live table, and how many sessions they are of: each press here has its own.
pub fn rows(stage: &Stage) -> (usize, usize) {
    let sessions = stage.sql("SELECT count(DISTINCT session_id) FROM SCHEMA.live");
    (stage.postgres_count("live"), sessions.parse().unwrap())
}

#[test]
fn rows_that_the_table_takes_by_now_are_there_once() {
    let Some(stage) = narrow_stage("dlq_postgres") else { return };
    with_letters(&stage);
    let replay = ["replay", "--sink", "postgres"];
    let (code, text) = stage.dlq(&replay);
    assert_eq!(code, 1, "{text}");
    holds_all(
        &text,
        &["3 open letters of", "3 letters = 0 replayed + 3 dead again", "the first at 0:0: database", "23514"],
    );
    // A letter that is dead again is not there twice.
    assert_eq!(stage.dlq_json(&["ls", "--each", "--sink", "postgres"]).len(), 3);

    let one = session(52);
    stage.sql(&format!(
        "ALTER TABLE SCHEMA.live DROP CONSTRAINT no; ALTER TABLE SCHEMA.live ADD CONSTRAINT one CHECK (session_id::text <> '{one}')"
    ));
    let (_, text) = stage.dlq(&[&replay[..], &["--dry-run"]].concat());
    holds_all(&text, &["trial, nothing is written", "3 letters = 2 would be replayed + 1 dead again"]);
    assert_eq!(rows(&stage), (47, 47));
    let (code, text) = stage.dlq(&replay);
    assert_eq!(code, 1, "{text}");
    holds_all(&text, &["3 letters = 2 replayed + 1 dead again"]);
    assert_eq!(rows(&stage), (49, 49));
    let (_, text) = stage.dlq(&replay);
    holds_all(&text, &["1 open letter of", "3 letters = 0 replayed + 2 replayed before + 1 dead again"]);
    assert_eq!(rows(&stage), (49, 49));

    stage.sql("ALTER TABLE SCHEMA.live DROP CONSTRAINT one");
    stage.dlq_done(&[&replay[..], &["--reason", "database"]].concat(), &["3 letters = 1 replayed + 2 replayed before"]);
    stage.dlq_done(&replay, &["0 open letters", "3 letters = 0 replayed + 3 replayed before"]);
    assert_eq!(rows(&stage), (50, 50));
    stage.dlq_done(&["ls", "--sink", "postgres"], &["3 letters: 0 open, 3 replayed or discarded"]);
    stage.dlq_refused(
        &[&replay[..], &["--reason", "to_long"]].concat(),
        &["--reason to_long: no letter has it", "there are: database"],
    );
    let mut reconcile = stage.world.pressline();
    let output = reconcile.args(["reconcile", "--pipeline", &stage.world.name, "--sink", "postgres"]).output().unwrap();
    let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
    assert!(output.status.success(), "no row is missing or twice: {text}");
}

/// The same letters as of [`with_letters`], but of the ClickHouse sink.
pub fn with_clickhouse_letters(stage: &Stage) {
    send(stage, (0..40).map(press).chain([nonsense(40), nonsense(41)]).collect());
    stage.run_live(40, &[]);
    let ids: Vec<String> = (50..53).map(|number| format!("'{}'", session(number))).collect();
    stage.alter_clickhouse(&format!("ADD CONSTRAINT no CHECK toString(session_id) NOT IN ({})", ids.join(",")));
    send(stage, (50..60).map(press).collect());
    let mut run = stage.world.run(&crate::daemon::SHORT);
    crate::cluster::await_that("the rows that may", || {
        run.still_runs();
        stage.postgres_count("live") == 50 && stage.clickhouse_count(stage.live()) == 47
    });
    assert_eq!(run.stop(), 0);
}

/// Rows of ClickHouse's live table, and how many records they are of.
pub fn clickhouse_rows(stage: &Stage) -> (usize, usize) {
    let hash = stage.clickhouse_hash(stage.live());
    let mut numbers = hash.split(' ').map(|number| number.parse().unwrap());
    (numbers.next().unwrap(), numbers.next().unwrap())
}

#[test]
fn rows_that_clickhouse_takes_by_now_are_there_once() {
    let Some(stage) = narrow_stage("dlq_clickhouse") else { return };
    with_clickhouse_letters(&stage);
    let replay = ["replay", "--sink", "clickhouse"];
    let (code, text) = stage.dlq(&replay);
    assert_eq!(code, 1, "{text}");
    holds_all(&text, &["3 letters = 0 replayed + 3 dead again", "database", "code 469"]);
    assert_eq!(clickhouse_rows(&stage), (47, 47));
    stage.alter_clickhouse("DROP CONSTRAINT no");
    stage.dlq_done(&[&replay[..], &["--dry-run"]].concat(), &["3 letters = 3 would be replayed"]);
    assert_eq!(clickhouse_rows(&stage), (47, 47));
    stage.dlq_done(&[&replay[..], &["--letter", "0:1"]].concat(), &["1 letter = 1 replayed"]);
    // Another way there, of which the marks do not tell: the table does.
    let one =
        ["--sink", "clickhouse", "--into-same", "--partition", "0", "--from", "41", "--to", "42", "--name", "one"];
    stage.done(&one, &["1 record = 1 written"]);
    assert_eq!(clickhouse_rows(&stage), (49, 49));
    stage.dlq_done(&replay, &["3 letters = 1 replayed + 2 replayed before"]);
    stage.dlq_done(&replay, &["0 open letters", "3 letters = 0 replayed + 3 replayed before"]);
    assert_eq!(clickhouse_rows(&stage), (50, 50));
    let mut reconcile = stage.world.pressline();
    let output =
        reconcile.args(["reconcile", "--pipeline", &stage.world.name, "--sink", "clickhouse"]).output().unwrap();
    let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
    assert!(output.status.success(), "no row is missing or twice: {text}");
}

/// Takes the action of the relay's letters, too.
pub const ACTIONS: [&str; 2] = ["--set", "source.actions=[\"EnterPage\",\"PressButton\",\"Nonsense\"]"];

/// Sessions of the output, in which each press has its own, and how many records it has.
pub fn written(stage: &Stage) -> (usize, usize) {
    let output = stage.world.output();
    let sessions: std::collections::BTreeSet<String> =
        output.iter().map(|(_, fields)| fields["session_id"].to_string()).collect();
    (output.len(), sessions.len())
}

#[test]
fn events_that_the_relay_takes_by_now_are_there_once() {
    let Some(stage) = narrow_stage("dlq_relay") else { return };
    with_letters(&stage);
    let replay = ["replay", "--sink", "relay"];
    let (code, text) = stage.dlq(&replay);
    assert_eq!(code, 1, "{text}");
    holds_all(&text, &["2 letters = 0 replayed + 2 dead again", "unknown_action (action)"]);
    assert_eq!(written(&stage), (50, 50));
    let replay = [&replay[..], &ACTIONS].concat();
    let trial = stage.dlq_done(&[&replay[..], &["--dry-run"]].concat(), &["2 letters = 2 would be replayed"]);
    assert!(trial.contains("nothing is written"), "{trial}");
    assert_eq!(written(&stage), (50, 50));
    let letter = &stage.dlq_json(&["ls", "--each", "--sink", "relay"])[1];
    let at = format!("{}:{}", letter["partition"], letter["offset"]);
    stage.dlq_done(&[&replay[..], &["--letter", &at]].concat(), &["1 letter = 1 replayed"]);
    assert_eq!(written(&stage), (51, 51));
    stage.dlq_done(&replay, &["2 letters = 1 replayed + 1 replayed before"]);
    stage.dlq_done(&replay, &["2 letters = 0 replayed + 2 replayed before"]);
    assert_eq!(written(&stage), (52, 52));
    stage.dlq_done(&["ls", "--sink", "relay"], &["2 letters: 0 open, 2 replayed or discarded"]);
}

/// The sink reads the letters' records again, and writes their rows itself.
#[test]
fn letters_of_a_sink_that_was_set_back_are_decided_again() {
    let Some(stage) = narrow_stage("dlq_set_back") else { return };
    with_letters(&stage);
    stage.sql("ALTER TABLE SCHEMA.live DROP CONSTRAINT no");
    stage.dlq_done(&["replay", "--sink", "postgres", "--letter", "0:2"], &["1 letter = 1 replayed"]);
    stage.sql("DELETE FROM SCHEMA.live");
    let mut set = stage.world.pressline();
    set.args(["offsets", "set", "--pipeline", &stage.world.name, "--sink", "postgres", "--to", "beginning", "--yes"]);
    assert!(set.output().unwrap().status.success());
    let (code, text) = stage.dlq(&["replay", "--sink", "postgres"]);
    assert_eq!(code, 1, "{text}");
    holds_all(&text, &["2 not passed yet", "has no position behind the record"]);
    // One of them is refused again.
    let one = session(51);
    stage.sql(&format!("ALTER TABLE SCHEMA.live ADD CONSTRAINT one CHECK (session_id::text <> '{one}')"));
    let mut run = stage.world.run(&crate::daemon::SHORT);
    crate::cluster::await_that("the rows", || {
        run.still_runs();
        stage.postgres_count("live") == 49
    });
    assert_eq!(run.stop(), 0);
    stage.sql("ALTER TABLE SCHEMA.live DROP CONSTRAINT one");
    stage.dlq_done(
        &["replay", "--sink", "postgres"],
        &["3 letters = 1 replayed + 1 replayed before + 1 written by the sink itself"],
    );
    assert_eq!(rows(&stage), (50, 50));
}

#[test]
fn letters_are_discarded_for_a_reason_that_is_kept() {
    let Some(stage) = narrow_stage("dlq_discard") else { return };
    with_letters(&stage);
    let discard = |text: &'static str| ["discard", "--sink", "relay", "--reason-text", text];
    stage.dlq_refused(&discard("from 192.0.2.1"), &["an address stands in it"]);
    stage.dlq_refused(&discard(" "), &["0 bytes, expected 1 to 500"]);
    stage.dlq_refused(&discard("a test"), &["2 open letters", "nothing was changed", "add --yes"]);
    stage.dlq_done(
        &[&discard("a test")[..], &["--letter", "0:0", "--yes"]].concat(),
        &["1 open letter of", "a test", "1 letter discarded"],
    );
    stage.dlq_done(&["show", "--sink", "relay", "0:0"], &["state     discarded at 2", ": a test"]);
    let (_, text) = stage.dlq(&[&["replay", "--sink", "relay"][..], &ACTIONS].concat());
    holds_all(&text, &["2 letters = 1 replayed + 1 discarded before"]);
    assert_eq!(written(&stage), (51, 51));
    stage.dlq_done(&[&discard("again")[..], &["--yes"]].concat(), &["no open letters to discard"]);
}

#[test]
fn what_cannot_be_replayed_is_named() {
    let Some(stage) = narrow_stage("dlq_left") else { return };
    with_letters(&stage);
    stage.sql("ALTER TABLE SCHEMA.live DROP CONSTRAINT no");
    let World { cluster, out, name, .. } = &stage.world;
    let dead = format!("{out}.dead");
    // About records that are in the table: of another pipeline, of none, of ours; and about one that the sink has yet to come to.
    let own = cluster.read(out)[0].timestamp_ms.unwrap();
    for (offset, pipeline, time) in [("3", "other", own), ("4", "", own), ("5", name, own), ("100", name, own)] {
        let fixed = |text: &str| -> &'static str { Box::leak(text.to_string().into_boxed_str()) };
        let mut headers = vec![
            ("pressline.reason", "database"),
            ("pressline.field", ""),
            ("pressline.message", "as it was"),
            ("pressline.topic", fixed(out)),
            ("pressline.partition", "0"),
            ("pressline.offset", fixed(offset)),
            ("pressline.sink", "postgres"),
        ];
        headers.extend((!pipeline.is_empty()).then(|| ("pressline.pipeline", fixed(pipeline))));
        let key = Some(format!("{out}/0/{offset}/postgres"));
        cluster.send(&dead, &[Raw { partition: Some(0), key, headers, timestamp_ms: Some(time), ..Raw::default() }]);
    }
    // The first of the three letters of its own.
    cluster.delete_records(out, 0, 42);
    stage.dlq_done(
        &["ls", "--sink", "postgres"],
        &["6 letters: 6 open", "1 letter does not name the pipeline", "with --unnamed only"],
    );
    stage.dlq_done(
        &["show", "--sink", "postgres", "0:0", "--source"],
        &["source    retention has taken it: the partition begins at offset 42 now"],
    );
    let (code, text) = stage.dlq(&["replay", "--sink", "postgres"]);
    assert_eq!(code, 1, "{text}");
    holds_all(
        &text,
        &[
            "6 letters = 2 replayed + 1 written by the sink itself after all + 1 of which retention has taken the record + 1 not passed yet \
             + 1 not known to be of this pipeline",
            "partition 0 of topic",
            "begins at offset 42 now; their records were between 41 and 41",
            "the sink has no position behind the record",
            "where no other pipeline writes its dead letters",
        ],
    );
    assert_eq!(rows(&stage), (49, 49));
}

#[test]
fn a_letter_of_a_topic_of_before_is_told_by_its_time() {
    let Some(stage) = narrow_stage("dlq_time") else { return };
    with_letters(&stage);
    let World { cluster, raw, dead, name, .. } = &stage.world;
    let fixed = |text: &str| -> &'static str { Box::leak(text.to_string().into_boxed_str()) };
    let headers = vec![
        ("pressline.reason", "bad_ip"),
        ("pressline.topic", fixed(raw)),
        ("pressline.partition", "0"),
        ("pressline.offset", "3"),
        ("pressline.pipeline", fixed(name)),
    ];
    let (key, timestamp_ms) = (Some(format!("{raw}/0/3")), Some(cluster.read(raw)[3].timestamp_ms.unwrap() - 7));
    cluster.send(dead, &[Raw { partition: Some(0), key, headers, timestamp_ms, ..Raw::default() }]);
    let (code, text) = stage.dlq(&["replay", "--sink", "relay", "--reason", "bad_ip"]);
    assert_eq!(code, 1, "{text}");
    holds_all(&text, &["1 letter = 0 replayed + 1 at whose offset another record is", "was made again since"]);
    assert_eq!(written(&stage), (50, 50));
}
