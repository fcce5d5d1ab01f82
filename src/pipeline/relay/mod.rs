//! The relay's loop: a batch of presses is read, decoded, enriched, encoded and committed as one transaction with its
//! offsets and dead letters; whatever goes wrong inside one has the same cure, in `Worker::recover`.

#[cfg(feature = "mutants")]
mod leak;
pub mod metrics;
mod stages;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::message::Message;
use tokio::runtime::Handle;

use self::stages::{Kernel, PressKernel, Stages, timestamp_ms};
use crate::avro::registry::{Registry, SchemaId};
use crate::config::{Delivery, MemoryShare, PipelineConfig};
use crate::kafka::advice::{Advice, Part};
use crate::kafka::circuit_breaker::{CircuitBreaker, Tripped};
use crate::kafka::consumer::{
    Batch, BatchLimits, CommittedWatermark, OpenTransactions, PositionStore, Source, SourceError, SourceOptions,
    Trigger,
};
use crate::kafka::coordinator::{Coordinator, OpenTransaction, Phase};
use crate::kafka::dead_letter::{Reason, Reject};
use crate::kafka::lag::Progress;
use crate::kafka::offset_note::Partition;
use crate::kafka::producer::{Cause, Committed, OutputLimits, OutputRecord, TransactionError, Writer};
use crate::kafka::replay_range::ReplayRange;
use crate::pipeline::plan::kernel::{self as planned, Frame};
use crate::pipeline::plan::place_fields::PlaceFields;
use crate::pipeline::press::decode::{Decoder, Limits};
use crate::pipeline::press::encode::Encoder;
use crate::pipeline::press::enrich::{Caches, Enricher, Fragments};
use crate::pipeline::press::event::Actions;
use crate::pipeline::relay::metrics::WorkerMetrics;
use crate::place::{Chain, Coarsening, DatabaseSet};
use crate::runtime::backoff::Backoff;
use crate::runtime::status::Status;
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

/// What all workers of a pipeline share: made once, before the first worker starts.
pub struct Shared {
    /// Configuration.
    pub config: PipelineConfig,
    /// What makes outputs of records.
    pub work: Work,
    /// Where places come from, where they are looked up.
    pub lookup: Option<PlaceLookup>,
    /// Where schemas of records come from.
    pub registry: Arc<Registry>,
    /// What the registry is asked on.
    pub runtime: Handle,
    /// Schemas that the registry does not have, and since when records have them.
    pub unknown_schemas: Mutex<BTreeMap<u32, Instant>>,
    /// Set while output records are to be tagged since a database is stale.
    pub tag_stale: Arc<AtomicBool>,
    /// What each worker may hold.
    pub memory: MemoryShare,
    /// What this process knows to be committed.
    pub committed_watermark: Arc<CommittedWatermark>,
    /// Stops the pipeline when too much becomes dead letters.
    pub breaker: Arc<CircuitBreaker>,
    /// What the topics take that are written to.
    pub output: Arc<OutputLimits>,
    /// It was said what is relayed, and with which guarantee.
    pub is_announced: AtomicBool,
    /// Relays only what lies within; `None`: without end.
    pub replay_range: Option<Arc<ReplayRange>>,
    /// Set when the pipeline is to stop.
    pub stop: Arc<AtomicBool>,
    /// What `/readyz` tells.
    pub status: Arc<Status>,
}

/// What makes outputs of records: the same for all workers.
pub enum Work {
    /// The press kernel.
    Press {
        /// Allow list of actions.
        actions: Arc<Actions>,
        /// Plan of the output's schema.
        encoder: Arc<Encoder>,
    },
    /// The pipeline file's plan.
    Planned(Arc<Frame>),
}

/// Where places come from.
pub struct PlaceLookup {
    /// GeoIP databases.
    pub places: Arc<DatabaseSet>,
    /// Steps of the place lookup behind them.
    pub chain: Arc<Chain>,
    /// Ready-made fragments.
    pub caches: Arc<Caches>,
}

/// One worker: a consumer, a producer and what happens in between.
pub struct Worker {
    slot: usize,
    shared: Arc<Shared>,
    source: Source,
    writer: Writer,
    coordinator: Coordinator,
    stages: Stages,
    metrics: WorkerMetrics,
    /// Timestamp of the last relayed record of each partition, for the lag in seconds.
    last_timestamp_ms: BTreeMap<Partition, i64>,
    epoch_shown: u64,
    open_transactions: OpenTransactions,
    /// Pauses between failures in a row; `None` since a batch was committed.
    failing: Option<Backoff>,
}

