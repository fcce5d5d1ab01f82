//! What one row costs on its way from Avro into a Native block, on one core.
//!
//! `cargo bench --bench clickhouse`. The rows are made up, of about the spread that real ones have.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use divan::Bencher;
use divan::counter::ItemsCount;
use pressline::avro::Shape;
use pressline::config::sink::ColumnsConfig;
use pressline::sink::Columns;
use pressline::sink::clickhouse::{BlockPlan, Days, DefaultKind, Table, TableColumn, Type};

const SCHEMA: &str = include_str!("../schemas/button_presses.avsc");
/// Rows a block.
const ROWS: usize = 100_000;
/// Cities; each has one country, subdivision and time zone.
const CITIES: usize = 20_000;

/// The table of `auto_create`.
fn table() -> Table {
    let low = "LowCardinality(String)";
    let columns = [
        ("session_id", "UUID"),
        ("timestamp", "DateTime64(6, 'UTC')"),
        ("cohort", "Nullable(Int32)"),
        ("action", low),
        ("country_name", low),
        ("country_code", low),
        ("subdivision_name", low),
        ("subdivision_code", low),
        ("city_name", low),
        ("latitude", "Nullable(Float64)"),
        ("longitude", "Nullable(Float64)"),
        ("accuracy_km", "Nullable(Int32)"),
        ("time_zone", "LowCardinality(Nullable(String))"),
        ("_topic", low),
        ("_partition", "Int32"),
        ("_offset", "Int64"),
    ];
    let column = |(name, type_name): (&str, &str)| TableColumn {
        name: name.into(),
        type_name: type_name.into(),
        parsed: Type::parse(type_name),
        default: DefaultKind::None,
        has_ttl: false,
    };
    Table {
        server: "http://localhost:8123".into(),
        database: "default".into(),
        name: "button_presses".into(),
        columns: columns.into_iter().map(column).collect(),
        engine: "MergeTree".into(),
        arguments: String::new(),
        deduplication_window: 1000,
        partition_key: String::new(),
        sorting_key: String::new(),
        ttl: String::new(),
        views: Vec::new(),
        days: Days::WIDE,
    }
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

fn datum(writer: &GenericDatumWriter<'_>, n: usize) -> Vec<u8> {
    let city = n * 7_919 % CITIES;
    let text = |name: &str, text: String| (name.to_string(), Value::String(text));
    let fields = vec![
        (
            "session_id".to_string(),
            Value::Uuid(uuid::Uuid::from_u128(n as u128 * 0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
        ),
        ("timestamp".to_string(), Value::TimestampMicros(1_795_262_400_000_000 + n as i64 * 1_003)),
        ("cohort".to_string(), some(Value::Int((n % 3) as i32))),
        text("action", ["EnterPage", "PressButton"][n % 2].to_string()),
        text("country_name", format!("Country {}", city % 200)),
        text("country_code", format!("{:02}", city % 100)),
        text("subdivision_name", format!("Subdivision {}", city % 2_000)),
        text("subdivision_code", format!("{}", city % 99)),
        text("city_name", format!("Kaupunki {city}")),
        ("latitude".to_string(), some(Value::Double(city as f64 / 1000.0))),
        ("longitude".to_string(), some(Value::Double(-(city as f64) / 1000.0))),
        ("accuracy_km".to_string(), some(Value::Int(20))),
        ("time_zone".to_string(), some(Value::String(format!("Europe/Zone {}", city % 400)))),
    ];
    writer.write_value_to_vec(Value::Record(fields)).unwrap()
}

fn stage() -> (BlockPlan, Vec<Vec<u8>>) {
    let config = ColumnsConfig::default();
    let shape = Shape::parse(SCHEMA).unwrap();
    let plan =
        BlockPlan::compile(&shape, &table(), &Columns::new(&config, "sink.clickhouse"), "button_presses").unwrap();
    let schema = Schema::parse_str(SCHEMA).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    (plan, (0..ROWS).map(|n| datum(&writer, n)).collect())
}

fn main() {
    divan::main();
}

/// Datums into columns.
#[divan::bench(sample_count = 30)]
fn push(bencher: Bencher) {
    let (plan, datums) = stage();
    let mut block = plan.block();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        block.clear();
        for (offset, datum) in (0..).zip(&datums) {
            block.push(&plan, datum, 3, offset).unwrap();
        }
        block.rows()
    });
}

/// Columns into one Native block.
#[divan::bench(sample_count = 30)]
fn native(bencher: Bencher) {
    let (plan, datums) = stage();
    let mut block = plan.block();
    (0..).zip(&datums).for_each(|(offset, datum)| block.push(&plan, datum, 3, offset).unwrap());
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(ROWS)).bench_local(|| {
        out.clear();
        block.native(&mut out);
        out.len()
    });
}
