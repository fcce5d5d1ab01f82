//! What is made of a registry's answers, the registry being a few lines of HTTP.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Mutex;

use super::*;
use crate::config::RegistryConfig;

const SCHEMA: &str = r#"{"schema":"{\"type\":\"record\",\"name\":\"r\",\"fields\":[]}"}"#;
const PROTOBUF: &str = r#"{"schema":"syntax","schemaType":"PROTOBUF"}"#;
const ABSENT: &str = r#"{"error_code":40403,"message":"Schema not found"}"#;

/// Ids that the registry has, each with its answer.
type Known = Arc<Mutex<BTreeMap<u32, &'static str>>>;

struct World {
    schemas: Schemas,
    known: Known,
    /// How often it was asked.
    asked: Arc<Mutex<Vec<u32>>>,
    _runtime: tokio::runtime::Runtime,
}

fn world(wait: Option<Duration>) -> World {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (known, asked) = (Known::default(), Arc::new(Mutex::new(Vec::new())));
    let (answers, noted) = (Arc::clone(&known), Arc::clone(&asked));
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4_096];
            let length = stream.read(&mut request).unwrap();
            let line = String::from_utf8_lossy(&request[..length]);
            let id = line.split([' ', '/']).find_map(|word| word.parse().ok()).unwrap();
            noted.lock().unwrap().push(id);
            let (status, body) = match answers.lock().unwrap().get(&id) {
                Some(answer) => ("200 OK", *answer),
                None => ("404 Not Found", ABSENT),
            };
            let length = body.len();
            write!(stream, "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").unwrap();
        }
    });
    let config = RegistryConfig { url, username: None, password_file: None, ca: None, timeout_ms: 5_000 };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let registry = Arc::new(Registry::new(&config).unwrap());
    let patience = Patience { wait, key: "sink.s.consumer.unknown_schema_wait_ms".into() };
    World {
        schemas: Schemas::new(FormatConfig::default(), registry, runtime.handle().clone(), patience),
        known,
        asked,
        _runtime: runtime,
    }
}

impl World {
    fn get(&mut self, id: u32) -> Result<Schema, String> {
        let first = RecordOrigin { partition: 3, offset: 77, timestamp_ms: None };
        self.schemas.meet(&[id]);
        self.schemas.get(id, Some(first), None).map_err(|error| match error {
            LoadError::Again { class: RetryClass::Transient, fault } => fault.message,
            other => panic!("{other}"),
        })
    }

    fn knows(&self, id: u32, answer: Option<&'static str>) {
        match answer {
            Some(answer) => self.known.lock().unwrap().insert(id, answer),
            None => self.known.lock().unwrap().remove(&id),
        };
    }

    fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

#[test]
fn an_absent_id_is_waited_for_until_the_registry_has_it() {
    let mut world = world(None);
    for _ in 0..3 {
        let message = world.get(7).err().unwrap();
        for part in ["no schema has the id 7", "at partition 3 offset 77", "sink.s.consumer.unknown_schema_wait_ms"] {
            assert!(message.contains(part), "{message}");
        }
        // However long it takes.
        let long_ago = Instant::now().checked_sub(Duration::from_secs(3_600)).unwrap();
        world.schemas.absent.get_mut(&7).unwrap().since = long_ago;
    }
    world.knows(7, Some(SCHEMA));
    assert!(matches!(world.get(7), Ok(Schema::New(_))));
    world.schemas.learnt(7);
    let asked = world.asked();
    assert!(matches!(world.get(7), Ok(Schema::Known)));
    assert_eq!(world.asked(), asked, "a schema never changes");
}

#[test]
fn on_demand_it_is_believed_after_a_while_and_asked_for_again_later() {
    let mut world = world(Some(Duration::from_millis(300)));
    assert!(world.get(7).is_err());
    std::thread::sleep(Duration::from_millis(350));
    assert!(matches!(world.get(7), Ok(Schema::Unusable(Why::UnknownSchema))));
    let asked = world.asked();
    assert!(matches!(world.get(7), Ok(Schema::Unusable(Why::UnknownSchema))));
    assert_eq!(world.asked(), asked, "believed for a minute");
    world.schemas.absent.get_mut(&7).unwrap().believed = Instant::now().checked_sub(BELIEVED_FOR);
    world.knows(7, Some(SCHEMA));
    assert!(matches!(world.get(7), Ok(Schema::New(_))));
}

#[test]
fn nothing_is_believed_of_a_registry_that_lacks_what_it_had() {
    let mut world = world(Some(Duration::ZERO));
    world.knows(1, Some(SCHEMA));
    assert!(matches!(world.get(1), Ok(Schema::New(_))));
    // It was restarted and has not read its log yet.
    world.knows(1, None);
    let message = world.get(7).err().unwrap();
    assert!(message.contains("nor does it have schemas that it had before"), "{message}");
    world.knows(1, Some(SCHEMA));
    assert!(matches!(world.get(7), Ok(Schema::Unusable(Why::UnknownSchema))));
}

#[test]
fn a_schema_of_another_kind_is_the_fault_of_its_records() {
    let mut world = world(None);
    world.knows(7, Some(PROTOBUF));
    for _ in 0..2 {
        let Ok(Schema::Unusable(why)) = world.get(7) else { panic!("usable") };
        assert_eq!(why.code(), "unreadable_schema");
        assert!(why.to_string().ends_with("it is a schema of type PROTOBUF, and pressline reads Avro"), "{why}");
    }
    assert_eq!(world.asked(), 1);
}

#[test]
fn a_flood_of_ids_takes_no_memory_for_ever() {
    let mut world = world(Some(Duration::ZERO));
    let all: Vec<u32> = (0..MOST_REMEMBERED as u32 + 10).collect();
    world.schemas.meet(&all);
    world.schemas.meet(&[7]);
    assert!(world.schemas.absent.len() <= 1, "of those that are in no batch any more nothing is kept");
    // All in a batch wait from its first sight on, so that they are not waited for one after another.
    let since = world.schemas.absent[&7].since;
    world.schemas.meet(&[7, 8]);
    assert_eq!(world.schemas.absent[&7].since, since);
}
