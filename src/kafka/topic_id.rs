//! Topic ids (KIP-516): what tells a topic from another of the same name that was made after the first was deleted.
//! And the rights that our user has on a topic, which come with the same answer.
//!
//! rdkafka 0.39 does not wrap librdkafka's DescribeTopics, so this file calls it.

use std::ffi::{CStr, CString};
use std::fmt;
use std::time::{Duration, Instant};

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;

/// A topic's id, in Kafka's own base64 form (22 characters).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicId(String);

impl TopicId {
    /// From text that was noted earlier.
    pub fn from_noted(text: &str) -> Self {
        Self(text.to_string())
    }

    /// The base64 text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why there is no id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicIdError {
    /// The broker does not know the topic.
    #[error("the topic does not exist")]
    NoSuchTopic,
    /// The user has no right to see it.
    #[error("this user is not authorized to see the topic: grant Read on it")]
    NotAllowed,
    /// No answer, or none that could be used.
    #[error("the broker did not answer DescribeTopics: {0}")]
    NoAnswer(String),
}

/// What our user may do with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rights {
    /// Fetch its records.
    pub read: bool,
    /// Append to it.
    pub write: bool,
}

/// What DescribeTopics tells of a topic.
struct Description {
    id: Option<TopicId>,
    rights: Option<Rights>,
}

/// Asks the cluster for a topic's id. `Ok(None)` where the broker has no topic ids (before Kafka 2.8, and librdkafka's
/// mock cluster). Blocks for at most `timeout`.
pub fn topic_id<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<TopicId>, TopicIdError> {
    describe(client, topic, timeout, false).map(|description| description.id)
}

/// Asks the cluster what the client's user may do with a topic (KIP-430). `Ok(None)` where the broker does not tell (before
/// Kafka 2.3). Blocks for at most `timeout`.
pub fn rights<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<Rights>, TopicIdError> {
    describe(client, topic, timeout, true).map(|description| description.rights)
}

fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
    with_rights: bool,
) -> Result<Description, TopicIdError> {
    let name = CString::new(topic).map_err(|_| TopicIdError::NoSuchTopic)?;
    let deadline = Instant::now() + timeout;
    // While librdkafka 2.12 waits for the controller it connects again at once whenever a connection is refused, a thousand
    // times a second and more. Metadata is waited for with pauses; who has answered that can be asked.
    client.fetch_metadata(Some(topic), timeout).map_err(|error| TopicIdError::NoAnswer(error.to_string()))?;
    let timeout = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(100));
    let timeout_ms = i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX);
    let rk = client.native_ptr();
    // SAFETY: `rk` lives as long as `client`, which outlives this call. Every object made here is destroyed here; the
    // event is polled before the queue goes, and what is read from the result is copied before the event goes.
    unsafe {
        let queue = sys::rd_kafka_queue_new(rk);
        let mut names = [name.as_ptr()];
        let topics = sys::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let options = sys::rd_kafka_AdminOptions_new(rk, sys::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS);
        sys::rd_kafka_AdminOptions_set_request_timeout(options, timeout_ms, std::ptr::null_mut(), 0);
        let error = sys::rd_kafka_AdminOptions_set_include_authorized_operations(options, i32::from(with_rights));
        if !error.is_null() {
            sys::rd_kafka_error_destroy(error);
        }
        sys::rd_kafka_DescribeTopics(rk, topics, options, queue);
        // A little longer than the request's own time-out, so that its own error is the one we see.
        let event = sys::rd_kafka_queue_poll(queue, timeout_ms.saturating_add(1_000));
        let answer = read_answer(event);
        if !event.is_null() {
            sys::rd_kafka_event_destroy(event);
        }
        sys::rd_kafka_AdminOptions_destroy(options);
        sys::rd_kafka_TopicCollection_destroy(topics);
        sys::rd_kafka_queue_destroy(queue);
        answer
    }
}

/// SAFETY: `event` is null or a live event of DescribeTopics.
unsafe fn read_answer(event: *mut sys::rd_kafka_event_t) -> Result<Description, TopicIdError> {
    if event.is_null() {
        return Err(TopicIdError::NoAnswer("timed out".into()));
    }
    // SAFETY: see above; the pointers librdkafka hands out live as long as the event.
    unsafe {
        let code: RDKafkaErrorCode = sys::rd_kafka_event_error(event).into();
        if code != RDKafkaErrorCode::NoError {
            return Err(TopicIdError::NoAnswer(code.to_string()));
        }
        let result = sys::rd_kafka_event_DescribeTopics_result(event);
        if result.is_null() {
            return Err(TopicIdError::NoAnswer("an answer of another kind".into()));
        }
        let mut count = 0;
        let topics = sys::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if topics.is_null() || count == 0 {
            return Err(TopicIdError::NoAnswer("an empty answer".into()));
        }
        let description = *topics;
        let error: RDKafkaErrorCode =
            sys::rd_kafka_error_code(sys::rd_kafka_TopicDescription_error(description)).into();
        match error {
            RDKafkaErrorCode::NoError => {}
            RDKafkaErrorCode::UnknownTopicOrPartition => return Err(TopicIdError::NoSuchTopic),
            RDKafkaErrorCode::TopicAuthorizationFailed => return Err(TopicIdError::NotAllowed),
            other => return Err(TopicIdError::NoAnswer(other.to_string())),
        }
        Ok(Description { id: read_id(description), rights: read_rights(description) })
    }
}

