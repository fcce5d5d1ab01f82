//! Partitions that are not read for a while: while a sink waits or writes, and while a range of another one is read to its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use super::error::transient;
use super::topic::assignment;
use super::{BatchBuilder, PolledBatch, Source, SourceError};
use crate::kafka::coordinator::Coordinator;
use crate::kafka::offset_note::{NextOffset, Partition};
use crate::kafka::replay_range::ReplayRange;

impl Source {
    /// Waits for `length` without leaving the group and without reading: partitions are paused, so that nothing piles up,
    /// and rebalances are answered. [`Self::rewind_sink`] starts them again.
    pub fn wait_in_group(&self, coordinator: &mut Coordinator, length: Duration) -> Result<(), SourceError> {
        let deadline = Instant::now() + length;
        loop {
            // Again each time: a rebalance may have brought partitions that read on.
            self.pause_all();
            let left = deadline.saturating_duration_since(Instant::now());
            let polled = self.consumer.poll(left.min(Duration::from_millis(100)));
            self.apply_events(coordinator, &mut PolledBatch::default())?;
            if let Some(Err(error)) = polled {
                self.judge(&error, coordinator)?;
            }
            if left.is_zero() {
                return Ok(());
            }
        }
    }

    /// To be called now and then while a batch takes long to write: who does not poll for `max.poll.interval.ms` is taken out
    /// of the group. Partitions are paused, and what comes all the same is dropped: the next [`Self::poll_batch`] begins at the
    /// coordinator's positions. Rebalances are answered now and applied there; until then nothing is committed.
    pub fn keep_alive(&self) {
        self.state.needs_seek.set(true);
        self.pause_all();
        if let Some(Err(error)) = self.consumer.poll(Duration::ZERO) {
            // What matters comes again: a fatal error with the next commit, a lost position after the seek.
            tracing::debug!(topic = %self.topic, %error, "a poll during a long write");
        }
    }

    /// After [`Self::keep_alive`]: reads on where the coordinator stands.
    pub(super) fn resume_reading<'s>(
        &'s self,
        coordinator: &mut Coordinator,
        batch: &mut impl BatchBuilder<'s>,
    ) -> Result<(), SourceError> {
        if !self.state.needs_seek.replace(false) {
            return Ok(());
        }
        self.apply_events(coordinator, batch)?;
        self.go_to(coordinator.positions())
    }

    /// Reads no other partitions than these until [`Self::read_all_on`].
    pub fn read_only(&self, wanted: &[Partition]) {
        self.pause(|partition| !wanted.contains(&partition));
    }

    /// After [`Self::read_only`]: reads all partitions on, from what the coordinator took of them last.
    pub fn read_all_on(&self, coordinator: &Coordinator) -> Result<(), SourceError> {
        let replay_range = self.consumer.context().replay_range.as_deref();
        let is_open = |partition, next| {
            replay_range.is_none_or(|replay_range: &ReplayRange| !replay_range.is_through(partition, next))
        };
        let next = coordinator.positions().iter().map(|(&partition, position)| {
            (partition, coordinator.batch_ends().get(&partition).copied().unwrap_or(*position))
        });
        self.go_to(&next.filter(|(partition, next)| is_open(*partition, *next)).collect())
    }

    /// Moves the consumer, and has it read.
    pub(super) fn go_to(&self, targets: &BTreeMap<Partition, NextOffset>) -> Result<(), SourceError> {
        if targets.is_empty() {
            return Ok(());
        }
        self.seek(targets)?;
        let resumed = self.consumer.resume(&assignment(&self.topic, targets));
        resumed.map_err(|error| transient(&error, "cannot go on reading"))
    }

    fn pause_all(&self) {
        self.pause(|_| true);
    }

    fn pause(&self, which: impl Fn(Partition) -> bool) {
        let paused = self.consumer.assignment().and_then(|all| {
            let some =
                all.elements().into_iter().map(|element| (element.partition(), 0)).filter(|(one, _)| which(*one));
            self.consumer.pause(&assignment(&self.topic, &some.collect()))
        });
        if let Err(error) = paused {
            tracing::debug!(topic = %self.topic, %error, "partitions cannot be paused");
        }
    }
}
