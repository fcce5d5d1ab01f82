//! The ClickHouse sink: each partition's rows as one insert, between two commits of the group's offset.
//!
//! The first commit stands at the range's start and names the range that is about to be written, the second one at its end.
//! Whoever finds a named range waits until its insert has ended on the server, reads from the table which of its offsets are
//! there, and writes only the others: what is in the table decides. They go with the same deduplication token, so that the
//! first insert, should it still arrive, is dropped as a duplicate; and since the first one may have arrived in between, in
//! which case ours was dropped, the table is read once more, and what is missing then goes with the next token.

mod positions;
mod recovery;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::worker::worker_error;
use super::{Batch, Class, Columns, Desk, LoadError, Origin, Refusal, Row, Sink, Span, Why, Written, make_table};
use crate::avro::Shape;
use crate::bounds::{Overlap, Tally};
use crate::clickhouse::{self, Block, ChError, Client, Plan, Table};
use crate::config::sink::ClickHouseDelivery;
use crate::coordinator::{NextOffset, Partition, Pending};
use crate::finding::{Severity, sentences};
use crate::source::{Source, SourceError};
use crate::supervise::WorkerError;
pub use positions::Target;
use recovery::Recovery;

/// Where findings say that a setting stands.
pub const SECTION: &str = "sink.clickhouse";

/// One worker's way into the table.
struct ClickHouseSink {
    target: Target,
    client: Client,
    table: Option<Table>,
    shapes: BTreeMap<u32, Shape>,
    plans: BTreeMap<u32, Plan>,
    block: Option<Block>,
    /// Whether the server's word on which row it refuses has held in this batch.
    trusts_hints: bool,
    native: Vec<u8>,
}

/// Rows of one partition that go into one insert.
#[derive(Clone, Debug)]
struct Piece {
    partition: Partition,
    span: Span,
    /// Indexes in the batch.
    rows: Vec<usize>,
    /// The server said that its only row is bad.
    accused: bool,
}

impl ClickHouseSink {
    fn connect(target: Target) -> Result<Self, WorkerError> {
        let runtime = target.runtime.clone();
        let opened = runtime.block_on(async {
            let client = Client::open(&target.config).await?;
            let table = target.read_table(&client).await?;
            Ok((client, table))
        });
        let (client, table) = opened.map_err(|error: ChError| worker_error(load_error(&error)))?;
        let (shapes, plans) = (BTreeMap::new(), BTreeMap::new());
        let sink = Self { target, client, table, shapes, plans, block: None, trusts_hints: true, native: Vec::new() };
        sink.judge().map_err(WorkerError::Refused)?;
        Ok(sink)
    }

    /// Refuses a table that cannot keep what is promised.
    fn judge(&self) -> Result<(), String> {
        let Some(table) = &self.table else { return Ok(()) };
        let findings = table.refusals(self.target.config.delivery);
        if findings.iter().any(|finding| finding.severity == Severity::Error) {
            return Err(sentences(&findings));
        }
        for finding in findings {
            tracing::warn!(pipeline = %self.target.pipeline, sink = "clickhouse", "{finding}");
        }
        Ok(())
    }

    async fn compile(&mut self) -> Result<(), LoadError> {
        let columns = Columns::new(&self.target.config.columns, SECTION);
        for (id, shape) in &self.shapes {
            if self.plans.contains_key(id) {
                continue;
            }
            if self.table.is_none() {
                self.table = Some(self.create(shape).await?);
                self.judge().map_err(LoadError::Refused)?;
            }
            let Some(table) = &self.table else { continue };
            let plan = Plan::compile(shape, table, &columns, &self.target.topic).map_err(|findings| {
                let place = table.place();
                LoadError::Refused(format!("records of schema {id} do not fit {place}:\n{}", sentences(&findings)))
            })?;
            for warning in columns.strangers(shape, &table.place()).iter().chain(plan.warnings()) {
                tracing::warn!(pipeline = %self.target.pipeline, sink = "clickhouse", schema_id = id, "{warning}");
            }
            self.plans.insert(*id, plan);
        }
        Ok(())
    }

