//! The one reader of the output topic: a thread of its own, in no consumer group, committing nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::metrics::counter;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tokio::runtime::Handle;

use super::history::Arrived;
use super::hub::Hub;
use super::metrics::RECORDS;
use super::press::{Decoder, Press, Undecoded};
use crate::avro::Shape;
use crate::avro::registry::{Registry, SchemaId};
use crate::config::KafkaConfig;
use crate::kafka::client::{METADATA_TIMEOUT, Role, client_config, topic_layout};
use crate::kafka::reach::Probe;
use crate::runtime::supervise::sleep_unless;

/// What is gathered into one frame.
const FRAME: Duration = Duration::from_millis(250);
/// Longest wait for a record.
const POLL: Duration = Duration::from_millis(50);
/// What is read of the past of each partition: an hour, for the counts; so many records at least, for watchers who come back to
/// a topic where little happens, and at most.
const PAST: Duration = Duration::from_secs(3_600);
const LEAST_PAST_RECORDS: i64 = 1_000;
const MOST_PAST_RECORDS: i64 = 100_000;
/// Watchers who come back wait so long for a partition whose past cannot be read.
const MOST_CATCHING_UP: Duration = Duration::from_secs(30);
/// Before the topic is looked for again, and before it is asked for new partitions.
const RETRY: Duration = Duration::from_secs(3);
const LOOK_FOR_PARTITIONS: Duration = Duration::from_secs(60);

/// What is read, and where it goes.
pub struct Reader {
    /// How to reach Kafka.
    pub kafka: KafkaConfig,
    /// The output topic.
    pub topic: String,
    /// Its schemas.
    pub registry: Registry,
    /// Runs the registry's requests.
    pub runtime: Handle,
    /// Gets what was read.
    pub hub: Arc<Hub>,
    /// Ends it.
    pub stop: Arc<AtomicBool>,
}

/// Where the reader stands.
struct Open {
    consumer: BaseConsumer<Probe>,
    partitions: BTreeSet<i32>,
}

impl Reader {
    /// Reads until it is stopped. What fails is tried again, and said on the page meanwhile.
    pub fn run(self) {
        let mut decoder = Decoder::default();
        let mut next: BTreeMap<i32, i64> = BTreeMap::new();
        while !self.stop.load(Ordering::Relaxed) {
            match self.open(&next) {
                Ok(Some(open)) => {
                    self.hub.set_problem(None);
                    self.read(&open, &mut decoder, &mut next);
                }
                Ok(None) => {
                    self.hub.set_problem(Some("The topic does not exist yet."));
                    sleep_unless(RETRY, &self.stop);
                }
                Err(reason) => {
                    tracing::warn!(topic = %self.topic, %reason, "the map's reader cannot read the topic; it tries again");
                    self.hub.set_problem(Some("Kafka does not answer just now."));
                    sleep_unless(RETRY, &self.stop);
                }
            }
        }
    }

    /// `next`: where partitions go on that were read before. `Ok(None)`: no such topic. Errors: what librdkafka said.
    fn open(&self, next: &BTreeMap<i32, i64>) -> Result<Option<Open>, String> {
        let mut config = client_config(&self.kafka, Role::Consumer).map_err(|error| error.to_string())?;
        config
            // librdkafka wants one; it is never joined and nothing is committed to it, so the broker never hears of it.
            .set("group.id", format!("pressline-web-{}", std::process::id()))
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("isolation.level", "read_committed")
            // So that it is known when the past is read.
            .set("enable.partition.eof", "true")
            // Watchers are shown a sample: there is no use in much that waits.
            .set("queued.max.messages.kbytes", "4096");
        let consumer: BaseConsumer<Probe> =
            config.create_with_context(Probe::default()).map_err(|error| error.to_string())?;
        let layout =
            topic_layout(consumer.client(), &self.topic, METADATA_TIMEOUT).map_err(|error| error.to_string())?;
        let Some(layout) = layout else { return Ok(None) };
        let mut list = TopicPartitionList::new();
        let mut partitions = BTreeSet::new();
        let since = now_ms() - i64::try_from(PAST.as_millis()).unwrap_or(0);
        let times = self.offsets_since(&consumer, &layout.partitions, since);
        for partition in layout.partitions {
            let (low, high) = consumer
                .fetch_watermarks(&self.topic, partition, METADATA_TIMEOUT)
                .map_err(|error| format!("partition {partition}: {error}"))?;
            let past = times.get(&partition).copied().unwrap_or(high);
            let past = past.clamp(high - MOST_PAST_RECORDS, high - LEAST_PAST_RECORDS);
            let from = next.get(&partition).copied().unwrap_or(past).clamp(low, high);
            if next.get(&partition) != Some(&from) {
                self.hub.begin(partition, from);
            }
            list.add_partition_offset(&self.topic, partition, Offset::Offset(from))
                .map_err(|error| error.to_string())?;
            partitions.insert(partition);
        }
        consumer.assign(&list).map_err(|error| error.to_string())?;
        Ok(Some(Open { consumer, partitions }))
    }

