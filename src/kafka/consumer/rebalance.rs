//! librdkafka's callbacks: a rebalance decides where partitions begin, and sends what happened to the worker.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::statistics::Statistics;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;

use super::context::{GroupEvent, SourceContext};
use super::error::SourceError;
use super::position::starts;
use super::topic::assignment;
use crate::kafka::client;
use crate::kafka::offset_note::Partition;

impl ClientContext for SourceContext {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, message: &str) {
        client::log(level, fac, message);
    }

    fn stats(&self, statistics: Statistics) {
        if let Ok(mut slot) = self.statistics.lock() {
            *slot = Some(Box::new(statistics));
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(client = "consumer", %error, reason, "librdkafka reports an error");
    }
}

impl ConsumerContext for SourceContext {
    /// The answer to an asynchronous commit; a synchronous one has its own.
    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        self.unacknowledged.answered(&result, offsets);
    }

    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let partitions: Vec<Partition> = list.elements().iter().map(|e| e.partition()).collect();
        let cooperative = matches!(consumer.rebalance_protocol(), RebalanceProtocol::Cooperative);
        if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            let starts = if self.closing.load(Ordering::Acquire) || partitions.is_empty() {
                Ok(BTreeMap::new())
            } else {
                starts(self, consumer, &partitions)
            };
            let (assignment, event) = match starts {
                Ok(starts) if starts.len() == partitions.len() => {
                    (assignment(&self.topic, &starts), GroupEvent::Assigned(starts))
                }
                // While we leave, and where we must: taken as offered, to be given back at once. librdkafka gives back
                // what it offered, and that fails and keeps us in the group unless just that was taken.
                Ok(_) => (list.clone(), GroupEvent::Assigned(BTreeMap::new())),
                Err(error) => (list.clone(), GroupEvent::Failed(error)),
            };
            let result =
                if cooperative { consumer.incremental_assign(&assignment) } else { consumer.assign(&assignment) };
            match result {
                Ok(()) => self.send(event),
                Err(error) => {
                    self.send(GroupEvent::Failed(SourceError::transient(format!("cannot take partitions: {error}"))))
                }
            }
        } else {
            let lost = consumer.assignment_lost();
            // librdkafka keeps a pause over a rebalance: given again, a partition that was paused while we waited would stand
            // still without a word.
            if let Err(error) = consumer.resume(list) {
                tracing::debug!(topic = %self.topic, %error, "revoked partitions cannot be resumed");
            }
            let result = if cooperative { consumer.incremental_unassign(list) } else { consumer.unassign() };
            if let Err(error) = result {
                tracing::warn!(%error, "cannot give partitions back");
            }
            self.send(GroupEvent::Revoked { partitions, lost });
        }
    }
}
