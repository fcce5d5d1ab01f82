//! What `pressline check` says: each finding is read as a user would read it. The online ones need real services, named by
//! `PRESSLINE_TEST_BOOTSTRAP` and `PRESSLINE_TEST_REGISTRY`, and are skipped without them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "check/planned.rs"]
mod planned;
#[path = "check/sinks.rs"]
mod sinks;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use pressline::command::check::{Report, check};
use pressline::config::load::{Sources, load};
use pressline::kafka::topic_id::topic_id;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

const PIPELINE: &str = r#"
[kafka]
bootstrap_servers = "BOOTSTRAP"
[registry]
url = "REGISTRY"
timeout_ms = 20000
[source]
topic = "raw_presses"
[output]
topic = "button_presses"
schema = "s.avsc"
[place]
files = ["demo.mmdb"]
"#;

/// A folder with sound pipelines, schema and GeoIP file, to be spoilt.
struct House {
    folder: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let house = Self { folder: tempfile::tempdir().unwrap() };
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        std::fs::copy(root.join("schemas/button_presses.avsc"), house.path("s.avsc")).unwrap();
        std::fs::copy(root.join("data/demo.mmdb"), house.path("demo.mmdb")).unwrap();
        house.pipeline("p", PIPELINE);
        house
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn pipeline(&self, name: &str, text: &str) {
        let text = text.replace("BOOTSTRAP", "127.0.0.1:1").replace("REGISTRY", "http://127.0.0.1:1");
        std::fs::write(self.path(&format!("{name}.toml")), text).unwrap();
    }

    /// Appends to the pipeline, or replaces in it.
    fn with(self, from: &str, to: &str) -> Self {
        let file = self.path("p.toml");
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{from:?} is not in the pipeline");
        std::fs::write(&file, text.replacen(from, to, 1)).unwrap();
        self
    }

    fn schema(self, from: &str, to: &str) -> Self {
        let text = std::fs::read_to_string(self.path("s.avsc")).unwrap();
        assert!(text.contains(from), "{from:?} is not in the schema");
        std::fs::write(self.path("s.avsc"), text.replacen(from, to, 1)).unwrap();
        self
    }

    async fn check(&self, online: bool) -> Report {
        let sources = Sources { pipelines: vec![self.folder.path().into()], ..Sources::default() };
        match load(&sources) {
            Ok(loaded) => check(&loaded, online).await,
            Err(findings) => Report::of(findings),
        }
    }

    /// The text of an offline check, with the folder's name left out.
    async fn read(&self) -> String {
        self.text(&self.check(false).await)
    }

    fn text(&self, report: &Report) -> String {
        report.to_text().replace(&format!("{}/", self.folder.path().display()), "")
    }
}

#[track_caller]
fn has(text: &str, expected: &str) {
    assert!(text.contains(expected), "expected:\n{expected}\nfound:\n{text}");
}

#[tokio::test]
async fn a_sound_pipeline_has_no_findings() {
    let house = House::new();
    let report = house.check(false).await;
    let text = house.text(&report);
    assert_eq!(report.findings, [], "{text}");
    assert_eq!(report.exit_code(), 0);
    has(&text, "ok: p: configuration p.toml\n");
    has(&text, "ok: p: librdkafka properties\n");
    has(&text, "ok: p: timeouts are consistent\n");
    has(&text, "ok: p: GeoIP file demo.mmdb: ");
    has(&text, "ok: p: schema s.avsc\n");
    assert!(text.ends_with("0 errors, 0 warnings\n"), "{text}");
}

#[tokio::test]
async fn findings_of_the_configuration_are_taken_over() {
    let house = House::new().with("[source]", "[source]\ntopik = \"x\"");
    let report = house.check(false).await;
    assert_eq!(report.exit_code(), 1);
    has(&house.text(&report), "p.toml:8: source.topik");
    has(&house.text(&report), ": unknown key\n    did you mean `topic`? Expected one of `topic`, `format`");
    let json = report.to_json();
    assert_eq!((&json["errors"], &json["warnings"]), (&1.into(), &0.into()));
    assert_eq!(json["findings"][0]["place"], house.path("p.toml").display().to_string() + ":8");
    assert_eq!(json["findings"][0]["severity"], "error");
}

