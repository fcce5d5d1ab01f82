//! What is done about ranges whose insert was begun: decided from what of them is in the table, without I/O, so that a
//! model can drive it through every order in which late inserts, crashes, refusals and rebalances may come.

use std::collections::BTreeSet;

use crate::kafka::offset_note::{NextOffset, Pending};

/// What is known, from the position on, of a partition's rows whose insert was begun.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recovery {
    /// After the last offset of the insert that was announced and is in doubt. It is repeated as a
    /// whole.
    pub(crate) end: NextOffset,
    /// Number of the next attempt.
    pub(crate) attempt: u32,
    /// Offsets that are in the table.
    pub(crate) present: BTreeSet<i64>,
    /// The table is read again after the insert, whose token may have been used before.
    pub(crate) verify: bool,
    /// After the last offset that may be in the table: an insert that was refused may have left rows there.
    pub(crate) begun: NextOffset,
}

impl Recovery {
    /// Of a range that was begun, and whose insert does not run on the server any more. What is missing goes with the token
    /// of the insert that was begun: should that one still be on its way, the server takes the one and drops the other. Only
    /// when an insert with this token is known to have ended does the next attempt get another.
    pub(crate) fn of_begun(pending: Option<Pending>, begun: NextOffset, present: BTreeSet<i64>) -> Self {
        let Pending { end, attempt } = pending.unwrap_or(Pending { end: 0, attempt: 1 });
        Self { end, attempt, present, verify: pending.is_some(), begun: begun.max(end) }
    }

    /// Of a range that cannot be read from the table: the same token must meet the same rows.
    pub(crate) fn unread(pending: Pending) -> Self {
        Self { end: pending.end, attempt: pending.attempt, ..Self::default() }
    }

    /// What is named while a piece up to `end` is written.
    pub(crate) fn pending(&self, end: NextOffset) -> Pending {
        Pending { end, attempt: self.attempt.max(1) }
    }

    /// What is named with it, or with the position behind it: rows from there up to this offset may be in the table.
    pub(crate) fn begun_behind(&self, end: NextOffset) -> Option<NextOffset> {
        Some(self.begun).filter(|begun| *begun > end)
    }

    /// After an insert that did not write all there is to write: what is in the table now, the others with another token.
    pub(crate) fn next_attempt(mut self, found: BTreeSet<i64>) -> Self {
        self.present.extend(found);
        Self { attempt: self.attempt.max(1) + 1, ..self }
    }

    /// After an insert up to `end` that the server has refused, in words: nothing of it is on its way any more, but some of its
    /// rows may be in the table.
    pub(crate) fn refused(self, end: NextOffset, found: BTreeSet<i64>) -> Self {
        Self { begun: self.begun.max(end), ..self.next_attempt(found) }
    }
}

#[cfg(test)]
mod tests;
