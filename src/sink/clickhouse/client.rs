//! ClickHouse's HTTP interface: questions with small answers, and the beginning of inserts.
//!
//! The `clickhouse` crate speaks it. Its own connector knows only the system's certificate authorities and no time-outs, so
//! it gets one of ours.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clickhouse::Compression;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy::Client as HttpClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::ClientConfig;
use rustls_platform_verifier::Verifier;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::ddl::Definition;
use super::error::{ChError, Class};
use super::insert::Insert;
use super::table::{DefaultKind, Table, TableColumn};
use super::type_map::Days;
use super::types::{literal, quoted};
use super::{Layout, insert};
use crate::config::secret::{self, CLICKHOUSE_PASSWORD};
use crate::config::sink::{self, ClickHouseConfig};
use crate::runtime::pem;

/// ClickHouse closes idle connections after 3 seconds by default, and an insert must not meet that moment.
const IDLE: Duration = Duration::from_secs(2);
/// A connection whose other end is gone is noticed.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// One server, one user. Holds a password, so it has no Debug.
#[derive(Clone)]
pub struct Client {
    http: clickhouse::Client,
    address: String,
    timeout: Duration,
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
    /// Connects, and asks which settings the server knows. Errors: any [`ChError`]; [`Class::Configuration`] for an address
    /// that is none, or files that cannot be read.
    pub async fn open(config: &ClickHouseConfig) -> Result<Self, ChError> {
        let address = checked(&config.url)?;
        let file = sink::path(&config.password_file);
        let password = secret::read(CLICKHOUSE_PASSWORD, file.as_deref())
            .map_err(|error| ChError::configuration("sink.clickhouse.password_file", error))?;
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
            return Err(Undefined::Failed(ChError::timed_out(&self.address, Class::Transient)));
        };
        let Err(error) = answer else { return Ok(()) };
        let known = ChError::from_client(&self.address, &error, Class::Transient);
        match (&error, known.code, known.class) {
            (clickhouse::error::Error::BadResponse(_), Some(_), Class::Authentication | Class::Resource) => {
                Err(Undefined::Failed(known))
            }
            (clickhouse::error::Error::BadResponse(text), Some(code), _) if STATEMENT_CODES.contains(&code) => {
                Err(Undefined::Refused(refused_statement(code, text)))
            }
            _ => Err(Undefined::Failed(known)),
        }
    }

    /// Tries a table's definition without making it: its syntax, and whether its keys name columns and take no null. Errors
    /// that only making it would show are not found.
    pub async fn try_define(&self, table: &Definition) -> Result<(), Undefined> {
        self.define(&format!("EXPLAIN AST {}", table.sql)).await?;
        let column =
            |(name, kind): &(String, String)| format!("defaultValueOfTypeName({}) AS {}", literal(kind), quoted(name));
        let columns: Vec<String> = table.columns.iter().map(column).collect();
        let columns = columns.join(", ");
        for key in table.keys.iter().filter(|key| *key != "tuple()") {
            self.define(&format!("SELECT {key} FROM (SELECT {columns}) WHERE 0")).await?;
            let about =
                format!("SELECT toString(toTypeName({key}) LIKE '%Nullable(%') AS number FROM (SELECT {columns})");
            if self.numbers(&about).await.map_err(Undefined::Failed)? == [1] {
                let what =
                    format!("{key} may be null, which ClickHouse allows in no key unless allow_nullable_key is set");
                return Err(Undefined::Refused(what));
            }
        }
        Ok(())
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

    /// The offsets from `start` up to but not including `end` that the table holds of a partition: what a crash left behind.
    pub async fn offsets_present(
        &self,
        table: &Table,
        topic: &str,
        partition: i32,
        start: i64,
        end: i64,
    ) -> Result<Vec<i64>, ChError> {
        // The sequential read sees what other replicas have confirmed where inserts have a quorum.
        let sql = format!(
            "SELECT toString(_offset) AS number FROM {} WHERE _topic = {} AND _partition = {partition} \
             AND _offset >= {start} AND _offset < {end} ORDER BY _offset SETTINGS select_sequential_consistency = 1",
            table.quoted(),
            literal(topic)
        );
        self.numbers(&sql).await
    }

    /// The last offset that the table holds of a partition.
    pub async fn last_offset(&self, table: &Table, topic: &str, partition: i32) -> Result<Option<i64>, ChError> {
        let sql = format!(
            "SELECT toString(max(_offset)) AS number FROM {} WHERE _topic = {} AND _partition = {partition} HAVING count() > 0",
            table.quoted(),
            literal(topic)
        );
        Ok(self.numbers(&sql).await?.first().copied())
    }

    /// The answer's column `number`, a text: JSON's own numbers would be rounded by some settings.
    async fn numbers(&self, sql: &str) -> Result<Vec<i64>, ChError> {
        let rows: Vec<RawNumber> = self.rows(sql).await?;
        rows.iter().map(|row| row.number.parse().map_err(|_| self.strange())).collect()
    }

    /// Inserts no row, which needs what an insert of rows needs: the grant, and leave to write.
    pub async fn try_empty_insert(&self, table: &Table) -> Result<(), ChError> {
        let stored = |column: &&TableColumn| matches!(column.default, DefaultKind::None | DefaultKind::Default);
        let columns = || table.columns.iter().filter(stored);
        let names: Vec<String> = columns().map(|column| quoted(&column.name).to_string()).collect();
        // Of the right types, without leave to read the table.
        let values: Vec<String> =
            columns().map(|column| format!("defaultValueOfTypeName({})", literal(&column.type_name))).collect();
        let (names, values, table) = (names.join(", "), values.join(", "), table.quoted());
        self.execute(&format!("INSERT INTO {table} ({names}) SELECT {values} WHERE 0")).await
    }

    /// Asks what a recovery asks: whether an insert still runs, and which offsets are in the table.
    pub async fn try_recovery(&self, table: &Table, topic: &str) -> Result<(), ChError> {
        self.await_end("pressline/check").await?;
        match table.has_coordinates() {
            true => self.offsets_present(table, topic, 0, 0, 0).await.map(drop),
            false => Ok(()),
        }
    }

    /// How many rows the table holds of a partition's offsets from `start` up to but not including `end`.
    pub async fn count_rows(
        &self,
        table: &Table,
        topic: &str,
        partition: i32,
        start: i64,
        end: i64,
    ) -> Result<u64, ChError> {
        let sql = format!(
            "SELECT toString(count()) AS number FROM {} WHERE _topic = {} AND _partition = {partition} AND _offset >= {start} \
             AND _offset < {end}",
            table.quoted(),
            literal(topic)
        );
        let counts = self.numbers(&sql).await?;
        Ok(counts.first().map_or(0, |count| count.unsigned_abs()))
    }

    /// Waits until the server runs no query of this id any more: what it has not written by then it will never write.
    /// Behind a balancer only the server that answers is asked. Errors: it still runs after `timeout_ms`.
    pub async fn await_end(&self, query_id: &str) -> Result<(), ChError> {
        let sql = format!("SELECT query_id FROM system.processes WHERE query_id = {}", literal(query_id));
        let begun = std::time::Instant::now();
        while !self.rows::<serde::de::IgnoredAny>(&sql).await?.is_empty() {
            if begun.elapsed() > self.timeout {
                return Err(ChError::timed_out(&self.address, Class::Transient));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// Begins an insert of one block: the request's head goes out now, so that the server's time for the body runs from
    /// here. `token`: what the server tells a repeated insert by, and the query's id.
    pub async fn begin_insert(&self, table: &Table, layout: &Layout, token: &str) -> Result<Insert, ChError> {
        let compression = if self.compress { Compression::Lz4 } else { Compression::None };
        let mut request = self
            .http
            .clone()
            .with_compression(compression)
            .insert_formatted_with(insert::statement(table, layout))
            .with_timeouts(Some(self.timeout), Some(self.timeout));
        for (name, value) in self.insert_settings.iter() {
            // Null is a column's DEFAULT only where a plan means it so.
            let is_meant = *name == insert::NULL_AS_DEFAULT && layout.has_null_as_default();
            request = request.with_setting(*name, if is_meant { "1" } else { *value });
        }
        let request = request.with_setting("insert_deduplication_token", token).with_setting("query_id", token);
        Insert::begin(request, table.place()).await
    }

    async fn learn_settings(&mut self) -> Result<(), ChError> {
        let names: Vec<String> = insert::SETTINGS.iter().map(|(name, _)| literal(name).to_string()).collect();
        let sql = format!(
            "SELECT name, value FROM system.settings WHERE name IN ({}, 'http_receive_timeout')",
            names.join(", ")
        );
        let found: Vec<RawSetting> = self.rows(&sql).await?;
        let known = |name: &str| found.iter().any(|setting| setting.name == name);
        self.insert_settings = Arc::new(insert::SETTINGS.iter().filter(|(name, _)| known(name)).copied().collect());
        let receive = found.iter().find(|setting| setting.name == "http_receive_timeout");
        self.body_timeout = receive.and_then(|setting| seconds(&setting.value));
        Ok(())
    }

    async fn within<T>(&self, work: impl Future<Output = clickhouse::error::Result<T>>) -> Result<T, ChError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(done) => done.map_err(|error| ChError::from_client(&self.address, &error, Class::Transient)),
            Err(_) => Err(ChError::timed_out(&self.address, Class::Transient)),
        }
    }

    fn strange(&self) -> ChError {
        let error = clickhouse::error::Error::NotEnoughData;
        ChError::from_client(&self.address, &error, Class::Transient)
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
    let ours = ours.map_err(|what| ChError::configuration("sink.clickhouse.ca", what))?.unwrap_or_default();
    let system = |error: rustls::Error| ChError::configuration("sink.clickhouse.ca", error);
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
