//! The ClickHouse sink: each partition's rows as one insert, between two commits of the group's offset.
//!
//! The first commit stands at the range's start and names the range that is about to be written, the second one at its end.
//! Whoever finds a named range waits until its insert has ended on the server, reads from the table which of its offsets are
//! there, and writes only the others: what is in the table decides. They go with the same deduplication token, so that the
//! first insert, should it still arrive, is dropped as a duplicate; and since the first one may have arrived in between, in
//! which case ours was dropped, the table is read once more, and what is missing then goes with the next token. An insert that the
//! server refuses may leave rows behind, too: while its parts are written, the notes also say up to where.
//!
//! One insert is on its way at a time; while the server works on it, the next partition's rows are encoded.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::avro::Shape;
use crate::config::sink::ClickHouseDelivery;
use crate::kafka::consumer::{SinkStep, Source};
use crate::kafka::offset_note::{NextOffset, Partition, Pending, Tally};
use crate::kafka::replay_range::Overlap;
use crate::runtime::fault::Fault;
use crate::sink::changes::ChangeShape;
use crate::sink::clickhouse::chunk::{Held, InsertChunk, Outcome};
use crate::sink::clickhouse::error::load_error;
pub use crate::sink::clickhouse::positions::Target;
use crate::sink::clickhouse::recovery::Recovery;
use crate::sink::clickhouse::search::Progress;
use crate::sink::clickhouse::session::ClickHouseSink;
use crate::sink::clickhouse::{ChError, Insert, Layout};
use crate::sink::worker::MakeSink;
use crate::sink::{
    Comes, InDoubt, LoadError, RecordOrigin, Refusal, RetryClass, Row, RowBatch, Sink, Span, Why, WriteContext,
    Written, note_renamed,
};

/// A chunk whose rows are encoded.
struct EncodedChunk {
    chunk: InsertChunk,
    recovery: Recovery,
    /// `None`: it has no row to insert.
    body: Option<Body>,
    /// Records in its range.
    total: usize,
    /// Those of them that are no rows, and why.
    dead_letters: Vec<(RecordOrigin, Refusal)>,
    /// Rows that are in the table already, and not by this batch.
    found: u64,
    /// Rows that fill the body's columns, where others of the chunk fill other ones and go in the next insert.
    part: Option<BTreeSet<i64>>,
}

/// One block in ClickHouse's Native format.
struct Body {
    native: Vec<u8>,
    layout: Arc<Layout>,
}

/// What of one partition is to be written: the first chunk, encoded, and those after it, the last one first.
struct PartitionQueue {
    partition: Partition,
    first: Option<EncodedChunk>,
    open: Vec<InsertChunk>,
}

/// The partitions of a batch that are still to come, and the next of them once it was looked at.
struct Prefetched {
    spans: VecDeque<(Partition, Span)>,
    queue: Option<Result<PartitionQueue, LoadError>>,
}

impl ClickHouseSink {
    async fn write_batch(&mut self, batch: &RowBatch, context: &mut WriteContext<'_>) -> Result<Written, LoadError> {
        let ids = batch.schema_ids();
        self.compile(&ids).await?;
        self.unite(&ids);
        if let Some(offset) = batch.empties_at() {
            self.delete_all(offset).await?;
        }
        let mut progress = Progress::default();
        self.trusts_hints = true;
        self.inserted.clear();
        let mut prefetched = Prefetched {
            spans: batch.spans().iter().map(|(partition, span)| (*partition, *span)).collect(),
            queue: None,
        };
        self.prefetch(batch, &mut prefetched).await;
        while let Some(queue) = prefetched.queue.take() {
            let PartitionQueue { partition, mut first, mut open } = queue?;
            while let Some(filled) = self.next(batch, &mut first, &mut open)? {
                context.heartbeat();
                match self.write_chunk(batch, filled, context, &mut progress, &mut prefetched).await? {
                    Outcome::Settled => {}
                    Outcome::Cut(chunk, bad) => open.extend(chunk.cut(batch, bad).into_iter().rev()),
                    Outcome::Again(chunk) => open.push(chunk),
                    Outcome::Held(chunk) => match open.last_mut() {
                        Some(next) => next.take_over(chunk),
                        None => progress.unsettled.push(chunk),
                    },
                }
            }
            if progress.unsettled.last().is_none_or(|chunk| chunk.partition != partition) {
                self.target.settled(partition, batch.spans().get(&partition).map_or(0, |span| span.end));
            }
            self.prefetch(batch, &mut prefetched).await;
        }
        self.settle_held(batch, context, &mut progress)?;
        if let Some((error, rows)) = progress.took() {
            self.fitting.took(rows);
            let pipeline = &self.target.pipeline;
            tracing::warn!(%pipeline, sink = "clickhouse", rows, "batches are written in parts of this many rows: {error}");
        }
        self.fitting.written();
        // All of it was settled chunk by chunk.
        Ok(std::mem::take(&mut context.settled))
    }

