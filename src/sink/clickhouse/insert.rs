//! One insert: head, body, answer, in this order and in three calls, so that others can come between them.

use clickhouse::insert_formatted::{BufInsertFormatted, InsertFormatted};

use super::Layout;
use super::error::{ChError, Class};
use super::table::{COORDINATES, Table};
use super::types::quoted;
use crate::testing::fail_point;

/// Bytes that are compressed and sent at a time: ClickHouse's own `max_compress_block_size`.
const PIECE: usize = 1 << 20;

/// What every insert says, whatever the user's profile does: a repeated insert must be cut into the same blocks, or its token
/// is of no use. The numbers must stay the same for ever. A server that does not know one is not told.
pub const SETTINGS: &[(&str, &str)] = &[
    // Deduplicate by token, also in the views that depend on the table.
    ("insert_deduplicate", "1"),
    ("deduplicate_insert", "enable"),
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    ("materialized_views_ignore_errors", "0"),
    // One block stays one block.
    ("async_insert", "0"),
    ("max_insert_threads", "1"),
    ("use_strict_insert_block_limits", "0"),
    ("min_insert_block_size_rows", "1048576"),
    ("min_insert_block_size_bytes", "268435456"),
    ("max_insert_block_size", "1048576"),
    ("input_format_parallel_parsing", "0"),
    // Nothing is fixed silently.
    ("insert_null_as_default", "0"),
    (NULL_AS_DEFAULT, "0"),
    ("input_format_defaults_for_omitted_fields", "1"),
    ("input_format_skip_unknown_fields", "0"),
    ("input_format_native_allow_types_conversion", "0"),
    ("input_format_allow_errors_num", "0"),
    ("input_format_allow_errors_ratio", "0"),
    // The answer comes when the insert is done, with its status.
    ("wait_end_of_query", "1"),
];

/// The setting by which null in a column that takes none is its DEFAULT.
pub const NULL_AS_DEFAULT: &str = "input_format_null_as_default";

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
        request.write(&[]).await.map_err(|error| ChError::from_client(&place, &error, Class::Transient))?;
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
        sent.map_err(|error| ChError::from_client(&self.place, &error, Class::InDoubt))
    }

    /// Ends the body and waits for the answer. Errors: any [`ChError`]; a lost answer is [`Class::InDoubt`].
    pub async fn finish(mut self) -> Result<(), ChError> {
        let done = self.request.end().await;
        done.map_err(|error| ChError::from_client(&self.place, &error, Class::InDoubt))?;
        fail_point::hit("ch_after_insert");
        Ok(())
    }
}
