//! Random schemas, records and plans: what the kernel writes equals what a reference works out from apache-avro's values and, for
//! predicates, the `cel` crate's own interpreter over values of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod random;

use std::collections::HashMap;
use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use figment::Figment;
use figment::providers::{Format, Toml};
use proptest::prelude::*;

use super::kernel::{Frame, Kernel, Verdict};
use super::schemas::design;
use super::{PlanError, compile};
use crate::avro::Shape;
use crate::avro::schema::SchemaText;
use crate::config::PipelineConfig;
use crate::kafka::dead_letter::{Reason, Reject};
use random::{Case, RandomTransform};

const BASE: &str = r#"
name = "p"
[kafka]
bootstrap_servers = "127.0.0.1:1"
[registry]
url = "http://127.0.0.1:1"
[source]
topic = "in"
format = "avro"
[output]
topic = "out"
"#;

fn config(rest: &str) -> PipelineConfig {
    Figment::from(Toml::string(BASE)).merge(Toml::string(rest)).extract().unwrap()
}

fn faults(schema: &str, rest: &str) -> Vec<PlanError> {
    compile(&config(rest), &Shape::parse(schema).unwrap(), None).err().unwrap_or_default()
}

/// A kernel that knows the schema as id 1, and the schema of its output.
fn kernel(config: &PipelineConfig, schema: &str) -> (Kernel, Schema) {
    let shape = Shape::parse(schema).unwrap();
    let design = design(config, &shape).unwrap_or_else(|findings| panic!("{findings:?}"));
    let topics: Vec<String> = config.output_topics().into_iter().map(String::from).collect();
    let headers = vec![[0, 0, 0, 0, 9]; topics.len()];
    let frame = Frame { config: config.clone(), output: design.output, topics, headers };
    let mut kernel = Kernel::new(Arc::new(frame), None).unwrap();
    kernel.learn(1, &SchemaText::from(schema));
    (kernel, Schema::parse_str(&design.text.unwrap()).unwrap())
}

fn record(schema: &Schema, value: &Value) -> Vec<u8> {
    let mut bytes = vec![0, 0, 0, 0, 1];
    GenericDatumWriter::builder(schema).build().unwrap().write_value_ref(&mut bytes, value).unwrap();
    bytes
}

fn read(schema: &Schema, bytes: &[u8]) -> Value {
    assert_eq!(&bytes[..5], [0, 0, 0, 0, 9]);
    let mut datum = &bytes[5..];
    let value = GenericDatumReader::builder(schema).build().unwrap().read_value(&mut datum).unwrap();
    assert!(datum.is_empty());
    value
}

/// Without unions, whose branches may have other numbers.
fn plain(value: Value) -> Value {
    match value {
        Value::Union(_, inner) => plain(*inner),
        Value::Array(items) => Value::Array(items.into_iter().map(plain).collect()),
        Value::Map(entries) => Value::Map(entries.into_iter().map(|(key, value)| (key, plain(value))).collect()),
        Value::Record(fields) => Value::Record(fields.into_iter().map(|(name, value)| (name, plain(value))).collect()),
        other => other,
    }
}

/// What is expected of a record.
#[derive(Debug, PartialEq)]
enum Expected {
    Written(usize, Vec<(String, Value)>),
    Filtered,
    Dead(Reason),
}

/// The reference: applies the steps to apache-avro's value, one after the other.
fn expected(case: &Case) -> Expected {
    let Value::Record(mut fields) = plain(case.value.clone()) else { panic!("a record") };
    let at = |fields: &[(String, Value)], name: &str| fields.iter().position(|(known, _)| known == name).unwrap();
    let mut topic = None;
    for step in &case.steps {
        match step {
            RandomTransform::Rename(old, new) => {
                let index = at(&fields, old);
                fields[index].0.clone_from(new);
            }
            RandomTransform::TakeOut(record, part, new) => {
                let value = match &fields[at(&fields, record)].1 {
                    Value::Record(parts) => parts.iter().find(|(name, _)| name == part).unwrap().1.clone(),
                    Value::Null => Value::Null,
                    other => panic!("{other:?}"),
                };
                fields.push((new.clone(), value));
            }
            RandomTransform::Drop(name) => fields.retain(|(known, _)| known != name),
            RandomTransform::Cast(name, to) => {
                let index = at(&fields, name);
                match cast(&fields[index].1, to) {
                    Ok(value) => fields[index].1 = value,
                    // A cast is made when the value is written or asked for, and is written always here.
                    Err(reason) => fields[index].1 = Value::Fixed(0, reason.code().into()),
                }
            }
            RandomTransform::Filter(_, text) => match holds(text, &fields) {
                Some(true) => {}
                Some(false) => return Expected::Filtered,
                None => return Expected::Dead(Reason::StepFailed),
            },
            RandomTransform::Route(_, text, to) if topic.is_none() => match holds(text, &fields) {
                Some(true) => topic = Some(*to),
                Some(false) => {}
                None => return Expected::Dead(Reason::StepFailed),
            },
            RandomTransform::Route(..) => {}
        }
    }
    for (_, value) in &fields {
        if let Value::Fixed(0, code) = value {
            return Expected::Dead(Reason::ALL.into_iter().find(|reason| reason.code().as_bytes() == code).unwrap());
        }
    }
    Expected::Written(topic.unwrap_or(0), fields)
}

