//! Why a batch was not written, and how often it is tried again.

use std::time::{Duration, Instant};

use super::error_policy;
use crate::kafka::consumer::SourceError;
use crate::runtime::fault::Fault;

/// What kind of thing went wrong, which decides what is done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RetryClass {
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

impl RetryClass {
    /// All classes, for the metric's labels.
    pub const ALL: [RetryClass; 5] =
        [Self::Transient, Self::Authentication, Self::Resource, Self::Moved, Self::Unknown];

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

    /// Heading in docs/runbooks.md.
    pub fn runbook(self) -> &'static str {
        match self {
            Self::Authentication => "PresslineSinkAuthentication",
            Self::Unknown => "PresslineSinkUndecided",
            Self::Transient | Self::Resource | Self::Moved => "PresslineSinkRetries",
        }
    }
}

/// Why a batch was not written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// Going on would lose or duplicate rows, or the table does not fit: a person must decide.
    #[error("{0}")]
    Refused(Fault),
    /// The database refuses the batch for its table's sake: see [`Tries`].
    #[error("{0}")]
    SchemaMismatch(Fault),
    /// The database has answered, with an error that may pass or is unknown: see [`Tries`].
    #[error("{fault}")]
    Answered {
        /// The class of the answer.
        class: error_policy::ErrorClass,
        /// For the log, `/readyz` and `/status`.
        fault: Fault,
    },
    /// The batch is aborted and read again from the position that the sink then has.
    #[error("{fault}")]
    Again {
        /// What kind of thing went wrong.
        class: RetryClass,
        /// For the log, `/readyz` and `/status`.
        fault: Fault,
    },
}

/// What a commit of a sink's offset comes to.
impl From<SourceError> for LoadError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Refused(fault) => Self::Refused(fault),
            SourceError::Transient(fault) | SourceError::Stale(fault) => Self::again(RetryClass::Moved, fault),
        }
    }
}

impl LoadError {
    /// See [`Self::Refused`].
    pub fn refused(fault: impl Into<Fault>) -> Self {
        Self::Refused(fault.into())
    }

    /// See [`Self::SchemaMismatch`].
    pub fn schema_mismatch(fault: impl Into<Fault>) -> Self {
        Self::SchemaMismatch(fault.into())
    }

    /// See [`Self::Answered`].
    pub fn answered(class: error_policy::ErrorClass, fault: impl Into<Fault>) -> Self {
        Self::Answered { class, fault: fault.into() }
    }

    /// See [`Self::Again`].
    pub fn again(class: RetryClass, fault: impl Into<Fault>) -> Self {
        Self::Again { class, fault: fault.into() }
    }

    /// The same, with words about rows that do not fit the table.
    pub fn with(self, words: &str) -> Self {
        match self {
            Self::Refused(fault) => Self::Refused(fault.with(words)),
            Self::SchemaMismatch(fault) => Self::SchemaMismatch(fault.with(words)),
            other => other,
        }
    }
}

/// A schema mismatch is believed after so many in a row: two tries with a pause before them are about a second and a half.
const BELIEVED: u32 = 4;

