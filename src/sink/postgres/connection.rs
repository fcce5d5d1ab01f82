//! A connection with every time-out set: none of tokio-postgres's and PostgreSQL's own defaults ends a wait.

use std::future::{Future, poll_fn};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode as Negotiation;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{
    Client, Config, CopyInSink, CopyOutStream, NoTls, SimpleQueryMessage, SimpleQueryRow, Socket, Statement,
};

use super::error::{ErrorClass, PgError, source};
use super::password;
use super::tls::{self, Tls};
use crate::config::postgres_server::{PostgresServer, SslMode};
use crate::config::sink::PostgresConfig;

/// What the server may be late beyond its own statement time-out before the connection is closed: it is stopped or
/// unreachable, not slow.
const GRACE: Duration = Duration::from_secs(5);
/// Longest wait for a lock, such as that of an ALTER TABLE. The batch is tried again after it.
const MAX_LOCK_WAIT: Duration = Duration::from_secs(10);

/// A connection to the server.
pub struct Connection {
    client: Client,
    /// Reads and writes the socket; ends with the connection.
    task: JoinHandle<()>,
    place: String,
    /// What each transaction sets for itself, see [`local_settings`].
    local: String,
    patience: Duration,
    /// Not to be used again. The task ends a moment after it is asked to.
    given_up: AtomicBool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// `PostgreSQL host:port/database`, as errors and findings name it.
pub fn place(config: &PostgresConfig) -> String {
    place_of(&config.server())
}

fn place_of(server: &PostgresServer) -> String {
    format!("PostgreSQL {}:{}/{}", server.host, server.port, server.database)
}

impl Connection {
    /// Connects; the server knows us as `pressline/<pipeline>`. Errors: not reachable ([`ErrorClass::Transient`]), refused
    /// password, user or certificate ([`ErrorClass::Authentication`]), no such database ([`ErrorClass::Schema`]).
    pub async fn open(config: &PostgresConfig, pipeline: &str) -> Result<Self, PgError> {
        Self::open_at(&config.server(), pipeline).await
    }

    /// The same for any server.
    pub async fn open_at(server: &PostgresServer, pipeline: &str) -> Result<Self, PgError> {
        let place = place_of(server);
        let limit = Duration::from_millis(server.connect_timeout_ms);
        let connecting = negotiate(server, pipeline, &place);
        let (client, task) = tokio::time::timeout(limit, connecting).await.unwrap_or_else(|_| {
            Err(PgError::new(ErrorClass::Transient, &place, format!("no connection within {} ms", limit.as_millis())))
        })?;
        let statement = Duration::from_millis(server.statement_timeout_ms);
        let connection = Self {
            client,
            task,
            place,
            local: local_settings(statement),
            patience: statement + GRACE,
            given_up: AtomicBool::new(false),
        };
        // A pooler in statement mode refuses every transaction: that is noticed here, not in the first batch.
        connection.control("BEGIN").await?;
        connection.control("ROLLBACK").await?;
        Ok(connection)
    }

    /// The server and database, for messages.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Whether it can no longer be used.
    pub fn is_closed(&self) -> bool {
        self.given_up.load(Ordering::Relaxed) || self.client.is_closed()
    }

    /// Begins a COPY out of the database.
    pub(super) async fn copy_out(&self, statement: &Statement) -> Result<CopyOutStream, tokio_postgres::Error> {
        self.client.copy_out(statement).await
    }

    /// Begins a COPY.
    pub(super) async fn copy_in(&self, statement: &Statement) -> Result<CopyInSink<Bytes>, PgError> {
        self.within(self.client.copy_in::<_, Bytes>(statement)).await
    }

    /// Runs statements without parameters, as one transaction with our settings unless one is open already.
    pub(super) async fn run(&self, sql: &str) -> Result<(), PgError> {
        self.rows(sql).await.map(drop)
    }

