//! Every pair of the map of types at its edges: written by apache-avro, read back as text by ClickHouse's own SELECT.

use apache_avro::Decimal;
use apache_avro::types::Value;
use pressline::avro::Shape;
use pressline::sink::Why;

use crate::support::{DATABASE, World, one, plan, record_of, world};

const MICROS: &str = r#"{"type": "long", "logicalType": "timestamp-micros"}"#;
const MILLIS: &str = r#"{"type": "long", "logicalType": "timestamp-millis"}"#;
const NANOS: &str = r#"{"type": "long", "logicalType": "timestamp-nanos"}"#;
const LOCAL: &str = r#"{"type": "long", "logicalType": "local-timestamp-micros"}"#;
const DATE: &str = r#"{"type": "int", "logicalType": "date"}"#;
const UUID: &str = r#"{"type": "string", "logicalType": "uuid"}"#;
/// 1900-01-01 and 2200-01-01 in microseconds.
const YEAR_1900: i64 = -2_208_988_800_000_000;
const YEAR_2200: i64 = 7_258_118_400_000_000;
/// The first microsecond that the server's dates hold, and the first after them.
const YEAR_0: i64 = -62_167_219_200_000_000;
const YEAR_10000: i64 = 253_402_300_800_000_000;

/// What became of a value.
enum Then {
    Shown(&'static str),
    Refused(Why),
}
use Then::{Refused, Shown};

struct Pair<'a> {
    column: &'a str,
    field: &'a str,
    lossy: bool,
    /// How the column is shown.
    show: &'a str,
}

fn pair<'a>(column: &'a str, field: &'a str) -> Pair<'a> {
    Pair { column, field, lossy: false, show: "ifNull(toString(v), 'NULL')" }
}

impl<'a> Pair<'a> {
    fn lossy(self) -> Self {
        Self { lossy: true, ..self }
    }

    fn show(self, show: &'a str) -> Self {
        Self { show, ..self }
    }

    /// Writes all values that land in one block, and looks at each.
    fn check(&self, world: &World, values: Vec<(Value, Then)>) {
        let schema = record_of(self.field);
        let types = "SETTINGS allow_suspicious_low_cardinality_types = 1, enable_time_time64_type = 1";
        let table = world.table(&format!("(v {}) ENGINE = MergeTree ORDER BY tuple() {types}", self.column));
        let shape = Shape::parse(&schema).unwrap();
        let lossy: &[&str] = if self.lossy { &["v"] } else { &[] };
        let about = format!("{} into {}", self.field, self.column);
        let plan = plan(&shape, &table, lossy).unwrap_or_else(|findings| panic!("{about}: {findings:?}"));
        let mut wanted = Vec::new();
        let mut found = Vec::new();
        for (number, (value, then)) in values.into_iter().enumerate() {
            // One block a value keeps the order without a second field.
            let mut block = plan.block();
            let pushed = block.push(&plan, &one(&schema, value), 0, 0);
            match then {
                Refused(why) => {
                    assert_eq!(pushed.map_err(|refusal| refusal.why), Err(why), "{about}, value {number}");
                    assert_eq!((block.rows(), block.bytes()), (0, plan.block().bytes()), "{about}: something is left");
                }
                Shown(text) => {
                    pushed.unwrap_or_else(|refusal| panic!("{about}, value {number}: {refusal}"));
                    world.insert(&table, &block, &number.to_string()).unwrap_or_else(|e| panic!("{about}: {e}"));
                    found.extend(world.select(&format!("SELECT {} AS v FROM {DATABASE}.{}", self.show, table.name)));
                    world.run(&format!("TRUNCATE TABLE {DATABASE}.{}", table.name));
                    wanted.push(text.to_string());
                }
            }
        }
        assert_eq!(found, wanted, "{about}");
        world.run(&format!("DROP TABLE {DATABASE}.{}", table.name));
    }
}

fn null() -> Value {
    Value::Union(0, Box::new(Value::Null))
}

fn some(value: Value) -> Value {
    Value::Union(1, Box::new(value))
}

