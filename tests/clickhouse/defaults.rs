//! Columns that a record leaves to their default: because its schema lacks the field, or because it is null and the
//! configuration says so. And records of several schemas in one topic, which share their inserts.

use apache_avro::types::Value;
use pressline::avro::Shape;
use pressline::config::sink::ColumnsConfig;
use pressline::sink::clickhouse::{BlockPlan, Table};
use pressline::sink::{Columns, Why};

use crate::cluster::{Raw, await_that};
use crate::link::Link;
use crate::loads::Load;
use crate::offsets::stage_at;
use crate::support::{DATABASE, TOPIC, World, datum, one, record_of, world};

/// Column, field, a value, and another value as text; without one, a row of a block cannot leave such a column to its DEFAULT.
fn columns() -> Vec<(&'static str, &'static str, Value, Option<&'static str>)> {
    let micros = r#"{"type": "long", "logicalType": "timestamp-micros"}"#;
    let day = r#"{"type": "int", "logicalType": "date"}"#;
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}"#;
    let uuid = r#"{"type": "string", "logicalType": "uuid"}"#;
    let optional_items = r#"{"type": "array", "items": ["string", "null"]}"#;
    let arrays = r#"{"type": "array", "items": {"type": "array", "items": "string"}}"#;
    let map = r#"{"type": "map", "values": "long"}"#;
    let text = || Value::String("a".into());
    let number = || Value::Decimal(apache_avro::Decimal::from(vec![5]));
    let one_item = |item| Value::Array(vec![item]);
    vec![
        ("Int64", "\"long\"", Value::Long(-7), Some("9")),
        ("UInt8", "\"boolean\"", Value::Boolean(true), Some("9")),
        ("Bool", "\"boolean\"", Value::Boolean(true), None),
        ("UInt256", "\"long\"", Value::Long(7), Some("9")),
        ("Float64", "\"double\"", Value::Double(0.5), Some("9.5")),
        ("Decimal(9, 2)", decimal, number(), Some("9.25")),
        ("Decimal(76, 2)", decimal, number(), Some("9.25")),
        ("String", "\"string\"", text(), Some("it's b")),
        ("FixedString(3)", "\"string\"", text(), Some("bcd")),
        ("UUID", uuid, Value::Uuid(uuid::Uuid::from_u128(1)), Some("01234567-89ab-cdef-fedc-ba9876543210")),
        ("Date", day, Value::Date(1), Some("2026-11-29")),
        ("Date32", day, Value::Date(-1), Some("1926-11-29")),
        ("DateTime64(6, 'UTC')", micros, Value::TimestampMicros(1), Some("2026-11-29 12:00:00.000001")),
        ("Enum8('b' = -3, 'a' = 1, 'c' = 2)", "\"string\"", text(), Some("c")),
        ("LowCardinality(String)", "\"string\"", text(), Some("b")),
        ("LowCardinality(FixedString(2))", "\"string\"", text(), Some("bc")),
        ("LowCardinality(Nullable(String))", "\"string\"", text(), None),
        ("Nullable(String)", "\"string\"", text(), None),
        ("Nullable(Decimal(38, 2))", decimal, number(), None),
        ("SimpleAggregateFunction(anyLast, String)", "\"string\"", text(), Some("b")),
        ("SimpleAggregateFunction(max, Nullable(Int64))", "\"long\"", Value::Long(7), None),
        ("Array(Nullable(String))", optional_items, one_item(Value::Union(0, Box::new(text()))), None),
        ("Array(Array(LowCardinality(String)))", arrays, one_item(one_item(text())), None),
        ("Map(String, Int64)", map, Value::Map([("k".to_string(), Value::Long(1))].into()), None),
    ]
}

fn compiled(schema: &str, table: &Table, null_as_default: &[&str]) -> BlockPlan {
    let config = ColumnsConfig {
        null_as_default: null_as_default.iter().map(ToString::to_string).collect(),
        ..ColumnsConfig::default()
    };
    BlockPlan::compile(&Shape::parse(schema).unwrap(), table, &Columns::new(&config, "sink.clickhouse"), TOPIC).unwrap()
}

fn rows(world: &World, table: &Table) -> Vec<String> {
    world.select(&format!(
        "SELECT concat(toString(k), ' ', ifNull(toString(v), 'NULL')) AS v FROM {DATABASE}.{} ORDER BY k",
        table.name
    ))
}

