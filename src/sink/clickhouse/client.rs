//! ClickHouse's HTTP interface: questions with small answers, and the beginning of inserts.
//!
//! The `clickhouse` crate speaks it. Its own connector knows only the system's certificate authorities and no time-outs, so
//! it gets one of ours.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clickhouse::Compression;
use clickhouse::insert_formatted::InsertFormatted;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls_platform_verifier::Verifier;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{ChError, ErrorClass};
use super::type_map::Days;
use super::types::literal;
use crate::config::secret::{self, CLICKHOUSE_PASSWORD};
use crate::config::sink::{self, ClickHouseConfig};
use crate::runtime::pem;

/// What every insert says, whatever the user's profile does: a repeated insert must be cut into the same blocks, or its token
/// is of no use. The numbers must stay the same for ever. A server that does not know one is not told.
const INSERT_SETTINGS: &[(&str, &str)] = &[
    // Deduplicate by token, also in the views that depend on the table.
    ("insert_deduplicate", "1"),
    ("deduplicate_insert", "enable"),
    ("deduplicate_blocks_in_dependent_materialized_views", "1"),
    ("materialized_views_ignore_errors", "0"),
    // One block stays one block.
    ("async_insert", "0"),
    ("max_insert_threads", "1"),
    ("use_strict_insert_block_limits", "0"),
    ("min_insert_block_size_rows", "1048576"),
    ("min_insert_block_size_bytes", "268435456"),
    ("max_insert_block_size", "1048576"),
    ("input_format_parallel_parsing", "0"),
    // Nothing is fixed silently.
    ("insert_null_as_default", "0"),
    (NULL_AS_DEFAULT, "0"),
    ("input_format_defaults_for_omitted_fields", "1"),
    ("input_format_skip_unknown_fields", "0"),
    ("input_format_native_allow_types_conversion", "0"),
    ("input_format_allow_errors_num", "0"),
    ("input_format_allow_errors_ratio", "0"),
    // The answer comes when the insert is done, with its status.
    ("wait_end_of_query", "1"),
];

/// The setting by which null in a column that takes none is its DEFAULT.
const NULL_AS_DEFAULT: &str = "input_format_null_as_default";

/// ClickHouse closes idle connections after 3 seconds by default, and an insert must not meet that moment.
const IDLE: Duration = Duration::from_secs(2);
/// A connection whose other end is gone is noticed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// One server, one user. Holds a password, so it has no Debug.
#[derive(Clone)]
pub struct Client {
    http: clickhouse::Client,
    pub(super) address: String,
    pub(super) timeout: Duration,
    compress: bool,
    /// What every insert carries, as far as the server knows it.
    insert_settings: Arc<Vec<(&'static str, &'static str)>>,
    body_timeout: Option<Duration>,
}

/// Why a table was not made.
#[derive(Debug)]
pub enum Undefined {
    /// The server refuses the statement, in its words.
    Refused(String),
    /// The request failed.
    Failed(ChError),
}

/// Codes by which ClickHouse refuses a table's definition, whenever it is tried: `ErrorCodes.cpp`.
const STATEMENT_CODES: [u32; 19] = [15, 36, 42, 43, 44, 46, 47, 50, 53, 57, 62, 63, 69, 70, 80, 115, 344, 455, 549];

fn refused_statement(code: u32, text: &str) -> String {
    let words = text.split_once("DB::Exception: ").map_or(text, |(_, words)| words);
    let words = words.split_once(" (version ").map_or(words, |(words, _)| words);
    // A syntax error lists all that could stand there, a missing column all columns.
    let cut = [" Expected one of:", ", available columns:"].iter().filter_map(|mark| words.find(mark)).min();
    let words = cut.and_then(|end| words.get(..end)).unwrap_or(words);
    format!("ClickHouse refuses the table's definition (code {code}): {}", words.trim())
}

