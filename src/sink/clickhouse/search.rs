//! The search of a batch for rows that the server refuses alone, and the log lines about rows that a view refuses.

use std::collections::BTreeSet;

use super::chunk::{Held, InsertChunk, Outcome};
use super::error::load_error;
use super::recovery::Recovery;
use super::session::ClickHouseSink;
use super::{ChError, ErrorClass};
use crate::config::sink::ClickHouseDelivery;
use crate::kafka::consumer::{SinkStep, Source};
use crate::kafka::offset_note::{Partition, Pending, Tally};
use crate::sink::{self, LoadError, RecordOrigin, Refusal, Row, RowBatch, Span, Why, WriteContext, Written};

/// So many rows, refused one after another with none written, tell that it is not the rows.
const PROBES: usize = 16;

/// What a batch's write has come to so far.
#[derive(Default)]
pub(super) struct Progress {
    /// Rows were written.
    has_written: bool,
    /// The table was read again since the batch began.
    has_looked: bool,
    /// An insert was too large, and the most rows of one that was taken since.
    too_large: Option<(ChError, usize)>,
    /// Held rows at the end of a partition's range, with nothing behind them.
    pub(super) unsettled: Vec<InsertChunk>,
}

impl Progress {
    /// An insert of so many rows was taken.
    pub(super) fn accepted(&mut self, rows: usize) {
        self.has_written = true;
        if let Some((_, most)) = &mut self.too_large {
            *most = (*most).max(rows);
        }
    }

    /// The most rows that the server took at once after another insert was too large; `None`: none was.
    pub(super) fn took(&self) -> Option<(&ChError, usize)> {
        self.too_large.as_ref().map(|(error, rows)| (error, *rows)).filter(|(_, rows)| *rows > 0)
    }

    /// Whether rows that the server refuses so are looked for: it is the answer to an insert of this many rows. `is_due`: it has
    /// not passed for long enough.
    pub(super) fn is_searched(&mut self, error: &ChError, rows: usize, is_due: bool) -> bool {
        let is_too_large = error.too_large && rows > 1;
        if is_too_large {
            self.too_large.get_or_insert_with(|| (error.clone(), 0));
        }
        is_too_large || error.class.is_searched_at_once() || is_due
    }

    /// The chunk's only row is held. Errors: too many are, with none written between them.
    pub(super) fn hold(
        &mut self,
        mut chunk: InsertChunk,
        origin: RecordOrigin,
        error: ChError,
    ) -> Result<Outcome, LoadError> {
        chunk.held.push(Held { origin, error });
        chunk.rows.clear();
        if chunk.held.len() > PROBES {
            return Err(not_told_apart(&chunk));
        }
        Ok(Outcome::Held(chunk))
    }
}

impl InsertChunk {
    /// Its only row, which was refused so, waits for rows behind it to be written.
    pub(super) fn is_held_with(&self, error: &ChError) -> bool {
        error.class != ErrorClass::Data || !self.held.is_empty()
    }
}

fn not_told_apart(chunk: &InsertChunk) -> LoadError {
    let doubtful = chunk.held.iter().rev().find(|held| held.error.class != ErrorClass::Data);
    let Some(Held { error, .. }) = doubtful.or(chunk.held.last()) else {
        return LoadError::refused("a held row without an error, which is a defect of pressline: report it");
    };
    let what = format!("{}, and so it does for each of {} rows alone", error.what, chunk.held.len());
    load_error(&ChError { what, ..error.clone() })
}

impl ClickHouseSink {
    pub(super) fn token(&self, chunk: &InsertChunk, pending: Pending, source: &Source) -> String {
        let (partition, attempt) = (chunk.partition, pending.attempt);
        self.target.token(source.topic_id(), partition, chunk.span, attempt, source.resets(partition))
    }

    /// Which rows of a refused insert are in the table all the same: a materialized view that failed leaves them there, and so may
    /// an insert that was cancelled midway.
    pub(super) async fn left_behind(
        &self,
        chunk: &InsertChunk,
        error: &ChError,
        token: &str,
        is_searched: bool,
    ) -> Result<BTreeSet<i64>, LoadError> {
        if !is_searched && !self.has_views(error) {
            return Ok(BTreeSet::new());
        }
        if error.class == ErrorClass::InDoubt {
            self.client.await_end(token).await.map_err(|error| load_error(&error))?;
        }
        self.present(chunk.partition, chunk.span).await
    }

