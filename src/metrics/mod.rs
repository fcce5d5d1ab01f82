//! Every metric of pressline: its name, type, labels and help text, in one place. Unit and the question that each answers:
//! docs/metrics.md.
//!
//! Workers count locally and emit once per batch. Labels are bounded: pipelines and partitions come from the
//! configuration and the topic, reasons and outcomes from enums.

mod delays;
mod names;
mod page;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ::metrics::{Counter, counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

pub use delays::Delays;
pub use names::*;
pub use page::{ENDED, cpu_seconds, render, resident_bytes};

/// Installs the recorder and says what each metric is. Errors: one is installed already.
pub fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".into()), &SECONDS)?
        .install_recorder()?;
    for metric in ALL {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.help),
            MetricKind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!(PROCESS_START).set(unix_seconds(SystemTime::now()));
    Ok(handle)
}

/// Moves recorded values from the histograms' buffers into buckets, for ever, so that they do not pile up unscraped.
pub async fn upkeep(handle: PrometheusHandle) {
    loop {
        tokio::time::sleep(Duration::from_secs(5)).await;
        handle.run_upkeep();
    }
}

/// Seconds since 1970.
pub fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// Where a value stands among all of its kind, as counters are kept in order of them.
pub fn position<T: PartialEq>(all: &[T], one: &T) -> Option<usize> {
    all.iter().position(|candidate| candidate == one)
}

/// Adds to each counter its count; those of 0 are not touched.
pub fn increment_all(counters: &[Counter], counts: &[u64]) {
    for (counter, count) in counters.iter().zip(counts).filter(|(_, count)| **count > 0) {
        counter.increment(*count);
    }
}

/// Whether the pipeline has what it needs.
pub fn ready(pipeline: &str, ready: bool) {
    // There from the start, so that the first restart is seen as a step.
    counter!(RESTARTS, "pipeline" => pipeline.to_string()).increment(0);
    gauge!(READY, "pipeline" => pipeline.to_string()).set(f64::from(u8::from(ready)));
}

/// The pipeline is no longer one of the process: whether it has what it needs is not asked.
pub fn gone(pipeline: &str) {
    gauge!(READY, "pipeline" => pipeline.to_string()).set(ENDED);
}

/// A worker is started again.
pub fn restarted(pipeline: &str) {
    counter!(RESTARTS, "pipeline" => pipeline.to_string()).increment(1);
}

/// When a GeoIP database was built.
pub fn mmdb_build(pipeline: &str, file: &str, epoch: u64) {
    gauge!(MMDB_BUILD, "pipeline" => pipeline.to_string(), "file" => file.to_string()).set(epoch as f64);
}

/// Whether a GeoIP database is too old.
pub fn mmdb_stale(pipeline: &str, file: &str, stale: bool) {
    let labels = [("pipeline", pipeline.to_string()), ("file", file.to_string())];
    gauge!(MMDB_STALE, &labels).set(f64::from(u8::from(stale)));
}

/// What came of reading a GeoIP database again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// It is in use.
    Taken,
    /// It cannot be used; the one before stays.
    Refused,
}

impl Reload {
    /// Both.
    pub const ALL: [Reload; 2] = [Self::Taken, Self::Refused];

    /// Label of the metric.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "refused",
        }
    }
}

/// A GeoIP database was read again; `None` only makes the series, so that the first reload is seen as a step.
pub fn mmdb_reload(file: &str, result: Option<Reload>) {
    for one in Reload::ALL {
        let count = u64::from(result == Some(one));
        counter!(MMDB_RELOADS, "file" => file.to_string(), "result" => one.label()).increment(count);
    }
}
