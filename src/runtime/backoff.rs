//! Waits that grow from failure to failure.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// How long to wait after the next failure: twice as long as after the one before, up to a longest wait, and a quarter more or
/// less at random, so that many workers and processes do not come back at the same moment.
#[derive(Clone, Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Default for Backoff {
    /// From half a second to ten.
    fn default() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(10))
    }
}

impl Backoff {
    /// From the first wait to the longest, each before the random part.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Something failed: how long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        // A wait that has doubled 20 times is longer than any that anybody asks for.
        let full = self.first.saturating_mul(1 << self.failures.min(20)).min(self.longest);
        self.failures = self.failures.saturating_add(1);
        with_jitter(full)
    }

    /// Something went well: the next wait is the first again.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Failures since it last went well.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

fn with_jitter(length: Duration) -> Duration {
    // A new state hashes with keys of its own, which is all the randomness that is needed.
    let random = (RandomState::new().hash_one(length) % 500) as u32;
    length / 1_000 * (750 + random)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(500);
    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn waits_double_up_to_the_longest_and_begin_again() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        for round in 0..2 {
            for (failures, full) in [(1, 500), (2, 1_000), (3, 2_000), (4, 4_000), (5, 8_000), (6, 16_000), (7, 30_000)]
            {
                let (wait, full) = (backoff.next_wait(), Duration::from_millis(full));
                assert!((full * 3 / 4..=full * 5 / 4).contains(&wait), "round {round}, failure {failures}: {wait:?}");
                assert_eq!(backoff.failures(), failures);
            }
            (0..100).for_each(|_| assert!(backoff.next_wait() <= LONGEST * 5 / 4));
            backoff.reset();
        }
    }

    #[test]
    fn many_do_not_come_back_at_the_same_moment() {
        let waits: std::collections::BTreeSet<_> = (0..200).map(|_| Backoff::default().next_wait()).collect();
        assert!(waits.len() > 100, "{waits:?}");
    }
}
