#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};

use super::*;
use crate::avro::schema::Reference;
use crate::avro::{Cursor, write_json};
use crate::config::format::FieldConfig;

fn declared(fields: &[(&str, &str)]) -> FormatConfig {
    let fields = fields.iter().map(|(name, of)| ((*name).into(), FieldConfig::Type((*of).into()))).collect();
    FormatConfig { format: Format::Json, fields, ..FormatConfig::default() }
}

fn format(format: Format) -> FormatConfig {
    FormatConfig { format, ..FormatConfig::default() }
}

/// The datum as JSON, as the sinks write it.
fn read(decoder: &mut Decoder, payload: &[u8]) -> Result<Value, Reject> {
    // Something of an earlier record.
    let mut arena = b"before".to_vec();
    match decoder.decode(Some(payload), &mut arena) {
        Ok(Decoded::Datum { schema, bytes }) => {
            let (mut cursor, mut out) = (Cursor::new(bytes), Vec::new());
            write_json(decoder.shape(schema).unwrap(), &mut cursor, &mut out).unwrap();
            cursor.finish().unwrap();
            Ok(serde_json::from_slice(&out).unwrap())
        }
        Ok(other) => panic!("no datum: {other:?}"),
        Err(reject) => {
            assert_eq!(arena, b"before", "what was refused leaves nothing behind");
            Err(reject)
        }
    }
}

/// The notes' order, as their demo 5 writes it.
const ORDER: &str = r#"{"schema": {"type": "struct", "optional": false, "version": 1, "fields": [
    {"field": "order_time", "type": "int64", "optional": false}, {"field": "count", "type": "int32", "optional": false},
    {"field": "order", "type": "array", "optional": false, "items": {"type": "string", "optional": false}}]},
  "payload": {"order_time": 1700000000123456, "count": 12, "order": ["cod & chips", "plaice & chips"]}}"#;

#[test]
fn an_order_reads_the_same_declared_and_in_connects_envelope() {
    let expected =
        json!({"order_time": 1_700_000_000_123_456_i64, "count": 12, "order": ["cod & chips", "plaice & chips"]});
    let mut connect = Decoder::new(&format(Format::ConnectJson)).unwrap();
    assert_eq!(read(&mut connect, ORDER.as_bytes()).unwrap(), expected);
    let mut json =
        Decoder::new(&declared(&[("order_time", "long"), ("count", "int"), ("order", "array<string>")])).unwrap();
    for text in [
        r#"{"order_time":1700000000123456,"count":12,"order":["cod & chips","plaice & chips"]}"#,
        r#"{"order":["cod \u0026 chips","plaice & chips"],"ready":true,"count":12.0,"order_time":1.700000000123456e15}"#,
    ] {
        assert_eq!(read(&mut json, text.as_bytes()).unwrap(), expected);
    }
    assert_eq!(json.declared().unwrap().to_string(), "record of 3 fields");
}

#[test]
fn connects_schemas_are_remembered_by_what_they_mean() {
    let mut connect = Decoder::new(&format(Format::ConnectJson)).unwrap();
    let number = |decoder: &mut Decoder, text: &str| match decoder.decode(Some(text.as_bytes()), &mut Vec::new()) {
        Ok(Decoded::Datum { schema, .. }) => schema,
        other => panic!("{other:?}"),
    };
    let first = number(&mut connect, ORDER);
    let other = ORDER.replace("\"int32\"", "\"int64\"");
    let second = number(&mut connect, &other);
    assert_ne!(first, second);
    assert_eq!(first, number(&mut connect, &ORDER.replace("\"version\": 1", "\"version\": 2")), "the same fields");
    assert_eq!(second, number(&mut connect, &other));
    for at in 0..1_000 {
        let name = ORDER.replace("count", &format!("count{at}"));
        let mut arena = Vec::new();
        let decoded = connect.decode(Some(name.as_bytes()), &mut arena);
        assert_eq!(decoded.is_ok(), at < 997, "three are known: {at}");
    }
    assert_eq!(first, number(&mut connect, ORDER), "known ones go on");
}

