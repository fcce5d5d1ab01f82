//! The group's committed offsets: read, doubted where the coordinator's word would duplicate events, and written.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ptr;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka_sys as sys;

use super::context::SourceContext;
use super::error::kafka_code;
use super::error::{SourceError, transient};
use super::position_store::PositionStore;
use super::topic::{another_topic, watermarks};
use crate::config::StartPolicy;
use crate::kafka::client::{METADATA_TIMEOUT, TopicLayout};
use crate::kafka::consumer::committed_watermark::WentBack;
use crate::kafka::offset_note::{CommittedOffset, NextOffset, OffsetNote, Partition};
use crate::kafka::topic_id;
use crate::kafka::topic_id::TopicId;

/// How long committed offsets may stay unreadable at an assignment: longer than a dead predecessor's transaction, whose
/// offsets are unstable (KIP-447) until it is ended.
const COMMITTED_TIMEOUT: Duration = Duration::from_secs(40);
/// How long "no offset" is doubted before it is believed where nothing else tells that this is a first start. Kafka 4.1.0,
/// started again after kill -9 on a busy machine with a long `__consumer_offsets`, answered so without an error for up to two
/// seconds, for groups whose commits it had acknowledged, before it had loaded them.
const ABSENCE_CONFIRMED: Duration = Duration::from_secs(3);

