//! Whether each pipeline has what it needs and goes on: written by its workers, shown by `/readyz`, told to the service
//! manager.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::metrics;
use crate::runtime::fault::Fault;
use crate::runtime::figures::{About, Figures, Lag, PipelineReport, PlaceDatabase, WorkerReport};

/// How long nothing may come before a worker that has failed counts as ready. A record that failed comes again at once; and within
/// this time librdkafka has said whether a broker can be reached.
const IDLE: Duration = Duration::from_secs(8);

/// Why a worker failed.
struct Failure {
    reason: String,
    /// Since when nothing has come.
    idle_since: Option<Instant>,
}

/// What became of records.
#[derive(Default)]
struct Settled {
    written: u64,
    /// Dead letters by reason.
    dead: BTreeMap<&'static str, u64>,
}

/// Whether a pipeline has what it needs, for `/readyz`.
pub struct Status {
    name: String,
    about: About,
    /// What each part waits for; empty text is ready.
    waits: Mutex<BTreeMap<String, String>>,
    /// Why each worker failed last, while nothing has gone through since.
    failed: Mutex<BTreeMap<usize, Failure>>,
    /// Workers that reach no broker, and since when.
    lost: Mutex<BTreeMap<usize, Instant>>,
    /// Whether it is ready, and since when; nothing before the first time.
    readiness: Mutex<(Option<bool>, Instant)>,
    settled: Mutex<Settled>,
    /// What people should know of each worker although it has what it needs.
    notes: Mutex<BTreeMap<usize, String>>,
    /// Credits for the place data in use.
    credits: Mutex<BTreeSet<String>>,
    /// When each worker's loop turned last.
    turns: Mutex<BTreeMap<usize, Instant>>,
    /// What `/status` shows.
    figures: Mutex<Figures>,
    ended: AtomicBool,
}