impl Worker {
    /// Connects a worker. `metrics` outlives restarts.
    pub fn open(shared: Arc<Shared>, slot: usize) -> Result<Self, WorkerError> {
        let config = &shared.config;
        let advice = Advice::new(&config.name, Part::Relay);
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
        let writer = Writer::new(&config.kafka, config.delivery, id, output).map_err(refused)?;
        let stages = Stages::new(kernel(&shared)?);
        let open_transactions =
            OpenTransactions::new(advice, &config.source.topic, config.kafka.open_transaction_warn());
        Ok(Self {
            slot,
            metrics: WorkerMetrics::new(&config.name, slot),
            source,
            writer,
            coordinator: ReplayRange::coordinator(shared.replay_range.as_deref()),
            stages,
            shared,
            last_timestamp_ms: BTreeMap::new(),
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
            self.shared.status.worker_turned(self.slot);
            if self.coordinator.phase() != Phase::Ready || !self.writer.is_open() {
                self.recover()?;
                continue;
            }
            if self.source.is_through(&self.coordinator)? {
                return Ok(());
            }
            let turned = Instant::now();
            self.stages.refresh();
            self.stages.refreshed += turned.elapsed();
            self.stages.tagged = self.shared.config.place.build_header || self.shared.tag_stale.load(Ordering::Relaxed);
            let limits = BatchLimits::from(&self.shared.config.batch).within(self.shared.memory);
            let mut batch = Batch::default();
            let polled = self.source.poll_batch(&mut self.coordinator, limits, PATIENCE, &mut batch)?;
            if let Some(trigger) = polled {
                self.source.same_topic_after_silence()?;
                learn(&self.shared, &mut self.stages, &batch)?;
                let outcome = relay_batch(
                    &self.shared.config,
                    &self.shared.breaker,
                    &self.source,
                    &mut self.writer,
                    &mut self.coordinator,
                    &mut self.stages,
                    &self.metrics,
                    &mut self.last_timestamp_ms,
                    &batch,
                    trigger,
                )?;
                self.after(outcome);
            } else if self.source.in_touch() && self.source.has_joined(&self.coordinator) {
                self.shared.status.worker_idle(self.slot);
            }
            self.observe()?;
        }
        Ok(())
    }

    /// Ends what is open, unless the worker was `fenced`, and leaves the group.
    pub fn close(mut self, fenced: bool, timeout: Duration) {
        if fenced {
            self.writer.close();
        } else {
            self.writer.finish(FINISH_TIMEOUT);
        }
        self.source.close(timeout);
    }

    fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// What a batch says of the worker's state: only one that went through shows that it can write.
    fn after(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Committed => {
                self.failing = None;
                let counts = &self.stages.ledger.counts;
                let dead = Reason::ALL.iter().zip(counts.dead).filter(|(_, count)| *count > 0);
                let dead: Vec<_> = dead.map(|(reason, count)| (reason.code(), count)).collect();
                self.shared.status.settled(counts.written, counts.filtered, &dead);
                self.shared.status.worker_positions(self.slot, self.coordinator.positions());
                self.shared.status.worker_wrote(self.slot);
            }
            Outcome::Failed(message) => {
                self.shared.status.worker_failed(self.slot, &message, "PresslineTransactionsAborted");
                match &mut self.failing {
                    // The first failure is met at once: most of them are over when the new producer is made.
                    None => self.failing = Some(Backoff::default()),
                    Some(pause) => sleep_unless(pause.next_wait(), &self.shared.stop),
                }
            }
            Outcome::Unharmed => {}
        }
    }

    /// The one way out of every failed or doubtful transaction: a new producer (whose InitProducerId ends what was
    /// open), then the committed offsets. Only the producer is replaced where positions are known.
    fn recover(&mut self) -> Result<(), WorkerError> {
        self.metrics.recovered();
        self.recovering();
        self.reopen()?;
        if self.coordinator.phase() != Phase::Lost {
            return Ok(());
        }
        self.recovering();
        let mut pause = Backoff::default();
        while !self.stopping() {
            match self.source.rewind(&self.coordinator) {
                Ok(committed) => {
                    let missing = self.coordinator.rewound(&committed);
                    if missing.is_empty() {
                        self.ready_if_joined();
                        return Ok(());
                    }
                    sleep_unless(pause.next_wait(), &self.shared.stop);
                }
                Err(error @ SourceError::Refused(_)) => return Err(error.into()),
                Err(SourceError::Transient(message)) => self.wait(&mut pause, &message),
            }
        }
        Ok(())
    }