/// What to say of tables whose names are like the one that is missing.
pub fn another_name(database: &str, table: &str, alike: &[(String, String)]) -> String {
    let Some((found_database, found)) = alike.first() else {
        return match table.split_once('.') {
            Some((before, after)) => format!(
                " (the dot is taken as a part of the table's name; for a database set sink.clickhouse.database = \"{before}\" and \
                 table = \"{after}\")"
            ),
            None => String::new(),
        };
    };
    let why = match found_database.eq_ignore_ascii_case(database) {
        true => "names keep their case",
        false => "the database has a key of its own",
    };
    format!(
        ", but there is {found_database}.{found}: {why}, set sink.clickhouse.database = \"{found_database}\" and table = \"{found}\""
    )
}

#[derive(Deserialize)]
struct RawSetting {
    name: String,
    value: String,
}

#[derive(Deserialize)]
struct RawNumber {
    number: String,
}

impl Client {
    /// Connects, and asks which settings the server knows. Errors: any [`ChError`]; [`ErrorClass::Configuration`] for an address
    /// that is none, [`ErrorClass::Authentication`] for files that cannot be read.
    pub async fn open(config: &ClickHouseConfig) -> Result<Self, ChError> {
        let address = checked(&config.url)?;
        let file = sink::path(&config.password_file);
        let password = secret::read(CLICKHOUSE_PASSWORD, file.as_deref())
            .map_err(|error| ChError::unreadable("sink.clickhouse.password_file", error))?;
        let mut http =
            connector(config)?.with_url(&address).with_user(&config.user).with_compression(Compression::None);
        if let Some(password) = password {
            http = http.with_password(password.expose());
        }
        let timeout = Duration::from_millis(config.timeout_ms);
        let mut client = Self {
            http,
            address: format!("ClickHouse {address}"),
            timeout,
            compress: config.compress,
            insert_settings: Arc::default(),
            body_timeout: None,
        };
        client.learn_settings().await?;
        Ok(client)
    }

    /// The server's address, without anything secret.
    pub fn address(&self) -> &str {
        self.address.strip_prefix("ClickHouse ").unwrap_or(&self.address)
    }

    /// How long the server waits for the next bytes of an insert's body: `http_receive_timeout`, as our user's profile has
    /// it. The server itself takes it from its default profile (`HTTPContext`, `Server.cpp` in its source), so that one in
    /// the request would not count, and a profile of the user's own may show another number here.
    pub fn body_timeout(&self) -> Option<Duration> {
        self.body_timeout
    }

    /// Whether the server answers and takes the password.
    pub async fn ping(&self) -> Result<(), ChError> {
        self.execute("SELECT 1").await
    }

    /// Runs a statement, such as the one of [`super::create_table`].
    pub async fn execute(&self, sql: &str) -> Result<(), ChError> {
        let query = self.http.query_raw(sql).with_setting("wait_end_of_query", "1").execute();
        self.within(query).await
    }

    /// Makes a table, or tries whether it could be made: the statement is the configuration's and the schema's, so that what
    /// the server says of it holds no record's values and is passed on.
    pub async fn define(&self, ddl: &str) -> Result<(), Undefined> {
        let query = self.http.query_raw(ddl).with_setting("wait_end_of_query", "1").execute();
        let answer = tokio::time::timeout(self.timeout, query).await;
        let Ok(answer) = answer else {
            return Err(Undefined::Failed(ChError::timed_out(&self.address, ErrorClass::Transient)));
        };
        let Err(error) = answer else { return Ok(()) };
        let known = ChError::from_client(&self.address, &error, ErrorClass::Transient);
        match (&error, known.code, known.class) {
            (clickhouse::error::Error::BadResponse(_), Some(_), ErrorClass::Authentication | ErrorClass::Resource) => {
                Err(Undefined::Failed(known))
            }
            (clickhouse::error::Error::BadResponse(text), Some(code), _) if STATEMENT_CODES.contains(&code) => {
                Err(Undefined::Refused(refused_statement(code, text)))
            }
            _ => Err(Undefined::Failed(known)),
        }
    }

