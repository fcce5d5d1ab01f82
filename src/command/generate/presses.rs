//! Fake presses, without any sending: the same recipe and seed give the same bytes.

use std::net::IpAddr;

use rand::{RngExt, SeedableRng};
use rand_distr::{Distribution, Zipf};
use rand_pcg::Pcg64;

use super::GenerateError;
use super::addresses::{Addresses, draw_private};
use super::malformed::{Line, MICROS_PER_SECOND, Malformed};

/// Most presses of one session.
const MOST_PRESSES: f64 = 500.0;
/// Exponent of the Zipf distribution: about 4 of 10 visitors press nothing, a few press hundreds of times.
const ZIPF_EXPONENT: f64 = 1.6;
/// Seconds between two events of one session, on average, where the number of sessions is not given.
const SECONDS_BETWEEN: f64 = 4.0;
/// Sessions that are open at once, where the number is not given: at most this many.
const MOST_SESSIONS: f64 = 20_000.0;

const USER_AGENTS: [&str; 6] = [
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/144.0",
    "Mozilla/5.0 (Windows NT 10.0) Chrome/141.0",
    "Mozilla/5.0 (Macintosh) Version/18.6 Safari/605",
    "Mozilla/5.0 (iPhone; iOS 18_6) Safari/604.1",
    "Mozilla/5.0 (Android 15; Mobile) Firefox/143.0",
    "Mozilla/5.0 (Windows NT 10.0) Edg/141.0",
];
const PAGES: [&str; 5] = ["/", "/button", "/button?ref=mail", "/the-big-one", "/button/red"];

/// What the presses shall be like. Shares are from 0 to 1.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The same seed gives the same presses.
    pub seed: u64,
    /// Time of the first press, microseconds since the epoch.
    pub start_us: i64,
    /// Time from one press to the next, nanoseconds, on average.
    pub step_ns: u64,
    /// Sessions that are open at once; `None`: as many as give each visitor a few seconds between events.
    pub sessions: Option<usize>,
    /// Cohorts to draw from; empty: null.
    pub cohorts: Vec<i16>,
    /// Of the public addresses, how many are IPv6.
    pub v6: f64,
    /// Of the visitors, how many have a private address.
    pub private: f64,
    /// Of the visitors, how many have an address that no database knows, or none.
    pub unknown: f64,
    /// Of the events, how many are malformed, each kind in turn.
    pub malformed: f64,
}

impl Default for Recipe {
    /// Seed 1, from 2026-01-01T00:00:00Z on, 250 presses a second, the shares of the command line.
    fn default() -> Self {
        Self {
            seed: 1,
            start_us: 1_767_225_600 * MICROS_PER_SECOND,
            step_ns: 4_000_000,
            sessions: None,
            cohorts: Vec::new(),
            v6: 0.3,
            private: 0.02,
            unknown: 0.01,
            malformed: 0.005,
        }
    }
}

impl Recipe {
    /// Errors: a share that is not from 0 to 1, or private and unknown ones together above 1.
    pub(super) fn check(&self) -> Result<(), GenerateError> {
        let shares =
            [("v6", self.v6), ("private", self.private), ("unknown", self.unknown), ("malformed", self.malformed)];
        for (name, share) in shares {
            if !(0.0..=1.0).contains(&share) {
                return Err(GenerateError::Argument {
                    name,
                    what: format!("found {share}, expected a share from 0 to 1"),
                });
            }
        }
        if self.private + self.unknown > 1.0 {
            let what = "private and unknown shares together are above 1; lower one".into();
            return Err(GenerateError::Argument { name: "private", what });
        }
        Ok(())
    }

    /// JSON of a visitor's cohort.
    pub(super) fn draw_cohort(&self, rng: &mut Pcg64) -> String {
        match self.cohorts.len() {
            0 => "null".to_string(),
            many => self.cohorts[rng.random_range(0..many)].to_string(),
        }
    }

    /// JSON of the address of a visitor without a place, as often as asked for; none for all others.
    pub(super) fn draw_nowhere(&self, addresses: &Addresses, rng: &mut Pcg64) -> Option<(PressKind, String)> {
        let draw: f64 = rng.random();
        if draw < self.private {
            return Some((PressKind::Private, quoted(draw_private(rng))));
        }
        (draw < self.private + self.unknown).then(|| {
            let ip = match rng.random_range(0..10) {
                0 => "null".to_string(),
                1 => String::new(),
                _ => quoted(addresses.draw_unknown(rng)),
            };
            (PressKind::Unknown, ip)
        })
    }
}

/// What kind of event was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PressKind {
    /// With an address that has a place.
    Good,
    /// With a private address.
    Private,
    /// With an address without a place, a null one, or none.
    Unknown,
    /// With a mistake.
    Malformed(Malformed),
    /// An order.
    Order,
}

/// One event, beside the bytes of its key and value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Made {
    /// What it is.
    pub kind: PressKind,
    /// When it happened, microseconds since the epoch (also where the value says something else by mistake).
    pub timestamp_us: i64,
    /// False: the record's value is null.
    pub has_value: bool,
}

impl Made {
    /// The record's timestamp, milliseconds since the epoch.
    pub fn timestamp_ms(&self) -> i64 {
        self.timestamp_us / 1_000
    }
}

struct Session {
    id: [u8; 36],
    entered: bool,
    presses_left: u32,
    kind: PressKind,
    cohort: String,
    ip: String,
    tail: usize,
}

