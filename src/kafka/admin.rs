//! The changes of topics: created, widened, set again; one topic a request.
//!
//! rdkafka 0.39 hands out codes without the brokers' words, and has no IncrementalAlterConfigs: its AlterConfigs sets back
//! to the default every setting that it is not told. So this file calls librdkafka itself.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString, c_char};
use std::ptr;

use rdkafka::client::{Client, ClientContext};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka_sys as sys;
use sys::rd_kafka_admin_op_t as Op;

use crate::config::CreateConfig;
use crate::kafka::client::METADATA_TIMEOUT;

/// Why the brokers did not do it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What kind of refusal it is.
    pub code: RDKafkaErrorCode,
    /// In the brokers' words.
    pub reason: String,
}

impl Refusal {
    fn of(code: RDKafkaErrorCode) -> Self {
        Self { code, reason: code.to_string() }
    }
}

/// Whether something is done, or the brokers are only asked whether they would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Done.
    Real,
    /// Only asked.
    Dry,
}

/// Makes a topic. Blocks for a few seconds at most, as all here.
pub fn create<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    wanted: &CreateConfig,
    mode: Mode,
) -> Result<(), Refusal> {
    let name = text(topic)?;
    let settings = texts(wanted.settings.0.iter())?;
    // -1 leaves it to the brokers (KIP-464).
    let (partitions, replication) = (wanted.partitions.unwrap_or(-1), wanted.replication.unwrap_or(-1));
    let request = Request::new(client, Op::RD_KAFKA_ADMIN_OP_CREATETOPICS, mode);
    // SAFETY: all texts outlive their call, which copies them; the topic made here is destroyed here.
    let event = unsafe {
        let mut new = sys::rd_kafka_NewTopic_new(name.as_ptr(), partitions, replication, ptr::null_mut(), 0);
        if new.is_null() {
            return Err(Refusal::of(RDKafkaErrorCode::InvalidArgument));
        }
        for (name, value) in &settings {
            // Its only error is an empty name, which the brokers refuse in their own words.
            let _ = sys::rd_kafka_NewTopic_set_config(new, name.as_ptr(), value.as_ptr());
        }
        sys::rd_kafka_CreateTopics(request.rk, &mut new, 1, request.options, request.queue);
        sys::rd_kafka_NewTopic_destroy(new);
        request.answer()?
    };
    // SAFETY: the event lives while its result is read.
    unsafe {
        let mut count = 0;
        let result = sys::rd_kafka_event_CreateTopics_result(event.0);
        let topics = if result.is_null() {
            ptr::null_mut()
        } else {
            sys::rd_kafka_CreateTopics_result_topics(result, &mut count)
        };
        topic_verdict(topics, count)
    }
}

/// Gives a topic more partitions, so many in all.
pub fn add_partitions<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    total: usize,
    mode: Mode,
) -> Result<(), Refusal> {
    let name = text(topic)?;
    let request = Request::new(client, Op::RD_KAFKA_ADMIN_OP_CREATEPARTITIONS, mode);
    // SAFETY: as in `create`.
    let event = unsafe {
        let mut new = sys::rd_kafka_NewPartitions_new(name.as_ptr(), total, ptr::null_mut(), 0);
        if new.is_null() {
            return Err(Refusal::of(RDKafkaErrorCode::InvalidArgument));
        }
        sys::rd_kafka_CreatePartitions(request.rk, &mut new, 1, request.options, request.queue);
        sys::rd_kafka_NewPartitions_destroy(new);
        request.answer()?
    };
    // SAFETY: as in `create`.
    unsafe {
        let mut count = 0;
        let result = sys::rd_kafka_event_CreatePartitions_result(event.0);
        let topics = if result.is_null() {
            ptr::null_mut()
        } else {
            sys::rd_kafka_CreatePartitions_result_topics(result, &mut count)
        };
        topic_verdict(topics, count)
    }
}

