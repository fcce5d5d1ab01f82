//! Looks after worker threads: one that fails for a passing reason is started again, one that must stop takes its
//! team along, and no team ever stops another.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::metrics;
use crate::runtime::backoff::Backoff;
use crate::runtime::descriptors;
use crate::runtime::fault::Fault;
use crate::runtime::status::Status;

/// Shortest and longest pause before a worker is started again.
const RESTART_PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// Between two summaries of what became of records.
const SUMMARY_EVERY: Duration = Duration::from_secs(60);

/// How long a worker may take to leave its group.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(4);

/// Why a worker ended.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// A person must decide; the team stops.
    #[error("{0}")]
    Refused(Fault),
    /// Another process uses our transactional id.
    #[error("{0}")]
    Fenced(Fault),
    /// May pass by itself: the worker is started again after a pause.
    #[error("{0}")]
    Transient(Fault),
}

impl WorkerError {
    /// See [`Self::Refused`].
    pub fn refused(fault: impl Into<Fault>) -> Self {
        Self::Refused(fault.into())
    }

    /// See [`Self::Fenced`].
    pub fn fenced(fault: impl Into<Fault>) -> Self {
        Self::Fenced(fault.into())
    }

    /// See [`Self::Transient`].
    pub fn transient(fault: impl Into<Fault>) -> Self {
        Self::Transient(fault.into())
    }
}

/// How a team ended.
#[derive(Debug)]
pub enum Ending {
    /// It was asked to stop.
    Stopped,
    /// It refuses to go on.
    Refused(Fault),
    /// Another process uses its transactional id.
    Fenced(Fault),
}

impl Ending {
    /// See [`Self::Refused`].
    pub fn refused(fault: impl Into<Fault>) -> Self {
        Self::Refused(fault.into())
    }
}

/// The workers of one relay or sink.
pub struct Team {
    /// Name in logs and metrics.
    pub name: String,
    /// How many.
    pub workers: usize,
    /// What `/readyz` tells.
    pub status: Arc<Status>,
    /// Set when they are to stop.
    pub stop_workers: Arc<AtomicBool>,
}

/// Runs `run_once` on a thread for each worker, again after errors that may pass, until `stop` says so or one must stop.
pub async fn supervise<F>(team: Team, mut stop: watch::Receiver<bool>, run_once: F) -> Ending
where
    F: Fn(usize) -> Result<(), WorkerError> + Send + Sync + 'static,
{
    let (team, run_once) = (Arc::new(team), Arc::new(run_once));
    for slot in 0..team.workers {
        team.status.worker_waits(slot, "starting");
    }
    let (ended, mut endings) = mpsc::unbounded_channel();
    let threads: Vec<_> = (0..team.workers)
        .map(|slot| spawn_worker(Arc::clone(&team), Arc::clone(&run_once), slot, ended.clone()))
        .collect();
    drop(ended);
    team.status.set("start", "");
    let mut ending = Ending::Stopped;
    let mut left = team.workers;
    let mut summary = tokio::time::interval_at(tokio::time::Instant::now() + SUMMARY_EVERY, SUMMARY_EVERY);
    let mut summed_up = Instant::now();
    while left > 0 {
        tokio::select! {
            Some(end) = endings.recv() => {
                left -= 1;
                if let Some(end) = end {
                    team.status.stopped(&reason(&end), "PresslineNotReady");
                    ending = end;
                    // The others would only go on with a part of the partitions, unnoticed.
                    team.stop_workers.store(true, Ordering::Release);
                }
            }
            _ = summary.tick() => {
                team.status.tell_settled(summed_up.elapsed());
                summed_up = Instant::now();
            }
            _ = stop.wait_for(|stop| *stop), if !team.stop_workers.load(Ordering::Acquire) => {
                team.stop_workers.store(true, Ordering::Release);
            }
            else => break,
        }
    }
    for thread in threads.into_iter().flatten() {
        // They have reported, so this does not block; a panic was caught inside.
        let _ = thread.join();
    }
    team.status.tell_settled(summed_up.elapsed());
    ending
}

fn reason(ending: &Ending) -> Fault {
    match ending {
        Ending::Stopped => "stopped".into(),
        Ending::Refused(fault) | Ending::Fenced(fault) => fault.clone(),
    }
}

type Report = mpsc::UnboundedSender<Option<Ending>>;

