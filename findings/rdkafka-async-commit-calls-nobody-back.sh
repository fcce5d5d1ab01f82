#!/usr/bin/env bash
# Guess:     rdkafka's `ConsumerContext::commit_callback` is called with what became of a commit, as its documentation says: of automatic
#            ones, and of those that the program asks for by `consumer.commit(.., CommitMode::Async)`.
# Happens:   Only of automatic ones. Since rdkafka reads librdkafka's events and sets no callback, an asynchronous commit by hand has nobody
#            to answer to: whether the broker took or refused it (a rebalance does, and then the group's offset stays behind for good in a
#            topic in which nothing more comes), no callback comes. A refusal is a line in librdkafka's log, no more.
# Versions:  rdkafka 0.39.0 with librdkafka 2.12.1 (crates.io), librdkafka's own mock broker
# pressline: commits by the consumer's own queue (rd_kafka_commit_queue), from which the answer comes, and again what was refused.
set -euo pipefail
. "$(dirname "$0")/common.sh"

cat >Cargo.toml <<'TOML'
[package]
name = "finding"
version = "0.1.0"
edition = "2024"

[[bin]]
name = "finding"
path = "finding.rs"

[dependencies]
rdkafka = { version = "=0.39.0", default-features = false, features = ["libz-static"] }
rdkafka-sys = "=4.10.0"
TOML
cat >finding.rs <<'RUST'
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext};
use rdkafka::error::KafkaResult;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::{ClientConfig, ClientContext, Offset, TopicPartitionList};

#[derive(Default)]
struct Heard(AtomicUsize);

impl ClientContext for Heard {}

impl ConsumerContext for Heard {
    fn commit_callback(&self, _: KafkaResult<()>, _: &TopicPartitionList) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn main() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("t", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &brokers).create().unwrap();
    for _ in 0..10 {
        producer.send(BaseRecord::<(), [u8]>::to("t").payload(b"record")).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    for automatic in [true, false] {
        let consumer: BaseConsumer<Heard> = ClientConfig::new()
            .set("bootstrap.servers", &brokers)
            .set("group.id", format!("automatic {automatic}"))
            .set("auto.offset.reset", "earliest")
            .set("enable.auto.commit", automatic.to_string())
            .set("auto.commit.interval.ms", "500")
            .create_with_context(Heard::default())
            .unwrap();
        consumer.subscribe(&["t"]).unwrap();
        let (began, mut read) = (Instant::now(), 0);
        while read < 10 {
            read += consumer.poll(Duration::from_millis(100)).is_some() as usize;
            assert!(began.elapsed() < Duration::from_secs(60), "nothing to read");
        }
        if !automatic {
            let mut list = TopicPartitionList::new();
            list.add_partition_offset("t", 0, Offset::Offset(10)).unwrap();
            consumer.commit(&list, CommitMode::Async).unwrap();
        }
        let began = Instant::now();
        while began.elapsed() < Duration::from_secs(5) {
            consumer.poll(Duration::from_millis(100));
        }
        let mut asked = TopicPartitionList::new();
        asked.add_partition("t", 0);
        let offset = consumer.committed_offsets(asked, Duration::from_secs(30)).unwrap().elements()[0].offset();
        let commit = if automatic { "an automatic commit" } else { "commit(.., CommitMode::Async)" };
        let heard = if consumer.context().0.load(Relaxed) > 0 { "called" } else { "never called" };
        println!("{commit}: the broker has {offset:?}, commit_callback was {heard}");
    }
}
RUST
cargo build --quiet >build.log 2>&1 || { cat build.log; exit 1; }
target/debug/finding >>seen.txt
as_stated <<'END'
an automatic commit: the broker has Offset(10), commit_callback was called
commit(.., CommitMode::Async): the broker has Offset(10), commit_callback was never called
END
