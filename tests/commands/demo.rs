//! `pressline demo` from outside: what an attendee sees, what a foreign client reads, and that no address gets out.

use std::io::{BufRead, BufReader, Read};
use std::net::IpAddr;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use pressline::command::generate::{Addresses, Presses, Recipe};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// The machine may be busy; an idle one needs well under 3 s.
const PATIENCE: Duration = Duration::from_secs(15);

fn demo(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pressline"));
    // Not the repository: an installed binary has no files around it.
    command.arg("demo").args(args).current_dir(std::env::temp_dir()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn stop(mut child: Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn text(output: &Output) -> (String, String) {
    (String::from_utf8(output.stdout.clone()).unwrap(), String::from_utf8(output.stderr.clone()).unwrap())
}

/// Everything in a text that reads as an IP address, but for what the demo listens on.
fn addresses_in(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !(c.is_ascii_hexdigit() || c == '.' || c == ':'));
    let mut found = Vec::new();
    for word in words {
        let whole = word.trim_matches(|c| c == '.');
        let host = whole.rsplit_once(':').map_or(whole, |(host, _)| host);
        for candidate in [whole, host] {
            if candidate.parse::<IpAddr>().is_ok_and(|ip| ip != IpAddr::from([127, 0, 0, 1])) {
                found.push(candidate.to_string());
            }
        }
    }
    found
}

#[test]
fn shows_every_press_and_no_address() {
    let output = demo(&["--count", "300", "--rate", "50", "--seed", "7", "--malformed", "0.08"]).output().unwrap();
    let (stdout, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(0), "{stdout}\n{stderr}");
    assert_eq!(stderr, "", "nothing to complain of");
    for expected in [
        "in memory only and gone",
        "exactly once (the mock",
        "IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0",
        "pressline consume button_presses --from-beginning",
        "pressline consume raw_presses.dead --from-beginning",
        "pressline generate --bootstrap-servers 127.0.0.1:",
        "ip withheld",
        "dead: not_json",
        "dead: implausible_timestamp",
        "The demo's own visitors sent 300.",
    ] {
        assert!(stdout.contains(expected), "no {expected:?} in\n{stdout}");
    }
    let sums = stdout.lines().rev().find(|line| line.starts_with("300 in = ")).expect("the closing sum");
    let numbers: Vec<u64> =
        sums.split(' ').filter_map(|word| word.trim_end_matches(';').parse().ok()).take(3).collect();
    assert_eq!(numbers[0], numbers[1] + numbers[2], "{sums}");
    assert!(numbers[2] >= 5, "{sums}");
    assert!(!stdout.contains("cannot be decoded") && !stdout.contains('\x1b'), "{stdout}");
    assert!(stdout.lines().all(|line| line.chars().count() <= 80), "a line is too long in\n{stdout}");

    assert_eq!(addresses_in(&stdout), Vec::<String>::new());
    // The same seed makes the same visitors; their addresses are searched for as they were sent.
    let places = std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/data/demo.mmdb")).unwrap();
    let recipe = Recipe { seed: 7, step_ns: 20_000_000, malformed: 0.08, ..Recipe::default() };
    let mut presses = Presses::new(recipe, Addresses::from_bytes("demo", &places, 7).unwrap()).unwrap();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let (mut searched, mut shown) = (0, 0);
    for _ in 0..300 {
        presses.next_into(&mut key, &mut value);
        let json: serde_json::Value = serde_json::from_slice(&value).unwrap_or_default();
        let Some(ip) = json["ip"].as_str() else { continue };
        if ip != "127.0.0.1" {
            assert!(!stdout.contains(ip), "an address was printed");
            searched += 1;
        }
        let session = json["session_id"].as_str().unwrap_or_default();
        shown += usize::from(session.len() == 36 && stdout.contains(&session[..8]));
    }
    assert!(searched > 200, "{searched}");
    // Not all: a machine that stood still shows a part of the burst that follows.
    assert!(shown > 150, "the test's visitors are not the demo's: {shown}");
}

#[test]
fn addresses_are_found_where_there_are_some() {
    assert_eq!(addresses_in("from 192.0.2.7 on"), ["192.0.2.7", "192.0.2.7"]);
    assert_eq!(addresses_in("[2001:db8::1]"), ["2001:db8::1"]);
    assert!(addresses_in("at 127.0.0.1:4711, 12:30:45, 60.2 24.9").is_empty());
}

/// Reads the banner until the commands are there; gives the broker's and the registry's address.
fn read_banner(reader: &mut impl BufRead) -> (String, String) {
    let (mut broker, mut registry, mut line) = (String::new(), String::new(), String::new());
    while !line.contains("time UTC") {
        line.clear();
        assert!(reader.read_line(&mut line).unwrap() > 0, "the demo ended early");
        let mut words = line.split_whitespace();
        match words.next() {
            Some("Kafka") => broker = words.next().unwrap().to_string(),
            Some("registry") => registry = words.next().unwrap().to_string(),
            _ => {}
        }
    }
    (broker, registry)
}

fn get(url: &str) -> String {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _ = rustls::crypto::ring::default_provider().install_default();
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build().unwrap();
        let answer = client.get(url).send().await.unwrap();
        assert!(answer.status().is_success(), "{url}: {}", answer.status());
        answer.text().await.unwrap()
    })
}

