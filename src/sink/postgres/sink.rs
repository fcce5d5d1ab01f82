//! The PostgreSQL sink: rows and positions in one database transaction.

mod account;
pub mod letters;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::runtime::Handle;

use crate::avro::Shape;
use crate::config::REPLAYS;
use crate::config::finding::{Finding, sentences};
use crate::config::sink::{LoadConfig, PostgresConfig, WriteMode};
use crate::kafka::advice::{Advice, PipelinePart};
use crate::kafka::consumer::{Assignment, SinkPositions, SourceError};
use crate::kafka::offset_note::{NextOffset, Partition, Tally};
use crate::runtime::fault::Fault;
use crate::runtime::supervise::WorkerError;
use crate::sink::changes::ChangeShape;
use crate::sink::dead_letters::WINDOW;
use crate::sink::error_policy::Fitting;
use crate::sink::postgres::dropped::DroppedRows;
use crate::sink::postgres::{
    Advance, ChangePlan, ClaimError, CommitError, Connection, CopyPlan, LetterMarks, Offsets, PgError, RowKey, Table,
    TableName, Writer,
};
use crate::sink::worker::{MakeSink, worker_error};
use crate::sink::{
    Columns, Comes, EarlyStart, LoadError, RecordOrigin, Refusal, Renamed, RetryClass, RowBatch, Sink, WriteContext,
    Written, make_table, note_renamed, postgres, wait_for,
};
use account::{outcomes, show};

/// Where findings say that a setting stands.
pub const SECTION: &str = "sink.postgres";
/// `batch.max_wait_ms` where it is not set.
pub const DEFAULT_WAIT_MS: u64 = 200;

/// What a worker's sink and the positions are made from.
#[derive(Clone)]
pub struct Target {
    config: PostgresConfig,
    pipeline: String,
    topic: String,
    runtime: Handle,
}

impl Target {
    /// Of a pipeline's configuration; `None` if it has no such sink.
    pub fn of(config: &LoadConfig, runtime: &Handle) -> Option<Self> {
        let postgres = config.sink.postgres.clone()?;
        let (pipeline, topic) = (config.name.clone(), config.topic().to_string());
        Some(Self { config: postgres, pipeline, topic, runtime: runtime.clone() })
    }

    /// Makes the sinks of workers.
    pub fn maker(self) -> Box<MakeSink> {
        Box::new(move || Ok(Box::new(PostgresSink::connect(self.clone())?) as Box<dyn Sink>))
    }

    async fn connect(&self) -> Result<Connection, PgError> {
        Connection::open(&self.config, &self.pipeline).await
    }

    fn offsets(&self, topic_id: Option<&str>) -> Result<Offsets, String> {
        let table = &self.config.offsets_table;
        Offsets::new(table, &self.pipeline, &self.topic, topic_id.unwrap_or_default())
            .map_err(|what| format!("{SECTION}.offsets_table: {what}"))
    }

    fn letter_marks(&self, topic_id: Option<&str>) -> Result<LetterMarks, String> {
        let table = &self.config.offsets_table;
        LetterMarks::new(table, &self.pipeline, &self.topic, topic_id.unwrap_or_default())
            .map_err(|what| format!("{SECTION}.offsets_table: {what}"))
    }

    async fn claim_rows(&self, assignment: &Assignment<'_>) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
        let offsets = self.offsets(assignment.topic_id).map_err(SourceError::refused)?;
        let connection = self.connect().await.map_err(|error| source_error(&error))?;
        offsets.ensure_table(&connection).await.map_err(|error| source_error(&error))?;
        let known = offsets.positions(&connection).await.map_err(claim_error)?;
        let mut first = BTreeMap::new();
        for assigned in assignment.partitions {
            if let (None, Some(committed)) = (known.get(&assigned.partition), &assigned.committed) {
                return Err(self.row_is_gone(assigned.partition, committed.next));
            }
            first.insert(assigned.partition, assignment.first_offset(assigned, self.config.consumer.start));
        }
        let claimed = offsets.claim(&connection, &first).await.map_err(claim_error)?;
        Ok(claimed.into_iter().map(|(partition, position)| (partition, position.next_offset)).collect())
    }

