//! The circuit breaker: stops a relay or a sink when too much of its stream turns into dead letters, before a mistake eats a
//! day's events.
//!
//! ```text
//! offset notes ─remember─► window of the last outcomes ─check─► a batch may be committed, or the pipeline stops
//!      ▲                            ▲
//!      └── counts of each partition ┴── outcomes of committed batches
//! ```
//!
//! All workers share one. What it has seen is noted with each partition's offset, so a process that is started again, or
//! takes over a partition, does not begin from nothing: a slow topic would otherwise never fill the window.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use crate::kafka::offset_note::{Partition, Seen, Tally};

/// Of fewer records no share is taken.
const FEWEST_SEEN: usize = 100;
/// Fewer dead letters than these stop nothing: single bad records are what a dead letter queue is for.
const FEWEST_DEAD: usize = 10;

/// What tripped the circuit breaker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// Dead letters among the last records.
    pub dead: usize,
    /// How many records that looks back on.
    pub seen: usize,
}

/// Watches the share of dead letters among the last records that were committed.
#[derive(Debug)]
pub struct CircuitBreaker {
    max_share: f64,
    window: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Dead (true) or not, oldest first; at most `window`.
    recent: VecDeque<bool>,
    /// Dead ones among them.
    dead: usize,
    /// What is noted with each partition's offset.
    partitions: BTreeMap<Partition, Seen>,
    /// Partitions whose notes are part of `recent`.
    remembered: Vec<Partition>,
}

impl CircuitBreaker {
    /// `max_share` of 0 to 1 of the last `window` records may be dead letters.
    pub fn new(max_share: f64, window: usize) -> Self {
        Self { max_share: max_share.clamp(0.0, 1.0), window, state: Mutex::default() }
    }

    /// The share it was made with.
    pub fn max_share(&self) -> f64 {
        self.max_share
    }

    /// Takes over what was noted with the offsets of partitions that are assigned. Where a higher limit let dead letters
    /// through, whoever set it has decided on these: they count no more.
    pub fn remember(&self, noted: &BTreeMap<Partition, Seen>) {
        let mut state = self.state();
        let mut sum = Seen::default();
        for (&partition, &seen) in noted {
            let seen = if seen.limit_ppm > self.limit_ppm() { Seen::default() } else { seen };
            state.partitions.insert(partition, seen);
            if !state.remembered.contains(&partition) {
                state.remembered.push(partition);
                sum = sum.plus(Tally { read: seen.records, dead: seen.dead, ..Tally::default() }, usize::MAX);
            }
        }
        let room = self.window.saturating_sub(state.recent.len());
        let Seen { records, dead, .. } =
            Seen::default().plus(Tally { read: sum.records, dead: sum.dead, ..Tally::default() }, room);
        // Spread evenly: their order is not known.
        for at in 0..records {
            let is_dead = (at + 1) * dead / records > at * dead / records;
            state.recent.push_front(is_dead);
            state.dead += usize::from(is_dead);
        }
    }

    /// Whether these further outcomes (dead or not, in order) would trip it. They do not count yet: a batch counts only once
    /// it is committed, or one that is tried again would count twice.
    pub fn check(&self, batch: &[bool]) -> Result<(), Tripped> {
        if !batch.contains(&true) {
            return Ok(());
        }
        let state = self.state();
        let mut dead = state.dead;
        // The window slides over what is remembered, then over the batch itself.
        let mut leaving = state.recent.iter().copied().chain(batch.iter().copied());
        let mut seen = state.recent.len();
        for &outcome in batch {
            if seen == self.window {
                dead -= usize::from(leaving.next().unwrap_or(false));
            } else {
                seen += 1;
            }
            dead += usize::from(outcome);
            if outcome && self.trips(dead, seen) {
                return Err(Tripped { dead, seen });
            }
        }
        Ok(())
    }

