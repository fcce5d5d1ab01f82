//! The load's loop: a batch of records is read and written with its positions; whatever goes wrong has the same cure, to
//! ask the sink where it stands and read again from there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::change_events::ChangeEvents;
use super::change_rows::ChangeRows;
use super::changes::Changes;
use super::known_changes::KnownChanges;
use super::schemas::{Patience, Schema, Schemas};
use super::{DeadLetters, LoadError, RecordTypes, RetryClass, RowBatch, Sink, Tries, WriteContext, Written};
use crate::avro::Shape;
use crate::avro::format::Decoder;
use crate::avro::registry::Registry;
use crate::avro::schema::SchemaText;
use crate::config::MemoryShare;
use crate::config::changes::ChangesConfig;
use crate::config::format::{Format, FormatConfig};
use crate::config::sink::{ColumnsConfig, LoadConfig, SinkConsumerConfig};
use crate::kafka::advice::{Advice, PipelinePart};
use crate::kafka::circuit_breaker::CircuitBreaker;
use crate::kafka::consumer::{
    BatchBuilder, BatchLimits, CommittedWatermark, OpenTransactions, PositionStore, SinkPositions, Source, SourceError,
    SourceOptions, Trigger,
};
use crate::kafka::coordinator::{Coordinator, Phase};
use crate::kafka::lag::Progress;
use crate::kafka::offset_note::{NextOffset, Partition};
use crate::kafka::replay_range::ReplayRange;
use crate::runtime::backoff::Backoff;
use crate::runtime::fault::Fault;
use crate::runtime::status::Status;
use crate::runtime::supervise::WorkerError;
use crate::sink::metrics::SinkMetrics;

/// How long a poll waits for the first record before the worker looks after other things.
const PATIENCE: Duration = Duration::from_millis(500);
/// How long a begun range is waited for while nothing more of it comes, at first and at most: a fetch from tiered storage takes its
/// time, and the other partitions stand still meanwhile.
const RANGE_PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// Parts in which a long batch is read, for sinks that start early.
const PARTS: usize = 10;

/// Makes a sink for a worker. Errors: as those of a worker.
pub type MakeSink = dyn Fn() -> Result<Box<dyn Sink>, WorkerError> + Send + Sync;

/// What all workers of a sink share.
pub struct SinkShared {
    /// Configuration of the pipeline's sinks.
    pub config: LoadConfig,
    /// `postgres` or `clickhouse`.
    pub sink: &'static str,
    /// The same, for the commands that messages name.
    pub part: PipelinePart,
    /// How this sink reads.
    pub consumer: SinkConsumerConfig,
    /// Limits of a batch.
    pub limits: BatchLimits,
    /// Whether records are changes, and whether these have a version.
    pub changes: (ChangesConfig, bool),
    /// Fields and columns.
    pub columns: ColumnsConfig,
    /// Where positions are asked for at an assignment.
    pub positions: Arc<dyn SinkPositions>,
    /// Makes each worker's sink.
    pub make_sink: Box<MakeSink>,
    /// Asked for schemas.
    pub registry: Arc<Registry>,
    /// Runs what is asynchronous.
    pub runtime: Handle,
    /// What each worker may hold.
    pub memory: MemoryShare,
    /// What this process knows to be committed.
    pub committed_watermark: Arc<CommittedWatermark>,
    /// Stops the sink when too many rows are dead letters.
    pub breaker: Arc<CircuitBreaker>,
    /// Loads only what lies within; `None`: without end.
    pub replay_range: Option<Arc<ReplayRange>>,
    /// Set when the sink is to stop.
    pub stop: Arc<AtomicBool>,
    /// What `/readyz` tells.
    pub status: Arc<Status>,
}

/// One worker: a consumer, a sink and what happens in between.
pub struct SinkWorker {
    slot: usize,
    shared: Arc<SinkShared>,
    source: Source,
    sink: Box<dyn Sink>,
    dead_letters: DeadLetters,
    schemas: Schemas,
    /// Where records are changes.
    changes: Option<KnownChanges>,
    coordinator: Coordinator,
    batch: RowBatch,
    /// What the sink has taken for the start of the batch.
    starting: Duration,
    pause: Backoff,
    /// Batches aborted in a row.
    failed: u32,
    tries: Tries,
    metrics: SinkMetrics,
    /// Timestamp of the last loaded record of each partition, for the lag in seconds.
    last_timestamp_ms: BTreeMap<Partition, i64>,
    epoch_shown: u64,
    open_transactions: OpenTransactions,
    /// Partitions of which a begun range waits for its last records, and how long each time.
    awaited: (Vec<Partition>, Duration),
}

