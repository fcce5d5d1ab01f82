//! How far behind a group is, asked once a second by a client of its own: on the connection of the member, each question would wait
//! behind a fetch that waits for records.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::kafka::client::METADATA_TIMEOUT;
use crate::kafka::reach::Probe;

const EVERY: Duration = Duration::from_secs(1);

/// Partition → records behind; `None` where a broker does not answer.
type Behind = BTreeMap<i32, Option<i64>>;

/// Who is asked about what.
struct Inquiry {
    consumer: BaseConsumer<Probe>,
    topic: String,
    partitions: Vec<i32>,
}

/// See the module. The questions end with it.
pub struct Lag {
    inquiry: Arc<Inquiry>,
    latest: Arc<Mutex<Behind>>,
}

impl Lag {
    /// Begins to ask. `config` names the group.
    pub fn watch(config: &ClientConfig, topic: &str, partitions: Vec<i32>) -> KafkaResult<Self> {
        let consumer = config.create_with_context(Probe::default())?;
        let inquiry = Arc::new(Inquiry { consumer, topic: topic.into(), partitions });
        let latest: Arc<Mutex<Behind>> = Arc::default();
        let (weak, found) = (Arc::downgrade(&inquiry), Arc::clone(&latest));
        let asking = move || {
            while let Some(inquiry) = weak.upgrade() {
                let behind = inquiry.ask();
                drop(inquiry);
                *found.lock().unwrap_or_else(PoisonError::into_inner) = behind;
                std::thread::sleep(EVERY);
            }
        };
        // Without a thread the lag is not known, which is said.
        let _ = std::thread::Builder::new().name("consume-lag".into()).spawn(asking);
        Ok(Self { inquiry, latest })
    }

    /// Records behind, of these partitions and of all, as they were a moment ago.
    pub fn latest(&self, mine: &[i32]) -> (Option<i64>, Option<i64>) {
        self.of(&self.latest.lock().unwrap_or_else(PoisonError::into_inner), mine)
    }

    /// The same, as they are now.
    pub fn ask(&self, mine: &[i32]) -> (Option<i64>, Option<i64>) {
        self.of(&self.inquiry.ask(), mine)
    }

    fn of(&self, behind: &Behind, mine: &[i32]) -> (Option<i64>, Option<i64>) {
        let of = |partitions: &[i32]| partitions.iter().map(|number| *behind.get(number)?).sum::<Option<i64>>();
        (of(mine), of(&self.inquiry.partitions))
    }
}

impl Inquiry {
    fn ask(&self) -> Behind {
        let mut list = TopicPartitionList::new();
        for partition in &self.partitions {
            list.add_partition(&self.topic, *partition);
        }
        let Ok(committed) = self.consumer.committed_offsets(list, METADATA_TIMEOUT) else { return Behind::new() };
        let committed: BTreeMap<i32, Offset> =
            committed.elements_for_topic(&self.topic).iter().map(|part| (part.partition(), part.offset())).collect();
        let behind = |partition: &i32| {
            let (low, high) = self.consumer.fetch_watermarks(&self.topic, *partition, METADATA_TIMEOUT).ok()?;
            Some(match committed.get(partition) {
                Some(Offset::Offset(offset)) => (high - offset).max(0),
                _ => high - low,
            })
        };
        self.partitions.iter().map(|partition| (*partition, behind(partition))).collect()
    }
}
