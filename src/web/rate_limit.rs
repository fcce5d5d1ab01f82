//! How often one session, or one address, may press: token buckets in memory, of a bounded number.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::client_address::VisitorAddress;
use crate::pipeline::press::event::SessionId;

/// Buckets of each kind that are kept. A bucket that is full again is dropped, so most are gone after seconds.
const MOST_BUCKETS: usize = 100_000;
/// Presses that are taken at once, however few a minute are allowed.
const LEAST_BURST: f64 = 10.0;

/// The limits of all visitors.
pub struct RateLimit {
    key: RandomState,
    sessions: Buckets,
    addresses: Buckets,
}

impl RateLimit {
    /// So many presses a minute of each session and each address.
    pub fn new(per_session: u32, per_address: u32) -> Self {
        let key = RandomState::new();
        Self { key, sessions: Buckets::new(per_session), addresses: Buckets::new(per_address) }
    }

    /// Takes one press of this session from this address; without a session, a first visit. Errors: how long to wait.
    pub fn take(&self, session: Option<&SessionId>, address: &VisitorAddress) -> Result<(), Duration> {
        let now = Instant::now();
        if let Some(session) = session {
            self.sessions.take(self.key.hash_one(session), now)?;
        }
        self.addresses.take(address.fingerprint(&self.key), now)
    }
}

struct Buckets {
    per_second: f64,
    burst: f64,
    /// Tokens that were left, and when.
    left: Mutex<HashMap<u64, (f64, Instant)>>,
}

impl Buckets {
    fn new(per_minute: u32) -> Self {
        let per_second = f64::from(per_minute) / 60.0;
        Self { per_second, burst: (per_second * 2.0).max(LEAST_BURST), left: Mutex::default() }
    }

    fn take(&self, key: u64, now: Instant) -> Result<(), Duration> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |(tokens, at): (f64, Instant)| {
            (tokens + now.saturating_duration_since(at).as_secs_f64() * self.per_second).min(self.burst)
        };
        if left.len() >= MOST_BUCKETS && !left.contains_key(&key) {
            left.retain(|_, bucket| full(*bucket) < self.burst);
            // So many at once is an attack from as many addresses, which no limit of one address stops.
            if left.len() >= MOST_BUCKETS {
                left.clear();
            }
        }
        let tokens = left.get(&key).map_or(self.burst, |bucket| full(*bucket));
        if tokens < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - tokens) / self.per_second));
        }
        left.insert(key, (tokens - 1.0, now));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_burst_is_taken_and_then_so_many_a_minute() {
        let buckets = Buckets::new(60);
        let start = Instant::now();
        let taken =
            |seconds: u64| (0..100).filter(|_| buckets.take(7, start + Duration::from_secs(seconds)).is_ok()).count();
        assert_eq!(taken(0), 10);
        assert_eq!(taken(3), 3);
        assert_eq!(buckets.take(7, start + Duration::from_secs(3)).unwrap_err().as_secs(), 1);
        assert!(buckets.take(8, start).is_ok(), "others are not held up");
        assert_eq!(taken(1_000), 10);
    }

    #[test]
    fn there_are_never_more_buckets_than_the_bound() {
        let buckets = Buckets::new(60);
        let now = Instant::now();
        for key in 0..MOST_BUCKETS as u64 + 10 {
            buckets.take(key, now).unwrap();
        }
        assert!(buckets.left.lock().unwrap().len() <= MOST_BUCKETS);
    }
}
