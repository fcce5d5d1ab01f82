//! `generate` and `consume` against the broker that `PRESSLINE_TEST_BOOTSTRAP` names (`PRESSLINE_TEST_REGISTRY` for
//! Avro); skipped where there is none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use pressline::consume::{self, ConsumeArgs};
use pressline::generate::{self, GenerateArgs};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

#[derive(Parser)]
enum Command {
    Generate(GenerateArgs),
    Consume(ConsumeArgs),
}

fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok().filter(|value| !value.is_empty());
    if value.is_none() {
        println!("skipped: {name} is not set");
    }
    value
}

fn topic(name: &str) -> String {
    format!("tools_{name}_{}", uuid::Uuid::from_u64_pair(std::process::id().into(), nanos()).simple())
}

fn nanos() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos() as u64
}

fn generate(line: &str) -> Result<(), generate::GenerateError> {
    let Command::Generate(args) = Command::parse_from(format!("p generate {line}").split_whitespace()) else {
        panic!()
    };
    generate::run(&args)
}

fn consume(line: &str) -> Result<String, consume::ConsumeError> {
    let Command::Consume(args) = Command::parse_from(format!("p consume {line}").split_whitespace()) else { panic!() };
    let mut out = Vec::new();
    consume::print(&args, false, &AtomicBool::new(false), &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

fn objects(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_is_generated_is_consumed_and_no_group_comes_to_be() {
    let Some(broker) = variable("PRESSLINE_TEST_BOOTSTRAP") else { return };
    let topic = topic("raw");
    let file = tempfile::NamedTempFile::new().unwrap();
    let recipe = "--count 5000 --seed 3 --start 2026-01-01 --malformed 2%";
    generate(&format!("{recipe} --topic {topic} --create-topics --partitions 3 -b {broker}")).unwrap();
    generate(&format!("{recipe} --output {}", file.path().display())).unwrap();

    let read = objects(&consume(&format!("{topic} --from-beginning --json --show-addresses -b {broker}")).unwrap());
    assert_eq!(read.len(), 5_000);
    let mut partition_of = HashMap::new();
    for record in &read {
        let partition = partition_of.entry(record["key"].as_str().unwrap()).or_insert(&record["partition"]);
        assert_eq!(*partition, &record["partition"], "one session, one partition");
    }
    assert_eq!(read.iter().map(|r| r["partition"].as_i64()).collect::<std::collections::HashSet<_>>().len(), 3);

    // The same recipe gave the same events, in Kafka and in the file.
    let mut sent: Vec<Value> = read.iter().filter(|r| r["encoding"] == "json").map(|r| r["value"].clone()).collect();
    let lines = std::fs::read(file.path()).unwrap();
    let lines = lines.split(|b| *b == b'\n').filter_map(|line| serde_json::from_slice::<Value>(line).ok());
    let mut written: Vec<Value> = lines.collect();
    let by_text = |v: &Value| v.to_string();
    sent.sort_by_key(by_text);
    written.sort_by_key(by_text);
    assert_eq!(sent.len(), written.len());
    assert!(sent == written, "the file and the topic differ");

    let shown = consume(&format!("{topic} --from-beginning -b {broker}")).unwrap();
    assert!(shown.contains("\"ip\":\"<withheld>\""), "{shown}");
    for ip in read.iter().filter_map(|r| r["value"]["ip"].as_str()).filter(|ip| *ip != "300.1.2.3") {
        assert!(!shown.contains(&format!("\"{ip}\"")), "an address is shown");
    }

    assert_eq!(consume(&format!("{topic} -b {broker}")).unwrap().lines().count(), 30, "the last 10 of 3 partitions");
    assert_eq!(consume(&format!("{topic} --partition 1 --from=-4 -b {broker}")).unwrap().lines().count(), 4);
    assert_eq!(consume(&format!("{topic} --from-beginning --max 7 -b {broker}")).unwrap().lines().count(), 7);
    let half = "2026-01-01T00:00:10Z";
    let later = objects(&consume(&format!("{topic} --from {half} --json -b {broker}")).unwrap());
    let expected = read.iter().filter(|r| r["timestamp"].as_i64() >= Some(1_767_225_610_000)).count();
    assert_eq!(later.len(), expected);
    assert!(expected > 1_000);

    let watcher: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &broker).create().unwrap();
    let groups = watcher.fetch_group_list(None, Duration::from_secs(10)).unwrap();
    let ours: Vec<&str> =
        groups.groups().iter().map(|g| g.name()).filter(|n| n.contains("pressline-consume")).collect();
    assert!(ours.is_empty(), "the broker knows {ours:?}");
}

#[test]
fn avro_is_decoded_by_the_registry() {
    let (Some(broker), Some(registry)) = (variable("PRESSLINE_TEST_BOOTSTRAP"), variable("PRESSLINE_TEST_REGISTRY"))
    else {
        return;
    };
    let topic = topic("avro");
    let schema = r#"{"type":"record","name":"Tool","fields":[{"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},{"name":"what","type":"string"}]}"#;
    let id = register(&registry, &topic, schema);
    // 1_000_000 µs as a zigzag varint, then "hi".
    let datum = [0x80, 0x89, 0x7a, 4, b'h', b'i'];
    generate(&format!("--count 1 --malformed 0 --topic {topic} --create-topics -b {broker}")).unwrap();
    let producer: BaseProducer = ClientConfig::new().set("bootstrap.servers", &broker).create().unwrap();
    for value in [&[&[0u8][..], &id.to_be_bytes(), &datum].concat()[..], b"\xff\xfe"] {
        producer.send(BaseRecord::to(&topic).key("k").payload(value)).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    let flags = format!("-b {broker} --registry {registry}");
    let shown = consume(&format!("{topic} --from-beginning {flags}")).unwrap();
    assert!(shown.contains(r#" k {"at":"1970-01-01T00:00:01.000000Z","what":"hi"}"#), "{shown}");
    assert!(shown.contains(" k \"fffe\""), "{shown}");
    let read = objects(&consume(&format!("{topic} --from-beginning --json {flags}")).unwrap());
    let avro = read.iter().find(|r| r["encoding"] == "avro").unwrap();
    assert_eq!((avro["schema_id"].as_u64(), avro["value"]["at"].as_i64()), (Some(id.into()), Some(1_000_000)));
}

fn register(url: &str, topic: &str, schema: &str) -> u32 {
    let config = pressline::config::RegistryConfig {
        url: url.into(),
        username: None,
        password_file: None,
        ca: None,
        timeout_ms: 10_000,
    };
    let registry = pressline::registry::Registry::new(&config).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(registry.ensure(&format!("{topic}-value"), schema, true)).unwrap().0
}

#[test]
fn missing_topics_and_partitions_are_named() {
    let Some(broker) = variable("PRESSLINE_TEST_BOOTSTRAP") else { return };
    let topic = topic("none");
    // `-X`: the test's broker may make topics by itself.
    let flags = format!("-b {broker} -X allow.auto.create.topics=false");
    let error = consume(&format!("{topic} {flags}")).unwrap_err().to_string();
    assert_eq!(error, format!("topic {topic} does not exist"));
    generate(&format!("--count 1 --topic {topic} --create-topics -b {broker}")).unwrap();
    let error = consume(&format!("{topic} --partition 9 {flags}")).unwrap_err().to_string();
    assert_eq!(error, format!("topic {topic} has no partition 9; it has 3, from 0 on"));
}
