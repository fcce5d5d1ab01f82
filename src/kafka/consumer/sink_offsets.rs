//! The offsets that sinks commit to the group: as their positions, or to show how far they are.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use rdkafka::consumer::{CommitMode, Consumer};

use super::committed::{commit, note, offsets_with_notes};
use super::{Source, SourceError};
use crate::kafka::offset_note::{NextOffset, OffsetNote, Partition, Pending, Tally};

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
            return Err(SourceError::Transient("partitions moved before their offsets were committed".into()));
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
        let list = offsets_with_notes(&self.topic, &next, |partition| self.note_after(partition, Tally::default()));
        if let Err(error) = self.consumer.commit(&list, CommitMode::Async) {
            tracing::debug!(topic = %self.topic, %error, "the group's offsets are behind");
        }
    }
}
