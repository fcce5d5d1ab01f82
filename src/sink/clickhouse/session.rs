//! One worker at its table: the table as it was read last, and a plan for each schema.

use std::collections::{BTreeMap, BTreeSet};

use crate::avro::Shape;
use crate::config::finding::{Finding, sentences};
use crate::kafka::offset_note::Partition;
use crate::runtime::supervise::WorkerError;
use crate::sink::clickhouse::error::load_error;
pub use crate::sink::clickhouse::positions::Target;
use crate::sink::clickhouse::{Block, BlockPlan, ChError, Client, Table, Undefined};
use crate::sink::error_policy::Fitting;
use crate::sink::worker::worker_error;
use crate::sink::{Columns, Comes, LoadError, Renamed, clickhouse, make_table};

/// Where findings say that a setting stands.
pub const SECTION: &str = "sink.clickhouse";

/// One worker's way into the table.
pub(crate) struct ClickHouseSink {
    pub(super) target: Target,
    pub(super) client: Client,
    pub(super) table: Option<Table>,
    pub(super) shapes: BTreeMap<u32, Shape>,
    pub(super) plans: BTreeMap<u32, BlockPlan>,
    /// Fields that had other names in older schemas.
    pub(super) renamed: Renamed,
    /// Schemas whose plans share their columns.
    pub(super) united: Vec<u32>,
    /// Whether all rows of this batch fill the same columns.
    pub(super) is_one_layout: bool,
    pub(super) block: Option<Block>,
    /// Rows of this batch that went in before others of their chunk.
    pub(super) inserted: BTreeSet<(Partition, i64)>,
    /// Whether the server's word on which row it refuses has held in this batch.
    pub(super) trusts_hints: bool,
    /// How many rows the server takes at once.
    pub(super) fitting: Fitting,
    /// Rows were written into the table as it is now.
    pub(super) is_proven: bool,
    /// A request failed: the password and the certificates are read again before the next.
    pub(super) reopens: bool,
    /// Buffers of bodies that were sent.
    pub(super) spare: Vec<Vec<u8>>,
}

impl ClickHouseSink {
    pub(crate) fn connect(target: Target) -> Result<Self, WorkerError> {
        let runtime = target.runtime.clone();
        let opened = runtime.block_on(async {
            let client = Client::open(&target.config).await?;
            let table = target.read_table(&client).await?;
            Ok((client, table))
        });
        let (client, table) = opened.map_err(|error: ChError| worker_error(load_error(&error)))?;
        let (shapes, plans) = (BTreeMap::new(), BTreeMap::new());
        let sink = Self {
            target,
            client,
            table,
            shapes,
            plans,
            renamed: Renamed::new(),
            united: Vec::new(),
            is_one_layout: true,
            block: None,
            inserted: BTreeSet::new(),
            trusts_hints: true,
            fitting: Fitting::default(),
            is_proven: false,
            reopens: false,
            spare: Vec::new(),
        };
        sink.judge().map_err(WorkerError::refused)?;
        Ok(sink)
    }

    /// Refuses a table that cannot keep what is promised.
    pub(super) fn judge(&self) -> Result<(), String> {
        let Some(table) = &self.table else { return Ok(()) };
        let findings = match self.target.is_upsert() {
            true => table.refusals_of_upserts(&self.target.key),
            false => table.refusals(self.target.config.delivery),
        };
        if findings.iter().any(Finding::is_error) {
            return Err(sentences(&findings));
        }
        for finding in findings {
            tracing::warn!(pipeline = %self.target.pipeline, sink = "clickhouse", "{finding}");
        }
        Ok(())
    }

    /// Plans for these schemas, against the table as it was read last.
    pub(super) async fn compile(&mut self, ids: &[u32]) -> Result<(), LoadError> {
        for id in ids {
            let Some(shape) = self.shapes.get(id).filter(|_| !self.plans.contains_key(id)) else { continue };
            let shape = shape.clone();
            let Some(plan) = self.plan(&shape, Comes::Now(*id)).await? else { continue };
            let place = self.table.as_ref().map(Table::place).unwrap_or_default();
            for warning in self.columns().unknown_fields(&shape, &place).iter().chain(plan.warnings()) {
                tracing::warn!(pipeline = %self.target.pipeline, sink = "clickhouse", schema_id = id, "{warning}");
            }
            self.plans.insert(*id, plan);
            self.united.clear();
        }
        Ok(())
    }

    /// Rows of these schemas go into one block, as far as that can be.
    pub(super) fn unite(&mut self, ids: &[u32]) {
        // A batch mostly has the schemas of the one before.
        if ids.len() > 1 && !ids.iter().all(|id| self.united.contains(id)) {
            let plans = self.plans.iter_mut().filter(|(id, _)| ids.contains(id));
            BlockPlan::unite(&mut plans.map(|(_, plan)| plan).collect::<Vec<_>>());
            self.united = ids.to_vec();
        }
        let mut layouts = ids.iter().filter_map(|id| self.plans.get(id)).map(BlockPlan::layout);
        self.is_one_layout = layouts.next().is_none_or(|first| layouts.all(|layout| layout == first));
    }

