//! `[sink]`: the databases that a pipeline's Avro topic is loaded into.

use std::collections::BTreeMap;
use std::path::PathBuf;

use figment::value::magic::RelativePathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::changes::WriteMode;
use super::changes::{KeyFormat, PkMode, Toast};
use super::format::{Envelope, FieldConfig, Format, FormatConfig, KeyConfig, Truncate};
use super::postgres_server;
pub use super::postgres_server::SslMode;
use super::source_database::SourceDatabaseConfig;
use super::subject::{SubjectKeys, SubjectNameStrategy};
use super::{ConfigOrigin, CreateConfig, KafkaConfig, OutputConfig, RegistryConfig};

/// What stands for the topic's name in a table's.
const TOPIC: &str = "${topic}";

/// The load of one pipeline's topic into databases: the tables of a pipeline's file that a sink needs.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LoadConfig {
    /// Name of the pipeline; the file's name without `.toml` unless set.
    #[serde(default)]
    pub name: String,
    /// Tells processes of the same pipeline apart; the host name unless set.
    #[serde(default)]
    pub instance: String,
    /// Brokers and how to reach them.
    pub kafka: KafkaConfig,
    /// Schema registry; not needed where the records' format has no registered schemas.
    #[serde(default = "no_registry")]
    pub registry: RegistryConfig,
    /// The pipeline's output, whose topic the sinks read unless told otherwise.
    #[serde(default)]
    pub output: Option<OutputConfig>,
    /// What the sinks read where the pipeline has no output, and so no relay.
    #[serde(default)]
    pub source: Option<SinkSourceConfig>,
    /// The sinks.
    pub sink: SinksConfig,
    /// Where the keys were set. No setting.
    #[serde(skip)]
    pub origin: ConfigOrigin,
}

/// None is named: of some formats it is never asked.
fn no_registry() -> RegistryConfig {
    RegistryConfig { url: String::new(), username: None, password_file: None, ca: None, timeout_ms: 10_000 }
}

/// An address for a registry that is never asked.
const NEVER_ASKED: &str = "http://127.0.0.1:8081";

/// `[source]` of a pipeline without a relay: the topic that others fill, and how its records are written.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SinkSourceConfig {
    /// Topic; or `sink.topic`.
    pub topic: String,
    /// Topics, `*` for a part of their names without a dot; each is loaded by a pipeline of its own.
    pub topics: String,
    /// Format of the values; `avro` unless set.
    pub format: Format,
    /// What stands around each row in the values.
    pub envelope: Envelope,
    /// What is done where Debezium says that the table was truncated.
    pub truncate: Truncate,
    /// Fields of `json`: name → type.
    pub fields: BTreeMap<String, FieldConfig>,
    /// Field → the type that it is read as.
    pub cast: BTreeMap<String, String>,
    /// The records' keys.
    pub key: KeyConfig,
    /// Subject of the values in the registry; by `subject_name_strategy` unless set.
    pub subject: String,
    /// How the subject is named: by the topic, by the record, or by both.
    pub subject_name_strategy: SubjectNameStrategy,
    /// Full name of the records, for a subject that is named by it.
    pub record: String,
    /// The database whose changes are in the topic; only `check --online` looks at it.
    pub database: Option<SourceDatabaseConfig>,
}

impl SinkSourceConfig {
    /// What it says about its subject.
    pub fn subject_keys(&self) -> SubjectKeys<'_> {
        SubjectKeys { subject: &self.subject, strategy: self.subject_name_strategy, record: &self.record }
    }
}

/// `[sink]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinksConfig {
    /// Topic that is loaded; `output.topic` unless set, without an `[output]` it is `source.topic`.
    #[serde(default)]
    pub topic: String,
    /// Names of the record types that are loaded, of a topic with several; all others are left out. All are loaded unless set.
    #[serde(default)]
    pub records: Vec<String>,
    /// The topics of the sinks' dead letters.
    #[serde(default)]
    pub dead_letter: SinkDeadLetterConfig,
    /// Into PostgreSQL.
    #[serde(default)]
    pub postgres: Option<PostgresConfig>,
    /// Into ClickHouse.
    #[serde(default)]
    pub clickhouse: Option<ClickHouseConfig>,
}

/// `[sink.dead_letter]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SinkDeadLetterConfig {
    /// How each sink's dead-letter topic is made.
    pub create: CreateConfig,
}