#[tokio::test]
async fn settings_of_keys_and_values_that_nobody_reads() {
    let house = House::new().with("[output]", "key.format = \"json\"\nfields = { id = \"long\" }\n[output]");
    let text = house.read().await;
    has(
        &text,
        "p.toml:9: source.key: has no effect: a relay does not read keys\n    remove it; output.key names the field",
    );
    has(&text, "source.fields: has no effect without source.format\n");
    has(&text, "2 errors, 0 warnings");
    let rows = "[kafka]\nbootstrap_servers = \"BOOTSTRAP\"\n[registry]\nurl = \"REGISTRY\"\n[source]\ntopic = \"orders\"\nSOURCE\n\
                [sink.postgres]\nuser = \"u\"\ndatabase = \"d\"\ntable = \"t\"\n";
    let changes = "mode = \"upsert\"\npk_mode = \"record_key\"\ndeletes = true\n";
    let other = "[sink.clickhouse]\nurl = \"http://127.0.0.1:9\"\ntable = \"t\"\n";
    for (source, more, expected) in [
        ("key.format = \"json\"", "", "source.key: has no effect: no sink reads the records' keys"),
        (
            "envelope = \"debezium\"\nkey.fields = { id = \"long\" }",
            changes,
            "source.key.format: not set, so that source.key.fields and source.key.cast have no effect",
        ),
        (
            "envelope = \"debezium\"\nkey.format = \"json\"",
            "",
            "source.key: has no effect: in mode = \"insert\" a log of the changes is written, and no key is read",
        ),
        (
            "envelope = \"debezium\"",
            &format!("{changes}{other}"),
            "sink.clickhouse.mode: \"insert\", a log of the changes, beside a sink that keeps its table equal",
        ),
        (
            "envelope = \"debezium\"",
            &format!("{changes}toast = \"skip\"\n{other}{changes}toast = \"skip\"\n"),
            "sink.clickhouse.toast: \"skip\", but ClickHouse writes whole rows",
        ),
        (
            "",
            &format!("{changes}toast = \"skip\"\n"),
            "sink.postgres.toast: has no effect: only changes in an envelope",
        ),
        ("", "toast = \"skip\"\n", "sink.postgres.toast: has no effect: mode is insert"),
    ] {
        house.pipeline("p", &format!("{}{more}", rows.replace("SOURCE", source)));
        let text = house.read().await;
        has(&text, expected);
        has(&text, "1 error, 0 warnings");
    }
}

#[tokio::test]
async fn a_file_of_several_topics() {
    let house = House::new();
    let text = async |source: &str, table: &str, more: &str| {
        let file = format!(
            "[kafka]\nbootstrap_servers = \"BOOTSTRAP\"\n[registry]\nurl = \"REGISTRY\"\n[source]\n{source}\n[sink.postgres]\n\
             user = \"u\"\ndatabase = \"d\"\ntable = \"{table}\"\n{more}"
        );
        house.pipeline("p", &file);
        house.read().await
    };
    let sound = text("topics = \"shop.public.*\"", "${topic.2}", "").await;
    has(&sound, "ok: p: a pipeline for each topic of the form shop.public.*; which there are, --online tells\n");
    has(&sound, "0 errors");
    for (source, table, more, expected) in [
        ("topics = \"shop.orders\"", "${topic}", "", "source.topics: without a *, so that it means one topic"),
        ("topics = \"shop.*\"", "orders", "", "sink.postgres.table: the same table for several topics"),
        ("topics = \"shop.*\"", "${topic.2}", "", "sink.postgres.table: the topic's name has no part of that number"),
        ("topics = \"shop/*\"", "${topic}", "", "source.topics: no pattern of topics' names"),
        ("topics = \"shop.*\"\ntopic = \"orders\"", "${topic}", "", "source.topics: beside a topic that is named"),
        (
            "topics = \"shop.*\"",
            "${topic}",
            "consumer.group = \"g\"\n",
            "consumer.group: one consumer group for several",
        ),
        ("topics = \"shop.*\"\nsubject = \"s\"", "${topic}", "", "source.subject: one subject for several topics"),
    ] {
        let text = text(source, table, more).await;
        has(&text, expected);
        has(&text, "1 error, 0 warnings");
    }
}

#[tokio::test]
async fn properties_that_librdkafka_does_not_take() {
    let house = House::new().with(
        "[registry]",
        "properties.fetch.wait.max.msec = 5\nconsumer.fetch.min.bytes = \"many\"\nproducer.linger.millis = 1\n[registry]",
    );
    let text = house.read().await;
    has(
        &text,
        "error: p.toml:4: kafka.properties.fetch.wait.max.msec: librdkafka does not take it: No such configuration",
    );
    has(&text, "error: p.toml:5: kafka.consumer.fetch.min.bytes: librdkafka does not take it: ");
    has(&text, "error: p.toml:6: kafka.producer.linger.millis: librdkafka does not take it: ");
    has(&text, "fix or remove it; librdkafka's CONFIGURATION.md lists names and values");
    has(&text, "3 errors, 0 warnings");
    assert!(!text.contains("many"), "the value is not repeated: {text}");
}

