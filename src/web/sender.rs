//! Sends raw presses to the source topic, and knows of each when the broker has it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use tokio::sync::{Semaphore, oneshot};

use super::client_address::VisitorAddress;
use super::session::Session;
use crate::config::KafkaConfig;
use crate::config::secret::SecretError;
use crate::kafka::client::{self, Role};

/// Presses that may wait for the broker at once; further visitors get the answer that it is away.
const MOST_WAITING: usize = 5_000;
/// How long a visitor waits for the broker. librdkafka gives a record this long, and says then that it failed.
const PATIENCE: Duration = Duration::from_secs(8);
/// Presses of so many milliseconds go to the broker together: not felt by anybody, and a tenth of the work. Not less, since
/// librdkafka's thread spins while five batches of a partition wait for the broker and a sixth is due
/// (`findings/librdkafka-idempotent-producer-spins.sh`): with these that takes a broker that answers after 100 ms.
const LINGER_MS: &str = "20";
/// How long one look for acknowledgements may take, and so the end of the thread.
const POLL: Duration = Duration::from_millis(100);

/// What a visitor does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Comes for the first time.
    EnterPage,
    /// Presses.
    PressButton,
}

impl Action {
    /// Its name in records and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::EnterPage => "EnterPage",
            Self::PressButton => "PressButton",
        }
    }
}

/// The broker did not acknowledge: the press may or may not be in the topic, and is not counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unavailable;

struct Acknowledged;

impl ClientContext for Acknowledged {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        client::log(level, fac, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(client = "web producer", %error, reason, "librdkafka reports an error");
    }
}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = Box<oneshot::Sender<bool>>;

    fn delivery(&self, result: &DeliveryResult<'_>, waiting: Self::DeliveryOpaque) {
        if let Err((error, message)) = result {
            use rdkafka::Message;
            tracing::warn!(topic = message.topic(), %error, "a press was not acknowledged");
        }
        // A visitor who has left waits no more.
        let _ = waiting.send(result.is_ok());
    }
}

/// The producer, with the thread that serves its acknowledgements.
pub struct Sender {
    producer: Arc<BaseProducer<Acknowledged>>,
    topic: String,
    waiting: Semaphore,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// Why there is no producer.
#[derive(Debug, thiserror::Error)]
pub enum SenderError {
    /// A password that cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// librdkafka takes a property not, or the system has no thread.
    #[error("producer for topic {topic}: {reason}")]
    Client {
        /// Topic.
        topic: String,
        /// What was said.
        reason: String,
    },
}

impl Sender {
    /// Connects to nothing yet. Errors: see [`SenderError`].
    pub fn new(kafka: &KafkaConfig, topic: &str) -> Result<Self, SenderError> {
        let failed = |reason: String| SenderError::Client { topic: topic.into(), reason };
        let mut config: ClientConfig = client::client_config(kafka, Role::Producer)?;
        if config.get("linger.ms").is_none() {
            config.set("linger.ms", LINGER_MS);
        }
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            .set("message.timeout.ms", PATIENCE.as_millis().to_string())
            .set("queue.buffering.max.messages", (MOST_WAITING * 2).to_string())
            // Keys where Java clients put them.
            .set("partitioner", "murmur2_random");
        let producer = config.create_with_context(Acknowledged).map_err(|error| failed(error.to_string()))?;
        let producer: Arc<BaseProducer<Acknowledged>> = Arc::new(producer);
        let stop = Arc::new(AtomicBool::new(false));
        let (polled, stopped) = (Arc::clone(&producer), Arc::clone(&stop));
        let poll = move || {
            while !stopped.load(Ordering::Relaxed) {
                polled.poll(POLL);
            }
        };
        let thread = std::thread::Builder::new().name("web-producer".into()).spawn(poll);
        let thread = thread.map_err(|error| failed(error.to_string()))?;
        let waiting = Semaphore::new(MOST_WAITING);
        Ok(Self { producer, topic: topic.into(), waiting, stop, thread: Some(thread) })
    }

    /// Sends one event and waits until the broker has it. Errors: it does not answer, or too many wait already.
    pub async fn send(&self, session: &Session, action: Action, address: &VisitorAddress) -> Result<(), Unavailable> {
        let _place = self.waiting.try_acquire().map_err(|_| Unavailable)?;
        let value = event(session, action, address, jiff::Timestamp::now().as_microsecond());
        let (tell, told) = oneshot::channel();
        let record = BaseRecord::with_opaque_to(&self.topic, Box::new(tell)).key(session.id.as_bytes()).payload(&value);
        self.producer.send(record).map_err(|(error, _)| {
            tracing::warn!(topic = %self.topic, %error, "a press was not sent");
            Unavailable
        })?;
        // librdkafka keeps the time; this is for the case that it does not.
        match tokio::time::timeout(PATIENCE * 2, told).await {
            Ok(Ok(true)) => Ok(()),
            _ => Err(Unavailable),
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        // Everybody who waited was answered before the server stopped; what is left has no reader.
        let _ = self.producer.flush(Duration::from_secs(1));
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The raw record's value, as `pressline generate` writes it too.
fn event(session: &Session, action: Action, address: &VisitorAddress, timestamp_us: i64) -> Vec<u8> {
    use std::io::Write;
    let (id, cohort, action) = (session.id.as_str(), session.cohort, action.name());
    let mut json = Vec::with_capacity(192);
    // Writing into memory does not fail, and nothing here needs an escape.
    let _ = write!(
        json,
        "{{\"session_id\":\"{id}\",\"timestamp\":{timestamp_us},\"cohort\":{cohort},\"action\":\"{action}\",\"ip\":\""
    );
    address.write(&mut json);
    json.extend_from_slice(b"\"}");
    json
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;
    use crate::web::cohorts;

    #[test]
    fn an_event_is_json_with_the_five_fields() {
        let session = Session::begin(&cohorts::own());
        let address = VisitorAddress::made_up("2001:db8::7".parse().unwrap());
        let json: serde_json::Value =
            serde_json::from_slice(&event(&session, Action::PressButton, &address, 1_700_000_000_000_000)).unwrap();
        let expected = serde_json::json!({
            "session_id": session.id.as_str(), "timestamp": 1_700_000_000_000_000_i64, "cohort": session.cohort,
            "action": "PressButton", "ip": "2001:db8::7",
        });
        assert_eq!(json, expected);
    }

    #[tokio::test]
    async fn without_a_broker_a_press_fails_and_is_not_lost_in_silence() {
        // The discard port: nobody listens there.
        let kafka: KafkaConfig =
            serde_json::from_value(serde_json::json!({ "bootstrap_servers": "127.0.0.1:9" })).unwrap();
        let sender = Sender::new(&kafka, "raw").unwrap();
        let address = VisitorAddress::made_up("192.0.2.1".parse().unwrap());
        let sent = sender.send(&Session::begin(&cohorts::own()), Action::EnterPage, &address).await;
        assert_eq!(sent, Err(Unavailable));
    }
}
