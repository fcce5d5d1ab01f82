//! What can go wrong with PostgreSQL, by what is to be done about it.
//!
//! The server's own texts (message, detail, context) quote values of the row they complain about, so none of them is
//! passed on: an error is told by its SQLSTATE and by the names of table, column and constraint
//! (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).

use std::fmt;

use tokio_postgres::error::{DbError, Severity};

use super::pooler;
use crate::sink::{Refusal, Why};

/// What the load does about an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Time cures it: back off and try again, for ever.
    Transient,
    /// Somebody has to change a password, a certificate or a right: pause, alarm, ask again.
    Authentication,
    /// The rows of the batch: find the bad ones.
    Data,
    /// Table and schema do not fit, or the configuration is wrong: stop.
    Schema,
    /// The server is full or broken: back off and alarm.
    Resource,
}

impl Class {
    /// Stable name for a metric's label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Authentication => "authentication",
            Self::Data => "data",
            Self::Schema => "schema",
            Self::Resource => "resource",
        }
    }
}

/// An error of the database or of the way to it. Holds no secret and no value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgError {
    /// What to do about it.
    pub class: Class,
    /// `PostgreSQL db.example:5432/presses`.
    pub place: String,
    /// What happened, one sentence.
    pub what: String,
    /// The server's code, where it was the server.
    pub sqlstate: Option<Box<str>>,
    /// Column that the server named.
    pub column: Option<Box<str>>,
    /// Constraint that the server named.
    pub constraint: Option<Box<str>>,
    /// The connection is of no use any more; what was under way may or may not have happened.
    pub connection_lost: bool,
}

impl fmt::Display for PgError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if let Some(code) = &self.sqlstate {
            write!(f, " (SQLSTATE {code})")?;
        }
        Ok(())
    }
}

impl std::error::Error for PgError {}

impl PgError {
    /// An error of our own.
    pub fn new(class: Class, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            class,
            place: place.into(),
            what: what.into(),
            sqlstate: None,
            column: None,
            constraint: None,
            connection_lost: false,
        }
    }

    /// The connection gave out.
    pub(super) fn lost(place: &str, what: impl Into<String>) -> Self {
        Self { connection_lost: true, ..Self::new(Class::Transient, place, what) }
    }

    /// What tokio-postgres says, once connected.
    pub(super) fn of(place: &str, error: &tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refused) => Self::of_server(place, refused),
            // No text of the cause beyond the system's: a parser's complaint could quote what it read.
            None => match source::<std::io::Error>(error) {
                Some(io) => Self::lost(place, format!("the connection failed: {}", io.kind())),
                None => Self::lost(place, "the connection was closed"),
            },
        }
    }

    /// What the server says.
    pub(super) fn of_server(place: &str, refused: &DbError) -> Self {
        let code = refused.code().code();
        let dying = matches!(refused.parsed_severity(), Some(Severity::Fatal | Severity::Panic));
        // It ends the connection, mostly with ERROR instead of FATAL.
        let pooler = if code == "08P01" { pooler::meaning(refused.message()) } else { None };
        let (class, words) = match pooler {
            Some(meant) => meant,
            // Not the 08P01 of a COPY: it is the connection's end.
            None if dying && code.starts_with("08") => {
                (Class::Transient, "the server, or a pooler in front of it, ended the connection; see its log")
            }
            None => (class_of(code), sentence(code)),
        };
        let mut what = words.to_string();
        let named = [("table", refused.table()), ("column", refused.column()), ("constraint", refused.constraint())];
        for (kind, name) in named {
            if let Some(name) = name {
                what.push_str(&format!(", {kind} {name}"));
            }
        }
        Self {
            sqlstate: Some(code.into()),
            column: refused.column().map(Into::into),
            constraint: refused.constraint().map(Into::into),
            connection_lost: dying || pooler.is_some(),
            ..Self::new(class, place, what)
        }
    }

    /// Whether it has this SQLSTATE.
    pub fn is(&self, code: &str) -> bool {
        self.sqlstate.as_deref() == Some(code)
    }

    /// The refusal of the one row that the server complained about.
    pub(super) fn refusal(&self) -> Refusal {
        let code = self.sqlstate.as_deref().unwrap_or_default();
        let why = Why::Database(match &self.constraint {
            Some(constraint) => format!("{code}, constraint {constraint}"),
            None => code.to_string(),
        });
        Refusal { column: self.column.as_deref().unwrap_or_default().into(), why }
    }
}