    /// The batch was committed.
    pub fn settled(&self, batch: &[bool]) {
        let mut state = self.state();
        let skip = batch.len().saturating_sub(self.window);
        for &outcome in batch.iter().skip(skip) {
            if state.recent.len() == self.window {
                let oldest = state.recent.pop_front().unwrap_or(false);
                state.dead -= usize::from(oldest);
            }
            state.recent.push_back(outcome);
            state.dead += usize::from(outcome);
        }
    }

    /// What to note with a partition's offset once these records lie before it.
    pub fn after(&self, partition: Partition, more: Tally) -> Option<Seen> {
        let seen = self.state().partitions.get(&partition).copied().unwrap_or_default().plus(more, self.window);
        (seen.records > 0).then_some(Seen { limit_ppm: self.limit_ppm(), ..seen })
    }

    /// An offset of the partition was committed with these records before it.
    pub fn counted(&self, partition: Partition, more: Tally) {
        let mut state = self.state();
        let seen = state.partitions.entry(partition).or_default();
        *seen = seen.plus(more, self.window);
    }

    fn trips(&self, dead: usize, seen: usize) -> bool {
        if self.max_share == 0.0 {
            return dead > 0;
        }
        seen >= FEWEST_SEEN.min(self.window)
            && dead >= FEWEST_DEAD.min(self.window)
            && dead as f64 > self.max_share * seen as f64
    }

    fn limit_ppm(&self) -> u32 {
        (self.max_share * 1e6).round() as u32
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // A panic of another worker must not let everything through.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn tally(read: u64, dead: u64) -> Tally {
        Tally { read, written: read - dead, dead, filtered: 0 }
    }

    fn half(records: u64, dead: u64) -> Seen {
        Seen { records, dead, limit_ppm: 500_000 }
    }

    fn noted(pairs: &[(Partition, u64, u64)]) -> BTreeMap<Partition, Seen> {
        pairs.iter().map(|&(partition, records, dead)| (partition, half(records, dead))).collect()
    }

    #[test]
    fn half_of_the_window_is_let_through_and_one_more_is_not() {
        let breaker = CircuitBreaker::new(0.5, 200);
        let batch = [vec![true; 100], vec![false; 300]].concat();
        assert_eq!(CircuitBreaker::new(0.5, 200).check(&batch), Err(Tripped { dead: 100, seen: 100 }));
        breaker.settled(&batch);
        assert_eq!(breaker.check(&[true; 100]), Ok(()));
        assert_eq!(breaker.check(&[true; 101]), Err(Tripped { dead: 101, seen: 200 }));
    }

    #[test]
    fn a_slow_topic_trips_it_by_the_share_of_what_was_seen() {
        let breaker = CircuitBreaker::new(0.5, 10_000);
        for _ in 0..99 {
            assert_eq!(breaker.check(&[true]), Ok(()));
            breaker.settled(&[true]);
        }
        assert_eq!(breaker.check(&[true]), Err(Tripped { dead: 100, seen: 100 }));
    }

    #[test]
    fn single_bad_rows_among_the_first_do_not_trip_a_strict_one() {
        let breaker = CircuitBreaker::new(0.01, 10_000);
        let mut batch = vec![false; 300];
        batch[..9].fill(true);
        assert_eq!(breaker.check(&batch), Ok(()), "nine");
        batch[100] = true;
        assert_eq!(breaker.check(&batch), Err(Tripped { dead: 10, seen: 101 }));
    }

    #[test]
    fn a_share_of_one_never_stops_and_of_zero_stops_at_the_first() {
        assert_eq!(CircuitBreaker::new(1.0, 10).check(&[true; 100]), Ok(()));
        assert_eq!(CircuitBreaker::new(0.0, 10_000).check(&[false, true]), Err(Tripped { dead: 1, seen: 2 }));
    }

