//! The geocoder as the chain asks it: answers that are kept, and a task that asks for the others.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use crate::config::GeocoderConfig;
use crate::place::geocoder::answer::Point;
use crate::place::geocoder::client::{GeocoderClient, seconds_now};
use crate::place::geocoder::file::Unusable;
use crate::place::geocoder::memory::{Entry, Memory, MemoryLimits, Recalled};
use crate::place::geocoder::metrics::GeocoderMetrics;
use crate::place::geocoder::pace::Pace;
use crate::place::geocoder::question::Question;
use crate::place::geocoder::waiting::Waiting;
use crate::place::geocoder::{Shared, State};
use crate::place::{FragmentCache, Place, PlaceKey};

/// Of the time of the workers together, at most one part in so many is spent waiting for answers.
const WAIT_SHARE: u32 = 10;

/// Milliseconds that one who asks by hand waits for an answer at most, beyond the time-out of a request.
const BY_HAND_MS: u64 = 5_000;

/// A running geocoder. Ends, and saves its cache, when it is dropped.
pub struct Geocoder {
    pub(super) shared: Arc<Shared>,
    stop: watch::Sender<bool>,
}

impl Geocoder {
    /// Loads the cache and starts the task, on the runtime it is called in. Errors: key of the configuration and what is
    /// wrong with it. A cache that cannot be used is moved aside, with a warning.
    pub fn start(config: &GeocoderConfig) -> Result<Geocoder, String> {
        Geocoder::start_waiting(config, WAIT_SHARE)
    }

    /// The same for one who asks by hand: every answer is waited for, and the cache file, which a running pipeline may be
    /// writing, is left alone. Errors: as for [`Geocoder::start`].
    pub fn by_hand(config: &GeocoderConfig) -> Result<Geocoder, String> {
        let max_wait_ms = config.timeout_ms.saturating_add(BY_HAND_MS);
        Geocoder::start_waiting(&GeocoderConfig { cache_file: None, max_wait_ms, ..config.clone() }, 1)
    }

    fn start_waiting(config: &GeocoderConfig, wait_share: u32) -> Result<Geocoder, String> {
        let client = GeocoderClient::new(config).map_err(|(key, what)| format!("{key}: {what}"))?;
        let metrics = GeocoderMetrics::new(&client.host());
        let days = |days: u32| i64::from(days) * 86_400;
        let bounds = MemoryLimits {
            entries: config.cache_entries,
            answers: days(config.answer_days),
            misses: days(config.miss_days),
        };
        let mut memory = Memory::new(bounds);
        for (key, entry) in load(config) {
            memory.keep(key, entry);
        }
        let now = Instant::now();
        let pace = Pace::new(config.requests_per_second, now);
        let state = State { memory, waiting: Waiting::default(), pace, patience_from: now, unsaved: false };
        let shared = Arc::new(Shared {
            config: config.clone(),
            client,
            state: Mutex::new(state),
            asked: Notify::new(),
            settled: Condvar::new(),
            saving: Mutex::new(()),
            wait_share,
            metrics,
        });
        let (stop, stopped) = watch::channel(false);
        shared.show(&shared.state());
        tokio::spawn(super::task::run(Arc::clone(&shared), stopped));
        Ok(Geocoder { shared, stop })
    }

    /// Checks a configuration without starting anything. Errors: key of the configuration and what is wrong with it.
    pub fn check(config: &GeocoderConfig) -> Result<(), (&'static str, String)> {
        GeocoderClient::new(config).map(|_| ())
    }

    /// Whether it is asked before the gazetteer.
    pub fn comes_first(&self) -> bool {
        self.shared.config.before_gazetteer
    }

    /// Where a place is, if that is known. If not, the place will be asked about, and the fragment that `renew` names be
    /// forgotten when the answer is there; without `renew` nothing is asked. Waits for the answer at most `max_wait_ms`.
    pub fn point(&self, place: &Place, renew: Option<(&Arc<FragmentCache>, PlaceKey)>) -> Option<Point> {
        let question = Question::of(place)?;
        let (key, mut state) = (question.key(), self.shared.state());
        let stale = match state.memory.recall(&key, seconds_now()) {
            Recalled::Fresh(point) => {
                self.shared.metrics.known(point.is_some());
                return point;
            }
            Recalled::Stale(point) => Some(point),
            Recalled::Unknown => None,
        };
        let (cache, fragment) = renew?;
        let waits = state.waiting.add(&key, question, cache, fragment);
        self.shared.metrics.asked(waits);
        self.shared.metrics.waiting(state.waiting.len());
        if !waits {
            return stale;
        }
        self.shared.asked.notify_one();
        if stale.is_some() {
            return stale;
        }
        self.wait(state, &key)
    }

    /// Waits where the place's turn can come in time, the server is well, and not too much time was spent so already.
    fn wait(&self, state: MutexGuard<'_, State>, key: &str) -> Option<Point> {
        let most = Duration::from_millis(self.shared.config.max_wait_ms);
        let now = Instant::now();
        let ahead = u32::try_from(state.waiting.len().saturating_sub(1)).unwrap_or(u32::MAX);
        let turn = state.pace.next().saturating_duration_since(now) + state.pace.interval().saturating_mul(ahead);
        if most.is_zero() || turn >= most || state.pace.is_open() || now < state.patience_from {
            return None;
        }
        let still_waits = |state: &mut State| state.waiting.has(key);
        let waited = self.shared.settled.wait_timeout_while(state, most, still_waits);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let now_after = Instant::now();
        state.patience_from = now_after + (now_after - now) * (self.shared.wait_share - 1);
        match state.memory.recall(key, seconds_now()) {
            Recalled::Fresh(point) => point,
            _ => None,
        }
    }
}

impl Drop for Geocoder {
    fn drop(&mut self) {
        // The task may have ended with its runtime.
        let _ = self.stop.send(true);
        self.shared.save();
    }
}

fn load(config: &GeocoderConfig) -> Vec<(String, Entry)> {
    let Some(path) = config.cache_file.as_ref().map(|file| file.relative()) else { return Vec::new() };
    let file = path.display();
    match super::file::load(&path, seconds_now()) {
        Ok(entries) => return entries,
        Err(Unusable::Unreadable(error)) => {
            tracing::warn!("place.geocoder.cache_file: {file}: cannot be read: {error}; places are asked for again");
        }
        Err(Unusable::MovedAside(what, Some(to))) => {
            let to = to.display();
            tracing::warn!("place.geocoder.cache_file: {file}: {what}; moved to {to}, and places are asked for again");
        }
        Err(Unusable::MovedAside(what, None)) => {
            tracing::warn!(
                "place.geocoder.cache_file: {file}: {what}; it will be replaced, places are asked for again"
            );
        }
    }
    Vec::new()
}
