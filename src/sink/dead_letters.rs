//! Dead letters of a sink: acknowledged before its position moves, so at least once; their key tells duplicates.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{LoadError, RecordOrigin, Refusal, RetryClass};
use crate::config::sink::{LoadConfig, SinkConsumerConfig};
use crate::config::{Delivery, REPLAYS};
use crate::kafka::circuit_breaker::CircuitBreaker;
use crate::kafka::dead_letter;
use crate::kafka::dead_letter::header;
use crate::kafka::producer::{OutputLimits, OutputRecord, TransactionError, Writer};

/// Rows the circuit breaker looks back on.
pub(super) const WINDOW: usize = 10_000;
/// Rows of the same reason are logged no more often than this.
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// How long a producer may take to be made.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// One worker's dead letters.
pub struct DeadLetters {
    pipeline: String,
    sink: &'static str,
    /// Who writes the dead letters: the sink, or the replay.
    author: String,
    source_topic: String,
    topic: String,
    writer: Writer,
    breaker: Arc<CircuitBreaker>,
    /// Of the batch that is being written: dead or not, row by row.
    outcomes: Vec<bool>,
    /// Its dead letters, by [`super::Why::code`].
    counts: Vec<(&'static str, u64)>,
    /// How many of the outcomes are settled, and the counts as they were then: the position has moved behind them.
    settled: (usize, Vec<(&'static str, u64)>),
    /// What is logged, by reason.
    told: BTreeMap<&'static str, Told>,
}

/// Dead letters of one reason.
#[derive(Default)]
struct Told {
    /// Not told yet.
    count: u64,
    last: Option<(RecordOrigin, Refusal)>,
    /// When it was logged last.
    at: Option<Instant>,
}

impl DeadLetters {
    /// Prepares the producer; it is made when the first letter is written.
    pub fn new(
        config: &LoadConfig,
        sink: &'static str,
        consumer: &SinkConsumerConfig,
        breaker: Arc<CircuitBreaker>,
    ) -> Result<Self, String> {
        let limits = Arc::new(OutputLimits::new(&config.kafka, vec![config.dead_topic(consumer)]));
        let writer =
            Writer::new(&config.kafka, Delivery::AtLeastOnce, String::new(), limits).map_err(|e| e.to_string())?;
        Ok(Self {
            pipeline: config.name.clone(),
            sink,
            author: if config.name.starts_with(REPLAYS) { config.name.clone() } else { sink.to_string() },
            source_topic: config.topic().to_string(),
            topic: config.dead_topic(consumer),
            writer,
            breaker,
            outcomes: Vec::new(),
            counts: Vec::new(),
            settled: (0, Vec::new()),
            told: BTreeMap::new(),
        })
    }

    /// Hands out what the producer has to say, also while there are no dead letters.
    pub fn serve(&self) {
        self.writer.serve();
    }

    /// Writes the refused rows of `rows` to the dead-letter topic and waits until the broker has them. Errors: the
    /// circuit breaker, which stops the sink before anything is written; a broker that does not take them.
    pub fn settle(&mut self, rows: usize, refused: &[(RecordOrigin, Refusal)]) -> Result<(), LoadError> {
        let before = self.outcomes.len();
        self.outcomes.resize(before + rows.saturating_sub(refused.len()), false);
        self.outcomes.resize(before + rows.max(refused.len()), true);
        if let (Err(tripped), Some((origin, refusal))) = (self.breaker.check(&self.outcomes), refused.last()) {
            return Err(LoadError::refused(format!(
                "circuit breaker: {} of the last {} rows of topic {} cannot be written to the table, more than \
                 sink.{sink}.consumer.max_dead_share = {}; the last one, at partition {} offset {}: {refusal}. Fix the table \
                 or the pipeline's settings, or raise sink.{sink}.consumer.max_dead_share, and start again: the batch was \
                 rolled back, nothing is lost",
                tripped.dead,
                tripped.seen,
                self.source_topic,
                self.breaker.max_share(),
                origin.partition,
                origin.offset,
                sink = self.sink
            )));
        }
        if !refused.is_empty() {
            self.written(refused)?;
            for (origin, refusal) in refused {
                self.count(refusal.why.code());
                self.told.entry(refusal.why.code()).or_default().last = Some((*origin, refusal.clone()));
            }
        }
        Ok(())
    }

    /// Tells of rows that have another outcome, or none yet: nothing is counted.
    pub fn notice(&mut self, origin: RecordOrigin, refusal: Refusal) -> Result<(), LoadError> {
        self.written(&[(origin, refusal)])
    }

    fn written(&mut self, refused: &[(RecordOrigin, Refusal)]) -> Result<(), LoadError> {
        self.write(refused).map_err(|error| {
            LoadError::again(
                RetryClass::Transient,
                format!("dead letters cannot be written to topic {}: {error}", self.topic),
            )
        })
    }

    fn write(&mut self, refused: &[(RecordOrigin, Refusal)]) -> Result<(), TransactionError> {
        if !self.writer.is_open() {
            self.writer.reopen(OPEN_TIMEOUT)?;
        }
        let limits = self.writer.limits();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let mut transaction = self.writer.begin()?;
        for (origin, refusal) in refused {
            let (partition, offset) = (origin.partition.to_string(), origin.offset.to_string());
            let key = format!("{}/{partition}/{offset}/{}", self.source_topic, self.author);
            transaction.send(OutputRecord {
                topic: &self.topic,
                key: Some(key.as_bytes()),
                value: None,
                timestamp_ms: limits.timestamp(&self.topic, origin.timestamp_ms, now_ms),
                headers: Some(dead_letter::headers(
                    header::OF_SINK,
                    [
                        refusal.why.code(),
                        refusal.field(),
                        &refusal.to_string(),
                        &self.source_topic,
                        &partition,
                        &offset,
                        &self.author,
                        &self.pipeline,
                    ],
                )),
            })?;
        }
        transaction.deliver()
    }

    fn count(&mut self, code: &'static str) {
        match self.counts.iter_mut().find(|(known, _)| *known == code) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((code, 1)),
        }
    }

    /// The batch was written: only now do its dead letters count. Gives how many there were, by reason.
    pub fn confirm(&mut self) -> Vec<(&'static str, u64)> {
        self.breaker.settled(&self.outcomes);
        self.outcomes.clear();
        self.settled = (0, Vec::new());
        for (code, count) in &self.counts {
            self.told.entry(code).or_default().count += count;
        }
        self.tell();
        std::mem::take(&mut self.counts)
    }

    /// Tells the log of what it was not told of yet, of each reason once in a while.
    pub fn tell(&mut self) {
        for (reason, told) in &mut self.told {
            let is_due = told.at.is_none_or(|at| at.elapsed() >= TOLD_EVERY);
            let Some((origin, refusal)) = told.last.as_ref().filter(|_| is_due && told.count > 0) else { continue };
            tracing::warn!(
                pipeline = %self.pipeline, sink = self.sink, topic = %self.source_topic, dead_letter_topic = %self.topic, reason,
                rows = told.count, partition = origin.partition, offset = origin.offset,
                "rows cannot be written and became dead letters; the last one: {refusal}"
            );
            (told.count, told.at) = (0, Some(Instant::now()));
        }
    }

    /// The position has moved behind what was given to [`Self::settle`] so far.
    pub fn settled(&mut self) {
        self.settled = (self.outcomes.len(), self.counts.clone());
    }

    /// The rest of the batch is aborted, its records come again: only what is settled counts.
    pub fn forget(&mut self) {
        self.outcomes.truncate(self.settled.0);
        self.counts.clone_from(&self.settled.1);
    }
}
