//! Rows of dead letters, one a transaction.

use std::collections::BTreeMap;

use super::{PostgresSink, Target, commit_error, load_error, no_connection};
use crate::avro::Shape;
use crate::config::sink::WriteMode;
use crate::kafka::offset_note::Partition;
use crate::runtime::supervise::WorkerError;
use crate::sink::letter_rows::{LetterRows, RowEnd, Standing};
use crate::sink::postgres::{CommitError, LetterMarks, Search};
use crate::sink::worker::worker_error;
use crate::sink::{LoadError, RowBatch, Sink};

/// Writes rows of records that were dead letters, by the present plan.
pub struct PostgresLetters {
    sink: PostgresSink,
    marks: LetterMarks,
    /// Letters that the database knows, and whether their rows were written later.
    known: BTreeMap<(Partition, i64), bool>,
}

impl PostgresLetters {
    /// Connects. `topic_id` is the present topic's. Errors: no connection; a sink whose rows have keys.
    pub fn connect(target: Target, topic_id: Option<&str>) -> Result<Self, WorkerError> {
        if target.config.mode == WriteMode::Upsert {
            return Err(WorkerError::refused(
                "sink.postgres.mode is upsert, where a letter's record may be older than what its row has by now, and dlq replay \
                 cannot tell. Set the sink's offsets back to before the letter instead (pressline offsets set): it then applies \
                 all changes again in their order",
            ));
        }
        let marks = target.letter_marks(topic_id).map_err(WorkerError::refused)?;
        let (sink, runtime) = (PostgresSink::connect(target.clone())?, target.runtime);
        let known = match &sink.writer {
            Some(writer) => runtime.block_on(marks.read(writer.connection())),
            None => Ok(BTreeMap::new()),
        };
        let known = known.map_err(|error| worker_error(load_error(&error)))?;
        Ok(Self { sink, marks, known })
    }

    async fn write_row(&mut self, batch: &RowBatch, is_trial: bool) -> Result<RowEnd, LoadError> {
        let Self { sink, marks, known } = self;
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
        let place = (row.partition, row.offset);
        match transaction.commit_letter(marks, place, known.contains_key(&place)).await {
            Ok(()) => Ok(RowEnd::Written),
            Err(CommitError::Missed) => Ok(RowEnd::Marked),
            Err(error) => Err(commit_error(&error)),
        }
    }
}

impl LetterRows for PostgresLetters {
    fn standing(&self, partition: Partition, offset: i64, is_named: bool) -> Standing {
        match self.known.get(&(partition, offset)) {
            Some(true) => Standing::Replayed,
            None if is_named => Standing::WrittenAfterAll,
            Some(false) | None => Standing::Open,
        }
    }

    fn learn(&mut self, schema_id: u32, shape: &Shape) -> Result<(), LoadError> {
        self.sink.learn(schema_id, shape)
    }

    fn write(&mut self, batch: &RowBatch, is_trial: bool) -> Result<RowEnd, LoadError> {
        let runtime = self.sink.target.runtime.clone();
        let written = runtime.block_on(self.write_row(batch, is_trial));
        written.map_err(|error| self.sink.judged(error))
    }
}
