//! What the brokers say about the topic, and what is said where they say something else than before.

use std::collections::BTreeMap;

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::SourceContext;
use super::error::{SourceError, transient};
use crate::kafka::advice::{Advice, PipelinePart};
use crate::kafka::client;
use crate::kafka::client::{METADATA_TIMEOUT, TopicLayout};
use crate::kafka::offset_note::{NextOffset, Partition};
use crate::kafka::topic_id::TopicId;

pub(crate) fn assignment(topic: &str, starts: &BTreeMap<Partition, NextOffset>) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for (&partition, &offset) in starts {
        // Cannot fail: the element was just added and the offset is a plain number.
        let _ = list.add_partition_offset(topic, partition, Offset::Offset(offset));
    }
    list
}

pub(super) fn another_topic(
    context: &SourceContext,
    partition: Partition,
    noted: &str,
    current: &TopicId,
) -> SourceError {
    another_topic_of(&context.topic, &context.advice, partition, noted, current)
}

pub(super) fn another_topic_of(
    topic: &str,
    advice: &Advice,
    partition: Partition,
    noted: &str,
    current: &TopicId,
) -> SourceError {
    // In ClickHouse the old topic's rows have the same coordinates as the new one's will have.
    let table = match advice.part {
        PipelinePart::Clickhouse => ", into another or an emptied table,",
        PipelinePart::Relay | PipelinePart::Postgres => "",
    };
    SourceError::refused(format!(
        "topic {topic} was deleted and made again: the position of partition {partition} belongs to topic id {noted}, the \
         topic there now has id {current}. Its records are others, so the old positions mean nothing. To take the new \
         topic from its beginning{table}: {}",
        advice.set_all("beginning")
    )).about(|fault| fault.partition(topic, partition))
}

pub(crate) fn layout<C: ConsumerContext>(consumer: &BaseConsumer<C>, topic: &str) -> Result<TopicLayout, SourceError> {
    match client::topic_layout(consumer.client(), topic, METADATA_TIMEOUT) {
        Ok(Some(layout)) => Ok(layout),
        Ok(None) => {
            Err(SourceError::transient(format!("topic {topic} does not exist: create it (pressline topics create)"))
                .about(|fault| fault.topic(topic)))
        }
        Err(error) => Err(transient(&error, &format!("topic {topic}: no metadata")).about(|fault| fault.topic(topic))),
    }
}

pub(crate) fn watermarks<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partition: Partition,
) -> Result<(i64, i64), SourceError> {
    consumer.fetch_watermarks(topic, partition, METADATA_TIMEOUT).map_err(|error| {
        let what = format!("topic {topic}, partition {partition}: no watermarks");
        transient(&error, &what).about(|fault| fault.partition(topic, partition))
    })
}

/// Whether nothing was ever written to the topic. One that does not exist is empty.
pub(super) fn is_empty(consumer: &BaseConsumer<SourceContext>, topic: &str) -> Result<bool, SourceError> {
    let layout = client::topic_layout(consumer.client(), topic, METADATA_TIMEOUT)
        .map_err(|error| transient(&error, &format!("topic {topic}: no metadata")))?;
    for partition in layout.map(|l| l.partitions).unwrap_or_default() {
        if watermarks(consumer, topic, partition)?.1 > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}
