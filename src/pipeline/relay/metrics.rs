//! A relay worker's handles, and what one batch counts before it is settled.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ::metrics::{Counter, Gauge, Histogram, Label, counter, gauge, histogram};
use rdkafka::statistics::Statistics;

use crate::kafka::consumer::Trigger;
use crate::kafka::dead_letter::Reason;
use crate::kafka::lag::{LagGauges, Progress};
use crate::kafka::offset_note::{NextOffset, Partition};
use crate::kafka::producer::Cause;
use crate::metrics::{
    ABORTED, ASSIGNED, BATCHES, BYTES_IN, BYTES_OUT, CACHE_ENTRIES, CACHE_EVICTIONS, COMMITTED, Delays, KAFKA_QUEUE,
    KAFKA_QUEUE_BYTES, KAFKA_RTT, KAFKA_RX, LAG_RECORDS, LAG_SECONDS, LOOKUPS, OPEN_TRANSACTION_RECORDS,
    OPEN_TRANSACTION_SECONDS, REBALANCES, RECORDS_DEAD, RECORDS_FILTERED, RECORDS_IN, RECORDS_WRITTEN, RECOVERIES,
    TIMESTAMPS_REPLACED, TRANSACTION_SECONDS, UNKNOWN_FIELDS, WORK_SECONDS, increment_all, position, unix_seconds,
};
use crate::pipeline::press::enrich::LookupOutcome;
use crate::place::CacheStats;
use crate::runtime::figures::Lag;

/// What one settled batch adds. Filled without touching shared state.
#[derive(Debug, Default)]
pub struct BatchCounts {
    /// Records written.
    pub written: u64,
    /// Records that a filter kept back.
    pub filtered: u64,
    /// Records dead, by position in [`Reason::ALL`].
    pub dead: [u64; Reason::ALL.len()],
    /// Bytes of ingress values.
    pub bytes_in: u64,
    /// Bytes of output values.
    pub bytes_out: u64,
    /// Unknown fields.
    pub unknown_fields: u64,
    /// Records written with another timestamp than their own.
    pub timestamps_replaced: u64,
    /// Lookups, by position in [`LookupOutcome::ALL`].
    pub lookups: [u64; LookupOutcome::ALL.len()],
    /// The worker's own part.
    pub work: Duration,
    /// Ingress timestamps in ms, for the delay.
    pub timestamps_ms: Vec<i64>,
}

impl BatchCounts {
    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        let mut timestamps = std::mem::take(&mut self.timestamps_ms);
        timestamps.clear();
        *self = Self { timestamps_ms: timestamps, ..Self::default() };
    }

    /// Counts a dead letter.
    pub fn add_dead(&mut self, reason: Reason) {
        if let Some(count) = position(&Reason::ALL, &reason).and_then(|i| self.dead.get_mut(i)) {
            *count += 1;
        }
    }

    /// Counts a lookup.
    pub fn add_lookup(&mut self, outcome: LookupOutcome) {
        if let Some(count) = position(&LookupOutcome::ALL, &outcome).and_then(|i| self.lookups.get_mut(i)) {
            *count += 1;
        }
    }

    /// All dead letters.
    pub fn dead_total(&self) -> u64 {
        self.dead.iter().sum()
    }
}

/// A worker's handles: made once, so that emitting is a few atomic additions.
pub struct WorkerMetrics {
    pipeline: String,
    worker: String,
    records_in: Counter,
    written: Counter,
    filtered: Counter,
    dead: Vec<Counter>,
    bytes_in: Counter,
    bytes_out: Counter,
    unknown_fields: Counter,
    timestamps_replaced: Counter,
    batches: Vec<Counter>,
    committed: Counter,
    aborted: Vec<Counter>,
    recoveries: Counter,
    transaction_seconds: Histogram,
    work_seconds: Histogram,
    delays: Arc<Delays>,
    lookups: Vec<Counter>,
    rebalances: Counter,
    assigned: Gauge,
    cache_entries: Gauge,
    cache_evictions: Counter,
    lag: LagGauges,
}