    /// Not ready from now on: with a broker that keeps silent each step of a recovery may block for long.
    fn recovering(&self) {
        // Of a batch that failed again the reason stays.
        if self.failing.is_none() {
            self.shared
                .status
                .worker_waits(self.slot, "recovering: a new producer and the committed offsets are waited for");
        }
    }

    /// Ready, once the group has taken us: before that no record can come.
    fn ready_if_joined(&self) {
        let status = &self.shared.status;
        if self.source.has_joined(&self.coordinator) {
            status.worker_ready(self.slot);
        } else {
            status.worker_joins(self.slot);
        }
    }

    /// A new producer, for as long as it takes.
    fn reopen(&mut self) -> Result<(), WorkerError> {
        let mut pause = Backoff::default();
        while !self.stopping() {
            match self.writer.reopen(INIT_TIMEOUT) {
                Ok(()) => {
                    self.ready_if_joined();
                    return Ok(());
                }
                Err(TransactionError::Recover { message, .. }) => self.wait(&mut pause, &message),
                Err(error @ TransactionError::Fenced { .. }) => return Err(WorkerError::Fenced(error.to_string())),
                Err(error @ TransactionError::Fatal { .. }) => return Err(refused(error)),
            }
        }
        Ok(())
    }

    fn wait(&self, pause: &mut Backoff, message: &str) {
        self.writer.serve();
        let config = &self.shared.config;
        let length = pause.next_wait();
        self.shared.status.worker_failed(self.slot, message, "PresslineNotReady");
        tracing::warn!(
            pipeline = %config.name, worker = self.slot, retry_in_ms = length.as_millis(),
            "{message}; brokers: {}", config.kafka.bootstrap_servers
        );
        sleep_unless(length, &self.shared.stop);
    }

    /// Metrics and the slow checks, between batches.
    fn observe(&mut self) -> Result<(), WorkerError> {
        self.writer.serve();
        if self.coordinator.epoch() != self.epoch_shown {
            self.epoch_shown = self.coordinator.epoch();
            self.ready_if_joined();
            let positions = self.coordinator.positions();
            self.metrics.rebalanced(positions);
            self.shared.status.worker_positions(self.slot, positions);
            self.last_timestamp_ms.retain(|partition, _| positions.contains_key(partition));
        }
        if !self.coordinator.positions().is_empty() && self.writer.is_open() {
            announce(&self.shared);
        }
        if let Some(statistics) = self.source.take_statistics() {
            let positions = self.coordinator.positions();
            let settled = self.coordinator.phase() == Phase::Ready;
            let topic = statistics.topics.get(self.source.topic());
            let behind = self.open_transactions.observe(topic, positions, Instant::now());
            self.shared.status.worker_notes(self.slot, self.open_transactions.note());
            let progress = Progress { positions, last_timestamp_ms: &self.last_timestamp_ms, settled, behind: &behind };
            self.shared.status.lag(&self.metrics.statistics(&statistics, self.source.topic(), &progress));
            if let Some(stats) = self.stages.cache_stats() {
                self.metrics.cache(&stats);
            }
            self.shared.status.worker_reaches_brokers(self.slot, self.source.in_touch());
            if self.source.in_touch() {
                self.ready_if_joined();
            }
        }
        Ok(self.source.same_topic_still()?)
    }
}

