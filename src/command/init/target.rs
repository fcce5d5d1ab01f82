//! Where a database is, as the command line names it.

/// Where a PostgreSQL server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Postgres {
    /// User.
    pub user: String,
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Database.
    pub database: String,
}

/// `USER@HOST[:PORT]/DATABASE`. Errors: what is missing.
pub fn parse_postgres(text: &str) -> Result<Postgres, String> {
    let form = || "expected USER@HOST[:PORT]/DATABASE, without a password".to_string();
    let text = text.strip_prefix("postgresql://").or(text.strip_prefix("postgres://")).unwrap_or(text);
    let (user, rest) = text.rsplit_once('@').ok_or_else(form)?;
    let (server, database) = rest.split_once('/').ok_or_else(form)?;
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().map_err(|_| form())?),
        None => (server, 5432),
    };
    if user.contains(':') || [user, host, database].contains(&"") {
        return Err(form());
    }
    Ok(Postgres { user: user.into(), host: host.into(), port, database: database.into() })
}
