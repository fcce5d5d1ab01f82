//! The steps of the place lookup behind the database, in a relay: a gazetteer's file, and a geocoder that is a stub here.

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use maxminddb_writer::{Database, metadata::IpVersion};
use serde_json::{Value, json};

use crate::cluster::{Raw, await_that};
use crate::support::{Relay, World, holds_all, now_us, session, world};

/// Addresses of a city that the gazetteer has, and of one that only the geocoder has.
const AUSTIN: &str = "20.0.0.77";
const NIRGENDWO: &str = "20.0.1.77";

/// A database that has names only.
fn write_database(world: &World) -> PathBuf {
    let mut database = Database::default();
    database.metadata.ip_version = IpVersion::V6;
    database.metadata.binary_format_major_version = 2;
    database.metadata.database_type = "made-up-City".to_owned();
    for (third, country, subdivision, city) in [(0, "US", "Texas", "Austin"), (1, "DE", "Berlin", "Nirgendwo")] {
        let record = database.insert_value(json!({
            "country": {"iso_code": country},
            "subdivisions": [{"names": {"en": subdivision}}],
            "city": {"names": {"en": city}},
        }));
        // IPv4 has the first 96 bits zero.
        let network = Ipv6Addr::from(0x1400_0000_u128 + (third << 8)).to_bits();
        database.insert_node((0..120).map(|bit| network >> (127 - bit) & 1 == 1), record.unwrap());
    }
    let path = world.path("names.mmdb");
    database.write_to(std::fs::File::create(&path).unwrap()).unwrap();
    path
}

/// A geocoder for which everything is at one point in Germany.
struct Stub {
    port: u16,
    /// Heads of the requests it had.
    heads: Arc<Mutex<Vec<String>>>,
    /// It keeps its answers back until then.
    may_answer: Arc<AtomicBool>,
}

fn stub() -> Stub {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let may_answer = Arc::new(AtomicBool::new(false));
    let (seen, go) = (Arc::clone(&heads), Arc::clone(&may_answer));
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let head = read_head(&stream);
            seen.lock().unwrap().push(head);
            await_that("leave to answer", || go.load(Ordering::Acquire));
            answer(stream);
        }
    });
    Stub { port, heads, may_answer }
}

fn read_head(stream: &TcpStream) -> String {
    let lines = BufReader::new(stream).lines().map_while(Result::ok);
    lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

fn answer(mut stream: TcpStream) {
    let body = r#"[{"lat":"52.5","lon":"13.25","address":{"country_code":"de"}}]"#;
    let length = body.len();
    // A relay that was stopped does not wait for it.
    let _ = write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}");
}

fn configure(world: &World, port: u16) {
    let (database, cache) = (write_database(world), world.path("geocoder.cache"));
    let austin = "1\tAustin\tAustin\t\t30.26715\t-97.74306\tP\tPPLA\tUS\t\tTX\t\t\t\t931830\t\t10\tAmerica/Chicago\t2026-01-01\n";
    let cities = world.write("cities500.txt", austin);
    let pipeline = format!(
        "[source]\ntopic = \"{}\"\n[output]\ntopic = \"{}\"\nschema = \"{}\"\n[place]\nfiles = [\"{}\"]\n\
         [place.gazetteer]\ncities = \"{}\"\n[place.geocoder]\nurl = \"http://127.0.0.1:{port}\"\n\
         contact = \"ops@example.org\"\ntimeout_ms = 60000\ncache_file = \"{}\"\n",
        world.raw,
        world.out,
        crate::support::project("schemas/button_presses.avsc").display(),
        database.display(),
        cities.display(),
        cache.display(),
    );
    world.write(&format!("pipelines/{}.toml", world.name), &pipeline);
}

/// Sends one press from each address and gives both as they came out.
fn relay_both(world: &World, relay: &mut Relay, number: u128) -> [Value; 2] {
    let press = |number, ip| {
        let (session, time) = (session(number), now_us());
        format!(
            "{{\"session_id\":\"{session}\",\"timestamp\":{time},\"cohort\":1,\"action\":\"PressButton\",\"ip\":\"{ip}\"}}"
        )
    };
    let sent = [press(number, AUSTIN), press(number + 1, NIRGENDWO)].map(|press| Raw::value(0, press));
    world.send(&sent);
    world.await_relayed(relay);
    let output = world.output();
    [number, number + 1].map(|number| {
        let of_session = |value: &Value| value["session_id"] == session(number);
        output.iter().find(|(_, value)| of_session(value)).unwrap().1.clone()
    })
}

fn where_and_when(press: &Value) -> [&Value; 3] {
    [&press["latitude"], &press["longitude"], &press["time_zone"]]
}

#[test]
fn what_the_database_lacks_comes_from_gazetteer_and_geocoder_and_nothing_waits() {
    let Some(world) = world("places") else { return };
    let stub = stub();
    configure(&world, stub.port);
    let mut relay = world.run(&[]);
    relay.await_ready();
    let [austin, nirgendwo] = relay_both(&world, &mut relay, 1);
    // What came out did not wait for the answer.
    assert_eq!(relay.metrics().with("pressline_geocoder_requests_total", "answer=\"found\""), 0.0);
    assert_eq!(where_and_when(&austin), [&json!(30.26715), &json!(-97.74306), &json!("America/Chicago")]);
    assert_eq!(where_and_when(&nirgendwo), [&Value::Null; 3]);
    assert_eq!([&nirgendwo["city_name"], &nirgendwo["country_name"]], [&json!("Nirgendwo"), &json!("Germany")]);

    stub.may_answer.store(true, Ordering::Release);
    await_that("the geocoder's answer", || {
        relay.metrics().with("pressline_geocoder_requests_total", "answer=\"found\"") == 1.0
    });
    let [_, nirgendwo] = relay_both(&world, &mut relay, 3);
    assert_eq!(where_and_when(&nirgendwo), [&json!(52.5), &json!(13.25), &Value::Null]);
    let metrics = relay.metrics();
    let parts = |part: &str, step: &str| {
        metrics.with("pressline_place_parts_total", &format!("part=\"{part}\",step=\"{step}\""))
    };
    assert_eq!([parts("coordinates", "gazetteer"), parts("coordinates", "geocoder")], [1.0, 1.0]);
    assert_eq!([parts("coordinates", "none"), parts("country_name", "names")], [1.0, 3.0]);
    assert_eq!(relay.stop(), 0);

    // After a restart nobody is asked again.
    let mut relay = world.run(&[]);
    relay.await_ready();
    let [_, nirgendwo] = relay_both(&world, &mut relay, 5);
    assert_eq!(where_and_when(&nirgendwo), [&json!(52.5), &json!(13.25), &Value::Null]);
    assert_eq!(relay.stop(), 0);
    let heads = stub.heads.lock().unwrap();
    assert_eq!(heads.len(), 1, "{heads:?}");
    holds_all(
        &heads[0],
        &["GET /search?", "countrycodes=de&city=Nirgendwo&state=Berlin&country=Germany", "(ops@example.org)"],
    );
    let kept = std::fs::read_to_string(world.path("geocoder.cache")).unwrap();
    for text in [&heads[0], &kept, &relay.log()] {
        assert!(!text.contains("20.0."), "an address: {text}");
    }
}
