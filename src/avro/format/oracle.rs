//! Random types and values, written as JSON, read by this module, and the datums read by apache-avro.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use proptest::prelude::*;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::{Map, Value, json};

use super::*;
use crate::config::format::FieldConfig;

/// A type in every form in which a pipeline or a record can say it.
struct Spec {
    declared: FieldConfig,
    connect: Value,
    json_schema: Value,
    avro: Value,
    kind: OracleType,
    nullable: bool,
}

enum OracleType {
    Boolean,
    Int,
    Long,
    Double,
    String,
    Bytes,
    TimestampMillis,
    Date,
    Decimal,
    Array(Box<Spec>),
    Map(Box<Spec>),
    Record(Vec<(String, Spec)>),
}

fn simple(rng: &mut Pcg64) -> Spec {
    let logical = |name: &str| format!("org.apache.kafka.connect.data.{name}");
    let (kind, declared, connect, json_schema, avro) = match rng.random_range(0..9) {
        0 => (OracleType::Boolean, "boolean", json!({"type": "boolean"}), json!({"type": "boolean"}), json!("boolean")),
        1 => (
            OracleType::Int,
            "int",
            json!({"type": "int32"}),
            json!({"type": "integer", "connect.type": "int32"}),
            json!("int"),
        ),
        2 => (OracleType::Long, "long", json!({"type": "int64"}), json!({"type": "integer"}), json!("long")),
        3 => (OracleType::Double, "double", json!({"type": "double"}), json!({"type": "number"}), json!("double")),
        4 => (OracleType::String, "string", json!({"type": "string"}), json!({"type": "string"}), json!("string")),
        5 => (
            OracleType::Bytes,
            "bytes",
            json!({"type": "bytes"}),
            json!({"type": "string", "connect.type": "bytes"}),
            json!("bytes"),
        ),
        6 => (
            OracleType::TimestampMillis,
            "timestamp-millis",
            json!({"type": "int64", "name": logical("Timestamp")}),
            json!({"type": "integer", "title": logical("Timestamp")}),
            json!({"type": "long", "logicalType": "timestamp-millis"}),
        ),
        7 => (
            OracleType::Date,
            "date",
            json!({"type": "int32", "name": logical("Date")}),
            json!({"type": "integer", "title": logical("Date")}),
            json!({"type": "int", "logicalType": "date"}),
        ),
        // As bytes in base64, which all three can say.
        _ => (
            OracleType::Decimal,
            "bytes",
            json!({"type": "bytes", "name": logical("Decimal"), "parameters": {"scale": "3"}}),
            json!({"type": "string", "title": logical("Decimal"), "connect.parameters": {"scale": "3"}}),
            json!("bytes"),
        ),
    };
    Spec { declared: FieldConfig::Type(declared.into()), connect, json_schema, avro, kind, nullable: false }
}

fn spec(rng: &mut Pcg64, depth: usize, names: &mut usize) -> Spec {
    let mut of = match rng.random_range(0..if depth > 3 { 4 } else { 8 }) {
        0..=4 => simple(rng),
        5 => record(rng, depth, names),
        choice => {
            // A declared array or map of records has no form.
            let inner = loop {
                let inner = spec(rng, depth + 1, names);
                if matches!(inner.declared, FieldConfig::Type(_)) {
                    break inner;
                }
            };
            let FieldConfig::Type(text) = &inner.declared else { panic!() };
            let (name, kind): (&str, fn(Box<Spec>) -> OracleType) =
                if choice == 6 { ("array", OracleType::Array) } else { ("map", OracleType::Map) };
            let (connect, json_schema, avro) = (&inner.connect, &inner.json_schema, &inner.avro);
            let (connect, json_schema, avro) = match name {
                "array" => (
                    json!({"type": "array", "items": connect}),
                    json!({"type": "array", "items": json_schema}),
                    json!({"type": "array", "items": avro}),
                ),
                _ => (
                    json!({"type": "map", "keys": {"type": "string"}, "values": connect}),
                    json!({"type": "object", "additionalProperties": json_schema}),
                    json!({"type": "map", "values": avro}),
                ),
            };
            let declared = FieldConfig::Type(format!("{name}<{text}>"));
            Spec { declared, connect, json_schema, avro, kind: kind(Box::new(inner)), nullable: false }
        }
    };
    if let FieldConfig::Type(text) = &of.declared
        && rng.random_bool(0.3)
    {
        of.declared = FieldConfig::Type(format!("{text}?"));
        of.connect["optional"] = json!(true);
        of.json_schema = json!({"oneOf": [{"type": "null"}, of.json_schema]});
        of.avro = json!(["null", of.avro]);
        of.nullable = true;
    }
    of
}

