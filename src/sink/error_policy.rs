//! What both sinks do with an answer of their server: one table for PostgreSQL's SQLSTATEs, one for ClickHouse's codes.
//!
//! | class | what is done at first | then | where no row is told from another |
//! | --- | --- | --- | --- |
//! | data | the batch is searched | rows that are refused alone are dead letters | the same, up to `max_dead_share` |
//! | unknown | the batch is searched | the same | tried again for `retry_ms`, then the sink stops |
//! | schema | the table is read again | the batch is searched | the sink stops |
//! | transient, resource, authentication | tried again for `retry_ms`, with growing pauses | the batch is searched | tried again for ever |
//! | in doubt | the database is asked what is there | as transient | tried again for ever |
//!
//! Whatever may pass for a batch that is too large is tried in smaller parts before all that. A connection that fails is no
//! answer of a server: it is transient for ever.
//!
//! The server's own texts quote values of rows, so none is passed on: a code has a sentence of ours here.

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorClass {
    /// Comes and goes.
    Transient,
    /// The server lacks room, memory or connections.
    Resource,
    /// Somebody has to change a password, a certificate or a right.
    Authentication,
    /// Table and plan do not fit each other (any more).
    Schema,
    /// The rows of the batch.
    Data,
    /// An answer that is in no table.
    Unknown,
    /// Our own configuration.
    Configuration,
    /// No answer: the rows may have been written or not.
    InDoubt,
}

impl ErrorClass {
    /// Stable name for messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::Resource => "resource",
            Self::Authentication => "authentication",
            Self::Schema => "schema",
            Self::Data => "data",
            Self::Unknown => "unknown",
            Self::Configuration => "configuration",
            Self::InDoubt => "in doubt",
        }
    }

    /// The batch is searched for bad rows at the first answer of this class.
    pub fn is_searched_at_once(self) -> bool {
        matches!(self, Self::Data | Self::Unknown)
    }

    /// Where the search tells no row from another, it is tried again for ever: the cause is the server's and may pass.
    pub fn is_unbounded(self) -> bool {
        matches!(self, Self::Transient | Self::Resource | Self::Authentication | Self::InDoubt)
    }

    /// Heading in the runbooks.
    pub fn runbook(self) -> &'static str {
        match self {
            Self::Transient | Self::Resource | Self::InDoubt => "PresslineSinkRetries",
            Self::Authentication => "PresslineSinkAuthentication",
            Self::Data => "PresslineSinkDeadRows",
            Self::Schema | Self::Unknown | Self::Configuration => "PresslineSinkStalled",
        }
    }
}

/// What is done about one code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its class, from which all else follows.
    pub class: ErrorClass,
    /// A smaller batch may pass.
    pub too_large: bool,
    /// The code's name with its server; empty where the number says it all.
    pub name: &'static str,
    /// What happened.
    pub says: &'static str,
    /// What the operator can do; may be empty.
    pub cure: &'static str,
}

const fn policy(class: ErrorClass, says: &'static str) -> Policy {
    Policy { class, too_large: false, name: "", says, cure: "" }
}

impl Policy {
    const fn named(self, name: &'static str) -> Self {
        Self { name, ..self }
    }

    const fn cure(self, cure: &'static str) -> Self {
        Self { cure, ..self }
    }

    const fn too_large(self) -> Self {
        Self { too_large: true, ..self }
    }
}

/// What is done about a SQLSTATE.
pub fn of_sqlstate(code: &str) -> Policy {
    let known = SQLSTATES.iter().find(|(known, _)| *known == code);
    let of_class = || SQLSTATE_CLASSES.iter().find(|(class, _)| code.get(..2) == Some(class));
    match known.or_else(of_class) {
        Some((_, policy)) => *policy,
        // Not one of PostgreSQL's classes: a code of the user's own, raised by RAISE.
        None => REFUSED_BY_FUNCTION,
    }
}

/// What is done about a ClickHouse code.
pub fn of_clickhouse(code: u32) -> Policy {
    let known = CLICKHOUSE.iter().find(|(known, _)| *known == code);
    known.map_or(UNLISTED, |(_, policy)| *policy)
}

