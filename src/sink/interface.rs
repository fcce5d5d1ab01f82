//! What the load's loop asks of a database.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Batch, DeadLetters, error_policy};
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
    /// The database refuses the batch for its table's sake: see [`Tries`].
    #[error("{0}")]
    Misfit(String),
    /// The database has answered, with an error that may pass or that nobody knows: see [`Tries`].
    #[error("{message}")]
    Answered {
        /// The class of the answer.
        class: error_policy::Class,
        /// For the log and `/readyz`.
        message: String,
    },
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

/// How often, and for how long, a batch was refused: what is done about it changes with that. A table that was altered while
/// the batch was on its way, and altered back before it was looked at again, is the same as ever; a full disk or a lock passes;
/// and one row may bring the same answer for ever.
#[derive(Debug)]
pub struct Tries {
    /// Misfits in a row.
    misfits: u32,
    /// When the database answered so for the first time in a row.
    since: Option<Instant>,
    /// So long after that the batch is searched.
    searched_after: Duration,
    /// See `retry_ms` of [`crate::config::sink::SinkConsumerConfig`].
    retry: Duration,
}

impl Tries {
    /// `retry`: how long an answer that may pass is waited out before the batch is searched for the row that brings it.
    pub fn new(retry: Duration) -> Self {
        Self { misfits: 0, since: None, searched_after: retry, retry }
    }

    /// Whether the next try is to search the batch for rows that are refused alone, whatever the answer is.
    pub fn is_search_due(&self) -> bool {
        self.misfits + 1 >= BELIEVED || self.since.is_some_and(|since| since.elapsed() >= self.searched_after)
    }

    /// What the error of a batch comes to; never [`LoadError::Misfit`] or [`LoadError::Answered`].
    pub fn judge(&mut self, error: LoadError) -> LoadError {
        match error {
            LoadError::Misfit(message) => self.misfit(message),
            LoadError::Answered { class, message } => self.answered(class, message),
            // Between two answers a connection may fail, which says nothing about the batch.
            error @ LoadError::Again { class: Class::Transient, .. } => error,
            error => {
                self.none();
                error
            }
        }
    }

    fn misfit(&mut self, message: String) -> LoadError {
        self.misfits += 1;
        match self.misfits {
            1 => LoadError::Again { class: Class::Moved, message },
            BELIEVED.. => LoadError::Refused(message),
            _ => LoadError::Again { class: Class::Transient, message },
        }
    }

    fn answered(&mut self, class: error_policy::Class, message: String) -> LoadError {
        let was_searched = self.is_search_due();
        let since = *self.since.get_or_insert_with(Instant::now);
        if !class.is_unbounded() && since.elapsed() >= self.retry {
            return LoadError::Refused(message);
        }
        if was_searched {
            // It told nothing: the next search has time.
            self.searched_after = since.elapsed() * 2;
        }
        let class = match class {
            error_policy::Class::Authentication => Class::Authentication,
            error_policy::Class::Resource => Class::Resource,
            error_policy::Class::InDoubt => Class::Unknown,
            _ => Class::Transient,
        };
        LoadError::Again { class, message }
    }

    /// A batch was written.
    pub fn none(&mut self) {
        *self = Self::new(self.retry);
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
    /// The batch was tried long enough as it is: it is searched for rows that are refused alone, whatever the answer.
    pub is_search_due: bool,
    /// What was written although the write fails later: its positions have moved.
    pub settled: Written,
    turned: Instant,
    tell: &'a dyn Fn(),
}

impl<'a> Desk<'a> {
    /// For one write. `tell` is called, at most once a second, while it goes on.
    pub fn new(source: &'a Source, letters: &'a mut DeadLetters, tell: &'a dyn Fn()) -> Self {
        Self { source, letters, is_search_due: false, settled: Written::default(), turned: Instant::now(), tell }
    }

    /// This much is written and its position has moved, whatever becomes of the rest of the batch.
    pub fn settle(&mut self, written: Written) {
        self.settled.rows += written.rows;
        self.settled.bytes += written.bytes;
        self.settled.found += written.found;
        self.settled.dropped += written.dropped;
        self.settled.without_view += written.without_view;
        self.letters.settled();
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
    /// Rows that are in the table, but not in the table of a materialized view, which failed on their insert.
    pub without_view: u64,
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

    const WORDS: &str = "table t was altered";

    fn again(class: Class) -> LoadError {
        LoadError::Again { class, message: WORDS.into() }
    }

    fn answered(class: error_policy::Class) -> LoadError {
        LoadError::Answered { class, message: WORDS.into() }
    }

    #[test]
    fn a_misfit_is_believed_when_it_stays() {
        let mut tries = Tries::new(Duration::from_secs(60));
        let misfit = |tries: &mut Tries| tries.judge(LoadError::Misfit(WORDS.into()));
        let another = |tries: &mut Tries| drop(tries.judge(LoadError::Refused("another".into())));
        for between in [Tries::none as fn(&mut Tries), another] {
            assert_eq!(misfit(&mut tries), again(Class::Moved));
            assert_eq!(misfit(&mut tries), again(Class::Transient));
            assert!(!tries.is_search_due());
            assert_eq!(misfit(&mut tries), again(Class::Transient));
            assert!(tries.is_search_due(), "before it is believed");
            between(&mut tries);
        }
        for _ in 1..BELIEVED {
            assert_ne!(misfit(&mut tries), LoadError::Refused(WORDS.into()));
        }
        assert_eq!(misfit(&mut tries), LoadError::Refused(WORDS.into()));
    }

    #[test]
    fn an_answer_that_may_pass_is_waited_out_then_searched_then_waited_out_for_ever() {
        let mut tries = Tries::new(Duration::from_millis(20));
        let resource = || answered(error_policy::Class::Resource);
        assert!(!tries.is_search_due());
        assert_eq!(tries.judge(resource()), again(Class::Resource));
        assert!(!tries.is_search_due());
        assert_eq!(tries.judge(again(Class::Transient)), again(Class::Transient), "a connection that failed meanwhile");
        std::thread::sleep(Duration::from_millis(25));
        assert!(tries.is_search_due());
        assert_eq!(tries.judge(resource()), again(Class::Resource));
        assert!(!tries.is_search_due(), "it told nothing: the next one has time");
        std::thread::sleep(Duration::from_millis(60));
        assert!(tries.is_search_due());
        tries.none();
        assert!(!tries.is_search_due());
    }

    #[test]
    fn an_answer_that_nobody_knows_stops_the_sink_after_a_while() {
        let mut tries = Tries::new(Duration::from_millis(20));
        let unknown = || answered(error_policy::Class::Unknown);
        assert_eq!(tries.judge(unknown()), again(Class::Transient));
        std::thread::sleep(Duration::from_millis(25));
        assert_eq!(tries.judge(unknown()), LoadError::Refused(WORDS.into()));
    }
}
