//! A batch's rows cut into what one insert can take: by partition, by range, by columns, and around bad rows.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{RecordOrigin, Refusal, Row, RowBatch, Span, Why};
use super::recovery::Recovery;
use crate::kafka::offset_note::Partition;
use crate::sink::clickhouse::{BlockPlan, ChError};

/// Rows of one partition that go into one insert.
#[derive(Clone, Debug)]
pub(crate) struct InsertChunk {
    pub(crate) partition: Partition,
    pub(crate) span: Span,
    /// Indexes in the batch.
    pub(crate) rows: Vec<usize>,
    /// The server said that its only row is bad.
    pub(crate) accused: bool,
    /// Rows at its start that were refused alone with an answer that need not be about them. They are dead letters when rows
    /// behind them are written.
    pub(crate) held: Vec<Held>,
}

/// A row that was refused alone.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) origin: RecordOrigin,
    pub(crate) error: ChError,
}

impl Held {
    pub(crate) fn letter(&self) -> (RecordOrigin, Refusal) {
        let code = self.error.code.map_or_else(String::new, |code| code.to_string());
        (self.origin, Refusal::row(Why::Database(code)))
    }
}

impl InsertChunk {
    /// Begins where the one before it does, whose rows are all held.
    pub(super) fn take_over(&mut self, before: InsertChunk) {
        self.span.start = before.span.start;
        self.held = before.held;
    }

    /// The rows.
    pub(crate) fn rows<'b>(&self, batch: &'b RowBatch) -> impl Iterator<Item = &'b Row> {
        self.rows.iter().filter_map(|index| batch.rows().get(*index))
    }

    /// The record lies in the chunk's range.
    pub(crate) fn covers(&self, origin: &RecordOrigin) -> bool {
        origin.partition == self.partition && (self.span.start..self.span.end).contains(&origin.offset)
    }

    /// How many records of its range are not to be loaded.
    pub(crate) fn left_out(&self, batch: &RowBatch) -> usize {
        batch.left_out().iter().filter(|origin| self.covers(origin)).count()
    }

    /// The same, with those that a log of changes has no row for.
    pub(crate) fn filtered(&self, batch: &RowBatch) -> usize {
        self.left_out(batch) + batch.no_change().iter().filter(|origin| self.covers(origin)).count()
    }

    /// The place in the chunk of the block's row with this number: what is in the table already, and dead letters, are not in the
    /// block.
    pub(crate) fn place_of(
        &self,
        batch: &RowBatch,
        present: &BTreeSet<i64>,
        dead_letters: &[(RecordOrigin, Refusal)],
        row: usize,
    ) -> Option<usize> {
        let dead: BTreeSet<i64> = dead_letters.iter().map(|(origin, _)| origin.offset).collect();
        let is_sent = |row: &Row| !present.contains(&row.offset) && !dead.contains(&row.offset);
        let mut sent = (0..self.rows.len()).filter(|place| batch.rows().get(self.rows[*place]).is_some_and(is_sent));
        sent.nth(row)
    }

    /// Its parts in their order: what is before the bad row, it alone, and what is behind it; else two halves.
    pub(crate) fn cut(self, batch: &RowBatch, bad: Option<usize>) -> Vec<Self> {
        let Self { partition, span, rows, mut held, .. } = self;
        let cuts = match bad {
            Some(place) => vec![place, place + 1],
            None => vec![rows.len() / 2],
        };
        let mut parts: Vec<Self> = Vec::new();
        let mut from = 0;
        let mut start = span.start;
        for to in cuts.into_iter().chain([rows.len()]) {
            if to <= from {
                continue;
            }
            let next = rows.get(to).and_then(|index| batch.rows().get(*index)).map_or(span.end, |row| row.offset);
            let accused = bad == Some(from);
            let held = std::mem::take(&mut held);
            parts.push(Self {
                partition,
                span: Span { start, end: next },
                rows: rows[from..to].to_vec(),
                accused,
                held,
            });
            (from, start) = (to, next);
        }
        parts
    }
}

/// The partition's rows, cut where one insert cannot take them together: at the end of a range that was begun before, and,
/// unless the table tells which rows it has (`is_told`), where records of another schema fill other columns. Where it tells,
/// a chunk takes as many inserts as there are sets of columns. Behind that range, no more than `at_most` rows together.
pub(crate) fn chunks(
    batch: &RowBatch,
    (partition, span): (Partition, Span),
    recovery: Option<&Recovery>,
    plans: &BTreeMap<u32, BlockPlan>,
    at_most: Option<usize>,
    is_told: bool,
) -> Vec<InsertChunk> {
    let chunk = |span, rows| InsertChunk { partition, span, rows, accused: false, held: Vec::new() };
    let (at_most, begun) = (at_most.unwrap_or(usize::MAX), recovery.map_or(0, |recovery| recovery.end));
    let mut chunks: Vec<InsertChunk> = Vec::new();
    let mut start = span.start;
    let mut rows: Vec<usize> = Vec::new();
    let mut layout = None;
    let cut = recovery.map(|recovery| recovery.end).filter(|end| (span.start + 1..span.end).contains(end));
    let mut cut_due = cut;
    for (index, row) in batch.rows().iter().enumerate().filter(|(_, row)| row.partition == partition) {
        let of_row = plans.get(&row.schema_id).map(BlockPlan::layout);
        let at_cut = cut_due.filter(|end| row.offset >= *end);
        let other_columns = !is_told && layout.is_some() && of_row.is_some() && layout != of_row;
        let is_full = rows.len() >= at_most && row.offset >= begun;
        if let Some(end) = at_cut.or(((other_columns || is_full) && !rows.is_empty()).then_some(row.offset)) {
            chunks.push(chunk(Span { start, end }, std::mem::take(&mut rows)));
            start = end;
            cut_due = cut_due.filter(|due| *due > end);
        }
        layout = of_row.or(layout);
        rows.push(index);
    }
    // Behind the begun range there is no row, but what is none: its token must stay what it was.
    if let Some(end) = cut_due {
        chunks.push(chunk(Span { start, end }, std::mem::take(&mut rows)));
        start = end;
    }
    chunks.push(chunk(Span { start, end: span.end }, rows));
    chunks
}

