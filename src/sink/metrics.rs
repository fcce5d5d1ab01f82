//! A sink worker's handles.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ::metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};
use rdkafka::statistics::Statistics;

use crate::kafka::consumer::Trigger;
use crate::kafka::lag::{LagGauges, Progress};
use crate::kafka::offset_note::{NextOffset, Partition};
use crate::metrics::{
    ENDED, SINK_ASSIGNED, SINK_BATCHES, SINK_BYTES, SINK_DEAD, SINK_DROPPED, SINK_FILTERED, SINK_FOUND,
    SINK_LAG_RECORDS, SINK_LAG_SECONDS, SINK_LEFT_OUT, SINK_OPEN_TRANSACTION_RECORDS, SINK_OPEN_TRANSACTION_SECONDS,
    SINK_PENDING_AGE, SINK_RETRIES, SINK_ROWS, SINK_WITHOUT_VIEW, SINK_WRITE_SECONDS, position,
};
use crate::runtime::figures::Lag;
use crate::sink::{RetryClass, Why, Written};

/// Handles of one worker of a sink.
pub struct SinkMetrics {
    pipeline: String,
    sink: &'static str,
    rows: Counter,
    found: Counter,
    dropped: Counter,
    filtered: Counter,
    left_out: Counter,
    without_view: Counter,
    bytes: Counter,
    batches: Vec<Counter>,
    retries: Vec<Counter>,
    write_seconds: Histogram,
    assigned: Gauge,
    lag: LagGauges,
    /// Only of sinks that can have a range to be decided.
    pending: BTreeMap<Partition, Gauge>,
}

impl SinkMetrics {
    /// Counters that may stay at 0 are there from the start, so that rates work.
    pub fn new(pipeline: &str, sink: &'static str, slot: usize) -> Self {
        let labels = || vec![Label::new("pipeline", pipeline.to_string()), Label::new("sink", sink)];
        let with = |name: &'static str, key: &'static str, value: &'static str| {
            let mut labels = labels();
            labels.push(Label::new(key, value));
            counter!(name, labels)
        };
        for code in Why::CODES {
            with(SINK_DEAD, "reason", code).increment(0);
        }
        let mut with_worker = labels();
        with_worker.push(Label::new("worker", slot.to_string()));
        Self {
            rows: counter!(SINK_ROWS, labels()),
            found: counter!(SINK_FOUND, labels()),
            dropped: counter!(SINK_DROPPED, labels()),
            filtered: counter!(SINK_FILTERED, labels()),
            left_out: counter!(SINK_LEFT_OUT, labels()),
            without_view: counter!(SINK_WITHOUT_VIEW, labels()),
            bytes: counter!(SINK_BYTES, labels()),
            batches: Trigger::ALL.iter().map(|t| with(SINK_BATCHES, "trigger", t.label())).collect(),
            retries: RetryClass::ALL.iter().map(|c| with(SINK_RETRIES, "class", c.label())).collect(),
            write_seconds: histogram!(SINK_WRITE_SECONDS, labels()),
            assigned: gauge!(SINK_ASSIGNED, with_worker),
            lag: LagGauges::new(
                [SINK_LAG_RECORDS, SINK_LAG_SECONDS, SINK_OPEN_TRANSACTION_RECORDS, SINK_OPEN_TRANSACTION_SECONDS],
                labels(),
            ),
            pending: BTreeMap::new(),
            pipeline: pipeline.to_string(),
            sink,
        }
    }

    fn labels(&self) -> Vec<Label> {
        vec![Label::new("pipeline", self.pipeline.clone()), Label::new("sink", self.sink)]
    }

    /// A batch was written, its positions moved.
    pub fn written(&self, written: &Written, dead: &[(&'static str, u64)], trigger: Trigger, took: Duration) {
        self.settled(written, dead);
        if let Some(counter) = position(&Trigger::ALL, &trigger).and_then(|i| self.batches.get(i)) {
            counter.increment(1);
        }
        self.write_seconds.record(took);
    }

    /// Rows were written and their positions moved, of a batch that was aborted later.
    pub fn settled(&self, written: &Written, dead: &[(&'static str, u64)]) {
        self.rows.increment(written.rows);
        self.found.increment(written.found);
        self.dropped.increment(written.dropped);
        self.left_out.increment(written.left_out);
        self.without_view.increment(written.without_view);
        self.bytes.increment(written.bytes);
        for (code, count) in dead {
            let mut labels = self.labels();
            labels.push(Label::new("reason", *code));
            counter!(SINK_DEAD, labels).increment(*count);
        }
    }

    /// Records of a batch change nothing.
    pub fn filtered(&self, records: u64) {
        self.filtered.increment(records);
    }

    /// A batch was aborted.
    pub fn retried(&self, class: RetryClass) {
        if let Some(counter) = position(&RetryClass::ALL, &class).and_then(|i| self.retries.get(i)) {
            counter.increment(1);
        }
    }

    /// Partitions changed.
    pub fn rebalanced(&mut self, positions: &BTreeMap<Partition, NextOffset>) {
        self.assigned.set(positions.len() as f64);
        self.lag.keep(positions);
        self.pending.retain(|partition, gauge| {
            let ours = positions.contains_key(partition);
            if !ours {
                gauge.set(ENDED);
            }
            ours
        });
    }

    /// The ages of ranges of which it is not known whether they were written.
    pub fn pending(&mut self, since: &BTreeMap<Partition, Instant>, positions: &BTreeMap<Partition, NextOffset>) {
        for partition in positions.keys() {
            if !self.pending.contains_key(partition) {
                let mut labels = self.labels();
                labels.push(Label::new("partition", partition.to_string()));
                self.pending.insert(*partition, gauge!(SINK_PENDING_AGE, labels));
            }
        }
        for (partition, gauge) in &self.pending {
            gauge.set(since.get(partition).map_or(0.0, |since| since.elapsed().as_secs_f64()));
        }
    }

    /// The lag, from librdkafka's figures.
    pub fn statistics(
        &mut self,
        statistics: &Statistics,
        topic: &str,
        progress: &Progress<'_>,
    ) -> BTreeMap<Partition, Lag> {
        self.lag.show(statistics, topic, progress)
    }
}
