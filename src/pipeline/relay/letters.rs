//! Dead letters of the relay again: each record by the pipeline as it is now, its output and the letter's mark in one transaction.
//!
//! Who replays has a transactional id of the pipeline's own for it. A second process that begins ends the first one's transaction and
//! fences it; it reads the marks after that, so it sees all that the first one has done, and the first can do no more.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::message::{BorrowedMessage, OwnedHeaders};

use super::stages::Stages;
use super::{INIT_TIMEOUT, RelayShared, SCHEMA_PATIENCE, kernel, learn};
use crate::config::Delivery;
use crate::kafka::consumer::{BatchBuilder, PolledBatch};
use crate::kafka::dead_letter::Reject;
use crate::kafka::letters::{LetterId, Mark};
use crate::kafka::producer::{Committed, Limits, OutputRecord, TransactionError, Writer};
use crate::runtime::supervise::WorkerError;
use crate::testing::fail_point;

/// How much longer than that a schema is waited for.
const SCHEMA_GRACE: Duration = Duration::from_secs(10);
/// How long a producer may take to be made.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// Relays records that were dead letters.
pub struct LetterRelay {
    shared: Arc<RelayShared>,
    stages: Stages,
    writer: Writer,
    /// What the topics take that are written to.
    limits: Arc<Limits>,
}

/// What becomes of a record.
#[derive(Debug)]
pub enum Made {
    /// This is written.
    Output(Output),
    /// A filter keeps it back.
    Filtered,
    /// It is a dead letter again.
    Dead(Reject),
}

/// A record to write.
#[derive(Debug)]
pub struct Output {
    topic: String,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    timestamp_ms: Option<i64>,
    headers: Option<OwnedHeaders>,
}

impl LetterRelay {
    /// Of a pipeline. Errors: its kernel or its producer's settings.
    pub fn new(shared: Arc<RelayShared>) -> Result<Self, WorkerError> {
        let stages = Stages::new(kernel(&shared)?);
        let config = &shared.config;
        let id = format!("pressline.{}.dlq", config.name);
        let writer = Writer::new(&config.kafka, Delivery::ExactlyOnce, id, Arc::clone(&shared.output))
            .map_err(WorkerError::from)?;
        let limits = shared.output.current();
        Ok(Self { shared, stages, writer, limits })
    }

    /// Makes the producer, which ends and fences that of any other process that replays letters of this pipeline: what is marked must be
    /// read after this. Errors: no answer for a minute.
    pub fn fence(&mut self) -> Result<(), WorkerError> {
        let begun = Instant::now();
        loop {
            match self.writer.reopen(INIT_TIMEOUT) {
                Ok(()) => {
                    self.limits = self.writer.limits();
                    let pipeline = &self.shared.config.name;
                    tracing::info!(%pipeline, "no other process replays letters of the relay any more");
                    return Ok(());
                }
                Err(TransactionError::Recover { fault, .. }) if begun.elapsed() < OPEN_WITHIN => {
                    tracing::warn!(pipeline = %self.shared.config.name, code = fault.code, "{fault}");
                    std::thread::sleep(Duration::from_millis(500));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// What becomes of the record now; nothing is written. Errors: the registry.
    pub fn make(&mut self, record: BorrowedMessage<'_>) -> Result<Made, WorkerError> {
        let mut batch = PolledBatch::default();
        batch.take(record);
        let begun = Instant::now();
        while let Err(error) = learn(&self.shared, &mut self.stages, &batch) {
            if !matches!(error, WorkerError::Transient(_)) || begun.elapsed() > SCHEMA_PATIENCE + SCHEMA_GRACE {
                return Err(error);
            }
            std::thread::sleep(Duration::from_secs(1));
        }
        self.stages.refresh();
        self.stages.clear();
        let config = &self.shared.config;
        let (dead_topic, mut output) = (config.dead_topic(), None);
        let keep = |record: OutputRecord<'_>| {
            // Its letter lies in its topic already.
            if record.topic != dead_topic {
                output = Some(Output::of(record));
            }
            Ok(())
        };
        let reject =
            self.stages.relay(&batch.records, now_us(), config, &self.limits, keep).map_err(WorkerError::from)?;
        Ok(match (reject, output) {
            (Some(reject), _) => Made::Dead(reject),
            (None, Some(output)) => Made::Output(output),
            (None, None) => Made::Filtered,
        })
    }

    /// Writes outputs with the marks of their letters, and of those that are kept back, in one transaction. Errors: it is not known, or
    /// known not to be, committed: read the marks again.
    pub fn commit(&mut self, outputs: Vec<Output>, replayed: &[LetterId]) -> Result<Committed, WorkerError> {
        let dead_topic = self.shared.config.dead_topic();
        let limits = Arc::clone(&self.limits);
        let now_ms = now_us() / 1000;
        let write = |writer: &mut Writer| {
            let mut transaction = writer.begin()?;
            for output in outputs {
                transaction.send(output.record())?;
            }
            #[cfg(feature = "mutants")]
            if crate::testing::mutant::is("letter_mark_apart") {
                let _ = transaction.commit_alone()?;
                transaction = writer.begin()?;
            }
            fail_point::hit("letters_between");
            for id in replayed {
                let key = id.key();
                transaction.send(OutputRecord {
                    topic: &dead_topic,
                    key: Some(key.as_bytes()),
                    value: None,
                    timestamp_ms: limits.timestamp(&dead_topic, Some(now_ms), now_ms),
                    headers: Some(Mark::Replayed.headers(id)),
                })?;
            }
            transaction.commit_alone()
        };
        write(&mut self.writer).map_err(WorkerError::from)
    }

    /// Ends what is open and lets the producer go, unless another process has taken over.
    pub fn close(mut self, is_fenced: bool) {
        if is_fenced { self.writer.close() } else { self.writer.finish(super::FINISH_TIMEOUT) }
    }
}

impl Output {
    fn of(record: OutputRecord<'_>) -> Self {
        Self {
            topic: record.topic.to_string(),
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            timestamp_ms: record.timestamp_ms,
            headers: record.headers,
        }
    }

    /// Bytes of key and value.
    pub fn bytes(&self) -> usize {
        [&self.key, &self.value].into_iter().flatten().map(Vec::len).sum()
    }

    fn record(&self) -> OutputRecord<'_> {
        OutputRecord {
            topic: &self.topic,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            timestamp_ms: self.timestamp_ms,
            headers: self.headers.clone(),
        }
    }
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_micros()).ok()).unwrap_or(0)
}
