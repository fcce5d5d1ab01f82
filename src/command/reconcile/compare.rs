//! The comparison itself, without I/O: which offsets are records, which of them are dead letters, how many rows each has.

use crate::kafka::offset_note::Partition;
use crate::runtime::terminal::counted;

/// Offsets with the same number of rows, from `start` up to but not including `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// First offset.
    pub start: i64,
    /// After the last.
    pub end: i64,
    /// Rows of each of them, at least one.
    pub rows: u64,
}

/// A set of offsets from `start` up to but not including `end`, one bit each.
pub struct Offsets {
    start: i64,
    end: i64,
    bits: Vec<u64>,
}

impl Offsets {
    /// None of them yet.
    pub fn none(start: i64, end: i64) -> Self {
        let words = usize::try_from((end - start).max(0)).unwrap_or_default().div_ceil(64);
        Self { start, end, bits: vec![0; words] }
    }

    /// First offset that can be in it.
    pub fn start(&self) -> i64 {
        self.start
    }

    /// After the last that can be in it.
    pub fn end(&self) -> i64 {
        self.end
    }

    /// Takes it in; an offset outside is ignored.
    pub fn insert(&mut self, offset: i64) {
        if let Some((word, bit)) = self.place(offset)
            && let Some(word) = self.bits.get_mut(word)
        {
            *word |= bit;
        }
    }

    /// Whether it is in.
    pub fn contains(&self, offset: i64) -> bool {
        self.place(offset).is_some_and(|(word, bit)| self.bits.get(word).is_some_and(|word| word & bit != 0))
    }

    fn place(&self, offset: i64) -> Option<(usize, u64)> {
        let index = usize::try_from(offset - self.start).ok().filter(|_| offset < self.end)?;
        Some((index / 64, 1 << (index % 64)))
    }
}

/// What is wrong with offsets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetFault {
    /// Records without a row.
    Missing,
    /// Records with so many rows.
    Double(u64),
    /// Rows without a record.
    Stray,
}

/// Offsets of one partition that have the same fault; between them are only offsets without record and row, and dead letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Partition.
    pub partition: Partition,
    /// First offset.
    pub first: i64,
    /// Last offset.
    pub last: i64,
    /// What is wrong.
    pub kind: OffsetFault,
    /// Records; rows where there are no records.
    pub count: u64,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { partition, first, last, kind, count } = self;
        write!(f, "partition {partition}, offsets {first} to {last}: ")?;
        match kind {
            OffsetFault::Missing => write!(f, "{} without a row", counted(*count, "record")),
            OffsetFault::Double(rows) => write!(f, "{} with {rows} rows each", counted(*count, "record")),
            OffsetFault::Stray => write!(f, "{}, without a record", counted(*count, "orphan row")),
        }
    }
}

/// Sums over all that was compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Records of the topic.
    pub records: u64,
    /// Rows of the table.
    pub rows: u64,
    /// Records without a row that are dead letters.
    pub dead: u64,
    /// Records without a row that are not.
    pub missing: u64,
    /// Rows beyond the first of a record.
    pub surplus: u64,
    /// Rows without a record.
    pub stray: u64,
}

/// Goes through partitions chunk by chunk, in the order of their offsets.
#[derive(Default)]
pub struct Comparison {
    /// So far.
    pub sums: Sums,
    open: Option<Difference>,
}

impl Comparison {
    /// Compares a chunk: its records, its dead letters in ascending order, its rows in ascending order. `tell` hears of
    /// every difference as soon as its end is known.
    pub fn chunk(
        &mut self,
        partition: Partition,
        records: &Offsets,
        dead: &[i64],
        runs: &[Run],
        tell: &mut dyn FnMut(Difference),
    ) {
        let mut runs = runs.iter().peekable();
        for offset in records.start()..records.end() {
            while runs.peek().is_some_and(|run| run.end <= offset) {
                runs.next();
            }
            let rows = runs.peek().filter(|run| run.start <= offset).map_or(0, |run| run.rows);
            let is_record = records.contains(offset);
            self.sums.records += u64::from(is_record);
            self.sums.rows += rows;
            let kind = match (is_record, rows) {
                (false, 0) => continue,
                (true, 0) if dead.binary_search(&offset).is_ok() => {
                    self.sums.dead += 1;
                    continue;
                }
                (true, 0) => OffsetFault::Missing,
                (true, 1) => {
                    self.close(tell);
                    continue;
                }
                (true, rows) => OffsetFault::Double(rows),
                (false, _) => OffsetFault::Stray,
            };
            self.found(partition, offset, kind, rows, tell);
        }
    }