    fn has_views(&self, error: &ChError) -> bool {
        error.view.is_some() || self.table.as_ref().is_some_and(|table| !table.views.is_empty())
    }

    /// The rows that a refused insert has left in the table while a view failed.
    pub(super) fn without_view<'r>(
        &self,
        rows: impl Iterator<Item = &'r Row>,
        recovery: &Recovery,
        present: &BTreeSet<i64>,
        error: &ChError,
    ) -> Vec<RecordOrigin> {
        if !self.has_views(error) {
            return Vec::new();
        }
        let is_new = |row: &&Row| present.contains(&row.offset) && !recovery.present.contains(&row.offset);
        rows.filter(is_new).map(Row::origin).collect()
    }

    /// Before rows are taken for bad ones: a table that was altered since the plans were made refuses sound ones, too.
    pub(super) async fn look_at_table_once(
        &mut self,
        progress: &mut Progress,
        error: &ChError,
    ) -> Result<(), LoadError> {
        if std::mem::replace(&mut progress.has_looked, true) || !self.is_altered().await? {
            return Ok(());
        }
        self.judge().map_err(LoadError::refused)?;
        let message = format!("the table was altered; new plans are made: {error}");
        Err(LoadError::again(sink::RetryClass::Moved, message))
    }

    /// Before parts of a refused chunk are written: what of it is in the table.
    pub(super) fn remember_refused(&self, chunk: &InsertChunk, recovery: Recovery, present: BTreeSet<i64>) {
        if self.target.is_upsert() {
            return;
        }
        let known = match self.target.config.delivery {
            ClickHouseDelivery::ExactlyOnce => recovery.refused(chunk.span.end, present),
            ClickHouseDelivery::Deduplicated => recovery.next_attempt(present),
        };
        self.target.remember(chunk.partition, Some(known));
    }

    /// Says of rows that they are in the table, but not in that of a view: in the log and in the dead-letter topic.
    pub(super) fn tell_of_view(
        &self,
        context: &mut WriteContext<'_>,
        partition: Partition,
        rows: &[RecordOrigin],
        error: &ChError,
    ) -> Result<(), LoadError> {
        let ([first, ..], Some(last)) = (rows, rows.last()) else { return Ok(()) };
        let views = self.table.as_ref().map(|table| table.views.join(", ")).unwrap_or_default();
        let view = error.view.clone().unwrap_or(views);
        let code = error.code.map_or_else(String::new, |code| code.to_string());
        tracing::warn!(
            pipeline = %self.target.pipeline, sink = "clickhouse", topic = %self.target.topic, partition,
            first_offset = first.offset, last_offset = last.offset, rows = rows.len(), code, view,
            "a materialized view failed on an insert: its rows are in the table, but not in that of the view; correct the view \
             and insert them there from the table"
        );
        let why = Why::View { first: first.offset, last: last.offset, rows: rows.len(), code };
        context.dead_letters.notice(*first, Refusal::column(&view.into(), why))
    }

    /// Held rows that have none behind them: dead letters where other rows of the batch were written; also where none were, if the
    /// code is unknown and the table has taken rows before. Errors: else.
    pub(super) fn settle_held(
        &self,
        batch: &RowBatch,
        context: &mut WriteContext<'_>,
        progress: &mut Progress,
    ) -> Result<(), LoadError> {
        for chunk in std::mem::take(&mut progress.unsettled) {
            let is_unknown = |held: &Held| matches!(held.error.class, ErrorClass::Unknown | ErrorClass::Data);
            let alone_is_enough = self.is_proven && chunk.held.iter().all(is_unknown);
            if !progress.has_written && !alone_is_enough {
                return Err(not_told_apart(&chunk));
            }
            let refused = batch.refused().iter().filter(|(origin, _)| chunk.covers(origin)).cloned();
            let dead_letters: Vec<_> = refused.chain(chunk.held.iter().map(Held::letter)).collect();
            context.dead_letters.settle(dead_letters.len(), &dead_letters)?;
            let Span { end, .. } = chunk.span;
            let left_out = chunk.left_out(batch);
            let done = Tally::of(dead_letters.len(), dead_letters.len()).with_filtered(chunk.filtered(batch));
            let recovery = self.target.recovery_of(chunk.partition).unwrap_or_default();
            let wrote = SinkStep::Wrote { done, begun: recovery.begun_behind(end) };
            self.commit(context.source, chunk.partition, end, wrote)?;
            context.settle(Written { left_out: left_out as u64, ..Written::default() });
            self.target.settled(chunk.partition, end);
        }
        Ok(())
    }
}