    fn row_is_gone(&self, partition: Partition, committed: NextOffset) -> SourceError {
        let Self { config, pipeline, topic, .. } = self;
        SourceError::refused(format!(
            "{}: table {} has no position of pipeline {pipeline}, topic {topic}, partition {partition}, although the consumer \
             group has loaded it up to {committed}: the row was deleted, or this is another database. Starting over could \
             write rows twice. Find out which rows are in table {}, then set where to go on: {}",
            postgres::place(config),
            config.offsets_table,
            config.table,
            Advice::new(pipeline, PipelinePart::Postgres).set(partition, committed)
        )).at(topic, partition, committed)
    }
}

impl SinkPositions for Target {
    fn claim(&self, assignment: &Assignment<'_>) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
        wait_for(&self.runtime, self.claim_rows(assignment))
    }

    fn knows_first_start(&self) -> bool {
        true
    }

    fn are_only_shown_by_group(&self) -> bool {
        true
    }
}

fn source_error(error: &PgError) -> SourceError {
    match error.class {
        postgres::ErrorClass::Schema | postgres::ErrorClass::Data => SourceError::refused(error.to_string()),
        _ => SourceError::transient(error.to_string()),
    }
}

fn claim_error(error: ClaimError) -> SourceError {
    match error {
        ClaimError::Database(error) => source_error(&error),
        other => SourceError::refused(other.to_string()),
    }
}

/// One worker's way into the table.
struct PostgresSink {
    target: Target,
    table_name: TableName,
    writer: Option<Writer>,
    /// As it was read last; `None` while it is not there.
    table: Option<Arc<Table>>,
    shapes: BTreeMap<u32, Shape>,
    plans: BTreeMap<u32, CopyPlan>,
    /// In mode `upsert`, by the number of the changes.
    changes: BTreeMap<u32, ChangeShape>,
    change_plans: BTreeMap<u32, ChangePlan>,
    /// Fields that had other names in older schemas.
    renamed: Renamed,
    /// How many rows the server takes at once.
    fitting: Fitting,
    /// Rows were written into the table as it is now.
    is_proven: bool,
    /// Of the last batch that was committed.
    outcomes: BTreeMap<Partition, Tally>,
    dropped: DroppedRows,
}

impl PostgresSink {
    fn connect(target: Target) -> Result<Self, WorkerError> {
        let table_name = TableName::parse(&target.config.table)
            .map_err(|what| WorkerError::refused(format!("{SECTION}.table: {what}")))?;
        let runtime = target.runtime.clone();
        let (shapes, plans, outcomes) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let (fitting, is_proven, dropped) = (Fitting::default(), false, DroppedRows::default());
        let mut sink = Self {
            target,
            table_name,
            writer: None,
            table: None,
            shapes,
            plans,
            changes: BTreeMap::new(),
            change_plans: BTreeMap::new(),
            renamed: Renamed::new(),
            fitting,
            is_proven,
            outcomes,
            dropped,
        };
        runtime.block_on(sink.reconnect()).map_err(|error| worker_error(load_error(&error)))?;
        Ok(sink)
    }

    /// Whether a COPY is under way for a batch that still grows.
    fn has_started(&self) -> bool {
        self.writer.as_ref().is_some_and(Writer::has_started)
    }

    /// A new connection where there is none, and a fresh look at the table: it may have been altered meanwhile.
    async fn reconnect(&mut self) -> Result<(), PgError> {
        if self.writer.as_ref().is_some_and(|writer| !writer.connection().is_closed()) {
            return Ok(());
        }
        let connection = self.target.connect().await?;
        self.read_table(&connection).await?;
        self.writer = Some(Writer::new(connection));
        Ok(())
    }

    async fn read_table(&mut self, connection: &Connection) -> Result<(), PgError> {
        let read = self.described(connection).await?;
        if read != self.table {
            self.table = read;
            self.plans.clear();
            self.change_plans.clear();
            self.is_proven = false;
        }
        Ok(())
    }

    /// A fresh look at the table on the connection that there is, which no COPY is under way on.
    async fn read_table_again(&mut self) -> Result<(), LoadError> {
        if self.has_started() {
            self.writer = None;
        }
        let Some(writer) = self.writer.take().filter(|writer| !writer.connection().is_closed()) else {
            return self.reconnect().await.map_err(|error| load_error(&error));
        };
        let read = self.read_table(writer.connection()).await;
        self.writer = Some(writer);
        read.map_err(|error| load_error(&error))
    }

