//! A binary COPY under way: a batch's rows go in as they come, and the server works on them meanwhile.

use std::collections::BTreeMap;
use std::pin::Pin;

use bytes::Bytes;
use futures_util::SinkExt;
use tokio_postgres::{CopyInSink, Statement};

use super::connection::Connection;
use super::error::{ErrorClass, PgError};
use super::plan::CopyPlan;
use crate::sink::{Refusal, Row, RowBatch, Why};

/// Bytes that are encoded before they are handed to the connection, which sends them while the next are encoded: large
/// enough that a hand-over costs nothing beside the encoding, small enough to stay in the processor's cache.
pub(super) const CHUNK: usize = 256 << 10;
/// Room for the row that fills a chunk.
pub(super) const SLACK: usize = 16 << 10;
/// How a binary COPY begins: signature, flags, length of the header's extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// How it ends: a row of -1 columns.
pub(super) const TRAILER: &[u8] = &(-1i16).to_be_bytes();

/// Begins a COPY. Errors: the server's; the connection is closed.
pub(super) async fn open(
    connection: &Connection,
    copy: &str,
) -> Result<(Statement, Pin<Box<CopyInSink<Bytes>>>), PgError> {
    let statement = connection.prepare(copy).await?;
    match connection.copy_in(&statement).await {
        Ok(sink) => Ok((statement, Box::pin(sink))),
        // tokio-postgres has sent two Syncs then, and would take the second's answer for the next request's: the
        // connection must not be used again.
        Err(error) => {
            connection.give_up();
            let class = if error.class == ErrorClass::Data { ErrorClass::Schema } else { error.class };
            Err(PgError { connection_lost: true, class, ..error })
        }
    }
}

/// The rows of a batch that cannot be written, by their index in it.
pub type Refused = BTreeMap<usize, Refusal>;

/// One COPY statement. Dropped before [`CopyStream::finish`], the connection is of no use any more: what the server still answers
/// could be taken for the next statement's.
pub(super) struct CopyStream {
    sink: Pin<Box<CopyInSink<Bytes>>>,
    /// Closed when the stream ends, in the transaction in which it was prepared.
    _statement: Statement,
    chunk: Vec<u8>,
    /// The statement's text, by which its columns are known.
    copies_into: String,
    /// Index in the batch of the first row.
    first: usize,
    /// Of the next one.
    next: usize,
    last: Option<Row>,
    refused: Refused,
}

impl CopyStream {
    /// Begins the COPY of rows from this index on. Errors: the server's; the connection is closed.
    pub(super) async fn open(connection: &Connection, plan: &CopyPlan, next: usize) -> Result<Self, PgError> {
        let (statement, sink) = open(connection, plan.copy_statement()).await?;
        let mut chunk = Vec::with_capacity(CHUNK + SLACK);
        chunk.extend_from_slice(HEADER);
        let copies_into = plan.copy_statement().to_string();
        Ok(Self {
            sink,
            _statement: statement,
            chunk,
            copies_into,
            first: next,
            next,
            last: None,
            refused: Refused::new(),
        })
    }

    /// Whether what went in are this batch's rows before the next one. Their last is where it was: so none of them was taken
    /// out of the batch, and none came before them.
    pub(super) fn is_start_of(&self, batch: &RowBatch) -> bool {
        if crate::testing::mutant::is("started_rows_kept") {
            return true;
        }
        let before = self.next.checked_sub(1).and_then(|index| batch.rows().get(index));
        before == self.last.as_ref()
    }

    /// Whether rows of the plan go in.
    pub(super) fn takes(&self, plan: &CopyPlan) -> bool {
        self.copies_into == plan.copy_statement()
    }

    /// Puts the batch's rows in from the next one on, up to but not including `end`, each by the plan of its schema, which must
    /// be one that [`Self::takes`]. Rows that cannot be encoded are refused.
    pub(super) async fn push<'p>(
        &mut self,
        connection: &Connection,
        plan_of: &impl Fn(u32) -> Option<&'p CopyPlan>,
        batch: &RowBatch,
        end: usize,
    ) -> Result<(), PgError> {
        let rows = batch.rows().get(self.next..end).unwrap_or_default();
        let sending = async {
            let mut known: Option<(u32, Option<&'p CopyPlan>)> = None;
            for (index, row) in (self.next..).zip(rows) {
                // Mostly the schema of the row before.
                let plan = match known {
                    Some((id, plan)) if id == row.schema_id => plan,
                    _ => known.insert((row.schema_id, plan_of(row.schema_id))).1,
                };
                let encoded = match plan {
                    Some(plan) => plan.encode_row(batch.datum(row), &mut self.chunk),
                    None => Err(Refusal::row(Why::UnknownSchema)),
                };
                if let Err(refusal) = encoded {
                    self.refused.insert(index, refusal);
                }
                if self.chunk.len() >= CHUNK {
                    let full = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK + SLACK));
                    self.sink.send(Bytes::from(full)).await?;
                }
            }
            Ok(())
        };
        connection.within(sending).await?;
        self.next += rows.len();
        self.last = rows.last().copied().or(self.last);
        Ok(())
    }

    /// Ends the statement: the rows that were refused, and how many the server took and did not write, as a trigger may say.
    /// Errors: the server's word on the rows.
    pub(super) async fn finish(self, connection: &Connection) -> Result<(Refused, u64), PgError> {
        let Self { mut sink, mut chunk, refused, first, next, .. } = self;
        let sending = async {
            chunk.extend_from_slice(TRAILER);
            sink.send(Bytes::from(chunk)).await?;
            sink.as_mut().finish().await
        };
        let written = connection.within(sending).await?;
        let sent = (next - first - refused.len()) as u64;
        Ok((refused, sent.saturating_sub(written)))
    }
}
