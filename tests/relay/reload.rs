//! GeoIP databases replaced while events flow, refused ones, old ones, small places.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use maxminddb_writer::metadata::IpVersion;
use serde_json::{Value, json};

use crate::cluster::await_that;
use crate::support::{Relay, World, holds_all, presses, session, world};

const OCTOBER: u64 = 1_790_812_800;
const NOVEMBER: u64 = 1_793_491_200;

/// A database in which 8.8.8.8, from which all presses come, is in this city of 256 addresses.
fn edition(city: &str, built: u64) -> Vec<u8> {
    let mut database = maxminddb_writer::Database::default();
    database.metadata.ip_version = IpVersion::V4;
    database.metadata.binary_format_major_version = 2;
    database.metadata.database_type = "made-up-City".to_owned();
    database.metadata.build_epoch = built;
    for (bits, len, city) in [(0x0808_0800u32, 24u8, city), (0x5100_0000, 8, "Helsinki")] {
        let record = json!({"country_code": "FI", "state1": "Uusimaa", "city": city, "latitude": 60.1699});
        let record = database.insert_value(&record).unwrap();
        database.insert_node((0..len).map(move |bit| bits >> (31 - bit) & 1 == 1), record);
    }
    database.write_to(Vec::new()).unwrap()
}

/// The file that the relay reads.
fn file(world: &World) -> PathBuf {
    world.path("places.mmdb")
}

fn run(world: &World, sets: &[&str]) -> Relay {
    let files = format!("place.files=[\"{}\"]", file(world).display());
    let mut all = vec![files.as_str()];
    all.extend(sets);
    let mut relay = world.run(&all);
    relay.await_log("relaying, each event exactly once");
    relay
}

/// Puts another file in the place of the relay's.
fn replace(world: &World, bytes: &[u8]) {
    let new = world.path("new.mmdb");
    std::fs::write(&new, bytes).unwrap();
    std::fs::rename(new, file(world)).unwrap();
}

/// City and header of each press, by its session; each press once.
fn told(world: &World) -> BTreeMap<String, (String, Option<String>)> {
    let mut all = BTreeMap::new();
    for (record, value) in world.output() {
        let told = (
            value["city_name"].as_str().unwrap().to_string(),
            record.header("pressline.place_build").map(String::from),
        );
        let before = all.insert(value["session_id"].as_str().unwrap().to_string(), told);
        assert!(before.is_none(), "a press is there twice: {value}");
    }
    all
}

fn reloads(relay: &mut Relay, result: &str) -> f64 {
    relay.metrics().with("pressline_mmdb_reloads_total", &format!("result=\"{result}\""))
}

