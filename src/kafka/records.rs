//! Committed records of a topic in the order of their offsets, one partition after another, without a group.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::client::{self, METADATA_TIMEOUT, Role};
use super::consumer::uncommitted::Uncommitted;
use super::consumer::{SourceError, kafka_code, topic};
use super::offset_note::Partition;
use super::reach::{Probe, complaint};
use crate::config::KafkaConfig;

/// How long the broker may deliver nothing before the reading ends.
const SILENCE: Duration = Duration::from_secs(60);
/// How long other producers' transactions are waited for: longer than `transaction.timeout.ms` is by default in any client.
const DECIDED_WITHIN: Duration = Duration::from_secs(90);

/// Reads one partition after another.
pub struct Records {
    consumer: BaseConsumer<Probe>,
    config: ClientConfig,
    topic: String,
    partition: Partition,
}

impl Records {
    /// Connects. `group`: one that the user may read, since librdkafka wants one and asks for its coordinator; it is never joined and
    /// nothing is committed to it. Errors: a secret that cannot be read.
    pub fn open(kafka: &KafkaConfig, topic: &str, group: &str) -> Result<Self, SourceError> {
        let mut config =
            client::client_config(kafka, Role::Consumer).map_err(|e| SourceError::refused(e.to_string()))?;
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // What retention takes while we read must not pass for read.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("check.crcs", "true")
            .set("queued.max.messages.kbytes", "16384");
        let consumer = config
            .create_with_context(Probe::default())
            .map_err(|error| SourceError::refused(format!("cannot make a consumer: {error}")))?;
        Ok(Self { consumer, config, topic: topic.to_string(), partition: 0 })
    }

    /// Goes to a place.
    pub fn seek(&mut self, partition: Partition, offset: i64) -> Result<(), SourceError> {
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&self.topic, partition, Offset::Offset(offset));
        self.partition = partition;
        added.and_then(|()| self.consumer.assign(&list)).map_err(|error| self.failed(&error))
    }

    /// The next committed record; `None` at the end of the partition. Errors: the partition cannot be read; nothing came for
    /// a minute.
    pub fn next(&self) -> Result<Option<BorrowedMessage<'_>>, SourceError> {
        let begun = Instant::now();
        while begun.elapsed() < SILENCE {
            match self.consumer.poll(Duration::from_millis(200)) {
                None => {}
                Some(Ok(record)) if record.partition() == self.partition => return Ok(Some(record)),
                Some(Ok(_)) => {}
                Some(Err(KafkaError::PartitionEOF(partition))) if partition == self.partition => return Ok(None),
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => match error.rdkafka_error_code() {
                    // librdkafka goes on trying.
                    Some(
                        RDKafkaErrorCode::BrokerTransportFailure
                        | RDKafkaErrorCode::AllBrokersDown
                        | RDKafkaErrorCode::OperationTimedOut
                        | RDKafkaErrorCode::Resolve,
                    ) => {}
                    _ => return Err(self.failed(&error)),
                },
            }
        }
        let complaint = complaint(&self.consumer).map(|complaint| format!("; {complaint}")).unwrap_or_default();
        Err(SourceError::refused(format!(
            "topic {}, partition {}: nothing came for {} s{complaint}",
            self.topic,
            self.partition,
            SILENCE.as_secs()
        ))
        .about(|fault| fault.partition(&self.topic, self.partition)))
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    fn failed(&self, error: &KafkaError) -> SourceError {
        let right = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => "; grant this user Read on it",
            Some(RDKafkaErrorCode::GroupAuthorizationFailed) => "; grant this user Read on the group",
            _ => "",
        };
        SourceError::refused(format!("topic {}, partition {}: {error}{right}", self.topic, self.partition))
            .about(|fault| fault.partition(&self.topic, self.partition).code(kafka_code(error)))
    }

    /// Each partition's first offset and the one after its last; none where there is no such topic.
    pub fn ranges(&self) -> Result<BTreeMap<Partition, (i64, i64)>, SourceError> {
        let layout = client::topic_layout(self.consumer.client(), &self.topic, METADATA_TIMEOUT);
        let layout = layout.map_err(|error| self.failed(&error))?;
        let mut ranges = BTreeMap::new();
        for partition in layout.map(|layout| layout.partitions).unwrap_or_default() {
            ranges.insert(partition, topic::watermarks(&self.consumer, &self.topic, partition)?);
        }
        Ok(ranges)
    }

    /// The same up to the high watermarks of now: what lies behind another producer's open transaction is waited for until that
    /// is ended. Errors: it is not ended in time.
    pub fn decided_ranges(&self) -> Result<BTreeMap<Partition, (i64, i64)>, SourceError> {
        let mut ranges = self.ranges()?;
        let highs = Uncommitted::new(&self.config)
            .and_then(|asker| asker.high_watermarks(&self.topic, ranges.keys().copied()))
            .map_err(|error| self.failed(&error))?;
        let begun = Instant::now();
        for (&partition, range) in &mut ranges {
            let high = highs.get(&partition).copied().unwrap_or(range.1);
            while range.1 < high {
                if begun.elapsed() > DECIDED_WITHIN {
                    return Err(SourceError::refused(format!(
                        "topic {}, partition {partition}: a transaction has been open at offset {} for {} s, and what lies behind it \
                         cannot be read. Wait until its producer ends it, then run the command again",
                        self.topic,
                        range.1,
                        DECIDED_WITHIN.as_secs()
                    )).at(&self.topic, partition, range.1));
                }
                std::thread::sleep(Duration::from_millis(100));
                *range = topic::watermarks(&self.consumer, &self.topic, partition)?;
            }
        }
        Ok(ranges)
    }
}

