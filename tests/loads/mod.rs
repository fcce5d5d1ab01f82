//! A pipeline with one sink, run as a user runs it: its topic, its files, records in Confluent's wire format.

pub mod change_log;
pub mod codes;
pub mod evolve;
pub mod orders;
pub mod record_types;
pub mod rights;
pub mod search;
pub mod upgrade;
pub mod upserts;

use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::Output;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use pressline::avro::registry::Registry;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::cluster::{Cluster, PATIENCE, Raw};
use crate::relay::{self as process, Relay};

/// A number and a time, one record a minute.
const SCHEMA: &str = r#"{"type": "record", "name": "row", "fields": [{"name": "n", "type": "long"},
    {"name": "t", "type": {"type": "long", "logicalType": "timestamp-micros"}}]}"#;
/// 2026-01-01T00:00:00Z, in microseconds.
const FIRST_US: i64 = 1_767_225_600_000_000;

/// One test's pipeline.
pub struct Load {
    pub cluster: Cluster,
    pub name: String,
    pub topic: String,
    pub sink: &'static str,
    schema_id: u32,
    dir: tempfile::TempDir,
}

/// A pipeline, or `None`, said aloud, where there are no services. `tables` gives the sink's tables of the pipeline's file,
/// from the pipeline's name.
pub fn load(test: &str, sink: &'static str, tables: impl Fn(&str) -> String) -> Option<Load> {
    let (Ok(bootstrap), Ok(registry)) =
        (std::env::var("PRESSLINE_TEST_BOOTSTRAP"), std::env::var("PRESSLINE_TEST_REGISTRY"))
    else {
        println!("skipped: PRESSLINE_TEST_BOOTSTRAP and PRESSLINE_TEST_REGISTRY are not set");
        return None;
    };
    let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() % 10_000_000_000;
    let name = format!("{test}_{since}");
    let (topic, dead) = (name.clone(), format!("{name}.dead"));
    let cluster = Cluster::at(&bootstrap);
    cluster.create_topics(&[(&topic, 2), (&dead, 1)]);
    let load = Load {
        schema_id: register(&registry, &format!("{topic}-value"), SCHEMA),
        cluster,
        topic,
        sink,
        dir: tempfile::tempdir().unwrap(),
        name,
    };
    load.write("password", &std::env::var(format!("PRESSLINE_TEST_{}_PASSWORD", sink.to_uppercase())).unwrap());
    load.write(
        "pressline.toml",
        &format!(
            "[http]\nlisten = \"127.0.0.1:0\"\n\n[kafka]\nbootstrap_servers = \"{bootstrap}\"\n\n[registry]\nurl = \
             \"{registry}\"\n"
        ),
    );
    load.write(
        &format!("pipelines/{}.toml", load.name),
        &format!("[sink]\ntopic = \"{}\"\n{}", load.topic, tables(&load.name)),
    );
    Some(load)
}

fn register(url: &str, subject: &str, schema: &str) -> u32 {
    use figment::providers::{Format, Toml};
    let config = figment::Figment::from(Toml::string(&format!("url = \"{url}\""))).extract().unwrap();
    let (subject, schema) = (subject.to_string(), schema.to_string());
    // On a thread of its own: tests may run inside a runtime.
    let ask = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let registry = Registry::new(&config).unwrap();
        runtime.block_on(registry.ensure(&subject, &schema, true)).unwrap().0
    };
    std::thread::spawn(ask).join().unwrap()
}

