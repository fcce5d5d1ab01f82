//! Where records leave for librdkafka: the producer, and what rdkafka has no call for.

use std::ffi::CString;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::time::Duration;

use rdkafka::error::KafkaError;
use rdkafka::message::OwnedHeaders;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka_sys::rd_kafka_vtype_t as vtype;

/// One record to write.
pub struct OutputRecord<'a> {
    /// Topic.
    pub topic: &'a str,
    /// Key; the partition follows from it.
    pub key: Option<&'a [u8]>,
    /// Value; `None` for a dead letter without payload.
    pub value: Option<&'a [u8]>,
    /// Milliseconds since the epoch.
    pub timestamp_ms: Option<i64>,
    /// Headers, if any.
    pub headers: Option<OwnedHeaders>,
}

/// A producer and the topics it writes to.
pub struct RawProducer<C: ProducerContext<DeliveryOpaque = ()> + 'static> {
    /// First, since they must be let go before their producer is.
    topics: Vec<Topic>,
    producer: Arc<BaseProducer<C>>,
}

/// librdkafka's handle of a topic. With it a record is handed over without the name, for which librdkafka would take its
/// lock on everything and compare the names of all its topics.
struct Topic {
    name: String,
    handle: NonNull<rdkafka_sys::rd_kafka_topic_t>,
}

// SAFETY: librdkafka's handles may be used by any thread.
unsafe impl Send for Topic {}

impl Drop for Topic {
    fn drop(&mut self) {
        // SAFETY: the handle was made by rd_kafka_topic_new for us alone, and the producer is still there.
        unsafe { rdkafka_sys::rd_kafka_topic_destroy(self.handle.as_ptr()) }
    }
}

impl<C: ProducerContext<DeliveryOpaque = ()> + 'static> RawProducer<C> {
    /// An outlet of this producer.
    pub fn new(producer: BaseProducer<C>) -> Self {
        Self { topics: Vec::new(), producer: Arc::new(producer) }
    }

    /// The producer.
    pub fn producer(&self) -> &Arc<BaseProducer<C>> {
        &self.producer
    }

    /// The producer alone: nothing is written any more.
    pub fn into_producer(self) -> Arc<BaseProducer<C>> {
        self.producer
    }

    /// Hands a record over, which is copied. One that is not taken is left whole, to be tried again.
    pub fn send(&mut self, record: &mut OutputRecord<'_>) -> Result<(), KafkaError> {
        if record.headers.is_some() {
            return self.send_with_headers(record);
        }
        let topic = self.topic(record.topic)?;
        let ((key, key_length), (value, value_length)) = (parts(record.key), parts(record.value));
        // SAFETY: each argument is of the type that librdkafka's documentation of its RD_KAFKA_VTYPE_ gives; the bytes are
        // copied before the call returns, and the handle belongs to this producer.
        let result = unsafe {
            rdkafka_sys::rd_kafka_producev(
                self.producer.client().native_ptr(),
                vtype::RD_KAFKA_VTYPE_RKT,
                topic.as_ptr(),
                vtype::RD_KAFKA_VTYPE_MSGFLAGS,
                rdkafka_sys::RD_KAFKA_MSG_F_COPY,
                vtype::RD_KAFKA_VTYPE_VALUE,
                value,
                value_length,
                vtype::RD_KAFKA_VTYPE_KEY,
                key,
                key_length,
                vtype::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp_ms.unwrap_or(0),
                vtype::RD_KAFKA_VTYPE_END,
            )
        };
        match RDKafkaErrorCode::from(result) {
            RDKafkaErrorCode::NoError => Ok(()),
            error => Err(KafkaError::MessageProduction(error)),
        }
    }

    /// The same by rdkafka, which alone can hand headers over.
    fn send_with_headers(&self, record: &mut OutputRecord<'_>) -> Result<(), KafkaError> {
        let mut base: BaseRecord<'_, [u8], [u8], ()> = BaseRecord::to(record.topic);
        base.key = record.key;
        base.payload = record.value;
        base.timestamp = record.timestamp_ms;
        base.headers = record.headers.take();
        self.producer.send(base).map_err(|(error, back)| {
            record.headers = back.headers;
            error
        })
    }

    fn topic(&mut self, name: &str) -> Result<NonNull<rdkafka_sys::rd_kafka_topic_t>, KafkaError> {
        if let Some(topic) = self.topics.iter().find(|topic| topic.name == name) {
            return Ok(topic.handle);
        }
        let c_name = CString::new(name)?;
        // SAFETY: the client lives as long as `self`, and the name is copied.
        let handle = unsafe {
            rdkafka_sys::rd_kafka_topic_new(self.producer.client().native_ptr(), c_name.as_ptr(), ptr::null_mut())
        };
        // None is given for what is no name of a topic only.
        let handle = NonNull::new(handle).ok_or(KafkaError::MessageProduction(RDKafkaErrorCode::InvalidTopic))?;
        self.topics.push(Topic { name: name.to_string(), handle });
        Ok(handle)
    }

    /// Sends what is gathered and waits until everything is delivered, for `limit` at most; whether it is. rdkafka's own
    /// `flush` gives librdkafka no time, so that its threads do not see that they are to send, and then polls for 100 ms at
    /// a time, which would add both to every transaction.
    pub fn flush(&self, limit: Duration) -> bool {
        let limit = i32::try_from(limit.as_millis()).unwrap_or(i32::MAX);
        // SAFETY: the client lives as long as `self`, and the call may be made from any thread.
        let result = unsafe { rdkafka_sys::rd_kafka_flush(self.producer.client().native_ptr(), limit) };
        result == rdkafka_sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR
    }

    /// Serves the events that wait, one each: reports of failed messages, errors, and log lines, which tell of requests that
    /// were late. Those that come meanwhile are left for the next time: with librdkafka's debugging on there is no end of
    /// them.
    pub fn serve(&self) {
        for _ in 0..self.producer.in_flight_count() {
            self.producer.poll(Duration::ZERO);
        }
    }
}

fn parts(bytes: Option<&[u8]>) -> (*const u8, usize) {
    bytes.map_or((ptr::null(), 0), |bytes| (bytes.as_ptr(), bytes.len()))
}
