//! What can go wrong with PostgreSQL, by what is to be done about it.
//!
//! The server's own texts (message, detail, context) quote values of the row they complain about, so none of them is
//! passed on: an error is described by its SQLSTATE and by the names of table, column and constraint
//! (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).

use std::fmt;

use tokio_postgres::error::{DbError, Severity};

use super::pooler;
pub use crate::sink::error_policy::ErrorClass;
use crate::sink::error_policy::{Policy, of_sqlstate};
use crate::sink::{Refusal, Why};

/// An error of the database or of the way to it. Holds no secret and no value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PgError {
    /// What to do about it.
    pub class: ErrorClass,
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
    /// The connection can no longer be used; what was under way may or may not have happened.
    pub connection_lost: bool,
    /// What to do; may be empty.
    pub cure: &'static str,
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
    pub fn new(class: ErrorClass, place: impl Into<String>, what: impl Into<String>) -> Self {
        Self {
            class,
            place: place.into(),
            what: what.into(),
            sqlstate: None,
            column: None,
            constraint: None,
            connection_lost: false,
            cure: "",
        }
    }

    /// The connection gave out.
    pub(super) fn lost(place: &str, what: impl Into<String>) -> Self {
        Self { connection_lost: true, ..Self::new(ErrorClass::Transient, place, what) }
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
        let policy = of_sqlstate(code);
        // It ends the connection, mostly with ERROR instead of FATAL.
        let pooler = if code == "08P01" { pooler::meaning(refused.message()) } else { None };
        let (class, words) = match (pooler, policy.class) {
            (Some(meant), _) => meant,
            // Not the 08P01 of a COPY: it is the connection's end.
            (None, _) if dying && code.starts_with("08") => {
                (ErrorClass::Transient, "the server, or a pooler in front of it, ended the connection; see its log")
            }
            // The connection's end is no row's matter.
            (None, ErrorClass::Data | ErrorClass::Unknown) if dying => (ErrorClass::Transient, policy.says),
            (None, class) => (class, policy.says),
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
            cure: if pooler.is_some() || dying { "" } else { policy.cure },
            ..Self::new(class, place, what)
        }
    }

    /// Whether it has this SQLSTATE.
    pub fn is(&self, code: &str) -> bool {
        self.sqlstate.as_deref() == Some(code)
    }

    /// What is done about it; `None`: it is no answer of the server's to what it was asked, but the connection's end.
    pub fn policy(&self) -> Option<Policy> {
        self.sqlstate.as_deref().filter(|_| !self.connection_lost).map(of_sqlstate)
    }

    /// With what to do.
    pub fn told(&self) -> String {
        if self.cure.is_empty() { self.to_string() } else { format!("{self}; {}", self.cure) }
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
