//! The brake: stops a pipeline when too much of its stream turns into dead letters, before a mistake of a sender or of
//! ours eats a day's events.

use std::collections::VecDeque;

/// Watches the share of dead letters among the last records that were committed.
#[derive(Debug)]
pub struct Brake {
    /// Dead (true) or not, oldest first; at most `window`.
    recent: VecDeque<bool>,
    dead: usize,
    window: usize,
    /// More dead letters than this among the last `window` records stop the pipeline.
    most: usize,
}

/// What tripped the brake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tripped {
    /// Dead letters among the last records.
    pub dead: usize,
    /// How many records that looks back on.
    pub window: usize,
}

impl Brake {
    /// `max_share` of 0 to 1 of the last `window` records may be dead letters.
    pub fn new(max_share: f64, window: usize) -> Self {
        // The product is not negative and at most `window`.
        let most = (max_share.clamp(0.0, 1.0) * window as f64).floor() as usize;
        Self { recent: VecDeque::with_capacity(window), dead: 0, window, most }
    }

    /// Whether these further outcomes (dead or not, in order) would trip it. Nothing is remembered: a batch counts only
    /// once it is committed, or one that is tried again would count twice.
    pub fn check(&self, batch: &[bool]) -> Result<(), Tripped> {
        if !batch.contains(&true) {
            return Ok(());
        }
        let mut dead = self.dead;
        // The window slides over what is remembered, then over the batch itself.
        let mut leaving = self.recent.iter().copied().chain(batch.iter().copied());
        let mut length = self.recent.len();
        for &outcome in batch {
            if length == self.window {
                dead -= usize::from(leaving.next().unwrap_or(false));
            } else {
                length += 1;
            }
            dead += usize::from(outcome);
            if dead > self.most {
                return Err(Tripped { dead, window: self.window });
            }
        }
        Ok(())
    }

    /// The batch was committed.
    pub fn settled(&mut self, batch: &[bool]) {
        let skip = batch.len().saturating_sub(self.window);
        for &outcome in batch.iter().skip(skip) {
            if self.recent.len() == self.window {
                self.dead -= usize::from(self.recent.pop_front().unwrap_or(false));
            }
            self.recent.push_back(outcome);
            self.dead += usize::from(outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn half_of_the_window_is_let_through_and_one_more_is_not() {
        let mut brake = Brake::new(0.5, 10);
        let batch = [vec![true; 5], vec![false; 20]].concat();
        assert_eq!(brake.check(&batch), Ok(()));
        brake.settled(&batch);
        assert_eq!(brake.check(&[true; 5]), Ok(()));
        assert_eq!(brake.check(&[true; 6]), Err(Tripped { dead: 6, window: 10 }));
    }

    #[test]
    fn a_share_of_one_never_stops_and_of_zero_stops_at_the_first() {
        assert_eq!(Brake::new(1.0, 10).check(&[true; 100]), Ok(()));
        assert_eq!(Brake::new(0.0, 10).check(&[false, true]), Err(Tripped { dead: 1, window: 10 }));
    }

    proptest! {
        #[test]
        fn agrees_with_counting_the_last_records_afresh(
            batches in prop::collection::vec(prop::collection::vec(any::<bool>(), 0..30), 0..20),
            window in 1usize..25, share in 0.0f64..=1.0,
        ) {
            let mut brake = Brake::new(share, window);
            let most = (share * window as f64).floor() as usize;
            let mut all: Vec<bool> = Vec::new();
            for batch in batches {
                let trips = (0..batch.len()).any(|i| {
                    let seen: Vec<bool> = all.iter().chain(&batch[..=i]).copied().collect();
                    seen.iter().rev().take(window).filter(|dead| **dead).count() > most
                });
                prop_assert_eq!(brake.check(&batch).is_err(), trips);
                if !trips {
                    brake.settled(&batch);
                    all.extend(batch);
                }
            }
        }
    }
}