/// ClickHouse has one code for two things: parts pile up, or one insert spans more table partitions than it may.
pub const MANY_PARTITIONS: Policy = policy(
    ErrorClass::Schema,
    "one insert spans more table partitions than max_partitions_per_insert_block",
)
.named("TOO_MANY_PARTS")
.cure(
    "it is tried in smaller parts; a smaller sink.clickhouse.batch.max_rows, a coarser PARTITION BY, or a higher \
             max_partitions_per_insert_block for the user makes that unnecessary",
)
.too_large();

/// What a proxy answers to a body that is larger than it takes.
pub const BODY_TOO_LARGE: Policy =
    policy(ErrorClass::Resource, "a proxy before the server refuses the size of the request (HTTP 413)")
        .cure(
            "it is tried in smaller parts; raise the proxy's limit (nginx: client_max_body_size) or lower \
             sink.clickhouse.batch.max_bytes",
        )
        .too_large();

const REFUSED_BY_FUNCTION: Policy = policy(ErrorClass::Data, "a trigger or a function of the table refuses the row");
const UNLISTED: Policy =
    policy(ErrorClass::Unknown, "refused the request").cure("see the server's log (system.errors)");

/// SQLSTATEs that are not as their class.
const SQLSTATES: &[(&str, Policy)] = &[
    // Within a COPY: bytes that the column's type cannot read. The end of a connection has it too, but as FATAL.
    ("08P01", policy(ErrorClass::Data, "a value does not fit the column's type")),
    ("22001", policy(ErrorClass::Data, "a text is longer than the column")),
    ("22003", policy(ErrorClass::Data, "a number is out of the column's range")),
    ("22008", policy(ErrorClass::Data, "a date or time is out of range")),
    ("22012", policy(ErrorClass::Data, "division by zero")),
    ("22P02", policy(ErrorClass::Data, "a value does not fit the column's type")),
    ("22P03", policy(ErrorClass::Data, "a value does not fit the column's type")),
    // Class 22, but the table's matter.
    ("2200H", policy(ErrorClass::Schema, "a sequence has given out all its numbers").cure("alter the sequence")),
    ("23502", policy(ErrorClass::Data, "null in a column that does not take null")),
    ("23503", policy(ErrorClass::Data, "a foreign key has no match")),
    ("23505", policy(ErrorClass::Data, "a key is in the table already")),
    ("23514", policy(ErrorClass::Data, "a CHECK constraint fails, or no partition takes the row")),
    ("23P01", policy(ErrorClass::Data, "an exclusion constraint fails")),
    ("25006", policy(ErrorClass::Transient, "the server is read-only (a standby?)")),
    ("25P03", policy(ErrorClass::Transient, "the transaction was idle for too long, the server ended it")),
    (
        "28000",
        policy(
            ErrorClass::Authentication,
            "the server refuses the user (see its pg_hba.conf: host, user, database, TLS)",
        ),
    ),
    ("28P01", policy(ErrorClass::Authentication, "the server refuses the password")),
    ("3D000", policy(ErrorClass::Schema, "the database does not exist")),
    ("3F000", policy(ErrorClass::Schema, "the schema does not exist").cure("make it (CREATE SCHEMA), or name another")),
    ("40001", policy(ErrorClass::Transient, "the transaction collided with another one")),
    ("40P01", policy(ErrorClass::Transient, "deadlock")),
    ("42501", policy(ErrorClass::Authentication, "the user lacks a right (see GRANT)")),
    ("42703", policy(ErrorClass::Schema, "a column does not exist")),
    ("42804", policy(ErrorClass::Schema, "a column has another type than expected")),
    ("42P01", policy(ErrorClass::Schema, "the table does not exist")),
    ("53100", policy(ErrorClass::Resource, "the server's disk is full").cure("make room")),
    (
        "53200",
        policy(ErrorClass::Resource, "the server is out of memory")
            .cure("lower sink.postgres.batch.max_rows, or give the server more memory")
            .too_large(),
    ),
    ("53300", policy(ErrorClass::Resource, "the server has no connection left").cure("raise its max_connections")),
    (
        "53400",
        policy(ErrorClass::Resource, "a limit of the server's configuration is reached")
            .cure("lower sink.postgres.batch.max_rows, or raise the limit (see the server's log)")
            .too_large(),
    ),
    ("54000", policy(ErrorClass::Data, "a row or an index entry is too big")),
    ("54001", policy(ErrorClass::Data, "a value is nested too deep")),
    ("55006", policy(ErrorClass::Transient, "something of the table is in use")),
    ("55P03", policy(ErrorClass::Transient, "a lock was not granted in time")),
    (
        "57014",
        policy(
            ErrorClass::Transient,
            "the statement took longer than sink.postgres.statement_timeout_ms, or was cancelled",
        )
        .cure("it is tried in smaller parts; raise statement_timeout_ms or lower sink.postgres.batch.max_rows")
        .too_large(),
    ),
    ("57P01", policy(ErrorClass::Transient, "the server shuts down, or an administrator ended the connection")),
    ("57P02", policy(ErrorClass::Transient, "the server shuts down, or an administrator ended the connection")),
    ("57P03", policy(ErrorClass::Transient, "the server is starting or recovering")),
    ("HV00L", policy(ErrorClass::Transient, "a foreign server cannot be used now")),
    ("HV00N", policy(ErrorClass::Transient, "a foreign server cannot be reached")),
    ("P0001", policy(ErrorClass::Data, "a trigger refuses the row")),
    ("P0002", policy(ErrorClass::Data, "a trigger finds no row where it needs one")),
    ("P0003", policy(ErrorClass::Data, "a trigger finds several rows where it needs one")),
    ("XX001", policy(ErrorClass::Resource, "the server found damaged data").cure("see the server's log")),
    ("XX002", policy(ErrorClass::Resource, "the server found a damaged index").cure("see the server's log; REINDEX")),
];