impl SinkWorker {
    /// Connects a worker: the database first, so that one that cannot write takes no partitions.
    pub fn open(shared: Arc<SinkShared>, slot: usize) -> Result<Self, WorkerError> {
        let (config, consumer) = (&shared.config, &shared.consumer);
        let mut sink = (shared.make_sink)()?;
        let schemas = |format| {
            let patience = Patience {
                wait: consumer.unknown_schema_wait_ms.map(Duration::from_millis),
                key: format!("sink.{}.consumer.unknown_schema_wait_ms", shared.sink),
            };
            Schemas::new(format, Arc::clone(&shared.registry), shared.runtime.clone(), patience)
        };
        let format = config.format();
        let (batch, changes) = records(&shared, &format, schemas(FormatConfig::default()))
            .map_err(|what| WorkerError::refused(format!("source: {what}")))?;
        let schemas = schemas(format).of_types(RecordTypes::of(config));
        prepare(&shared, &schemas, changes.as_ref(), sink.as_mut())?;
        let dead_letters = DeadLetters::new(config, shared.sink, consumer, Arc::clone(&shared.breaker))
            .map_err(WorkerError::refused)?;
        let advice = Advice::new(&config.name, shared.part);
        let source = Source::open(SourceOptions {
            kafka: &config.kafka,
            topic: config.topic(),
            group: config.group(shared.sink, consumer),
            member: consumer.static_membership.then(|| format!("{}.{}.{slot}", config.instance, shared.sink)),
            topic_ids: true,
            fetch_kb: shared.memory.fetch_kb,
            position_store: PositionStore::Sink(Arc::clone(&shared.positions)),
            advice: advice.clone(),
            committed_watermark: Arc::clone(&shared.committed_watermark),
            stop: Arc::clone(&shared.stop),
            replay_range: shared.replay_range.clone(),
            breaker: Arc::clone(&shared.breaker),
        })?;
        Ok(Self {
            slot,
            source,
            sink,
            dead_letters,
            schemas,
            coordinator: ReplayRange::coordinator(shared.replay_range.as_deref()),
            batch,
            changes,
            starting: Duration::ZERO,
            pause: first_pause(&shared.consumer),
            failed: 0,
            tries: Tries::new(Duration::from_millis(shared.consumer.retry_ms)),
            metrics: SinkMetrics::new(&config.name, shared.sink, slot),
            last_timestamp_ms: BTreeMap::new(),
            epoch_shown: 0,
            open_transactions: OpenTransactions::new(advice, config.topic(), config.kafka.open_transaction_warn()),
            awaited: (Vec::new(), RANGE_PATIENCE.0),
            shared,
        })
    }

    /// Loads until the sink stops, or a bounded run is over. Errors: see [`WorkerError`]; the positions tell then what is to be read again.
    pub fn run(&mut self) -> Result<(), WorkerError> {
        self.shared.status.worker_joins(self.slot);
        while !self.shared.stop.load(Ordering::Acquire) {
            self.shared.status.worker_turned(self.slot);
            if self.coordinator.phase() == Phase::Lost {
                self.recover()?;
                continue;
            }
            if self.source.is_through(&self.coordinator)? {
                return Ok(());
            }
            self.batch.clear();
            if let Some(trigger) = self.read()? {
                self.source.same_topic_after_silence()?;
                self.fill_up()?;
                self.load_batch(trigger)?;
            } else if self.source.in_touch() && self.source.has_joined(&self.coordinator) {
                self.shared.status.worker_idle(self.slot);
            }
            self.cancel_early_start();
            self.observe()?;
        }
        Ok(())
    }

    /// Leaves the group.
    pub fn close(self, timeout: Duration) {
        self.source.close(timeout);
    }

