//! `pressline topics create` as a user runs it, against a real Kafka with tiered storage, named by `PRESSLINE_TEST_BOOTSTRAP`;
//! without it these tests say that they were skipped.
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

/// A folder with one pipeline, whose topics nobody else has.
struct House {
    folder: tempfile::TempDir,
    name: String,
    bootstrap: String,
}

fn house(test: &str) -> Option<House> {
    let Ok(bootstrap) = std::env::var("PRESSLINE_TEST_BOOTSTRAP") else {
        println!("skipped: PRESSLINE_TEST_BOOTSTRAP is not set");
        return None;
    };
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let house = House { folder: tempfile::tempdir().unwrap(), name: format!("topics-{test}-{since}"), bootstrap };
    std::fs::create_dir(house.folder.path().join("pipelines")).unwrap();
    Some(house)
}

impl House {
    /// Writes the pipeline with these tables beside those that it cannot do without.
    fn pipeline(&self, tables: &str) {
        let (name, root) = (&self.name, Path::new(env!("CARGO_MANIFEST_DIR")).display());
        let text = format!(
            "kafka.bootstrap_servers = \"{}\"\nregistry.url = \"http://127.0.0.1:1\"\n\
             place.files = [\"{root}/data/demo.mmdb\"]\n[source]\ntopic = \"{name}-raw\"\n\
             [output]\ntopic = \"{name}\"\nschema = \"{root}/schemas/button_presses.avsc\"\n{tables}",
            self.bootstrap
        );
        std::fs::write(self.folder.path().join("pipelines/p.toml"), text).unwrap();
    }

    /// Exit code and all that was said.
    fn create(&self, arguments: &[&str]) -> (i32, String) {
        let output = Command::new(env!("CARGO_BIN_EXE_pressline"))
            .args(["topics", "create"])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("PRESSLINE__KAFKA__SASL__PASSWORD", std::env::var("PRESSLINE_TEST_SASL_PASSWORD").unwrap_or_default())
            .output()
            .unwrap();
        let said = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()).concat();
        (output.status.code().unwrap(), said)
    }

    /// A setting as the broker has it.
    fn setting(&self, topic: &str, name: &str) -> String {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let asked = [ResourceSpecifier::Topic(topic)];
        let options = AdminOptions::new();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let answers = runtime.block_on(admin.describe_configs(&asked, &options)).unwrap();
        let resource = answers.into_iter().next().unwrap().unwrap();
        resource.get(name).and_then(|entry| entry.value.clone()).unwrap_or_default()
    }

    fn partitions(&self, topic: &str) -> usize {
        let admin: AdminClient<DefaultClientContext> = self.client().create().unwrap();
        let metadata = admin.inner().fetch_metadata(Some(topic), Duration::from_secs(10)).unwrap();
        metadata.topics().first().map_or(0, |found| found.partitions().len())
    }

    fn client(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config
    }
}

#[track_caller]
fn has(text: &str, expected: &str) {
    assert!(text.contains(expected), "expected:\n{expected}\nfound:\n{text}");
}

const TABLES: &str = r#"
[source.create]
partitions = 2
replication = 1
settings = { retention.ms = "2 days" }
[output.create.settings]
cleanup.policy = "compact,delete"
max.message.bytes = "2 MiB"
[sink]
dead_letter.create.partitions = 1
[sink.postgres]
database = "d"
user = "u"
table = "t"
[sink.clickhouse]
url = "http://127.0.0.1:1"
table = "t"
consumer.dead_letter_topic = "NAME-letters"
"#;