#[tokio::test]
async fn time_outs_that_contradict_each_other() {
    for (setting, expected) in [
        (
            "producer.transaction.timeout.ms = 30000",
            "p.toml:4: kafka.producer.transaction.timeout.ms: transaction.timeout.ms is 30000 and session.timeout.ms is \
             30000 by default, but transaction.timeout.ms must be below session.timeout.ms: what a dead worker left open \
             must have ended before another reads its partitions\n    lower transaction.timeout.ms or raise \
             session.timeout.ms",
        ),
        (
            "consumer.session.timeout.ms = 10000",
            "kafka.consumer.session.timeout.ms: transaction.timeout.ms is 20000 by default and session.timeout.ms is 10000",
        ),
        (
            "producer.message.timeout.ms = 20000",
            "message.timeout.ms must be below transaction.timeout.ms: a message must",
        ),
        ("producer.delivery.timeout.ms = 0", "kafka.producer.message.timeout.ms: message.timeout.ms is unlimited and"),
        ("properties.socket.timeout.ms = 25000", "kafka.properties.socket.timeout.ms: socket.timeout.ms is 25000"),
        (
            "consumer.max.poll.interval.ms = 60000",
            "session.timeout.ms is 30000 by default and max.poll.interval.ms is 60000, but session.timeout.ms must be \
             below 1/2 of max.poll.interval.ms",
        ),
        ("producer.linger.ms = 15000", "linger.ms must be below message.timeout.ms: a message must be sent before"),
    ] {
        let house = House::new().with("[registry]", &format!("{setting}\n[registry]"));
        has(&house.read().await, expected);
    }
    let house = House::new()
        .with("\n[kafka]", "delivery = \"at_least_once\"\n[kafka]")
        .with("[registry]", "producer.message.timeout.ms = 20000\n[registry]");
    has(&house.read().await, "0 errors, 0 warnings");
}

#[tokio::test]
async fn headers_that_would_carry_the_address() {
    for name in ["X-Forwarded-For", "forwarded", "X_Real_IP", "CF-Connecting-IP", "true-client-ip", "remote_addr"] {
        let house = House::new().with("[output]", &format!("headers = [\"trace\", \"{name}\"]\n[output]"));
        has(
            &house.read().await,
            &format!(
                "error: p.toml:9: source.headers: header `{name}` would carry the address into the output topic\n    \
                 remove it from the list: the address goes nowhere but into the place lookup"
            ),
        );
    }
    let house = House::new().with("[output]", "headers = [\"visitor-ip\", \"zip\", \"shipping\"]\n[output]");
    let report = house.check(false).await;
    has(
        &house.text(&report),
        "warning: p.toml:9: source.headers: header `visitor-ip` sounds as if it carried an address",
    );
    has(&house.text(&report), "0 errors, 1 warning\n");
    assert_eq!(report.exit_code(), 0, "warnings alone do not fail");
}

#[tokio::test]
async fn place_files_that_are_none() {
    let house = House::new().with("\"demo.mmdb\"", "\"absent.mmdb\", \"s.avsc\"");
    let text = house.read().await;
    has(&text, "error: p.toml:13: place.files: absent.mmdb: cannot be read: ");
    has(&text, "s.avsc: not a MaxMind DB file");
}

const PARIS: &str = "2988507\tParis\tParis\tLutetia\t48.85341\t2.3488\tP\tPPLC\tFR\t\t11\t\t\t\t2138551\t\t42\tEurope/Paris\t2026-01-01\n";

#[tokio::test]
async fn gazetteer_files_that_cannot_be_used() {
    let gazetteer =
        "\"demo.mmdb\"]\n[place.gazetteer]\ncities = \"c.txt\"\nsubdivisions = \"s.txt\"\ncountries = \"i.txt\"";
    let house = House::new().with("\"demo.mmdb\"]", gazetteer);
    std::fs::write(house.path("c.txt"), format!("{PARIS}{}", PARIS.replace("48.85341", "north"))).unwrap();
    std::fs::write(house.path("s.txt"), "FR.11\n").unwrap();
    let text = house.read().await;
    has(
        &text,
        "error: p.toml:15: place.gazetteer.cities: c.txt:2: column 5 (latitude): found `north`, expected degrees from -90 to \
         90\n    take the file from GeoNames' dump as it is, or fix the line\n",
    );
    has(
        &text,
        "error: p.toml:16: place.gazetteer.subdivisions: s.txt:1: the line: found 1 columns, expected the 4 columns",
    );
    has(&text, "error: p.toml:17: place.gazetteer.countries: i.txt: cannot be read: ");
    has(&text, "3 errors, 0 warnings\n");

    std::fs::write(house.path("c.txt"), PARIS).unwrap();
    let house = house.with("subdivisions = \"s.txt\"\ncountries = \"i.txt\"", "");
    let report = house.check(false).await;
    let text = house.text(&report);
    has(&text, "ok: p: gazetteer: 1 cities\n");
    has(
        &text,
        "warning: p.toml:14: place.gazetteer.subdivisions: not set: of cities with one name in a country the largest",
    );
    assert_eq!(report.exit_code(), 0, "warnings alone do not fail");
}

