//! A bounded run: in each partition from a start to an end, both fixed when it begins, with an account of what became of
//! its records.
//!
//! The account is noted with the partition's offset, so it moves when the offset moves, and a run that was killed knows
//! afterwards what it had done.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::kafka::coordinator::Coordinator;
use crate::kafka::offset_note::{Account, CommittedOffset, NextOffset, OffsetNote, Partition, Tally};

/// A partition's position and account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeProgress {
    /// Next offset.
    pub position: NextOffset,
    /// Up to there.
    pub account: Account,
}

/// How records that may be in the target already are met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// The target has none of them.
    None,
    /// The target may have some: where its rows tell which record they are, it is asked first, and only missing ones are
    /// written.
    Ask,
}

/// The range of a run, shared by its workers.
#[derive(Debug)]
pub struct ReplayRange {
    asked: String,
    overlap: Overlap,
    pace: Option<Pace>,
    ends: BTreeMap<Partition, NextOffset>,
    progress: Mutex<BTreeMap<Partition, RangeProgress>>,
}

impl ReplayRange {
    /// From where the partitions stand now to their ends, at most `rate` records a second. `asked` is noted with every
    /// offset: what the run was begun with.
    pub fn new(
        asked: String,
        overlap: Overlap,
        rate: Option<u32>,
        progress: BTreeMap<Partition, RangeProgress>,
    ) -> Self {
        let ends = progress
            .iter()
            .map(|(partition, partition_progress)| (*partition, partition_progress.account.end))
            .collect();
        Self { asked, overlap, pace: rate.map(Pace::new), ends, progress: Mutex::new(progress) }
    }

    /// The coordinator of a worker that keeps to this range, where there is one.
    pub fn coordinator(replay_range: Option<&Self>) -> Coordinator {
        replay_range.map_or_else(Coordinator::new, |replay_range| Coordinator::until(replay_range.ends.clone()))
    }

    /// How records that may be in the target already are met.
    pub fn overlap(&self) -> Overlap {
        self.overlap
    }

    /// How fast it may go.
    pub fn pace(&self) -> Option<&Pace> {
        self.pace.as_ref()
    }

    /// Where each partition ends; others are no part of the run.
    pub fn ends(&self) -> &BTreeMap<Partition, NextOffset> {
        &self.ends
    }

    /// Whether the partition is through at this position. One that was added to the topic later is from the start.
    pub fn is_through(&self, partition: Partition, position: NextOffset) -> bool {
        self.ends.get(&partition).is_none_or(|end| position >= *end)
    }

    /// Adds to a note what the partition's account is after `more`.
    pub fn note(&self, partition: Partition, more: Tally, note: OffsetNote) -> OffsetNote {
        let Some(partition_progress) = self.partition_progress(partition) else { return note };
        let account = Account { tally: partition_progress.account.tally.plus(more), ..partition_progress.account };
        OffsetNote { account: Some(account), asked: Some(self.asked.clone()), ..note }
    }

    /// Takes over where a partition begins from what was committed, and by it what the account is there: that of a range
    /// which was begun counts if it was ended. Errors, in words: the offset is neither.
    pub fn begin(&self, partition: Partition, start: NextOffset, committed: &CommittedOffset) -> Result<(), String> {
        let note = &committed.note;
        let Some(mut account) = note.account else { return Ok(()) };
        let pending = note.pending.map(|pending| pending.end);
        match note.then {
            _ if start == committed.next || self.is_through(partition, committed.next) => {}
            Some(then) if pending == Some(start) => account.tally = account.tally.plus(then),
            _ => {
                return Err(format!(
                    "partition {partition}: the position is {start}, but the run's account is at {}{}",
                    committed.next,
                    pending.map(|end| format!(" or {end}")).unwrap_or_default()
                ));
            }
        }
        if let Ok(mut progress) = self.progress.lock() {
            progress.insert(partition, RangeProgress { position: start, account });
        }
        Ok(())
    }