    /// Runs statements without parameters, as [`Connection::run`] does; the rows of all of them.
    pub(crate) async fn rows(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, PgError> {
        // In one message the statements are one transaction, for which the settings hold.
        self.control(&format!("{}{sql}", self.local)).await
    }

    /// Begins a transaction with our settings.
    pub(super) async fn begin(&self) -> Result<(), PgError> {
        self.control(&format!("{BEGIN}; {}SET CONSTRAINTS ALL IMMEDIATE", self.local)).await.map(drop)
    }

    /// Runs statements as they are: those that begin, end or divide a transaction.
    pub(super) async fn control(&self, sql: &str) -> Result<Vec<SimpleQueryRow>, PgError> {
        let messages = self.within(self.client.simple_query(sql)).await?;
        let row = |message| match message {
            SimpleQueryMessage::Row(row) => Some(row),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(row).collect())
    }

    /// Runs statements as they are; how many rows each of them wrote.
    pub(super) async fn counts(&self, sql: &str) -> Result<Vec<u64>, PgError> {
        let messages = self.within(self.client.simple_query(sql)).await?;
        let count = |message| match message {
            SimpleQueryMessage::CommandComplete(count) => Some(count),
            _ => None,
        };
        Ok(messages.into_iter().filter_map(count).collect())
    }

    /// Prepares a statement that ends with the transaction: dropping it closes it, which has to happen before COMMIT or
    /// ROLLBACK. Behind a pooler the next transaction may run on a server connection where the same name is another
    /// client's statement.
    pub(super) async fn prepare(&self, sql: &str) -> Result<Statement, PgError> {
        self.within(self.client.prepare(sql)).await.map_err(|error| {
            if !error.is("42P05") {
                return error;
            }
            // tokio-postgres counts its names up, so the next try has another one.
            let what = "another client left a prepared statement of the same name on the server connection; a pooler in \
                        transaction mode must not share connections with clients that keep prepared statements";
            PgError { class: ErrorClass::Transient, what: what.into(), ..error }
        })
    }

    /// Waits no longer than a statement may take. After a time-out it is unknown what the server will still do: the
    /// connection is closed.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, tokio_postgres::Error>>,
    ) -> Result<T, PgError> {
        if self.is_closed() {
            return Err(PgError::lost(&self.place, "the connection was closed"));
        }
        match tokio::time::timeout(self.patience, work).await {
            Ok(result) => result.map_err(|error| PgError::of(&self.place, &error)),
            Err(_) => {
                self.give_up();
                let what = format!("no answer within {} s, the connection is closed", self.patience.as_secs());
                Err(PgError::lost(&self.place, what))
            }
        }
    }

    /// Ends the connection here and now; what is under way fails.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
        self.task.abort();
    }

    /// An error of our own about this database.
    pub(super) fn error(&self, class: ErrorClass, what: impl Into<String>) -> PgError {
        PgError::new(class, &self.place, what)
    }
}

/// Said aloud, since a role's settings could say otherwise.
const BEGIN: &str = "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE";

/// What each transaction sets for itself. `SET LOCAL`, since behind a pooler a setting that outlives the transaction would
/// reach other clients, and theirs reach us: so the search path is set to the role's own, and the encoding to ours.
/// Deferred constraints would fail at COMMIT, where it is too late to look for the row: see [`Connection::begin`].
fn local_settings(statement: Duration) -> String {
    format!(
        "SET LOCAL search_path = DEFAULT; SET LOCAL client_encoding = 'UTF8'; SET LOCAL client_min_messages = error; \
         SET LOCAL statement_timeout = {0}; SET LOCAL lock_timeout = {1}; \
         SET LOCAL idle_in_transaction_session_timeout = {0}; ",
        statement.as_millis(),
        statement.min(MAX_LOCK_WAIT).as_millis(),
    )
}

type Connected = (Client, JoinHandle<()>);

/// libpq's `sslmode`: `prefer` goes on without TLS where the server has none, the handshake fails, or the server refuses
/// this user over TLS (pg_hba.conf's `hostnossl`).
async fn negotiate(server: &PostgresServer, pipeline: &str, place: &str) -> Result<Connected, PgError> {
    let mut settings = settings(server, pipeline, place)?;
    if server.sslmode == SslMode::Disable || Path::new(&server.host).is_absolute() {
        settings.ssl_mode(Negotiation::Disable);
        return connect(&settings, NoTls).await.map_err(|error| refused(server, place, &error));
    }
    let tls: Tls = tls::settings(server).map_err(|what| {
        PgError::new(ErrorClass::Authentication, place, format!("TLS of {}: {what}", server.role.section()))
    })?;
    let prefer = server.sslmode == SslMode::Prefer;
    settings.ssl_mode(if prefer { Negotiation::Prefer } else { Negotiation::Require });
    match connect(&settings, tls).await {
        Err(error) if prefer && may_do_without_tls(&error) => {
            settings.ssl_mode(Negotiation::Disable);
            connect(&settings, NoTls).await.map_err(|error| refused(server, place, &error))
        }
        other => other.map_err(|error| refused(server, place, &error)),
    }
}

