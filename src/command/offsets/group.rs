//! A consumer group, asked and changed from outside: without ever being its member.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;

use super::OffsetsError;
use crate::config::KafkaConfig;
use crate::kafka::client::{METADATA_TIMEOUT, Role};
use crate::kafka::consumer::uncommitted::Uncommitted;
use crate::kafka::consumer::{committed, topic};
use crate::kafka::offset_note::{CommittedOffset, NextOffset, OffsetNote, Partition};
use crate::kafka::reach::{Probe, complaint};
use crate::kafka::topic_id::TopicId;
use crate::kafka::{client, topic_id};
use crate::runtime::supervise::drop_in_background;

/// How long it is waited for the first record of partitions, to tell whether there is one.
const FIRST_RECORD_WITHIN: Duration = Duration::from_secs(5);

/// A group's view of one topic.
pub struct Group {
    /// Its name.
    pub name: String,
    /// The topic.
    pub topic: String,
    /// The topic's id, where the brokers have such.
    pub topic_id: Option<TopicId>,
    /// First offset and the one after the last committed record (the last stable offset), of each partition.
    pub ranges: BTreeMap<Partition, (NextOffset, NextOffset)>,
    /// The high watermark of each partition. What lies between is behind an open transaction.
    pub highs: BTreeMap<Partition, NextOffset>,
    uncommitted: Uncommitted,
    config: ClientConfig,
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
        let failed = |error| OffsetsError::Refused(format!("cannot make a consumer: {error}"));
        let consumer: BaseConsumer<Probe> = config.create_with_context(Probe::default()).map_err(failed)?;
        let mut group = Self {
            name: name.to_string(),
            topic: topic.to_string(),
            topic_id: None,
            ranges: BTreeMap::new(),
            highs: BTreeMap::new(),
            uncommitted: Uncommitted::new(&config).map_err(failed)?,
            config,
            consumer,
        };
        let layout = topic::layout(&group.consumer, topic).map_err(|error| group.explained(&error))?;
        // Before the ranges: what is committed in between must not pass for open.
        let highs = group.uncommitted.high_watermarks(topic, layout.partitions.iter().copied());
        group.highs =
            highs.map_err(|error| OffsetsError::Refused(format!("topic {topic}: its high watermarks: {error}")))?;
        for partition in layout.partitions {
            group.ranges.insert(partition, topic::watermarks(&group.consumer, topic, partition)?);
        }
        if topic_ids {
            group.topic_id = topic_id::topic_id(group.consumer.client(), topic, METADATA_TIMEOUT)
                .map_err(|error| OffsetsError::Refused(format!("topic {topic}: {error}")))?;
        }
        Ok(group)
    }

    /// The error with what librdkafka complained about before.
    fn explained(&self, error: &crate::kafka::consumer::SourceError) -> OffsetsError {
        let complaint = complaint(&self.consumer).map(|complaint| format!("; {complaint}")).unwrap_or_default();
        OffsetsError::Refused(format!("{error}{complaint}"))
    }

    /// Whether there is such a topic.
    pub fn has_topic(&self, topic: &str) -> Result<bool, OffsetsError> {
        let layout = client::topic_layout(self.consumer.client(), topic, METADATA_TIMEOUT);
        Ok(layout
            .map_err(|error| crate::kafka::consumer::transient(&error, &format!("topic {topic}: no metadata")))?
            .is_some())
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

    /// Where each partition has its first record of this time (milliseconds since 1970) or later that is committed; the end
    /// where none.
    pub fn offsets_at(&self, time_ms: i64) -> Result<BTreeMap<Partition, NextOffset>, OffsetsError> {
        let found = self
            .uncommitted
            .offsets_at(&self.topic, self.ranges.keys().copied(), time_ms)
            .map_err(|error| OffsetsError::Refused(format!("topic {}: offsets of a time: {error}", self.topic)))?;
        let offset =
            |partition: &Partition, end: NextOffset| found.get(partition).map_or(end, |offset| end.min(*offset));
        Ok(self.ranges.iter().map(|(partition, (_, end))| (*partition, offset(partition, *end))).collect())
    }

    /// The partitions in which no record comes from these offsets on: what lies between them and the end are markers of
    /// transactions, aborted records, or offsets that compaction has taken. A partition that does not answer in time is not
    /// among them.
    pub fn without_record(
        &self,
        offsets: &BTreeMap<Partition, NextOffset>,
    ) -> Result<BTreeSet<Partition>, OffsetsError> {
        let failed = |error| OffsetsError::Refused(format!("topic {}: its newest records: {error}", self.topic));
        let mut empty = BTreeSet::new();
        if offsets.is_empty() {
            return Ok(empty);
        }
        let mut config = self.config.clone();
        // Only whether there is a record: one small piece of each partition, and no wait for more.
        config
            .set("enable.partition.eof", "true")
            .set("auto.offset.reset", "error")
            .set("fetch.message.max.bytes", "65536")
            .set("fetch.wait.max.ms", "100");
        let consumer: BaseConsumer<Probe> = config.create_with_context(Probe::default()).map_err(failed)?;
        consumer.assign(&topic::assignment(&self.topic, offsets)).map_err(failed)?;
        let mut unknown: BTreeSet<Partition> = offsets.keys().copied().collect();
        let begun = Instant::now();
        while !unknown.is_empty() && begun.elapsed() < FIRST_RECORD_WITHIN {
            match consumer.poll(Duration::from_millis(100)) {
                Some(Ok(record)) => drop(unknown.remove(&record.partition())),
                Some(Err(KafkaError::PartitionEOF(partition))) if unknown.remove(&partition) => {
                    empty.insert(partition);
                }
                _ => {}
            }
        }
        drop_in_background(consumer);
        Ok(empty)
    }

    /// Partition → offsets behind an open transaction, which nobody can read before it ends: the first, and the one after the
    /// last.
    pub fn behind_transactions(&self) -> BTreeMap<Partition, (NextOffset, NextOffset)> {
        let high = |partition: &Partition, stable| self.highs.get(partition).copied().filter(|high| *high > stable);
        let ranges = self.ranges.iter();
        ranges.filter_map(|(partition, (_, stable))| Some((*partition, (*stable, high(partition, *stable)?)))).collect()
    }
}
