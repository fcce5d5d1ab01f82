//! The broker in memory: librdkafka's mock cluster, and the producer that plays the web page's visitors.
//!
//! What the mock does not do, as of librdkafka 2.12: offsets sent to a transaction are answered but not stored, an aborted
//! transaction's records stay readable, and nothing is written to disk. A partition keeps its newest 5 MB.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, DeliveryResult, Producer, ProducerContext};
use rdkafka_sys as sys;

use crate::command::generate::{PressKind, Presses};
use crate::kafka::client;

/// The mock broker does not answer a waiting fetch when a record comes, only when its time is up.
pub(super) const FETCH_WAIT_MS: &str = "20";

/// Header of the raw presses that the demo itself sends; the relay lets no header through that is not on its list.
pub(super) const OWN_HEADER: &str = "pressline.demo";

/// Partitions of every topic.
const PARTITIONS: i32 = 3;
/// How long the mock waits for further members of a new group.
const REBALANCE_DELAY_MS: i32 = 10;
/// Presses at the beginning that have a place: what it is about is to be seen before what can go wrong.
const GOOD_FIRST: u64 = 12;
/// Longest sleep of the sender, so that it notices the end.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Sends librdkafka's log to ours.
pub struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        // That a mock cluster was made is no news here, though librdkafka warns of it.
        if fac != "MOCK" && fac != "CONFWARN" {
            client::log(level, fac, message);
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(client = "demo", %error, reason, "librdkafka reports an error");
    }
}

impl ConsumerContext for Quiet {}

impl ProducerContext for Quiet {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, _)) = result {
            tracing::warn!(%error, "a raw press was not taken by the mock broker");
        }
    }
}

/// A mock cluster; gone when it is dropped.
pub struct Cluster {
    producer: BaseProducer<Quiet>,
    bootstrap_servers: String,
}

impl Cluster {
    /// Starts one broker on loopback with these topics. Errors: what librdkafka said.
    pub fn start(topics: &[&str]) -> Result<Self, KafkaError> {
        let producer: BaseProducer<Quiet> = ClientConfig::new()
            .set("test.mock.num.brokers", "1")
            .set("partitioner", "murmur2_random")
            .create_with_context(Quiet)?;
        let bootstrap_servers = {
            let missing = KafkaError::MockCluster(RDKafkaErrorCode::Fail);
            let cluster = producer.client().mock_cluster().ok_or(missing)?;
            for topic in topics {
                cluster.create_topic(topic, PARTITIONS, 1)?;
            }
            cluster.bootstrap_servers()
        };
        // SAFETY: the handle is the live producer's, which was configured with a mock cluster (checked above) that lives
        // as long as it does; the call only stores a number under the cluster's lock.
        unsafe {
            let cluster = sys::rd_kafka_handle_mock_cluster(producer.client().native_ptr());
            // By itself the mock waits 3 s.
            sys::rd_kafka_mock_group_initial_rebalance_delay_ms(cluster, REBALANCE_DELAY_MS);
        }
        Ok(Self { producer, bootstrap_servers })
    }

    /// Where clients of this machine connect, `host:port`.
    pub fn bootstrap_servers(&self) -> &str {
        &self.bootstrap_servers
    }
}

/// What the visitors do, and how far they got.
pub struct Visitors {
    /// Events per second.
    pub rate: f64,
    /// Events in all; `None` is without end.
    pub count: Option<u64>,
    /// Set when it is enough.
    pub stop: Arc<AtomicBool>,
    /// Events sent and not refused.
    pub sent: Arc<AtomicU64>,
}

impl Visitors {
    /// Sends presses at an even rate until the count is reached or `stop` is set, and waits until the broker has them.
    pub fn send(&self, cluster: &Cluster, topic: &str, presses: &mut Presses) {
        let (mut key, mut value) = (Vec::new(), Vec::new());
        let producer = &cluster.producer;
        let own = OwnedHeaders::new().insert(Header { key: OWN_HEADER, value: None::<&str> });
        let began = Instant::now();
        let mut made = 0u64;
        while !self.stop.load(Ordering::Acquire) && self.count.is_none_or(|count| made < count) {
            let ahead = made as f64 / self.rate - began.elapsed().as_secs_f64();
            if ahead > 0.0 {
                producer.poll(Duration::ZERO);
                std::thread::sleep(Duration::try_from_secs_f64(ahead).unwrap_or(LONGEST_PAUSE).min(LONGEST_PAUSE));
                continue;
            }
            let mut press = presses.next_into(&mut key, &mut value);
            while made < GOOD_FIRST && !matches!(press.kind, PressKind::Good) {
                press = presses.next_into(&mut key, &mut value);
            }
            made += 1;
            let mut record = BaseRecord::to(topic).key(&key).headers(own.clone());
            if press.has_value {
                record = record.payload(&value);
            }
            match producer.send(record) {
                Ok(()) => _ = self.sent.fetch_add(1, Ordering::AcqRel),
                Err((error, _)) => tracing::warn!(%error, "a raw press could not be sent"),
            }
        }
        if let Err(error) = producer.flush(Duration::from_secs(1)) {
            tracing::warn!(%error, "not every raw press was sent");
        }
    }
}
