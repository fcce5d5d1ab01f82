//! What the load's loop asks of a database.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Batch, DeadLetters};
use crate::avro::Shape;
use crate::kafka::consumer::Source;
use crate::kafka::coordinator::{NextOffset, Partition};

/// What kind of thing went wrong, which decides what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The database or the way to it: tried again, for ever.
    Transient,
    /// User or password: tried again, rarely, and an alarm.
    Authentication,
    /// Disk, memory, too many connections: tried again.
    Resource,
    /// Another process moved the position: read again from where it stands now.
    Moved,
    /// It is not known whether what was sent was written: settled by asking the database.
    Unknown,
}

impl Class {
    /// All classes, for the metric's labels.
    pub const ALL: [Class; 5] = [Self::Transient, Self::Authentication, Self::Resource, Self::Moved, Self::Unknown];

    /// Label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Authentication => "authentication",
            Self::Resource => "resource",
            Self::Moved => "moved",
            Self::Unknown => "unknown",
        }
    }
}

/// Why a batch was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Going on would lose or duplicate rows, or the table does not fit: a person must decide.
    #[error("{0}")]
    Refused(String),
    /// The database refuses the batch for its table's sake: see [`Doubt`].
    #[error("{0}")]
    Misfit(String),
    /// The batch is aborted and read again from the position that the sink then has.
    #[error("{message}")]
    Again {
        /// What kind of thing went wrong.
        class: Class,
        /// For the log and `/readyz`.
        message: String,
    },
}

/// A misfit is believed after so many in a row: two tries with a pause before them are about a second and a half.
const BELIEVED: u32 = 4;

/// Whether to believe that a table does not fit. One that was altered while the batch was on its way, and altered back before it
/// was looked at again, is the same as ever, and somebody may be at it still: nothing but another try tells.
#[derive(Debug, Default)]
pub struct Doubt {
    /// In a row.
    misfits: u32,
}

impl Doubt {
    /// What the error of a batch comes to; never [`LoadError::Misfit`].
    pub fn judge(&mut self, error: LoadError) -> LoadError {
        let LoadError::Misfit(message) = error else {
            self.none();
            return error;
        };
        self.misfits += 1;
        match self.misfits {
            1 => LoadError::Again { class: Class::Moved, message },
            BELIEVED.. => LoadError::Refused(message),
            _ => LoadError::Again { class: Class::Transient, message },
        }
    }

    /// A batch was written.
    pub fn none(&mut self) {
        self.misfits = 0;
    }
}

/// How often the group and the watchdog hear of a write that takes long.
const TURN: Duration = Duration::from_secs(1);

/// What the loop lends a sink while it writes.
pub struct Desk<'a> {
    /// Commits offsets for sinks that keep their positions in the group.
    pub source: &'a Source,
    /// Where rows go that cannot be written: settled before the position moves.
    pub letters: &'a mut DeadLetters,
    turned: Instant,
    tell: &'a dyn Fn(),
}

impl<'a> Desk<'a> {
    /// For one write. `tell` is called, at most once a second, while it goes on.
    pub fn new(source: &'a Source, letters: &'a mut DeadLetters, tell: &'a dyn Fn()) -> Self {
        Self { source, letters, turned: Instant::now(), tell }
    }

    /// To be called between the statements of a write that may take many, such as the search for bad rows: it may last longer
    /// than the group, or the watchdog, waits for a worker.
    pub fn turn(&mut self) {
        if self.turned.elapsed() > TURN {
            self.turned = Instant::now();
            self.source.stay_in_group();
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
}

/// A database that rows are loaded into. It belongs to one worker; calls may block for as long as the database's
/// time-outs allow, which is well below `max.poll.interval.ms`, and [`Sink::write`] as long from one [`Desk::turn`] to the next.
pub trait Sink: Send {
    /// Prepares for rows of a schema. Errors: the schema does not fit the table, with all findings.
    fn learn(&mut self, schema_id: u32, shape: &Shape) -> Result<(), LoadError>;

    /// Looks whether rows of this shape would fit, and makes the table for them where it is missing and may be made. Errors: they
    /// do not fit, with all findings; no table.
    fn prepare(&mut self, shape: &Shape) -> Result<(), LoadError>;

    /// Whether the table was there when it was looked at last.
    fn has_table(&self) -> bool;

    /// Whether the table is missing and will be made.
    fn will_make_table(&self) -> bool;

    /// The partitions of a batch up to these offsets that end before a range which was begun earlier: it must be written again as
    /// a whole, because a part of it has another token, and what was begun may still arrive under the first one.
    fn short(&self, _ends: &BTreeMap<Partition, NextOffset>) -> Vec<Partition> {
        Vec::new()
    }

    /// Whether [`Sink::start`] is of use.
    fn starts_early(&self) -> bool {
        false
    }

    /// Begins to write a batch of which more is being read; nothing of it may be seen before [`Sink::write`], which must follow,
    /// or [`Sink::leave`]. Called again with more rows. The batch may lose rows until then. What goes wrong is told by `write`.
    fn start(&mut self, _batch: &Batch) {}

    /// The batch that was started is not going to be written.
    fn leave(&mut self) {}

    /// Ranges of which it is not known whether they were written, each with the time since when; `None`: the sink has no
    /// such ranges.
    fn pending(&self) -> Option<BTreeMap<Partition, Instant>> {
        None
    }

    /// Writes the batch's rows and moves its positions from the start to the end of each of the batch's spans, such that
    /// either both happen or, after [`LoadError::Again`], the positions tell what to read again. Rows that cannot be
    /// written are dead letters, acknowledged before the position moves past them.
    fn write(&mut self, batch: &Batch, desk: &mut Desk<'_>) -> Result<Written, LoadError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misfit_is_believed_when_it_stays() {
        let words = || "table t was altered".to_string();
        let again = |class| LoadError::Again { class, message: words() };
        let mut doubt = Doubt::default();
        let misfit = |doubt: &mut Doubt| doubt.judge(LoadError::Misfit(words()));
        let another = |doubt: &mut Doubt| drop(doubt.judge(LoadError::Refused("another".into())));
        for between in [Doubt::none as fn(&mut Doubt), another] {
            assert_eq!(misfit(&mut doubt), again(Class::Moved));
            assert_eq!(misfit(&mut doubt), again(Class::Transient));
            assert_eq!(misfit(&mut doubt), again(Class::Transient));
            between(&mut doubt);
        }
        for _ in 1..BELIEVED {
            assert_ne!(misfit(&mut doubt), LoadError::Refused(words()));
        }
        assert_eq!(misfit(&mut doubt), LoadError::Refused(words()));
    }
}
