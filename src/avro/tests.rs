#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use apache_avro::{Decimal, Schema};
use proptest::prelude::*;

use super::format::datum;
use super::{Cursor, DatumError, Shape, decimal_text, write_json};

const EVERYTHING: &str = r#"{"type": "record", "name": "r", "namespace": "n", "fields": [
    {"name": "nothing", "type": "null"},
    {"name": "yes", "type": "boolean"},
    {"name": "int", "type": "int"},
    {"name": "long", "type": "long"},
    {"name": "float", "type": "float"},
    {"name": "double", "type": "double"},
    {"name": "bytes", "type": "bytes"},
    {"name": "text", "type": "string"},
    {"name": "fixed", "type": {"type": "fixed", "name": "four", "size": 4}},
    {"name": "again", "type": "four"},
    {"name": "letter", "type": {"type": "enum", "name": "letters", "symbols": ["A", "B"]}},
    {"name": "list", "type": {"type": "array", "items": ["null", "string"]}},
    {"name": "map", "type": {"type": "map", "values": "long"}},
    {"name": "last", "type": ["int", "null"]},
    {"name": "any", "type": ["null", "int", "string"]},
    {"name": "inner", "type": {"type": "record", "name": "inner", "fields": [{"name": "x", "type": "int"}]}},
    {"name": "price", "type": {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}},
    {"name": "id", "type": {"type": "string", "logicalType": "uuid"}},
    {"name": "day", "type": {"type": "int", "logicalType": "date"}},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-micros"}},
    {"name": "clock", "type": {"type": "long", "logicalType": "time-micros"}}
]}"#;

fn everything(number: i64, text: &str, items: Vec<Option<String>>) -> Value {
    let item = |item: Option<String>| match item {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(text) => Value::Union(1, Box::new(Value::String(text))),
    };
    Value::Record(vec![
        ("nothing".into(), Value::Null),
        ("yes".into(), Value::Boolean(number % 2 == 0)),
        ("int".into(), Value::Int(number as i32)),
        ("long".into(), Value::Long(number)),
        ("float".into(), Value::Float(0.5)),
        ("double".into(), Value::Double(-0.25)),
        ("bytes".into(), Value::Bytes(vec![0, 255])),
        ("text".into(), Value::String(text.into())),
        ("fixed".into(), Value::Fixed(4, vec![1, 2, 3, 4])),
        ("again".into(), Value::Fixed(4, vec![5, 6, 7, 8])),
        ("letter".into(), Value::Enum(1, "B".into())),
        ("list".into(), Value::Array(items.into_iter().map(item).collect())),
        ("map".into(), Value::Map([("k".to_string(), Value::Long(number))].into())),
        ("last".into(), Value::Union(1, Box::new(Value::Null))),
        ("any".into(), Value::Union(2, Box::new(Value::String("s".into())))),
        ("inner".into(), Value::Record(vec![("x".into(), Value::Int(7))])),
        ("price".into(), Value::Decimal(Decimal::from((-12345_i64).to_be_bytes()))),
        ("id".into(), Value::Uuid(uuid::Uuid::from_u128(7))),
        ("day".into(), Value::Date(-1)),
        ("at".into(), Value::TimestampMicros(1_500_000)),
        ("clock".into(), Value::TimeMicros(1)),
    ])
}

fn datum(value: Value) -> Vec<u8> {
    let schema = Schema::parse_str(EVERYTHING).unwrap();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap()
}

fn json_of(shape: &Shape, bytes: &[u8]) -> Result<String, DatumError> {
    let mut out = Vec::new();
    let mut cursor = Cursor::new(bytes);
    write_json(shape, &mut cursor, &mut out)?;
    cursor.finish()?;
    Ok(String::from_utf8(out).unwrap())
}

#[test]
fn numbers_that_json_lacks_are_the_texts_that_databases_read() {
    for (value, text) in [
        (f64::INFINITY, "\"Infinity\""),
        (f64::NEG_INFINITY, "\"-Infinity\""),
        (f64::NAN, "\"NaN\""),
        (-f64::NAN, "\"NaN\""),
        (-0.0, "-0.0"),
    ] {
        assert_eq!(json_of(&Shape::Double, &value.to_le_bytes()), Ok(text.into()));
        assert_eq!(json_of(&Shape::Float, &(value as f32).to_le_bytes()), Ok(text.into()));
    }
}

#[test]
fn a_datum_of_every_type_is_json() {
    let shape = Shape::parse(EVERYTHING).unwrap();
    let bytes = datum(everything(-3, "\u{1f600}\"", vec![None, Some("a".into())]));
    let expected = concat!(
        r#"{"nothing":null,"yes":false,"int":-3,"long":-3,"float":0.5,"double":-0.25,"bytes":"00ff","text":"😀\"","#,
        r#""fixed":"01020304","again":"05060708","letter":"B","list":[null,"a"],"map":{"k":-3},"last":null,"any":"s","#,
        r#""inner":{"x":7},"price":-123.45,"id":"00000000-0000-0000-0000-000000000007","day":"1969-12-31","#,
        r#""at":"1970-01-01T00:00:01.500000Z","clock":"00:00:00.000001"}"#
    );
    assert_eq!(json_of(&shape, &bytes).unwrap(), expected);
}

