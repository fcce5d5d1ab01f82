//! Button presses into the table that people want, and into the one they settle for elsewhere.

use apache_avro::types::Value;
use pressline::avro::Shape;
use pressline::config::sink::ColumnsConfig;
use pressline::sink::Columns;
use pressline::sink::postgres::{CopyPlan, Offsets, create_table, create_table_sql};

use crate::support::{Server, batch, datum, server};

const SCHEMA: &str = include_str!("../../schemas/button_presses.avsc");

fn press(number: u128, cohort: Option<i32>) -> Vec<u8> {
    let optional = |value: Option<Value>| match value {
        Some(value) => Value::Union(1, Box::new(value)),
        None => Value::Union(0, Box::new(Value::Null)),
    };
    let text = |text: &str| Value::String(text.into());
    let values = vec![
        ("session_id", Value::Uuid(uuid::Uuid::from_u128(number))),
        ("timestamp", Value::TimestampMicros(1_767_225_600_123_456)),
        ("cohort", optional(cohort.map(Value::Int))),
        ("action", text("PressButton")),
        ("country_name", text("Norway")),
        ("country_code", text("NO")),
        ("subdivision_name", text("Trøndelag")),
        ("subdivision_code", text("50")),
        ("city_name", text("Trondheim")),
        ("latitude", optional(Some(Value::Double(63.43)))),
        ("longitude", optional(None)),
        ("accuracy_km", optional(Some(Value::Int(20)))),
        ("time_zone", optional(Some(text("Europe/Oslo")))),
    ];
    datum(SCHEMA, values)
}

async fn load(server: &Server, plan: &CopyPlan) {
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let batch = batch(&[press(1, None), press(2, Some(-1))]);
    assert!(transaction.copy(&batch, |_| Some(plan), 0, &mut || {}).await.unwrap().is_empty());
    transaction.commit(&Offsets::new("unused", "p", "t", "i").unwrap(), &[]).await.unwrap();
}

const PLACE: &str = "country_name text NOT NULL, subdivision_name text NOT NULL, subdivision_code text NOT NULL, city_name text \
                     NOT NULL, latitude float8, longitude float8, accuracy_km int, time_zone text";

#[tokio::test]
async fn the_typed_table_takes_presses() {
    let Some(server) = server("typed").await else { return };
    server
        .sql(&format!(
            "CREATE TYPE {0}.action AS ENUM ('EnterPage', 'PressButton', 'ExitPage'); CREATE TABLE {0}.\"order\" (id bigint \
             GENERATED ALWAYS AS IDENTITY, session_id uuid NOT NULL, \"timestamp\" timestamptz NOT NULL, action {0}.action NOT \
             NULL, country_code char(2) NOT NULL, cohort smallint, {PLACE}, loaded_at timestamptz NOT NULL DEFAULT now(), day \
             date GENERATED ALWAYS AS ((\"timestamp\" AT TIME ZONE 'UTC')::date) STORED)",
            server.schema
        ))
        .await;
    let plan = server.plan("order", SCHEMA, &ColumnsConfig::default()).await.unwrap();
    assert!(plan.copy_statement().starts_with(&format!("COPY \"{}\".\"order\" (\"session_id\", ", server.schema)));
    load(&server, &plan).await;
    let rows = server
        .sql(&format!(
            "SET timezone = 'UTC'; SELECT id, session_id, \"timestamp\", action, country_code, cohort, latitude, longitude, \
             city_name, subdivision_name, day, loaded_at > now() - interval '1 minute' FROM {}.\"order\" ORDER BY id",
            server.schema
        ))
        .await;
    let shown: Vec<Vec<&str>> =
        rows.iter().map(|row| row.iter().map(|value| value.as_deref().unwrap_or("null")).collect()).collect();
    let instant = "2026-01-01 00:00:00.123456+00";
    let place = ["63.43", "null", "Trondheim", "Trøndelag", "2026-01-01", "t"];
    let first = ["1", "00000000-0000-0000-0000-000000000001", instant, "PressButton", "NO", "null"];
    let second = ["2", "00000000-0000-0000-0000-000000000002", instant, "PressButton", "NO", "-1"];
    assert_eq!(shown, [[first, place].concat(), [second, place].concat()]);
    let of = |column: &str| plan.lines().iter().find(|line| line.column == column).unwrap().conversion.clone();
    assert_eq!(of("timestamp"), "microseconds, exact");
    assert_eq!(of("id"), "no field: identity");
    assert_eq!(of("loaded_at"), "no field: left to its default");
    assert_eq!(of("day"), "no field: generated");
}

#[tokio::test]
async fn the_table_of_plain_types_takes_presses() {
    let Some(server) = server("plain").await else { return };
    server
        .sql(&format!(
            "CREATE TABLE {}.t (session_id text, \"timestamp\" bigint, action text, country_code text, cohort int, {PLACE})",
            server.schema
        ))
        .await;
    let plan = server.plan("t", SCHEMA, &ColumnsConfig::default()).await.unwrap();
    load(&server, &plan).await;
    let sum = format!("SELECT sum(\"timestamp\") || ' ' || min(session_id) FROM {}.t", server.schema);
    assert_eq!(server.value(&sum).await, "3534451200246912 00000000-0000-0000-0000-000000000001");
}

#[tokio::test]
async fn auto_create_makes_a_table_that_takes_presses() {
    let Some(server) = server("made").await else { return };
    let columns = ColumnsConfig {
        rename: [("timestamp".to_string(), "pressed_at".to_string())].into(),
        ignore: vec!["time_zone".into()],
        ..ColumnsConfig::default()
    };
    let shape = Shape::parse(SCHEMA).unwrap();
    let sql = create_table_sql(&shape, &server.name("t"), &Columns::new(&columns, "sink.postgres")).unwrap();
    assert!(sql.contains("\"session_id\" uuid NOT NULL,"), "{sql}");
    assert!(sql.contains("\"pressed_at\" timestamptz NOT NULL,"), "{sql}");
    assert!(sql.contains("\"cohort\" integer,"), "{sql}");
    assert!(!sql.contains("time_zone"), "{sql}");
    let connection = server.connect().await;
    create_table(&connection, &sql).await.unwrap();
    create_table(&connection, &sql).await.unwrap();
    let plan = server.plan("t", SCHEMA, &columns).await.unwrap();
    load(&server, &plan).await;
    assert_eq!(server.value(&format!("SELECT count(*) FROM {}.t", server.schema)).await, "2");
}

#[tokio::test]
async fn a_damaged_datum_is_refused_whole() {
    let Some(server) = server("damaged").await else { return };
    let sql = create_table_sql(
        &Shape::parse(SCHEMA).unwrap(),
        &server.name("t"),
        &Columns::new(&ColumnsConfig::default(), "sink.postgres"),
    );
    server.sql(&sql.unwrap()).await;
    let plan = server.plan("t", SCHEMA, &ColumnsConfig::default()).await.unwrap();
    let whole = press(1, Some(3));
    let mut out = b"before".to_vec();
    for length in 0..whole.len() {
        assert!(plan.encode_row(&whole[..length], &mut out).is_err(), "{length} bytes of {}", whole.len());
        assert_eq!(out, b"before");
    }
    let longer = [whole.as_slice(), b"\0"].concat();
    assert_eq!(plan.encode_row(&longer, &mut out).unwrap_err().why.code(), "damaged");
    plan.encode_row(&whole, &mut out).unwrap();
}