    /// The next chunk to be written.
    fn next(
        &mut self,
        batch: &RowBatch,
        first: &mut Option<EncodedChunk>,
        open: &mut Vec<InsertChunk>,
    ) -> Result<Option<EncodedChunk>, LoadError> {
        match first.take() {
            Some(filled) => Ok(Some(filled)),
            None => open.pop().map(|chunk| self.fill(batch, chunk)).transpose(),
        }
    }

    /// Makes the next partition's first chunk ready, unless that is done. Its error waits: what is on its way goes first.
    async fn prefetch(&mut self, batch: &RowBatch, prefetched: &mut Prefetched) {
        if prefetched.queue.is_none()
            && let Some((partition, span)) = prefetched.spans.pop_front()
        {
            prefetched.queue = Some(self.queue(batch, partition, span).await);
        }
    }

    async fn queue(&mut self, batch: &RowBatch, partition: Partition, span: Span) -> Result<PartitionQueue, LoadError> {
        self.ask_first(partition, span).await?;
        let recovery = self.target.recovery_of(partition);
        let at_most = self.fitting.rows();
        let span = (partition, span);
        let (plans, is_told) = (&self.plans, self.is_told());
        let mut open = crate::sink::clickhouse::chunk::chunks(batch, span, recovery.as_ref(), plans, at_most, is_told);
        // The last is popped first: rows keep their order, and the position moves chunk by chunk.
        open.reverse();
        let first = open.pop().map(|chunk| self.fill(batch, chunk)).transpose()?;
        Ok(PartitionQueue { partition, first, open })
    }

    /// Where rows may be in the table already, it says which: only the others are written.
    async fn ask_first(&self, partition: Partition, span: Span) -> Result<(), LoadError> {
        if self.target.overlap != Overlap::Ask || !self.is_told() {
            return Ok(());
        }
        let present = self.present(partition, span).await?;
        let mut recovery =
            self.target.recovery_of(partition).unwrap_or_else(|| Recovery { end: span.end, ..Recovery::default() });
        recovery.present.extend(present);
        self.target.remember(partition, Some(recovery));
        Ok(())
    }

