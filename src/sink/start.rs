//! Starts a sink: everything that can be wrong before the first row, then its workers.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::watch;

use super::worker::{MakeSink, SinkShared, SinkWorker};
use crate::avro::registry::Registry;
use crate::config::MemoryShare;
use crate::config::changes::ChangesConfig;
use crate::config::sink::{ColumnsConfig, LoadConfig, SinkBatchConfig, SinkConsumerConfig};
use crate::kafka::advice::PipelinePart;
use crate::kafka::circuit_breaker::CircuitBreaker;
use crate::kafka::consumer::{BatchLimits, SinkPositions};
use crate::kafka::replay_range::{Overlap, ReplayRange};
use crate::runtime::status::Status;
use crate::runtime::supervise::{CLOSE_TIMEOUT, Ending, Team, WorkerError, supervise, without_panic};
use crate::sink::clickhouse::sink as clickhouse;
use crate::sink::dead_letters::WINDOW;
use crate::sink::postgres::sink as postgres;

/// A kind of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabaseKind {
    /// PostgreSQL.
    Postgres,
    /// ClickHouse.
    ClickHouse,
}

impl DatabaseKind {
    /// Its name in configuration, ids and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::ClickHouse => "clickhouse",
        }
    }

    /// Its part of the pipeline.
    pub fn part(self) -> PipelinePart {
        match self {
            Self::Postgres => PipelinePart::Postgres,
            Self::ClickHouse => PipelinePart::Clickhouse,
        }
    }

    /// The sinks that a pipeline has.
    pub fn of(config: &LoadConfig) -> Vec<Self> {
        let postgres = config.sink.postgres.as_ref().map(|_| Self::Postgres);
        let clickhouse = config.sink.clickhouse.as_ref().map(|_| Self::ClickHouse);
        postgres.into_iter().chain(clickhouse).collect()
    }

    /// The same pipeline with this sink alone.
    pub fn alone(self, config: &LoadConfig) -> LoadConfig {
        let mut alone = config.clone();
        match self {
            Self::Postgres => alone.sink.clickhouse = None,
            Self::ClickHouse => alone.sink.postgres = None,
        }
        alone
    }

    /// Its workers.
    pub fn workers(self, config: &LoadConfig) -> usize {
        self.consumer(config).map_or(0, |consumer| consumer.workers)
    }

    /// How it reads the topic; `None` where the pipeline has no such sink.
    pub fn consumer(self, config: &LoadConfig) -> Option<&SinkConsumerConfig> {
        match self {
            Self::Postgres => config.sink.postgres.as_ref().map(|sink| &sink.consumer),
            Self::ClickHouse => config.sink.clickhouse.as_ref().map(|sink| &sink.consumer),
        }
    }

    /// The table that it writes; `None` where the pipeline has no such sink.
    pub fn table(self, config: &LoadConfig) -> Option<&str> {
        match self {
            Self::Postgres => config.sink.postgres.as_ref().map(|sink| sink.table.as_str()),
            Self::ClickHouse => config.sink.clickhouse.as_ref().map(|sink| sink.table.as_str()),
        }
    }
}

/// What is particular to a kind of database.
struct Parts {
    consumer: SinkConsumerConfig,
    changes: (ChangesConfig, bool),
    columns: ColumnsConfig,
    limits: BatchLimits,
    positions: Arc<dyn SinkPositions>,
    make_sink: Box<MakeSink>,
}

/// Runs one sink of a pipeline until it is asked to stop or must. `memory` is what each worker may hold. With `replay_range` it ends
/// by itself.
pub async fn run(
    config: LoadConfig,
    kind: DatabaseKind,
    memory: MemoryShare,
    replay_range: Option<Arc<ReplayRange>>,
    status: Arc<Status>,
    stop: watch::Receiver<bool>,
) -> Ending {
    let stop_workers = Arc::new(AtomicBool::new(false));
    let prepared = prepare(config, kind, memory, replay_range, &status, &stop_workers);
    let shared = match prepared {
        Ok(shared) => Arc::new(shared),
        Err(message) => {
            status.set("start", &message);
            return Ending::refused(message);
        }
    };
    let (name, consumer) = (status.name().to_string(), &shared.consumer);
    tracing::info!(
        pipeline = %shared.config.name, sink = kind.name(), from = %shared.config.topic(),
        group = %shared.config.group(kind.name(), consumer), workers = consumer.workers, "loading"
    );
    let team = Team { name, workers: consumer.workers, status, stop_workers };
    supervise(team, stop, move |slot| run_once(&shared, slot)).await
}

