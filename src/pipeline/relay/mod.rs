//! The relay's loop: a batch of presses is read, decoded, enriched, encoded and committed as one transaction with its
//! offsets and dead letters; whatever goes wrong inside one has the same cure, in `RelayWorker::recover`.

#[cfg(feature = "mutants")]
mod leak;
pub mod letters;
pub mod metrics;
mod shared;
mod stages;
mod transaction;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::message::Message;

pub use self::shared::{PlaceLookup, RelayShared, Work};
use self::stages::{Kernel, PressKernel, Stages};
use self::transaction::{Outcome, Relay};
use crate::avro::registry::SchemaId;
use crate::config::Delivery;
use crate::kafka::advice::{Advice, PipelinePart};
use crate::kafka::consumer::{
    BatchLimits, OpenTransactions, PolledBatch, PositionStore, Source, SourceError, SourceOptions,
};
use crate::kafka::coordinator::Phase;
use crate::kafka::dead_letter::Reason;
use crate::kafka::lag::Progress;
use crate::kafka::producer::{TransactionError, Writer};
use crate::kafka::replay_range::ReplayRange;
use crate::pipeline::plan::kernel as planned;
use crate::pipeline::plan::place_fields::PlaceFields;
use crate::pipeline::press::decode::{Decoder, Limits};
use crate::pipeline::press::enrich::{Enricher, Fragments};
use crate::pipeline::relay::metrics::WorkerMetrics;
use crate::place::Coarsening;
use crate::runtime::backoff::Backoff;
use crate::runtime::fault::Fault;
use crate::runtime::supervise::{WorkerError, sleep_unless};

/// How long a poll waits for the first record before the worker looks after other things.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long one attempt to make a producer may take.
const INIT_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a schema that the registry does not have is waited for.
const SCHEMA_PATIENCE: Duration = Duration::from_secs(30);
/// Most schemas of which that is remembered: the ids are the sender's.
const MOST_UNKNOWN_SCHEMAS: usize = 10_000;
/// How long a worker that ends may take to end its transaction.
const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// One worker: a consumer, a producer and what happens in between.
pub struct RelayWorker {
    slot: usize,
    source: Source,
    relay: Relay,
    epoch_shown: u64,
    open_transactions: OpenTransactions,
    /// Pauses between failures in a row; `None` since a batch was committed.
    failing: Option<Backoff>,
}

impl RelayWorker {
    /// Connects a worker. `metrics` outlives restarts.
    pub fn open(shared: Arc<RelayShared>, slot: usize) -> Result<Self, WorkerError> {
        let config = &shared.config;
        let advice = Advice::new(&config.name, PipelinePart::Relay);
        let source = Source::open(SourceOptions {
            kafka: &config.kafka,
            topic: &config.source.topic,
            group: config.group(),
            member: config.source.static_membership.then(|| format!("{}.{slot}", config.instance)),
            topic_ids: config.source.topic_ids,
            fetch_kb: shared.memory.fetch_kb,
            position_store: PositionStore::Group {
                policy: config.source.start,
                output_topic: config.output.topic.clone(),
            },
            advice: advice.clone(),
            committed_watermark: Arc::clone(&shared.committed_watermark),
            stop: Arc::clone(&shared.stop),
            replay_range: shared.replay_range.clone(),
            breaker: Arc::clone(&shared.breaker),
        })?;
        let (id, output) = (config.transactional_id(slot), Arc::clone(&shared.output));
        let writer = Writer::new(&config.kafka, config.delivery, id, output).map_err(WorkerError::from)?;
        let stages = Stages::new(kernel(&shared)?);
        let open_transactions =
            OpenTransactions::new(advice, &config.source.topic, config.kafka.open_transaction_warn());
        let coordinator = ReplayRange::coordinator(shared.replay_range.as_deref());
        let metrics = WorkerMetrics::new(&config.name, slot);
        let last_timestamp_ms = BTreeMap::new();
        Ok(Self {
            slot,
            source,
            relay: Relay { shared, writer, coordinator, stages, metrics, last_timestamp_ms },
            epoch_shown: 0,
            open_transactions,
            failing: None,
        })
    }

    /// Relays until the pipeline stops, or a bounded run is over. Errors: see [`WorkerError`]; nothing is half done then.
    pub fn run(&mut self) -> Result<(), WorkerError> {
        // Before the first poll, so that what a predecessor left open is ended before its offsets are asked for.
        self.reopen()?;
        while !self.stopping() {
            self.relay.shared.status.worker_turned(self.slot);
            if self.relay.coordinator.phase() != Phase::Ready || !self.relay.writer.is_open() {
                self.recover()?;
                continue;
            }
            if self.source.is_through(&self.relay.coordinator)? {
                return Ok(());
            }
            let turned = Instant::now();
            self.relay.stages.refresh();
            self.relay.stages.refreshed += turned.elapsed();
            self.relay.stages.tagged =
                self.relay.shared.config.place.build_header || self.relay.shared.tag_stale.load(Ordering::Relaxed);
            let limits = BatchLimits::from(&self.relay.shared.config.batch).within(self.relay.shared.memory);
            let mut batch = PolledBatch::default();
            let polled = self.source.poll_batch(&mut self.relay.coordinator, limits, PATIENCE, &mut batch)?;
            if let Some(trigger) = polled {
                self.source.same_topic_after_silence()?;
                learn(&self.relay.shared, &mut self.relay.stages, &batch)?;
                let outcome = self.relay.relay(&self.source, &batch, trigger)?;
                self.after(outcome);
            } else if self.source.in_touch() && self.source.has_joined(&self.relay.coordinator) {
                self.relay.shared.status.worker_idle(self.slot);
            }
            self.observe()?;
        }
        Ok(())
    }