fn text(text: &str) -> Value {
    Value::String(text.into())
}

#[test]
fn whole_numbers() {
    let Some(world) = world("whole_numbers") else { return };
    let long = |n| Value::Long(n);
    for (column, min, max) in [
        ("Int8", "-128", "127"),
        ("UInt8", "0", "255"),
        ("Int16", "-32768", "32767"),
        ("UInt16", "0", "65535"),
        ("Int32", "-2147483648", "2147483647"),
        ("UInt32", "0", "4294967295"),
    ] {
        let (least, most): (i64, i64) = (min.parse().unwrap(), max.parse().unwrap());
        let values = vec![
            (long(least), Shown(min)),
            (long(most), Shown(max)),
            (long(least - 1), Refused(Why::OutOfRange)),
            (long(most + 1), Refused(Why::OutOfRange)),
        ];
        pair(column, "\"long\"").check(&world, values);
    }
    for column in ["Int64", "Int128", "Int256", "Nullable(Int64)"] {
        let values = vec![
            (long(i64::MAX), Shown("9223372036854775807")),
            (long(i64::MIN), Shown("-9223372036854775808")),
            (long(0), Shown("0")),
        ];
        pair(column, "\"long\"").check(&world, values);
    }
    for column in ["UInt64", "UInt128", "UInt256"] {
        let values = vec![(long(i64::MAX), Shown("9223372036854775807")), (long(-1), Refused(Why::OutOfRange))];
        pair(column, "\"long\"").check(&world, values);
    }
    let raw = |n| Value::TimestampMicros(n);
    pair("Int64", MICROS).check(
        &world,
        vec![(raw(YEAR_1900), Shown("-2208988800000000")), (raw(i64::MAX), Shown("9223372036854775807"))],
    );
    pair("Bool", "\"boolean\"")
        .check(&world, vec![(Value::Boolean(true), Shown("true")), (Value::Boolean(false), Shown("false"))]);
    for column in ["UInt8", "Int8", "Nullable(UInt8)", "LowCardinality(UInt8)"] {
        let values = vec![(Value::Boolean(true), Shown("1")), (Value::Boolean(false), Shown("0"))];
        pair(column, "\"boolean\"").check(&world, values);
    }
}

#[test]
fn null_and_not() {
    let Some(world) = world("null_and_not") else { return };
    let int = r#"["null", "int"]"#;
    pair("Nullable(Int32)", int).check(&world, vec![(null(), Shown("NULL")), (some(Value::Int(0)), Shown("0"))]);
    // What others store as 0.
    pair("Int32", int).check(&world, vec![(null(), Refused(Why::Null)), (some(Value::Int(7)), Shown("7"))]);
    let string = r#"["null", "string"]"#;
    for column in ["Nullable(String)", "LowCardinality(Nullable(String))", "Nullable(Enum8('' = 1, 'a' = 3))"] {
        let values = vec![(null(), Shown("NULL")), (some(text("")), Shown("")), (some(text("a")), Shown("a"))];
        pair(column, string).check(&world, values);
    }
    let values = vec![(null(), Refused(Why::Null)), (some(text("a")), Shown("a"))];
    pair("LowCardinality(String)", string).check(&world, values);
    let last = r#"["string", "null"]"#;
    let values = vec![
        (Value::Union(1, Box::new(Value::Null)), Shown("NULL")),
        (Value::Union(0, Box::new(text("x"))), Shown("x")),
    ];
    pair("Nullable(String)", last).check(&world, values);
    let nullable_time = format!("[\"null\", {MICROS}]");
    pair("Nullable(DateTime64(6, 'UTC'))", &nullable_time).check(
        &world,
        vec![(null(), Shown("NULL")), (some(Value::TimestampMicros(1)), Shown("1970-01-01 00:00:00.000001"))],
    );
    let nullable_uuid = format!("[\"null\", {UUID}]");
    for column in ["Nullable(UUID)", "Nullable(FixedString(36))"] {
        let uuid = uuid::Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        pair(column, &nullable_uuid).check(
            &world,
            vec![(null(), Shown("NULL")), (some(Value::Uuid(uuid)), Shown("01234567-89ab-cdef-0123-456789abcdef"))],
        );
    }
}

