//! A random schema, a record of it, and transforms that fit it; all from one seed.

use apache_avro::types::Value;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::json;

/// A transform. Predicates come twice: as the pipeline file has them, and as the reference asks them.
#[derive(Clone, Debug)]
pub enum RandomTransform {
    Rename(String, String),
    /// A field out of a record, under a new name.
    TakeOut(String, String, String),
    Drop(String),
    Cast(String, &'static str),
    Filter(String, String),
    Route(String, String, usize),
}

/// A type of a field.
#[derive(Clone, Debug, PartialEq)]
enum FieldType {
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Text,
    Bytes,
    Fixed,
    Symbol,
    Uuid,
    Date,
    Millis,
    Micros,
    TimeMillis,
    TimeMicros,
    LocalMicros,
    Decimal,
    Any,
    List(Box<FieldType>),
    Map(Box<FieldType>),
    Record(Vec<(String, FieldType)>),
    Optional(bool, Box<FieldType>),
}

pub struct Case {
    pub schema: String,
    pub value: Value,
    pub steps: Vec<RandomTransform>,
    fields: Vec<(String, FieldType)>,
    seed: u64,
}

const SCALARS: [FieldType; 17] = [
    FieldType::Boolean,
    FieldType::Int,
    FieldType::Long,
    FieldType::Float,
    FieldType::Double,
    FieldType::Text,
    FieldType::Bytes,
    FieldType::Fixed,
    FieldType::Symbol,
    FieldType::Uuid,
    FieldType::Date,
    FieldType::Millis,
    FieldType::Micros,
    FieldType::TimeMillis,
    FieldType::TimeMicros,
    FieldType::LocalMicros,
    FieldType::Decimal,
];
const SYMBOLS: [&str; 3] = ["A", "B", "C"];
const TEXTS: [&str; 5] = ["", "a", "ab", "größe", "plaice & chips"];

impl Case {
    pub fn new(seed: u64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let count = rng.random_range(1..7);
        let mut fields: Vec<(String, FieldType)> =
            (0..count).map(|index| (format!("f{index}"), kind(&mut rng, 0))).collect();
        let mut of: Vec<serde_json::Value> = fields
            .iter()
            .map(|(name, kind)| json!({"name": name, "type": schema(kind, name), "aliases": [format!("old_{name}")]}))
            .collect();
        // Types with a name are used again by it, with and without its namespace.
        for (name, kind) in fields.clone() {
            if let Some(reference) = reference(&kind, &name, rng.random()) {
                let again = format!("again_{name}");
                of.push(json!({"name": again, "type": reference}));
                fields.push((again, kind));
            }
        }
        let schema =
            json!({"type": "record", "name": "r", "namespace": "shop", "aliases": ["old"], "fields": of}).to_string();
        let value = Value::Record(fields.iter().map(|(name, kind)| (name.clone(), value(kind, &mut rng))).collect());
        let steps = steps(&mut fields.clone(), &mut rng);
        Self { schema, value, steps, fields, seed }
    }

    /// As the pipeline file has them.
    pub fn transforms(&self) -> String {
        let text = |text: &str| serde_json::Value::from(text).to_string();
        let one = |step: &RandomTransform| match step {
            RandomTransform::Rename(old, new) => format!("rename = {{ {} = {} }}", text(old), text(new)),
            RandomTransform::TakeOut(record, part, new) => {
                format!("rename = {{ {} = {} }}", text(&format!("{record}.{part}")), text(new))
            }
            RandomTransform::Drop(name) => format!("drop = [{}]", text(name)),
            RandomTransform::Cast(name, to) => format!("cast = {{ {} = {} }}", text(name), text(to)),
            RandomTransform::Filter(predicate, _) => format!("filter = {}", text(predicate)),
            RandomTransform::Route(predicate, _, topic) => format!("route = {}\ntopic = \"t{topic}\"", text(predicate)),
        };
        self.steps.iter().map(|step| format!("[[transforms]]\n{}\n", one(step))).collect()
    }

