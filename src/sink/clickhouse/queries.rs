//! What a table is asked: which offsets it holds of a partition, and whether an insert into it still runs.

use std::time::Duration;

use super::client::Client;
use super::error::{ChError, ErrorClass};
use super::table::{DefaultKind, Table, TableColumn};
use super::types::{literal, quoted};

impl Client {
    /// The offsets from `start` up to but not including `end` that the table holds of a partition: what a crash left behind.
    pub async fn offsets_present(
        &self,
        table: &Table,
        topic: &str,
        partition: i32,
        start: i64,
        end: i64,
    ) -> Result<Vec<i64>, ChError> {
        // The sequential read sees what other replicas have confirmed where inserts have a quorum.
        let sql = format!(
            "SELECT toString(_offset) AS number FROM {} WHERE _topic = {} AND _partition = {partition} \
             AND _offset >= {start} AND _offset < {end} ORDER BY _offset SETTINGS select_sequential_consistency = 1",
            table.quoted(),
            literal(topic)
        );
        self.numbers(&sql).await
    }

    /// The last offset that the table holds of a partition.
    pub async fn last_offset(&self, table: &Table, topic: &str, partition: i32) -> Result<Option<i64>, ChError> {
        let sql = format!(
            "SELECT toString(max(_offset)) AS number FROM {} WHERE _topic = {} AND _partition = {partition} HAVING count() > 0",
            table.quoted(),
            literal(topic)
        );
        Ok(self.numbers(&sql).await?.first().copied())
    }

    /// Inserts no row, which needs what an insert of rows needs: the grant, and leave to write.
    pub async fn try_empty_insert(&self, table: &Table) -> Result<(), ChError> {
        let stored = |column: &&TableColumn| matches!(column.default, DefaultKind::None | DefaultKind::Default);
        let columns = || table.columns.iter().filter(stored);
        let names: Vec<String> = columns().map(|column| quoted(&column.name).to_string()).collect();
        // Of the right types, without leave to read the table.
        let values: Vec<String> =
            columns().map(|column| format!("defaultValueOfTypeName({})", literal(&column.type_name))).collect();
        let (names, values, table) = (names.join(", "), values.join(", "), table.quoted());
        self.execute(&format!("INSERT INTO {table} ({names}) SELECT {values} WHERE 0")).await
    }

    /// Asks what a recovery asks: whether an insert still runs, and which offsets are in the table.
    pub async fn try_recovery(&self, table: &Table, topic: &str) -> Result<(), ChError> {
        self.await_end("pressline/check").await?;
        match table.has_coordinates() {
            true => self.offsets_present(table, topic, 0, 0, 0).await.map(drop),
            false => Ok(()),
        }
    }

    /// How many rows the table holds of a partition's offsets from `start` up to but not including `end`.
    pub async fn count_rows(
        &self,
        table: &Table,
        topic: &str,
        partition: i32,
        start: i64,
        end: i64,
    ) -> Result<u64, ChError> {
        let sql = format!(
            "SELECT toString(count()) AS number FROM {} WHERE _topic = {} AND _partition = {partition} AND _offset >= {start} \
             AND _offset < {end}",
            table.quoted(),
            literal(topic)
        );
        let counts = self.numbers(&sql).await?;
        Ok(counts.first().map_or(0, |count| count.unsigned_abs()))
    }

    /// Waits until the server runs no query of this id any more: what it has not written by then it will never write.
    /// Behind a balancer only the server that answers is asked. Errors: it still runs after `timeout_ms`.
    pub async fn await_end(&self, query_id: &str) -> Result<(), ChError> {
        let sql = format!("SELECT query_id FROM system.processes WHERE query_id = {}", literal(query_id));
        let begun = std::time::Instant::now();
        while !self.rows::<serde::de::IgnoredAny>(&sql).await?.is_empty() {
            if begun.elapsed() > self.timeout {
                return Err(ChError::timed_out(&self.address, ErrorClass::Transient));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }
}
