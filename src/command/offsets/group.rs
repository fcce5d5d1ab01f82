//! A consumer group, asked and changed from outside: without ever being its member.

use std::collections::BTreeMap;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::OffsetsError;
use crate::config::KafkaConfig;
use crate::kafka::client;
use crate::kafka::client::{METADATA_TIMEOUT, Probe, Role};
use crate::kafka::consumer::{committed, position};
use crate::kafka::coordinator::{CommittedOffset, NextOffset, OffsetNote, Partition};
use crate::kafka::topic_id;
use crate::kafka::topic_id::TopicId;

/// A group's view of one topic.
pub struct Group {
    /// Its name.
    pub name: String,
    /// The topic.
    pub topic: String,
    /// The topic's id, where the brokers have such.
    pub topic_id: Option<TopicId>,
    /// First offset and the one after the last committed record, of each partition.
    pub ranges: BTreeMap<Partition, (NextOffset, NextOffset)>,
    consumer: BaseConsumer<Probe>,
}

impl Group {
    /// Connects, and looks at the topic. Errors: no broker answers; there is no such topic.
    pub fn open(kafka: &KafkaConfig, topic: &str, name: &str, topic_ids: bool) -> Result<Self, OffsetsError> {
        let mut config =
            client::client_config(kafka, Role::Consumer).map_err(|e| OffsetsError::Refused(e.to_string()))?;
        config
            .set("group.id", name)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("isolation.level", "read_committed");
        let consumer: BaseConsumer<Probe> = config
            .create_with_context(Probe::default())
            .map_err(|error| OffsetsError::Refused(format!("cannot make a consumer: {error}")))?;
        let mut group = Self {
            name: name.to_string(),
            topic: topic.to_string(),
            topic_id: None,
            ranges: BTreeMap::new(),
            consumer,
        };
        let layout = position::layout(&group.consumer, topic).map_err(|error| group.explained(&error))?;
        for partition in layout.partitions {
            group.ranges.insert(partition, position::watermarks(&group.consumer, topic, partition)?);
        }
        if topic_ids {
            group.topic_id = topic_id::topic_id(group.consumer.client(), topic, METADATA_TIMEOUT)
                .map_err(|error| OffsetsError::Refused(format!("topic {topic}: {error}")))?;
        }
        Ok(group)
    }

    /// The error with what librdkafka complained about before.
    fn explained(&self, error: &crate::kafka::consumer::SourceError) -> OffsetsError {
        let complaint = client::complaint(&self.consumer).map(|complaint| format!("; {complaint}")).unwrap_or_default();
        OffsetsError::Refused(format!("{error}{complaint}"))
    }

    /// What the group has committed of the topic; waits for a transaction that is not ended.
    pub fn committed(&self) -> Result<BTreeMap<Partition, CommittedOffset>, OffsetsError> {
        let partitions = self.ranges.keys().copied().collect();
        committed::committed(&self.consumer, &self.topic, &client::TopicLayout { partitions })
            .map_err(|error| self.explained(&error))
    }

    /// Its members that live, each as `client id (host)`.
    pub fn members(&self) -> Result<Vec<String>, OffsetsError> {
        let groups = self.consumer.fetch_group_list(Some(&self.name), METADATA_TIMEOUT).map_err(|error| {
            OffsetsError::Refused(format!("group {}: its members are not known: {error}", self.name))
        })?;
        let members = groups.groups().iter().flat_map(|group| group.members());
        Ok(members.map(|member| format!("{} ({})", member.client_id(), member.client_host())).collect())
    }

    /// Refuses while the group has members: a running consumer would not notice, or overwrite what is set.
    pub fn must_rest(&self) -> Result<(), OffsetsError> {
        let members = self.members()?;
        if members.is_empty() {
            return Ok(());
        }
        let count = if members.len() == 1 { "a live member".into() } else { format!("{} live members", members.len()) };
        Err(OffsetsError::Refused(format!(
            "group {} has {count}: {}. Stop it first: a running consumer would not notice that its position was set, or \
             overwrite it. One that was killed counts until its session ends, after 30 s unless set otherwise",
            self.name,
            members.join(", ")
        )))
    }

    /// Commits a partition's offset with a note. The broker refuses it while the group has members.
    pub fn commit(&self, partition: Partition, next: NextOffset, note: &OffsetNote) -> Result<(), OffsetsError> {
        let list = committed::offsets_with_notes(&self.topic, &BTreeMap::from([(partition, next)]), |_| note.clone());
        Ok(committed::commit(&self.consumer, &list)?)
    }

    /// Where each partition has its first record of this time (milliseconds since 1970) or later; the end where none.
    pub fn offsets_at(&self, time_ms: i64) -> Result<BTreeMap<Partition, NextOffset>, OffsetsError> {
        let failed = |error| OffsetsError::Refused(format!("topic {}: offsets of a time: {error}", self.topic));
        let mut list = TopicPartitionList::new();
        for &partition in self.ranges.keys() {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(time_ms)).map_err(failed)?;
        }
        let found = self.consumer.offsets_for_times(list, METADATA_TIMEOUT).map_err(failed)?;
        let mut offsets: BTreeMap<_, _> = self.ranges.iter().map(|(partition, (_, end))| (*partition, *end)).collect();
        for element in found.elements() {
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }
}
