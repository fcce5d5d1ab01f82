//! What was read last, kept small for watchers who come back and say where they left off: also to another process, since a
//! reader goes back an hour when it begins.

use std::collections::{BTreeMap, VecDeque};

use super::map::project;
use super::press::Press;

/// Records that are kept, of all partitions together: 32 bytes each.
const MOST_KEPT: usize = 100_000;
/// Longest text of positions that is looked at: some hundred partitions.
const LONGEST_ID: usize = 8_192;

/// Partition → offset of its last record that was seen.
pub type Positions = BTreeMap<i32, i64>;

/// The positions in an event's id, `PARTITION:OFFSET` with blanks between them. `None`: it is no such text.
pub fn positions(id: &str) -> Option<Positions> {
    if id.is_empty() || id.len() > LONGEST_ID {
        return None;
    }
    let pair = |pair: &str| {
        let (partition, offset) = pair.split_once(':')?;
        Some((partition.parse().ok()?, offset.parse().ok()?))
    };
    id.split(' ').map(pair).collect()
}

/// A record with where it stands and when it came.
pub struct Arrived {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// The record.
    pub press: Press,
}

/// What the map shows of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    offset: i64,
    /// Milliseconds since the epoch when it came.
    pub at_ms: i64,
    country: [u8; 2],
    /// Not a visit.
    pub is_press: bool,
    /// Of a generated session.
    pub is_generated: bool,
    /// Tenths of the map's units, right and down.
    at: Option<(i16, i16)>,
}

impl Kept {
    /// What is kept of it.
    pub fn of(record: &Arrived) -> Self {
        let press = &record.press;
        let at = press.latitude.zip(press.longitude).and_then(|(north, east)| project(north, east));
        let tenths = |n: f64| (n * 10.0).round() as i16;
        Self {
            offset: record.offset,
            at_ms: record.at_ms,
            country: press.country().as_bytes().try_into().unwrap_or(*b"--"),
            is_press: press.is_press(),
            is_generated: press.cohort.is_none(),
            at: at.map(|(x, y)| (tenths(x), tenths(y))),
        }
    }

    /// Two letters, or `--`.
    pub fn country(&self) -> &str {
        std::str::from_utf8(&self.country).unwrap_or("--")
    }

    /// Where it lies on the map.
    pub fn place(&self) -> Option<(f64, f64)> {
        self.at.map(|(x, y)| (f64::from(x) / 10.0, f64::from(y) / 10.0))
    }
}

/// The last records of one partition.
struct Partition {
    /// All that the topic has from here to `last` is kept.
    first: i64,
    last: i64,
    kept: VecDeque<Kept>,
}

/// See the module.
#[derive(Default)]
pub struct History {
    partitions: BTreeMap<i32, Partition>,
}

/// What came after a watcher's positions.
#[derive(Debug, PartialEq)]
pub enum Since {
    /// All of it.
    Whole(Missed),
    /// So many offsets are not kept any more.
    Skipped(i64),
    /// The positions are of another topic, or of one that was deleted and made again.
    Elsewhere,
}

/// Records that a watcher has missed.
#[derive(Debug, Default, PartialEq)]
pub struct Missed {
    /// Partition, its first and last offset, and how many records; partitions that have some.
    pub ranges: Vec<(i32, i64, i64, usize)>,
    /// All of them, partition by partition.
    pub records: Vec<Kept>,
}

impl History {
    /// The reader reads a partition from this offset on, and not from where it left off: nothing before is kept.
    pub fn begin(&mut self, partition: i32, from: i64) {
        self.partitions.insert(partition, Partition { first: from, last: from - 1, kept: VecDeque::new() });
    }

    /// Adds the next record of a partition. The oldest make room, each in its own partition: at the beginning one is read after
    /// the other.
    pub fn push(&mut self, partition: i32, record: Kept) {
        let most = (MOST_KEPT / self.partitions.len().max(1)).max(1);
        let empty = || Partition { first: record.offset, last: record.offset, kept: VecDeque::new() };
        let place = self.partitions.entry(partition).or_insert_with(empty);
        place.last = record.offset;
        place.kept.push_back(record);
        while place.kept.len() > most {
            place.first = place.kept.pop_front().map_or(place.first, |oldest| oldest.offset + 1);
        }
    }