    /// After a request that failed, a client with the password and the certificates as they are now.
    pub(super) async fn reopen(&mut self) -> Result<(), LoadError> {
        if self.reopens {
            self.client = Client::open(&self.target.config).await.map_err(|error| load_error(&error))?;
            self.reopens = false;
        }
        Ok(())
    }

    /// The plan of records; `None` where the table lacks columns that are added when the first of them comes.
    pub(super) async fn plan(&mut self, shape: &Shape, comes: Comes) -> Result<Option<BlockPlan>, LoadError> {
        if self.table.is_none() {
            self.table = Some(self.create(shape).await?);
            self.judge().map_err(LoadError::refused)?;
        }
        let mut compiled = self.compiled(shape)?;
        if let Err(findings) = &compiled
            && let Some(ddl) = self.evolution(shape, findings)
        {
            if comes == Comes::Perhaps {
                return Ok(None);
            }
            self.evolve(&ddl, comes).await?;
            compiled = self.compiled(shape)?;
        }
        compiled.map(Some).map_err(|mut findings| {
            let place = self.table.as_ref().map(Table::place).unwrap_or_default();
            findings.extend(self.columns().unknown_fields(shape, &place));
            LoadError::refused(format!("{comes} do not fit {place}:\n{}", sentences(&findings)))
        })
    }

    fn compiled(&self, shape: &Shape) -> Result<Result<BlockPlan, Vec<Finding>>, LoadError> {
        let Some(table) = &self.table else { return Err(LoadError::refused("there is no table")) };
        Ok(BlockPlan::compile(shape, table, &self.columns(), &self.target.topic))
    }

    /// The statement that adds what the table lacks for a record, where that is allowed and nothing else is amiss.
    fn evolution(&self, shape: &Shape, found: &[Finding]) -> Option<String> {
        let table = self.table.as_ref().filter(|_| self.target.config.auto_evolve)?;
        clickhouse::add_lacking(table, shape, &self.columns(), &self.target.key, found)
    }

    async fn evolve(&mut self, ddl: &str, comes: Comes) -> Result<(), LoadError> {
        let place = self.table.as_ref().map(Table::place).unwrap_or_default();
        self.client.define(ddl).await.map_err(|error| match error {
            Undefined::Refused(words) => LoadError::refused(format!("{place}: {words}\n{ddl};")),
            Undefined::Failed(error) => load_error(&error).with(&format!("\n{ddl};")),
        })?;
        tracing::info!(pipeline = %self.target.pipeline, sink = "clickhouse", "columns added for {comes}:\n{ddl}");
        self.is_altered().await.map(drop)
    }

    fn columns(&self) -> Columns<'_> {
        Columns::new(&self.target.config.columns, SECTION).with_renamed(&self.renamed)
    }

    /// Reads the table; whether it is another than before, for which new plans are made.
    pub(super) async fn is_altered(&mut self) -> Result<bool, LoadError> {
        let read = self.target.read_table(&self.client).await.map_err(|error| load_error(&error))?;
        let is_altered = read != self.table;
        if is_altered {
            self.table = read;
            self.plans.clear();
            self.united.clear();
            self.block = None;
            self.is_proven = false;
        }
        let makes_view = self.target.config.auto_create || self.target.config.auto_evolve;
        if is_altered && self.target.is_upsert() && makes_view {
            self.show_in_view().await?;
        }
        Ok(is_altered)
    }

    /// The table that is not there: made where that is allowed, else told how.
    async fn create(&self, shape: &Shape) -> Result<Table, LoadError> {
        if let Some(table) = self.target.read_table(&self.client).await.map_err(|error| load_error(&error))? {
            return Ok(table);
        }
        let config = &self.target.config;
        let (database, name) = (&config.database, &config.table);
        let ddl = clickhouse::create_table(shape, config, &self.target.key)
            .map_err(|findings| LoadError::refused(sentences(&findings)))?;
        let place = format!("ClickHouse {}", self.client.address());
        if !config.auto_create {
            let alike = self.client.alike(database, name).await.map_err(|error| load_error(&error))?;
            let hint = clickhouse::another_name(database, name, &alike);
            return Err(LoadError::refused(format!(
                "{place}: there is no table {database}.{name}{hint}; {}",
                make_table(SECTION, &ddl.sql)
            )));
        }
        let ddl = ddl.sql;
        self.client.define(&ddl).await.map_err(|error| match error {
            Undefined::Refused(words) => LoadError::refused(format!("{place}: {words}\n{ddl}")),
            Undefined::Failed(error) => load_error(&error),
        })?;
        tracing::info!(pipeline = %self.target.pipeline, sink = "clickhouse", "table made:\n{ddl}");
        if self.target.is_upsert() {
            self.make_view(&self.client).await?;
        }
        let made = self.target.read_table(&self.client).await.map_err(|error| load_error(&error))?;
        made.ok_or_else(|| LoadError::refused(format!("{place}: the table is not there after it was made")))
    }
}
