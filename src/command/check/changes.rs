//! What the changes of a sink in mode `upsert` look like: the schemas of keys and values as one.

use super::Subject;
use super::table_plan::TopicSchema;
use crate::avro::Shape;
use crate::avro::format::debezium::Events;
use crate::avro::format::{Decoder, registered_shape};
use crate::avro::registry::Registry;
use crate::config::changes::ChangesConfig;
use crate::config::finding::Finding;
use crate::config::format::{Envelope, FormatConfig};
use crate::config::sink::{ColumnsConfig, LoadConfig};
use crate::sink::changes::{ChangeShape, plain_key};

/// What a sink's configuration says about changes.
pub(super) struct Asked<'a> {
    /// `postgres` or `clickhouse`.
    pub sink: &'static str,
    /// The settings.
    pub config: ChangesConfig,
    /// Each change has a version.
    pub is_stamped: bool,
    /// Fields and columns.
    pub columns: &'a ColumnsConfig,
}

impl Asked<'_> {
    /// The shapes of changes in place of those of values, and the columns of the key; `None` where records are no changes.
    pub(super) async fn of_values(
        &self,
        subject: &Subject<'_, LoadConfig>,
        values: &[TopicSchema],
        findings: &mut Vec<Finding>,
    ) -> Option<(Vec<TopicSchema>, Vec<String>)> {
        if !self.config.is_upsert() {
            return None;
        }
        let (mut schemas, mut key) = (Vec::new(), Vec::new());
        let key_shape = match self.key(subject).await {
            Ok(shape) => shape,
            Err(finding) => {
                findings.push(finding);
                return Some((schemas, key));
            }
        };
        for value in values {
            match self.change(subject, key_shape.as_ref(), &value.shape) {
                Ok(change) => {
                    key = change.key;
                    schemas.push(TopicSchema { says: value.says.clone(), shape: change.shape, comes: value.comes });
                }
                Err(finding) => findings.push(finding),
            }
        }
        Some((schemas, key))
    }

    /// The change that a value of this shape is. Errors: it is not a change.
    pub(super) fn change(
        &self,
        subject: &Subject<'_, LoadConfig>,
        key: Option<&Shape>,
        value: &Shape,
    ) -> Result<ChangeShape, Finding> {
        ChangeShape::of((&self.config, self.is_stamped), self.columns, key, Some(value)).map_err(|what| {
            let key = format!("sink.{}.pk_fields", self.sink);
            subject.error(&key, what, "see docs/upserts.md")
        })
    }

    /// The shape of the records' keys, where they are read. Errors: nobody knows it.
    pub(super) async fn key(&self, subject: &Subject<'_, LoadConfig>) -> Result<Option<Shape>, Finding> {
        let keys = subject.config.key_format();
        let is_event = subject.config.envelope() == Envelope::Debezium;
        if !self.config.reads_keys() {
            return Ok(None);
        }
        if is_event && !keys.format.has_registered_schemas() {
            return self.key_of_events(subject, &keys);
        }
        let reader = subject.config.key_reader().filter(|_| !is_event);
        if let Some(format) = reader.as_ref().filter(|format| !format.format.has_registered_schemas()) {
            return declared_key(subject, format);
        }
        if let plain @ Some(_) = plain_key(self.config.key_format) {
            return Ok(plain);
        }
        let name = format!("{}-key", subject.config.topic());
        let finding = |what: String| {
            let cure = "let the producer register the schema of its keys, or set key_format = \"text\" where keys are plain text";
            subject.warning(&format!("sink.{}.key_format", self.sink), what, cure)
        };
        let registry = Registry::new(&subject.config.registry).map_err(|error| finding(error.to_string()))?;
        match registry.latest(&name).await {
            Ok(Some(version)) if is_event => {
                let keys = Events::of_keys(&keys).and_then(|mut keys| keys.learn(0, &version.schema));
                keys.map(Some).map_err(finding)
            }
            Ok(Some(version)) => {
                let format = reader.unwrap_or_default();
                registered_shape(&format, &version.schema).map(Some).map_err(finding)
            }
            Ok(None) => {
                Err(finding(format!("subject {name} has no schema, so that the table was compared with nothing")))
            }
            Err(error) => Err(finding(error.to_string())),
        }
    }
    /// The type of keys in JSON: as the pipeline file declares it, else nobody knows it before the first record.
    fn key_of_events(&self, subject: &Subject<'_, LoadConfig>, keys: &FormatConfig) -> Result<Option<Shape>, Finding> {
        let finding = |what: String| subject.warning("source.key", what, "docs/cdc.md has what keys need");
        let events = Events::of_keys(keys).map_err(finding)?;
        events
            .declared()
            .cloned()
            .map(Some)
            .ok_or_else(|| finding("keys bring their schema along, so that the table was compared with nothing".into()))
    }
}

/// The type of keys in JSON, as the pipeline file declares it. Errors: it does not, or they bring their schema along.
fn declared_key(subject: &Subject<'_, LoadConfig>, format: &FormatConfig) -> Result<Option<Shape>, Finding> {
    let finding = |what: String| subject.warning("source.key", what, "docs/upserts.md has what keys need");
    let decoder = Decoder::new(format).map_err(finding)?;
    let declared = decoder.declared().map(|shape| shape.as_ref().clone());
    let unknown = "keys bring their schema along, so that the table was compared with nothing";
    declared.map(Some).ok_or_else(|| finding(unknown.into()))
}