#[test]
fn floats() {
    let Some(world) = world("floats") else { return };
    let values = || {
        vec![
            (Value::Double(f64::NAN), Shown("nan")),
            (Value::Double(f64::INFINITY), Shown("inf")),
            (Value::Double(-0.0), Shown("-0")),
            (Value::Double(0.1), Shown("0.1")),
        ]
    };
    pair("Float64", "\"double\"").check(&world, values());
    pair("Float32", "\"double\"").lossy().check(&world, values());
    pair("Nullable(Float64)", "\"double\"").check(&world, values());
    pair("Float32", "\"float\"")
        .check(&world, vec![(Value::Float(f32::NAN), Shown("nan")), (Value::Float(1.5), Shown("1.5"))]);
    pair("Float64", "\"int\"").check(&world, vec![(Value::Int(i32::MIN), Shown("-2147483648"))]);
    pair("Float64", "\"long\"").lossy().check(&world, vec![(Value::Long(1 << 60), Shown("1152921504606847000"))]);
}

#[test]
fn decimals() {
    let Some(world) = world("decimals") else { return };
    let number = |n: i128| Value::Decimal(Decimal::from(n.to_be_bytes()));
    let field = r#"{"type": "bytes", "logicalType": "decimal", "precision": 38, "scale": 2}"#;
    for column in ["Decimal(9, 2)", "Decimal(9, 3)", "Decimal(18, 2)", "Decimal(38, 4)", "Decimal(76, 20)"] {
        let values = vec![
            (number(12_345), Shown("123.45")),
            (number(-12_345), Shown("-123.45")),
            (number(0), Shown("0")),
            (number(1), Shown("0.01")),
        ];
        pair(column, field).check(&world, values);
    }
    let values = vec![
        (number(999_999_999), Shown("9999999.99")),
        (number(1_000_000_000), Refused(Why::OutOfRange)),
        (number(-1_000_000_000), Refused(Why::OutOfRange)),
    ];
    pair("Decimal(9, 2)", field).check(&world, values);
    pair("Decimal(18, 18)", "\"int\"")
        .check(&world, vec![(Value::Int(0), Shown("0")), (Value::Int(1), Refused(Why::OutOfRange))]);
    pair("Decimal(38, 18)", "\"long\"").check(&world, vec![(Value::Long(i64::MIN), Shown("-9223372036854775808"))]);
    let fixed_type =
        r#"{"type": "fixed", "name": "f", "size": 16, "logicalType": "decimal", "precision": 38, "scale": 0}"#;
    pair("Int128", fixed_type).check(
        &world,
        vec![(number(-5), Shown("-5")), (number(10i128.pow(38) - 1), Shown("99999999999999999999999999999999999999"))],
    );
    pair("UInt256", fixed_type).check(&world, vec![(number(5), Shown("5")), (number(-5), Refused(Why::OutOfRange))]);
}

