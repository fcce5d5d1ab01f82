//! The harness: topics and a configuration of its own for each test, and pressline as a child process whose log, readiness
//! and metrics can be asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use serde_json::Value;

use crate::cluster::{Cluster, PATIENCE, Raw, Record};

/// Tests that measure how the relay copes with kills run alone; all others side by side.
static CALM: RwLock<()> = RwLock::new(());

/// Held for the length of a test.
pub enum Turn {
    /// Beside others.
    Shared { _guard: RwLockReadGuard<'static, ()> },
    /// Alone.
    Alone { _guard: RwLockWriteGuard<'static, ()> },
}

/// One test's world: its own topics, group, names and directory.
pub struct World {
    pub cluster: Cluster,
    pub registry: String,
    pub name: String,
    pub raw: String,
    pub out: String,
    pub dead: String,
    dir: tempfile::TempDir,
    _turn: Turn,
}

/// The value of a variable that the stack sets.
pub fn service(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests by tests/stack/stack.py run"))
}

/// A world with topics of three partitions, or `None`, said aloud, where there are no services.
pub fn world(test: &str) -> Option<World> {
    make(test, 3, || Turn::Shared { _guard: CALM.read().unwrap_or_else(|poisoned| poisoned.into_inner()) })
}

/// The same for a test that must run alone.
pub fn calm_world(test: &str, partitions: i32) -> Option<World> {
    make(test, partitions, || Turn::Alone { _guard: CALM.write().unwrap_or_else(|poisoned| poisoned.into_inner()) })
}

fn make(test: &str, partitions: i32, turn: impl FnOnce() -> Turn) -> Option<World> {
    let (Ok(bootstrap), Ok(registry)) =
        (std::env::var("PRESSLINE_TEST_BOOTSTRAP"), std::env::var("PRESSLINE_TEST_REGISTRY"))
    else {
        println!("skipped: PRESSLINE_TEST_BOOTSTRAP and PRESSLINE_TEST_REGISTRY are not set");
        return None;
    };
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let turn = turn();
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() % 10_000_000_000;
    let name = format!("{test}-{since}-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let world = World {
        cluster: Cluster::at(&bootstrap),
        registry,
        raw: format!("{name}-raw"),
        out: format!("{name}-out"),
        dead: format!("{name}-raw.dead"),
        dir: tempfile::tempdir().unwrap(),
        name,
        _turn: turn,
    };
    world.cluster.create_topics(&[(&world.raw, partitions), (&world.out, partitions), (&world.dead, partitions)]);
    world.write_configuration();
    Some(world)
}

/// A file of the project.
pub fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

impl World {
    /// A path in the test's directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    }

    fn write_configuration(&self) {
        self.write(
            "pressline.toml",
            &format!(
                "[http]\nlisten = \"127.0.0.1:0\"\n\n[kafka]\nbootstrap_servers = \"{}\"\n\n[registry]\nurl = \"{}\"\n",
                self.cluster.bootstrap(),
                self.registry
            ),
        );
        self.write(&format!("pipelines/{}.toml", self.name), &self.pipeline());
    }

    /// The pipeline's file.
    pub fn pipeline(&self) -> String {
        format!(
            "[source]\ntopic = \"{}\"\n\n[output]\ntopic = \"{}\"\nschema = \"{}\"\n\n[place]\nfiles = [\"{}\"]\n",
            self.raw,
            self.out,
            project("schemas/button_presses.avsc").display(),
            project("data/demo.mmdb").display(),
        )
    }

    pub fn group(&self) -> String {
        format!("pressline.{}", self.name)
    }

    /// pressline in the test's directory, with no setting of ours in its environment.
    pub fn pressline(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pressline"));
        command.current_dir(self.dir.path()).stdin(Stdio::null());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("PRESSLINE__")) {
            command.env_remove(name);
        }
        command
    }

    /// `pressline run` with settings (`section.key=value`).
    pub fn run(&self, sets: &[&str]) -> Relay {
        self.run_with(sets, |_| {})
    }

    pub fn run_with(&self, sets: &[&str], change: impl FnOnce(&mut Command)) -> Relay {
        let mut command = self.pressline();
        command.arg("run");
        for set in sets {
            command.args(["--set", set]);
        }
        change(&mut command);
        Relay::spawn(command)
    }

    /// `pressline generate` into the raw topic.
    pub fn generate(&self, arguments: &[&str]) -> Child {
        let mut command = self.pressline();
        command.args(["generate", "--json", "--topic", &self.raw]).args(arguments);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Sends records to the raw topic.
    pub fn send(&self, records: &[Raw]) {
        self.cluster.send(&self.raw, records);
    }

    /// Waits until everything in the raw topic is relayed.
    pub fn await_relayed(&self, relay: &mut Relay) {
        self.cluster.await_relayed(&self.group(), &self.raw, PATIENCE, || relay.still_runs());
    }

    pub fn committed(&self) -> BTreeMap<i32, i64> {
        self.cluster.committed(&self.group(), &self.raw)
    }

    /// The output topic, decoded.
    pub fn output(&self) -> Vec<(Record, Value)> {
        let schema =
            Schema::parse_str(&std::fs::read_to_string(project("schemas/button_presses.avsc")).unwrap()).unwrap();
        self.cluster.read(&self.out).into_iter().map(|record| (record.clone(), decode(&schema, &record))).collect()
    }

    pub fn dead_letters(&self) -> Vec<Record> {
        self.cluster.read(&self.dead)
    }
}

/// A value in the wire format.
pub fn decode(schema: &Schema, record: &Record) -> Value {
    let value = record.value.as_deref().expect("a value");
    assert_eq!(value[0], 0, "the magic byte of the Confluent wire format");
    let mut datum = &value[5..];
    let decoded = GenericDatumReader::builder(schema).build().unwrap().read_value(&mut datum).unwrap();
    assert!(datum.is_empty(), "{} bytes after the datum", datum.len());
    Value::try_from(decoded).unwrap()
}

/// A session id that tells the number.
pub fn session(number: u128) -> String {
    uuid::Uuid::from_u128(number).to_string()
}

/// Microseconds since 1970.
pub fn now_us() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// A sound press.
pub fn press(session_number: u128) -> String {
    format!(
        "{{\"session_id\":\"{}\",\"timestamp\":{},\"cohort\":null,\"action\":\"PressButton\",\"ip\":\"8.8.8.8\"}}",
        session(session_number),
        now_us()
    )
}

/// Sound presses for one partition, with these numbers.
pub fn presses(partition: i32, numbers: std::ops::Range<u128>) -> Vec<Raw> {
    numbers.map(|number| Raw::value(partition, press(number))).collect()
}

/// A pressline that runs; killed when dropped.
pub struct Relay {
    child: Child,
    log: Arc<Mutex<String>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Relay {
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (pipe, into) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&log));
        let reader = std::thread::spawn(move || {
            for line in pipe.split(b'\n').map_while(Result::ok) {
                let mut log = into.lock().unwrap();
                log.push_str(&String::from_utf8_lossy(&line));
                log.push('\n');
            }
        });
        Self { child, log, reader: Some(reader) }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// Waits for a text in the log.
    #[track_caller]
    pub fn await_log(&mut self, text: &str) {
        let begun = Instant::now();
        while !self.log().contains(text) {
            let ended = self.child.try_wait().unwrap();
            let late = begun.elapsed() > PATIENCE;
            // What it said last may still be on its way through the pipe.
            if ended.is_some() || late {
                self.finish_reading(Duration::from_secs(2));
                assert!(self.log().contains(text), "no {text:?} in the log (ended: {ended:?}):\n{}", self.log());
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    #[track_caller]
    pub fn still_runs(&mut self) {
        if let Some(status) = self.child.try_wait().unwrap() {
            panic!("pressline ended: {status}\n{}", self.log());
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    fn http(&mut self) -> SocketAddr {
        self.await_log("metrics on http://");
        let log = self.log();
        let after = log.split("metrics on http://").nth(1).unwrap();
        after.split('/').next().unwrap().parse().unwrap()
    }

    /// Status and body of a page.
    pub fn get(&mut self, path: &str) -> (u16, String) {
        self.request("GET", path)
    }

    /// The same with another method.
    pub fn request(&mut self, method: &str, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_string())
    }

    #[track_caller]
    pub fn await_ready(&mut self) {
        self.await_page(200, "ready");
    }

    /// Waits until `/readyz` has this status and says this.
    #[track_caller]
    pub fn await_page(&mut self, status: u16, text: &str) {
        let begun = Instant::now();
        loop {
            self.still_runs();
            let (found, body) = self.get("/readyz");
            if found == status && body.contains(text) {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "/readyz is {found}: {body}\nwanted {status}: {text}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Metrics by name and labels, as they are rendered.
    pub fn metrics(&mut self) -> Metrics {
        let (status, body) = self.get("/metrics");
        assert_eq!(status, 200);
        let samples = body.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
        Metrics(samples.map(|(name, value)| (name.to_string(), value.parse().unwrap())).collect())
    }

    pub fn signal(&self, name: &str) {
        let done = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// SIGTERM; the exit code, which must come in time.
    #[track_caller]
    pub fn stop(&mut self) -> i32 {
        self.still_runs();
        self.signal("TERM");
        self.exit_code(Duration::from_secs(10))
    }

    /// Waits for the end; the exit code.
    #[track_caller]
    pub fn exit_code(&mut self, patience: Duration) -> i32 {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                self.finish_reading(Duration::from_secs(5));
                return code(status, &self.log());
            }
            assert!(begun.elapsed() < patience, "still running after {patience:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn finish_reading(&mut self, patience: Duration) {
        let begun = Instant::now();
        while self.reader.as_ref().is_some_and(|reader| !reader.is_finished()) && begun.elapsed() < patience {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn code(status: ExitStatus, log: &str) -> i32 {
    status.code().unwrap_or_else(|| panic!("ended by a signal: {status}\n{log}"))
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            println!("--- log of pressline:\n{}", self.log());
        }
    }
}

/// What `/metrics` said.
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    /// Sum over all labels.
    pub fn sum(&self, name: &str) -> f64 {
        self.with(name, "")
    }

    /// Sum over the samples whose labels hold this text, such as `reason="bad_ip"`.
    pub fn with(&self, name: &str, label: &str) -> f64 {
        let named =
            |sample: &str| sample.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with('{'));
        self.0.iter().filter(|(sample, _)| named(sample) && sample.contains(label)).map(|(_, value)| value).sum()
    }
}

/// Gives the user who may nothing a grant, by Kafka's own tool, as `kafka-acls.sh` calls it.
pub fn kafka_acls(grant: &[String]) {
    let java = Command::new(project("tests/stack/find-java.sh")).output().unwrap();
    let mut tool = Command::new(String::from_utf8(java.stdout).unwrap().trim());
    tool.args(["-cp", &format!("{}/*", service("PRESSLINE_TEST_KAFKA_LIBS")), "org.apache.kafka.tools.AclCommand"]);
    change_acls(tool, "--add", grant);
}

/// Gives (`--add`) that user a grant, or takes it away (`--remove`).
pub fn acls(verb: &str, grant: &[String]) {
    let mut tool = Command::new(service("PRESSLINE_TEST_PYTHON"));
    tool.arg(project("tests/stack/acls.py"));
    change_acls(tool, verb, grant);
}

fn change_acls(mut tool: Command, verb: &str, grant: &[String]) {
    tool.args(["--bootstrap-server", &service("PRESSLINE_TEST_BOOTSTRAP"), verb]);
    tool.args(["--allow-principal", &format!("User:{}", service("PRESSLINE_TEST_SASL_LEAST_USER"))]).args(grant);
    let done = tool.output().unwrap();
    let said = [done.stdout, done.stderr].concat();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// The grants of a block of commands on Kafka's rights in docs/operations.md, 1 being the first: what `$grant` is called with.
pub fn documented_grants(block: usize) -> impl Iterator<Item = &'static str> {
    let page = include_str!("../../docs/operations.md");
    let section = page.split("### Kafka\n").nth(1).expect("a section on Kafka's rights");
    let grants = section.split("```sh\n").nth(block).and_then(|rest| rest.split("```").next()).expect("its commands");
    grants.lines().filter_map(|line| line.strip_prefix("$grant "))
}

/// Settings of the user who may nothing without a grant; the password comes from the environment.
pub fn least_user() -> Vec<String> {
    vec![
        format!("kafka.bootstrap_servers={}", service("PRESSLINE_TEST_BOOTSTRAP_SASL")),
        "kafka.sasl.mechanism=PLAIN".into(),
        format!("kafka.sasl.username={}", service("PRESSLINE_TEST_SASL_LEAST_USER")),
        "kafka.sasl.plaintext=true".into(),
    ]
}

/// Asserts that the text holds all parts, and says which it lacks.
#[track_caller]
pub fn holds_all(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in:\n{text}");
    }
}
