//! How far the comparison is: a bar on a terminal, lines elsewhere, both on standard error.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::command::offsets::say;
use crate::kafka::offset_note::Partition;
use crate::runtime::stdio;
use crate::runtime::stdio::above_bar;
use crate::runtime::terminal::{Bar, counted};

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(5);
/// Between two looks of the bar.
const BAR_EVERY: Duration = Duration::from_millis(100);

/// Of one comparison.
pub struct Progress {
    bar: Option<Bar>,
    /// Where each partition begins, and how many offsets come before it.
    starts: BTreeMap<Partition, (i64, u64)>,
    total: u64,
    told: Instant,
}

impl Progress {
    /// Of the offsets in `spans`.
    pub fn new(spans: &BTreeMap<Partition, (i64, i64)>) -> Self {
        let (mut total, mut starts) = (0, BTreeMap::new());
        for (&partition, &(from, to)) in spans {
            starts.insert(partition, (from, total));
            total += u64::try_from(to - from).unwrap_or_default();
        }
        Self { bar: Bar::new(Some(total), "offsets"), starts, total, told: Instant::now() }
    }

    /// A partition is compared up to here.
    pub fn at(&mut self, partition: Partition, offset: i64) {
        let every = if self.bar.is_some() { BAR_EVERY } else { LINE_EVERY };
        if self.told.elapsed() < every {
            return;
        }
        self.told = Instant::now();
        let (from, before) = self.starts.get(&partition).copied().unwrap_or_default();
        let done = before + u64::try_from(offset - from).unwrap_or_default();
        match &self.bar {
            Some(bar) => bar.at(done),
            None => stdio::tell(format_args!("{done} of {} compared", counted(self.total, "offset"))),
        }
    }

    /// Prints a line to standard output, above the bar.
    pub fn print(&self, line: &str) {
        above_bar(|| say(line));
    }

    /// All is compared.
    pub fn end(self) {
        drop(self.bar);
    }
}
