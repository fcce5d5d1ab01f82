//! The grants of docs/operations.md are enough, and each of them is needed.

use std::collections::BTreeMap;

use apache_avro::types::Value;
use pressline::config::sink::ColumnsConfig;
use pressline::sink::postgres::{Advance, Connection, Offsets, Writer};

use crate::cluster::await_that;
use crate::loads::rights;
use crate::offsets::{stage, stage_with};
use crate::relay::service;
use crate::support::{Server, batch, datum, record, server};

const ROLE: &str = "pressline_least";

/// The statements of the page's section, for the tables of this test.
fn documented(schema: &str) -> Vec<String> {
    let page = include_str!("../../docs/operations.md");
    let section = page.split("### PostgreSQL").nth(1).expect("a section on PostgreSQL's rights");
    let block = section.split("```sql\n").nth(1).and_then(|rest| rest.split("```").next()).expect("its statements");
    let named = |line: &str| {
        line.replace("LOGIN;", "LOGIN PASSWORD 'least';")
            .replace("loader", ROLE)
            .replace("button_presses", &format!("{schema}.t"))
            .replace("pressline_offsets", &format!("{schema}.pressline_offsets"))
    };
    block.lines().map(named).collect()
}

/// One batch, as the sink writes it: the position is claimed, rows and position are committed. Errors: in words.
async fn load(server: &Server, offset: i64) -> Result<(), String> {
    let connection =
        Connection::open(&server.config_as(ROLE, "least", ""), "least").await.map_err(|e| e.to_string())?;
    let offsets = Offsets::new(&format!("{}.pressline_offsets", server.schema), "p", "presses", "id").unwrap();
    offsets.ensure_table(&connection).await.map_err(|e| e.to_string())?;
    offsets.claim(&connection, &BTreeMap::from([(0, offset)])).await.map_err(|e| e.to_string())?;
    let schema = record(&[("number", "\"long\"")]);
    let plan = server.plan("t", &schema, &ColumnsConfig::default()).await.unwrap();
    let rows = batch(&[datum(&schema, vec![("number", Value::Long(offset))])]);
    let mut writer = Writer::new(connection);
    let mut transaction = writer.begin().await.map_err(|e| e.to_string())?;
    transaction.copy(&rows, |_| Some(&plan), 0, &mut || {}).await.map_err(|e| e.to_string())?;
    let advance = Advance { partition: 0, start: offset, end: offset + 1 };
    transaction.commit(&offsets, &[advance]).await.map_err(|e| e.to_string())
}

#[tokio::test]
async fn the_documented_grants_are_enough_and_none_is_too_many() {
    let Some(server) = server("least").await else { return };
    let schema = &server.schema;
    // Left over from a run that failed: a role with rights cannot be dropped, only without them.
    server.sql(&format!("DO $$ BEGIN DROP OWNED BY {ROLE}; EXCEPTION WHEN undefined_object THEN NULL; END $$")).await;
    server.sql(&format!("DROP ROLE IF EXISTS {ROLE}")).await;
    server.sql(&format!("CREATE TABLE {schema}.t (number bigint)")).await;
    let offsets = Offsets::new(&format!("{schema}.pressline_offsets"), "p", "presses", "id").unwrap();
    server.sql(&offsets.ddl()).await;
    let statements = documented(schema);
    assert!(statements.len() >= 3, "{statements:?}");
    for statement in &statements {
        server.sql(statement).await;
    }
    server.sql(&format!("GRANT USAGE ON SCHEMA {schema} TO {ROLE}")).await;
    load(&server, 0).await.unwrap();
    assert_eq!(server.value(&format!("SELECT next_offset FROM {schema}.pressline_offsets")).await, "1");

    // Right by right: "GRANT A, B ON table TO role".
    let mut offset = 1;
    for grant in statements.iter().filter_map(|statement| statement.strip_prefix("GRANT ")) {
        let (rights, rest) = grant.split_once(" ON ").unwrap();
        let (table, _) = rest.split_once(" TO ").unwrap();
        for right in rights.split(", ") {
            server.sql(&format!("REVOKE {right} ON {table} FROM {ROLE}")).await;
            // A position that there is no row of yet, so that one has to be made.
            server.sql(&format!("DELETE FROM {schema}.pressline_offsets")).await;
            let error = load(&server, offset).await.expect_err(right);
            assert!(error.contains("42501"), "{right} on {table}: {error}");
            server.sql(&format!("GRANT {right} ON {table} TO {ROLE}")).await;
            load(&server, offset).await.unwrap();
            offset += 1;
        }
    }
    assert_eq!(offset, 5, "four rights were tried");
    server.sql(&format!("DROP SCHEMA {schema} CASCADE; DROP ROLE {ROLE}")).await;
}

