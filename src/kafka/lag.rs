//! Lag in records and in seconds, and what is behind other producers' open transactions: gauges for every partition that is
//! ours.

use std::collections::BTreeMap;
use std::time::SystemTime;

use ::metrics::{Gauge, Label, gauge};
use rdkafka::statistics::{Partition as Reader, Statistics};

use crate::kafka::consumer::Behind;
use crate::kafka::offset_note::{NextOffset, Partition};
use crate::metrics::{ENDED, unix_seconds};
use crate::runtime::figures::Lag;

/// How far a worker is.
pub struct Progress<'a> {
    /// Of each partition of ours the next offset to settle.
    pub positions: &'a BTreeMap<Partition, NextOffset>,
    /// Timestamp in milliseconds since the epoch of the last record settled.
    pub last_timestamp_ms: &'a BTreeMap<Partition, i64>,
    /// Whether every record that was polled is settled.
    pub settled: bool,
    /// What nobody can read yet.
    pub behind: &'a BTreeMap<Partition, Behind>,
}

/// The lag gauges of one worker.
pub struct LagGauges {
    /// Lag in records and in seconds; records behind an open transaction, and for how many seconds.
    names: [&'static str; 4],
    labels: Vec<Label>,
    /// Partitions with gauges, so that those of revoked ones can be ended.
    shown: BTreeMap<Partition, [Gauge; 4]>,
}

impl LagGauges {
    /// Names of the four metrics, and the labels that all partitions share.
    pub fn new(names: [&'static str; 4], labels: Vec<Label>) -> Self {
        Self { names, labels, shown: BTreeMap::new() }
    }

    /// Partitions changed: the new owner shows the lag of those that went; ours would stand still at its last value.
    pub fn keep(&mut self, positions: &BTreeMap<Partition, NextOffset>) {
        self.shown.retain(|partition, gauges| {
            let ours = positions.contains_key(partition);
            if !ours {
                gauges.iter().for_each(|gauge| gauge.set(ENDED));
            }
            ours
        });
    }

    /// Shows, from librdkafka's figures, of each partition the records not settled yet, the age in seconds of the last one that
    /// is (0 where all are), and what is behind an open transaction. Returns the same; nothing of a topic without figures.
    pub fn show(&mut self, statistics: &Statistics, topic: &str, progress: &Progress<'_>) -> BTreeMap<Partition, Lag> {
        let mut shown = BTreeMap::new();
        let Some(topic) = statistics.topics.get(topic) else { return shown };
        let now_ms = unix_seconds(SystemTime::now()) * 1000.0;
        for (partition, position) in progress.positions {
            let reader = topic.partitions.get(partition);
            let Some(lag) = reader.and_then(|reader| lag(reader, *position, progress.settled)) else { continue };
            let age = match progress.last_timestamp_ms.get(partition) {
                Some(timestamp) if lag > 0 => ((now_ms - *timestamp as f64) / 1000.0).max(0.0),
                _ => 0.0,
            };
            let behind = progress.behind.get(partition);
            let waiting = behind.map_or((0.0, 0.0), |behind| (behind.records() as f64, behind.still.as_secs_f64()));
            let [records, seconds, behind_records, behind_seconds] =
                self.shown.entry(*partition).or_insert_with(|| {
                    let mut labels = self.labels.clone();
                    labels.push(Label::new("partition", partition.to_string()));
                    self.names.map(|name| gauge!(name, labels.clone()))
                });
            records.set(lag as f64);
            seconds.set(age);
            behind_records.set(waiting.0);
            behind_seconds.set(waiting.1);
            let open_transaction_records = behind.map_or(0, |behind| behind.records());
            shown.insert(*partition, Lag { records: lag, seconds: age, open_transaction_records });
        }
        shown
    }
}

/// Offsets between `position` and the last that is committed; `None` before the broker has told it.
///
/// The last offset of a topic that is written in transactions is the marker of a commit, which no consumer is given. So a
/// reader who has settled all that was polled stands where librdkafka does, which counts the marker among the polled.
fn lag(reader: &Reader, position: NextOffset, settled: bool) -> Option<i64> {
    let position = if settled { position.max(reader.app_offset) } else { position };
    (reader.ls_offset >= 0).then(|| (reader.ls_offset - position).max(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(ls_offset: i64, app_offset: i64) -> Reader {
        Reader { ls_offset, app_offset, ..Reader::default() }
    }

    #[test]
    fn the_marker_at_the_end_of_a_transaction_is_no_lag() {
        // Ten records, the marker at offset 10.
        assert_eq!(lag(&reader(11, 11), 10, true), Some(0));
        // A second transaction is not polled, or polled and not settled.
        assert_eq!(lag(&reader(22, 11), 10, true), Some(11));
        assert_eq!(lag(&reader(22, 22), 10, false), Some(12));
        // Before anything was polled, or told: librdkafka's logical offset.
        assert_eq!(lag(&reader(11, -1001), 4, true), Some(7));
        assert_eq!(lag(&reader(-1001, -1001), 0, true), None);
    }
}
