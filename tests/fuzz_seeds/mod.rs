//! Inputs from which fuzzing begins, made from real cases.

use std::net::IpAddr;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use maxminddb_writer::{Database, metadata::IpVersion};
use pressline::command::generate::{Addresses, PressKind, Presses, Recipe};
use serde_json::json;

type Seeds = Vec<(String, Vec<u8>)>;

/// A few sound presses and each kind of malformed one, of the generator.
pub fn decode() -> Seeds {
    let mut seeds = Seeds::new();
    for (malformed, count) in [(0.0, 6), (1.0, 15)] {
        let recipe = Recipe { malformed, unknown: 0.2, private: 0.2, sessions: Some(10), ..Recipe::default() };
        let mut presses = Presses::new(recipe, Addresses::bundled(1).unwrap()).unwrap();
        let (mut key, mut value) = (Vec::new(), Vec::new());
        for number in 0..count {
            let made = presses.next_into(&mut key, &mut value);
            let name = match made.kind {
                PressKind::Malformed(mistake) => mistake.name().replace(' ', "-"),
                kind => format!("{kind:?}-{number}").to_lowercase(),
            };
            seeds.push((name, value.clone()));
        }
    }
    let iso = r#"{"session_id":"C0FFEE00-ABCD-4abc-8DEF-0123456789AB","timestamp":"2026-11-21T12:00:00.123456+02:00",
        "cohort":-7,"act\u0069on":"ExitPage","ip":"::ffff:192.0.2.1","more":[1e3,{"\ud83d\ude00":-0.5}],"more":true}"#;
    seeds.push(("text-time-escapes-unknown-fields".into(), iso.into()));
    seeds
}

fn named(texts: &[&str]) -> Seeds {
    texts.iter().enumerate().map(|(number, text)| (format!("{number:02}"), text.as_bytes().to_vec())).collect()
}

/// Forms of ISO 8601 text, with and without what must be there.
pub fn timestamp() -> Seeds {
    named(&[
        "2026-11-21T12:00:00Z",
        "2026-11-21t12:00:00.123456999z",
        "2026-11-21 14:00:00,5+02:00",
        "20261121T120000-0330",
        "2016-12-31T23:59:60Z",
        "1969-12-31T23:59:59.9999981Z",
        "-009999-01-03T01:59:59.5Z",
        "9999-12-30T22:00:00.999999999Z",
        "2026-11-21T12:00:00+01[Europe/Paris]",
        "2026-11-21T12:00:00",
        "2026-11-21",
        "2026-W47-6T12Z",
        "Sat, 21 Nov 2026 12:00:00 +0000",
    ])
}

/// Addresses of both versions, and what is none.
pub fn address() -> Seeds {
    named(&[
        "192.0.2.1",
        "81.2.69.142",
        "8.8.8.8",
        "::ffff:81.2.69.142",
        "2001:db8::1",
        "2a01:4f8::1",
        "64:ff9b::808:808",
        "fe80::1%eth0",
        "::",
        "192.0.2.01",
        "0x7f.1",
        "[::1]:80",
        "192.0.2.0/24",
    ])
}

/// Small databases of both layouts and both versions, one cut off, one with a pointer that leads nowhere.
pub fn mmdb() -> Seeds {
    let nested = json!({"country": {"iso_code": "GB", "names": {"en": "United Kingdom"}},
        "subdivisions": [{"iso_code": "ENG", "names": {"en": "England"}}], "city": {"names": {"en": "Boxford"}},
        "location": {"latitude": 51.75, "longitude": -1.25, "accuracy_radius": 100u16, "time_zone": "Europe/London"}});
    let flat = json!({"city": "Helsinki", "country_code": "FI", "latitude": 60.17f32, "longitude": 24.9375f32,
        "postcode": "", "state1": "Uusimaa", "state2": "", "timezone": ""});
    let networks = |value: &serde_json::Value| [("81.2.69.0/24", value.clone()), ("2a01::/16", value.clone())];
    let both = database(IpVersion::V6, &networks(&nested));
    let mut damaged = both.clone();
    damaged[20] ^= 0x40;
    vec![
        ("cut-off".into(), both[..both.len() / 2].to_vec()),
        ("damaged".into(), damaged),
        ("nested-both".into(), both),
        ("flat-v4".into(), database(IpVersion::V4, &networks(&flat)[..1])),
        ("flat-both".into(), database(IpVersion::V6, &networks(&flat))),
        ("no-places".into(), database(IpVersion::V4, &[("81.0.0.0/8", json!({"asn": 64496}))])),
    ]
}

