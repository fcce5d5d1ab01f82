//! Waiting for a registry that is down.

use std::time::Duration;

use tokio::sync::watch;

use super::{Registry, RegistryError, SchemaId};
use crate::runtime::backoff::Backoff;

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
        let mut backoff = Backoff::new(SHORTEST, LONGEST);
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
            let wait = backoff.next_wait();
            on_wait(&error, wait);
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = stop.wait_for(|stop| *stop) => return Ok(None),
            }
        }
    }
}
