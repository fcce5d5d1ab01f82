//! Notifies the service manager (systemd) that we are ready, alive or stopping; does nothing without one.
//!
//! The watchdog is fed by progress, not by a timer alone: only while the loop of every worker has come round lately. A worker
//! that waits for a database or a broker comes round; one that is stuck in a call does not, and then the manager starts the
//! process again. Until all are ready, which may take as long as a broker is away, the time-out of the start is extended on the
//! same terms.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;

use crate::config::KafkaConfig;
use crate::runtime::status::Status;

/// librdkafka's default of `max.poll.interval.ms`.
const MAX_POLL_INTERVAL: Duration = Duration::from_secs(300);
/// How often the pipelines are looked at until all are ready, and at most so seldom afterwards.
const LOOKS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(10));
/// By how much the start is extended each time.
const EXTENSION_US: u32 = 60_000_000;

/// A pipeline, and how long its workers may stand still.
#[derive(Clone)]
pub struct Watched {
    status: Arc<Status>,
    /// `max.poll.interval.ms`: a worker that polls later than that has lost its partitions, and is not watched.
    standstill: Duration,
}

impl Watched {
    /// A pipeline with its Kafka settings.
    pub fn new(kafka: &KafkaConfig, status: Arc<Status>) -> Self {
        let set = [&kafka.consumer, &kafka.properties].into_iter().find_map(|p| p.0.get("max.poll.interval.ms"));
        let standstill = set.and_then(|ms| ms.parse().ok()).map_or(MAX_POLL_INTERVAL, Duration::from_millis);
        Self { status, standstill }
    }

    /// A pipeline whose workers may stand still for as long as librdkafka has it.
    pub fn by_default(status: Arc<Status>) -> Self {
        Self { status, standstill: MAX_POLL_INTERVAL }
    }

    /// The pipeline's state.
    pub fn status(&self) -> &Arc<Status> {
        &self.status
    }
}

/// Looks after the pipelines, which may come and go, and tells the service manager, for as long as the process lives. To be called within a
/// runtime.
pub fn start(watched: impl Fn() -> Vec<Watched> + Send + 'static) {
    if std::env::var_os("NOTIFY_SOCKET").is_none() {
        return;
    }
    tokio::spawn(async move {
        let watchdog = sd_notify::watchdog_enabled();
        // Three times within the watchdog's time, so that one that comes late does no harm.
        let seldom = watchdog.map_or(LOOKS.1, |time| (time / 3).min(LOOKS.1));
        let (mut was_ready, mut was_alive) = (false, true);
        loop {
            let look = look(&watched());
            if was_alive && let Some(stuck) = &look.stuck {
                tracing::error!("the watchdog is fed no more: {stuck}");
            }
            was_alive = look.stuck.is_none();
            was_ready |= look.ready;
            tell(&look, was_ready);
            tokio::time::sleep(if was_ready { seldom } else { seldom.min(LOOKS.0) }).await;
        }
    });
}

/// The process has begun to stop.
pub fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("shutting down, finishing open batches")]);
}

/// What a look at the pipelines showed.
#[derive(Debug, PartialEq, Eq)]
struct Look {
    /// Every pipeline that has not ended has what it needs.
    ready: bool,
    /// Workers that stand still, if any.
    stuck: Option<String>,
    /// For people, one line.
    text: String,
}

fn look(watched: &[Watched]) -> Look {
    let (mut stuck, mut waits, mut ready) = (Vec::new(), Vec::new(), true);
    for Watched { status, standstill } in watched {
        // A status is one line, and what a pipeline waits for may be several.
        let line = |text: String| format!("{}: {}", status.name(), text.replace('\n', " "));
        let waiting = status.waiting_for();
        ready &= waiting.is_empty() || status.has_ended();
        stuck.extend(status.standing_still(*standstill).into_iter().map(line));
        waits.extend(waiting.into_iter().map(line));
    }
    let lines = if stuck.is_empty() { &waits } else { &stuck };
    let text = if lines.is_empty() { "ready".to_string() } else { lines.join("; ") };
    Look { ready, stuck: (!stuck.is_empty()).then(|| stuck.join("; ")), text }
}

fn tell(look: &Look, was_ready: bool) {
    let mut states = vec![NotifyState::Status(&look.text)];
    // Said again each time: it does no harm, and a manager that was restarted itself hears it too.
    states.extend(was_ready.then_some(NotifyState::Ready));
    if look.stuck.is_none() {
        states.push(if was_ready { NotifyState::Watchdog } else { NotifyState::ExtendTimeoutUsec(EXTENSION_US) });
    }
    send(&states);
}

