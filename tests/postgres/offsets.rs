//! `pressline offsets` for a PostgreSQL sink: positions shown, set, taken over, and the way out of each refusal.

use crate::cluster::{PATIENCE, await_that};
use crate::loads::{Load, load, search};
use crate::relay::holds_all;
use crate::support::{Server, server};

/// The test's schema, asked from outside of any runtime.
pub struct Database {
    runtime: tokio::runtime::Runtime,
    server: Server,
}

/// A pipeline into table `t` of the test's schema.
pub fn stage(test: &str) -> Option<(Database, Load)> {
    stage_with(test, "n bigint NOT NULL, t timestamptz NOT NULL", "")
}

/// The same with these columns, and `more` of `[sink.postgres]`.
pub fn stage_with(test: &str, columns: &str, more: &str) -> Option<(Database, Load)> {
    let database = Database::new(test)?;
    database.sql(&format!("CREATE TABLE SCHEMA.t ({columns})"));
    let load = load(test, "postgres", |_| database.tables(more))?;
    Some((database, load))
}

impl Database {
    /// The test's empty schema, or `None`, said aloud, where there is no server.
    pub fn new(test: &str) -> Option<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let server = runtime.block_on(server(test))?;
        Some(Self { runtime, server })
    }

    /// Its name.
    pub fn schema(&self) -> &str {
        &self.server.schema
    }

    /// The sink's tables of a pipeline's file.
    pub fn tables(&self, more: &str) -> String {
        let address = std::env::var("PRESSLINE_TEST_POSTGRES").unwrap();
        let (host, port) = address.rsplit_once(':').unwrap();
        let user = std::env::var("PRESSLINE_TEST_POSTGRES_USER").unwrap_or_else(|_| "postgres".into());
        let user = if more.contains("user =") { String::new() } else { format!("user = \"{user}\"\n") };
        let database = std::env::var("PRESSLINE_TEST_POSTGRES_DATABASE").unwrap_or_else(|_| "postgres".into());
        format!(
            "[sink.postgres]\nhost = \"{host}\"\nport = {port}\n{user}database = \"{database}\"\npassword_file = \
             \"../password\"\ntable = \"{0}.t\"\noffsets_table = \"{0}.positions\"\n{more}\n[sink.postgres.consumer]\nmax_dead_share \
             = 0.5\n",
            self.server.schema
        )
    }

    /// Statements, with the test's schema in place of `SCHEMA`.
    pub fn sql(&self, sql: &str) {
        self.runtime.block_on(self.server.sql(&sql.replace("SCHEMA", &self.server.schema)));
    }

    /// One value, the same.
    pub fn value(&self, sql: &str) -> String {
        self.runtime.block_on(self.server.value(&sql.replace("SCHEMA", &self.server.schema)))
    }

    /// `count distinct` of table t.
    fn counts(&self) -> String {
        self.value("SELECT count(*) || ' ' || count(DISTINCT n) FROM SCHEMA.t")
    }

    fn position(&self, partition: i32) -> String {
        self.value(&format!("SELECT next_offset FROM SCHEMA.positions WHERE partition = {partition}"))
    }
}

#[test]
fn a_position_is_shown_and_set_and_read_from() {
    let Some((database, load)) = stage("offsets_set") else { return };
    load.send(0, 0..100);
    load.send(1, 1_000..1_010);
    let mut run = load.run();
    load.await_loaded(&mut run);
    let shown = load.tool_ok(&["offsets", "show"]);
    holds_all(
        &shown,
        &[&format!("group {} (1 live member)", load.group()), "positions in table", "0          100       0..100"],
    );

    let refusal = ["1 live member", "pressline (", "Stop it first"];
    let refusal = refusal.map(|part| part.replace("1 live", "a live"));
    load.tool_fails(
        &["offsets", "set", "--partition", "0", "--to", "40", "--yes"],
        &refusal.iter().map(String::as_str).collect::<Vec<_>>(),
    );
    assert_eq!(run.stop(), 0);
    load.tool_fails(&["offsets", "set", "--partition", "0", "--to", "40"], &["nothing was changed", "add --yes"]);
    load.tool_fails(&["offsets", "set", "--partition", "7", "--to", "40", "--yes"], &["has no partition 7"]);
    load.tool_fails(
        &["offsets", "set", "--to", "40", "--yes"],
        &["partition 1: offset 40 is not there; expected 0 to 10"],
    );
    assert_eq!(database.position(0), "100", "nothing is set without a yes");

    let said = load.tool_ok(&["offsets", "set", "--partition", "0", "--to", "40", "--yes"]);
    holds_all(&said, &["up to 60 offsets loaded again", "position changed: set by hand", "before=\"100\" after=40"]);
    assert_eq!((database.position(0), database.position(1)), ("40".into(), "10".into()));
    load.send(0, 100..101);
    load.load_all();
    assert_eq!(database.counts(), "171 111", "exactly 40 to 99 a second time");
    let shown = load.tool_ok(&["offsets", "show"]);
    holds_all(&shown, &["no live member", "0          101       0..101  0"]);
}

/// The group's offset only shows how far the sink is: what a former owner's lost commit left behind is made good by the next one,
/// though nothing more comes.
#[test]
fn an_offset_that_stayed_behind_the_table_is_committed_again() {
    let Some((database, load)) = stage("offsets_behind") else { return };
    load.send(0, 0..50);
    load.load_all();
    load.cluster.commit(&load.group(), &load.topic, 0, 20, "");
    load.load_all();
    assert_eq!(database.counts(), "50 50", "nothing is loaded again");
}

