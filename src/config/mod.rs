//! Configuration: what can be set, what each key means and its default.
//!
//! The structs are the reference: every key is a documented field, unknown keys are refused, and
//! `docs/configuration.md` is checked against them in a test. Secrets are no part of them (see [`secret`]), so the
//! structs may be printed.
//!
//! Layers, later ones win: `pressline.toml` (shared by all pipelines), the pipeline's own file, environment
//! variables `PRESSLINE__SECTION__KEY`, `--set section.key=value`. See [`load`].

pub mod changes;
mod complaint;
pub mod finding;
pub mod format;
pub mod layers;
pub mod load;
pub mod log_filter;
mod place;
pub mod postgres_server;
pub mod properties;
pub mod secret;
pub mod sink;
mod sink_changes;
pub mod source_database;
pub mod subject;
pub mod topic;
pub mod topic_pattern;
pub mod transforms;
pub(crate) mod validate;
pub mod web;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use figment::value::magic::RelativePathBuf;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

use changes::Contradiction;
use format::{FieldConfig, Format, FormatConfig, KeyConfig};
pub use layers::ConfigOrigin;
pub use place::{GazetteerConfig, GeocoderConfig, GeocoderQuery, OnStale, PlaceConfig};
pub use properties::Properties;
use subject::{SubjectKeys, SubjectNameStrategy};
pub use topic::CreateConfig;
pub use transforms::{OutputFormat, Transform, TransformConfig};
pub use web::WebConfig;

/// Settings of the process; they stand in `pressline.toml`, the environment or flags, not in a pipeline's file.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProcessConfig {
    /// HTTP server with metrics and health.
    pub http: HttpConfig,
    /// Log lines on standard error.
    pub log: LogConfig,
    /// Memory that is shared out to workers.
    pub memory: MemoryConfig,
    /// The web app of `pressline web`.
    pub web: WebConfig,
}

/// `[http]`: the server for `/metrics`, `/livez` and `/readyz`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Address or host name, and port to listen on, such as `localhost:9187`; `:9187` is every address of the machine. Port 0
    /// picks a free one, which the log names.
    #[serde(deserialize_with = "listen_address")]
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// Connections served at once; further ones are closed at once.
    pub max_connections: usize,
    /// Milliseconds a client has to send its request's headers.
    pub header_timeout_ms: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 9187)), max_connections: 64, header_timeout_ms: 5_000 }
    }
}

pub(crate) fn listen_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    let error = |what: &str| {
        serde::de::Error::custom(format!("address: {what}, expected an address and a port such as 127.0.0.1:9187"))
    };
    let (host, port) = text.trim().rsplit_once(':').ok_or_else(|| error("no port"))?;
    let port: u16 = port.parse().map_err(|_| error("no port from 0 to 65535 behind the last colon"))?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    if host.is_empty() || host == "*" {
        return Ok(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SocketAddr::from((address, port)));
    }
    let found: Vec<SocketAddr> =
        (host, port).to_socket_addrs().map_err(|_| error("a host name that cannot be resolved"))?.collect();
    let v4 = found.iter().find(|address| address.is_ipv4());
    v4.or(found.first()).copied().ok_or_else(|| error("a host name without an address"))
}

/// `[log]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LogConfig {
    /// `error`, `warn`, `info`, `debug` or `trace`, or a filter such as `info,librdkafka=debug`. Errors are shown always.
    pub level: String,
    /// `text` for people, `json` or `logfmt` for machines.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// One line for people.
    Text,
    /// One JSON object a line.
    Json,
    /// `key=value` pairs, quoted where they must be.
    Logfmt,
}

/// `[memory]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryConfig {
    /// Mebibytes of fetched records that all workers of the process may hold ahead of their work; librdkafka's own
    /// default would be 64 for each of them.
    pub fetch_mb: u64,
    /// Mebibytes of events that the open batches of all workers of the process may hold: each worker has an equal share,
    /// and a batch that reaches it is written, whatever its own limits.
    pub batch_mb: u64,
}

impl Default for MemoryConfig {
    fn default() -> Self {
        Self { fetch_mb: 8, batch_mb: 128 }
    }
}

