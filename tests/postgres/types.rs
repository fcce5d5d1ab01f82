//! The type map at its edges: written by apache-avro's encoder, read back as text by another client.

use apache_avro::Decimal;
use apache_avro::types::Value;
use pressline::config::sink::ColumnsConfig;

use crate::support::{Server, batch, datum, lossy, record, server};

/// A value, and what the table must then say: a text, null, or the code of the refusal.
type Case = (Value, Result<Option<&'static str>, &'static str>);

fn is(value: Value, text: &'static str) -> Case {
    (value, Ok(Some(text)))
}

fn refused(value: Value, code: &'static str) -> Case {
    (value, Err(code))
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

fn null() -> Value {
    Value::Union(0, Box::new(Value::Null))
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

fn decimal(unscaled: i128) -> Value {
    Value::Decimal(Decimal::from(unscaled.to_be_bytes().to_vec()))
}

async fn check(server: &Server, avro: &str, column: &str, cases: Vec<Case>) {
    check_with(server, avro, column, &ColumnsConfig::default(), cases).await;
}

/// Loads each value and compares.
async fn check_with(server: &Server, avro: &str, column: &str, columns: &ColumnsConfig, cases: Vec<Case>) {
    let table = format!("{}.t", server.schema);
    server
        .sql(&format!("DROP TABLE IF EXISTS {table}; CREATE TABLE {table} (number int NOT NULL, value {column})"))
        .await;
    let schema = record(&[("number", "\"int\""), ("value", avro)]);
    let plan = server
        .plan("t", &schema, columns)
        .await
        .unwrap_or_else(|findings| panic!("{avro} into {column}: {}", findings[0]));
    let (values, expected): (Vec<_>, Vec<_>) = cases.into_iter().unzip();
    let datums: Vec<_> = (0..)
        .zip(values)
        .map(|(number, value)| datum(&schema, vec![("number", Value::Int(number)), ("value", value)]))
        .collect();
    let mut writer = server.writer().await;
    let mut transaction = writer.begin().await.unwrap();
    let refused = transaction.copy(&batch(&datums), |_| Some(&plan), datums.len(), &mut || {}).await.unwrap();
    let offsets = pressline::sink::postgres::Offsets::new("unused", "p", "t", "i").unwrap();
    transaction.commit(&offsets, &[]).await.unwrap();
    let rows = server.sql(&format!("SET timezone = 'UTC'; SELECT number, value::text FROM {table}")).await;
    for (number, expected) in expected.into_iter().enumerate() {
        let row = rows.iter().find(|row| row[0] == Some(number.to_string()));
        let found = match (refused.get(&number), row) {
            (Some(refusal), None) => Err(refusal.why.code()),
            (None, Some(row)) => Ok(row[1].as_deref()),
            both => panic!("{avro} into {column}, case {number}: {both:?}"),
        };
        assert_eq!(found, expected, "{avro} into {column}, case {number}");
    }
}

#[tokio::test]
async fn numbers() {
    let Some(server) = server("numbers").await else { return };
    check(&server, "\"boolean\"", "bool", vec![is(Value::Boolean(true), "true"), is(Value::Boolean(false), "false")])
        .await;
    check(
        &server,
        "\"int\"",
        "int2",
        vec![
            is(Value::Int(32_767), "32767"),
            is(Value::Int(-32_768), "-32768"),
            refused(Value::Int(32_768), "out_of_range"),
            refused(Value::Int(-32_769), "out_of_range"),
        ],
    )
    .await;
    let ints = || vec![is(Value::Int(i32::MAX), "2147483647"), is(Value::Int(i32::MIN), "-2147483648")];
    for column in ["int4", "int8", "numeric", "numeric(10, 0)"] {
        check(&server, "\"int\"", column, ints()).await;
    }
    check(&server, "\"int\"", "float8", vec![is(Value::Int(i32::MIN), "-2147483648")]).await;
    check(
        &server,
        "\"long\"",
        "int4",
        vec![is(Value::Long(i32::MIN.into()), "-2147483648"), refused(Value::Long(1 << 31), "out_of_range")],
    )
    .await;
    let longs = || {
        vec![
            is(Value::Long(i64::MAX), "9223372036854775807"),
            is(Value::Long(i64::MIN), "-9223372036854775808"),
            is(Value::Long(0), "0"),
        ]
    };
    for column in ["int8", "numeric", "numeric(19, 0)"] {
        check(&server, "\"long\"", column, longs()).await;
    }
    check(
        &server,
        "\"long\"",
        "numeric(5, 2)",
        vec![is(Value::Long(-999), "-999.00"), refused(Value::Long(1_000), "out_of_range")],
    )
    .await;
    check(
        &server,
        r#"["null", "int"]"#,
        "int2",
        vec![(null(), Ok(None)), is(some(Value::Int(7)), "7"), refused(some(Value::Int(70_000)), "out_of_range")],
    )
    .await;
    check(&server, r#"["null", "int"]"#, "int2 NOT NULL", vec![refused(null(), "null"), is(some(Value::Int(7)), "7")])
        .await;
    check(
        &server,
        r#"["int", "null"]"#,
        "int4",
        vec![(Value::Union(1, Box::new(Value::Null)), Ok(None)), is(Value::Union(0, Box::new(Value::Int(7))), "7")],
    )
    .await;
}

#[tokio::test]
async fn floats() {
    let Some(server) = server("floats").await else { return };
    check(
        &server,
        "\"float\"",
        "float4",
        vec![
            is(Value::Float(1.5), "1.5"),
            is(Value::Float(f32::MAX), "3.4028235e+38"),
            is(Value::Float(f32::NAN), "NaN"),
            is(Value::Float(f32::NEG_INFINITY), "-Infinity"),
        ],
    )
    .await;
    check(&server, "\"float\"", "float8", vec![is(Value::Float(0.1), "0.10000000149011612")]).await;
    check(
        &server,
        "\"double\"",
        "float8",
        vec![
            is(Value::Double(0.1), "0.1"),
            is(Value::Double(f64::MIN), "-1.7976931348623157e+308"),
            is(Value::Double(5e-324), "5e-324"),
            is(Value::Double(-0.0), "-0"),
            is(Value::Double(f64::NAN), "NaN"),
            is(Value::Double(f64::INFINITY), "Infinity"),
        ],
    )
    .await;
    let narrow = vec![
        is(Value::Double(0.1), "0.1"),
        is(Value::Double(f64::INFINITY), "Infinity"),
        is(Value::Double(f64::NAN), "NaN"),
        refused(Value::Double(1e300), "out_of_range"),
    ];
    check_with(&server, "\"double\"", "float4", &lossy(&["value"]), narrow).await;
    let big = vec![is(Value::Long((1 << 53) + 1), "9.007199254740992e+15")];
    check_with(&server, "\"long\"", "float8", &lossy(&["value"]), big).await;
}

#[tokio::test]
async fn decimals() {
    let Some(server) = server("decimals").await else { return };
    let avro = r#"{"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 4}"#;
    let nines = 99_999_999_999_999_999_999_999_999_999_999_999_999i128;
    for column in ["numeric", "numeric(38, 4)"] {
        check(
            &server,
            avro,
            column,
            vec![
                is(decimal(nines), "9999999999999999999999999999999999.9999"),
                is(decimal(-nines), "-9999999999999999999999999999999999.9999"),
                is(decimal(0), "0.0000"),
                is(decimal(1), "0.0001"),
                is(decimal(-1), "-0.0001"),
                is(decimal(10_000), "1.0000"),
                is(decimal(123_456_789), "12345.6789"),
                refused(decimal(nines + 1), "out_of_range"),
            ],
        )
        .await;
    }
    check(
        &server,
        avro,
        "numeric(6, 4)",
        vec![is(decimal(999_999), "99.9999"), refused(decimal(1_000_000), "out_of_range")],
    )
    .await;
    let rounded = vec![is(decimal(12_345), "1.23"), is(decimal(-12_355), "-1.24")];
    check_with(&server, avro, "numeric(10, 2)", &lossy(&["value"]), rounded).await;
    let fixed = r#"{"type": "fixed", "name": "f", "size": 16, "logicalType": "decimal", "precision": 9, "scale": 9}"#;
    check(
        &server,
        fixed,
        "numeric(9, 9)",
        vec![is(decimal(-999_999_999), "-0.999999999"), is(decimal(1), "0.000000001")],
    )
    .await;
}

#[tokio::test]
async fn texts() {
    let Some(server) = server("texts").await else { return };
    let all = "a\u{1}ä\u{20ac}\u{1f354}\u{10ffff}'\"\\";
    for column in ["text", "varchar", "varchar(9)"] {
        check(
            &server,
            "\"string\"",
            column,
            vec![
                is(text(""), ""),
                is(text(all), "a\u{1}ä\u{20ac}\u{1f354}\u{10ffff}'\"\\"),
                refused(text("a\0b"), "nul_character"),
            ],
        )
        .await;
    }
    check(
        &server,
        "\"string\"",
        "varchar(3)",
        vec![is(text("\u{1f354}\u{1f354}\u{1f354}"), "\u{1f354}\u{1f354}\u{1f354}"), refused(text("abcd"), "too_long")],
    )
    .await;
    // Blanks at the end are not part of a char(n), and ::text drops them.
    check(
        &server,
        "\"string\"",
        "char(2)",
        vec![
            is(text("NO"), "NO"),
            is(text("--"), "--"),
            is(text("N"), "N"),
            is(text(""), ""),
            is(text("ÅÖ"), "ÅÖ"),
            refused(text("NOR"), "too_long"),
            refused(text("NO "), "too_long"),
        ],
    )
    .await;
    let symbols = r#"{"type": "enum", "name": "e", "symbols": ["EnterPage", "PressButton"]}"#;
    check(&server, symbols, "text", vec![is(Value::Enum(1, "PressButton".into()), "PressButton")]).await;
    check(&server, symbols, "varchar(11)", vec![is(Value::Enum(0, "EnterPage".into()), "EnterPage")]).await;
    server.sql(&format!("CREATE TYPE {}.action AS ENUM ('PressButton', 'EnterPage', 'Ünder')", server.schema)).await;
    let column = format!("{}.action", server.schema);
    check(&server, symbols, &column, vec![is(Value::Enum(1, "PressButton".into()), "PressButton")]).await;
    check(
        &server,
        "\"string\"",
        &column,
        vec![
            is(text("EnterPage"), "EnterPage"),
            is(text("Ünder"), "Ünder"),
            refused(text("enterpage"), "unknown_label"),
            refused(text(""), "unknown_label"),
        ],
    )
    .await;
    server.sql(&format!("CREATE DOMAIN {}.short AS varchar(2) NOT NULL CHECK (value <> 'no')", server.schema)).await;
    check(
        &server,
        r#"["null", "string"]"#,
        &format!("{}.short", server.schema),
        vec![
            is(some(text("ab")), "ab"),
            refused(some(text("abc")), "too_long"),
            refused(null(), "null"),
            refused(some(text("no")), "database"),
        ],
    )
    .await;
}

#[tokio::test]
async fn bytes_and_uuids() {
    let Some(server) = server("bytes").await else { return };
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    check(&server, "\"bytes\"", "bytea", vec![is(bytes(&[]), "\\x"), is(bytes(&[0, 255, 39]), "\\x00ff27")]).await;
    let fixed = r#"{"type": "fixed", "name": "f", "size": 3}"#;
    check(&server, fixed, "bytea", vec![is(Value::Fixed(3, vec![0, 1, 2]), "\\x000102")]).await;
    let uuid = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
    let shown = "01234567-89ab-cdef-0123-456789abcdef";
    let logical = r#"{"type": "string", "logicalType": "uuid"}"#;
    for column in ["uuid", "text", "char(36)"] {
        check(&server, logical, column, vec![is(Value::Uuid(uuid), shown)]).await;
    }
    check(
        &server,
        "\"string\"",
        "uuid",
        vec![
            is(text(shown), shown),
            is(text("01234567-89AB-CDEF-0123-456789ABCDEF"), shown),
            is(text("00000000-0000-0000-0000-000000000000"), "00000000-0000-0000-0000-000000000000"),
            refused(text(""), "not_uuid"),
            refused(text("01234567-89ab-cdef-0123-456789abcdeg"), "not_uuid"),
        ],
    )
    .await;
    let in_fixed = r#"{"type": "fixed", "name": "u", "size": 16, "logicalType": "uuid"}"#;
    for column in ["uuid", "text"] {
        check(&server, in_fixed, column, vec![is(Value::Uuid(uuid), shown)]).await;
    }
    let plain = r#"{"type": "fixed", "name": "u", "size": 16}"#;
    check(&server, plain, "uuid", vec![is(Value::Fixed(16, uuid.as_bytes().to_vec()), shown)]).await;
    check(
        &server,
        "\"bytes\"",
        "uuid",
        vec![is(bytes(uuid.as_bytes()), shown), refused(bytes(&[1, 2, 3]), "not_uuid")],
    )
    .await;
}

/// Microseconds since 1970 of midnight, UTC, of 1 January.
const Y1900: i64 = -2_208_988_800_000_000;
const Y2200: i64 = 7_258_118_400_000_000;

#[tokio::test]
async fn instants() {
    let Some(server) = server("instants").await else { return };
    let micros = r#"{"type": "long", "logicalType": "timestamp-micros"}"#;
    let value = Value::TimestampMicros;
    let raw = |number: i64, shown: &'static str| is(Value::TimestampMicros(number), shown);
    check(
        &server,
        micros,
        "timestamptz",
        vec![
            is(value(Y1900), "1900-01-01 00:00:00+00"),
            is(value(Y1900 + 1), "1900-01-01 00:00:00.000001+00"),
            is(value(Y2200 - 1), "2199-12-31 23:59:59.999999+00"),
            is(value(-1), "1969-12-31 23:59:59.999999+00"),
            is(value(0), "1970-01-01 00:00:00+00"),
            is(value(-210_866_803_200_000_000), "4714-11-24 00:00:00+00 BC"),
            refused(value(-210_866_803_200_000_001), "out_of_range"),
            is(value(i64::MAX), "294247-01-10 04:00:54.775807+00"),
            refused(value(i64::MIN), "out_of_range"),
        ],
    )
    .await;
    check(&server, micros, "int8", vec![raw(i64::MAX, "9223372036854775807"), raw(i64::MIN, "-9223372036854775808")])
        .await;
    let millis = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;
    for column in ["timestamptz", "timestamptz(3)"] {
        check(
            &server,
            millis,
            column,
            vec![
                is(Value::TimestampMillis(Y1900 / 1_000 + 1), "1900-01-01 00:00:00.001+00"),
                is(Value::TimestampMillis(Y2200 / 1_000), "2200-01-01 00:00:00+00"),
                refused(Value::TimestampMillis(i64::MAX), "out_of_range"),
            ],
        )
        .await;
    }
    let cut = vec![is(Value::TimestampMicros(1_499_999), "1970-01-01 00:00:01.5+00")];
    check_with(&server, micros, "timestamptz(3)", &lossy(&["value"]), cut).await;
    let zoneless = vec![is(Value::TimestampMicros(Y2200 + 1), "2200-01-01 00:00:00.000001")];
    check_with(&server, micros, "timestamp", &lossy(&["value"]), zoneless).await;
    let nanos = r#"{"type": "long", "logicalType": "timestamp-nanos"}"#;
    check(&server, nanos, "int8", vec![is(Value::TimestampNanos(1_234_567_891), "1234567891")]).await;
    let cut = vec![
        is(Value::TimestampNanos(1_234_567_891), "1970-01-01 00:00:01.234567+00"),
        is(Value::TimestampNanos(-1), "1969-12-31 23:59:59.999999+00"),
    ];
    check_with(&server, nanos, "timestamptz", &lossy(&["value"]), cut).await;
}

#[tokio::test]
async fn dates_and_local_times() {
    let Some(server) = server("dates").await else { return };
    let date = r#"{"type": "int", "logicalType": "date"}"#;
    check(
        &server,
        date,
        "date",
        vec![
            is(Value::Date(-25_567), "1900-01-01"),
            is(Value::Date(84_006), "2200-01-01"),
            is(Value::Date(0), "1970-01-01"),
            is(Value::Date(2_145_042_905), "5874897-12-31"),
            refused(Value::Date(2_145_042_906), "out_of_range"),
            refused(Value::Date(i32::MIN), "out_of_range"),
            refused(Value::Date(i32::MAX), "out_of_range"),
        ],
    )
    .await;
    check(&server, date, "int4", vec![is(Value::Date(84_006), "84006")]).await;
    let micros = r#"{"type": "long", "logicalType": "time-micros"}"#;
    check(
        &server,
        micros,
        "time",
        vec![
            is(Value::TimeMicros(0), "00:00:00"),
            is(Value::TimeMicros(86_399_999_999), "23:59:59.999999"),
            is(Value::TimeMicros(86_400_000_000), "24:00:00"),
            refused(Value::TimeMicros(86_400_000_001), "out_of_range"),
            refused(Value::TimeMicros(-1), "out_of_range"),
        ],
    )
    .await;
    let millis = r#"{"type": "int", "logicalType": "time-millis"}"#;
    check(
        &server,
        millis,
        "time(3)",
        vec![is(Value::TimeMillis(86_399_999), "23:59:59.999"), refused(Value::TimeMillis(i32::MAX), "out_of_range")],
    )
    .await;
    let local = r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#;
    check(
        &server,
        local,
        "timestamp",
        vec![
            is(Value::LocalTimestampMicros(Y1900), "1900-01-01 00:00:00"),
            is(Value::LocalTimestampMicros(Y2200 - 1), "2199-12-31 23:59:59.999999"),
            refused(Value::LocalTimestampMicros(i64::MIN), "out_of_range"),
        ],
    )
    .await;
    let local = r#"{"type": "long", "logicalType": "local-timestamp-millis"}"#;
    check(&server, local, "timestamp(3)", vec![is(Value::LocalTimestampMillis(1), "1970-01-01 00:00:00.001")]).await;
    check(&server, local, "int8", vec![is(Value::LocalTimestampMillis(1), "1")]).await;
}

#[tokio::test]
async fn json() {
    let Some(server) = server("json").await else { return };
    for column in ["json", "jsonb"] {
        check(
            &server,
            "\"string\"",
            column,
            vec![
                is(text(r#"{"a": [1, null]}"#), r#"{"a": [1, null]}"#),
                is(text("\"\u{1f354}\""), "\"\u{1f354}\""),
                refused(text(""), "not_json"),
                refused(text("{"), "not_json"),
                refused(text("1 2"), "not_json"),
                refused(text("\"\0\""), "not_json"),
            ],
        )
        .await;
    }
    check(&server, "\"string\"", "json", vec![is(text(r#""\u0000""#), r#""\u0000""#)]).await;
    check(
        &server,
        "\"string\"",
        "jsonb",
        vec![
            refused(text(r#""\u0000""#), "nul_character"),
            is(text(r#""\\u0000""#), r#""\\u0000""#),
            refused(text(r#""\ud800""#), "database"),
        ],
    )
    .await;
    let inner = r#"{"type": "record", "name": "inner", "fields": [{"name": "a", "type": "string"}, {"name": "b", "type": ["null", "long"]}]}"#;
    let value = |a: &str, b: Value| Value::Record(vec![("a".into(), text(a)), ("b".into(), b)]);
    check(
        &server,
        inner,
        "jsonb",
        vec![
            is(value("\"x", null()), r#"{"a": "\"x", "b": null}"#),
            is(value("", some(Value::Long(i64::MAX))), r#"{"a": "", "b": 9223372036854775807}"#),
            refused(value("\0", null()), "nul_character"),
        ],
    )
    .await;
    let map = r#"{"type": "map", "values": "int"}"#;
    let entries = [("k".to_string(), Value::Int(1))].into_iter().collect();
    check(&server, map, "jsonb", vec![is(Value::Map(entries), r#"{"k": 1}"#)]).await;
    let items = r#"{"type": "array", "items": ["null", "string"]}"#;
    check(&server, items, "jsonb", vec![is(Value::Array(vec![some(text("a")), null()]), r#"["a", null]"#)]).await;
    let union = r#"["null", "int", "string"]"#;
    check(&server, union, "jsonb", vec![is(null(), "null"), is(Value::Union(2, Box::new(text("a"))), "\"a\"")]).await;
}

#[tokio::test]
async fn arrays() {
    let Some(server) = server("arrays").await else { return };
    let array = |values: Vec<Value>| Value::Array(values);
    let texts = r#"{"type": "array", "items": ["null", "string"]}"#;
    for column in ["text[]", "varchar(4)[]"] {
        check(
            &server,
            texts,
            column,
            vec![
                is(array(vec![]), "{}"),
                is(array(vec![null()]), "{NULL}"),
                is(array(vec![some(text("a")), null(), some(text(""))]), "{a,NULL,\"\"}"),
                refused(array(vec![some(text("a\0"))]), "nul_character"),
            ],
        )
        .await;
    }
    check(
        &server,
        r#"{"type": "array", "items": "string"}"#,
        "varchar(2)[]",
        vec![is(array(vec![text("ab")]), "{ab}"), refused(array(vec![text("ab"), text("abc")]), "too_long")],
    )
    .await;
    for column in ["int4[]", "int8[]", "int2[]"] {
        check(
            &server,
            r#"{"type": "array", "items": ["int", "null"]}"#,
            column,
            vec![is(
                array(vec![Value::Union(0, Box::new(Value::Int(-5))), Value::Union(1, Box::new(Value::Null))]),
                "{-5,NULL}",
            )],
        )
        .await;
    }
    check(
        &server,
        r#"{"type": "array", "items": "long"}"#,
        "int2[]",
        vec![refused(array(vec![Value::Long(1), Value::Long(40_000)]), "out_of_range")],
    )
    .await;
    let uuids = r#"{"type": "array", "items": {"type": "string", "logicalType": "uuid"}}"#;
    let nil = Value::Uuid(uuid::Uuid::nil());
    check(&server, uuids, "uuid[]", vec![is(array(vec![nil]), "{00000000-0000-0000-0000-000000000000}")]).await;
    let booleans = r#"{"type": "array", "items": "boolean"}"#;
    check(&server, booleans, "bool[]", vec![is(array(vec![Value::Boolean(true)]), "{t}")]).await;
    let doubles = r#"{"type": "array", "items": "double"}"#;
    check(&server, doubles, "float8[]", vec![is(array(vec![Value::Double(f64::NAN)]), "{NaN}")]).await;
    server.sql(&format!("CREATE DOMAIN {}.small AS int2", server.schema)).await;
    let domain = format!("{}.small[]", server.schema);
    let ints = r#"{"type": "array", "items": "int"}"#;
    check(&server, ints, &domain, vec![is(array(vec![Value::Int(3)]), "{3}")]).await;
    check(&server, &format!(r#"["null", {ints}]"#), "int4[]", vec![(null(), Ok(None))]).await;
}
