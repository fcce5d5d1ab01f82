//! Through PgBouncer: nothing of a session outlives a transaction, so that no row lands where another client's should.

use std::process::Command;
use std::sync::OnceLock;

use pressline::config::sink::{ColumnsConfig, PostgresConfig};
use pressline::sink::Columns;
use pressline::sink::postgres::{Advance, Connection, CopyPlan, ErrorClass, Offsets, Writer};
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::cluster::{Raw, await_that};
use crate::loads::{Load, load};
use crate::offsets::Database;
use crate::relay::{Relay, project};
use crate::support::{Server, batch, datum, record, server};

/// `host:port` of PgBouncer, started once; `None` without the stack of this project.
fn pooler() -> Option<String> {
    static STARTED: OnceLock<bool> = OnceLock::new();
    let (Ok(address), Ok(state)) = (std::env::var("PRESSLINE_TEST_PGBOUNCER"), std::env::var("PRESSLINE_TEST_STACK"))
    else {
        println!("skipped: PRESSLINE_TEST_PGBOUNCER and PRESSLINE_TEST_STACK are not set");
        return None;
    };
    let start = || {
        let folder = std::path::Path::new(&state).parent().unwrap();
        let mut stack = Command::new("python3");
        stack.arg(project("tests/stack/stack.py")).args(["restart", "pgbouncer"]);
        stack.env("PRESSLINE_STACK_FOLDER", folder).status().unwrap().success()
    };
    assert!(*STARTED.get_or_init(start), "stack.py starts pgbouncer");
    Some(address)
}

/// The test's configuration by way of the pooler, in this mode.
fn through(server: &Server, pooler: &str, mode: &str) -> PostgresConfig {
    let (host, port) = pooler.rsplit_once(':').unwrap();
    let mut config = server.config("sslmode = \"disable\"");
    config.host = host.into();
    config.port = port.parse().unwrap();
    config.database = mode.into();
    config
}

