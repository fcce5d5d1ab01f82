//! `auto_evolve`: columns for the fields that newer schemas bring, and nothing else.

use pressline::avro::Shape;
use pressline::config::sink::ColumnsConfig;
use pressline::sink::Columns;
use pressline::sink::postgres::{CopyPlan, add_columns};

use crate::cluster::await_that;
use crate::loads::evolve::{COLUMNS, Ways, follows, settings};
use crate::loads::load;
use crate::offsets::{Database, stage_with};
use crate::support::{record, server};

fn follow(test: &str, is_upsert: bool) {
    let Some(database) = Database::new(test) else { return };
    let Some(load) = load(test, "postgres", |_| database.tables(&settings(is_upsert))) else { return };
    let row = COLUMNS.map(|column| format!("coalesce({column}::text, '-')")).join(", ");
    let rows = || {
        let rows = database.value(&format!("SELECT string_agg(concat_ws('|', {row}), ';') FROM SCHEMA.t"));
        let mut rows: Vec<String> = rows.split(';').map(String::from).collect();
        rows.sort();
        rows
    };
    let widen = "ALTER TABLE SCHEMA.t ALTER qty TYPE bigint";
    // Of a row that is changed, columns that the change does not know stay.
    follows(&load, &Ways { is_upsert, keeps: is_upsert, run: &|sql| database.sql(sql), widen, rows: &rows });
    // No column was dropped, and none was made for a name that is another one's.
    let columns = "SELECT string_agg(attname, ' ' ORDER BY attname) FROM pg_attribute WHERE attrelid = 'SCHEMA.t'::regclass AND \
                   attnum > 0 AND attname <> 'id'";
    assert_eq!(database.value(columns), "n name note old qty size");
}

#[test]
fn inserts_follow_their_schemas() {
    follow("evolve_insert", false);
}

#[test]
fn upserts_follow_their_schemas() {
    follow("evolve_upsert", true);
}

/// The statement that the refusal prints is run by hand, and what stopped goes on.
#[test]
fn without_it_the_statement_is_printed() {
    let Some((database, load)) = stage_with("evolve_off", "n bigint NOT NULL", "") else { return };
    load.send(0, 0..10);
    let said = load.refused(&["the table has no column t for field t", "sink.postgres.auto_evolve = true"]);
    assert!(load.check().contains("the table has no column t for field t"));
    let begin = said.find("ALTER TABLE").unwrap();
    let statement = &said[begin..begin + said[begin..].find("; or").unwrap()];
    database.sql(statement);
    load.load_all();
    assert_eq!(database.value("SELECT count(*) || ' ' || count(t) FROM SCHEMA.t"), "10 10");
}

/// Somebody holds the table: it is waited for in short pieces, and nobody waits long behind it.
#[test]
fn a_table_that_is_held_is_waited_for() {
    let Some((database, load)) = stage_with("evolve_lock", "n bigint NOT NULL", "auto_evolve = true\n") else { return };
    assert!(load.check().contains("auto_evolve will add columns to "), "{}", load.check());
    database.sql("BEGIN; SELECT n FROM SCHEMA.t");
    load.send(0, 0..10);
    let mut run = load.run();
    run.await_log("a lock was not granted in time");
    database.sql("COMMIT");
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    assert_eq!(database.value("SELECT count(*) || ' ' || count(t) FROM SCHEMA.t"), "10 10");
}

/// Who may only write gets the statement, and the load goes on once the owner has run it.
#[test]
fn without_the_right_to_it_the_owner_is_asked() {
    let Some(database) = Database::new("evolve_right") else { return };
    database.sql(
        "CREATE TABLE SCHEMA.t (n bigint NOT NULL); DROP ROLE IF EXISTS evolve_writer; CREATE ROLE evolve_writer LOGIN PASSWORD 'w'; \
         GRANT USAGE, CREATE ON schema SCHEMA TO evolve_writer; GRANT INSERT ON SCHEMA.t TO evolve_writer",
    );
    let more = "user = \"evolve_writer\"\nauto_evolve = true\n";
    let Some(load) = load("evolve_right", "postgres", |_| database.tables(more)) else { return };
    load.write("password", "w");
    load.send(0, 0..10);
    let mut run = load.run();
    run.await_log("the user may not add columns (auto_evolve); let the table's owner run:");
    let log = run.log();
    let statement = log.lines().find(|line| line.starts_with("ALTER TABLE")).unwrap();
    let end = statement.find(';').unwrap();
    database.sql(&statement[..end]);
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    await_that("all rows", || database.value("SELECT count(*) || ' ' || count(t) FROM SCHEMA.t") == "10 10");
}

/// Nothing is altered where anything else is amiss, or a column of the key is missing.
#[tokio::test]
async fn only_what_makes_the_record_fit_is_added() {
    let Some(server) = server("evolve_statement").await else { return };
    server.sql(&format!("CREATE TABLE {}.\"T\" (a int, \"Name\" text)", server.schema)).await;
    let connection = server.connect().await;
    let table = server.table(&connection, "T").await;
    let config = ColumnsConfig::default();
    let columns = Columns::new(&config, "sink.postgres");
    let statement = |fields: &[(&str, &str)], key: &[&str]| {
        let shape = Shape::parse(&record(fields)).unwrap();
        let (_, found) = CopyPlan::examine(&shape, &table, &columns);
        table.add_columns_sql(&shape, &columns, &key.iter().map(ToString::to_string).collect::<Vec<_>>(), &found)
    };
    let wanted = [("a", "\"int\""), ("b", "\"long\""), ("c", "[\"null\",{\"type\":\"array\",\"items\":\"string\"}]")];
    let sql = statement(&wanted, &["a"]).unwrap();
    let added = "ADD COLUMN IF NOT EXISTS \"b\" bigint, ADD COLUMN IF NOT EXISTS \"c\" text[]";
    assert!(sql.ends_with(added) && !sql.contains("NOT NULL"), "{sql}");
    assert_eq!(statement(&[("a", "\"int\"")], &[]), None, "it lacks nothing");
    assert_eq!(statement(&wanted, &["b"]), None, "a column of the key");
    assert_eq!(statement(&[("a", "\"string\""), ("b", "\"long\"")], &[]), None, "another field does not fit");
    assert_eq!(statement(&[("name", "\"string\"")], &[]), None, "a name in another case");
    // Twice, as two workers may.
    add_columns(&connection, &sql).await.unwrap();
    add_columns(&connection, &sql).await.unwrap();
    let table = server.table(&connection, "T").await;
    assert!(CopyPlan::compile(&Shape::parse(&record(&wanted)).unwrap(), &table, &columns).is_ok());
}