/// How often, and for how long, a batch was refused: what is done about it changes with that. A table that was altered while
/// the batch was on its way, and altered back before it was looked at again, is the same as ever; a full disk or a lock passes;
/// and one row may bring the same answer for ever.
#[derive(Debug)]
pub struct Tries {
    /// Misfits in a row.
    schema_mismatches: u32,
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
        Self { schema_mismatches: 0, since: None, searched_after: retry, retry }
    }

    /// Whether the next try is to search the batch for rows that are refused alone, whatever the answer is.
    pub fn is_search_due(&self, now: Instant) -> bool {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= self.searched_after;
        self.schema_mismatches + 1 >= BELIEVED || self.since.is_some_and(is_over)
    }

    /// What the error of a batch, which came at this time, comes to; never [`LoadError::SchemaMismatch`] or [`LoadError::Answered`].
    pub fn judge(&mut self, error: LoadError, now: Instant) -> LoadError {
        match error {
            LoadError::SchemaMismatch(fault) => self.schema_mismatch(fault),
            LoadError::Answered { class, fault } => self.answered(class, fault, now),
            // Between two answers a connection may fail, which says nothing about the batch.
            error @ LoadError::Again { class: RetryClass::Transient, .. } => error,
            error => {
                self.none();
                error
            }
        }
    }

    fn schema_mismatch(&mut self, fault: Fault) -> LoadError {
        self.schema_mismatches += 1;
        match self.schema_mismatches {
            1 => LoadError::Again { class: RetryClass::Moved, fault },
            BELIEVED.. => LoadError::Refused(fault),
            _ => LoadError::Again { class: RetryClass::Transient, fault },
        }
    }

    fn answered(&mut self, class: error_policy::ErrorClass, fault: Fault, now: Instant) -> LoadError {
        let was_searched = self.is_search_due(now);
        let waited = now.saturating_duration_since(*self.since.get_or_insert(now));
        if !class.is_unbounded() && waited >= self.retry {
            return LoadError::Refused(fault);
        }
        if was_searched {
            // It told nothing: the next search has time.
            self.searched_after = waited * 2;
        }
        let class = match class {
            error_policy::ErrorClass::Authentication => RetryClass::Authentication,
            error_policy::ErrorClass::Resource => RetryClass::Resource,
            error_policy::ErrorClass::InDoubt => RetryClass::Unknown,
            _ => RetryClass::Transient,
        };
        LoadError::Again { class, fault }
    }

    /// A batch was written.
    pub fn none(&mut self) {
        *self = Self::new(self.retry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORDS: &str = "table t was altered";

    fn again(class: RetryClass) -> LoadError {
        LoadError::again(class, WORDS)
    }

    fn answered(class: error_policy::ErrorClass) -> LoadError {
        LoadError::answered(class, WORDS)
    }

    #[test]
    fn a_schema_mismatch_is_believed_when_it_stays() {
        let mut tries = Tries::new(Duration::from_secs(60));
        let now = Instant::now();
        let schema_mismatch = |tries: &mut Tries| tries.judge(LoadError::schema_mismatch(WORDS), now);
        let another = |tries: &mut Tries| drop(tries.judge(LoadError::refused("another"), now));
        for between in [&Tries::none as &dyn Fn(&mut Tries), &another] {
            assert_eq!(schema_mismatch(&mut tries), again(RetryClass::Moved));
            assert_eq!(schema_mismatch(&mut tries), again(RetryClass::Transient));
            assert!(!tries.is_search_due(now));
            assert_eq!(schema_mismatch(&mut tries), again(RetryClass::Transient));
            assert!(tries.is_search_due(now), "before it is believed");
            between(&mut tries);
        }
        for _ in 1..BELIEVED {
            assert_ne!(schema_mismatch(&mut tries), LoadError::refused(WORDS));
        }
        assert_eq!(schema_mismatch(&mut tries), LoadError::refused(WORDS));
    }

    #[test]
    fn an_answer_that_may_pass_is_waited_out_then_searched_then_waited_out_for_ever() {
        let mut tries = Tries::new(Duration::from_secs(20));
        let begun = Instant::now();
        let after = |seconds| begun + Duration::from_secs(seconds);
        let resource = || answered(error_policy::ErrorClass::Resource);
        assert!(!tries.is_search_due(begun));
        assert_eq!(tries.judge(resource(), begun), again(RetryClass::Resource));
        assert!(!tries.is_search_due(after(19)));
        let failed = tries.judge(again(RetryClass::Transient), after(19));
        assert_eq!(failed, again(RetryClass::Transient), "a connection that failed meanwhile");
        assert!(tries.is_search_due(after(20)));
        assert_eq!(tries.judge(resource(), after(25)), again(RetryClass::Resource));
        assert!(!tries.is_search_due(after(49)), "it told nothing: the next one has time");
        assert!(tries.is_search_due(after(50)));
        tries.none();
        assert!(!tries.is_search_due(after(50)));
    }

    #[test]
    fn an_answer_that_nobody_knows_stops_the_sink_after_a_while() {
        let mut tries = Tries::new(Duration::from_secs(20));
        let begun = Instant::now();
        let unknown = || answered(error_policy::ErrorClass::Unknown);
        assert_eq!(tries.judge(unknown(), begun), again(RetryClass::Transient));
        assert_eq!(tries.judge(unknown(), begun + Duration::from_secs(19)), again(RetryClass::Transient));
        assert_eq!(tries.judge(unknown(), begun + Duration::from_secs(20)), LoadError::refused(WORDS));
    }
}
