//! Rows into tables: one transaction a batch, binary COPY, and the search for bad rows.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::pin::pin;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::Statement;

use super::catalogue::Table;
use super::connection::Connection;
use super::error::{Class, PgError};
use super::plan::Plan;
use crate::fail_point;
use crate::load::{Batch, Refusal, Why};

/// Bytes that are encoded before they are handed to the connection, which sends them while the next are encoded: large
/// enough that a hand-over costs nothing beside the encoding, small enough to stay in the processor's cache.
const CHUNK: usize = 256 << 10;
/// Room for the row that fills a chunk.
const SLACK: usize = 16 << 10;
/// How a binary COPY begins: signature, flags, length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// How it ends: a row of -1 columns.
const TRAILER: &[u8] = &(-1i16).to_be_bytes();

/// A connection that writes.
pub struct Writer {
    connection: Connection,
    /// Prepared COPY statements by their text.
    statements: HashMap<String, Statement>,
    /// A transaction was dropped without an end.
    in_doubt: bool,
}

/// The rows of a batch that cannot be written, by their index in it.
pub type Refused = BTreeMap<usize, Refusal>;

/// A database transaction for one batch. Rolled back when dropped: at the latest when the next one begins.
#[must_use = "a transaction that is not committed is rolled back"]
pub struct Transaction<'w> {
    writer: &'w mut Writer,
    finished: bool,
    /// COPY statements that were run.
    copies: usize,
    /// One is under way.
    copying: bool,
}

impl Writer {
    /// Writes over a connection.
    pub fn new(connection: Connection) -> Self {
        Self { connection, statements: HashMap::new(), in_doubt: false }
    }

    /// The connection, between transactions.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Begins a transaction. Errors: the server's.
    pub async fn begin(&mut self) -> Result<Transaction<'_>, PgError> {
        if self.in_doubt {
            self.connection.run("ROLLBACK").await?;
        }
        self.in_doubt = true;
        self.connection.run(BEGIN).await?;
        Ok(Transaction { writer: self, finished: false, copies: 0, copying: false })
    }

    async fn statement(&mut self, sql: &str) -> Result<Statement, PgError> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.connection.within(self.connection.client().prepare(sql)).await?;
        self.statements.insert(sql.to_string(), statement.clone());
        Ok(statement)
    }
}

/// Said aloud, since a role's settings could say otherwise; deferred constraints would fail at COMMIT, where it is too
/// late to look for the row.
pub(super) const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET CONSTRAINTS ALL IMMEDIATE";

/// Rows of a batch with one schema after another.
fn runs(batch: &Batch) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for chunk in batch.rows().chunk_by(|a, b| a.schema_id == b.schema_id) {
        let start = runs.last().map_or(0, |run| run.end);
        runs.push(start..start + chunk.len());
    }
    runs
}

