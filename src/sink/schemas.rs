//! Schemas by the ids that records carry, each asked of the registry once.
//!
//! An id that the registry does not have says nothing about the row: a registry that has just been started answers so of schemas
//! that it has, until it has read its log, and some answer so to a user without the right to read them. The sink waits, and only
//! on demand such records become dead letters after a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::{LoadError, RecordOrigin, RecordTypes, RetryClass, Why};
use crate::avro::Shape;
use crate::avro::format::debezium::Events;
use crate::avro::format::{self, Decoder};
use crate::avro::registry::{Registry, RegistryError, SchemaId};
use crate::avro::schema::{SchemaText, record_name};
use crate::config::format::FormatConfig;

/// An id that was believed to be absent is asked for again no earlier than after this time.
const BELIEVED_FOR: Duration = Duration::from_secs(60);
/// Most ids that are remembered of those whose records are dead letters: each may be garbage.
const MOST_REMEMBERED: usize = 10_000;

/// What is known about the ids met so far.
pub struct Schemas {
    format: FormatConfig,
    registry: Arc<Registry>,
    runtime: Handle,
    patience: Patience,
    learnt: BTreeSet<u32>,
    absent: BTreeMap<u32, Absence>,
    unreadable: BTreeMap<u32, Why>,
    types: RecordTypes,
    /// The record types of ids, where they have names.
    names: BTreeMap<u32, String>,
}

/// How long an id that the registry does not have is waited for.
pub struct Patience {
    /// `None`: for ever.
    pub wait: Option<Duration>,
    /// The key that sets it.
    pub key: String,
}

/// That the registry does not have an id.
#[derive(Clone, Copy)]
struct Absence {
    /// When a record with it was read first.
    since: Instant,
    /// Asked last when it was believed.
    believed: Option<Instant>,
}

/// What an id stands for.
pub enum Schema {
    /// Met before.
    Known,
    /// Met for the first time.
    New(Shape),
    /// Its records are of a type that is not loaded.
    LeftOut,
    /// Nothing that its records can be read with.
    Unusable(Why),
}

impl Schemas {
    /// Nothing met yet of a topic of this format.
    pub fn new(format: FormatConfig, registry: Arc<Registry>, runtime: Handle, patience: Patience) -> Self {
        let (learnt, absent, unreadable, types, names) = Default::default();
        Self { format, registry, runtime, patience, learnt, absent, unreadable, types, names }
    }

    /// Only records of these types are loaded.
    pub fn of_types(self, types: RecordTypes) -> Self {
        Self { types, ..self }
    }

    /// What the refusal of an id's rows adds: the type of its records, and what to do where the topic has records of another one.
    pub fn type_of(&self, id: u32) -> String {
        let Some(name) = self.names.get(&id) else { return String::new() };
        match self.names.values().find(|other| *other != name) {
            Some(other) => format!(
                "\nschema id {id} is of record type {name}, other records of the topic are of type {other}: name in sink.records \
                 the types that the table is for"
            ),
            None => format!("\nschema id {id} is of record type {name}"),
        }
    }

    /// A batch has records with these ids: each is waited for from now on, not from when its turn comes to be asked for.
    pub fn meet(&mut self, ids: &[u32]) {
        let (now, met) = (Instant::now(), ids.iter().copied().collect::<BTreeSet<u32>>());
        if self.absent.len() > MOST_REMEMBERED {
            self.absent.clear();
        }
        self.absent.retain(|id, absence| absence.believed.is_some() || met.contains(id));
        for id in met.into_iter().filter(|id| !self.learnt.contains(id) && !self.unreadable.contains_key(id)) {
            self.absent.entry(id).or_insert(Absence { since: now, believed: None });
        }
    }

    /// What `id` stands for, which the record at `first` carries. A decoder of another format than Avro has it already, or learns
    /// it. Errors: the registry does not answer, or does not have it and is waited for.
    pub fn get(
        &mut self,
        id: u32,
        first: Option<RecordOrigin>,
        decoder: Option<&mut Decoder>,
    ) -> Result<Schema, LoadError> {
        if self.learnt.contains(&id) {
            return Ok(Schema::Known);
        }
        if let Some(shape) = decoder.as_ref().and_then(|decoder| decoder.shape(id)) {
            return Ok(Schema::New(shape.as_ref().clone()));
        }
        let format = self.format.clone();
        self.read(id, first, |schema| match decoder {
            Some(decoder) => decoder.learn(id, schema).map(|shape| shape.as_ref().clone()),
            None => format::registered_shape(&format, schema),
        })
    }