/// The first cause of a type.
pub(super) fn source<'e, E: std::error::Error + 'static>(
    error: &'e (dyn std::error::Error + 'static),
) -> Option<&'e E> {
    let mut cause = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<E>() {
            return Some(found);
        }
        cause = inner.source();
    }
    None
}

/// Class of a SQLSTATE.
pub(super) fn class_of(code: &str) -> Class {
    match code {
        // A sequence at its end has class 22, but it is the table's matter.
        "2200H" => Class::Schema,
        // Rights stand among the syntax errors.
        "42501" => Class::Authentication,
        // Row or index entry too big, JSON too deep: the value's size.
        "54000" | "54001" => Class::Data,
        // A trigger of the table's owner refuses the row.
        "P0001" => Class::Data,
        // Within a COPY: bytes that the column's type cannot read. The end of a connection has it too, but as FATAL.
        "08P01" => Class::Data,
        _ => match code.get(..2).unwrap_or_default() {
            "22" | "23" | "44" => Class::Data,
            "28" => Class::Authentication,
            "53" | "54" | "58" | "XX" => Class::Resource,
            "0A" | "2B" | "3D" | "3F" | "42" | "P0" => Class::Schema,
            _ => Class::Transient,
        },
    }
}

fn sentence(code: &str) -> &'static str {
    match code {
        "22003" => "a number is out of the column's range",
        "22001" => "a text is longer than the column",
        "22P02" | "22P03" | "08P01" => "a value does not fit the column's type",
        "22008" => "a date or time is out of range",
        "2200H" => "a sequence has given out all its numbers",
        "22012" => "division by zero",
        "23502" => "null in a column that does not take null",
        "23503" => "a foreign key has no match",
        "23505" => "a key is in the table already",
        "23514" => "a CHECK constraint fails, or no partition takes the row",
        "23P01" => "an exclusion constraint fails",
        "25006" => "the server is read-only (a standby?)",
        "25P03" => "the transaction was idle for too long, the server ended it",
        "28P01" => "the server refuses the password",
        "28000" => "the server refuses the user (see its pg_hba.conf: host, user, database, TLS)",
        "3D000" => "the database does not exist",
        "3F000" => "the schema does not exist",
        "40001" => "the transaction collided with another one",
        "40P01" => "deadlock",
        "42501" => "the user lacks a right (see GRANT)",
        "42P01" => "the table does not exist",
        "42703" => "a column does not exist",
        "42804" => "a column has another type than expected",
        "53100" => "the server's disk is full",
        "53200" => "the server is out of memory",
        "53300" => "the server has no connection left",
        "54000" => "a row or an index entry is too big",
        "54001" => "a value is nested too deep",
        "55P03" => "a lock was not granted in time",
        "57014" => "the statement took too long or was cancelled",
        "57P01" | "57P02" => "the server shuts down, or an administrator ended the connection",
        "57P03" => "the server is starting or recovering",
        "P0001" => "a trigger refuses the row",
        _ => match class_of(code) {
            Class::Transient => "the server cannot do it now",
            Class::Authentication => "the server refuses the user",
            Class::Data => "the server refuses a row",
            Class::Schema => "the table does not fit",
            Class::Resource => "the server is out of resources or broken",
        },
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_sqlstate() {
        for (code, class) in [
            ("23514", Class::Data),
            ("22003", Class::Data),
            ("2200H", Class::Schema),
            ("P0001", Class::Data),
            ("42501", Class::Authentication),
            ("42703", Class::Schema),
            ("28P01", Class::Authentication),
            ("53100", Class::Resource),
            ("40P01", Class::Transient),
            ("57P01", Class::Transient),
            ("08006", Class::Transient),
            ("XX001", Class::Resource),
        ] {
            assert_eq!(class_of(code), class, "{code}");
        }
    }
}