#[test]
fn instants() {
    let Some(world) = world("instants") else { return };
    let micros = Value::TimestampMicros;
    let values = vec![
        (micros(YEAR_1900), Shown("1900-01-01 00:00:00.000000")),
        (micros(YEAR_2200 + 1), Shown("2200-01-01 00:00:00.000001")),
        (micros(10_413_791_999_999_999), Shown("2299-12-31 23:59:59.999999")),
        (micros(-1), Shown("1969-12-31 23:59:59.999999")),
        (micros(YEAR_1900 - 1), Shown("1899-12-31 23:59:59.999999")),
        (micros(10_413_792_000_000_000), Shown("2300-01-01 00:00:00.000000")),
        (micros(YEAR_0), Shown("0000-01-01 00:00:00.000000")),
        (micros(YEAR_10000 - 1), Shown("9999-12-31 23:59:59.999999")),
        (micros(YEAR_0 - 1), Refused(Why::OutOfRange)),
        (micros(YEAR_10000), Refused(Why::OutOfRange)),
        (micros(i64::MAX), Refused(Why::OutOfRange)),
        (micros(i64::MIN), Refused(Why::OutOfRange)),
    ];
    pair("DateTime64(6, 'UTC')", MICROS).check(&world, values);
    let nanos = vec![
        (micros(YEAR_1900), Shown("1900-01-01 00:00:00.000000000")),
        (micros(9_214_646_399_000_000), Shown("2261-12-31 23:59:59.000000000")),
        (micros(-3_786_825_600_000_000), Shown("1850-01-01 00:00:00.000000000")),
        (micros(-9_223_372_036_854_775), Shown("1677-09-21 00:12:43.145225000")),
        (micros(-9_223_372_036_854_776), Refused(Why::OutOfRange)),
        (micros(9_300_000_000_000_000), Refused(Why::OutOfRange)),
    ];
    pair("DateTime64(9, 'UTC')", MICROS).check(&world, nanos);
    let value = Value::TimestampMillis(1_795_262_400_123);
    pair("DateTime64(3, 'UTC')", MILLIS).check(&world, vec![(value.clone(), Shown("2026-11-21 12:00:00.123"))]);
    pair("DateTime64(6, 'Asia/Tokyo')", MILLIS).check(&world, vec![(value, Shown("2026-11-21 21:00:00.123000"))]);
    pair("DateTime64(9, 'UTC')", NANOS)
        .check(&world, vec![(Value::TimestampNanos(-1), Shown("1969-12-31 23:59:59.999999999"))]);
    // Named in `lossy`, narrowing rounds down, before 1970 as after it.
    let narrowed =
        vec![(micros(1_999_999), Shown("1970-01-01 00:00:01.999")), (micros(-1), Shown("1969-12-31 23:59:59.999"))];
    pair("DateTime64(3, 'UTC')", MICROS).lossy().check(&world, narrowed);
    let seconds = vec![
        (micros(0), Shown("1970-01-01 00:00:00")),
        (micros(4_294_967_295_999_999), Shown("2106-02-07 06:28:15")),
        (micros(4_294_967_296_000_000), Refused(Why::OutOfRange)),
        (micros(-1), Refused(Why::OutOfRange)),
        (micros(YEAR_1900), Refused(Why::OutOfRange)),
        (micros(YEAR_2200), Refused(Why::OutOfRange)),
    ];
    pair("DateTime('UTC')", MICROS).lossy().check(&world, seconds);
    pair("DateTime64(6, 'UTC')", LOCAL)
        .lossy()
        .check(&world, vec![(Value::LocalTimestampMicros(1), Shown("1970-01-01 00:00:00.000001"))]);
}

#[test]
fn days_and_times() {
    let Some(world) = world("days_and_times") else { return };
    let day = Value::Date;
    pair("Date", DATE).check(
        &world,
        vec![
            (day(0), Shown("1970-01-01")),
            (day(65_535), Shown("2149-06-06")),
            (day(65_536), Refused(Why::OutOfRange)),
            (day(-1), Refused(Why::OutOfRange)),
        ],
    );
    pair("Date32", DATE).check(
        &world,
        vec![
            (day(-25_567), Shown("1900-01-01")),
            (day(120_529), Shown("2299-12-31")),
            (day(-25_568), Shown("1899-12-31")),
            (day(120_530), Shown("2300-01-01")),
            (day(-719_528), Shown("0000-01-01")),
            (day(2_932_896), Shown("9999-12-31")),
            (day(-719_529), Refused(Why::OutOfRange)),
            (day(2_932_897), Refused(Why::OutOfRange)),
        ],
    );
    let time = r#"{"type": "int", "logicalType": "time-millis"}"#;
    pair("Int32", time).check(&world, vec![(Value::TimeMillis(86_399_999), Shown("86399999"))]);
    let times = vec![
        (Value::TimeMillis(0), Shown("00:00:00.000")),
        (Value::TimeMillis(86_399_999), Shown("23:59:59.999")),
        (Value::TimeMillis(86_400_000), Refused(Why::OutOfRange)),
        (Value::TimeMillis(-1), Refused(Why::OutOfRange)),
    ];
    pair("Time64(3)", time).check(&world, times);
    let micros = r#"{"type": "long", "logicalType": "time-micros"}"#;
    pair("Nullable(Time64(9))", micros)
        .check(&world, vec![(Value::TimeMicros(86_399_999_999), Shown("23:59:59.999999000"))]);
    pair("Time", micros).lossy().check(&world, vec![(Value::TimeMicros(86_399_999_999), Shown("23:59:59"))]);
}

