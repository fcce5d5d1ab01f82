//! `pressline offsets` for a ClickHouse sink: its positions are the group's offsets, with the ranges that are pending.

use std::time::Duration;

use crate::cluster::await_that;
use crate::link::Link;
use crate::loads::{Load, Proxy, load};
use crate::relay::holds_all;
use crate::support::{DATABASE, World, service, world};

/// A pipeline into a table of its own; `address` of the server, `more` of `[sink.clickhouse]`.
pub fn stage_at(test: &'static str, address: &str, more: &str) -> Option<(World, Load)> {
    let world = world(test)?;
    let load = load(test, "clickhouse", |name| {
        format!(
            "[sink.clickhouse]\nurl = \"{address}\"\nuser = \"{}\"\npassword_file = \"../password\"\ndatabase = \
             \"{DATABASE}\"\ntable = \"{name}\"\n{more}\n[sink.clickhouse.consumer]\nmax_dead_share = 0.5\n",
            service("PRESSLINE_TEST_CLICKHOUSE_USER")
        )
    })?;
    world.run(&format!(
        "CREATE TABLE {DATABASE}.{} (n Int64, t DateTime64(6, 'UTC'), _topic LowCardinality(String), _partition Int32, _offset \
         Int64) ENGINE = MergeTree ORDER BY (_topic, _partition, _offset) SETTINGS non_replicated_deduplication_window = 1000",
        load.name
    ));
    Some((world, load))
}

pub fn stage(test: &'static str) -> Option<(World, Load)> {
    stage_at(test, &std::env::var("PRESSLINE_TEST_CLICKHOUSE").unwrap_or_default(), "")
}

/// `count distinct` of the pipeline's table.
pub fn counts(world: &World, load: &Load) -> String {
    let sql =
        format!("SELECT concat(toString(count()), ' ', toString(uniqExact(n))) AS v FROM {DATABASE}.{}", load.name);
    world.select(&sql).remove(0)
}

#[test]
fn a_range_loaded_again_on_purpose_is_no_repetition() {
    let Some((world, load)) = stage("ch_set") else { return };
    load.send(0, 0..100);
    let mut run = load.run();
    load.await_loaded(&mut run);
    load.tool_fails(&["offsets", "set", "--to", "beginning", "--yes"], &["a live member", "Stop it first"]);
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "100 100");
    // Set behind pressline's back, the same insert has the same token: the server drops it without a word.
    load.cluster.commit(&load.group(), &load.topic, 0, 0, "pressline/1 partitions=2");
    load.load_all();
    assert_eq!(counts(&world, &load), "100 100");
    let said = load.tool_ok(&["offsets", "set", "--partition", "0", "--to", "beginning", "--yes"]);
    holds_all(&said, &["100 rows already in the table will be inserted again", "before=\"100\" after=0"]);
    // The same range as one insert, within the window of deduplication.
    load.load_all();
    assert_eq!(counts(&world, &load), "200 100");
}

#[test]
fn a_pending_range_is_shown_and_cleared_to_either_side() {
    let Some((world, load)) = stage("ch_pending") else { return };
    load.send(0, 0..100);
    load.tool_fails(&["offsets", "clear-pending", "--to", "end", "--yes"], &["nothing is pending"]);
    for (to, after, rows) in [("start", "0", "100 100"), ("end", "60", "140 100")] {
        load.cluster.commit(&load.group(), &load.topic, 0, 0, "pressline/1 partitions=2 pending=60:1");
        holds_all(&load.tool_ok(&["offsets", "show"]), &["0..60, attempt 1"]);
        load.tool_fails(&["offsets", "clear-pending", "--to", to], &["nothing was changed", "add --yes"]);
        let said = load.tool_ok(&["offsets", "clear-pending", "--to", to, "--yes"]);
        let before = if to == "start" { "the table has 0 rows of it" } else { "the table has 60 rows of it" };
        holds_all(&said, &[before, &format!("before=\"0, pending to 60\" after={after}")]);
        assert_eq!(load.cluster.committed(&load.group(), &load.topic).get(&0).map(i64::to_string), Some(after.into()));
        load.load_all();
        assert_eq!(counts(&world, &load), rows);
    }
}

#[test]
fn a_pending_range_that_retention_passed_is_for_a_person_to_decide() {
    let Some((world, load)) = stage("ch_retention") else { return };
    load.send(0, 0..100);
    load.load_all();
    load.send(0, 100..200);
    let pending = |end: i64| {
        let note = format!("pressline/1 partitions=2 pending={end}:1");
        load.cluster.commit(&load.group(), &load.topic, 0, 50, &note);
    };
    load.cluster.delete_records(&load.topic, 0, 60);
    // All of it is in the table: there is nothing to decide.
    pending(100);
    let mut run = load.run();
    load.await_loaded(&mut run);
    assert_eq!(counts(&world, &load), "200 200");
    // Nothing may move the position afterwards, not even to where the sink began: rows behind it would be written again.
    for _ in 0..30 {
        std::thread::sleep(Duration::from_millis(100));
        assert_eq!(load.cluster.committed(&load.group(), &load.topic).get(&0), Some(&200));
    }
    assert_eq!(run.stop(), 0);

    world.run(&format!("DELETE FROM {DATABASE}.{} WHERE _offset IN (55, 70)", load.name));
    pending(100);
    let said = ["the insert of offsets 50 to 99 was begun", "has 48 of these 50 offsets", "those before 60"];
    let log = load.refused(&said);
    // What an alert can match.
    let fields = format!("topic=\"{}\" partition=0 offset=50", load.topic);
    holds_all(&log, &[&fields]);
    load.obey(&log, "pressline offsets clear-pending");
    assert_eq!(load.cluster.committed(&load.group(), &load.topic).get(&0), Some(&100));
}