/// What became of a chunk.
pub(super) enum Outcome {
    /// Written or dead, its position moved.
    Settled,
    /// To be tried again in parts: around the row at this place, which the server says is bad, else in halves.
    Cut(InsertChunk, Option<usize>),
    /// To be tried again as it is.
    Again(InsertChunk),
    /// Its only row was refused with an answer that need not be about it: see [`InsertChunk::held`].
    Held(InsertChunk),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_begun_range_is_a_piece_of_its_own_also_without_a_row_behind_it() {
        let mut batch = RowBatch::default();
        (0..5).for_each(|n| batch.push(0, n, None, 1, b""));
        let begun = Recovery { end: 5, ..Recovery::default() };
        let spans = |end| {
            let chunks =
                chunks(&batch, (0, Span { start: 0, end }), Some(&begun), &BTreeMap::new(), Some(1), true).into_iter();
            chunks.map(|chunk| (chunk.span.start, chunk.span.end, chunk.rows.len())).collect::<Vec<_>>()
        };
        assert_eq!(spans(5), [(0, 5, 5)]);
        assert_eq!(spans(8), [(0, 5, 5), (5, 8, 0)]);
        batch.push(0, 9, None, 1, b"");
        let whole = chunks(&batch, (0, Span { start: 0, end: 10 }), Some(&begun), &BTreeMap::new(), None, true);
        assert_eq!(whole.iter().map(|chunk| chunk.rows.len()).collect::<Vec<_>>(), [5, 1]);
    }

    #[test]
    fn parts_cover_the_span_and_hold_each_row_once() {
        let mut batch = RowBatch::default();
        // Offsets with gaps, as transactions leave them.
        (0..5).for_each(|n| batch.push(0, 10 + 3 * n, None, 1, b""));
        let span = Span { start: 8, end: 30 };
        let chunk = || InsertChunk { partition: 0, span, rows: (0..5).collect(), accused: false, held: Vec::new() };
        let parts = |bad| {
            let parts = chunk().cut(&batch, bad).into_iter();
            parts.map(|part| (part.span.start, part.span.end, part.rows, part.accused)).collect::<Vec<_>>()
        };
        assert_eq!(parts(None), [(8, 16, vec![0, 1], false), (16, 30, vec![2, 3, 4], false)]);
        assert_eq!(parts(Some(2)), [(8, 16, vec![0, 1], false), (16, 19, vec![2], true), (19, 30, vec![3, 4], false)]);
        assert_eq!(parts(Some(0)), [(8, 13, vec![0], true), (13, 30, vec![1, 2, 3, 4], false)]);
        let dead_letters = [(batch.rows()[1].origin(), Refusal::row(Why::UnknownSchema))];
        let place = |row| chunk().place_of(&batch, &BTreeSet::from([16]), &dead_letters, row);
        assert_eq!([place(0), place(1), place(2), place(3)], [Some(0), Some(3), Some(4), None]);
        assert_eq!(parts(Some(4)), [(8, 22, vec![0, 1, 2, 3], false), (22, 30, vec![4], true)]);
    }

    #[test]
    fn no_more_rows_together_than_the_server_takes() {
        let mut batch = RowBatch::default();
        (0..5).for_each(|n| batch.push(0, n, None, 1, b""));
        let chunks = chunks(&batch, (0, Span { start: 0, end: 7 }), None, &BTreeMap::new(), Some(2), true);
        let parts: Vec<_> = chunks.iter().map(|part| (part.span.start, part.span.end, part.rows.len())).collect();
        assert_eq!(parts, [(0, 2, 2), (2, 4, 2), (4, 7, 1)]);
    }

    #[test]
    fn held_rows_go_with_what_is_behind_them() {
        let mut batch = RowBatch::default();
        (0..5).for_each(|n| batch.push(0, n, None, 1, b""));
        let mut cut = chunks(&batch, (0, Span { start: 0, end: 5 }), None, &BTreeMap::new(), None, true)
            .into_iter()
            .flat_map(|chunk| chunk.cut(&batch, Some(0)));
        let (mut bad, mut others) = (cut.next().unwrap(), cut.next().unwrap());
        let error = ChError::configuration("k", "w");
        bad.held.push(Held { origin: batch.rows()[0].origin(), error });
        others.take_over(bad);
        let halves = others.cut(&batch, None);
        let parts: Vec<_> = halves.iter().map(|part| (part.span.start, part.span.end, part.held.len())).collect();
        assert_eq!(parts, [(0, 3, 1), (3, 5, 0)]);
    }
}
