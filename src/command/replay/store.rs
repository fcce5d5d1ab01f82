//! What a replay has stored: its group's offsets with their notes, and for PostgreSQL the positions beside the rows.

use std::collections::{BTreeMap, BTreeSet};

use tokio::runtime::Runtime;

use super::job::{Job, Work};
use super::{ReplayArgs, ReplayError};
use crate::command::offsets::Group;
use crate::config::sink::{ClickHouseConfig, PostgresConfig, WriteMode};
use crate::kafka::offset_note::{CommittedOffset, NextOffset, OffsetNote, Partition, Tally};
use crate::kafka::replay_range::{Overlap, RangeProgress};
use crate::kafka::topic_id::TopicId;
use crate::sink::clickhouse::{Client, Table};
use crate::sink::postgres;
use crate::sink::postgres::{Connection, Offsets, TableName};

/// The group, and the database where that has positions or rows to look at.
pub struct Store<'a> {
    /// The replay's group, asked from outside.
    pub group: Group,
    job: &'a Job,
    database: Database,
    runtime: &'a Runtime,
}

enum Database {
    None,
    Postgres(Box<PostgresConfig>, Offsets),
    ClickHouse(Box<ClickHouseConfig>),
}

/// What a replay that was begun has noted.
pub struct Noted {
    /// What it was begun with.
    pub asked: String,
    /// Where each partition stands.
    pub progress: BTreeMap<Partition, RangeProgress>,
    /// Partitions with a range of which only the table tells whether it was written.
    pub undecided: BTreeSet<Partition>,
}

impl<'a> Store<'a> {
    /// Connects to Kafka. Errors: no broker or topic; invalid names.
    pub fn open(job: &'a Job, runtime: &'a Runtime) -> Result<Self, ReplayError> {
        let group = Group::open(job.kafka(), job.topic(), &job.group(), job.topic_ids())?;
        let id = group.topic_id.as_ref().map_or("", TopicId::as_str);
        let database = match &job.work {
            Work::Load(config, _) => match (&config.sink.postgres, &config.sink.clickhouse) {
                (Some(sink), _) => {
                    let offsets = Offsets::new(&sink.offsets_table, &job.id(), job.topic(), id)
                        .map_err(|what| ReplayError::Refused(format!("sink.postgres.offsets_table: {what}")))?;
                    Database::Postgres(Box::new(sink.clone()), offsets)
                }
                (None, Some(sink)) => Database::ClickHouse(Box::new(sink.clone())),
                (None, None) => Database::None,
            },
            Work::Relay(_) => Database::None,
        };
        Ok(Self { group, job, database, runtime })
    }

    /// The topic's id, as it is noted.
    pub fn topic_id(&self) -> Option<String> {
        self.group.topic_id.as_ref().map(|id| id.as_str().to_string())
    }

    /// What is noted; `None`: nothing was begun. Errors: it is about another topic of that name; the notes have expired.
    pub fn noted(&self) -> Result<Option<Noted>, ReplayError> {
        let committed = self.group.committed()?;
        let rows = self.rows()?;
        let mut noted = Noted { asked: String::new(), progress: BTreeMap::new(), undecided: BTreeSet::new() };
        for (&partition, offset) in &committed {
            let Some(partition_progress) = partition_progress(offset, rows.get(&partition).copied()) else { continue };
            let id = &offset.note.topic_id;
            if id.is_some() && *id != self.topic_id() {
                return Err(self.start_again("the topic was deleted and recreated since it was begun"));
            }
            if offset.note.pending.is_some() && matches!(self.database, Database::ClickHouse(_)) {
                noted.undecided.insert(partition);
            }
            noted.asked = offset.note.asked.clone().unwrap_or_default();
            noted.progress.insert(partition, partition_progress);
        }
        let planned = committed.values().find_map(|offset| offset.note.partitions);
        if usize::try_from(planned.unwrap_or(-1)) == Ok(noted.progress.len()) {
            return Ok(Some(noted));
        }
        if !rows.is_empty() {
            return Err(self.start_again(
                "its positions are in the database, but its bounds, kept by its group, have expired or were deleted",
            ));
        }
        // Nothing, or the notes of a process that was stopped while it made them: no worker has begun.
        Ok(None)
    }