    /// One insert between its two commits. Rows that cannot be encoded are dead letters; what the server refuses is cut where it
    /// says, else in halves, until the bad rows stand alone.
    async fn write_chunk(
        &mut self,
        batch: &RowBatch,
        filled: EncodedChunk,
        context: &mut WriteContext<'_>,
        progress: &mut Progress,
        prefetched: &mut Prefetched,
    ) -> Result<Outcome, LoadError> {
        let EncodedChunk { chunk, recovery, body, total, mut dead_letters, mut found, part } = filled;
        let mut without_view = 0;
        let (partition, span) = (chunk.partition, chunk.span);
        let (left_out, filtered) = (chunk.left_out(batch), chunk.filtered(batch));
        let outcome =
            |dead_letters: &[(RecordOrigin, Refusal)]| Tally::of(total, dead_letters.len()).with_filtered(filtered);
        let mut bytes = 0;
        if let Some(body) = body {
            bytes = body.native.len() as u64;
            let (pending, begun) = (recovery.pending(span.end), recovery.begun_behind(span.end));
            let begins = SinkStep::Begins { pending, then: outcome(&dead_letters), begun };
            let insert = self.begin(&body, partition, span, pending, begins, context.source).await?;
            match self.insert(insert, body, batch, prefetched).await? {
                Ok(()) if part.is_some() => {
                    let rows = part.unwrap_or_default();
                    progress.accepted(rows.len());
                    self.insert_others(&chunk, recovery, rows).await?;
                    context.settled.bytes += bytes;
                    return Ok(Outcome::Again(chunk));
                }
                Ok(()) if recovery.verify && self.lacks_rows(batch, &chunk, &dead_letters, &recovery).await? => {
                    return Ok(Outcome::Again(chunk));
                }
                Ok(()) => {
                    self.trusts_hints &= !chunk.accused;
                    self.is_proven = true;
                    progress.accepted(chunk.rows.len());
                }
                Err(error) => {
                    let is_searched = progress.is_searched(&error, chunk.rows.len(), context.is_search_due);
                    if is_searched && self.view_may_have_failed() {
                        return Err(self.cannot_tell(&error));
                    }
                    let token = self.token(&chunk, pending, context.source);
                    let present = self.left_behind(&chunk, &error, &token, is_searched).await?;
                    let new = self.without_view(chunk.rows(batch), &recovery, &present, &error);
                    self.tell_of_view(context, partition, &new, &error)?;
                    if !is_searched {
                        context.settled.without_view += new.len() as u64;
                        return Err(load_error(&error));
                    }
                    self.look_at_table_once(progress, &error).await?;
                    if chunk.rows.len() > 1 {
                        tracing::debug!(partition, rows = chunk.rows.len(), %error, "searching an insert for bad rows");
                        let hint = error.row.filter(|_| self.trusts_hints && part.is_none());
                        let bad = hint.and_then(|row| chunk.place_of(batch, &recovery.present, &dead_letters, row));
                        self.remember_refused(&chunk, recovery, present);
                        context.settled.without_view += new.len() as u64;
                        return Ok(Outcome::Cut(chunk, bad));
                    }
                    without_view = new.len() as u64;
                    let row = chunk.rows(batch).next().map(Row::origin);
                    match row {
                        // A view refused it, and it is in the table all the same.
                        Some(origin) if present.contains(&origin.offset) => found += 1,
                        Some(origin) if chunk.is_held_with(&error) => return progress.hold(chunk, origin, error),
                        origin => {
                            let code = error.code.map_or_else(String::new, |code| code.to_string());
                            dead_letters.extend(origin.map(|origin| (origin, Refusal::row(Why::Database(code)))));
                        }
                    }
                }
            }
        }
        context.dead_letters.settle(total, &dead_letters)?;
        let wrote = SinkStep::Wrote { done: outcome(&dead_letters), begun: recovery.begun_behind(span.end) };
        self.commit(context.source, partition, span.end, wrote)?;
        let rows = (total - dead_letters.len()) as u64 - found;
        let left_out = left_out as u64;
        context.settle(Written { rows, bytes, found, without_view, left_out, ..Written::default() });
        Ok(Outcome::Settled)
    }

    /// After an insert of rows that fill some columns: those that fill others go next, with a token of their own. Both are of
    /// the range that is named, so whoever finds it reads from the table which of them are there.
    async fn insert_others(
        &mut self,
        chunk: &InsertChunk,
        recovery: Recovery,
        rows: BTreeSet<i64>,
    ) -> Result<(), LoadError> {
        // The token may have been used before, by an insert of fewer rows.
        let present = match recovery.verify {
            true => self.present(chunk.partition, chunk.span).await?,
            false => rows,
        };
        let new = present.difference(&recovery.present).map(|offset| (chunk.partition, *offset));
        self.inserted.extend(new);
        self.target.remember(chunk.partition, Some(recovery.next_attempt(present)));
        Ok(())
    }