/// All classes of PostgreSQL's list (<https://www.postgresql.org/docs/current/errcodes-appendix.html>).
const SQLSTATE_CLASSES: &[(&str, Policy)] = &[
    ("00", REFUSED_BY_FUNCTION),
    ("01", REFUSED_BY_FUNCTION),
    ("02", REFUSED_BY_FUNCTION),
    ("03", UNUSUAL),
    ("08", policy(ErrorClass::Transient, "a connection of the server's own failed")),
    ("09", REFUSED_BY_FUNCTION),
    ("0A", UNFIT),
    ("0B", UNUSUAL),
    ("0F", UNUSUAL),
    ("0L", UNUSUAL),
    ("0P", UNUSUAL),
    ("0Z", REFUSED_BY_FUNCTION),
    ("10", REFUSED_BY_FUNCTION),
    ("20", REFUSED_BY_FUNCTION),
    ("21", REFUSED_BY_FUNCTION),
    ("22", policy(ErrorClass::Data, "the server refuses a row")),
    ("23", policy(ErrorClass::Data, "the server refuses a row")),
    ("24", UNUSUAL),
    ("25", UNUSUAL),
    ("26", UNUSUAL),
    ("27", REFUSED_BY_FUNCTION),
    ("28", policy(ErrorClass::Authentication, "the server refuses the user")),
    ("2B", UNFIT),
    ("2D", UNUSUAL),
    ("2F", REFUSED_BY_FUNCTION),
    ("34", UNUSUAL),
    ("38", REFUSED_BY_FUNCTION),
    ("39", REFUSED_BY_FUNCTION),
    ("3B", UNUSUAL),
    ("3D", UNFIT),
    ("3F", UNFIT),
    ("40", policy(ErrorClass::Transient, "the server rolled the transaction back")),
    ("42", UNFIT),
    ("44", policy(ErrorClass::Data, "a view's WITH CHECK OPTION refuses the row")),
    ("53", policy(ErrorClass::Resource, "the server is out of resources").cure("see the server's log")),
    ("54", UNFIT),
    ("55", UNUSUAL),
    ("57", policy(ErrorClass::Transient, "the server cannot do it now")),
    ("58", policy(ErrorClass::Resource, "the server's system failed it").cure("see the server's log")),
    ("72", policy(ErrorClass::Transient, "the server cannot do it now")),
    ("F0", UNUSUAL),
    ("HV", UNUSUAL),
    ("P0", REFUSED_BY_FUNCTION),
    ("XX", UNUSUAL),
];

