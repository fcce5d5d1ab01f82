//! What went wrong with ClickHouse, by class, in our own words: the server's message may quote values, so it is read for its
//! code and never passed on.

use std::fmt;

use crate::config::finding::with_causes;

/// What an error asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Comes and goes: try again.
    Transient,
    /// User, password or rights: pause and alarm.
    Authentication,
    /// The rows: halve the batch until the bad ones stand alone.
    Data,
    /// Table and plan do not fit each other any more: describe the table again, or stop.
    Schema,
    /// The server lacks room, memory or the leave to write: wait, and say so.
    Resource,
    /// Our own configuration: stop.
    Configuration,
    /// No answer: the rows may be in the table or not. Look.
    Unknown,
}

/// An error of one request.
///
/// Whatever the class, rows of an insert that reached the server may be in the table: a materialized view that fails leaves
/// them there. Look before they are written again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChError {
    /// What it asks for.
    pub class: Class,
    /// ClickHouse's number, where it gave one.
    pub code: Option<u32>,
    /// The row of the insert that a constraint refused, from 0, where the answer tells. A hint: the constraint may be that of
    /// a table behind a view, whose rows are others.
    pub row: Option<usize>,
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
        Self::new(Class::Configuration, key, what.to_string(), "fix it")
    }

    /// One without a number of ClickHouse's.
    fn new(class: Class, place: &str, what: impl Into<String>, cure: &'static str) -> Self {
        Self { class, code: None, row: None, place: place.into(), what: what.into(), cure }
    }

    /// No answer came within the time that `timeout_ms` sets.
    pub fn timed_out(place: &str, class: Class) -> Self {
        Self::new(class, place, "no answer within sink.clickhouse.timeout_ms", "look at the server's load")
    }

    /// What ClickHouse's client reports. `lost`: the class of a lost connection, which differs between reading and writing.
    pub fn from_client(place: &str, error: &clickhouse::error::Error, lost: Class) -> Self {
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
        let Some(code) = number_after(text, "Code: ") else {
            // Of an answer without a body the client passes on the status.
            let denied = text.starts_with("401") || text.starts_with("403");
            let (class, what) = match denied {
                true => (Class::Authentication, "access denied"),
                false => (Class::Transient, "an error without ClickHouse's code"),
            };
            return Self::new(class, place, what, "look at the proxy before the server, if there is one");
        };
        // The same code for two things: parts pile up, or one insert spans more partitions than it may.
        let many_partitions = code == TOO_MANY_PARTS && text.contains("max_partitions_per_insert_block");
        let known = CODES.iter().find(|known| known.code == code && known.many_partitions == many_partitions);
        let (class, name, says, cure) = match known {
            Some(known) => (known.class, known.name, known.says, known.cure),
            None => (Class::Transient, "", "refused the request", "see the server's log (system.errors)"),
        };
        let name = if name.is_empty() { String::new() } else { format!(" {name}") };
        let what = format!("code {code}{name}: {says}");
        // Rows are counted from 1.
        let row = number_after(text, " is violated at row ").and_then(|row: usize| row.checked_sub(1));
        Self { class, code: Some(code), row, place: place.into(), what, cure }
    }
}

