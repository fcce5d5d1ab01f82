//! Positions: how far each partition is loaded, in the same database as the rows, moved in the same transaction.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::catalogue::{ColumnType, Table};
use super::connection::Connection;
use super::copy::Transaction;
use super::error::{ErrorClass, PgError};
use super::name::{TableName, quote_name, quote_text};
use crate::kafka::advice::{Advice, PipelinePart};
use crate::kafka::offset_note::Partition;
use crate::testing::fail_point;

/// Version of the rows that are written, and the newest that is read. Tables made before it was noted have no such column:
/// their rows are of version 1.
const VERSION: i64 = 1;

/// The positions of one pipeline in one topic.
#[derive(Clone, Debug)]
pub struct Offsets {
    table: TableName,
    pipeline: String,
    topic: String,
    topic_id: String,
}

/// A partition's way in one transaction: from where the table says, to after the batch's last record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Advance {
    /// Partition.
    pub partition: Partition,
    /// Position before.
    pub start: i64,
    /// Position after.
    pub end: i64,
}

/// A partition's position in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Next offset to load.
    pub next_offset: i64,
    /// The row was made just now.
    pub is_new: bool,
}

/// A partition's row as it is, whatever topic it is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Next offset to load.
    pub next_offset: i64,
    /// Id of the topic it belongs to.
    pub topic_id: String,
    /// Version of the row.
    pub version: i64,
}

/// Why a commit did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommitError {
    /// A position is not where this batch began: another owner moved it. Nothing is written.
    #[error("a position is not where the batch began: another process loads this partition; nothing is written")]
    Missed,
    /// The connection gave out during COMMIT: written or not, [`Offsets::settle`] tells.
    #[error("it is not known whether the commit succeeded: {0}")]
    Unknown(PgError),
    /// The server refused. Nothing is written.
    #[error("the commit failed: {0}")]
    Failed(PgError),
}

/// What became of a commit whose result was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// All positions are at the batch's end: it is written.
    Committed,
    /// All are at its start: it is not.
    NotCommitted,
    /// Neither: another owner moved on. Take the positions from the table.
    Moved,
}

/// Why positions cannot be taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The table's positions are of another topic of that name.
    #[error(
        "{table}: the positions of pipeline {pipeline} in topic {topic} (partition {partition}) belong to the topic with id \
         {stored}, but the topic's id is now {actual}: it was deleted and made again, so the old positions mean nothing. To load \
         the new topic from its beginning: {}",
        Advice::new(pipeline, PipelinePart::Postgres).set_all("beginning")
    )]
    AnotherTopic {
        /// Table of positions.
        table: String,
        /// Pipeline.
        pipeline: String,
        /// Topic.
        topic: String,
        /// Partition.
        partition: Partition,
        /// Id in the table.
        stored: String,
        /// Id in Kafka.
        actual: String,
    },
    /// A newer pressline wrote the row.
    #[error(
        "{table}: the position of pipeline {pipeline} in topic {topic}, partition {partition}, was written by a newer pressline \
         (version {version} of the row; this one reads version {}). Start the newer one, which reads both",
        VERSION
    )]
    NewerVersion {
        /// Table of positions.
        table: String,
        /// Pipeline.
        pipeline: String,
        /// Topic.
        topic: String,
        /// Partition.
        partition: Partition,
        /// Version in the table.
        version: i64,
    },
    /// The database's.
    #[error(transparent)]
    Database(#[from] PgError),
}

/// What the rows of a pipeline's dead letters are called, but for the letter's offset at the end.
pub(super) fn letter_prefix(pipeline: &str, topic_id: &str) -> String {
    format!("{pipeline}/dead_letter/{topic_id}/")
}

impl Offsets {
    /// Positions of a pipeline in a topic. Errors, in words: `table` is no name.
    pub fn new(table: &str, pipeline: &str, topic: &str, topic_id: &str) -> Result<Self, String> {
        Ok(Self {
            table: TableName::parse(table)?,
            pipeline: pipeline.into(),
            topic: topic.into(),
            topic_id: topic_id.into(),
        })
    }

