//! Coordinates from a geocoding service with Nominatim's `/search`: asked about places, never about addresses, by one
//! task that sends one request at a time, so many a second. A place is asked about once, however many records have it; what
//! came back is kept, over restarts too, and the place's fragments are made again.
//!
//! Nothing waits for it, except a record for `max_wait_ms` where that is set.

mod answer;
mod client;
mod file;
mod memory;
mod metrics;
mod pace;
mod question;
mod service;
mod task;
mod waiting;

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::Notify;

use crate::config::GeocoderConfig;
use crate::place::geocoder::metrics::GeocoderMetrics;
pub use answer::Answer;
use client::GeocoderClient;
use memory::{Entry, Memory};
use pace::Pace;
pub use service::Geocoder;
use waiting::Waiting;

/// What the task and those who ask share.
struct Shared {
    config: GeocoderConfig,
    client: GeocoderClient,
    state: Mutex<State>,
    /// Wakes the task: a place waits.
    asked: Notify,
    /// Wakes workers that wait: a place is settled.
    settled: Condvar,
    /// Held while the file is written.
    saving: Mutex<()>,
    /// One part in so many of the time may be waited.
    wait_share: u32,
    metrics: GeocoderMetrics,
}

struct State {
    memory: Memory,
    waiting: Waiting,
    pace: Pace,
    /// No worker waits before.
    patience_from: Instant,
    /// What is in memory differs from what is on disk.
    unsaved: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn show(&self, state: &State) {
        self.metrics.waiting(state.waiting.len());
        self.metrics.cache(state.memory.len(), state.memory.evictions());
        self.metrics.open(state.pace.is_open());
    }

    /// Saves what is not saved yet. A failure is warned of and tried again later.
    fn save(&self) {
        let Some(path) = self.config.cache_file.as_ref().map(|file| file.relative()) else { return };
        let _saving = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        let entries: Vec<(String, Entry)> = {
            let mut state = self.state();
            if !std::mem::take(&mut state.unsaved) {
                return;
            }
            state.memory.entries().map(|(key, entry)| (key.to_owned(), *entry)).collect()
        };
        if let Err(error) = file::save(&path, entries.iter().map(|(key, entry)| (key.as_str(), entry))) {
            tracing::warn!(
                "place.geocoder.cache_file: cannot be written: {error}; answers are lost when pressline ends"
            );
            self.state().unsaved = true;
        }
    }
}

#[cfg(test)]
mod tests;