fn database(version: IpVersion, networks: &[(&str, serde_json::Value)]) -> Vec<u8> {
    let mut database = Database::default();
    database.metadata.ip_version = version;
    database.metadata.binary_format_major_version = 2;
    database.metadata.database_type = "Test-City".to_owned();
    for (network, value) in networks {
        let data = database.insert_value(value).unwrap();
        let (address, length) = network.split_once('/').unwrap();
        let length: u8 = length.parse().unwrap();
        let (bits, length) = match (address.parse().unwrap(), version) {
            (IpAddr::V4(address), IpVersion::V4) => (u128::from(address.to_bits()) << 96, length),
            (IpAddr::V4(address), IpVersion::V6) => (u128::from(address.to_bits()), 96 + length),
            (IpAddr::V6(address), _) => (address.to_bits(), length),
        };
        database.insert_node((0..length).map(move |bit| bits >> (127 - bit) & 1 == 1), data);
    }
    database.write_to(Vec::new()).unwrap()
}

/// Schemas and data: a press, one of every type, and the traps: nothing in no bytes, items of no bytes, types that unfold
/// into many, numbers of many digits.
pub fn avro() -> Seeds {
    let every = r#"{"type":"record","name":"n.r","fields":[{"name":"a","type":["null","int"]},{"name":"b","type":{"type":
        "array","items":"string"}},{"name":"c","type":{"type":"map","values":["null","long","string"]}},{"name":"d","type":{
        "type":"bytes","logicalType":"decimal","precision":9,"scale":2}},{"name":"e","type":{"type":"enum","name":"e",
        "symbols":["A","B"]}},{"name":"f","type":{"type":"fixed","name":"f","size":2}},{"name":"g","type":"f"},{"name":"h",
        "type":{"type":"int","logicalType":"date"}},{"name":"i","type":"double"}]}"#;
    let price = |digits: &[u8]| [&[(digits.len() * 2) as u8][..], digits].concat();
    let datum =
        [&[2, 14][..], &[2, 2, b'x', 0], &[2, 2, b'k', 2, 8, 0], &price(&[0xcf, 0xc7]), &[2, 1, 2, 3, 4, 1]].concat();
    let nulls = [0x80, 0x89, 0x7a, 0];
    let list_of_nulls = r#"{"type":"array","items":{"type":"array","items":"null"}}"#;
    let unfolding = (1..40).fold(r#"{"type":"record","name":"a0","fields":[{"name":"x","type":"null"}]}"#.to_owned(), |all, n| {
        format!(r#"{all},{{"type":"record","name":"a{n}","fields":[{{"name":"x","type":"a{0}"}},{{"name":"y","type":"a{0}"}}]}}"#, n - 1)
    });
    let number = r#"{"type":"bytes","logicalType":"decimal","precision":1000,"scale":5}"#;
    let pair = |schema: &str, datum: &[u8]| [schema.as_bytes(), &[0], datum].concat();
    let press = include_str!("../../schemas/button_presses.avsc");
    vec![
        ("press".into(), pair(press, &press_datum(press))),
        ("every-type".into(), pair(every, &[&datum[..], &[0; 8]].concat())),
        ("lists-of-nulls".into(), pair(list_of_nulls, &[&[8][..], &nulls.repeat(4), &[0]].concat())),
        ("unfolding-types".into(), pair(&format!("[{unfolding}]"), &[2, 0])),
        ("long-number".into(), pair(number, &[&[0x80, 0x20][..], &[0x7f; 2048]].concat())),
        ("negative-block".into(), pair(r#"{"type":"array","items":"int"}"#, &[3, 4, 2, 4, 0])),
        (
            "refers-to-itself".into(),
            pair(r#"{"type":"record","name":"a","fields":[{"name":"a","type":["null","a"]}]}"#, &[0]),
        ),
        ("text".into(), pair(r#""string""#, "\u{8}\u{1f600}".as_bytes())),
    ]
}

fn press_datum(schema: &str) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    let text = |text: &str| Value::String(text.into());
    let optional = |value: Option<Value>| match value {
        None => Value::Union(0, Box::new(Value::Null)),
        Some(value) => Value::Union(1, Box::new(value)),
    };
    let fields = [
        ("session_id", Value::Uuid(uuid::Uuid::from_u128(7))),
        ("timestamp", Value::TimestampMicros(1_795_262_400_000_000)),
        ("cohort", optional(Some(Value::Int(3)))),
        ("action", text("PressButton")),
        ("country_name", text("Finland")),
        ("country_code", text("FI")),
        ("subdivision_name", text("Uusimaa")),
        ("subdivision_code", text("18")),
        ("city_name", text("Helsinki")),
        ("latitude", optional(Some(Value::Double(60.17)))),
        ("longitude", optional(Some(Value::Double(24.9375)))),
        ("accuracy_km", optional(None)),
        ("time_zone", optional(Some(text("Europe/Helsinki")))),
    ];
    let record = Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(record).unwrap()
}
