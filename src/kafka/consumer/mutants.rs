//! The consumer's part of the mutants (see [`crate::testing::mutant`]).

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::message::Message;
use rdkafka::topic_partition_list::Offset;

use super::Source;
use super::topic::assignment;
use crate::kafka::client::METADATA_TIMEOUT;
use crate::kafka::coordinator::Coordinator;
use crate::kafka::offset_note::{NextOffset, Partition};

/// Long enough for a group of a few to settle.
const REBALANCE: Duration = Duration::from_secs(3);
/// As a program that waits for its deliveries by polling would.
const USUAL: Duration = Duration::from_millis(20);

impl Source {
    /// Polls once more; the record is left for the next batch, see [`Self::take_up`]. It waits, because a batch that
    /// ended by time has just emptied the queue.
    pub(super) fn leave_one(&self) {
        if let Some(Ok(record)) = self.consumer.poll(USUAL)
            && let Ok(mut left) = self.consumer.context().left.lock()
        {
            *left = Some((record.partition(), record.offset()));
        }
    }

    /// The record that was left comes up again, as if it had been kept in memory.
    pub(super) fn take_up(&self) {
        let left = self.consumer.context().left.lock().ok().and_then(|mut left| left.take());
        if let Some((partition, offset)) = left {
            self.seek_back(partition, offset);
        }
    }

    /// The consumer's position in place of what was taken.
    pub(super) fn positions_of(&self, next: &BTreeMap<Partition, NextOffset>) -> BTreeMap<Partition, NextOffset> {
        let mut positions = next.clone();
        if let Ok(list) = self.consumer.position() {
            for element in list.elements() {
                if let (Some(position), Offset::Offset(offset)) =
                    (positions.get_mut(&element.partition()), element.offset())
                {
                    *position = offset;
                }
            }
        }
        positions
    }

    /// The batch at hand goes on with the records of these partitions.
    pub(super) fn revoke_late(&self, partitions: &[Partition]) {
        if let Ok(mut late) = self.consumer.context().late.lock() {
            late.push(partitions.to_vec());
        }
    }

    /// The batch has ended.
    pub(super) fn revoke_at_last(&self, coordinator: &mut Coordinator) {
        let late = self.consumer.context().late.lock().map(|mut late| std::mem::take(&mut *late)).unwrap_or_default();
        for partitions in late {
            coordinator.revoked(&partitions);
        }
    }

    /// Polls while a transaction is open, to the end of a rebalance if one begins. No record is lost by it.
    pub(crate) fn poll_inside(&self) {
        let context = self.consumer.context();
        let begun = Instant::now();
        let mut seen = BTreeMap::new();
        loop {
            if let Some(Ok(record)) = self.consumer.poll(Duration::from_millis(5)) {
                seen.entry(record.partition()).or_insert(record.offset());
            }
            let rebalance = context.has_events.load(Ordering::Acquire);
            let settled = context
                .events
                .lock()
                .is_ok_and(|events| events.iter().rev().any(|event| matches!(event, super::GroupEvent::Assigned(_))));
            if settled || begun.elapsed() > if rebalance { REBALANCE } else { USUAL } {
                break;
            }
        }
        for (partition, offset) in seen {
            self.seek_back(partition, offset);
        }
    }

    fn seek_back(&self, partition: Partition, offset: NextOffset) {
        // Fails when the partition is not ours any more: then it is not ours to read either.
        let _ = self
            .consumer
            .seek_partitions(assignment(&self.topic, &BTreeMap::from([(partition, offset)])), METADATA_TIMEOUT);
    }
}