#[test]
fn missing_topics_are_made_as_described_and_then_nothing_is_left_to_do() {
    let Some(house) = house("made") else { return };
    house.pipeline(&TABLES.replace("NAME", &house.name));
    let (raw, out) = (format!("{}-raw", house.name), house.name.clone());

    let (code, said) = house.create(&["--dry-run"]);
    assert_eq!(code, 1, "{said}");
    has(&said, &format!("topic {raw} is missing, and would be made"));
    assert_eq!(house.partitions(&raw), 0, "a dry run made a topic");

    let (code, said) = house.create(&[]);
    assert_eq!(code, 0, "{said}");
    has(&said, &format!("made topic {raw} with 2 partitions, replication 1"));
    // The broker's own number where there is none in the file.
    has(&said, &format!("made topic {out} with 3 partitions, replication 1"));
    has(&said, &format!("made topic {raw}.dead with 3 partitions"));
    has(&said, &format!("made topic {out}.dead with 1 partition, "));
    has(&said, &format!("made topic {out}-letters with 1 partition, "));
    assert_eq!(house.setting(&raw, "retention.ms"), "172800000");
    assert_eq!(house.setting(&out, "cleanup.policy"), "compact,delete");
    assert_eq!(house.setting(&out, "max.message.bytes"), "2097152");

    let (code, said) = house.create(&["--apply"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(said.lines().filter(|line| line.ends_with(": as described")).count(), 5, "{said}");
    assert_eq!(said.lines().count(), 5, "{said}");
}

#[test]
fn what_differs_is_shown_and_changed_only_when_asked() {
    let Some(house) = house("differs") else { return };
    let (raw, dead) = (format!("{}-raw", house.name), format!("{}-raw.dead", house.name));
    let described =
        "[source.create]\npartitions = 2\nsettings = { retention.ms = \"2 days\", segment.bytes = \"1 MiB\" }\n";
    house.pipeline(described);
    assert_eq!(house.create(&[]).0, 0);

    house.pipeline(
        "[source.create]\npartitions = 4\nsettings.retention.ms = \"1 day\"\n[dead_letter.create.settings]\n\
         cleanup.policy = \"compact\"\n",
    );
    for arguments in [&[][..], &["--dry-run"], &["--dry-run", "--apply"]] {
        let (code, said) = house.create(arguments);
        assert_eq!(code, 1, "{said}");
        has(&said, &format!("topic {raw} differs:\n  SETTING "));
        has(&said, "partitions    2                   4                 a key's new records may land in another");
        has(&said, "retention.ms  172800000 (2 days)  86400000 (1 day)  records older than that are deleted");
        has(&said, &format!("topic {dead} differs:"));
        has(&said, "of each key only the newest record is kept");
        let last = if arguments.contains(&"--apply") { "the brokers would change it" } else { "without --apply" };
        has(&said, last);
        assert_eq!((house.partitions(&raw), house.setting(&raw, "retention.ms")), (2, "172800000".into()));
    }

    let (code, said) = house.create(&["--apply"]);
    assert_eq!(code, 0, "{said}");
    has(&said, "  changed\n");
    // A broker knows of a change that its controller has made a little later.
    let wanted = (4, "86400000".to_string());
    let begun = Instant::now();
    while (house.partitions(&raw), house.setting(&raw, "retention.ms")) != wanted {
        assert!(begun.elapsed() < Duration::from_secs(60), "{} partitions", house.partitions(&raw));
        std::thread::sleep(Duration::from_millis(100));
    }
    // Of what is not described any more nothing is taken back.
    assert_eq!(house.setting(&raw, "segment.bytes"), "1048576");
    assert_eq!(house.setting(&dead, "cleanup.policy"), "compact");
    let (code, said) = house.create(&[]);
    assert_eq!(code, 0, "{said}");
}

#[test]
fn what_kafka_does_not_do_is_said_and_the_rest_is_done() {
    let Some(house) = house("cannot") else { return };
    let raw = format!("{}-raw", house.name);
    house.pipeline("[source.create]\npartitions = 3\n");
    assert_eq!(house.create(&[]).0, 0);
    house.pipeline("[source.create]\npartitions = 2\nreplication = 3\nsettings.retention.ms = \"1 day\"\n");
    let (code, said) = house.create(&["--apply"]);
    assert_eq!(code, 1, "{said}");
    has(&said, "Kafka takes no partitions away: fix the number in the file");
    has(&said, "kafka-reassign-partitions.sh");
    has(&said, "  changed, all but 2\n");
    assert_eq!((house.partitions(&raw), house.setting(&raw, "retention.ms")), (3, "86400000".into()));
}

#[test]
fn a_refusal_of_the_broker_says_what_to_do_and_the_other_topics_are_made() {
    let Some(house) = house("refused") else { return };
    house.pipeline(
        "[source.create]\nreplication = 3\n[output.create.settings]\nno.such.setting = 1\n[dead_letter.create]\n\
         partitions = 1\n",
    );
    for arguments in [&["--dry-run"][..], &[]] {
        let (code, said) = house.create(arguments);
        assert_eq!(code, 1, "{said}");
        has(&said, &format!("error: topic {}-raw: cannot be made: ", house.name));
        has(&said, "the cluster has 1 broker: fix `replication` in the file, or add brokers");
        has(&said, &format!("error: topic {}: cannot be made: ", house.name));
        has(&said, "no.such.setting");
        has(&said, "fix the setting in the file\n");
    }
    assert_eq!(house.partitions(&format!("{}-raw.dead", house.name)), 1);
}

#[test]
fn tiered_storage_is_set_and_its_settings_are_changed() {
    let Some(house) = house("tiered") else { return };
    let tiers = |local: &str| {
        format!(
            "[output.create.settings]\nremote.storage.enable = true\nretention.ms = \"30 days\"\nlocal.retention.ms = \"{local}\"\n\
             local.retention.bytes = \"1 GiB\"\n"
        )
    };
    house.pipeline(&tiers("6 h"));
    let (code, said) = house.create(&[]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(house.setting(&house.name, "remote.storage.enable"), "true");
    assert_eq!(house.setting(&house.name, "local.retention.ms"), "21600000");
    assert_eq!(house.setting(&house.name, "local.retention.bytes"), "1073741824");

    house.pipeline(&tiers("3 h"));
    let (code, said) = house.create(&["--apply"]);
    assert_eq!(code, 0, "{said}");
    has(&said, "local.retention.ms  21600000 (6 hours)  10800000 (3 hours)");
    assert_eq!(house.setting(&house.name, "local.retention.ms"), "10800000");

    // More on the brokers than in all: their own words tell it.
    house.pipeline(&tiers("60 days"));
    let (code, said) = house.create(&["--apply"]);
    assert_eq!(code, 1, "{said}");
    has(&said, "local.retention.ms");
    has(&said, "cannot be changed: ");
    assert_eq!(house.setting(&house.name, "local.retention.ms"), "10800000");

    // Tiered storage is on in these brokers: nobody is told to switch it on.
    house.pipeline(
        &tiers("3 h").replace("[output.create.settings]", "[output.create.settings]\ncleanup.policy = \"compact\""),
    );
    let (code, said) = house.create(&["--apply"]);
    assert_eq!(code, 1, "{said}");
    has(&said, "fix the setting in the file\n");
    assert!(!said.contains("tiered storage on"), "{said}");
}

#[test]
fn a_user_without_rights_learns_which_are_missing() {
    let Some(house) = house("rights") else { return };
    let (Ok(user), Ok(bootstrap)) =
        (std::env::var("PRESSLINE_TEST_SASL_LEAST_USER"), std::env::var("PRESSLINE_TEST_BOOTSTRAP_SASL"))
    else {
        println!("skipped: PRESSLINE_TEST_SASL_LEAST_USER is not set");
        return;
    };
    house.pipeline("");
    let servers = format!("kafka.bootstrap_servers={bootstrap}");
    let user = format!("kafka.sasl.username={user}");
    let sets = ["--set", &servers, "--set", "kafka.sasl.mechanism=PLAIN", "--set", &user];
    let (code, said) = house.create(&[&sets[..], &["--set", "kafka.sasl.plaintext=true"]].concat());
    assert_eq!(code, 1, "{said}");
    has(
        &said,
        &format!("error: topic {}: this user may not see whether it is there: grant Describe on the topic", house.name),
    );
}

#[test]
fn two_descriptions_of_one_topic_must_agree() {
    let folder = tempfile::tempdir().unwrap();
    let pipeline = |name: &str, more: &str| {
        let text = format!(
            "kafka.bootstrap_servers = \"127.0.0.1:1\"\nregistry.url = \"http://127.0.0.1:1\"\nsource.topic = \"{name}-raw\"\n\
             output = {{ topic = \"{name}\", schema = \"s.avsc\" }}\ndead_letter.topic = \"letters\"\nplace.files = [\"x\"]\n{more}"
        );
        std::fs::write(folder.path().join(format!("{name}.toml")), text).unwrap();
    };
    pipeline("a", "dead_letter.create.partitions = 1\n");
    pipeline("b", "dead_letter.create.partitions = 2\n");
    let output = Command::new(env!("CARGO_BIN_EXE_pressline"))
        .args(["topics", "create"])
        .arg(folder.path())
        .current_dir(folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    let what = "topic letters is described otherwise by a.toml:7: dead_letter.create";
    has(&said, &format!("error: b.toml:7: dead_letter.create: {what}\n"));
    assert!(!said.contains("error: error"), "{said}");
}
