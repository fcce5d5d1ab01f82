//! `/status`: the whole process as JSON. Its form is promised in docs/operations.md: fields are added, none is renamed or taken away
//! within one [`FORM`].

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::MemoryConfig;
use crate::metrics;
use crate::runtime::figures::{PipelineReport, rfc3339};
use crate::runtime::status::Status;

/// Number of the form; another one means that a field is gone or means something else.
pub const FORM: u32 = 1;

/// A process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessReport {
    /// See [`FORM`].
    pub form: u32,
    /// pressline's version.
    pub version: String,
    /// Its process id.
    pub pid: u32,
    /// The clock of its machine (RFC 3339).
    pub now: String,
    /// How long it has run.
    pub uptime_seconds: f64,
    /// All that is configured is started, and has what it needs.
    pub ready: bool,
    /// Its memory.
    pub memory: MemoryReport,
    /// User and system time so far.
    pub cpu_seconds: Option<f64>,
    /// Relays and sinks that were started.
    pub pipelines: Vec<PipelineReport>,
    /// Pipeline files that were not started, and why.
    pub not_started: Vec<String>,
}

/// A process's memory.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryReport {
    /// Resident; `None` where the system does not tell.
    pub resident_bytes: Option<u64>,
    /// What fetched records may take: `memory.fetch_mb`.
    pub fetch_budget_bytes: u64,
    /// What open batches may take: `memory.batch_mb`.
    pub batch_budget_bytes: u64,
}

impl ProcessReport {
    /// Of this process, which started then.
    pub fn of(started: Instant, pipelines: &[Arc<Status>], not_started: &[String], memory: &MemoryConfig) -> Self {
        let pipelines: Vec<PipelineReport> = pipelines.iter().map(|status| status.report()).collect();
        Self {
            form: FORM,
            version: env!("CARGO_PKG_VERSION").to_string(),
            pid: std::process::id(),
            now: rfc3339(Timestamp::now()),
            uptime_seconds: started.elapsed().as_secs_f64(),
            ready: not_started.is_empty() && pipelines.iter().all(|one| one.waiting_for.is_empty()),
            memory: MemoryReport {
                resident_bytes: metrics::resident_bytes().map(|bytes| bytes as u64),
                fetch_budget_bytes: memory.fetch_mb << 20,
                batch_budget_bytes: memory.batch_mb << 20,
            },
            cpu_seconds: metrics::cpu_seconds(),
            pipelines,
            not_started: not_started.to_vec(),
        }
    }
}
