//! The consumer: one worker's share of the ingress topic, read in batches.
//!
//! Start positions are decided here, at assignment, from the group's committed offsets ([`decide_start`] has the
//! rules); the callbacks themselves change no state of the worker, they send [`GroupEvent`]s that the worker applies
//! to its [`Coordinator`].

#[cfg(feature = "mutants")]
mod mutants;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{
    BaseConsumer, CommitMode, Consumer, ConsumerContext, ConsumerGroupMetadata, RebalanceProtocol,
};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use crate::config::{BatchConfig, PipelineConfig, StartPolicy};
use crate::coordinator::{CommittedOffset, Coordinator, NextOffset, OffsetNote, Partition, Start, Take, decide_start};
use crate::kafka::{self, METADATA_TIMEOUT, Probe, Role, TopicLayout};
use crate::topic_id::{self, TopicId, TopicIdError};

/// `session.timeout.ms`: above [`crate::transaction::TRANSACTION_TIMEOUT`].
pub const SESSION_TIMEOUT: Duration = Duration::from_secs(30);
/// How long committed offsets may stay unreadable at an assignment: longer than a dead predecessor's transaction, whose
/// offsets are unstable (KIP-447) until it is ended.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(40);

/// Why the source cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Going on would lose or double events: a person must decide.
    #[error("{0}")]
    Refused(String),
    /// It may pass by itself: make a new consumer after a while.
    #[error("{0}")]
    Transient(String),
}

/// What the group coordinator did to us.
#[derive(Clone, Debug, PartialEq, Eq)]
enum GroupEvent {
    Assigned(BTreeMap<Partition, NextOffset>),
    Revoked { partitions: Vec<Partition>, lost: bool },
    Failed(SourceError),
}

/// State shared with librdkafka's callbacks.
struct SourceContext {
    topic: String,
    output_topic: String,
    policy: StartPolicy,
    /// Id of the ingress topic when the worker started.
    topic_id: Option<TopicId>,
    events: Mutex<Vec<GroupEvent>>,
    /// Set after an event was pushed: asked after every record, where the lock would cost.
    has_events: AtomicBool,
    statistics: Mutex<Option<Box<Statistics>>>,
    /// Partitions at the group's first start, as noted with its offsets.
    first_partitions: Mutex<Option<i32>>,
    closing: AtomicBool,
    /// The record that the mutant `position_left` polled and left.
    #[cfg(feature = "mutants")]
    left: Mutex<Option<(Partition, NextOffset)>>,
}

impl SourceContext {
    fn send(&self, event: GroupEvent) {
        if let Ok(mut events) = self.events.lock() {
            events.push(event);
        }
        self.has_events.store(true, Ordering::Release);
    }
}

impl ClientContext for SourceContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        kafka::log(level, fac, message);
    }

    fn stats(&self, statistics: Statistics) {
        if let Ok(mut slot) = self.statistics.lock() {
            *slot = Some(Box::new(statistics));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(client = "consumer", %error, reason, "librdkafka reports an error");
    }
}

impl ConsumerContext for SourceContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<Partition> = list.elements().iter().map(|e| e.partition()).collect();
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            // At the close of the consumer a late assignment is given back as it is, without asking the broker.
            let starts = if self.closing.load(Ordering::Acquire) || partitions.is_empty() {
                Ok(BTreeMap::new())
            } else {
                starts(self, consumer, &partitions)
            };
            let (assignment, event) = match starts {
                Ok(starts) => (assignment(&self.topic, &starts), GroupEvent::Assigned(starts)),
                Err(error) => (TopicPartitionList::new(), GroupEvent::Failed(error)),
            };
            let result =
                if cooperative { consumer.incremental_assign(&assignment) } else { consumer.assign(&assignment) };
            match result {
                Ok(()) => self.send(event),
                Err(error) => {
                    self.send(GroupEvent::Failed(SourceError::Transient(format!("cannot take partitions: {error}"))))
                }
            }
        } else {
            let lost = consumer.assignment_lost();
            let result = if cooperative { consumer.incremental_unassign(list) } else { consumer.unassign() };
            if let Err(error) = result {
                tracing::warn!(%error, "cannot give partitions back");
            }
            self.send(GroupEvent::Revoked { partitions, lost });
        }
    }
}