    fn start_again(&self, what: &str) -> ReplayError {
        ReplayError::Refused(format!(
            "replay {}: {what}. To start over: empty {}, then add --restart",
            self.job.name,
            self.job.target()
        ))
    }

    /// Positions in PostgreSQL.
    fn rows(&self) -> Result<BTreeMap<Partition, NextOffset>, ReplayError> {
        let Database::Postgres(sink, offsets) = &self.database else { return Ok(BTreeMap::new()) };
        let stored = self.runtime.block_on(async {
            let connection = Connection::open(sink, &self.job.id()).await?;
            offsets.stored(&connection).await
        })?;
        Ok(stored.into_iter().map(|(partition, row)| (partition, row.next_offset)).collect())
    }

    /// Makes the positions of partitions in which nothing was done yet, where the database keeps them.
    pub fn claim(&self, progress: &BTreeMap<Partition, RangeProgress>) -> Result<(), ReplayError> {
        let Database::Postgres(sink, offsets) = &self.database else { return Ok(()) };
        let untouched =
            progress.iter().filter(|(_, partition_progress)| partition_progress.account.tally == Tally::default());
        let first =
            untouched.map(|(partition, partition_progress)| (*partition, partition_progress.position)).collect();
        self.runtime.block_on(async {
            let connection = Connection::open(sink, &self.job.id()).await?;
            offsets.ensure_table(&connection).await?;
            offsets.claim(&connection, &first).await.map_err(|error| ReplayError::Refused(error.to_string()))
        })?;
        Ok(())
    }

    /// Moves a partition to where it stands now, with its account.
    pub fn move_on(
        &self,
        partition: Partition,
        partition_progress: RangeProgress,
        asked: &str,
    ) -> Result<(), ReplayError> {
        let committed = self.group.committed()?;
        let noted = committed.get(&partition).map(|offset| offset.note.clone()).unwrap_or_default();
        let (account, asked) = (Some(partition_progress.account), Some(asked.to_string()));
        let begun = noted.begun.filter(|begun| *begun > partition_progress.position);
        let note = OffsetNote { pending: None, begun, then: None, account, asked, ..noted };
        if let Database::Postgres(sink, offsets) = &self.database {
            self.runtime.block_on(async {
                let connection = Connection::open(sink, &self.job.id()).await?;
                offsets.set(&connection, &BTreeMap::from([(partition, partition_progress.position)]), |_| true).await
            })?;
        }
        Ok(self.group.commit(partition, partition_progress.position, &note)?)
    }

    /// Removes what the database has of the replay.
    pub fn forget(&self) -> Result<(), ReplayError> {
        let Database::Postgres(sink, offsets) = &self.database else { return Ok(()) };
        self.runtime.block_on(async {
            let connection = Connection::open(sink, &self.job.id()).await?;
            offsets.ensure_table(&connection).await?;
            offsets.set(&connection, &BTreeMap::new(), |_| false).await
        })?;
        Ok(())
    }

    /// Refuses a target that has records of these ranges, as far as it can be told: they would come twice. ClickHouse's rows
    /// tell which records they are; elsewhere the target must be empty, unless the replay was given a name of its own.
    pub fn refuse_overlap(
        &self,
        args: &ReplayArgs,
        job: &Job,
        progress: &BTreeMap<Partition, RangeProgress>,
    ) -> Result<(), ReplayError> {
        let must_be_empty = args.name.is_none() || args.restart;
        if let Work::Relay(config) = &job.work {
            let dead = config.dead_topic();
            for topic in [&job.into, &dead] {
                if !self.group.has_topic(topic)? {
                    return Err(ReplayError::Refused(format!(
                        "topic {topic} does not exist: make it, or have the replay make it with --create-topics"
                    )));
                }
            }
            let used = self.records_of(&job.into)?;
            return if job.overlap == Overlap::None && must_be_empty { self.refuse_used(used) } else { Ok(()) };
        }
        if job.overlap == Overlap::Ask {
            return Ok(());
        }
        let used = self.runtime.block_on(async {
            match &self.database {
                Database::None => Ok(0),
                Database::Postgres(sink, _) if must_be_empty => rows_of(sink, &job.id()).await,
                Database::Postgres(..) => Ok(0),
                Database::ClickHouse(sink) => rows_in_ranges(sink, job.topic(), progress).await,
            }
        })?;
        self.refuse_used(used)
    }

