//! What one row costs on its way into PostgreSQL, without the server: `cargo bench --bench postgres`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use divan::{Bencher, counter::ItemsCount};
use pressline::avro::Shape;
use pressline::config::sink::ColumnsConfig;
use pressline::sink::Columns;
use pressline::sink::postgres::{
    Beside, Column, ColumnType, CopyPlan, Defaults, Filled, RelationKind, Table, TableName,
};

/// Rows a sample, different ones.
const ROWS: usize = 10_000;
const SCHEMA: &str = include_str!("../schemas/button_presses.avsc");

fn main() {
    divan::main();
}

fn column(name: &str, kind: ColumnType) -> Column {
    Column { name: name.into(), type_text: String::new(), kind, not_null: false, filled: Filled::No, may_insert: true }
}

fn plan(columns: Vec<Column>) -> CopyPlan {
    let table = Table {
        oid: 1,
        name: TableName { schema: None, table: "t".into() },
        kind: RelationKind::Table,
        row_security: false,
        unlogged: false,
        beside: Beside::default(),
        defaults: Defaults::new(),
        columns,
    };
    let config = ColumnsConfig::default();
    CopyPlan::compile(&Shape::parse(SCHEMA).unwrap(), &Arc::new(table), &Columns::new(&config, "sink.postgres"))
        .unwrap()
}

fn typed() -> CopyPlan {
    let labels: Vec<String> = ["EnterPage", "ExitPage", "PressButton"].map(String::from).into();
    plan(with_place(vec![
        column("session_id", ColumnType::Uuid),
        column("timestamp", ColumnType::TimestampTz(6)),
        column("cohort", ColumnType::Int2),
        column("action", ColumnType::Enum(labels.into())),
        column("country_code", ColumnType::Char(2)),
    ]))
}

fn plain() -> CopyPlan {
    plan(with_place(vec![
        column("session_id", ColumnType::Text),
        column("timestamp", ColumnType::Int8),
        column("cohort", ColumnType::Int4),
        column("action", ColumnType::Text),
        column("country_code", ColumnType::Text),
    ]))
}

fn with_place(mut columns: Vec<Column>) -> Vec<Column> {
    let texts = ["country_name", "subdivision_name", "subdivision_code", "city_name", "time_zone"];
    columns.extend(texts.map(|name| column(name, ColumnType::Text)));
    columns.extend(["latitude", "longitude"].map(|name| column(name, ColumnType::Float8)));
    columns.push(column("accuracy_km", ColumnType::Int4));
    columns
}

fn presses() -> Vec<Vec<u8>> {
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let some = |value: Value| Value::Union(1, Box::new(value));
    let text = |text: &str| Value::String(text.into());
    let press = |number: usize| {
        let cohort =
            if number.is_multiple_of(3) { Value::Union(0, Box::new(Value::Null)) } else { some(Value::Int(3)) };
        Value::Record(vec![
            (
                "session_id".into(),
                Value::Uuid(uuid::Uuid::from_u128(number as u128 * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
            ),
            ("timestamp".into(), Value::TimestampMicros(1_767_225_600_000_000 + number as i64 * 50)),
            ("cohort".into(), cohort),
            ("action".into(), text(["EnterPage", "PressButton"][number % 2])),
            ("country_name".into(), text("Norway")),
            ("country_code".into(), text("NO")),
            ("subdivision_name".into(), text("Trøndelag")),
            ("subdivision_code".into(), text("50")),
            ("city_name".into(), text("Trondheim")),
            ("latitude".into(), some(Value::Double(63.43))),
            ("longitude".into(), some(Value::Double(10.39))),
            ("accuracy_km".into(), some(Value::Int(20))),
            ("time_zone".into(), some(text("Europe/Oslo"))),
        ])
    };
    (0..ROWS).map(|number| writer.write_value_to_vec(press(number)).unwrap()).collect()
}

fn rows(bencher: Bencher<'_, '_>, plan: &CopyPlan) {
    let presses = presses();
    let mut out = Vec::with_capacity(ROWS * 512);
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        out.clear();
        for press in &presses {
            plan.encode_row(press, &mut out).unwrap();
        }
        out.len()
    });
}

#[divan::bench]
fn typed_table(bencher: Bencher<'_, '_>) {
    rows(bencher, &typed());
}

#[divan::bench]
fn plain_table(bencher: Bencher<'_, '_>) {
    rows(bencher, &plain());
}