fn cast(value: &Value, to: &str) -> Result<Value, Reason> {
    let number = |number: i64| match to {
        "int" => i32::try_from(number).map(Value::Int).map_err(|_| Reason::OutOfRange),
        "long" => Ok(Value::Long(number)),
        "double" => Ok(Value::Double(number as f64)),
        "timestamp-micros" => Ok(Value::TimestampMicros(number)),
        "string" => Ok(Value::String(number.to_string())),
        other => panic!("{other}"),
    };
    match value {
        Value::Null => Ok(Value::Null),
        Value::Int(value) => number(i64::from(*value)),
        Value::Long(value) => number(*value),
        Value::TimestampMillis(value) => match i128::from(*value) * 1000 {
            micros if i64::try_from(micros).is_ok() => Ok(Value::TimestampMicros(micros as i64)),
            _ => Err(Reason::OutOfRange),
        },
        Value::TimestampMicros(value) if to == "timestamp-millis" => {
            Ok(Value::TimestampMillis((*value as f64 / 1000.0).floor() as i64))
        }
        Value::Enum(_, symbol) => Ok(Value::String(symbol.clone())),
        Value::Boolean(value) => Ok(Value::String(value.to_string())),
        other => panic!("{other:?} to {to}"),
    }
}

/// The interpreter's answer; none: it fails.
fn holds(text: &str, fields: &[(String, Value)]) -> Option<bool> {
    let mut context = cel::Context::default();
    for (name, value) in fields {
        // Of a value that cannot be cast there is none.
        if !matches!(value, Value::Fixed(0, _)) {
            context.add_variable_from_value(name.clone(), in_cel(value));
        }
    }
    match cel::Program::compile(text).unwrap().execute(&context) {
        Ok(cel::Value::Bool(value)) => Some(value),
        _ => None,
    }
}

fn in_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Boolean(value) => cel::Value::Bool(*value),
        Value::Int(value) | Value::Date(value) | Value::TimeMillis(value) => cel::Value::Int(i64::from(*value)),
        Value::Long(value)
        | Value::TimestampMillis(value)
        | Value::TimestampMicros(value)
        | Value::TimeMicros(value)
        | Value::LocalTimestampMicros(value) => cel::Value::Int(*value),
        // CEL has no such numbers; asked is only whether there is one.
        Value::Decimal(_) => cel::Value::Bytes(Arc::default()),
        Value::Float(value) => cel::Value::Float(f64::from(*value)),
        Value::Double(value) => cel::Value::Float(*value),
        Value::String(text) | Value::Enum(_, text) => cel::Value::String(Arc::new(text.clone())),
        Value::Uuid(uuid) => cel::Value::String(Arc::new(uuid.to_string())),
        Value::Bytes(bytes) | Value::Fixed(_, bytes) => cel::Value::Bytes(Arc::new(bytes.clone())),
        Value::Array(items) => cel::Value::List(Arc::new(items.iter().map(in_cel).collect())),
        Value::Map(entries) => {
            let entries: HashMap<String, cel::Value> =
                entries.iter().map(|(key, value)| (key.clone(), in_cel(value))).collect();
            entries.into()
        }
        Value::Record(parts) => {
            let parts: HashMap<String, cel::Value> =
                parts.iter().map(|(name, value)| (name.clone(), in_cel(value))).collect();
            parts.into()
        }
        other => panic!("{other:?}"),
    }
}