    /// Reads a batch. Of a long one the sink gets what is here from time to time, so that its database works on that while the
    /// rest is read.
    fn read(&mut self) -> Result<Option<Trigger>, WorkerError> {
        let limits = self.shared.limits;
        self.starting = Duration::ZERO;
        // A pace counts the records of each call.
        let has_pace = self.shared.replay_range.as_ref().is_some_and(|replay_range| replay_range.pace().is_some());
        if has_pace || self.sink.early_start().is_none() {
            return Ok(self.source.poll_batch(&mut self.coordinator, limits, PATIENCE, &mut self.batch)?);
        }
        let (part, mut patience) = (limits.records.div_ceil(PARTS), PATIENCE);
        loop {
            let until = BatchLimits { records: (self.batch.len() + part).min(limits.records), ..limits };
            let trigger = self.source.poll_batch(&mut self.coordinator, until, patience, &mut self.batch)?;
            if trigger != Some(Trigger::Records) || self.batch.len() >= limits.records {
                return Ok(trigger);
            }
            let began = Instant::now();
            if let Some(sink) = self.sink.early_start() {
                sink.start(&self.batch);
            }
            self.starting += began.elapsed();
            // Without what the sink took: where its database is slow, batches would be short.
            let reading = self.batch.since().map_or(Duration::ZERO, |since| since.elapsed());
            patience = limits.wait.saturating_sub(reading.saturating_sub(self.starting));
        }
    }

    /// Reads ranges to their ends that must be written again as a whole, and meanwhile nothing else: so the batch grows by no
    /// more than these. Of which no more comes for a while, that is put back, and the other partitions go on.
    fn fill_up(&mut self) -> Result<(), WorkerError> {
        let mut short = self.short();
        if short.is_empty() {
            self.awaited = (Vec::new(), RANGE_PATIENCE.0);
            return Ok(());
        }
        self.source.read_only(&short);
        let mut came = Instant::now();
        while !short.is_empty() && !self.shared.stop.load(Ordering::Acquire) {
            self.shared.status.worker_turned(self.slot);
            let limits = self.shared.limits;
            let (records, bytes) = (self.batch.len() + limits.records, self.batch.bytes() + limits.bytes);
            let memory = self.batch.held().saturating_add(limits.memory);
            let before: Vec<_> = short.iter().map(|one| self.coordinator.batch_ends().get(one).copied()).collect();
            let limits = BatchLimits { records, bytes, memory, ..limits };
            self.source.poll_batch(&mut self.coordinator, limits, PATIENCE, &mut self.batch)?;
            let after = short.iter().map(|one| self.coordinator.batch_ends().get(one).copied());
            if !after.eq(before) {
                came = Instant::now();
            }
            short = self.short();
            if came.elapsed() > self.awaited.1 {
                self.awaits(&short);
                break;
            }
        }
        self.coordinator.put_back(&short);
        self.batch.forget(&short);
        Ok(self.source.read_all_on(&self.coordinator)?)
    }

    /// Partitions of which the batch ends within a range that must be written again as a whole.
    fn short(&self) -> Vec<Partition> {
        self.sink.in_doubt().map(|sink| sink.short(self.coordinator.batch_ends())).unwrap_or_default()
    }

    /// What was started of a batch that was not written is rolled back.
    fn cancel_early_start(&mut self) {
        if let Some(sink) = self.sink.early_start() {
            sink.cancel();
        }
    }

    /// Says, once, that ranges have to wait, and has more patience the next time.
    fn awaits(&mut self, partitions: &[Partition]) {
        let (known, patience) = &mut self.awaited;
        *patience = (*patience * 2).min(RANGE_PATIENCE.1);
        if known == partitions {
            return;
        }
        *known = partitions.to_vec();
        let (pipeline, sink, topic) = (&self.shared.config.name, self.shared.sink, self.source.topic());
        tracing::warn!(
            %pipeline, sink, topic, ?partitions,
            "of a range that was begun and must be written again as a whole, the last records do not come: it waits for them"
        );
    }

