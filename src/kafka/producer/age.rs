//! How old something is, also where the machine was suspended meanwhile.

use std::time::{Duration, Instant, SystemTime};

/// A moment. Its age counts the time in which a suspended machine, whose monotonic clock stood still, did nothing.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    monotonic: Instant,
    wall: SystemTime,
}

impl Moment {
    /// This one.
    pub fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// By the monotonic clock alone: for waits, which must not end because somebody sets the wall clock.
    pub fn elapsed(&self) -> Duration {
        self.monotonic.elapsed()
    }

    /// The longer of what both clocks say.
    pub fn age(&self) -> Duration {
        age(self.elapsed(), self.wall, SystemTime::now())
    }
}

fn age(elapsed: Duration, then: SystemTime, now: SystemTime) -> Duration {
    // A wall clock that was set back tells nothing.
    now.duration_since(then).unwrap_or_default().max(elapsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_counts_the_time_of_a_suspended_machine() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let after = |seconds| then + Duration::from_secs(seconds);
        assert_eq!(age(Duration::from_secs(2), then, after(3_600)), Duration::from_secs(3_600), "an hour asleep");
        assert_eq!(age(Duration::from_secs(25), then, after(25)), Duration::from_secs(25));
        let set_back = then - Duration::from_secs(60);
        assert_eq!(age(Duration::from_secs(25), then, set_back), Duration::from_secs(25));
    }
}
