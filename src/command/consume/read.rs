//! Reads partitions from a start to their end, or on and on.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};

use super::{ConsumeArgs, ConsumeError, LAST, Start};
use crate::kafka::client::{METADATA_TIMEOUT, Role, topic_layout};
use crate::kafka::connection::Connected;
use crate::kafka::consumer::uncommitted::Uncommitted;
use crate::kafka::reach::{Probe, reach};
use crate::runtime::stdio;

/// How long one poll waits, and so how late a signal is noticed at most.
const POLL: Duration = Duration::from_millis(200);

/// What [`Records::poll`] has.
pub enum Next<'a> {
    /// A record.
    Record(BorrowedMessage<'a>),
    /// A record beyond the end that the partition had at the start, or the end of one partition.
    Skipped,
    /// Nothing for now.
    Idle,
    /// Every partition was read to its end.
    End,
}

/// Records of some partitions of one topic.
pub struct Records {
    consumer: BaseConsumer<Probe>,
    topic: String,
    follow: bool,
    /// Partition → offset at which it is done; only those that are not done yet.
    open: BTreeMap<i32, i64>,
}

impl Records {
    /// Finds where to begin, and begins. Errors: no broker, topic or partition.
    pub fn open(args: &ConsumeArgs, connected: &Connected) -> Result<Self, ConsumeError> {
        let topic = &args.topic;
        let kafka = |source| ConsumeError::Kafka { what: format!("topic {topic}"), source };
        let mut config = connected.client_config(Role::Consumer)?;
        config
            // librdkafka wants one; it is never joined and nothing is committed to it, so the broker never hears of it.
            .set("group.id", format!("pressline-consume-{}", std::process::id()))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // Only for a position that retention takes away while we read.
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", if args.uncommitted { "read_uncommitted" } else { "read_committed" });
        let consumer = config.create_with_context(Probe::default()).map_err(kafka)?;
        reach(&consumer, Some(topic))
            .map_err(|unreachable| ConsumeError::Unreachable(unreachable.at(&connected.kafka.bootstrap_servers)))?;
        let partitions = partitions(&consumer, args)?;
        let mut this = Self { consumer, topic: topic.clone(), follow: args.follow, open: BTreeMap::new() };
        let times = match start(args) {
            Start::Time(time) => Uncommitted::new(&config)
                .and_then(|asker| asker.offsets_at(topic, partitions.iter().copied(), time.as_millisecond()))
                .map_err(|source| ConsumeError::Kafka { what: format!("topic {topic}: offsets of a time"), source })?,
            _ => BTreeMap::new(),
        };
        this.assign(&partitions, start(args), &times)?;
        Ok(this)
    }

    /// `times`: partition → first offset of the time to begin at, where there is one.
    fn assign(&mut self, partitions: &[i32], start: Start, times: &BTreeMap<i32, i64>) -> Result<(), ConsumeError> {
        let mut list = TopicPartitionList::new();
        for &partition in partitions {
            let (low, high) = self
                .consumer
                .fetch_watermarks(&self.topic, partition, METADATA_TIMEOUT)
                .map_err(|source| self.kafka(partition, source))?;
            let from = match start {
                Start::Offset(offset) => offset.clamp(low, high),
                Start::Last(count) => high.saturating_sub(count).max(low),
                Start::Time(_) => times.get(&partition).map_or(high, |offset| (*offset).clamp(low, high)),
                Start::End => high,
            };
            if from < high {
                self.open.insert(partition, high);
            }
            if from < high || self.follow {
                list.add_partition_offset(&self.topic, partition, Offset::Offset(from))
                    .map_err(|source| self.kafka(partition, source))?;
            }
        }
        let assigned = self.consumer.assign(&list);
        assigned.map_err(|source| ConsumeError::Kafka { what: format!("topic {}", self.topic), source })
    }

    /// The next record, waiting a little. Errors: a partition that cannot be read.
    pub fn poll(&mut self) -> Result<Next<'_>, ConsumeError> {
        if self.open.is_empty() && !self.follow {
            return Ok(Next::End);
        }
        let polled = self.consumer.poll(POLL);
        match polled {
            None => Ok(Next::Idle),
            Some(Ok(message)) => {
                if self.follow {
                    return Ok(Next::Record(message));
                }
                let (partition, offset) = (message.partition(), message.offset());
                let Some(&end) = self.open.get(&partition) else { return Ok(Next::Skipped) };
                if offset + 1 >= end {
                    self.open.remove(&partition);
                }
                Ok(if offset < end { Next::Record(message) } else { Next::Skipped })
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                self.open.remove(&partition);
                Ok(Next::Skipped)
            }
            Some(Err(source)) => {
                // librdkafka goes on trying to reach brokers by itself; what it gives up on is told.
                match source.rdkafka_error_code() {
                    Some(code) if transport(code) => {
                        stdio::tell(format_args!("topic {}: {source}; still trying", self.topic));
                        Ok(Next::Idle)
                    }
                    _ => Err(ConsumeError::Kafka { what: format!("reading topic {}", self.topic), source }),
                }
            }
        }
    }

    fn kafka(&self, partition: i32, source: KafkaError) -> ConsumeError {
        ConsumeError::Kafka { what: format!("topic {} partition {partition}", self.topic), source }
    }
}

/// Whether brokers cannot be reached for a while.
pub fn transport(code: rdkafka::types::RDKafkaErrorCode) -> bool {
    use rdkafka::types::RDKafkaErrorCode as Code;
    matches!(code, Code::BrokerTransportFailure | Code::AllBrokersDown | Code::OperationTimedOut | Code::Resolve)
}

fn start(args: &ConsumeArgs) -> Start {
    match args.from {
        Some(start) => start,
        None if args.from_beginning => Start::Offset(0),
        None if args.follow => Start::End,
        None => Start::Last(LAST),
    }
}

fn partitions(consumer: &BaseConsumer<Probe>, args: &ConsumeArgs) -> Result<Vec<i32>, ConsumeError> {
    let layout = topic_layout(consumer.client(), &args.topic, METADATA_TIMEOUT)
        .map_err(|source| ConsumeError::Kafka { what: format!("topic {}", args.topic), source })?
        .ok_or_else(|| ConsumeError::NoTopic(args.topic.clone()))?;
    let missing = args.partition.iter().find(|p| !layout.partitions.contains(p));
    match missing {
        Some(&partition) => {
            Err(ConsumeError::NoPartition { topic: args.topic.clone(), partition, count: layout.partitions.len() })
        }
        None if args.partition.is_empty() => Ok(layout.partitions),
        None => Ok(args.partition.clone()),
    }
}
