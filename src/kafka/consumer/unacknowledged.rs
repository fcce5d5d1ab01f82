//! Offsets that were committed to show how far a sink is, until the broker has acknowledged them.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::kafka::offset_note::{NextOffset, Partition};

/// Offsets that only show how far a sink is, and that the broker has not acknowledged yet. A commit is lost where it meets a
/// rebalance (ILLEGAL_GENERATION): without another one, a topic in which nothing more comes would lag for ever.
#[derive(Default)]
pub(super) struct Unacknowledged {
    offsets: Mutex<BTreeMap<Partition, NextOffset>>,
    /// A commit failed, or an offset was not committed at all.
    is_due: AtomicBool,
}

impl Unacknowledged {
    /// These are committed now.
    pub(super) fn sent(&self, next: &BTreeMap<Partition, NextOffset>) {
        if let Ok(mut offsets) = self.offsets.lock() {
            offsets.extend(next);
        }
    }

    /// A position of a partition that just came, behind which the group's offset stayed: its former owner's commit was lost.
    pub(super) fn found(&self, partition: Partition, next: NextOffset) {
        self.sent(&BTreeMap::from([(partition, next)]));
        self.commit_again();
    }

    /// What the broker answered to a commit.
    pub(super) fn answered(&self, result: &KafkaResult<()>, committed: &TopicPartitionList) {
        let Ok(mut offsets) = self.offsets.lock() else { return };
        for element in committed.elements() {
            match element.offset() {
                Offset::Offset(next) if result.is_ok() && element.error().is_ok() => {
                    // An answer to an earlier commit does not speak for a later one.
                    if offsets.get(&element.partition()).is_some_and(|sent| *sent <= next) {
                        offsets.remove(&element.partition());
                    }
                }
                _ => self.commit_again(),
            }
        }
    }

    /// A commit failed.
    pub(super) fn commit_again(&self) {
        self.is_due.store(true, Ordering::Release);
    }

    /// Whether something is to be committed again.
    pub(super) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Acquire)
    }

    /// What is to be committed again of the partitions that are held; what others hold now is theirs to show.
    pub(super) fn due(&self, is_held: impl Fn(Partition) -> bool) -> BTreeMap<Partition, NextOffset> {
        if !self.is_due.swap(false, Ordering::AcqRel) {
            return BTreeMap::new();
        }
        let Ok(mut offsets) = self.offsets.lock() else { return BTreeMap::new() };
        offsets.retain(|partition, _| is_held(*partition));
        offsets.clone()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rdkafka::error::{KafkaError, RDKafkaErrorCode};

    use super::*;

    fn list(offsets: &[(Partition, NextOffset)]) -> TopicPartitionList {
        let mut list = TopicPartitionList::new();
        for &(partition, next) in offsets {
            list.add_partition_offset("presses", partition, Offset::Offset(next)).unwrap();
        }
        list
    }

    #[test]
    fn a_commit_that_failed_is_due_until_one_as_high_is_acknowledged() {
        let failed = Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::IllegalGeneration));
        let shown = Unacknowledged::default();
        shown.sent(&BTreeMap::from([(0, 40), (1, 7)]));
        assert_eq!(shown.due(|_| true), BTreeMap::new(), "nothing has failed");
        shown.answered(&Ok(()), &list(&[(1, 7)]));
        shown.answered(&failed, &list(&[(0, 40)]));
        shown.sent(&BTreeMap::from([(0, 70)]));
        shown.answered(&Ok(()), &list(&[(0, 40)]));
        assert_eq!(shown.due(|_| true), BTreeMap::from([(0, 70)]));
        assert_eq!(shown.due(|_| true), BTreeMap::new(), "it is under way");
        shown.answered(&failed, &list(&[(0, 70)]));
        assert_eq!(shown.due(|_| true), BTreeMap::from([(0, 70)]));
        shown.answered(&Ok(()), &list(&[(0, 70)]));
        shown.answered(&failed, &list(&[(0, 40)]));
        assert_eq!(shown.due(|_| true), BTreeMap::new(), "a late answer to an earlier one");
    }

    #[test]
    fn what_another_member_holds_now_is_not_shown() {
        let shown = Unacknowledged::default();
        shown.found(0, 40);
        shown.found(1, 7);
        assert_eq!(shown.due(|partition| partition == 1), BTreeMap::from([(1, 7)]));
        shown.found(2, 1);
        assert_eq!(shown.due(|_| true), BTreeMap::from([(1, 7), (2, 1)]), "the other one was forgotten");
    }
}