const UNFIT: Policy = policy(ErrorClass::Schema, "the table does not fit");
const UNUSUAL: Policy = policy(ErrorClass::Unknown, "the server refuses it").cure("see the server's log");

const DESCRIBE: &str = "the table was changed: pressline reads it again";
const WAIT: &str = "pressline tries again";
const RIGHTS: &str = "check sink.clickhouse.user, its password file and its grants (`pressline check --online` prints those that are missing)";
const ROOM: &str = "make room; pressline waits";
const ROWS: &str = "the rows it is about become dead letters";

const fn data(name: &'static str, says: &'static str) -> Policy {
    policy(ErrorClass::Data, says).named(name).cure(ROWS)
}

const fn schema(name: &'static str, says: &'static str) -> Policy {
    policy(ErrorClass::Schema, says).named(name).cure(DESCRIBE)
}

const fn rights(name: &'static str, says: &'static str) -> Policy {
    policy(ErrorClass::Authentication, says).named(name).cure(RIGHTS)
}

const fn resource(name: &'static str, says: &'static str, cure: &'static str) -> Policy {
    policy(ErrorClass::Resource, says).named(name).cure(cure)
}

const fn passing(name: &'static str, says: &'static str) -> Policy {
    policy(ErrorClass::Transient, says).named(name).cure(WAIT)
}