    /// The table, with the defaults that take the place of null.
    async fn described(&self, connection: &Connection) -> Result<Option<Arc<Table>>, PgError> {
        let Some(mut table) = Table::read(connection, &self.table_name).await? else { return Ok(None) };
        let columns = Columns::new(&self.target.config.columns, SECTION);
        table.read_defaults(connection, &columns.with_defaults()).await?;
        Ok(Some(Arc::new(table)))
    }

    /// Plans for these schemas, against the table as it was read last.
    async fn compile(&mut self, ids: &[u32]) -> Result<(), LoadError> {
        self.reconnect().await.map_err(|error| load_error(&error))?;
        for id in ids {
            if let Some(change) = self.changes.get(id).filter(|_| !self.change_plans.contains_key(id)) {
                let Some(plan) = self.change_plan(&change.clone(), Comes::Now(*id)).await? else { continue };
                for warning in plan.plan().warnings() {
                    tracing::warn!(pipeline = %self.target.pipeline, sink = "postgres", "{warning}");
                }
                self.change_plans.insert(*id, plan);
            }
            let Some(shape) = self.shapes.get(id).filter(|_| !self.plans.contains_key(id)) else { continue };
            let shape = shape.clone();
            let Some(plan) = self.plan(&shape, Comes::Now(*id)).await? else { continue };
            let title = self.table.as_ref().map(|table| table.title()).unwrap_or_default();
            for warning in self.columns().unknown_fields(&shape, &title).iter().chain(plan.warnings()) {
                tracing::warn!(pipeline = %self.target.pipeline, sink = "postgres", schema_id = id, "{warning}");
            }
            self.plans.insert(*id, plan);
        }
        Ok(())
    }

    /// The plan of records; `None` where the table lacks columns that are added when the first of them comes.
    async fn plan(&mut self, shape: &Shape, comes: Comes) -> Result<Option<CopyPlan>, LoadError> {
        let table = match &self.table {
            Some(table) => Arc::clone(table),
            None => self.create(shape, &[]).await?,
        };
        self.table = Some(Arc::clone(&table));
        let mut compiled = CopyPlan::compile(shape, &table, &self.columns());
        if let Err(findings) = &compiled
            && let Some(ddl) = self.evolution(&table, shape, &[], findings)
        {
            let Some(table) = self.evolved(&ddl, comes).await? else { return Ok(None) };
            compiled = CopyPlan::compile(shape, &table, &self.columns());
        }
        compiled.map(Some).map_err(|mut findings| {
            findings.extend(self.columns().unknown_fields(shape, &table.title()));
            LoadError::refused(format!("{comes} do not fit table {}:\n{}", table.title(), sentences(&findings)))
        })
    }

    /// The plan of changes; `None` as of [`PostgresSink::plan`].
    async fn change_plan(&mut self, change: &ChangeShape, comes: Comes) -> Result<Option<ChangePlan>, LoadError> {
        let table = match &self.table {
            Some(table) => Arc::clone(table),
            None => self.create(&change.shape, &change.key).await?,
        };
        self.table = Some(Arc::clone(&table));
        let key = self.row_key(&table, change).await?;
        let mut compiled = ChangePlan::compile(change, &table, &self.columns(), &key);
        if let Err(findings) = &compiled
            && let Some(ddl) = self.evolution(&table, &change.shape, &change.key, findings)
        {
            let Some(table) = self.evolved(&ddl, comes).await? else { return Ok(None) };
            // It knows the types of all columns.
            let key = self.row_key(&table, change).await?;
            compiled = ChangePlan::compile(change, &table, &self.columns(), &key);
        }
        compiled.map(Some).map_err(|findings| unfit(&table, &findings))
    }

    /// What the table's key asks of changes. Errors: it does not suit them.
    async fn row_key(&self, table: &Table, change: &ChangeShape) -> Result<Arc<RowKey>, LoadError> {
        let Some(writer) = &self.writer else { return Err(no_connection()) };
        let read = RowKey::read(writer.connection(), table, &change.key).await;
        let (key, findings) = read.map_err(|error| load_error(&error))?;
        if findings.iter().any(Finding::is_error) {
            return Err(unfit(table, &findings));
        }
        for finding in findings.iter().filter(|_| !change.is_delete) {
            tracing::warn!(pipeline = %self.target.pipeline, sink = "postgres", "{finding}");
        }
        Ok(Arc::new(key))
    }

    /// The statement that adds what the table lacks for a record, where that is allowed and nothing else is amiss.
    fn evolution(&self, table: &Table, shape: &Shape, key: &[String], found: &[Finding]) -> Option<String> {
        let ddl = table.add_columns_sql(shape, &self.columns(), key, found);
        ddl.filter(|_| self.target.config.auto_evolve)
    }