#[test]
fn the_command_in_a_refusal_is_the_way_out() {
    let Some((database, load)) = stage("offsets_way_out") else { return };
    load.send(0, 0..50);
    load.load_all();
    database.sql("DELETE FROM SCHEMA.positions WHERE partition = 0");
    load.send(0, 50..60);
    let log = load.refused(&["has no position of pipeline", "although the consumer group has loaded it up to 50"]);
    load.obey(&log, "pressline offsets set");
    load.load_all();
    assert_eq!(database.counts(), "60 60");

    load.cluster.delete_records(&load.topic, 0, 60);
    load.send(0, 60..80);
    load.cluster.delete_records(&load.topic, 0, 65);
    let log = load.refused(&["offsets 60 to 64 were deleted by retention before they were loaded"]);
    load.obey(&log, "pressline offsets set");
    load.load_all();
    assert_eq!(database.counts(), "75 75");

    load.cluster.delete_topic(&load.topic);
    load.cluster.create_topics(&[(&load.topic, 1)]);
    load.send(0, 80..100);
    // Kafka deletes a group's offsets together with the topic, in its own time.
    await_that("the end of the old offsets", || load.cluster.committed(&load.group(), &load.topic).is_empty());
    let log = load.refused(&["it was deleted and made again, so the old positions mean nothing"]);
    holds_all(&load.tool_ok(&["offsets", "show"]), &["ANOTHER TOPIC"]);
    load.obey(&log, "pressline offsets set");
    load.load_all();
    assert_eq!(database.counts(), "95 95");
    let rows = database.value("SELECT count(*) FROM SCHEMA.positions");
    assert_eq!(rows, "1", "the position of the partition that is not there any more is gone");
}

#[test]
fn positions_are_taken_over_from_a_connector() {
    let Some((database, load)) = stage("offsets_copy") else { return };
    load.send(0, 0..100);
    load.send(1, 1_000..1_050);
    let group = format!("connect-{}", load.name);
    load.tool_fails(&["offsets", "copy-from-group", &group, "--yes"], &["has no offsets of topic"]);
    load.cluster.commit(&group, &load.topic, 0, 30, "");
    load.cluster.commit(&group, &load.topic, 1, 50, "");
    let said = load.tool_ok(&["offsets", "copy-from-group", &group, "--yes"]);
    holds_all(&said, &[&format!("position changed: taken over from group {group}"), "before=\"none\" after=30"]);
    let mut run = load.run();
    load.await_loaded(&mut run);
    await_that("the last rows", || run.log().contains("partitions assigned"));
    run.signal("TERM");
    assert_eq!(run.exit_code(PATIENCE), 0);
    let numbers = database.value("SELECT count(*) || ' ' || min(n) || ' ' || max(n) FROM SCHEMA.t");
    assert_eq!(numbers, "70 30 99", "exactly what the connector had not loaded");
}

#[test]
fn a_change_is_asked_about_and_only_a_yes_is_one() {
    let Some((database, load)) = stage("pg_prompt") else { return };
    load.send(0, 0..20);
    load.load_all();
    let set = ["offsets", "set", "--partition", "0", "--to", "5"];
    load.tool_fails(&set, &["nothing was changed: there is no terminal to ask on; add --yes"]);
    for answer in ["n", "", "yep"] {
        let (ok, said) = load.on_a_terminal(&set, answer);
        assert!(!ok, "{said}");
        holds_all(&said, &["up to 15 offsets loaded again", "Proceed? [y/N] ", "Cancelled"]);
        assert_eq!(database.position(0), "20", "{answer:?} is no yes");
    }
    for (answer, to) in [("y", "5"), ("yes", "6")] {
        let set = ["offsets", "set", "--partition", "0", "--to", to];
        let (ok, said) = load.on_a_terminal(&set, answer);
        assert!(ok, "{said}");
        holds_all(&said, &["Proceed? [y/N] ", "position changed: set by hand"]);
        assert_eq!(database.position(0), to);
    }
}

#[test]
fn an_older_release_and_this_one_hand_partitions_to_each_other() {
    let Some((database, load)) = stage("pg_upgrade") else { return };
    crate::loads::upgrade::there_and_back(&load);
    let counted = database.counts();
    let (rows, distinct) = counted.split_once(' ').unwrap();
    assert_eq!(rows, distinct);
}

/// A table that refuses odd numbers, and takes its time.
fn slow_stage(test: &'static str) -> Option<(Database, Load)> {
    let (database, load) = stage_with(test, "n bigint NOT NULL CHECK (n % 2 = 0), t timestamptz NOT NULL", "")?;
    database.sql("CREATE FUNCTION SCHEMA.wait() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(0.25); RETURN NULL; END'");
    database.sql("CREATE TRIGGER slow BEFORE INSERT ON SCHEMA.t FOR EACH STATEMENT EXECUTE FUNCTION SCHEMA.wait()");
    Some((database, load))
}

#[test]
fn a_long_search_for_bad_rows_stays_in_its_group() {
    let Some((database, load)) = slow_stage("search") else { return };
    search::stays_in_its_group(&load, || database.value("SELECT count(*) FROM SCHEMA.t").parse().unwrap());
}

#[test]
fn a_partition_that_comes_during_a_search_is_taken_over() {
    let Some((database, load)) = slow_stage("search_rebalanced") else { return };
    search::takes_a_partition_over(&load, || database.value("SELECT count(*) FROM SCHEMA.t").parse().unwrap());
}

#[test]
fn of_several_record_types_one_is_loaded() {
    let Some((database, load)) = stage("record_types") else { return };
    let rows = || database.value("SELECT count(*) || ' ' || count(DISTINCT n) FROM SCHEMA.t");
    crate::loads::record_types::one_of_two(&load, rows);
}