fn first_record(broker: &str, topic: &str) -> Vec<u8> {
    let consumer: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", broker).set("group.id", "stranger").create().unwrap();
    let mut list = TopicPartitionList::new();
    for partition in 0..3 {
        list.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&list).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(Ok(record)) = consumer.poll(Duration::from_millis(200)) {
            return record.payload().unwrap().to_vec();
        }
    }
    panic!("no record came");
}

#[test]
fn a_foreign_client_reads_and_decodes_while_it_runs() {
    let began = Instant::now();
    let mut child = demo(&["--rate", "20"]).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let (broker, registry) = read_banner(&mut reader);
    let until_banner = began.elapsed();
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let until_press = began.elapsed();
    println!("banner after {until_banner:?}, first press after {until_press:?}");
    assert!(until_press < PATIENCE, "{until_press:?}");

    let record = first_record(&broker, "button_presses");
    assert_eq!(record[0], 0);
    let id = u32::from_be_bytes(record[1..5].try_into().unwrap());
    let by_id: serde_json::Value = serde_json::from_str(&get(&format!("{registry}/schemas/ids/{id}"))).unwrap();
    let latest: serde_json::Value =
        serde_json::from_str(&get(&format!("{registry}/subjects/button_presses-value/versions/latest"))).unwrap();
    assert_eq!(latest["id"], id);
    assert_eq!(latest["schema"], by_id["schema"]);
    let schema = apache_avro::Schema::parse_str(by_id["schema"].as_str().unwrap()).unwrap();
    let mut datum = &record[5..];
    let value = GenericDatumReader::builder(&schema).build().unwrap().read_value(&mut datum).unwrap();
    let Value::Record(fields) = value else { panic!("no record") };
    assert!(datum.is_empty());
    assert_eq!(fields.len(), 13);
    assert_eq!(fields[0].0, "session_id");
    assert!(fields.iter().all(|(name, _)| name != "ip"));
    let metrics = get(&format!("{registry}/metrics"));
    assert!(metrics.contains("pressline_build_info"), "{metrics}");
    let listen = format!("http.listen={}", registry.trim_start_matches("http://"));
    let health = |listen: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pressline"));
        command.args(["healthcheck", "--set", listen]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
    };
    assert_eq!(health(&listen).status.code(), Some(0), "a running pressline is healthy");
    stop(child);
    assert_eq!(health(&listen).status.code(), Some(1), "one that is gone is not");
}

#[test]
fn an_interrupt_ends_it_soon_and_well() {
    let mut child = demo(&["--rate", "20"]).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    read_banner(&mut reader);
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    let began = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let mut rest = String::new();
    reader.read_to_string(&mut rest).unwrap();
    let status = child.wait().unwrap();
    println!("ended after {:?}", began.elapsed());
    assert_eq!(status.code(), Some(0));
    assert!(began.elapsed() < PATIENCE);
    assert!(rest.contains("The demo has ended, its data is gone."), "{rest}");
}

#[test]
fn a_closed_pipe_ends_it_quietly() {
    let mut child = demo(&["--rate", "50"]).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    read_banner(&mut reader);
    drop(reader);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

#[test]
fn a_taken_port_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let output = demo(&["--http", &taken.local_addr().unwrap().to_string()]).output().unwrap();
    let (_, stderr) = text(&output);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("cannot listen on 127.0.0.1:") && stderr.contains("--http"), "{stderr}");
}

/// A browser, as far as it is needed here: one cookie.
struct Visitor {
    client: reqwest::Client,
    page: String,
    cookie: String,
    /// Everything that came: status, headers, text.
    seen: String,
}

impl Visitor {
    fn new(page: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client =
            reqwest::Client::builder().no_proxy().tls_certs_only([]).redirect(reqwest::redirect::Policy::none());
        Self { client: client.build().unwrap(), page: page.into(), cookie: String::new(), seen: String::new() }
    }