fn record(rng: &mut Pcg64, depth: usize, names: &mut usize) -> Spec {
    *names += 1;
    let record = format!("r{names}");
    // In the order of the alphabet, as declared ones are.
    let fields: Vec<(String, Spec)> =
        (0..rng.random_range(1..5)).map(|at| (format!("f{at}"), spec(rng, depth + 1, names))).collect();
    let connect: Vec<Value> = fields
        .iter()
        .map(|(name, of)| {
            let mut field = of.connect.clone();
            field["field"] = json!(name);
            field
        })
        .collect();
    let properties: Map<String, Value> =
        fields.iter().map(|(name, of)| (name.clone(), of.json_schema.clone())).collect();
    let required: Vec<&String> = fields.iter().map(|(name, _)| name).collect();
    let avro: Vec<Value> = fields.iter().map(|(name, of)| json!({"name": name, "type": of.avro})).collect();
    Spec {
        declared: FieldConfig::Record(fields.iter().map(|(name, of)| (name.clone(), of.declared.clone())).collect()),
        connect: json!({"type": "struct", "fields": connect}),
        json_schema: json!({"type": "object", "properties": properties, "required": required}),
        avro: json!({"type": "record", "name": record, "fields": avro}),
        kind: OracleType::Record(fields),
        nullable: false,
    }
}

fn text(rng: &mut Pcg64) -> String {
    (0..rng.random_range(0..6)).map(|_| ['a', '"', '\\', '\n', 'é', '🙂', '\0'][rng.random_range(0..7)]).collect()
}

/// A value: its JSON text, and what apache-avro should read.
fn value(rng: &mut Pcg64, of: &Spec) -> (String, Avro) {
    if of.nullable {
        if rng.random_bool(0.3) {
            return ("null".into(), Avro::Union(0, Box::new(Avro::Null)));
        }
        let (json, avro) = not_null(rng, &of.kind);
        return (json, Avro::Union(1, Box::new(avro)));
    }
    not_null(rng, &of.kind)
}

