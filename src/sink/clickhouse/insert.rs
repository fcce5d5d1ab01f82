//! One insert: head, body, answer, in this order and in three calls, so that others can come between them.

use clickhouse::insert_formatted::{BufInsertFormatted, InsertFormatted};

use super::block::Layout;
use super::client::Client;
use super::error::{ChError, ErrorClass};
use super::table::{COORDINATES, Table};
use super::types::quoted;
use crate::testing::fail_point;

/// Bytes that are compressed and sent at a time: ClickHouse's own `max_compress_block_size`.
const PIECE: usize = 1 << 20;

/// The statement before the data: columns by name, so that the table's order does not matter and defaults apply.
pub fn statement(table: &Table, layout: &Layout) -> String {
    let filled = layout.columns.iter().map(|column| &*column.name);
    let own = COORDINATES.into_iter().filter(|_| layout.coordinates.is_some());
    let names: Vec<String> = filled.chain(own).map(|name| quoted(name).to_string()).collect();
    format!("INSERT INTO {} ({}) FORMAT Native", table.quoted(), names.join(", "))
}

/// An insert whose head is out. Dropped before [`Insert::finish`], it is cut off, and the server inserts nothing.
#[must_use]
pub struct Insert {
    request: BufInsertFormatted,
    place: String,
}

impl Insert {
    pub(super) async fn begin(request: InsertFormatted, place: String) -> Result<Self, ChError> {
        // No buffer: each write is one compressed piece.
        let mut request = request.buffered_with_capacity(0);
        // A write of nothing starts the request: its task sends the head.
        request.write(&[]).await.map_err(|error| ChError::from_client(&place, &error, ErrorClass::Transient))?;
        Ok(Self { request, place })
    }

    /// Sends a block (from [`super::Block::native`]). Errors: the connection broke, or the server has already refused.
    pub async fn send(&mut self, native: &[u8]) -> Result<(), ChError> {
        for (number, piece) in native.chunks(PIECE).enumerate() {
            if number == 1 {
                fail_point::hit("ch_mid_body");
            }
            self.write(piece).await?;
        }
        Ok(())
    }

    async fn write(&mut self, piece: &[u8]) -> Result<(), ChError> {
        let sent = self.request.write(piece).await.map(drop);
        let sent = match sent {
            Ok(()) => self.request.flush().await,
            error => error,
        };
        sent.map_err(|error| ChError::from_client(&self.place, &error, ErrorClass::InDoubt))
    }

    /// Ends the body and waits for the answer. Errors: any [`ChError`]; a lost answer is [`ErrorClass::InDoubt`].
    pub async fn finish(mut self) -> Result<(), ChError> {
        let done = self.request.end().await;
        done.map_err(|error| ChError::from_client(&self.place, &error, ErrorClass::InDoubt))?;
        fail_point::hit("ch_after_insert");
        Ok(())
    }
}

impl Client {
    /// Begins an insert of one block: the request's head goes out now, so that the server's time for the body runs from
    /// here. `token`: what the server tells a repeated insert by, and the query's id.
    pub async fn begin_insert(&self, table: &Table, layout: &Layout, token: &str) -> Result<Insert, ChError> {
        let request = self.insert(statement(table, layout), token, layout.has_null_as_default());
        Insert::begin(request, table.place()).await
    }
}