#[test]
fn the_documented_grants_on_kafka_are_enough_and_none_is_too_many() {
    let Some((database, load)) = stage("pg_kafka_least") else { return };
    rights::each_is_needed(&load, || database.value("SELECT count(*) FROM SCHEMA.t").parse().unwrap());
}

#[test]
fn a_password_that_was_renewed_is_read_again_after_it_was_refused() {
    let user = "user = \"pressline_renewed\"";
    let Some((database, load)) = stage_with("renewed", "n bigint NOT NULL, t timestamptz NOT NULL", user) else {
        return;
    };
    database.sql("DROP ROLE IF EXISTS pressline_renewed");
    database.sql("CREATE ROLE pressline_renewed LOGIN SUPERUSER PASSWORD 'first'");
    // Wrong from the start: it waits, and goes on by itself.
    load.write("password", "not yet");
    load.send(0, 0..10);
    let mut run = load.run();
    run.await_log("the server refuses the password");
    load.write("password", "first");
    load.await_loaded(&mut run);

    database.sql("ALTER ROLE pressline_renewed PASSWORD 'second'");
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'pressline_renewed'");
    let before = run.log().len();
    load.send(0, 10..20);
    await_that("the old password is refused", || {
        run.still_runs();
        run.log()[before..].contains("the server refuses the password")
    });
    load.write("password", "second");
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    assert_eq!(database.value("SELECT count(*) || ' ' || count(DISTINCT n) FROM SCHEMA.t"), "20 20");
    database.sql("REASSIGN OWNED BY pressline_renewed TO CURRENT_USER; DROP ROLE pressline_renewed");
}

/// The authority, and the client's certificate with its key: each is read again for the next connection.
#[test]
fn certificates_that_were_renewed_are_read_again() {
    let tls = "user = \"certified\"\nsslmode = \"verify-full\"\nca = \"../ca.pem\"\ncertificate = \"../client.cert\"\nkey = \
               \"../client.key\"";
    let Some((database, load)) = stage_with("certified", "n bigint NOT NULL, t timestamptz NOT NULL", tls) else {
        return;
    };
    let folder = std::path::PathBuf::from(service("PRESSLINE_TEST_TLS_DIR"));
    let put = |file: &str, from: &str| load.write(file, &std::fs::read_to_string(folder.join(from)).unwrap());
    let set_client = |name: &str| {
        put("client.cert", &format!("{name}.cert"));
        put("client.key", &format!("{name}.key"));
    };
    database.sql("DROP ROLE IF EXISTS certified");
    database.sql(&format!("CREATE ROLE certified LOGIN SUPERUSER PASSWORD '{}'", load.read("password")));
    put("ca.pem", "stranger-ca.pem");
    set_client("stranger");
    load.send(0, 0..10);
    let mut run = load.run();
    run.await_log("UnknownIssuer; set sink.postgres.ca");
    put("ca.pem", "ca.pem");
    run.await_log("the server refuses sink.postgres.certificate");
    set_client("service");
    load.await_loaded(&mut run);

    put("ca.pem", "stranger-ca.pem");
    let before = run.log().len();
    database.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'certified'");
    load.send(0, 10..20);
    await_that("a new connection reads the authority", || {
        run.still_runs();
        run.log()[before..].contains("UnknownIssuer")
    });
    put("ca.pem", "ca.pem");
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    assert_eq!(database.value("SELECT count(*) || ' ' || count(DISTINCT n) FROM SCHEMA.t"), "20 20");
    database.sql("REASSIGN OWNED BY certified TO CURRENT_USER; DROP ROLE certified");
}
