//! Secrets: read from a file or the environment, never through the configuration's parser, whose errors print what
//! they choke on.

use std::path::{Path, PathBuf};

/// A password or passphrase. No Debug, no Display, no Serialize: it can only be handed on.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// The text, for the one place that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

/// Password of `[kafka.sasl]`.
pub const SASL_PASSWORD: &str = "PRESSLINE__KAFKA__SASL__PASSWORD";
/// Passphrase of the key of `[kafka.tls]`.
pub const TLS_KEY_PASSWORD: &str = "PRESSLINE__KAFKA__TLS__KEY_PASSWORD";
/// Password of `[registry]`.
pub const REGISTRY_PASSWORD: &str = "PRESSLINE__REGISTRY__PASSWORD";
/// Password of `[sink.postgres]`.
pub const POSTGRES_PASSWORD: &str = "PRESSLINE__SINK__POSTGRES__PASSWORD";
/// Password of `[source.database]`.
pub const SOURCE_DATABASE_PASSWORD: &str = "PRESSLINE__SOURCE__DATABASE__PASSWORD";
/// Password of `[sink.clickhouse]`.
pub const CLICKHOUSE_PASSWORD: &str = "PRESSLINE__SINK__CLICKHOUSE__PASSWORD";

/// Environment variables that hold secrets: the configuration's parser does not see them.
pub const ENVIRONMENT: [&str; 6] = [
    SASL_PASSWORD,
    TLS_KEY_PASSWORD,
    REGISTRY_PASSWORD,
    POSTGRES_PASSWORD,
    SOURCE_DATABASE_PASSWORD,
    CLICKHOUSE_PASSWORD,
];

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file is missing or unreadable.
    #[error("cannot read {}: {source}{}", path.display(), who(source))]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is empty.
    #[error("{} is empty, expected one line with the secret", .0.display())]
    Empty(PathBuf),
    /// The variable is set and empty, as `${NAME:-}` in a compose file sets it.
    #[error("environment variable {0} is empty: set it to the secret, or unset it")]
    EmptyVariable(String),
    /// The variable is no text.
    #[error("environment variable {0} is not UTF-8 text")]
    NotText(String),
}

/// Who may not, where the system says only that somebody may not.
fn who(error: &std::io::Error) -> String {
    if error.kind() != std::io::ErrorKind::PermissionDenied {
        return String::new();
    }
    format!("; user id {} may not read it", rustix::process::geteuid().as_raw())
}

/// Reads a secret from the environment variable if it is set, else from the file (without its last line break), else
/// there is none.
pub fn read(variable: &str, file: Option<&Path>) -> Result<Option<Secret>, SecretError> {
    match std::env::var(variable) {
        Ok(value) if value.is_empty() => return Err(SecretError::EmptyVariable(variable.into())),
        Ok(value) => return Ok(Some(Secret(value))),
        Err(std::env::VarError::NotUnicode(_)) => return Err(SecretError::NotText(variable.into())),
        Err(std::env::VarError::NotPresent) => {}
    }
    let Some(path) = file else { return Ok(None) };
    let unreadable = |source| SecretError::Unreadable { path: path.into(), source };
    // Secrets are read again at each connection, which a pipe would not stand.
    if path.exists() && !path.is_file() {
        let what = if path.is_dir() { "it is a folder" } else { "it is no plain file" };
        return Err(unreadable(std::io::Error::new(std::io::ErrorKind::InvalidInput, what)));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() {
        return Err(SecretError::Empty(path.into()));
    }
    Ok(Some(Secret(text.to_string())))
}