#[tokio::test]
async fn geocoders_that_would_be_shut_out_or_overheard() {
    let with = |table: &str| House::new().with("\"demo.mmdb\"]", &format!("\"demo.mmdb\"]\n[place.geocoder]\n{table}"));
    let url = "url = \"https://geocoder.example.org\"\n";
    has(&with(url).read().await, "error: p.toml:14: place.geocoder.contact: required and not set");
    let text = with(&format!("{url}contact = \"me\"\nrequests_per_second = 0")).read().await;
    has(
        &text,
        "error: p.toml:16: place.geocoder.contact: no mail or web address\n    say how the server's owner can reach you",
    );
    has(&text, "error: p.toml:17: place.geocoder.requests_per_second: out of range");
    let text =
        with("url = \"http://geocoder.example.org\"\ncontact = \"ops@example.org\"\ncache_file = \"g\"").read().await;
    has(&text, "warning: p.toml:15: place.geocoder.url: http:// to another machine: the names of the places");
    has(&text, "0 errors, 1 warning\n");
    let local = "url = \"http://127.0.0.1:8080\"\ncontact = \"ops@example.org\"\ncache_file = \"g\"";
    let text = with(local).read().await;
    has(&text, "ok: p: geocoder 127.0.0.1, asked about places only\n");
    has(&text, "0 errors, 0 warnings\n");
    has(
        &with(&local.replace("\"g\"", "\"absent/g\"")).read().await,
        "error: p.toml:17: place.geocoder.cache_file: not in a folder that is there",
    );
    let public =
        "url = \"https://nominatim.openstreetmap.org\"\ncontact = \"ops@example.org\"\nrequests_per_second = 2";
    let text = with(public).read().await;
    has(&text, "warning: p.toml:17: place.geocoder.requests_per_second: more than the 1 that the usage policy");
    has(&text, "warning: p.toml:14: place.geocoder.cache_file: not set: after each restart");
    has(
        &with("url = \"https://u:p@example.org\"\ncontact = \"ops@example.org\"").read().await,
        "error: p.toml:15: place.geocoder.url: holds a user name or password",
    );
}

#[tokio::test]
async fn schemas_that_readers_stumble_over() {
    let house =
        House::new().schema(r#"{"type": "string", "logicalType": "uuid"}"#, r#""string", "logicalType": "uuid""#);
    has(
        &house.read().await,
        "error: s.avsc:6: session_id: logicalType `uuid` stands beside `type`, where readers ignore it and see a plain \
         string\n    put it inside: \"type\": {\"type\": \"string\", \"logicalType\": \"uuid\"}",
    );
    let house = House::new().schema(r#""default": null, "doc": "Group"#, r#""default": "null", "doc": "Group"#);
    has(
        &house.read().await,
        "s.avsc:8: cohort: the default is the text \"null\", but the union's first branch is null",
    );
    let house = House::new().schema("session_id", "session");
    has(&house.read().await, "error: s.avsc: session_id: the schema has no such field");
    let house = House::new().with("s.avsc", "absent.avsc");
    has(&house.read().await, "error: absent.avsc: cannot be read: ");
}

#[tokio::test]
async fn registry_settings_that_cannot_work() {
    let house = House::new()
        .with("http://127.0.0.1:1", "https://127.0.0.1:1")
        .with("timeout_ms", "ca = \"s.avsc\"\ntimeout_ms");
    has(&house.read().await, "p.toml:6: registry.ca: s.avsc: holds no certificate");
}

#[tokio::test]
async fn pipelines_in_each_others_way() {
    let house = House::new();
    house.pipeline("q", &PIPELINE.replace("[source]", "[source]\ngroup = \"pressline.p\""));
    let text = house.read().await;
    has(&text, "error: q.toml:8: source.group: consumer group pressline.p is used by pipeline p too");
    has(
        &text,
        "error: q.toml:11: output.topic: pipeline p relays raw_presses to button_presses too: every event would be written twice",
    );
    let house = House::new().with("\n[kafka]", "name = \"a.b\"\ninstance = \"c\"\nworkers = 2\n[kafka]");
    house.pipeline("q", &PIPELINE.replace("\n[kafka]", "name = \"a\"\ninstance = \"b.c\"\n[kafka]"));
    has(&house.read().await, "q.toml:2: instance: pipeline a.b has the transactional.id pressline.a.b.c.0 too");
    let house = House::new();
    house.pipeline("q", &PIPELINE.replace("\"button_presses\"", "\"other\""));
    has(&house.read().await, "0 errors, 0 warnings");
}

#[tokio::test]
async fn services_that_are_not_there() {
    let house = House::new();
    let text = house.text(&house.check(true).await);
    has(&text, "error: p.toml:3: kafka.bootstrap_servers: no broker at 127.0.0.1:1 answers: ");
    has(&text, "Connection refused");
    has(&text, "start the broker, or correct host and port in kafka.bootstrap_servers");
    has(&text, "error: p.toml:5: registry.url: schema registry http://127.0.0.1:1: not available: ");
    has(&text, "2 errors, 0 warnings");
}

/// Real brokers and names that nobody used before.
struct Services {
    bootstrap: String,
    registry: String,
    unique: String,
}

impl Services {
    fn from_environment() -> Option<Self> {
        let unique = format!("check-{}", SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos());
        match (std::env::var("PRESSLINE_TEST_BOOTSTRAP"), std::env::var("PRESSLINE_TEST_REGISTRY")) {
            (Ok(bootstrap), Ok(registry)) => Some(Self { bootstrap, registry, unique }),
            _ => {
                println!("skipped: PRESSLINE_TEST_BOOTSTRAP and PRESSLINE_TEST_REGISTRY are not set");
                None
            }
        }
    }

    fn house(&self) -> House {
        House::new()
            .with("127.0.0.1:1", &self.bootstrap)
            .with("http://127.0.0.1:1", &self.registry)
            .with("\n[kafka]", &format!("name = \"{}\"\n[kafka]", self.unique))
            .with("raw_presses", &self.raw())
            .with("button_presses", &self.out())
    }

    fn raw(&self) -> String {
        format!("raw-{}", self.unique)
    }

    fn out(&self) -> String {
        format!("out-{}", self.unique)
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.bootstrap);
        client
    }

    fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client().create().unwrap()
    }

    async fn topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (key, value) in settings {
            topic = topic.set(key, value);
        }
        self.admin().create_topics(&[topic], &AdminOptions::new()).await.unwrap().remove(0).unwrap();
        let (consumer, begun) = (self.consumer(), Instant::now());
        let is_there = || {
            let found = consumer.fetch_metadata(Some(name), Duration::from_secs(20)).unwrap();
            found.topics().iter().any(|topic| topic.partitions().len() == partitions as usize)
        };
        while !is_there() {
            assert!(begun.elapsed() < Duration::from_secs(30), "topic {name} is not there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn topics(&self) {
        self.topic(&self.raw(), 3, &[("retention.ms", "86400000")]).await;
        self.topic(&self.out(), 3, &[]).await;
        self.topic(&format!("{}.dead", self.raw()), 1, &[]).await;
        // Of sinks.
        self.topic(&format!("{}.dead", self.out()), 1, &[]).await;
    }

    fn write(&self, topic: &str, records: usize) {
        let producer: BaseProducer = self.client().create().unwrap();
        for _ in 0..records {
            producer.send(BaseRecord::<(), str>::to(topic).payload("x").partition(0)).unwrap();
        }
        producer.flush(Duration::from_secs(20)).unwrap();
    }

    fn commit(&self, offset: i64, note: &str) {
        let consumer = self.consumer();
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.raw(), 0, Offset::Offset(offset)).unwrap();
        list.find_partition(&self.raw(), 0).unwrap().set_metadata(note);
        consumer.commit(&list, CommitMode::Sync).unwrap();
    }

    fn consumer(&self) -> BaseConsumer {
        self.client().set("group.id", format!("pressline.{}", self.unique)).create().unwrap()
    }
}