/// Sets settings of a topic and leaves all others as they are (KIP-339).
pub fn alter<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    settings: &[(&str, &str)],
    mode: Mode,
) -> Result<(), Refusal> {
    let name = text(topic)?;
    let settings = texts(settings.iter().copied())?;
    let request = Request::new(client, Op::RD_KAFKA_ADMIN_OP_INCREMENTALALTERCONFIGS, mode);
    // SAFETY: as in `create`; an error that is handed out is ours to destroy.
    let event = unsafe {
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        let set = sys::rd_kafka_AlterConfigOpType_t::RD_KAFKA_ALTER_CONFIG_OP_TYPE_SET;
        let mut resource = sys::rd_kafka_ConfigResource_new(kind, name.as_ptr());
        if resource.is_null() {
            return Err(Refusal::of(RDKafkaErrorCode::InvalidArgument));
        }
        for (name, value) in &settings {
            let error =
                sys::rd_kafka_ConfigResource_add_incremental_config(resource, name.as_ptr(), set, value.as_ptr());
            if !error.is_null() {
                sys::rd_kafka_error_destroy(error);
                sys::rd_kafka_ConfigResource_destroy(resource);
                return Err(Refusal::of(RDKafkaErrorCode::InvalidArgument));
            }
        }
        sys::rd_kafka_IncrementalAlterConfigs(request.rk, &mut resource, 1, request.options, request.queue);
        sys::rd_kafka_ConfigResource_destroy(resource);
        request.answer()?
    };
    // SAFETY: as in `create`.
    unsafe {
        let result = sys::rd_kafka_event_IncrementalAlterConfigs_result(event.0);
        let mut count = 0;
        let resources = if result.is_null() {
            ptr::null_mut()
        } else {
            sys::rd_kafka_IncrementalAlterConfigs_result_resources(result, &mut count)
        };
        if resources.is_null() || count == 0 {
            return Err(Refusal::of(RDKafkaErrorCode::BadMessage));
        }
        let resource = *resources;
        verdict(sys::rd_kafka_ConfigResource_error(resource), sys::rd_kafka_ConfigResource_error_string(resource))
    }
}

/// A topic's settings, defaults too.
pub fn settings<C: ClientContext>(client: &Client<C>, topic: &str) -> Result<BTreeMap<String, String>, Refusal> {
    let name = text(topic)?;
    let request = Request::new(client, Op::RD_KAFKA_ADMIN_OP_DESCRIBECONFIGS, Mode::Real);
    // SAFETY: as in `create`.
    let event = unsafe {
        let kind = sys::rd_kafka_ResourceType_t::RD_KAFKA_RESOURCE_TOPIC;
        let mut resource = sys::rd_kafka_ConfigResource_new(kind, name.as_ptr());
        if resource.is_null() {
            return Err(Refusal::of(RDKafkaErrorCode::InvalidArgument));
        }
        sys::rd_kafka_DescribeConfigs(request.rk, &mut resource, 1, request.options, request.queue);
        sys::rd_kafka_ConfigResource_destroy(resource);
        request.answer()?
    };
    // SAFETY: the event lives while its entries are copied; a name is never null, a value is where it is a secret.
    unsafe {
        let result = sys::rd_kafka_event_DescribeConfigs_result(event.0);
        let (mut resources_count, mut entries_count) = (0, 0);
        let resources = if result.is_null() {
            ptr::null_mut()
        } else {
            sys::rd_kafka_DescribeConfigs_result_resources(result, &mut resources_count)
        };
        if resources.is_null() || resources_count == 0 {
            return Err(Refusal::of(RDKafkaErrorCode::BadMessage));
        }
        let resource = *resources;
        verdict(sys::rd_kafka_ConfigResource_error(resource), sys::rd_kafka_ConfigResource_error_string(resource))?;
        let entries = sys::rd_kafka_ConfigResource_configs(resource, &mut entries_count);
        let copy = |text: *const c_char| (!text.is_null()).then(|| CStr::from_ptr(text).to_string_lossy().into_owned());
        let pair = |at: usize| {
            let entry = *entries.add(at);
            Some((copy(sys::rd_kafka_ConfigEntry_name(entry))?, copy(sys::rd_kafka_ConfigEntry_value(entry))?))
        };
        Ok(if entries.is_null() { BTreeMap::new() } else { (0..entries_count).filter_map(pair).collect() })
    }
}