fn assignment(topic: &str, starts: &BTreeMap<Partition, NextOffset>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (&partition, &offset) in starts {
        // Cannot fail: the element was just added and the offset is a plain number.
        let _ = list.add_partition_offset(topic, partition, Offset::Offset(offset));
    }
    list
}

/// Decides where each partition begins; see [`decide_start`]. A partition that had no offset gets one committed at
/// once, so that from then on "no offset anywhere" means that they were lost.
fn starts(
    context: &SourceContext,
    consumer: &BaseConsumer<SourceContext>,
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
    let layout = layout(consumer, &context.topic)?;
    let mut committed = committed(consumer, &context.topic, &layout)?;
    let mut output_empty = true;
    if committed.is_empty() && context.policy == StartPolicy::Auto {
        output_empty = is_empty(consumer, &context.output_topic)?;
        if !output_empty {
            // Another instance may have made its first start between our two questions.
            committed = self::committed(consumer, &context.topic, &layout)?;
        }
    }
    check_topic_id(context, &committed)?;
    let first_partitions = committed
        .values()
        .find_map(|c| c.note.partitions)
        .unwrap_or_else(|| i32::try_from(layout.partitions.len()).unwrap_or(i32::MAX));
    if let Ok(mut slot) = context.first_partitions.lock() {
        *slot = Some(first_partitions);
    }
    let mut starts = BTreeMap::new();
    let mut initial = BTreeMap::new();
    for &partition in partitions {
        let start = decide_start(partition, &committed, context.policy, output_empty);
        let (low, high) = watermarks(consumer, &context.topic, partition)?;
        let offset = match start {
            Start::At(offset) => in_range(context, partition, offset, low, high)?,
            Start::Beginning => low,
            Start::End => high,
            Start::Refuse => return Err(no_offsets(context)),
        };
        starts.insert(partition, offset);
        if !matches!(start, Start::At(_)) {
            tracing::info!(topic = %context.topic, partition, offset, "first start of this partition");
            initial.insert(partition, offset);
        }
    }
    if !initial.is_empty() {
        let list = offsets_with_note(&context.topic, &initial, &note(context));
        commit(consumer, &list)?;
    }
    Ok(starts)
}

fn no_offsets(context: &SourceContext) -> SourceError {
    SourceError::Refused(format!(
        "topic {}: the consumer group has no committed offsets, but output topic {} is not empty. They have expired or \
         were deleted (Kafka deletes them together with a topic, so it may also have been made again), or the output is \
         somebody else's; beginning now could write events twice. Decide: \
         source.start = \"beginning\" relays all there is, \"end\" only what comes from now on; or set the group's \
         offsets with kafka-consumer-groups --reset-offsets",
        context.topic, context.output_topic
    ))
}

fn in_range(
    context: &SourceContext,
    partition: Partition,
    offset: NextOffset,
    low: i64,
    high: i64,
) -> Result<NextOffset, SourceError> {
    let topic = &context.topic;
    if offset < low {
        return Err(SourceError::Refused(format!(
            "topic {topic}, partition {partition}: offsets {offset} to {} were deleted by retention before they were \
             relayed. To go on without them, set the group's offset to {low} (kafka-consumer-groups --reset-offsets \
             --to-offset {low} --topic {topic}:{partition})",
            low - 1
        )));
    }
    if offset > high {
        return Err(SourceError::Refused(format!(
            "topic {topic}, partition {partition}: the committed offset {offset} lies past the topic's end {high}: the \
             topic was made anew or cut off. Find out what happened, then set the group's offset \
             (kafka-consumer-groups --reset-offsets)"
        )));
    }
    Ok(offset)
}

fn check_topic_id(
    context: &SourceContext,
    committed: &BTreeMap<Partition, CommittedOffset>,
) -> Result<(), SourceError> {
    let Some(current) = &context.topic_id else { return Ok(()) };
    for (partition, offset) in committed {
        if let Some(noted) = &offset.note.topic_id
            && noted != current.as_str()
        {
            return Err(another_topic(&context.topic, *partition, noted, current));
        }
    }
    Ok(())
}

fn another_topic(topic: &str, partition: Partition, noted: &str, current: &TopicId) -> SourceError {
    SourceError::Refused(format!(
        "topic {topic} was deleted and made again: the offset of partition {partition} belongs to topic id {noted}, the \
         topic there now has id {current}. Its records are others, so the old offsets mean nothing. To relay the new \
         topic from its beginning, delete the group's offsets (kafka-consumer-groups --delete-offsets --topic {topic}) \
         and set source.start = \"beginning\" for one start"
    ))
}

