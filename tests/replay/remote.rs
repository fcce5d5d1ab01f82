//! A new sink gets the topic's whole life, from segments that the broker itself has deleted, with kill -9 on the way.

use crate::clickhouse::DATABASE;
use crate::cluster::await_that;
use crate::relay::{holds_all, project};
use crate::support::{Stage, stage};

fn count() -> usize {
    std::env::var("PRESSLINE_TEST_REPLAY").map_or(200_000, |count| count.parse().unwrap())
}

/// Small batches, so that a kill hits one in the middle of many.
const SMALL: [&str; 4] = ["--set", "sink.postgres.batch.max_rows=4000", "--set", "sink.clickhouse.batch.max_rows=4000"];

/// Replays into an empty table that is there already, killed twice on the way.
fn replay_with_kills(stage: &Stage, arguments: &[&str], count: usize, rows: impl Fn() -> usize) -> String {
    let rate = (count / 8).to_string();
    let arguments = [arguments, &SMALL, &["--rate", &rate]].concat();
    for part in [5, 2] {
        let mut replay = stage.start(&arguments);
        await_that("the replay to get on", || {
            replay.still_runs();
            rows() > count / part
        });
        replay.kill();
        let there = rows();
        println!("killed at {there} rows");
        assert!(there < count, "killed too late: nothing is shown");
    }
    stage.done(&arguments, &["all accounted for", "without a record"])
}

/// The last line of a replay about its speed, and that of all of them.
fn speed(said: &str) -> &str {
    said.lines().find(|line| line.contains(" offsets in ")).unwrap()
}

#[test]
fn a_new_table_gets_what_the_live_one_has_from_remote_segments() {
    let Some(stage) = stage("replay_remote") else { return };
    let (count, world) = (count(), &stage.world);
    stage.set_segments(&world.out, false);
    let mmdb = project("data/demo.mmdb");
    let number = count.to_string();
    let made =
        world.generate(&["--count", &number, "--malformed", "0", "--mmdb", mmdb.to_str().unwrap()]).wait_with_output();
    assert!(made.unwrap().status.success());
    stage.run_live(count, &["kafka.producer.compression.type=none"]);
    let (rows, ch_rows) = (stage.postgres_hash("live"), stage.clickhouse_hash(stage.live()));
    let (live, positions) = (
        stage.live_offsets(),
        stage.sql("SELECT md5(string_agg(p::text, '' ORDER BY p::text)) FROM SCHEMA.positions p"),
    );

    stage.sql(
        "CREATE TABLE SCHEMA.local (LIKE SCHEMA.live INCLUDING ALL); CREATE TABLE SCHEMA.remote (LIKE SCHEMA.live \
               INCLUDING ALL); CREATE TABLE SCHEMA.killed (LIKE SCHEMA.live INCLUDING ALL)",
    );
    let fresh = |suffix: &str| {
        let name = format!("{}_{suffix}", stage.live());
        stage.clickhouse.run(&format!("CREATE TABLE {DATABASE}.{name} AS {DATABASE}.{}", stage.live()));
        name
    };
    let (ch_local, ch_remote, ch_killed) = (fresh("local"), fresh("remote"), fresh("killed"));
    let whole = |sink: &str, into: &str| {
        stage.done(
            &["--sink", sink, "--into", into],
            &["all accounted for", &format!("{count} records = {count} written")],
        )
    };
    let local = [whole("postgres", &stage.table("local")), whole("clickhouse", &ch_local)];

    stage.set_segments(&world.out, true);
    let kept = stage.await_remote(&world.out);
    println!("first offset on the broker's disk, and end: {kept:?}");
    let ends = world.cluster.ends(&world.out);
    assert!(ends.values().all(|(low, _)| *low == 0), "nothing is lost of the topic itself");
    let remote = [whole("postgres", &stage.table("remote")), whole("clickhouse", &ch_remote)];
    for (sink, (local, remote)) in ["postgres", "clickhouse"].iter().zip(local.iter().zip(&remote)) {
        println!("{sink}: local segments: {}; remote segments: {}", speed(local), speed(remote));
    }

    let into = stage.table("killed");
    let said =
        replay_with_kills(&stage, &["--sink", "postgres", "--into", &into], count, || stage.postgres_count("killed"));
    holds_all(&said, &[&format!("{count} records = {count} written + 0 dead letters")]);
    let into = ["--sink", "clickhouse", "--into", &ch_killed];
    let said = replay_with_kills(&stage, &into, count, || stage.clickhouse_count(&ch_killed));
    holds_all(&said, &[&format!("{count} records = {count} written + 0 dead letters")]);

    for table in ["local", "remote", "killed"] {
        assert_eq!(stage.postgres_hash(table), rows, "{table}");
        let other = |a: &str, b: &str| {
            stage.sql(&format!("SELECT count(*) FROM (SELECT * FROM SCHEMA.{a} EXCEPT ALL SELECT * FROM SCHEMA.{b}) x"))
        };
        assert_eq!((other("live", table), other(table, "live")), ("0".into(), "0".into()), "{table}");
    }
    assert!(ch_rows.starts_with(&format!("{count} {count} ")), "{ch_rows}");
    for table in [&ch_local, &ch_remote, &ch_killed] {
        assert_eq!(stage.clickhouse_hash(table), ch_rows, "{table}");
    }
    assert_eq!(stage.live_offsets(), live, "the live groups' offsets");
    let now = stage.sql(&format!(
        "SELECT md5(string_agg(p::text, '' ORDER BY p::text)) FROM SCHEMA.positions p WHERE pipeline = '{}'",
        world.name
    ));
    assert_eq!(now, positions, "the live positions beside the rows");
    stage.done(&into, &["it is finished already, and nothing was done", "--restart", "all accounted for"]);
    assert_eq!(stage.clickhouse_hash(&ch_killed), ch_rows);
}