fn text(text: &str) -> Result<CString, Refusal> {
    CString::new(text).map_err(|_| Refusal::of(RDKafkaErrorCode::InvalidArgument))
}

fn texts<N: AsRef<str>, V: AsRef<str>>(
    pairs: impl Iterator<Item = (N, V)>,
) -> Result<Vec<(CString, CString)>, Refusal> {
    pairs.map(|(name, value)| Ok((text(name.as_ref())?, text(value.as_ref())?))).collect()
}

/// SAFETY: `topics` is null or the array of a live event, with so many elements.
unsafe fn topic_verdict(topics: *mut *const sys::rd_kafka_topic_result_t, count: usize) -> Result<(), Refusal> {
    if topics.is_null() || count == 0 {
        return Err(Refusal::of(RDKafkaErrorCode::BadMessage));
    }
    // SAFETY: see above.
    unsafe {
        let topic = *topics;
        verdict(sys::rd_kafka_topic_result_error(topic), sys::rd_kafka_topic_result_error_string(topic))
    }
}

/// SAFETY: `reason` is null or a live text.
unsafe fn verdict(code: sys::rd_kafka_resp_err_t, reason: *const c_char) -> Result<(), Refusal> {
    let code = RDKafkaErrorCode::from(code);
    if code == RDKafkaErrorCode::NoError {
        return Ok(());
    }
    if reason.is_null() {
        return Err(Refusal::of(code));
    }
    // SAFETY: see above.
    let reason = unsafe { CStr::from_ptr(reason) }.to_string_lossy().into_owned();
    Err(Refusal { code, reason })
}

/// A request on its way: its options, and the queue on which its answer comes.
struct Request {
    rk: *mut sys::rd_kafka_t,
    options: *mut sys::rd_kafka_AdminOptions_t,
    queue: *mut sys::rd_kafka_queue_t,
}

impl Request {
    /// For a client that outlives it, as that of the calls above does.
    fn new<C: ClientContext>(client: &Client<C>, op: Op, mode: Mode) -> Self {
        let rk = client.native_ptr();
        // SAFETY: `rk` is the live client's; setting options stores numbers, and fails only where the operation has none.
        unsafe {
            let queue = sys::rd_kafka_queue_new(rk);
            let options = sys::rd_kafka_AdminOptions_new(rk, op);
            let no_text = ptr::null_mut();
            let _ = sys::rd_kafka_AdminOptions_set_request_timeout(options, millis(), no_text, 0);
            let _ = sys::rd_kafka_AdminOptions_set_validate_only(options, i32::from(mode == Mode::Dry), no_text, 0);
            Self { rk, options, queue }
        }
    }

    /// Waits for the answer. Errors: none came, or the request as a whole was refused.
    fn answer(&self) -> Result<Event, Refusal> {
        // SAFETY: the queue is alive; the event is ours, and destroyed with `Event`.
        unsafe {
            // A little longer than the request's own time-out, so that its own error is the one we see.
            let event = Event(sys::rd_kafka_queue_poll(self.queue, millis().saturating_add(1_000)));
            if event.0.is_null() {
                return Err(Refusal::of(RDKafkaErrorCode::OperationTimedOut));
            }
            verdict(sys::rd_kafka_event_error(event.0), sys::rd_kafka_event_error_string(event.0)).map(|()| event)
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        // SAFETY: both were made in `new`, and nobody else has them.
        unsafe {
            sys::rd_kafka_AdminOptions_destroy(self.options);
            sys::rd_kafka_queue_destroy(self.queue);
        }
    }
}

struct Event(*mut sys::rd_kafka_event_t);

impl Drop for Event {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: it is ours and still alive.
            unsafe { sys::rd_kafka_event_destroy(self.0) }
        }
    }
}

fn millis() -> i32 {
    i32::try_from(METADATA_TIMEOUT.as_millis()).unwrap_or(i32::MAX)
}
