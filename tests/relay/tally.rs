//! Counts what came through: every record is known by its input partition and its place in it, so that one lost, doubled or
//! overtaken is seen. Two bits' worth a record, for any number of them.

use std::collections::{BTreeMap, HashMap};

/// Where a record came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    pub partition: u32,
    pub sequence: u64,
}

impl Origin {
    /// The number whose UUID is the record's session id.
    pub fn number(self) -> u128 {
        u128::from(self.partition) << 64 | u128::from(self.sequence)
    }

    /// The reverse.
    pub fn of(number: u128) -> Self {
        Self { partition: (number >> 64) as u32, sequence: number as u64 }
    }
}

/// What was seen.
#[derive(Default)]
pub struct Tally {
    seen: BTreeMap<u32, Vec<bool>>,
    last: HashMap<(u32, i64), u64>,
    doubled: Vec<Origin>,
    overtaken: Vec<Origin>,
}

/// What is wrong, first examples; empty is good.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    pub lost: Vec<Origin>,
    pub doubled: Vec<Origin>,
    pub overtaken: Vec<Origin>,
    pub invented: Vec<Origin>,
}

impl Tally {
    /// A record was read from a place whose order counts (an output partition).
    pub fn see(&mut self, origin: Origin, place: i64) {
        let seen = self.seen.entry(origin.partition).or_default();
        let index = usize::try_from(origin.sequence).unwrap();
        if seen.len() <= index {
            seen.resize(index + 1, false);
        }
        if std::mem::replace(&mut seen[index], true) {
            self.doubled.push(origin);
        }
        if let Some(last) = self.last.insert((origin.partition, place), origin.sequence)
            && last > origin.sequence
        {
            self.overtaken.push(origin);
        }
    }

    /// Compares with how many records were sent to each partition.
    pub fn verdict(self, sent: &[u64]) -> Verdict {
        let mut verdict = Verdict { doubled: self.doubled, overtaken: self.overtaken, ..Verdict::default() };
        for (&partition, seen) in &self.seen {
            let count = sent.get(partition as usize).copied().unwrap_or(0);
            let beyond = seen.iter().enumerate().skip(usize::try_from(count).unwrap()).filter(|(_, seen)| **seen);
            verdict.invented.extend(beyond.map(|(i, _)| Origin { partition, sequence: i as u64 }));
        }
        for (partition, &count) in (0u32..).zip(sent) {
            let seen = self.seen.get(&partition);
            let missing = (0..count).filter(|i| !seen.and_then(|s| s.get(*i as usize)).copied().unwrap_or(false));
            verdict.lost.extend(missing.map(|sequence| Origin { partition, sequence }));
        }
        verdict
    }
}

fn tally(records: &[(u32, u64)]) -> Verdict {
    let mut tally = Tally::default();
    for &(partition, sequence) in records {
        tally.see(Origin { partition, sequence }, 0);
    }
    tally.verdict(&[3, 2])
}

const SOUND: [(u32, u64); 5] = [(0, 0), (1, 0), (0, 1), (0, 2), (1, 1)];

#[test]
fn what_is_sound_passes() {
    assert_eq!(tally(&SOUND), Verdict::default());
    let origin = Origin { partition: 3, sequence: u64::MAX };
    assert_eq!(Origin::of(origin.number()), origin);
}

#[test]
fn a_lost_record_is_found() {
    let lost = |partition, sequence| Verdict { lost: vec![Origin { partition, sequence }], ..Verdict::default() };
    assert_eq!(tally(&SOUND[..4]), lost(1, 1));
    assert_eq!(tally(&SOUND[1..]), lost(0, 0));
}

#[test]
fn a_doubled_record_is_found() {
    let twice = [&SOUND[..], &[(1, 1)]].concat();
    assert_eq!(tally(&twice).doubled, [Origin { partition: 1, sequence: 1 }]);
    let later = [&SOUND[..], &[(0, 0)]].concat();
    assert_eq!(tally(&later).doubled, [Origin { partition: 0, sequence: 0 }]);
}

#[test]
fn a_swapped_record_is_found() {
    let mut swapped = SOUND;
    swapped.swap(2, 3);
    let origin = Origin { partition: 0, sequence: 1 };
    assert_eq!(tally(&swapped), Verdict { overtaken: vec![origin], ..Verdict::default() });
}

#[test]
fn an_invented_record_is_found() {
    let more = [&SOUND[..], &[(1, 7)]].concat();
    assert_eq!(tally(&more).invented, [Origin { partition: 1, sequence: 7 }]);
}
