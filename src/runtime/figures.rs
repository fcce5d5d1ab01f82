//! What the workers of a relay or sink publish of themselves: once a batch, and once with each of librdkafka's statistics. `/status`
//! shows it, and [`PipelineReport`] is the form of it.

use std::collections::BTreeMap;
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::runtime::fault::Fault;

/// What a relay or sink is, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// `relay`, `postgres` or `clickhouse`.
    pub kind: String,
    /// Topic that is read.
    pub from: String,
    /// Topic or table that is written.
    pub to: String,
    /// Consumer group.
    pub group: String,
}

/// How far a partition is behind, as of the last statistics.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Lag {
    /// Offsets between the position and the last committed record.
    pub records: i64,
    /// Age of the last settled record while there is lag, else 0.
    pub seconds: f64,
    /// Offsets behind another producer's open transaction.
    pub open_transaction_records: i64,
}

/// One partition of a relay or sink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PartitionReport {
    /// Its number.
    pub partition: i32,
    /// The worker that has it.
    pub worker: usize,
    /// Next offset to settle.
    pub position: i64,
    /// As [`Lag::records`]; `None` before a broker has told it.
    pub lag_records: Option<i64>,
    /// As [`Lag::seconds`].
    pub lag_seconds: Option<f64>,
    /// As [`Lag::open_transaction_records`].
    pub open_transaction_records: i64,
    /// How long it has not been known whether a range was written; 0 where all are decided, `None` where that cannot be.
    pub pending_seconds: Option<f64>,
}

/// One worker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct WorkerReport {
    /// Its number.
    pub worker: usize,
    /// Its partitions.
    pub partitions: Vec<i32>,
    /// Since when its loop has not come round, in seconds; `None` before the first time.
    pub turned_seconds_ago: Option<f64>,
}

/// What became of records since the process started.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RecordsReport {
    /// Written to the topic or table, or found there by a recovery.
    pub written: u64,
    /// Kept back by a filter.
    pub filtered: u64,
    /// Dead letters by reason.
    pub dead: BTreeMap<String, u64>,
    /// Settled a second, over the last ten seconds.
    pub per_second: f64,
    /// The same over the last minute.
    pub per_second_minute: f64,
}

/// The last failures in a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastError {
    /// The last one, in words.
    pub what: String,
    /// The topic, partition and offset that it is about, where it is about one.
    #[serde(default)]
    pub topic: Option<String>,
    /// See `topic`.
    #[serde(default)]
    pub partition: Option<i32>,
    /// See `topic`.
    #[serde(default)]
    pub offset: Option<i64>,
    /// What the other side calls it: SQLSTATE, ClickHouse's number, Kafka's name.
    #[serde(default)]
    pub code: Option<String>,
    /// When the first of them was (RFC 3339).
    pub since: String,
    /// When the last one was (RFC 3339).
    pub at: String,
    /// How many there were, with no batch gone through in between.
    pub times: u64,
    /// Whether a batch has gone through since.
    pub over: bool,
    /// Heading in docs/runbooks.md.
    pub runbook: String,
}

/// A place database in use.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PlaceDatabaseReport {
    /// File name.
    pub file: String,
    /// What it calls itself.
    pub kind: String,
    /// When it was built (RFC 3339).
    pub built: String,
    /// Its age in days.
    pub age_days: f64,
    /// Older than `place.max_age_days`.
    pub is_stale: bool,
}

/// A relay or sink.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PipelineReport {
    /// Its name, of a sink with the sink's.
    pub name: String,
    /// What it is.
    #[serde(flatten)]
    pub about: About,
    /// `ready`, `not_ready` or `ended`.
    pub state: String,
    /// What it waits for; empty if it is ready.
    pub waiting_for: Vec<String>,
    /// What people should know although nothing is lacking.
    pub notes: Vec<String>,
    /// Its workers.
    pub workers: Vec<WorkerReport>,
    /// The partitions that this process has.
    pub partitions: Vec<PartitionReport>,
    /// Sum over the partitions; `None` before a broker has told that of any.
    pub lag_records: Option<i64>,
    /// That of the partition that is furthest behind.
    pub lag_seconds: Option<f64>,
    /// The longest of all partitions; `None` where there is no such state.
    pub pending_seconds: Option<f64>,
    /// What became of records.
    pub records: RecordsReport,
    /// `None`: nothing has failed.
    pub last_error: Option<LastError>,
    /// Place databases in use.
    pub place_databases: Vec<PlaceDatabaseReport>,
}

/// A place database, as the pipeline's follower of them tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlaceDatabase {
    /// File name.
    pub file: String,
    /// What it calls itself.
    pub kind: String,
    /// When it was built, seconds since 1970.
    pub build_epoch: u64,
    /// Too old.
    pub is_stale: bool,
}

/// What one relay or sink has published.
#[derive(Debug, Default)]
pub struct Figures {
    partitions: BTreeMap<i32, PartitionReport>,
    written: u64,
    filtered: u64,
    dead: BTreeMap<&'static str, u64>,
    rate: Rate,
    last_error: Option<LastError>,
    place_databases: Vec<PlaceDatabase>,
}

