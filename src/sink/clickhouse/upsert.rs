//! Changes into a ReplacingMergeTree: of the rows of a key the one with the highest version is the last, and one that is marked as
//! deleted is none. To insert a row again changes nothing, so no range is ever in doubt.

use super::client::Client;
use super::error::load_error;
use super::positions::Target;
use super::session::ClickHouseSink;
use super::table::Table;
use super::versions;
use crate::config::finding::Finding;
use crate::config::sink::WriteMode;
use crate::kafka::consumer::{Assigned, Assignment, SourceError};
use crate::kafka::offset_note::NextOffset;
use crate::sink::changes::version;
use crate::sink::{LoadError, make_table};

impl Table {
    /// What stands against changes of rows with this key, which is empty while nobody knows it.
    pub fn refusals_of_upserts(&self, key: &[String]) -> Vec<Finding> {
        let plain =
            self.engine.strip_prefix("Replicated").or(self.engine.strip_prefix("Shared")).unwrap_or(&self.engine);
        let (mut findings, arguments) = (Vec::new(), versions::ARGUMENTS);
        let mut refuse = |subject: &str, what: String, cure: String| {
            findings.push(Finding::error(self.place(), subject, what, cure));
        };
        if plain != "ReplacingMergeTree" || !self.arguments.ends_with(versions::ARGUMENTS) {
            refuse(
                "engine",
                format!("engine {}({}), expected ReplacingMergeTree({arguments})", self.engine, self.arguments),
                format!(
                    "make another table {}; or set sink.clickhouse.mode = \"insert\", which writes each change as a row of its own \
                     into a MergeTree",
                    match key {
                        [] => format!("with ENGINE = ReplacingMergeTree({arguments}) ORDER BY the key"),
                        key => format!("with {}", versions::engine(key, "").replace('\n', " ")),
                    }
                ),
            );
        }
        for (name, kind) in versions::TYPES {
            let found = self.column(name).map(|column| column.type_name.as_str());
            if found != Some(kind) {
                let what = format!("column {name} is {}, expected {kind}", found.unwrap_or("not there"));
                refuse(
                    name,
                    what,
                    "make another table with that column: the engine's columns cannot be changed".into(),
                );
            }
        }
        // One column in parentheses keeps them.
        let bare = self.sorting_key.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
        let sorted = bare.unwrap_or(&self.sorting_key).split(", ");
        let mut sorted: Vec<String> = sorted.map(|name| name.replace('`', "")).collect();
        let mut wanted = key.to_vec();
        sorted.sort_unstable();
        wanted.sort_unstable();
        if !key.is_empty() && sorted != wanted {
            refuse(
                "ORDER BY",
                format!("the table is ordered by ({}), the key is ({})", self.sorting_key, key.join(", ")),
                "make another table ordered by the key alone, or correct sink.clickhouse.pk_fields".into(),
            );
        }
        let names = self.columns.iter().map(|column| column.name.as_str());
        let beside = versions::beside_key(&self.partition_key, key, names);
        if !key.is_empty() && !beside.is_empty() {
            refuse(
                "PARTITION BY",
                format!(
                    "the table is partitioned by {}, which is not in the key: old rows would stay",
                    beside.join(", ")
                ),
                "make another table without PARTITION BY, or partitioned by columns of the key".into(),
            );
        }
        findings
    }
}

impl Target {
    /// Whether records are changes.
    pub(super) fn is_upsert(&self) -> bool {
        self.config.mode == WriteMode::Upsert
    }

    /// Where a partition begins: what was written before may be written again. Errors: it was added to the topic.
    pub(super) fn start_of_changes(
        &self,
        assignment: &Assignment<'_>,
        assigned: &Assigned,
    ) -> Result<NextOffset, SourceError> {
        let (partition, first) = (assigned.partition, assignment.first_partitions);
        if partition >= first {
            return Err(SourceError::refused(format!(
                "partition {partition} was added to topic {}, which had {first} when it was loaded first: keys have moved to it, and \
                 their offsets, which are the versions of their rows, begin low again. Copy the topic into one with as many \
                 partitions from its beginning, and load that into another table",
                self.topic
            )).about(|fault| fault.partition(&self.topic, partition)));
        }
        self.remember(partition, None);
        self.note_pending(partition, None);
        Ok(match &assigned.committed {
            Some(committed) => committed.next,
            None => assignment.first_offset(assigned, self.config.consumer.start),
        })
    }
}

impl ClickHouseSink {
    /// Makes the view over a table that was made.
    pub(super) async fn make_view(&self, client: &Client) -> Result<(), LoadError> {
        let view = versions::create_view(&self.target.config);
        match client.define(&view).await {
            Ok(()) => tracing::info!(pipeline = %self.target.pipeline, sink = "clickhouse", "view made:\n{view}"),
            // The table is what counts.
            Err(_) => {
                let cure = make_table("sink.clickhouse", &view);
                tracing::warn!(pipeline = %self.target.pipeline, sink = "clickhouse", "the view was not made; {cure}");
            }
        }
        Ok(())
    }

    /// Makes the view again over a table that was altered: its columns and their types are those of before, and a wider number would
    /// be cut there. One that somebody has changed stays as it is.
    pub(super) async fn show_in_view(&self) -> Result<(), LoadError> {
        let config = &self.target.config;
        let ours = self.client.numbers(&versions::count_views(config)).await.map_err(|error| load_error(&error))?;
        if ours != [1] {
            return Ok(());
        }
        let view = versions::replace_view(config);
        match self.client.define(&view).await {
            Ok(()) => tracing::info!(pipeline = %self.target.pipeline, sink = "clickhouse", "view made again:\n{view}"),
            // The table is what counts.
            Err(_) => tracing::warn!(
                pipeline = %self.target.pipeline, sink = "clickhouse",
                "the view is one of the table of before, because the user may not replace it; let an administrator run:\n{view};"
            ),
        }
        Ok(())
    }

    /// Marks all rows as deleted that the record at this offset finds. As a change of each of them, so that to do it again
    /// changes nothing.
    pub(super) async fn delete_all(&self, offset: i64) -> Result<(), LoadError> {
        let statement = versions::delete_all(&self.target.config, version(offset));
        match &self.table {
            Some(_) => self.client.execute(&statement).await.map_err(|error| load_error(&error)),
            None => Ok(()),
        }
    }

    /// The table is to be judged by this key from now on.
    pub(super) fn has_key(&mut self, key: &[String]) -> Result<(), LoadError> {
        if self.target.key == key {
            return Ok(());
        }
        self.target.key = key.to_vec();
        self.judge().map_err(LoadError::refused)
    }
}