fn found_in(kernel: &mut Kernel, output: &Schema, payload: &[u8]) -> Expected {
    match kernel.run(Some(payload), None) {
        Ok(Verdict::Write(topic)) => {
            let Value::Record(fields) = plain(read(output, kernel.value())) else { panic!("a record") };
            Expected::Written(topic, fields)
        }
        Ok(Verdict::Filtered) => Expected::Filtered,
        Err(reject) => Expected::Dead(reject.reason),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_what_a_reference_works_out(seed in any::<u64>()) {
        let case = Case::new(seed);
        let config = config(&case.transforms());
        let (mut kernel, output) = kernel(&config, &case.schema);
        let payload = record(&Schema::parse_str(&case.schema).unwrap(), &case.value);
        let (found, expected) = (found_in(&mut kernel, &output, &payload), expected(&case));
        prop_assert_eq!(found, expected, "{}\n{}\n{:?}", case.schema, case.transforms(), case.value);

        // Any cut or changed byte is a dead letter or a record, never a panic.
        for length in 0..payload.len() {
            let _ = kernel.run(Some(&payload[..length]), None);
        }
    }

    #[test]
    fn the_interpreter_gives_the_evaluators_answers(seed in any::<u64>()) {
        let case = Case::new(seed);
        for text in case.predicates() {
            let shape = Shape::parse(&case.schema).unwrap();
            let fields = super::fields::Fields::of(&shape).unwrap();
            let mut paths: Vec<Vec<String>> = Vec::new();
            let mut slot = |path: &[String]| {
                let known = paths.iter().position(|known| known == path);
                known.unwrap_or_else(|| {
                    paths.push(path.to_vec());
                    paths.len() - 1
                })
            };
            let compiled = super::predicate::Predicate::compile(&text, &fields, &mut slot).unwrap();
            let interpreted = super::predicate::Predicate::interpreted(&text, &fields, &mut slot).unwrap();
            prop_assert!(compiled.is_compiled(), "{}", text);
            let walk = super::walk::Walk::compile(&shape, &paths);
            let payload = record(&Schema::parse_str(&case.schema).unwrap(), &case.value);
            let mut slots = Vec::new();
            walk.run(&payload[5..], &mut slots).unwrap();
            let input = super::predicate::Input { datum: &payload[5..], slots: &slots, places: &[] };
            prop_assert_eq!(compiled.holds(&input).ok(), interpreted.holds(&input).ok(), "{} of {:?}", text, case.value);
        }
    }
}

const ORDER: &str = r#"{"type":"record","name":"order","fields":[
    {"name":"order_time","type":"long"},
    {"name":"count","type":"int"},
    {"name":"order","type":{"type":"array","items":"string"}},
    {"name":"note","type":["null","string"]},
    {"name":"client","type":["null",{"type":"record","name":"client","fields":[
        {"name":"address","type":["null","string"]},{"name":"agent","type":"string"}]}]}]}"#;

#[test]
fn what_a_plan_cannot_do_is_said_with_both_types_and_a_cure() {
    let fault = |rest: &str| {
        let found = faults(ORDER, rest);
        assert_eq!(found.len(), 1, "{rest}: {found:?}");
        format!("{}: {}; {}", found[0].key, found[0].what, found[0].cure)
    };
    for (rest, expected) in [
        (
            "[[transforms]]\nfilter = 'count > \"1\"'",
            "transforms.0.filter: int > string has no meaning; compare values",
        ),
        (
            "[[transforms]]\nfilter = 'cuont > 1'",
            "transforms.0.filter: field `cuont` is not there; did you mean `count`?",
        ),
        ("[[transforms]]\nfilter = 'count'", "transforms.0.filter: gives int, expected bool;"),
        ("[[transforms]]\nfilter = 'count >'", "transforms.0.filter: not a CEL expression at column"),
        (
            "[[transforms]]\nfilter = 'order.startsWith(\"a\")'",
            "`startsWith` is given list of string, expected string;",
        ),
        (
            "[[transforms]]\nfilter = 'client.agnet == \"a\"'",
            "field `client` has no field `agnet`; use one of address, agent",
        ),
        (
            "[[transforms]]\ncast = { order = 'long' }",
            "field `order` is array of string, which cannot be cast to long;",
        ),
        (
            "[[transforms]]\ncast = { count = 'number' }",
            "transforms.0.cast.count: `number` is no type to cast to; use one of",
        ),
        ("[[transforms]]\nrename = { count = 'note' }", "transforms.0.rename.count: there is a field `note` already;"),
        ("[[transforms]]\ndrop = ['client.agent']", "transforms.0.drop: field `client.agent` stands within a record"),
        ("[output]\nfields = ['order', 'nothing']", "output.fields: field `nothing` is not there; use one of"),
        ("[output]\nkey = 'order'", "output.key: field `order` is array of string, expected text, a number or bytes;"),
    ] {
        let found = fault(rest);
        assert!(found.contains(expected), "{rest}: {found}");
    }
}