#[test]
fn texts() {
    let Some(world) = world("texts") else { return };
    for column in ["String", "LowCardinality(String)", "Nullable(String)"] {
        let values = vec![
            (text(""), Shown("")),
            (text("a\0b\0"), Shown("a\0b\0")),
            (text("𝒦 🐟 \u{10ffff}"), Shown("𝒦 🐟 \u{10ffff}")),
            (text("'\\\n\t\""), Shown("'\\\n\t\"")),
        ];
        pair(column, "\"string\"").check(&world, values);
    }
    let bytes = |bytes: &[u8]| Value::Bytes(bytes.to_vec());
    pair("String", "\"bytes\"")
        .show("hex(v)")
        .check(&world, vec![(bytes(&[0, 255, 10]), Shown("00FF0A")), (bytes(&[]), Shown(""))]);
    let symbols = r#"{"type": "enum", "name": "e", "symbols": ["EnterPage", "PressButton"]}"#;
    let press = |at, symbol: &str| Value::Enum(at, symbol.into());
    let enums =
        ["Enum8('PressButton' = -1, 'EnterPage' = 5)", "Enum16('PressButton' = -300, 'EnterPage' = 5, 'x' = 6)"];
    for column in ["String", "LowCardinality(String)"].into_iter().chain(enums) {
        let values = vec![(press(0, "EnterPage"), Shown("EnterPage")), (press(1, "PressButton"), Shown("PressButton"))];
        pair(column, symbols).check(&world, values);
    }
    let padded = vec![
        (press(0, "EnterPage"), Shown("456E746572506167650000")),
        (press(1, "PressButton"), Shown("5072657373427574746F6E")),
    ];
    pair("LowCardinality(Nullable(FixedString(11)))", symbols).show("hex(v)").check(&world, padded);
    let labels = vec![
        (text("a"), Shown("a")),
        (text("b"), Shown("b")),
        (text("c"), Refused(Why::UnknownLabel)),
        (text(""), Refused(Why::UnknownLabel)),
    ];
    pair("Enum8('b' = 1, 'a' = 2)", "\"string\"").check(&world, labels);
    let fixed = vec![
        (text("FI"), Shown("4649")),
        (text(""), Shown("0000")),
        (text("FIN"), Refused(Why::TooLong)),
        (text("F\0"), Refused(Why::NulCharacter)),
    ];
    pair("FixedString(2)", "\"string\"").show("hex(v)").check(&world, fixed);
    let exact = vec![
        (bytes(&[1, 0]), Shown("0100")),
        (bytes(&[1]), Refused(Why::OutOfRange)),
        (bytes(&[1, 2, 3]), Refused(Why::TooLong)),
    ];
    pair("FixedString(2)", "\"bytes\"").show("hex(v)").check(&world, exact);
    let raw = r#"{"type": "fixed", "name": "f", "size": 3}"#;
    pair("FixedString(3)", raw).show("hex(v)").check(&world, vec![(Value::Fixed(3, vec![1, 2, 0]), Shown("010200"))]);
}