#[tokio::test]
async fn online_doors_that_stay_shut() {
    let Some(services) = Services::from_environment() else { return };
    let (Ok(sasl), Ok(tls)) =
        (std::env::var("PRESSLINE_TEST_BOOTSTRAP_SASL"), std::env::var("PRESSLINE_TEST_BOOTSTRAP_TLS"))
    else {
        println!("skipped: PRESSLINE_TEST_BOOTSTRAP_SASL and PRESSLINE_TEST_BOOTSTRAP_TLS are not set");
        return;
    };
    let table =
        "sasl = { mechanism = \"SCRAM-SHA-256\", username = \"presser\", password_file = \"pw\", plaintext = true }\n";
    let house = services.house().with(&services.bootstrap, &sasl).with("[registry]", &format!("{table}[registry]"));
    std::fs::write(house.path("pw"), "a-wrong-one").unwrap();
    let text = house.text(&house.check(true).await);
    has(&text, &format!("kafka.bootstrap_servers: no broker at {sasl} answers: "));
    has(&text, "uthentication failed");
    has(&text, "set kafka.sasl (mechanism, username, and its password");
    assert!(!text.contains("a-wrong-one"), "{text}");

    let house = services.house().with(&services.bootstrap, &tls).with("[registry]", "tls = {}\n[registry]");
    let text = house.text(&house.check(true).await);
    has(&text, "certificate verify failed");
    has(&text, "set kafka.tls.ca to the authority that signed the broker's certificate");
}

#[tokio::test]
async fn online_topics_that_are_missing() {
    let Some(services) = Services::from_environment() else { return };
    let house = services.house();
    let text = house.text(&house.check(true).await);
    let (raw, out) = (services.raw(), services.out());
    for (key, topic) in [("source", &raw), ("output", &out), ("dead_letter", &format!("{raw}.dead"))] {
        let what = format!("topic {topic} does not exist");
        has(&text, &format!("{key}.topic: {what}\n    create it: pressline topics create p.toml\n"));
    }
    has(&text, &format!("subject {out}-value: compatible, will be registered at start"));
    has(&text, "3 errors, 0 warnings");
}

