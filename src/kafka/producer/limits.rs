//! What the topics that are written to take: how large a batch, which timestamps. Read at the start, and again when a broker
//! refuses what should fit, since somebody may have changed them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::types::RDKafkaErrorCode;

use super::OutputRecord;
use crate::config::KafkaConfig;
use crate::kafka::admin;
use crate::kafka::client::{self, Role};
use crate::kafka::reach::Probe;
use crate::runtime::supervise::drop_in_background;

/// What a batch with one record has beside key, value and headers, at most: its own header and the record's lengths.
const OVERHEAD: usize = 100;
/// The same of a header: its lengths.
const HEADER_OVERHEAD: usize = 10;
/// librdkafka's defaults of `batch.size` and `message.max.bytes`.
const DEFAULT_BYTES: usize = 1_000_000;
/// A timestamp this near to a limit, but at most a tenth of it, counts as beyond: its record is not at the broker yet.
const MARGIN_MS: i64 = 60_000;
/// A topic that takes less than this takes no dead letter: its headers name topic, reason and column.
pub const SMALLEST_DEAD_LETTER: usize = 4096;

/// What one topic takes. What is not known is not limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TopicLimits {
    /// The largest batch of records, in bytes: `max.message.bytes`, or `segment.bytes` where that is less.
    pub batch_bytes: Option<usize>,
    /// How far a record's timestamp may lie in the past.
    pub before_ms: Option<i64>,
    /// How far it may lie in the future.
    pub after_ms: Option<i64>,
}

impl TopicLimits {
    /// From a topic's settings.
    pub fn of(settings: &BTreeMap<String, String>) -> Self {
        let number = |name: &str| settings.get(name).and_then(|value| value.parse::<i64>().ok());
        let bytes = |name: &str| number(name).and_then(|bytes| usize::try_from(bytes).ok());
        let batch_bytes = [bytes("max.message.bytes"), bytes("segment.bytes")].into_iter().flatten().min();
        if settings.get("message.timestamp.type").is_some_and(|kind| kind == "LogAppendTime") {
            // The broker puts its own time in the place of any.
            return Self { batch_bytes, before_ms: None, after_ms: None };
        }
        // Before Kafka 3.6 there was one limit for both.
        let both = number("message.timestamp.difference.max.ms");
        let limit = |name: &str| number(name).or(both).filter(|ms| *ms < i64::MAX);
        Self {
            batch_bytes,
            before_ms: limit("message.timestamp.before.max.ms"),
            after_ms: limit("message.timestamp.after.max.ms"),
        }
    }

    /// Whether a record of this time is taken, now and in the moments until it is at the broker.
    pub fn takes_time(&self, timestamp_ms: i64, now_ms: i64) -> bool {
        let within = |distance: i64, limit: Option<i64>| {
            limit.is_none_or(|limit| distance <= limit.saturating_sub(MARGIN_MS.min(limit / 10)))
        };
        let past = now_ms.saturating_sub(timestamp_ms);
        if past >= 0 { within(past, self.before_ms) } else { within(past.saturating_neg(), self.after_ms) }
    }
}

/// What the topics of a producer take, as it was read last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    topics: BTreeMap<String, TopicLimits>,
    /// `message.max.bytes` of the producer.
    message_bytes: usize,
    /// How often a batch was refused for its size although it should have fit.
    halvings: u32,
}

impl Default for Limits {
    /// Nothing is known of the topics.
    fn default() -> Self {
        Self { topics: BTreeMap::new(), message_bytes: DEFAULT_BYTES, halvings: 0 }
    }
}

impl Limits {
    /// What this topic takes.
    pub fn of(&self, topic: &str) -> TopicLimits {
        self.topics.get(topic).copied().unwrap_or_default()
    }

    /// Whether the topic can take a record of this size at all. It counts as it is, not compressed: how small it becomes
    /// depends on what stands beside it in the batch.
    pub fn fits(&self, record: &OutputRecord<'_>) -> bool {
        let most = self.of(record.topic).batch_bytes.unwrap_or(usize::MAX).min(self.message_bytes);
        size(record) <= most
    }

    /// The record's timestamp, or `None` where the topic would refuse it: it gets the time of writing.
    pub fn timestamp(&self, topic: &str, timestamp_ms: Option<i64>, now_ms: i64) -> Option<i64> {
        timestamp_ms.filter(|ms| self.of(topic).takes_time(*ms, now_ms))
    }

