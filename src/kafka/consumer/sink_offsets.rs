//! The offsets that sinks commit to the group: as their positions, or to show how far they are.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use super::committed::{commit, commit_async, note, offsets_with_notes};
use super::{Source, SourceError};
use crate::kafka::coordinator::Coordinator;
use crate::kafka::offset_note::{NextOffset, OffsetNote, Partition, Pending, Tally};

/// After a commit that failed the next one is not tried before.
const SHOW_AGAIN: Duration = Duration::from_secs(1);

/// What an offset says of a sink that has its positions in the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SinkStep {
    /// The range from the offset on is about to be written.
    Begins {
        /// The range.
        pending: Pending,
        /// What becomes of its records when it is written.
        then: Tally,
        /// See [`OffsetNote::begun`].
        begun: Option<NextOffset>,
    },
    /// What lies before the offset is written.
    Wrote {
        /// What became of it.
        done: Tally,
        /// See [`OffsetNote::begun`].
        begun: Option<NextOffset>,
    },
}

impl Source {
    /// Commits one partition's offset, synchronously. One partition a commit: one of several would be reported only if all
    /// failed. Refused by the broker when the partition is not ours any more; not even tried when we know that already.
    pub fn commit_for_sink(&self, partition: Partition, next: NextOffset, step: SinkStep) -> Result<(), SourceError> {
        // librdkafka stamps its current generation on every commit, also on those of work begun under an earlier one.
        let moved = self.consumer.assignment_lost() || self.consumer.context().has_events.load(Ordering::Acquire);
        if moved && !crate::testing::mutant::is("old_epoch_accepted") {
            return Err(SourceError::transient("partitions moved before their offsets were committed"));
        }
        let resets = self.resets(partition);
        let note = match step {
            SinkStep::Begins { pending, then, begun } => {
                let (pending, then) = (Some(pending), self.is_bounded().then_some(then));
                OffsetNote { pending, then, begun, resets, ..self.note_after(partition, Tally::default()) }
            }
            SinkStep::Wrote { done, begun } => OffsetNote { begun, resets, ..self.note_after(partition, done) },
        };
        let next = BTreeMap::from([(partition, next)]);
        commit(&self.consumer, &offsets_with_notes(&self.topic, &next, |_| note.clone()))?;
        self.acknowledged(&next);
        if let SinkStep::Wrote { done, .. } = step {
            self.settled(&next, &BTreeMap::from([(partition, done)]));
        }
        Ok(())
    }

    /// The broker has acknowledged these offsets: from now on they may not be found lower.
    pub fn acknowledged(&self, next: &BTreeMap<Partition, NextOffset>) {
        let context = self.consumer.context();
        for (&partition, &next) in next {
            let note = OffsetNote { resets: self.resets(partition), ..note(context) };
            context.committed_watermark.raise(partition, next, &note);
        }
    }

    /// Commits offsets that nobody rests on, without waiting: they show tools how far a sink with positions of its own is,
    /// and keep what the circuit breaker has seen.
    pub fn show_progress(
        &self,
        next: impl Iterator<Item = (Partition, NextOffset)>,
        outcomes: &BTreeMap<Partition, Tally>,
    ) {
        let next = next.collect();
        self.settled(&next, outcomes);
        self.show(&next);
    }

    /// Commits again what [`Self::show_progress`] could not. Called between batches; costs one look at a flag where nothing failed.
    pub(super) fn show_again(&self, coordinator: &Coordinator) {
        let unacknowledged = &self.consumer.context().unacknowledged;
        let tried = &self.state.shown_again;
        if !unacknowledged.is_due() || tried.get().elapsed() < SHOW_AGAIN {
            return;
        }
        tried.set(Instant::now());
        let next = unacknowledged.due(|partition| coordinator.positions().contains_key(&partition));
        if !next.is_empty() {
            self.show(&next);
        }
    }