fn settings(server: &PostgresServer, pipeline: &str, place: &str) -> Result<Config, PgError> {
    let limit = Duration::from_millis(server.connect_timeout_ms);
    let mut settings = Config::new();
    settings
        .host(&server.host)
        .port(server.port)
        .dbname(&server.database)
        .user(&server.user)
        .application_name(format!("pressline/{pipeline}"))
        .connect_timeout(limit)
        // A server that is gone is noticed while data is under way as fast as when connecting.
        .tcp_user_timeout(limit)
        .keepalives(true)
        .keepalives_idle(Duration::from_secs(10))
        .keepalives_interval(Duration::from_secs(5))
        .keepalives_retries(3);
    if let Some(password) = password::find(server, place)? {
        settings.password(password.expose());
    }
    Ok(settings)
}

async fn connect<T>(settings: &Config, tls: T) -> Result<Connected, tokio_postgres::Error>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
{
    let (client, mut connection) = settings.connect(tls).await?;
    // The server's notices are dropped here: tokio-postgres would log them, and triggers put values into them.
    let task = tokio::spawn(async move { while let Some(Ok(_)) = poll_fn(|cx| connection.poll_message(cx)).await {} });
    Ok((client, task))
}

fn is_tls(error: &tokio_postgres::Error) -> bool {
    // tokio-postgres keeps the kind to itself, but each has its text.
    error.to_string().starts_with("error performing TLS handshake")
}

fn may_do_without_tls(error: &tokio_postgres::Error) -> bool {
    is_tls(error) || error.code().is_some_and(|code| code.code() == "28000")
}

/// Why there is no connection.
fn refused(server: &PostgresServer, place: &str, error: &tokio_postgres::Error) -> PgError {
    let section = server.role.section();
    if let Some(refused) = error.as_db_error() {
        return PgError::of_server(place, refused);
    }
    let cause = source::<std::io::Error>(error);
    let of_tls = cause.and_then(|io| io.get_ref()).and_then(|inner| inner.downcast_ref::<rustls::Error>());
    if let Some(tls) = of_tls {
        // By TLS 1.3 the server judges our certificate after the handshake.
        return PgError::new(ErrorClass::Authentication, place, format!("TLS: {tls}{}", cure_of(tls, section)));
    }
    if is_tls(error) {
        return match cause {
            Some(_) => PgError::new(ErrorClass::Transient, place, "the TLS handshake broke off"),
            None => PgError::new(
                ErrorClass::Authentication,
                place,
                "the server does not offer TLS, or the host's name cannot stand in a certificate; sslmode demands it",
            ),
        };
    }
    if error.to_string().starts_with("authentication error") {
        let what = format!(
            "authentication failed: no password ({section}.password_file), the server did not prove that it knows it, or it asks for a \
             method that is not supported (password, md5 and SCRAM are)"
        );
        return PgError::new(ErrorClass::Authentication, place, what);
    }
    match cause {
        Some(io) => PgError::new(ErrorClass::Transient, place, format!("cannot connect: {io}")),
        None => PgError::new(ErrorClass::Transient, place, "the server closed the connection while it was made"),
    }
}

fn cure_of(error: &rustls::Error, section: &str) -> String {
    use rustls::CertificateError as Bad;
    match error {
        rustls::Error::InvalidCertificate(Bad::UnknownIssuer) => {
            format!("; set {section}.ca to the authority that signed the server's certificate")
        }
        rustls::Error::InvalidCertificate(Bad::NotValidForName | Bad::NotValidForNameContext { .. }) => {
            "; connect by a name in the certificate's subjectAltName, or use sslmode = \"verify-ca\"".into()
        }
        rustls::Error::InvalidCertificate(Bad::Other(_)) => {
            "; a certificate that is its own authority (CA:TRUE) is not taken: sign the server's with another one"
                .into()
        }
        rustls::Error::AlertReceived(_) => {
            format!("; the server refuses {section}.certificate and key, or the lack of them")
        }
        _ => String::new(),
    }
}
