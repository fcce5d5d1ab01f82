//! When the next request may leave: so many a second, later after a failure, and only a probe now and then of a server that
//! fails again and again.

use std::time::{Duration, Instant};

use crate::runtime::backoff::Backoff;

/// First wait after a failure.
const SHORTEST: Duration = Duration::from_secs(1);
/// Longest wait of our own: a server that comes back is noticed within this.
const LONGEST: Duration = Duration::from_secs(300);
/// Longest wait that a server may ask for.
const LONGEST_ASKED: Duration = Duration::from_secs(24 * 3600);
/// Failures in a row after which the circuit is open: what leaves then is one probe at a time.
const OPEN_AFTER: u32 = 3;

/// Decides when; sends nothing itself.
pub(super) struct Pace {
    interval: Duration,
    next: Instant,
    backoff: Backoff,
}

impl Pace {
    pub(super) fn new(requests_per_second: f64, now: Instant) -> Self {
        Self {
            interval: Duration::from_secs_f64(1.0 / requests_per_second),
            next: now,
            backoff: Backoff::new(SHORTEST, LONGEST),
        }
    }

    /// When the next request may leave.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// From one request to the next.
    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// Whether the server fails again and again.
    pub(super) fn is_open(&self) -> bool {
        self.failures() >= OPEN_AFTER
    }

    /// Failures since the last success.
    pub(super) fn failures(&self) -> u32 {
        self.backoff.failures()
    }

    /// A request leaves.
    pub(super) fn leaves(&mut self, now: Instant) {
        self.next = now + self.interval;
    }

    /// The server answered.
    pub(super) fn succeeded(&mut self) {
        self.backoff.reset();
    }

    /// It did not, or asked for a pause, which is kept whole.
    pub(super) fn failed(&mut self, now: Instant, retry_after: Option<Duration>) {
        let wait = self.backoff.next_wait().max(retry_after.unwrap_or_default().min(LONGEST_ASKED));
        self.next = self.next.max(now + wait);
    }
}

/// `Retry-After` as seconds or as a date (RFC 9110, 10.2.3), from `now` in seconds since 1970.
pub(super) fn retry_after(value: &str, now: i64) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let date = jiff::fmt::rfc2822::DateTimeParser::new().parse_timestamp(value.trim()).ok()?;
    Some(Duration::from_secs(u64::try_from(date.as_second().saturating_sub(now)).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn requests_keep_their_distance() {
        let start = Instant::now();
        let mut pace = Pace::new(4.0, start);
        assert_eq!(pace.next(), start);
        pace.leaves(start);
        assert_eq!(pace.next() - start, Duration::from_millis(250));
        // An answer does not make the next one come sooner.
        pace.succeeded();
        assert_eq!(pace.next() - start, Duration::from_millis(250));
    }

    #[test]
    fn waits_double_up_to_a_limit_and_the_circuit_opens_and_closes() {
        let now = Instant::now();
        let mut pace = Pace::new(1000.0, now);
        let mut waits = Vec::new();
        for failures in 1..20 {
            pace.failed(now, None);
            waits.push(pace.next() - now);
            assert_eq!(pace.is_open(), failures >= 3, "{failures} failures");
        }
        assert!(waits.iter().all(|wait| (SHORTEST * 3 / 4..=LONGEST * 5 / 4).contains(wait)), "{waits:?}");
        assert!(waits.last().unwrap() >= &(LONGEST / 2));
        pace.succeeded();
        assert!(!pace.is_open());
    }

    #[test]
    fn what_the_server_asks_for_is_kept_to_the_second_and_not_for_ever() {
        let now = Instant::now();
        let mut pace = Pace::new(1000.0, now);
        pace.failed(now, Some(Duration::from_secs(77)));
        assert_eq!(pace.next() - now, Duration::from_secs(77));
        pace.failed(now, Some(Duration::from_secs(1 << 40)));
        assert_eq!(pace.next() - now, LONGEST_ASKED);
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = 784_111_767; // Sun, 06 Nov 1994 08:49:27 GMT
        assert_eq!(retry_after("120", now), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT", now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after("Sun, 06 Nov 1994 08:00:00 GMT", now), Some(Duration::ZERO), "long past");
        for nonsense in ["", "soon", "-5", "1.5", "99999999999999999999999"] {
            assert_eq!(retry_after(nonsense, now), None, "{nonsense}");
        }
    }
}
