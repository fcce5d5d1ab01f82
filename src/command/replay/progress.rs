//! How far a replay is: a bar on a terminal, lines elsewhere, both on standard error.

use std::time::{Duration, Instant};

use crate::runtime::stdio;
use crate::runtime::terminal::{Bar, counted};

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Between two looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Of one replay.
pub struct Progress {
    bar: Option<Bar>,
    begun: Instant,
    told: Instant,
    /// Done before this process began.
    before: u64,
    total: u64,
}

impl Progress {
    /// Of so many offsets, of which some are done already.
    pub fn new(done: u64, total: u64) -> Self {
        let bar = Bar::new(Some(total), "offsets");
        if let Some(bar) = &bar {
            bar.begin_at(done);
        }
        Self { bar, begun: Instant::now(), told: Instant::now(), before: done, total }
    }

    /// So many offsets are done.
    pub fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.at(done);
        } else if self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            stdio::tell(self.line(done, self.begun.elapsed()));
        }
    }

    fn line(&self, done: u64, elapsed: Duration) -> String {
        let rate = done.saturating_sub(self.before) as f64 / elapsed.as_secs_f64().max(0.001);
        let left = self.total.saturating_sub(done);
        let eta = if rate < 1.0 { "end unknown".into() } else { format!("{:.0} s left", left as f64 / rate) };
        format!("{done} of {}, {rate:.0}/s, {eta}", counted(self.total, "offset"))
    }

    /// Nothing more comes; the offsets that this process did, and how long it took.
    pub fn end(self, done: u64) -> (u64, Duration) {
        (done.saturating_sub(self.before), self.begun.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_speed_and_time_left_of_this_process() {
        let progress = Progress::new(1_000, 10_000);
        assert_eq!(progress.line(3_000, Duration::from_secs(2)), "3000 of 10000 offsets, 1000/s, 7 s left");
        assert!(progress.line(1_000, Duration::from_secs(2)).ends_with("end unknown"));
    }
}