    /// Errors: the target's rows have keys, and older changes would come over newer ones. In ClickHouse the version of each row says
    /// which is newer.
    pub fn refuse_upserts(&self) -> Result<(), ReplayError> {
        match &self.database {
            Database::Postgres(sink, _) if sink.mode == WriteMode::Upsert => Err(ReplayError::Refused(
                "sink.postgres.mode is upsert, and a replay would write older changes of a row over newer ones. Set the sink's offsets \
                 back instead (pressline offsets set), from where it applies all changes again in their order"
                    .into(),
            )),
            _ => Ok(()),
        }
    }

    /// Whether the target's rows tell which records they are, so that only missing ones are written.
    pub fn tells_records(&self) -> Result<bool, ReplayError> {
        let Database::ClickHouse(sink) = &self.database else { return Ok(false) };
        if !sink.is_told() {
            return Ok(false);
        }
        self.runtime.block_on(async {
            let client = Client::open(sink).await?;
            let table = Table::describe(&client, &sink.database, &sink.table).await?;
            // One that is not there yet is made with the columns.
            Ok(table.is_none_or(|table| table.has_coordinates()))
        })
    }

    fn refuse_used(&self, records: u64) -> Result<(), ReplayError> {
        if records == 0 {
            return Ok(());
        }
        let target = self.job.target();
        Err(ReplayError::Refused(format!(
            "{target} is not empty: what an earlier replay, or somebody else, has written there might come twice. Empty it, name \
             another, or, where these are other records, give this replay a --name of its own"
        )))
    }

    /// Offsets that a topic keeps. Errors: there is no such topic.
    fn records_of(&self, topic: &str) -> Result<u64, ReplayError> {
        let group = Group::open(self.job.kafka(), topic, &self.group.name, false)?;
        // Also what is not committed yet: it may be the output of a process that still runs.
        let kept = |(partition, (low, stable)): (&Partition, &(i64, i64))| {
            let high = group.highs.get(partition).copied().unwrap_or_default();
            u64::try_from(high.max(*stable) - low).unwrap_or_default()
        };
        Ok(group.ranges.iter().map(kept).sum())
    }
}

/// Where a partition stands by its note, and by the row that PostgreSQL has of it.
fn partition_progress(offset: &CommittedOffset, row: Option<NextOffset>) -> Option<RangeProgress> {
    let mut account = offset.note.account?;
    let position = row.unwrap_or(offset.next);
    if position != offset.next && offset.note.pending.is_some_and(|pending| pending.end == position) {
        account.tally = account.tally.plus(offset.note.then.unwrap_or_default());
    }
    Some(RangeProgress { position, account })
}

/// Rows of the table: 1 stands for some.
async fn rows_of(sink: &PostgresConfig, id: &str) -> Result<u64, ReplayError> {
    let name = TableName::parse(&sink.table).map_err(|what| ReplayError::Refused(format!("--into {what}")))?;
    let connection = Connection::open(sink, id).await?;
    if postgres::Table::read(&connection, &name).await?.is_none() {
        return Ok(0);
    }
    Ok(connection.rows(&format!("SELECT 1 FROM {name} LIMIT 1")).await?.len() as u64)
}

async fn rows_in_ranges(
    sink: &ClickHouseConfig,
    topic: &str,
    progress: &BTreeMap<Partition, RangeProgress>,
) -> Result<u64, ReplayError> {
    let client = Client::open(sink).await?;
    let table = Table::describe(&client, &sink.database, &sink.table).await?;
    let exactly = sink.is_told();
    let Some(table) = table.filter(|table| exactly && table.has_coordinates()) else { return Ok(0) };
    let mut rows = 0;
    for (&partition, partition_progress) in progress {
        rows += client
            .count_rows(&table, topic, partition, partition_progress.account.from, partition_progress.account.end)
            .await?;
    }
    Ok(rows)
}