fn run_once(shared: &Arc<SinkShared>, slot: usize) -> Result<(), WorkerError> {
    let mut worker = SinkWorker::open(Arc::clone(shared), slot)?;
    let result = without_panic(|| worker.run());
    worker.close(CLOSE_TIMEOUT);
    result
}

fn prepare(
    config: LoadConfig,
    kind: DatabaseKind,
    memory: MemoryShare,
    replay_range: Option<Arc<ReplayRange>>,
    status: &Arc<Status>,
    stop: &Arc<AtomicBool>,
) -> Result<SinkShared, String> {
    let registry = Arc::new(Registry::new(&config.registry).map_err(|e| e.to_string())?);
    let runtime = Handle::current();
    let parts = match kind {
        DatabaseKind::Postgres => postgres_parts(&config, &runtime)?,
        DatabaseKind::ClickHouse => {
            clickhouse_parts(&config, &runtime, replay_range.as_deref().map_or(Overlap::None, ReplayRange::overlap))?
        }
    };
    let breaker = Arc::new(CircuitBreaker::new(parts.consumer.max_dead_share, WINDOW));
    Ok(SinkShared {
        sink: kind.name(),
        part: kind.part(),
        consumer: parts.consumer,
        limits: parts.limits.within(memory),
        changes: parts.changes,
        columns: parts.columns,
        positions: parts.positions,
        make_sink: parts.make_sink,
        registry,
        runtime,
        memory,
        committed_watermark: Arc::default(),
        breaker,
        replay_range,
        stop: Arc::clone(stop),
        status: Arc::clone(status),
        config,
    })
}

fn limits(batch: &SinkBatchConfig, default_wait_ms: u64) -> BatchLimits {
    BatchLimits {
        records: batch.max_rows,
        by_partition: false,
        bytes: batch.max_bytes,
        memory: usize::MAX,
        wait: Duration::from_millis(batch.max_wait_ms.unwrap_or(default_wait_ms)),
    }
}

fn no_sink(kind: DatabaseKind) -> String {
    format!("sink.{}: not configured", kind.name())
}

fn postgres_parts(config: &LoadConfig, runtime: &Handle) -> Result<Parts, String> {
    let missing = || no_sink(DatabaseKind::Postgres);
    let sink = config.sink.postgres.as_ref().ok_or_else(missing)?;
    let target = postgres::Target::of(config, runtime).ok_or_else(missing)?;
    Ok(Parts {
        consumer: sink.consumer.clone(),
        changes: (sink.changes(), false),
        columns: sink.columns.clone(),
        limits: limits(&sink.batch, postgres::DEFAULT_WAIT_MS),
        positions: Arc::new(target.clone()),
        make_sink: target.maker(),
    })
}

fn clickhouse_parts(config: &LoadConfig, runtime: &Handle, overlap: Overlap) -> Result<Parts, String> {
    let missing = || no_sink(DatabaseKind::ClickHouse);
    let sink = config.sink.clickhouse.as_ref().ok_or_else(missing)?;
    let target = clickhouse::Target::of(config, runtime, overlap).ok_or_else(missing)?;
    Ok(Parts {
        consumer: sink.consumer.clone(),
        changes: (sink.changes(), true),
        columns: sink.columns.clone(),
        // Each partition's rows are an insert of their own.
        limits: BatchLimits { by_partition: true, ..limits(&sink.batch, 1_000) },
        positions: Arc::new(target.clone()),
        make_sink: clickhouse::maker(target),
    })
}