/// ClickHouse's `ErrorCodes.cpp`, as far as an insert or a look at the table is known to meet them.
const CLICKHOUSE: &[(u32, Policy)] = &[
    (6, data("CANNOT_PARSE_TEXT", "a value cannot be parsed")),
    (25, data("CANNOT_PARSE_ESCAPE_SEQUENCE", "a value cannot be parsed")),
    (26, data("CANNOT_PARSE_QUOTED_STRING", "a value cannot be parsed")),
    (27, data("CANNOT_PARSE_INPUT_ASSERTION_FAILED", "a value cannot be parsed")),
    (38, data("CANNOT_PARSE_DATE", "a text is no date")),
    (41, data("CANNOT_PARSE_DATETIME", "a text is no date and time")),
    (69, data("ARGUMENT_OUT_OF_BOUND", "a value is out of bounds")),
    (72, data("CANNOT_PARSE_NUMBER", "a text is no number")),
    (131, data("TOO_LARGE_STRING_SIZE", "a text is too long")),
    (153, data("ILLEGAL_DIVISION", "division by zero")),
    (190, data("SIZES_OF_ARRAYS_DONT_MATCH", "arrays have different lengths")),
    (321, data("VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE", "a value is out of its type's range")),
    (349, data("CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN", "null in a column that takes none")),
    (376, data("CANNOT_PARSE_UUID", "a text is no UUID")),
    (395, data("FUNCTION_THROW_IF_VALUE_IS_NON_ZERO", "throwIf in a default or view refuses a row")),
    (407, data("DECIMAL_OVERFLOW", "a decimal has too many digits")),
    (467, data("CANNOT_PARSE_BOOL", "a text is no boolean")),
    (469, data("VIOLATED_CONSTRAINT", "a row violates a CONSTRAINT of the table")),
    (675, data("CANNOT_PARSE_IPV4", "a text is no IPv4 address")),
    (676, data("CANNOT_PARSE_IPV6", "a text is no IPv6 address")),
    (691, data("UNKNOWN_ELEMENT_OF_ENUM", "an enum has no such label")),
    (10, schema("NOT_FOUND_COLUMN_IN_BLOCK", "a column is missing")),
    (16, schema("NO_SUCH_COLUMN_IN_TABLE", "the table lacks a column")),
    (20, schema("NUMBER_OF_COLUMNS_DOESNT_MATCH", "the number of columns differs")),
    (44, schema("ILLEGAL_COLUMN", "a column cannot be written")),
    (46, schema("UNKNOWN_FUNCTION", "the server does not know a function").cure("see the table's and its views' expressions")),
    (47, schema("UNKNOWN_IDENTIFIER", "the table lacks a column")),
    (50, schema("UNKNOWN_TYPE", "the server does not know a type")),
    (53, schema("TYPE_MISMATCH", "a column has another type")),
    (60, schema("UNKNOWN_TABLE", "there is no such table").cure("make it, or see sink.clickhouse.auto_create")),
    (
        62,
        schema("SYNTAX_ERROR", "the server cannot read the statement")
            .cure("look at sink.clickhouse.order_by and partition_by, and at the names of table and columns"),
    ),
    (70, schema("CANNOT_CONVERT_TYPE", "a column's type cannot be converted")),
    (81, schema("UNKNOWN_DATABASE", "there is no such database").cure("CREATE DATABASE, or fix sink.clickhouse.database")),
    (
        115,
        schema("UNKNOWN_SETTING", "the server does not know a setting")
            .cure("restart pressline: the server's version changed"),
    ),
    (117, schema("INCORRECT_DATA", "the block is not what the table expects")),
    (
        452,
        schema("SETTING_CONSTRAINT_VIOLATION", "the user's profile forbids a setting")
            .cure("allow the user to change the settings of inserts"),
    ),
    (164, rights("READONLY", "the user may only read")),
    (192, rights("UNKNOWN_USER", "no such user")),
    (193, rights("WRONG_PASSWORD", "wrong password")),
    (194, rights("REQUIRED_PASSWORD", "a password is required")),
    (195, rights("IP_ADDRESS_NOT_ALLOWED", "the user may not come from here")),
    (291, rights("DATABASE_ACCESS_DENIED", "the user may not use the database")),
    (497, rights("ACCESS_DENIED", "the user lacks a grant")),
    (516, rights("AUTHENTICATION_FAILED", "wrong user or password")),
    (75, resource("CANNOT_WRITE_TO_FILE_DESCRIPTOR", "the disk cannot be written", ROOM)),
    (76, resource("CANNOT_OPEN_FILE", "a file cannot be opened", ROOM)),
    (201, resource("QUOTA_EXCEEDED", "the user's quota is used up", "raise the quota; pressline waits")),
    (202, resource("TOO_MANY_SIMULTANEOUS_QUERIES", "too many queries at once", WAIT)),
    (
        241,
        resource(
            "MEMORY_LIMIT_EXCEEDED",
            "not enough memory",
            "it is tried in smaller parts; lower sink.clickhouse.batch.max_rows, or give the server more memory",
        )
        .too_large(),
    ),
    (242, resource("TABLE_IS_READ_ONLY", "the table is read-only", "has the server lost its Keeper? pressline waits")),
    (243, resource("NOT_ENOUGH_SPACE", "the disk is full", ROOM)),
    (
        252,
        resource(
            "TOO_MANY_PARTS",
            "too many parts: merges fall behind",
            "larger and fewer batches (sink.clickhouse.batch); pressline waits",
        ),
    ),
    (1001, resource("STD_EXCEPTION", "the server's system failed it, such as a disk that cannot be written", ROOM)),
    (32, passing("ATTEMPT_TO_READ_AFTER_EOF", "the block was cut off")),
    (33, passing("CANNOT_READ_ALL_DATA", "the block was cut off")),
    (
        159,
        passing("TIMEOUT_EXCEEDED", "took longer than the server allows")
            .cure(
                "it is tried in smaller parts; lower sink.clickhouse.batch.max_rows, or raise max_execution_time for the user",
            )
            .too_large(),
    ),
    (209, passing("SOCKET_TIMEOUT", "the server waited too long for the block")),
    (210, passing("NETWORK_ERROR", "the network failed within the server")),
    (225, passing("NO_ZOOKEEPER", "the server has no Keeper")),
    (236, passing("ABORTED", "the server is shutting down")),
    (285, passing("TOO_FEW_LIVE_REPLICAS", "too few replicas are up for insert_quorum")),
    (286, passing("UNSATISFIED_QUORUM_FOR_PREVIOUS_WRITE", "an earlier insert has no quorum yet")),
    (999, passing("KEEPER_EXCEPTION", "the server's Keeper failed")),
    (
        319,
        policy(ErrorClass::InDoubt, "the server does not know whether the insert was done")
            .named("UNKNOWN_STATUS_OF_INSERT")
            .cure(WAIT),
    ),
    (394, policy(ErrorClass::InDoubt, "the insert was cancelled").named("QUERY_WAS_CANCELLED").cure(WAIT)),
];