    #[test]
    fn what_was_seen_is_noted_and_remembered_over_restarts() {
        let mut note = noted(&[(3, 0, 0)]);
        for start in 1..=9 {
            let breaker = CircuitBreaker::new(0.5, 10_000);
            breaker.remember(&note);
            let batch = [[false; 6], [true; 6]].concat();
            assert_eq!(breaker.check(&batch), Ok(()), "start {start}");
            breaker.settled(&batch);
            note.insert(3, breaker.after(3, tally(12, 6)).unwrap());
            breaker.counted(3, tally(12, 6));
            assert_eq!(breaker.after(3, Tally::default()), note.get(&3).copied());
        }
        assert_eq!(note, noted(&[(3, 108, 54)]));
        let breaker = CircuitBreaker::new(0.5, 10_000);
        breaker.remember(&note);
        assert_eq!(breaker.check(&[true]), Err(Tripped { dead: 55, seen: 109 }));
    }

    #[test]
    fn a_partition_that_comes_back_counts_once_and_goes_on_from_its_note() {
        let breaker = CircuitBreaker::new(0.5, 10_000);
        breaker.remember(&noted(&[(0, 60, 30), (1, 40, 20)]));
        breaker.remember(&noted(&[(0, 70, 35)]));
        assert_eq!(breaker.check(&[true]), Err(Tripped { dead: 51, seen: 101 }));
        assert_eq!(breaker.after(0, tally(2, 1)), Some(half(72, 36)));
    }

    #[test]
    fn what_another_limit_let_through_is_decided_on() {
        let breaker = CircuitBreaker::new(0.5, 10_000);
        let raised = Seen { limit_ppm: 900_000, ..half(6_000, 5_000) };
        breaker.remember(&BTreeMap::from([(0, raised), (1, half(1_000, 10))]));
        assert_eq!(breaker.check(&[true]), Ok(()));
        assert_eq!(breaker.after(0, Tally::default()), None);
        assert_eq!(breaker.after(1, Tally::default()), Some(half(1_000, 10)));
        let stricter = CircuitBreaker::new(0.6, 10_000);
        stricter.remember(&noted(&[(0, 90, 90)]));
        assert_eq!(stricter.check(&[true; 10]), Err(Tripped { dead: 100, seen: 100 }), "a lower limit is no decision");
    }

    #[test]
    fn notes_hold_no_more_than_the_window_and_keep_the_share() {
        let breaker = CircuitBreaker::new(0.5, 1_000);
        breaker.counted(0, tally(4_000, 1_000));
        assert_eq!(breaker.after(0, Tally::default()), Some(half(1_000, 250)));
        breaker.counted(0, tally(1_000_000, 0));
        assert_eq!(breaker.after(0, Tally::default()), Some(half(1_000, 1)));
        breaker.remember(&noted(&[(1, 1_000, 500), (2, 1_000, 0)]));
        assert_eq!(breaker.state().recent.len(), 1_000);
        assert_eq!(breaker.state().dead, 250);
    }

    #[test]
    fn seen_is_read_as_it_is_written() {
        let seen = half(10_000, 12);
        assert_eq!(Seen::parse(&seen.to_text()), Some(seen));
        for text in ["", "1", "1:2", "x:0:1", "-1:0:1", "3:1:1:1", "1:2:500000"] {
            assert_eq!(Seen::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_counting_the_last_records_again(
            batches in prop::collection::vec(prop::collection::vec(any::<bool>(), 0..60), 0..20),
            window in 1usize..250, share in 0.001f64..=1.0,
        ) {
            let breaker = CircuitBreaker::new(share, window);
            let mut all: Vec<bool> = Vec::new();
            for batch in batches {
                let trips = (0..batch.len()).filter(|i| batch[*i]).any(|i| {
                    let seen: Vec<bool> = all.iter().chain(&batch[..=i]).rev().take(window).copied().collect();
                    let dead = seen.iter().filter(|dead| **dead).count();
                    let enough = seen.len() >= window.min(100) && dead >= window.min(10);
                    enough && dead as f64 > share * seen.len() as f64
                });
                prop_assert_eq!(breaker.check(&batch).is_err(), trips);
                if !trips {
                    breaker.settled(&batch);
                    all.extend(batch);
                }
            }
        }
    }
}
