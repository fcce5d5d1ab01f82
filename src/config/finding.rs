//! Findings: what is wrong with a configuration or schema, in words a person can act on.
//!
//! A finding never holds a value that could be a secret or an address: it names where, what was found (its kind),
//! what was expected and what to do.

use std::fmt;

use serde::Serialize;

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Runs, but is probably not what was meant.
    Warning,
    /// pressline refuses to run with it.
    Error,
}

/// One thing that is wrong, where, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Whether it stops the pipeline.
    pub severity: Severity,
    /// File, with a line where one is known (`pipelines/button_presses.toml:12`), or the service it is about.
    pub place: String,
    /// Key (`source.topic`), schema field or topic; empty where the whole place is meant.
    pub subject: String,
    /// What was found and what was expected.
    pub what: String,
    /// What to do.
    pub cure: String,
}

/// What to do about a file that cannot be read.
pub fn check_readable() -> String {
    format!("check the path, and that {} may read it", user())
}

/// The user that this process runs as, by name where it has one.
fn user() -> String {
    let id = rustix::process::geteuid().as_raw();
    let known = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = known.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(id)).then(|| name.to_owned())
    });
    name.map_or_else(|| format!("the user with id {id}"), |name| format!("user {name}"))
}

impl Finding {
    /// A finding that stops the pipeline.
    pub fn error(
        place: impl Into<String>,
        subject: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self {
            severity: Severity::Error,
            place: place.into(),
            subject: subject.into(),
            what: what.into(),
            cure: cure.into(),
        }
    }

    /// A finding that is only worth a look.
    pub fn warning(
        place: impl Into<String>,
        subject: impl Into<String>,
        what: impl Into<String>,
        cure: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(place, subject, what, cure) }
    }

    /// Whether it stops the pipeline.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }
}

/// An error and what caused it: the text of an HTTP client's own error stops at "error sending request".
pub fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let said = inner.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        cause = inner.source();
    }
    text
}

/// One line each.
pub fn sentences(findings: &[Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Warning => "warning",
            Severity::Error => "error",
        };
        write!(f, "{severity}: {}: ", self.place)?;
        if !self.subject.is_empty() {
            write!(f, "{}: ", self.subject)?;
        }
        write!(f, "{}\n    {}", self.what, self.cure)
    }
}