fn layout(consumer: &BaseConsumer<SourceContext>, topic: &str) -> Result<TopicLayout, SourceError> {
    match kafka::topic_layout(consumer.client(), topic, METADATA_TIMEOUT) {
        Ok(Some(layout)) => Ok(layout),
        Ok(None) => Err(SourceError::Transient(format!(
            "topic {topic} does not exist: create it (pressline generate --create-topics makes a small one)"
        ))),
        Err(error) => Err(transient(&error, &format!("topic {topic}: no metadata"))),
    }
}

/// The group's offsets of all partitions. Waits for offsets that belong to a transaction that is not ended yet.
fn committed(
    consumer: &BaseConsumer<SourceContext>,
    topic: &str,
    layout: &TopicLayout,
) -> Result<BTreeMap<Partition, CommittedOffset>, SourceError> {
    let deadline = Instant::now() + COMMITTED_TIMEOUT;
    loop {
        let mut list = TopicPartitionList::new();
        for &partition in &layout.partitions {
            list.add_partition(topic, partition);
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let error = match consumer.committed_offsets(list, left) {
            Ok(list) => match read_committed_list(&list) {
                Ok(offsets) => return Ok(offsets),
                Err(error) => error,
            },
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            return Err(transient(&error, &format!("topic {topic}: the group's committed offsets cannot be read")));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn read_committed_list(list: &TopicPartitionList) -> KafkaResult<BTreeMap<Partition, CommittedOffset>> {
    let mut offsets = BTreeMap::new();
    for element in list.elements() {
        element.error()?;
        if let Offset::Offset(next) = element.offset() {
            offsets.insert(element.partition(), CommittedOffset { next, note: OffsetNote::parse(metadata(&element)) });
        }
    }
    Ok(offsets)
}

/// The commit's metadata. rdkafka's own getter panics on bytes that are not UTF-8, which another client may have left;
/// such metadata is never ours, and librdkafka hands out what the broker sent as a string, so this is safe to ask.
fn metadata<'a>(element: &'a rdkafka::topic_partition_list::TopicPartitionListElem<'_>) -> &'a str {
    element.metadata()
}

fn watermarks(
    consumer: &BaseConsumer<SourceContext>,
    topic: &str,
    partition: Partition,
) -> Result<(i64, i64), SourceError> {
    consumer
        .fetch_watermarks(topic, partition, METADATA_TIMEOUT)
        .map_err(|error| transient(&error, &format!("topic {topic}, partition {partition}: no watermarks")))
}

/// Whether nothing was ever written to the topic. One that does not exist is empty.
fn is_empty(consumer: &BaseConsumer<SourceContext>, topic: &str) -> Result<bool, SourceError> {
    let layout = kafka::topic_layout(consumer.client(), topic, METADATA_TIMEOUT)
        .map_err(|error| transient(&error, &format!("topic {topic}: no metadata")))?;
    for partition in layout.map(|l| l.partitions).unwrap_or_default() {
        if watermarks(consumer, topic, partition)?.1 > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn commit(consumer: &BaseConsumer<SourceContext>, list: &TopicPartitionList) -> Result<(), SourceError> {
    consumer
        .commit(list, CommitMode::Sync)
        .map_err(|error| transient(&error, "the group's offsets cannot be committed"))
}

fn note(context: &SourceContext) -> OffsetNote {
    OffsetNote {
        topic_id: context.topic_id.as_ref().map(|id| id.as_str().to_string()),
        partitions: context.first_partitions.lock().ok().and_then(|slot| *slot),
    }
}

fn offsets_with_note(topic: &str, offsets: &BTreeMap<Partition, NextOffset>, note: &OffsetNote) -> TopicPartitionList {
    let text = note.to_text();
    let mut list = TopicPartitionList::new();
    for (&partition, &offset) in offsets {
        let mut element = list.add_partition(topic, partition);
        let _ = element.set_offset(Offset::Offset(offset));
        element.set_metadata(&text);
    }
    list
}

fn transient(error: &KafkaError, what: &str) -> SourceError {
    SourceError::Transient(format!("{what}: {error}"))
}

/// Records of one batch, in the order they were polled: within a partition by offset.
pub struct Batch<'s> {
    /// The records, still in librdkafka's memory.
    pub records: Vec<BorrowedMessage<'s>>,
    /// Bytes of their values.
    pub bytes: usize,
    /// What ended it.
    pub trigger: Trigger,
}

/// What ended a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// `batch.max_records`.
    Records,
    /// `batch.max_bytes`.
    Bytes,
    /// `batch.max_wait_ms`.
    Time,
}

impl Trigger {
    /// All triggers, for the metric's labels.
    pub const ALL: [Trigger; 3] = [Self::Records, Self::Bytes, Self::Time];

    /// Label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Bytes => "bytes",
            Self::Time => "time",
        }
    }
}

/// One worker's consumer.
pub struct Source {
    consumer: BaseConsumer<SourceContext>,
    topic: String,
    group: String,
}

impl Source {
    /// Makes the consumer and joins the group. `fetch_kb`: what librdkafka may prefetch.
    pub fn open(config: &PipelineConfig, slot: usize, fetch_kb: u64) -> Result<Self, SourceError> {
        let client = consumer_config(config, slot, fetch_kb)?;
        let topic = config.source.topic.clone();
        let context = SourceContext {
            topic: topic.clone(),
            output_topic: config.output.topic.clone(),
            policy: config.source.start,
            topic_id: if config.source.topic_ids { current_topic_id(&client, &topic)? } else { None },
            events: Mutex::default(),
            has_events: AtomicBool::new(false),
            statistics: Mutex::default(),
            first_partitions: Mutex::default(),
            closing: AtomicBool::new(false),
            #[cfg(feature = "mutants")]
            left: Mutex::default(),
        };
        let consumer = BaseConsumer::from_config_and_context(&client, context)
            .map_err(|error| SourceError::Refused(format!("cannot make a consumer: {error}")))?;
        consumer
            .subscribe(&[&topic])
            .map_err(|error| SourceError::Refused(format!("cannot subscribe to {topic}: {error}")))?;
        Ok(Self { consumer, topic, group: config.group() })
    }

    /// Reads until a limit of the batch is reached; `None` if nothing came within `patience`. Rebalances that happen
    /// meanwhile are applied to `coordinator`, and records of partitions that went away are dropped.
    pub fn poll_batch(
        &self,
        coordinator: &mut Coordinator,
        limits: &BatchConfig,
        patience: Duration,
    ) -> Result<Option<Batch<'_>>, SourceError> {
        #[cfg(feature = "mutants")]
        self.take_up();
        let mut records: Vec<BorrowedMessage<'_>> = Vec::new();
        let mut bytes = 0;
        let mut deadline = Instant::now() + patience;
        let trigger = loop {
            if records.len() >= limits.max_records {
                break Trigger::Records;
            }
            if bytes >= limits.max_bytes {
                break Trigger::Bytes;
            }
            // Most polls find a record that is already here: the clock is asked only when none is.
            let mut polled = self.consumer.poll(Duration::ZERO);
            if polled.is_none() {
                let left = deadline.saturating_duration_since(Instant::now());
                if !left.is_zero() {
                    polled = self.consumer.poll(left);
                }
                if polled.is_none() && Instant::now() >= deadline {
                    self.apply_events(coordinator, &mut records)?;
                    break Trigger::Time;
                }
            }
            self.apply_events(coordinator, &mut records)?;
            match polled {
                None => {}
                Some(Err(error)) => self.judge(&error, coordinator)?,
                Some(Ok(record)) if coordinator.take(record.partition(), record.offset()) == Take::Stale => {}
                Some(Ok(record)) => {
                    if records.is_empty() {
                        deadline = Instant::now() + limits.max_wait();
                    }
                    bytes += record.payload_len();
                    records.push(record);
                }
            }
        };
        #[cfg(feature = "mutants")]
        if crate::mutant::is("position_left") && !records.is_empty() {
            self.leave_one();
        }
        Ok((!records.is_empty()).then_some(Batch { records, bytes, trigger }))
    }

    fn apply_events(
        &self,
        coordinator: &mut Coordinator,
        records: &mut Vec<BorrowedMessage<'_>>,
    ) -> Result<(), SourceError> {
        let context = self.consumer.context();
        if !context.has_events.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let events = context.events.lock().map(|mut events| std::mem::take(&mut *events)).unwrap_or_default();
        for event in events {
            match event {
                GroupEvent::Assigned(starts) => {
                    coordinator.assigned(&starts);
                    // A cooperative rebalance that changes nothing assigns nothing.
                    if !starts.is_empty() {
                        tracing::info!(topic = %self.topic, group = %self.group, starts = ?starts, "partitions assigned");
                    }
                }
                GroupEvent::Revoked { partitions, lost } => {
                    coordinator.revoked(&partitions);
                    records.retain(|record| !partitions.contains(&record.partition()));
                    tracing::info!(topic = %self.topic, group = %self.group, ?partitions, lost, "partitions revoked");
                }
                GroupEvent::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What an error from poll means.
    fn judge(&self, error: &KafkaError, coordinator: &Coordinator) -> Result<(), SourceError> {
        let topic = &self.topic;
        match error {
            KafkaError::MessageConsumptionFatal(code) => Err(SourceError::Transient(format!(
                "the consumer of {topic} cannot go on: {code}. If this repeats, another process has the same `instance`"
            ))),
            KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange) => {
                Err(self.lost_position(coordinator))
            }
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::UnknownTopicOrPartition
                | RDKafkaErrorCode::UnknownTopic
                | RDKafkaErrorCode::UnknownTopicId,
            ) => {
                self.same_topic()?;
                Err(SourceError::Transient(format!("topic {topic} does not exist: create it")))
            }
            KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed),
            ) => Err(SourceError::Transient(format!(
                "not allowed to read topic {topic} as group {} ({code}): grant Read on both to this user",
                self.group
            ))),
            KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::InvalidMessage) => {
                Err(SourceError::Refused(format!(
                    "topic {topic}: a record batch is damaged (its checksum is wrong); positions are {:?}. Nothing was \
                     skipped; see the broker's log, restore the segment or move the group past it",
                    coordinator.positions()
                )))
            }
            // Broken connections and the like: librdkafka mends them, heartbeats tell when it could not.
            other => {
                tracing::debug!(%topic, error = %other, "the consumer reports an error");
                Ok(())
            }
        }
    }

    /// The broker does not have the offset we stand at: say which, and whether it is still the same topic.
    fn lost_position(&self, coordinator: &Coordinator) -> SourceError {
        if let Err(error) = self.same_topic() {
            return error;
        }
        for (&partition, &offset) in coordinator.positions() {
            match watermarks(&self.consumer, &self.topic, partition) {
                Ok((low, high)) => {
                    if let Err(error) = in_range(self.consumer.context(), partition, offset, low, high) {
                        return error;
                    }
                }
                Err(error) => return error,
            }
        }
        SourceError::Transient(format!("topic {}: a position was not there for a moment", self.topic))
    }

    /// Refuses if the topic's id is not the one the worker began with.
    pub fn same_topic(&self) -> Result<(), SourceError> {
        let context = self.consumer.context();
        let Some(known) = &context.topic_id else { return Ok(()) };
        match topic_id::topic_id(self.consumer.client(), &self.topic, METADATA_TIMEOUT) {
            Ok(Some(current)) if current != *known => Err(another_topic(&self.topic, 0, known.as_str(), &current)),
            // Gone or no answer: whether it comes back as another is asked again later.
            _ => Ok(()),
        }
    }

    /// Group metadata for a transaction; take it when the transaction begins.
    pub fn group_metadata(&self) -> Result<ConsumerGroupMetadata, SourceError> {
        self.consumer.group_metadata().ok_or_else(|| SourceError::Transient("the consumer is in no group".to_string()))
    }

    /// Offsets as they go into a transaction, with our note.
    pub fn offsets(&self, next: &BTreeMap<Partition, NextOffset>) -> TopicPartitionList {
        #[cfg(feature = "mutants")]
        if crate::mutant::is("position_left") {
            return offsets_with_note(&self.topic, &self.positions_of(next), &note(self.consumer.context()));
        }
        offsets_with_note(&self.topic, next, &note(self.consumer.context()))
    }

    /// Commits offsets outside a transaction (at least once), synchronously.
    pub fn commit(&self, list: &TopicPartitionList) -> Result<(), SourceError> {
        commit(&self.consumer, list)
    }

    /// Reads the committed offsets of our partitions and moves the consumer there.
    pub fn rewind(&self, coordinator: &Coordinator) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
        let layout = layout(&self.consumer, &self.topic)?;
        let committed = committed(&self.consumer, &self.topic, &layout)?;
        let mut targets = BTreeMap::new();
        for &partition in coordinator.positions().keys() {
            let Some(offset) = committed.get(&partition) else { return Err(no_offsets(self.consumer.context())) };
            targets.insert(partition, offset.next);
        }
        if crate::mutant::is("rewind_from_memory") {
            targets = coordinator.positions().clone();
        }
        if targets.is_empty() {
            return Ok(targets);
        }
        let moved = self
            .consumer
            .seek_partitions(assignment(&self.topic, &targets), METADATA_TIMEOUT)
            .map_err(|error| transient(&error, "cannot rewind"))?;
        for element in moved.elements() {
            element.error().map_err(|error| {
                transient(&error, &format!("topic {}, partition {}: cannot rewind", self.topic, element.partition()))
            })?;
        }
        Ok(targets)
    }

    /// The newest statistics of librdkafka, once.
    pub fn take_statistics(&self) -> Option<Box<Statistics>> {
        self.consumer.context().statistics.lock().ok().and_then(|mut slot| slot.take())
    }

    /// Name of the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Leaves the group and closes, in at most `timeout`; a consumer that hangs is left to the end of the process.
    pub fn close(self, timeout: Duration) {
        self.consumer.context().closing.store(true, Ordering::Release);
        let (done, closed) = std::sync::mpsc::channel();
        let spawned = std::thread::Builder::new().name("pressline-close".into()).spawn(move || {
            drop(self.consumer);
            let _ = done.send(());
        });
        if spawned.is_ok() && closed.recv_timeout(timeout).is_err() {
            tracing::warn!(topic = %self.topic, "the consumer did not close in time");
        }
    }
}

