//! `pressline produce`: sends events that were written by hand to a topic.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use rdkafka::ClientContext;
use rdkafka::error::KafkaError;
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;

use crate::command::generate::events::{Events, Unreadable};
use crate::kafka::client::{METADATA_TIMEOUT, Role, topic_layout};
use crate::kafka::connection::{ClusterOptions, Connected, ConnectionError};
use crate::runtime::terminal::counted;

/// How long what is queued may take to be acknowledged at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// `pressline produce`.
#[derive(Args)]
pub struct ProduceArgs {
    /// A file with events as JSON, one a line or printed over several; `-` is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Topic to send to [default: the pipeline's source topic, else raw_presses]
    #[arg(short, long)]
    topic: Option<String>,
    /// The field whose text becomes the record's key; records without it have none
    #[arg(short, long, value_name = "FIELD", default_value = "session_id")]
    key: String,
    /// How to reach Kafka.
    #[command(flatten)]
    connection: ClusterOptions,
}

/// Why events were not sent.
#[derive(Debug, thiserror::Error)]
pub enum ProduceError {
    /// The configuration of the connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The file of events.
    #[error(transparent)]
    Events(#[from] Unreadable),
    /// Kafka cannot be reached or refuses something.
    #[error("topic {topic} on {servers}: {source}")]
    Kafka {
        /// Where to.
        topic: String,
        /// Brokers.
        servers: String,
        /// What librdkafka said.
        source: Box<KafkaError>,
    },
    /// The topic is not there.
    #[error("topic {0} does not exist; create it (pressline topics create) or name another with --topic")]
    NoTopic(String),
    /// Some events were not acknowledged.
    #[error("{} of {sent} were not delivered to topic {topic}; the first: {first}", counted(*failed, "event"))]
    NotDelivered {
        /// Where to.
        topic: String,
        /// All.
        sent: u64,
        /// How many were not.
        failed: u64,
        /// Why the first one was not.
        first: String,
    },
}

/// Where the records went.
#[derive(Default)]
struct Delivered {
    /// Partition → first offset, last one, how many.
    offsets: BTreeMap<i32, (i64, i64, u64)>,
    failed: u64,
    first: String,
}

#[derive(Default)]
struct Deliveries(Mutex<Delivered>);

impl ClientContext for Deliveries {}

impl ProducerContext for Deliveries {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let mut delivered = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(message) => {
                let offset = message.offset();
                let entry = delivered.offsets.entry(message.partition()).or_insert((offset, offset, 0));
                *entry = (entry.0.min(offset), entry.1.max(offset), entry.2 + 1);
            }
            Err((error, message)) => {
                if delivered.failed == 0 {
                    delivered.first = format!("partition {}: {error}", message.partition());
                }
                delivered.failed += 1;
            }
        }
    }
}

/// Sends the events of the file and prints where they lie. Blocks; must not be called from within an async runtime. Errors: see
/// [`ProduceError`].
pub fn run(args: &ProduceArgs) -> Result<(), ProduceError> {
    let connected = args.connection.resolve()?;
    let of_pipeline = connected.pipeline.as_ref().map(|pipeline| pipeline.source.topic.clone());
    let topic = args.topic.clone().or(of_pipeline).unwrap_or_else(|| "raw_presses".into());
    let failed = |source| ProduceError::Kafka {
        topic: topic.clone(),
        servers: connected.kafka.bootstrap_servers.clone(),
        source: Box::new(source),
    };
    let mut events = Events::open(&args.file)?;
    connected.reach()?;
    let producer = producer(&connected, failed)?;
    // Asked first: brokers may make a topic that is written to.
    if topic_layout(producer.client(), &topic, METADATA_TIMEOUT).map_err(&failed)?.is_none() {
        return Err(ProduceError::NoTopic(topic));
    }
    let mut sent = 0;
    while let Some(event) = events.next_event()? {
        let key = key(&event, &args.key);
        let mut record = BaseRecord::to(&topic).payload(&event);
        if let Some(key) = &key {
            record = record.key(key.as_str());
        }
        send(&producer, record).map_err(&failed)?;
        producer.poll(Duration::ZERO);
        sent += 1;
    }
    let flushed = producer.flush(FLUSH_TIMEOUT);
    report(&topic, sent, &producer.context().0.lock().unwrap_or_else(PoisonError::into_inner))?;
    flushed.map_err(failed)
}

fn producer(
    connected: &Connected,
    failed: impl Fn(KafkaError) -> ProduceError,
) -> Result<BaseProducer<Deliveries>, ProduceError> {
    let mut config = connected.client_config(Role::Producer)?;
    // Keys where Java clients put them.
    config.set("enable.idempotence", "true").set("acks", "all").set("partitioner", "murmur2_random");
    config.create_with_context(Deliveries::default()).map_err(failed)
}

fn send<'a>(producer: &BaseProducer<Deliveries>, mut record: BaseRecord<'a, str, Vec<u8>>) -> Result<(), KafkaError> {
    loop {
        match producer.send(record) {
            Ok(()) => return Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), refused)) => {
                record = refused;
                producer.poll(Duration::from_millis(5));
            }
            Err((source, _)) => return Err(source),
        }
    }
}

/// The text of a field at the top of a JSON object.
fn key(event: &[u8], field: &str) -> Option<String> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(event).ok()?;
    object.get(field)?.as_str().map(String::from)
}

fn report(topic: &str, sent: u64, delivered: &Delivered) -> Result<(), ProduceError> {
    let Delivered { offsets, failed, first } = delivered;
    if *failed > 0 {
        let (topic, first) = (topic.to_owned(), first.clone());
        return Err(ProduceError::NotDelivered { topic, sent, failed: *failed, first });
    }
    crate::command::offsets::say(format!("sent {} to topic {topic}", counted(sent, "event")));
    for (partition, (first, last, count)) in offsets {
        let range = if count == &1 { format!("offset {first}") } else { format!("offsets {first} to {last}") };
        crate::command::offsets::say(format!("  partition {partition}: {range}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_the_text_of_a_field() {
        let event = br#"{"session_id":"s-1","n":1}"#;
        assert_eq!(key(event, "session_id"), Some("s-1".to_owned()));
        assert_eq!(key(event, "n"), None);
        assert_eq!(key(event, "none"), None);
        assert_eq!(key(b"not JSON", "session_id"), None);
    }
}