/// The group's offsets. That one is missing is believed at once only where the output tells whether this is the first start,
/// or where there is nothing to read; elsewhere it must stay so for [`ABSENCE_CONFIRMED`].
pub(super) fn believed(
    context: &SourceContext,
    consumer: &BaseConsumer<SourceContext>,
    layout: &TopicLayout,
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, CommittedOffset>, SourceError> {
    let begun = Instant::now();
    loop {
        let offsets = known_committed(context, consumer, layout)?;
        let output_tells = match &context.position_store {
            PositionStore::Group { policy, .. } => *policy == StartPolicy::Auto && offsets.is_empty(),
            PositionStore::Sink(positions) => positions.knows_first_start(),
        };
        let mut missing = partitions.iter().filter(|partition| !offsets.contains_key(partition));
        if output_tells || begun.elapsed() >= ABSENCE_CONFIRMED || crate::testing::mutant::is("absence_believed") {
            return Ok(offsets);
        }
        let readable = missing.try_fold(false, |found, &partition| {
            let (low, high) = watermarks(consumer, &context.topic, partition)?;
            Ok(found || low < high)
        })?;
        if !readable {
            return Ok(offsets);
        }
        context.pause()?;
    }
}

/// The group's offsets, none of them lower than what this process has committed: waits for a coordinator that has not loaded all.
pub(super) fn known_committed(
    context: &SourceContext,
    consumer: &BaseConsumer<SourceContext>,
    layout: &TopicLayout,
) -> Result<BTreeMap<Partition, CommittedOffset>, SourceError> {
    let deadline = Instant::now() + COMMITTED_TIMEOUT;
    let mut told = false;
    loop {
        let offsets = committed(consumer, &context.topic, layout)?;
        let topic_id = context.topic_id.as_ref().map(TopicId::as_str);
        let Some(back) = context.committed_watermark.went_back(topic_id, &offsets) else { return Ok(offsets) };
        if crate::testing::mutant::is("floor_ignored") {
            return Ok(offsets);
        }
        // Kafka deletes offsets together with their topic.
        if let Some(known) = &context.topic_id
            && let Ok(Some(current)) = topic_id::topic_id(consumer.client(), &context.topic, METADATA_TIMEOUT)
            && current != *known
        {
            return Err(another_topic(context, back.partition, known.as_str(), &current));
        }
        if Instant::now() >= deadline {
            return Err(went_back(context, back));
        }
        if !told {
            told = true;
            let WentBack { partition, found, known } = back;
            tracing::warn!(topic = %context.topic, partition, found, known, "the group's offset went back; asking again");
        }
        context.pause()?;
    }
}

fn went_back(context: &SourceContext, back: WentBack) -> SourceError {
    let WentBack { partition, found, known } = back;
    let found = found.map_or_else(|| "is gone".to_string(), |found| format!("is {found}"));
    SourceError::refused(format!(
        "topic {}, partition {partition}: the group's committed offset {found}, but this process has committed {known}, and \
         nobody has set it back: the broker that coordinates the group has lost offsets (an election of a replica that was \
         behind, a lost disk; or somebody deleted them). To begin there could write events twice. Look at __consumer_offsets \
         in the brokers' logs; to go on where we were, for each such partition ({}): {}",
        context.topic,
        context.advice.show(),
        context.advice.set(partition, known)
    )).at(&context.topic, partition, known)
}

/// The group's offsets of all partitions. Waits for offsets that belong to a transaction that is not ended yet.
pub(crate) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    layout: &TopicLayout,
) -> Result<BTreeMap<Partition, CommittedOffset>, SourceError> {
    let deadline = Instant::now() + COMMITTED_TIMEOUT;
    loop {
        let mut list = TopicPartitionList::new();
        for &partition in &layout.partitions {
            list.add_partition(topic, partition);
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1));
        let error = match consumer.committed_offsets(list, left) {
            Ok(list) => {
                refuse_newer_notes(topic, &list)?;
                match read_committed_list(&list) {
                    Ok(offsets) => return Ok(offsets),
                    Err(error) => error,
                }
            }
            Err(error) => error,
        };
        if Instant::now() >= deadline {
            // librdkafka does not say that the right is missing: it looks for the coordinator until the time is over.
            return Err(SourceError::transient(format!(
                "topic {topic}: the group's committed offsets cannot be read: {error}; grant this user Read on the group, \
                 or see to the broker that coordinates it"
            )).about(|fault| fault.topic(topic).code(kafka_code(&error))));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// A note of a newer version may hold what our positions rest on, such as a range that is being written.
fn refuse_newer_notes(topic: &str, list: &TopicPartitionList) -> Result<(), SourceError> {
    for element in list.elements() {
        if let Some(version) = OffsetNote::newer_version(element.metadata()) {
            return Err(SourceError::refused(format!(
                "topic {topic}, partition {}: the group's offset was committed by a newer pressline, with a note of version \
                 {version}; this one reads version {}. Start the newer one, which reads both",
                element.partition(),
                OffsetNote::VERSION
            )).about(|fault| fault.partition(topic, element.partition())));
        }
    }
    Ok(())
}

fn read_committed_list(list: &TopicPartitionList) -> KafkaResult<BTreeMap<Partition, CommittedOffset>> {
    let mut offsets = BTreeMap::new();
    for element in list.elements() {
        element.error()?;
        if let Offset::Offset(next) = element.offset() {
            offsets.insert(element.partition(), CommittedOffset { next, note: OffsetNote::parse(element.metadata()) });
        }
    }
    Ok(offsets)
}

/// Commits, synchronously. Errors: also where only one of several partitions failed, which librdkafka's own answer does not tell.
pub(crate) fn commit<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
) -> Result<(), SourceError> {
    let mut failed: Option<(Partition, RDKafkaErrorCode)> = None;
    // SAFETY: the call blocks until it has called back, if it does, and so outlives neither the client, the list nor `failed`.
    let code = unsafe {
        let (rk, opaque) = (consumer.client().native_ptr(), (&raw mut failed).cast());
        sys::rd_kafka_commit_queue(rk, list.ptr(), ptr::null_mut(), Some(first_failure), opaque)
    };
    let error = match (RDKafkaErrorCode::from(code), failed) {
        (_, Some((partition, code))) => {
            let what = format!("the group's offset of partition {partition} cannot be committed");
            return Err(transient(&KafkaError::ConsumerCommit(code), &what));
        }
        (RDKafkaErrorCode::NoError, None) => return Ok(()),
        (code, None) => KafkaError::ConsumerCommit(code),
    };
    Err(transient(&error, "the group's offsets cannot be committed"))
}

/// Commits without waiting. What the broker answers is told by the consumer's `commit_callback`, in a later poll: of rdkafka's own
/// asynchronous commits nobody hears (rdkafka 0.39 takes events, and librdkafka 2.12.1 sends none for a commit by hand).
pub(super) fn commit_async<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    list: &TopicPartitionList,
) -> Result<(), KafkaError> {
    let rk = consumer.client().native_ptr();
    // SAFETY: the list is copied; the queue is the one that `poll` reads, and only our reference to it is given back.
    let code = unsafe {
        let queue = sys::rd_kafka_queue_get_consumer(rk);
        if queue.is_null() {
            return Err(KafkaError::ConsumerCommit(RDKafkaErrorCode::UnknownGroup));
        }
        let code = sys::rd_kafka_commit_queue(rk, list.ptr(), queue, None, ptr::null_mut());
        sys::rd_kafka_queue_destroy(queue);
        code
    };
    match RDKafkaErrorCode::from(code) {
        RDKafkaErrorCode::NoError => Ok(()),
        code => Err(KafkaError::ConsumerCommit(code)),
    }
}