/// Another client of the pooler.
async fn other_client(config: &PostgresConfig, password: &str) -> tokio_postgres::Client {
    let (client, connection) = tokio_postgres::Config::new()
        .host(&config.host)
        .port(config.port)
        .user(&config.user)
        .password(password)
        .dbname(&config.database)
        .connect(NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

fn first_value(message: &SimpleQueryMessage) -> Option<&str> {
    match message {
        SimpleQueryMessage::Row(row) => row.get(0),
        _ => None,
    }
}

#[tokio::test]
async fn nothing_outlives_a_transaction_and_nothing_of_others_matters() {
    let Some(server) = server("pooler").await else { return };
    let Some(pooler) = pooler() else { return };
    let (config, direct) = (through(&server, &pooler, "shared"), &server.schema);
    server
        .sql(&format!(
            "DROP TABLE IF EXISTS public.pooled, public.pooled_positions; CREATE TABLE public.pooled (id bigint, kind text); CREATE \
             TABLE {direct}.pooled (id bigint, kind text)"
        ))
        .await;
    // What other clients leave on both server connections, and PgBouncer does not take back.
    let others = [other_client(&config, &server.password).await, other_client(&config, &server.password).await];
    for client in &others {
        client.batch_execute("BEGIN").await.unwrap();
    }
    for client in &others {
        let left = format!(
            "SET search_path = {direct}; SET standard_conforming_strings = off; SET client_min_messages = debug1; COMMIT"
        );
        client.batch_execute(&left).await.unwrap();
    }

    let connection = Connection::open(&config, "it's \\ test").await.unwrap();
    let offsets = Offsets::new("pooled_positions", "it's \\ test", "topic", "id").unwrap();
    offsets.ensure_table(&connection).await.unwrap();
    offsets.claim(&connection, &[(0, 0)].into()).await.unwrap();
    let schema = record(&[("id", "\"long\""), ("kind", "\"string\"")]);
    let name = pressline::sink::postgres::TableName::parse("pooled").unwrap();
    let table = pressline::sink::postgres::Table::read(&connection, &name).await.unwrap().unwrap();
    assert_eq!(table.title(), "public.pooled", "the role's own search path");
    let settings = ColumnsConfig::default();
    let shape = pressline::avro::Shape::parse(&schema).unwrap();
    let plan =
        CopyPlan::compile(&shape, &std::sync::Arc::new(table), &Columns::new(&settings, "sink.postgres")).unwrap();
    let mut writer = Writer::new(connection);
    for start in 0..6i64 {
        let text = apache_avro::types::Value::String("grün \\".into());
        let row = datum(&schema, vec![("id", apache_avro::types::Value::Long(start)), ("kind", text)]);
        let mut one = pressline::sink::RowBatch::default();
        one.push(0, start, None, 1, &row);
        one.cover(0, start, start + 1);
        // Another server connection now and then.
        let held = (start % 2 == 1).then(|| &others[0]);
        if let Some(held) = held {
            held.batch_execute("BEGIN").await.unwrap();
        }
        let mut transaction = writer.begin().await.unwrap();
        assert!(transaction.copy(&one, |_| Some(&plan), 0, &mut || {}).await.unwrap().is_empty());
        transaction.commit(&offsets, &[Advance { partition: 0, start, end: start + 1 }]).await.unwrap();
        if let Some(held) = held {
            held.batch_execute("COMMIT").await.unwrap();
        }
    }
    let rows = server.sql("SELECT id, kind FROM public.pooled ORDER BY id").await;
    let wanted: Vec<Vec<Option<String>>> =
        (0..6).map(|id| vec![Some(id.to_string()), Some("grün \\".to_string())]).collect();
    assert_eq!(rows, wanted);
    assert_eq!(server.value(&format!("SELECT count(*) FROM {direct}.pooled")).await, "0");

    for client in &others {
        client.batch_execute("BEGIN").await.unwrap();
    }
    let fresh = "SELECT (SELECT count(*) FROM pg_prepared_statements) || ' ' || current_setting('statement_timeout') || ' ' || \
                 current_setting('lock_timeout') || ' ' || current_setting('idle_in_transaction_session_timeout') || ' ' || \
                 current_setting('client_min_messages') || ' ' || current_setting('search_path') || ' ' || \
                 (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())";
    for client in &others {
        let rows = client.simple_query(fresh).await.unwrap();
        assert_eq!(
            rows.iter().find_map(first_value).unwrap(),
            format!("0 0 0 0 debug1 {direct} 0"),
            "as the other client left it"
        );
        client.batch_execute("ROLLBACK").await.unwrap();
    }
    server.sql("DROP TABLE public.pooled, public.pooled_positions").await;
}

#[tokio::test]
async fn a_pooler_that_cannot_do_it_is_refused_in_words() {
    let Some(server) = server("pooler_refused").await else { return };
    let Some(pooler) = pooler() else { return };
    for (mode, class, part) in [
        ("statement", ErrorClass::Schema, "statement mode, which allows no transactions; set pool_mode"),
        ("nowhere", ErrorClass::Schema, "the pooler does not know the database"),
    ] {
        let error = Connection::open(&through(&server, &pooler, mode), "test").await.err().unwrap();
        assert_eq!(error.class, class, "{error}");
        assert!(error.to_string().contains(part), "{error}");
    }
    let mut stranger = through(&server, &pooler, "transaction");
    stranger.user = "stranger".into();
    let error = Connection::open(&stranger, "test").await.err().unwrap();
    assert_eq!(error.class, ErrorClass::Authentication, "{error}");
}

#[tokio::test]
async fn a_statement_that_another_client_left_is_no_schema_error() {
    let Some(server) = server("pooler_names").await else { return };
    let Some(pooler) = pooler() else { return };
    let config = through(&server, &pooler, "names");
    server.sql(&format!("CREATE TABLE {}.t (id bigint)", server.schema)).await;
    let schema = record(&[("id", "\"long\"")]);
    let plan = server.plan("t", &schema, &ColumnsConfig::default()).await.unwrap();
    let other = other_client(&config, &server.password).await;
    // The names that tokio-postgres uses next in this process, whatever other tests prepare meanwhile.
    let mut direct = server.config("");
    direct.sslmode = config.sslmode;
    let direct = other_client(&direct, &server.password).await;
    let _kept = direct.prepare("SELECT 1").await.unwrap();
    let names = direct.simple_query("SELECT substr(name, 2) FROM pg_prepared_statements").await.unwrap();
    let last: u64 = names.iter().find_map(first_value).unwrap().parse().unwrap();
    let taken: Vec<String> = (last..last + 500).map(|number| format!("PREPARE s{number} AS SELECT 1")).collect();
    other.batch_execute(&taken.join("; ")).await.unwrap();
    let mut writer = Writer::new(Connection::open(&config, "test").await.unwrap());
    let row = batch(&[datum(&schema, vec![("id", apache_avro::types::Value::Long(1))])]);
    let mut transaction = writer.begin().await.unwrap();
    let error = transaction.copy(&row, |_| Some(&plan), 0, &mut || {}).await.unwrap_err();
    assert_eq!((error.class, error.sqlstate.as_deref()), (ErrorClass::Transient, Some("42P05")), "{error}");
    drop(transaction);
    // As the sink does it: on a new connection.
    let mut writer = Writer::new(Connection::open(&config, "test").await.unwrap());
    other.batch_execute("DEALLOCATE ALL").await.unwrap();
    let mut transaction = writer.begin().await.unwrap();
    assert!(transaction.copy(&row, |_| Some(&plan), 0, &mut || {}).await.unwrap().is_empty());
    transaction.rollback().await.unwrap();
}

/// A process that loads `table` through the pooler, and the numbers that it is sent.
struct Pipeline {
    load: Load,
    table: &'static str,
    first: i64,
    next: i64,
}

impl Pipeline {
    fn new(database: &Database, pooler: &str, mode: &str, table: &'static str, first: i64) -> Option<Self> {
        database.sql(&format!("CREATE TABLE SCHEMA.{table} (n bigint, t timestamptz)"));
        let (host, port) = pooler.rsplit_once(':').unwrap();
        let user = std::env::var("PRESSLINE_TEST_POSTGRES_USER").unwrap();
        let schema = database.schema();
        let sink = format!(
            "[sink.postgres]\nhost = \"{host}\"\nport = {port}\nuser = \"{user}\"\ndatabase = \"{mode}\"\npassword_file = \
             \"../password\"\nsslmode = \"disable\"\ntable = \"{schema}.{table}\"\noffsets_table = \
             \"{schema}.positions\"\nbatch.max_rows = 5000\n"
        );
        let load = load(&format!("pooled_{mode}_{table}"), "postgres", |_| sink.clone())?;
        Some(Self { load, table, first, next: first })
    }

    fn send(&mut self, count: i64) {
        let records: Vec<Raw> = (self.next..self.next + count)
            .map(|number| Raw::value((number % 2) as i32, self.load.value(number)))
            .collect();
        self.load.cluster.send(&self.load.topic, &records);
        self.next += count;
    }

    /// Rows that should be there and are not, and rows that are there and should not be.
    fn differences(&self, database: &Database) -> String {
        let (first, last, table) = (self.first, self.next - 1, self.table);
        let wanted = format!(
            "SELECT n, timestamptz '2026-01-01 00:00Z' + n * interval '1 minute' AS t FROM generate_series({first}, {last}) n"
        );
        database.value(&format!(
            "SELECT (SELECT count(*) FROM ({wanted} EXCEPT ALL TABLE SCHEMA.{table}) a) || ' missing, ' || (SELECT count(*) FROM \
             (TABLE SCHEMA.{table} EXCEPT ALL ({wanted})) b) || ' strange'"
        ))
    }
}

fn two_processes(mode: &str) {
    let Some(database) = Database::new(&format!("pooled_{mode}")) else { return };
    let Some(pooler) = pooler() else { return };
    let both = [("a", 0), ("z", 10_000_000)];
    let pipelines = both.map(|(table, first)| Pipeline::new(&database, &pooler, mode, table, first));
    let [Some(mut a), Some(mut z)] = pipelines else { return };
    for pipeline in [&mut a, &mut z] {
        pipeline.send(100_000);
    }
    let mut runs: Vec<Relay> = [&a, &z].map(|pipeline| pipeline.load.run()).into();
    // A trickle: small transactions of both between each other.
    for _ in 0..20 {
        for pipeline in [&mut a, &mut z] {
            pipeline.send(200);
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    for (pipeline, run) in [&a, &z].into_iter().zip(&mut runs) {
        pipeline.load.await_loaded(run);
        await_that("all rows", || database.value(&format!("SELECT count(*) FROM SCHEMA.{}", pipeline.table)) != "0");
    }
    for (pipeline, run) in [&a, &z].into_iter().zip(&mut runs) {
        assert_eq!(run.stop(), 0);
        assert_eq!(pipeline.differences(&database), "0 missing, 0 strange", "table {}: {}", pipeline.table, run.log());
        assert!(!run.log().contains("SQLSTATE"), "{}", run.log());
    }
}

#[test]
fn two_processes_behind_a_pooler_in_transaction_mode_fill_their_own_tables() {
    two_processes("transaction");
}

#[test]
fn two_processes_behind_a_pooler_in_session_mode_fill_their_own_tables() {
    two_processes("session");
}