    /// Encodes the chunk's rows that are not in the table; of those that fill different columns, the first's. Errors: it has such
    /// rows, and nobody could tell which of them are in the table, which is a defect.
    fn fill(&mut self, batch: &RowBatch, chunk: InsertChunk) -> Result<EncodedChunk, LoadError> {
        let recovery = self.target.recovery_of(chunk.partition).unwrap_or_default();
        let refused = batch.refused().iter().filter(|(origin, _)| chunk.covers(origin));
        let mut dead_letters: Vec<(RecordOrigin, Refusal)> =
            refused.cloned().chain(chunk.held.iter().map(Held::letter)).collect();
        let total = chunk.rows.len() + dead_letters.len();
        let (mut rows, mut has_others) = (BTreeSet::new(), false);
        let mut found = 0;
        if let Some(block) = &mut self.block {
            block.clear();
        }
        for row in chunk.rows(batch) {
            if recovery.present.contains(&row.offset) {
                found += u64::from(!self.inserted.contains(&(row.partition, row.offset)));
                continue;
            }
            let Some(plan) = self.plans.get(&row.schema_id) else {
                dead_letters.push((row.origin(), Refusal::row(Why::UnknownSchema)));
                continue;
            };
            if !self.block.as_ref().is_some_and(|block| block.takes(plan)) {
                let before = self.block.as_ref().map_or(0, |block| block.rows());
                if waits_for_the_next(before, self.is_told(), row.origin())? {
                    has_others = true;
                    continue;
                }
                self.block = Some(plan.block());
            }
            let Some(block) = &mut self.block else { continue };
            match block.push(plan, batch.datum(row), row.partition, row.offset) {
                Err(refusal) => dead_letters.push((row.origin(), refusal)),
                Ok(()) if self.is_one_layout => {}
                Ok(()) => drop(rows.insert(row.offset)),
            }
        }
        let body = self.block.as_ref().filter(|block| block.rows() > 0).map(|block| {
            let mut native = self.spare.pop().unwrap_or_default();
            block.native(&mut native);
            Body { native, layout: Arc::clone(block.layout()) }
        });
        let part = has_others.then_some(rows);
        Ok(EncodedChunk { chunk, recovery, body, total, dead_letters, found, part })
    }

    /// Whether the table tells which records are in it.
    fn is_told(&self) -> bool {
        self.target.config.is_told()
    }

    /// The request is begun, the range is named, the body is yet to be sent: so the server's time-out for a body runs while we
    /// stand still between the two, and drops what a zombie would send late.
    async fn begin(
        &self,
        body: &Body,
        partition: Partition,
        span: Span,
        pending: Pending,
        begins: SinkStep,
        source: &Source,
    ) -> Result<Insert, LoadError> {
        let Some(table) = &self.table else { return Err(LoadError::refused("rows are ready for no table")) };
        let mut token =
            self.target.token(source.topic_id(), partition, span, pending.attempt, source.resets(partition));
        if self.target.is_upsert() {
            // No insert is taken for a repeated one: its rows may be others, and rows that are there already do no harm.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            token.push_str(&format!("/{}", now.as_nanos()));
        }
        let begun = self.client.begin_insert(table, &body.layout, &token).await;
        let insert = begun.map_err(|error| load_error(&error))?;
        if self.target.is_upsert() {
            return Ok(insert);
        }
        if crate::testing::mutant::is("offsets_before_rows") {
            self.commit(source, partition, span.end, SinkStep::Wrote { done: Tally::default(), begun: None })?;
        } else {
            self.commit(source, partition, span.start, begins)?;
        }
        crate::testing::fail_point::hit("ch_after_pending");
        Ok(insert)
    }