#[test]
fn connects_logical_types_defaults_and_maps() {
    let text = |fields: &str, payload: &str| {
        format!(r#"{{"payload": {payload}, "schema": {{"type": "struct", "fields": [{fields}]}}}}"#)
    };
    let mut decoder = Decoder::new(&format(Format::ConnectJson)).unwrap();
    for (field, value, expected) in [
        (
            r#""type": "int64", "name": "org.apache.kafka.connect.data.Timestamp""#,
            "1700000000123",
            json!("2023-11-14T22:13:20.123Z"),
        ),
        (r#""type": "int32", "name": "org.apache.kafka.connect.data.Date""#, "19675", json!("2023-11-14")),
        (r#""type": "int32", "name": "org.apache.kafka.connect.data.Time""#, "1500", json!("00:00:01.500")),
        (
            r#""type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}"#,
            "\"+2A=\"",
            json!(-11.84),
        ),
        (
            r#""type": "int64", "name": "io.debezium.time.MicroTimestamp""#,
            "1700000000123456",
            json!("2023-11-14T22:13:20.123456"),
        ),
        (r#""type": "bytes""#, "\"AAEC\"", json!("000102")),
        (r#""type": "int16", "optional": true"#, "null", json!(null)),
        (r#""type": "string", "default": "none""#, "\"\"", json!("")),
        (r#""type": "map", "keys": {"type": "string"}, "values": {"type": "int32"}"#, "{\"a\": 1}", json!({"a": 1})),
        (
            r#""type": "map", "keys": {"type": "int32"}, "values": {"type": "int32"}"#,
            "[[7, 1], [8, 2]]",
            json!({"7": 1, "8": 2}),
        ),
        (r#""type": "struct", "fields": [{"field": "y", "type": "boolean"}]"#, "{\"y\": true}", json!({"y": true})),
    ] {
        let record = text(&format!(r#"{{"field": "x", {field}}}"#), &format!(r#"{{"x": {value}}}"#));
        assert_eq!(read(&mut decoder, record.as_bytes()).unwrap(), json!({"x": expected}), "{field}");
    }
    let missing = text(r#"{"field": "x", "type": "string", "default": "none"}"#, "{}");
    assert_eq!(read(&mut decoder, missing.as_bytes()).unwrap(), json!({"x": "none"}));
}

#[test]
fn declared_types_are_read_and_what_does_not_fit_is_refused() {
    for (of, value, expected) in [
        ("timestamp-micros", "\"2023-11-14T22:13:20.123456+00:00\"", "2023-11-14T22:13:20.123456Z"),
        ("timestamp-micros", "1700000000123456", "2023-11-14T22:13:20.123456Z"),
        ("timestamp-millis", "\"1969-12-31T23:59:59.9999Z\"", "1969-12-31T23:59:59.999Z"),
        ("timestamp-nanos", "\"2023-11-14T22:13:20.123456789Z\"", "2023-11-14T22:13:20.123456789Z"),
        ("local-timestamp-micros", "\"2023-11-14T22:13:20.5\"", "2023-11-14T22:13:20.500000"),
        ("date", "\"1969-12-30\"", "1969-12-30"),
        ("time-micros", "\"12:30:00.25\"", "12:30:00.250000"),
        ("uuid", "\"e0569750-8c8e-42a8-83fd-d9ad310162b5\"", "e0569750-8c8e-42a8-83fd-d9ad310162b5"),
        ("json", "{\"a\": [1, 2]}", "{\"a\": [1, 2]}"),
    ] {
        let mut decoder = Decoder::new(&declared(&[("x", of)])).unwrap();
        let found = read(&mut decoder, format!("{{\"x\":{value}}}").as_bytes()).unwrap();
        assert_eq!(found, json!({"x": expected}), "{of} {value}");
    }
    for (of, value, reason) in [
        ("int", "2147483648", Reason::OutOfRange),
        ("long", "9223372036854775808", Reason::OutOfRange),
        ("long", "1.5", Reason::WrongType),
        ("long", "\"1\"", Reason::WrongType),
        ("long", "null", Reason::WrongType),
        ("string", "1", Reason::WrongType),
        ("boolean", "0", Reason::WrongType),
        ("float", "1e39", Reason::OutOfRange),
        ("uuid", "\"e0569750\"", Reason::WrongType),
        ("decimal(4, 2)", "1.234", Reason::OutOfRange),
        ("decimal(4, 2)", "123.4", Reason::OutOfRange),
        ("decimal(4, 2)", "true", Reason::WrongType),
        ("array<int>", "{}", Reason::WrongType),
        ("timestamp-micros", "\"2023-11-14T22:13:20\"", Reason::WrongType),
        ("int", "1,\"x\":2", Reason::DuplicateKey),
        ("int", "1}{", Reason::NotJson),
        ("json", "tru", Reason::NotJson),
    ] {
        let mut decoder = Decoder::new(&declared(&[("x", of)])).unwrap();
        let found = read(&mut decoder, format!("{{\"x\":{value}}}").as_bytes()).unwrap_err();
        assert_eq!(found.reason, reason, "{of} {value}: {found}");
    }
    let mut decoder = Decoder::new(&declared(&[("a", "int"), ("b", "int?")])).unwrap();
    assert_eq!(read(&mut decoder, b"{\"a\":1}").unwrap(), json!({"a": 1, "b": null}));
    let missing = read(&mut decoder, b"{\"b\":1}").unwrap_err();
    assert_eq!(missing.to_string(), "a: the field is missing, and its type takes no null");
    assert_eq!(read(&mut decoder, b"null").unwrap_err().reason, Reason::NullValue);
    assert_eq!(read(&mut decoder, b"[]").unwrap_err().reason, Reason::WrongType);
    let mut deep = Decoder::new(&declared(&[("x", "json")])).unwrap();
    assert!(read(&mut deep, format!("{{\"x\":{}1{}}}", "[".repeat(500), "]".repeat(500)).as_bytes()).is_ok());
}

#[test]
fn decimals_keep_all_their_digits() {
    let mut decoder = Decoder::new(&declared(&[("x", "decimal(40, 10)")])).unwrap();
    for (text, expected) in [
        ("0", "0.0000000000"),
        ("-0.5", "-0.5000000000"),
        ("123456789012345678901234567890.0123456789", "123456789012345678901234567890.0123456789"),
        ("\"-123456789012345678901234567890.0123456789\"", "-123456789012345678901234567890.0123456789"),
        ("1.50e3", "1500.0000000000"),
        ("-128e-10", "-0.0000000128"),
        ("255E-10", "0.0000000255"),
    ] {
        let (mut arena, payload) = (Vec::new(), format!("{{\"x\":{text}}}"));
        let Ok(Decoded::Datum { bytes, .. }) = decoder.decode(Some(payload.as_bytes()), &mut arena) else { panic!() };
        let unscaled = Cursor::new(bytes).decimal(None).unwrap();
        assert_eq!(crate::avro::decimal_text(unscaled, 10), expected);
    }
}

#[test]
fn more_items_than_one_byte_counts() {
    let mut decoder = Decoder::new(&declared(&[("x", "array<int>"), ("y", "map<string>")])).unwrap();
    for count in [0, 1, 63, 64, 8_191, 8_192] {
        let map: serde_json::Map<_, _> = (0..count).map(|n| (n.to_string(), json!("é"))).collect();
        let value = json!({"y": map, "x": (0..count).collect::<Vec<_>>()});
        assert_eq!(read(&mut decoder, value.to_string().as_bytes()).unwrap(), value);
    }
}

#[test]
fn json_schema_by_id_and_in_the_record() {
    let schema = json!({"type": "object", "title": "Order", "required": ["order_time", "order"], "properties": {
        "order_time": {"type": "integer"}, "count": {"type": "integer", "connect.type": "int32"},
        "order": {"type": "array", "items": {"$ref": "#/$defs/dish"}},
        "at": {"oneOf": [{"type": "null"}, {"type": "string", "format": "date-time"}]},
        "table": {"$ref": "table.json"}, "note": {"type": ["string", "integer"]}},
        "$defs": {"dish": {"type": "string", "enum": ["cod & chips"]}}});
    let table =
        json!({"$id": "https://example.org/table.json", "type": "object", "properties": {"seat": {"type": "number"}}});
    let of_table = Reference { name: "table".into(), text: table.to_string() };
    let mut decoder = Decoder::new(&format(Format::JsonSchema)).unwrap();
    let record = json!({"order_time": 5, "order": ["cod & chips"], "at": "2023-11-14T22:13:20Z", "table": {"seat": 2}, "note": 7});
    let payload = [&[0, 0, 0, 0, 9][..], record.to_string().as_bytes()].concat();
    assert_eq!(decoder.decode(Some(&payload), &mut Vec::new()), Ok(Decoded::Unknown(9)));
    let text = SchemaText { text: schema.to_string(), references: vec![of_table], other_kind: Some("JSON".into()) };
    decoder.learn(9, &text).unwrap();
    let expected = json!({"order_time": 5, "count": null, "order": ["cod & chips"], "at": "2023-11-14T22:13:20.000000Z",
        "table": {"seat": 2.0}, "note": "7"});
    assert_eq!(read(&mut decoder, &payload).unwrap(), expected);
    let enveloped =
        json!({"schema": {"type": "object", "properties": {"n": {"type": "integer"}}}, "payload": {"n": 3}});
    assert_eq!(read(&mut decoder, enveloped.to_string().as_bytes()).unwrap(), json!({"n": 3}));
    let itself = SchemaText { text: r##"{"type":"object","properties":{"a":{"$ref":"#"}}}"##.into(), ..text };
    assert!(decoder.learn(10, &itself).unwrap_err().contains("refers to itself"));
    assert!(decoder.learn(11, &"\"string\"".into()).unwrap_err().contains("type AVRO"));
}

#[test]
fn json_schemas_are_found_by_the_names_of_references() {
    let schema = json!({"type": "object", "properties": {
        "till": {"$ref": "till.json#/$defs/number"}, "dish": {"$ref": "shop.Dish"}}});
    // Without an $id, as most are registered; one refers to the other.
    let reference = |name: &str, schema: serde_json::Value| Reference { name: name.into(), text: schema.to_string() };
    let references = vec![
        reference("till.json", json!({"$defs": {"number": {"type": "integer"}}})),
        reference("shop.Dish", json!({"type": "object", "properties": {"size": {"$ref": "size"}}})),
        reference("size", json!({"type": "string"})),
    ];
    let text = SchemaText { text: schema.to_string(), references, other_kind: Some("JSON".into()) };
    let mut decoder = Decoder::new(&format(Format::JsonSchema)).unwrap();
    decoder.learn(9, &text).unwrap();
    let payload = [&[0, 0, 0, 0, 9][..], br#"{"till":3,"dish":{"size":"large"}}"#].concat();
    let expected = json!({"dish": {"size": "large"}, "till": 3});
    assert_eq!(read(&mut decoder, &payload).unwrap(), expected);
    let missing = SchemaText { references: text.references[..2].to_vec(), ..text };
    let refused = decoder.learn(10, &missing).unwrap_err();
    assert_eq!(refused, "field dish.size: the reference size leads to no schema that is registered with this one");
}

#[test]
fn casts_put_misplaced_logical_types_right() {
    let schema = r#"{"type":"record","name":"r","fields":[{"name":"at","type":"long","logicalType":"timestamp-micros"},
        {"name":"id","type":["null","string"]},{"name":"n","type":"int"}]}"#;
    let cast = |pairs: &[(&str, &str)]| FormatConfig {
        cast: pairs.iter().map(|(field, of)| ((*field).into(), (*of).into())).collect(),
        ..FormatConfig::default()
    };
    let found = registered_shape(&cast(&[("at", "timestamp-micros"), ("id", "uuid")]), &schema.into()).unwrap();
    let Shape::Record(fields) = found else { panic!() };
    let types: Vec<String> = fields.iter().map(|field| field.shape.to_string()).collect();
    assert_eq!(types, ["long (timestamp-micros)", "[null, string (uuid)]", "int"]);
    assert_eq!(fields[0].misplaced, None);
    for (field, of, what) in [
        (
            "n",
            "timestamp-micros",
            "source.cast.n: a field of type int cannot be read as long (timestamp-micros), which is written in another way",
        ),
        ("x", "uuid", "source.cast.x: the schema has no field of this name"),
    ] {
        assert_eq!(registered_shape(&cast(&[(field, of)]), &schema.into()).unwrap_err(), what);
    }
    assert!(
        Decoder::new(&cast(&[("at", "timestampmicros")]))
            .unwrap_err()
            .starts_with("field at has the type `timestampmicros`")
    );
}