    /// The statement that makes the table.
    pub fn ddl(&self) -> String {
        // Room on each page lets an update stay on it (HOT), so the table does not grow.
        format!(
            "CREATE TABLE IF NOT EXISTS {} (\n    pipeline text NOT NULL,\n    topic text NOT NULL,\n    topic_id text NOT \
             NULL,\n    \"partition\" integer NOT NULL,\n    next_offset bigint NOT NULL,\n    updated_at timestamptz NOT \
             NULL DEFAULT now(),\n    version smallint NOT NULL DEFAULT 1,\n    PRIMARY KEY (pipeline, topic, \
             \"partition\")\n) WITH (fillfactor = 50)",
            self.table
        )
    }

    /// Makes the table where it is missing. Errors: it cannot be made, or is another one; the sentence holds the statement
    /// that an administrator has to run.
    pub async fn ensure_table(&self, connection: &Connection) -> Result<(), PgError> {
        if self.table(connection).await?.is_some() {
            return Ok(());
        }
        match connection.run(&self.ddl()).await {
            Ok(()) => {}
            // Another worker made it at the same time.
            Err(error) if error.is("23505") || error.is("42P07") => {}
            Err(error) if error.is("42501") => {
                let what = format!("the user may not create {}; let its owner run:\n{}", self.table, self.ddl());
                return Err(PgError { what, ..error });
            }
            Err(error) => return Err(error),
        }
        self.table(connection).await?.map(drop).ok_or_else(|| self.wrong(connection, "is missing"))
    }

    fn wrong(&self, connection: &Connection, what: &str) -> PgError {
        let what = format!("table {} {what}; expected:\n{}", self.table, self.ddl());
        connection.error(ErrorClass::Schema, what)
    }

    /// The table as the catalogue has it; `None` while there is none. Errors: it is another one; the server's.
    pub async fn table(&self, connection: &Connection) -> Result<Option<Table>, PgError> {
        let Some(table) = Table::read(connection, &self.table).await? else { return Ok(None) };
        let expected = [
            ("pipeline", ColumnType::Text),
            ("topic", ColumnType::Text),
            ("topic_id", ColumnType::Text),
            ("partition", ColumnType::Int4),
            ("next_offset", ColumnType::Int8),
            ("updated_at", ColumnType::TimestampTz(6)),
        ];
        for (name, kind) in expected {
            if table.column(name).is_none_or(|column| column.kind != kind) {
                return Err(self.wrong(connection, &format!("has no column {name} of the right type")));
            }
        }
        if table.unlogged {
            return Err(self.wrong(connection, "is UNLOGGED, so a crash of the server would empty it"));
        }
        Ok(Some(table))
    }

    /// The positions that the table has, without making any. Errors: those of another topic; the server's.
    pub async fn positions(&self, connection: &Connection) -> Result<BTreeMap<Partition, i64>, ClaimError> {
        self.read(connection, "").await
    }

    /// The rows as they are, also those of another topic of that name; none where the table is not there. Errors: the
    /// server's.
    pub async fn stored(&self, connection: &Connection) -> Result<BTreeMap<Partition, Stored>, PgError> {
        match self.rows(connection, "").await {
            Err(error) if error.is("42P01") => Ok(BTreeMap::new()),
            rows => rows,
        }
    }

    /// Sets positions, whatever they were, all or none, and removes those of partitions that `keep` refuses. Nobody may be
    /// loading meanwhile: whoever is would miss its next commit and read on from here. Errors: the server's.
    pub async fn set(
        &self,
        connection: &Connection,
        positions: &BTreeMap<Partition, i64>,
        keep: impl Fn(Partition) -> bool,
    ) -> Result<(), PgError> {
        let (pipeline, topic, id) = self.literals();
        // One message is one transaction.
        let mut sql = String::new();
        for partition in self.rows(connection, "").await?.into_keys().filter(|partition| !keep(*partition)) {
            let _ = write!(
                sql,
                "DELETE FROM {} WHERE pipeline = {pipeline} AND topic = {topic} AND \"partition\" = {partition}; ",
                self.table
            );
        }
        let letters = quote_text(&letter_prefix(&self.pipeline, &self.topic_id));
        for (partition, offset) in positions {
            // Which records from there on are dead letters is decided again.
            let _ = write!(
                sql,
                "UPDATE {} SET next_offset = -1 WHERE topic = {topic} AND \"partition\" = {partition} AND CASE WHEN left(pipeline, \
                 length({letters})) = {letters} THEN substr(pipeline, length({letters}) + 1)::bigint >= {offset} ELSE false END; ",
                self.table
            );
            let _ = write!(
                sql,
                "INSERT INTO {} (pipeline, topic, topic_id, \"partition\", next_offset) VALUES ({pipeline}, {topic}, {id}, \
                 {partition}, {offset}) ON CONFLICT (pipeline, topic, \"partition\") DO UPDATE SET topic_id = \
                 EXCLUDED.topic_id, next_offset = EXCLUDED.next_offset, updated_at = now(); ",
                self.table
            );
        }
        connection.run(&sql).await
    }