    /// The table that is not there: made where that is allowed, else told how.
    async fn create(&self, shape: &Shape) -> Result<Table, LoadError> {
        if let Some(table) = self.target.read_table(&self.client).await.map_err(|error| load_error(&error))? {
            return Ok(table);
        }
        let config = &self.target.config;
        let (database, name) = (&config.database, &config.table);
        let ddl =
            clickhouse::create_table(shape, config).map_err(|findings| LoadError::Refused(sentences(&findings)))?;
        let place = format!("ClickHouse {}", self.client.address());
        if !config.auto_create {
            return Err(LoadError::Refused(format!(
                "{place}: there is no table {database}.{name}; {}",
                make_table(SECTION, &ddl)
            )));
        }
        self.client.execute(&ddl).await.map_err(|error| load_error(&error))?;
        tracing::info!(pipeline = %self.target.pipeline, sink = "clickhouse", "table made:\n{ddl}");
        let made = self.target.read_table(&self.client).await.map_err(|error| load_error(&error))?;
        made.ok_or_else(|| LoadError::Refused(format!("{place}: the table is not there after it was made")))
    }

    async fn write_batch(&mut self, batch: &Batch, desk: &mut Desk<'_>) -> Result<Written, LoadError> {
        self.compile().await?;
        let mut written = Written::default();
        self.trusts_hints = true;
        for (&partition, &span) in batch.spans() {
            self.ask_first(partition, span).await?;
            let recovery = self.target.recovery_of(partition);
            let mut open = self.pieces(batch, partition, span, recovery.as_ref());
            // The last is popped first: rows keep their order, and the position moves piece by piece.
            open.reverse();
            while let Some(piece) = open.pop() {
                desk.turn();
                match self.write_piece(batch, &piece, desk, &mut written).await? {
                    Outcome::Settled => {}
                    Outcome::Cut(bad) => open.extend(cut(batch, piece, bad).into_iter().rev()),
                    Outcome::Again => open.push(piece),
                }
            }
            self.target.remember(partition, None);
        }
        Ok(written)
    }

    /// Where rows may be in the table already, it says which: only the others are written.
    async fn ask_first(&self, partition: Partition, span: Span) -> Result<(), LoadError> {
        let coordinates = self.target.config.delivery == ClickHouseDelivery::ExactlyOnce;
        let Some(table) = self.table.as_ref().filter(|_| coordinates && self.target.overlap == Overlap::Ask) else {
            return Ok(());
        };
        let read = self.client.offsets_present(table, &self.target.topic, partition, span.start, span.end);
        let present = read.await.map_err(|error| load_error(&error))?;
        let mut recovery =
            self.target.recovery_of(partition).unwrap_or_else(|| Recovery { end: span.end, ..Recovery::default() });
        recovery.present.extend(present);
        self.target.remember(partition, Some(recovery));
        Ok(())
    }

