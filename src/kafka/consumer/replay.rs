//! A bounded run from the source's side: what is noted with offsets, when it is over, and what is not fetched any more.

use std::collections::{BTreeMap, BTreeSet};

use rdkafka::consumer::Consumer;

use super::committed::{committed, note};
use super::topic::{assignment, layout};
use super::{Source, SourceError};
use crate::kafka::coordinator::Coordinator;
use crate::kafka::offset_note::{NextOffset, OffsetNote, Partition, Tally};
use crate::kafka::replay_range::ReplayRange;

impl Source {
    /// These offsets are committed: their records' outcomes are final.
    pub fn settled(&self, next: &BTreeMap<Partition, NextOffset>, outcomes: &BTreeMap<Partition, Tally>) {
        let context = self.consumer.context();
        for (&partition, &position) in next {
            let outcome = outcomes.get(&partition).copied().unwrap_or_default();
            context.breaker.counted(partition, outcome);
            if let Some(replay_range) = &context.replay_range {
                replay_range.settled(partition, position, outcome);
            }
        }
    }

    /// Whether the run ends by itself and accounts for its records.
    pub fn is_bounded(&self) -> bool {
        self.consumer.context().replay_range.is_some()
    }

    /// What is noted with an offset once records with these outcomes lie before it.
    pub(super) fn note_after(&self, partition: Partition, outcome: Tally) -> OffsetNote {
        let context = self.consumer.context();
        let note = OffsetNote { seen: context.breaker.after(partition, outcome), ..note(context) };
        match &context.replay_range {
            Some(replay_range) => replay_range.note(partition, outcome, note),
            None => note,
        }
    }

    /// Whether a bounded run is over: our partitions are at their ends, and those of other workers too, as the group has them.
    /// What is through is not fetched any more.
    pub fn is_through(&self, coordinator: &Coordinator) -> Result<bool, SourceError> {
        let Some(replay_range) = &self.consumer.context().replay_range else { return Ok(false) };
        self.rest(coordinator, replay_range);
        if !coordinator.is_through() {
            return Ok(false);
        }
        let committed = committed(&self.consumer, &self.topic, &layout(&self.consumer, &self.topic)?)?;
        let through = |(partition, end): (&Partition, &NextOffset)| {
            committed.get(partition).is_some_and(|offset| offset.next >= *end)
        };
        Ok(replay_range.ends().iter().all(through))
    }

    /// Pauses partitions that are through; once after each rebalance, since that throws away what was fetched.
    fn rest(&self, coordinator: &Coordinator, replay_range: &ReplayRange) {
        let mut at_rest = self.state.at_rest.borrow_mut();
        if at_rest.0 != coordinator.epoch() {
            *at_rest = (coordinator.epoch(), BTreeSet::new());
        }
        for (&partition, &position) in coordinator.positions() {
            if !replay_range.is_through(partition, position) || !at_rest.1.insert(partition) {
                continue;
            }
            if let Err(error) = self.consumer.pause(&assignment(&self.topic, &BTreeMap::from([(partition, position)])))
            {
                tracing::debug!(topic = %self.topic, partition, %error, "a partition that is through is read on");
            }
        }
    }
}