/// One worker's share of the process's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryShare {
    /// Kibibytes it may prefetch.
    pub fetch_kb: u64,
    /// Bytes its open batch may hold.
    pub batch_bytes: usize,
}

impl MemoryConfig {
    /// The share of each of so many workers; at least a mebibyte to fetch and to hold, below which nothing would move.
    pub fn share(&self, workers: usize) -> MemoryShare {
        let share_kb = |mb: u64| (mb.saturating_mul(1024) / (workers as u64).max(1)).max(1024);
        let batch_bytes = usize::try_from(share_kb(self.batch_mb).saturating_mul(1024)).unwrap_or(usize::MAX);
        MemoryShare { fetch_kb: share_kb(self.fetch_mb), batch_bytes }
    }
}

/// One pipeline: from an ingress topic to an Avro topic.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PipelineConfig {
    /// Name in logs, metrics and ids; the file's name without `.toml` unless set.
    #[serde(default)]
    pub name: String,
    /// Tells processes of the same pipeline apart: part of the transactional id, so two live processes must not share
    /// it. The host name unless set.
    #[serde(default)]
    pub instance: String,
    /// `exactly_once`, or `at_least_once` for brokers without transactions.
    #[serde(default)]
    pub delivery: Delivery,
    /// Worker threads, each with its own consumer and producer.
    #[serde(default = "one")]
    pub workers: usize,
    /// Brokers and how to reach them.
    pub kafka: KafkaConfig,
    /// Schema registry.
    pub registry: RegistryConfig,
    /// What is read.
    pub source: SourceConfig,
    /// What is done to each record, in this order. Without any, and with no other format of the source, the pipeline is the one of
    /// the button presses.
    #[serde(default)]
    pub transforms: Vec<TransformConfig>,
    /// What is written.
    pub output: OutputConfig,
    /// Where records go that cannot be written.
    #[serde(default)]
    pub dead_letter: DeadLetterConfig,
    /// How much goes into one transaction.
    #[serde(default)]
    pub batch: BatchConfig,
    /// Place lookup.
    #[serde(default)]
    pub place: PlaceConfig,
    /// Where the keys were set. No setting.
    #[serde(skip)]
    pub origin: ConfigOrigin,
}

fn one() -> usize {
    1
}

/// What is promised about each event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// Output and offsets in one Kafka transaction: nothing lost, nothing duplicated.
    #[default]
    ExactlyOnce,
    /// Offsets are committed after the output is acknowledged: nothing lost; a crash may duplicate the last batch.
    AtLeastOnce,
}

/// `[kafka]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KafkaConfig {
    /// `host:port`, several separated by commas.
    pub bootstrap_servers: String,
    /// TLS; also on when only `sasl` is set and `sasl.plaintext` is not.
    #[serde(default)]
    pub tls: Option<TlsConfig>,
    /// User name and password.
    #[serde(default)]
    pub sasl: Option<SaslConfig>,
    /// librdkafka properties for consumer and producer alike.
    #[serde(default)]
    pub properties: Properties,
    /// librdkafka properties for the consumer only.
    #[serde(default)]
    pub consumer: Properties,
    /// librdkafka properties for the producer only.
    #[serde(default)]
    pub producer: Properties,
    /// Milliseconds that records may wait behind another producer's open transaction before the log says so.
    #[serde(default = "open_transaction_warn_ms")]
    pub open_transaction_warn_ms: u64,
}

impl KafkaConfig {
    /// The same as a length of time.
    pub fn open_transaction_warn(&self) -> Duration {
        Duration::from_millis(self.open_transaction_warn_ms)
    }
}

/// A producer's own `transaction.timeout.ms`, unless it sets another: until then the broker waits for it as a matter of course.
fn open_transaction_warn_ms() -> u64 {
    60_000
}

