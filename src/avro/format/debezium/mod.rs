//! Debezium's envelope: what a record says was done to a row, in Avro, in JSON with its schema, and in JSON of declared fields.
//!
//! ```text
//! record ─► datum of the envelope ─► op, and the row after the change ─► datum of the row, its types made Avro's own
//! ```
//!
//! What was before a change is not read: the record's key says which row it is. In a log of changes it is what a delete is told by.

mod envelope;
mod log;
mod op;
mod row;
mod schema;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use op::Op;

use super::cast::Casts;
use super::connect::{self, Connect};
use super::datum::wire_format;
use super::declared;
use super::json::{self, Scratch};
use super::reject::{Reason, Reject};
use super::types::Type;
use crate::avro::Shape;
use crate::avro::schema::SchemaText;
use crate::config::format::{Format, FormatConfig, Truncate};
use envelope::EnvelopePlan;

/// The number of the only schema that there is.
const DECLARED: u32 = 0;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A change, by the schema of this id or number.
    Change {
        /// The schema.
        schema: u32,
        /// What it does.
        op: Op,
    },
    /// The schema of this id is not known yet: [`Events::learn`] it and read again.
    Unknown(u32),
}

/// Reads the values of a topic of Debezium's, or its keys.
#[derive(Clone, Debug)]
pub struct Events {
    source: Source,
    is_key: bool,
    /// Changes are rows of their own, and this becomes of a truncate.
    log: Option<Truncate>,
    casts: Casts,
    plans: BTreeMap<u32, Arc<EnvelopePlan>>,
    /// What records in JSON are as datums.
    shapes: BTreeMap<u32, Arc<Shape>>,
    scratch: Scratch,
    datum: Vec<u8>,
    /// Values that a change lacks are left out of its row.
    skips: bool,
    /// Places in the row of the fields whose values the record before lacked.
    lacking: Vec<usize>,
}

#[derive(Clone, Debug)]
enum Source {
    Avro,
    Connect(Connect),
    Declared(Arc<Type>),
}

impl Events {
    /// Of values in this format. Of a log, each change is a row of its own, which begins with what was done. Errors, in words: fields
    /// that are none; a format that Debezium does not write.
    pub fn of_values(config: &FormatConfig) -> Result<Self, String> {
        Self::new(config, false)
    }

    /// Of keys.
    pub fn of_keys(config: &FormatConfig) -> Result<Self, String> {
        Self::new(config, true)
    }

    fn new(config: &FormatConfig, is_key: bool) -> Result<Self, String> {
        let casts = Casts::new(&config.cast)?;
        if config.format != Format::Json && !config.fields.is_empty() {
            return Err(format!("fields are declared for format = \"json\" only, not for {}", config.format.name()));
        }
        let source = match config.format {
            Format::Avro => Source::Avro,
            Format::ConnectJson if is_key => Source::Connect(Connect::of_connect()),
            Format::ConnectJson if config.log.is_some() => {
                Source::Connect(Connect::reading(|schema| envelope::read_part(connect::read(schema, "", 0)?, true)))
            }
            Format::ConnectJson => {
                Source::Connect(Connect::reading(|schema| envelope::read_part(connect::read(schema, "", 0)?, false)))
            }
            Format::Json => {
                let row = declared::record(&config.fields)?;
                Source::Declared(Arc::new(if is_key { row } else { envelope::around(row, config.log.is_some())? }))
            }
            Format::JsonSchema => return Err("Debezium writes no json_schema: avro, connect_json or json".into()),
        };
        let (plans, shapes, scratch, datum, skips, lacking) = Default::default();
        let mut events = Self { source, is_key, log: config.log, casts, plans, shapes, scratch, datum, skips, lacking };
        if let Source::Declared(of) = &events.source {
            let shape = of.shape();
            events.plan(DECLARED, &shape, None)?;
        }
        Ok(events)
    }

    /// Leaves values that a change lacks out of its row, see [`Events::lacking`]; unless told so, such changes are refused.
    pub fn skipping(self) -> Self {
        Self { skips: true, ..self }
    }

    /// Places in the row's type of the fields whose values the last record that was read does not hold.
    pub fn lacking(&self) -> &[usize] {
        &self.lacking
    }

    /// Reads a record; its row is appended to `out`. Errors: why it cannot be; `out` is then as it was.
    pub fn read(&mut self, payload: &[u8], out: &mut Vec<u8>) -> Result<Event, Reject> {
        self.datum.clear();
        self.lacking.clear();
        let schema = match &mut self.source {
            Source::Avro => {
                let (schema, bytes) = wire_format(payload).ok_or_else(|| Reject::record(Reason::NotWireFormat))?;
                let Some(plan) = self.plans.get(&schema) else { return Ok(Event::Unknown(schema)) };
                let lacking = self.skips.then_some(&mut self.lacking);
                return plan.open(bytes, lacking, out).map(|op| Event::Change { schema, op });
            }
            Source::Declared(of) => {
                json::write(of, payload, &mut self.scratch, &mut self.datum)?;
                DECLARED
            }
            Source::Connect(envelopes) => {
                let (schema, of, payload) = envelopes.open(payload, &Casts::default(), &mut self.shapes)?;
                json::write(&of, payload, &mut self.scratch, &mut self.datum)?;
                schema
            }
        };
        if !self.plans.contains_key(&schema) {
            let shape = self.shapes.get(&schema).cloned().unwrap_or_else(|| Arc::new(Shape::Null));
            self.plan(schema, &shape, None).map_err(Reject::schema)?;
        }
        let Some(plan) = self.plans.get(&schema) else { return Ok(Event::Unknown(schema)) };
        plan.open(&self.datum, self.skips.then_some(&mut self.lacking), out).map(|op| Event::Change { schema, op })
    }

    /// Takes the schema of an id from the registry; the row's type, empty where there is none. Errors, in words: it cannot be read.
    pub fn learn(&mut self, id: u32, schema: &SchemaText) -> Result<Shape, String> {
        let shape = Shape::registered(schema)?;
        let text: serde_json::Value = serde_json::from_str(&schema.text).map_err(|_| "the schema is not JSON")?;
        self.plan(id, &shape, Some(&text))?;
        Ok(self.row_shape(id).cloned().unwrap_or_else(|| Shape::Record(Vec::new())))
    }

    fn plan(&mut self, number: u32, shape: &Shape, schema: Option<&serde_json::Value>) -> Result<(), String> {
        let plan = match self.is_key {
            true => EnvelopePlan::of_key(shape, schema, &self.casts)?,
            false => EnvelopePlan::of_change(shape, schema, &self.casts, self.log)?,
        };
        self.plans.insert(number, Arc::new(plan));
        Ok(())
    }

    /// The type of the rows by a schema that was met; `None` where it has none.
    pub fn row_shape(&self, schema: u32) -> Option<&Shape> {
        self.plans.get(&schema)?.shape()
    }

    /// The type of the rows, where the pipeline file declares it.
    pub fn declared(&self) -> Option<&Shape> {
        self.row_shape(DECLARED).filter(|_| matches!(self.source, Source::Declared(_)))
    }

    /// Whether the schemas stand in the registry.
    pub fn is_avro(&self) -> bool {
        matches!(self.source, Source::Avro)
    }
}