    /// Partition → first offset of a time. A broker that cannot say so has no past that is shown.
    fn offsets_since(&self, consumer: &BaseConsumer<Probe>, partitions: &[i32], since_ms: i64) -> BTreeMap<i32, i64> {
        let mut asked = TopicPartitionList::new();
        for partition in partitions {
            let _ = asked.add_partition_offset(&self.topic, *partition, Offset::Offset(since_ms));
        }
        let answer = consumer.offsets_for_times(asked, METADATA_TIMEOUT);
        let found = answer.map(|list| {
            let offset = |element: rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
                Offset::Offset(offset) if offset >= 0 => Some((element.partition(), offset)),
                _ => None,
            };
            list.elements().into_iter().filter_map(offset).collect()
        });
        found.unwrap_or_default()
    }

    /// Until it is stopped, fails, or it is time to look for new partitions.
    fn read(&self, open: &Open, decoder: &mut Decoder, next: &mut BTreeMap<i32, i64>) {
        let mut look = Instant::now() + LOOK_FOR_PARTITIONS;
        let mut frame_ends = Instant::now() + FRAME;
        let (mut past, mut fresh) = (Vec::new(), Vec::new());
        // Partitions whose end was not reached yet: what they bring is the past.
        let mut behind = open.partitions.clone();
        let (began, mut has_past) = (Instant::now(), false);
        while !self.stop.load(Ordering::Relaxed) {
            match open.consumer.poll(POLL) {
                Some(Ok(message)) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    let is_past = behind.contains(&partition);
                    let arrived = self.arrived(&message, decoder, is_past);
                    next.insert(partition, offset + 1);
                    if is_past { past.extend(arrived) } else { fresh.extend(arrived) }
                }
                Some(Err(KafkaError::PartitionEOF(partition))) => {
                    behind.remove(&partition);
                }
                Some(Err(error)) => {
                    tracing::debug!(topic = %self.topic, %error, "the map's reader");
                    if error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown) {
                        self.hub.set_problem(Some("Kafka does not answer just now."));
                    }
                    if is_final(&error) {
                        tracing::warn!(topic = %self.topic, %error, "the map's reader begins again");
                        break;
                    }
                }
                None => {}
            }
            if Instant::now() >= frame_ends || past.len() + fresh.len() >= 10_000 {
                self.hub.remember(&past);
                self.hub.show(&fresh, now_ms());
                has_past |= !past.is_empty();
                if behind.is_empty() && has_past {
                    self.hub.refresh(now_ms());
                    has_past = false;
                }
                if behind.is_empty() || began.elapsed() > MOST_CATCHING_UP {
                    self.hub.set_ready();
                }
                past.clear();
                fresh.clear();
                frame_ends = Instant::now() + FRAME;
                if Instant::now() >= look || self.hub.problem().is_some() {
                    look = Instant::now() + LOOK_FOR_PARTITIONS;
                    if self.has_new_partitions(open) {
                        break;
                    }
                }
            }
        }
        self.hub.remember(&past);
        self.hub.show(&fresh, now_ms());
        if has_past || !past.is_empty() {
            self.hub.refresh(now_ms());
        }
    }

    fn has_new_partitions(&self, open: &Open) -> bool {
        let known = open.consumer.client().fetch_metadata(Some(&self.topic), Duration::from_millis(500));
        if known.is_ok() {
            self.hub.set_problem(None);
        }
        known.is_ok_and(|known| known.topics().iter().any(|topic| topic.partitions().len() > open.partitions.len()))
    }

    fn arrived(&self, message: &BorrowedMessage<'_>, decoder: &mut Decoder, is_past: bool) -> Option<Arrived> {
        let press = message.payload().and_then(|value| self.decode(value, decoder));
        let outcome = if press.is_some() { "shown" } else { "unreadable" };
        counter!(RECORDS, "outcome" => outcome).increment(1);
        let at_ms =
            if is_past { message.timestamp().to_millis().unwrap_or_else(now_ms).min(now_ms()) } else { now_ms() };
        Some(Arrived { partition: message.partition(), offset: message.offset(), at_ms, press: press? })
    }

    fn decode(&self, value: &[u8], decoder: &mut Decoder) -> Option<Press> {
        loop {
            match decoder.decode(value) {
                Ok(press) => return Some(press),
                Err(Undecoded::Unreadable) => return None,
                Err(Undecoded::Schema(id)) => decoder.learn(id, self.schema(id)?),
            }
        }
    }

    /// Waits for a registry that does not answer. `None`: it has no such schema, or one that cannot be read.
    fn schema(&self, id: u32) -> Option<Shape> {
        loop {
            match self.runtime.block_on(self.registry.schema_by_id(SchemaId(id))) {
                Ok(text) => {
                    let shape = Shape::registered(&text);
                    return shape.inspect_err(|reason| tracing::warn!(id, %reason, "a schema cannot be read")).ok();
                }
                Err(error) if error.is_retriable() && !self.stop.load(Ordering::Relaxed) => {
                    tracing::warn!(id, %error, "the schema registry does not answer; the map waits for it");
                    self.hub.set_problem(Some("The schema registry does not answer just now."));
                    sleep_unless(RETRY, &self.stop);
                    self.hub.set_problem(None);
                }
                Err(error) => {
                    tracing::warn!(id, %error, "a record's schema cannot be had; it is not shown");
                    return None;
                }
            }
        }
    }
}

/// Whether librdkafka does not get over it by itself.
fn is_final(error: &KafkaError) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        error.rdkafka_error_code(),
        Some(Code::UnknownTopicOrPartition | Code::UnknownTopic | Code::UnknownPartition)
    )
}

fn now_ms() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(now.as_millis()).unwrap_or(i64::MAX)
}
