//! The consumer: one worker's share of the ingress topic, read in batches.
//!
//! The callbacks change no state of the worker: they decide start positions ([`position`]) and send [`GroupEvent`]s,
//! which the worker applies to its [`Coordinator`].

mod asker;
mod batch;
pub(crate) mod committed;
mod committed_watermark;
mod context;
mod error;
mod held;
mod leave;
mod membership;
#[cfg(feature = "mutants")]
mod mutants;
mod open;
mod open_transactions;
pub(crate) mod other_members;
mod pause;
pub(crate) mod position;
mod position_store;
mod rebalance;
mod replay;
mod same_topic;
mod sink_offsets;
mod stale;
pub(crate) mod topic;
mod unacknowledged;
pub(crate) mod uncommitted;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use rdkafka::consumer::{Consumer, ConsumerGroupMetadata};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message;
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;

use crate::config::KafkaConfig;
use crate::kafka::advice::PipelinePart;
use crate::kafka::client;
use crate::kafka::client::METADATA_TIMEOUT;
use crate::kafka::coordinator::{Coordinator, Take};
use crate::kafka::offset_note::{NextOffset, Partition, Tally};
use crate::kafka::replay_range::ReplayRange;
use crate::kafka::topic_id::TopicId;
use asker::Asker;
pub use batch::{BatchBuilder, BatchLimits, PolledBatch, Trigger};
use committed::{commit, known_committed, offsets_with_notes};
pub use committed_watermark::CommittedWatermark;
use context::GroupEvent;
pub use error::SourceError;
pub(crate) use error::{kafka_code, transient};
use held::Held;
use membership::Membership;
pub use open::{SESSION_TIMEOUT, SourceOptions};
pub use open_transactions::{Behind, OpenTransactions};
use position::{in_range, in_runs, no_offsets, starts};
pub use position_store::{Assigned, Assignment, PositionStore, SinkPositions};
pub use sink_offsets::SinkStep;
use stale::{Silence, stale, try_new_client};
use topic::{assignment, layout, watermarks};

/// How long a rebalance may hold us up when we leave: others hear of it with their next heartbeat.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(3);

/// One worker's consumer.
pub struct Source {
    consumer: Held,
    asker: Arc<Asker>,
    /// How brokers are reached, for a new client.
    kafka: KafkaConfig,
    topic: String,
    group: String,
    /// What we divide the partitions of the group by.
    strategy: String,
    is_static: bool,
    state: State,
}

/// What changes while the consumer reads, beside what librdkafka's callbacks share ([`context::SourceContext`]) and the positions,
/// which the worker's [`Coordinator`] has. Cells, since a batch borrows the consumer while it is read: only the worker's own
/// thread, which polls, looks at them.
struct State {
    /// Partitions of a bounded run that are through and not fetched any more, and the rebalance since when.
    at_rest: RefCell<(u64, BTreeSet<Partition>)>,
    /// What was polled last was dropped: see [`Source::keep_alive`].
    needs_seek: Cell<bool>,
    /// See [`Source::in_touch`].
    in_touch: Cell<bool>,
    /// Whether the group had taken us by the statistics that were taken last.
    joined: Cell<bool>,
    membership: RefCell<Membership>,
    silence: RefCell<Silence>,
    /// When the topic was asked last whether it is still the same.
    topic_asked: Cell<Instant>,
    /// When offsets that show a sink's progress were last committed again.
    shown_again: Cell<Instant>,
    /// When a batch came last.
    heard: Cell<Instant>,
    /// Whether the topic is still the same, asked when a batch began after a silence.
    topic_answer: Cell<Option<Receiver<Result<(), SourceError>>>>,
}

impl State {
    /// Of a consumer that was just made.
    fn new() -> Self {
        Self {
            at_rest: RefCell::default(),
            needs_seek: Cell::new(false),
            in_touch: Cell::new(true),
            joined: Cell::new(false),
            membership: RefCell::default(),
            silence: RefCell::default(),
            topic_asked: Cell::new(Instant::now()),
            shown_again: Cell::new(Instant::now()),
            heard: Cell::new(Instant::now()),
            topic_answer: Cell::default(),
        }
    }
}

