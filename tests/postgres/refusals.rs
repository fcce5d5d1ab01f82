//! What does not fit is refused before the first row, all at once, with its cure.

use pressline::avro::Shape;
use pressline::config::finding::{Finding, Severity};
use pressline::config::sink::ColumnsConfig;
use pressline::sink::Columns;
use pressline::sink::postgres::CopyPlan;

use crate::support::{record, server};

/// Simple Avro types, and the columns that each goes into without a word.
const MAP: &[(&str, &[&str])] = &[
    ("\"boolean\"", &["boolean"]),
    ("\"int\"", &["smallint", "integer", "bigint", "double precision", "numeric", "numeric(5,2)"]),
    ("\"long\"", &["smallint", "integer", "bigint", "numeric", "numeric(5,2)"]),
    ("\"float\"", &["real", "double precision"]),
    ("\"double\"", &["double precision"]),
    ("\"bytes\"", &["bytea", "uuid"]),
    ("\"string\"", &["text", "varchar(3)", "char(3)", "uuid", "json", "jsonb", "mood"]),
    (r#"{"type":"fixed","name":"f","size":16}"#, &["bytea", "uuid"]),
    (r#"{"type":"fixed","name":"g","size":5}"#, &["bytea"]),
    (r#"{"type":"enum","name":"e","symbols":["sad","ok"]}"#, &["text", "varchar(3)", "char(3)", "mood"]),
    (r#"{"type":"bytes","logicalType":"decimal","precision":5,"scale":2}"#, &["numeric", "numeric(5,2)"]),
    (r#"{"type":"string","logicalType":"uuid"}"#, &["text", "varchar(3)", "char(3)", "uuid"]),
    (r#"{"type":"fixed","name":"h","size":16,"logicalType":"uuid"}"#, &["text", "uuid"]),
    (r#"{"type":"int","logicalType":"date"}"#, &["date", "integer", "bigint"]),
    (r#"{"type":"int","logicalType":"time-millis"}"#, &["time", "integer", "bigint"]),
    (r#"{"type":"long","logicalType":"time-micros"}"#, &["time", "bigint"]),
    (r#"{"type":"long","logicalType":"timestamp-millis"}"#, &["timestamptz", "timestamptz(3)", "bigint"]),
    (r#"{"type":"long","logicalType":"timestamp-micros"}"#, &["timestamptz", "bigint"]),
    (r#"{"type":"long","logicalType":"timestamp-nanos"}"#, &["bigint"]),
    (r#"{"type":"long","logicalType":"local-timestamp-millis"}"#, &["timestamp", "bigint"]),
    (r#"{"type":"long","logicalType":"local-timestamp-micros"}"#, &["timestamp", "bigint"]),
    (r#"{"type":"long","logicalType":"local-timestamp-nanos"}"#, &["bigint"]),
    (r#"{"type":"array","items":"string"}"#, &["text[]", "json", "jsonb"]),
    (r#"{"type":"array","items":"int"}"#, &["integer[]", "json", "jsonb"]),
    (r#"{"type":"array","items":{"type":"array","items":"int"}}"#, &["json", "jsonb"]),
    (r#"{"type":"map","values":"int"}"#, &["json", "jsonb"]),
    (r#"{"type":"record","name":"r","fields":[]}"#, &["json", "jsonb"]),
    (r#"["null","int","string"]"#, &["json", "jsonb"]),
    (r#"["int","long"]"#, &["smallint", "integer", "bigint", "numeric", "numeric(5,2)", "json", "jsonb"]),
    (r#"["float","null","double"]"#, &["double precision", "json", "jsonb"]),
    ("\"null\"", &[]),
];

const COLUMNS: &[&str] = &[
    "boolean",
    "smallint",
    "integer",
    "bigint",
    "real",
    "double precision",
    "numeric",
    "numeric(5,2)",
    "text",
    "varchar(3)",
    "char(3)",
    "bytea",
    "uuid",
    "date",
    "time",
    "timestamp",
    "timestamptz",
    "timestamptz(3)",
    "json",
    "jsonb",
    "mood",
    "text[]",
    "integer[]",
    "inet",
    "cidr",
    "interval",
    "xml",
    "money",
    "point",
    "bit(3)",
    "int4range",
    "oid",
    "timetz",
    "int2vector",
];

#[tokio::test]
async fn every_pair_outside_the_map_is_refused_with_a_statement_that_runs() {
    let Some(server) = server("pairs").await else { return };
    server.sql(&format!("CREATE TYPE {}.mood AS ENUM ('ok', 'sad')", server.schema)).await;
    let connection = server.connect().await;
    let settings = ColumnsConfig::default();
    let columns = Columns::new(&settings, "sink.postgres");
    for (avro, takes) in MAP {
        for column in COLUMNS {
            let kind = if *column == "mood" { format!("{}.mood", server.schema) } else { column.to_string() };
            server.sql(&format!("DROP TABLE IF EXISTS {0}.t; CREATE TABLE {0}.t (value {kind})", server.schema)).await;
            let table = server.table(&connection, "t").await;
            let shape = Shape::parse(&record(&[("value", avro)])).unwrap();
            match CopyPlan::compile(&shape, &table, &columns) {
                Ok(plan) => assert!(takes.contains(column), "{avro} into {column}: {:?}", plan.lines()),
                Err(findings) => {
                    assert!(!takes.contains(column), "{avro} into {column}: {}", findings[0]);
                    let [finding] = findings.as_slice() else { panic!("one finding: {findings:?}") };
                    assert!(finding.subject.contains("column value") && finding.subject.contains("field value"));
                    assert!(!finding.what.is_empty() && !finding.cure.is_empty(), "{finding}");
                    if finding.cure.starts_with("ALTER TABLE") {
                        server.sql(statement(finding)).await;
                        let table = server.table(&connection, "t").await;
                        let fits = CopyPlan::compile(&shape, &table, &columns);
                        assert!(fits.is_ok(), "{avro} into {column} after {}: {fits:?}", finding.cure);
                    }
                }
            }
        }
    }
}

/// The statement that a cure begins with.
fn statement(finding: &Finding) -> &str {
    finding.cure.split("; or ").next().unwrap()
}

#[tokio::test]
async fn the_statement_takes_defaults_identities_and_rows_along() {
    let Some(server) = server("alter").await else { return };
    let connection = server.connect().await;
    let settings = ColumnsConfig::default();
    let columns = Columns::new(&settings, "sink.postgres");
    let instant = r#"{"type":"long","logicalType":"timestamp-micros"}"#;
    let text = "\"string\"";
    for (column, row, avro, after) in [
        ("int DEFAULT 7", "7", text, "7"),
        ("int GENERATED ALWAYS AS IDENTITY", "DEFAULT", text, "1"),
        ("int GENERATED BY DEFAULT AS IDENTITY", "DEFAULT", "\"double\"", "1"),
        ("text DEFAULT 'x'", "'7'", "\"int\"", "7"),
        ("int", "7", r#"{"type":"map","values":"int"}"#, "7"),
        ("json", "'{\"a\": 1}'", text, "{\"a\": 1}"),
        ("timestamp", "'2026-01-01 12:00'", instant, "2026-01-01 12:00:00+00"),
    ] {
        server
            .sql(&format!(
                "SET TimeZone = 'UTC'; DROP TABLE IF EXISTS {0}.t; CREATE TABLE {0}.t (value {column}); INSERT INTO {0}.t VALUES \
                 ({row})",
                server.schema
            ))
            .await;
        let table = server.table(&connection, "t").await;
        let shape = Shape::parse(&record(&[("value", avro)])).unwrap();
        match CopyPlan::compile(&shape, &table, &columns) {
            // JSON text is taken as it is.
            Ok(_) => assert_eq!(column, "json"),
            Err(findings) => drop(server.sql(statement(&findings[0])).await),
        }
        let table = server.table(&connection, "t").await;
        assert!(CopyPlan::compile(&shape, &table, &columns).is_ok(), "{column}");
        assert_eq!(server.value(&format!("SELECT value FROM {}.t", server.schema)).await, after, "{column}");
    }
}

#[tokio::test]
async fn names_that_postgres_would_cut_or_that_differ_in_case_are_said() {
    let Some(server) = server("names").await else { return };
    server.sql(&format!("CREATE TABLE {}.t (\"Kind\" text)", server.schema)).await;
    let connection = server.connect().await;
    let table = server.table(&connection, "t").await;
    let settings = ColumnsConfig::default();
    let columns = Columns::new(&settings, "sink.postgres");
    let long = "n".repeat(64);
    let shape = Shape::parse(&record(&[("kind", "\"string\""), (&long, "\"string\"")])).unwrap();
    let findings = CopyPlan::compile(&shape, &table, &columns).unwrap_err();
    let case = about(&findings, "there is Kind, and names keep their case");
    assert!(case.cure.starts_with("sink.postgres.columns.rename = { kind = \"Kind\" }"), "{case}");
    let name = about(&findings, "has 64 bytes, PostgreSQL's names at most 63");
    assert!(name.cure.contains("columns.rename") && !name.cure.contains("ALTER TABLE"), "{name}");
    let none = pressline::sink::postgres::create_table_sql(&shape, &table.name, &columns).unwrap_err();
    about(&none, "has 64 bytes");
    let short = Shape::parse(&record(&[(&long[1..], "\"string\"")])).unwrap();
    assert!(pressline::sink::postgres::create_table_sql(&short, &table.name, &columns).is_ok());
}

#[tokio::test]
async fn a_record_that_leaves_no_column_is_refused() {
    let Some(server) = server("no_column").await else { return };
    server.sql(&format!("CREATE TABLE {}.t (x int)", server.schema)).await;
    let connection = server.connect().await;
    let table = server.table(&connection, "t").await;
    let settings = ColumnsConfig { ignore: vec!["id".into()], ..ColumnsConfig::default() };
    let columns = Columns::new(&settings, "sink.postgres");
    for fields in [&[][..], &[("id", "\"int\"")]] {
        let shape = Shape::parse(&record(fields)).unwrap();
        for findings in [
            CopyPlan::compile(&shape, &table, &columns).unwrap_err(),
            pressline::sink::postgres::create_table_sql(&shape, &table.name, &columns).unwrap_err(),
        ] {
            about(&findings, "no field of the record goes into a column");
        }
    }
}

#[tokio::test]
async fn what_becomes_of_rows_beside_the_columns_is_a_warning() {
    let Some(server) = server("beside").await else { return };
    server
        .sql(&format!(
            "CREATE TABLE {0}.t (id int) PARTITION BY LIST (id); CREATE UNLOGGED TABLE {0}.light PARTITION OF {0}.t FOR VALUES \
             IN (1); CREATE TABLE {0}.sound PARTITION OF {0}.t DEFAULT; CREATE FUNCTION {0}.f() RETURNS trigger LANGUAGE plpgsql \
             AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER part BEFORE INSERT ON {0}.sound FOR EACH ROW EXECUTE FUNCTION {0}.f(); \
             CREATE TRIGGER later AFTER INSERT ON {0}.t FOR EACH ROW EXECUTE FUNCTION {0}.f(); CREATE TABLE {0}.plain (id int); \
             CREATE RULE away AS ON INSERT TO {0}.plain DO INSTEAD NOTHING",
            server.schema
        ))
        .await;
    let connection = server.connect().await;
    let settings = ColumnsConfig::default();
    let columns = Columns::new(&settings, "sink.postgres");
    let shape = Shape::parse(&record(&[("id", "\"int\"")])).unwrap();
    let plan = CopyPlan::compile(&shape, &server.table(&connection, "t").await, &columns).unwrap();
    assert_eq!(plan.warnings().len(), 2, "{:#?}", plan.warnings());
    about(plan.warnings(), "light is UNLOGGED");
    about(plan.warnings(), "the trigger part runs before each row");
    let plan = CopyPlan::compile(&shape, &server.table(&connection, "plain").await, &columns).unwrap();
    assert_eq!(plan.warnings().len(), 1, "{:#?}", plan.warnings());
    about(plan.warnings(), "COPY passes over the rule away");
}

fn about<'f>(findings: &'f [Finding], text: &str) -> &'f Finding {
    findings
        .iter()
        .find(|finding| finding.to_string().contains(text))
        .unwrap_or_else(|| panic!("no finding about {text}: {findings:#?}"))
}

#[tokio::test]
async fn all_findings_come_at_once() {
    let Some(server) = server("findings").await else { return };
    server
        .sql(&format!(
            "CREATE TYPE {0}.mood AS ENUM ('ok'); CREATE TABLE {0}.t (id bigint GENERATED ALWAYS AS IDENTITY, twice int \
             GENERATED ALWAYS AS (2) STORED, address inet, mood {0}.mood, ratio real, needed text NOT NULL, at timestamp)",
            server.schema
        ))
        .await;
    let schema = record(&[
        ("id", "\"long\""),
        ("twice", "\"int\""),
        ("address", "\"string\""),
        ("mood", r#"{"type":"enum","name":"e","symbols":["sad","ok","glad"]}"#),
        ("ratio", "\"double\""),
        ("at", r#"{"type":"long","logicalType":"timestamp-micros"}"#),
    ]);
    let findings = server.plan("t", &schema, &ColumnsConfig::default()).await.unwrap_err();
    assert_eq!(findings.len(), 6, "{findings:#?}");
    assert!(about(&findings, "column twice").what.contains("generated"));
    assert!(about(&findings, "column address").what.contains("IP addresses"));
    assert_eq!(
        about(&findings, "column mood").cure,
        format!("ALTER TYPE {0}.mood ADD VALUE 'sad'; ALTER TYPE {0}.mood ADD VALUE 'glad'", server.schema)
    );
    let ratio = about(&findings, "column ratio");
    assert_eq!(
        ratio.cure,
        format!(
            "ALTER TABLE \"{}\".\"t\" ALTER \"ratio\" TYPE double precision; or allow it: columns.lossy = [\"ratio\"]",
            server.schema
        )
    );
    assert!(about(&findings, "column needed").what.contains("takes no null"));
    assert!(about(&findings, "column at").cure.contains("TYPE timestamptz"));
    // The exact ALTERs do cure it.
    server.sql(ratio.cure.split(';').next().unwrap()).await;
    let findings = server.plan("t", &schema, &ColumnsConfig::default()).await.unwrap_err();
    assert!(!findings.iter().any(|finding| finding.subject.contains("ratio")));
}

#[tokio::test]
async fn fields_without_a_column_and_relations_that_are_no_tables_are_refused() {
    let Some(server) = server("relations").await else { return };
    server
        .sql(&format!(
            "CREATE TABLE {0}.t (a int) PARTITION BY RANGE (a); CREATE VIEW {0}.v AS SELECT 1 AS a; CREATE UNLOGGED TABLE {0}.u \
             (a int); CREATE TABLE {0}.\"Mixed.Case\" (a int)",
            server.schema
        ))
        .await;
    let schema = record(&[("a", "\"int\"")]);
    let none = ColumnsConfig::default();
    server.plan("t", &schema, &none).await.unwrap();
    server.plan("Mixed.Case", &schema, &none).await.unwrap();
    let findings = server.plan("v", &schema, &none).await.unwrap_err();
    assert!(about(&findings, "a view").place.ends_with(".v"));
    let plan = server.plan("u", &schema, &none).await.unwrap();
    assert_eq!(plan.warnings()[0].severity, Severity::Warning);
    let findings = server.plan("t", &record(&[("a", "\"int\""), ("b", "\"int\"")]), &none).await.unwrap_err();
    assert!(about(&findings, "no column b").cure.contains("columns.ignore = [\"b\"]"));
    let dropped = ColumnsConfig { ignore: vec!["b".into()], ..ColumnsConfig::default() };
    let nested = r#"{"type":"map","values":{"type":"array","items":["null","string"]}}"#;
    server.plan("t", &record(&[("b", nested), ("a", "\"int\"")]), &dropped).await.unwrap();
    let connection = server.connect().await;
    let missing = pressline::sink::postgres::Table::read(&connection, &server.name("missing")).await.unwrap();
    assert_eq!(missing, None);
}