    /// The same, of a schema that is read so: what it reads must be remembered.
    pub fn read(
        &mut self,
        id: u32,
        first: Option<RecordOrigin>,
        shape_of: impl FnOnce(&SchemaText) -> Result<Shape, String>,
    ) -> Result<Schema, LoadError> {
        if let Some(why) = self.unreadable.get(&id) {
            return Ok(Schema::Unusable(why.clone()));
        }
        let believed = self.absent.get(&id).and_then(|absence| absence.believed);
        if believed.is_some_and(|asked| asked.elapsed() < BELIEVED_FOR) {
            return Ok(Schema::Unusable(Why::UnknownSchema));
        }
        match self.runtime.block_on(self.registry.schema_by_id(SchemaId(id))) {
            Ok(schema) => {
                self.absent.remove(&id);
                if !self.types.hold(&schema) {
                    return Ok(Schema::LeftOut);
                }
                let shape = shape_of(&schema);
                Ok(self.parsed(id, &schema, shape))
            }
            Err(error) if error.is_absent() => self.is_absent(id, first, &error),
            Err(error) => Err(transient(error.to_string())),
        }
    }

    fn parsed(&mut self, id: u32, schema: &SchemaText, shape: Result<Shape, String>) -> Schema {
        match shape {
            Ok(shape) => {
                self.names.extend(record_name(schema).map(|name| (id, name)));
                Schema::New(shape)
            }
            Err(what) => {
                let why = Why::UnreadableSchema(what);
                if self.unreadable.len() >= MOST_REMEMBERED {
                    self.unreadable.clear();
                }
                self.unreadable.insert(id, why.clone());
                Schema::Unusable(why)
            }
        }
    }

    fn is_absent(&mut self, id: u32, first: Option<RecordOrigin>, error: &RegistryError) -> Result<Schema, LoadError> {
        let now = Instant::now();
        let since = self.absent.entry(id).or_insert(Absence { since: now, believed: None }).since;
        if self.patience.wait.is_none_or(|wait| now.duration_since(since) < wait) {
            let at =
                first.map_or_else(String::new, |at| format!(", at partition {} offset {}", at.partition, at.offset));
            return Err(transient(format!(
                "{} (the id of a record{at}); the sink waits for it, since a registry that was just started may not know it yet: \
                 register it there, let the registry's user read it, or set {} to write such records to the dead letter queue",
                error.what(),
                self.patience.key
            )));
        }
        let is_whole = self.runtime.block_on(self.registry.has_what_it_had());
        if !is_whole.map_err(|error| transient(error.to_string()))? {
            return Err(transient(format!(
                "{}; nor does it have schemas that it had before: the sink waits until it has them again",
                error.what()
            )));
        }
        self.absent.insert(id, Absence { since, believed: Some(now) });
        Ok(Schema::Unusable(Why::UnknownSchema))
    }

    /// The newest schema of a subject, if the registry has one that can be read, and answers; the declared one where the format
    /// has its schemas elsewhere.
    pub fn latest(&self, subject: &str) -> Option<Shape> {
        if self.format.are_changes() && !self.format.format.has_registered_schemas() {
            return Events::of_values(&self.format).ok()?.declared().cloned();
        }
        if !self.format.format.has_registered_schemas() {
            let decoder = Decoder::new(&self.format).ok()?;
            return decoder.declared().map(|shape| shape.as_ref().clone());
        }
        match self.runtime.block_on(self.registry.latest(subject)) {
            Ok(version) => {
                let version = version.filter(|version| self.types.hold(&version.schema));
                version.and_then(|version| format::registered_shape(&self.format, &version.schema).ok())
            }
            Err(error) => {
                tracing::debug!(subject, %error, "the newest schema is not known yet");
                None
            }
        }
    }

    /// The sink can take rows of this schema.
    pub fn learnt(&mut self, id: u32) {
        self.learnt.insert(id);
    }
}

fn transient(message: String) -> LoadError {
    LoadError::again(RetryClass::Transient, message)
}

#[cfg(test)]
mod tests;
