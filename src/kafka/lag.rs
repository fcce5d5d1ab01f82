//! Lag in records and in seconds, a gauge of each for every partition that is ours.

use std::collections::BTreeMap;
use std::time::SystemTime;

use ::metrics::{Gauge, Label, gauge};
use rdkafka::statistics::{Partition as Reader, Topic};

use crate::kafka::coordinator::{NextOffset, Partition};
use crate::metrics::{ENDED, unix_seconds};

/// How far a worker is.
pub struct Progress<'a> {
    /// Of each partition of ours the next offset to settle.
    pub positions: &'a BTreeMap<Partition, NextOffset>,
    /// Timestamp in milliseconds since the epoch of the last record settled.
    pub last_timestamp_ms: &'a BTreeMap<Partition, i64>,
    /// Whether every record that was polled is settled.
    pub settled: bool,
}

/// The lag gauges of one worker.
pub struct LagGauges {
    records: &'static str,
    seconds: &'static str,
    labels: Vec<Label>,
    /// Partitions with gauges, so that those of revoked ones can be ended.
    shown: BTreeMap<Partition, (Gauge, Gauge)>,
}

impl LagGauges {
    /// Names of the two metrics, and the labels that all partitions share.
    pub fn new(records: &'static str, seconds: &'static str, labels: Vec<Label>) -> Self {
        Self { records, seconds, labels, shown: BTreeMap::new() }
    }

    /// Partitions changed: the new owner shows the lag of those that went; ours would stand still at its last value.
    pub fn keep(&mut self, positions: &BTreeMap<Partition, NextOffset>) {
        self.shown.retain(|partition, (records, seconds)| {
            let ours = positions.contains_key(partition);
            if !ours {
                records.set(ENDED);
                seconds.set(ENDED);
            }
            ours
        });
    }

    /// Shows of each partition the records not settled yet, and the age in seconds of the last one that is, 0 where all are.
    pub fn show(&mut self, topic: &Topic, progress: &Progress<'_>) {
        let now_ms = unix_seconds(SystemTime::now()) * 1000.0;
        for (partition, position) in progress.positions {
            let reader = topic.partitions.get(partition);
            let Some(lag) = reader.and_then(|reader| lag(reader, *position, progress.settled)) else { continue };
            let age = match progress.last_timestamp_ms.get(partition) {
                Some(timestamp) if lag > 0 => ((now_ms - *timestamp as f64) / 1000.0).max(0.0),
                _ => 0.0,
            };
            let (records, seconds) = self.shown.entry(*partition).or_insert_with(|| {
                let mut labels = self.labels.clone();
                labels.push(Label::new("partition", partition.to_string()));
                (gauge!(self.records, labels.clone()), gauge!(self.seconds, labels))
            });
            records.set(lag as f64);
            seconds.set(age);
        }
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
