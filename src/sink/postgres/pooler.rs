//! What a pooler in front of PostgreSQL says for itself. PgBouncer ends a connection mostly with one code, 08P01: only its
//! text tells why (src/client.c, src/server.c, src/janitor.c). These texts hold no value of a row.

use super::error::ErrorClass;

/// How each text begins, what to do, and what to say instead of it.
const MEANINGS: &[(&str, ErrorClass, &str)] = &[
    (
        "transaction blocks not allowed",
        ErrorClass::Schema,
        "the pooler is in statement mode, which allows no transactions; set pool_mode = transaction or session for this \
         database",
    ),
    (
        "unsupported startup parameter",
        ErrorClass::Schema,
        "the pooler refuses a startup parameter; set ignore_startup_parameters in its configuration",
    ),
    (
        "no such database",
        ErrorClass::Schema,
        "the pooler does not know the database; add it to [databases] in its configuration, or correct \
         sink.postgres.database",
    ),
    ("no such user", ErrorClass::Authentication, UNKNOWN),
    ("SASL authentication failed", ErrorClass::Authentication, UNKNOWN),
    ("password authentication failed", ErrorClass::Authentication, UNKNOWN),
    ("certificate authentication failed", ErrorClass::Authentication, UNKNOWN),
    ("login rejected", ErrorClass::Authentication, UNKNOWN),
    (
        "query_wait_timeout",
        ErrorClass::Transient,
        "the pooler had no free server connection within its query_wait_timeout; raise its default_pool_size to two for each \
         worker, or lower workers",
    ),
    (
        "no more connections allowed",
        ErrorClass::Transient,
        "the pooler takes no more clients; raise its max_client_conn",
    ),
    (
        "query timeout",
        ErrorClass::Transient,
        "the pooler ended a statement; raise its query_timeout above sink.postgres.statement_timeout_ms, or lower \
         sink.postgres.batch.max_rows",
    ),
    (
        "idle transaction timeout",
        ErrorClass::Transient,
        "the pooler ended an idle transaction; raise its idle_transaction_timeout above sink.postgres.statement_timeout_ms",
    ),
    ("client_idle_timeout", ErrorClass::Transient, "the pooler ended an idle client; raise its client_idle_timeout"),
    ("server login", ErrorClass::Transient, "the pooler cannot log in to the server; see the pooler's log"),
    (
        "client_login_timeout",
        ErrorClass::Transient,
        "the pooler did not finish the login in time, perhaps because it cannot reach the server; see the pooler's log",
    ),
    (
        "pgbouncer cannot connect to server",
        ErrorClass::Transient,
        "the pooler cannot reach the server; see the pooler's log",
    ),
];

const UNKNOWN: &str =
    "the pooler refuses the user, the password or the certificate; see its auth_file, auth_query and auth_hba_file";

/// What a text with the code 08P01 means, if it is a pooler's.
pub(super) fn meaning(text: &str) -> Option<(ErrorClass, &'static str)> {
    MEANINGS.iter().find(|(known, ..)| text.starts_with(known)).map(|&(_, class, what)| (class, what))
}
