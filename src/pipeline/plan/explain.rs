//! A plan in words: `pressline check --explain`.

use std::fmt::{self, Write};

use super::output::{At, Key, Put, Source};
use super::program::{Op, TransformPlan};
use crate::config::transforms::PLACE_FIELDS;

impl TransformPlan {
    /// Where the value of an output field comes from: the path in the input, or the lookup's field.
    pub fn origin(&self, put: &Put) -> String {
        let at = match &put.source {
            Source::Copy(at) => *at,
            Source::Convert(convert) => convert.at,
            Source::Constant(_) => return "the schema's default".into(),
        };
        self.name_of(at)
    }

    /// Whether it comes from the place lookup.
    pub fn is_of_place(&self, put: &Put) -> bool {
        matches!(&put.source, Source::Copy(At::Place { .. }))
            || matches!(&put.source, Source::Convert(convert) if matches!(convert.at, At::Place { .. }))
    }

    /// Whether it is the schema's default.
    pub fn is_constant(&self, put: &Put) -> bool {
        matches!(put.source, Source::Constant(_))
    }

    fn name_of(&self, at: At) -> String {
        match at {
            At::Slot(slot) => self.path(slot),
            At::Place { lookup, first, .. } => {
                let address = self.ops.iter().filter_map(|op| match op {
                    Op::LookUp(address) => Some(address.path.join(".")),
                    _ => None,
                });
                let field = PLACE_FIELDS.get(first).copied().unwrap_or_default();
                format!("{field} of the place of {}", address.into_iter().nth(lookup).unwrap_or_default())
            }
        }
    }

    fn path(&self, slot: usize) -> String {
        self.slots.get(slot).map_or_else(String::new, |(path, _)| path.join("."))
    }

    fn write(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "  slots")?;
        for (slot, (path, shape)) in self.slots.iter().enumerate() {
            let readers = self.ops.iter().filter(|op| matches!(op, Op::LookUp(address) if address.slot == slot));
            let kind = match readers.count() {
                0 => "plain",
                _ => "address: read by the place lookup and by nothing else",
            };
            writeln!(out, "    {slot:<3} {:<28} {shape:<28} {kind}", path.join("."), shape = shape.to_string())?;
        }
        for path in self.addresses.iter().filter(|path| !self.slots.iter().any(|(known, _)| known == *path)) {
            writeln!(out, "    -   {:<28} address: read by nothing", path.join("."))?;
        }
        if !self.unused.is_empty() {
            writeln!(out, "    not read: {}", self.unused.join(", "))?;
        }
        if !self.ops.is_empty() {
            writeln!(out, "  steps")?;
        }
        for op in &self.ops {
            let how =
                |is_compiled: bool| if is_compiled { "compiled" } else { "interpreted, some microseconds a record" };
            match op {
                Op::Filter(_, predicate) => {
                    writeln!(out, "    filter  {}  ({})", predicate.text, how(predicate.is_compiled()))?;
                }
                Op::Route(_, predicate, topic) => {
                    let topic = self.topics.get(*topic).map_or("", String::as_str);
                    writeln!(
                        out,
                        "    route   {}  -> topic {topic} ({})",
                        predicate.text,
                        how(predicate.is_compiled())
                    )?;
                }
                Op::LookUp(address) => {
                    let (path, prefix) = (address.path.join("."), &address.prefix);
                    writeln!(out, "    enrich  slot {} ({path})  -> {prefix}country_name, …", address.slot)?;
                }
            }
        }
        let topic = self.topics.first().map_or("", String::as_str);
        writeln!(out, "  output to topic {topic}, {}", if self.is_json { "JSON" } else { "Avro" })?;
        match &self.key {
            Key::Input => writeln!(out, "    key <- the input record's key")?,
            Key::None => writeln!(out, "    no key")?,
            Key::Field(field) => writeln!(out, "    key <- {}", self.name_of(field.at))?,
        }
        for put in &self.puts {
            let how = match &put.source {
                Source::Copy(At::Slot(slot)) => format!("<- slot {slot} ({})", self.path(*slot)),
                Source::Convert(convert) => match convert.at {
                    At::Slot(slot) => format!("<- slot {slot} ({}), converted", self.path(slot)),
                    at @ At::Place { .. } => format!("<- {}, converted", self.name_of(at)),
                },
                Source::Copy(at @ At::Place { .. }) => format!("<- {}", self.name_of(*at)),
                Source::Constant(_) => "<- the schema's default".into(),
            };
            writeln!(out, "    {:<28} {:<28} {how}", put.name, put.shape.to_string())?;
        }
        Ok(())
    }
}

impl fmt::Display for TransformPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = String::new();
        self.write(&mut out)?;
        f.write_str(&out)
    }
}
