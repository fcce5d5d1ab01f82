//! What the sink does with the server's errors: each has its end, whatever its code.

use crate::loads::codes;
use crate::offsets::{stage, stage_with};
use crate::relay::holds_all;

const REFUSES: &str = "CREATE TRIGGER refuses BEFORE INSERT ON SCHEMA.t FOR EACH ROW EXECUTE FUNCTION SCHEMA.refuse()";

/// PostgreSQL's own list, as the server has it on its disk, without "successful completion", which RAISE cannot give; and two
/// codes that are in no list.
#[test]
fn one_row_of_a_thousand_that_brings_any_sqlstate_for_ever_costs_no_other() {
    let Some((database, load)) = stage("every_sqlstate") else { return };
    database.sql(
        "CREATE TABLE SCHEMA.codes AS SELECT row_number() OVER (ORDER BY code) - 1 AS k, code FROM (SELECT DISTINCT \
         left(line, 5) AS code FROM pg_config c, regexp_split_to_table(pg_read_file(c.setting || '/errcodes.txt'), E'\\n') line \
         WHERE c.name = 'SHAREDIR' AND line ~ '^[0-9A-Z]{5}[ \\t]' AND line !~ '^00000' UNION VALUES ('45000'), ('UE001')) list",
    );
    let all: Vec<String> = database
        .value("SELECT string_agg(code, ' ' ORDER BY k) FROM SCHEMA.codes")
        .split(' ')
        .map(String::from)
        .collect();
    assert!(all.len() > 240, "{all:?}");
    let codes = codes::chosen(all, 60);
    let list: Vec<String> = codes.iter().map(|code| format!("'{code}'")).collect();
    database.sql(&format!(
        "CREATE FUNCTION SCHEMA.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.n % {} = {} THEN RAISE EXCEPTION \
         '192.0.2.1' USING ERRCODE = (ARRAY[{}])[NEW.n / {} + 1]; END IF; RETURN NEW; END $$; {REFUSES}",
        codes::EACH,
        codes::BAD,
        list.join(", "),
        codes::EACH
    ));
    let rows = || database.value("SELECT count(*) FROM SCHEMA.t").parse().unwrap();
    codes::one_row_of_a_thousand(&load, &codes, rows);
}

/// Where no row is written, nothing tells a bad row from a table that takes none.
#[test]
fn an_answer_that_nobody_knows_to_every_row_stops_the_sink() {
    let Some((database, load)) = stage("unknown_to_all") else { return };
    database.sql(&format!(
        "CREATE FUNCTION SCHEMA.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = \
         '55000'; END $$; {REFUSES}"
    ));
    load.send(0, 0..30);
    let mut run = load.run_with(&["sink.postgres.consumer.retry_ms=20"]);
    assert_eq!(run.exit_code(crate::cluster::PATIENCE), 1);
    holds_all(&run.log(), &["SQLSTATE 55000", "rows alone", "code=\"55000\""]);
    assert!(load.cluster.read(&format!("{}.dead", load.topic)).is_empty());
    database.sql("DROP TRIGGER refuses ON SCHEMA.t");
    load.load_all();
    assert_eq!(database.value("SELECT count(*) FROM SCHEMA.t"), "30");
}

/// A full disk refuses every row too, but it is waited out for ever; not ready all the while.
#[test]
fn a_full_disk_is_waited_out_and_costs_no_row() {
    let Some((database, load)) = stage("full_disk") else { return };
    database.sql(&format!(
        "CREATE FUNCTION SCHEMA.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no' USING ERRCODE = \
         'disk_full'; END $$; {REFUSES}"
    ));
    load.send(0, 0..30);
    let mut run = load.run_with(&["sink.postgres.consumer.retry_ms=20"]);
    run.await_log("for each of 17 rows alone");
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(run.get("/readyz").0 == 200);
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(answers.iter().all(|ready| !ready), "ready while nothing is written: {answers:?}");
    run.still_runs();
    database.sql("DROP TRIGGER refuses ON SCHEMA.t");
    load.await_loaded(&mut run);
    crate::cluster::await_that("ready", || run.get("/readyz").0 == 200);
    assert_eq!(run.stop(), 0);
    assert_eq!(database.value("SELECT count(*) FROM SCHEMA.t"), "30");
    assert!(load.cluster.read(&format!("{}.dead", load.topic)).is_empty());
}