/// Which field goes into which column, the same for every kind of sink (`[sink.postgres.columns]`, …).
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ColumnsConfig {
    /// Field → column, where the names differ.
    pub rename: BTreeMap<String, String>,
    /// Fields that are dropped; any other field without a column is refused.
    pub ignore: Vec<String>,
    /// Fields whose conversion may lose something (fractions of a second, the zone's absence): named one by one.
    pub lossy: Vec<String>,
    /// Fields whose null leaves a column that takes no null to its DEFAULT; unless named, such a row is a dead letter.
    pub null_as_default: Vec<String>,
}

/// Where a sink begins that has no position of its own yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkStart {
    /// The oldest record of the topic.
    #[default]
    Beginning,
    /// After the newest: what is there already is not loaded.
    End,
}

/// Limits of one batch (`[sink.postgres.batch]`, …), whichever comes first.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SinkBatchConfig {
    /// Rows.
    #[serde(default = "max_rows")]
    pub max_rows: usize,
    /// Bytes of Avro.
    #[serde(default = "max_bytes")]
    pub max_bytes: usize,
    /// Milliseconds from the first row on; 200 for PostgreSQL and 1,000 for ClickHouse unless set.
    #[serde(default)]
    pub max_wait_ms: Option<u64>,
}

fn max_rows() -> usize {
    100_000
}

fn max_bytes() -> usize {
    32 << 20
}

impl Default for SinkBatchConfig {
    fn default() -> Self {
        Self { max_rows: max_rows(), max_bytes: max_bytes(), max_wait_ms: None }
    }
}

/// `[sink.postgres]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostgresConfig {
    /// Host name or address.
    #[serde(default = "postgres_server::localhost")]
    pub host: String,
    /// Port.
    #[serde(default = "postgres_server::port")]
    pub port: u16,
    /// Database.
    pub database: String,
    /// User name.
    pub user: String,
    /// File with the password; or the environment variable `PRESSLINE__SINK__POSTGRES__PASSWORD`, or a password file
    /// as libpq reads it (`PGPASSFILE`, else `~/.pgpass`).
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub password_file: Option<RelativePathBuf>,
    /// TLS, as libpq means it: `disable`, `prefer`, `require`, `verify-ca`, `verify-full`.
    #[serde(default)]
    pub sslmode: SslMode,
    /// Certificate authority of the server (libpq's `sslrootcert`); the system's store unless set.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub ca: Option<RelativePathBuf>,
    /// Our client certificate (libpq's `sslcert`).
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub certificate: Option<RelativePathBuf>,
    /// Its private key (libpq's `sslkey`).
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub key: Option<RelativePathBuf>,
    /// Table, `schema.table`; without a schema the search path decides. `${topic}` in it is the topic's name, `${topic.0}` its part before
    /// the first dot, and so on.
    pub table: String,
    /// In the topic's name, whatever is no letter, digit or underscore becomes an underscore.
    #[serde(default)]
    pub normalize_topic: bool,
    /// `insert` or `upsert`.
    #[serde(default)]
    pub mode: WriteMode,
    /// A record without a value deletes the row of its key.
    #[serde(default)]
    pub deletes: bool,
    /// Where the key of a row comes from.
    #[serde(default)]
    pub pk_mode: PkMode,
    /// The key's fields; all fields of the record's key unless set.
    #[serde(default)]
    pub pk_fields: Vec<String>,
    /// How the records' keys are written.
    #[serde(default)]
    pub key_format: KeyFormat,
    /// What becomes of a value that a change does not hold, because the update left it as it was.
    #[serde(default)]
    pub toast: Toast,
    /// Make the table from the Avro schema where it is missing.
    #[serde(default)]
    pub auto_create: bool,
    /// Add a column for a field that a newer schema brings and the table does not have.
    #[serde(default)]
    pub auto_evolve: bool,
    /// Table in which the positions are kept, in the same database.
    #[serde(default = "offsets_table")]
    pub offsets_table: String,
    /// Fields and columns.
    #[serde(default)]
    pub columns: ColumnsConfig,
    /// Limits of one transaction.
    #[serde(default)]
    pub batch: SinkBatchConfig,
    /// What all sinks have.
    #[serde(default)]
    pub consumer: SinkConsumerConfig,
    /// Milliseconds a statement may take.
    #[serde(default = "statement_timeout_ms")]
    pub statement_timeout_ms: u64,
    /// Milliseconds to wait for a connection.
    #[serde(default = "postgres_server::connect_timeout_ms")]
    pub connect_timeout_ms: u64,
}

fn offsets_table() -> String {
    "pressline_offsets".into()
}

fn statement_timeout_ms() -> u64 {
    60_000
}

