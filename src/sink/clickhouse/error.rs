//! What went wrong with ClickHouse, by class, in our own words: the server's message may quote values, so it is read for its
//! code and never passed on.

use std::fmt;

use crate::config::finding::with_causes;
use crate::runtime::fault::Fault;
pub use crate::sink::error_policy::ErrorClass;
use crate::sink::error_policy::{BODY_TOO_LARGE, MANY_PARTITIONS, of_clickhouse};
use crate::sink::{self, LoadError};

/// An error of one request.
///
/// Whatever the class, rows of an insert that reached the server may be in the table: a materialized view that fails leaves
/// them there. Look before they are written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChError {
    /// What it asks for.
    pub class: ErrorClass,
    /// ClickHouse's number, where it gave one.
    pub code: Option<u32>,
    /// The row of the insert that a constraint refused, from 0, where the answer tells. A hint: the constraint may be that of
    /// a table behind a view, whose rows are others.
    pub row: Option<usize>,
    /// A smaller insert may pass.
    pub too_large: bool,
    /// The view that refused the insert, as the server names it.
    pub view: Option<String>,
    /// The server has answered, or a proxy before it: the insert has ended.
    pub is_answer: bool,
    /// What it is about: address and table.
    pub place: String,
    /// What happened.
    pub what: String,
    /// What to do.
    pub cure: &'static str,
}

impl std::error::Error for ChError {}

impl fmt::Display for ChError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)?;
        if !self.cure.is_empty() {
            write!(f, "; {}", self.cure)?;
        }
        Ok(())
    }
}

impl ChError {
    /// Our own configuration is at fault.
    pub fn configuration(key: &str, what: impl fmt::Display) -> Self {
        Self::new(ErrorClass::Configuration, key, what.to_string(), "fix it")
    }

    /// A password or certificate that cannot be read: it may be about to be renewed, so that it is waited for.
    pub fn unreadable(key: &str, what: impl fmt::Display) -> Self {
        Self::new(ErrorClass::Authentication, key, what.to_string(), "fix the file; pressline reads it again")
    }

    /// One without a number of ClickHouse's.
    fn new(class: ErrorClass, place: &str, what: impl Into<String>, cure: &'static str) -> Self {
        let (what, place) = (what.into(), place.into());
        Self { class, code: None, row: None, too_large: false, view: None, is_answer: false, place, what, cure }
    }

    /// No answer came within the time that `timeout_ms` sets.
    pub fn timed_out(place: &str, class: ErrorClass) -> Self {
        Self::new(class, place, "no answer within sink.clickhouse.timeout_ms", "look at the server's load")
    }

    /// What ClickHouse's client reports. `lost`: the class of a lost connection, which differs between reading and writing.
    pub fn from_client(place: &str, error: &clickhouse::error::Error, lost: ErrorClass) -> Self {
        use clickhouse::error::Error;
        match error {
            Error::BadResponse(text) => Self::from_answer(place, text),
            Error::TimedOut => Self::timed_out(place, lost),
            // Addresses and system errors only: no answer was read yet.
            Error::Network(cause) => Self::new(
                lost,
                place,
                format!("connection failed: {}", with_causes(cause.as_ref())),
                "is the server up, and sink.clickhouse.url its HTTP interface?",
            ),
            Error::InvalidParams(_) => Self::configuration("sink.clickhouse.url", "not an http:// or https:// address"),
            _ => Self::new(
                lost,
                place,
                "an answer that is not ClickHouse's",
                "is sink.clickhouse.url its HTTP interface?",
            ),
        }
    }

    fn from_answer(place: &str, text: &str) -> Self {
        let Some(code) = number_after(text, "Code: ") else { return Self::from_status(place, text) };
        let many_partitions = code == TOO_MANY_PARTS && text.contains("max_partitions_per_insert_block");
        let policy = if many_partitions { MANY_PARTITIONS } else { of_clickhouse(code) };
        let name = if policy.name.is_empty() { String::new() } else { format!(" {}", policy.name) };
        // Rows are counted from 1.
        let row = number_after(text, " is violated at row ").and_then(|row: usize| row.checked_sub(1));
        Self {
            code: Some(code),
            row,
            too_large: policy.too_large,
            view: view_of(text),
            is_answer: true,
            ..Self::new(policy.class, place, format!("code {code}{name}: {}", policy.says), policy.cure)
        }
    }

    /// Of an answer that is not ClickHouse's: a proxy's page, or its status where it has no text.
    fn from_status(place: &str, text: &str) -> Self {
        let status = status_of(text);
        if status == Some(413) {
            let error = Self::new(BODY_TOO_LARGE.class, place, BODY_TOO_LARGE.says, BODY_TOO_LARGE.cure);
            return Self { too_large: true, is_answer: true, ..error };
        }
        let (class, what) = match status {
            Some(status @ (401 | 403)) => (ErrorClass::Authentication, format!("access denied (HTTP {status})")),
            Some(status) => (ErrorClass::Transient, format!("an error without ClickHouse's code (HTTP {status})")),
            None => (ErrorClass::Transient, "an error without ClickHouse's code".to_string()),
        };
        Self::new(class, place, what, "look at the proxy before the server, if there is one")
    }
}

