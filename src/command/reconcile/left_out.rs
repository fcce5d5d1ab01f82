//! Records that a sink does not load, since `sink.records` does not name their type, or a log of changes has no row for them: no row of
//! theirs is missed.

use std::collections::BTreeMap;

use super::{OffsetsError, Task};
use crate::avro::format::{Decoded, Decoder, wire_format};
use crate::avro::registry::{Registry, SchemaId};
use crate::sink::RecordTypes;

/// Tells them by the schemas of their values, each asked for once.
pub(super) struct LeftOut<'a> {
    types: RecordTypes,
    registry: Option<Registry>,
    runtime: &'a tokio::runtime::Runtime,
    known: BTreeMap<u32, bool>,
    /// Of a log of changes.
    log: Option<Decoder>,
    /// How many are among the records that are compared.
    pub count: u64,
}

impl<'a> LeftOut<'a> {
    /// Of a sink's configuration. Errors: the registry's client cannot be made.
    pub fn of(task: &Task<'a>) -> Result<Self, OffsetsError> {
        let types = RecordTypes::of(task.load);
        let format = task.load.format();
        let log = format.log.is_some().then(|| Decoder::new(&format)).transpose().map_err(OffsetsError::Refused)?;
        let is_asked = !types.are_all() || log.is_some() && format.format.has_registered_schemas();
        let registry = is_asked.then(|| Registry::new(&task.load.registry)).transpose();
        let registry = registry.map_err(|error| OffsetsError::Refused(error.to_string()))?;
        Ok(Self { types, registry, runtime: task.runtime, known: BTreeMap::new(), log, count: 0 })
    }

    /// Whether the record with this value is one. Errors: the registry does not answer.
    pub fn has(&mut self, value: Option<&[u8]>) -> Result<bool, OffsetsError> {
        if let Some(decoder) = &mut self.log {
            return is_no_change(decoder, (&self.registry, self.runtime), value);
        }
        let (Some(registry), Some((id, _))) = (&self.registry, value.and_then(wire_format)) else { return Ok(false) };
        let is_left_out = match self.known.get(&id) {
            Some(known) => *known,
            None => match self.runtime.block_on(registry.schema_by_id(SchemaId(id))) {
                Ok(schema) => !self.types.hold(&schema),
                // Such records are dead letters, or waited for.
                Err(error) if error.is_absent() => false,
                Err(error) => return Err(OffsetsError::Refused(error.to_string())),
            },
        };
        self.known.insert(id, is_left_out);
        Ok(is_left_out)
    }

    /// Says how many there are, if there are any.
    pub fn tell(&self) {
        if self.count > 0 {
            let records = crate::runtime::terminal::counted(self.count, "record");
            match self.log {
                None => super::say(format!("{records} of types that sink.records leaves out")),
                Some(_) => super::say(format!(
                    "{records} that change nothing: tombstones, heartbeats, truncates that are ignored"
                )),
            }
        }
    }
}

/// Whether a log of changes has no row for the record. One that cannot be read is a dead letter.
fn is_no_change(
    decoder: &mut Decoder,
    (registry, runtime): (&Option<Registry>, &tokio::runtime::Runtime),
    value: Option<&[u8]>,
) -> Result<bool, OffsetsError> {
    loop {
        let id = match decoder.decode(value, &mut Vec::new()) {
            Ok(Decoded::Unknown(id)) => id,
            Ok(Decoded::Nothing | Decoded::Truncated) => return Ok(true),
            Ok(Decoded::Datum { .. }) | Err(_) => return Ok(false),
        };
        let Some(registry) = registry else { return Ok(false) };
        match runtime.block_on(registry.schema_by_id(SchemaId(id))) {
            Ok(schema) if decoder.learn(id, &schema).is_ok() => {}
            Ok(_) => return Ok(false),
            Err(error) if error.is_absent() => return Ok(false),
            Err(error) => return Err(OffsetsError::Refused(error.to_string())),
        }
    }
}
