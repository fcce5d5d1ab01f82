//! `generate` and `consume` against the broker that `PRESSLINE_TEST_BOOTSTRAP` names (`PRESSLINE_TEST_REGISTRY` for
//! Avro); skipped where there is none.

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use clap::Parser;
use pressline::command::consume::ConsumeArgs;
use pressline::command::generate::GenerateArgs;
use pressline::command::{consume, generate};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;

#[derive(Parser)]
enum Command {
    Generate(Box<GenerateArgs>),
    Consume(Box<ConsumeArgs>),
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
    let registry = pressline::avro::registry::Registry::new(&config).unwrap();
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

/// The program in the repository's folder, whose pipeline is the shipped one: exit code, standard output and error.
fn pressline(arguments: &[&str], input: &[u8]) -> (Option<i32>, String, String) {
    use std::io::Write;
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_pressline"))
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    (output.status.code(), out, err)
}

/// An event printed for people, with an address of the demo's GeoIP file and a field that nobody knows.
fn printed_event() -> String {
    let now = jiff::Timestamp::now().as_microsecond();
    format!(
        "{{\n  \"session_id\": \"66EDC67C-2731-4217-9c02-02455b3bf176\",\n  \"timestamp\": {now},\n  \"action\": \
         \"EnterPage\",\n  \"page\": \"/\",\n  \"ip\": \"157.203.138.235\"\n}}\n"
    )
}

#[test]
fn an_event_is_tried_without_kafka_and_its_address_is_not_printed() {
    let bad = r#"{"session_id":"66edc67c-2731-4217-9c02-02455b3bf176","timestamp":1,"action":"EnterPage","ip":"157.203.138.235"}"#;
    let input = format!("{}\n{bad}\n", printed_event());
    let (code, out, err) = pressline(&["try"], input.as_bytes());
    assert_eq!(code, Some(1), "a dead letter: {out}{err}");
    for line in [
        "event 1: to button_presses, key 66edc67c-2731-4217-9c02-02455b3bf176; place found",
        "  country_code      \"GB\"",
        "  city_name         \"Winnersh\"",
        "  cohort            null",
        "  not kept: 1 unknown field",
        "event 2: dead letter to raw_presses.dead: implausible_timestamp",
        "2 events = 1 written + 1 dead letter",
    ] {
        assert!(out.lines().any(|found| found == line), "{line:?} is not in\n{out}{err}");
    }
    assert!(!out.contains("157.203") && !err.contains("157.203"), "{out}{err}");

    let (code, out, _) = pressline(&["try", "--json", "--pipeline", "button_presses"], printed_event().as_bytes());
    assert_eq!(code, Some(0), "{out}");
    let object = &objects(&out)[0];
    assert_eq!(object["outcome"], "written");
    assert_eq!(object["unknown_fields"], 1);
    assert_eq!(object["value"]["country_code"], "GB");
    assert_eq!(object["value"].as_object().unwrap().len(), 13);
    // A place in which few people live is told less of, as the pipeline's file says.
    let rounded = ["try", "--set", "place.min_addresses=4000000000", "--json"];
    let (_, out, _) = pressline(&rounded, printed_event().as_bytes());
    assert_eq!(objects(&out)[0]["value"]["city_name"], "");
}

#[test]
fn an_event_of_ones_own_is_sent_and_its_offset_told() {
    let Some(broker) = variable("PRESSLINE_TEST_BOOTSTRAP") else { return };
    let topic = topic("own");
    let arguments = ["produce", "--topic", &topic, "-b", &broker];
    let (code, out, err) = pressline(&arguments, printed_event().as_bytes());
    assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
    assert!(err.contains(&format!("topic {topic} does not exist")), "{err}");

    generate(&format!("--count 1 --malformed 0 --topic {topic} --create-topics --partitions 1 -b {broker}")).unwrap();
    let input = format!("{}{{\"n\":1}}\n", printed_event());
    let (code, out, err) = pressline(&arguments, input.as_bytes());
    assert_eq!(code, Some(0), "{out}{err}");
    assert_eq!(out, format!("sent 2 events to topic {topic}\n  partition 0: offsets 1 to 2\n"));
    let read = objects(&consume(&format!("{topic} --from=-2 --json --show-addresses -b {broker}")).unwrap());
    assert_eq!(read[0]["key"], "66EDC67C-2731-4217-9c02-02455b3bf176");
    assert_eq!(read[0]["value"]["ip"], "157.203.138.235");
    assert_eq!((&read[1]["key"], &read[1]["value"]["n"]), (&Value::Null, &1.into()));
    // The same hour, said by the clock on the wall.
    assert_eq!(consume(&format!("{topic} --from -1h -b {broker}")).unwrap().lines().count(), 3);
}

#[test]
fn the_version_names_librdkafkas() {
    let (code, out, _) = pressline(&["--version"], b"");
    assert_eq!(code, Some(0));
    let expected = format!("pressline {} (", env!("CARGO_PKG_VERSION"));
    assert!(out.starts_with(&expected) && out.contains("librdkafka 2."), "{out}");
}

#[test]
fn the_tables_that_sinks_want_are_printed_without_any_service() {
    // Nor any password or certificate: the files that these name are not there.
    let sasl = "kafka.sasl={mechanism=\"PLAIN\",username=\"u\",password_file=\"no-such-file\"}";
    let kafka = [sasl, "kafka.tls.ca=no-such-file"];
    let [postgres, clickhouse] = ["postgres", "clickhouse"].map(|sink| {
        let (set, file) =
            (format!("sink.{sink}.password_file=no-such-file"), format!("docs/pipelines/{sink}-only.toml"));
        let sets = kafka.into_iter().chain([set.as_str()]).flat_map(|set| ["--set", set]);
        pressline(&["check", "--ddl", &file].into_iter().chain(sets).collect::<Vec<_>>(), b"")
    });
    assert_eq!((postgres.0, clickhouse.0), (Some(0), Some(0)), "{}{}", postgres.2, clickhouse.2);
    assert!(postgres.1.starts_with("-- pipeline postgres-only, PostgreSQL: for schema file "), "{}", postgres.1);
    assert!(
        postgres.1.contains("CREATE TABLE IF NOT EXISTS \"button_presses\" (\n    \"session_id\" "),
        "{}",
        postgres.1
    );
    assert!(postgres.1.ends_with(");\n\n"), "{}", postgres.1);
    assert!(clickhouse.1.contains("CREATE TABLE IF NOT EXISTS `presses`.`button_presses`"), "{}", clickhouse.1);
    assert!(clickhouse.1.contains("ENGINE = MergeTree"), "{}", clickhouse.1);
}
