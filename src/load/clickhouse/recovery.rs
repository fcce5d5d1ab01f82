//! What is done about a range that somebody began to write: decided from what of it is in the table, without I/O, so that a model
//! can drive it through every order in which late inserts, crashes and rebalances may come.

use std::collections::BTreeSet;

use crate::coordinator::{NextOffset, Pending};

/// A range that somebody began to write: what is known of it.
#[derive(Clone, Debug, Default)]
pub(super) struct Recovery {
    /// After its last offset.
    pub(super) end: NextOffset,
    /// Number of the next attempt to write from its start.
    pub(super) attempt: u32,
    /// Its offsets that are in the table.
    pub(super) present: BTreeSet<i64>,
    /// The table is read again after the insert, whose token may have been used before.
    pub(super) verify: bool,
}

impl Recovery {
    /// Of a range that was begun, and whose insert does not run on the server any more. What is missing goes with the token
    /// of the insert that was begun: should that one still be on its way, the server takes the one and drops the other. Only
    /// when an insert with this token is known to have ended does the next attempt get another.
    pub(super) fn of_begun(pending: Pending, present: BTreeSet<i64>) -> Self {
        Self { end: pending.end, attempt: pending.attempt, present, verify: true }
    }

    /// Of a range that cannot be read from the table: the same token must meet the same rows.
    pub(super) fn unread(pending: Pending) -> Self {
        Self { end: pending.end, attempt: pending.attempt, ..Self::default() }
    }

    /// After an insert that did not write all there is to write: what is in the table now, the others with another token.
    pub(super) fn next_attempt(self, present: BTreeSet<i64>) -> Self {
        Self { attempt: self.attempt.max(1) + 1, present, ..self }
    }
}

#[cfg(test)]
mod tests;
