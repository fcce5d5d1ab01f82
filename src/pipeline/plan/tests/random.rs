//! A random schema, a record of it, and transforms that fit it; all from one seed.

use apache_avro::types::Value;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::json;

/// A transform. Predicates come twice: as the pipeline file has them, and as the reference asks them.
#[derive(Clone, Debug)]
pub enum Step {
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
enum Kind {
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
    List(Box<Kind>),
    Map(Box<Kind>),
    Record(Vec<(String, Kind)>),
    Optional(bool, Box<Kind>),
}

pub struct Case {
    pub schema: String,
    pub value: Value,
    pub steps: Vec<Step>,
    fields: Vec<(String, Kind)>,
    seed: u64,
}

const SCALARS: [Kind; 17] = [
    Kind::Boolean,
    Kind::Int,
    Kind::Long,
    Kind::Float,
    Kind::Double,
    Kind::Text,
    Kind::Bytes,
    Kind::Fixed,
    Kind::Symbol,
    Kind::Uuid,
    Kind::Date,
    Kind::Millis,
    Kind::Micros,
    Kind::TimeMillis,
    Kind::TimeMicros,
    Kind::LocalMicros,
    Kind::Decimal,
];
const SYMBOLS: [&str; 3] = ["A", "B", "C"];
const TEXTS: [&str; 5] = ["", "a", "ab", "größe", "plaice & chips"];

impl Case {
    pub fn new(seed: u64) -> Self {
        let mut rng = Pcg64Mcg::seed_from_u64(seed);
        let count = rng.random_range(1..7);
        let mut fields: Vec<(String, Kind)> =
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
        let one = |step: &Step| match step {
            Step::Rename(old, new) => format!("rename = {{ {} = {} }}", text(old), text(new)),
            Step::TakeOut(record, part, new) => {
                format!("rename = {{ {} = {} }}", text(&format!("{record}.{part}")), text(new))
            }
            Step::Drop(name) => format!("drop = [{}]", text(name)),
            Step::Cast(name, to) => format!("cast = {{ {} = {} }}", text(name), text(to)),
            Step::Filter(predicate, _) => format!("filter = {}", text(predicate)),
            Step::Route(predicate, _, topic) => format!("route = {}\ntopic = \"t{topic}\"", text(predicate)),
        };
        self.steps.iter().map(|step| format!("[[transforms]]\n{}\n", one(step))).collect()
    }