    /// Tables whose names differ from this one's only in case, or in where the dot stands: `database.table`.
    pub async fn alike(&self, database: &str, table: &str) -> Result<Vec<(String, String)>, ChError> {
        #[derive(Deserialize)]
        struct Name {
            database: String,
            name: String,
        }
        let sql = format!(
            "SELECT database, name FROM system.tables WHERE (lower(database) = lower({}) AND lower(name) = lower({})) OR \
             concat(database, '.', name) = {} LIMIT 3",
            literal(database),
            literal(table),
            literal(table)
        );
        let found: Vec<Name> = self.rows(&sql).await?;
        Ok(found.into_iter().map(|Name { database, name }| (database, name)).collect())
    }

    /// The rows of an answer, read by the names of their columns.
    pub async fn rows<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>, ChError> {
        // A format of its own is part of the statement: views and proxies may set another default.
        self.answer(&format!("{sql} FORMAT JSONEachRow")).await
    }

    /// The same of a statement that takes no FORMAT.
    pub(super) async fn answer<T: DeserializeOwned>(&self, sql: &str) -> Result<Vec<T>, ChError> {
        let query = self.http.query_raw(sql).with_setting("wait_end_of_query", "1");
        let answer = self.within(async { query.fetch_bytes("JSONEachRow")?.collect().await }).await?;
        let lines = answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).map_err(|_| self.strange())).collect()
    }

    /// Which days the server's dates hold: newer ones go from the year 0 to 9999, and show a day that they do not hold as
    /// another.
    pub async fn days(&self) -> Result<Days, ChError> {
        let Days { first, last, .. } = Days::WIDE;
        let shows = |day: i64, text: &str| {
            format!("startsWith(toString(fromUnixTimestamp64Milli(toInt64({}), 'UTC')), '{text}')", day * 86_400_000)
        };
        let (first, last) = (shows(first, "0000-01-01"), shows(last, "9999-12-31"));
        let default = "toInt64(defaultValueOfTypeName('Date32'))";
        let sql = format!("SELECT toString(arrayJoin([toInt64({first} AND {last}), {default}])) AS number");
        let [is_wide, default] = self.numbers(&sql).await?[..] else { return Err(self.strange()) };
        let days = if is_wide == 1 { Days::WIDE } else { Days::NARROW };
        Ok(Days { default: i32::try_from(default).unwrap_or(days.default), ..days })
    }

    /// The answer's column `number`, a text: JSON's own numbers would be rounded by some settings.
    pub(super) async fn numbers(&self, sql: &str) -> Result<Vec<i64>, ChError> {
        let rows: Vec<RawNumber> = self.rows(sql).await?;
        rows.iter().map(|row| row.number.parse().map_err(|_| self.strange())).collect()
    }

    /// A request that inserts: what every insert says, and `token`, by which the server tells a repeated one, as the query's id.
    pub(super) fn insert(&self, statement: String, token: &str, null_as_default: bool) -> InsertFormatted {
        let compression = if self.compress { Compression::Lz4 } else { Compression::None };
        let mut request = self
            .http
            .clone()
            .with_compression(compression)
            .insert_formatted_with(statement)
            .with_timeouts(Some(self.timeout), Some(self.timeout));
        for (name, value) in self.insert_settings.iter() {
            // Null is a column's DEFAULT only where a plan means it so.
            let is_meant = *name == NULL_AS_DEFAULT && null_as_default;
            request = request.with_setting(*name, if is_meant { "1" } else { *value });
        }
        request.with_setting("insert_deduplication_token", token).with_setting("query_id", token)
    }

    async fn learn_settings(&mut self) -> Result<(), ChError> {
        let names: Vec<String> = INSERT_SETTINGS.iter().map(|(name, _)| literal(name).to_string()).collect();
        let sql = format!(
            "SELECT name, value FROM system.settings WHERE name IN ({}, 'http_receive_timeout')",
            names.join(", ")
        );
        let found: Vec<RawSetting> = self.rows(&sql).await?;
        let known = |name: &str| found.iter().any(|setting| setting.name == name);
        self.insert_settings = Arc::new(INSERT_SETTINGS.iter().filter(|(name, _)| known(name)).copied().collect());
        let receive = found.iter().find(|setting| setting.name == "http_receive_timeout");
        self.body_timeout = receive.and_then(|setting| seconds(&setting.value));
        Ok(())
    }

    async fn within<T>(&self, work: impl Future<Output = clickhouse::error::Result<T>>) -> Result<T, ChError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(done) => done.map_err(|error| ChError::from_client(&self.address, &error, ErrorClass::Transient)),
            Err(_) => Err(ChError::timed_out(&self.address, ErrorClass::Transient)),
        }
    }

    fn strange(&self) -> ChError {
        let error = clickhouse::error::Error::NotEnoughData;
        ChError::from_client(&self.address, &error, ErrorClass::Transient)
    }
}