    /// `batch.size` with which every batch fits, whatever it is compressed to, and at most `own`.
    pub(super) fn batch_size(&self, own: usize) -> usize {
        let least = self.topics.values().filter_map(|limits| limits.batch_bytes).min();
        let fitting = least.unwrap_or(usize::MAX).saturating_sub(OVERHEAD).min(own);
        fitting.checked_shr(self.halvings).unwrap_or(0).max(1)
    }
}

/// What a record takes in a batch of its own.
fn size(record: &OutputRecord<'_>) -> usize {
    use rdkafka::message::Headers;
    let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
    let headers = record.headers.iter().flat_map(|headers| headers.iter());
    let headers: usize = headers.map(|h| h.key.len() + length(h.value) + HEADER_OVERHEAD).sum();
    OVERHEAD + length(record.key) + length(record.value) + headers
}

/// The limits of the topics that a pipeline writes to, shared by its workers.
#[derive(Debug)]
pub struct OutputLimits {
    kafka: KafkaConfig,
    topics: Vec<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    limits: Arc<Limits>,
    /// To be read before they are used again.
    is_stale: bool,
    /// A batch was refused for its size by what is in `limits`.
    too_large: bool,
    told: bool,
}

impl OutputLimits {
    /// Of these topics; they are read when they are first needed.
    pub fn new(kafka: &KafkaConfig, topics: Vec<String>) -> Self {
        let message_bytes = own_bytes(kafka, "message.max.bytes");
        let limits = Arc::new(Limits { message_bytes, ..Limits::default() });
        let state = State { limits, is_stale: true, too_large: false, told: false };
        Self { kafka: kafka.clone(), topics, state: Mutex::new(state) }
    }

    /// `batch.size` as the user has set it.
    pub(super) fn own_batch_size(&self) -> usize {
        own_bytes(&self.kafka, "batch.size")
    }

    /// The limits as they are known. Blocks for some seconds where they must be read.
    pub fn current(&self) -> Arc<Limits> {
        // What a panic left behind is whole: it is replaced in one step.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.is_stale {
            self.read(&mut state);
        }
        Arc::clone(&state.limits)
    }

    /// A broker has refused a record. Whether reading the limits again may help: then they are, before the next producer.
    pub(super) fn refused(&self, code: RDKafkaErrorCode) -> bool {
        let is_size = matches!(code, RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge);
        let is_time = code == RDKafkaErrorCode::InvalidTimestamp;
        if is_size || is_time {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.is_stale = true;
            state.too_large |= is_size;
        }
        is_size || is_time
    }

    fn read(&self, state: &mut State) {
        let mut topics = state.limits.topics.clone();
        match self.ask() {
            Ok(answers) => {
                state.is_stale = false;
                for (topic, answer) in self.topics.iter().zip(answers) {
                    match answer {
                        Ok(limits) => drop(topics.insert(topic.clone(), limits)),
                        Err(why) if why.code == RDKafkaErrorCode::TopicAuthorizationFailed => {
                            if !std::mem::replace(&mut state.told, true) {
                                tracing::info!(
                                    %topic,
                                    "the topic's size and time limits cannot be read: grant this user DescribeConfigs on it"
                                );
                            }
                        }
                        Err(why) => {
                            tracing::debug!(%topic, reason = why.reason, "the topic's limits cannot be read");
                            state.is_stale = true;
                        }
                    }
                }
            }
            Err(reason) => tracing::debug!(reason, "the limits of the output topics cannot be read"),
        }
        let mut halvings = state.limits.halvings;
        if std::mem::take(&mut state.too_large) {
            // What was refused fitted by what we knew: where nothing has changed, smaller batches are tried.
            halvings = if topics == state.limits.topics { halvings + 1 } else { 0 };
        }
        let found = Limits { topics, halvings, ..*state.limits };
        if found != *state.limits {
            let (own, batch_size) = (self.own_batch_size(), found.batch_size(self.own_batch_size()));
            if batch_size < own {
                tracing::info!(topics = ?self.topics, batch_size, "batches are kept below what the topics take");
            }
            state.limits = Arc::new(found);
        }
    }

    /// Asks by a client of its own: the producer, which needs the answer, is not made yet.
    fn ask(&self) -> Result<Vec<Result<TopicLimits, admin::Refusal>>, String> {
        let client = client::client_config(&self.kafka, Role::Consumer).map_err(|error| error.to_string())?;
        let probe = BaseConsumer::from_config_and_context(&client, Probe::default()).map_err(|e| e.to_string())?;
        let mut answers = Vec::new();
        for topic in &self.topics {
            let answer = admin::settings(probe.client(), topic);
            if let Err(refusal) = &answer
                && refusal.code == RDKafkaErrorCode::OperationTimedOut
            {
                let reason = refusal.reason.clone();
                drop_in_background(probe);
                return Err(reason);
            }
            answers.push(answer.map(|settings| TopicLimits::of(&settings)));
        }
        drop_in_background(probe);
        Ok(answers)
    }
}

