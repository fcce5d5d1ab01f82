//! What must hold for any bytes at all, one function a fuzz target. `tests/offline/fuzz_corpus.rs` runs them on the committed
//! corpus in every test run.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, LazyLock};

use pressline::avro::{Cursor, Shape, timestamp, write_json};
use pressline::kafka::dead_letter::Reason;
use pressline::pipeline::press::decode::{Decoder, Limits};
use pressline::pipeline::press::event::{Actions, ClientIp};
use pressline::place::{BUNDLED, Lookup, Places};

/// 2026-11-21T12:00:00Z, in microseconds.
const NOW_US: i64 = 1_795_262_400_000_000;
/// Networks of a database that are looked up again.
const NETWORKS: usize = 1000;

/// An ingress record: what is accepted says what serde_json reads, and only what is no JSON is refused as such.
pub fn decode(value: &[u8]) {
    static DECODER: LazyLock<Decoder> = LazyLock::new(|| {
        let actions = ["EnterPage", "PressButton", "ExitPage"].map(str::to_owned).to_vec();
        Decoder::new(Limits::default(), Arc::new(Actions::new(actions).unwrap()))
    });
    let json = serde_json::from_slice::<serde_json::Value>(value);
    match DECODER.decode(Some(value), NOW_US) {
        Ok(press) => {
            let json = json.expect("what is accepted is JSON");
            let text = |field: &str| json[field].as_str().map(str::to_owned);
            assert_eq!(text("session_id").map(|id| id.to_lowercase()).as_deref(), Some(press.body.session_id.as_str()));
            assert_eq!(json["cohort"].as_i64(), press.body.cohort.map(i64::from));
            assert_eq!(text("ip").is_some(), press.ip.is_some());
            assert_eq!(timestamp::plausible(press.body.timestamp_us, NOW_US), Ok(press.body.timestamp_us));
            if let Some(us) = json["timestamp"].as_i64() {
                assert_eq!(us, press.body.timestamp_us);
            }
        }
        Err(reject) if reject.reason == Reason::NotJson => assert!(json.is_err(), "JSON is refused as none"),
        Err(reject) if reject.reason == Reason::NotUtf8 => assert!(std::str::from_utf8(value).is_err()),
        Err(reject) => {
            let early = [Reason::TooDeep, Reason::TooLarge].contains(&reject.reason);
            assert!(early || json.is_ok(), "{:?} of what is no JSON", reject.reason);
        }
    }
}

/// Text of a time: what is read is the time that jiff reads, cut to microseconds, and is printed and read back.
pub fn timestamp(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // The first second of jiff's calendar fails an assertion of jiff 0.2 that builds for fuzzing have, and releases not.
    if text.contains("-009999-01-02") {
        return;
    }
    let parsed = timestamp::parse(text);
    assert_eq!(parsed.is_ok(), text.parse::<jiff::Timestamp>().is_ok());
    if let Ok(us) = parsed {
        // Cutting off may lead out of jiff's calendar at its very beginning.
        if let Ok(printed) = jiff::Timestamp::from_microsecond(us).map(|time| time.to_string()) {
            assert_eq!(timestamp::parse(&printed), Ok(us), "{printed}");
        }
        assert_eq!(timestamp::parse_plausible(text, NOW_US).ok(), timestamp::plausible(us, NOW_US).ok());
    }
}

/// Text of an address: what is read is looked up as the same address parsed by hand.
pub fn address(bytes: &[u8]) {
    static PLACES: LazyLock<Places> = LazyLock::new(|| Places::from_bytes("demo.mmdb", BUNDLED.to_vec()).unwrap());
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let expected = text.parse::<IpAddr>().ok();
    let parsed = ClientIp::parse(text);
    let Some(expected) = expected else {
        // A port, brackets or a zone was cut off.
        let has_more = text.contains(['[', '%']) || text.matches(':').count() == 1;
        return assert!(parsed.is_none() || has_more);
    };
    let ip = parsed.expect("what the standard library reads");
    let found = PLACES.lookup(&ip);
    assert_eq!(found, PLACES.lookup_addr(expected));
    assert_eq!(found, PLACES.lookup_addr(expected.to_canonical()));
    if let Lookup::Found(key) = found {
        PLACES.place(key).expect("a record that opening has checked");
    }
}

/// A GeoIP database: a file that opens has no record that cannot be read, and finds what the maxminddb crate finds.
pub fn mmdb(file: &[u8]) {
    let Ok(places) = Places::from_bytes("fuzz.mmdb", file.to_vec()) else { return };
    let reader = maxminddb::Reader::from_source(file).expect("what opens has whole metadata");
    let fixed = [IpAddr::V4(Ipv4Addr::new(81, 2, 69, 142)), IpAddr::V6(Ipv6Addr::new(0x2a01, 4, 0, 0, 0, 0, 0, 1))];
    let networks = places.networks().take(NETWORKS).map(|network| network.addr);
    for address in fixed.into_iter().chain(networks) {
        if let Lookup::Found(key) = places.lookup_addr(address) {
            places.place(key).expect("a record that opening has checked");
            let found = reader.lookup(address).expect("an address the file is asked for");
            assert!(found.has_data(), "{address} is found here and not by maxminddb");
        }
    }
    assert!(places.sample_networks(10).len() <= 10);
}

/// A schema's text, a zero byte, a datum: skipping and reading agree on whether it is one, and where it ends.
pub fn avro(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == 0) else { return };
    let Ok(schema) = std::str::from_utf8(&bytes[..end]) else { return };
    let Ok(shape) = Shape::parse(schema) else { return };
    let datum = &bytes[end + 1..];
    let (mut skipping, mut reading) = (Cursor::new(datum), Cursor::new(datum));
    let skipped = skipping.skip(&shape);
    let mut json = Vec::new();
    let read = write_json(&shape, &mut reading, &mut json);
    assert_eq!(skipped, read);
    if skipped.is_ok() {
        assert_eq!(skipping.rest().len(), reading.rest().len());
        serde_json::from_slice::<serde::de::IgnoredAny>(&json).expect("what is written is JSON");
    }
}
