//! Standard streams that are closed, full or no terminal, under every command.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::{House, both, has};

/// Every command, as far as it goes without services.
const COMMANDS: [&str; 32] = [
    "--help",
    "--version",
    "help run",
    "run nowhere.toml",
    "check",
    "check --json",
    "check --data-flow",
    "generate -n 2000 --output -",
    "generate -n 20 --output presses.json",
    "generate -n 1",
    "consume raw_presses",
    "demo -n 2 --rate 50 --malformed 0",
    "offsets show --pipeline presses",
    "reconcile --pipeline presses",
    "replay --pipeline presses --sink relay --into-same",
    "dlq ls --pipeline presses",
    "topics create",
    "locate --mmdb demo.mmdb 192.0.2.1",
    "locate --mmdb demo.mmdb --json not-an-address",
    "places report --mmdb demo.mmdb",
    "places report --json --mmdb demo.mmdb",
    "try events.json",
    "try --json events.json",
    "test",
    "schema pressline",
    "completions zsh",
    "produce events.json",
    "init --from-connect nowhere.json",
    "web --pipeline nowhere",
    "status --url http://127.0.0.1:1",
    "reload --url http://127.0.0.1:1",
    "healthcheck --set http.listen=127.0.0.1:1",
];

fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

fn full() -> Stdio {
    File::options().write(true).open("/dev/full").unwrap().into()
}

#[test]
fn every_command_is_tried() {
    let house = House::new();
    let help = both(&house.pressline("--help").output().unwrap());
    let commands = help.split_once("Commands:").unwrap().1.split_once("Options:").unwrap().0;
    for line in commands.lines().filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        assert!(COMMANDS.iter().any(|tried| tried.split(' ').next() == Some(name)), "{name} is not in COMMANDS");
    }
}

#[test]
fn streams_that_cannot_be_written_neither_panic_nor_pass_for_success() {
    let house = House::new();
    let tried: Vec<_> = COMMANDS
        .iter()
        .map(|args| {
            let run = |out: Stdio, err: Stdio| house.pressline(args).stdout(out).stderr(err).spawn().unwrap();
            let piped = Stdio::piped;
            // At once: those that look for a broker wait for seconds.
            let children =
                [(piped(), piped()), (closed(), piped()), (full(), piped()), (piped(), closed()), (piped(), full())];
            (args, children.map(|(out, err)| run(out, err)))
        })
        .collect();
    for (args, children) in tried {
        let [normal, closed, full, mute, choked] = children.map(|child| child.wait_with_output().unwrap());
        let prints = !normal.stdout.is_empty();
        for (what, output) in [("closed", &closed), ("full", &full), ("mute", &mute), ("choked", &choked)] {
            assert_eq!(output.status.signal(), None, "{args}, {what}: {}", both(output));
            assert!(!both(output).contains("panic"), "{args}, {what}: {}", both(output));
        }
        // Whether all came out of the demo in time is a matter of the machine's load.
        let same = [("closed", &closed), ("mute", &mute), ("choked", &choked)];
        for (what, output) in same.into_iter().filter(|_| !args.starts_with("demo")) {
            assert_eq!(output.status.code(), normal.status.code(), "{args}, {what}: {}", both(output));
        }
        let told = both(&full).contains("standard output cannot be written: No space left on device");
        assert_eq!(told, prints, "{args}, full: {}", both(&full));
        assert!(
            !both(&closed).contains("standard output"),
            "{args}: a reader that left is no failure: {}",
            both(&closed)
        );
        if prints {
            assert_eq!(full.status.code(), Some(1), "{args}, full: {}", both(&full));
        }
    }
}

/// A running `pressline run` without services.
struct Running {
    child: Child,
    address: String,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        command.arg(format!("--set=http.listen={address}"));
        Self { child: command.spawn().unwrap(), address }
    }

    fn get(&self, page: &str) -> Option<String> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        write!(stream, "GET {page} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    /// The value of a metric, once it is what it should be.
    fn await_metric(&self, name: &str, wanted: impl Fn(f64) -> bool) -> f64 {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let page = self.get("/metrics").unwrap_or_default();
            let value = page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<f64>().ok());
            if let Some(value) = value.filter(|value| wanted(*value)) {
                return value;
            }
            assert!(Instant::now() < until, "{name} is {value:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asks it to end, and gives its exit code.
    fn interrupt(mut self) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        self.child.wait().unwrap().code()
    }
}

#[test]
fn lines_of_the_log_that_cannot_be_written_are_dropped_and_counted() {
    let house = House::new();
    for stderr in [closed(), full()] {
        let mut command = house.pressline("run");
        command.stdout(Stdio::null()).stderr(stderr);
        let running = Running::start(command);
        running.await_metric("pressline_log_lines_dropped_total", |dropped| dropped > 1.0);
        assert_eq!(running.interrupt(), Some(0));
    }
}

#[test]
fn standard_streams_that_are_closed_at_the_start() {
    let house = House::new();
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" run <&- >&- 2>&- \"$@\"", env!("CARGO_BIN_EXE_pressline")]);
    command.current_dir(house.folder.path());
    let running = Running::start(command);
    running.await_metric("process_open_fds", |open| open > 3.0);
    assert_eq!(running.interrupt(), Some(0));
}

#[test]
fn the_soft_limit_of_descriptors_is_raised() {
    let house = House::new();
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 64; exec \"$0\" run \"$@\" 2>/dev/null", env!("CARGO_BIN_EXE_pressline")]);
    command.current_dir(house.folder.path());
    let running = Running::start(command);
    let limit = running.await_metric("process_max_fds", |_| true);
    assert!(limit > 64.0, "{limit}");
    assert_eq!(running.interrupt(), Some(0));
}

#[test]
fn metrics_keep_their_order() {
    let house = House::new();
    let names = || {
        let mut command = house.pressline("run");
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let running = Running::start(command);
        running.await_metric("pressline_pipeline_ready{pipeline=\"presses\"}", |_| true);
        let page = running.get("/metrics").unwrap();
        running.interrupt();
        let series = page.lines().filter(|line| line.starts_with("pressline_records_dead_total{"));
        series.filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name.to_string()).collect::<Vec<_>>()
    };
    let (first, second) = (names(), names());
    assert!(first.is_sorted(), "{first:?}");
    assert_eq!(first, second);
}

#[test]
fn findings_are_json_where_the_log_is() {
    let house = House::new();
    house.write("pipelines/presses.toml", "workers = 0\n");
    for args in ["run --set log.format=json", "run --set log.format=json nowhere"] {
        let output = house.pressline(args).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{args}");
        let text = String::from_utf8(output.stderr).unwrap();
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert!(lines.iter().any(|line| line["fields"]["cure"].is_string() && line["level"] == "ERROR"), "{text}");
    }
}

#[test]
fn logfmt_is_keys_and_values_line_by_line() {
    let house = House::new();
    house.write("pipelines/presses.toml", "workers = 0\n");
    let output = house.pressline("run --set log.format=logfmt").output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.lines().all(|line| line.starts_with("time=20") && line.contains(" level=") && line.contains(" msg=")),
        "{text}"
    );
    has(&text, " key=kafka.bootstrap_servers cure=\"");
}

#[test]
fn colours_are_for_terminals_alone() {
    let house = House::new();
    let text = both(&house.pressline("run nowhere").env("FORCE_COLOR", "1").output().unwrap());
    assert!(!text.contains('\x1b'), "{text}");
    has(&text, "no such file, and no pipeline of that name");
}