/// The topic's id, asked by a client of its own, since the consumer may not ask before it has joined.
fn current_topic_id(client: &ClientConfig, topic: &str) -> Result<Option<TopicId>, SourceError> {
    let mut client = client.clone();
    // Without a group there is nothing to leave when it is dropped.
    client.remove("group.id");
    client.remove("group.instance.id");
    let probe = BaseConsumer::from_config_and_context(&client, Probe::default())
        .map_err(|error| SourceError::Refused(format!("cannot make a consumer: {error}")))?;
    match topic_id::topic_id(probe.client(), topic, METADATA_TIMEOUT) {
        Ok(id) => Ok(id),
        Err(TopicIdError::NoSuchTopic) => Err(SourceError::Transient(format!(
            "topic {topic} does not exist: create it (pressline generate --create-topics makes a small one)"
        ))),
        Err(error @ TopicIdError::NoAnswer(_)) => {
            let cause = kafka::complaint(&probe).map(|complaint| format!("; {complaint}")).unwrap_or_default();
            Err(SourceError::Transient(format!("topic {topic}: {error}{cause}")))
        }
    }
}

fn consumer_config(config: &PipelineConfig, slot: usize, fetch_kb: u64) -> Result<ClientConfig, SourceError> {
    let mut client =
        kafka::client_config(&config.kafka, Role::Consumer).map_err(|error| SourceError::Refused(error.to_string()))?;
    let defaults = [
        ("session.timeout.ms", SESSION_TIMEOUT.as_millis().to_string()),
        ("partition.assignment.strategy", "cooperative-sticky".to_string()),
        // The default of a second would starve a worker each time its small queue was full.
        ("fetch.queue.backoff.ms", "10".to_string()),
        ("statistics.interval.ms", "5000".to_string()),
        ("reconnect.backoff.max.ms", "2000".to_string()),
    ];
    for (name, value) in defaults {
        let kafka = &config.kafka;
        if !kafka.consumer.0.contains_key(name) && !kafka.properties.0.contains_key(name) {
            client.set(name, value);
        }
    }
    client
        .set("group.id", config.group())
        .set("group.protocol", "classic")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("auto.offset.reset", "error")
        .set("queued.max.messages.kbytes", fetch_kb.max(1024).to_string());
    if crate::mutant::is("auto_commit") {
        client
            .set("enable.auto.commit", "true")
            .set("enable.auto.offset.store", "true")
            .set("auto.commit.interval.ms", "500");
    }
    if config.source.static_membership {
        client.set("group.instance.id", format!("{}.{slot}", config.instance));
    }
    Ok(client)
}
