//! The newest records of a sink's topic: which schemas they have, and what they are where they have none.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::Subject;
use crate::avro::Shape;
use crate::avro::format::debezium::{Event, Events};
use crate::avro::format::{Decoded, Decoder};
use crate::config::finding::Finding;
use crate::config::format::{Format, FormatConfig};
use crate::config::sink::LoadConfig;
use crate::kafka::client::{self, METADATA_TIMEOUT, Role};
use crate::kafka::reach::Probe;
use crate::runtime::supervise::drop_in_background;
use crate::runtime::terminal::counted;

/// Offsets of each partition that are looked at, from the end. Transaction markers take some.
const LAST: i64 = 20;
/// Partitions that are looked at, and how long it may take: more would tell no more.
const MOST_PARTITIONS: usize = 50;
const PATIENCE: Duration = Duration::from_secs(5);

/// What the newest records are.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// By schema id, how many.
    pub schemas: BTreeMap<u32, usize>,
    /// Of schemas that come along with records, the newest first.
    pub shapes: Vec<Shape>,
    /// Records of another format than Avro that were read.
    read: usize,
    /// By kind, those that are not of the format.
    others: BTreeMap<&'static str, usize>,
}

impl Newest {
    fn add(&mut self, value: Option<&[u8]>, decoder: &mut Reader) {
        let decoder = match decoder {
            Reader::Rows(decoder) => decoder,
            Reader::Events(events) => return self.open(value, events),
        };
        if !decoder.is_avro() {
            return self.decode(value, decoder);
        }
        let kind = match value {
            Some([0, a, b, c, d, ..]) => {
                *self.schemas.entry(u32::from_be_bytes([*a, *b, *c, *d])).or_default() += 1;
                return;
            }
            None => "without a value (tombstones)",
            Some([]) => "with an empty value",
            Some(value) if serde_json::from_slice::<serde::de::IgnoredAny>(value).is_ok() => "JSON",
            Some([b'O', b'b', b'j', 1, ..]) => "Avro files, each with a schema of its own",
            Some([0xc3, 0x01, ..]) => "Avro in the single-object encoding",
            Some(_) => "of another format",
        };
        *self.others.entry(kind).or_default() += 1;
    }

    fn open(&mut self, value: Option<&[u8]>, events: &mut Events) {
        // A tombstone is a part of a delete.
        let Some(value) = value else { return };
        match events.read(value, &mut Vec::new()) {
            Ok(Event::Unknown(id)) => *self.schemas.entry(id).or_default() += 1,
            Ok(Event::Change { schema, .. }) => {
                self.read += 1;
                let shape = events.row_shape(schema).filter(|shape| !self.shapes.contains(shape));
                self.shapes.extend(shape.cloned());
            }
            Err(reject) => *self.others.entry(reject.reason.code()).or_default() += 1,
        }
    }

    fn decode(&mut self, value: Option<&[u8]>, decoder: &mut Decoder) {
        let mut arena = Vec::new();
        match decoder.decode(value, &mut arena) {
            Ok(Decoded::Unknown(id)) => *self.schemas.entry(id).or_default() += 1,
            Ok(Decoded::Nothing | Decoded::Truncated) => {}
            Ok(Decoded::Datum { schema, .. }) => {
                self.read += 1;
                let shape = decoder.shape(schema).filter(|shape| !self.shapes.contains(shape));
                self.shapes.extend(shape.map(|shape| shape.as_ref().clone()));
            }
            Err(reject) => *self.others.entry(reject.reason.code()).or_default() += 1,
        }
    }