    /// Offsets and what became of the records before them are committed.
    pub fn settled(&self, partition: Partition, position: NextOffset, more: Tally) {
        if let Ok(mut progress) = self.progress.lock()
            && let Some(partition_progress) = progress.get_mut(&partition)
        {
            partition_progress.position = position;
            partition_progress.account.tally = partition_progress.account.tally.plus(more);
        }
    }

    fn partition_progress(&self, partition: Partition) -> Option<RangeProgress> {
        self.progress.lock().ok()?.get(&partition).copied()
    }

    /// Offsets that are done, and all there are.
    pub fn progress(&self) -> (u64, u64) {
        let count = |from: i64, to: i64| u64::try_from(to - from).unwrap_or_default();
        let Ok(progress) = self.progress.lock() else { return (0, 0) };
        progress.iter().fold((0, 0), |(done, all), (_, RangeProgress { position, account })| {
            let done_here = count(account.from, (*position).min(account.end));
            (done + done_here, all + count(account.from, account.end))
        })
    }
}

/// How much time a run may be behind its pace and make up for.
const MADE_UP: Duration = Duration::from_secs(2);

/// At most so many records a second, for all workers together.
#[derive(Debug)]
pub struct Pace {
    per_second: f64,
    /// When what was taken so far is paid for.
    free: Mutex<Instant>,
}

impl Pace {
    fn new(per_second: u32) -> Self {
        Self { per_second: f64::from(per_second.max(1)), free: Mutex::new(Instant::now()) }
    }

    /// Waits until a batch may be read, but no longer than that; `None` if it may not yet. A batch that already holds records is
    /// read on without a wait, since what was begun must become whole, but what it gets counts too.
    pub fn turn(&self, held: usize, patience: Duration) -> Option<Turn<'_>> {
        if held == 0 {
            let free = self.free.lock().map_or_else(|_| Instant::now(), |free| *free);
            let wait = free.saturating_duration_since(Instant::now());
            std::thread::sleep(wait.min(patience));
            if wait > patience {
                return None;
            }
        }
        Some(Turn { pace: self, held })
    }

    /// Records of one batch: a quarter of a second's, so that the flow is even.
    fn share(&self) -> usize {
        (self.per_second / 4.0).ceil() as usize
    }
}

/// Leave to read records into a batch.
#[derive(Debug)]
pub struct Turn<'p> {
    pace: &'p Pace,
    /// Records that the batch held before.
    held: usize,
}