/// A record of a schema without the field gets, in the block of one that has it, what an insert that does not name the column
/// leaves there: of each type, plain and with a DEFAULT.
#[test]
fn a_row_without_the_field_is_as_if_the_column_was_not_named() {
    let Some(world) = world("absent") else { return };
    for (column, field, value, other) in columns() {
        check_absent(&world, column, field, &value);
        if let Some(other) = other {
            let default = format!("CAST('{}' AS {column})", other.replace('\'', "\\'"));
            check_absent(&world, &format!("{column} DEFAULT {default}"), field, &value);
        }
    }
}

const KEY: &str = r#"{"type": "record", "name": "r", "fields": [{"name": "k", "type": "long"}]}"#;

fn only_key(k: i64) -> Vec<u8> {
    datum(KEY, Value::Record(vec![("k".into(), Value::Long(k))]))
}

fn check_absent(world: &World, column: &str, field: &str, value: &Value) {
    let both = format!(
        r#"{{"type": "record", "name": "r", "fields": [{{"name": "k", "type": "long"}}, {{"name": "v", "type": {field}}}]}}"#
    );
    let table = world.table(&format!("(k Int64, v {column}) ENGINE = MergeTree ORDER BY k"));
    let (mut with, mut without) = (compiled(&both, &table, &[]), compiled(KEY, &table, &[]));
    // Alone, the insert does not name the column.
    let mut alone = without.block();
    alone.push(&without, &only_key(1), 0, 1).unwrap();
    world.insert(&table, &alone, "1").unwrap();
    BlockPlan::unite(&mut [&mut with, &mut without]);
    let mut block = with.block();
    assert!(block.takes(&without), "{column}");
    let full = datum(&both, Value::Record(vec![("k".into(), Value::Long(3)), ("v".into(), value.clone())]));
    block.push(&without, &only_key(2), 0, 2).unwrap();
    block.push(&with, &full, 0, 3).unwrap();
    block.push(&without, &only_key(4), 0, 4).unwrap();
    world.insert(&table, &block, "2").unwrap_or_else(|error| panic!("{column}: {error}"));
    let found = rows(world, &table);
    let shown = |n: usize| found[n].split_once(' ').unwrap().1.to_string();
    assert_eq!((shown(1), shown(3)), (shown(0), shown(0)), "{column}");
    assert_ne!(shown(2), shown(0), "{column}");
    world.run(&format!("DROP TABLE {DATABASE}.{}", table.name));
}