fn not_null(rng: &mut Pcg64, of: &OracleType) -> (String, Avro) {
    match of {
        OracleType::Boolean => {
            let value = rng.random_bool(0.5);
            (value.to_string(), Avro::Boolean(value))
        }
        OracleType::Int => {
            let value = rng.random::<i32>() >> rng.random_range(0..32);
            (value.to_string(), Avro::Int(value))
        }
        OracleType::Date => {
            let value = rng.random::<i32>() >> rng.random_range(0..32);
            (value.to_string(), Avro::Date(value))
        }
        OracleType::Long => {
            let value = rng.random::<i64>() >> rng.random_range(0..64);
            (value.to_string(), Avro::Long(value))
        }
        OracleType::TimestampMillis => {
            let value = rng.random::<i64>() >> rng.random_range(0..64);
            (value.to_string(), Avro::TimestampMillis(value))
        }
        OracleType::Double => {
            let value = (rng.random::<f64>() - 0.5) * 10f64.powi(rng.random_range(-20..20));
            (json!(value).to_string(), Avro::Double(value))
        }
        OracleType::String => {
            let value = text(rng);
            (json!(value).to_string(), Avro::String(value))
        }
        OracleType::Bytes | OracleType::Decimal => {
            let bytes: Vec<u8> = (0..rng.random_range(1..9)).map(|_| rng.random()).collect();
            (json!(base64(&bytes)).to_string(), Avro::Bytes(bytes))
        }
        OracleType::Array(items) => {
            let items: Vec<(String, Avro)> = (0..rng.random_range(0..80)).map(|_| value(rng, items)).collect();
            let (json, avro): (Vec<String>, Vec<Avro>) = items.into_iter().unzip();
            (format!("[ {} ]", json.join(" , ")), Avro::Array(avro))
        }
        OracleType::Map(values) => {
            let mut entries = HashMap::new();
            for at in 0..rng.random_range(0..5) {
                entries.insert(format!("{at}{}", text(rng)), value(rng, values));
            }
            let json: Vec<String> = entries.iter().map(|(key, (json, _))| format!("{}:{json}", json!(key))).collect();
            let avro = entries.into_iter().map(|(key, (_, avro))| (key, avro)).collect();
            (format!("{{{}}}", json.join(",")), Avro::Map(avro))
        }
        OracleType::Record(fields) => {
            let mut json = Vec::new();
            let mut avro = Vec::new();
            for (name, of) in fields {
                let (text, value) = value(rng, of);
                // What is null may be left out.
                if text != "null" || rng.random_bool(0.5) {
                    json.push(format!("{}:{text}", json!(name)));
                }
                avro.push((name.clone(), value));
            }
            // In any order, with one more that nobody knows.
            json.push(r#""unknown":{"f0":[1,{"f1":null}]}"#.into());
            for at in (1..json.len()).rev() {
                json.swap(at, rng.random_range(0..=at));
            }
            (format!("{{{}}}", json.join(",")), Avro::Record(avro))
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const SYMBOLS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for at in 0..4 {
            let symbol = SYMBOLS[(bits >> (18 - 6 * at)) as usize & 63];
            text.push(if at > chunk.len() { '=' } else { char::from(symbol) });
        }
    }
    text
}

/// The fields by which apache-avro calls them, in the order of the datum that was read.
fn read(datum: &[u8], avro: &Value) -> Avro {
    let schema = Schema::parse(avro).unwrap();
    let mut rest = datum;
    let read = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut rest).unwrap();
    assert_eq!(rest, b"", "nothing is left over");
    read
}

fn decoded(decoder: &mut Decoder, payload: &[u8]) -> Vec<u8> {
    let mut arena = Vec::new();
    match decoder.decode(Some(payload), &mut arena) {
        Ok(Decoded::Datum { bytes, .. }) => bytes.to_vec(),
        other => panic!("{other:?}: {}", String::from_utf8_lossy(payload)),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_format_gives_the_datum_that_apache_avro_reads(seed: u64) {
        let mut rng = Pcg64::seed_from_u64(seed);
        let of = record(&mut rng, 0, &mut 0);
        let FieldConfig::Record(fields) = of.declared.clone() else { panic!() };
        let config = FormatConfig { format: Format::Json, fields, ..FormatConfig::default() };
        let mut declared = Decoder::new(&config).unwrap();
        let of_format = |format| Decoder::new(&FormatConfig { format, ..FormatConfig::default() }).unwrap();
        let (mut connect, mut by_id) = (of_format(Format::ConnectJson), of_format(Format::JsonSchema));
        let schema = SchemaText { text: of.json_schema.to_string(), references: vec![], other_kind: Some("JSON".into()) };
        by_id.learn(5, &schema).unwrap();
        for _ in 0..4 {
            let (text, expected) = value(&mut rng, &of);
            let datum = decoded(&mut declared, text.as_bytes());
            prop_assert_eq!(read(&datum, &of.avro), expected);
            let envelope = format!("{{\"schema\":{},\"payload\":{text}}}", of.connect);
            prop_assert_eq!(&decoded(&mut connect, envelope.as_bytes()), &datum);
            let framed = [&[0, 0, 0, 0, 5][..], text.as_bytes()].concat();
            prop_assert_eq!(&decoded(&mut by_id, &framed), &datum);
        }
    }

    #[test]
    fn no_bytes_bring_a_panic(bytes: Vec<u8>, text in "[\\[\\]{}\":,a0-9.eE+-]{0,40}") {
        for format in [Format::Json, Format::ConnectJson, Format::JsonSchema, Format::Avro] {
            let fields = match format {
                Format::Json => [("a".to_string(), FieldConfig::Type("decimal(9, 2)?".into()))].into(),
                _ => Default::default(),
            };
            let mut decoder = Decoder::new(&FormatConfig { format, fields, ..FormatConfig::default() }).unwrap();
            for payload in [&bytes[..], text.as_bytes(), format!("{{\"a\":{text}}}").as_bytes()] {
                let mut arena = Vec::new();
                let _ = decoder.decode(Some(payload), &mut arena);
            }
        }
    }
}