impl Status {
    /// A pipeline that has not begun yet.
    pub fn new(name: &str) -> Self {
        let waits = BTreeMap::from([("start".to_string(), "starting".to_string())]);
        Self {
            name: name.to_string(),
            about: About::default(),
            waits: Mutex::new(waits),
            failed: Mutex::default(),
            lost: Mutex::default(),
            readiness: Mutex::new((None, Instant::now())),
            settled: Mutex::default(),
            notes: Mutex::default(),
            credits: Mutex::default(),
            turns: Mutex::default(),
            figures: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    /// The same, with what it is.
    #[must_use]
    pub fn of(self, about: About) -> Self {
        Self { about, ..self }
    }

    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `part` waits for something, or for nothing (empty text).
    pub fn set(&self, part: &str, wait: &str) {
        if let Ok(mut waits) = self.waits.lock() {
            waits.insert(part.to_string(), wait.to_string());
            let is_ready = waits.values().all(String::is_empty);
            metrics::ready(&self.name, is_ready);
            self.tell_readiness(is_ready);
        }
    }

    /// Says when it has become ready; why it is not has been said by whom it concerns.
    fn tell_readiness(&self, is_ready: bool) {
        let Ok(mut readiness) = self.readiness.lock() else { return };
        let (before, since) = *readiness;
        if before.unwrap_or_default() == is_ready {
            return;
        }
        let after_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
        match (is_ready, before) {
            (true, None) => tracing::info!(pipeline = %self.name, after_ms, "ready"),
            (true, Some(_)) => tracing::info!(pipeline = %self.name, after_ms, "ready again"),
            (false, _) => {}
        }
        *readiness = (Some(is_ready), Instant::now());
    }

    /// A worker has what it needs. One that has failed is not ready by that, but when something has gone through.
    pub fn worker_ready(&self, slot: usize) {
        self.worker_turned(slot);
        let failure = self.failed.lock().ok().and_then(|failed| failed.get(&slot).map(|one| one.reason.clone()));
        let wait = failure.map(|reason| format!("nothing has gone through since: {reason}")).unwrap_or_default();
        self.set(&format!("worker {slot}"), &wait);
    }

    /// A worker's batch, or a step on the way to one, has failed; `runbook` is a heading in docs/runbooks.md. It is not ready before
    /// a batch has gone through ([`Self::worker_wrote`]) or there is none ([`Self::worker_idle`]), also if it is started again
    /// meanwhile.
    pub fn worker_failed(&self, slot: usize, fault: &Fault, runbook: &str) {
        self.publish(|figures| figures.failed(fault, runbook));
        if let Ok(mut failed) = self.failed.lock() {
            failed.insert(slot, Failure { reason: fault.message.clone(), idle_since: None });
        }
        self.worker_notes(slot, String::new());
        self.worker_waits(slot, &fault.message);
    }

    /// A worker's batch went through.
    pub fn worker_wrote(&self, slot: usize) {
        let Ok((had_failed, all_well)) =
            self.failed.lock().map(|mut failed| (failed.remove(&slot).is_some(), failed.is_empty()))
        else {
            return;
        };
        if had_failed {
            self.worker_ready(slot);
        }
        if had_failed && all_well {
            self.publish(Figures::recovered);
        }
    }

    /// Nothing came to a worker that could have read: after a while there is nothing that it could prove itself by.
    pub fn worker_idle(&self, slot: usize) {
        let is_idle = self.failed.lock().is_ok_and(|mut failed| {
            let since = failed.get_mut(&slot).map(|one| *one.idle_since.get_or_insert_with(Instant::now));
            since.is_some_and(|since| since.elapsed() >= IDLE)
        });
        if is_idle {
            self.worker_wrote(slot);
        }
    }

    /// A worker has asked to join its group. Of one that has failed the reason is shown on.
    pub fn worker_joins(&self, slot: usize) {
        let has_failed = self.failed.lock().is_ok_and(|failed| failed.contains_key(&slot));
        if has_failed {
            self.worker_ready(slot);
        } else {
            self.worker_waits(slot, "joining the consumer group");
        }
    }

    /// Whether a worker reaches a broker. Logged when the first one loses contact and when the last one is back.
    pub fn worker_reaches_brokers(&self, slot: usize, reaches: bool) {
        if reaches {
            let back = self.lost.lock().ok().and_then(|mut lost| lost.remove(&slot).filter(|_| lost.is_empty()));
            if let Some(since) = back {
                let after_ms = u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(pipeline = %self.name, after_ms, "a broker can be reached again");
            }
            return;
        }
        let is_first = self.lost.lock().is_ok_and(|mut lost| {
            let is_first = lost.is_empty();
            lost.entry(slot).or_insert_with(Instant::now);
            is_first
        });
        if is_first {
            tracing::warn!(pipeline = %self.name, worker = slot, "no broker can be reached; it is tried again until one can");
        }
        self.worker_waits(slot, "no broker can be reached");
    }

    /// Records were written, others were kept back by a filter or became dead letters, by reason. The first of a reason is logged at
    /// once, the others with [`Self::tell_settled`].
    pub fn settled(&self, written: u64, filtered: u64, dead: &[(&'static str, u64)]) {
        self.publish(|figures| figures.settled(written, filtered, dead));
        let Ok(mut settled) = self.settled.lock() else { return };
        settled.written += written;
        for &(reason, count) in dead {
            let sum = settled.dead.entry(reason).or_default();
            if *sum == 0 {
                tracing::warn!(
                    pipeline = %self.name, reason, count,
                    "records became dead letters; more of this reason are counted in the summary of each minute"
                );
            }
            *sum += count;
        }
    }

    /// Says what became of records since it was said last, if there were any.
    pub fn tell_settled(&self, since: Duration) {
        let Ok(mut slot) = self.settled.lock() else { return };
        let Settled { written, dead } = std::mem::take(&mut *slot);
        drop(slot);
        let dead_letters: u64 = dead.values().sum();
        if written + dead_letters == 0 {
            return;
        }
        let (records, seconds) = (written + dead_letters, since.as_secs());
        let reasons: Vec<String> = dead.iter().map(|(reason, count)| format!("{reason}={count}")).collect();
        let reasons = reasons.join(",");
        tracing::info!(pipeline = %self.name, records, written, dead_letters, reasons, seconds, "summary");
    }

    /// A worker waits for something.
    pub fn worker_waits(&self, slot: usize, reason: &str) {
        self.worker_turned(slot);
        self.set(&format!("worker {slot}"), reason);
    }

    /// A worker's loop has come round: it is not stuck in a call, whether it has work, waits for some, or for a database.
    pub fn worker_turned(&self, slot: usize) {
        if let Ok(mut turns) = self.turns.lock() {
            turns.insert(slot, Instant::now());
        }
    }

    /// Workers whose loop has not come round for longer than that, in words; none of a pipeline that has ended.
    pub fn standing_still(&self, longer_than: Duration) -> Vec<String> {
        if self.has_ended() {
            return Vec::new();
        }
        let Ok(turns) = self.turns.lock() else { return vec!["status unknown".into()] };
        let still =
            turns.iter().map(|(slot, turned)| (slot, turned.elapsed())).filter(|(_, still)| *still > longer_than);
        still.map(|(slot, still)| format!("worker {slot} has stood still for {} s", still.as_secs())).collect()
    }

    /// The pipeline has ended, for whatever reason: its workers are no longer waited for.
    pub fn end(&self) {
        self.publish(Figures::end);
        self.ended.store(true, Ordering::Release);
    }

    /// Whether it has.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// What people should know of a worker although nothing is lacking; empty text: nothing.
    pub fn worker_notes(&self, slot: usize, note: String) {
        if let Ok(mut notes) = self.notes.lock() {
            notes.insert(slot, note);
        }
    }

    /// What people should know although nothing is lacking.
    pub fn notes(&self) -> Vec<String> {
        let Ok(notes) = self.notes.lock() else { return Vec::new() };
        notes.iter().filter(|(_, note)| !note.is_empty()).map(|(slot, note)| format!("worker {slot}: {note}")).collect()
    }

    /// Credits for the place data in use, to be shown wherever results are.
    pub fn credits(&self) -> Vec<String> {
        self.credits.lock().map(|credits| credits.iter().cloned().collect()).unwrap_or_default()
    }

    /// The place data in use, and what it wants to be credited with; empty texts are left out.
    pub fn credit<'a>(&self, texts: impl IntoIterator<Item = &'a str>) {
        if let Ok(mut credits) = self.credits.lock() {
            *credits = texts.into_iter().filter(|text| !text.is_empty()).map(String::from).collect();
        }
    }

    /// A worker's positions, after a batch or an assignment.
    pub fn worker_positions(&self, slot: usize, positions: &BTreeMap<i32, i64>) {
        self.publish(|figures| figures.positions(slot, positions));
    }

    /// How far partitions are behind.
    pub fn lag(&self, lag: &BTreeMap<i32, Lag>) {
        self.publish(|figures| figures.lag(lag));
    }

    /// Ranges of a worker of which it is not known whether they were written, and since when.
    pub fn worker_pending(&self, slot: usize, since: &BTreeMap<i32, Instant>) {
        self.publish(|figures| figures.pending(slot, since));
    }

    /// The place databases in use.
    pub fn place_databases(&self, databases: Vec<PlaceDatabase>) {
        self.publish(|figures| figures.place_databases(databases));
    }

    /// A person must decide: the pipeline stops.
    pub fn stopped(&self, fault: &Fault, runbook: &str) {
        self.publish(|figures| figures.failed(fault, runbook));
        self.set("stopped", &fault.message);
    }

    fn publish(&self, change: impl FnOnce(&mut Figures)) {
        if let Ok(mut figures) = self.figures.lock() {
            change(&mut figures);
        }
    }

    /// All that is known of it, for `/status`.
    pub fn report(&self) -> PipelineReport {
        let waiting_for = self.waiting_for();
        let state = match (self.has_ended(), waiting_for.is_empty()) {
            (true, _) => "ended",
            (false, true) => "ready",
            (false, false) => "not_ready",
        };
        let mut report = PipelineReport {
            name: self.name.clone(),
            about: self.about.clone(),
            state: state.to_string(),
            waiting_for,
            notes: self.notes(),
            ..PipelineReport::default()
        };
        self.publish(|figures| figures.report(&mut report));
        let turned = |turn: &Instant| Some(turn.elapsed().as_secs_f64());
        let workers = self.turns.lock().map(|turns| {
            turns
                .iter()
                .map(|(worker, turn)| WorkerReport {
                    worker: *worker,
                    partitions: report
                        .partitions
                        .iter()
                        .filter(|one| one.worker == *worker)
                        .map(|one| one.partition)
                        .collect(),
                    turned_seconds_ago: turned(turn),
                })
                .collect()
        });
        report.workers = workers.unwrap_or_default();
        report
    }

    /// What it waits for; empty if it is ready.
    pub fn waiting_for(&self) -> Vec<String> {
        let Ok(waits) = self.waits.lock() else { return vec!["status unknown".into()] };
        waits.iter().filter(|(_, wait)| !wait.is_empty()).map(|(part, wait)| format!("{part}: {wait}")).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn started() -> Status {
        let status = Status::new("presses");
        status.set("start", "");
        status.worker_ready(0);
        status
    }

    #[test]
    fn who_has_failed_is_ready_only_when_something_went_through() {
        let status = started();
        assert!(status.waiting_for().is_empty());
        status.worker_failed(0, &"the registry answers 401".into(), "PresslineNotReady");
        // A new worker claims its partitions, reaches its brokers, and fails again: never ready in between.
        for _ in 0..3 {
            status.worker_ready(0);
            status.worker_reaches_brokers(0, true);
            status.worker_idle(0);
            assert_eq!(status.waiting_for(), ["worker 0: nothing has gone through since: the registry answers 401"]);
            status.worker_failed(0, &"the registry answers 401".into(), "PresslineNotReady");
            assert_eq!(status.waiting_for(), ["worker 0: the registry answers 401"]);
        }
        status.worker_wrote(0);
        assert!(status.waiting_for().is_empty());
    }

    #[test]
    fn who_has_nothing_to_do_is_ready_after_a_while() {
        let status = started();
        status.worker_failed(0, &"no producer".into(), "PresslineNotReady");
        status.worker_ready(0);
        status.worker_idle(0);
        assert_eq!(status.waiting_for().len(), 1);
        if let Some(failure) = status.failed.lock().unwrap().get_mut(&0) {
            failure.idle_since = Instant::now().checked_sub(IDLE);
        }
        status.worker_idle(0);
        assert!(status.waiting_for().is_empty());
        // A worker that works is not held up by what another lacks.
        status.worker_failed(1, &"no producer".into(), "PresslineNotReady");
        status.worker_wrote(0);
        assert_eq!(status.waiting_for(), ["worker 1: no producer"]);
        assert!(!status.report().last_error.unwrap().over, "that of worker 1 is not");
        status.worker_wrote(1);
        assert!(status.report().last_error.unwrap().over);
    }

    #[test]
    fn what_is_lost_and_found_is_one_wait() {
        let status = started();
        status.worker_reaches_brokers(0, false);
        assert_eq!(status.waiting_for(), ["worker 0: no broker can be reached"]);
        status.worker_reaches_brokers(0, true);
        status.worker_ready(0);
        assert!(status.waiting_for().is_empty() && status.lost.lock().unwrap().is_empty());
    }

    #[test]
    fn a_summary_counts_once() {
        let status = started();
        status.settled(3, 4, &[("bad_ip", 1)]);
        status.settled(2, 0, &[("bad_ip", 1)]);
        let settled = status.settled.lock().unwrap();
        assert_eq!((settled.written, &settled.dead), (5, &BTreeMap::from([("bad_ip", 2)])));
        drop(settled);
        status.tell_settled(Duration::from_secs(60));
        assert_eq!(status.settled.lock().unwrap().written, 0);
        // What `/status` shows is since the start.
        let records = status.report().records;
        assert_eq!((records.written, records.filtered), (5, 4));
        assert_eq!(records.dead, BTreeMap::from([("bad_ip".to_string(), 2)]));
    }
}