    /// The last offset of each partition, as an event's id.
    pub fn id(&self) -> String {
        let all: Vec<String> = self.partitions.iter().map(|(number, of)| format!("{number}:{}", of.last)).collect();
        all.join(" ")
    }

    /// What came after these positions. A partition that they lack is newer than they are.
    pub fn since(&self, positions: &Positions) -> Since {
        let had = |number: &i32| positions.get(number).copied().unwrap_or(-1);
        let is_ours = positions.keys().all(|number| self.partitions.contains_key(number))
            && self.partitions.iter().all(|(number, of)| had(number) <= of.last);
        if !is_ours {
            return Since::Elsewhere;
        }
        let skipped: i64 = self.partitions.iter().map(|(number, of)| (of.first - 1 - had(number)).max(0)).sum();
        if skipped > 0 {
            return Since::Skipped(skipped);
        }
        let mut missed = Missed::default();
        for (number, of) in &self.partitions {
            let at = of.kept.partition_point(|record| record.offset <= had(number));
            if let Some(first) = of.kept.get(at) {
                missed.ranges.push((*number, first.offset, of.last, of.kept.len() - at));
                missed.records.extend(of.kept.range(at..).cloned());
            }
        }
        Since::Whole(missed)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn kept(offset: i64) -> Kept {
        Kept { offset, at_ms: 0, country: *b"FR", is_press: true, is_generated: false, at: None }
    }

    fn since(history: &History, id: &str) -> Since {
        history.since(&positions(id).unwrap())
    }

    fn ranges(history: &History, id: &str) -> Vec<(i32, i64, i64, usize)> {
        match since(history, id) {
            Since::Whole(missed) => {
                assert_eq!(missed.records.len(), missed.ranges.iter().map(|range| range.3).sum::<usize>());
                missed.ranges
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn who_comes_back_gets_the_records_after_its_positions() {
        let mut history = History::default();
        history.begin(0, 10);
        history.begin(1, 0);
        // Between them stand the marks of transactions.
        for offset in [10, 11, 14] {
            history.push(0, kept(offset));
        }
        history.push(1, kept(0));
        assert_eq!(history.id(), "0:14 1:0");
        assert_eq!(ranges(&history, "0:10 1:0"), [(0, 11, 14, 2)]);
        assert_eq!(ranges(&history, "0:12 1:-1"), [(0, 14, 14, 1), (1, 0, 0, 1)]);
        assert_eq!(ranges(&history, "0:14"), [(1, 0, 0, 1)], "a partition that is newer than the positions");
        assert_eq!(ranges(&history, "0:9 1:0").len(), 1, "right before what is kept");
        assert_eq!(ranges(&history, &history.id()), []);
    }

    #[test]
    fn what_is_not_kept_is_said() {
        let mut history = History::default();
        history.begin(0, 10);
        history.push(0, kept(10));
        assert_eq!(since(&history, "0:6"), Since::Skipped(3));
        for other in ["0:11", "0:10 1:0"] {
            assert_eq!(since(&history, other), Since::Elsewhere, "{other}");
        }
        // Retention was faster than the reader.
        history.begin(0, 50);
        assert_eq!(since(&history, "0:10"), Since::Skipped(39));
        assert_eq!(ranges(&history, "0:49"), []);
    }

    #[test]
    fn each_partition_has_its_share_of_what_is_kept() {
        let mut history = History::default();
        for partition in 0..2 {
            history.begin(partition, 0);
        }
        let half = MOST_KEPT as i64 / 2;
        for partition in 0..2 {
            for offset in 0..half + 5 {
                history.push(partition, kept(offset));
            }
        }
        let all: usize = history.partitions.values().map(|of| of.kept.len()).sum();
        assert_eq!(all, MOST_KEPT);
        assert_eq!(ranges(&history, "0:4 1:4").len(), 2);
        assert_eq!(since(&history, "0:4 1:3"), Since::Skipped(1));
    }

    #[test]
    fn what_is_no_id_of_ours_has_no_positions() {
        assert_eq!(positions("0:17 1:-1"), Some([(0, 17), (1, -1)].into()));
        for wrong in ["", " ", "0", "0:", "0:x", "0:1  1:2", "2001:db8::1", "0:1,1:2", &"0:1 ".repeat(9_000)] {
            assert_eq!(positions(wrong), None, "{}", wrong.len());
        }
    }
}