    /// The partition's rows, cut where one insert cannot take them together: at the end of a range that was begun before, and
    /// where records of another schema fill other columns.
    fn pieces(&self, batch: &Batch, partition: Partition, span: Span, recovery: Option<&Recovery>) -> Vec<Piece> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut start = span.start;
        let mut rows: Vec<usize> = Vec::new();
        let mut layout = None;
        let cut = recovery.map(|recovery| recovery.end).filter(|end| (span.start + 1..span.end).contains(end));
        let mut cut_due = cut;
        for (index, row) in batch.rows().iter().enumerate().filter(|(_, row)| row.partition == partition) {
            let of_row = self.plans.get(&row.schema_id).map(Plan::layout);
            let at_cut = cut_due.filter(|end| row.offset >= *end);
            let other_columns = layout.is_some() && of_row.is_some() && layout != of_row;
            if let Some(end) = at_cut.or((other_columns && !rows.is_empty()).then_some(row.offset)) {
                let span = Span { start, end };
                pieces.push(Piece { partition, span, rows: std::mem::take(&mut rows), accused: false });
                start = end;
                cut_due = cut_due.filter(|due| *due > end);
            }
            layout = of_row.or(layout);
            rows.push(index);
        }
        pieces.push(Piece { partition, span: Span { start, end: span.end }, rows, accused: false });
        pieces
    }

    /// One insert between its two commits. Rows that cannot be encoded are dead letters; what the server refuses for its data
    /// is cut where it says, else in halves, until the bad rows stand alone.
    async fn write_piece(
        &mut self,
        batch: &Batch,
        piece: &Piece,
        desk: &mut Desk<'_>,
        written: &mut Written,
    ) -> Result<Outcome, LoadError> {
        let (partition, span) = (piece.partition, piece.span);
        let recovery = self.target.recovery_of(partition).unwrap_or_default();
        let mut letters: Vec<(Origin, Refusal)> =
            batch.refused().iter().filter(|(o, _)| inside(o, piece)).cloned().collect();
        let total = piece.rows.len() + letters.len();
        let found = self.fill(batch, piece, &recovery.present, &mut letters);
        let rows = self.block.as_ref().map_or(0, Block::rows);
        let outcome = |letters: &[(Origin, Refusal)]| Tally::of(total, letters.len());
        if rows > 0 {
            let pending = Pending { end: span.end, attempt: recovery.attempt.max(1) };
            match self.insert(partition, span, pending, outcome(&letters), desk.source).await? {
                Ok(()) if recovery.verify && self.lacks_rows(batch, piece, &letters).await? => {
                    return Ok(Outcome::Again);
                }
                Ok(()) => self.trusts_hints &= !piece.accused,
                Err(error) if piece.rows.len() > 1 => {
                    tracing::debug!(partition, rows, %error, "searching an insert for bad rows");
                    let hint = error.row.filter(|_| self.trusts_hints);
                    let bad = hint.and_then(|row| place_of(batch, piece, &recovery.present, &letters, row));
                    self.look_again(piece, recovery).await?;
                    return Ok(Outcome::Cut(bad));
                }
                Err(error) => {
                    let origin = piece.rows.first().and_then(|index| batch.rows().get(*index)).map(Row::origin);
                    let code = error.code.map_or_else(String::new, |code| code.to_string());
                    letters.extend(origin.map(|origin| (origin, Refusal::row(Why::Database(code)))));
                }
            }
        }
        desk.letters.settle(total, &letters)?;
        self.commit(desk.source, partition, span.end, None, outcome(&letters))?;
        written.rows += (total - letters.len()) as u64 - found;
        written.found += found;
        written.bytes += self.native.len() as u64;
        Ok(Outcome::Settled)
    }

    /// Encodes the piece's rows that are not in the table; how many are.
    fn fill(
        &mut self,
        batch: &Batch,
        piece: &Piece,
        present: &BTreeSet<i64>,
        letters: &mut Vec<(Origin, Refusal)>,
    ) -> u64 {
        let mut found = 0;
        self.native.clear();
        if let Some(block) = &mut self.block {
            block.clear();
        }
        for row in piece.rows.iter().filter_map(|index| batch.rows().get(*index)) {
            if present.contains(&row.offset) {
                found += 1;
                continue;
            }
            let Some(plan) = self.plans.get(&row.schema_id) else {
                letters.push((row.origin(), Refusal::row(Why::UnknownSchema)));
                continue;
            };
            if !self.block.as_ref().is_some_and(|block| block.takes(plan)) {
                self.block = Some(plan.block());
            }
            let Some(block) = &mut self.block else { continue };
            if let Err(refusal) = block.push(plan, batch.datum(row), row.partition, row.offset) {
                letters.push((row.origin(), refusal));
            }
        }
        found
    }

    /// The request is begun, the range is named, the body is sent: so the server's time-out for a body runs while we stand
    /// still between the two, and drops what a zombie would send late. Inner error: refused for its data.
    async fn insert(
        &mut self,
        partition: Partition,
        span: Span,
        pending: Pending,
        outcome: Tally,
        source: &Source,
    ) -> Result<Result<(), ChError>, LoadError> {
        let (Some(table), Some(block)) = (&self.table, &self.block) else { return Ok(Ok(())) };
        let token = self.target.token(source.topic_id(), partition, span, pending.attempt, source.resets(partition));
        block.native(&mut self.native);
        let begun = self.client.begin_insert(table, block.layout(), &token).await;
        let mut insert = begun.map_err(|error| load_error(&error))?;
        if crate::mutant::is("offsets_before_rows") {
            self.commit(source, partition, span.end, None, outcome)?;
        } else {
            self.commit(source, partition, span.start, Some(pending), outcome)?;
        }
        crate::fail_point::hit("ch_after_pending");
        let sent = match insert.send(&self.native).await {
            Ok(()) => insert.finish().await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => Ok(Ok(())),
            Err(error) if error.class == clickhouse::Class::Data => Ok(Err(error)),
            Err(error) => Err(load_error(&error)),
        }
    }

    /// After an insert whose token may have been used before: whether rows of the piece are not in the table. Then the first
    /// insert has won, with fewer rows than ours; the others go with another token.
    async fn lacks_rows(&self, batch: &Batch, piece: &Piece, letters: &[(Origin, Refusal)]) -> Result<bool, LoadError> {
        let Some(table) = &self.table else { return Ok(false) };
        let Span { start, end } = piece.span;
        let read = self.client.offsets_present(table, &self.target.topic, piece.partition, start, end);
        let present: BTreeSet<i64> = read.await.map_err(|error| load_error(&error))?.into_iter().collect();
        let dead = |row: &Row| letters.iter().any(|(origin, _)| *origin == row.origin());
        let mut rows = piece.rows.iter().filter_map(|index| batch.rows().get(*index));
        let lacks = rows.any(|row| !present.contains(&row.offset) && !dead(row));
        if lacks {
            let recovery = self.target.recovery_of(piece.partition).unwrap_or_default();
            self.target.remember(piece.partition, Some(recovery.next_attempt(present)));
        }
        Ok(lacks)
    }

    /// Before parts of a piece are written, the table is asked: a materialized view that failed leaves rows behind.
    async fn look_again(&self, piece: &Piece, mut recovery: Recovery) -> Result<(), LoadError> {
        let (Some(table), Span { start, end }) = (&self.table, piece.span) else { return Ok(()) };
        let mut present = std::mem::take(&mut recovery.present);
        if self.target.config.delivery == ClickHouseDelivery::ExactlyOnce {
            let read = self.client.offsets_present(table, &self.target.topic, piece.partition, start, end);
            present.extend(read.await.map_err(|error| load_error(&error))?);
        }
        self.target.remember(piece.partition, Some(recovery.next_attempt(present)));
        Ok(())
    }

    fn commit(
        &self,
        source: &Source,
        partition: Partition,
        next: NextOffset,
        pending: Option<Pending>,
        outcome: Tally,
    ) -> Result<(), LoadError> {
        let committed = source.commit_for_sink(partition, next, pending, outcome);
        // A commit whose answer was lost may have named the range all the same.
        if pending.is_some() || committed.is_ok() {
            self.target.note_pending(partition, pending.map(|pending| pending.end));
        }
        committed.map_err(|error| match error {
            SourceError::Refused(message) => LoadError::Refused(message),
            SourceError::Transient(message) => LoadError::Again { class: Class::Moved, message },
        })
    }
}

