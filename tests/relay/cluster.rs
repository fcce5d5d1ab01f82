//! Kafka from the tests' side: topics, records in and out, offsets. Every wait has an end.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::{Duration, Instant};

use rdkafka::admin::{
    AdminClient, AdminOptions, AlterConfig, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication,
};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// Longest wait for a broker that may be busy with other tests.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long one answer is waited for that is asked for again: a call without an answer may take all its time, for a leader that it
/// does not know yet.
const ANSWER: Duration = Duration::from_secs(10);

/// A Kafka cluster.
#[derive(Clone)]
pub struct Cluster {
    bootstrap: String,
}

/// A record that was read.
#[derive(Clone, Debug)]
pub struct Record {
    pub partition: i32,
    pub offset: i64,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, String)>,
    pub timestamp_ms: Option<i64>,
}

impl Record {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether these bytes are anywhere in it.
    pub fn holds(&self, trace: &[u8]) -> bool {
        let within = |text: &[u8]| text.windows(trace.len()).any(|window| window == trace);
        within(&self.key)
            || self.value.as_deref().is_some_and(within)
            || self.headers.iter().any(|(name, value)| within(name.as_bytes()) || within(value.as_bytes()))
    }
}

/// A record to send.
#[derive(Clone, Debug, Default)]
pub struct Raw {
    pub partition: Option<i32>,
    pub key: Option<String>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(&'static str, &'static str)>,
    pub timestamp_ms: Option<i64>,
}

impl Raw {
    /// A value alone, for one partition.
    pub fn value(partition: i32, value: impl Into<Vec<u8>>) -> Self {
        Self { partition: Some(partition), value: Some(value.into()), ..Self::default() }
    }
}

fn wait<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(PATIENCE)).operation_timeout(Some(PATIENCE))
}

impl Cluster {
    /// The cluster at this address, without TLS or SASL.
    pub fn at(bootstrap: &str) -> Self {
        Self { bootstrap: bootstrap.to_string() }
    }

