//! Dead letters of a sink again: each record by the present schema and table, in a transaction of its own with its mark.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::message::BorrowedMessage;
use tokio::runtime::Handle;

use super::schemas::{Patience, Schema, Schemas};
use super::{LoadError, RecordTypes, Refusal, RetryClass, RowBatch};
use crate::avro::format::Decoder;
use crate::avro::registry::Registry;
use crate::config::sink::LoadConfig;
use crate::kafka::consumer::BatchBuilder;
use crate::kafka::offset_note::Partition;
use crate::kafka::replay_range::Overlap;
use crate::runtime::supervise::WorkerError;
use crate::sink::clickhouse::letters::ClickHouseLetters;
use crate::sink::clickhouse::session as clickhouse;
pub use crate::sink::letter_rows::Standing;
use crate::sink::letter_rows::{LetterRows, RowEnd};
use crate::sink::postgres::sink as postgres;
use crate::sink::postgres::sink::letters::PostgresLetters;
use crate::sink::start::DatabaseKind;

/// How long a database or registry that does not answer is asked again, for one letter.
const TRIED_FOR: Duration = Duration::from_secs(60);
/// Between two attempts.
const PAUSE: Duration = Duration::from_secs(1);
/// How long a schema that the registry does not have is waited for, unless the sink's setting says so.
const SCHEMA_WAIT: Duration = Duration::from_secs(30);

/// Writes records that were dead letters of a sink.
pub struct LetterSink {
    schemas: Schemas,
    batch: RowBatch,
    rows: Box<dyn LetterRows>,
}

/// What became of a letter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LetterEnd {
    /// Its row is written and marked; of a trial, it could be.
    Written,
    /// It was written before.
    Marked,
    /// `sink.records` leaves records of its type out.
    LeftOut,
    /// It is refused again.
    Dead(Refusal),
}

impl LetterSink {
    /// Connects. `topic_id` is the present topic's. Errors: settings; no connection.
    pub fn open(
        config: &LoadConfig,
        kind: DatabaseKind,
        topic_id: Option<&str>,
        runtime: &Handle,
    ) -> Result<Self, WorkerError> {
        let section = format!("sink.{}", kind.name());
        let lacks = || WorkerError::refused(format!("{section}: not configured"));
        let rows: Box<dyn LetterRows> = match kind {
            DatabaseKind::Postgres => {
                let target = postgres::Target::of(config, runtime).ok_or_else(lacks)?;
                Box::new(PostgresLetters::connect(target, topic_id)?)
            }
            DatabaseKind::ClickHouse => {
                let target = clickhouse::Target::of(config, runtime, Overlap::Ask).ok_or_else(lacks)?;
                Box::new(ClickHouseLetters::connect(target, topic_id)?)
            }
        };
        let consumer = kind.consumer(config).ok_or_else(lacks)?;
        let registry = Registry::new(&config.registry).map_err(|error| WorkerError::refused(error.to_string()))?;
        let wait = consumer.unknown_schema_wait_ms.map_or(SCHEMA_WAIT, Duration::from_millis);
        let patience = Patience { wait: Some(wait), key: format!("{section}.consumer.unknown_schema_wait_ms") };
        let format = config.format();
        let decoder = Decoder::new(&format).map_err(|what| WorkerError::refused(format!("source: {what}")))?;
        let schemas =
            Schemas::new(format, Arc::new(registry), runtime.clone(), patience).of_types(RecordTypes::of(config));
        Ok(Self { schemas, batch: RowBatch::of(decoder), rows })
    }

    /// What was known of a letter when the database was connected to. `is_named`: it names its pipeline.
    pub fn standing(&self, partition: Partition, offset: i64, is_named: bool) -> Standing {
        self.rows.standing(partition, offset, is_named)
    }

    /// Writes the record's row, or only tries to. What may pass is tried again for a while. Errors: it did not pass.
    pub fn write(&mut self, record: BorrowedMessage<'_>, is_trial: bool) -> Result<LetterEnd, LoadError> {
        self.batch.clear();
        self.batch.take(record);
        let begun = Instant::now();
        let mut in_doubt = false;
        loop {
            let passing = match self.attempt(is_trial) {
                // The attempt before has written it, although its answer was lost.
                Ok(LetterEnd::Marked) if in_doubt => return Ok(LetterEnd::Written),
                Err(error @ (LoadError::Again { .. } | LoadError::Answered { .. })) => error,
                ended => return ended,
            };
            in_doubt |= matches!(passing, LoadError::Again { class: RetryClass::Unknown, .. });
            if begun.elapsed() > TRIED_FOR {
                return Err(passing);
            }
            tracing::warn!("a letter is tried again: {passing}");
            std::thread::sleep(PAUSE);
        }
    }

    fn attempt(&mut self, is_trial: bool) -> Result<LetterEnd, LoadError> {
        if let Some(end) = self.learn()? {
            return Ok(end);
        }
        self.batch.decode_rest();
        if let Some((_, refusal)) = self.batch.refused().first() {
            return Ok(LetterEnd::Dead(refusal.clone()));
        }
        Ok(match self.rows.write(&self.batch, is_trial)? {
            RowEnd::Written => LetterEnd::Written,
            RowEnd::Marked => LetterEnd::Marked,
            RowEnd::Dead(refusal) => LetterEnd::Dead(refusal),
        })
    }

    /// Gets the record's schema where it is new; how the letter ends if it ends there.
    fn learn(&mut self) -> Result<Option<LetterEnd>, LoadError> {
        let ids = self.batch.schema_ids();
        self.schemas.meet(&ids);
        for id in ids {
            let first = self.batch.first_of(id);
            match self.schemas.get(id, first, self.batch.decoder())? {
                Schema::Known => {}
                Schema::New(shape) => {
                    self.rows.learn(id, &shape).map_err(|error| error.with(&self.schemas.type_of(id)))?;
                    self.schemas.learnt(id);
                }
                Schema::LeftOut => return Ok(Some(LetterEnd::LeftOut)),
                Schema::Unusable(why) => return Ok(Some(LetterEnd::Dead(Refusal::row(why)))),
            }
        }
        Ok(if self.batch.left_out().is_empty() { None } else { Some(LetterEnd::LeftOut) })
    }
}