/// The address, if it is one and holds nothing secret.
fn checked(url: &str) -> Result<String, ChError> {
    let bad = |what: &str| ChError::configuration("sink.clickhouse.url", what);
    let parsed = reqwest::Url::parse(url).map_err(|error| bad(&format!("not an address: {error}")))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(bad("not an http:// or https:// address"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(bad("holds a user name or password; use sink.clickhouse.user and password_file"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(bad("has a query; pressline sets it"));
    }
    // The path as it is written: a proxy may know `/clickhouse/` and not `/clickhouse`.
    Ok(if parsed.path() == "/" { parsed.as_str().trim_end_matches('/') } else { parsed.as_str() }.to_string())
}

/// A number of seconds as a setting shows it; `None` for one that is no length of time.
fn seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

fn connector(config: &ClickHouseConfig) -> Result<clickhouse::Client, ChError> {
    let mut tcp = HttpConnector::new();
    tcp.set_connect_timeout(Some(Duration::from_millis(config.connect_timeout_ms)));
    tcp.set_keepalive(Some(KEEPALIVE));
    tcp.set_nodelay(true);
    tcp.enforce_http(false);
    let mut builder = HttpClient::builder(TokioExecutor::new());
    builder.pool_idle_timeout(IDLE).pool_timer(hyper_util::rt::TokioTimer::new());
    if config.url.starts_with("http://") {
        // A machine without any certificate store can still speak plain HTTP.
        return Ok(clickhouse::Client::with_http_client(builder.build(tcp)));
    }
    let tls = tls(sink::path(&config.ca).as_deref())?;
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_only().enable_http1().wrap_connector(tcp);
    Ok(clickhouse::Client::with_http_client(builder.build(https)))
}

/// The system's authorities, and ours.
fn tls(ca: Option<&Path>) -> Result<ClientConfig, ChError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let ours = ca.map(pem::certificates).transpose();
    let ours = ours.map_err(|what| ChError::unreadable("sink.clickhouse.ca", what))?.unwrap_or_default();
    let system = |error: rustls::Error| ChError::unreadable("sink.clickhouse.ca", error);
    let verifier = Verifier::new_with_extra_roots(ours, Arc::clone(&provider)).map_err(system)?;
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(system)?;
    Ok(builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_address_keeps_its_path_as_it_is_written() {
        let of = |url| checked(url).unwrap();
        assert_eq!(of("http://h:8123"), "http://h:8123");
        assert_eq!(of("http://h:8123/"), "http://h:8123");
        assert_eq!(of("https://h/clickhouse"), "https://h/clickhouse");
        assert_eq!(of("https://h/clickhouse/"), "https://h/clickhouse/");
    }

    #[test]
    fn a_setting_that_is_no_length_of_time_is_none() {
        assert_eq!(seconds("30"), Some(Duration::from_secs(30)));
        for strange in ["-1", "1e20", "inf", "NaN", ""] {
            assert_eq!(seconds(strange), None, "{strange}");
        }
    }
}
