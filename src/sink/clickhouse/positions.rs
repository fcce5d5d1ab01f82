//! Where a ClickHouse sink begins: at the group's offset, after a look into the table for what a crash left pending.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::runtime::Handle;

use crate::config::sink::{ClickHouseConfig, LoadConfig};
use crate::kafka::advice::{Advice, PipelinePart};
use crate::kafka::consumer::{Assigned, Assignment, SinkPositions, SourceError};
use crate::kafka::offset_note::{NextOffset, OffsetNote, Partition, Pending};
use crate::kafka::replay_range::Overlap;
use crate::sink::clickhouse::recovery::Recovery;
use crate::sink::clickhouse::{ChError, Client, Table};
use crate::sink::{Span, clickhouse, wait_for};

/// What a worker's sink and the positions are made from.
#[derive(Clone)]
pub struct Target {
    pub(crate) config: ClickHouseConfig,
    pub(crate) pipeline: String,
    pub(crate) topic: String,
    pub(crate) runtime: Handle,
    /// In mode `upsert`, the columns of the key, once they are known.
    pub(crate) key: Vec<String>,
    /// Whether the table is asked before a range is written.
    pub(crate) overlap: Overlap,
    /// Found when partitions were assigned, used when they are written.
    recoveries: Arc<Mutex<BTreeMap<Partition, Recovery>>>,
    /// Since when it is not known of a range whether it was written.
    pub(crate) pending: Arc<Mutex<BTreeMap<Partition, (NextOffset, Instant)>>>,
}

impl Target {
    /// Of a pipeline's configuration; `None` if it has no such sink.
    pub fn of(config: &LoadConfig, runtime: &Handle, overlap: Overlap) -> Option<Self> {
        let clickhouse = config.sink.clickhouse.clone()?;
        let (pipeline, topic) = (config.name.clone(), config.topic().to_string());
        let runtime = runtime.clone();
        let (recoveries, pending) = (Arc::default(), Arc::default());
        Some(Self { config: clickhouse, pipeline, topic, runtime, key: Vec::new(), overlap, recoveries, pending })
    }

    pub(crate) async fn read_table(&self, client: &Client) -> Result<Option<Table>, ChError> {
        Table::describe(client, &self.config.database, &self.config.table).await
    }

    async fn find_starts(&self, assignment: &Assignment<'_>) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
        let client = Client::open(&self.config).await.map_err(|error| source_error(&error))?;
        let table = self.read_table(&client).await.map_err(|error| source_error(&error))?;
        let mut starts = BTreeMap::new();
        for assigned in assignment.partitions {
            let start = self.find_start(&client, table.as_ref(), assignment, assigned).await?;
            starts.insert(assigned.partition, start);
        }
        Ok(starts)
    }

    async fn find_start(
        &self,
        client: &Client,
        table: Option<&Table>,
        assignment: &Assignment<'_>,
        assigned: &Assigned,
    ) -> Result<NextOffset, SourceError> {
        if self.is_upsert() {
            return self.start_of_changes(assignment, assigned);
        }
        let table = table.filter(|_| self.config.is_told());
        let partition = assigned.partition;
        let Some(committed) = &assigned.committed else {
            if let Some(table) = table {
                self.refuse_rows(client, table, partition).await?;
            }
            self.remember(partition, None);
            self.note_pending(partition, None);
            return Ok(assignment.first_offset(assigned, self.config.consumer.start));
        };
        let OffsetNote { pending, begun, resets, .. } = committed.note;
        self.note_pending(partition, pending.map(|pending| pending.end));
        let Some(table) = table else {
            // Told apart from its first attempt by nothing: the same token must meet the same rows.
            self.remember(partition, pending.map(Recovery::unread));
            return Ok(committed.next);
        };
        let named = pending.map(|Pending { end, attempt }| (Span { start: committed.next, end }, attempt));
        let end = named.map_or(0, |(span, _)| span.end).max(begun.unwrap_or_default());
        if end <= committed.next {
            self.remember(partition, None);
            return Ok(committed.next);
        }
        if let Some((span, attempt)) = named {
            let token = self.token(assignment.topic_id, partition, span, attempt, resets);
            client.await_end(&token).await.map_err(|error| source_error(&error))?;
        }
        let range = Span { start: committed.next, end };
        let recovery = self.recovery(client, table, partition, pending, range).await?;
        if let Some((span, _)) = named.filter(|(span, _)| span.start < assigned.range.0) {
            return self.after_retention(table, partition, span, assigned.range.0, recovery);
        }
        self.remember(partition, Some(recovery));
        Ok(committed.next)
    }

