//! Types read back by a client that shares no code with ours: psycopg, in Python (`tests/harness/read_types.py`).

use std::process::Command;

use apache_avro::Decimal;
use apache_avro::types::Value;
use pressline::config::sink::ColumnsConfig;
use pressline::sink::postgres::Offsets;

use crate::support::{batch, datum, record, server};

/// Field, Avro type, column, and the values of two rows. The script has the same values in Python's types.
fn fields() -> Vec<(&'static str, &'static str, &'static str, [Value; 2])> {
    let some = |value| Value::Union(1, Box::new(value));
    let null = Value::Union(0, Box::new(Value::Null));
    let text = |text: &str| Value::String(text.into());
    let decimal = |unscaled: i128| Value::Decimal(Decimal::from(unscaled.to_be_bytes().to_vec()));
    vec![
        ("flag", "\"boolean\"", "boolean", [Value::Boolean(true), Value::Boolean(false)]),
        ("small", "\"int\"", "smallint", [Value::Int(-32_768), Value::Int(32_767)]),
        ("big", "\"long\"", "bigint", [Value::Long(i64::MIN), Value::Long(i64::MAX)]),
        ("single", "\"float\"", "real", [Value::Float(1.5), Value::Float(-0.25)]),
        ("exact", "\"double\"", "double precision", [Value::Double(63.43), Value::Double(-1e300)]),
        (
            "price",
            r#"{"type":"bytes","logicalType":"decimal","precision":10,"scale":3}"#,
            "numeric(10,3)",
            [decimal(-1_234_567_890), decimal(1)],
        ),
        ("note", "\"string\"", "text", [text("Trøndelag 🐟 '\\"), text("")]),
        (
            "mood",
            r#"{"type":"enum","name":"m","symbols":["sad","ok"]}"#,
            "text",
            [Value::Enum(0, "sad".into()), Value::Enum(1, "ok".into())],
        ),
        ("raw", "\"bytes\"", "bytea", [Value::Bytes(vec![0, 255, 92, 10]), Value::Bytes(Vec::new())]),
        (
            "id",
            r#"{"type":"string","logicalType":"uuid"}"#,
            "uuid",
            [Value::Uuid(uuid::Uuid::from_u128(1)), Value::Uuid(uuid::Uuid::from_u128(u128::MAX))],
        ),
        ("day", r#"{"type":"int","logicalType":"date"}"#, "date", [Value::Date(-1), Value::Date(20_454)]),
        (
            "at_time",
            r#"{"type":"long","logicalType":"time-micros"}"#,
            "time",
            [Value::TimeMicros(86_399_999_999), Value::TimeMicros(0)],
        ),
        (
            "instant",
            r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            "timestamptz",
            [Value::TimestampMicros(1_767_225_600_123_456), Value::TimestampMicros(-1)],
        ),
        (
            "wall",
            r#"{"type":"long","logicalType":"local-timestamp-micros"}"#,
            "timestamp",
            [Value::LocalTimestampMicros(1_767_225_600_123_456), Value::LocalTimestampMicros(-1)],
        ),
        (
            "words",
            r#"{"type":"array","items":"string"}"#,
            "text[]",
            [Value::Array(vec![text("a"), text("b,\"c")]), Value::Array(Vec::new())],
        ),
        (
            "pairs",
            r#"{"type":"map","values":"long"}"#,
            "jsonb",
            [Value::Map([("k\"".to_string(), Value::Long(7))].into()), Value::Map([].into())],
        ),
        ("maybe", r#"["null","int"]"#, "integer", [some(Value::Int(-1)), null]),
    ]
}

#[tokio::test]
async fn every_type_reads_back_in_another_client() {
    let Some(server) = server("independent").await else { return };
    let fields = fields();
    let columns: Vec<String> = fields.iter().map(|(name, _, column, _)| format!("{name} {column}")).collect();
    server.sql(&format!("CREATE TABLE {}.t (number int, {})", server.schema, columns.join(", "))).await;
    let types: Vec<(&str, &str)> =
        std::iter::once(("number", "\"int\"")).chain(fields.iter().map(|(name, avro, ..)| (*name, *avro))).collect();
    let schema = record(&types);
    let plan = server.plan("t", &schema, &ColumnsConfig::default()).await.unwrap();
    let row = |index: usize| {
        let number = std::iter::once(("number", Value::Int(index as i32)));
        datum(&schema, number.chain(fields.iter().map(|(name, .., values)| (*name, values[index].clone()))).collect())
    };
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let refused = transaction.copy(&batch(&[row(0), row(1)]), |_| Some(&plan), 0, &mut || {}).await.unwrap();
    assert!(refused.is_empty(), "{refused:?}");
    transaction.commit(&Offsets::new("unused", "p", "t", "i").unwrap(), &[]).await.unwrap();

    let python = std::env::var("PRESSLINE_TEST_PYTHON").expect("tests/stack/stack.py sets PRESSLINE_TEST_PYTHON");
    let read = Command::new(python)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["-m", "tests.harness.read_types", &format!("{}.t", server.schema)])
        .output()
        .unwrap();
    let said = [read.stdout, read.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(read.status.success(), "{said}");
    assert_eq!(said.trim(), format!("{} values agree", 2 * fields.len()));
}