    async fn ask(&mut self, method: &str, path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let url = format!("{}{path}", self.page);
        let mut request = self.client.request(method.parse().unwrap(), url).header("cookie", &self.cookie);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        if let Some(cookie) = answer.headers().get("set-cookie") {
            self.cookie = cookie.to_str().unwrap().split(';').next().unwrap().to_string();
        }
        self.seen += &format!("{status} {:?}\n", answer.headers());
        let text = answer.text().await.unwrap();
        self.seen += &text;
        (status, text)
    }

    /// The stream of the map until it has had this text.
    async fn watch_for(&mut self, wanted: &str) {
        let mut answer = self.client.get(format!("{}live/events", self.page)).send().await.unwrap();
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        let mut stream = String::new();
        while !stream.contains(wanted) {
            let next = tokio::time::timeout(PATIENCE, answer.chunk()).await.expect("the map stands still");
            stream += std::str::from_utf8(&next.unwrap().expect("the stream goes on")).unwrap();
        }
        self.seen += &stream;
    }
}

/// What stands in a page that is no address of anybody: the picture's numbers, colours, and what the page listens on.
fn without_picture(text: &str) -> String {
    let mut rest = text.to_string();
    while let Some((before, after)) = rest.split_once("<svg").map(|(b, a)| (b.to_string(), a.to_string())) {
        rest = before + after.split_once("</svg>").map_or("", |(_, after)| after);
    }
    rest
}

#[test]
fn a_press_of_the_button_comes_out_and_is_counted_and_no_page_has_an_address() {
    let mut child = demo(&["--rate", "20"]).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut first = String::new();
    reader.read_line(&mut first).unwrap();
    let page = first.split_whitespace().next().unwrap().to_string();
    assert!(page.starts_with("http://127.0.0.1:") && page.ends_with('/'), "{first}");
    // Its lines must go somewhere.
    std::thread::spawn(move || std::io::copy(&mut reader, &mut std::io::sink()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut visitor = Visitor::new(&page);
    runtime.block_on(async {
        let (status, text) = visitor.ask("GET", "", &[]).await;
        assert_eq!(status, 200);
        assert!(text.contains("You have not pressed yet."), "{text}");
        assert!(visitor.cookie.starts_with("pressline=") && visitor.cookie.ends_with(".0"), "{}", visitor.cookie);
        let cookie = visitor.cookie.clone();

        // With the page's script, and as a plain form.
        let (status, text) = visitor.ask("POST", "", &[("accept", "application/json")]).await;
        assert_eq!(status, 200, "{text}");
        assert!(text.contains("Your first press.") && text.contains("You have pressed 1 time."), "{text}");
        let (status, _) = visitor.ask("POST", "", &[("origin", page.trim_end_matches('/'))]).await;
        assert_eq!((status, visitor.cookie.clone()), (303, format!("{}.2", cookie.strip_suffix(".0").unwrap())));
        let (_, text) = visitor.ask("GET", "", &[]).await;
        assert!(text.contains("You have pressed 2 times."), "{text}");
        // From another site.
        let (status, _) = visitor.ask("POST", "", &[("sec-fetch-site", "cross-site")]).await;
        assert_eq!((status, visitor.cookie.ends_with(".2")), (403, true));

        let wanted = "<strong id=\"own\">2</strong> of your presses have come through";
        let deadline = Instant::now() + PATIENCE;
        loop {
            let (status, text) = visitor.ask("GET", "stats", &[]).await;
            assert_eq!(status, 200);
            if text.contains(wanted) {
                assert!(text.contains("Presses from where you are"), "{text}");
                break;
            }
            assert!(Instant::now() < deadline, "the presses have not come through:\n{text}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        visitor.watch_for("event: frame\nid: ").await;
        for path in ["live", "about", "reset", "assets/live.js", "assets/cohorts.css"] {
            assert_eq!(visitor.ask("GET", path, &[]).await.0, 200, "{path}");
        }
        assert_eq!(visitor.ask("GET", "nowhere", &[]).await.0, 404);
        let (status, _) = visitor.ask("POST", "reset", &[]).await;
        assert_eq!((status, visitor.cookie.as_str()), (303, "pressline="));
    });
    stop(child);
    for header in ["content-security-policy", "\"nosniff\"", "frame-ancestors 'none'", "referrer-policy"] {
        assert!(visitor.seen.contains(header), "no {header}");
    }
    assert!(visitor.seen.contains("IP Geolocation by DB-IP"));
    assert_eq!(addresses_in(&without_picture(&visitor.seen)), Vec::<String>::new());
}