/// `[kafka.tls]`.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsConfig {
    /// Certificate authority of the brokers (`ca.pem`); the system's store unless set.
    #[schemars(with = "Option<String>")]
    pub ca: Option<RelativePathBuf>,
    /// Our client certificate (`service.cert`).
    #[schemars(with = "Option<String>")]
    pub certificate: Option<RelativePathBuf>,
    /// Its private key (`service.key`).
    #[schemars(with = "Option<String>")]
    pub key: Option<RelativePathBuf>,
    /// File with the key's passphrase; or the environment variable `PRESSLINE__KAFKA__TLS__KEY_PASSWORD`.
    #[schemars(with = "Option<String>")]
    pub key_password_file: Option<RelativePathBuf>,
}

/// `[kafka.sasl]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SaslConfig {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: SaslMechanism,
    /// User name.
    pub username: String,
    /// File with the password; or the environment variable `PRESSLINE__KAFKA__SASL__PASSWORD`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub password_file: Option<RelativePathBuf>,
    /// Without TLS: the password of PLAIN can then be read on the wire.
    #[serde(default)]
    pub plaintext: bool,
}

/// SASL mechanisms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SaslMechanism {
    /// RFC 4616.
    #[serde(rename = "PLAIN")]
    Plain,
    /// RFC 7677.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// SCRAM with SHA-512.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl SaslMechanism {
    /// librdkafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// `[registry]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RegistryConfig {
    /// Base address of the Confluent API, such as `http://127.0.0.1:8081`.
    pub url: String,
    /// User name for basic authentication.
    #[serde(default)]
    pub username: Option<String>,
    /// File with its password; or the environment variable `PRESSLINE__REGISTRY__PASSWORD`.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub password_file: Option<RelativePathBuf>,
    /// Certificate authority of the registry, trusted besides the system's.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub ca: Option<RelativePathBuf>,
    /// Milliseconds one request may take.
    #[serde(default = "registry_timeout_ms")]
    pub timeout_ms: u64,
}

fn registry_timeout_ms() -> u64 {
    10_000
}

/// `[source]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceConfig {
    /// Ingress topic.
    pub topic: String,
    /// Format of the values; unset, the JSON of button presses.
    #[serde(default)]
    pub format: Option<Format>,
    /// Fields of `json`: name → type.
    #[serde(default)]
    pub fields: BTreeMap<String, FieldConfig>,
    /// Field → the type that it is read as.
    #[serde(default)]
    pub cast: BTreeMap<String, String>,
    /// The records' keys.
    #[serde(default)]
    pub key: KeyConfig,
    /// Subject of the values in the registry, for formats with registered schemas; by `subject_name_strategy` unless set.
    #[serde(default)]
    pub subject: String,
    /// How the subject is named: by the topic, by the record, or by both.
    #[serde(default)]
    pub subject_name_strategy: SubjectNameStrategy,
    /// Full name of the records, for a subject that is named by it.
    #[serde(default)]
    pub record: String,
    /// Consumer group; `pressline.<name>` unless set.
    #[serde(default)]
    pub group: String,
    /// Where to begin when the group has no offsets at all: `auto` begins at the beginning if the output topic is
    /// empty and refuses otherwise (offsets expire, and a silent restart would relay everything twice); `beginning`
    /// and `end` are the deliberate choices.
    #[serde(default)]
    pub start: StartPolicy,
    /// Join the group as a static member (KIP-345), so that a quick restart moves no partitions.
    #[serde(default)]
    pub static_membership: bool,
    /// Actions that are let through; others are dead letters.
    #[serde(default = "default_actions")]
    pub actions: Vec<String>,
    /// What becomes of an event whose `ip` is no address.
    #[serde(default)]
    pub bad_ip: BadIp,
    /// Record headers that go along; all others are dropped, since headers can hold addresses, and so is what makes them larger than
    /// `max_record_bytes` in all.
    #[serde(default)]
    pub headers: Vec<String>,
    /// Milliseconds for which the ingress topic may keep raw records, and with them addresses, tiered storage included:
    /// `pressline check --online` refuses a topic that keeps them longer. Unset, it warns where `retention.ms` is above seven days.
    #[serde(default)]
    pub max_raw_retention_ms: Option<u64>,
    /// Fields with an IP address that no transform looks up: they go nowhere. Those that are looked up need not be named here.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// Avro schema file of the records, by which the transforms are checked without asking the registry.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub schema: Option<RelativePathBuf>,
    /// Largest value, in bytes; larger ones are dead letters.
    #[serde(default = "max_record_bytes")]
    pub max_record_bytes: usize,
    /// Deepest nesting of a JSON value.
    #[serde(default = "max_depth")]
    pub max_depth: usize,
    /// Whether a recreated topic is recognised by its id. No setting: only the demo's broker cannot be asked.
    #[serde(skip, default = "yes")]
    pub topic_ids: bool,
    /// How the topic is made.
    #[serde(default)]
    pub create: CreateConfig,
}