#[test]
fn uuids() {
    let Some(world) = world("uuids") else { return };
    let shown = "01234567-89ab-cdef-fedc-ba9876543210";
    let uuid = uuid::Uuid::parse_str(shown).unwrap();
    pair("UUID", UUID).check(&world, vec![(Value::Uuid(uuid), Shown(shown))]);
    pair("LowCardinality(UUID)", UUID).check(&world, vec![(Value::Uuid(uuid), Shown(shown))]);
    let values =
        vec![(text(shown), Shown(shown)), (text(""), Refused(Why::NotUuid)), (text("01234567"), Refused(Why::NotUuid))];
    pair("UUID", "\"string\"").check(&world, values);
    let fixed = r#"{"type": "fixed", "name": "f", "size": 16, "logicalType": "uuid"}"#;
    for column in ["UUID", "String", "LowCardinality(String)"] {
        pair(column, fixed).check(&world, vec![(Value::Uuid(uuid), Shown(shown))]);
    }
    pair("UUID", "\"bytes\"").check(
        &world,
        vec![(Value::Bytes(uuid.as_bytes().to_vec()), Shown(shown)), (Value::Bytes(vec![1]), Refused(Why::NotUuid))],
    );
}

#[test]
fn arrays_maps_and_json() {
    let Some(world) = world("arrays_maps_and_json") else { return };
    let field = r#"{"type": "array", "items": ["null", "string"]}"#;
    let values = || {
        vec![
            (Value::Array(vec![]), Shown("[]")),
            (Value::Array(vec![some(text("a")), null(), some(text(""))]), Shown("['a',NULL,'']")),
        ]
    };
    pair("Array(Nullable(String))", field).check(&world, values());
    pair("Array(LowCardinality(Nullable(String)))", field).check(&world, values());
    pair("Array(String)", field).check(
        &world,
        vec![
            (Value::Array(vec![some(text("a")), null()]), Refused(Why::Null)),
            (Value::Array(vec![some(text("b"))]), Shown("['b']")),
        ],
    );
    let nested = r#"{"type": "array", "items": {"type": "array", "items": "long"}}"#;
    let inner = |numbers: &[i64]| Value::Array(numbers.iter().copied().map(Value::Long).collect());
    pair("Array(Array(Int64))", nested).check(
        &world,
        vec![(Value::Array(vec![inner(&[1, i64::MAX]), inner(&[])]), Shown("[[1,9223372036854775807],[]]"))],
    );
    let map = r#"{"type": "map", "values": "int"}"#;
    let entries = || Value::Map([("k".to_string(), Value::Int(1))].into());
    pair("Map(String, Int32)", map)
        .check(&world, vec![(entries(), Shown("{'k':1}")), (Value::Map([].into()), Shown("{}"))]);
    pair("Map(LowCardinality(String), Nullable(Int32))", map)
        .check(&world, vec![(entries(), Shown("{'k':1}")), (Value::Map([].into()), Shown("{}"))]);
    pair("String", map).check(&world, vec![(entries(), Shown(r#"{"k":1}"#))]);
    let record = r#"{"type": "record", "name": "i", "fields": [{"name": "a", "type": ["null", "string"]}]}"#;
    pair("String", record).check(&world, vec![(Value::Record(vec![("a".into(), null())]), Shown(r#"{"a":null}"#))]);
}

#[test]
fn many_rows_of_arrays_share_a_block() {
    let Some(world) = world("arrays_in_a_block") else { return };
    let field = r#"{"type": "array", "items": "string"}"#;
    let schema = record_of(field);
    let table = world.table("(v Array(LowCardinality(String))) ENGINE = MergeTree ORDER BY tuple()");
    let plan = plan(&Shape::parse(&schema).unwrap(), &table, &[]).unwrap();
    let mut block = plan.block();
    for n in 0..1000 {
        let items = (0..n % 5).map(|i| text(&format!("{n}-{i}"))).collect();
        block.push(&plan, &one(&schema, Value::Array(items)), 0, n).unwrap();
    }
    world.insert(&table, &block, "1").unwrap();
    let found = world.select(&format!("SELECT arrayStringConcat(v, ',') AS v FROM {DATABASE}.{}", table.name));
    let wanted: Vec<String> =
        (0..1000).map(|n| (0..n % 5).map(|i| format!("{n}-{i}")).collect::<Vec<_>>().join(",")).collect();
    assert_eq!(found, wanted);
}