    /// Makes rows for partitions that have none, at the offsets given, and returns what the table then says of each: that is
    /// where the load begins. Errors: positions of another topic; the server's.
    pub async fn claim(
        &self,
        connection: &Connection,
        first: &BTreeMap<Partition, i64>,
    ) -> Result<BTreeMap<Partition, Position>, ClaimError> {
        if first.is_empty() {
            return Ok(BTreeMap::new());
        }
        let (pipeline, topic, id) = self.literals();
        let values: Vec<String> = first
            .iter()
            .map(|(partition, offset)| format!("({pipeline}, {topic}, {id}, {partition}, {offset})"))
            .collect();
        let insert = format!(
            "INSERT INTO {} (pipeline, topic, topic_id, \"partition\", next_offset) VALUES {} ON CONFLICT DO NOTHING \
             RETURNING \"partition\"",
            self.table,
            values.join(", ")
        );
        let made: Vec<Partition> =
            connection.rows(&insert).await?.iter().filter_map(|row| row.get(0)?.parse().ok()).collect();
        // A connection that broke in its COMMIT may still be committing: its row locks end with it.
        let known = self.read(connection, " FOR UPDATE").await?;
        let claimed = first.keys().map(|&partition| match known.get(&partition) {
            Some(&next_offset) => Ok((partition, Position { next_offset, is_new: made.contains(&partition) })),
            // Whoever read on without it would be a member of the group that reads nothing of the partition.
            None => {
                let what = format!("the row of partition {partition} in {} went away while it was claimed", self.table);
                Err(connection.error(ErrorClass::Transient, what).into())
            }
        });
        claimed.collect()
    }

    /// After [`CommitError::Unknown`], on a new connection: waits until the old one's transaction is over, then tells what
    /// became of it. Errors: positions of another topic; the server's, among them a lock that was not granted in time
    /// (ask again).
    pub async fn settle(&self, connection: &Connection, advances: &[Advance]) -> Result<Settled, ClaimError> {
        // The old server process may still be committing: its row locks end with it.
        let known = self.read(connection, " FOR UPDATE").await?;
        let at = |position: fn(&Advance) -> i64| {
            let mut moved = advances.iter().filter(|advance| advance.start != advance.end);
            moved.all(|advance| known.get(&advance.partition) == Some(&position(advance)))
        };
        Ok(if at(|advance| advance.end) {
            Settled::Committed
        } else if at(|advance| advance.start) {
            Settled::NotCommitted
        } else {
            Settled::Moved
        })
    }

    async fn read(&self, connection: &Connection, lock: &str) -> Result<BTreeMap<Partition, i64>, ClaimError> {
        let mut positions = BTreeMap::new();
        for (partition, Stored { next_offset, topic_id, version }) in self.rows(connection, lock).await? {
            if version > VERSION {
                return Err(ClaimError::NewerVersion {
                    table: self.table.to_string(),
                    pipeline: self.pipeline.clone(),
                    topic: self.topic.clone(),
                    partition,
                    version,
                });
            }
            if topic_id != self.topic_id {
                return Err(ClaimError::AnotherTopic {
                    table: self.table.to_string(),
                    pipeline: self.pipeline.clone(),
                    topic: self.topic.clone(),
                    partition,
                    stored: topic_id,
                    actual: self.topic_id.clone(),
                });
            }
            positions.insert(partition, next_offset);
        }
        Ok(positions)
    }

