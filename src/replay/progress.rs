//! How far a replay is: a bar on a terminal, lines elsewhere, both on standard error.

use std::io::{self, IsTerminal};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Between two looks.
pub const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Of one replay.
pub struct Progress {
    bar: Option<ProgressBar>,
    begun: Instant,
    told: Instant,
    /// Done before this process began.
    before: u64,
    total: u64,
}

impl Progress {
    /// Of so many offsets, of which some are done already.
    pub fn new(done: u64, total: u64) -> Self {
        let bar = io::stderr().is_terminal().then(|| ProgressBar::new(total).with_position(done));
        let style = ProgressStyle::with_template("{bar:40} {human_pos}/{human_len} offsets, {per_sec}, {eta} left");
        let bar = match style {
            Ok(style) => bar.map(|bar| bar.with_style(style)),
            Err(_) => bar,
        };
        if let Some(bar) = &bar {
            // What was done before tells nothing about the speed now.
            bar.reset_eta();
        }
        Self { bar, begun: Instant::now(), told: Instant::now(), before: done, total }
    }

    /// So many offsets are done.
    pub fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            eprintln!("{}", self.line(done, self.begun.elapsed()));
        }
    }

    fn line(&self, done: u64, elapsed: Duration) -> String {
        let rate = done.saturating_sub(self.before) as f64 / elapsed.as_secs_f64().max(0.001);
        let left = self.total.saturating_sub(done);
        let eta =
            if rate < 1.0 { "nobody knows when it ends".into() } else { format!("{:.0} s left", left as f64 / rate) };
        format!("{done} of {} offsets, {rate:.0}/s, {eta}", self.total)
    }

    /// Nothing more comes; the offsets that this process did, and how long it took.
    pub fn end(self, done: u64) -> (u64, Duration) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
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
        assert!(progress.line(1_000, Duration::from_secs(2)).ends_with("nobody knows when it ends"));
    }
}
