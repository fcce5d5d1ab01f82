//! The independent reader: a plain consumer of all three topics that decodes what a stranger would, by the registry.
//! It knows nothing of the relay; that both sides agree is what the screen shows.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value as Avro;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers, Message, OwnedMessage};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use serde_json::Value as Json;
use tokio::runtime::Handle;

use super::cluster::Quiet;
use crate::avro::registry::{Registry, SchemaId};
use crate::config::PipelineConfig;
use crate::kafka::dead_letter::header;
use crate::pipeline::press::event::SessionId;

/// Records read before they are shown, at most.
const MOST_AT_ONCE: usize = 5_000;
/// Raw presses remembered until they come out; past this they are forgotten and shown without their raw half.
const MOST_REMEMBERED: usize = 100_000;
/// Digits of a session id that are shown.
const SESSION_DIGITS: usize = 8;

/// What is shown of a raw press. Cannot hold its address, nor any other text of it that was not checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Raw {
    /// First eight digits of the session id, where it is one.
    pub session: String,
    /// The action if it is a known one.
    pub action: String,
    /// Sent by the demo's own visitors, with the time of sending as its timestamp.
    pub own: bool,
    /// Whether there is an address; unknown where the record cannot be read.
    pub has_address: Option<bool>,
}

/// Where an enriched press came from, as the Avro record says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Enriched {
    /// First eight digits of the session id.
    pub session: String,
    /// Its action.
    pub action: String,
    /// Microseconds since the epoch.
    pub timestamp_us: i64,
    /// Two letters, or `--`.
    pub country_code: String,
    /// English name.
    pub country: String,
    /// State, region or province.
    pub subdivision: String,
    /// City.
    pub city: String,
    /// Degrees north and east.
    pub coordinates: Option<(f64, f64)>,
}

/// How a press ended.
#[derive(Clone, Debug, PartialEq)]
pub enum End {
    /// In the output topic.
    Enriched(Enriched),
    /// In the dead-letter topic, with its reason's code and field.
    Dead {
        /// Code of the reason.
        reason: String,
        /// Field it is about, or empty.
        field: String,
    },
    /// In the output topic, but this reader cannot decode it: a defect.
    Unreadable(String),
}

/// One press that came out.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    /// What went in, where it was seen.
    pub raw: Option<Raw>,
    /// What came out.
    pub end: End,
    /// The raw record's timestamp, milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// From then until this reader had the result; not of others' presses, which may be dated back.
    pub delay: Option<Duration>,
}

/// Records seen in the three topics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// In the ingress topic.
    pub raw: u64,
    /// In the output topic.
    pub enriched: u64,
    /// In the dead-letter topic.
    pub dead: u64,
}

impl Counts {
    /// Records that went in and did not come out yet.
    pub fn on_the_way(&self) -> u64 {
        self.raw.saturating_sub(self.enriched + self.dead)
    }
}

/// The reader.
pub struct Watch {
    consumer: BaseConsumer<Quiet>,
    topics: [String; 3],
    actions: Vec<String>,
    registry: Registry,
    runtime: Handle,
    schemas: HashMap<u32, Schema>,
    /// Raw presses on their way, by partition and offset, as dead letters name them.
    on_the_way: BTreeMap<(i32, i64), Raw>,
    /// Where they are, by session and event time, which is all that an enriched press says.
    by_press: HashMap<(String, i64), (i32, i64)>,
    /// Counted so far.
    pub counts: Counts,
}