#[test]
fn positions_are_taken_over_from_the_kafka_engine() {
    let Some((world, load)) = stage("ch_copy") else { return };
    load.send(0, 0..100);
    load.send(1, 1_000..1_050);
    let group = format!("{}_engine", load.name);
    load.cluster.commit(&group, &load.topic, 0, 30, "");
    load.cluster.commit(&group, &load.topic, 1, 50, "");
    load.tool_ok(&["offsets", "copy-from-group", &group, "--yes"]);
    load.load_all();
    let numbers = format!(
        "SELECT concat(toString(count()), ' ', toString(min(n)), ' ', toString(max(n))) AS v FROM {DATABASE}.{}",
        load.name
    );
    assert_eq!(world.select(&numbers), ["70 30 99"], "exactly what the engine had not loaded");
}

#[test]
fn the_age_of_a_pending_range_grows_until_it_is_decided() {
    let Ok(url) = std::env::var("PRESSLINE_TEST_CLICKHOUSE") else { return };
    let proxy = Proxy::to(url.trim_start_matches("http://").trim_end_matches('/'));
    let Some((world, load)) = stage_at("ch_age", &format!("http://{}", proxy.address), "timeout_ms = 1000") else {
        return;
    };
    load.send(0, 0..10);
    let mut run = load.run();
    load.await_loaded(&mut run);
    proxy.lose_answers(true);
    load.send(0, 10..20);
    const AGE: &str = "pressline_sink_pending_age_seconds";
    await_that("an age above three seconds", || run.metrics().with(AGE, "partition=\"0\"") > 3.0);
    proxy.lose_answers(false);
    await_that("the end of it", || run.metrics().sum(AGE) == 0.0);
    load.await_loaded(&mut run);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "20 20");
}

#[test]
fn an_older_release_and_this_one_hand_partitions_to_each_other() {
    let Some((world, load)) = stage("ch_upgrade") else { return };
    crate::loads::upgrade::there_and_back(&load);
    let counted = counts(&world, &load);
    let (rows, distinct) = counted.split_once(' ').unwrap();
    assert_eq!(rows, distinct);
}

/// A password that was changed on the server and in its file: the running sink takes it, for inserts too.
#[test]
fn a_new_password_is_read_when_the_old_one_is_refused() {
    let Ok(url) = std::env::var("PRESSLINE_TEST_CLICKHOUSE") else { return };
    let link = Link::to(&url);
    link.set_password("old");
    let Some((world, load)) = stage_at("ch_renewed", &link.url(), "") else { return };
    load.write("password", "old\n");
    load.send(0, 0..10);
    let mut run = load.run();
    load.await_loaded(&mut run);
    link.set_password("new");
    load.send(0, 10..20);
    run.await_log("code 516");
    // As a file is for a moment while it is written.
    load.write("password", "");
    run.await_log("sink.clickhouse.password_file");
    load.write("password", "new\n");
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "20 20");
}

/// The authority of the server's certificate is read again for the next connection.
#[test]
fn an_authority_that_was_renewed_is_read_again() {
    let Ok(url) = std::env::var("PRESSLINE_TEST_CLICKHOUSE_TLS") else { return };
    let proxy = Proxy::to(url.trim_start_matches("https://").trim_end_matches('/'));
    let more = "timeout_ms = 1000\nca = \"../ca.pem\"";
    let Some((world, load)) = stage_at("ch_authority", &format!("https://{}", proxy.address), more) else { return };
    let folder = std::path::PathBuf::from(service("PRESSLINE_TEST_TLS_DIR"));
    let put = |from: &str| load.write("ca.pem", &std::fs::read_to_string(folder.join(from)).unwrap());
    put("stranger-ca.pem");
    load.send(0, 0..10);
    let mut run = load.run();
    run.await_log("certificate");
    put("ca.pem");
    load.await_loaded(&mut run);

    // A connection that is open is not judged again: it has to be lost.
    put("stranger-ca.pem");
    proxy.lose_answers(true);
    let before = run.log().len();
    load.send(0, 10..20);
    await_that("a request that fails", || run.log()[before..].contains(" WARN "));
    proxy.lose_answers(false);
    await_that("a new connection reads the authority", || {
        run.still_runs();
        run.log()[before..].contains("certificate")
    });
    put("ca.pem");
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "20 20");
}

#[test]
fn of_several_record_types_one_is_loaded() {
    let Some((world, load)) = stage("ch_record_types") else { return };
    crate::loads::record_types::one_of_two(&load, || counts(&world, &load));
}