    /// The table with the columns that the statement adds; `None` while no record needs them.
    async fn evolved(&mut self, ddl: &str, comes: Comes) -> Result<Option<Arc<Table>>, LoadError> {
        if comes == Comes::Perhaps {
            return Ok(None);
        }
        let Some(writer) = &self.writer else { return Err(no_connection()) };
        postgres::add_columns(writer.connection(), ddl).await.map_err(|error| load_error(&error))?;
        let pipeline = &self.target.pipeline;
        tracing::info!(%pipeline, sink = "postgres", table = %self.table_name, "columns added for {comes}:\n{ddl}");
        self.read_table_again().await?;
        Ok(self.table.clone())
    }

    fn columns(&self) -> Columns<'_> {
        Columns::new(&self.target.config.columns, SECTION).with_renamed(&self.renamed)
    }

    /// The table that is not there: made where that is allowed, else told how.
    async fn create(&self, shape: &Shape, key: &[String]) -> Result<Arc<Table>, LoadError> {
        let columns = Columns::new(&self.target.config.columns, SECTION);
        let mut ddl = postgres::create_table_sql(shape, &self.table_name, &columns)
            .map_err(|findings| LoadError::refused(sentences(&findings)))?;
        if !key.is_empty() {
            ddl = postgres::with_primary_key(&ddl, key);
        }
        let place = postgres::place(&self.target.config);
        let Some(writer) = &self.writer else { return Err(no_connection()) };
        let other = Table::in_other_case(writer.connection(), &self.table_name).await;
        let other = other.map_err(|error| load_error(&error))?.unwrap_or_default();
        let no_table = format!("{place}: there is no table {}{other}", self.table_name);
        if !self.target.config.auto_create {
            return Err(LoadError::refused(format!("{no_table}; {}", make_table(SECTION, &ddl))));
        }
        if !other.is_empty() {
            tracing::warn!(pipeline = %self.target.pipeline, sink = "postgres", "{no_table}; it is made beside it");
        }
        postgres::create_table(writer.connection(), &ddl).await.map_err(|error| load_error(&error))?;
        tracing::info!(pipeline = %self.target.pipeline, sink = "postgres", table = %self.table_name, "table made:\n{ddl}");
        let made = self.described(writer.connection()).await.map_err(|error| load_error(&error))?;
        made.ok_or_else(|| LoadError::refused(format!("{place}: the table is not there after it was made")))
    }

    async fn write_batch(
        &mut self,
        batch: &mut RowBatch,
        context: &mut WriteContext<'_>,
    ) -> Result<Written, LoadError> {
        // Partitions may have gone, and their rows with them.
        if self.writer.as_ref().is_some_and(|writer| !writer.suits(batch)) {
            tracing::debug!(pipeline = %self.target.pipeline, "rows went away whose COPY was under way: reconnecting");
            self.writer = None;
        }
        self.compile(&batch.schema_ids()).await?;
        let is_upsert = self.target.config.mode == WriteMode::Upsert;
        // Changes keep their order: the last of a key counts.
        if !is_upsert {
            batch.group_by(|id| self.plans.get(&id).map(CopyPlan::copy_statement));
        }
        let batch = &*batch;
        let offsets = self.target.offsets(context.source.topic_id()).map_err(LoadError::refused)?;
        let advances: Vec<Advance> = batch
            .spans()
            .iter()
            .map(|(&partition, span)| Advance { partition, start: span.start, end: span.end })
            .collect();
        // More bad rows than this trip the circuit breaker anyway: the search for them ends there.
        let most = (self.target.config.consumer.max_dead_share * batch.rows().len().max(WINDOW) as f64) as usize;
        let Some(writer) = &mut self.writer else { return Err(no_connection()) };
        let (plans, change_plans) = (&self.plans, &self.change_plans);
        let mut transaction = writer.begin().await.map_err(|error| load_error(&error))?;
        #[cfg(feature = "mutants")]
        let advances = transaction.positions_first(&offsets, advances).await.map_err(|error| load_error(&error))?;
        transaction.search(postgres::Search {
            is_due: context.is_search_due,
            is_proven: self.is_proven,
            at_most: self.fitting.rows(),
        });
        if let Some(table) = self.table.as_ref().filter(|_| batch.empties_at().is_some()) {
            transaction.empty(&table.name.to_string());
        }
        let copied = if is_upsert {
            transaction.apply(batch, |id| change_plans.get(&id), most, &mut || context.heartbeat()).await
        } else {
            transaction.copy(batch, |id| plans.get(&id), most, &mut || context.heartbeat()).await
        };
        let refused = copied.map_err(|error| load_error(&error))?;
        let dropped = transaction.dropped();
        if let Some((error, rows)) = transaction.took() {
            self.fitting.took(rows);
            let pipeline = &self.target.pipeline;
            tracing::warn!(%pipeline, sink = "postgres", rows, "batches are written in parts of this many rows: {}", error.told());
        }
        let rows = batch.rows();
        let mut dead_letters: Vec<(RecordOrigin, Refusal)> = batch.refused().to_vec();
        dead_letters
            .extend(refused.into_iter().filter_map(|(index, refusal)| Some((rows.get(index)?.origin(), refusal))));
        context.dead_letters.settle(rows.len() + batch.refused().len(), &dead_letters)?;
        let outcomes = outcomes(batch, &dead_letters);
        if context.source.is_bounded() {
            // Which of two accounts holds after a crash is told by the position, which the transaction moves.
            show(context.source, batch, &outcomes, true)?;
        }
        let passed_over = match is_upsert || self.target.pipeline.starts_with(REPLAYS) || dead_letters.is_empty() {
            // Letters of these are not replayed.
            true => String::new(),
            false => {
                let marks = self.target.letter_marks(context.source.topic_id()).map_err(LoadError::refused)?;
                marks.passed_over(dead_letters.iter().map(|(origin, _)| (origin.partition, origin.offset)).collect())
            }
        };
        let committed = transaction.commit_passing_over(passed_over, &offsets, &advances).await;
        committed.map_err(|error| commit_error(&error))?;
        self.outcomes = outcomes;
        self.fitting.written();
        self.dropped.tell(dropped, &self.target.pipeline, &self.target.config.table);
        let written = (rows.len() + batch.refused().len() - dead_letters.len()) as u64;
        self.is_proven |= written > 0;
        let bytes = crate::kafka::consumer::BatchBuilder::bytes(batch) as u64;
        let left_out = batch.left_out().len() as u64;
        Ok(Written { rows: written.saturating_sub(dropped), bytes, dropped, left_out, ..Written::default() })
    }

    /// Compiles the plan of what is new. The table may have been altered for this very schema since it was read, and a plan for the
    /// table of before would refuse values that fit by now.
    fn learnt(&mut self, schema_id: u32) -> Result<(), LoadError> {
        let runtime = self.target.runtime.clone();
        let learnt = runtime.block_on(async {
            self.read_table_again().await?;
            self.compile(&[schema_id]).await
        });
        if learnt.is_err() {
            self.shapes.remove(&schema_id);
            self.changes.remove(&schema_id);
        }
        learnt
    }

    /// What an error means, once the table was looked at; a connection that may be of no use is given up.
    fn judged(&mut self, error: LoadError) -> LoadError {
        match error {
            LoadError::Refused(_) | LoadError::SchemaMismatch(_) => {
                let runtime = self.target.runtime.clone();
                match runtime.block_on(self.is_altered()) {
                    Ok(true) => {
                        let message = format!("table {} was altered; new plans are made: {error}", self.table_name);
                        LoadError::again(RetryClass::Moved, message)
                    }
                    Ok(false) => error,
                    Err(other) => other,
                }
            }
            LoadError::Answered { .. }
            | LoadError::Again {
                class: RetryClass::Transient | RetryClass::Unknown | RetryClass::Authentication,
                ..
            } => {
                self.writer = None;
                error
            }
            LoadError::Again { .. } => error,
        }
    }

    /// An error of the schema may only say that the table was altered: then the batch is tried again with new plans. Errors:
    /// the database cannot be asked now.
    async fn is_altered(&mut self) -> Result<bool, LoadError> {
        let before = self.table.clone();
        // The connection may be of no use after a COPY that failed at its start.
        self.writer = None;
        self.reconnect().await.map_err(|error| load_error(&error))?;
        Ok(before != self.table)
    }
}