/// Notes the first partition whose commit failed.
unsafe extern "C" fn first_failure(
    _: *mut sys::rd_kafka_t,
    _: sys::rd_kafka_resp_err_t,
    offsets: *mut sys::rd_kafka_topic_partition_list_t,
    opaque: *mut c_void,
) {
    if offsets.is_null() || opaque.is_null() {
        return;
    }
    // SAFETY: librdkafka's list lives while it calls; `opaque` is what `commit` gave.
    unsafe {
        let failed = &mut *opaque.cast::<Option<(Partition, RDKafkaErrorCode)>>();
        let count = usize::try_from((*offsets).cnt).unwrap_or_default();
        for index in 0..count {
            let element = (*offsets).elems.add(index);
            let code = RDKafkaErrorCode::from((*element).err);
            if code != RDKafkaErrorCode::NoError && failed.is_none() {
                *failed = Some(((*element).partition, code));
            }
        }
    }
}

pub(super) fn note(context: &SourceContext) -> OffsetNote {
    OffsetNote {
        topic_id: context.topic_id.as_ref().map(|id| id.as_str().to_string()),
        partitions: context.first_partitions.lock().ok().and_then(|slot| *slot),
        ..OffsetNote::default()
    }
}

/// Offsets, each with the note of its partition.
pub(crate) fn offsets_with_notes(
    topic: &str,
    offsets: &BTreeMap<Partition, NextOffset>,
    note: impl Fn(Partition) -> OffsetNote,
) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (&partition, &offset) in offsets {
        let mut element = list.add_partition(topic, partition);
        let _ = element.set_offset(Offset::Offset(offset));
        element.set_metadata(note(partition).to_text());
    }
    list
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn one_partition_that_fails_among_others_is_a_failure() {
        let mut list = TopicPartitionList::new();
        for partition in 0..4 {
            list.add_partition_offset("t", partition, Offset::Offset(7)).unwrap();
        }
        let failure = |list: &TopicPartitionList| {
            let mut failed: Option<(Partition, RDKafkaErrorCode)> = None;
            let ok = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            // SAFETY: as librdkafka calls it, with a list that lives.
            unsafe { first_failure(ptr::null_mut(), ok, list.ptr(), (&raw mut failed).cast()) };
            failed
        };
        assert_eq!(failure(&list), None);
        for (partition, error) in [
            (2, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART),
            (3, sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED),
        ] {
            // SAFETY: the list has four elements.
            unsafe { (*(*list.ptr()).elems.add(partition)).err = error };
        }
        assert_eq!(failure(&list), Some((2, RDKafkaErrorCode::UnknownTopicOrPartition)));
        // SAFETY: no list, as where the request failed as a whole.
        unsafe {
            let ok = sys::rd_kafka_resp_err_t::RD_KAFKA_RESP_ERR_NO_ERROR;
            first_failure(ptr::null_mut(), ok, ptr::null_mut(), ptr::null_mut());
        }
    }
}
