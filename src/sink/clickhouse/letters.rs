//! Rows of dead letters, one an insert: what is in the table decides.
//!
//! Before the insert it is waited until an earlier one of this very letter has ended on the server, and the table is asked for the
//! letter's coordinates; after it, the table is asked again. An insert of a process that was killed may still come: it has the same
//! token, so the server drops one of the two.

use super::error::load_error;
use super::session::{ClickHouseSink, SECTION, Target};
use super::{Block, ErrorClass, Layout};
use crate::avro::Shape;
use crate::kafka::offset_note::Partition;
use crate::runtime::supervise::WorkerError;
use crate::sink::letter_rows::{LetterRows, RowEnd, Standing};
use crate::sink::{LoadError, Refusal, RetryClass, Row, RowBatch, Sink, Span, Why};
use crate::testing::fail_point;

/// Tokens that are tried for a row which the table does not show: each but the last may be that of an insert whose row was deleted.
const ATTEMPTS: u32 = 5;

/// Writes rows of records that were dead letters.
pub struct ClickHouseLetters {
    sink: ClickHouseSink,
    topic_id: Option<String>,
}

impl ClickHouseLetters {
    /// Connects. `topic_id` is the present topic's. Errors: no connection; a table that does not tell which records are in it, or whose
    /// rows have keys.
    pub fn connect(target: Target, topic_id: Option<&str>) -> Result<Self, WorkerError> {
        if target.is_upsert() {
            return Err(WorkerError::refused(format!(
                "{SECTION}.mode is upsert, which dlq replay does not write. Set the sink's offsets back to before the letter instead \
                 (pressline offsets set): the version of each row keeps older changes from showing over newer ones"
            )));
        }
        if !target.config.is_told() {
            return Err(WorkerError::refused(format!(
                "{SECTION}.delivery is deduplicated, so the table does not tell which records are in it, and a row could come twice. \
                 With delivery = \"exactly_once\" and its columns dlq replay can tell"
            )));
        }
        Ok(Self { sink: ClickHouseSink::connect(target)?, topic_id: topic_id.map(String::from) })
    }

    async fn write_row(&mut self, batch: &RowBatch, is_trial: bool) -> Result<RowEnd, LoadError> {
        let Some(row) = batch.rows().first() else { return Ok(RowEnd::Written) };
        self.sink.reopen().await?;
        self.sink.compile(&batch.schema_ids()).await?;
        for attempt in 1..=ATTEMPTS {
            let token = self.token(row, attempt);
            self.sink.client.await_end(&token).await.map_err(|error| load_error(&error))?;
            if self.is_present(row).await? {
                return Ok(if attempt == 1 { RowEnd::Marked } else { RowEnd::Written });
            }
            let Some(plan) = self.sink.plans.get(&row.schema_id) else {
                return Ok(RowEnd::Dead(Refusal::row(Why::UnknownSchema)));
            };
            let mut block = plan.block();
            if let Err(refusal) = block.push(plan, batch.datum(row), row.partition, row.offset) {
                return Ok(RowEnd::Dead(refusal));
            }
            if is_trial {
                return Ok(RowEnd::Written);
            }
            let layout = block.layout().clone();
            if let Some(refusal) = self.insert(row, &block, &layout, &token).await? {
                return Ok(RowEnd::Dead(refusal));
            }
            if self.is_present(row).await? {
                return Ok(RowEnd::Written);
            }
        }
        Err(LoadError::refused(format!(
            "the table does not show the row of partition {} offset {} after it was inserted: a TTL, or a replica that lags behind",
            row.partition, row.offset
        )))
    }

    /// One insert; why the server refuses the row, if it does and the row is not there all the same.
    async fn insert(
        &self,
        row: &Row,
        block: &Block,
        layout: &Layout,
        token: &str,
    ) -> Result<Option<Refusal>, LoadError> {
        let Some(table) = &self.sink.table else { return Err(LoadError::refused("there is no table")) };
        let mut native = Vec::new();
        block.native(&mut native);
        let insert = self.sink.client.begin_insert(table, layout, token).await;
        let mut insert = insert.map_err(|error| load_error(&error))?;
        fail_point::hit("ch_before_letter");
        let sent = match insert.send(&native).await {
            Ok(()) => insert.finish().await,
            Err(error) => Err(error),
        };
        let Err(error) = sent else { return Ok(None) };
        // A view that failed leaves the row in the table.
        if error.is_answer && self.is_present(row).await? {
            tracing::warn!(partition = row.partition, offset = row.offset, "the row is in the table, but: {error}");
            return Ok(None);
        }
        if error.class == ErrorClass::Data {
            let code = error.code.map_or_else(String::new, |code| code.to_string());
            return Ok(Some(Refusal::row(Why::Database(code))));
        }
        Err(load_error(&error))
    }

    fn token(&self, row: &Row, attempt: u32) -> String {
        let span = Span { start: row.offset, end: row.offset + 1 };
        let token = self.sink.target.token(self.topic_id.as_deref(), row.partition, span, attempt, 0);
        format!("{token}/letter")
    }

    async fn is_present(&self, row: &Row) -> Result<bool, LoadError> {
        let span = Span { start: row.offset, end: row.offset + 1 };
        if crate::testing::mutant::is("recovery_without_reading") {
            return Ok(false);
        }
        Ok(!self.sink.present(row.partition, span).await?.is_empty())
    }
}

impl LetterRows for ClickHouseLetters {
    fn standing(&self, _partition: Partition, _offset: i64, _is_named: bool) -> Standing {
        // The table tells, row by row.
        Standing::Open
    }

    fn learn(&mut self, schema_id: u32, shape: &Shape) -> Result<(), LoadError> {
        self.sink.learn(schema_id, shape)
    }

    fn write(&mut self, batch: &RowBatch, is_trial: bool) -> Result<RowEnd, LoadError> {
        let runtime = self.sink.target.runtime.clone();
        let written = runtime.block_on(self.write_row(batch, is_trial));
        self.sink.reopens |= matches!(&written, Err(LoadError::Again { class, .. }) if *class != RetryClass::Moved);
        written
    }
}
