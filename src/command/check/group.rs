//! A consumer group's committed offsets, as a check asks for them.

use std::time::{Duration, Instant};

use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaResult, RDKafkaErrorCode};

use crate::kafka::client::METADATA_TIMEOUT;

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(250);

/// The group's offsets of these partitions. A coordinator that only begins, as on a new cluster or after a restart, is
/// asked again for as long as a request may take.
///
/// Errors: what Kafka said last, of the request or of a partition.
pub(super) fn committed<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    topic: &str,
    partitions: &[i32],
) -> KafkaResult<TopicPartitionList> {
    let deadline = Instant::now() + METADATA_TIMEOUT;
    loop {
        let mut list = TopicPartitionList::new();
        for &partition in partitions {
            list.add_partition(topic, partition);
        }
        let found = consumer.committed_offsets(list, METADATA_TIMEOUT).and_then(|list| {
            list.elements().iter().try_for_each(|element| element.error())?;
            Ok(list)
        });
        match found {
            Err(error) if error.rdkafka_error_code().is_some_and(only_begins) && Instant::now() < deadline => {
                std::thread::sleep(PAUSE);
            }
            found => return found,
        }
    }
}

fn only_begins(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode::{CoordinatorLoadInProgress, CoordinatorNotAvailable, NotCoordinator};
    matches!(code, CoordinatorLoadInProgress | CoordinatorNotAvailable | NotCoordinator)
}