    fn found(
        &mut self,
        partition: Partition,
        offset: i64,
        kind: OffsetFault,
        rows: u64,
        tell: &mut dyn FnMut(Difference),
    ) {
        let count = if kind == OffsetFault::Stray { rows } else { 1 };
        match kind {
            OffsetFault::Missing => self.sums.missing += 1,
            OffsetFault::Double(rows) => self.sums.surplus += rows - 1,
            OffsetFault::Stray => self.sums.stray += rows,
        }
        match &mut self.open {
            Some(open) if open.kind == kind && open.partition == partition => {
                open.last = offset;
                open.count += count;
            }
            _ => {
                self.close(tell);
                self.open = Some(Difference { partition, first: offset, last: offset, kind, count });
            }
        }
    }

    /// The end of a partition.
    pub fn close(&mut self, tell: &mut dyn FnMut(Difference)) {
        if let Some(difference) = self.open.take() {
            tell(difference);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn compare(chunks: &[(i64, i64)], records: &[i64], dead: &[i64], runs: &[Run]) -> (Sums, Vec<Difference>) {
        let (mut comparison, mut told) = (Comparison::default(), Vec::new());
        for &(start, end) in chunks {
            let mut set = Offsets::none(start, end);
            records.iter().for_each(|offset| set.insert(*offset));
            let dead: Vec<i64> = dead.iter().copied().filter(|offset| (start..end).contains(offset)).collect();
            let cut = |run: &Run| Run { start: run.start.max(start), end: run.end.min(end), ..*run };
            let runs: Vec<Run> = runs.iter().map(cut).filter(|run| run.start < run.end).collect();
            comparison.chunk(3, &set, &dead, &runs, &mut |difference| told.push(difference));
        }
        comparison.close(&mut |difference| told.push(difference));
        (comparison.sums, told)
    }

    fn run(start: i64, end: i64, rows: u64) -> Run {
        Run { start, end, rows }
    }

    fn difference(first: i64, last: i64, kind: OffsetFault, count: u64) -> Difference {
        Difference { partition: 3, first, last, kind, count }
    }

    #[test]
    fn transaction_markers_and_dead_letters_are_no_gaps() {
        // 4 and 9 are markers, 7 is a dead letter.
        let records = [0, 1, 2, 3, 5, 6, 7, 8];
        let (sums, told) = compare(&[(0, 10)], &records, &[7], &[run(0, 4, 1), run(5, 7, 1), run(8, 9, 1)]);
        assert_eq!(told, []);
        assert_eq!(sums, Sums { records: 8, rows: 7, dead: 1, ..Sums::default() });
        let (sums, told) = compare(&[(0, 10)], &records, &[], &[run(0, 4, 1), run(5, 7, 1), run(8, 9, 1)]);
        assert_eq!(told, [difference(7, 7, OffsetFault::Missing, 1)]);
        assert_eq!(sums.missing, 1);
    }

    #[test]
    fn ranges_go_over_markers_and_chunks_and_end_at_sound_records() {
        let records: Vec<i64> = (0..100).filter(|offset| offset % 10 != 9).collect();
        for chunks in [&[(0, 100)][..], &[(0, 25), (25, 26), (26, 100)]] {
            let (sums, told) = compare(chunks, &records, &[], &[run(0, 9, 1), run(40, 49, 2), run(50, 56, 3)]);
            assert_eq!(
                told,
                [
                    difference(10, 38, OffsetFault::Missing, 27),
                    difference(40, 48, OffsetFault::Double(2), 9),
                    difference(50, 55, OffsetFault::Double(3), 6),
                    difference(56, 98, OffsetFault::Missing, 39),
                ]
            );
            assert_eq!(sums, Sums { records: 90, rows: 45, missing: 66, surplus: 21, ..Sums::default() });
        }
    }

    #[test]
    fn rows_without_a_record() {
        let (sums, told) = compare(&[(5, 10)], &[5, 6, 9], &[], &[run(5, 10, 1)]);
        assert_eq!(told, [difference(7, 8, OffsetFault::Stray, 2)]);
        assert_eq!(told.first().unwrap().to_string(), "partition 3, offsets 7 to 8: 2 orphan rows, without a record");
        assert_eq!(sums.stray, 2);
    }
}