impl Sink for PostgresSink {
    fn learn(&mut self, schema_id: u32, shape: &Shape) -> Result<(), LoadError> {
        note_renamed(&mut self.renamed, shape);
        self.shapes.insert(schema_id, shape.clone());
        self.learnt(schema_id)
    }

    fn learn_change(&mut self, number: u32, change: &ChangeShape) -> Result<(), LoadError> {
        note_renamed(&mut self.renamed, &change.shape);
        self.changes.insert(number, change.clone());
        self.learnt(number)
    }

    fn prepare_change(&mut self, change: &ChangeShape) -> Result<(), LoadError> {
        let runtime = self.target.runtime.clone();
        runtime.block_on(async {
            self.reconnect().await.map_err(|error| load_error(&error))?;
            self.change_plan(change, Comes::Perhaps).await.map(drop)
        })
    }

    fn prepare(&mut self, shape: &Shape) -> Result<(), LoadError> {
        let runtime = self.target.runtime.clone();
        runtime.block_on(async {
            self.reconnect().await.map_err(|error| load_error(&error))?;
            self.plan(shape, Comes::Perhaps).await.map(drop)
        })
    }

    fn has_table(&self) -> bool {
        self.table.is_some()
    }

    fn will_make_table(&self) -> bool {
        self.table.is_none() && self.target.config.auto_create
    }