/// SAFETY: `description` is a live description.
unsafe fn read_id(description: *const sys::rd_kafka_TopicDescription_t) -> Option<TopicId> {
    // SAFETY: see above; the text is copied.
    unsafe {
        let id = sys::rd_kafka_TopicDescription_topic_id(description);
        if id.is_null() {
            return None;
        }
        let unset =
            sys::rd_kafka_Uuid_most_significant_bits(id) == 0 && sys::rd_kafka_Uuid_least_significant_bits(id) == 0;
        let text = sys::rd_kafka_Uuid_base64str(id);
        if unset || text.is_null() {
            return None;
        }
        Some(TopicId(CStr::from_ptr(text).to_string_lossy().into_owned()))
    }
}

/// SAFETY: `description` is a live description.
unsafe fn read_rights(description: *const sys::rd_kafka_TopicDescription_t) -> Option<Rights> {
    let mut count = 0;
    // SAFETY: see above; librdkafka gives null, or an array of so many elements.
    let operations = unsafe {
        let operations = sys::rd_kafka_TopicDescription_authorized_operations(description, &mut count);
        if operations.is_null() || count == 0 {
            return None;
        }
        std::slice::from_raw_parts(operations, count)
    };
    let has = |operation| operations.contains(&operation);
    Some(Rights {
        read: has(sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_READ),
        write: has(sys::rd_kafka_AclOperation_t::RD_KAFKA_ACL_OPERATION_WRITE),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

    use rdkafka::config::{ClientConfig, FromClientConfigAndContext};
    use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
    use rdkafka::statistics::Statistics;

    use super::*;

    /// Counts how often librdkafka has connected, or tried to.
    #[derive(Default)]
    struct Connects(AtomicI64);

    impl ClientContext for Connects {
        fn stats(&self, statistics: Statistics) {
            let connects = statistics.brokers.values().filter_map(|broker| broker.connects).sum();
            self.0.store(connects, Ordering::Relaxed);
        }
    }

    impl ConsumerContext for Connects {}

    /// So often by now; takes half a second.
    fn connects(consumer: &BaseConsumer<Connects>) -> i64 {
        let end = Instant::now() + Duration::from_millis(500);
        while Instant::now() < end {
            let _ = consumer.poll(Duration::from_millis(50));
        }
        consumer.context().0.load(Ordering::Relaxed)
    }

    /// A broker that knows but two requests; librdkafka's mock broker is no controller.
    fn listen(listener: &TcpListener, is_away: &Arc<AtomicBool>) {
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        while !is_away.load(Ordering::Relaxed) {
            let Ok((connection, _)) = listener.accept() else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            connection.set_nonblocking(false).unwrap();
            connection.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let is_away = Arc::clone(is_away);
            std::thread::spawn(move || while answer(&connection, port, &is_away).is_some() {});
        }
    }

    fn answer(mut connection: &TcpStream, port: u16, is_away: &AtomicBool) -> Option<()> {
        let mut length = [0; 4];
        while connection.peek(&mut length).is_err() {
            if is_away.load(Ordering::Relaxed) {
                return None;
            }
        }
        connection.read_exact(&mut length).ok()?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        connection.read_exact(&mut request).ok()?;
        let body = match request[..2] {
            [0, 18] => api_versions(),
            [0, 3] => metadata(port),
            _ => return None,
        };
        let answer = [&request[4..8], &body].concat(); // the correlation id, then what was asked for
        connection.write_all(&(answer.len() as u32).to_be_bytes()).ok()?;
        connection.write_all(&answer).ok()
    }

    /// ApiVersionsResponse, version 3: no error, Metadata in version 1, ApiVersions up to 3.
    fn api_versions() -> Vec<u8> {
        vec![0, 0, 3, 0, 3, 0, 0, 0, 1, 0, 0, 18, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0]
    }

    /// MetadataResponse, version 1: broker 1, which is the controller, and one topic without partitions.
    fn metadata(port: u16) -> Vec<u8> {
        let mut body = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 9];
        body.extend(b"127.0.0.1");
        body.extend(u32::from(port).to_be_bytes());
        body.extend([0xff, 0xff, 0, 0, 0, 1]);
        body.extend([0, 0, 0, 1, 0, 0, 0, 5]);
        body.extend(b"topic");
        body.extend([0, 0, 0, 0, 0]);
        body
    }

    #[test]
    fn a_broker_that_went_away_is_not_stormed() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", listener.local_addr().unwrap().to_string())
            .set("statistics.interval.ms", "100");
        let consumer = BaseConsumer::from_config_and_context(&config, Connects::default()).unwrap();
        let is_away = Arc::new(AtomicBool::new(false));
        let leave = Arc::clone(&is_away);
        let broker = std::thread::spawn(move || listen(&listener, &leave));
        let id = topic_id(consumer.client(), "topic", Duration::from_secs(10));
        assert_eq!(id, Ok(None), "the controller is known now");

        is_away.store(true, Ordering::Relaxed);
        broker.join().unwrap();
        let before = connects(&consumer);
        let answer = topic_id(consumer.client(), "topic", Duration::from_secs(2));
        assert!(matches!(answer, Err(TopicIdError::NoAnswer(_))), "{answer:?}");
        let tried = connects(&consumer) - before;
        assert!((1..200).contains(&tried), "tried to connect {tried} times in three seconds");
    }
}