/// The number that follows this: the code in `Code: 60. DB::Exception: ...`, the row in `... is violated at row 1. Expression: ...`.
fn number_after<N: std::str::FromStr>(text: &str, mark: &str) -> Option<N> {
    let (_, rest) = text.split_once(mark)?;
    rest.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

/// `TOO_MANY_PARTS`.
const TOO_MANY_PARTS: u32 = 252;

struct Known {
    code: u32,
    name: &'static str,
    class: Class,
    says: &'static str,
    cure: &'static str,
    many_partitions: bool,
}

const fn known(code: u32, name: &'static str, class: Class, says: &'static str, cure: &'static str) -> Known {
    Known { code, name, class, says, cure, many_partitions: false }
}

const DESCRIBE: &str = "the table was changed: pressline reads it again";
const WAIT: &str = "pressline tries again";
const RIGHTS: &str = "check sink.clickhouse.user, its password file and its grants (`pressline check --online` prints those that are missing)";
const ROOM: &str = "make room; pressline waits";
const ROWS: &str = "the rows it is about become dead letters";

/// ClickHouse's `ErrorCodes.cpp`, as far as an insert or a look at the table can meet them.
const CODES: &[Known] = &[
    known(6, "CANNOT_PARSE_TEXT", Class::Data, "a value cannot be parsed", ROWS),
    known(69, "ARGUMENT_OUT_OF_BOUND", Class::Data, "a value is out of bounds", ROWS),
    known(131, "TOO_LARGE_STRING_SIZE", Class::Data, "a text is too long", ROWS),
    known(321, "VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", Class::Data, "a value is out of its type's range", ROWS),
    known(349, "CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN", Class::Data, "null in a column that takes none", ROWS),
    known(395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", Class::Data, "throwIf in a default or view refuses a row", ROWS),
    known(407, "DECIMAL_OVERFLOW", Class::Data, "a decimal has too many digits", ROWS),
    known(469, "VIOLATED_CONSTRAINT", Class::Data, "a row violates a CONSTRAINT of the table", ROWS),
    known(691, "UNKNOWN_ELEMENT_OF_ENUM", Class::Data, "an enum has no such label", ROWS),
    known(10, "NOT_FOUND_COLUMN_IN_BLOCK", Class::Schema, "a column is missing", DESCRIBE),
    known(16, "NO_SUCH_COLUMN_IN_TABLE", Class::Schema, "the table lacks a column", DESCRIBE),
    known(20, "NUMBER_OF_COLUMNS_DOESNT_MATCH", Class::Schema, "the number of columns differs", DESCRIBE),
    known(44, "ILLEGAL_COLUMN", Class::Schema, "a column cannot be written", DESCRIBE),
    known(47, "UNKNOWN_IDENTIFIER", Class::Schema, "the table lacks a column", DESCRIBE),
    known(50, "UNKNOWN_TYPE", Class::Schema, "the server does not know a type", DESCRIBE),
    known(53, "TYPE_MISMATCH", Class::Schema, "a column has another type", DESCRIBE),
    known(60, "UNKNOWN_TABLE", Class::Schema, "there is no such table", "make it, or see sink.clickhouse.auto_create"),
    known(70, "CANNOT_CONVERT_TYPE", Class::Schema, "a column's type cannot be converted", DESCRIBE),
    known(
        81,
        "UNKNOWN_DATABASE",
        Class::Schema,
        "there is no such database",
        "CREATE DATABASE, or fix sink.clickhouse.database",
    ),
    known(
        115,
        "UNKNOWN_SETTING",
        Class::Schema,
        "the server does not know a setting",
        "restart pressline: the server's version changed",
    ),
    known(117, "INCORRECT_DATA", Class::Schema, "the block is not what the table expects", DESCRIBE),
    known(
        452,
        "SETTING_CONSTRAINT_VIOLATION",
        Class::Schema,
        "the user's profile forbids a setting",
        "allow the user to change the settings of inserts",
    ),
    known(192, "UNKNOWN_USER", Class::Authentication, "no such user", RIGHTS),
    known(193, "WRONG_PASSWORD", Class::Authentication, "wrong password", RIGHTS),
    known(194, "REQUIRED_PASSWORD", Class::Authentication, "a password is required", RIGHTS),
    known(195, "IP_ADDRESS_NOT_ALLOWED", Class::Authentication, "the user may not come from here", RIGHTS),
    known(291, "DATABASE_ACCESS_DENIED", Class::Authentication, "the user may not use the database", RIGHTS),
    known(497, "ACCESS_DENIED", Class::Authentication, "the user lacks a grant", RIGHTS),
    known(516, "AUTHENTICATION_FAILED", Class::Authentication, "wrong user or password", RIGHTS),
    known(164, "READONLY", Class::Authentication, "the user may only read", RIGHTS),
    known(75, "CANNOT_WRITE_TO_FILE_DESCRIPTOR", Class::Resource, "the disk cannot be written", ROOM),
    known(76, "CANNOT_OPEN_FILE", Class::Resource, "a file cannot be opened", ROOM),
    known(201, "QUOTA_EXCEEDED", Class::Resource, "the user's quota is used up", "raise the quota; pressline waits"),
    known(202, "TOO_MANY_SIMULTANEOUS_QUERIES", Class::Resource, "too many queries at once", WAIT),
    known(
        241,
        "MEMORY_LIMIT_EXCEEDED",
        Class::Resource,
        "not enough memory",
        "smaller sink.clickhouse.batch, or more memory; pressline waits",
    ),
    known(
        242,
        "TABLE_IS_READ_ONLY",
        Class::Resource,
        "the table is read-only",
        "has the server lost its Keeper? pressline waits",
    ),
    known(243, "NOT_ENOUGH_SPACE", Class::Resource, "the disk is full", ROOM),
    known(
        TOO_MANY_PARTS,
        "TOO_MANY_PARTS",
        Class::Resource,
        "too many parts: merges fall behind",
        "larger and fewer batches (sink.clickhouse.batch); pressline waits",
    ),
    Known {
        many_partitions: true,
        ..known(
            TOO_MANY_PARTS,
            "TOO_MANY_PARTS",
            Class::Schema,
            "one insert spans more table partitions than max_partitions_per_insert_block",
            "a coarser PARTITION BY, or a higher max_partitions_per_insert_block for the user",
        )
    },
    known(
        1001,
        "STD_EXCEPTION",
        Class::Resource,
        "the server's system failed it, such as a disk that cannot be written",
        ROOM,
    ),
    known(32, "ATTEMPT_TO_READ_AFTER_EOF", Class::Transient, "the block was cut off", WAIT),
    known(33, "CANNOT_READ_ALL_DATA", Class::Transient, "the block was cut off", WAIT),
    known(159, "TIMEOUT_EXCEEDED", Class::Transient, "took longer than the server allows", WAIT),
    known(209, "SOCKET_TIMEOUT", Class::Transient, "the server waited too long for the block", WAIT),
    known(210, "NETWORK_ERROR", Class::Transient, "the network failed within the server", WAIT),
    known(225, "NO_ZOOKEEPER", Class::Transient, "the server has no Keeper", WAIT),
    known(236, "ABORTED", Class::Transient, "the server is shutting down", WAIT),
    known(285, "TOO_FEW_LIVE_REPLICAS", Class::Transient, "too few replicas are up for insert_quorum", WAIT),
    known(286, "UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", Class::Transient, "an earlier insert has no quorum yet", WAIT),
    known(
        319,
        "UNKNOWN_STATUS_OF_INSERT",
        Class::Unknown,
        "the server does not know whether the insert was done",
        WAIT,
    ),
    known(394, "QUERY_WAS_CANCELLED", Class::Unknown, "somebody cancelled the insert", WAIT),
    known(999, "KEEPER_EXCEPTION", Class::Transient, "the server's Keeper failed", WAIT),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_by_code_and_no_word_of_the_message() {
        let answer = |text: &str| ChError::from_answer("ClickHouse http://h:1", text);
        let found =
            answer("Code: 469. DB::Exception: Constraint `c` is violated at row 1. Column values: ip = '192.0.2.1'");
        assert_eq!((found.class, found.code, found.row), (Class::Data, Some(469), Some(0)));
        assert!(!found.to_string().contains("192.0.2.1"), "{found}");
        assert_eq!(answer("Code: 516. DB::Exception: default").class, Class::Authentication);
        assert_eq!(answer("Code: 252. DB::Exception: Too many parts (300)").class, Class::Resource);
        assert_eq!(
            answer("Code: 252. DB::Exception: Too many partitions (more than 100). max_partitions_per_insert_block")
                .class,
            Class::Schema
        );
        assert_eq!(answer("Code: 77777. DB::Exception: 192.0.2.1").class, Class::Transient);
        let found = answer("<html>192.0.2.1</html>");
        assert_eq!((found.class, found.code), (Class::Transient, None));
        assert!(!found.to_string().contains("192.0.2.1"), "{found}");
        assert_eq!(answer("403 Forbidden").class, Class::Authentication);
    }

    #[test]
    fn each_code_stands_once() {
        for (at, known) in CODES.iter().enumerate() {
            let same = |other: &&Known| other.code == known.code && other.many_partitions == known.many_partitions;
            assert_eq!(CODES.iter().position(|other| same(&other)), Some(at), "{}", known.code);
        }
    }
}