#[tokio::test]
async fn online_topics_of_sinks_that_are_missing() {
    let Some(services) = Services::from_environment() else { return };
    let sinks = "[sink]\ntopic = \"TOPIC\"\n[sink.clickhouse]\nurl = \"http://127.0.0.1:1\"\ntable = \"t\"\n[place]";
    let house = services.house().with("[place]", &sinks.replace("TOPIC", "nobodys"));
    let text = house.text(&house.check(true).await);
    has(&text, "sink.topic: topic nobodys does not exist\n    fix its name, or let whoever fills it make it\n");
    let what = "sink.clickhouse.consumer.dead_letter_topic: topic nobodys.dead does not exist";
    has(&text, &format!("{what}\n    create it: pressline topics create p.toml\n"));
    // The relay's own output is told of once.
    let house = services.house().with("[place]", &sinks.replace("TOPIC", &services.out()));
    let text = house.text(&house.check(true).await);
    assert_eq!(text.matches(&format!("topic {} does not exist", services.out())).count(), 1, "{text}");
    has(&text, &format!("dead_letter_topic: topic {}.dead does not exist", services.out()));
}

#[tokio::test]
async fn online_all_is_well() {
    let Some(services) = Services::from_environment() else { return };
    services.topics().await;
    services.write(&services.raw(), 5);
    let house = services.house();
    let text = house.text(&house.check(true).await);
    println!("{text}");
    has(&text, &format!("topic {}: 3 partitions", services.raw()));
    has(&text, "offsets on 0 of 3 partitions, about 5 records to relay");
    has(&text, "transactions of 20000 ms, the broker allows 900000");
    has(&text, "0 errors, 0 warnings");
}

#[tokio::test]
async fn online_no_offsets_while_the_output_is_not_empty() {
    let Some(services) = Services::from_environment() else { return };
    services.topics().await;
    services.write(&services.out(), 1);
    let house = services.house();
    let text = house.text(&house.check(true).await);
    has(
        &text,
        &format!(
            "source.start: group pressline.{} has no offsets, but output topic {} is not empty",
            services.unique,
            services.out()
        ),
    );
    has(&text, "--sink relay --to 2026-01-31T12:00:00Z` with a time, an offset, `beginning` or `end`");
    let house = house.with("[output]", "start = \"beginning\"\n[output]");
    has(&house.text(&house.check(true).await), "0 errors, 0 warnings");
}

#[tokio::test]
async fn online_positions_that_are_gone() {
    let Some(services) = Services::from_environment() else { return };
    services.topics().await;
    let (raw, house) = (services.raw(), services.house());
    services.write(&raw, 10);
    services.commit(4, "");
    let text = house.text(&house.check(true).await);
    has(&text, "offsets on 1 of 3 partitions, about 6 records to relay");

    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&raw, 0, Offset::Offset(7)).unwrap();
    services.admin().delete_records(&list, &AdminOptions::new()).await.unwrap();
    let text = house.text(&house.check(true).await);
    has(
        &text,
        &format!(
            "source.topic: topic {raw}, partition 0: offsets 4 to 6 were deleted by retention before they were relayed"
        ),
    );
    has(&text, "--sink relay --partition 0 --to 7`");

    services.commit(99, "");
    let text = house.text(&house.check(true).await);
    has(&text, "partition 0: the group's offset 99 lies past the end 10: the topic was recreated or truncated");

    let current = topic_id(services.consumer().client(), &raw, Duration::from_secs(10)).unwrap().unwrap();
    services.commit(8, &format!("pressline/1 topic_id={current} partitions=3"));
    has(&house.text(&house.check(true).await), "0 errors, 0 warnings");
    services.commit(8, "pressline/1 topic_id=AAAAAAAAAAAAAAAAAAAAAA partitions=3");
    let text = house.text(&house.check(true).await);
    has(
        &text,
        &format!(
            "topic {raw} was deleted and made again: the group's offset of partition 0 belongs to topic id AAAAAAAAAAAAAAAAAAAAAA, the topic there now has id {current}"
        ),
    );
}