    /// Ends what is open, unless the worker was `fenced`, and leaves the group.
    pub fn close(mut self, fenced: bool, timeout: Duration) {
        if fenced {
            self.relay.writer.close();
        } else {
            self.relay.writer.finish(FINISH_TIMEOUT);
        }
        self.source.close(timeout);
    }

    fn stopping(&self) -> bool {
        self.relay.shared.stop.load(Ordering::Acquire)
    }

    /// What a batch says of the worker's state: only one that went through shows that it can write.
    fn after(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Committed => {
                self.failing = None;
                let counts = &self.relay.stages.ledger.counts;
                let dead = Reason::ALL.iter().zip(counts.dead).filter(|(_, count)| *count > 0);
                let dead: Vec<_> = dead.map(|(reason, count)| (reason.code(), count)).collect();
                self.relay.shared.status.settled(counts.written, counts.filtered, &dead);
                self.relay.shared.status.worker_positions(self.slot, self.relay.coordinator.positions());
                self.relay.shared.status.worker_wrote(self.slot);
            }
            Outcome::Failed(fault) => {
                self.relay.shared.status.worker_failed(self.slot, &fault, "PresslineTransactionsAborted");
                match &mut self.failing {
                    // The first failure is met at once: most of them are over when the new producer is made.
                    None => self.failing = Some(Backoff::default()),
                    Some(pause) => sleep_unless(pause.next_wait(), &self.relay.shared.stop),
                }
            }
            Outcome::Unharmed => {}
        }
    }

    /// The one way out of every failed or doubtful transaction: a new producer (whose InitProducerId ends what was
    /// open), then the committed offsets. Only the producer is replaced where positions are known.
    fn recover(&mut self) -> Result<(), WorkerError> {
        self.relay.metrics.recovered();
        self.recovering();
        self.reopen()?;
        if self.relay.coordinator.phase() != Phase::Lost {
            return Ok(());
        }
        self.recovering();
        let mut pause = Backoff::default();
        while !self.stopping() {
            match self.source.rewind(&self.relay.coordinator) {
                Ok(committed) => {
                    let missing = self.relay.coordinator.rewound(&committed);
                    if missing.is_empty() {
                        self.ready_if_joined();
                        return Ok(());
                    }
                    sleep_unless(pause.next_wait(), &self.relay.shared.stop);
                }
                Err(error @ (SourceError::Refused(_) | SourceError::Stale(_))) => return Err(error.into()),
                Err(SourceError::Transient(fault)) => self.wait(&mut pause, &fault),
            }
        }
        Ok(())
    }

    /// Not ready from now on: with a broker that keeps silent each step of a recovery may block for long.
    fn recovering(&self) {
        // Of a batch that failed again the reason stays.
        if self.failing.is_none() {
            self.relay
                .shared
                .status
                .worker_waits(self.slot, "recovering: a new producer and the committed offsets are waited for");
        }
    }

    /// Ready, once the group has taken us: before that no record can come.
    fn ready_if_joined(&self) {
        let status = &self.relay.shared.status;
        if self.source.has_joined(&self.relay.coordinator) {
            status.worker_ready(self.slot);
        } else {
            status.worker_joins(self.slot);
        }
    }

    /// A new producer, for as long as it takes.
    fn reopen(&mut self) -> Result<(), WorkerError> {
        let mut pause = Backoff::default();
        while !self.stopping() {
            match self.relay.writer.reopen(INIT_TIMEOUT) {
                Ok(()) => {
                    self.ready_if_joined();
                    return Ok(());
                }
                Err(TransactionError::Recover { fault, .. }) => self.wait(&mut pause, &fault),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn wait(&self, pause: &mut Backoff, fault: &Fault) {
        self.relay.writer.serve();
        let config = &self.relay.shared.config;
        let length = pause.next_wait();
        self.relay.shared.status.worker_failed(self.slot, fault, "PresslineNotReady");
        tracing::warn!(
            pipeline = %config.name, worker = self.slot, topic = fault.topic, partition = fault.partition, code = fault.code,
            retry_in_ms = length.as_millis(), "{fault}; brokers: {}", config.kafka.bootstrap_servers
        );
        sleep_unless(length, &self.relay.shared.stop);
    }

    /// Metrics and the slow checks, between batches.
    fn observe(&mut self) -> Result<(), WorkerError> {
        self.relay.writer.serve();
        if self.relay.coordinator.epoch() != self.epoch_shown {
            self.epoch_shown = self.relay.coordinator.epoch();
            self.ready_if_joined();
            let positions = self.relay.coordinator.positions();
            self.relay.metrics.rebalanced(positions);
            self.relay.shared.status.worker_positions(self.slot, positions);
            self.relay.last_timestamp_ms.retain(|partition, _| positions.contains_key(partition));
        }
        if !self.relay.coordinator.positions().is_empty() && self.relay.writer.is_open() {
            announce(&self.relay.shared);
        }
        if let Some(statistics) = self.source.take_statistics() {
            let positions = self.relay.coordinator.positions();
            let settled = self.relay.coordinator.phase() == Phase::Ready;
            let topic = statistics.topics.get(self.source.topic());
            let behind = self.open_transactions.observe(topic, positions, Instant::now());
            self.relay.shared.status.worker_notes(self.slot, self.open_transactions.note());
            let progress =
                Progress { positions, last_timestamp_ms: &self.relay.last_timestamp_ms, settled, behind: &behind };
            self.relay.shared.status.lag(&self.relay.metrics.statistics(&statistics, self.source.topic(), &progress));
            if let Some(stats) = self.relay.stages.cache_stats() {
                self.relay.metrics.cache(&stats);
            }
            self.relay.shared.status.worker_reaches_brokers(self.slot, self.source.in_touch());
            if self.source.in_touch() {
                self.ready_if_joined();
            }
        }
        Ok(self.source.same_topic_still()?)
    }
}

/// Says, once, what is relayed: producer and partitions are there, so the guarantee holds from now on.
fn announce(shared: &RelayShared) {
    if shared.is_announced.swap(true, Ordering::Relaxed) {
        return;
    }
    let config = &shared.config;
    match config.delivery {
        Delivery::ExactlyOnce => tracing::info!(
            pipeline = %config.name, from = %config.source.topic, to = %config.output.topic, group = %config.group(),
            instance = %config.instance, workers = config.workers, "relaying, each event exactly once"
        ),
        Delivery::AtLeastOnce => tracing::warn!(
            pipeline = %config.name, from = %config.source.topic, to = %config.output.topic, group = %config.group(),
            instance = %config.instance, workers = config.workers,
            "relaying AT LEAST ONCE: after a crash the last batch may be written twice"
        ),
    }
}

/// Gets the schemas that the batch's records bring for the first time: before a transaction is open, because nothing may wait inside one.
fn learn(shared: &RelayShared, stages: &mut Stages, batch: &PolledBatch<'_>) -> Result<(), WorkerError> {
    let Some(kernel) = stages.planned() else { return Ok(()) };
    for record in &batch.records {
        let Some(id) = kernel.unknown_schema(record.payload()) else { continue };
        let error = match shared.runtime.block_on(shared.registry.schema_by_id(SchemaId(id))) {
            Ok(schema) => {
                kernel.learn(id, &schema);
                continue;
            }
            Err(error) => error,
        };
        let message =
            format!("{error} (the id of a record at partition {} offset {})", record.partition(), record.offset());
        if !error.is_absent() {
            return Err(WorkerError::transient(message));
        }
        let mut unknown = shared.unknown_schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.len() > MOST_UNKNOWN_SCHEMAS {
            unknown.clear();
        }
        let since = *unknown.entry(id).or_insert_with(Instant::now);
        if since.elapsed() < SCHEMA_PATIENCE {
            return Err(WorkerError::transient(format!(
                "{message}; a registry that was just started may not know it yet, so it is waited for {} s, then such records \
                 are dead letters",
                SCHEMA_PATIENCE.as_secs()
            )));
        }
        kernel.is_absent(id);
    }
    Ok(())
}

/// A worker's kernel.
fn kernel(shared: &RelayShared) -> Result<Kernel, WorkerError> {
    let config = &shared.config;
    let enricher = |fragments: Arc<dyn Fragments>| {
        shared.lookup.as_ref().map(|lookup| {
            let (databases, caches) = (lookup.places.subscribe(), Arc::clone(&lookup.caches));
            Enricher::following(databases, caches, fragments, Coarsening::from(&config.place))
                .with_chain(Arc::clone(&lookup.chain))
        })
    };
    match &shared.work {
        Work::Press { actions, encoder } => {
            let limits =
                Limits { max_record_bytes: config.source.max_record_bytes, max_depth: config.source.max_depth };
            let decoder = Decoder::new(limits, Arc::clone(actions)).with_bad_ip(config.source.bad_ip);
            let Some(enricher) = enricher(encoder.clone()) else {
                return Err(WorkerError::refused("place.files: empty; name at least one mmdb file"));
            };
            Ok(Kernel::Press(Box::new(PressKernel::new(decoder, enricher, Arc::clone(encoder)))))
        }
        Work::Planned(frame) => planned::Kernel::new(Arc::clone(frame), enricher(Arc::new(PlaceFields)))
            .map(|kernel| Kernel::Planned(Box::new(kernel)))
            .map_err(WorkerError::refused),
    }
}
