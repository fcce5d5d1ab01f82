//! The schema registry: an incompatible schema, one that is not there, and a registry that is down at start or later.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::support::{World, holds_all, presses, project, world};

/// A way to the registry that can be closed without disturbing other tests.
struct Gate {
    address: SocketAddr,
    open: Arc<AtomicBool>,
    through: Arc<Mutex<Vec<TcpStream>>>,
}

impl Gate {
    /// A closed gate: connections are accepted and ended at once.
    fn closed_before(url: &str) -> Self {
        let host = url.strip_prefix("http://").unwrap().split('/').next().unwrap().to_string();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let gate = Self {
            address: listener.local_addr().unwrap(),
            open: Arc::new(AtomicBool::new(false)),
            through: Arc::default(),
        };
        let (open, through) = (Arc::clone(&gate.open), Arc::clone(&gate.through));
        std::thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                if !open.load(Ordering::Acquire) {
                    continue;
                }
                let server = TcpStream::connect(&host).unwrap();
                through.lock().unwrap().extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                pump(client.try_clone().unwrap(), server.try_clone().unwrap());
                pump(server, client);
            }
        });
        gate
    }

    fn set(&self, open: bool) {
        self.open.store(open, Ordering::Release);
        if !open {
            for stream in self.through.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }

    /// The registry's address by way of the gate.
    fn url(&self, url: &str) -> String {
        let path = url.strip_prefix("http://").unwrap().split_once('/').unwrap().1;
        format!("http://{}/{path}", self.address)
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 8192];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Write);
    });
}

/// Asks the registry, in the few words of HTTP that it takes.
pub fn ask(world: &World, method: &str, path: &str, body: &str) -> String {
    let (host, base) = world.registry.strip_prefix("http://").unwrap().split_once('/').unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    write!(
        stream,
        "{method} /{base}{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: application/vnd.schemaregistry.v1+json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn an_incompatible_schema_stops_before_the_first_event() {
    let Some(world) = world("incompatible") else { return };
    let subject = format!("{}-value", world.out);
    let older = serde_json::json!({
        "type": "record", "name": "button_presses",
        "fields": [{"name": "session_id", "type": "string"}, {"name": "cohort", "type": "string"}],
    });
    let body = serde_json::json!({"schema": older.to_string()}).to_string();
    let answer = ask(&world, "POST", &format!("/subjects/{subject}/versions"), &body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let level = ask(&world, "PUT", &format!("/config/{subject}"), "{\"compatibility\":\"BACKWARD\"}");
    assert!(level.starts_with("HTTP/1.1 200"), "{level}");
    world.send(&presses(0, 0..10));

    let mut relay = world.run(&[]);
    assert_eq!(relay.exit_code(Duration::from_secs(60)), 1);
    holds_all(
        &relay.log(),
        &[
            "ERROR stopped: ",
            &format!("subject {subject}: our schema is incompatible with version 1; the registry's reason: "),
            "field `cohort`: version 1 has string, ours has [null, int]",
            "field `timestamp`: only in ours, without a default",
            "change output.schema so that readers of the older version can go on",
        ],
    );
    assert_eq!(world.output().len(), 0);
    assert!(world.committed().is_empty(), "the group was not even joined");
}

#[test]
fn without_register_a_schema_that_is_not_there_is_waited_for_and_used_once_it_is() {
    let Some(world) = world("unregistered") else { return };
    let mut relay = world.run(&["output.register=false"]);
    let says = format!("subject {}-value: our schema is not registered, and output.register is false", world.out);
    relay.await_page(503, &says);
    relay.await_log(&says);
    holds_all(&relay.log(), &["retry_in_ms=", "register the schema there, or set output.register = true"]);
    // As pressline itself would register it.
    let schema = pressline::avro::schema::load(&project("schemas/button_presses.avsc")).unwrap();
    let body = serde_json::json!({"schema": schema.compact}).to_string();
    let answer = ask(&world, "POST", &format!("/subjects/{}-value/versions", world.out), &body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    relay.await_ready();
    assert_eq!(relay.stop(), 0);
}

#[test]
fn a_registry_that_is_down_is_waited_for_and_once_running_not_needed() {
    let Some(world) = world("gate") else { return };
    let gate = Gate::closed_before(&world.registry);
    let url = gate.url(&world.registry);
    let mut relay = world.run(&[&format!("registry.url={url}")]);
    relay.await_page(503, &format!("start: schema registry {url}: not available: "));
    relay.await_page(503, "start it, or fix registry.url");
    assert_eq!(relay.get("/livez").0, 200);
    assert_eq!(relay.metrics().sum("pressline_pipeline_ready"), 0.0);

    world.send(&presses(0, 0..10));
    gate.set(true);
    world.await_relayed(&mut relay);
    relay.await_ready();

    gate.set(false);
    world.send(&presses(1, 10..100));
    world.await_relayed(&mut relay);
    relay.await_ready();
    assert_eq!(world.output().len(), 100);
    let warnings = |log: &str| log.lines().filter(|line| line.contains("not available")).count();
    let waited = warnings(&relay.log());
    assert!((1..20).contains(&waited), "{waited} warnings: one an attempt, with growing pauses");
    assert_eq!(relay.stop(), 0);
    assert_eq!(warnings(&relay.log()), waited, "nothing was asked after the start");
}

#[test]
fn a_stop_does_not_wait_for_the_registry() {
    let Some(world) = world("gate-stop") else { return };
    let gate = Gate::closed_before(&world.registry);
    let mut relay = world.run(&[&format!("registry.url={}", gate.url(&world.registry))]);
    relay.await_page(503, "not available");
    assert_eq!(relay.stop(), 0);
}

#[test]
fn processes_that_start_at_once_register_one_schema() {
    let Some(world) = world("at-once") else { return };
    let mut relays: Vec<_> = (0..4).map(|i| world.run(&[&format!("instance=i{i}")])).collect();
    for relay in &mut relays {
        relay.await_ready();
    }
    // Registries may note one schema as two versions when asked at the same moment; its id is what records carry.
    let ids: std::collections::BTreeSet<String> =
        relays.iter().map(|relay| word_after(&relay.log(), "schema_id=")).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
}

fn word_after(log: &str, name: &str) -> String {
    let (_, rest) = log.split_once(name).expect(name);
    rest.split_whitespace().next().expect(name).to_string()
}
