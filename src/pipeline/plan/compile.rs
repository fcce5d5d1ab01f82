//! From a pipeline file and a schema to a plan.

use std::collections::BTreeMap;

use apache_avro::Schema;

use super::fields::{Fields, From, Plain, Unusable, is_recursive};
use super::output::{At, Convert, Key, KeyField, Put, Source};
use super::plan_error::PlanError;
use super::predicate::Predicate;
use super::program::{AddressSlot, Op, TransformPlan};
use super::value::{Cast, Form, TYPE_NAMES, type_of_name};
use super::walk::Walk;
use crate::avro::schema::{SchemaFile, is_name};
use crate::avro::{Field, Shape};
use crate::config::{OutputFormat, PipelineConfig, Transform};
use crate::pipeline::press::encode::constant;

/// Most slots, lookups and topics that a plan may have: more is a mistake.
const MAX_PARTS: usize = 1_000;

/// The fields that the output is to have.
#[derive(Clone, Debug, PartialEq)]
pub struct OutputSchema {
    fields: Vec<OutputField>,
}

#[derive(Clone, Debug, PartialEq)]
struct OutputField {
    name: String,
    shape: Shape,
    /// What is written where nothing else is.
    default: Option<Box<[u8]>>,
}

impl OutputSchema {
    /// Those of a schema file. Errors: it is no schema of a record that pressline can write.
    pub fn of_file(file: &SchemaFile) -> Result<Self, String> {
        let shape = Shape::parse(&file.compact)?;
        let (Shape::Record(fields), Schema::Record(record)) = (shape, &file.schema) else {
            return Err("the schema is no record".into());
        };
        let defaults =
            record.fields.iter().map(|field| field.default.as_ref().and_then(|value| constant(&field.schema, value)));
        let field = |(field, default): (Field, Option<Box<[u8]>>)| OutputField {
            name: field.name,
            shape: field.shape,
            default,
        };
        Ok(Self { fields: fields.into_iter().zip(defaults).map(field).collect() })
    }

    /// Those that a plan writes.
    pub fn of_plan(plan: &TransformPlan) -> Self {
        let field =
            |put: &Put| OutputField { name: put.name.clone(), shape: put.shape.clone(), default: null_of(&put.shape) };
        Self { fields: plan.puts.iter().map(field).collect() }
    }
}

/// Null as a value of the type.
fn null_of(shape: &Shape) -> Option<Box<[u8]>> {
    match shape {
        Shape::Null => Some(Box::default()),
        Shape::Optional { null_first, .. } => Some(Box::new([if *null_first { 0 } else { 2 }])),
        _ => None,
    }
}

/// Compiles the plan of a pipeline for values of a type. Without `output`, every field that is left is written.
///
/// # Errors
/// Everything that is wrong, each with the key that it is about.
pub fn compile(
    config: &PipelineConfig,
    input: &Shape,
    output: Option<&OutputSchema>,
) -> Result<TransformPlan, Vec<PlanError>> {
    let fields = Fields::of(input).map_err(|unusable| vec![unusable.at("source.topic")])?;
    let mut compiler = Compiler {
        config,
        fields,
        slots: Vec::new(),
        ops: Vec::new(),
        lookups: 0,
        topics: config.output_topics().into_iter().map(String::from).collect(),
        faults: Vec::new(),
    };
    compiler.find_addresses();
    compiler.transforms();
    let puts = match output {
        Some(output) => compiler.puts_of(output),
        None => compiler.all_puts(),
    };
    let key = compiler.key();
    compiler.finish(input, puts, key)
}

struct Compiler<'c> {
    config: &'c PipelineConfig,
    fields: Fields,
    /// Paths in the input that are read.
    slots: Vec<Vec<String>>,
    ops: Vec<Op>,
    lookups: usize,
    topics: Vec<String>,
    faults: Vec<PlanError>,
}

fn slot_of(slots: &mut Vec<Vec<String>>, path: &[String]) -> usize {
    match slots.iter().position(|known| known == path) {
        Some(at) => at,
        None => {
            slots.push(path.to_vec());
            slots.len() - 1
        }
    }
}