/// How a sink reads the topic (`[sink.postgres.consumer]`, …).
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SinkConsumerConfig {
    /// Consumer group; `pressline.<name>.<sink>` unless set.
    pub group: String,
    /// Worker threads, each with its own consumer and connection.
    pub workers: usize,
    /// Where to begin when the sink has no position of a partition.
    pub start: SinkStart,
    /// Join the group as a static member (KIP-345).
    pub static_membership: bool,
    /// Topic of the dead letters; `<topic>.dead` unless set.
    pub dead_letter_topic: String,
    /// Milliseconds for which a batch that the database refuses for a reason that may pass is tried again as it is, with
    /// growing pauses. Then it is searched for rows that are refused alone.
    pub retry_ms: u64,
    /// When more than this share of the last 10,000 rows cannot be written, it is a matter of schema and the sink stops.
    pub max_dead_share: f64,
    /// Milliseconds after which a record whose schema the registry does not have becomes a dead letter; unless set it is waited
    /// for, for ever.
    pub unknown_schema_wait_ms: Option<u64>,
}

impl Default for SinkConsumerConfig {
    fn default() -> Self {
        Self {
            group: String::new(),
            workers: 1,
            start: SinkStart::default(),
            static_membership: false,
            dead_letter_topic: String::new(),
            retry_ms: 60_000,
            max_dead_share: 0.01,
            unknown_schema_wait_ms: None,
        }
    }
}

/// `[sink.clickhouse]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ClickHouseConfig {
    /// Address of the HTTP interface, such as `https://clickhouse:8443`.
    pub url: String,
    /// User name.
    #[serde(default = "default_name")]
    pub user: String,
    /// File with the password; or the environment variable `PRESSLINE__SINK__CLICKHOUSE__PASSWORD`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub password_file: Option<RelativePathBuf>,
    /// Certificate authority of the server, trusted besides the system's.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub ca: Option<RelativePathBuf>,
    /// Database.
    #[serde(default = "default_name")]
    pub database: String,
    /// Table. `${topic}` in it is the topic's name, `${topic.0}` its part before the first dot, and so on.
    pub table: String,
    /// In the topic's name, whatever is no letter, digit or underscore becomes an underscore.
    #[serde(default)]
    pub normalize_topic: bool,
    /// `insert` or `upsert`.
    #[serde(default)]
    pub mode: WriteMode,
    /// A record without a value deletes the row of its key.
    #[serde(default)]
    pub deletes: bool,
    /// Where the key of a row comes from.
    #[serde(default)]
    pub pk_mode: PkMode,
    /// The key's fields; all fields of the record's key unless set.
    #[serde(default)]
    pub pk_fields: Vec<String>,
    /// How the records' keys are written.
    #[serde(default)]
    pub key_format: KeyFormat,
    /// What becomes of a value that a change does not hold, because the update left it as it was.
    #[serde(default)]
    pub toast: Toast,
    /// What is promised; see [`ClickHouseDelivery`].
    #[serde(default)]
    pub delivery: ClickHouseDelivery,
    /// Compress what is sent.
    #[serde(default = "yes")]
    pub compress: bool,
    /// Make the table from the Avro schema where it is missing.
    #[serde(default)]
    pub auto_create: bool,
    /// Add a column for a field that a newer schema brings and the table does not have.
    #[serde(default)]
    pub auto_evolve: bool,
    /// `ORDER BY` of a table made by `auto_create`, as SQL.
    #[serde(default)]
    pub order_by: String,
    /// `PARTITION BY` of a table made by `auto_create`, as SQL.
    #[serde(default)]
    pub partition_by: String,
    /// Fields and columns.
    #[serde(default)]
    pub columns: ColumnsConfig,
    /// Limits of one insert.
    #[serde(default)]
    pub batch: SinkBatchConfig,
    /// What all sinks have.
    #[serde(default)]
    pub consumer: SinkConsumerConfig,
    /// Milliseconds one request may take.
    #[serde(default = "statement_timeout_ms")]
    pub timeout_ms: u64,
    /// Milliseconds to wait for a connection.
    #[serde(default = "postgres_server::connect_timeout_ms")]
    pub connect_timeout_ms: u64,
}

fn default_name() -> String {
    "default".into()
}

fn yes() -> bool {
    true
}

/// What the ClickHouse sink promises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClickHouseDelivery {
    /// By what is in the table: needs the columns `_topic`, `_partition` and `_offset`.
    #[default]
    ExactlyOnce,
    /// By ClickHouse's deduplication tokens alone, for tables without those columns: holds within the table's
    /// deduplication window, whose log the engine does not force to disk.
    Deduplicated,
}

