//! The bytes against apache-avro's, and what is said of schemas that do not fit.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use apache_avro::{Schema, types::Value, writer::datum::GenericDatumWriter};
use proptest::prelude::*;

use super::*;
use crate::config::finding::Finding;
use crate::pipeline::press::event::{Action, Actions, SessionId};

const OURS: &str = include_str!("../../../../schemas/button_presses.avsc");

fn actions() -> Actions {
    Actions::new(vec!["EnterPage".to_owned(), "PressButton".to_owned(), "ExitPage".to_owned()]).unwrap()
}

fn schema(fields: &[&str]) -> String {
    format!(r#"{{"type":"record","name":"button_presses","fields":[{}]}}"#, fields.join(","))
}

fn compile(schema: &str) -> Result<Encoder, Vec<Finding>> {
    Encoder::compile(&Schema::parse_str(schema).unwrap(), 0x0102_0304, &actions(), "schemas/button_presses.avsc")
}

fn findings(schema: &str) -> Vec<String> {
    compile(schema).err().expect("findings").iter().map(ToString::to_string).collect()
}

const ID: &str = r#"{"name":"session_id","type":{"type":"string","logicalType":"uuid"}}"#;
const TIMESTAMP: &str = r#"{"name":"timestamp","type":{"type":"long","logicalType":"timestamp-micros"}}"#;
const ACTION: &str = r#"{"name":"action","type":"string"}"#;

/// One field a choice; the order is drawn in the tests.
fn field(name: &'static str) -> BoxedStrategy<String> {
    let types: &[&str] = match name {
        "session_id" => &[r#"{"type":"string","logicalType":"uuid"}"#, r#""string""#],
        "timestamp" => &[
            r#"{"type":"long","logicalType":"timestamp-micros"}"#,
            r#"{"type":"long","logicalType":"timestamp-millis"}"#,
            r#""long""#,
        ],
        "cohort" => &[r#"["null","int"]"#, r#"["int","null"]"#, r#"["null","long"]"#, r#"["long","null"]"#],
        "action" => {
            &[r#""string""#, r#"{"type":"enum","name":"a","symbols":["Other","ExitPage","EnterPage","PressButton"]}"#]
        }
        "latitude" | "longitude" => &[r#"["null","double"]"#, r#"["double","null"]"#],
        "accuracy_km" => &[r#"["null","int"]"#, r#"["int","null"]"#, r#"["null","long"]"#],
        "time_zone" => &[r#"["null","string"]"#, r#"["string","null"]"#],
        _ => &[r#""string""#, r#"["null","string"]"#, r#"["string","null"]"#],
    };
    prop::sample::select(types).prop_map(move |t| format!(r#"{{"name":"{name}","type":{t}}}"#)).boxed()
}

/// A field that is not ours, and its default as the oracle writes it.
const FOREIGN: [&str; 12] = [
    r#"{"name":"x0","type":"null","default":null}"#,
    r#"{"name":"x1","type":"boolean","default":true}"#,
    r#"{"name":"x2","type":"int","default":-70000}"#,
    r#"{"name":"x3","type":"long","default":-9223372036854775808}"#,
    r#"{"name":"x4","type":"float","default":1.1}"#,
    r#"{"name":"x5","type":"double","default":-0.25}"#,
    r#"{"name":"x6","type":"string","default":"Ünïcode"}"#,
    r#"{"name":"x7","type":"bytes","default":"\u00ff\u0000a"}"#,
    r#"{"name":"x8","type":{"type":"enum","name":"e","symbols":["A","B"]},"default":"B"}"#,
    r#"{"name":"x9","type":["null","long"],"default":null}"#,
    r#"{"name":"x10","type":["string","null"],"default":"x"}"#,
    r#"{"name":"x11","type":{"type":"int","logicalType":"date"},"default":20000}"#,
];

fn foreign_value(name: &str) -> Value {
    match name {
        "x0" => Value::Null,
        "x1" => Value::Boolean(true),
        "x2" => Value::Int(-70_000),
        "x3" => Value::Long(i64::MIN),
        "x4" => Value::Float(1.1),
        "x5" => Value::Double(-0.25),
        "x6" => Value::String("Ünïcode".to_owned()),
        "x7" => Value::Bytes(vec![0xff, 0, b'a']),
        "x8" => Value::Enum(1, "B".to_owned()),
        "x9" => Value::Union(0, Box::new(Value::Null)),
        "x10" => Value::Union(0, Box::new(Value::String("x".to_owned()))),
        "x11" => Value::Date(20_000),
        _ => panic!("no such field"),
    }
}

/// A writer schema: event fields in any order, the place fields among them as one run, foreign fields anywhere.
fn schemas() -> impl Strategy<Value = String> {
    const EVENT: [&str; 3] = ["session_id", "timestamp", "action"];
    const PLACE: [&str; 9] = [
        "country_name",
        "country_code",
        "subdivision_name",
        "subdivision_code",
        "city_name",
        "latitude",
        "longitude",
        "accuracy_km",
        "time_zone",
    ];
    let some = |names: &[&'static str]| names.iter().map(|name| field(name)).collect::<Vec<_>>();
    let event = (some(&EVENT), prop::option::of(field("cohort")))
        .prop_map(|(fields, cohort)| fields.into_iter().chain(cohort).collect::<Vec<_>>())
        .prop_shuffle();
    let place =
        prop::sample::subsequence(&PLACE[..], 0..=PLACE.len()).prop_shuffle().prop_flat_map(move |names| some(&names));
    let foreign = prop::sample::subsequence(&FOREIGN[..], 0..4);
    let at = any::<[prop::sample::Index; 4]>();
    (event, place, foreign, any::<prop::sample::Index>(), at).prop_map(|(event, place, foreign, place_at, at)| {
        let place_at = place_at.index(event.len() + 1);
        let mut fields = event;
        fields.splice(place_at..place_at, place);
        for (field, at) in foreign.into_iter().zip(at) {
            fields.insert(at.index(fields.len() + 1), field.to_owned());
        }
        schema(&fields.iter().map(String::as_str).collect::<Vec<_>>())
    })
}

fn presses() -> impl Strategy<Value = PressBody> {
    (any::<u128>(), any::<i64>(), prop::option::of(any::<i16>()), 0..3_u16).prop_map(
        |(id, timestamp_us, cohort, action)| {
            let session_id = SessionId::from_uuid(uuid::Uuid::from_u128(id));
            PressBody { session_id, timestamp_us, cohort, action: Action(action) }
        },
    )
}

fn places() -> impl Strategy<Value = Place> {
    let text = || prop_oneof![Just(String::new()), any::<String>(), Just("Žďár nad Sázavou 東京 🏙".repeat(9))];
    let degrees = || prop::option::of(-180.0_f64..180.0);
    let names = (text(), text(), text(), text(), text());
    let time_zone = prop::option::of("[A-Z][a-z]{1,40}/[A-Z][a-z]{1,40}");
    (names, degrees(), degrees(), prop::option::of(any::<i32>()), time_zone).prop_map(
        |(names, latitude, longitude, accuracy_km, time_zone)| Place {
            country_name: names.0,
            country_code: names.1,
            subdivision_name: names.2,
            subdivision_code: names.3,
            city_name: names.4,
            latitude,
            longitude,
            accuracy_km,
            time_zone,
        },
    )
}

/// The value of one field as apache-avro takes it.
fn oracle_value(name: &str, schema: &Schema, press: &PressBody, place: &Place) -> Value {
    let text = |text: &str| Value::String(text.to_owned());
    let plain = match name {
        "session_id" => match schema {
            Schema::Uuid(_) => Value::Uuid(uuid::Uuid::parse_str(press.session_id.as_str()).unwrap()),
            _ => text(press.session_id.as_str()),
        },
        "timestamp" => match schema {
            Schema::TimestampMillis => Value::TimestampMillis(press.timestamp_us.div_euclid(1000)),
            Schema::TimestampMicros => Value::TimestampMicros(press.timestamp_us),
            _ => Value::Long(press.timestamp_us),
        },
        "action" => match schema {
            Schema::Enum(symbols) => {
                let name = actions().name(press.action).to_owned();
                Value::Enum(symbols.symbols.iter().position(|symbol| *symbol == name).unwrap() as u32, name)
            }
            _ => text(actions().name(press.action)),
        },
        "cohort" => press.cohort.map_or(Value::Null, |cohort| number(schema, i32::from(cohort))),
        "accuracy_km" => place.accuracy_km.map_or(Value::Null, |kilometres| number(schema, kilometres)),
        "latitude" => place.latitude.map_or(Value::Null, Value::Double),
        "longitude" => place.longitude.map_or(Value::Null, Value::Double),
        "time_zone" => place.time_zone.as_deref().map_or(Value::Null, text),
        foreign if foreign.starts_with('x') => return foreign_value(foreign),
        of_place => {
            let found = match of_place {
                "country_name" => &place.country_name,
                "country_code" => &place.country_code,
                "subdivision_name" => &place.subdivision_name,
                "subdivision_code" => &place.subdivision_code,
                _ => &place.city_name,
            };
            if found.is_empty() && matches!(schema, Schema::Union(_)) { Value::Null } else { text(found) }
        }
    };
    let Schema::Union(union) = schema else { return plain };
    let index = union.variants().iter().position(|branch| (*branch == Schema::Null) == (plain == Value::Null)).unwrap();
    Value::Union(index as u32, Box::new(plain))
}

fn number(schema: &Schema, number: i32) -> Value {
    let Schema::Union(union) = schema else { panic!("a union") };
    if union.variants().contains(&Schema::Long) { Value::Long(i64::from(number)) } else { Value::Int(number) }
}

fn oracle(schema: &Schema, press: &PressBody, place: &Place) -> Vec<u8> {
    let Schema::Record(record) = schema else { panic!("a record") };
    let fields = record.fields.iter();
    let fields = fields.map(|f| (f.name.clone(), oracle_value(&f.name, &f.schema, press, place))).collect();
    GenericDatumWriter::builder(schema).build().unwrap().write_value_to_vec(Value::Record(fields)).unwrap()
}

fn check(schema: &str, press: &PressBody, place: &Place) -> Result<(), TestCaseError> {
    let encoder = compile(schema).unwrap_or_else(|findings| panic!("{schema}: {findings:?}"));
    let mut out = b"before".to_vec();
    encoder.encode(press, &encoder.place_fragment(place), &mut out);
    let expected = oracle(&Schema::parse_str(schema).unwrap(), press, place);
    prop_assert_eq!(&out[..11], b"before\x00\x01\x02\x03\x04");
    prop_assert_eq!(&out[11..], &expected[..], "{}", schema);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn our_schema_is_written_as_apache_avro_writes_it(press in presses(), place in places()) {
        check(OURS, &press, &place)?;
        check(OURS, &press, &Place::unknown())?;
    }

    #[test]
    fn any_schema_that_fits_is_written_as_apache_avro_writes_it(
        schema in schemas(), press in presses(), place in places(),
    ) {
        check(&schema, &press, &place)?;
    }
}

#[test]
fn millis_are_cut_towards_the_past() {
    let millis = TIMESTAMP.replace("micros", "millis");
    let encoder = compile(&schema(&[&millis, ID, ACTION])).ok().unwrap();
    let session_id = SessionId::from_uuid(uuid::Uuid::nil());
    let mut out = Vec::new();
    encoder.encode(&PressBody { session_id, timestamp_us: -1, cohort: None, action: Action(0) }, &[], &mut out);
    // Zigzag of -1.
    assert_eq!(out[HEADER_BYTES], 1);
}

#[test]
fn missing_fields_are_named() {
    let place = "error: schemas/button_presses.avsc: ";
    let nothing = findings(&schema(&[]));
    let expected = ["session_id", "timestamp", "action"]
        .map(|field| format!("{place}{field}: the schema has no such field\n    add it: every event has it"));
    assert_eq!(nothing, expected);
    assert_eq!(
        findings(r#""string""#),
        [format!("{place}the schema is of type string, expected a record\n    give a record schema")]
    );
}

#[test]
fn types_that_do_not_fit_are_named_with_those_that_do() {
    for (name, found, said, expected) in [
        (
            "session_id",
            r#"{"type":"fixed","size":16,"name":"f","logicalType":"uuid"}"#,
            "fixed (uuid)",
            r#"{"type":"string","logicalType":"uuid"} or "string""#,
        ),
        ("session_id", r#""bytes""#, "bytes", r#"{"type":"string","logicalType":"uuid"} or "string""#),
        (
            "timestamp",
            r#""string""#,
            "string",
            r#"{"type":"long","logicalType":"timestamp-micros"}, the same with timestamp-millis, or "long" (microseconds)"#,
        ),
        (
            "timestamp",
            r#"{"type":"long","logicalType":"timestamp-nanos"}"#,
            "long (timestamp-nanos)",
            r#"{"type":"long","logicalType":"timestamp-micros"}, the same with timestamp-millis, or "long" (microseconds)"#,
        ),
        ("cohort", r#""int""#, "int", r#"["null","int"] or ["null","long"] (it is null for generated data)"#),
        (
            "action",
            r#"["null","string"]"#,
            "[null, string]",
            r#""string" or an enum with every action of the pipeline"#,
        ),
        ("city_name", r#""bytes""#, "bytes", r#""string" or ["null","string"]"#),
        ("city_name", r#"["null","int","string"]"#, "[null, int, string]", r#""string" or ["null","string"]"#),
        ("latitude", r#""double""#, "double", r#"["null","double"] (it is null where the place is unknown)"#),
        (
            "longitude",
            r#"["null","float"]"#,
            "[null, float]",
            r#"["null","double"] (it is null where the place is unknown)"#,
        ),
        ("accuracy_km", r#""int""#, "int", r#"["null","int"] or ["null","long"] (it is null where it is unknown)"#),
        ("time_zone", r#""string""#, "string", r#"["null","string"] (it is null where it is unknown)"#),
    ] {
        let field = format!(r#"{{"name":"{name}","type":{found}}}"#);
        let mut fields = vec![("session_id", ID), ("timestamp", TIMESTAMP), ("action", ACTION)];
        fields.retain(|(other, _)| *other != name);
        let fields: Vec<&str> = fields.iter().map(|(_, field)| *field).chain([field.as_str()]).collect();
        let expected = format!(
            "error: schemas/button_presses.avsc: {name}: the field is of type {said}, expected {expected}\n    declare it \
             as {expected}"
        );
        assert_eq!(findings(&schema(&fields)), [expected]);
    }
}

#[test]
fn an_enum_without_an_allowed_action_is_refused() {
    let action = r#"{"name":"action","type":{"type":"enum","name":"a","symbols":["EnterPage","PressButton"]}}"#;
    assert_eq!(
        findings(&schema(&[ID, TIMESTAMP, action])),
        [
            "error: schemas/button_presses.avsc: action: the enum has no symbol \"ExitPage\", which the pipeline's `actions` \
          allow\n    add the symbol to the enum, or take the action off the pipeline's list"
        ]
    );
}

#[test]
fn place_fields_stand_side_by_side() {
    let (city, country) = (r#"{"name":"city_name","type":"string"}"#, r#"{"name":"country_code","type":"string"}"#);
    assert!(compile(&schema(&[ID, TIMESTAMP, city, FOREIGN[1], country, FOREIGN[2], ACTION])).is_ok());
    assert_eq!(
        findings(&schema(&[ID, TIMESTAMP, city, ACTION, country])),
        [
            "error: schemas/button_presses.avsc: country_code: an event field stands between this place field and the ones \
          before it\n    put all place fields side by side: their bytes are written as one piece"
        ]
    );
}

#[test]
fn other_fields_need_a_default_that_can_be_written() {
    let without = r#"{"name":"weather","type":"string"}"#;
    assert_eq!(
        findings(&schema(&[ID, TIMESTAMP, ACTION, without])),
        [
            "error: schemas/button_presses.avsc: weather: pressline has no value for this field of type string, and it has no \
          default\n    give the field a default, which is then written, or take it out of the schema"
        ]
    );
    let list = r#"{"name":"weather","type":{"type":"array","items":"int"},"default":[]}"#;
    assert_eq!(
        findings(&schema(&[ID, TIMESTAMP, ACTION, list])),
        [
            "error: schemas/button_presses.avsc: weather: the default of this field of type array cannot be written\n    give \
          it a default of null, true, false, a number or text that fits its type"
        ]
    );
}