impl Source {
    /// Reads into `batch` until one of its limits is reached; `None` if nothing came within `patience`. Rebalances that
    /// happen meanwhile are applied to `coordinator`, and records of partitions that went away are dropped.
    pub fn poll_batch<'s>(
        &'s self,
        coordinator: &mut Coordinator,
        limits: BatchLimits,
        patience: Duration,
        batch: &mut impl BatchBuilder<'s>,
    ) -> Result<Option<Trigger>, SourceError> {
        #[cfg(feature = "mutants")]
        self.take_up();
        let pace = self.consumer.context().replay_range.as_deref().and_then(ReplayRange::pace);
        let turn = match pace.map(|pace| pace.turn(batch.len(), patience)) {
            Some(None) => return Ok(None),
            turn => turn.flatten(),
        };
        self.resume_reading(coordinator, batch)?;
        self.show_again(coordinator);
        let mut deadline = Instant::now() + patience;
        let trigger = loop {
            if limits.reached(batch) || turn.as_ref().is_some_and(|turn| turn.is_over(batch.len())) {
                break Trigger::Records;
            }
            if limits.filled(batch) {
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
                    self.apply_events(coordinator, batch)?;
                    break Trigger::Time;
                }
            }
            self.apply_events(coordinator, batch)?;
            match polled {
                None => {}
                Some(Err(KafkaError::PartitionEOF(partition))) => coordinator.drained(partition),
                Some(Err(error)) => self.judge(&error, coordinator)?,
                Some(Ok(record)) if coordinator.take(record.partition(), record.offset()) == Take::Taken => {
                    if batch.is_empty() {
                        self.heard();
                        deadline = Instant::now() + limits.wait;
                    }
                    batch.take(record);
                }
                Some(Ok(_)) => {}
            }
        };
        #[cfg(feature = "mutants")]
        if crate::testing::mutant::is("position_left") && !batch.is_empty() {
            self.leave_one();
        }
        if let Some(turn) = turn {
            turn.end(batch.len());
        }
        // A bounded run may end with offsets that are no records.
        Ok((!batch.is_empty() || coordinator.has_batch()).then_some(trigger))
    }

    fn apply_events<'s>(
        &'s self,
        coordinator: &mut Coordinator,
        batch: &mut impl BatchBuilder<'s>,
    ) -> Result<(), SourceError> {
        #[cfg(feature = "mutants")]
        if batch.is_empty() {
            self.revoke_at_last(coordinator);
        }
        let context = self.consumer.context();
        // Looked at before it is written to: this is asked for each record, and a locked write would cost 5 ns.
        if !context.has_events.load(Ordering::Acquire) || !context.has_events.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let events = context.events.lock().map(|mut events| std::mem::take(&mut *events)).unwrap_or_default();
        for event in events {
            match event {
                GroupEvent::Assigned(starts) => {
                    coordinator.assigned(&starts);
                    // A cooperative rebalance that changes nothing assigns nothing.
                    if !starts.is_empty() {
                        tracing::info!(
                            topic = %self.topic, group = %self.group, partitions = starts.len(), offsets = %in_runs(&starts),
                            "partitions assigned"
                        );
                    }
                }
                GroupEvent::Revoked { partitions, lost } => {
                    if batch.is_empty() || !crate::testing::mutant::is("old_epoch_accepted") {
                        coordinator.revoked(&partitions);
                        batch.forget(&partitions);
                    } else {
                        #[cfg(feature = "mutants")]
                        self.revoke_late(&partitions);
                    }
                    if !partitions.is_empty() {
                        let count = partitions.len();
                        tracing::info!(topic = %self.topic, group = %self.group, partitions = count, lost, "partitions revoked");
                    }
                }
                GroupEvent::Failed(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Asks the sink for the positions of our partitions again, and moves the consumer there.
    pub fn rewind_sink(&self, coordinator: &Coordinator) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
        let partitions: Vec<Partition> = coordinator.positions().keys().copied().collect();
        if partitions.is_empty() {
            return Ok(BTreeMap::new());
        }
        let targets = starts(self.consumer.context(), &self.consumer, &partitions)?;
        self.go_to(&targets)?;
        Ok(targets)
    }

    /// What an error from poll means.
    fn judge(&self, error: &KafkaError, coordinator: &Coordinator) -> Result<(), SourceError> {
        let topic = &self.topic;
        match error {
            KafkaError::MessageConsumptionFatal(code) => Err(SourceError::transient(format!(
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
                Err(SourceError::transient(format!("topic {topic} does not exist: create it"))
                    .about(|fault| fault.topic(topic)))
            }
            KafkaError::MessageConsumption(
                RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::GroupAuthorizationFailed,
            ) => Err(transient(error, &format!("topic {topic} cannot be read as group {}", self.group))),
            KafkaError::MessageConsumption(RDKafkaErrorCode::InconsistentGroupProtocol) => {
                Err(SourceError::transient(self.refused_by_group()))
            }
            KafkaError::MessageConsumption(RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::InvalidMessage) => {
                Err(SourceError::refused(format!(
                    "topic {topic}: a record batch is damaged (its checksum is wrong); positions are {:?}. Nothing was \
                     skipped; see the broker's log, restore the segment, or go on behind it: {}",
                    coordinator.positions(),
                    self.consumer.context().advice.set("N", "OFFSET")
                )))
            }
            // Broken connections and the like: librdkafka fixes them, heartbeats tell when it could not.
            other => {
                tracing::debug!(%topic, error = %other, "the consumer reports an error");
                Ok(())
            }
        }
    }

    /// Why the group does not take us.
    fn refused_by_group(&self) -> String {
        let key = match self.consumer.context().advice.part {
            PipelinePart::Relay => "source.group",
            PipelinePart::Postgres => "sink.postgres.consumer.group",
            PipelinePart::Clickhouse => "sink.clickhouse.consumer.group",
        };
        let found = other_members::other_members(&self.consumer, &self.strategy, &self.group, key);
        let (what, cure) = found.unwrap_or_else(|| {
            let what = format!("group {} has members of another kind", self.group);
            (what, format!("stop them, or name another group in {key}"))
        });
        format!("{what}: {cure}")
    }

    /// The broker does not have the offset we stand at: say which, and whether it is still the same topic.
    fn lost_position(&self, coordinator: &Coordinator) -> SourceError {
        if let Err(error) = self.same_topic() {
            return error;
        }
        let replay_range = self.consumer.context().replay_range.as_ref();
        for (&partition, &offset) in coordinator.positions() {
            if replay_range.is_some_and(|replay_range| replay_range.is_through(partition, offset)) {
                continue;
            }
            match watermarks(&self.consumer, &self.topic, partition) {
                Ok((low, high)) => {
                    if let Err(error) = in_range(self.consumer.context(), partition, offset, low, high) {
                        return error;
                    }
                }
                Err(error) => return error,
            }
        }
        SourceError::transient(format!("topic {}: a position was not there for a moment", self.topic))
    }

    /// Group metadata for a transaction; take it when the transaction begins.
    pub fn group_metadata(&self) -> Result<ConsumerGroupMetadata, SourceError> {
        self.consumer.group_metadata().ok_or_else(|| SourceError::transient("the consumer is in no group".to_string()))
    }

    /// Offsets as they go into a transaction, with our note; in a bounded run also with what becomes of the records before
    /// them.
    pub fn offsets(
        &self,
        next: &BTreeMap<Partition, NextOffset>,
        outcomes: &BTreeMap<Partition, Tally>,
    ) -> TopicPartitionList {
        #[cfg(feature = "mutants")]
        if crate::testing::mutant::is("position_left") {
            return offsets_with_notes(&self.topic, &self.positions_of(next), |_| {
                committed::note(self.consumer.context())
            });
        }
        let outcome = |partition| outcomes.get(&partition).copied().unwrap_or_default();
        offsets_with_notes(&self.topic, next, |partition| self.note_after(partition, outcome(partition)))
    }

    /// Commits offsets outside a transaction (at least once), synchronously.
    pub fn commit(&self, list: &TopicPartitionList) -> Result<(), SourceError> {
        commit(&self.consumer, list)
    }

    /// How often the partition's position was set by hand.
    pub fn resets(&self, partition: Partition) -> u32 {
        self.consumer
            .context()
            .resets
            .lock()
            .ok()
            .and_then(|resets| resets.get(&partition).copied())
            .unwrap_or_default()
    }

    /// Id of the topic, as it was at the start.
    pub fn topic_id(&self) -> Option<&str> {
        self.consumer.context().topic_id.as_ref().map(TopicId::as_str)
    }

    /// How many partitions the topic has. Errors: the brokers do not answer.
    pub fn partitions(&self) -> Result<usize, SourceError> {
        Ok(layout(&self.consumer, &self.topic)?.partitions.len())
    }

    /// Reads the committed offsets of our partitions and moves the consumer there.
    pub fn rewind(&self, coordinator: &Coordinator) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
        let layout = layout(&self.consumer, &self.topic).or_else(|error| self.unanswered().and(Err(error)))?;
        self.state.silence.borrow_mut().end();
        let committed = known_committed(self.consumer.context(), &self.consumer, &layout)?;
        let mut targets = BTreeMap::new();
        for &partition in coordinator.positions().keys() {
            let Some(offset) = committed.get(&partition) else { return Err(no_offsets(self.consumer.context())) };
            position::begin_run(self.consumer.context(), partition, offset.next, Some(offset))?;
            targets.insert(partition, offset.next);
        }
        if crate::testing::mutant::is("rewind_from_memory") {
            targets = coordinator.positions().clone();
        }
        if targets.is_empty() {
            return Ok(targets);
        }
        self.seek(&targets)?;
        Ok(targets)
    }

    fn seek(&self, targets: &BTreeMap<Partition, NextOffset>) -> Result<(), SourceError> {
        let moved = self
            .consumer
            .seek_partitions(assignment(&self.topic, targets), METADATA_TIMEOUT)
            .map_err(|error| transient(&error, "cannot rewind"))?;
        for element in moved.elements() {
            element.error().map_err(|error| {
                transient(&error, &format!("topic {}, partition {}: cannot rewind", self.topic, element.partition()))
            })?;
        }
        Ok(())
    }

    /// The newest statistics of librdkafka, once.
    pub fn take_statistics(&self) -> Option<Box<Statistics>> {
        let statistics = self.consumer.context().statistics.lock().ok().and_then(|mut slot| slot.take())?;
        self.state.in_touch.set(client::in_touch(&statistics));
        if self.in_touch() {
            self.state.silence.borrow_mut().end();
        } else if let Err(error) = self.unanswered() {
            self.consumer.context().send(GroupEvent::Failed(error));
        }
        let is_steady = |group: &rdkafka::statistics::ConsumerGroup| group.join_state == "steady";
        self.state.joined.set(statistics.cgrp.as_ref().is_none_or(is_steady));
        if let Some(outside) = self.state.membership.borrow_mut().observe(&statistics, Instant::now()) {
            self.consumer.context().send(GroupEvent::Failed(SourceError::transient(format!(
                "topic {}: the consumer has not asked to join group {} for {} s, though a broker can be reached; a new one is made",
                self.topic,
                self.group,
                outside.as_secs()
            ))));
        }
        Some(statistics)
    }

    /// To be called again and again while no broker answers. Errors: a new client is answered.
    fn unanswered(&self) -> Result<(), SourceError> {
        let try_new = || try_new_client(&self.kafka, &self.topic);
        let silent = self.state.silence.borrow_mut().observe(Instant::now(), try_new);
        silent.map_or(Ok(()), |silent| Err(stale(&self.topic, silent)))
    }

    /// Whether a broker could be reached by the statistics that were taken last.
    pub fn in_touch(&self) -> bool {
        self.state.in_touch.get()
    }

    /// Whether the group has taken us, with partitions or without.
    pub fn has_joined(&self, coordinator: &Coordinator) -> bool {
        coordinator.epoch() > 0 || self.state.joined.get()
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
            if !self.is_static {
                leave::leave(&self.consumer, LEAVE_TIMEOUT);
            }
            self.consumer.close();
            let _ = done.send(());
        });
        if spawned.is_ok() && closed.recv_timeout(timeout).is_err() {
            tracing::warn!(topic = %self.topic, "the consumer did not close in time");
        }
    }
}
