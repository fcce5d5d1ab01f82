//! Schemas by the ids that records carry, each asked of the registry once.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::runtime::Handle;

use super::{Class, LoadError};
use crate::avro::Shape;
use crate::registry::{Registry, RegistryError, SchemaId};

/// What is known about the ids met so far.
pub struct Schemas {
    registry: Arc<Registry>,
    runtime: Handle,
    learnt: BTreeSet<u32>,
    missing: BTreeSet<u32>,
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
        Self { registry, runtime, learnt: BTreeSet::new(), missing: BTreeSet::new() }
    }

    /// What `id` stands for. Errors: the registry does not answer; a schema that no table can take.
    pub fn get(&mut self, id: u32) -> Result<Schema, LoadError> {
        if self.learnt.contains(&id) {
            return Ok(Schema::Known);
        }
        if self.missing.contains(&id) {
            return Ok(Schema::Missing);
        }
        match self.runtime.block_on(self.registry.schema_by_id(SchemaId(id))) {
            Ok(text) => Shape::parse(&text)
                .map(Schema::New)
                .map_err(|why| LoadError::Refused(format!("schema {id} of the registry cannot be loaded: {why}"))),
            Err(RegistryError::Refused { status: 404, .. }) => {
                self.missing.insert(id);
                Ok(Schema::Missing)
            }
            Err(error) => Err(LoadError::Again { class: Class::Transient, message: error.to_string() }),
        }
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
