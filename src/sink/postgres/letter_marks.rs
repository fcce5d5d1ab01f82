//! Marks of dead letters whose rows were written later: each a row of the positions' table, made in the transaction of the letter's row.
//!
//! Its `pipeline` is `NAME/dead_letter/TOPIC_ID/OFFSET`, which no pipeline is called, so nobody takes it for a position.

use std::collections::BTreeSet;

use super::connection::Connection;
use super::copy::Transaction;
use super::error::PgError;
use super::name::{TableName, quote_name, quote_text};
use super::offsets::CommitError;
use crate::kafka::offset_note::Partition;
use crate::testing::fail_point;

/// The marks of one pipeline in one topic.
#[derive(Clone, Debug)]
pub struct LetterMarks {
    table: TableName,
    prefix: String,
    topic: String,
    topic_id: String,
}

impl LetterMarks {
    /// In this table. Errors, in words: it is no name.
    pub fn new(table: &str, pipeline: &str, topic: &str, topic_id: &str) -> Result<Self, String> {
        let prefix = format!("{pipeline}/dead_letter/{topic_id}/");
        Ok(Self { table: TableName::parse(table)?, prefix, topic: topic.into(), topic_id: topic_id.into() })
    }

    /// Partitions and offsets of the letters that are marked. Errors: the server's.
    pub async fn read(&self, connection: &Connection) -> Result<BTreeSet<(Partition, i64)>, PgError> {
        let (prefix, topic) = (quote_text(&self.prefix), quote_text(&self.topic));
        let sql = format!(
            "SELECT {partition}, next_offset - 1 FROM {} WHERE left(pipeline, length({prefix})) = {prefix} AND topic = {topic}",
            self.table,
            partition = quote_name("partition"),
        );
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        let rows = connection.rows(&sql).await?;
        let marks = rows.iter().filter_map(|row| Some((number(row.get(0))?.try_into().ok()?, number(row.get(1))?)));
        Ok(marks.collect())
    }

    /// Marks, raises where the mark is there already, and commits, all in one message: an INSERT that does nothing would let COMMIT
    /// write the row again. While another transaction makes the same mark, it waits for its end.
    fn commit_statement(&self, partition: Partition, offset: i64) -> String {
        let key = quote_text(&format!("{}{offset}", self.prefix));
        let (topic, id) = (quote_text(&self.topic), quote_text(&self.topic_id));
        let mark = format!(
            "INSERT INTO {} (pipeline, topic, topic_id, {}, next_offset) VALUES ({key}, {topic}, {id}, {partition}, {})",
            self.table,
            quote_name("partition"),
            offset + 1,
        );
        // The mutants: the row alone; and a mark that is there lets the row be written again.
        if crate::testing::mutant::is("letter_mark_apart") {
            return "COMMIT".into();
        }
        if crate::testing::mutant::is("letter_mark_ignored") {
            return format!("{mark} ON CONFLICT DO NOTHING; COMMIT");
        }
        format!(
            "WITH marked AS ({mark} ON CONFLICT DO NOTHING RETURNING 1) SELECT 1 / (count(*) = 1)::int FROM marked; COMMIT"
        )
    }
}

impl Transaction<'_> {
    /// Commits the row of a dead letter with its mark. Errors: see [`CommitError`]; [`CommitError::Missed`] where it is marked
    /// already.
    pub async fn commit_letter(
        self,
        marks: &LetterMarks,
        partition: Partition,
        offset: i64,
    ) -> Result<(), CommitError> {
        fail_point::hit("pg_before_letter");
        let committed = self.commit_by(&marks.commit_statement(partition, offset)).await;
        fail_point::hit("pg_after_letter");
        committed
    }
}