    /// One batch, written with its positions or aborted.
    fn load_batch(&mut self, trigger: Trigger) -> Result<(), WorkerError> {
        let starts: BTreeMap<Partition, NextOffset> = self.coordinator.positions().clone();
        let Some(open) = self.coordinator.begin() else { return Ok(()) };
        for (&partition, &end) in open.offsets() {
            self.batch.cover(partition, starts.get(&partition).copied().unwrap_or(end), end);
        }
        let began = Instant::now();
        let tell = || self.shared.status.worker_turned(self.slot);
        let mut context = WriteContext::new(&self.source, &mut self.dead_letters, &tell);
        context.is_search_due = self.tries.is_search_due(began);
        let (schemas, sink, batch) = (&mut self.schemas, self.sink.as_mut(), &mut self.batch);
        let written = loop {
            let learnt = match &mut self.changes {
                Some(changes) => changes.learn(schemas, sink, batch, &mut context, &self.shared.config.subject()),
                None => learn(&self.shared, schemas, sink, batch, &mut context),
            };
            match learnt.and_then(|()| sink.write(batch, &mut context)) {
                // Its first part is written, its position has moved.
                Ok(written) if batch.next_part() => context.settle(written),
                written => break written,
            }
        };
        let settled: Written = context.settled;
        match written {
            Ok(written) => {
                let written = written.and(settled);
                self.coordinator.committed(open);
                self.pause = first_pause(&self.shared.consumer);
                self.failed = 0;
                self.tries.none();
                self.last_timestamp_ms.extend(self.batch.last_timestamps());
                let spent = self.starting + began.elapsed();
                let dead = self.dead_letters.confirm();
                self.metrics.written(&written, &dead, trigger, spent);
                self.metrics.filtered(self.batch.filtered());
                self.shared.status.settled(written.rows + written.found, self.batch.filtered(), &dead);
                self.shared.status.worker_positions(self.slot, self.coordinator.positions());
                self.shared.status.worker_wrote(self.slot);
                Ok(())
            }
            Err(error) => {
                self.coordinator.given_up(open);
                self.dead_letters.forget();
                let dead = self.dead_letters.confirm();
                self.metrics.settled(&settled, &dead);
                self.shared.status.settled(settled.rows + settled.found, 0, &dead);
                // What was started holds a lock on the table, also through a pause.
                self.cancel_early_start();
                self.give_up(error)
            }
        }
    }

    fn give_up(&mut self, error: LoadError) -> Result<(), WorkerError> {
        let error = self.tries.judge(error, Instant::now());
        let LoadError::Again { class, fault } = error else { return Err(worker_error(error)) };
        self.metrics.retried(class);
        self.failed += 1;
        self.shared.status.worker_failed(self.slot, &fault, class.runbook());
        match class {
            // Nothing to wait for: the sink itself has the answer. Unless that did not help the last time.
            RetryClass::Moved | RetryClass::Unknown if self.failed == 1 => {
                let (pipeline, sink) = (&self.shared.config.name, self.shared.sink);
                tracing::warn!(%pipeline, sink, "batch aborted, re-reading offsets: {fault}");
                Ok(())
            }
            _ => self.wait(&fault),
        }
    }

    /// Asks the sink where it stands, for as long as it takes, and reads again from there.
    fn recover(&mut self) -> Result<(), WorkerError> {
        while !self.shared.stop.load(Ordering::Acquire) {
            match self.source.rewind_sink(&self.coordinator) {
                Ok(positions) => {
                    if self.coordinator.rewound(&positions).is_empty() {
                        self.shared.status.worker_ready(self.slot);
                        return Ok(());
                    }
                }
                Err(error @ (SourceError::Refused(_) | SourceError::Stale(_))) => return Err(error.into()),
                Err(SourceError::Transient(fault)) => {
                    self.shared.status.worker_failed(self.slot, &fault, "PresslineNotReady");
                    self.wait(&fault)?;
                }
            }
        }
        Ok(())
    }

    /// Waits, in the group and without reading: memory stays flat and nobody else is held up.
    fn wait(&mut self, fault: &Fault) -> Result<(), WorkerError> {
        let length = self.pause.next_wait();
        let (pipeline, sink) = (&self.shared.config.name, self.shared.sink);
        tracing::warn!(
            %pipeline, sink, worker = self.slot, topic = fault.topic, partition = fault.partition, offset = fault.offset,
            code = fault.code, retry_in_ms = length.as_millis(), "{fault}"
        );
        let end = Instant::now() + length;
        while !self.shared.stop.load(Ordering::Acquire) && Instant::now() < end {
            self.source.wait_in_group(&mut self.coordinator, Duration::from_millis(200))?;
            self.show_figures();
        }
        Ok(())
    }