impl Turn<'_> {
    /// A batch of so many records has its share.
    pub fn is_over(&self, records: usize) -> bool {
        self.held == 0 && records >= self.pace.share()
    }

    /// The batch has so many records now.
    pub fn end(self, records: usize) {
        let taken = records.saturating_sub(self.held);
        if let Ok(mut free) = self.pace.free.lock() {
            // What a slow write or fetch has cost is made up for, but no more than that: a long pause is no leave to rush.
            let earliest = Instant::now().checked_sub(MADE_UP).unwrap_or(*free);
            *free = (*free).max(earliest) + Duration::from_secs_f64(taken as f64 / self.pace.per_second);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::kafka::offset_note::Pending;

    const ACCOUNT: Account =
        Account { from: 10, end: 100, removed: 5, tally: Tally { read: 40, written: 38, dead: 2, filtered: 0 } };

    fn replay_range() -> ReplayRange {
        let partition_progress = RangeProgress { position: 60, account: ACCOUNT };
        ReplayRange::new("beginning/now/t".into(), Overlap::None, None, BTreeMap::from([(0, partition_progress)]))
    }

    #[test]
    fn an_account_survives_its_note() {
        let note = replay_range().note(0, Tally::of(10, 1), OffsetNote::default());
        let read = OffsetNote::parse(&note.to_text());
        assert_eq!(read, note);
        assert_eq!(read.account.unwrap().tally, Tally { read: 50, written: 47, dead: 3, filtered: 0 });
        assert_eq!(read.asked.as_deref(), Some("beginning/now/t"));
        assert_eq!(replay_range().note(1, Tally::default(), OffsetNote::default()), OffsetNote::default());
        for text in ["", "1:2:3", "1:2:3:4:5", "1:2:x:4:5:6"] {
            assert_eq!(Account::parse(text), None, "{text}");
        }
    }

    #[test]
    fn a_range_that_was_begun_counts_if_it_was_ended() {
        let then = Some(Tally::of(20, 0));
        let pending = Some(Pending { end: 80, attempt: 1 });
        let note = OffsetNote { account: Some(ACCOUNT), pending, then, ..OffsetNote::default() };
        let committed = CommittedOffset { next: 60, note };
        let read = |start| {
            let replay_range = replay_range();
            replay_range.begin(0, start, &committed)?;
            Ok::<_, String>(replay_range.partition_progress(0).unwrap().account.tally.read)
        };
        assert_eq!(read(60), Ok(40));
        assert_eq!(read(80), Ok(60));
        assert!(read(70).unwrap_err().contains("the position is 70, but the run's account is at 60 or 80"));
    }

    #[test]
    fn an_account_is_settled_when_all_offsets_are_explained() {
        assert_eq!(ACCOUNT.without_record(60), 5);
        assert!(!ACCOUNT.is_settled(60));
        assert!(ACCOUNT.is_settled(100));
        let lost = Account { tally: Tally { read: 40, written: 38, dead: 1, filtered: 0 }, ..ACCOUNT };
        assert!(!lost.is_settled(100));
        let filtered = Account { tally: Tally { filtered: 1, ..lost.tally }, ..ACCOUNT };
        assert!(filtered.is_settled(100));
        assert_eq!(Account::parse(&filtered.to_text()), Some(filtered));
        let doubled = Account { tally: Tally::of(86, 0), ..ACCOUNT };
        assert!(!doubled.is_settled(100), "more records than offsets");
        assert_eq!(replay_range().progress(), (50, 90));
    }

    #[test]
    fn a_pace_is_kept() {
        let pace = Pace::new(1_000);
        let begun = Instant::now();
        for _ in 0..4 {
            let turn = pace.turn(0, Duration::from_secs(1)).unwrap();
            assert!(!turn.is_over(249) && turn.is_over(250));
            turn.end(250);
        }
        assert!(pace.turn(0, Duration::from_millis(10)).is_none());
        assert!(begun.elapsed() >= Duration::from_millis(750), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_stall_is_made_up_for_and_no_more() {
        let pace = Pace::new(1_000);
        let behind = |seconds| Instant::now().checked_sub(Duration::from_secs(seconds)).unwrap();
        *pace.free.lock().unwrap() = behind(1);
        for _ in 0..4 {
            pace.turn(0, Duration::ZERO).unwrap().end(250);
        }
        assert!(pace.turn(0, Duration::ZERO).is_some_and(|turn| turn.held == 0), "a second's records without a wait");
        *pace.free.lock().unwrap() = behind(60);
        pace.turn(0, Duration::ZERO).unwrap().end(3_000);
        assert!(pace.turn(0, Duration::ZERO).is_none(), "not a minute's");
    }

    #[test]
    fn a_batch_that_was_begun_is_read_on_and_what_it_gets_is_counted_once() {
        let pace = Pace::new(1_000);
        pace.turn(0, Duration::ZERO).unwrap().end(250);
        let begun = Instant::now();
        let turn = pace.turn(250, Duration::ZERO).unwrap();
        assert!(!turn.is_over(250) && !turn.is_over(100_000));
        turn.end(300);
        let due = pace.free.lock().unwrap().saturating_duration_since(begun);
        assert!(due <= Duration::from_millis(300) && due > Duration::from_millis(200), "{due:?}");
        // Records of partitions that went away meanwhile are dropped from the batch.
        let before = *pace.free.lock().unwrap();
        pace.turn(300, Duration::ZERO).unwrap().end(100);
        assert!(pace.free.lock().unwrap().saturating_duration_since(before) < Duration::from_millis(50));
    }
}