#[tokio::test]
async fn online_settings_of_topics_and_brokers() {
    let Some(services) = Services::from_environment() else { return };
    let (raw, out) = (services.raw(), services.out());
    services.topic(&raw, 1, &[("retention.ms", "2592000000")]).await;
    services.topic(&out, 1, &[("cleanup.policy", "compact"), ("min.insync.replicas", "2")]).await;
    services.topic(&format!("{raw}.dead"), 1, &[]).await;
    let house = services
        .house()
        .with("\n[kafka]", "\nworkers = 2\n[kafka]")
        .with("[registry]", "producer.transaction.timeout.ms = 1000000\nconsumer.session.timeout.ms = 1100000\nconsumer.max.poll.interval.ms = 3600000\n[registry]");
    let text = house.text(&house.check(true).await);
    has(
        &text,
        &format!(
            "warning: p.toml:12: source.topic: topic {raw} keeps raw addresses for 30 days, and up to 7 days longer until their segment is deleted (segment.ms); expected at most 7 days\n    kafka-configs.sh --bootstrap-server {} --alter --topic {raw} --add-config retention.ms=604800000",
            services.bootstrap
        ),
    );
    has(&text, &format!("output.topic: topic {out} is compacted: of the presses of one session only the last is kept"));
    has(
        &text,
        &format!(
            "output.topic: topic {out} has 1 replica, but min.insync.replicas is 2: older brokers refuse every write"
        ),
    );
    has(&text, &format!("workers: 2 workers, but topic {raw} has 1 partition: the rest will idle"));
    has(&text, "transaction.timeout.ms is 1000000, but the broker allows 900000 (transaction.max.timeout.ms)");
}

#[tokio::test]
async fn online_how_long_addresses_are_kept() {
    let Some(services) = Services::from_environment() else { return };
    let (raw, out) = (services.raw(), services.out());
    let tiered = [
        ("remote.storage.enable", "true"),
        ("retention.ms", "2592000000"),
        ("local.retention.ms", "3600000"),
        ("segment.ms", "86400000"),
    ];
    services.topic(&raw, 1, &tiered).await;
    services.topic(&out, 1, &[]).await;
    services.topic(&format!("{raw}.dead"), 1, &[]).await;
    let keeps = format!(
        "topic {raw} keeps raw addresses for 30 days, 1 hour of it on the brokers' own disks and all of it in tiered storage, \
         and up to 1 day longer until their segment is deleted (segment.ms)"
    );
    let report = services.house().check(true).await;
    has(&report.to_text(), &format!("source.topic: {keeps}; expected at most 7 days"));
    assert_eq!(report.exit_code(), 0, "only a warning where nothing is stated");
    has(&report.data_flow(), &format!("| topic {raw}, kept for 30 days, 1 hour of it on"));
    let stated = |ms: &str| services.house().with("\n[output]", &format!("\nmax_raw_retention_ms = {ms}\n[output]"));
    let report = stated("2592000000").check(true).await;
    has(&report.to_text(), &format!("source.max_raw_retention_ms: {keeps}; stated are at most 30 days"));
    has(&report.to_text(), "--add-config retention.ms=2332800000,segment.ms=259200000");
    assert_eq!(report.exit_code(), 1);
    let report = stated("2678400000").check(true).await;
    has(&report.to_text(), &format!("{keeps}, as was stated"));
    assert_eq!(report.exit_code(), 0);
}

#[tokio::test]
async fn the_data_flow_names_the_origin_of_everything_that_leaves() {
    let house = House::new()
        .with("\n[output]", "\nheaders = [\"traceparent\"]\n[output]")
        .schema("\"fields\": [", "\"fields\": [{\"name\": \"ip\", \"type\": \"string\", \"default\": \"\"},");
    let text = house.check(false).await.data_flow();
    for row in [
        "| p | ingress `ip` | `ip` | - | yes: the address itself | topic raw_presses, by its retention |",
        "| p | key | `session_id` | validation of its type | yes: a pseudonym of the visitor | topic button_presses, by its retention |",
        "| p | value `ip` | configuration or program | - | no | topic button_presses, by its retention |",
        "| p | value `city_name` | the address | place lookup | yes, beside the session id | topic button_presses, by its retention |",
        "| p | header `traceparent` | ingress header `traceparent` | dropped with an address in it | as the sender fills it | topic button_presses, by its retention |",
        "| p | key | topic, partition, offset | - | points at a raw record while that is kept | topic raw_presses.dead, by its retention |",
        "| p | label `reason` | configuration or program | - | no | metrics, where they are scraped to |",
    ] {
        has(&text, row);
    }
    let names: Vec<&str> = ["value", "time", "header", "note", "label", "text"].to_vec();
    assert!(names.iter().all(|part| text.contains(&format!("| p | {part}"))), "{text}");
    let count = text.lines().count() - 2;
    has(
        &house.read().await,
        &format!("p: data flow: {count} outputs traced, none derived from the IP address except via the GeoIP lookup"),
    );
}

#[tokio::test]
async fn the_data_flow_names_what_is_told_of_places_elsewhere() {
    let geocoder =
        "\n[place.geocoder]\nurl = \"http://127.0.0.1:1\"\ncontact = \"ops@example.org\"\ncache_file = \"answers\"\n";
    let house = House::new()
        .with("\n[output]", &format!("{geocoder}[output]"))
        .with("files = [", "build_header = true\nfiles = [");
    let text = house.check(false).await.data_flow();
    let alone = "the address | place lookup | a place that somebody was in, without who or when";
    has(
        &text,
        &format!(
            "| p | request `country, subdivision, city` | {alone} | geocoder http://127.0.0.1:1, as its operator says |"
        ),
    );
    has(&text, &format!("| p | text `country, subdivision, city` | {alone} | file "));
    has(
        &text,
        "| p | header `pressline.place_build` | the address | place lookup | yes, beside the session id | topic button_presses",
    );
}