    fn show(&self, next: &BTreeMap<Partition, NextOffset>) {
        let unacknowledged = &self.consumer.context().unacknowledged;
        unacknowledged.sent(next);
        let list = offsets_with_notes(&self.topic, next, |partition| self.note_after(partition, Tally::default()));
        if let Err(error) = commit_async(&self.consumer, &list) {
            tracing::debug!(topic = %self.topic, %error, "the group's offsets are behind");
            unacknowledged.commit_again();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicI64;

    use rdkafka::config::ClientConfig;
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::mocking::MockCluster;
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
    use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};

    use super::*;
    use crate::config::{KafkaConfig, Properties};
    use crate::kafka::advice::{Advice, PipelinePart};
    use crate::kafka::circuit_breaker::CircuitBreaker;
    use crate::kafka::consumer::{
        Assignment, BatchLimits, CommittedWatermark, PolledBatch, PositionStore, SinkPositions, SourceOptions,
    };

    /// A database that has loaded its partition up to here.
    #[derive(Default)]
    struct Loaded(AtomicI64);

    impl SinkPositions for Loaded {
        fn claim(&self, assignment: &Assignment<'_>) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
            let next = self.0.load(Ordering::Relaxed);
            Ok(assignment.partitions.iter().map(|assigned| (assigned.partition, next)).collect())
        }

        fn knows_first_start(&self) -> bool {
            true
        }

        fn are_only_shown_by_group(&self) -> bool {
            true
        }
    }

    fn source(brokers: String, loaded: &Arc<Loaded>) -> Source {
        let kafka = KafkaConfig {
            bootstrap_servers: brokers,
            tls: None,
            sasl: None,
            properties: Default::default(),
            // The mock broker lets a member rejoin when its session is over.
            consumer: Properties(BTreeMap::from([("session.timeout.ms".into(), "6000".into())])),
            producer: Default::default(),
            open_transaction_warn_ms: 60_000,
        };
        let options = SourceOptions {
            kafka: &kafka,
            topic: "presses",
            group: "sink".into(),
            member: None,
            topic_ids: false,
            fetch_kb: 1024,
            position_store: PositionStore::Sink(loaded.clone()),
            advice: Advice { pipeline: "presses".into(), part: PipelinePart::Postgres },
            committed_watermark: Arc::new(CommittedWatermark::default()),
            stop: Arc::default(),
            replay_range: None,
            breaker: Arc::new(CircuitBreaker::new(1.0, 10)),
        };
        Source::open(options).unwrap()
    }

    /// As in a rebalance, whose moment a test cannot choose with a real broker.
    #[test]
    fn a_commit_that_the_group_refuses_is_made_again() {
        let cluster = MockCluster::new(1).unwrap();
        cluster.create_topic("presses", 1, 1).unwrap();
        let mut client = ClientConfig::new();
        let producer: BaseProducer = client.set("bootstrap.servers", cluster.bootstrap_servers()).create().unwrap();
        (0..5).for_each(|_| producer.send(BaseRecord::<(), [u8]>::to("presses").payload(b"press")).unwrap());
        producer.flush(Duration::from_secs(60)).unwrap();
        let loaded = Arc::new(Loaded::default());
        let source = source(cluster.bootstrap_servers(), &loaded);
        let mut coordinator = Coordinator::new();
        let limits = BatchLimits {
            records: 10,
            by_partition: false,
            bytes: 1000,
            memory: 1000,
            wait: Duration::from_millis(10),
        };
        let mut poll = || {
            source
                .poll_batch(&mut coordinator, limits, Duration::from_millis(50), &mut PolledBatch::default())
                .unwrap();
            !coordinator.positions().is_empty()
        };
        let begun = Instant::now();
        while !poll() {
            assert!(begun.elapsed() < Duration::from_secs(60), "no partition came");
        }
        let refusals = [RDKafkaRespErr::RD_KAFKA_RESP_ERR_ILLEGAL_GENERATION];
        cluster.request_errors(RDKafkaApiKey::OffsetCommit, &refusals);
        loaded.0.store(5, Ordering::Relaxed);
        source.show_progress([(0, 5)].into_iter(), &BTreeMap::new());
        let asker: BaseConsumer = client.set("group.id", "sink").create().unwrap();
        let shown = || {
            let mut asked = TopicPartitionList::new();
            asked.add_partition("presses", 0);
            asker.committed_offsets(asked, Duration::from_secs(60)).unwrap().elements()[0].offset()
        };
        while shown() != Offset::Offset(5) {
            poll();
            assert!(begun.elapsed() < Duration::from_secs(60), "the offset stays at {:?}", shown());
        }
    }
}
