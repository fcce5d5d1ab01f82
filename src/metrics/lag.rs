//! Lag in records and in seconds, a gauge of each for every partition that is ours.

use std::collections::BTreeMap;
use std::time::SystemTime;

use ::metrics::{Gauge, Label, gauge};
use rdkafka::statistics::Topic;

use super::page::ENDED;
use super::unix_seconds;
use crate::coordinator::{NextOffset, Partition};

/// The lag gauges of one worker.
pub(super) struct LagGauges {
    records: &'static str,
    seconds: &'static str,
    labels: Vec<Label>,
    /// Partitions with gauges, so that those of revoked ones can be ended.
    shown: BTreeMap<Partition, (Gauge, Gauge)>,
}

impl LagGauges {
    /// Names of the two metrics, and the labels that all partitions share.
    pub(super) fn new(records: &'static str, seconds: &'static str, labels: Vec<Label>) -> Self {
        Self { records, seconds, labels, shown: BTreeMap::new() }
    }

    /// Partitions changed: the new owner shows the lag of those that went; ours would stand still at its last value.
    pub(super) fn keep(&mut self, positions: &BTreeMap<Partition, NextOffset>) {
        self.shown.retain(|partition, (records, seconds)| {
            let ours = positions.contains_key(partition);
            if !ours {
                records.set(ENDED);
                seconds.set(ENDED);
            }
            ours
        });
    }

    /// Shows of each partition the records not read yet, and the age in seconds of the last one read, 0 where all are read.
    pub(super) fn show(
        &mut self,
        topic: &Topic,
        positions: &BTreeMap<Partition, NextOffset>,
        last_timestamp_ms: &BTreeMap<Partition, i64>,
    ) {
        let now_ms = unix_seconds(SystemTime::now()) * 1000.0;
        for (partition, position) in positions {
            let Some(end) = topic.partitions.get(partition).map(|p| p.ls_offset).filter(|end| *end >= 0) else {
                continue;
            };
            let lag = (end - position).max(0);
            let age = match last_timestamp_ms.get(partition) {
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
