//! The password: from the environment, our own file, or libpq's password file
//! (<https://www.postgresql.org/docs/current/libpq-pgpass.html>).

use std::path::{Path, PathBuf};

use super::error::{ErrorClass, PgError};
use crate::config::postgres_server::PostgresServer;
use crate::config::secret;
use crate::config::sink::path;

/// Text that is sent to the server and nowhere else. No Debug, no Display.
pub(super) struct Password(String);

impl Password {
    pub(super) fn expose(&self) -> &str {
        &self.0
    }
}

/// The password, if there is one. Errors: a file that the configuration names cannot be read.
pub(super) fn find(server: &PostgresServer, place: &str) -> Result<Option<Password>, PgError> {
    let named =
        secret::read(server.role.password_variable(), path(&server.password_file).as_deref()).map_err(|error| {
            PgError::new(ErrorClass::Authentication, place, format!("{}.password_file: {error}", server.role.section()))
        })?;
    if let Some(secret) = named {
        return Ok(Some(Password(secret.expose().to_string())));
    }
    Ok(password_file().and_then(|file| from_file(&file, server)))
}

/// `PGPASSFILE`, else `~/.pgpass`.
fn password_file() -> Option<PathBuf> {
    match std::env::var_os("PGPASSFILE") {
        Some(file) if !file.is_empty() => Some(file.into()),
        _ => std::env::var_os("HOME").map(|home| Path::new(&home).join(".pgpass")),
    }
}

/// The first line that fits. As libpq does, a file that others may read is passed over with a warning.
fn from_file(file: &Path, server: &PostgresServer) -> Option<Password> {
    let about = std::fs::metadata(file).ok()?;
    if !about.is_file() {
        tracing::warn!(file = %file.display(), "the password file is not a plain file: ignored");
        return None;
    }
    if is_open_to_others(&about) {
        tracing::warn!(
            file = %file.display(),
            "the password file can be read by group or world: ignored; chmod 0600 it"
        );
        return None;
    }
    let text = std::fs::read_to_string(file).ok()?;
    let wanted = [&server.host, &server.port.to_string(), &server.database, &server.user].map(String::from);
    text.lines().find_map(|line| password_of(line, &wanted)).map(Password)
}

#[cfg(unix)]
fn is_open_to_others(about: &std::fs::Metadata) -> bool {
    std::os::unix::fs::PermissionsExt::mode(&about.permissions()) & 0o077 != 0
}

#[cfg(not(unix))]
fn is_open_to_others(_: &std::fs::Metadata) -> bool {
    false
}

/// `host:port:database:user:password`; `*` fits everything, a backslash takes the next character as it is.
fn password_of(line: &str, wanted: &[String; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut rest = line.chars();
    for wanted in wanted {
        let (mut field, mut plain, mut ended) = (String::new(), true, false);
        while let Some(character) = rest.next() {
            match character {
                ':' => {
                    ended = true;
                    break;
                }
                '\\' => {
                    plain = false;
                    field.extend(rest.next());
                }
                other => field.push(other),
            }
        }
        if !ended || !(plain && field == "*" || field == *wanted) {
            return None;
        }
    }
    let mut password = String::new();
    while let Some(character) = rest.next() {
        // libpq ends the password at a colon too.
        match character {
            ':' => break,
            '\\' => password.extend(rest.next()),
            other => password.push(other),
        }
    }
    Some(password)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_password_file_are_read_as_libpq_does() {
        let wanted = ["db:1", "5432", "presses", "loader"].map(String::from);
        let found = |line: &str| password_of(line, &wanted);
        assert_eq!(found(r"db\:1:5432:presses:loader:se\:cr\\et"), Some(r"se:cr\et".into()));
        assert_eq!(found("*:*:*:*:open sesame"), Some("open sesame".into()));
        assert_eq!(found("*:*:*:other:no"), None);
        assert_eq!(found("#*:*:*:*:no"), None);
        assert_eq!(found(r"\*:*:*:*:no"), None);
        assert_eq!(found("*:*:*"), None);
    }

    #[test]
    #[cfg(unix)]
    fn a_file_that_others_may_read_is_passed_over() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pgpass");
        std::fs::write(&file, "# ours\n*:*:presses:loader:open sesame\n").unwrap();
        let config = super::super::tests::config("localhost", 5432, "presses", "loader");
        for (mode, expected) in [(0o600, Some("open sesame")), (0o640, None), (0o604, None)] {
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
            let found = from_file(&file, &config.server());
            assert_eq!(found.as_ref().map(Password::expose), expected, "{mode:o}");
        }
    }
}
