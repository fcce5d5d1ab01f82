//! What `make bench` measures pressline against, with bare rdkafka and nothing in between:
//!
//! - `read`: a consumer that only reads.
//! - `pass`: a transactional relay that writes the same bytes it reads, offsets in the transaction.
//! - `delay`: a read_committed consumer that prints how old records are when they arrive (p50, p99 in ms).
//!
//! Usage: `bench_peer MODE BOOTSTRAP TOPIC RECORDS [OUTPUT_TOPIC]`

#![allow(clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// As pressline's defaults, so that both commit as often.
const BATCH_RECORDS: usize = 20_000;
const BATCH_WAIT: Duration = Duration::from_millis(20);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [mode, bootstrap, topic, records, rest @ ..] = args.as_slice() else {
        panic!("usage: bench_peer read|pass|delay BOOTSTRAP TOPIC RECORDS [OUTPUT_TOPIC]");
    };
    let records: u64 = records.parse().expect("RECORDS is a number");
    let began = Instant::now();
    match (mode.as_str(), rest) {
        ("read", []) => read(bootstrap, topic, records),
        ("pass", [output]) => pass(bootstrap, topic, records, output),
        ("delay", []) => delay(bootstrap, topic, records),
        _ => panic!("unknown mode"),
    }
    println!("seconds {:.3}", began.elapsed().as_secs_f64());
}

fn consumer(bootstrap: &str, start: &str) -> BaseConsumer {
    let group = format!("bench-{}", std::process::id());
    ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .set("check.crcs", "true")
        .set("auto.offset.reset", start)
        .set("queued.max.messages.kbytes", "49152")
        .set("fetch.queue.backoff.ms", "10")
        .create()
        .expect("consumer")
}

fn read(bootstrap: &str, topic: &str, records: u64) {
    let consumer = consumer(bootstrap, "earliest");
    consumer.subscribe(&[topic]).expect("subscribe");
    let (mut seen, mut bytes) = (0, 0);
    while seen < records {
        if let Some(record) = consumer.poll(Duration::from_millis(100)) {
            bytes += record.expect("record").payload_len();
            seen += 1;
        }
    }
    println!("records {seen} bytes {bytes}");
}

fn pass(bootstrap: &str, topic: &str, records: u64, output: &str) {
    let consumer = consumer(bootstrap, "earliest");
    consumer.subscribe(&[topic]).expect("subscribe");
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("transactional.id", format!("bench-{}", std::process::id()))
        .set("partitioner", "murmur2_random")
        .set("compression.type", "lz4")
        // As pressline's own: what is gathered is sent by the flush of the commit.
        .set("linger.ms", "1000")
        .set("retry.backoff.ms", "10")
        .set("batch.num.messages", "10000")
        .set("queue.buffering.max.messages", "200000")
        .set("delivery.report.only.error", "true")
        .create()
        .expect("producer");
    producer.init_transactions(Duration::from_secs(30)).expect("init");
    let mut seen = 0;
    while seen < records {
        let mut batch = Vec::new();
        let mut deadline = Instant::now() + Duration::from_millis(100);
        while batch.len() < BATCH_RECORDS {
            let polled =
                consumer.poll(Duration::ZERO).or_else(|| consumer.poll(deadline - Instant::now().min(deadline)));
            let Some(record) = polled else {
                if Instant::now() >= deadline {
                    break;
                }
                continue;
            };
            if batch.is_empty() {
                deadline = Instant::now() + BATCH_WAIT;
            }
            batch.push(record.expect("record"));
        }
        if batch.is_empty() {
            continue;
        }
        let group = consumer.group_metadata().expect("group");
        producer.begin_transaction().expect("begin");
        let mut offsets = std::collections::BTreeMap::new();
        for record in &batch {
            offsets.insert(record.partition(), record.offset() + 1);
            let mut out: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(output);
            out.key = record.key();
            out.payload = record.payload();
            out.timestamp = record.timestamp().to_millis();
            while let Err((_, back)) = producer.send(out) {
                producer.poll(Duration::from_millis(1));
                out = back;
            }
        }
        let mut list = TopicPartitionList::new();
        for (partition, offset) in offsets {
            list.add_partition_offset(topic, partition, Offset::Offset(offset)).expect("offset");
        }
        producer.send_offsets_to_transaction(&list, &group, Duration::from_secs(30)).expect("offsets");
        producer.commit_transaction(Duration::from_secs(30)).expect("commit");
        seen += batch.len() as u64;
    }
    println!("records {seen}");
}

fn delay(bootstrap: &str, topic: &str, records: u64) {
    let consumer = consumer(bootstrap, "latest");
    consumer.subscribe(&[topic]).expect("subscribe");
    let mut delays = Vec::new();
    // The first tenth is the warm-up of both sides.
    let warm_up = records / 10;
    let mut seen = 0;
    while seen < records {
        let Some(record) = consumer.poll(Duration::from_millis(100)) else { continue };
        let record = record.expect("record");
        seen += 1;
        if seen > warm_up {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("clock").as_secs_f64() * 1000.0;
            delays.push(now - record.timestamp().to_millis().unwrap_or(0) as f64);
        }
    }
    delays.sort_by(f64::total_cmp);
    let at = |share: f64| delays.get((delays.len() as f64 * share) as usize).copied().unwrap_or(f64::NAN);
    println!("p50_ms {:.0} p99_ms {:.0} max_ms {:.0} records {}", at(0.5), at(0.99), at(1.0 - 1e-9), delays.len());
}