/// The status in a proxy's page, such as `<title>413 Request Entity Too Large</title>`: the client passes the text on only.
fn status_of(text: &str) -> Option<u16> {
    let number = |text: &str| {
        let digits = text.trim_start().split(|c: char| !c.is_ascii_digit()).next()?;
        digits.parse().ok().filter(|status| (400..600).contains(status))
    };
    let lower: String = text.chars().take(4_096).map(|c| c.to_ascii_lowercase()).collect();
    let after = |mark: &str| lower.split_once(mark).and_then(|(_, rest)| number(rest));
    let named = || (lower.contains("too large") && !lower.contains("header")).then_some(413);
    number(&lower).or_else(|| after("<title>")).or_else(|| after("<h1>")).or_else(named)
}

/// The view in `while pushing to view db.name (0b6ad3a5-...)`. Names of tables only: the text may hold values.
fn view_of(text: &str) -> Option<String> {
    let (_, rest) = text.rsplit_once("while pushing to view ")?;
    let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || matches!(c, '_' | '.' | '`' | '-')).collect();
    let name = name.trim_end_matches('.');
    (!name.is_empty()).then(|| name.to_string())
}

/// The number that follows this: the code in `Code: 60. DB::Exception: ...`, the row in `... is violated at row 1. Expression: ...`.
fn number_after<N: std::str::FromStr>(text: &str, mark: &str) -> Option<N> {
    let (_, rest) = text.split_once(mark)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// `TOO_MANY_PARTS`.
const TOO_MANY_PARTS: u32 = 252;

pub(super) fn load_error(error: &ChError) -> LoadError {
    let fault = Fault::from(error.to_string()).code(error.code.map(|code| code.to_string()));
    let class = match error.class {
        ErrorClass::Schema => return LoadError::SchemaMismatch(fault),
        ErrorClass::Data | ErrorClass::Configuration => return LoadError::Refused(fault),
        class if error.is_answer => return LoadError::Answered { class, fault },
        ErrorClass::Transient | ErrorClass::Unknown => sink::RetryClass::Transient,
        ErrorClass::Authentication => sink::RetryClass::Authentication,
        ErrorClass::Resource => sink::RetryClass::Resource,
        ErrorClass::InDoubt => sink::RetryClass::Unknown,
    };
    LoadError::Again { class, fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_by_code_and_no_word_of_the_message() {
        let answer = |text: &str| ChError::from_answer("ClickHouse http://h:1", text);
        let found =
            answer("Code: 469. DB::Exception: Constraint `c` is violated at row 1. Column values: ip = '192.0.2.1'");
        assert_eq!((found.class, found.code, found.row), (ErrorClass::Data, Some(469), Some(0)));
        assert!(!found.to_string().contains("192.0.2.1"), "{found}");
        assert_eq!(answer("Code: 516. DB::Exception: default").class, ErrorClass::Authentication);
        assert_eq!(answer("Code: 252. DB::Exception: Too many parts (300)").class, ErrorClass::Resource);
        assert_eq!(
            answer("Code: 252. DB::Exception: Too many partitions (more than 100). max_partitions_per_insert_block")
                .class,
            ErrorClass::Schema
        );
        assert_eq!(answer("Code: 77777. DB::Exception: 192.0.2.1").class, ErrorClass::Unknown);
        let found = answer("<html>192.0.2.1</html>");
        assert_eq!((found.class, found.code), (ErrorClass::Transient, None));
        assert!(!found.to_string().contains("192.0.2.1"), "{found}");
        assert_eq!(answer("403 Forbidden").class, ErrorClass::Authentication);
    }

    #[test]
    fn a_proxys_page_is_told_by_its_status() {
        let page = "<html>\r\n<head><title>413 Request Entity Too Large</title></head>\r\n<body>\r\n<center><h1>413 Request \
                    Entity Too Large</h1></center>\r\n<hr><center>nginx/1.22.1</center>\r\n</body>\r\n</html>";
        for text in [page, "413 Payload Too Large", "<h1>413 Request Entity Too Large</h1>", "payload too large"] {
            let found = ChError::from_answer("p", text);
            assert!(
                found.too_large && found.is_answer && found.to_string().contains("client_max_body_size"),
                "{found}"
            );
        }
        let found = ChError::from_answer("p", "<html><head><title>502 Bad Gateway</title></head></html>");
        assert!(!found.is_answer && !found.too_large && found.to_string().contains("HTTP 502"), "{found}");
        assert_eq!([status_of("4711 rows"), status_of("nothing of it")], [None, None]);
    }

    #[test]
    fn the_view_is_named_and_nothing_else() {
        let text = "Code: 6. DB::Exception: Cannot parse string '192.0.2.1' as UInt32: while executing 'FUNCTION ...': while \
                    pushing to view pressline.T_mv (0b6ad3a5-8c5b-4b1b-a3ac-1f2d3c4b5a69). (CANNOT_PARSE_TEXT)";
        let found = ChError::from_answer("p", text);
        assert_eq!(found.view.as_deref(), Some("pressline.T_mv"));
        let found = ChError::from_answer("p", "Code: 6. DB::Exception: no: while pushing to view pressline.T_mv. (X)");
        assert_eq!(found.view.as_deref(), Some("pressline.T_mv"));
        assert!(!found.to_string().contains("192.0.2.1"), "{found}");
    }
}
