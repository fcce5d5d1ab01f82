//! One batch, one transaction: what is written of it, and what its failure means for the worker.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rdkafka::message::Message;

#[cfg(feature = "mutants")]
use super::leak;
use super::metrics::WorkerMetrics;
use super::shared::RelayShared;
use super::stages::{Stages, timestamp_ms};
use crate::config::Delivery;
use crate::kafka::circuit_breaker::Tripped;
use crate::kafka::consumer::{PolledBatch, Source, SourceError, Trigger};
use crate::kafka::coordinator::{Coordinator, OpenTransaction};
use crate::kafka::dead_letter::Reject;
use crate::kafka::offset_note::Partition;
use crate::kafka::producer::{Cause, Committed, OutputRecord, TransactionError, Writer};
use crate::runtime::fault::Fault;
use crate::runtime::supervise::WorkerError;

/// What a worker relays batches with: all but its consumer, which lends the batch its records.
pub(super) struct Relay {
    pub(super) shared: Arc<RelayShared>,
    pub(super) writer: Writer,
    pub(super) coordinator: Coordinator,
    pub(super) stages: Stages,
    pub(super) metrics: WorkerMetrics,
    /// Timestamp of the last relayed record of each partition, for the lag in seconds.
    pub(super) last_timestamp_ms: BTreeMap<Partition, i64>,
}

/// How a batch ended.
pub(super) enum Outcome {
    Committed,
    /// Rolled back, for what may be so again.
    Failed(Fault),
    /// Rolled back, or not begun, for nothing that is wrong: partitions moved, or the pipeline stops.
    Unharmed,
}

impl Relay {
    /// Relays the batch in a transaction of its own. Errors: the worker cannot go on; nothing is half done then.
    pub(super) fn relay(
        &mut self,
        source: &Source,
        batch: &PolledBatch<'_>,
        trigger: Trigger,
    ) -> Result<Outcome, WorkerError> {
        let Some(open) = self.coordinator.begin() else { return Ok(Outcome::Unharmed) };
        let began = Instant::now();
        match self.write_and_commit(source, batch, &open) {
            Ok(Committed { .. }) => {
                self.committed(source, batch, open);
                self.metrics.settled(&self.stages.ledger.counts, trigger, began.elapsed());
                Ok(Outcome::Committed)
            }
            Err(failure) => {
                self.coordinator.given_up(open);
                self.rolled_back(failure)
            }
        }
    }

    fn write_and_commit(
        &mut self,
        source: &Source,
        batch: &PolledBatch<'_>,
        open: &OpenTransaction,
    ) -> Result<Committed, Failure> {
        let (config, breaker, stages) = (&self.shared.config, &self.shared.breaker, &mut self.stages);
        let group = source.group_metadata()?;
        let limits = self.writer.limits();
        let mut transaction = self.writer.begin()?;
        stages.clear();
        stages.ledger.counts.bytes_in = batch.bytes as u64;
        let began = Instant::now();
        let send = |output: OutputRecord<'_>| transaction.send(output);
        let last_reject = stages.relay(&batch.records, now_us(), config, &limits, send)?;
        stages.ledger.counts.work = std::mem::take(&mut stages.refreshed) + began.elapsed();
        if let (Err(tripped), Some(reject)) = (breaker.check(&stages.ledger.outcomes), last_reject) {
            return Err(Failure::Tripped(tripped, reject));
        }
        crate::testing::fail_point::hit("after_produce");
        #[cfg(feature = "mutants")]
        let group = if crate::testing::mutant::is("poll_inside") {
            source.poll_inside();
            source.group_metadata()?
        } else {
            group
        };
        if !self.coordinator.may_commit(open) {
            return Err(Failure::Rebalanced);
        }
        let offsets = source.offsets(open.offsets(), &stages.ledger.tallies);
        #[cfg(feature = "mutants")]
        let offsets = leak::into_offsets(&batch.records, offsets);
        let committed = transaction.commit(&offsets, group)?;
        if config.delivery == Delivery::AtLeastOnce {
            source.commit(&offsets)?;
        }
        Ok(committed)
    }

    /// The batch's outcomes are final: positions move, and metrics, status and circuit breaker are updated.
    fn committed(&mut self, source: &Source, batch: &PolledBatch<'_>, open: OpenTransaction) {
        let ledger = &self.stages.ledger;
        source.acknowledged(open.offsets());
        source.settled(open.offsets(), &ledger.tallies);
        self.coordinator.committed(open);
        let now_us = now_us();
        // Records of a partition mostly come in long runs, of which the last one tells.
        for run in batch.records.chunk_by(|one, next| one.partition() == next.partition()) {
            if let Some((record, ms)) = run.last().and_then(|last| Some((last, timestamp_ms(last, now_us)?))) {
                self.last_timestamp_ms.insert(record.partition(), ms);
            }
        }
        self.shared.breaker.settled(&ledger.outcomes);
    }

    /// What a batch that was rolled back means for the worker.
    fn rolled_back(&self, failure: Failure) -> Result<Outcome, WorkerError> {
        let (config, metrics) = (&self.shared.config, &self.metrics);
        let pipeline = &config.name;
        match failure {
            Failure::Transaction(TransactionError::Recover { cause: Cause::Stop, .. }) => {
                metrics.aborted(Cause::Stop);
                Ok(Outcome::Unharmed)
            }
            Failure::Transaction(TransactionError::Recover { cause, fault }) => {
                metrics.aborted(cause);
                let code = &fault.code;
                tracing::warn!(%pipeline, %cause, code, "transaction aborted, re-reading its records: {fault}");
                Ok(Outcome::Failed(fault))
            }
            Failure::Transaction(error) => Err(error.into()),
            Failure::Source(error) => {
                metrics.aborted(Cause::Transport);
                Err(error.into())
            }
            Failure::Rebalanced => {
                metrics.aborted(Cause::Rebalance);
                tracing::info!(%pipeline, "transaction aborted after a rebalance, re-reading its records");
                Ok(Outcome::Unharmed)
            }
            Failure::Tripped(tripped, reject) => {
                metrics.aborted(Cause::CircuitBreaker);
                Err(WorkerError::refused(format!(
                    "circuit breaker: {} of the last {} records of topic {} are dead letters, more than \
                     dead_letter.max_dead_share = {}; the last one: {reject}. Fix the sender or the pipeline's settings, or raise \
                     dead_letter.max_dead_share, and start again: the batch was rolled back, nothing is lost",
                    tripped.dead, tripped.seen, config.source.topic, config.dead_letter.max_dead_share
                )))
            }
        }
    }
}

/// Why a batch was aborted.
enum Failure {
    Transaction(TransactionError),
    Source(SourceError),
    Rebalanced,
    Tripped(Tripped, Reject),
}

impl From<TransactionError> for Failure {
    fn from(error: TransactionError) -> Self {
        Self::Transaction(error)
    }
}

impl From<SourceError> for Failure {
    fn from(error: SourceError) -> Self {
        Self::Source(error)
    }
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_micros()).ok()).unwrap_or(0)
}