impl Watch {
    /// Reads the pipeline's topics from their beginning. Errors: what librdkafka said.
    pub fn open(config: &PipelineConfig, registry: Registry, runtime: Handle) -> Result<Self, KafkaError> {
        let consumer: BaseConsumer<Quiet> = ClientConfig::new()
            .set("bootstrap.servers", &config.kafka.bootstrap_servers)
            .set("group.id", "pressline-demo-screen")
            .set("enable.auto.commit", "false")
            .set("auto.offset.reset", "earliest")
            .set("fetch.wait.max.ms", super::cluster::FETCH_WAIT_MS)
            .create_with_context(Quiet)?;
        let topics = [config.source.topic.clone(), config.output.topic.clone(), config.dead_topic()];
        let mut list = TopicPartitionList::new();
        for topic in &topics {
            let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(5))?;
            for partition in metadata.topics().iter().flat_map(|t| t.partitions()) {
                list.add_partition_offset(topic, partition.id(), Offset::Beginning)?;
            }
        }
        consumer.assign(&list)?;
        Ok(Self {
            consumer,
            topics,
            actions: config.source.actions.clone(),
            registry,
            runtime,
            schemas: HashMap::new(),
            on_the_way: BTreeMap::new(),
            by_press: HashMap::new(),
            counts: Counts::default(),
        })
    }

    /// Waits at most `patience` for news and returns what came out meanwhile.
    pub fn next(&mut self, patience: Duration) -> Vec<Seen> {
        let mut outs = Vec::new();
        let mut raws = Vec::new();
        let mut patience = patience;
        // An answer of the broker has partitions in any order: an end can stand before its beginning.
        while raws.len() + outs.len() < MOST_AT_ONCE {
            match self.consumer.poll(patience) {
                None => break,
                Some(Err(error)) => tracing::debug!(%error, "the demo's reader"),
                Some(Ok(record)) if record.topic() == self.topics[0] => raws.push(self.raw(&record)),
                Some(Ok(record)) => outs.push(record.detach()),
            }
            patience = Duration::ZERO;
        }
        for press in raws {
            self.remember(press);
        }
        let now = SystemTime::now();
        let mut ended: Vec<Seen> = outs.iter().map(|record| self.end(record, now)).collect();
        for seen in ended.iter_mut().filter(|seen| !seen.raw.as_ref().is_some_and(|raw| raw.own)) {
            seen.delay = None;
        }
        ended
    }

    fn remember(&mut self, press: RawPress) {
        self.counts.raw += 1;
        if self.on_the_way.len().max(self.by_press.len()) >= MOST_REMEMBERED {
            self.on_the_way.clear();
            self.by_press.clear();
        }
        if let (Some(session), Some(timestamp_us)) = (press.session, press.timestamp_us) {
            self.by_press.insert((session, timestamp_us), press.at);
        }
        self.on_the_way.insert(press.at, press.raw);
    }

    /// Takes of a raw record what may be shown.
    fn raw(&self, record: &BorrowedMessage<'_>) -> RawPress {
        let at = (record.partition(), record.offset());
        let json: Option<Json> = record.payload().and_then(|v| serde_json::from_slice(v).ok());
        let has_address = json.as_ref().map(|json| json.get("ip").is_some_and(|ip| !ip.is_null()));
        let json = json.unwrap_or_default();
        let text = |name: &str| json.get(name).and_then(Json::as_str);
        let session = text("session_id").and_then(SessionId::parse).map(|id| id.as_str().to_string());
        let action = text("action").filter(|action| self.actions.iter().any(|known| known == action));
        let raw = Raw {
            session: short(session.as_deref().unwrap_or("?")),
            action: action.unwrap_or("?").to_string(),
            own: record.headers().is_some_and(|headers| headers.iter().any(|h| h.key == super::cluster::OWN_HEADER)),
            has_address,
        };
        RawPress { at, timestamp_us: json.get("timestamp").and_then(Json::as_i64), session, raw }
    }

    fn end(&mut self, record: &OwnedMessage, now: SystemTime) -> Seen {
        let timestamp_ms = record.timestamp().to_millis();
        let delay = timestamp_ms.and_then(|ms| since(ms, now));
        if record.topic() == self.topics[2] {
            self.counts.dead += 1;
            let text = |name: &str| text_of(record, name);
            let at = text(header::PARTITION).parse().ok().zip(text(header::OFFSET).parse().ok());
            let raw = at.and_then(|at| self.on_the_way.remove(&at));
            let end = End::Dead { reason: text(header::REASON), field: text(header::FIELD) };
            return Seen { raw, end, timestamp_ms, delay };
        }
        self.counts.enriched += 1;
        match self.decode(record.payload().unwrap_or_default()) {
            Ok((session, enriched)) => {
                let at = self.by_press.remove(&(session, enriched.timestamp_us));
                let raw = at.and_then(|at| self.on_the_way.remove(&at));
                Seen { raw, end: End::Enriched(enriched), timestamp_ms, delay }
            }
            Err(reason) => Seen { raw: None, end: End::Unreadable(reason), timestamp_ms, delay },
        }
    }

    /// Confluent's wire format: byte 0, four bytes of schema id, then Avro. Gives the whole session id too.
    fn decode(&mut self, value: &[u8]) -> Result<(String, Enriched), String> {
        let (0, [a, b, c, d], mut datum) = split(value).ok_or("shorter than Confluent's header")? else {
            return Err("does not begin with byte 0".into());
        };
        let id = u32::from_be_bytes([a, b, c, d]);
        if !self.schemas.contains_key(&id) {
            let found = self.runtime.block_on(self.registry.schema_by_id(SchemaId(id))).map_err(|e| e.to_string())?;
            self.schemas.insert(id, Schema::parse_str(&found.text).map_err(|e| e.to_string())?);
        }
        let schema = self.schemas.get(&id).ok_or("no schema")?;
        let reader = GenericDatumReader::builder(schema).build().map_err(|e| e.to_string())?;
        let Avro::Record(fields) = reader.read_value(&mut datum).map_err(|e| e.to_string())? else {
            return Err("no record".into());
        };
        if !datum.is_empty() {
            return Err(format!("{} bytes too many", datum.len()));
        }
        Ok(enriched(fields))
    }
}

