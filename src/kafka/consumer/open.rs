//! Making a worker's consumer: what it reads and as whom, and the properties its guarantees rest on.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
use rdkafka::consumer::{BaseConsumer, Consumer};

use super::asker::Asker;
use super::context::SourceContext;
use super::error::SourceError;
use super::held::Held;
use super::other_members::{STRATEGY, strategy};
use super::unacknowledged::Unacknowledged;
use super::{CommittedWatermark, PositionStore, Source, State};
use crate::config::KafkaConfig;
use crate::kafka::advice::Advice;
use crate::kafka::circuit_breaker::CircuitBreaker;
use crate::kafka::client;
use crate::kafka::client::Role;
use crate::kafka::replay_range::ReplayRange;
use crate::kafka::topic_id::{TopicId, TopicIdError};

/// `session.timeout.ms`: above [`crate::kafka::producer::TRANSACTION_TIMEOUT`].
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(30);

/// What a worker reads and as whom.
pub struct SourceOptions<'a> {
    /// Brokers.
    pub kafka: &'a KafkaConfig,
    /// Topic.
    pub topic: &'a str,
    /// Consumer group.
    pub group: String,
    /// Name of a static member (KIP-345).
    pub member: Option<String>,
    /// Whether the topic's id is asked and noted.
    pub topic_ids: bool,
    /// Kibibytes that librdkafka may prefetch.
    pub fetch_kb: u64,
    /// Who keeps the positions.
    pub position_store: PositionStore,
    /// Names the commands that settle what is refused.
    pub advice: Advice,
    /// What this process knows to be committed.
    pub committed_watermark: Arc<CommittedWatermark>,
    /// Set when the worker is to stop: nothing is waited for then.
    pub stop: Arc<AtomicBool>,
    /// Reads only what lies within; `None`: without end.
    pub replay_range: Option<Arc<ReplayRange>>,
    /// Keeps what it has seen in the offsets' notes.
    pub breaker: Arc<CircuitBreaker>,
}

impl Source {
    /// Makes the consumer and joins the group.
    pub fn open(options: SourceOptions<'_>) -> Result<Self, SourceError> {
        let client = consumer_config(&options)?;
        let topic = options.topic.to_string();
        let asker = Asker::of(options.kafka)?;
        let context = SourceContext {
            topic: topic.clone(),
            position_store: options.position_store,
            advice: options.advice,
            committed_watermark: options.committed_watermark,
            stop: options.stop,
            replay_range: options.replay_range,
            breaker: options.breaker,
            topic_id: if options.topic_ids { current_topic_id(&asker, &topic)? } else { None },
            events: Mutex::default(),
            has_events: AtomicBool::new(false),
            statistics: Mutex::default(),
            first_partitions: Mutex::default(),
            resets: Mutex::default(),
            unacknowledged: Unacknowledged::default(),
            closing: AtomicBool::new(false),
            #[cfg(feature = "mutants")]
            left: Mutex::default(),
            #[cfg(feature = "mutants")]
            late: Mutex::default(),
        };
        let consumer = BaseConsumer::from_config_and_context(&client, context)
            .map_err(|error| SourceError::refused(format!("cannot make a consumer: {error}")))?;
        consumer
            .subscribe(&[&topic])
            .map_err(|error| SourceError::refused(format!("cannot subscribe to {topic}: {error}")))?;
        let is_static = options.member.is_some();
        Ok(Self {
            consumer: Held::new(consumer),
            asker,
            kafka: options.kafka.clone(),
            topic,
            group: options.group,
            strategy: strategy(options.kafka).to_string(),
            is_static,
            state: State::new(),
        })
    }
}

/// The topic's id, asked by another client, since the consumer may not ask before it has joined.
fn current_topic_id(asker: &Asker, topic: &str) -> Result<Option<TopicId>, SourceError> {
    asker.topic_id(topic).map_err(|error| match error {
        TopicIdError::NoSuchTopic => {
            SourceError::transient(format!("topic {topic} does not exist: create it (pressline topics create)"))
                .about(|fault| fault.topic(topic))
        }
        TopicIdError::NoAnswer(_) | TopicIdError::NotAllowed => {
            asker.retire();
            SourceError::transient(format!("topic {topic}: {error}{}", asker.complaint()))
        }
    })
}

fn consumer_config(options: &SourceOptions<'_>) -> Result<ClientConfig, SourceError> {
    let kafka = options.kafka;
    let mut client =
        client::client_config(kafka, Role::Consumer).map_err(|error| SourceError::refused(error.to_string()))?;
    let defaults = [
        ("session.timeout.ms", SESSION_TIMEOUT.as_millis().to_string()),
        // A member hears of a rebalance with its next heartbeat: partitions stand still for as long as this.
        ("heartbeat.interval.ms", "500".to_string()),
        (STRATEGY.0, STRATEGY.1.to_string()),
        // The default of a second would starve a worker each time its small queue was full.
        ("fetch.queue.backoff.ms", "10".to_string()),
        // The queue's limit in bytes counts values only: what each record costs beside them is held by their number.
        ("queued.min.messages", "10000".to_string()),
        ("statistics.interval.ms", "5000".to_string()),
    ];
    for (name, value) in defaults {
        if !kafka.consumer.0.contains_key(name) && !kafka.properties.0.contains_key(name) {
            client.set(name, value);
        }
    }
    client
        .set("group.id", &options.group)
        .set("group.protocol", "classic")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("auto.offset.reset", "error")
        .set("queued.max.messages.kbytes", options.fetch_kb.to_string());
    if options.replay_range.is_some() {
        // Only so is it told that a partition ends with offsets that are no records.
        client.set("enable.partition.eof", "true");
    }
    if crate::testing::mutant::is("auto_commit") {
        client
            .set("enable.auto.commit", "true")
            .set("enable.auto.offset.store", "true")
            .set("auto.commit.interval.ms", "500");
    }
    if let Some(member) = &options.member {
        client.set("group.instance.id", member);
    }
    Ok(client)
}
