//! Whatever a topic is written in becomes an Avro datum of a known shape: what reads datums reads all formats.
//!
//! Confluent Avro goes through as it is. JSON is encoded as a datum, following a schema that the pipeline file declares, that
//! comes along in Kafka Connect's envelope, or that is a JSON Schema of the registry. Nothing here asks the registry: a
//! [`Decoder`] says which id it does not know, and is given the schema with [`Decoder::learn`].

mod cast;
mod connect;
pub(crate) mod datum;
pub mod debezium;
mod declared;
mod json;
mod json_schema;
mod reject;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::avro::Shape;
use crate::avro::schema::SchemaText;
use crate::config::format::{Format, FormatConfig};

pub use cast::Casts;
pub use datum::wire_format;
pub use reject::{Reason, Reject};

use connect::Connect;
use debezium::{Event, Events, Op};
use json::Scratch;
use types::Type;

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;

/// A payload, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// A datum; [`Decoder::shape`] has the shape of its schema.
    Datum {
        /// The schema's id in the registry, or a number that the decoder gave it.
        schema: u32,
        /// The datum.
        bytes: &'a [u8],
    },
    /// The schema of this id is not known yet: [`Decoder::learn`] it and decode again.
    Unknown(u32),
    /// Of a log of changes, what is none: a tombstone, a heartbeat.
    Nothing,
    /// Of a log of changes, a truncate that is no row, and that nobody has said what to do with.
    Truncated,
}

/// Reads payloads of one format. One a thread: it remembers the schemas that it has met.
#[derive(Clone, Debug)]
pub struct Decoder {
    kind: FormatKind,
    casts: Casts,
    /// The shapes of schemas, casts applied.
    shapes: BTreeMap<u32, Arc<Shape>>,
    scratch: Scratch,
}

#[derive(Clone, Debug)]
enum FormatKind {
    Avro,
    /// Of declared fields.
    Declared(Arc<Type>),
    Connect(Connect),
    /// By the ids of the registry, and such as come along with the records.
    JsonSchema(BTreeMap<u32, Arc<Type>>, Connect),
    /// A log of changes.
    Log(Box<Events>),
}

/// The number of the only schema that there is.
const DECLARED: u32 = 0;

impl Decoder {
    /// A decoder. Errors, in words: declared fields that are none, casts to unknown types.
    pub fn new(config: &FormatConfig) -> Result<Self, String> {
        let casts = Casts::new(&config.cast)?;
        let mut shapes = BTreeMap::new();
        if config.format != Format::Json && !config.fields.is_empty() {
            return Err(format!("fields are declared for format = \"json\" only, not for {}", config.format.name()));
        }
        let kind = match config.format {
            _ if config.log.is_some() => {
                let events = Events::of_values(config)?;
                shapes.extend(events.declared().map(|shape| (DECLARED, Arc::new(shape.clone()))));
                FormatKind::Log(Box::new(events))
            }
            Format::Avro => FormatKind::Avro,
            Format::ConnectJson => FormatKind::Connect(Connect::of_connect()),
            Format::JsonSchema => FormatKind::JsonSchema(BTreeMap::new(), Connect::of_json_schema()),
            Format::Json => {
                let declared = declared::record(&config.fields)?;
                let mut shape = declared.shape();
                casts.apply(&mut shape)?;
                shapes.insert(DECLARED, Arc::new(shape));
                FormatKind::Declared(Arc::new(declared))
            }
        };
        Ok(Self { kind, casts, shapes, scratch: Scratch::default() })
    }