impl Compiler<'_> {
    fn note<T>(&mut self, key: &str, result: Result<T, Unusable>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(unusable) => {
                self.faults.push(unusable.at(key));
                None
            }
        }
    }

    /// Finds out which fields are addresses before anything reads one: a filter before the lookup may not read it either.
    fn find_addresses(&mut self) {
        for (index, name) in self.config.source.addresses.iter().enumerate() {
            let declared = self.fields.declare_address(name);
            self.note(&format!("source.addresses.{index}"), declared);
        }
        let mut ahead = self.fields.clone();
        for transform in self.config.transforms.iter().filter_map(|transform| transform.kind().ok()) {
            // What is wrong with one is found when it is compiled.
            match transform {
                Transform::Rename(names) => names.iter().for_each(|(old, new)| drop(ahead.rename(old, new))),
                Transform::Drop(names) => names.iter().for_each(|name| drop(ahead.drop(name))),
                Transform::Enrich(field, prefix, wanted) => {
                    let _ = ahead.declare_address(field);
                    let _ = ahead.add_place(0, prefix, wanted);
                }
                _ => {}
            }
        }
        self.fields.take_addresses(&ahead);
    }

    fn transforms(&mut self) {
        let transforms = &self.config.transforms;
        for (index, transform) in transforms.iter().enumerate() {
            let at = |key: &str| format!("transforms.{index}.{key}");
            match transform.kind() {
                Err((what, cure)) => {
                    self.faults.push(PlanError { key: format!("transforms.{index}"), what, cure: cure.into() })
                }
                Ok(Transform::Filter(text)) => {
                    if let Some(predicate) = self.predicate(&at("filter"), text) {
                        self.ops.push(Op::Filter(index, predicate));
                    }
                }
                Ok(Transform::Route(text, topic)) => {
                    let predicate = self.predicate(&at("route"), text);
                    let topic = self.topics.iter().position(|known| known == topic);
                    if let (Some(predicate), Some(topic)) = (predicate, topic) {
                        self.ops.push(Op::Route(index, predicate, topic));
                    }
                }
                Ok(Transform::Rename(names)) => {
                    for (old, new) in names {
                        let renamed = self.fields.rename(old, new);
                        self.note(&at(&format!("rename.{old}")), renamed);
                    }
                }
                Ok(Transform::Drop(names)) => {
                    for name in names {
                        let dropped = self.fields.drop(name);
                        self.note(&at("drop"), dropped);
                    }
                }
                Ok(Transform::Cast(types)) => self.casts(index, types),
                Ok(Transform::Enrich(field, prefix, wanted)) => {
                    let address = self.fields.address(field);
                    if let Some(address) = self.note(&at("enrich"), address) {
                        self.look_up(&address, field, prefix);
                    }
                    let added = self.fields.add_place(self.lookups - usize::from(self.lookups > 0), prefix, wanted);
                    self.note(&at(if wanted.is_empty() { "enrich" } else { "fields" }), added);
                }
            }
        }
    }

    fn predicate(&mut self, key: &str, text: &str) -> Option<Predicate> {
        let slots = &mut self.slots;
        let compiled = Predicate::compile(text, &self.fields, &mut |path| slot_of(slots, path));
        self.note(key, compiled)
    }

    fn casts(&mut self, index: usize, types: &BTreeMap<String, String>) {
        for (field, name) in types {
            let key = format!("transforms.{index}.cast.{field}");
            match type_of_name(name) {
                Some(shape) => {
                    let cast = self.fields.cast(field, &shape);
                    self.note(&key, cast);
                }
                None => self.faults.push(PlanError {
                    key,
                    what: format!("`{name}` is no type to cast to"),
                    cure: format!("use one of {TYPE_NAMES}"),
                }),
            }
        }
    }

    fn look_up(&mut self, address: &Plain, name: &str, prefix: &str) {
        let From::Input(path) = &address.from else { return };
        let null_first = match &address.stored {
            Shape::Optional { null_first, .. } => Some(*null_first),
            _ => None,
        };
        let slot = slot_of(&mut self.slots, path);
        let (name, prefix, path) = (name.to_string(), prefix.to_string(), path.clone());
        self.ops.push(Op::LookUp(AddressSlot { slot, null_first, name, path, prefix }));
        self.lookups += 1;
    }

    /// Every field that is left, or those that the configuration names. Of what is, or holds, an address: nothing.
    fn all_puts(&mut self) -> Vec<Put> {
        let wanted = &self.config.output.fields;
        let names: Vec<String> = if wanted.is_empty() {
            self.fields.names().filter(|name| !self.fields.is_tainted(name)).map(String::from).collect()
        } else {
            wanted.clone()
        };
        if wanted.is_empty() && !self.fields.addresses().is_empty() && self.may_grow() {
            self.faults.push(PlanError {
                key: "output.fields".into(),
                what: "not set while a field is an address, and the records' schema stands in the registry, where another may be added"
                    .into(),
                cure: format!("name what goes out: output.fields = {names:?}; or set output.schema"),
            });
        }
        let mut puts = Vec::new();
        for name in names {
            let Some(plain) = self.usable(&name, "output.fields") else { continue };
            if !is_name(&name) && self.config.output.format == OutputFormat::Avro {
                self.faults.push(PlanError {
                    key: "output.fields".into(),
                    what: format!("`{name}` is no name of an Avro field"),
                    cure: format!(
                        "rename it before: rename = {{ \"{name}\" = \"{}\" }}",
                        name.replace(['.', '-'], "_")
                    ),
                });
            }
            if plain.may_be_absent && matches!(plain.shape, Shape::Union(_)) {
                self.faults.push(PlanError {
                    key: "output.fields".into(),
                    what: format!("field `{name}` is {}, a union in a record that may be null", plain.shape),
                    cure: "drop it, or write the record as a whole".into(),
                });
                continue;
            }
            let shape = match (&plain.shape, plain.may_be_absent) {
                (Shape::Optional { .. } | Shape::Null, _) | (_, false) => plain.shape.clone(),
                (shape, true) => Shape::Optional { null_first: true, some: Box::new(shape.clone()) },
            };
            let source = self.source(&plain, &shape).unwrap_or(Source::Constant(Box::default()));
            puts.push(Put::new(&name, shape, source));
        }
        if puts.is_empty() && self.faults.is_empty() {
            self.faults.push(PlanError {
                key: "output".into(),
                what: "no field is left to write".into(),
                cure: "drop fewer fields".into(),
            });
        }
        puts
    }

    /// Whether a new schema may bring a field that was not checked.
    fn may_grow(&self) -> bool {
        let source = &self.config.source;
        source.schema.is_none() && source.format().is_none_or(|format| format.fields.is_empty())
    }

    /// A field that may be written. A record within itself is no field of an output.
    fn usable(&mut self, name: &str, key: &str) -> Option<Plain> {
        let plain = self.fields.plain(name);
        let plain = self.note(key, plain)?;
        if is_recursive(&plain.shape) {
            self.faults.push(PlanError {
                key: key.into(),
                what: format!("field `{name}` is {}, and types within themselves are not relayed", plain.shape),
                cure: "drop it, or take fields out of it by rename".into(),
            });
            return None;
        }
        Some(plain)
    }

    /// The fields of a schema, each by its name.
    fn puts_of(&mut self, output: &OutputSchema) -> Vec<Put> {
        let mut puts = Vec::new();
        let is_there: Vec<String> = self.fields.names().map(String::from).collect();
        for field in &output.fields {
            let OutputField { name, shape, default } = field;
            let key = "output.schema";
            if !is_there.contains(name) {
                match default {
                    Some(default) => puts.push(Put::new(name, shape.clone(), Source::Constant(default.clone()))),
                    None => self.faults.push(PlanError {
                        key: key.into(),
                        what: format!("the schema has a field `{name}` of type {shape}, which no record has, and no default for it"),
                        cure: "give it a default, rename a field to it, or take it out of the schema".into(),
                    }),
                }
                continue;
            }
            let Some(plain) = self.usable(name, key) else { continue };
            match self.source(&plain, shape) {
                Some(source) => puts.push(Put::new(name, shape.clone(), source)),
                None => {
                    let found = if plain.may_be_absent && !matches!(plain.shape, Shape::Optional { .. }) {
                        format!("[null, {}]", plain.shape)
                    } else {
                        plain.shape.to_string()
                    };
                    let cure = if plain.is_nullable() && !matches!(shape, Shape::Optional { .. }) {
                        format!("declare `{name}` as nullable in the schema")
                    } else {
                        format!("cast it, such as cast = {{ {name} = \"…\" }}, or change the schema")
                    };
                    let what = format!("field `{name}` is {found}, and the schema has {shape}");
                    self.faults.push(PlanError { key: key.into(), what, cure });
                }
            }
        }
        puts
    }

    /// How a value becomes one of this type; none: it does not.
    fn source(&mut self, plain: &Plain, shape: &Shape) -> Option<Source> {
        let slots = &mut self.slots;
        let at = At::of(plain, &mut |path| slot_of(slots, path));
        let cast = plain.cast.filter(|cast| *cast != Cast::Same);
        if cast.is_none() && !plain.may_be_absent && (plain.shape == *shape || plain.stored == *shape) {
            return Some(Source::Copy(at));
        }
        let ((stored, _), (wanted, takes_null)) = (plain.stored.unwrap_optional(), shape.unwrap_optional());
        if plain.is_nullable() && !takes_null {
            return None;
        }
        let null_first = |shape: &Shape| match shape {
            Shape::Optional { null_first, .. } => Some(*null_first),
            _ => None,
        };
        // After a declared cast, the types must be the same; without one, nothing may be lost.
        let cast = match cast {
            Some(cast) if plain.inner() == wanted => Some((cast, Form::of(stored)?, Form::of(wanted)?)),
            Some(_) => return None,
            None if plain.inner() == wanted || same_bytes(plain.inner(), wanted) => None,
            None => Some((widening(plain.inner(), wanted)?, Form::of(stored)?, Form::of(wanted)?)),
        };
        let (stored_null_first, null_first) = (null_first(&plain.stored), null_first(shape));
        if cast.is_none() && !plain.may_be_absent && stored_null_first == null_first {
            return Some(Source::Copy(at));
        }
        Some(Source::Convert(Convert { at, stored_null_first, null_first, cast }))
    }

    fn key(&mut self) -> Key {
        match self.config.output.key.as_deref() {
            None if self.fields.addresses().is_empty() => Key::Input,
            None => {
                let address = self.fields.addresses().first().map(|path| path.join(".")).unwrap_or_default();
                self.faults.push(PlanError {
                    key: "output.key".into(),
                    what: format!("not set while `{address}` is an address, which the input's key may hold too"),
                    cure: "set output.key to the field that the records are keyed by, or to \"\" for no key".into(),
                });
                Key::None
            }
            Some("") => Key::None,
            Some(name) => {
                let Some(plain) = self.usable(name, "output.key") else { return Key::None };
                let Some(form) = Form::of(plain.stored.unwrap_optional().0) else {
                    self.faults.push(PlanError {
                        key: "output.key".into(),
                        what: format!("field `{name}` is {}, expected text, a number or bytes", plain.shape),
                        cure: "name a field of such a type".into(),
                    });
                    return Key::None;
                };
                let slots = &mut self.slots;
                let at = At::of(&plain, &mut |path| slot_of(slots, path));
                let null_first = match &plain.stored {
                    Shape::Optional { null_first, .. } => Some(*null_first),
                    _ => None,
                };
                Key::Field(KeyField { name: name.into(), at, null_first, form, cast: plain.cast })
            }
        }
    }

    fn finish(mut self, input: &Shape, puts: Vec<Put>, key: Key) -> Result<TransformPlan, Vec<PlanError>> {
        if self.slots.len() > MAX_PARTS || self.lookups > MAX_PARTS || self.topics.len() > MAX_PARTS {
            self.faults.push(PlanError {
                key: "transforms".into(),
                what: format!("more than {MAX_PARTS} fields, lookups or topics"),
                cure: "split the pipeline".into(),
            });
        }
        if !self.faults.is_empty() {
            return Err(self.faults);
        }
        let walk = Walk::compile(input, &self.slots);
        let slots = self.slots.iter().map(|path| (path.clone(), shape_at(input, path))).collect();
        let used = |name: &String| self.slots.iter().any(|path| path.first() == Some(name));
        let unused = match input {
            Shape::Record(fields) => fields.iter().map(|field| field.name.clone()).filter(|name| !used(name)).collect(),
            _ => Vec::new(),
        };
        let field = |put: &Put| Field::new(put.name.clone(), put.shape.clone());
        let output = Shape::Record(puts.iter().map(field).collect());
        let is_json = self.config.output.format == OutputFormat::Json;
        let addresses = self.fields.addresses().to_vec();
        Ok(TransformPlan {
            walk,
            slots,
            ops: self.ops,
            puts,
            key,
            topics: self.topics,
            output,
            is_json,
            addresses,
            unused,
        })
    }
}

/// The type at a path that leads through records.
fn shape_at(shape: &Shape, path: &[String]) -> Shape {
    path.iter().fold(shape.clone(), |shape, part| match shape.unwrap_optional().0 {
        Shape::Record(fields) => {
            fields.iter().find(|field| field.name == *part).map_or(Shape::Null, |field| field.shape.clone())
        }
        _ => Shape::Null,
    })
}

/// Whether a value may stand under another type as it is: what a reader takes it for gets less exact, never wrong.
fn same_bytes(from: &Shape, to: &Shape) -> bool {
    Cast::between(from, to) == Some(Cast::Same)
        && matches!(to, Shape::Int | Shape::Long | Shape::String)
        // An int is a long already; a long is a timestamp only where a cast says so.
        && !matches!((from, to), (Shape::Long, Shape::Int))
}

/// A cast that loses nothing and needs not be asked for.
fn widening(from: &Shape, to: &Shape) -> Option<Cast> {
    match (from, to) {
        (Shape::Int, Shape::Double) | (Shape::Float, Shape::Double) => Some(Cast::ToDouble),
        (Shape::Enum(_), Shape::String) => Some(Cast::ToText),
        _ => None,
    }
}
