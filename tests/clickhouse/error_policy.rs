//! What the sink does with the server's errors: each has its end, whatever its code.

use pressline::kafka::dead_letter::header;

use crate::loads::codes;
use crate::offsets::{counts, stage, stage_at};
use crate::relay::holds_all;
use crate::support::DATABASE;

/// `throwIf` in columns that ClickHouse computes, one term a code. Of code 0, "no error", nobody can tell that it is one.
#[test]
fn one_row_of_a_thousand_that_brings_any_code_for_ever_costs_no_other() {
    let Some((world, load)) = stage("every_code") else { return };
    let all = world.select(
        "SELECT toString(code) AS v FROM system.errors WHERE code BETWEEN 1 AND 32767 GROUP BY code ORDER BY code SETTINGS \
         system_events_show_zero_values = 1",
    );
    assert!(all.len() > 500, "{}", all.len());
    let codes = codes::chosen(all, 60);
    let table = format!("{DATABASE}.{}", load.name);
    for (part, some) in codes.chunks(50).enumerate() {
        let term = |(place, code): (usize, &String)| {
            let n = (part * 50 + place) as i64 * codes::EACH + codes::BAD;
            format!("throwIf(n = {n}, '192.0.2.1', toInt16({code}))")
        };
        let terms: Vec<String> = some.iter().enumerate().map(term).collect();
        let terms = terms.join(", ");
        world.run(&format!("ALTER TABLE {table} ADD COLUMN x{part} UInt8 MATERIALIZED arrayMax([{terms}])"));
    }
    codes::one_row_of_a_thousand(&load, &codes, || counts(&world, &load).split(' ').next().unwrap().parse().unwrap());
}

#[test]
fn an_answer_that_nobody_knows_to_every_row_stops_the_sink() {
    let Some((world, load)) = stage("ch_unknown_to_all") else { return };
    let table = format!("{DATABASE}.{}", load.name);
    // BAD_ARGUMENTS.
    world.run(&format!("ALTER TABLE {table} ADD COLUMN x UInt8 MATERIALIZED throwIf(n >= 0, 'no', toInt16(36))"));
    load.send(0, 0..30);
    let mut run = load.run_with(&["sink.clickhouse.consumer.retry_ms=20"]);
    assert_eq!(run.exit_code(crate::cluster::PATIENCE), 1);
    holds_all(&run.log(), &["code 36", "rows alone"]);
    assert!(load.cluster.read(&format!("{}.dead", load.topic)).is_empty());
    world.run(&format!("ALTER TABLE {table} DROP COLUMN x"));
    load.load_all();
    assert_eq!(counts(&world, &load), "30 30");
}

/// No memory for any insert: waited out for ever, not ready all the while.
#[test]
fn memory_that_is_short_is_waited_out_and_costs_no_row() {
    let Some((world, load)) = stage("ch_memory") else { return };
    let table = format!("{DATABASE}.{}", load.name);
    world.run(&format!("ALTER TABLE {table} ADD COLUMN x UInt8 MATERIALIZED throwIf(n >= 0, 'no', toInt16(241))"));
    load.send(0, 0..30);
    load.send(1, 30..60);
    let mut run = load.run_with(&["sink.clickhouse.consumer.retry_ms=20"]);
    run.await_log("rows alone");
    for _ in 0..20 {
        assert_ne!(run.get("/readyz").0, 200, "ready while nothing is written");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    world.run(&format!("ALTER TABLE {table} DROP COLUMN x"));
    load.await_loaded(&mut run);
    crate::cluster::await_that("ready", || run.get("/readyz").0 == 200);
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "60 60");
    assert!(load.cluster.read(&format!("{}.dead", load.topic)).is_empty());
}

#[test]
fn more_table_partitions_than_an_insert_may_have_are_written_in_parts() {
    let Some((world, load)) = stage("ch_many_partitions") else { return };
    let table = format!("{DATABASE}.{}", load.name);
    world.run(&format!("DROP TABLE {table}"));
    world.run(&format!(
        "CREATE TABLE {table} (n Int64, t DateTime64(6, 'UTC'), _topic LowCardinality(String), _partition Int32, _offset Int64) \
         ENGINE = MergeTree PARTITION BY intDiv(n, 2) ORDER BY n SETTINGS non_replicated_deduplication_window = 1000"
    ));
    load.send(0, 0..300);
    let mut run = load.run();
    load.await_loaded(&mut run);
    holds_all(&run.log(), &["in parts", "max_partitions_per_insert_block", "sink.clickhouse.batch.max_rows"]);
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "300 300");
    assert!(load.cluster.read(&format!("{}.dead", load.topic)).is_empty());
}