/// Farther ahead than this a record is sought, not read up to.
const READ_ON: i64 = 1_000;

/// Single records by their offsets; quickest in ascending order.
pub struct RecordsAt {
    records: Records,
    ranges: BTreeMap<Partition, (i64, i64)>,
    /// Where the next record is read, if that is known.
    next: Cell<Option<(Partition, i64)>>,
}

/// What is at an offset.
pub enum At<'r> {
    /// A committed record.
    Record(BorrowedMessage<'r>),
    /// Retention has taken it; the first offset that is kept.
    Removed(i64),
    /// No record: compaction has taken it, its transaction was aborted, or it is behind the end of the topic.
    Nothing,
}

impl RecordsAt {
    /// Of a topic; `group` as of [`Records::open`]. Errors: it cannot be asked, or is not there.
    pub fn open(kafka: &KafkaConfig, topic: &str, group: &str) -> Result<Self, SourceError> {
        let records = Records::open(kafka, topic, group)?;
        let ranges = records.ranges()?;
        if ranges.is_empty() {
            return Err(SourceError::refused(format!("topic {topic} does not exist: its records are gone with it")));
        }
        Ok(Self { records, ranges, next: Cell::new(None) })
    }

    /// What is at this offset. Errors: the partition cannot be read.
    pub fn at(&mut self, partition: Partition, offset: i64) -> Result<At<'_>, SourceError> {
        let Some(&(low, high)) = self.ranges.get(&partition) else { return Ok(At::Nothing) };
        if offset < low {
            return Ok(At::Removed(low));
        }
        if offset >= high {
            return Ok(At::Nothing);
        }
        let is_near = |(at, next): (Partition, i64)| at == partition && (next..=next + READ_ON).contains(&offset);
        if !self.next.get().is_some_and(is_near) {
            self.records.seek(partition, offset)?;
        }
        self.next.set(None);
        loop {
            match self.records.next() {
                Ok(Some(record)) if record.offset() < offset => {}
                Ok(Some(record)) => {
                    let found = record.offset();
                    // One that was read too far is not given again.
                    self.next.set((found == offset).then_some((partition, found + 1)));
                    return Ok(if found == offset { At::Record(record) } else { At::Nothing });
                }
                Ok(None) => return Ok(At::Nothing),
                // Retention may have taken it in between.
                Err(error) => {
                    let (low, _) = topic::watermarks(&self.records.consumer, &self.records.topic, partition)?;
                    return if offset < low { Ok(At::Removed(low)) } else { Err(error) };
                }
            }
        }
    }
}