impl Figures {
    /// A worker's positions, and with them which partitions it has.
    pub fn positions(&mut self, worker: usize, positions: &BTreeMap<i32, i64>) {
        self.partitions.retain(|partition, report| report.worker != worker || positions.contains_key(partition));
        for (&partition, &position) in positions {
            let report = self.partitions.entry(partition).or_default();
            if report.worker != worker || report.partition != partition {
                *report = PartitionReport { partition, worker, ..PartitionReport::default() };
            }
            report.position = position;
        }
    }

    /// All workers are gone: nobody here has their partitions.
    pub fn end(&mut self) {
        self.partitions.clear();
    }

    /// How far partitions are behind.
    pub fn lag(&mut self, lag: &BTreeMap<i32, Lag>) {
        for (partition, lag) in lag {
            let Some(report) = self.partitions.get_mut(partition) else { continue };
            report.lag_records = Some(lag.records);
            report.lag_seconds = Some(lag.seconds);
            report.open_transaction_records = lag.open_transaction_records;
        }
    }

    /// Ranges of a worker of which it is not known whether they were written, and since when.
    pub fn pending(&mut self, worker: usize, since: &BTreeMap<i32, Instant>) {
        for report in self.partitions.values_mut().filter(|report| report.worker == worker) {
            let seconds = since.get(&report.partition).map(|since| since.elapsed().as_secs_f64());
            report.pending_seconds = Some(seconds.unwrap_or_default());
        }
    }

    /// Records are settled.
    pub fn settled(&mut self, written: u64, filtered: u64, dead: &[(&'static str, u64)]) {
        self.written += written;
        self.filtered += filtered;
        for (reason, count) in dead {
            *self.dead.entry(reason).or_default() += count;
        }
        let dead: u64 = dead.iter().map(|(_, count)| count).sum();
        self.rate.add(Instant::now(), written + filtered + dead);
    }

    /// A batch, or a step on the way to one, has failed.
    pub fn failed(&mut self, fault: &Fault, runbook: &str) {
        let at = rfc3339(Timestamp::now());
        let before = self.last_error.take().filter(|error| !error.over);
        self.last_error = Some(LastError {
            what: fault.message.clone(),
            topic: fault.topic.as_deref().map(String::from),
            partition: fault.partition,
            offset: fault.offset,
            code: fault.code.as_deref().map(String::from),
            since: before.as_ref().map_or_else(|| at.clone(), |error| error.since.clone()),
            at,
            times: before.map_or(0, |error| error.times) + 1,
            over: false,
            runbook: runbook.to_string(),
        });
    }

    /// No worker has a failure that is not over.
    pub fn recovered(&mut self) {
        if let Some(error) = &mut self.last_error {
            error.over = true;
        }
    }

    /// The place databases in use.
    pub fn place_databases(&mut self, databases: Vec<PlaceDatabase>) {
        self.place_databases = databases;
    }

    /// Fills in what is published here.
    pub fn report(&mut self, report: &mut PipelineReport) {
        let now = Instant::now();
        report.partitions = self.partitions.values().cloned().collect();
        let lags = || report.partitions.iter().filter_map(|one| one.lag_records);
        report.lag_records = lags().next().map(|_| lags().sum());
        report.lag_seconds = largest(report.partitions.iter().filter_map(|one| one.lag_seconds));
        report.pending_seconds = largest(report.partitions.iter().filter_map(|one| one.pending_seconds));
        report.records = RecordsReport {
            written: self.written,
            filtered: self.filtered,
            dead: self.dead.iter().map(|(reason, count)| ((*reason).to_string(), *count)).collect(),
            per_second: self.rate.per_second(now, 10),
            per_second_minute: self.rate.per_second(now, 60),
        };
        report.last_error.clone_from(&self.last_error);
        report.place_databases = self.place_databases.iter().map(PlaceDatabase::report).collect();
    }
}

impl PlaceDatabase {
    fn report(&self) -> PlaceDatabaseReport {
        let built = i64::try_from(self.build_epoch).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
        let built = built.unwrap_or_default();
        let age_days = Timestamp::now().duration_since(built).as_secs_f64() / 86_400.0;
        PlaceDatabaseReport {
            file: self.file.clone(),
            kind: self.kind.clone(),
            built: rfc3339(built),
            age_days: (age_days * 10.0).round() / 10.0,
            is_stale: self.is_stale,
        }
    }
}

/// To the second, as JSON has it.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

fn largest(values: impl Iterator<Item = f64>) -> Option<f64> {
    values.reduce(f64::max)
}

/// Whole seconds that are kept of a [`Rate`].
const SECONDS: usize = 60;

/// How many a second: a count for each of the last seconds, so that adding is one addition.
#[derive(Debug)]
struct Rate {
    began: Instant,
    /// By second since it began, modulo their number; one more for the second that is not over.
    counts: [u64; SECONDS + 1],
    /// The second that was counted last.
    newest: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { began: Instant::now(), counts: [0; SECONDS + 1], newest: 0 }
    }
}

impl Rate {
    fn slot(second: u64) -> usize {
        (second % (SECONDS as u64 + 1)) as usize
    }