/// Rows of an insert on which a view fails are in the table: that is told in the log, by a metric and in the dead-letter topic.
#[test]
fn a_view_that_fails_is_told_with_its_name_and_the_offsets() {
    let Some((world, load)) = stage("ch_view_told") else { return };
    let table = format!("{DATABASE}.{}", load.name);
    world.run(&format!(
        "CREATE MATERIALIZED VIEW {table}_v ENGINE = MergeTree ORDER BY n AS SELECT throwIf(n = 55) AS n FROM {table}"
    ));
    load.send(0, 0..100);
    let mut run = load.run();
    load.await_loaded(&mut run);
    let view = format!("view=\"{table}_v\"");
    holds_all(
        &run.log(),
        &["a materialized view failed", &view, "first_offset=0", "last_offset=99", "rows=100", "code=\"395\""],
    );
    let metrics = run.metrics();
    assert_eq!(metrics.sum("pressline_sink_rows_without_view_total"), 100.0);
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "100 100");
    let letters = load.cluster.read(&format!("{}.dead", load.topic));
    let [letter] = letters.as_slice() else { panic!("{}", letters.len()) };
    assert_eq!(letter.header(header::REASON), Some("view"));
    assert!(letter.header(header::MESSAGE).unwrap().contains("offsets 0 to 99: 100 rows"));
    let said = load.tool_ok(&["reconcile"]);
    holds_all(&said, &["OK", "offsets 0 to 99: 100 rows", "view"]);
    assert!(load.check().contains(&format!("{}_v", load.name)));
}

/// An nginx before the server, which takes no body above 64 kB.
struct Nginx {
    process: std::process::Child,
    url: String,
    _dir: tempfile::TempDir,
}

impl Nginx {
    /// `None`, said aloud, where there is no nginx.
    fn to(server: &str) -> Option<Self> {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let dir = tempfile::tempdir().unwrap();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|kind| format!("{kind}_temp_path {}/{kind};", dir.path().display()));
        let configuration = format!(
            "daemon off; master_process off; pid {0}/pid; error_log {0}/error.log; events {{}} http {{ access_log off; {1} server {{ \
             listen 127.0.0.1:{port}; client_max_body_size 64k; location / {{ proxy_pass {server}; }} }} }}",
            dir.path().display(),
            temporary.join(" ")
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, configuration).unwrap();
        let program =
            ["/usr/sbin/nginx", "/usr/bin/nginx"].into_iter().find(|path| std::path::Path::new(path).exists());
        let Some(program) = program else {
            println!("skipped: there is no nginx (tests/stack/prerequisites.sh installs it)");
            return None;
        };
        let mut command = std::process::Command::new(program);
        let process = command.arg("-c").arg(&file).arg("-p").arg(dir.path()).spawn().unwrap();
        Some(Self { process, url: format!("http://127.0.0.1:{port}"), _dir: dir })
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn what_a_proxy_takes_for_too_large_is_written_in_parts() {
    let Ok(server) = std::env::var("PRESSLINE_TEST_CLICKHOUSE") else { return };
    let Some(nginx) = Nginx::to(&server) else { return };
    let Some((world, load)) = stage_at("ch_too_large", &nginx.url, "compress = false") else { return };
    load.send(0, 0..20_000);
    let mut run = load.run();
    load.await_loaded(&mut run);
    holds_all(&run.log(), &["in parts", "HTTP 413", "client_max_body_size", "sink.clickhouse.batch.max_bytes"]);
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "20000 20000");
    assert!(load.cluster.read(&format!("{}.dead", load.topic)).is_empty());
}

#[test]
fn what_was_settled_of_a_batch_that_fails_later_is_counted() {
    let Some((world, load)) = stage("ch_half") else { return };
    let table = format!("{DATABASE}.{}", load.name);
    world.run(&format!(
        "ALTER TABLE {table} ADD COLUMN x UInt8 MATERIALIZED throwIf(_partition = 1, 'no', toInt16(241))"
    ));
    load.send(0, 0..50);
    load.send_junk(0);
    load.send(1, 50..100);
    let mut run = load.run();
    run.await_log("code 241");
    let sums = |run: &mut crate::relay::Relay| {
        let metrics = run.metrics();
        ["pressline_sink_rows_total", "pressline_sink_rows_dead_total"].map(|name| metrics.sum(name))
    };
    assert_eq!(sums(&mut run), [50.0, 1.0]);
    world.run(&format!("ALTER TABLE {table} DROP COLUMN x"));
    load.await_loaded(&mut run);
    crate::cluster::await_that("all counted", || sums(&mut run) == [100.0, 1.0]);
    assert_eq!(run.stop(), 0);
    assert_eq!(counts(&world, &load), "100 100");
}
