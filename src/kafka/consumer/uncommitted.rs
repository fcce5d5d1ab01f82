//! A topic as one sees it who also reads what is not committed yet.
//!
//! A `read_committed` reader is given nothing past the last stable offset, and while a transaction is open on a partition,
//! Kafka 4 answers its questions about time with "no such record" (-1), although there is one: to begin there would leave
//! records out. So both are asked without that isolation.

use std::collections::BTreeMap;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::kafka::client::METADATA_TIMEOUT;
use crate::kafka::offset_note::{NextOffset, Partition};
use crate::kafka::reach::Probe;
use crate::runtime::supervise::drop_in_background;

/// Asks about partitions; reads nothing and is in no group.
pub struct Uncommitted(Option<BaseConsumer<Probe>>);

impl Uncommitted {
    /// With the connection of this configuration.
    pub fn new(config: &ClientConfig) -> KafkaResult<Self> {
        let mut config = config.clone();
        config
            // librdkafka wants one; it is never joined, and nothing is committed to it.
            .set("group.id", format!("pressline-uncommitted-{}", std::process::id()))
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_uncommitted");
        Ok(Self(Some(config.create_with_context(Probe::default())?)))
    }

    /// The high watermark of each partition.
    pub fn high_watermarks(
        &self,
        topic: &str,
        partitions: impl Iterator<Item = Partition>,
    ) -> KafkaResult<BTreeMap<Partition, NextOffset>> {
        self.ask(topic, partitions, Offset::End)
    }

    /// The first record of this time (milliseconds since 1970) or later, of each partition that has one.
    pub fn offsets_at(
        &self,
        topic: &str,
        partitions: impl Iterator<Item = Partition>,
        time_ms: i64,
    ) -> KafkaResult<BTreeMap<Partition, NextOffset>> {
        self.ask(topic, partitions, Offset::Offset(time_ms))
    }

    /// One request to each broker. The protocol has -1 for the end in the place of a time, and so has `Offset::End`.
    fn ask(
        &self,
        topic: &str,
        partitions: impl Iterator<Item = Partition>,
        what: Offset,
    ) -> KafkaResult<BTreeMap<Partition, NextOffset>> {
        let Some(consumer) = &self.0 else { return Ok(BTreeMap::new()) };
        let mut list = TopicPartitionList::new();
        for partition in partitions {
            list.add_partition_offset(topic, partition, what)?;
        }
        let found = consumer.offsets_for_times(list, METADATA_TIMEOUT)?;
        let mut offsets = BTreeMap::new();
        for element in found.elements() {
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }
}

impl Drop for Uncommitted {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(drop_in_background);
    }
}