    /// Predicates over the record as it comes.
    pub fn predicates(&self) -> Vec<String> {
        let mut rng = Pcg64Mcg::seed_from_u64(self.seed ^ 1);
        (0..4).filter_map(|_| predicate(&self.fields, &mut rng, 0)).map(|(text, _)| text).collect()
    }
}

fn kind(rng: &mut Pcg64Mcg, depth: usize) -> Kind {
    let scalar = |rng: &mut Pcg64Mcg| SCALARS[rng.random_range(0..SCALARS.len())].clone();
    match rng.random_range(0..10) {
        0 if depth < 2 => Kind::List(Box::new(scalar(rng))),
        1 if depth < 2 => Kind::Map(Box::new(kind(rng, depth + 1))),
        2 if depth < 2 => {
            let parts = rng.random_range(1..4);
            Kind::Record((0..parts).map(|index| (format!("p{index}"), kind(rng, depth + 1))).collect())
        }
        3 | 4 => match kind(rng, depth) {
            of @ (Kind::Optional(..) | Kind::Any) => of,
            of => Kind::Optional(rng.random(), Box::new(of)),
        },
        5 => Kind::Any,
        _ => scalar(rng),
    }
}

fn schema(kind: &Kind, path: &str) -> serde_json::Value {
    match kind {
        Kind::Boolean => json!("boolean"),
        Kind::Int => json!("int"),
        Kind::Long => json!("long"),
        Kind::Float => json!("float"),
        Kind::Double => json!("double"),
        Kind::Text => json!("string"),
        Kind::Bytes => json!("bytes"),
        Kind::Fixed => json!({"type": "fixed", "name": format!("{path}_fixed"), "size": 3}),
        Kind::Symbol => json!({"type": "enum", "name": format!("{path}_enum"), "symbols": SYMBOLS}),
        Kind::Uuid => json!({"type": "string", "logicalType": "uuid"}),
        Kind::Date => json!({"type": "int", "logicalType": "date"}),
        Kind::Millis => json!({"type": "long", "logicalType": "timestamp-millis"}),
        Kind::Micros => json!({"type": "long", "logicalType": "timestamp-micros"}),
        Kind::TimeMillis => json!({"type": "int", "logicalType": "time-millis"}),
        Kind::TimeMicros => json!({"type": "long", "logicalType": "time-micros"}),
        Kind::LocalMicros => json!({"type": "long", "logicalType": "local-timestamp-micros"}),
        Kind::Decimal => json!({"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}),
        Kind::Any => json!(["null", "int", "string"]),
        Kind::List(of) => json!({"type": "array", "items": schema(of, path)}),
        Kind::Map(of) => json!({"type": "map", "values": schema(of, path)}),
        Kind::Record(parts) => {
            let of: Vec<serde_json::Value> = parts
                .iter()
                .map(|(name, kind)| json!({"name": name, "type": schema(kind, &format!("{path}_{name}"))}))
                .collect();
            json!({"type": "record", "name": format!("{path}_record"), "fields": of})
        }
        Kind::Optional(true, of) => json!(["null", schema(of, path)]),
        Kind::Optional(false, of) => json!([schema(of, path), "null"]),
    }
}

/// A type that was defined already, by its name; none: it has none.
fn reference(kind: &Kind, path: &str, full: bool) -> Option<serde_json::Value> {
    let name = |kind: &str| json!(format!("{}{path}_{kind}", if full { "shop." } else { "" }));
    Some(match kind {
        Kind::Fixed => name("fixed"),
        Kind::Symbol => name("enum"),
        Kind::Record(_) => name("record"),
        Kind::List(of) => json!({"type": "array", "items": reference(of, path, full)?}),
        Kind::Map(of) => json!({"type": "map", "values": reference(of, path, full)?}),
        Kind::Optional(true, of) => json!(["null", reference(of, path, full)?]),
        Kind::Optional(false, of) => json!([reference(of, path, full)?, "null"]),
        _ => return None,
    })
}

fn number(rng: &mut Pcg64Mcg) -> i64 {
    match rng.random_range(0..4) {
        0 => rng.random(),
        _ => rng.random_range(-3..4),
    }
}

fn value(kind: &Kind, rng: &mut Pcg64Mcg) -> Value {
    let long = |number: i64| number.clamp(-9_000_000_000_000_000, 9_000_000_000_000_000);
    match kind {
        Kind::Boolean => Value::Boolean(rng.random()),
        Kind::Int => Value::Int(number(rng) as i32),
        Kind::Long => Value::Long(number(rng)),
        Kind::Float => Value::Float(number(rng) as f32 / 2.0),
        Kind::Double => Value::Double(number(rng) as f64 / 2.0),
        Kind::Text => Value::String(TEXTS[rng.random_range(0..TEXTS.len())].into()),
        Kind::Bytes => Value::Bytes(vec![rng.random(); rng.random_range(0..3)]),
        Kind::Fixed => Value::Fixed(3, vec![rng.random(), 0, 255]),
        Kind::Symbol => {
            let index = rng.random_range(0..SYMBOLS.len());
            Value::Enum(index as u32, SYMBOLS[index].into())
        }
        Kind::Uuid => Value::Uuid(uuid::Uuid::from_u128(rng.random())),
        Kind::Date => Value::Date(number(rng) as i32),
        Kind::Millis => Value::TimestampMillis(number(rng)),
        Kind::Micros => Value::TimestampMicros(long(number(rng))),
        Kind::TimeMillis => Value::TimeMillis(number(rng) as i32),
        Kind::TimeMicros => Value::TimeMicros(number(rng)),
        Kind::LocalMicros => Value::LocalTimestampMicros(number(rng)),
        Kind::Decimal => Value::Decimal(apache_avro::Decimal::from(vec![rng.random(), rng.random()])),
        Kind::Any => match rng.random_range(0..3) {
            0 => Value::Union(0, Box::new(Value::Null)),
            1 => Value::Union(1, Box::new(Value::Int(number(rng) as i32))),
            _ => Value::Union(2, Box::new(Value::String("a".into()))),
        },
        Kind::List(of) => Value::Array((0..rng.random_range(0..4)).map(|_| value(of, rng)).collect()),
        Kind::Map(of) => {
            Value::Map((0..rng.random_range(0..3)).map(|key| (format!("k{key}"), value(of, rng))).collect())
        }
        Kind::Record(parts) => {
            Value::Record(parts.iter().map(|(name, kind)| (name.clone(), value(kind, rng))).collect())
        }
        Kind::Optional(null_first, of) => match rng.random_range(0..3) {
            0 => Value::Union(u32::from(!null_first), Box::new(Value::Null)),
            _ => Value::Union(u32::from(*null_first), Box::new(value(of, rng))),
        },
    }
}

/// Transforms that fit; `fields` are those that are left after them.
fn steps(fields: &mut Vec<(String, Kind)>, rng: &mut Pcg64Mcg) -> Vec<Step> {
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
                steps.push(Step::Rename(name, new));
            }
            1 if fields.len() > 1 => {
                fields.remove(index);
                steps.push(Step::Drop(name));
            }
            2 => {
                let (parts, optional) = match &of {
                    Kind::Record(parts) => (parts, false),
                    Kind::Optional(_, of) => match &**of {
                        Kind::Record(parts) => (parts, true),
                        _ => continue,
                    },
                    _ => continue,
                };
                let (part, kind) = parts[rng.random_range(0..parts.len())].clone();
                let kind = match kind {
                    // A union with null takes the null of the record around it, and cannot be nullable once more.
                    Kind::Any if optional => continue,
                    kind @ (Kind::Optional(..) | Kind::Any) => kind,
                    kind if optional => Kind::Optional(true, Box::new(kind)),
                    kind => kind,
                };
                let new = format!("o{number}");
                fields.push((new.clone(), kind));
                steps.push(Step::TakeOut(name, part, new));
            }
            3 if !cast.contains(&name) => {
                let (inner, optional) = match &of {
                    Kind::Optional(null_first, of) => ((**of).clone(), Some(*null_first)),
                    of => (of.clone(), None),
                };
                let (to, kind) = match (inner, rng.random_range(0..3)) {
                    (Kind::Int, 0) => ("long", Kind::Long),
                    (Kind::Int, 1) => ("double", Kind::Double),
                    (Kind::Long, 0) => ("int", Kind::Int),
                    (Kind::Long, 1) => ("timestamp-micros", Kind::Micros),
                    (Kind::Int | Kind::Long, _) => ("string", Kind::Text),
                    (Kind::Millis, _) => ("timestamp-micros", Kind::Micros),
                    (Kind::Micros, _) => ("timestamp-millis", Kind::Millis),
                    (Kind::Symbol | Kind::Boolean, _) => ("string", Kind::Text),
                    _ => continue,
                };
                fields[index].1 = match optional {
                    Some(null_first) => Kind::Optional(null_first, Box::new(kind)),
                    None => kind,
                };
                cast.push(name.clone());
                steps.push(Step::Cast(name, to));
            }
            4 => steps.extend(predicate(fields, rng, 0).map(|(text, asked)| Step::Filter(text, asked))),
            5 => {
                let topic = 1 + steps.iter().filter(|step| matches!(step, Step::Route(..))).count();
                steps.extend(predicate(fields, rng, 0).map(|(text, asked)| Step::Route(text, asked, topic)));
            }
            _ => {}
        }
    }
    steps
}