    /// Sends the body and waits for the answer; meanwhile the next partition's rows are encoded. Inner error: the server's answer.
    async fn insert(
        &mut self,
        mut insert: Insert,
        body: Body,
        batch: &RowBatch,
        prefetched: &mut Prefetched,
    ) -> Result<Result<(), ChError>, LoadError> {
        let sending = self.target.runtime.spawn(async move {
            let sent = match insert.send(&body.native).await {
                Ok(()) => insert.finish().await,
                Err(error) => Err(error),
            };
            (sent, body.native)
        });
        self.prefetch(batch, prefetched).await;
        let (sent, mut native) = sending.await.map_err(|error| {
            let message = format!("an insert ended without an answer: {error}");
            LoadError::again(RetryClass::Unknown, message)
        })?;
        native.clear();
        self.spare.push(native);
        match sent {
            Ok(()) => Ok(Ok(())),
            Err(error) if error.is_answer => Ok(Err(error)),
            Err(error) => Err(load_error(&error)),
        }
    }

    /// After an insert whose token may have been used before: whether rows of the chunk are not in the table. Then the first
    /// insert has won, with fewer rows than ours; the others go with another token.
    async fn lacks_rows(
        &self,
        batch: &RowBatch,
        chunk: &InsertChunk,
        dead_letters: &[(RecordOrigin, Refusal)],
        recovery: &Recovery,
    ) -> Result<bool, LoadError> {
        let present = self.present(chunk.partition, chunk.span).await?;
        let dead = |row: &Row| dead_letters.iter().any(|(origin, _)| *origin == row.origin());
        let lacks = chunk.rows(batch).any(|row| !present.contains(&row.offset) && !dead(row));
        if lacks {
            self.target.remember(chunk.partition, Some(recovery.clone().next_attempt(present)));
        }
        Ok(lacks)
    }

    /// Which of these offsets are in the table, where it can tell.
    pub(super) async fn present(&self, partition: Partition, span: Span) -> Result<BTreeSet<i64>, LoadError> {
        let Some(table) = self.table.as_ref().filter(|_| self.is_told()) else { return Ok(BTreeSet::new()) };
        let read = self.client.offsets_present(table, &self.target.topic, partition, span.start, span.end);
        Ok(read.await.map_err(|error| load_error(&error))?.into_iter().collect())
    }

    /// An insert that fails in a view leaves its rows in the table, which without the three columns does not tell.
    fn view_may_have_failed(&self) -> bool {
        let has_views = self.table.as_ref().is_some_and(|table| !table.views.is_empty());
        has_views && self.target.config.delivery == ClickHouseDelivery::Deduplicated
    }

    fn cannot_tell(&self, error: &ChError) -> LoadError {
        LoadError::refused(format!(
            "{error}. But materialized views read this table, and one that fails leaves the rows in it: with delivery = \"deduplicated\" \
             nobody can tell whether they are there, so bad rows are not searched for. Fix what the row, the constraint or the view \
             has wrong and start again: the same insert is tried once more; or use delivery = \"exactly_once\""
        ))
    }

    pub(super) fn commit(
        &self,
        source: &Source,
        partition: Partition,
        next: NextOffset,
        step: SinkStep,
    ) -> Result<(), LoadError> {
        let committed = source.commit_for_sink(partition, next, step);
        match step {
            // A commit whose answer was lost may have named the range all the same.
            SinkStep::Begins { pending, .. } => self.target.note_pending(partition, Some(pending.end)),
            SinkStep::Wrote { .. } if committed.is_ok() => self.target.note_pending(partition, None),
            SinkStep::Wrote { .. } => {}
        }
        committed.map_err(LoadError::from)
    }
}

impl InDoubt for ClickHouseSink {
    fn short(&self, ends: &BTreeMap<Partition, NextOffset>) -> Vec<Partition> {
        let begun = |partition: &Partition| self.target.recovery_of(*partition).map(|recovery| recovery.end);
        let is_short =
            |(partition, end): &(&Partition, &NextOffset)| begun(partition).is_some_and(|begun| **end < begun);
        ends.iter().filter(is_short).map(|(partition, _)| *partition).collect()
    }

    fn since(&self) -> BTreeMap<Partition, Instant> {
        let pending = self.target.pending.lock().unwrap_or_else(PoisonError::into_inner);
        pending.iter().map(|(partition, (_, since))| (*partition, *since)).collect()
    }
}

impl Sink for ClickHouseSink {
    fn in_doubt(&self) -> Option<&dyn InDoubt> {
        Some(self)
    }