fn spawn_worker<F>(team: Arc<Team>, run_once: Arc<F>, slot: usize, ended: Report) -> Option<std::thread::JoinHandle<()>>
where
    F: Fn(usize) -> Result<(), WorkerError> + Send + Sync + 'static,
{
    let name = format!("pressline-{slot}");
    let report = ended.clone();
    let spawned = std::thread::Builder::new().name(name).spawn(move || {
        let _ = report.send(keep_running(&team, run_once.as_ref(), slot));
    });
    match spawned {
        Ok(thread) => Some(thread),
        Err(error) => {
            let _ = ended.send(Some(Ending::refused(format!("cannot start worker {slot}: {error}"))));
            None
        }
    }
}

/// Runs a worker, again after errors that may pass, until it is asked to stop (`None`) or must.
fn keep_running(team: &Team, run_once: &dyn Fn(usize) -> Result<(), WorkerError>, slot: usize) -> Option<Ending> {
    let mut backoff = Backoff::new(RESTART_PAUSES.0, RESTART_PAUSES.1);
    loop {
        let began = std::time::Instant::now();
        let result = without_panic(|| run_once(slot));
        if team.stop_workers.load(Ordering::Acquire) {
            return None;
        }
        match result {
            Ok(()) => return None,
            Err(WorkerError::Refused(fault)) if !descriptors::are_lacking(&fault.message) => {
                return Some(Ending::Refused(fault));
            }
            Err(WorkerError::Fenced(fault)) => return Some(Ending::Fenced(fault)),
            Err(WorkerError::Refused(fault) | WorkerError::Transient(fault)) => {
                if began.elapsed() > Duration::from_secs(60) {
                    backoff.reset();
                }
                team.status.worker_failed(slot, &fault, "PresslineWorkerRestarts");
                // They are another worker's now, or nobody's.
                team.status.worker_positions(slot, &BTreeMap::new());
                metrics::restarted(&team.name);
                let length = backoff.next_wait();
                tracing::warn!(
                    pipeline = %team.name, worker = slot, topic = fault.topic, partition = fault.partition, offset = fault.offset,
                    code = fault.code, retry_in_ms = length.as_millis(), "{fault}"
                );
                sleep_unless(length, &team.stop_workers);
            }
        }
    }
}

/// What a worker's loop comes to; a panic is a defect, but one that ends only this run, so that the worker's consumer is closed
/// as always and not by a destructor that may wait for a silent broker.
pub fn without_panic<T>(run: impl FnOnce() -> Result<T, WorkerError>) -> Result<T, WorkerError> {
    std::panic::catch_unwind(AssertUnwindSafe(run))
        .unwrap_or_else(|_| Err(WorkerError::transient("a defect in pressline ended the worker (see above)")))
}

/// Sleeps, but not past the stop.
pub fn sleep_unless(length: Duration, stop: &AtomicBool) {
    let end = Instant::now() + length;
    while !stop.load(Ordering::Acquire) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(50).min(end.saturating_duration_since(Instant::now())));
    }
}

/// Drops something on a thread of its own. A Kafka client's destructor waits for librdkafka's threads, which can take seconds,
/// or for ever, when a broker does not answer; that of a GeoIP database unmaps a hundred megabytes.
pub fn drop_in_background(what: impl Send + 'static) {
    let spawned = std::thread::Builder::new().name("pressline-drop".into()).spawn(move || drop(what));
    if let Err(error) = spawned {
        tracing::warn!(%error, "cannot start a thread to free memory that is no longer needed: freed on this thread, which may delay it");
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[test]
    fn what_follows_a_panic_is_done() {
        let ended: Result<(), WorkerError> = without_panic(|| panic!("a defect"));
        assert!(matches!(ended, Err(WorkerError::Transient(_))), "{ended:?}");
    }

    async fn ending_after(message: &'static str) -> (Ending, usize) {
        let runs = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&runs);
        let team = Team {
            name: "team".into(),
            workers: 1,
            status: Arc::new(Status::new("team")),
            stop_workers: Arc::default(),
        };
        let (_stop, stopped) = watch::channel(false);
        let ending = supervise(team, stopped, move |_| match counted.fetch_add(1, Ordering::AcqRel) {
            0 => Err(WorkerError::refused(message)),
            _ => Ok(()),
        })
        .await;
        (ending, runs.load(Ordering::Acquire))
    }

    #[tokio::test]
    async fn a_lack_of_file_descriptors_passes() {
        let (ending, runs) = ending_after("cannot read password: Too many open files (os error 24)").await;
        assert!(matches!(ending, Ending::Stopped), "{ending:?}");
        assert_eq!(runs, 2);
        let (ending, runs) = ending_after("cannot read password: Permission denied (os error 13)").await;
        assert!(matches!(ending, Ending::Refused(_)), "{ending:?}");
        assert_eq!(runs, 1);
    }
}