#[tokio::test]
async fn a_header_that_carries_the_address_breaks_the_rule() {
    let house = House::new().with("\n[output]", "\nheaders = [\"X_Forwarded-For\"]\n[output]");
    let report = house.check(false).await;
    has(&report.data_flow(), "| p | header `X_Forwarded-For` | the address | dropped with an address in it |");
    assert_eq!(report.exit_code(), 1);
    assert!(!report.to_text().contains("none comes from the address"));
}

#[tokio::test]
async fn online_a_schema_the_registry_does_not_take() {
    let Some(services) = Services::from_environment() else { return };
    let client = reqwest_client();
    let subject = format!("{}-value", services.out());
    let put = |method: reqwest::Method, path: String, body: String| {
        let url = format!("{}{path}", services.registry);
        client.request(method, url).header("content-type", "application/vnd.schemaregistry.v1+json").body(body).send()
    };
    let old = r#"{"type":"record","name":"button_presses","fields":[{"name":"session_id","type":"int"}]}"#;
    let body = serde_json::json!({ "schema": old }).to_string();
    let posted = put(reqwest::Method::POST, format!("/subjects/{subject}/versions"), body).await.unwrap();
    assert!(posted.status().is_success());
    let level = r#"{"compatibility":"BACKWARD"}"#.to_string();
    assert!(put(reqwest::Method::PUT, format!("/config/{subject}"), level).await.unwrap().status().is_success());
    let house = services.house();
    let text = house.text(&house.check(true).await);
    has(
        &text,
        &format!(
            "output.schema: schema registry {}: subject {subject}: our schema is incompatible with version 1",
            services.registry
        ),
    );
    has(&text, "field `session_id`: version 1 has int, ours has string (uuid)");
    let house = house.with("schema =", "register = false\nsubject = \"nobody-has-it\"\nschema =");
    let text = house.text(&house.check(true).await);
    has(&text, "output.register: schema registry");
    has(
        &text,
        "subject nobody-has-it: our schema is not registered, and output.register is false\n    register the schema there",
    );
}

fn reqwest_client() -> reqwest::Client {
    // Installs the TLS provider that reqwest needs.
    let config = pressline::config::RegistryConfig {
        url: "http://127.0.0.1:1".into(),
        username: None,
        password_file: None,
        ca: None,
        timeout_ms: 1,
    };
    drop(pressline::avro::registry::Registry::new(&config).unwrap());
    reqwest::Client::builder().tls_certs_only([]).no_proxy().build().unwrap()
}

/// A certificate of its own authority, and its key: what a managed Kafka hands out.
fn certificate(folder: &Path) {
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-subj",
            "/CN=service",
        ])
        .args(["-days", "1", "-keyout", "service.key", "-out", "service.cert"])
        .current_dir(folder)
        .output()
        .expect("openssl runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    std::fs::copy(folder.join("service.cert"), folder.join("ca.pem")).unwrap();
}

#[tokio::test]
async fn the_example_pipelines_have_no_findings() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    let folders = ["docs/pipelines", "pipelines/orders"].map(|folder| std::fs::read_dir(root.join(folder)).unwrap());
    for entry in folders.into_iter().flatten() {
        let file = entry.unwrap().path();
        // Fixtures of `pressline test`.
        if file.display().to_string().ends_with(".test.toml") {
            continue;
        }
        let folder = tempfile::tempdir().unwrap();
        certificate(folder.path());
        for secret in ["kafka", "registry", "postgres", "clickhouse"] {
            std::fs::write(folder.path().join(secret), "secret\n").unwrap();
        }
        let here = folder.path().display().to_string();
        let text = std::fs::read_to_string(&file).unwrap();
        // Their brokers and registry stand in pressline.toml, unless they name some.
        let shared = if text.contains("[kafka]") { None } else { Some(root.join("pressline.toml")) };
        let text = text
            .replace("/etc/pressline/kafka", &here)
            .replace("/run/secrets", &here)
            .replace("\"../../", &format!("\"{}/", root.display()));
        let copy = folder.path().join(file.file_name().unwrap());
        std::fs::write(&copy, text).unwrap();
        let shared = shared.or_else(|| {
            let empty = folder.path().join("shared.conf");
            std::fs::write(&empty, "").unwrap();
            Some(empty)
        });
        let loaded = load(&Sources { shared, pipelines: vec![copy], sets: Vec::new() });
        let report = match loaded {
            Ok(loaded) => check(&loaded, false).await,
            Err(findings) => Report::of(findings),
        };
        assert_eq!(report.findings, [], "{}: {}", file.display(), report.to_text());
        seen += 1;
    }
    assert!(seen >= 6, "only {seen} examples are found");
}
