//! Records that nobody can read yet: a transaction of another producer is open before them, and the broker gives a
//! `read_committed` reader nothing past it. They are no lag, which counts what could be read, so without a word of their own
//! nobody would see them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::statistics::{Partition as Reader, Topic};

use crate::kafka::advice::Advice;
use crate::kafka::offset_note::{NextOffset, Partition};

/// The longest time that one look adds: librdkafka's figures come every 5 s, and what was not looked at in between (a long
/// write, a pause) may have moved.
const LONGEST_STEP: Duration = Duration::from_secs(10);

/// Records of a partition behind an open transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Behind {
    /// The last stable offset: the open transaction's first record.
    pub stable: NextOffset,
    /// The high watermark.
    pub high: NextOffset,
    /// How long the last stable offset has stood still.
    pub still: Duration,
}

impl Behind {
    /// Offsets that wait.
    pub fn records(&self) -> i64 {
        self.high - self.stable
    }
}

/// What a worker's partitions have behind open transactions, from one set of librdkafka's figures to the next.
pub struct OpenTransactions {
    advice: Advice,
    topic: String,
    /// From here on it is said in the log.
    warn_after: Duration,
    seen: Option<Instant>,
    partitions: BTreeMap<Partition, Watched>,
}

struct Watched {
    behind: Behind,
    told: bool,
}

impl OpenTransactions {
    /// Nothing is known yet.
    pub fn new(advice: Advice, topic: &str, warn_after: Duration) -> Self {
        Self { advice, topic: topic.to_string(), warn_after, seen: None, partitions: BTreeMap::new() }
    }

    /// Takes notice of new figures; says in the log what has stood still for too long, once, and when it goes on.
    pub fn observe(
        &mut self,
        topic: Option<&Topic>,
        positions: &BTreeMap<Partition, NextOffset>,
        now: Instant,
    ) -> BTreeMap<Partition, Behind> {
        let step = self.seen.map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen).min(LONGEST_STEP));
        self.seen = Some(now);
        let mut found = BTreeMap::new();
        for (&partition, &position) in positions {
            let reader = topic.and_then(|topic| topic.partitions.get(&partition));
            let Some(behind) = reader.and_then(|reader| behind(reader, position)) else { continue };
            let before = self.partitions.remove(&partition).filter(|one| one.behind.stable == behind.stable);
            let (still, told) = before.map_or((Duration::ZERO, false), |one| (one.behind.still + step, one.told));
            let mut watched = Watched { behind: Behind { still, ..behind }, told };
            if !watched.told && still >= self.warn_after {
                watched.told = true;
                self.warn(partition, &watched.behind);
            }
            found.insert(partition, watched);
        }
        for (&partition, gone) in &self.partitions {
            if gone.told && positions.contains_key(&partition) {
                self.ended(partition, &gone.behind);
            }
        }
        self.partitions = found;
        self.partitions.iter().map(|(&partition, watched)| (partition, watched.behind)).collect()
    }

    /// What has stood still for too long, for people; empty where nothing has.
    pub fn note(&self) -> String {
        let told = self.partitions.iter().filter(|(_, watched)| watched.told);
        let lines = told.map(|(partition, Watched { behind, .. })| {
            format!(
                "topic {}, partition {partition}: offsets {} to {} are behind an open transaction, for {} s",
                self.topic,
                behind.stable,
                behind.high - 1,
                behind.still.as_secs()
            )
        });
        lines.collect::<Vec<_>>().join("; ")
    }

    fn warn(&self, partition: Partition, behind: &Behind) {
        tracing::warn!(
            pipeline = %self.advice.pipeline, part = self.advice.part.name(), topic = %self.topic, partition,
            offset = behind.stable, high_watermark = behind.high, still_s = behind.still.as_secs(),
            "records wait behind an open transaction of another producer. Find it with kafka-transactions.sh find-hanging, and \
             have its producer end it, or abort it"
        );
    }

    fn ended(&self, partition: Partition, behind: &Behind) {
        tracing::info!(
            pipeline = %self.advice.pipeline, part = self.advice.part.name(), topic = %self.topic, partition,
            offset = behind.stable, still_s = behind.still.as_secs(),
            "the open transaction has ended; the records behind it are read"
        );
    }
}

/// What waits behind the last stable offset. None while there is something to read before it: then that is why records wait,
/// and the figures may be old, since nothing is fetched while a queue is full or a partition is paused.
fn behind(reader: &Reader, position: NextOffset) -> Option<Behind> {
    let (stable, high) = (reader.ls_offset, reader.hi_offset);
    let at_stable = position.max(reader.app_offset) >= stable;
    (stable >= 0 && high > stable && at_stable).then_some(Behind { stable, high, still: Duration::ZERO })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::advice::PipelinePart;

    fn figures(stable: i64, high: i64, polled: i64) -> Topic {
        let reader = Reader { ls_offset: stable, hi_offset: high, app_offset: polled, ..Reader::default() };
        Topic { partitions: [(0, reader)].into(), ..Topic::default() }
    }

    fn open_transactions() -> OpenTransactions {
        OpenTransactions::new(Advice::new("presses", PipelinePart::Relay), "raw", Duration::from_secs(20))
    }

    #[test]
    fn a_stable_offset_that_stands_still_is_told_with_how_long() {
        let (start, positions) = (Instant::now(), BTreeMap::from([(0, 10)]));
        let mut open = open_transactions();
        for seconds in [0, 5, 10, 15] {
            let found = open.observe(
                Some(&figures(10, 25 + seconds, 10)),
                &positions,
                start + Duration::from_secs(seconds as u64),
            );
            assert_eq!(found[&0].records(), 15 + seconds);
            assert_eq!((found[&0].still.as_secs(), open.note()), (seconds as u64, String::new()));
        }
        open.observe(Some(&figures(10, 40, 10)), &positions, start + Duration::from_secs(20));
        assert_eq!(open.note(), "topic raw, partition 0: offsets 10 to 39 are behind an open transaction, for 20 s");
        // It ends; the next one begins at once and is young.
        let found = open.observe(Some(&figures(41, 50, 41)), &positions, start + Duration::from_secs(25));
        assert_eq!((found[&0].still, found[&0].records(), open.note()), (Duration::ZERO, 9, String::new()));
        assert!(open.observe(Some(&figures(50, 50, 50)), &positions, start + Duration::from_secs(30)).is_empty());
    }

    #[test]
    fn before_anything_was_polled_the_position_tells_that_all_was_read() {
        let mut open = open_transactions();
        let found = open.observe(Some(&figures(10, 25, -1001)), &BTreeMap::from([(0, 10)]), Instant::now());
        assert_eq!(found[&0].records(), 15);
    }

    #[test]
    fn what_waits_for_us_and_what_was_not_looked_at_is_not_held_against_a_producer() {
        let (start, positions) = (Instant::now(), BTreeMap::from([(0, 4)]));
        let mut open = open_transactions();
        assert!(open.observe(Some(&figures(10, 25, 4)), &positions, start).is_empty(), "we are behind ourselves");
        assert!(open.observe(Some(&figures(-1001, -1001, -1001)), &positions, start).is_empty(), "nothing is known");
        let mut open = open_transactions();
        open.observe(Some(&figures(10, 25, 10)), &positions, start);
        let found = open.observe(Some(&figures(10, 25, 10)), &positions, start + Duration::from_secs(3600));
        assert_eq!(found[&0].still, LONGEST_STEP, "an hour's write");
        assert!(open.observe(Some(&figures(10, 25, 10)), &BTreeMap::new(), start).is_empty(), "not ours any more");
    }
}
