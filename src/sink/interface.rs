//! What the load's loop asks of a database.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::block_in_place;

use super::changes::ChangeShape;
use super::{DeadLetters, LoadError, RowBatch};
use crate::avro::Shape;
use crate::kafka::consumer::Source;
use crate::kafka::offset_note::{NextOffset, Partition};

/// How often the group and the watchdog hear of a write that takes long.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What the loop lends a sink while it writes.
pub struct WriteContext<'a> {
    /// Commits offsets for sinks that keep their positions in the group.
    pub source: &'a Source,
    /// Where rows go that cannot be written: settled before the position moves.
    pub dead_letters: &'a mut DeadLetters,
    /// The batch was tried long enough as it is: it is searched for rows that are refused alone, whatever the answer.
    pub is_search_due: bool,
    /// What was written although the write fails later: its positions have moved.
    pub settled: Written,
    beaten: Instant,
    tell: &'a dyn Fn(),
}

impl<'a> WriteContext<'a> {
    /// For one write. `tell` is called, at most once a second, while it goes on.
    pub fn new(source: &'a Source, dead_letters: &'a mut DeadLetters, tell: &'a dyn Fn()) -> Self {
        Self { source, dead_letters, is_search_due: false, settled: Written::default(), beaten: Instant::now(), tell }
    }

    /// This much is written and its position has moved, whatever becomes of the rest of the batch.
    pub fn settle(&mut self, written: Written) {
        self.settled = self.settled.and(written);
        self.dead_letters.settled();
    }

    /// To be called between the statements of a write that may take many, such as the search for bad rows: it may last longer
    /// than the group, or the watchdog, waits for a worker.
    pub fn heartbeat(&mut self) {
        if self.beaten.elapsed() > HEARTBEAT {
            self.beaten = Instant::now();
            self.source.keep_alive();
            (self.tell)();
        }
    }
}

/// What was written of a batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Rows.
    pub rows: u64,
    /// Bytes sent to the database, before compression.
    pub bytes: u64,
    /// Rows that were in the table already, found by a recovery.
    pub found: u64,
    /// Rows that the database took and dropped, as a trigger of the table told it to.
    pub dropped: u64,
    /// Records of types that are not loaded.
    pub left_out: u64,
    /// Rows that are in the table, but not in the table of a materialized view, which failed on their insert.
    pub without_view: u64,
}

impl Written {
    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows + other.rows,
            bytes: self.bytes + other.bytes,
            found: self.found + other.found,
            dropped: self.dropped + other.dropped,
            left_out: self.left_out + other.left_out,
            without_view: self.without_view + other.without_view,
        }
    }
}

/// A database that rows are loaded into. It belongs to one worker; calls may block for as long as the database's
/// time-outs allow, which is well below `max.poll.interval.ms`, and [`Sink::write`] as long from one [`WriteContext::heartbeat`] to the next.
pub trait Sink: Send {
    /// Prepares for rows of a schema. Errors: the schema does not fit the table, with all findings.
    fn learn(&mut self, schema_id: u32, shape: &Shape) -> Result<(), LoadError>;

    /// Looks whether rows of this shape would fit, and makes the table for them where it is missing and may be made. Errors: they
    /// do not fit, with all findings; no table.
    fn prepare(&mut self, shape: &Shape) -> Result<(), LoadError>;

    /// Prepares for changes of this shape, which come under this number instead of a schema's id. Errors: as of [`Sink::learn`].
    fn learn_change(&mut self, number: u32, change: &ChangeShape) -> Result<(), LoadError>;

    /// As [`Sink::prepare`], for changes.
    fn prepare_change(&mut self, change: &ChangeShape) -> Result<(), LoadError>;

    /// Whether the table was there when it was looked at last.
    fn has_table(&self) -> bool;

    /// Whether the table is missing and will be made.
    fn will_make_table(&self) -> bool;

    /// Where the database can work on a batch while more of it is read.
    fn early_start(&mut self) -> Option<&mut dyn EarlyStart> {
        None
    }

    /// Where positions are kept in the group, and a range may be in doubt.
    fn in_doubt(&self) -> Option<&dyn InDoubt> {
        None
    }

    /// Writes the batch's rows and moves its positions from the start to the end of each of the batch's spans, such that
    /// either both happen or, after [`LoadError::Again`], the positions tell what to read again. Rows that cannot be
    /// written are dead letters, acknowledged before the position moves past them.
    fn write(&mut self, batch: &mut RowBatch, context: &mut WriteContext<'_>) -> Result<Written, LoadError>;
}

/// A sink whose database works on a batch while more of it is read.
pub trait EarlyStart {
    /// Begins to write a batch of which more is being read; nothing of it may be seen before [`Sink::write`], which must follow,
    /// or [`EarlyStart::cancel`]. Called again with more rows. The batch may lose rows until then. What goes wrong is an error of
    /// `write`.
    fn start(&mut self, batch: &RowBatch);

    /// The batch that was started, if one was, is not going to be written.
    fn cancel(&mut self);
}

/// A sink that names a range before it is written, and does not know until the answer whether it was.
pub trait InDoubt {
    /// The partitions of a batch up to these offsets that end before a range which was begun earlier: it must be written again as
    /// a whole, because a part of it has another token, and what was begun may still arrive under the first one.
    fn short(&self, ends: &BTreeMap<Partition, NextOffset>) -> Vec<Partition>;

    /// The ranges in doubt: when each was begun.
    fn since(&self) -> BTreeMap<Partition, Instant>;
}

/// Which records a plan is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comes {
    /// Those of the schema with this id, which are there.
    Now(u32),
    /// Those that may come: the table is not altered for them yet.
    Perhaps,
}

impl fmt::Display for Comes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Now(id) => write!(f, "records of schema {id}"),
            Self::Perhaps => f.write_str("the records that are to come"),
        }
    }
}

/// Waits for what a partition's start needs. Partitions may be assigned while the same thread waits for a long write, which stays in
/// its group meanwhile ([`super::WriteContext::heartbeat`]); tokio refuses a plain `block_on` within another.
pub(super) fn wait_for<F: Future>(runtime: &Handle, future: F) -> F::Output {
    block_in_place(|| runtime.block_on(future))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn it_may_wait_within_a_wait() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        let handle = runtime.handle();
        let inner = || wait_for(handle, async { tokio::task::yield_now().await });
        inner();
        assert_eq!(
            handle.block_on(async {
                inner();
                1
            }),
            1
        );
    }
}