/// No row of a block can leave these to their DEFAULT: null is a value of the one, and no value of the other.
#[test]
fn columns_that_a_row_cannot_leave_out_keep_blocks_apart() {
    let Some(world) = world("apart") else { return };
    for (column, field) in [
        ("Nullable(String) DEFAULT 'x'", "\"string\""),
        ("LowCardinality(Nullable(String)) DEFAULT 'x'", "\"string\""),
        ("Array(String) DEFAULT ['x']", r#"{"type": "array", "items": "string"}"#),
    ] {
        let both = format!(
            r#"{{"type": "record", "name": "r", "fields": [{{"name": "k", "type": "long"}}, {{"name": "v", "type": {field}}}]}}"#
        );
        let table = world.table(&format!("(k Int64, v {column}) ENGINE = MergeTree ORDER BY k"));
        let (mut with, mut without) = (compiled(&both, &table, &[]), compiled(KEY, &table, &[]));
        BlockPlan::unite(&mut [&mut with, &mut without]);
        assert!(!with.block().takes(&without), "{column}");
    }
}

/// Null, in columns that take none, for fields that `null_as_default` names.
#[test]
fn null_leaves_a_column_to_its_default_where_the_configuration_says_so() {
    let Some(world) = world("null_default") else { return };
    let strings = r#"["null", {"type": "array", "items": ["null", "string"]}]"#;
    let maps = r#"["null", {"type": "map", "values": "long"}]"#;
    let nested = r#"["null", {"type": "array", "items": ["null", {"type": "array", "items": "string"}]}]"#;
    let text = r#"["null", "string"]"#;
    for (column, field, shown) in [
        ("String", text, ""),
        ("String DEFAULT 'none'", text, "none"),
        ("String DEFAULT concat('k', toString(k))", text, "k1"),
        ("LowCardinality(String)", text, ""),
        ("LowCardinality(String) DEFAULT 'none'", text, "none"),
        ("Nullable(String) DEFAULT 'none'", text, "NULL"),
        ("Enum8('none' = 1, 'a' = 2) DEFAULT 'a'", text, "a"),
        ("FixedString(2)", text, ""),
        ("Int64 DEFAULT -1", r#"["null", "long"]"#, "-1"),
        ("Array(Nullable(String))", strings, "[]"),
        ("Array(String)", strings, "[]"),
        ("Map(String, Int64)", maps, "{}"),
        ("Array(Array(String))", nested, "[]"),
        ("Nullable(String)", "\"null\"", "NULL"),
        ("String DEFAULT 'none'", "\"null\"", "none"),
    ] {
        let schema = format!(
            r#"{{"type": "record", "name": "r", "fields": [{{"name": "k", "type": "long"}}, {{"name": "v", "type": {field}}}]}}"#
        );
        let table = world.table(&format!("(k Int64, v {column}) ENGINE = MergeTree ORDER BY k"));
        let null = match field {
            "\"null\"" => Value::Null,
            _ => Value::Union(0, Box::new(Value::Null)),
        };
        let row = datum(&schema, Value::Record(vec![("k".into(), Value::Long(1)), ("v".into(), null)]));
        let refusing = (!column.starts_with("Nullable") && field != "\"null\"").then(|| compiled(&schema, &table, &[]));
        if let Some(plan) = refusing {
            let why = plan.block().push(&plan, &row, 0, 1).map_err(|refusal| refusal.why);
            assert_eq!((why, plan.warnings().len()), (Err(Why::Null), 1), "{column}");
        }
        let plan = compiled(&schema, &table, &["v"]);
        assert_eq!(plan.warnings(), [], "{column}");
        let mut block = plan.block();
        block.push(&plan, &row, 0, 1).unwrap();
        world.insert(&table, &block, "1").unwrap_or_else(|error| panic!("{column}: {error}"));
        assert_eq!(rows(&world, &table), [format!("1 {shown}")], "{column} from {field}");
    }
    // Inside of an array the same holds for items.
    let schema = record_of(strings);
    let table = world.table("(v Array(String)) ENGINE = MergeTree ORDER BY tuple()");
    let plan = compiled(&schema, &table, &["v"]);
    let items = vec![Value::Union(0, Box::new(Value::Null)), Value::Union(1, Box::new(Value::String("a".into())))];
    let mut block = plan.block();
    block.push(&plan, &one(&schema, Value::Union(1, Box::new(Value::Array(items)))), 0, 1).unwrap();
    world.insert(&table, &block, "1").unwrap();
    assert_eq!(world.select(&format!("SELECT toString(v) AS v FROM {DATABASE}.{}", table.name)), ["['','a']"]);
}

/// Three schemas in turns: one lacks columns, another has one that no row of a block can leave to its DEFAULT.
fn send_in_turns(load: &Load, count: i64) {
    let field = |name: &str, kind: &str| format!(r#"{{"name": "{name}", "type": {kind}}}"#);
    let time = field("t", r#"{"type": "long", "logicalType": "timestamp-micros"}"#);
    let schema = |more: &[String]| {
        let fields = [&[field("n", "\"long\""), time.clone()], more].concat();
        format!(r#"{{"type": "record", "name": "row", "fields": [{}]}}"#, fields.join(", "))
    };
    let long = schema(&[
        field("kind", "\"string\""),
        field("low", "\"string\""),
        field("tags", r#"{"type": "array", "items": "int"}"#),
    ]);
    let apart = schema(&[field("apart", r#"["null", "string"]"#)]);
    let schemas = [schema(&[]), long, apart];
    let ids: Vec<u32> = schemas.iter().map(|schema| load.register(schema)).collect();
    let text = |text: &str| Value::String(text.into());
    for partition in 0..2 {
        let records = (0..count).map(|n| {
            let turn = n as usize % 3;
            let mut fields = vec![("n".to_string(), Value::Long(n)), ("t".to_string(), Value::TimestampMicros(n))];
            match turn {
                1 => fields.extend([
                    ("kind".to_string(), text("given")),
                    ("low".to_string(), text("word")),
                    ("tags".to_string(), Value::Array(vec![Value::Int(1)])),
                ]),
                2 => fields.push(("apart".to_string(), Value::Union(0, Box::new(Value::Null)))),
                _ => {}
            }
            let value = [&[0][..], &ids[turn].to_be_bytes(), &datum(&schemas[turn], Value::Record(fields))].concat();
            Raw::value(partition, value)
        });
        load.cluster.send(&load.topic, &records.collect::<Vec<_>>());
    }
}

/// `rows inserts`, by the parts that inserts left, since nothing merges them.
fn inserts(world: &World, load: &Load) -> String {
    let table = format!("{DATABASE}.{}", load.name);
    world
        .select(&format!("SELECT concat(toString(count()), ' ', toString(uniqExact(_part))) AS v FROM {table}"))
        .remove(0)
}

fn alternating(test: &'static str, address: &str, more: &str) -> Option<(World, Load)> {
    let (world, load) = stage_at(test, address, more)?;
    let table = format!("{DATABASE}.{}", load.name);
    world.run(&format!(
        "ALTER TABLE {table} ADD COLUMN kind String DEFAULT concat('d', toString(n)), ADD COLUMN low LowCardinality(String), \
         ADD COLUMN tags Array(Int32), ADD COLUMN apart Nullable(String) DEFAULT 'left out'"
    ));
    world.run(&format!("SYSTEM STOP MERGES {table}"));
    Some((world, load))
}

/// What stands in the columns, by the schema of the record.
fn judge(world: &World, load: &Load, count: i64) {
    let sql = format!(
        "SELECT concat(toString(n % 3), ' ', replaceOne(kind, concat('d', toString(n)), 'default'), '|', low, '|', toString(tags), '|', \
         ifNull(apart, 'NULL'), ' ', toString(count())) AS v FROM {DATABASE}.{} \
         GROUP BY n % 3, replaceOne(kind, concat('d', toString(n)), 'default'), low, tags, apart ORDER BY v",
        load.name
    );
    let of = |turn: i64| 2 * (0..count).filter(|n| n % 3 == turn).count();
    let wanted = [
        format!("0 default||[]|left out {}", of(0)),
        format!("1 given|word|[1]|left out {}", of(1)),
        format!("2 default||[]|NULL {}", of(2)),
    ];
    assert_eq!(world.select(&sql), wanted);
}

#[test]
fn versions_of_a_schema_in_turns_share_their_inserts() {
    let address = std::env::var("PRESSLINE_TEST_CLICKHOUSE").unwrap_or_default();
    let Some((world, load)) = alternating("in_turns", &address, "") else { return };
    send_in_turns(&load, 3_000);
    load.load_all();
    judge(&world, &load, 3_000);
    let found = inserts(&world, &load);
    let (rows, inserts) = found.split_once(' ').unwrap();
    assert_eq!(rows, "6000");
    // Two sets of columns and two partitions; a batch may end before all is there.
    assert!(inserts.parse::<u32>().unwrap() <= 16, "{inserts} inserts");
    // Rows of the first two versions lie in the same parts, unless one began or ended with a single row.
    let sql = format!(
        "SELECT toString(countIf(first = 0 OR second = 0)) AS v FROM (SELECT countIf(n % 3 = 0) AS first, countIf(n % 3 = 1) AS \
         second FROM {DATABASE}.{} WHERE n % 3 < 2 GROUP BY _part)",
        load.name
    );
    let alone: u32 = world.select(&sql)[0].parse().unwrap();
    assert!(alone <= 1, "{alone} inserts of one version alone");
}

/// An answer is lost between the inserts of one range: what is in the table is not written again, and what is not, is.
#[test]
fn a_lost_answer_between_the_inserts_of_a_range_loses_and_doubles_nothing() {
    let Ok(url) = std::env::var("PRESSLINE_TEST_CLICKHOUSE") else { return };
    let link = Link::to(&url);
    let Some((world, load)) = alternating("turns_cut", &link.url(), "") else { return };
    send_in_turns(&load, 900);
    // That of the first insert of the first range.
    link.cut_one();
    let mut run = load.run();
    await_that("a lost answer", || link.has_cut());
    load.await_loaded(&mut run);
    assert_eq!(run.stop(), 0);
    judge(&world, &load, 900);
}

/// Tokens alone tell nothing of rows that are in the table, so that each insert is a range of its own.
#[test]
fn versions_in_turns_stand_once_where_only_tokens_tell() {
    let address = std::env::var("PRESSLINE_TEST_CLICKHOUSE").unwrap_or_default();
    let Some((world, load)) = alternating("turns_tokens", &address, "delivery = \"deduplicated\"") else { return };
    send_in_turns(&load, 9);
    load.load_all();
    judge(&world, &load, 9);
}