/// A tree of which each node has text, a list of nodes below it, and perhaps another tree of which it is a node.
#[test]
fn a_record_within_itself_is_json() {
    let schema = r#"{"type": "record", "name": "E", "fields": [{"name": "n", "type": "long"}, {"name": "tree", "type":
        {"type": "record", "name": "node", "namespace": "a-b", "fields": [{"name": "text", "type": "string"},
        {"name": "below", "type": {"type": "array", "items": "node"}}, {"name": "next", "type": ["null", "node"]}]}}]}"#;
    let shape = Shape::parse(schema).unwrap();
    assert_eq!(shape, shape.clone());
    // 7, then a node "a" with one node "b" below it, whose next is "c".
    let bytes = b"\x0e\x02a\x02\x02b\x00\x02\x02c\x00\x00\x00\x00";
    assert_eq!(
        json_of(&shape, bytes).unwrap(),
        r#"{"n":7,"tree":{"text":"a","below":[{"text":"b","below":[],"next":{"text":"c","below":[],"next":null}}],"next":null}}"#
    );
    let mut cursor = Cursor::new(bytes);
    assert_eq!(cursor.skip(&shape).and_then(|()| cursor.finish()), Ok(()));
    for cut in 0..bytes.len() {
        assert_eq!(json_of(&shape, &bytes[..cut]), Err(DatumError::TooShort), "{cut}");
    }
}

/// Nodes of two types that hold each other, as deep as the bytes say.
#[test]
fn a_datum_does_not_go_into_itself_without_end() {
    let schema = r#"{"type": "record", "name": "a", "fields": [{"name": "b", "type": ["null",
        {"type": "record", "name": "b", "fields": [{"name": "a", "type": ["null", "a"]}]}]}]}"#;
    let shape = Shape::parse(schema).unwrap();
    let nested = |levels: usize| [vec![2; levels], vec![0]].concat();
    assert!(json_of(&shape, &nested(100)).unwrap().starts_with(r#"{"b":{"a":{"b":{"a":"#));
    assert_eq!(json_of(&shape, &nested(1_000_000)), Err(DatumError::TooDeep));
    assert_eq!(Cursor::new(&nested(1_000_000)).skip(&shape), Err(DatumError::TooDeep));
}

#[test]
fn names_are_shown_as_the_schema_has_them() {
    let schema = r#"{"type": "record", "name": "my-event", "fields": [
        {"name": "größe", "type": {"type": "enum", "name": "k", "symbols": ["a-b"]}, "default": 7},
        {"name": "at", "type": "long", "logicalType": "timestamp-micros"}]}"#;
    let shape = Shape::parse(schema).unwrap();
    assert_eq!(json_of(&shape, b"\x00\x02").unwrap(), r#"{"größe":"a-b","at":1}"#);
    let Shape::Record(fields) = shape else { panic!() };
    let misplaced: Vec<_> = fields.iter().map(|field| field.misplaced.as_deref()).collect();
    assert_eq!(misplaced, [None, Some("timestamp-micros")]);
}