fn send(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "cannot notify the service manager");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::{Mutex, mpsc};
    use std::time::Instant;

    use tokio::sync::watch;

    use super::*;
    use crate::runtime::supervise::{Team, WorkerError, supervise};

    const STANDSTILL: Duration = Duration::from_secs(2);
    /// For what should be seen at once, or after a standstill, on a machine that is busy with other things.
    const PATIENCE: Duration = Duration::from_secs(60);

    fn pipeline(name: &str) -> Watched {
        Watched { status: Arc::new(Status::new(name)), standstill: STANDSTILL }
    }

    /// A team whose workers do this, on threads of their own, as in earnest.
    fn run<F>(watched: &Watched, workers: usize, run_once: F) -> watch::Sender<bool>
    where
        F: Fn(usize) -> Result<(), WorkerError> + Send + Sync + 'static,
    {
        let (stop, stopped) = watch::channel(false);
        let status = Arc::clone(&watched.status);
        let team = Team { name: status.name().into(), workers, status, stop_workers: Arc::new(AtomicBool::new(false)) };
        tokio::spawn(supervise(team, stopped, run_once));
        stop
    }

    #[tokio::test]
    async fn a_worker_stuck_in_a_call_ends_the_feeding_and_one_that_turns_does_not() {
        let stuck = pipeline("stuck");
        let status = Arc::clone(&stuck.status);
        let (free, blocked) = mpsc::channel::<()>();
        let blocked = Mutex::new(blocked);
        let _stop = run(&stuck, 2, move |slot| {
            status.worker_ready(slot);
            if slot == 1 {
                // As a call that never returns.
                let _ = blocked.lock().unwrap().recv();
            }
            let begun = Instant::now();
            while begun.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(50));
                status.worker_turned(slot);
            }
            Ok(())
        });
        let watched = [stuck];
        until(&watched, |found| *found == Look { ready: true, stuck: None, text: "ready".into() }).await;
        // Of the two workers only the one in the call; how late the look is depends on the machine.
        let only_worker_1 =
            |text: &str| text.starts_with("stuck: worker 1 has stood still for ") && !text.contains(';');
        until(&watched, |found| {
            found.stuck.as_deref().is_some_and(only_worker_1) && found.stuck.as_ref() == Some(&found.text)
        })
        .await;
        free.send(()).unwrap();
        until(&watched, |found| found.stuck.is_none()).await;
    }

    /// Looks until this is found, and fails with what was found last.
    async fn until(watched: &[Watched], is_found: impl Fn(&Look) -> bool) {
        let begun = Instant::now();
        loop {
            let found = look(watched);
            if is_found(&found) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{found:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    #[tokio::test]
    async fn a_worker_that_waits_for_a_database_is_alive_and_not_ready() {
        let waiting = pipeline("waiting");
        let _stop = run(&waiting, 1, |_| Err(WorkerError::transient("the database\nis away")));
        tokio::time::sleep(STANDSTILL + Duration::from_millis(200)).await;
        let text = "waiting: worker 0: the database is away".to_string();
        assert_eq!(look(&[waiting]), Look { ready: false, stuck: None, text });
    }

    #[tokio::test]
    async fn a_pipeline_that_was_refused_holds_up_neither_readiness_nor_watchdog() {
        let (refused, sound) = (pipeline("refused"), pipeline("sound"));
        refused.status.worker_waits(0, "its table does not fit");
        sound.status.set("start", "");
        let watched = [refused, sound];
        assert!(!look(&watched).ready);
        watched[0].status.end();
        std::thread::sleep(STANDSTILL + Duration::from_millis(100));
        let found = look(&watched);
        assert!(found.ready && found.stuck.is_none(), "{found:?}");
        assert!(found.text.contains("refused: worker 0: its table does not fit"), "{found:?}");
    }

    #[test]
    fn workers_may_stand_still_for_as_long_as_they_may_go_without_a_poll() {
        let kafka = |more: &str| -> KafkaConfig {
            let text = format!("bootstrap_servers = \"127.0.0.1:1\"\n{more}");
            figment::Figment::from(<figment::providers::Toml as figment::providers::Format>::string(&text))
                .extract()
                .unwrap()
        };
        let standstill = |more| Watched::new(&kafka(more), Arc::new(Status::new("any"))).standstill;
        assert_eq!(standstill(""), Duration::from_secs(300));
        assert_eq!(standstill("properties.max.poll.interval.ms = 600000"), Duration::from_secs(600));
        assert_eq!(
            standstill("properties.max.poll.interval.ms = 600000\nconsumer.max.poll.interval.ms = 90000"),
            Duration::from_secs(90)
        );
    }
}
