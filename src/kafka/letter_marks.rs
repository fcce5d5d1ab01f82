//! Writes marks of letters outside of any transaction: acknowledged, and harmless if they are there twice.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::letters::{LetterId, Mark};
use super::producer::{OutputLimits, OutputRecord, TransactionError, Writer};
use crate::config::{Delivery, KafkaConfig};

/// How long a producer may take to be made.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);

/// Writes into one topic of dead letters.
pub struct MarkWriter {
    writer: Writer,
    topic: String,
}

impl MarkWriter {
    /// Prepares the producer; it is made for the first marks. Errors: settings.
    pub fn new(kafka: &KafkaConfig, topic: &str) -> Result<Self, TransactionError> {
        let limits = Arc::new(OutputLimits::new(kafka, vec![topic.to_string()]));
        let writer = Writer::new(kafka, Delivery::AtLeastOnce, String::new(), limits)?;
        Ok(Self { writer, topic: topic.to_string() })
    }

    /// Marks these letters, and waits until the broker has it. Errors: it does not take it.
    pub fn write(&mut self, letters: &[LetterId], mark: &Mark) -> Result<(), TransactionError> {
        if letters.is_empty() {
            return Ok(());
        }
        if !self.writer.is_open() {
            self.writer.reopen(OPEN_TIMEOUT)?;
        }
        let limits = self.writer.limits();
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let mut transaction = self.writer.begin()?;
        for id in letters {
            let key = id.key();
            transaction.send(OutputRecord {
                topic: &self.topic,
                key: Some(key.as_bytes()),
                value: None,
                timestamp_ms: limits.timestamp(&self.topic, Some(now_ms), now_ms),
                headers: Some(mark.headers(id)),
            })?;
        }
        transaction.deliver()
    }
}