impl LoadConfig {
    /// The topic that is loaded.
    pub fn topic(&self) -> &str {
        match (&self.output, &self.source) {
            _ if !self.sink.topic.is_empty() => &self.sink.topic,
            (Some(output), _) => &output.topic,
            (None, Some(source)) => &source.topic,
            (None, None) => "",
        }
    }

    /// How the records of the topic are written.
    pub fn format(&self) -> FormatConfig {
        let Some(source) = &self.source else { return FormatConfig::default() };
        let (fields, cast) = (source.fields.clone(), source.cast.clone());
        FormatConfig { format: source.format, fields, cast, envelope: source.envelope, log: self.log() }
    }

    /// How the records' keys are written, where changes come in an envelope: unless set, as the values.
    pub fn key_format(&self) -> FormatConfig {
        let Some(source) = &self.source else { return FormatConfig::default() };
        let like_values = FormatConfig { format: source.format, ..FormatConfig::default() };
        source.key.format().unwrap_or(like_values)
    }

    /// How the records' keys are written, where `[source.key]` says so.
    pub fn key_reader(&self) -> Option<FormatConfig> {
        self.source.as_ref().and_then(|source| source.key.format())
    }

    /// What is done where the source's table was truncated.
    pub fn truncate(&self) -> Truncate {
        self.source.as_ref().map(|source| source.truncate).unwrap_or_default()
    }

    /// Where changes in an envelope are rows of their own, what becomes of a truncate; `None`: records are something else.
    fn log(&self) -> Option<Truncate> {
        (self.envelope() != Envelope::None && !self.upserts()).then(|| self.truncate())
    }

    /// What stands around the rows.
    pub fn envelope(&self) -> Envelope {
        self.source.as_ref().map_or(Envelope::None, |source| source.envelope)
    }

    /// Subject of the topic's values in the registry.
    pub fn subject(&self) -> String {
        let keys = match (&self.output, &self.source) {
            (Some(output), _) if self.sink.topic.is_empty() => Some(output.subject_keys()),
            (None, Some(source)) => Some(source.subject_keys()),
            _ => None,
        };
        keys.map_or_else(|| SubjectNameStrategy::Topic.subject(self.topic(), ""), |keys| keys.of(self.topic()))
    }

    /// Where no registry is named and none is needed, one that is never asked.
    pub(super) fn without_registry(&mut self) {
        if self.registry.url.is_empty() && !self.format().format.has_registered_schemas() {
            self.registry.url = NEVER_ASKED.into();
        }
    }

    /// Puts the topic's name into the names of the tables.
    pub(super) fn name_tables(&mut self) {
        let topic = self.topic().to_string();
        // It is not one.
        if topic.is_empty() {
            return;
        }
        let postgres = self.sink.postgres.as_mut().map(|sink| (&mut sink.table, sink.normalize_topic));
        let clickhouse = self.sink.clickhouse.as_mut().map(|sink| (&mut sink.table, sink.normalize_topic));
        for (table, normalize) in postgres.into_iter().chain(clickhouse) {
            let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
            let name = if normalize { topic.chars().map(plain).collect() } else { topic.clone() };
            *table = table.replace(TOPIC, &name);
            for (place, part) in topic.split('.').enumerate() {
                let part = if normalize { part.chars().map(plain).collect() } else { part.to_string() };
                *table = table.replace(&format!("${{topic.{place}}}"), &part);
            }
        }
    }

    /// Keys of tables in whose names a part of the topic's is still to be filled in.
    pub(super) fn unfilled_tables(&self) -> impl Iterator<Item = &'static str> {
        let postgres = self.sink.postgres.as_ref().map(|sink| ("sink.postgres.table", &sink.table));
        let clickhouse = self.sink.clickhouse.as_ref().map(|sink| ("sink.clickhouse.table", &sink.table));
        postgres.into_iter().chain(clickhouse).filter(|(_, table)| table.contains("${topic.")).map(|(key, _)| key)
    }

    /// Consumer group of a sink (`postgres` or `clickhouse`).
    pub fn group(&self, sink: &str, consumer: &SinkConsumerConfig) -> String {
        super::or_default(&consumer.group, || format!("pressline.{}.{sink}", self.name))
    }

    /// Topic of a sink's dead letters.
    pub fn dead_topic(&self, consumer: &SinkConsumerConfig) -> String {
        super::or_default(&consumer.dead_letter_topic, || format!("{}.dead", self.topic()))
    }
}

/// A path as it stands from here.
pub fn path(file: &Option<RelativePathBuf>) -> Option<PathBuf> {
    file.as_ref().map(RelativePathBuf::relative)
}