    /// Empties the seconds in which nothing was counted.
    fn reach(&mut self, now: Instant) -> u64 {
        let second = now.saturating_duration_since(self.began).as_secs();
        for passed in (self.newest + 1..=second).rev().take(SECONDS + 1) {
            if let Some(count) = self.counts.get_mut(Self::slot(passed)) {
                *count = 0;
            }
        }
        self.newest = self.newest.max(second);
        second
    }

    fn add(&mut self, now: Instant, count: u64) {
        let second = self.reach(now);
        if let Some(sum) = self.counts.get_mut(Self::slot(second)) {
            *sum += count;
        }
    }

    /// The mean over so many seconds that are over, fewer in the beginning.
    fn per_second(&mut self, now: Instant, over: u64) -> f64 {
        let second = self.reach(now);
        let over = over.min(SECONDS as u64).min(second);
        let sum: u64 = (second - over..second).filter_map(|second| self.counts.get(Self::slot(second))).sum();
        if over == 0 { 0.0 } else { sum as f64 / over as f64 }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn report(figures: &mut Figures) -> PipelineReport {
        let mut report = PipelineReport::default();
        figures.report(&mut report);
        report
    }

    #[test]
    fn a_partition_is_its_last_workers() {
        let mut figures = Figures::default();
        figures.positions(0, &BTreeMap::from([(0, 10), (1, 20)]));
        figures.lag(&BTreeMap::from([(1, Lag { records: 5, seconds: 2.0, open_transaction_records: 1 })]));
        figures.pending(0, &BTreeMap::new());
        // It moves: what the worker before knew of it is no longer true.
        figures.positions(1, &BTreeMap::from([(1, 21)]));
        figures.positions(0, &BTreeMap::from([(0, 11)]));
        let found = report(&mut figures).partitions;
        let seen: Vec<_> = found.iter().map(|one| (one.partition, one.worker, one.position, one.lag_records)).collect();
        assert_eq!(seen, [(0, 0, 11, None), (1, 1, 21, None)]);
        assert_eq!((found[0].pending_seconds, found[1].pending_seconds), (Some(0.0), None));
        figures.positions(0, &BTreeMap::new());
        assert_eq!(report(&mut figures).partitions.len(), 1);
    }

    #[test]
    fn lag_is_summed_and_the_oldest_counts() {
        let mut figures = Figures::default();
        figures.positions(0, &BTreeMap::from([(0, 1), (1, 1), (2, 1)]));
        assert_eq!(report(&mut figures).lag_records, None, "not told yet is not 0");
        let lag = |records, seconds| Lag { records, seconds, open_transaction_records: 0 };
        figures.lag(&BTreeMap::from([(0, lag(5, 2.0)), (2, lag(7, 1.0)), (9, lag(100, 100.0))]));
        let found = report(&mut figures);
        assert_eq!((found.lag_records, found.lag_seconds), (Some(12), Some(2.0)));
    }

    #[test]
    fn failures_in_a_row_are_one_error() {
        let mut figures = Figures::default();
        figures.failed(&"no connection".into(), "A");
        figures.failed(&"the disk is full".into(), "B");
        let error = report(&mut figures).last_error.unwrap();
        assert_eq!(
            (error.what.as_str(), error.times, error.over, error.runbook.as_str()),
            ("the disk is full", 2, false, "B")
        );
        assert!(error.since <= error.at);
        figures.recovered();
        assert!(report(&mut figures).last_error.unwrap().over);
        figures.failed(&"no connection".into(), "A");
        let error = report(&mut figures).last_error.unwrap();
        assert_eq!((error.times, error.over), (1, false));
        assert_eq!(error.since, error.at);
    }

    #[test]
    fn a_rate_is_of_whole_seconds() {
        let began = Instant::now();
        let mut rate = Rate { began, ..Rate::default() };
        let at = |millis| began + Duration::from_millis(millis);
        rate.add(at(100), 50);
        assert!(rate.per_second(at(900), 10).abs() < 1e-9, "no second is over");
        rate.add(at(1_500), 150);
        assert!((rate.per_second(at(2_000), 10) - 100.0).abs() < 1e-9);
        // The second that is not over does not count yet.
        rate.add(at(2_100), 1_000);
        assert!((rate.per_second(at(2_900), 10) - 100.0).abs() < 1e-9);
        // Ten of sixty seconds, then none of them.
        assert!((rate.per_second(at(10_000), 10) - 120.0).abs() < 1e-9);
        assert!(rate.per_second(at(30_000), 10).abs() < 1e-9);
        assert!((rate.per_second(at(30_000), 60) - 40.0).abs() < 1e-9);
        assert!(rate.per_second(at(500_000), 60).abs() < 1e-9);
    }
}