    async fn rows(&self, connection: &Connection, lock: &str) -> Result<BTreeMap<Partition, Stored>, PgError> {
        let (pipeline, topic, _) = self.literals();
        let sql = format!(
            // The version by way of the whole row, so that a table without that column can be asked as well.
            "SELECT \"partition\", next_offset, topic_id, to_jsonb(o) ->> 'version' FROM {} o WHERE pipeline = {pipeline} AND \
             topic = {topic} ORDER BY \"partition\"{lock}",
            self.table
        );
        let mut stored = BTreeMap::new();
        for row in connection.rows(&sql).await? {
            let number = |index: usize| row.get(index).and_then(|text| text.parse::<i64>().ok());
            let (Some(partition), Some(offset)) = (number(0), number(1)) else { continue };
            let partition = Partition::try_from(partition).unwrap_or(-1);
            let topic_id = row.get(2).unwrap_or_default().to_string();
            let version = number(3).unwrap_or(VERSION);
            stored.insert(partition, Stored { next_offset: offset, topic_id, version });
        }
        Ok(stored)
    }

    fn literals(&self) -> (String, String, String) {
        (quote_text(&self.pipeline), quote_text(&self.topic), quote_text(&self.topic_id))
    }

    /// Compares, sets and raises when it misses, then commits, all in one message: a bare UPDATE that hits nothing would let
    /// COMMIT write the rows. One statement a partition, ascending, so that two owners cannot wait for each other.
    fn commit_statement(&self, advances: &[Advance]) -> String {
        let (pipeline, topic, id) = self.literals();
        let mut ascending: Vec<&Advance> = advances.iter().filter(|advance| advance.start != advance.end).collect();
        ascending.sort_by_key(|advance| advance.partition);
        let mut sql = String::new();
        for Advance { partition, start, end } in ascending {
            if crate::testing::mutant::is("no_compare_and_set") {
                let _ = write!(
                    sql,
                    "UPDATE {} SET next_offset = {end} WHERE pipeline = {pipeline} AND topic = {topic} AND \"partition\" = \
                     {partition}; ",
                    self.table
                );
                continue;
            }
            let _ = write!(
                sql,
                "WITH moved AS (UPDATE {} SET next_offset = {end}, updated_at = now() WHERE pipeline = {pipeline} AND topic = \
                 {topic} AND topic_id = {id} AND {} = {partition} AND next_offset = {start} RETURNING 1) SELECT 1 / \
                 {}::int FROM moved; ",
                self.table,
                quote_name("partition"),
                // The mutant looks at the result and raises nothing.
                if crate::testing::mutant::is("compare_without_raise") {
                    "greatest(count(*), 1)"
                } else {
                    "(count(*) = 1)"
                },
            );
        }
        sql.push_str("COMMIT");
        sql
    }
}

impl Transaction<'_> {
    /// The mutant `positions_before_rows`: commits the positions now, and the rows for themselves.
    #[cfg(feature = "mutants")]
    pub async fn positions_first(&self, offsets: &Offsets, advances: Vec<Advance>) -> Result<Vec<Advance>, PgError> {
        if !crate::testing::mutant::is("positions_before_rows") {
            return Ok(advances);
        }
        self.connection().control(&offsets.commit_statement(&advances)).await?;
        self.connection().begin().await?;
        Ok(Vec::new())
    }

    /// Moves the positions from where the batch began to its end, and commits them with the rows. Errors: see
    /// [`CommitError`].
    pub async fn commit(self, offsets: &Offsets, advances: &[Advance]) -> Result<(), CommitError> {
        self.commit_passing_over(String::new(), offsets, advances).await
    }

    /// The same with statements that note which records were passed over as dead letters.
    pub(super) async fn commit_passing_over(
        self,
        mut sql: String,
        offsets: &Offsets,
        advances: &[Advance],
    ) -> Result<(), CommitError> {
        sql.push_str(&offsets.commit_statement(advances));
        fail_point::hit("pg_before_commit");
        fail_point::soon("pg_during_commit");
        let committed = self.commit_by(&sql).await;
        fail_point::hit("pg_after_commit");
        committed
    }

    /// Commits by statements that divide by zero where nothing may be written.
    pub(super) async fn commit_by(mut self, sql: &str) -> Result<(), CommitError> {
        let error = match self.connection().control(sql).await {
            Ok(_) => {
                self.finish();
                return Ok(());
            }
            Err(error) => error,
        };
        if error.connection_lost {
            return Err(CommitError::Unknown(error));
        }
        // The server has given the transaction up; its connection can be used again after a ROLLBACK.
        if self.connection().control("ROLLBACK").await.is_ok() {
            self.finish();
        }
        Err(if error.is("22012") { CommitError::Missed } else { CommitError::Failed(error) })
    }
}