#[test]
fn an_address_goes_nowhere_but_into_a_lookup() {
    let of = |rest: &str| faults(ORDER, &format!("[output]\nkey = ''\nfields = ['count']\n{rest}"));
    let enrich = "[[transforms]]\nenrich = 'client.address'\nprefix = 'from_'\n";
    assert_eq!(of(enrich), []);
    for (rest, expected) in [
        (
            format!("[[transforms]]\nfilter = 'client.address != null'\n{enrich}"),
            "field `client.address` is an address",
        ),
        (format!("[[transforms]]\nfilter = 'has(client.address)'\n{enrich}"), "field `client.address` is an address"),
        (
            format!("[[transforms]]\nfilter = 'client != null'\n{enrich}"),
            "field `client` holds the address `client.address`",
        ),
        (format!("{enrich}[[transforms]]\ncast = {{ client = 'string' }}\n"), "holds the address"),
        (
            format!(
                "[[transforms]]\nrename = {{ \"client.address\" = 'a' }}\n[[transforms]]\nfilter = 'a == null'\n{enrich}"
            ),
            "`a` is an address",
        ),
        ("[[transforms]]\nenrich = 'order'\n".into(), "field `order` is array of string, expected string"),
    ] {
        let found = of(&rest);
        assert!(!found.is_empty() && found.iter().any(|fault| fault.what.contains(expected)), "{rest}: {found:?}");
    }
    // Neither is it, nor what holds it, in an output or a key that is named.
    for rest in [
        "fields = ['client']\nkey = ''",
        "fields = ['client.address']\nkey = ''",
        "fields = ['count']\nkey = 'client.address'",
    ] {
        let found = faults(ORDER, &format!("[output]\n{rest}\n{enrich}"));
        assert!(found.iter().any(|fault| fault.what.contains("address")), "{rest}: {found:?}");
    }
    // The input's key may hold the address, and a field that a newer schema of the registry adds may be another one.
    let keys: Vec<String> = faults(ORDER, enrich).into_iter().map(|fault| fault.key).collect();
    assert_eq!(keys, ["output.fields", "output.key"]);
    // One that is declared and not looked up.
    let declared = "[source]\naddresses = ['client.address']\n[output]\nkey = ''\nfields = ['order', 'client']";
    assert!(faults(ORDER, declared)[0].what.contains("holds the address"), "{declared}");
}

#[test]
fn a_record_that_does_not_decode_is_a_dead_letter_with_a_reason_of_the_closed_set() {
    let config = config("[[transforms]]\nfilter = 'count > 1'\n");
    let (mut kernel, _) = kernel(&config, ORDER);
    let reason =
        |kernel: &mut Kernel, payload: Option<&[u8]>| kernel.run(payload, None).map_err(|reject: Reject| reject.reason);
    assert_eq!(reason(&mut kernel, None), Err(Reason::NullValue));
    assert_eq!(reason(&mut kernel, Some(b"{}")), Err(Reason::NotAvro));
    assert_eq!(reason(&mut kernel, Some(&[0, 0, 0, 0, 1, 2])), Err(Reason::NotAvro));
    assert_eq!(kernel.unknown_schema(Some(&[0, 0, 0, 0, 2, 2])), Some(2));
    kernel.is_absent(2);
    assert_eq!(kernel.unknown_schema(Some(&[0, 0, 0, 0, 2, 2])), None);
    assert_eq!(reason(&mut kernel, Some(&[0, 0, 0, 0, 2, 2])), Err(Reason::UnknownSchema));
    kernel.learn(3, &SchemaText::from(r#"{"type":"record","name":"other","fields":[{"name":"x","type":"int"}]}"#));
    assert_eq!(reason(&mut kernel, Some(&[0, 0, 0, 0, 3, 2])), Err(Reason::UnknownSchema));
    assert_eq!(reason(&mut kernel, Some(&vec![0; 70_000])), Err(Reason::TooLarge));
}

/// Taken out under a name of its own, a field is null where the record around it was; by its path there it has no value.
#[test]
fn a_field_taken_out_of_a_record_that_is_null_is_null() {
    let schema = r#"{"type":"record","name":"r","fields":[{"name":"client","type":["null",{"type":"record","name":"client","fields":[
        {"name":"agent","type":"string"},{"name":"since","type":["null","long"]},
        {"name":"tags","type":["null",{"type":"array","items":"string"}]}]}]}]}"#;
    let null = Value::Record(vec![("client".into(), Value::Union(0, Box::new(Value::Null)))]);
    let payload = record(&Schema::parse_str(schema).unwrap(), &null);
    let taken = "[[transforms]]\nrename = { \"client.agent\" = 'a', \"client.since\" = 's', \"client.tags\" = 't' }\n";
    let run = |filter: &str| {
        let config =
            config(&format!("{taken}[[transforms]]\nfilter = '{filter}'\n[[transforms]]\ndrop = ['client']\n"));
        let (mut kernel, _) = kernel(&config, schema);
        kernel.run(Some(&payload), None).map(|verdict| verdict == Verdict::Filtered).map_err(|reject| reject.reason)
    };
    // The last one is the interpreter's.
    for filter in ["a == null", "s == null", "t == null", "a == null && 1 + 1 == 2", "t == null && 1 + 1 == 2"] {
        assert_eq!(run(filter), Ok(false), "{filter}");
        assert_eq!(run(&format!("!({filter})")), Ok(true), "{filter}");
    }
    for filter in ["a == \"x\"", "s > 0"] {
        assert_ne!(run(filter), Ok(false), "{filter}");
    }
    let by_path = config("[[transforms]]\nfilter = 'client.since == null'\n");
    let (mut kernel, _) = kernel(&by_path, schema);
    assert_eq!(kernel.run(Some(&payload), None).map_err(|reject| reject.reason), Err(Reason::StepFailed));
}

