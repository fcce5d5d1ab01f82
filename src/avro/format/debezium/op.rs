//! What a change does, by its `op`.

use super::super::reject::{Reason, Reject};

/// What a change does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The row is as it says from now on: created, updated or read by a snapshot.
    Write,
    /// The row is gone.
    Delete,
    /// All rows of the table are gone.
    Truncate,
    /// Nothing to a row: a heartbeat, the beginning or end of a transaction, a message in the log.
    Nothing,
}

/// A change that is none.
pub(super) fn odd() -> Reject {
    let detail = "an op that Debezium does not write, or one without its row".into();
    Reject { detail, ..Reject::record(Reason::WrongType) }
}