impl Load {
    pub fn write(&self, name: &str, text: &str) {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.path().join(name)).unwrap()
    }

    /// Another schema of the topic's records, apart from what its own subject takes; its id.
    pub fn register(&self, schema: &str) -> u32 {
        let subject = format!("{}-of-{}-bytes", self.topic, schema.len());
        register(&process::service("PRESSLINE_TEST_REGISTRY"), &subject, schema)
    }

    pub fn group(&self) -> String {
        format!("pressline.{}.{}", self.name, self.sink)
    }

    /// The value of the record with this number.
    pub fn value(&self, number: i64) -> Vec<u8> {
        static PARSED: std::sync::LazyLock<Schema> = std::sync::LazyLock::new(|| Schema::parse_str(SCHEMA).unwrap());
        let fields = vec![
            ("n".to_string(), Value::Long(number)),
            ("t".to_string(), Value::TimestampMicros(FIRST_US + number * 60_000_000)),
        ];
        let datum = GenericDatumWriter::builder(&PARSED).build().unwrap();
        let datum = datum.write_value_to_vec(Value::Record(fields)).unwrap();
        [&[0][..], &self.schema_id.to_be_bytes(), &datum].concat()
    }

    /// Records with these numbers.
    pub fn send(&self, partition: i32, numbers: std::ops::Range<i64>) {
        let records: Vec<Raw> = numbers.map(|number| Raw::value(partition, self.value(number))).collect();
        self.cluster.send(&self.topic, &records);
    }

    /// A record that no table takes.
    pub fn send_junk(&self, partition: i32) {
        self.cluster.send(&self.topic, &[Raw::value(partition, "junk")]);
    }

    /// Records in one transaction, so that its marker ends the partition.
    pub fn send_in_one_transaction(&self, partition: i32, numbers: std::ops::Range<i64>) {
        let producer = self.transactional();
        producer.begin_transaction().unwrap();
        for number in numbers {
            let value = self.value(number);
            producer.send(BaseRecord::<[u8], [u8]>::to(&self.topic).partition(partition).payload(&value)).unwrap();
        }
        producer.commit_transaction(PATIENCE).unwrap();
    }

    fn transactional(&self) -> BaseProducer {
        let producer: BaseProducer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap())
            .set("transactional.id", &self.name)
            .create()
            .unwrap();
        producer.init_transactions(PATIENCE).unwrap();
        producer
    }

    /// Records in transactions of ten, each followed by one that is aborted: markers and aborted records leave gaps. The last
    /// record comes alone, so that the topic ends with a record.
    pub fn send_in_transactions(&self, partition: i32, numbers: std::ops::Range<i64>) {
        let producer = self.transactional();
        let send = |number| {
            let value = self.value(number);
            producer.send(BaseRecord::<[u8], [u8]>::to(&self.topic).partition(partition).payload(&value)).unwrap();
        };
        let last = numbers.end - 1;
        let numbers: Vec<i64> = (numbers.start..last).collect();
        for ten in numbers.chunks(10) {
            producer.begin_transaction().unwrap();
            ten.iter().for_each(|number| send(*number));
            producer.commit_transaction(PATIENCE).unwrap();
            producer.begin_transaction().unwrap();
            send(1_000_000);
            producer.flush(PATIENCE).unwrap();
            producer.abort_transaction(PATIENCE).unwrap();
        }
        self.send(partition, last..last + 1);
    }

    /// `pressline run`.
    pub fn run(&self) -> Relay {
        self.run_with(&[])
    }

    /// The same with these settings.
    pub fn run_with(&self, sets: &[&str]) -> Relay {
        let mut command = self.command();
        command.arg("run").args(sets.iter().flat_map(|set| ["--set", set]));
        Relay::spawn(command)
    }

    /// The same by another program.
    pub fn run_by(&self, program: &str) -> Relay {
        let mut command = self.command_of(program);
        // A killed one is missed soon.
        command.arg("run").args(["--set", "kafka.consumer.session.timeout.ms=8000"]);
        Relay::spawn(command)
    }

    /// The same as the user of Kafka who may nothing without a grant.
    pub fn run_as_least(&self) -> Relay {
        let mut command = self.command_as_least();
        command.arg("run").args(least_sets());
        Relay::spawn(command)
    }

    /// What `pressline check --online` says to that user.
    pub fn check_as_least(&self) -> String {
        let file = format!("pipelines/{}.toml", self.name);
        said(&self.command_as_least().args(["check", "--online", &file]).args(least_sets()).output().unwrap()).1
    }

    fn command_as_least(&self) -> std::process::Command {
        let mut command = self.command();
        command.env("PRESSLINE__KAFKA__SASL__PASSWORD", process::service("PRESSLINE_TEST_SASL_PASSWORD"));
        command
    }

    /// What `pressline check --online` says.
    pub fn check(&self) -> String {
        said(&self.command().args(["check", "--online"]).output().unwrap()).1
    }

    /// Loads all that is there, and stops.
    pub fn load_all(&self) {
        let mut run = self.run();
        self.await_loaded(&mut run);
        assert_eq!(run.stop(), 0);
    }

    pub fn await_loaded(&self, run: &mut Relay) {
        self.cluster.await_relayed(&self.group(), &self.topic, PATIENCE, || run.still_runs());
    }

    fn command(&self) -> std::process::Command {
        self.command_of(env!("CARGO_BIN_EXE_pressline"))
    }

    fn command_of(&self, program: &str) -> std::process::Command {
        let mut command = std::process::Command::new(program);
        command.current_dir(self.dir.path()).stdin(std::process::Stdio::null()).env("RUST_BACKTRACE", "0");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PRESSLINE__")) {
            command.env_remove(name);
        }
        command
    }

    /// `pressline COMMAND... --pipeline NAME --sink SINK`: whether it succeeded, and all that it said.
    pub fn tool(&self, command: &[&str]) -> (bool, String) {
        let pipeline = ["--pipeline", self.name.as_str(), "--sink", self.sink];
        said(&self.command().args(command).args(pipeline).output().unwrap())
    }

    /// The tool on a terminal, on which somebody answers with this line.
    pub fn on_a_terminal(&self, command: &[&str], answer: &str) -> (bool, String) {
        let program = env!("CARGO_BIN_EXE_pressline");
        let line = format!("{program} {} --pipeline {} --sink {}", command.join(" "), self.name, self.sink);
        let mut terminal = std::process::Command::new("script");
        terminal.current_dir(self.dir.path()).args(["--quiet", "--return", "--command", &line, "/dev/null"]);
        let (input, output) = (std::process::Stdio::piped(), std::process::Stdio::piped());
        let mut child = terminal.stdin(input).stdout(output).spawn().unwrap();
        // Kept open: its end would be taken for the end of the session, before the answer is read.
        let mut keyboard = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut keyboard, format!("{answer}\n").as_bytes()).unwrap();
        let mut text = String::new();
        std::io::Read::read_to_string(&mut child.stdout.take().unwrap(), &mut text).unwrap();
        (child.wait().unwrap().success(), text)
    }

    /// The program with these words; whether it succeeded, and all that it said.
    pub fn says(&self, words: &[&str]) -> (bool, String) {
        said(&self.command().args(words).output().unwrap())
    }

    /// The tool, which must succeed; what it said.
    #[track_caller]
    pub fn tool_ok(&self, command: &[&str]) -> String {
        let (ok, text) = self.tool(command);
        println!("$ pressline {}\n{text}", command.join(" "));
        assert!(ok, "{text}");
        text
    }

    /// The tool, which must fail, saying this.
    #[track_caller]
    pub fn tool_fails(&self, command: &[&str], parts: &[&str]) -> String {
        let (ok, text) = self.tool(command);
        println!("$ pressline {}\n{text}", command.join(" "));
        assert!(!ok, "{text}");
        process::holds_all(&text, parts);
        text
    }

    /// Runs a command that a refusal named between backticks, as it stands there, with `--yes`.
    #[track_caller]
    pub fn obey(&self, refusal: &str, beginning: &str) {
        let line = refusal.split('`').find(|code| code.starts_with(beginning));
        let line = line.unwrap_or_else(|| panic!("no `{beginning}...` in: {refusal}"));
        let words = line.split_whitespace().skip(1).chain(["--yes"]);
        let (ok, text) = said(&self.command().args(words).output().unwrap());
        assert!(ok, "{line}: {text}");
    }

    /// The pipeline is refused, saying this; what it logged.
    #[track_caller]
    pub fn refused(&self, parts: &[&str]) -> String {
        let mut run = self.run();
        assert_eq!(run.exit_code(PATIENCE), 1);
        process::holds_all(&run.log(), parts);
        run.log()
    }
}

