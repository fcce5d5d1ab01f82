//! Rows that the server took and did not write.

use std::time::{Duration, Instant};

/// Rows that a trigger dropped: told at once, then at most once a minute, for it may be meant so.
#[derive(Default)]
pub(super) struct DroppedRows {
    told: Option<Instant>,
    untold: u64,
}

impl DroppedRows {
    const PAUSE: Duration = Duration::from_secs(60);

    /// Adds to what is to be told, and tells it when it is time.
    pub(super) fn tell(&mut self, count: u64, pipeline: &str, table: &str) {
        self.untold += count;
        if self.untold == 0 || self.told.is_some_and(|told| told.elapsed() < Self::PAUSE) {
            return;
        }
        tracing::warn!(
            pipeline,
            sink = "postgres",
            table,
            rows = self.untold,
            "the server took rows and did not write them: a BEFORE trigger dropped them; if that is not meant, fix the trigger \
             and replay the records"
        );
        *self = Self { told: Some(Instant::now()), untold: 0 };
    }
}