    /// Metrics and the slow checks, between batches.
    fn observe(&mut self) -> Result<(), WorkerError> {
        self.dead_letters.tell();
        let is_new = self.coordinator.epoch() != self.epoch_shown;
        let in_touch = self.show_figures();
        if let Some(in_touch) = in_touch {
            self.shared.status.worker_reaches_brokers(self.slot, in_touch);
        }
        if in_touch.unwrap_or(is_new) && self.source.has_joined(&self.coordinator) {
            self.shared.status.worker_ready(self.slot);
        }
        Ok(self.source.same_topic_still()?)
    }

    /// Shows partitions, pending ranges and lag, also while the sink waits; whether a broker can be reached, when there is news.
    fn show_figures(&mut self) -> Option<bool> {
        self.dead_letters.serve();
        let positions = self.coordinator.positions();
        if self.coordinator.epoch() != self.epoch_shown {
            self.epoch_shown = self.coordinator.epoch();
            self.metrics.rebalanced(positions);
            self.shared.status.worker_positions(self.slot, positions);
            self.last_timestamp_ms.retain(|partition, _| positions.contains_key(partition));
        }
        if let Some(sink) = self.sink.in_doubt() {
            let since = sink.since();
            self.metrics.pending(&since, positions);
            self.shared.status.worker_pending(self.slot, &since);
        }
        let statistics = self.source.take_statistics()?;
        let settled = self.coordinator.phase() == Phase::Ready;
        let topic = statistics.topics.get(self.source.topic());
        let behind = self.open_transactions.observe(topic, positions, Instant::now());
        self.shared.status.worker_notes(self.slot, self.open_transactions.note());
        let progress = Progress { positions, last_timestamp_ms: &self.last_timestamp_ms, settled, behind: &behind };
        self.shared.status.lag(&self.metrics.statistics(&statistics, self.source.topic(), &progress));
        Some(self.source.in_touch())
    }
}

/// An empty batch of the topic's records, and what is known of them where they are changes. Errors, in words: settings of `[source]`.
fn records(
    shared: &SinkShared,
    format: &FormatConfig,
    keys: Schemas,
) -> Result<(RowBatch, Option<KnownChanges>), String> {
    let (config, is_stamped) = &shared.changes;
    if !config.is_upsert() {
        return Ok((RowBatch::of(Decoder::new(format)?), None));
    }
    let changes = Changes::new(config.clone(), *is_stamped);
    let known = KnownChanges::new(shared.changes.clone(), shared.columns.clone(), keys);
    if !format.are_changes() {
        let keys = shared.config.key_reader();
        if format.format == Format::Avro && keys.is_none() {
            return Ok((RowBatch::of_changes(changes), Some(known)));
        }
        let rows = ChangeRows::new(format, keys.as_ref(), config)?;
        return Ok((RowBatch::of_raw(changes), Some(known.of_rows(rows))));
    }
    let events = ChangeEvents::new(format, &shared.config.key_format(), shared.config.truncate(), config.toast)?;
    Ok((RowBatch::of_raw(changes), Some(known.of_events(events))))
}

