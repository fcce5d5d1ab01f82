//! A part of a pipeline with its topics.

use super::{Chosen, DlqError, refused};
use crate::command::offsets::{Pipeline, PipelinePart};
use crate::config::KafkaConfig;
use crate::kafka::letters::Letter;
use crate::sink::DatabaseKind;

/// A relay or sink, and where its dead letters are.
pub struct Part {
    /// The pipeline's name.
    pub pipeline: String,
    /// Which part.
    pub part: PipelinePart,
    /// The brokers.
    pub kafka: KafkaConfig,
    /// Its consumer group.
    pub group: String,
    /// The topic that it reads.
    pub source_topic: String,
    /// The topic of its dead letters.
    pub dead_topic: String,
}

impl Part {
    /// Of a pipeline. Errors: it has no such part.
    pub fn of(pipeline: &Pipeline, part: PipelinePart) -> Result<Self, DlqError> {
        let lacks = || pipeline.lacks(part);
        let (kafka, group, source_topic, dead_topic) = match part {
            PipelinePart::Relay => {
                let relay = pipeline.relay.as_ref().ok_or_else(lacks)?;
                (relay.kafka.clone(), relay.group(), relay.source.topic.clone(), relay.dead_topic())
            }
            PipelinePart::Postgres | PipelinePart::Clickhouse => {
                let load = pipeline.load.as_ref().ok_or_else(lacks)?;
                let kind = DatabaseKind::of(load).into_iter().find(|kind| kind.part() == part);
                let consumer = kind.and_then(|kind| kind.consumer(load)).ok_or_else(lacks)?;
                let group = load.group(part.name(), consumer);
                (load.kafka.clone(), group, load.topic().to_string(), load.dead_topic(consumer))
            }
        };
        Ok(Self { pipeline: pipeline.name.clone(), part, kafka, group, source_topic, dead_topic })
    }

    /// The one that was chosen. Errors: none was, and there are several.
    pub fn chosen(pipeline: &Pipeline, chosen: &Chosen) -> Result<Self, DlqError> {
        let parts = pipeline.parts();
        match (chosen.sink, parts.as_slice()) {
            (Some(part), _) | (None, &[part]) => Self::of(pipeline, part),
            _ => {
                let names: Vec<&str> = parts.iter().map(|part| part.name()).collect();
                Err(refused(format!(
                    "name one of the parts of pipeline {} with --sink: {}",
                    pipeline.name,
                    names.join(", ")
                )))
            }
        }
    }

    /// What its letters have in their header `pressline.sink`.
    pub fn sink(&self) -> &'static str {
        match self.part {
            PipelinePart::Relay => "",
            part => part.name(),
        }
    }

    /// Whether it wrote the letter; `None`: the letter does not name its pipeline, but may be.
    pub fn wrote(&self, letter: &Letter) -> Option<bool> {
        let id = &letter.id;
        if *id.sink != *self.sink() || *id.topic != *self.source_topic {
            return Some(false);
        }
        (!id.pipeline.is_empty()).then(|| *id.pipeline == *self.pipeline)
    }
}