/// What became of a piece.
enum Outcome {
    /// Written or dead, its position moved.
    Settled,
    /// To be tried again in parts: around the row at this place, which the server says is bad, else in halves.
    Cut(Option<usize>),
    /// To be tried again as it is.
    Again,
}

fn inside(origin: &Origin, piece: &Piece) -> bool {
    origin.partition == piece.partition && (piece.span.start..piece.span.end).contains(&origin.offset)
}

/// The place in the piece of the block's row with this number: what is in the table already, and letters, are not in the block.
fn place_of(
    batch: &Batch,
    piece: &Piece,
    present: &BTreeSet<i64>,
    letters: &[(Origin, Refusal)],
    row: usize,
) -> Option<usize> {
    let dead: BTreeSet<i64> = letters.iter().map(|(origin, _)| origin.offset).collect();
    let is_sent = |row: &Row| !present.contains(&row.offset) && !dead.contains(&row.offset);
    let mut sent = (0..piece.rows.len()).filter(|place| batch.rows().get(piece.rows[*place]).is_some_and(is_sent));
    sent.nth(row)
}

/// The parts of a piece, in their order: what is before the bad row, it alone, and what is behind it; else two halves.
fn cut(batch: &Batch, piece: Piece, bad: Option<usize>) -> Vec<Piece> {
    let Piece { partition, span, rows, .. } = piece;
    let cuts = match bad {
        Some(place) => vec![place, place + 1],
        None => vec![rows.len() / 2],
    };
    let mut parts: Vec<Piece> = Vec::new();
    let mut from = 0;
    let mut start = span.start;
    for to in cuts.into_iter().chain([rows.len()]) {
        if to <= from {
            continue;
        }
        let next = rows.get(to).and_then(|index| batch.rows().get(*index)).map_or(span.end, |row| row.offset);
        let accused = bad == Some(from);
        parts.push(Piece { partition, span: Span { start, end: next }, rows: rows[from..to].to_vec(), accused });
        (from, start) = (to, next);
    }
    parts
}