/// Says, once, what is relayed: producer and partitions are there, so the guarantee holds from now on.
fn announce(shared: &Shared) {
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

/// Gets the schemas that the batch's records bring for the first time: before a transaction is open, in which nobody waits.
fn learn(shared: &Shared, stages: &mut Stages, batch: &Batch<'_>) -> Result<(), WorkerError> {
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
            return Err(WorkerError::Transient(message));
        }
        let mut unknown = shared.unknown_schemas.lock().unwrap_or_else(PoisonError::into_inner);
        if unknown.len() > MOST_UNKNOWN_SCHEMAS {
            unknown.clear();
        }
        let since = *unknown.entry(id).or_insert_with(Instant::now);
        if since.elapsed() < SCHEMA_PATIENCE {
            return Err(WorkerError::Transient(format!(
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
fn kernel(shared: &Shared) -> Result<Kernel, WorkerError> {
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
                return Err(WorkerError::Refused("place.files: empty; name at least one mmdb file".into()));
            };
            Ok(Kernel::Press(Box::new(PressKernel::new(decoder, enricher, Arc::clone(encoder)))))
        }
        Work::Planned(frame) => planned::Kernel::new(Arc::clone(frame), enricher(Arc::new(PlaceFields)))
            .map(|kernel| Kernel::Planned(Box::new(kernel)))
            .map_err(WorkerError::Refused),
    }
}

fn refused(error: TransactionError) -> WorkerError {
    WorkerError::Refused(error.to_string())
}

/// How a batch ended.
enum Outcome {
    Committed,
    /// Rolled back, for what may be so again.
    Failed(String),
    /// Rolled back, or not begun, for nothing that is wrong: partitions moved, or the pipeline stops.
    Unharmed,
}

/// One batch, one transaction.
#[allow(clippy::too_many_arguments)] // The worker's parts, apart, because the batch borrows one of them.
fn relay_batch(
    config: &PipelineConfig,
    breaker: &CircuitBreaker,
    source: &Source,
    writer: &mut Writer,
    coordinator: &mut Coordinator,
    stages: &mut Stages,
    metrics: &WorkerMetrics,
    last_timestamp_ms: &mut BTreeMap<Partition, i64>,
    batch: &Batch<'_>,
    trigger: Trigger,
) -> Result<Outcome, WorkerError> {
    let Some(open) = coordinator.begin() else { return Ok(Outcome::Unharmed) };
    let began = Instant::now();
    match write_and_commit(config, breaker, source, writer, coordinator, stages, batch, &open) {
        Ok(Committed { .. }) => {
            source.acknowledged(open.offsets());
            source.settled(open.offsets(), &stages.ledger.tallies);
            coordinator.committed(open);
            let now_us = now_us();
            // Records of a partition mostly come in long runs, of which the last one tells.
            for run in batch.records.chunk_by(|one, next| one.partition() == next.partition()) {
                if let Some((record, ms)) = run.last().and_then(|last| Some((last, timestamp_ms(last, now_us)?))) {
                    last_timestamp_ms.insert(record.partition(), ms);
                }
            }
            breaker.settled(&stages.ledger.outcomes);
            metrics.settled(&stages.ledger.counts, trigger, began.elapsed());
            Ok(Outcome::Committed)
        }
        Err(failure) => {
            coordinator.given_up(open);
            rolled_back(config, metrics, failure)
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

#[allow(clippy::too_many_arguments)] // As above.
fn write_and_commit(
    config: &PipelineConfig,
    breaker: &CircuitBreaker,
    source: &Source,
    writer: &mut Writer,
    coordinator: &Coordinator,
    stages: &mut Stages,
    batch: &Batch<'_>,
    open: &OpenTransaction,
) -> Result<Committed, Failure> {
    let group = source.group_metadata()?;
    let limits = writer.limits();
    let mut transaction = writer.begin()?;
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
    if !coordinator.may_commit(open) {
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

/// What a batch that was rolled back means for the worker.
fn rolled_back(config: &PipelineConfig, metrics: &WorkerMetrics, failure: Failure) -> Result<Outcome, WorkerError> {
    let pipeline = &config.name;
    match failure {
        Failure::Transaction(TransactionError::Recover { cause: Cause::Stop, .. }) => {
            metrics.aborted(Cause::Stop);
            Ok(Outcome::Unharmed)
        }
        Failure::Transaction(TransactionError::Recover { cause, message }) => {
            metrics.aborted(cause);
            tracing::warn!(%pipeline, %cause, "transaction aborted, re-reading its records: {message}");
            Ok(Outcome::Failed(message))
        }
        Failure::Transaction(error @ TransactionError::Fenced { .. }) => Err(WorkerError::Fenced(error.to_string())),
        Failure::Transaction(error @ TransactionError::Fatal { .. }) => Err(refused(error)),
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
            Err(WorkerError::Refused(format!(
                "circuit breaker: {} of the last {} records of topic {} are dead letters, more than \
                 dead_letter.max_dead_share = {}; the last one: {reject}. Fix the sender or the pipeline's settings, or raise \
                 dead_letter.max_dead_share, and start again: the batch was rolled back, nothing is lost",
                tripped.dead, tripped.seen, config.source.topic, config.dead_letter.max_dead_share
            )))
        }
    }
}

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).ok().and_then(|d| i64::try_from(d.as_micros()).ok()).unwrap_or(0)
}