impl WorkerMetrics {
    /// Handles of one worker. Counters that may stay at 0 are there from the start, so that rates work.
    pub fn new(pipeline: &str, slot: usize) -> Self {
        let p = || vec![Label::new("pipeline", pipeline.to_string())];
        let with = |name: &'static str, key: &'static str, value: &'static str| {
            let mut labels = p();
            labels.push(Label::new(key, value));
            counter!(name, labels)
        };
        let worker = slot.to_string();
        Self {
            records_in: counter!(RECORDS_IN, p()),
            written: counter!(RECORDS_WRITTEN, p()),
            filtered: counter!(RECORDS_FILTERED, p()),
            dead: Reason::ALL.iter().map(|r| with(RECORDS_DEAD, "reason", r.code())).collect(),
            bytes_in: counter!(BYTES_IN, p()),
            bytes_out: counter!(BYTES_OUT, p()),
            unknown_fields: counter!(UNKNOWN_FIELDS, p()),
            timestamps_replaced: counter!(TIMESTAMPS_REPLACED, p()),
            batches: Trigger::ALL.iter().map(|t| with(BATCHES, "trigger", t.label())).collect(),
            committed: counter!(COMMITTED, p()),
            aborted: Cause::ALL.iter().map(|c| with(ABORTED, "cause", c.label())).collect(),
            recoveries: counter!(RECOVERIES, p()),
            transaction_seconds: histogram!(TRANSACTION_SECONDS, p()),
            work_seconds: histogram!(WORK_SECONDS, p()),
            delays: Delays::of(pipeline),
            lookups: LookupOutcome::ALL.iter().map(|o| with(LOOKUPS, "outcome", o.label())).collect(),
            rebalances: counter!(REBALANCES, p()),
            assigned: gauge!(ASSIGNED, "pipeline" => pipeline.to_string(), "worker" => worker.clone()),
            cache_entries: gauge!(CACHE_ENTRIES, p()),
            cache_evictions: counter!(CACHE_EVICTIONS, p()),
            lag: LagGauges::new([LAG_RECORDS, LAG_SECONDS, OPEN_TRANSACTION_RECORDS, OPEN_TRANSACTION_SECONDS], p()),
            pipeline: pipeline.to_string(),
            worker,
        }
    }

    /// A batch was committed: only now do its records count, so inputs and outcomes always agree.
    pub fn settled(&self, counts: &BatchCounts, trigger: Trigger, took: Duration) {
        let dead = counts.dead_total();
        self.records_in.increment(counts.written + counts.filtered + dead);
        self.written.increment(counts.written);
        self.filtered.increment(counts.filtered);
        increment_all(&self.dead, &counts.dead);
        increment_all(&self.lookups, &counts.lookups);
        self.bytes_in.increment(counts.bytes_in);
        self.bytes_out.increment(counts.bytes_out);
        self.unknown_fields.increment(counts.unknown_fields);
        self.timestamps_replaced.increment(counts.timestamps_replaced);
        if let Some(counter) = position(&Trigger::ALL, &trigger).and_then(|i| self.batches.get(i)) {
            counter.increment(1);
        }
        self.committed.increment(1);
        self.transaction_seconds.record(took);
        self.work_seconds.record(counts.work);
        self.delays.record((unix_seconds(SystemTime::now()) * 1000.0) as i64, &counts.timestamps_ms);
    }

    /// A transaction was aborted.
    pub fn aborted(&self, cause: Cause) {
        if let Some(counter) = position(&Cause::ALL, &cause).and_then(|i| self.aborted.get(i)) {
            counter.increment(1);
        }
    }

    /// The worker went back to the committed offsets.
    pub fn recovered(&self) {
        self.recoveries.increment(1);
    }

    /// Partitions changed.
    pub fn rebalanced(&mut self, positions: &BTreeMap<Partition, NextOffset>) {
        self.rebalances.increment(1);
        self.assigned.set(positions.len() as f64);
        self.lag.keep(positions);
    }

    /// How the cache of places stands.
    pub fn cache(&self, stats: &CacheStats) {
        self.cache_entries.set(stats.entries as f64);
        self.cache_evictions.absolute(stats.evictions);
    }

    /// librdkafka's figures that matter, and from them the lag.
    pub fn statistics(
        &mut self,
        statistics: &Statistics,
        topic: &str,
        progress: &Progress<'_>,
    ) -> BTreeMap<Partition, Lag> {
        let labels = || vec![Label::new("pipeline", self.pipeline.clone()), Label::new("worker", self.worker.clone())];
        gauge!(KAFKA_RX, labels()).set(statistics.rx_bytes as f64);
        let rtt = statistics.brokers.values().filter_map(|b| b.rtt.as_ref()).map(|w| w.p99).max().unwrap_or(0);
        gauge!(KAFKA_RTT, labels()).set(rtt as f64 / 1e6);
        if let Some(topic) = statistics.topics.get(topic) {
            let queued =
                |of: fn(&rdkafka::statistics::Partition) -> f64| topic.partitions.values().map(of).sum::<f64>();
            gauge!(KAFKA_QUEUE, labels()).set(queued(|p| p.fetchq_cnt as f64));
            gauge!(KAFKA_QUEUE_BYTES, labels()).set(queued(|p| p.fetchq_size as f64));
        }
        self.lag.show(statistics, topic, progress)
    }
}