impl SourceConfig {
    /// Whether the records are button presses.
    pub fn is_press(&self) -> bool {
        self.format.is_none() && self.addresses.is_empty() && self.schema.is_none()
    }

    /// Format of the values; `None` for button presses.
    pub fn format(&self) -> Option<FormatConfig> {
        let format = self.format?;
        let (fields, cast) = (self.fields.clone(), self.cast.clone());
        Some(FormatConfig { format, fields, cast, ..FormatConfig::default() })
    }

    /// What it says about its subject.
    pub fn subject_keys(&self) -> SubjectKeys<'_> {
        SubjectKeys { subject: &self.subject, strategy: self.subject_name_strategy, record: &self.record }
    }

    /// Keys of a relay's `[source]` that nobody would read.
    pub fn without_effect(&self) -> Vec<Contradiction> {
        let mut faults = Vec::new();
        if self.key != KeyConfig::default() {
            let cure = "remove it; output.key names the field that the output is keyed by";
            faults.push(("key", "has no effect: a relay does not read keys", cure));
        }
        for (key, is_set) in [("fields", !self.fields.is_empty()), ("cast", !self.cast.is_empty())] {
            if is_set && self.format.is_none() {
                let cure = "set source.format to the format of the topic's values, or remove it";
                faults.push((key, "has no effect without source.format", cure));
            }
        }
        faults
    }
}

/// See [`SourceConfig::bad_ip`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BadIp {
    /// It is a dead letter.
    #[default]
    DeadLetter,
    /// It is relayed, its place unknown.
    UnknownPlace,
}

fn default_actions() -> Vec<String> {
    ["EnterPage", "PressButton", "ExitPage"].map(String::from).to_vec()
}

fn max_record_bytes() -> usize {
    65_536
}

fn max_depth() -> usize {
    32
}

/// See [`SourceConfig::start`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartPolicy {
    /// The beginning if nothing was written yet, else refuse.
    #[default]
    Auto,
    /// The beginning of the ingress topic.
    Beginning,
    /// Its end: what is there already is not relayed.
    End,
}

/// `[output]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputConfig {
    /// Topic that is written.
    pub topic: String,
    /// How values are written: `avro` or `json`.
    #[serde(default)]
    pub format: OutputFormat,
    /// Avro schema file; where there are transforms, it is derived from them unless set.
    #[serde(default)]
    #[schemars(with = "Option<String>")]
    pub schema: Option<RelativePathBuf>,
    /// Fields that are written, in this order; all that are left after the transforms unless set.
    #[serde(default)]
    pub fields: Vec<String>,
    /// Field whose text is the record's key; empty: no key. The key of the input record goes along unless set, where no field
    /// is an address.
    #[serde(default)]
    pub key: Option<String>,
    /// Subject in the registry; by `subject_name_strategy` unless set.
    #[serde(default)]
    pub subject: String,
    /// How the subject is named: by the topic, by the record, or by both.
    #[serde(default)]
    pub subject_name_strategy: SubjectNameStrategy,
    /// Full name of the record that is written: that of a schema which is derived, and for a subject that is named by it.
    #[serde(default)]
    pub record: String,
    /// Register the schema at start; `false` only looks it up.
    #[serde(default = "yes")]
    pub register: bool,
    /// How the topic is made.
    #[serde(default)]
    pub create: CreateConfig,
}

