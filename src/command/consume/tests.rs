#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::cell::Cell;
use std::rc::Rc;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use rdkafka::Timestamp as RecordTime;
use rdkafka::message::{Header, OwnedHeaders, OwnedMessage};

use super::avro::WriterSchema;
use super::decode::Encoding;
use super::*;
use crate::avro::schema::SchemaText;
use crate::command::consume::decode::{Decoder, Schemas};
use crate::command::consume::text::Style;

const PRESSES: &str = include_str!("../../../schemas/button_presses.avsc");
const PEOPLE: Style = Style { people: true, addresses: false };
const MACHINES: Style = Style { people: false, addresses: false };

/// A registry with one schema, id 7, that counts how often it is asked.
struct One(&'static str, Rc<Cell<u32>>);

impl Schemas for One {
    fn fetch(&mut self, id: u32) -> Result<SchemaText, RegistryError> {
        self.1.set(self.1.get() + 1);
        match id {
            7 => Ok(self.0.into()),
            8 => Err(RegistryError::Unavailable { registry: "http://r".into(), reason: "connection refused".into() }),
            _ => Err(RegistryError::Refused {
                registry: "http://r".into(),
                status: 404,
                code: None,
                message: String::new(),
            }),
        }
    }
}

fn decoder(schema: &'static str, style: Style) -> (Decoder, Rc<Cell<u32>>) {
    let asked = Rc::new(Cell::new(0));
    (Decoder::new(Some(Box::new(One(schema, Rc::clone(&asked)))), style), asked)
}

fn framed(id: u8, datum: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, id], datum].concat()
}

fn press() -> Vec<u8> {
    let schema = Schema::parse_str(PRESSES).unwrap();
    let text = |text: &str| Value::String(text.into());
    let none = || Value::Union(0, Box::new(Value::Null));
    let some = |value| Value::Union(1, Box::new(value));
    let uuid = uuid::Uuid::parse_str("4a8d5f0c-0f1e-4d57-9d32-0c3f6a1b2c3d").unwrap();
    let record = Value::Record(vec![
        ("session_id".into(), Value::Uuid(uuid)),
        ("timestamp".into(), Value::TimestampMicros(1_767_225_600_123_456)),
        ("cohort".into(), some(Value::Int(2))),
        ("action".into(), text("PressButton")),
        ("country_name".into(), text("Finland")),
        ("country_code".into(), text("FI")),
        ("subdivision_name".into(), text("Uusimaa")),
        ("subdivision_code".into(), text("18")),
        ("city_name".into(), text("Helsinki")),
        ("latitude".into(), some(Value::Double(60.25))),
        ("longitude".into(), some(Value::Double(25.0))),
        ("accuracy_km".into(), none()),
        ("time_zone".into(), some(text("Europe/Helsinki"))),
    ]);
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(record).unwrap()
}

#[test]
fn avro_is_shown_in_the_schemas_order_with_times_for_people_and_numbers_for_machines() {
    let rest = r#""cohort":2,"action":"PressButton","country_name":"Finland","country_code":"FI","subdivision_name":"Uusimaa","subdivision_code":"18","city_name":"Helsinki","latitude":60.25,"longitude":25.0,"accuracy_km":null,"time_zone":"Europe/Helsinki"}"#;
    for (style, time) in [(PEOPLE, "\"2026-01-01T00:00:00.123456Z\""), (MACHINES, "1767225600123456")] {
        let (mut decoder, asked) = decoder(PRESSES, style);
        for _ in 0..3 {
            let shown = decoder.value(Some(&framed(7, &press()))).unwrap();
            let expected =
                format!("{{\"session_id\":\"4a8d5f0c-0f1e-4d57-9d32-0c3f6a1b2c3d\",\"timestamp\":{time},{rest}");
            assert_eq!(shown.text, expected);
            assert_eq!((shown.encoding, shown.schema_id, shown.problem), (Encoding::Avro, Some(7), None));
        }
        assert_eq!(asked.get(), 1, "a schema is fetched once");
    }
}

#[test]
fn a_record_that_ends_too_early_is_never_taken_for_a_whole_one() {
    let plan = WriterSchema::parse(&PRESSES.into()).unwrap();
    let datum = press();
    for length in 0..datum.len() {
        let error = plan.render(&datum[..length], PEOPLE).unwrap_err();
        assert!(error.starts_with("field ") && error.ends_with("the record ends too early"), "{length}: {error}");
    }
}