    /// What is odd about them.
    pub fn finding(&self, subject: &Subject<'_, LoadConfig>) -> Option<Finding> {
        let odd: usize = self.others.values().sum();
        let all = odd + self.read + self.schemas.values().sum::<usize>();
        let format = subject.config.format().format;
        let kinds: Vec<String> = self.others.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        (odd > 0).then(|| {
            let (wanted, cure) = match format {
                Format::Avro => (
                    "in Confluent's wire format",
                    "a sink reads Avro with the schema's id before it and writes all else to the dead letter queue: name a topic of \
                     such records, or set source.format for another format",
                ),
                other => (other.name(), "such records go to the dead letter queue: fix source.format or what belongs to it"),
            };
            let what = format!(
                "of the newest {} of topic {}, {odd} are not {wanted}: {}",
                counted(all, "record"),
                subject.config.topic(),
                kinds.join(", ")
            );
            subject.warning("sink.topic", what, cure)
        })
    }
}

/// Reads the records of a topic.
enum Reader {
    Rows(Decoder),
    Events(Events),
}

impl Reader {
    fn new(config: &FormatConfig) -> Result<Self, String> {
        Ok(match config.are_changes() {
            false => Self::Rows(Decoder::new(config)?),
            true => Self::Events(Events::of_values(config)?),
        })
    }
}

/// Looks at them; `None`: they cannot be read, of which other checks tell.
pub async fn look(subject: &Subject<'_, LoadConfig>) -> Option<Newest> {
    let config = subject.config.clone();
    tokio::task::spawn_blocking(move || {
        let mut client = client::client_config(&config.kafka, Role::Consumer).ok()?;
        // Never a member: partitions are assigned, and nothing is committed.
        client
            .set("group.id", format!("pressline.{}.check", config.name))
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed")
            .set("enable.partition.eof", "true")
            .set("allow.auto.create.topics", "false");
        let consumer: BaseConsumer<Probe> = client.create_with_context(Probe::default()).ok()?;
        let newest = Reader::new(&config.format()).ok().map(|decoder| read(&consumer, &config, decoder));
        // Its destructor may wait for librdkafka's threads.
        drop_in_background(consumer);
        newest?.ok()
    })
    .await
    .ok()
    .flatten()
}

fn read(consumer: &BaseConsumer<Probe>, config: &LoadConfig, mut decoder: Reader) -> KafkaResult<Newest> {
    let (topic, deletes) = (config.topic(), config.deletes());
    let mut newest = Newest::default();
    let Some(layout) = client::topic_layout(consumer.client(), topic, METADATA_TIMEOUT)? else { return Ok(newest) };
    let (mut list, mut open) = (TopicPartitionList::new(), 0);
    for partition in layout.partitions.into_iter().take(MOST_PARTITIONS) {
        let (low, high) = consumer.fetch_watermarks(topic, partition, METADATA_TIMEOUT)?;
        if low < high {
            list.add_partition_offset(topic, partition, Offset::Offset(low.max(high - LAST)))?;
            open += 1;
        }
    }
    consumer.assign(&list)?;
    let deadline = Instant::now() + PATIENCE;
    while open > 0 && Instant::now() < deadline {
        match consumer.poll(Duration::from_millis(100)) {
            // A tombstone deletes a row.
            Some(Ok(record)) if deletes && record.payload().is_none() => {}
            Some(Ok(record)) => newest.add(record.payload(), &mut decoder),
            Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
            Some(Err(error)) => return Err(error),
            None => {}
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn records_are_told_apart() {
        let mut newest = Newest::default();
        let framed = [0, 0, 0, 1, 2, 7];
        let values: [Option<&[u8]>; 7] =
            [Some(&framed), Some(&framed), Some(b"{\"a\":1}"), None, Some(b""), Some(b"Obj\x01..."), Some(b"\x00\x01")];
        let mut avro = Reader::new(&FormatConfig::default()).unwrap();
        values.into_iter().for_each(|value| newest.add(value, &mut avro));
        assert_eq!(newest.schemas, [(258, 2)].into());
        let others = ["without a value (tombstones)", "with an empty value", "JSON", "of another format"];
        assert!(others.iter().all(|kind| newest.others.get(kind) == Some(&1)), "{newest:?}");
    }
}