    fn early_start(&mut self) -> Option<&mut dyn EarlyStart> {
        // A COPY that begins while its batch is read is one statement all that time, and may not come near the time-out of one.
        let config = &self.target.config;
        let reading = config.batch.max_wait_ms.unwrap_or(DEFAULT_WAIT_MS);
        let is_possible = reading <= config.statement_timeout_ms / 4
            // The last change of each key is known at the batch's end.
            && config.mode == WriteMode::Insert
            && self.fitting.rows().is_none()
            // The mutant commits before the first row.
            && !crate::testing::mutant::is("positions_before_rows");
        // What was started can be cancelled, whatever has changed since.
        (is_possible || self.has_started()).then_some(self)
    }

    fn write(&mut self, batch: &mut RowBatch, context: &mut WriteContext<'_>) -> Result<Written, LoadError> {
        let runtime = self.target.runtime.clone();
        let result = runtime.block_on(self.write_batch(batch, context));
        match result {
            Ok(written) => {
                // Positions are in the table; the group's offsets only show others how far we are, and keep the account of a
                // bounded run.
                if context.source.is_bounded() {
                    show(context.source, batch, &self.outcomes, false)?;
                } else {
                    let ends = batch.spans().iter().map(|(&partition, span)| (partition, span.end));
                    context.source.show_progress(ends, &self.outcomes);
                }
                Ok(written)
            }
            Err(error) => Err(self.judged(error)),
        }
    }
}

impl EarlyStart for PostgresSink {
    fn start(&mut self, batch: &RowBatch) {
        let (Some(writer), plans) = (&mut self.writer, &self.plans) else { return };
        self.target.runtime.block_on(writer.start(batch, |id| plans.get(&id)));
    }

    fn cancel(&mut self) {
        if self.has_started() {
            self.writer = None;
        }
    }
}

fn unfit(table: &Table, findings: &[Finding]) -> LoadError {
    LoadError::refused(format!("changes do not fit table {}:\n{}", table.title(), sentences(findings)))
}

fn no_connection() -> LoadError {
    LoadError::again(RetryClass::Transient, "PostgreSQL: no connection")
}

fn load_error(error: &PgError) -> LoadError {
    let fault = Fault::from(error.told()).code(error.sqlstate.clone());
    let class = match error.class {
        postgres::ErrorClass::Data | postgres::ErrorClass::Configuration => return LoadError::Refused(fault),
        postgres::ErrorClass::Schema => return LoadError::SchemaMismatch(fault),
        class if error.policy().is_some() => return LoadError::Answered { class, fault },
        postgres::ErrorClass::Authentication => RetryClass::Authentication,
        postgres::ErrorClass::Resource => RetryClass::Resource,
        postgres::ErrorClass::InDoubt => RetryClass::Unknown,
        postgres::ErrorClass::Transient | postgres::ErrorClass::Unknown => RetryClass::Transient,
    };
    LoadError::Again { class, fault }
}

fn commit_error(error: &CommitError) -> LoadError {
    match error {
        CommitError::Missed => LoadError::again(RetryClass::Moved, error.to_string()),
        // The position that the recovery reads is the answer; it may be the old one while the old connection still
        // commits, and then the next batch waits for its lock and misses.
        CommitError::Unknown(_) => LoadError::again(RetryClass::Unknown, error.to_string()),
        CommitError::Failed(error) => load_error(error),
    }
}
