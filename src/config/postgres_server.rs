//! A PostgreSQL server and how it is reached: that of a sink, or that of the source.

use figment::value::magic::RelativePathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::secret::{POSTGRES_PASSWORD, SOURCE_DATABASE_PASSWORD};

/// libpq's `sslmode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SslMode {
    /// No TLS.
    Disable,
    /// TLS where the server has it, without looking at its certificate.
    #[default]
    Prefer,
    /// TLS; the certificate is checked only where `ca` is set (as libpq does).
    Require,
    /// TLS with a certificate of a trusted authority.
    VerifyCa,
    /// The same, for this host name.
    VerifyFull,
}

/// What the server is to the pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerRole {
    /// Rows are written to it.
    Sink,
    /// Its changes are in the topic.
    Source,
}

impl ServerRole {
    /// The table of the configuration.
    pub fn section(self) -> &'static str {
        match self {
            Self::Sink => "sink.postgres",
            Self::Source => "source.database",
        }
    }

    /// The environment variable with the password.
    pub fn password_variable(self) -> &'static str {
        match self {
            Self::Sink => POSTGRES_PASSWORD,
            Self::Source => SOURCE_DATABASE_PASSWORD,
        }
    }
}

/// A server, as the tables of the configuration name it.
#[derive(Clone, Debug)]
pub struct PostgresServer {
    /// What it is to the pipeline.
    pub role: ServerRole,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
    /// User name.
    pub user: String,
    /// File with the password.
    pub password_file: Option<RelativePathBuf>,
    /// TLS.
    pub sslmode: SslMode,
    /// Certificate authority.
    pub ca: Option<RelativePathBuf>,
    /// Our client certificate.
    pub certificate: Option<RelativePathBuf>,
    /// Its private key.
    pub key: Option<RelativePathBuf>,
    /// Milliseconds a statement may take.
    pub statement_timeout_ms: u64,
    /// Milliseconds to wait for a connection.
    pub connect_timeout_ms: u64,
}

pub(super) fn localhost() -> String {
    "127.0.0.1".into()
}

pub(super) fn port() -> u16 {
    5432
}

pub(super) fn connect_timeout_ms() -> u64 {
    10_000
}