/// A predicate as the pipeline file has it, and as the reference asks it.
fn predicate(fields: &[(String, Kind)], rng: &mut Pcg64Mcg, depth: usize) -> Option<(String, String)> {
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
        Kind::Optional(_, of) => (&**of, true),
        of => (of, false),
    };
    let same = |text: String| Some((text.clone(), text));
    if optional && !has_decimal(inner) && rng.random_range(0..3) == 0 {
        return same(format!("{name} {} null", ["==", "!="][rng.random_range(0..2)]));
    }
    if let Kind::Record(parts) = inner {
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
fn has_decimal(kind: &Kind) -> bool {
    match kind {
        Kind::Decimal => true,
        Kind::List(of) | Kind::Map(of) | Kind::Optional(_, of) => has_decimal(of),
        Kind::Record(parts) => parts.iter().any(|(_, kind)| has_decimal(kind)),
        _ => false,
    }
}

fn scalar(name: &str, kind: &Kind, rng: &mut Pcg64Mcg) -> Option<String> {
    let compare = ["==", "!=", "<", "<=", ">", ">="][rng.random_range(0..6)];
    Some(match kind {
        Kind::Optional(_, of) => return scalar(name, of, rng),
        Kind::Boolean => name.to_string(),
        Kind::Int
        | Kind::Long
        | Kind::Date
        | Kind::Millis
        | Kind::Micros
        | Kind::TimeMillis
        | Kind::TimeMicros
        | Kind::LocalMicros
        | Kind::Float
        | Kind::Double => match rng.random_range(0..3) {
            0 => format!("{name} {compare} {}.5", rng.random_range(-3..4)),
            1 => format!("{name} in [1, {}, -2]", rng.random_range(-3..4)),
            _ => format!("{name} {compare} {}", rng.random_range(-3..4)),
        },
        Kind::Text | Kind::Symbol | Kind::Uuid => {
            let text = TEXTS[rng.random_range(0..TEXTS.len())];
            match rng.random_range(0..5) {
                0 => format!("{name}.startsWith(\"{text}\")"),
                1 => format!("{name}.contains(\"{text}\")"),
                2 => format!("{name}.endsWith(\"{text}\")"),
                3 => format!("{name} in [\"{text}\", \"B\"]"),
                _ => format!("{name} {compare} \"{text}\""),
            }
        }
        Kind::List(of) => match **of {
            Kind::Text | Kind::Symbol => format!("\"{}\" in {name}", TEXTS[rng.random_range(0..TEXTS.len())]),
            Kind::Int | Kind::Long | Kind::Double => format!("{} in {name}", rng.random_range(-3..4)),
            _ => return None,
        },
        _ => return None,
    })
}
