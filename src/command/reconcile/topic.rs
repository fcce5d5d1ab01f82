//! The topic's side: committed records in the order of their offsets, and the dead letters of a sink.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::OffsetsError;
use crate::config::KafkaConfig;
use crate::kafka::client;
use crate::kafka::client::{METADATA_TIMEOUT, Role};
use crate::kafka::consumer::topic;
use crate::kafka::dead_letter::header;
use crate::kafka::offset_note::Partition;
use crate::kafka::reach::{Probe, complaint};
use crate::runtime::supervise::drop_in_background;
use crate::sink::VIEW;

/// How long the broker may deliver nothing before the comparison ends.
const SILENCE: Duration = Duration::from_secs(60);

/// Reads one partition after another.
pub struct Records {
    consumer: BaseConsumer<Probe>,
    topic: String,
    partition: Partition,
}

impl Records {
    /// Connects. Errors: a secret that cannot be read.
    pub fn open(kafka: &KafkaConfig, topic: &str) -> Result<Self, OffsetsError> {
        let mut config =
            client::client_config(kafka, Role::Consumer).map_err(|e| OffsetsError::Refused(e.to_string()))?;
        config
            // librdkafka wants one; it is never joined and nothing is committed to it.
            .set("group.id", format!("pressline-reconcile-{}", std::process::id()))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("enable.partition.eof", "true")
            // What retention takes while we read must not pass for compared.
            .set("auto.offset.reset", "error")
            .set("isolation.level", "read_committed")
            .set("check.crcs", "true")
            .set("queued.max.messages.kbytes", "16384");
        let consumer = config
            .create_with_context(Probe::default())
            .map_err(|error| OffsetsError::Refused(format!("cannot make a consumer: {error}")))?;
        Ok(Self { consumer, topic: topic.to_string(), partition: 0 })
    }

    /// Goes to a place.
    pub fn seek(&mut self, partition: Partition, offset: i64) -> Result<(), OffsetsError> {
        let mut list = TopicPartitionList::new();
        let added = list.add_partition_offset(&self.topic, partition, Offset::Offset(offset));
        self.partition = partition;
        added.and_then(|()| self.consumer.assign(&list)).map_err(|error| self.failed(&error))
    }

    /// The next committed record; `None` at the end of the partition. Errors: the partition cannot be read; nothing came for
    /// a minute.
    pub fn next(&self) -> Result<Option<BorrowedMessage<'_>>, OffsetsError> {
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
        Err(OffsetsError::Refused(format!(
            "topic {}, partition {}: nothing came for {} s{complaint}",
            self.topic,
            self.partition,
            SILENCE.as_secs()
        )))
    }

    fn failed(&self, error: &KafkaError) -> OffsetsError {
        OffsetsError::Refused(format!("topic {}, partition {}: {error}", self.topic, self.partition))
    }

    /// Each partition's first offset and the one after its last; none where there is no such topic.
    fn ranges(&self) -> Result<BTreeMap<Partition, (i64, i64)>, OffsetsError> {
        let layout = client::topic_layout(self.consumer.client(), &self.topic, METADATA_TIMEOUT);
        let layout = layout.map_err(|error| self.failed(&error))?;
        let mut ranges = BTreeMap::new();
        for partition in layout.map(|layout| layout.partitions).unwrap_or_default() {
            ranges.insert(partition, topic::watermarks(&self.consumer, &self.topic, partition)?);
        }
        Ok(ranges)
    }
}

/// Which letters are looked for.
pub struct LettersOf<'a> {
    /// The topic that they are about.
    pub topic: &'a str,
    /// The sink that wrote them.
    pub sink: &'a str,
    /// The offsets that are compared, of each partition.
    pub spans: &'a BTreeMap<Partition, (i64, i64)>,
}

/// What a sink's dead-letter topic says of the offsets that are compared.
#[derive(Default)]
pub struct Letters {
    /// Partition → offsets of dead letters, ascending, each once. Eight bytes each: the circuit breaker keeps them few.
    pub dead: BTreeMap<Partition, Vec<i64>>,
    /// Partition and sentence of each insert on which a materialized view failed. Its rows are in the table.
    pub views: BTreeSet<(Partition, String)>,
}

/// Reads a sink's dead letters; none where there is no dead-letter topic.
pub fn dead_letters(kafka: &KafkaConfig, dead_topic: &str, wanted: &LettersOf<'_>) -> Result<Letters, OffsetsError> {
    let mut letters = Letters::default();
    let mut records = Records::open(kafka, dead_topic)?;
    for (partition, (low, high)) in records.ranges()? {
        if low == high {
            continue;
        }
        records.seek(partition, low)?;
        while let Some(letter) = records.next()? {
            match origin(&letter, wanted) {
                Some((of, _)) if text(&letter, header::REASON) == Some(VIEW) => {
                    let what = [header::FIELD, header::MESSAGE].map(|name| text(&letter, name).unwrap_or_default());
                    letters.views.insert((of, format!("{} ({})", what[1], what[0])));
                }
                Some((of, offset)) => letters.dead.entry(of).or_default().push(offset),
                None => {}
            }
            if letter.offset() + 1 >= high {
                break;
            }
        }
    }
    for offsets in letters.dead.values_mut() {
        offsets.sort_unstable();
        offsets.dedup();
    }
    Ok(letters)
}

fn text<'l>(letter: &'l BorrowedMessage<'_>, name: &str) -> Option<&'l str> {
    let header = letter.headers()?.iter().find(|header| header.key == name)?;
    std::str::from_utf8(header.value?).ok()
}

fn origin(letter: &BorrowedMessage<'_>, wanted: &LettersOf<'_>) -> Option<(Partition, i64)> {
    let text = |name: &str| text(letter, name);
    if text(header::SINK) != Some(wanted.sink) || text(header::TOPIC) != Some(wanted.topic) {
        return None;
    }
    let (partition, offset) = (text(header::PARTITION)?.parse().ok()?, text(header::OFFSET)?.parse().ok()?);
    let (from, to) = wanted.spans.get(&partition)?;
    (*from..*to).contains(&offset).then_some((partition, offset))
}

/// Whether records of the topic go by themselves, so that rows may be left without. Where it cannot be asked, they do not.
pub async fn is_compacted(kafka: &KafkaConfig, topic: &str) -> bool {
    let Ok(config) = client::client_config(kafka, Role::Producer) else { return false };
    let Ok(admin) = config.create::<AdminClient<DefaultClientContext>>() else { return false };
    let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
    let answers = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options).await;
    drop_in_background(admin);
    let entries = answers.into_iter().flatten().flatten().flat_map(|resource| resource.entries);
    entries
        .filter(|entry| entry.name == "cleanup.policy")
        .any(|entry| entry.value.is_some_and(|policy| policy.split(',').any(|word| word.trim() == "compact")))
}
