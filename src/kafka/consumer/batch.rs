//! Where polled records go, how many of them, and what ended a batch.

use std::time::Duration;

use rdkafka::message::{BorrowedMessage, Headers, Message};

use crate::config::{BatchConfig, MemoryShare};
use crate::kafka::offset_note::Partition;

/// What librdkafka and we hold of a record beside its bytes, roughly: its message, and its entry in the batch.
const RECORD_OVERHEAD: usize = 512;

/// Where polled records go: the relay keeps them in librdkafka's memory, the load copies their bytes.
pub trait BatchBuilder<'s> {
    /// Takes a record that belongs to the batch.
    fn take(&mut self, record: BorrowedMessage<'s>);
    /// Drops the records of partitions that went away.
    fn forget(&mut self, partitions: &[Partition]);
    /// Records taken.
    fn len(&self) -> usize;
    /// Nothing taken.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// Records taken of the partition that has the most.
    fn fullest(&self) -> usize {
        self.len()
    }
    /// Bytes of their keys and values.
    fn bytes(&self) -> usize;
    /// Bytes of memory that they hold, with everything that comes along.
    fn held(&self) -> usize;
}

/// Limits of one batch.
#[derive(Clone, Copy, Debug)]
pub struct BatchLimits {
    /// Records.
    pub records: usize,
    /// `records` is the most of one partition, not of all.
    pub by_partition: bool,
    /// Bytes of values.
    pub bytes: usize,
    /// Bytes of memory, with keys, headers and what each record costs beside them.
    pub memory: usize,
    /// From the first record on.
    pub wait: Duration,
}

impl From<&BatchConfig> for BatchLimits {
    fn from(config: &BatchConfig) -> Self {
        Self {
            records: config.max_records,
            by_partition: false,
            bytes: config.max_bytes,
            memory: usize::MAX,
            wait: Duration::from_millis(config.max_wait_ms),
        }
    }
}

impl BatchLimits {
    /// Whether what was taken has the bytes of a batch.
    pub fn filled<'s>(self, batch: &impl BatchBuilder<'s>) -> bool {
        batch.bytes() >= self.bytes || batch.held() >= self.memory
    }

    /// Whether what was taken has the records of a batch.
    pub fn reached<'s>(self, batch: &impl BatchBuilder<'s>) -> bool {
        (if self.by_partition { batch.fullest() } else { batch.len() }) >= self.records
    }

    /// No more bytes than the worker's share of the process's memory.
    pub fn within(self, memory: MemoryShare) -> Self {
        Self { bytes: self.bytes.min(memory.batch_bytes), memory: memory.batch_bytes, ..self }
    }
}

/// Records of one batch, in the order they were polled: within a partition by offset.
#[derive(Default)]
pub struct PolledBatch<'s> {
    /// The records, still in librdkafka's memory.
    pub records: Vec<BorrowedMessage<'s>>,
    /// Bytes of their values.
    pub bytes: usize,
    key_bytes: usize,
    held: usize,
}

impl<'s> BatchBuilder<'s> for PolledBatch<'s> {
    fn take(&mut self, record: BorrowedMessage<'s>) {
        self.bytes += record.payload_len();
        self.key_bytes += record.key_len();
        self.held += held(&record);
        self.records.push(record);
    }

    fn forget(&mut self, partitions: &[Partition]) {
        self.records.retain(|record| !partitions.contains(&record.partition()));
        self.bytes = self.records.iter().map(|record| record.payload_len()).sum();
        self.key_bytes = self.records.iter().map(|record| record.key_len()).sum();
        self.held = self.records.iter().map(held).sum();
    }

    fn len(&self) -> usize {
        self.records.len()
    }

    fn bytes(&self) -> usize {
        self.bytes + self.key_bytes
    }

    fn held(&self) -> usize {
        self.held
    }
}

/// What a record holds: a sender may put as much into keys and headers as into values.
fn held(record: &BorrowedMessage<'_>) -> usize {
    let headers = record
        .headers()
        .map_or(0, |headers| headers.iter().map(|header| header.key.len() + header.value.map_or(0, <[u8]>::len)).sum());
    record.payload_len() + record.key_len() + headers + RECORD_OVERHEAD
}

/// What ended a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// `batch.max_records`.
    Records,
    /// `batch.max_bytes`.
    Bytes,
    /// `batch.max_wait_ms`.
    Time,
}

impl Trigger {
    /// All triggers, for the metric's labels.
    pub const ALL: [Trigger; 3] = [Self::Records, Self::Bytes, Self::Time];

    /// Label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Records => "records",
            Self::Bytes => "bytes",
            Self::Time => "time",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::MemoryConfig;

    #[test]
    fn the_batches_of_all_workers_share_one_budget() {
        let limits = BatchLimits {
            records: 100_000,
            by_partition: false,
            bytes: 32 << 20,
            memory: usize::MAX,
            wait: Duration::from_secs(1),
        };
        let bytes = |batch_mb, workers| limits.within(MemoryConfig { fetch_mb: 32, batch_mb }.share(workers)).bytes;
        assert_eq!(bytes(128, 2), 32 << 20, "its own limit is the smaller one");
        assert_eq!(bytes(128, 8), 16 << 20);
        assert_eq!(bytes(4, 8), 1 << 20, "something must fit");
        assert_eq!(limits.within(MemoryConfig { fetch_mb: 32, batch_mb: 128 }.share(2)).memory, 64 << 20);
        assert_eq!(limits.within(MemoryConfig::default().share(8)).records, 100_000);
    }
}