fn own_bytes(kafka: &KafkaConfig, name: &str) -> usize {
    let own = kafka.producer.0.get(name).or_else(|| kafka.properties.0.get(name));
    own.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(DEFAULT_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn limits(bytes: usize, halvings: u32) -> Limits {
        let topic = TopicLimits { batch_bytes: Some(bytes), ..TopicLimits::default() };
        Limits { topics: BTreeMap::from([("t".into(), topic)]), message_bytes: DEFAULT_BYTES, halvings }
    }

    #[test]
    fn limits_are_read_from_a_topics_settings() {
        let kafka_4 = settings(&[
            ("max.message.bytes", "16384"),
            ("segment.bytes", "1073741824"),
            ("message.timestamp.type", "CreateTime"),
            ("message.timestamp.before.max.ms", "9223372036854775807"),
            ("message.timestamp.after.max.ms", "3600000"),
        ]);
        let expected = TopicLimits { batch_bytes: Some(16_384), before_ms: None, after_ms: Some(3_600_000) };
        assert_eq!(TopicLimits::of(&kafka_4), expected);
        let append_time =
            settings(&[("message.timestamp.type", "LogAppendTime"), ("message.timestamp.after.max.ms", "1")]);
        assert_eq!(TopicLimits::of(&append_time), TopicLimits::default());
        let before_3_6 = settings(&[("message.timestamp.difference.max.ms", "500000"), ("segment.bytes", "2000")]);
        let expected = TopicLimits { batch_bytes: Some(2000), before_ms: Some(500_000), after_ms: Some(500_000) };
        assert_eq!(TopicLimits::of(&before_3_6), expected);
    }

    #[test]
    fn a_timestamp_beyond_a_limit_or_about_to_be_is_not_taken() {
        let now = 1_795_262_400_000;
        let limits =
            TopicLimits { before_ms: Some(7 * 86_400_000), after_ms: Some(3_600_000), ..TopicLimits::default() };
        for (ahead_ms, taken) in [
            (0, true),
            (3_540_000, true),
            (3_540_001, false),
            (7_200_000, false),
            (-604_740_000, true),
            (-604_740_001, false),
        ] {
            assert_eq!(limits.takes_time(now + ahead_ms, now), taken, "{ahead_ms}");
        }
        assert!(TopicLimits::default().takes_time(i64::MIN, now) && TopicLimits::default().takes_time(i64::MAX, now));
        let none_in_the_past = TopicLimits { before_ms: Some(0), ..TopicLimits::default() };
        assert!(none_in_the_past.takes_time(now, now) && !none_in_the_past.takes_time(now - 1, now));
    }

    #[test]
    fn batches_stay_below_the_topic_and_shrink_when_they_are_refused_all_the_same() {
        assert_eq!(limits(16_384, 0).batch_size(1_000_000), 16_284);
        assert_eq!(limits(16_384, 0).batch_size(9_000), 9_000, "the user's own is smaller");
        assert_eq!(limits(16_384, 3).batch_size(1_000_000), 2_035);
        assert_eq!(limits(16_384, 200).batch_size(1_000_000), 1, "one record a batch");
        assert_eq!(limits(50, 0).batch_size(1_000_000), 1);
        assert_eq!(Limits::default().batch_size(1_000_000), 1_000_000, "nothing is known");
    }

    #[test]
    fn a_record_fits_with_key_headers_and_what_surrounds_it() {
        let value = vec![0; 16_000];
        let record = |length: usize| OutputRecord {
            topic: "t",
            key: Some(b"0123456789"),
            value: value.get(..length),
            timestamp_ms: None,
            headers: None,
        };
        assert!(limits(1_110, 0).fits(&record(1_000)));
        assert!(!limits(1_110, 0).fits(&record(1_001)));
        assert!(limits(1_110, 0).fits(&OutputRecord { topic: "another", ..record(16_000) }));
    }
}