impl<'w> Transaction<'w> {
    /// Writes the batch's rows in their order, each by the plan of its schema. Rows that cannot be encoded, and those that
    /// the server refuses for their data, are returned; all others are written. To find the latter, the batch is halved
    /// under savepoints until they stand alone, at most 2 log2(n) + 2 statements for each of n rows' bad ones; `turn` is called
    /// before each.
    ///
    /// Errors: the server's. [`Class::Schema`] where the table is not what the plans were compiled for (read it again and
    /// compile anew), or more than `most_refused` rows are refused. The transaction cannot go on after an error; after one
    /// with `connection_lost`, neither can the connection.
    pub async fn copy<'p>(
        &mut self,
        batch: &Batch,
        plan_of: impl Fn(u32) -> Option<&'p Plan>,
        most_refused: usize,
        turn: &mut dyn FnMut(),
    ) -> Result<Refused, PgError> {
        let mut refused = Refused::new();
        let mut first = None;
        for run in runs(batch) {
            match self.attempt(batch, run, &plan_of, &mut refused).await {
                Ok(()) => {}
                Err(error) if error.class == Class::Data && !error.connection_lost => {
                    first = Some(error);
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(error) = first {
            self.writer.connection.run("ROLLBACK").await?;
            self.writer.connection.run(BEGIN).await?;
            self.lock_and_check_tables(batch, &plan_of).await?;
            self.writer.connection.run("SAVEPOINT pressline").await?;
            for run in runs(batch) {
                self.halve(batch, run, &plan_of, most_refused, &mut refused, turn).await?;
            }
            tracing::debug!(rows = batch.rows().len(), refused = refused.len(), %error, "searched a batch for bad rows");
        }
        self.within_limit(&refused, most_refused, None)?;
        fail_point::hit("pg_after_copy");
        Ok(refused)
    }

    /// COPY statements that were run so far.
    pub fn copies(&self) -> usize {
        self.copies
    }

    /// Ends the transaction without writing.
    pub async fn rollback(mut self) -> Result<(), PgError> {
        self.writer.connection.run("ROLLBACK").await?;
        self.finish();
        Ok(())
    }

    pub(super) fn connection(&self) -> &Connection {
        &self.writer.connection
    }

    /// The server has ended the transaction.
    pub(super) fn finish(&mut self) {
        self.finished = true;
        self.writer.in_doubt = false;
    }

    /// What looks like bad data may be a table that was altered: then the rows are sound. It is locked first, as a COPY does,
    /// but outside of any savepoint: else it could be altered between two statements of the search, which would take every
    /// sound row for a bad one.
    async fn lock_and_check_tables<'p>(
        &mut self,
        batch: &Batch,
        plan_of: &impl Fn(u32) -> Option<&'p Plan>,
    ) -> Result<(), PgError> {
        let mut seen: Option<Option<Table>> = None;
        for run in runs(batch) {
            let Some(plan) = batch.rows().get(run.start).and_then(|row| plan_of(row.schema_id)) else { continue };
            if seen.is_none() {
                // By a COPY of nothing: LOCK TABLE asks for a grant on the whole table, where one on columns is enough.
                self.copy_range(plan, batch, run.start..run.start, &mut Refused::new()).await?;
                seen = Some(Table::read(&self.writer.connection, &plan.table().name).await?);
            }
            if seen.as_ref().and_then(Option::as_ref) != Some(&**plan.table()) {
                let what = format!("table {} was altered", plan.table().title());
                return Err(self.writer.connection.error(Class::Schema, what));
            }
        }
        Ok(())
    }

    async fn halve<'p>(
        &mut self,
        batch: &Batch,
        run: Range<usize>,
        plan_of: &impl Fn(u32) -> Option<&'p Plan>,
        most_refused: usize,
        refused: &mut Refused,
        turn: &mut dyn FnMut(),
    ) -> Result<(), PgError> {
        let mut open = vec![run];
        while let Some(range) = open.pop() {
            turn();
            let after = match self.attempt(batch, range.clone(), plan_of, refused).await {
                Ok(()) => "RELEASE pressline; SAVEPOINT pressline",
                Err(error) if error.class == Class::Data && !error.connection_lost => {
                    if range.len() == 1 {
                        refused.insert(range.start, error.refusal());
                        self.within_limit(refused, most_refused, Some(&error))?;
                    } else {
                        // The left half is popped first: rows keep their order.
                        let middle = range.start + range.len() / 2;
                        open.push(middle..range.end);
                        open.push(range.start..middle);
                    }
                    "ROLLBACK TO pressline"
                }
                Err(error) => return Err(error),
            };
            self.writer.connection.run(after).await?;
        }
        Ok(())
    }

    fn within_limit(&self, refused: &Refused, most: usize, last: Option<&PgError>) -> Result<(), PgError> {
        if refused.len() <= most {
            return Ok(());
        }
        let reason = match (last, refused.values().next_back()) {
            (Some(error), _) => error.to_string(),
            (None, Some(refusal)) => refusal.to_string(),
            (None, None) => String::new(),
        };
        let what = format!("more than {most} rows of one batch are refused, the last because: {reason}");
        Err(self.writer.connection.error(Class::Schema, what))
    }

    /// One COPY of rows that share a schema.
    async fn attempt<'p>(
        &mut self,
        batch: &Batch,
        range: Range<usize>,
        plan_of: &impl Fn(u32) -> Option<&'p Plan>,
        refused: &mut Refused,
    ) -> Result<(), PgError> {
        let Some(plan) = batch.rows().get(range.start).and_then(|row| plan_of(row.schema_id)) else {
            refused.extend(range.map(|index| (index, Refusal::row(Why::UnknownSchema))));
            return Ok(());
        };
        self.copy_range(plan, batch, range, refused).await
    }

    async fn copy_range(
        &mut self,
        plan: &Plan,
        batch: &Batch,
        range: Range<usize>,
        refused: &mut Refused,
    ) -> Result<(), PgError> {
        let rows = batch.rows().get(range.clone()).unwrap_or_default();
        let statement = self.writer.statement(plan.copy_statement()).await?;
        self.copies += 1;
        self.copying = true;
        let connection = &self.writer.connection;
        let sink = match connection.within(connection.client().copy_in::<_, Bytes>(&statement)).await {
            Ok(sink) => sink,
            // tokio-postgres has sent two Syncs then, and would take the second's answer for the next request's: the
            // connection must not be used again.
            Err(error) => {
                connection.give_up();
                let class = if error.class == Class::Data { Class::Schema } else { error.class };
                return Err(PgError { connection_lost: true, class, ..error });
            }
        };
        let sending = async {
            let mut sink = pin!(sink);
            let mut chunk = Vec::with_capacity(CHUNK + SLACK);
            chunk.extend_from_slice(HEADER);
            for (index, row) in range.zip(rows) {
                if let Err(refusal) = plan.encode_row(batch.datum(row), &mut chunk) {
                    refused.insert(index, refusal);
                }
                if chunk.len() >= CHUNK {
                    let full = std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK + SLACK));
                    sink.send(Bytes::from(full)).await?;
                }
            }
            chunk.extend_from_slice(TRAILER);
            sink.send(Bytes::from(chunk)).await?;
            sink.finish().await
        };
        let written = connection.within(sending).await.map(drop);
        self.copying = false;
        written
    }
}

impl Drop for Transaction<'_> {
    fn drop(&mut self) {
        // A rollback needs the server's answer, which cannot be awaited here: the next `begin` asks for it.
        if !self.finished {
            self.writer.in_doubt = true;
        }
        // Given up in the midst of a COPY: what the server still answers could be taken for the next one's.
        if self.copying {
            self.writer.connection.give_up();
        }
    }
}