impl Sink for ClickHouseSink {
    fn wants_more(&self, ends: &BTreeMap<Partition, NextOffset>) -> bool {
        let short = |(partition, end): (&Partition, &NextOffset)| {
            self.target.recovery_of(*partition).is_some_and(|recovery| *end < recovery.end)
        };
        ends.iter().any(short)
    }

    fn pending(&self) -> Option<BTreeMap<Partition, Instant>> {
        let pending = self.target.pending.lock().ok()?;
        Some(pending.iter().map(|(partition, (_, since))| (*partition, *since)).collect())
    }

    fn learn(&mut self, schema_id: u32, shape: &Shape) -> Result<(), LoadError> {
        self.shapes.insert(schema_id, shape.clone());
        let runtime = self.target.runtime.clone();
        let learnt = runtime.block_on(self.compile());
        if learnt.is_err() {
            self.shapes.remove(&schema_id);
        }
        learnt
    }

    fn write(&mut self, batch: &Batch, desk: &mut Desk<'_>) -> Result<Written, LoadError> {
        let runtime = self.target.runtime.clone();
        let written = runtime.block_on(self.write_batch(batch, desk));
        let Err(error @ (LoadError::Refused(_) | LoadError::Misfit(_))) = written else { return written };
        // An error of the schema may only say that the table was altered: then the batch is tried again with new plans.
        match runtime.block_on(self.target.read_table(&self.client)) {
            Ok(read) if read != self.table => {
                self.table = read;
                self.plans.clear();
                self.block = None;
                self.judge().map_err(LoadError::Refused)?;
                let message = format!("the table was altered; new plans are made: {error}");
                Err(LoadError::Again { class: Class::Moved, message })
            }
            _ => Err(error),
        }
    }
}

fn load_error(error: &ChError) -> LoadError {
    let class = match error.class {
        clickhouse::Class::Transient => Class::Transient,
        clickhouse::Class::Authentication => Class::Authentication,
        clickhouse::Class::Resource => Class::Resource,
        clickhouse::Class::Unknown => Class::Unknown,
        clickhouse::Class::Schema => return LoadError::Misfit(error.to_string()),
        clickhouse::Class::Data | clickhouse::Class::Configuration => return LoadError::Refused(error.to_string()),
    };
    LoadError::Again { class, message: error.to_string() }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn parts_cover_the_span_and_hold_each_row_once() {
        let mut batch = Batch::default();
        // Offsets with gaps, as transactions leave them.
        (0..5).for_each(|n| batch.push(0, 10 + 3 * n, None, 1, b""));
        let piece = || Piece { partition: 0, span: Span { start: 8, end: 30 }, rows: (0..5).collect(), accused: false };
        let parts = |bad| {
            let parts = cut(&batch, piece(), bad).into_iter();
            parts.map(|part| (part.span.start, part.span.end, part.rows, part.accused)).collect::<Vec<_>>()
        };
        assert_eq!(parts(None), [(8, 16, vec![0, 1], false), (16, 30, vec![2, 3, 4], false)]);
        assert_eq!(parts(Some(2)), [(8, 16, vec![0, 1], false), (16, 19, vec![2], true), (19, 30, vec![3, 4], false)]);
        assert_eq!(parts(Some(0)), [(8, 13, vec![0], true), (13, 30, vec![1, 2, 3, 4], false)]);
        let letters = [(batch.rows()[1].origin(), Refusal::row(Why::UnknownSchema))];
        let place = |row| place_of(&batch, &piece(), &BTreeSet::from([16]), &letters, row);
        assert_eq!([place(0), place(1), place(2), place(3)], [Some(0), Some(3), Some(4), None]);
        assert_eq!(parts(Some(4)), [(8, 22, vec![0, 1, 2, 3], false), (22, 30, vec![4], true)]);
    }
}