    /// Decodes a payload. What has to be written as a datum is appended to `arena`; a datum that the payload holds is borrowed.
    ///
    /// # Errors
    /// Why it is no datum; `arena` is then as long as before.
    pub fn decode<'a>(&mut self, payload: Option<&'a [u8]>, arena: &'a mut Vec<u8>) -> Result<Decoded<'a>, Reject> {
        if let FormatKind::Log(events) = &mut self.kind {
            return log(events, &mut self.shapes, payload, arena);
        }
        let payload = payload.ok_or_else(|| Reject::record(Reason::NullValue))?;
        let (start, scratch) = (arena.len(), &mut self.scratch);
        let schema = match &mut self.kind {
            FormatKind::Avro => {
                let (schema, bytes) = wire_format(payload).ok_or_else(|| Reject::record(Reason::NotWireFormat))?;
                return Ok(match self.shapes.contains_key(&schema) {
                    true => Decoded::Datum { schema, bytes },
                    false => Decoded::Unknown(schema),
                });
            }
            FormatKind::Declared(of) => json::write(of, payload, scratch, arena).map(|()| DECLARED)?,
            FormatKind::Connect(envelopes) => {
                let (schema, of, payload) = envelopes.open(payload, &self.casts, &mut self.shapes)?;
                json::write(&of, payload, scratch, arena).map(|()| schema)?
            }
            FormatKind::JsonSchema(known, envelopes) => match wire_format(payload) {
                Some((schema, payload)) => match known.get(&schema) {
                    Some(of) => json::write(of, payload, scratch, arena).map(|()| schema)?,
                    None => return Ok(Decoded::Unknown(schema)),
                },
                None => {
                    let (schema, of, payload) = envelopes.open(payload, &self.casts, &mut self.shapes)?;
                    json::write(&of, payload, scratch, arena).map(|()| schema)?
                }
            },
            FormatKind::Log(_) => return Ok(Decoded::Nothing),
        };
        Ok(Decoded::Datum { schema, bytes: arena.get(start..).unwrap_or_default() })
    }

    /// Whether records hold datums as they are.
    pub fn is_avro(&self) -> bool {
        matches!(self.kind, FormatKind::Avro)
    }

    /// The shape of a schema that was met, with the casts of the pipeline file.
    pub fn shape(&self, schema: u32) -> Option<&Arc<Shape>> {
        self.shapes.get(&schema)
    }

    /// The shape that all records have, where the pipeline file declares it.
    pub fn declared(&self) -> Option<&Arc<Shape>> {
        self.shapes.get(&DECLARED).filter(|_| match &self.kind {
            FormatKind::Log(events) => events.declared().is_some(),
            kind => matches!(kind, FormatKind::Declared(_)),
        })
    }

    /// Takes the schema of an id from the registry. Errors, in words: one that cannot be read, a cast that does not fit it.
    pub fn learn(&mut self, id: u32, schema: &SchemaText) -> Result<Arc<Shape>, String> {
        let shape = Arc::new(self.read(id, schema)?);
        self.shapes.insert(id, Arc::clone(&shape));
        Ok(shape)
    }

    fn read(&mut self, id: u32, schema: &SchemaText) -> Result<Shape, String> {
        let mut shape = match &mut self.kind {
            FormatKind::Avro => Shape::registered(schema)?,
            FormatKind::JsonSchema(known, _) => {
                let of = json_schema::registered(schema)?;
                let shape = of.shape();
                known.insert(id, Arc::new(of));
                shape
            }
            // Casts are made before the envelope is gone.
            FormatKind::Log(events) => return events.learn(id, schema),
            FormatKind::Declared(_) | FormatKind::Connect(_) => {
                return Err("the format has no schemas in the registry".into());
            }
        };
        self.casts.apply(&mut shape)?;
        Ok(shape)
    }
}

/// Decodes a change of a log.
fn log<'a>(
    events: &mut Events,
    shapes: &mut BTreeMap<u32, Arc<Shape>>,
    payload: Option<&[u8]>,
    arena: &'a mut Vec<u8>,
) -> Result<Decoded<'a>, Reject> {
    let Some(payload) = payload else { return Ok(Decoded::Nothing) };
    let start = arena.len();
    let (schema, op) = match events.read(payload, arena)? {
        Event::Unknown(id) => return Ok(Decoded::Unknown(id)),
        Event::Change { schema, op } => (schema, op),
    };
    match op {
        Op::Nothing => Ok(Decoded::Nothing),
        Op::Truncate => Ok(Decoded::Truncated),
        Op::Write | Op::Delete => {
            if let Some(shape) = events.row_shape(schema).filter(|_| !shapes.contains_key(&schema)) {
                shapes.insert(schema, Arc::new(shape.clone()));
            }
            Ok(Decoded::Datum { schema, bytes: arena.get(start..).unwrap_or_default() })
        }
    }
}

/// The shape of a registered schema, as records of the format are read. Errors, in words: as those of [`Decoder::learn`].
pub fn registered_shape(config: &FormatConfig, schema: &SchemaText) -> Result<Shape, String> {
    if config.are_changes() {
        return Events::of_values(config)?.learn(0, schema);
    }
    let mut decoder = Decoder::new(config)?;
    decoder.read(0, schema)
}