/// The most rows that are written together, after a batch that was too large for the server: as many as it took of that batch, and
/// slowly more again while batches are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fitting {
    rows: Option<usize>,
    /// Batches written since it last changed.
    written: u32,
}

/// After so many batches larger ones are tried again: each try that fails costs a statement.
const GROWS_AFTER: u32 = 20;
/// From here on there is no limit any more.
const UNLIMITED: usize = 1 << 20;

impl Fitting {
    /// The most rows; `None`: no limit.
    pub fn rows(&self) -> Option<usize> {
        self.rows
    }

    /// The server took so many rows after it had refused more. To be told only after it took some: what it refuses in any number
    /// is not too large.
    pub fn took(&mut self, rows: usize) {
        *self = Self { rows: Some(rows.max(1)), written: 0 };
    }

    /// A batch was written.
    pub fn written(&mut self) {
        let Some(rows) = self.rows else { return };
        self.written += 1;
        if self.written >= GROWS_AFTER {
            let more = rows + rows.div_ceil(2);
            *self = Self { rows: Some(more).filter(|rows| *rows < UNLIMITED), written: 0 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_follow_the_sqlstate() {
        for (code, class) in [
            ("23514", ErrorClass::Data),
            ("22003", ErrorClass::Data),
            ("2200H", ErrorClass::Schema),
            ("P0001", ErrorClass::Data),
            ("P0002", ErrorClass::Data),
            ("45000", ErrorClass::Data),
            ("UE001", ErrorClass::Data),
            ("42501", ErrorClass::Authentication),
            ("42703", ErrorClass::Schema),
            ("28P01", ErrorClass::Authentication),
            ("53100", ErrorClass::Resource),
            ("40P01", ErrorClass::Transient),
            ("57P01", ErrorClass::Transient),
            ("08006", ErrorClass::Transient),
            ("55000", ErrorClass::Unknown),
            ("XX000", ErrorClass::Unknown),
            ("XX001", ErrorClass::Resource),
        ] {
            assert_eq!(of_sqlstate(code).class, class, "{code}");
        }
        assert!(of_sqlstate("57014").too_large && of_sqlstate("53200").too_large && !of_sqlstate("53100").too_large);
    }

    #[test]
    fn each_code_stands_once_with_a_sentence() {
        for (at, (code, policy)) in CLICKHOUSE.iter().enumerate() {
            assert_eq!(CLICKHOUSE.iter().position(|(other, _)| other == code), Some(at), "{code}");
            assert!(!policy.says.is_empty() && !policy.cure.is_empty() && !policy.name.is_empty(), "{code}");
        }
        for table in [SQLSTATES, SQLSTATE_CLASSES] {
            for (at, (code, policy)) in table.iter().enumerate() {
                assert_eq!(table.iter().position(|(other, _)| other == code), Some(at), "{code}");
                assert!(!policy.says.is_empty(), "{code}");
            }
        }
    }

    #[test]
    fn each_class_has_its_runbook() {
        let runbooks = include_str!("../../docs/runbooks.md");
        for class in [
            ErrorClass::Transient,
            ErrorClass::Resource,
            ErrorClass::Authentication,
            ErrorClass::Schema,
            ErrorClass::Data,
            ErrorClass::Unknown,
        ] {
            assert!(runbooks.contains(&format!("## {}\n", class.runbook())), "{}", class.name());
        }
    }

    #[test]
    fn what_fits_shrinks_at_once_and_grows_slowly() {
        let mut fitting = Fitting::default();
        fitting.written();
        assert_eq!(fitting.rows(), None);
        fitting.took(500);
        fitting.took(250);
        assert_eq!(fitting.rows(), Some(250));
        (0..GROWS_AFTER - 1).for_each(|_| fitting.written());
        assert_eq!(fitting.rows(), Some(250));
        fitting.written();
        assert_eq!(fitting.rows(), Some(375));
        (0..GROWS_AFTER * 30).for_each(|_| fitting.written());
        assert_eq!(fitting.rows(), None);
        fitting.took(1);
        assert_eq!(fitting.rows(), Some(1));
    }
}
