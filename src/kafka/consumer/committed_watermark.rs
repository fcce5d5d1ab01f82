//! What this process knows to be committed: below it no group offset may be found unless somebody set it back.
//!
//! Offsets go back by themselves where the broker that coordinates the group loses them (an unclean leader election, a lost
//! disk), and for a while where it serves before it has loaded them, which Kafka 4.1.0 does after kill -9 on a busy machine. To
//! begin there would write again what is written.

use std::collections::BTreeMap;
use std::sync::Mutex;

use crate::kafka::offset_note::{CommittedOffset, NextOffset, OffsetNote, Partition};

/// One for each relay or sink, shared by its workers, since partitions move between them.
#[derive(Debug, Default)]
pub struct CommittedWatermark {
    known: Mutex<BTreeMap<Partition, Known>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    next: NextOffset,
    topic_id: Option<String>,
    resets: u32,
}

/// A partition whose committed offset went back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WentBack {
    /// The partition.
    pub partition: Partition,
    /// What the group has now.
    pub found: Option<NextOffset>,
    /// What was committed before.
    pub known: NextOffset,
}

impl CommittedWatermark {
    /// The broker has acknowledged this offset with this note.
    pub fn raise(&self, partition: Partition, next: NextOffset, note: &OffsetNote) {
        let Ok(mut known) = self.known.lock() else { return };
        let new = Known { next, topic_id: note.topic_id.clone(), resets: note.resets };
        match known.get_mut(&partition) {
            Some(old) if old.topic_id == new.topic_id && old.resets == new.resets => old.next = old.next.max(next),
            Some(old) => *old = new,
            None => drop(known.insert(partition, new)),
        }
    }

    /// The first partition whose offset lies before what was committed, or is gone. What was set back by hand (another count
    /// of resets, or no note of ours) is no such partition and is forgotten, and one of another topic of that name is none.
    pub fn went_back(
        &self,
        topic_id: Option<&str>,
        committed: &BTreeMap<Partition, CommittedOffset>,
    ) -> Option<WentBack> {
        let mut known = self.known.lock().ok()?;
        known.retain(|partition, known| {
            committed.get(partition).is_none_or(|found| !is_by_hand(&found.note, known.resets))
        });
        let mut ours = known.iter().filter(|(_, known)| known.topic_id.as_deref() == topic_id);
        ours.find_map(|(&partition, known)| {
            let found = committed.get(&partition).map(|found| found.next);
            let lower = found.is_none_or(|found| found < known.next);
            lower.then_some(WentBack { partition, found, known: known.next })
        })
    }
}

fn is_by_hand(note: &OffsetNote, resets: u32) -> bool {
    *note == OffsetNote::default() || note.resets != resets
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(topic_id: &str, resets: u32) -> OffsetNote {
        OffsetNote { topic_id: Some(topic_id.to_string()), resets, ..OffsetNote::default() }
    }

    fn committed(next: NextOffset, note: OffsetNote) -> BTreeMap<Partition, CommittedOffset> {
        BTreeMap::from([(3, CommittedOffset { next, note })])
    }

    #[test]
    fn an_offset_that_went_back_or_is_gone_is_told() {
        let committed_watermark = CommittedWatermark::default();
        assert_eq!(committed_watermark.went_back(Some("id"), &BTreeMap::new()), None, "nothing is known yet");
        committed_watermark.raise(3, 100, &note("id", 0));
        committed_watermark.raise(3, 90, &note("id", 0));
        let gone = WentBack { partition: 3, found: None, known: 100 };
        assert_eq!(committed_watermark.went_back(Some("id"), &BTreeMap::new()), Some(gone));
        let back = WentBack { found: Some(99), ..gone };
        assert_eq!(committed_watermark.went_back(Some("id"), &committed(99, note("id", 0))), Some(back));
        for next in [100, 101] {
            assert_eq!(committed_watermark.went_back(Some("id"), &committed(next, note("id", 0))), None);
        }
    }

    #[test]
    fn what_was_set_back_by_hand_is_accepted() {
        let committed_watermark = CommittedWatermark::default();
        committed_watermark.raise(3, 100, &note("id", 0));
        assert_eq!(committed_watermark.went_back(Some("id"), &committed(5, note("id", 1))), None, "by `offsets set`");
        assert_eq!(
            committed_watermark.went_back(Some("id"), &committed(5, OffsetNote::default())),
            None,
            "by Kafka's own tool"
        );
        assert_eq!(
            committed_watermark.went_back(Some("another"), &BTreeMap::new()),
            None,
            "another topic of that name"
        );
        committed_watermark.raise(3, 6, &note("id", 1));
        assert_eq!(committed_watermark.went_back(Some("id"), &committed(7, note("id", 1))), None);
        assert!(committed_watermark.went_back(Some("id"), &committed(5, note("id", 1))).is_some());
    }
}