#[test]
fn a_database_replaced_while_events_flow_is_taken_and_no_event_is_lost() {
    let Some(world) = world("reload") else { return };
    std::fs::write(file(&world), edition("Alpha", OCTOBER)).unwrap();
    let credit = "place.attribution=\"Places by the test\"";
    let mut relay = run(&world, &["place.build_header=true", "workers=2", credit]);
    assert_eq!((reloads(&mut relay, "taken"), reloads(&mut relay, "refused")), (0.0, 0.0));
    holds_all(&relay.get("/").1, &["/metrics", "/readyz", "Places by the test"]);
    world.send(&presses(0, 0..500));
    world.await_relayed(&mut relay);
    replace(&world, &edition("Beta", NOVEMBER));
    let mut next = 500;
    while !relay.log().contains("GeoIP database replaced") {
        world.send(&presses((next % 3) as i32, next..next + 20));
        next += 20;
        assert!(next < 100_000, "not replaced:\n{}", relay.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    // A worker takes it before its next batch.
    std::thread::sleep(Duration::from_secs(1));
    let after = next;
    for partition in 0..3 {
        world.send(&presses(partition, next..next + 300));
        next += 300;
    }
    world.await_relayed(&mut relay);
    assert_eq!((reloads(&mut relay, "taken"), reloads(&mut relay, "refused")), (1.0, 0.0));
    assert_eq!(relay.metrics().sum("pressline_mmdb_build_timestamp_seconds"), NOVEMBER as f64);
    assert_eq!(relay.stop(), 0);
    let told = told(&world);
    assert_eq!(told.len() as u128, next, "events lost");
    let (old, new) = (("Alpha", OCTOBER), ("Beta", NOVEMBER));
    for number in 0..next {
        let (city, built) = &told[&session(number)];
        let is = |(name, epoch): (&str, u64)| city == name && *built == Some(epoch.to_string());
        assert!(is(old) && number < after || is(new) && number >= 500, "press {number} of {after}: {city} {built:?}");
    }
}

#[test]
fn a_truncated_database_is_refused_and_told_and_the_old_one_answers() {
    let Some(world) = world("reload-refused") else { return };
    std::fs::write(file(&world), edition("Alpha", OCTOBER)).unwrap();
    let mut relay = run(&world, &[]);
    let new = edition("Beta", NOVEMBER);
    replace(&world, &new[..new.len() / 2]);
    relay.await_log("GeoIP database refused");
    holds_all(&relay.log(), &["the one that was loaded stays in use: ", "places.mmdb: not a MaxMind DB file"]);
    assert_eq!((reloads(&mut relay, "taken"), reloads(&mut relay, "refused")), (0.0, 1.0));
    assert_eq!(relay.metrics().sum("pressline_mmdb_build_timestamp_seconds"), OCTOBER as f64);
    world.send(&presses(0, 0..100));
    world.await_relayed(&mut relay);
    relay.await_ready();
    relay.signal("HUP");
    await_that("the answer to SIGHUP", || reloads(&mut relay, "refused") == 2.0);
    // The same file, its end written behind it, in place.
    std::fs::write(file(&world), &new).unwrap();
    relay.await_log("GeoIP database replaced");
    std::thread::sleep(Duration::from_secs(1));
    world.send(&presses(1, 100..200));
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);
    let told = told(&world);
    for number in 0..200 {
        let wanted = (if number < 100 { "Alpha" } else { "Beta" }.to_string(), None);
        assert_eq!(told[&session(number)], wanted, "press {number}");
    }
}

#[test]
fn an_old_database_fails_readiness_only_and_tags_where_it_is_to() {
    let Some(world) = world("reload-old") else { return };
    std::fs::write(file(&world), edition("Alpha", 1_600_000_000)).unwrap();
    let old = ["place.max_age_days=45", "place.on_stale=fail_readiness", "place.min_addresses=1024"];
    let mut relay = run(&world, &old);
    relay.await_page(503, "GeoIP databases: places.mmdb was built");
    world.send(&presses(0, 0..10));
    world.await_relayed(&mut relay);
    assert_eq!(relay.metrics().sum("pressline_mmdb_stale"), 1.0);
    replace(&world, &edition("Beta", now() - 86_400));
    relay.await_ready();
    assert_eq!(relay.metrics().sum("pressline_mmdb_stale"), 0.0);
    assert_eq!(relay.stop(), 0);
    holds_all(&relay.log(), &["stale GeoIP database: places.mmdb was built", "place.max_age_days is 45"]);
    // 256 addresses are too few for a city.
    let small: Vec<Value> = world.output().into_iter().map(|(_, value)| value).collect();
    let place = |value: &Value| (value["city_name"].clone(), value["latitude"].clone(), value["country_code"].clone());
    assert!(small.len() == 10 && small.iter().all(|value| place(value) == (json!(""), Value::Null, json!("FI"))));

    replace(&world, &edition("Gamma", 1_600_000_000));
    let mut relay = run(&world, &["place.max_age_days=45", "place.on_stale=tag"]);
    relay.await_log("stale GeoIP database");
    world.send(&presses(0, 10..20));
    world.await_relayed(&mut relay);
    relay.await_ready();
    assert_eq!(relay.stop(), 0);
    let told = told(&world);
    assert_eq!(told[&session(5)], (String::new(), None));
    assert_eq!(told[&session(15)], ("Gamma".to_string(), Some("1600000000".to_string())));
}

fn now() -> u64 {
    u64::try_from(crate::support::now_us() / 1_000_000).unwrap()
}

#[test]
fn a_process_without_place_databases_takes_sighup_and_goes_on() {
    let Some(world) = world("reload-sink") else { return };
    let sink = format!(
        "[sink]\ntopic = \"{}\"\n\n[sink.clickhouse]\nurl = \"http://127.0.0.1:1\"\ntable = \"presses\"\n",
        world.out
    );
    world.write(&format!("pipelines/{}.toml", world.name), &sink);
    let mut relay = world.run(&[]);
    relay.await_log("metrics on http://");
    relay.signal("HUP");
    std::thread::sleep(Duration::from_millis(500));
    relay.still_runs();
    assert_eq!(relay.stop(), 0);
}