fn least_sets() -> Vec<String> {
    process::least_user().into_iter().flat_map(|set| ["--set".to_string(), set]).collect()
}

fn said(output: &Output) -> (bool, String) {
    let text = [&output.stdout[..], &output.stderr].concat();
    (output.status.success(), String::from_utf8(text).unwrap())
}

/// A way to a service that can lose its answers.
pub struct Proxy {
    pub address: String,
    mute: Arc<AtomicBool>,
}

impl Proxy {
    /// To `host:port`.
    pub fn to(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (mute, target) = (Arc::new(AtomicBool::new(false)), target.to_string());
        let shared = Arc::clone(&mute);
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let Ok(server) = TcpStream::connect(&target) else { continue };
                let ways = [
                    (client.try_clone().unwrap(), server.try_clone().unwrap(), None),
                    (server, client, Some(Arc::clone(&shared))),
                ];
                for (from, to, mute) in ways {
                    std::thread::spawn(move || pass(from, to, mute.as_deref()));
                }
            }
        });
        Self { address, mute }
    }

    /// From now on, answers are lost, or not any more.
    pub fn lose_answers(&self, lose: bool) {
        self.mute.store(lose, Ordering::SeqCst);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mute: Option<&AtomicBool>) {
    use std::io::{Read, Write};
    let mut buffer = [0; 1 << 16];
    let mut lost = false;
    while let Ok(length) = from.read(&mut buffer) {
        lost |= mute.is_some_and(|mute| mute.load(Ordering::SeqCst));
        if length == 0 || (!lost && to.write_all(&buffer[..length]).is_err()) {
            break;
        }
    }
    if !lost {
        let _ = to.shutdown(Shutdown::Both);
    }
    // A connection whose answers were lost stays open without a word.
    let begun = Instant::now();
    while lost && begun.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(100));
    }
}