impl OutputConfig {
    /// What it says about its subject.
    pub fn subject_keys(&self) -> SubjectKeys<'_> {
        SubjectKeys { subject: &self.subject, strategy: self.subject_name_strategy, record: &self.record }
    }
}

fn yes() -> bool {
    true
}

/// `[dead_letter]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DeadLetterConfig {
    /// Topic; `<source.topic>.dead` unless set.
    pub topic: String,
    /// The circuit breaker: when more than this share of the last `window` records were dead letters, the pipeline stops.
    pub max_dead_share: f64,
    /// Records the circuit breaker looks back on.
    pub window: usize,
    /// How the topic is made.
    pub create: CreateConfig,
}

impl Default for DeadLetterConfig {
    fn default() -> Self {
        Self { topic: String::new(), max_dead_share: 0.5, window: 10_000, create: CreateConfig::default() }
    }
}

/// `[batch]`: one transaction, at whichever limit comes first.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BatchConfig {
    /// Records.
    pub max_records: usize,
    /// Bytes of ingress values.
    pub max_bytes: usize,
    /// Milliseconds from the first record on.
    pub max_wait_ms: u64,
}

impl Default for BatchConfig {
    fn default() -> Self {
        Self { max_records: 20_000, max_bytes: 8 << 20, max_wait_ms: 20 }
    }
}

impl PipelineConfig {
    /// Consumer group.
    pub fn group(&self) -> String {
        or_default(&self.source.group, || format!("pressline.{}", self.name))
    }

    /// Topic of the dead letters.
    pub fn dead_topic(&self) -> String {
        or_default(&self.dead_letter.topic, || format!("{}.dead", self.source.topic))
    }

    /// Whether it is the pipeline of the button presses, which the press kernel runs.
    pub fn is_press(&self) -> bool {
        let output = &self.output;
        let as_ever = output.format == OutputFormat::Avro && output.fields.is_empty() && output.key.is_none();
        self.transforms.is_empty() && self.source.is_press() && as_ever
    }

    /// Whether places are looked up.
    pub fn uses_places(&self) -> bool {
        self.is_press() || self.transforms.iter().any(|transform| transform.enrich.is_some())
    }

    /// Every topic that values are written to, `output.topic` first.
    pub fn output_topics(&self) -> Vec<&str> {
        let mut topics = vec![self.output.topic.as_str()];
        for topic in self.transforms.iter().filter_map(|transform| transform.topic.as_deref()) {
            if !topics.contains(&topic) {
                topics.push(topic);
            }
        }
        topics
    }

    /// The output's schema file, as a path from here.
    pub fn schema_file(&self) -> Option<PathBuf> {
        self.output.schema.as_ref().map(RelativePathBuf::relative)
    }

    /// Subject of the schema of one of [`PipelineConfig::output_topics`].
    pub fn subject_of(&self, topic: &str) -> String {
        let keys = self.output.subject_keys();
        if topic == self.output.topic { keys.of(topic) } else { SubjectKeys { subject: "", ..keys }.of(topic) }
    }

    /// Subject of the output's schema.
    pub fn subject(&self) -> String {
        self.output.subject_keys().of(&self.output.topic)
    }

    /// Subject of the source's values, where their schemas are registered.
    pub fn source_subject(&self) -> String {
        self.source.subject_keys().of(&self.source.topic)
    }

    /// Files of the place lookup, as paths from here.
    pub fn place_files(&self) -> Vec<PathBuf> {
        self.place.paths()
    }

    /// `transactional.id` of a worker: prefix.instance.slot, the same over restarts, so that a new start ends what the
    /// old one left open (KIP-447).
    pub fn transactional_id(&self, slot: usize) -> String {
        format!("pressline.{}.{}.{slot}", self.name, self.instance)
    }
}

/// What the names of replays begin with, where a pipeline's name stands in ids: no pipeline's name does.
pub const REPLAYS: &str = "replay.";

fn or_default(set: &str, default: impl FnOnce() -> String) -> String {
    if set.is_empty() { default() } else { set.to_string() }
}

/// Values of a property table after flattening: `fetch.min.bytes` → text.
pub type PropertyMap = BTreeMap<String, String>;