    /// Predicates over the record as it comes.
    pub fn predicates(&self) -> Vec<String> {
        let mut rng = Pcg64Mcg::seed_from_u64(self.seed ^ 1);
        (0..4).filter_map(|_| predicate(&self.fields, &mut rng, 0)).map(|(text, _)| text).collect()
    }
}

fn kind(rng: &mut Pcg64Mcg, depth: usize) -> FieldType {
    let scalar = |rng: &mut Pcg64Mcg| SCALARS[rng.random_range(0..SCALARS.len())].clone();
    match rng.random_range(0..10) {
        0 if depth < 2 => FieldType::List(Box::new(scalar(rng))),
        1 if depth < 2 => FieldType::Map(Box::new(kind(rng, depth + 1))),
        2 if depth < 2 => {
            let parts = rng.random_range(1..4);
            FieldType::Record((0..parts).map(|index| (format!("p{index}"), kind(rng, depth + 1))).collect())
        }
        3 | 4 => match kind(rng, depth) {
            of @ (FieldType::Optional(..) | FieldType::Any) => of,
            of => FieldType::Optional(rng.random(), Box::new(of)),
        },
        5 => FieldType::Any,
        _ => scalar(rng),
    }
}

fn schema(kind: &FieldType, path: &str) -> serde_json::Value {
    match kind {
        FieldType::Boolean => json!("boolean"),
        FieldType::Int => json!("int"),
        FieldType::Long => json!("long"),
        FieldType::Float => json!("float"),
        FieldType::Double => json!("double"),
        FieldType::Text => json!("string"),
        FieldType::Bytes => json!("bytes"),
        FieldType::Fixed => json!({"type": "fixed", "name": format!("{path}_fixed"), "size": 3}),
        FieldType::Symbol => json!({"type": "enum", "name": format!("{path}_enum"), "symbols": SYMBOLS}),
        FieldType::Uuid => json!({"type": "string", "logicalType": "uuid"}),
        FieldType::Date => json!({"type": "int", "logicalType": "date"}),
        FieldType::Millis => json!({"type": "long", "logicalType": "timestamp-millis"}),
        FieldType::Micros => json!({"type": "long", "logicalType": "timestamp-micros"}),
        FieldType::TimeMillis => json!({"type": "int", "logicalType": "time-millis"}),
        FieldType::TimeMicros => json!({"type": "long", "logicalType": "time-micros"}),
        FieldType::LocalMicros => json!({"type": "long", "logicalType": "local-timestamp-micros"}),
        FieldType::Decimal => json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
        FieldType::Any => json!(["null", "int", "string"]),
        FieldType::List(of) => json!({"type": "array", "items": schema(of, path)}),
        FieldType::Map(of) => json!({"type": "map", "values": schema(of, path)}),
        FieldType::Record(parts) => {
            let of: Vec<serde_json::Value> = parts
                .iter()
                .map(|(name, kind)| json!({"name": name, "type": schema(kind, &format!("{path}_{name}"))}))
                .collect();
            json!({"type": "record", "name": format!("{path}_record"), "fields": of})
        }
        FieldType::Optional(true, of) => json!(["null", schema(of, path)]),
        FieldType::Optional(false, of) => json!([schema(of, path), "null"]),
    }
}

/// A type that was defined already, by its name; none: it has none.
fn reference(kind: &FieldType, path: &str, full: bool) -> Option<serde_json::Value> {
    let name = |kind: &str| json!(format!("{}{path}_{kind}", if full { "shop." } else { "" }));
    Some(match kind {
        FieldType::Fixed => name("fixed"),
        FieldType::Symbol => name("enum"),
        FieldType::Record(_) => name("record"),
        FieldType::List(of) => json!({"type": "array", "items": reference(of, path, full)?}),
        FieldType::Map(of) => json!({"type": "map", "values": reference(of, path, full)?}),
        FieldType::Optional(true, of) => json!(["null", reference(of, path, full)?]),
        FieldType::Optional(false, of) => json!([reference(of, path, full)?, "null"]),
        _ => return None,
    })
}

fn number(rng: &mut Pcg64Mcg) -> i64 {
    match rng.random_range(0..4) {
        0 => rng.random(),
        _ => rng.random_range(-3..4),
    }
}

fn value(kind: &FieldType, rng: &mut Pcg64Mcg) -> Value {
    let long = |number: i64| number.clamp(-9_000_000_000_000_000, 9_000_000_000_000_000);
    match kind {
        FieldType::Boolean => Value::Boolean(rng.random()),
        FieldType::Int => Value::Int(number(rng) as i32),
        FieldType::Long => Value::Long(number(rng)),
        FieldType::Float => Value::Float(number(rng) as f32 / 2.0),
        FieldType::Double => Value::Double(number(rng) as f64 / 2.0),
        FieldType::Text => Value::String(TEXTS[rng.random_range(0..TEXTS.len())].into()),
        FieldType::Bytes => Value::Bytes(vec![rng.random(); rng.random_range(0..3)]),
        FieldType::Fixed => Value::Fixed(3, vec![rng.random(), 0, 255]),
        FieldType::Symbol => {
            let index = rng.random_range(0..SYMBOLS.len());
            Value::Enum(index as u32, SYMBOLS[index].into())
        }
        FieldType::Uuid => Value::Uuid(uuid::Uuid::from_u128(rng.random())),
        FieldType::Date => Value::Date(number(rng) as i32),
        FieldType::Millis => Value::TimestampMillis(number(rng)),
        FieldType::Micros => Value::TimestampMicros(long(number(rng))),
        FieldType::TimeMillis => Value::TimeMillis(number(rng) as i32),
        FieldType::TimeMicros => Value::TimeMicros(number(rng)),
        FieldType::LocalMicros => Value::LocalTimestampMicros(number(rng)),
        FieldType::Decimal => Value::Decimal(apache_avro::Decimal::from(vec![rng.random(), rng.random()])),
        FieldType::Any => match rng.random_range(0..3) {
            0 => Value::Union(0, Box::new(Value::Null)),
            1 => Value::Union(1, Box::new(Value::Int(number(rng) as i32))),
            _ => Value::Union(2, Box::new(Value::String("a".into()))),
        },
        FieldType::List(of) => Value::Array((0..rng.random_range(0..4)).map(|_| value(of, rng)).collect()),
        FieldType::Map(of) => {
            Value::Map((0..rng.random_range(0..3)).map(|key| (format!("k{key}"), value(of, rng))).collect())
        }
        FieldType::Record(parts) => {
            Value::Record(parts.iter().map(|(name, kind)| (name.clone(), value(kind, rng))).collect())
        }
        FieldType::Optional(null_first, of) => match rng.random_range(0..3) {
            0 => Value::Union(u32::from(!null_first), Box::new(Value::Null)),
            _ => Value::Union(u32::from(*null_first), Box::new(value(of, rng))),
        },
    }
}

/// Transforms that fit; `fields` are those that are left after them.
fn steps(fields: &mut Vec<(String, FieldType)>, rng: &mut Pcg64Mcg) -> Vec<RandomTransform> {
    let mut steps = Vec::new();
    let mut cast = Vec::new();
    for number in 0..rng.random_range(0..5) {
        let index = rng.random_range(0..fields.len());
        let (name, of) = fields[index].clone();
        match rng.random_range(0..7) {
            0 => {
                let new = format!("n{number}");
                fields[index].0.clone_from(&new);
                cast.iter_mut().filter(|known| **known == name).for_each(|known: &mut String| known.clone_from(&new));
                steps.push(RandomTransform::Rename(name, new));
            }
            1 if fields.len() > 1 => {
                fields.remove(index);
                steps.push(RandomTransform::Drop(name));
            }
            2 => {
                let (parts, optional) = match &of {
                    FieldType::Record(parts) => (parts, false),
                    FieldType::Optional(_, of) => match &**of {
                        FieldType::Record(parts) => (parts, true),
                        _ => continue,
                    },
                    _ => continue,
                };
                let (part, kind) = parts[rng.random_range(0..parts.len())].clone();
                let kind = match kind {
                    // A union with null takes the null of the record around it, and cannot be nullable once more.
                    FieldType::Any if optional => continue,
                    kind @ (FieldType::Optional(..) | FieldType::Any) => kind,
                    kind if optional => FieldType::Optional(true, Box::new(kind)),
                    kind => kind,
                };
                let new = format!("o{number}");
                fields.push((new.clone(), kind));
                steps.push(RandomTransform::TakeOut(name, part, new));
            }
            3 if !cast.contains(&name) => {
                let (inner, optional) = match &of {
                    FieldType::Optional(null_first, of) => ((**of).clone(), Some(*null_first)),
                    of => (of.clone(), None),
                };
                let (to, kind) = match (inner, rng.random_range(0..3)) {
                    (FieldType::Int, 0) => ("long", FieldType::Long),
                    (FieldType::Int, 1) => ("double", FieldType::Double),
                    (FieldType::Long, 0) => ("int", FieldType::Int),
                    (FieldType::Long, 1) => ("timestamp-micros", FieldType::Micros),
                    (FieldType::Int | FieldType::Long, _) => ("string", FieldType::Text),
                    (FieldType::Millis, _) => ("timestamp-micros", FieldType::Micros),
                    (FieldType::Micros, _) => ("timestamp-millis", FieldType::Millis),
                    (FieldType::Symbol | FieldType::Boolean, _) => ("string", FieldType::Text),
                    _ => continue,
                };
                fields[index].1 = match optional {
                    Some(null_first) => FieldType::Optional(null_first, Box::new(kind)),
                    None => kind,
                };
                cast.push(name.clone());
                steps.push(RandomTransform::Cast(name, to));
            }
            4 => steps.extend(predicate(fields, rng, 0).map(|(text, asked)| RandomTransform::Filter(text, asked))),
            5 => {
                let topic = 1 + steps.iter().filter(|step| matches!(step, RandomTransform::Route(..))).count();
                steps.extend(predicate(fields, rng, 0).map(|(text, asked)| RandomTransform::Route(text, asked, topic)));
            }
            _ => {}
        }
    }
    steps
}

/// A predicate as the pipeline file has it, and as the reference asks it.
fn predicate(fields: &[(String, FieldType)], rng: &mut Pcg64Mcg, depth: usize) -> Option<(String, String)> {
    if depth < 2 {
        match rng.random_range(0..6) {
            0 => {
                return predicate(fields, rng, depth + 1)
                    .map(|(one, other)| (format!("!({one})"), format!("!({other})")));
            }
            choice @ (1 | 2) => {
                let operator = if choice == 1 { "&&" } else { "||" };
                let (one, asked_one) = predicate(fields, rng, depth + 1)?;
                let (other, asked_other) = predicate(fields, rng, depth + 1)?;
                return Some((
                    format!("({one}) {operator} ({other})"),
                    format!("({asked_one}) {operator} ({asked_other})"),
                ));
            }
            _ => {}
        }
    }
    let (name, of) = &fields[rng.random_range(0..fields.len())];
    let (inner, optional) = match of {
        FieldType::Optional(_, of) => (&**of, true),
        of => (of, false),
    };
    let same = |text: String| Some((text.clone(), text));
    if optional && !has_decimal(inner) && rng.random_range(0..3) == 0 {
        return same(format!("{name} {} null", ["==", "!="][rng.random_range(0..2)]));
    }
    if let FieldType::Record(parts) = inner {
        let (part, kind) = &parts[rng.random_range(0..parts.len())];
        if rng.random() {
            let guard = if optional { format!("{name} != null && ") } else { String::new() };
            return Some((format!("has({name}.{part})"), format!("({guard}{name}.{part} != null)")));
        }
        return scalar(&format!("{name}.{part}"), kind, rng).and_then(same);
    }
    scalar(name, of, rng).and_then(same)
}

/// Whether CEL has nothing that it could be.
fn has_decimal(kind: &FieldType) -> bool {
    match kind {
        FieldType::Decimal => true,
        FieldType::List(of) | FieldType::Map(of) | FieldType::Optional(_, of) => has_decimal(of),
        FieldType::Record(parts) => parts.iter().any(|(_, kind)| has_decimal(kind)),
        _ => false,
    }
}

fn scalar(name: &str, kind: &FieldType, rng: &mut Pcg64Mcg) -> Option<String> {
    let compare = ["==", "!=", "<", "<=", ">", ">="][rng.random_range(0..6)];
    Some(match kind {
        FieldType::Optional(_, of) => return scalar(name, of, rng),
        FieldType::Boolean => name.to_string(),
        FieldType::Int
        | FieldType::Long
        | FieldType::Date
        | FieldType::Millis
        | FieldType::Micros
        | FieldType::TimeMillis
        | FieldType::TimeMicros
        | FieldType::LocalMicros
        | FieldType::Float
        | FieldType::Double => match rng.random_range(0..3) {
            0 => format!("{name} {compare} {}.5", rng.random_range(-3..4)),
            1 => format!("{name} in [1, {}, -2]", rng.random_range(-3..4)),
            _ => format!("{name} {compare} {}", rng.random_range(-3..4)),
        },
        FieldType::Text | FieldType::Symbol | FieldType::Uuid => {
            let text = TEXTS[rng.random_range(0..TEXTS.len())];
            match rng.random_range(0..5) {
                0 => format!("{name}.startsWith(\"{text}\")"),
                1 => format!("{name}.contains(\"{text}\")"),
                2 => format!("{name}.endsWith(\"{text}\")"),
                3 => format!("{name} in [\"{text}\", \"B\"]"),
                _ => format!("{name} {compare} \"{text}\""),
            }
        }
        FieldType::List(of) => match **of {
            FieldType::Text | FieldType::Symbol => format!("\"{}\" in {name}", TEXTS[rng.random_range(0..TEXTS.len())]),
            FieldType::Int | FieldType::Long | FieldType::Double => format!("{} in {name}", rng.random_range(-3..4)),
            _ => return None,
        },
        _ => return None,
    })
}