#[test]
fn bytes_left_over_are_a_problem_and_shown_as_digits() {
    let (mut decoder, _) = decoder(r#""int""#, PEOPLE);
    let shown = decoder.value(Some(&framed(7, &[2, 3, 4]))).unwrap();
    assert_eq!(shown.text, "\"0000000007020304\"");
    assert_eq!(shown.problem.unwrap(), "does not fit schema 7: 2 bytes are left over after the datum");
    assert_eq!(shown.encoding, Encoding::Hex);
}

#[test]
fn deep_schemas_and_deep_datums_of_recursive_ones_are_refused() {
    let deep = format!("{}\"int\"{}", "{\"type\":\"array\",\"items\":".repeat(100), "}".repeat(100));
    assert_eq!(WriterSchema::parse(&deep.as_str().into()).err().unwrap(), "the schema is nested deeper than 64");
    let deeper = format!("{}\"int\"{}", "{\"type\":\"array\",\"items\":".repeat(10_000), "}".repeat(10_000));
    assert_eq!(
        WriterSchema::parse(&deeper.as_str().into()).err().unwrap(),
        "the schema is not JSON, or nested far too deep"
    );
    let list = r#"{"type":"record","name":"Node","namespace":"a","fields":[{"name":"next","type":["null","Node"]}]}"#;
    let plan = WriterSchema::parse(&list.into()).unwrap();
    assert_eq!(plan.render(&[2, 2, 0], PEOPLE).unwrap(), r#"{"next":{"next":{"next":null}}}"#);
    let error = plan.render(&[2; 100_000], PEOPLE).unwrap_err();
    assert!(error.ends_with("nested deeper than 64"), "{error}");
}

#[test]
fn a_few_bytes_cannot_announce_billions_of_values() {
    let plan = WriterSchema::parse(&r#"{"type":"array","items":"null"}"#.into()).unwrap();
    let error = plan.render(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0x7f, 0], PEOPLE).unwrap_err();
    assert_eq!(error, "more than 1000000 values in one record");
}

#[test]
fn logical_types_and_containers_are_written_out() {
    let shown =
        |schema: &str, datum: &[u8]| WriterSchema::parse(&schema.into()).unwrap().render(datum, PEOPLE).unwrap();
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}"#;
    assert_eq!(shown(decimal, &[4, 0x04, 0xd2]), "\"12.34\"");
    assert_eq!(shown(decimal, &[4, 0xfb, 0x2e]), "\"-12.34\"");
    assert_eq!(shown(decimal, &[2, 0x05]), "\"0.05\"");
    assert_eq!(shown(decimal, &[0]), "\"0.00\"");
    assert_eq!(shown(r#"{"type":"int","logicalType":"date"}"#, &[0x80, 0x01]), "\"1970-03-06\"");
    assert_eq!(shown(r#"{"type":"map","values":"int"}"#, &[4, 2, b'b', 2, 2, b'a', 4, 0]), r#"{"b":1,"a":2}"#);
    assert_eq!(shown(r#"{"type":"array","items":"boolean"}"#, &[3, 4, 1, 0, 2, 1, 0]), "[true,false,true]");
    assert_eq!(shown(r#"{"type":"enum","name":"E","symbols":["A","B"]}"#, &[2]), "\"B\"");
    assert_eq!(shown("\"float\"", &f32::NAN.to_le_bytes()), "\"NaN\"");
    assert_eq!(shown("\"bytes\"", &[4, 0xab, 0xcd]), "\"abcd\"");
}

#[test]
fn json_keeps_its_order_and_addresses_are_withheld_at_any_depth() {
    let json = br#" {"z":1, "ip":"81.2.69.142", "a":[1,{"client_ip":"2001:db8::1","zip":"00100"}], "clientIp":1, "remote_addr":null} "#;
    let (mut decoder, _) = decoder(PRESSES, PEOPLE);
    let shown = decoder.value(Some(json)).unwrap();
    let expected = r#"{"z":1,"ip":"<withheld>","a":[1,{"client_ip":"<withheld>","zip":"00100"}],"clientIp":"<withheld>","remote_addr":null}"#;
    assert_eq!(shown.text, expected);
    let mut open = Decoder::new(None, Style { people: true, addresses: true });
    assert!(open.value(Some(json)).unwrap().text.contains("\"ip\":\"81.2.69.142\""));
}

#[test]
fn avro_fields_that_hold_an_address_are_withheld_too() {
    let schema =
        r#"{"type":"record","name":"R","fields":[{"name":"ip","type":["null","string"]},{"name":"n","type":"int"}]}"#;
    let plan = WriterSchema::parse(&schema.into()).unwrap();
    assert_eq!(plan.render(&[2, 8, b'1', b'.', b':', b'4', 6], PEOPLE).unwrap(), r#"{"ip":"<withheld>","n":3}"#);
    assert_eq!(plan.render(&[0, 6], PEOPLE).unwrap(), r#"{"ip":null,"n":3}"#);
}

#[test]
fn what_is_no_json_is_shown_as_digits_unless_it_may_hold_an_address() {
    let (mut decoder, _) = decoder(PRESSES, PEOPLE);
    let shown = decoder.value(Some(b"no")).unwrap();
    assert_eq!((shown.encoding, shown.text.as_str()), (Encoding::Hex, "\"6e6f\""));
    for broken in [&br#"{"a":1,"ip":"81.2.6"#[..], b"from 81.2.69.142 to", b"[2001:db8::7]:80 gone"] {
        let shown = decoder.value(Some(broken)).unwrap();
        assert_eq!(shown.text, "\"<withheld>\"");
        assert!(shown.problem.unwrap().contains("they may hold an address (--show-addresses)"));
    }
    assert_eq!(decoder.value(None).unwrap().encoding, Encoding::Null);
}

#[test]
fn a_schema_that_is_not_there_is_said_and_a_registry_that_is_down_ends_it() {
    let (mut decoder, _) = decoder(PRESSES, PEOPLE);
    let shown = decoder.value(Some(&framed(9, &[1]))).unwrap();
    assert_eq!(shown.problem.unwrap(), "schema 9: the registry answers 404");
    assert!(decoder.value(Some(&framed(8, &[1]))).is_err());
    let shown = Decoder::new(None, PEOPLE).value(Some(&framed(7, &[1]))).unwrap();
    assert_eq!(shown.problem.unwrap(), "looks like Avro; name the registry with --registry");
    assert_eq!(shown.schema_id, Some(7));
}

fn message(key: Option<&str>, value: &[u8], headers: Option<OwnedHeaders>) -> OwnedMessage {
    OwnedMessage::new(
        Some(value.to_vec()),
        key.map(|k| k.as_bytes().to_vec()),
        "raw_presses".into(),
        RecordTime::CreateTime(1_767_225_600_123),
        2,
        42,
        headers,
    )
}

fn shown(message: &OwnedMessage, json: bool, colours: bool) -> String {
    let mut out = Vec::new();
    show::write(message, &mut Decoder::new(None, PEOPLE), PEOPLE, json, colours, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn a_line_for_people_and_an_object_for_machines() {
    let headers = OwnedHeaders::new()
        .insert(Header { key: "trace", value: Some("a b") })
        .insert(Header { key: "X-Forwarded-For", value: Some("81.2.69.142") });
    let record = message(Some("4a8d"), br#"{"n":1}"#, Some(headers));
    assert_eq!(
        shown(&record, false, false),
        "2026-01-01T00:00:00.123Z 2:42 4a8d [trace=\"a b\" X-Forwarded-For=\"<withheld>\"] {\"n\":1}\n"
    );
    assert_eq!(
        shown(&record, true, false),
        "{\"topic\":\"raw_presses\",\"partition\":2,\"offset\":42,\"timestamp\":1767225600123,\"key\":\"4a8d\",\
         \"headers\":[[\"trace\",\"a b\"],[\"X-Forwarded-For\",\"<withheld>\"]],\"schema_id\":null,\
         \"encoding\":\"json\",\"value\":{\"n\":1}}\n"
    );
    assert!(shown(&record, false, true).contains("\x1b[36m4a8d\x1b[0m"));
    assert!(shown(&message(None, b"1", None), false, false).contains(" 2:42 null 1"));
}

#[test]
fn a_record_cannot_play_with_the_terminal() {
    let evil = "\u{1b}]0;x\u{7}\u{9b}31m\u{202e}";
    let json = serde_json::to_string(evil).unwrap();
    let text = shown(&message(Some(evil), json.as_bytes(), None), false, false);
    assert!(text.trim_end().chars().all(|c| !c.is_control() && c != '\u{202e}'), "{text:?}");
}

#[test]
fn starts_are_times_offsets_or_counts_from_the_end() {
    assert_eq!("17".parse(), Ok(Start::Offset(17)));
    assert_eq!("-5".parse(), Ok(Start::Last(5)));
    assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(Start::Time(Timestamp::from_second(1).unwrap())));
    assert_eq!("1970-01-02".parse(), Ok(Start::Time(Timestamp::from_second(86_400).unwrap())));
    assert_eq!(
        "soon".parse::<Start>().unwrap_err(),
        "expected an offset, or a time such as 2026-01-31T12:00:00Z or -1h"
    );
}

proptest! {
    #[test]
    fn no_bytes_bring_the_decoder_down(bytes: Vec<u8>) {
        for schema in [PRESSES, r#"{"type":"map","values":{"type":"array","items":["null","double","string"]}}"#] {
            if let Ok(text) = WriterSchema::parse(&schema.into()).unwrap().render(&bytes, PEOPLE) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
            }
        }
        let shown = Decoder::new(None, PEOPLE).value(Some(&bytes)).unwrap();
        prop_assert!(serde_json::from_str::<serde_json::Value>(&shown.text).is_ok(), "{}", shown.text);
    }

    #[test]
    fn decimals_agree_with_128_bit_integers(number: i128) {
        let mut out = String::new();
        text::decimal(&number.to_be_bytes(), 0, &mut out);
        prop_assert_eq!(out, format!("\"{number}\""));
    }
}