/// A raw record, with what is needed to find its other half.
struct RawPress {
    at: (i32, i64),
    session: Option<String>,
    timestamp_us: Option<i64>,
    raw: Raw,
}

fn split(value: &[u8]) -> Option<(u8, [u8; 4], &[u8])> {
    let (magic, rest) = value.split_first()?;
    let (id, datum) = rest.split_first_chunk::<4>()?;
    Some((*magic, *id, datum))
}

fn enriched(fields: Vec<(String, Avro)>) -> (String, Enriched) {
    let mut out = Enriched::default();
    let mut session = String::new();
    let (mut north, mut east) = (None, None);
    for (name, value) in fields {
        let value = match value {
            Avro::Union(_, inner) => *inner,
            plain => plain,
        };
        match (name.as_str(), value) {
            ("session_id", Avro::Uuid(id)) => session = id.to_string(),
            ("session_id", Avro::String(id)) => session = id,
            ("timestamp", Avro::TimestampMicros(us) | Avro::Long(us)) => out.timestamp_us = us,
            ("action", Avro::String(text)) => out.action = text,
            ("country_code", Avro::String(text)) => out.country_code = text,
            ("country_name", Avro::String(text)) => out.country = text,
            ("subdivision_name", Avro::String(text)) => out.subdivision = text,
            ("city_name", Avro::String(text)) => out.city = text,
            ("latitude", Avro::Double(degrees)) => north = Some(degrees),
            ("longitude", Avro::Double(degrees)) => east = Some(degrees),
            _ => {}
        }
    }
    out.session = short(&session);
    out.coordinates = north.zip(east);
    (session, out)
}

fn short(session: &str) -> String {
    session.chars().take(SESSION_DIGITS).collect()
}

fn text_of(record: &OwnedMessage, name: &str) -> String {
    let found = record.headers().and_then(|headers| headers.iter().find(|h| h.key == name).and_then(|h| h.value));
    found.map(|value| String::from_utf8_lossy(value).into_owned()).unwrap_or_default()
}

fn since(timestamp_ms: i64, now: SystemTime) -> Option<Duration> {
    let then = UNIX_EPOCH + Duration::from_millis(u64::try_from(timestamp_ms).ok()?);
    now.duration_since(then).ok()
}
