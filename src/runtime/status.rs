//! Whether each pipeline has what it needs and goes on: written by its workers, shown by `/readyz`, told to the service
//! manager.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::metrics;

/// Whether a pipeline has what it needs, for `/readyz`.
pub struct Status {
    name: String,
    /// What each part waits for; empty text is ready.
    waits: Mutex<BTreeMap<String, String>>,
    /// Credits for the place data in use.
    credits: Mutex<BTreeSet<String>>,
    /// When each worker's loop turned last.
    turns: Mutex<BTreeMap<usize, Instant>>,
    ended: AtomicBool,
}

impl Status {
    /// A pipeline that has not begun yet.
    pub fn new(name: &str) -> Self {
        let waits = BTreeMap::from([("start".to_string(), "starting".to_string())]);
        Self {
            name: name.to_string(),
            waits: Mutex::new(waits),
            credits: Mutex::default(),
            turns: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    /// The pipeline's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `part` waits for something, or for nothing (empty text).
    pub fn set(&self, part: &str, wait: &str) {
        if let Ok(mut waits) = self.waits.lock() {
            waits.insert(part.to_string(), wait.to_string());
            metrics::ready(&self.name, waits.values().all(String::is_empty));
        }
    }

    /// A worker has what it needs.
    pub fn worker_ready(&self, slot: usize) {
        self.worker_turned(slot);
        self.set(&format!("worker {slot}"), "");
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

    /// The pipeline has ended, however: nobody waits for its workers any more.
    pub fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether it has.
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Credits for the place data in use, to be shown wherever results are.
    pub fn credits(&self) -> Vec<String> {
        self.credits.lock().map(|credits| credits.iter().cloned().collect()).unwrap_or_default()
    }

    /// The place data in use, and what it wants to be credited with; empty texts are left out.
    pub fn credit(&self, texts: impl IntoIterator<Item = &'static str>) {
        if let Ok(mut credits) = self.credits.lock() {
            *credits = texts.into_iter().filter(|text| !text.is_empty()).map(String::from).collect();
        }
    }

    /// What it waits for; empty if it is ready.
    pub fn waiting_for(&self) -> Vec<String> {
        let Ok(waits) = self.waits.lock() else { return vec!["status unknown".into()] };
        waits.iter().filter(|(_, wait)| !wait.is_empty()).map(|(part, wait)| format!("{part}: {wait}")).collect()
    }
}