    /// Retention has taken records of a range that was begun: it goes on behind the range if the table has all of it.
    fn after_retention(
        &self,
        table: &Table,
        partition: Partition,
        range: Span,
        first: NextOffset,
        recovery: Recovery,
    ) -> Result<NextOffset, SourceError> {
        let Span { start, end } = range;
        let (found, count) = (recovery.present.range(start..end).count(), end - start);
        self.remember(partition, Some(recovery));
        if usize::try_from(count) == Ok(found) {
            self.settled(partition, end);
            return Ok(end);
        }
        let advice = Advice::new(&self.pipeline, PipelinePart::Clickhouse);
        Err(SourceError::refused(format!(
            "topic {}, partition {partition}: the insert of offsets {start} to {} was begun, {} has {found} of these {count} \
             offsets, and those before {first} were deleted by retention, so that nobody can tell whether the others were \
             records. To go on behind the range: {}; to load again what the topic still has from {first} on, some of it \
             twice: {}",
            self.topic,
            end - 1,
            table.place(),
            advice.clear_pending(partition, "end"),
            advice.set(partition, first)
        )).at(&self.topic, partition, start))
    }

    /// Reads which offsets of a range that was begun are in the table.
    async fn recovery(
        &self,
        client: &Client,
        table: &Table,
        partition: Partition,
        pending: Option<Pending>,
        range: Span,
    ) -> Result<Recovery, SourceError> {
        let found = if crate::testing::mutant::is("recovery_without_reading") {
            Vec::new()
        } else {
            let present = client.offsets_present(table, &self.topic, partition, range.start, range.end);
            present.await.map_err(|error| source_error(&error))?
        };
        tracing::info!(
            pipeline = %self.pipeline, sink = "clickhouse", partition, start = range.start, end = range.end,
            attempt = pending.map(|pending| pending.attempt), found = found.len(),
            "a range was begun; what of it is in the table is not written again"
        );
        Ok(Recovery::of_begun(pending, range.end, found.into_iter().collect()))
    }

    /// The table must not have rows of a partition of which the group knows nothing.
    async fn refuse_rows(&self, client: &Client, table: &Table, partition: Partition) -> Result<(), SourceError> {
        let present = client.last_offset(table, &self.topic, partition).await.map_err(|error| source_error(&error))?;
        let Some(last) = present else { return Ok(()) };
        Err(SourceError::refused(format!(
            "{}: the table has rows of topic {}, partition {partition}, up to offset {last}, but the consumer group has no offset \
             of it. If it expired or was deleted, beginning now could write rows twice; to go on behind them: {}. If the topic \
             was made again under its old name, load it into another table, because its offsets are those of the old rows",
            table.place(),
            self.topic,
            Advice::new(&self.pipeline, PipelinePart::Clickhouse).set(partition, last + 1)
        )).at(&self.topic, partition, last))
    }

    pub(crate) fn remember(&self, partition: Partition, recovery: Option<Recovery>) {
        if let Ok(mut recoveries) = self.recoveries.lock() {
            match recovery {
                Some(recovery) => recoveries.insert(partition, recovery),
                None => recoveries.remove(&partition),
            };
        }
    }

    /// The batch is written up to here: what was known of rows before no longer matters.
    pub(crate) fn settled(&self, partition: Partition, next: NextOffset) {
        let begun = self.recovery_of(partition).filter(|recovery| recovery.begun_behind(next).is_some());
        self.remember(partition, begun);
    }

    pub(crate) fn recovery_of(&self, partition: Partition) -> Option<Recovery> {
        self.recoveries.lock().ok().and_then(|recoveries| recoveries.get(&partition).cloned())
    }

    /// Keeps the time since when a range of the partition, up to `end`, is not decided; `None`: there is no such range.
    pub(crate) fn note_pending(&self, partition: Partition, end: Option<NextOffset>) {
        let Ok(mut pending) = self.pending.lock() else { return };
        match (end, pending.get(&partition)) {
            (Some(end), Some((known, _))) if *known == end => {}
            (Some(end), _) => drop(pending.insert(partition, (end, Instant::now()))),
            (None, _) => drop(pending.remove(&partition)),
        }
    }

    /// What the server tells a repeated insert by, and the id of its query. `resets` tells a range that is loaded again on
    /// purpose from a repeated one.
    pub(crate) fn token(
        &self,
        topic_id: Option<&str>,
        partition: Partition,
        range: Span,
        attempt: u32,
        resets: u32,
    ) -> String {
        let Self { pipeline, topic, .. } = self;
        let (id, Span { start, end }) = (topic_id.unwrap_or_default(), range);
        let again = if resets == 0 { String::new() } else { format!("/reset-{resets}") };
        format!("pressline/{pipeline}/{topic}/{id}/{partition}/{start}-{end}/{attempt}{again}")
    }
}

impl SinkPositions for Target {
    fn claim(&self, assignment: &Assignment<'_>) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
        wait_for(&self.runtime, self.find_starts(assignment))
    }

    /// A table with coordinates shows it.
    fn knows_first_start(&self) -> bool {
        self.config.is_told()
    }

    fn are_only_shown_by_group(&self) -> bool {
        false
    }
}

fn source_error(error: &ChError) -> SourceError {
    match error.class {
        clickhouse::ErrorClass::Schema | clickhouse::ErrorClass::Data | clickhouse::ErrorClass::Configuration => {
            SourceError::refused(error.to_string())
        }
        _ => SourceError::transient(error.to_string()),
    }
}