    fn learn(&mut self, schema_id: u32, shape: &Shape) -> Result<(), LoadError> {
        let runtime = self.target.runtime.clone();
        runtime.block_on(self.reopen())?;
        note_renamed(&mut self.renamed, shape);
        self.shapes.insert(schema_id, shape.clone());
        // The table may have been altered for this very schema since it was read, and a plan for the table of before would refuse
        // values that fit by now.
        let learnt = runtime.block_on(async {
            if self.is_altered().await? {
                self.judge().map_err(LoadError::refused)?;
            }
            self.compile(&[schema_id]).await
        });
        if learnt.is_err() {
            self.shapes.remove(&schema_id);
        }
        self.reopens |= matches!(&learnt, Err(LoadError::Again { .. }));
        learnt
    }

    fn prepare(&mut self, shape: &Shape) -> Result<(), LoadError> {
        let runtime = self.target.runtime.clone();
        runtime.block_on(self.plan(shape, Comes::Perhaps)).map(drop)
    }

    fn learn_change(&mut self, number: u32, change: &ChangeShape) -> Result<(), LoadError> {
        self.has_key(&change.key)?;
        self.learn(number, &change.shape)
    }

    fn prepare_change(&mut self, change: &ChangeShape) -> Result<(), LoadError> {
        self.has_key(&change.key)?;
        self.prepare(&change.shape)
    }

    fn has_table(&self) -> bool {
        self.table.is_some()
    }

    fn will_make_table(&self) -> bool {
        self.table.is_none() && self.target.config.auto_create
    }

    fn write(&mut self, batch: &mut RowBatch, context: &mut WriteContext<'_>) -> Result<Written, LoadError> {
        let runtime = self.target.runtime.clone();
        let written = runtime.block_on(async {
            self.reopen().await?;
            self.write_batch(batch, context).await
        });
        self.reopens |= matches!(&written, Err(LoadError::Again { class, .. }) if *class != RetryClass::Moved);
        let Err(error @ (LoadError::Refused(_) | LoadError::SchemaMismatch(_))) = written else { return written };
        // An error of the schema may only say that the table was altered: then the batch is tried again with new plans.
        match runtime.block_on(self.is_altered()) {
            Ok(true) => {
                self.judge().map_err(LoadError::refused)?;
                let message = format!("the table was altered; new plans are made: {error}");
                Err(LoadError::again(RetryClass::Moved, message))
            }
            _ => Err(error),
        }
    }
}

/// Whether a row that fills other columns than the block's goes in the next insert, as the block holds so many rows already. Errors:
/// the table does not tell which rows it has (`is_told`), and the rows before it would be lost.
fn waits_for_the_next(before: usize, is_told: bool, origin: RecordOrigin) -> Result<bool, LoadError> {
    if before > 0 && !is_told {
        let fault = Fault::from(format!(
            "the row at partition {} offset {} fills other columns than the rows before it in the same insert, which is a defect of \
             pressline: report it. Nothing was written",
            origin.partition, origin.offset
        ));
        return Err(LoadError::Refused(Fault { partition: Some(origin.partition), ..fault }.offset(origin.offset)));
    }
    Ok(before > 0)
}

/// Makes the sinks of workers.
pub fn maker(target: Target) -> Box<MakeSink> {
    Box::new(move || Ok(Box::new(ClickHouseSink::connect(target.clone())?) as Box<dyn Sink>))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_holds_rows_is_never_replaced() {
        let origin = RecordOrigin { partition: 3, offset: 17, timestamp_ms: None };
        assert!(matches!(waits_for_the_next(0, false, origin), Ok(false)));
        assert!(matches!(waits_for_the_next(0, true, origin), Ok(false)));
        assert!(matches!(waits_for_the_next(1, true, origin), Ok(true)));
        let refused = waits_for_the_next(1, false, origin);
        assert!(
            matches!(&refused, Err(LoadError::Refused(fault)) if (fault.partition, fault.offset) == (Some(3), Some(17))),
            "{refused:?}"
        );
    }
}
