//! What the positions' table knows of dead letters: that the record was passed over as one, and that its row was written later.
//!
//! A letter is acknowledged by Kafka before the position moves. Killed in between, the sink reads the record again, and may write its
//! row by then: so the letter alone does not tell that there is none. Therefore the transaction that moves the position past the record
//! makes a row for the letter, and the one that writes its record after all moves that row by one. The row's `pipeline` is
//! `NAME/dead_letter/TOPIC_ID/OFFSET`, which no pipeline is called, so nobody takes it for a position.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::connection::Connection;
use super::copy::Transaction;
use super::error::PgError;
use super::name::{TableName, quote_name, quote_text};
use super::offsets::{CommitError, letter_prefix};
use crate::kafka::offset_note::Partition;
use crate::testing::fail_point;

/// The letters of one pipeline in one topic.
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
        let prefix = letter_prefix(pipeline, topic_id);
        Ok(Self { table: TableName::parse(table)?, prefix, topic: topic.into(), topic_id: topic_id.into() })
    }

    /// What is known of letters, by partition and offset: whether the row was written later. Errors: the server's.
    pub async fn read(&self, connection: &Connection) -> Result<BTreeMap<(Partition, i64), bool>, PgError> {
        let (prefix, topic) = (quote_text(&self.prefix), quote_text(&self.topic));
        let sql = format!(
            "SELECT {partition}, substr(pipeline, length({prefix}) + 1), next_offset FROM {} WHERE left(pipeline, \
             length({prefix})) = {prefix} AND topic = {topic}",
            self.table,
            partition = quote_name("partition"),
        );
        let number = |text: Option<&str>| text.and_then(|text| text.parse::<i64>().ok());
        let rows = connection.rows(&sql).await?;
        let known = rows.iter().filter_map(|row| {
            let (partition, offset) = (number(row.get(0))?.try_into().ok()?, number(row.get(1))?);
            // Set back, it is not known yet what becomes of it.
            let next_offset = number(row.get(2)).filter(|next_offset| *next_offset >= 0)?;
            Some(((partition, offset), next_offset > offset))
        });
        Ok(known.collect())
    }

    /// Notes that these records are passed over as dead letters; part of the message that commits. Ascending, so that two owners cannot
    /// wait for each other.
    pub(super) fn passed_over(&self, mut letters: Vec<(Partition, i64)>) -> String {
        letters.sort_unstable();
        letters.dedup();
        letters.into_iter().fold(String::new(), |mut sql, (partition, offset)| {
            let _ = write!(
                sql,
                "{} ON CONFLICT (pipeline, topic, {}) DO UPDATE SET next_offset = EXCLUDED.next_offset, updated_at = now() WHERE \
                 o.next_offset < 0; ",
                self.insert(partition, offset, offset),
                quote_name("partition")
            );
            sql
        })
    }

    fn insert(&self, partition: Partition, offset: i64, next_offset: i64) -> String {
        format!(
            "INSERT INTO {} AS o (pipeline, topic, topic_id, {}, next_offset) VALUES ({}, {}, {}, {partition}, {next_offset})",
            self.table,
            quote_name("partition"),
            self.key(offset),
            quote_text(&self.topic),
            quote_text(&self.topic_id),
        )
    }

    fn key(&self, offset: i64) -> String {
        quote_text(&format!("{}{offset}", self.prefix))
    }

    /// Moves the letter's row, raises where it is not where it was, and commits, all in one message: an UPDATE that hits nothing would
    /// let COMMIT write the record's row again. A letter that has no row (`is_known`), of an earlier release, gets one. While another
    /// transaction does the same, it waits for that one's end.
    fn commit_statement(&self, partition: Partition, offset: i64, is_known: bool) -> String {
        let mark = if is_known {
            format!(
                "UPDATE {} SET next_offset = {}, updated_at = now() WHERE pipeline = {} AND topic = {} AND {} = {partition} AND \
                 next_offset = {offset}",
                self.table,
                offset + 1,
                self.key(offset),
                quote_text(&self.topic),
                quote_name("partition"),
            )
        } else {
            format!("{} ON CONFLICT DO NOTHING", self.insert(partition, offset, offset + 1))
        };
        // The mutants: the row alone; and a mark that is there lets the row be written again.
        if crate::testing::mutant::is("letter_mark_apart") {
            return "COMMIT".into();
        }
        if crate::testing::mutant::is("letter_mark_ignored") {
            return format!("{mark}; COMMIT");
        }
        format!("WITH marked AS ({mark} RETURNING 1) SELECT 1 / (count(*) = 1)::int FROM marked; COMMIT")
    }
}

impl Transaction<'_> {
    /// Commits the row of a dead letter with its mark. Errors: see [`CommitError`]; [`CommitError::Missed`] where it is marked
    /// already.
    pub async fn commit_letter(
        self,
        marks: &LetterMarks,
        (partition, offset): (Partition, i64),
        is_known: bool,
    ) -> Result<(), CommitError> {
        fail_point::hit("pg_before_letter");
        let committed = self.commit_by(&marks.commit_statement(partition, offset, is_known)).await;
        fail_point::hit("pg_after_letter");
        committed
    }
}