/// Has the sink prepare for the records that come, so that a table that does not fit is reported before the first row. These have
/// the schema of the relay in the same file, where there is one; it may not be registered yet. A newer version in the registry, of
/// which the topic may never have a record, is no reason to stop; nor is a registry that does not answer.
fn prepare(
    shared: &SinkShared,
    schemas: &Schemas,
    changes: Option<&KnownChanges>,
    sink: &mut dyn Sink,
) -> Result<(), WorkerError> {
    let prepare = |sink: &mut dyn Sink, row: &Shape| match changes {
        None => sink.prepare(row),
        Some(changes) => match changes.expected(row, shared.config.topic()) {
            // The first record tells.
            None => Ok(()),
            Some(change) => change.and_then(|change| sink.prepare_change(&change)),
        },
    };
    if let Some(own) = own_shape(&shared.config) {
        return prepare(sink, &own).map_err(worker_error);
    }
    // A table that is to be made is made for the first records.
    if sink.will_make_table() {
        return Ok(());
    }
    let subject = shared.config.subject();
    let Some(newest) = schemas.latest(&subject) else { return Ok(()) };
    match prepare(sink, &newest) {
        Err(LoadError::Refused(what) | LoadError::SchemaMismatch(what)) if sink.has_table() => {
            let pipeline = &shared.config.name;
            tracing::warn!(
                %pipeline, sink = shared.sink, subject,
                "the newest schema of the subject does not fit the table; a record of it would stop the sink: {what}"
            );
            Ok(())
        }
        prepared => prepared.map_err(worker_error),
    }
}

/// The shape of the relay's output, where the relay in the same file fills the topic.
fn own_shape(config: &LoadConfig) -> Option<Shape> {
    let output = config.output.as_ref().filter(|output| output.topic == config.topic())?;
    // A file that cannot be read stops the relay, which says so.
    let file = crate::avro::schema::load(&output.schema.as_ref()?.relative()).ok()?;
    let schema = SchemaText::from(file.compact.as_str());
    RecordTypes::of(config).hold(&schema).then(|| Shape::registered(&schema).ok())?
}

/// Shorter where a refused batch is not to be waited out for long.
fn first_pause(consumer: &SinkConsumerConfig) -> Backoff {
    Backoff::new(Duration::from_millis(consumer.retry_ms.clamp(10, 500)), Duration::from_secs(10))
}

pub(super) fn worker_error(error: LoadError) -> WorkerError {
    match error {
        LoadError::Refused(fault) | LoadError::SchemaMismatch(fault) => WorkerError::Refused(fault),
        LoadError::Again { fault, .. } | LoadError::Answered { fault, .. } => WorkerError::Transient(fault),
    }
}

/// Has the sink prepare for schemas that the batch brings for the first time.
fn learn(
    shared: &SinkShared,
    schemas: &mut Schemas,
    sink: &mut dyn Sink,
    batch: &mut RowBatch,
    context: &mut WriteContext<'_>,
) -> Result<(), LoadError> {
    let ids = batch.schema_ids();
    schemas.meet(&ids);
    let (mut new, mut unusable, mut left_out) = (Vec::new(), BTreeMap::new(), BTreeSet::new());
    for id in ids {
        let first = batch.first_of(id);
        match schemas.get(id, first, batch.decoder())? {
            Schema::Known => {}
            // Of a log of changes, what changes nothing.
            Schema::New(Shape::Record(fields)) if fields.is_empty() && shared.config.format().log.is_some() => {
                schemas.learnt(id);
            }
            Schema::New(shape) => new.push((id, shape)),
            Schema::LeftOut => drop(left_out.insert(id)),
            Schema::Unusable(why) => drop(unusable.insert(id, why)),
        }
        // Each may be asked for, and there may be as many as records.
        context.heartbeat();
        if shared.stop.load(Ordering::Acquire) {
            return Err(LoadError::again(RetryClass::Moved, "the sink stops"));
        }
    }
    if !new.is_empty() && sink.will_make_table() {
        // The newest makes a table that takes all, if the others lack nothing but what may be null.
        let newest = schemas.latest(&shared.config.subject());
        if let Some(newest) = newest.filter(|newest| new.iter().all(|(_, shape)| newest.extends(shape))) {
            sink.prepare(&newest)?;
        }
    }
    // Newer schemas have higher ids, and more fields.
    for (id, shape) in new.into_iter().rev() {
        sink.learn(id, &shape).map_err(|error| error.with(&schemas.type_of(id)))?;
        schemas.learnt(id);
    }
    if !left_out.is_empty() {
        batch.leave_out(&left_out);
    }
    if !unusable.is_empty() {
        batch.refuse_schemas(&unusable);
    }
    batch.decode_rest();
    match batch.truncated_at() {
        None => Ok(()),
        Some(at) => Err(LoadError::refused(super::change_events::no_row_of_a_truncate(at))),
    }
}