    pub fn bootstrap(&self) -> &str {
        &self.bootstrap
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    /// A consumer that is in no group; with a name, it may ask for that group's offsets.
    fn consumer(&self, group: &str, isolation: &str) -> BaseConsumer {
        self.client()
            .set("group.id", if group.is_empty() { "pressline-tests" } else { group })
            .set("enable.auto.commit", "false")
            .set("enable.partition.eof", "true")
            .set("isolation.level", isolation)
            .set("auto.offset.reset", "error")
            .create()
            .unwrap()
    }

    pub fn create_topics(&self, topics: &[(&str, i32)]) {
        let new: Vec<NewTopic<'_>> =
            topics.iter().map(|(name, count)| NewTopic::new(name, *count, TopicReplication::Fixed(1))).collect();
        let begun = Instant::now();
        // A topic of the same name may still be on its way out.
        let mut left: Vec<&NewTopic<'_>> = new.iter().collect();
        while !left.is_empty() {
            let answers = wait(self.admin().create_topics(left.iter().copied(), &options())).unwrap();
            left = left
                .into_iter()
                .zip(answers)
                .filter_map(|(topic, answer)| answer.err().map(|(name, code)| (topic, name, code)))
                .map(|(topic, name, code)| {
                    assert!(begun.elapsed() < PATIENCE, "topic {name}: {code}");
                    topic
                })
                .collect();
        }
        let consumer = self.consumer("", "read_committed");
        for (name, count) in topics {
            await_that(&format!("topic {name}"), || layout(&consumer, name) == *count);
        }
    }

    /// Gives a topic these settings, and its defaults in all others.
    pub fn configure(&self, topic: &str, settings: &[(&str, &str)]) {
        let mut change = AlterConfig::new(ResourceSpecifier::Topic(topic));
        for (name, value) in settings {
            change = change.set(name, value);
        }
        for answer in wait(self.admin().alter_configs(&[change], &options())).unwrap() {
            answer.unwrap();
        }
    }

    pub fn delete_topic(&self, topic: &str) {
        for answer in wait(self.admin().delete_topics(&[topic], &options())).unwrap() {
            answer.unwrap();
        }
        let consumer = self.consumer("", "read_committed");
        await_that(&format!("the end of topic {topic}"), || layout(&consumer, topic) == 0);
    }

    pub fn add_partitions(&self, topic: &str, count: i32) {
        let new = NewPartitions::new(topic, usize::try_from(count).unwrap());
        for answer in wait(self.admin().create_partitions([&new], &options())).unwrap() {
            answer.unwrap();
        }
        let consumer = self.consumer("", "read_committed");
        await_that(&format!("partitions of {topic}"), || layout(&consumer, topic) == count);
    }

    /// Deletes the records of a partition before this offset.
    pub fn delete_records(&self, topic: &str, partition: i32, before: i64) {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
        for element in wait(self.admin().delete_records(&list, &options())).unwrap().elements() {
            element.error().unwrap();
        }
    }

    /// Deletes a group and its offsets. It must be empty: waits for members that were killed.
    pub fn delete_group(&self, group: &str) {
        let admin = self.admin();
        await_that(&format!("the end of group {group}"), || {
            wait(admin.delete_groups(&[group], &options())).unwrap().remove(0).is_ok()
        });
    }

    /// Sends records and waits until all are acknowledged, in order.
    pub fn send(&self, topic: &str, records: &[Raw]) {
        let producer = self.producer();
        for record in records {
            send_one(&producer, topic, record);
        }
        producer.flush(PATIENCE).unwrap();
    }

    /// A producer that keeps order, with Java's partitioner.
    pub fn producer(&self) -> BaseProducer {
        self.client()
            .set("enable.idempotence", "true")
            .set("partitioner", "murmur2_random")
            .set("message.max.bytes", "5000000")
            .set("linger.ms", "5")
            .create()
            .unwrap()
    }

    /// All committed records, by partition and offset.
    pub fn read(&self, topic: &str) -> Vec<Record> {
        let mut records = Vec::new();
        self.each(topic, "read_committed", |record| records.push(record));
        records.sort_by_key(|record| (record.partition, record.offset));
        records
    }

    /// How many records there are, those of aborted transactions included.
    pub fn count_with_aborted(&self, topic: &str) -> usize {
        let mut count = 0;
        self.each(topic, "read_uncommitted", |_| count += 1);
        count
    }

    fn each(&self, topic: &str, isolation: &str, mut found: impl FnMut(Record)) {
        let consumer = self.consumer("", isolation);
        let mut open = layout(&consumer, topic);
        let mut list = TopicPartitionList::new();
        for partition in 0..open {
            list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
        }
        consumer.assign(&list).unwrap();
        let mut heard = Instant::now();
        while open > 0 {
            assert!(heard.elapsed() < PATIENCE, "topic {topic}: {open} partitions not read to their ends");
            match consumer.poll(Duration::from_millis(200)) {
                None => continue,
                Some(Err(KafkaError::PartitionEOF(_))) => open -= 1,
                Some(Err(error)) => panic!("topic {topic}: {error}"),
                Some(Ok(message)) => found(owned(&message)),
            }
            heard = Instant::now();
        }
    }

    /// First offset and the one after the last, per partition.
    pub fn ends(&self, topic: &str) -> BTreeMap<i32, (i64, i64)> {
        ends(&self.consumer("", "read_committed"), topic)
    }

    /// Waits until no transaction is open in the topic: readers of what is committed may read to its end.
    pub fn await_nothing_open(&self, topic: &str) {
        let (committed, all) = (self.consumer("", "read_committed"), self.consumer("", "read_uncommitted"));
        // The markers of a commit are written after it was answered.
        let begun = Instant::now();
        while ends(&committed, topic) != ends(&all, topic) {
            assert!(begun.elapsed() < Duration::from_secs(5), "topic {topic}: a transaction was left open");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// How many members the group has.
    pub fn members(&self, group: &str) -> usize {
        let consumer = self.consumer("looks-on", "read_committed");
        let groups = consumer.fetch_group_list(Some(group), PATIENCE).unwrap();
        groups.groups().iter().map(|group| group.members().len()).sum()
    }

    /// Offsets that the group has committed; asked again while its coordinator moves.
    pub fn committed(&self, group: &str, topic: &str) -> BTreeMap<i32, i64> {
        let begun = Instant::now();
        loop {
            match committed(&self.consumer(group, "read_committed"), topic) {
                Ok(offsets) => return offsets,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "offsets of group {group}: {error}"),
            }
        }
    }

    /// Commits an offset with metadata, as a member of the group once did.
    pub fn commit(&self, group: &str, topic: &str, partition: i32, offset: i64, metadata: &str) {
        let mut list = TopicPartitionList::new();
        let mut element = list.add_partition(topic, partition);
        element.set_offset(Offset::Offset(offset)).unwrap();
        element.set_metadata(metadata);
        self.consumer(group, "read_committed").commit(&list, CommitMode::Sync).unwrap();
    }

    /// Waits until the group has relayed everything that is in the topic now; `also` may look after something else.
    pub fn await_relayed(&self, group: &str, topic: &str, patience: Duration, mut also: impl FnMut()) {
        let mut consumer = self.consumer(group, "read_committed");
        let wanted: BTreeMap<i32, i64> = ends(&consumer, topic).into_iter().map(|(p, (_, end))| (p, end)).collect();
        let begun = Instant::now();
        let mut found = BTreeMap::new();
        loop {
            also();
            // While a transaction is open its offsets are unstable, and the question is answered late or not at all.
            match committed(&consumer, topic) {
                Ok(offsets) => found = offsets,
                // A client that has not joined does not look for a coordinator that has moved.
                Err(_) => consumer = self.consumer(group, "read_committed"),
            }
            if wanted.iter().all(|(p, end)| *end == 0 || found.get(p) >= Some(end)) {
                return;
            }
            assert!(begun.elapsed() < patience, "group {group} is at {found:?}, topic {topic} ends at {wanted:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Hands a record to the producer, waiting while its queue is full.
pub fn send_one(producer: &BaseProducer, topic: &str, record: &Raw) {
    let mut base: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(topic);
    base.partition = record.partition;
    base.key = record.key.as_deref().map(str::as_bytes);
    base.payload = record.value.as_deref();
    base.timestamp = record.timestamp_ms;
    if !record.headers.is_empty() {
        let insert =
            |headers: OwnedHeaders, (key, value): &(&str, &str)| headers.insert(Header { key, value: Some(*value) });
        base.headers = Some(record.headers.iter().fold(OwnedHeaders::new(), insert));
    }
    loop {
        match producer.send(base) {
            Ok(()) => return,
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                producer.poll(Duration::from_millis(5));
                base = back;
            }
            Err((error, _)) => panic!("topic {topic}: {error}"),
        }
    }
}

fn owned(message: &impl Message) -> Record {
    let headers = message.headers().map(|headers| {
        headers
            .iter()
            .map(|header| {
                (header.key.to_string(), String::from_utf8_lossy(header.value.unwrap_or_default()).into_owned())
            })
            .collect()
    });
    Record {
        partition: message.partition(),
        offset: message.offset(),
        key: message.key().unwrap_or_default().to_vec(),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.unwrap_or_default(),
        timestamp_ms: message.timestamp().to_millis(),
    }
}

fn layout(consumer: &BaseConsumer, topic: &str) -> i32 {
    let Ok(metadata) = consumer.fetch_metadata(Some(topic), ANSWER) else { return 0 };
    let found = metadata.topics().iter().find(|t| t.name() == topic && t.error().is_none());
    found.map_or(0, |t| i32::try_from(t.partitions().len()).unwrap())
}

fn ends(consumer: &BaseConsumer, topic: &str) -> BTreeMap<i32, (i64, i64)> {
    let ends_of = |partition| {
        let mut found = None;
        // A partition that was made a moment ago has no leader yet.
        await_that(&format!("the ends of {topic}/{partition}"), || {
            found = consumer.fetch_watermarks(topic, partition, ANSWER).ok();
            found.is_some()
        });
        (partition, found.unwrap())
    };
    (0..layout(consumer, topic)).map(ends_of).collect()
}

fn committed(consumer: &BaseConsumer, topic: &str) -> Result<BTreeMap<i32, i64>, KafkaError> {
    let mut list = TopicPartitionList::new();
    for partition in 0..layout(consumer, topic) {
        list.add_partition(topic, partition);
    }
    let found = consumer.committed_offsets(list, Duration::from_secs(5))?;
    let mut offsets = BTreeMap::new();
    for element in found.elements() {
        element.error()?;
        if let Offset::Offset(offset) = element.offset() {
            offsets.insert(element.partition(), offset);
        }
    }
    Ok(offsets)
}

/// Polls until it is so.
#[track_caller]
pub fn await_that(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
