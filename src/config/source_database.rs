//! `[source.database]`: where the database is whose changes are in the topic. Only `pressline check --online` looks at it, to say what
//! the connector lacks there.

use figment::value::magic::RelativePathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::postgres_server::{self, PostgresServer, ServerRole, SslMode};

/// `[source.database]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceDatabaseConfig {
    /// Host name or address.
    #[serde(default = "postgres_server::localhost")]
    pub host: String,
    /// Port.
    #[serde(default = "postgres_server::port")]
    pub port: u16,
    /// Database.
    pub database: String,
    /// User name; nothing but the right to connect is needed.
    pub user: String,
    /// File with the password; or the environment variable `PRESSLINE__SOURCE__DATABASE__PASSWORD`, or a password file as libpq reads it.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub password_file: Option<RelativePathBuf>,
    /// TLS, as libpq means it: `disable`, `prefer`, `require`, `verify-ca`, `verify-full`.
    #[serde(default)]
    pub sslmode: SslMode,
    /// Certificate authority of the server; the system's store unless set.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub ca: Option<RelativePathBuf>,
    /// Our client certificate.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub certificate: Option<RelativePathBuf>,
    /// Its private key.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub key: Option<RelativePathBuf>,
    /// Milliseconds to wait for a connection.
    #[serde(default = "postgres_server::connect_timeout_ms")]
    pub connect_timeout_ms: u64,
    /// The role that the connector connects as (its `database.user`); `user` unless set.
    #[serde(default)]
    pub role: String,
    /// The table at the source, `schema.table`; the last two parts of the topic's name unless set.
    #[serde(default)]
    pub table: String,
    /// The connector's `slot.name`.
    #[serde(default = "slot")]
    pub slot: String,
    /// The connector's `publication.name`.
    #[serde(default = "publication")]
    pub publication: String,
    /// Mebibytes of WAL that the slot may hold back; more is warned of.
    #[serde(default = "max_retained_wal_mb")]
    pub max_retained_wal_mb: u64,
}

/// Debezium's default.
fn slot() -> String {
    "debezium".into()
}

/// Debezium's default.
fn publication() -> String {
    "dbz_publication".into()
}

fn max_retained_wal_mb() -> u64 {
    1024
}

impl SourceDatabaseConfig {
    /// How the server is reached.
    pub fn server(&self) -> PostgresServer {
        PostgresServer {
            role: ServerRole::Source,
            host: self.host.clone(),
            port: self.port,
            database: self.database.clone(),
            user: self.user.clone(),
            password_file: self.password_file.clone(),
            sslmode: self.sslmode,
            ca: self.ca.clone(),
            certificate: self.certificate.clone(),
            key: self.key.clone(),
            // Of the catalogue little is asked.
            statement_timeout_ms: 60_000,
            connect_timeout_ms: self.connect_timeout_ms,
        }
    }

    /// What is senseless: key below `source.database`, what is wrong, what to do.
    pub(super) fn faults(&self, has_several_topics: bool) -> Vec<(&'static str, &'static str, &'static str)> {
        let mut faults = Vec::new();
        let texts = [
            ("host", &self.host),
            ("database", &self.database),
            ("user", &self.user),
            ("slot", &self.slot),
            ("publication", &self.publication),
        ];
        let empty = texts.into_iter().filter(|(_, value)| value.is_empty() || value.contains('\0'));
        faults.extend(empty.map(|(key, _)| (key, "empty, or with a NUL character", "set it")));
        if self.host.contains("://") || self.host.contains(',') {
            faults.push(("host", "no host name or address", "set host, port, database and user one by one"));
        }
        if self.port == 0 {
            faults.push(("port", "0, which is no port", "use the server's port, mostly 5432"));
        }
        if self.certificate.is_some() != self.key.is_some() {
            let what = "a client certificate needs both `certificate` and `key`";
            faults.push(("certificate", what, "set both or neither"));
        }
        if self.connect_timeout_ms == 0 {
            faults.push((
                "connect_timeout_ms",
                "0, so that no connection is ever made",
                "leave it, or set milliseconds",
            ));
        }
        if has_several_topics && !self.table.is_empty() {
            let cure = "remove it: each topic's name says which its table is";
            faults.push(("table", "one table for several topics", cure));
        }
        faults
    }
}
