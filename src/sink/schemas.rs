//! Schemas by the ids that records carry, each asked of the registry once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::{Class, LoadError};
use crate::avro::Shape;
use crate::avro::registry::{Registry, RegistryError, SchemaId};

/// That the registry lacks an id is believed when it has said so for this long: its followers hear of a new schema after a while.
const BELIEVED: Duration = Duration::from_secs(3);
/// Then it is asked again no earlier than after this time.
const BELIEVED_FOR: Duration = Duration::from_secs(60);

/// What is known about the ids met so far.
pub struct Schemas {
    registry: Arc<Registry>,
    runtime: Handle,
    learnt: BTreeSet<u32>,
    absent: BTreeMap<u32, Absence>,
}

/// That the registry does not have an id.
#[derive(Clone, Copy)]
struct Absence {
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
    /// The registry does not have it.
    Missing,
}

impl Schemas {
    /// Nothing met yet.
    pub fn new(registry: Arc<Registry>, runtime: Handle) -> Self {
        Self { registry, runtime, learnt: BTreeSet::new(), absent: BTreeMap::new() }
    }

    /// What `id` stands for. Errors: the registry does not answer; a schema that no table can take.
    pub fn get(&mut self, id: u32) -> Result<Schema, LoadError> {
        if self.learnt.contains(&id) {
            return Ok(Schema::Known);
        }
        let believed = self.absent.get(&id).and_then(|absence| absence.believed);
        if believed.is_some_and(|asked| asked.elapsed() < BELIEVED_FOR) {
            return Ok(Schema::Missing);
        }
        let answer = match self.runtime.block_on(self.registry.schema_by_id(SchemaId(id))) {
            Err(error) if error.is_absent() => return self.is_absent(id, &error),
            other => {
                // Said at two times with something else between them, it was not said all the while.
                self.absent.remove(&id);
                other
            }
        };
        match answer {
            Ok(text) => Shape::parse(&text)
                .map(Schema::New)
                .map_err(|why| LoadError::Refused(format!("schema {id} of the registry cannot be loaded: {why}"))),
            Err(error) => Err(LoadError::Again { class: Class::Transient, message: error.to_string() }),
        }
    }

    fn is_absent(&mut self, id: u32, error: &RegistryError) -> Result<Schema, LoadError> {
        let now = Instant::now();
        let absence = self.absent.entry(id).or_insert(Absence { since: now, believed: None });
        if absence.since.elapsed() < BELIEVED {
            return Err(LoadError::Again { class: Class::Transient, message: format!("not believed yet: {error}") });
        }
        absence.believed = Some(now);
        Ok(Schema::Missing)
    }

    /// The newest schema of a subject and its id, if the registry has one and answers. Errors: one that no table can take.
    pub fn latest(&self, subject: &str) -> Result<Option<(u32, Shape)>, LoadError> {
        match self.runtime.block_on(self.registry.latest(subject)) {
            Ok(Some(version)) => {
                Shape::parse(&version.schema).map(|shape| Some((version.id.0, shape))).map_err(|why| {
                    LoadError::Refused(format!("subject {subject} of the registry cannot be loaded: {why}"))
                })
            }
            Ok(None) => Ok(None),
            Err(error) => {
                tracing::debug!(subject, %error, "the newest schema is not known yet");
                Ok(None)
            }
        }
    }

    /// The sink can take rows of this schema.
    pub fn learnt(&mut self, id: u32) {
        self.learnt.insert(id);
    }
}
