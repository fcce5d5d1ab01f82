//! How the geocoder does.

use ::metrics::{Counter, Gauge, Label, counter, gauge};

use super::Answer;
use crate::metrics::{
    GEOCODER_ENTRIES, GEOCODER_EVICTIONS, GEOCODER_LOOKUPS, GEOCODER_OPEN, GEOCODER_REQUESTS, GEOCODER_WAITING,
};

/// A geocoder's counters and gauges.
pub struct GeocoderMetrics {
    /// `known`, `missing`, `asked`, `dropped`.
    lookups: [Counter; 4],
    /// By [`Answer::LABELS`].
    answers: Vec<Counter>,
    waiting: Gauge,
    entries: Gauge,
    evictions: Counter,
    open: Gauge,
}

impl GeocoderMetrics {
    /// Those of one server, by its host. Counters that may stay at 0 are there from the start.
    pub fn new(host: &str) -> Self {
        let own = || Label::new("geocoder", host.to_string());
        let lookups = ["known", "missing", "asked", "dropped"];
        let answer = |label| counter!(GEOCODER_REQUESTS, vec![own(), Label::new("answer", label)]);
        Self {
            lookups: lookups.map(|label| counter!(GEOCODER_LOOKUPS, vec![own(), Label::new("entry", label)])),
            answers: Answer::LABELS.into_iter().map(answer).collect(),
            waiting: gauge!(GEOCODER_WAITING, vec![own()]),
            entries: gauge!(GEOCODER_ENTRIES, vec![own()]),
            evictions: counter!(GEOCODER_EVICTIONS, vec![own()]),
            open: gauge!(GEOCODER_OPEN, vec![own()]),
        }
    }

    /// A place's answer was there, or that the geocoder does not know it.
    pub fn known(&self, has_point: bool) {
        let [known, missing, ..] = &self.lookups;
        if has_point { known.increment(1) } else { missing.increment(1) }
    }

    /// A place will be asked about, or there was no room for it.
    pub fn asked(&self, waits: bool) {
        let [.., asked, dropped] = &self.lookups;
        if waits { asked.increment(1) } else { dropped.increment(1) }
    }

    /// A request ended.
    pub fn answered(&self, answer: &Answer) {
        let index = Answer::LABELS.iter().position(|label| *label == answer.label());
        if let Some(counter) = index.and_then(|index| self.answers.get(index)) {
            counter.increment(1);
        }
    }

    /// Places that wait.
    pub fn waiting(&self, places: usize) {
        self.waiting.set(places as f64);
    }

    /// Entries kept, and dropped so far.
    pub fn cache(&self, entries: usize, evictions: u64) {
        self.entries.set(entries as f64);
        self.evictions.absolute(evictions);
    }

    /// Whether the geocoder is only probed.
    pub fn open(&self, is_open: bool) {
        self.open.set(f64::from(u8::from(is_open)));
    }
}