#[test]
fn a_batch_too_large_for_the_statement_timeout_is_written_in_parts() {
    let Some((database, load)) =
        stage_with("too_slow", "n bigint NOT NULL, t timestamptz NOT NULL", "statement_timeout_ms = 1000")
    else {
        return;
    };
    database.sql(&format!(
        "CREATE FUNCTION SCHEMA.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(0.03); RETURN NEW; END \
         $$; {REFUSES}"
    ));
    load.send(0, 0..100);
    let mut run = load.run();
    load.await_loaded(&mut run);
    holds_all(&run.log(), &["in parts", "SQLSTATE 57014", "statement_timeout_ms", "sink.postgres.batch.max_rows"]);
    assert_eq!(run.stop(), 0);
    assert_eq!(database.value("SELECT count(*) || ' ' || count(DISTINCT n) FROM SCHEMA.t"), "100 100");
    assert!(load.cluster.read(&format!("{}.dead", load.topic)).is_empty());
}

/// At low traffic a bad row comes alone. The table took rows before, so it is the row.
#[test]
fn a_row_that_comes_alone_with_an_answer_that_nobody_knows_is_a_dead_letter() {
    let Some((database, load)) = stage("unknown_alone") else { return };
    database.sql(&format!(
        "CREATE FUNCTION SCHEMA.refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.n = 30 THEN RAISE EXCEPTION \
         '192.0.2.1' USING ERRCODE = '55000'; END IF; RETURN NEW; END $$; {REFUSES}"
    ));
    load.send(0, 0..30);
    let mut run = load.run();
    load.await_loaded(&mut run);
    load.send(0, 30..31);
    load.await_loaded(&mut run);
    load.send(0, 31..32);
    load.await_loaded(&mut run);
    assert!(!run.log().contains("192.0.2.1"));
    assert_eq!(run.stop(), 0);
    assert_eq!(database.value("SELECT count(*) FROM SCHEMA.t"), "31");
    let letters = load.cluster.read(&format!("{}.dead", load.topic));
    assert_eq!(letters.iter().map(|letter| letter.header("pressline.offset").unwrap()).collect::<Vec<_>>(), ["30"]);
}

/// A batch whose positions cannot be moved fails at once, each time: the second failure in a row and those behind it are waited
/// out, ever longer, and the sink is not ready all the while.
#[test]
fn what_fails_again_and_again_is_tried_after_growing_pauses() {
    let Some((database, load)) = stage("growing_pauses") else { return };
    load.send(0, 0..10);
    let mut run = load.run();
    load.await_loaded(&mut run);
    database.sql(
        "CREATE FUNCTION SCHEMA.nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$; CREATE TRIGGER stays \
         BEFORE UPDATE ON SCHEMA.positions FOR EACH ROW EXECUTE FUNCTION SCHEMA.nothing()",
    );
    load.send(0, 10..20);
    let pauses = |log: &str| -> Vec<u64> {
        let waited = log.lines().filter(|line| line.contains("retry_in_ms=") && line.contains("sink=\"postgres\""));
        waited
            .map(|line| line.split("retry_in_ms=").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap())
            .collect()
    };
    let mut was_ready = false;
    crate::cluster::await_that("four pauses", || {
        run.still_runs();
        let failed = run.log().contains("batch aborted, re-reading offsets");
        was_ready |= failed && run.get("/readyz").0 == 200;
        pauses(&run.log()).len() >= 4
    });
    let log = run.log();
    assert_eq!(log.matches("batch aborted, re-reading offsets").count(), 1, "{log}");
    let pauses = pauses(&log);
    // A quarter of jitter, and each twice as long as the one before: 0.5, 1, 2, 4 s.
    for (pause, middle) in pauses.iter().zip([500, 1_000, 2_000, 4_000]) {
        assert!((middle * 3 / 4..=middle * 5 / 4).contains(pause), "{pauses:?}");
    }
    assert!(!was_ready, "ready while nothing is written");
    database.sql("DROP TRIGGER stays ON SCHEMA.positions");
    load.await_loaded(&mut run);
    crate::cluster::await_that("ready", || run.get("/readyz").0 == 200);
    assert_eq!(run.stop(), 0);
    assert_eq!(database.value("SELECT count(*) || ' ' || count(DISTINCT n) FROM SCHEMA.t"), "20 20");
}

/// More rows of one batch than the circuit breaker allows end the search for others.
#[test]
fn a_search_that_finds_too_many_bad_rows_names_the_key_and_the_cure() {
    let Some((database, load)) = stage("too_many_bad") else { return };
    database.sql("ALTER TABLE SCHEMA.t ADD CHECK (n < 0)");
    load.send(0, 0..300);
    let mut run = load.run_with(&["sink.postgres.consumer.max_dead_share=0.01", "sink.postgres.consumer.retry_ms=20"]);
    assert_eq!(run.exit_code(crate::cluster::PATIENCE), 1);
    holds_all(
        &run.log(),
        &[
            "circuit breaker: more than 100 rows of one batch are refused, which is above sink.postgres.consumer.max_dead_share",
            "SQLSTATE 23514",
            "Fix the table or the pipeline's settings, or raise sink.postgres.consumer.max_dead_share",
        ],
    );
    assert!(load.cluster.read(&format!("{}.dead", load.topic)).is_empty());
}
