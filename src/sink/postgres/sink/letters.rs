//! Rows of dead letters, one a transaction.

use std::collections::BTreeSet;

use super::{PostgresSink, Target, commit_error, load_error, no_connection};
use crate::avro::Shape;
use crate::config::sink::WriteMode;
use crate::kafka::offset_note::Partition;
use crate::runtime::supervise::WorkerError;
use crate::sink::postgres::{CommitError, LetterMarks, Search};
use crate::sink::{LoadError, Refusal, RowBatch, Sink};

/// Writes rows of records that were dead letters, by the present plan.
pub struct LetterRows {
    sink: PostgresSink,
    marks: LetterMarks,
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowEnd {
    /// It is written and marked; of a trial, it could be.
    Written,
    /// It was marked before.
    Marked,
    /// It is refused.
    Dead(Refusal),
}

impl LetterRows {
    /// Connects. `topic_id` is the present topic's. Errors: no connection; a sink whose rows have keys.
    pub fn connect(target: Target, topic_id: Option<&str>) -> Result<Self, WorkerError> {
        if target.config.mode == WriteMode::Upsert {
            return Err(WorkerError::Refused(
                "sink.postgres.mode is upsert, where a letter's record may be older than what its row has by now, and dlq replay \
                 cannot tell. Set the sink's offsets back to before the letter instead (pressline offsets set): it then applies \
                 all changes again in their order"
                    .into(),
            ));
        }
        let Target { config, pipeline, topic, .. } = &target;
        let marks = LetterMarks::new(&config.offsets_table, pipeline, topic, topic_id.unwrap_or_default())
            .map_err(|what| WorkerError::Refused(format!("{}.offsets_table: {what}", super::SECTION)))?;
        Ok(Self { sink: PostgresSink::connect(target)?, marks })
    }

    /// The letters that are marked.
    pub fn marked(&mut self) -> Result<BTreeSet<(Partition, i64)>, LoadError> {
        let (runtime, marks) = (self.sink.target.runtime.clone(), &self.marks);
        let sink = &mut self.sink;
        runtime
            .block_on(async {
                sink.reconnect().await?;
                match &sink.writer {
                    Some(writer) => marks.read(writer.connection()).await,
                    None => Ok(BTreeSet::new()),
                }
            })
            .map_err(|error| load_error(&error))
    }

    /// Prepares for rows of a schema, by the table as it is now.
    pub fn learn(&mut self, schema_id: u32, shape: &Shape) -> Result<(), LoadError> {
        self.sink.learn(schema_id, shape)
    }

    /// Writes the one row of the batch and marks it, or only tries to. Errors: the database's.
    pub fn write(&mut self, batch: &RowBatch, is_trial: bool) -> Result<RowEnd, LoadError> {
        let runtime = self.sink.target.runtime.clone();
        let written = runtime.block_on(self.write_row(batch, is_trial));
        written.map_err(|error| self.sink.judged(error))
    }

    async fn write_row(&mut self, batch: &RowBatch, is_trial: bool) -> Result<RowEnd, LoadError> {
        let Self { sink, marks } = self;
        let Some(row) = batch.rows().first() else { return Ok(RowEnd::Written) };
        sink.compile(&batch.schema_ids()).await?;
        let (Some(writer), plans) = (&mut sink.writer, &sink.plans) else { return Err(no_connection()) };
        let mut transaction = writer.begin().await.map_err(|error| load_error(&error))?;
        transaction.search(Search { is_due: false, is_proven: true, at_most: None });
        let copied = transaction.copy(batch, |id| plans.get(&id), 1, &mut || {}).await;
        if let Some((_, refusal)) = copied.map_err(|error| load_error(&error))?.into_iter().next() {
            transaction.rollback().await.map_err(|error| load_error(&error))?;
            return Ok(RowEnd::Dead(refusal));
        }
        if is_trial {
            transaction.rollback().await.map_err(|error| load_error(&error))?;
            return Ok(RowEnd::Written);
        }
        match transaction.commit_letter(marks, row.partition, row.offset).await {
            Ok(()) => Ok(RowEnd::Written),
            Err(CommitError::Missed) => Ok(RowEnd::Marked),
            Err(error) => Err(commit_error(&error)),
        }
    }
}