#[test]
fn a_type_within_itself_is_read_and_not_written() {
    let schema = r#"{"type":"record","name":"r","fields":[{"name":"n","type":"int"},
        {"name":"node","type":{"type":"record","name":"node","fields":[{"name":"next","type":["null","node"]}]}}]}"#;
    let found = faults(schema, "");
    assert_eq!(found.len(), 1, "{found:?}");
    let PlanError { key, what, cure } = &found[0];
    assert_eq!((key.as_str(), cure.as_str()), ("output.fields", "drop it, or take fields out of it by rename"));
    assert!(what.contains("field `node`") && what.ends_with("types within themselves are not relayed"), "{what}");
    // It is passed over where it goes nowhere.
    let (mut kernel, output) = kernel(&config("[[transforms]]\ndrop = ['node']\n"), schema);
    let payload = [0, 0, 0, 0, 1, 14, 2, 2, 0];
    assert_eq!(found_in(&mut kernel, &output, &payload), Expected::Written(0, vec![("n".into(), Value::Int(7))]));
    assert_eq!(kernel.run(Some(&payload[..7]), None).map_err(|reject| reject.reason), Err(Reason::NotAvro));
}

#[test]
fn json_is_written_as_json() {
    let config = config(
        "[output]\ntopic = 'out'\nformat = 'json'\nkey = 'order_time'\n[[transforms]]\ncast = { order_time = 'timestamp-micros' }\n",
    );
    let shape = Shape::parse(ORDER).unwrap();
    let design = design(&config, &shape).unwrap_or_else(|findings| panic!("{findings:?}"));
    assert_eq!(design.text, None);
    let frame = Frame { config, output: design.output, topics: vec!["out".into()], headers: Vec::new() };
    let mut kernel = Kernel::new(Arc::new(frame), None).unwrap();
    kernel.learn(1, &SchemaText::from(ORDER));
    let null = || Value::Union(0, Box::new(Value::Null));
    let order = Value::Record(vec![
        ("order_time".into(), Value::Long(1_500_000)),
        ("count".into(), Value::Int(2)),
        ("order".into(), Value::Array(vec![Value::String("cod & \"chips\"".into())])),
        ("note".into(), null()),
        ("client".into(), null()),
    ]);
    let payload = record(&Schema::parse_str(ORDER).unwrap(), &order);
    assert_eq!(kernel.run(Some(&payload), Some(b"other")), Ok(Verdict::Write(0)));
    assert_eq!(kernel.key(Some(b"other")), Some(&b"1500000"[..]));
    let written: serde_json::Value = serde_json::from_slice(kernel.value()).unwrap();
    let time = written["order_time"].as_str().unwrap().to_string();
    assert!(time.starts_with("1970-01-01") && time.contains("00:00:01.5"), "{time}");
    assert_eq!(
        written,
        serde_json::json!({"order_time": time, "count": 2, "order": ["cod & \"chips\""], "note": null, "client": null})
    );
}