/// An endless stream of fake presses: sessions of one visitor each, an `EnterPage` and then some `PressButton`, many
/// sessions mixed.
pub struct Presses {
    recipe: Recipe,
    addresses: Addresses,
    rng: Pcg64,
    presses: Zipf<f64>,
    tails: Vec<String>,
    sessions: Vec<Session>,
    /// Events made so far.
    made: u64,
    malformed: usize,
    malformed_below: u64,
}

impl Presses {
    /// Errors: a share that is not from 0 to 1, or private and unknown ones together above 1; no sessions.
    pub fn new(recipe: Recipe, addresses: Addresses) -> Result<Self, GenerateError> {
        recipe.check()?;
        let count = recipe.sessions.unwrap_or_else(|| sessions_for(recipe.step_ns));
        if count == 0 {
            return Err(GenerateError::Argument { name: "sessions", what: "found 0, expected at least 1".into() });
        }
        let presses = Zipf::new(MOST_PRESSES, ZIPF_EXPONENT)
            .map_err(|e| GenerateError::Argument { name: "sessions", what: e.to_string() })?;
        let mut this = Self {
            rng: Pcg64::seed_from_u64(recipe.seed),
            malformed_below: (recipe.malformed * u64::MAX as f64) as u64,
            recipe,
            addresses,
            presses,
            tails: tails(),
            sessions: Vec::with_capacity(count),
            made: 0,
            malformed: 0,
        };
        for _ in 0..count {
            let session = this.new_session();
            this.sessions.push(session);
        }
        Ok(this)
    }

    /// Makes the next event: overwrites `key` (the session id) and `value` (about 220 bytes of JSON). Without allocation
    /// once the buffers have grown, but for new sessions and malformed events.
    pub fn next_into(&mut self, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Made {
        key.clear();
        value.clear();
        let timestamp_us = self.next_timestamp_us();
        let at = self.rng.random_range(0..self.sessions.len());
        if self.recipe.malformed > 0.0 && self.rng.random::<u64>() <= self.malformed_below {
            return self.malformed_into(at, timestamp_us, key, value);
        }
        if self.sessions[at].entered && self.sessions[at].presses_left == 0 {
            self.sessions[at] = self.new_session();
        }
        let session = &mut self.sessions[at];
        let action = if session.entered { "PressButton" } else { "EnterPage" };
        if session.entered {
            session.presses_left -= 1;
        }
        session.entered = true;
        session.line(action, timestamp_us, &self.tails).write(value);
        key.extend_from_slice(&session.id);
        Made { kind: session.kind, timestamp_us, has_value: true }
    }

    /// A malformed event is one more of a session, beside its proper ones.
    fn malformed_into(&mut self, at: usize, timestamp_us: i64, key: &mut Vec<u8>, value: &mut Vec<u8>) -> Made {
        let mistake = Malformed::ALL[self.malformed % Malformed::ALL.len()];
        self.malformed += 1;
        let session = &self.sessions[at];
        mistake.write(&session.line("PressButton", timestamp_us, &self.tails), value);
        key.extend_from_slice(&session.id);
        Made { kind: PressKind::Malformed(mistake), timestamp_us, has_value: mistake != Malformed::NullValue }
    }

    /// One step on, at a random point of the step, so that times never go back and stay inside the spread.
    fn next_timestamp_us(&mut self) -> i64 {
        let step = self.recipe.step_ns.max(1);
        let within = (u128::from(self.rng.random::<u64>()) * u128::from(step)) >> 64;
        let since_ns = u128::from(self.made) * u128::from(step) + within;
        self.made += 1;
        self.recipe.start_us.saturating_add(i64::try_from(since_ns / 1_000).unwrap_or(i64::MAX))
    }

    fn new_session(&mut self) -> Session {
        let rng = &mut self.rng;
        let id = draw_id(rng);
        let cohort = self.recipe.draw_cohort(rng);
        // From 1 on; a visitor may also leave without a press.
        let presses_left = self.presses.sample(rng) as u32 - 1;
        let tail = rng.random_range(0..self.tails.len());
        let nowhere = self.recipe.draw_nowhere(&self.addresses, rng);
        let (kind, ip) =
            nowhere.unwrap_or_else(|| (PressKind::Good, quoted(self.addresses.draw_public(rng, self.recipe.v6))));
        Session { id, entered: false, presses_left, kind, cohort, ip, tail }
    }
}

impl Session {
    fn line<'a>(&'a self, action: &'a str, timestamp_us: i64, tails: &'a [String]) -> Line<'a> {
        Line { session: &self.id, timestamp_us, cohort: &self.cohort, action, ip: &self.ip, tail: &tails[self.tail] }
    }
}

fn sessions_for(step_ns: u64) -> usize {
    (SECONDS_BETWEEN * 1e9 / step_ns.max(1) as f64).clamp(1.0, MOST_SESSIONS) as usize
}

/// The fields that pressline does not know, with the end of the object.
pub(super) fn tails() -> Vec<String> {
    let both = |page: &&str| USER_AGENTS.map(|agent| format!(",\"page\":\"{page}\",\"user_agent\":\"{agent}\"}}"));
    PAGES.iter().flat_map(both).collect()
}

/// A random UUID as text.
pub(super) fn draw_id(rng: &mut Pcg64) -> [u8; 36] {
    let mut id = [0u8; 36];
    uuid::Builder::from_random_bytes(rng.random()).into_uuid().hyphenated().encode_lower(&mut id);
    id
}

pub(super) fn quoted(ip: IpAddr) -> String {
    format!("\"{ip}\"")
}
