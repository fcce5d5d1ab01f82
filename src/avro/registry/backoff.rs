//! Waiting for a registry that is down.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::sync::watch;

use super::{Registry, RegistryError, SchemaId};

/// First wait.
const SHORTEST: Duration = Duration::from_millis(500);
/// Longest wait: a registry that comes back is noticed within this.
const LONGEST: Duration = Duration::from_secs(30);

impl Registry {
    /// [`Registry::ensure`], again and again while its error is retriable, with growing waits of 0.5 to 30 s. `on_wait`
    /// hears every error that is waited out, and for how long. `Ok(None)` when `stop` became true or its sender is gone.
    /// Errors: those that time does not cure.
    pub async fn ensure_with_backoff(
        &self,
        subject: &str,
        schema_text: &str,
        register: bool,
        stop: &mut watch::Receiver<bool>,
        mut on_wait: impl FnMut(&RegistryError, Duration),
    ) -> Result<Option<SchemaId>, RegistryError> {
        let mut attempt = 0;
        loop {
            let answer = tokio::select! {
                answer = self.ensure(subject, schema_text, register) => answer,
                _ = stop.wait_for(|stop| *stop) => return Ok(None),
            };
            let error = match answer {
                Ok(id) => return Ok(Some(id)),
                Err(error) if !error.is_retriable() => return Err(error),
                Err(error) => error,
            };
            let wait = wait_for(attempt, RandomState::new().hash_one(attempt));
            on_wait(&error, wait);
            attempt = attempt.saturating_add(1);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(None),
            }
        }
    }
}

/// Doubles with each attempt, and takes off up to half at random, so that many processes do not come back at once.
fn wait_for(attempt: u32, random: u64) -> Duration {
    let full = SHORTEST.saturating_mul(1u32 << attempt.min(10)).min(LONGEST);
    let share = (random % 1_000) as u32;
    (full - full / 2 / 1_000 * share).max(SHORTEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_stay_within_their_limits() {
        for random in [0, 1, 499, 999, u64::MAX] {
            assert_eq!(wait_for(0, random), SHORTEST);
            for attempt in 0..100 {
                let wait = wait_for(attempt, random);
                assert!((SHORTEST..=LONGEST).contains(&wait), "attempt {attempt}: {wait:?}");
            }
            assert!(wait_for(20, random) >= LONGEST / 2);
        }
        assert_eq!(wait_for(3, 0), Duration::from_secs(4));
    }
}