/// 40 records, each with two of the one before, unfold into 2 to the 40th.
#[test]
fn types_that_unfold_into_too_many_are_refused() {
    let schema = |records: usize, uses: &[&str]| {
        let first = r#"{"type": "record", "name": "a0", "fields": [{"name": "x", "type": "null"}]}"#.to_string();
        let all = (1..records).fold(first, |all, n| {
            let fields: Vec<String> =
                uses.iter().map(|name| format!(r#"{{"name": "{name}", "type": "a{}"}}"#, n - 1)).collect();
            format!(r#"{all}, {{"type": "record", "name": "a{n}", "fields": [{}]}}"#, fields.join(","))
        });
        Shape::parse(&format!("[{all}]"))
    };
    assert!(schema(10, &["x", "y"]).is_ok());
    let error = schema(40, &["x", "y"]).unwrap_err();
    assert_eq!(error, "the schema has more than 10000 types with its references followed");
    let error = schema(100, &["x"]).unwrap_err();
    assert_eq!(error, "types are nested deeper than 64 with references followed");
}

/// Lists of lists of nothing, four bytes for each million; and a number with digits beyond measure.
#[test]
fn a_few_bytes_do_not_become_many_items_or_endless_digits() {
    let lists = Shape::parse(r#"{"type": "array", "items": {"type": "array", "items": "null"}}"#).unwrap();
    let nulls =
        |count: i64| GenericDatumWriter::builder(&Schema::Long).build().unwrap().write_value_to_vec(Value::Long(count));
    let list = [nulls(900).unwrap(), vec![0]].concat();
    assert!(json_of(&lists, &[&[2][..], &list, &[0]].concat()).is_ok());
    let two = [&[4][..], &list, &list, &[0]].concat();
    assert_eq!(json_of(&lists, &two), Err(DatumError::TooManyItems));
    assert_eq!(Cursor::new(&two).skip(&lists), Err(DatumError::TooManyItems));

    let schema = |precision: usize| {
        Shape::parse(&format!(r#"{{"type": "bytes", "logicalType": "decimal", "precision": {precision}, "scale": 2}}"#))
    };
    assert_eq!(schema(1_001).unwrap_err(), "a decimal of 1001 digits, at most 1000 are possible");
    let number = schema(1_000).unwrap();
    let bytes = |length: usize| [nulls(length as i64).unwrap(), vec![0x7f; length]].concat();
    assert!(json_of(&number, &bytes(1_024)).is_ok());
    assert_eq!(json_of(&number, &bytes(1_025)), Err(DatumError::TooManyDigits));
    assert_eq!(Cursor::new(&bytes(1_025)).skip(&number), Err(DatumError::TooManyDigits));
}

#[test]
fn decimals_keep_every_digit() {
    for (unscaled, scale, text) in [
        (vec![], 0, "0"),
        (vec![0], 2, "0.00"),
        (vec![0xff], 0, "-1"),
        (vec![0x80], 3, "-0.128"),
        (i128::MAX.to_be_bytes().to_vec(), 0, "170141183460469231731687303715884105727"),
        (i128::MIN.to_be_bytes().to_vec(), 38, "-1.70141183460469231731687303715884105728"),
    ] {
        assert_eq!(decimal_text(&unscaled, scale), text);
    }
}

#[test]
fn damage_is_told_apart() {
    let mut cursor = Cursor::new(&[0x80; 11]);
    assert_eq!(cursor.long(), Err(DatumError::TooManyBits));
    assert_eq!(Cursor::new(&[0x80, 0x80]).long(), Err(DatumError::TooShort));
    assert_eq!(Cursor::new(&[2]).boolean(), Err(DatumError::NotBoolean));
    assert_eq!(Cursor::new(&[1]).bytes(), Err(DatumError::NegativeLength));
    assert_eq!(Cursor::new(&[2, 0xff]).text(), Err(DatumError::NotUtf8));
    assert_eq!(Cursor::new(&[4]).index(2), Err(DatumError::NoSuchBranch));
    // A block that announces more nulls than anybody wants.
    let announced = [0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    assert_eq!(Cursor::new(&announced).items(|_| Ok::<_, DatumError>(())), Err(DatumError::TooManyItems));
    assert_eq!(Cursor::new(&[0]).finish(), Err(DatumError::TooLong));
}

proptest! {
    #[test]
    fn longs_are_read_and_written_as_apache_avro_writes_them(number in any::<i64>(), bits in 0u32..64) {
        // Of every length.
        let number = number >> bits;
        let bytes = GenericDatumWriter::builder(&Schema::Long).build().unwrap().write_value_to_vec(Value::Long(number)).unwrap();
        let mut cursor = Cursor::new(&bytes);
        prop_assert_eq!(cursor.long(), Ok(number));
        prop_assert_eq!(cursor.finish(), Ok(()));
        let mut out = Vec::new();
        datum::long(number, &mut out);
        prop_assert_eq!(out, bytes);
    }

    #[test]
    fn skipping_ends_where_reading_does(
        number in any::<i64>(), text in any::<String>(), items in prop::collection::vec(any::<Option<String>>(), 0..5)
    ) {
        let shape = Shape::parse(EVERYTHING).unwrap();
        let bytes = datum(everything(number, &text, items));
        let mut cursor = Cursor::new(&bytes);
        prop_assert_eq!(cursor.skip(&shape), Ok(()));
        prop_assert_eq!(cursor.finish(), Ok(()));
        let parsed: serde_json::Value = serde_json::from_str(&json_of(&shape, &bytes).unwrap()).unwrap();
        prop_assert_eq!(&parsed["text"], &serde_json::Value::from(text));
    }

    /// Cut or changed bytes are an error or another datum; skipping and reading agree on which.
    #[test]
    fn damaged_bytes_never_panic(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<bool>()) {
        let shape = Shape::parse(EVERYTHING).unwrap();
        let mut bytes = datum(everything(5, "text", vec![Some("item".into())]));
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = byte }
        let mut cursor = Cursor::new(&bytes);
        let skipped = cursor.skip(&shape).and_then(|()| cursor.finish());
        prop_assert_eq!(skipped.err(), json_of(&shape, &bytes).err());
        prop_assert!(!cut || skipped.is_err());
    }
}
