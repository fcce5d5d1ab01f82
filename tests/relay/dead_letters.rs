//! What cannot be relayed: each reason with the message a user reads, what goes along and what must not, and the circuit breaker.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cluster::{Raw, Record};
use crate::support::{World, holds_all, now_us, press, presses, session, world};

/// An address that occurs in every bad record and must not come out of any.
const ADDRESS: &str = "81.2.69.142";
/// A text that stands for the rest of the payload.
const SECRET: &str = "payload-must-stay-behind";

/// A bad record and what must be said of it.
struct Case {
    value: Option<Vec<u8>>,
    reason: &'static str,
    field: &'static str,
    message: &'static str,
}

fn sound() -> Value {
    json!({
        "session_id": session(1), "timestamp": now_us(), "cohort": 1, "action": "PressButton", "ip": ADDRESS, "page": SECRET,
    })
}

fn with(field: &str, value: Value) -> Option<Vec<u8>> {
    let mut record = sound();
    record[field] = value;
    Some(record.to_string().into_bytes())
}

fn without(field: &str) -> Option<Vec<u8>> {
    let mut record = sound();
    record.as_object_mut().unwrap().remove(field);
    Some(record.to_string().into_bytes())
}

fn cases() -> Vec<Case> {
    let case = |reason, field, value, message| Case { value, reason, field, message };
    let text = sound().to_string();
    let cut = text.as_bytes()[..text.len() - 1].to_vec();
    let mut not_utf8 = text.clone().into_bytes();
    let inside = not_utf8.len() - 3;
    not_utf8[inside] = 0xff;
    let deep = format!("{},\"x\":{}{}}}", &text[..text.len() - 1], "[".repeat(40), "]".repeat(40));
    let twice = format!("{},\"ip\":\"{ADDRESS}\"}}", &text[..text.len() - 1]);
    let second = now_us() / 1_000_000;
    vec![
        case(
            "not_json",
            "",
            Some(cut),
            "the value is not one well-formed JSON document: send one JSON object a record",
        ),
        case("not_utf8", "", Some(not_utf8), "the value is not UTF-8 text: send JSON in UTF-8"),
        case(
            "too_deep",
            "",
            Some(deep.into_bytes()),
            "arrays and objects are nested deeper than the limit: send a flat JSON object",
        ),
        case(
            "too_large",
            "",
            with("page", json!(SECRET.repeat(4_000))),
            "the record is larger than the limit: raise max_record_bytes, or send smaller records",
        ),
        case(
            "null_value",
            "",
            None,
            "the value is null where a record was expected: the ingress topic takes no tombstones",
        ),
        case(
            "missing_field",
            "session_id",
            without("session_id"),
            "session_id: the field is missing: send it in every record",
        ),
        case(
            "wrong_type",
            "action",
            with("action", json!(7)),
            "action: the type is not the expected one: send the type that the pipeline reads (number where text was expected)",
        ),
        case("wrong_type", "ip", with("ip", json!([ADDRESS])), "(array where text or null was expected)"),
        case("wrong_type", "", Some(format!("[\"{ADDRESS}\"]").into_bytes()), "(array where an object was expected)"),
        case(
            "duplicate_key",
            "ip",
            Some(twice.into_bytes()),
            "ip: the field is there twice: send it once, since readers differ in which one they take",
        ),
        case(
            "bad_uuid",
            "session_id",
            with("session_id", json!(ADDRESS)),
            "session_id: not a UUID: send 36 characters of hyphenated hexadecimal text",
        ),
        case(
            "unknown_action",
            "action",
            with("action", json!(ADDRESS)),
            "action: the action is not on the pipeline's list: add it to `actions`, or fix the sender",
        ),
        case("implausible_timestamp", "timestamp", with("timestamp", json!(second)), "(looks like seconds)"),
        case(
            "implausible_timestamp",
            "timestamp",
            with("timestamp", json!(second * 1000)),
            "(looks like milliseconds)",
        ),
        case("implausible_timestamp", "timestamp", with("timestamp", json!(928_195_200_000_000_i64)), "(before 2000)"),
        case(
            "implausible_timestamp",
            "timestamp",
            with("timestamp", json!(now_us() + 90_000_000_000)),
            "(more than a day ahead)",
        ),
        case("implausible_timestamp", "timestamp", with("timestamp", json!(ADDRESS)), "(text that is not ISO 8601)"),
        case(
            "bad_ip",
            "ip",
            with("ip", json!(format!("{ADDRESS}/24"))),
            "ip: not an IPv4 or IPv6 address: send its text without a prefix, or null",
        ),
    ]
}

#[test]
fn each_reason_is_told_in_words_and_nothing_of_the_payload_goes_along() {
    let Some(world) = world("dead-letters") else { return };
    let cases = cases();
    // An hour ago: not the time of sending, and not so old that retention would eat it at once.
    let begun_ms = now_us() / 1000 - 3_600_000;
    let raws: Vec<Raw> = cases
        .iter()
        .enumerate()
        .map(|(i, case)| Raw {
            partition: Some(1),
            key: Some(format!("{ADDRESS}-{SECRET}")),
            value: case.value.clone(),
            headers: vec![("trace", "allowed"), ("x-forwarded-for", ADDRESS)],
            timestamp_ms: Some(begun_ms + i as i64),
        })
        .collect();
    world.send(&raws);
    let mut relay = world.run(&["source.headers=[\"trace\"]"]);
    world.await_relayed(&mut relay);
    let metrics = relay.metrics();
    let mut dead = world.dead_letters();
    assert_eq!(dead.len(), cases.len());
    dead.sort_by_key(|record| record.header("pressline.offset").unwrap().parse::<usize>().unwrap());
    for (offset, (case, record)) in cases.iter().zip(&dead).enumerate() {
        let context = format!("{} {}: {record:?}", case.reason, case.field);
        assert_eq!(record.header("pressline.reason"), Some(case.reason), "{context}");
        assert_eq!(record.header("pressline.field"), Some(case.field), "{context}");
        assert_eq!(record.header("pressline.topic"), Some(world.raw.as_str()), "{context}");
        assert_eq!(record.header("pressline.partition"), Some("1"), "{context}");
        assert_eq!(record.header("pressline.offset"), Some(offset.to_string().as_str()), "{context}");
        assert!(record.header("pressline.message").unwrap().contains(case.message), "{context}");
        assert_eq!(record.header("pressline.pipeline"), Some(world.name.as_str()), "{context}");
        assert_eq!(record.headers.len(), 8, "{context}");
        assert_eq!(record.value, None, "{context}");
        assert_eq!(String::from_utf8_lossy(&record.key), format!("{}/1/{offset}", world.raw), "{context}");
        assert_eq!(record.timestamp_ms, Some(begun_ms + offset as i64), "{context}");
        nothing_private(record);
    }
    assert_eq!(world.output().len(), 0);
    for reason in cases.iter().map(|case| case.reason).collect::<BTreeSet<_>>() {
        let sent = cases.iter().filter(|case| case.reason == reason).count();
        let counted = metrics.with("pressline_records_dead_total", &format!("reason=\"{reason}\""));
        assert_eq!(counted, sent as f64, "metric of {reason}");
    }
    let (_, page) = relay.get("/metrics");
    assert_eq!(relay.stop(), 0);
    for text in [page, relay.log()] {
        assert!(!text.contains(ADDRESS) && !text.contains(SECRET), "{text}");
    }
}

fn nothing_private(record: &Record) {
    for trace in [ADDRESS, SECRET] {
        assert!(!record.holds(trace.as_bytes()), "{trace} in {record:?}");
    }
}

/// A sender may put any number into the record's time and any text into a header, an address as well, or more than the output
/// topic takes.
#[test]
fn a_time_that_is_none_and_a_header_with_an_address_within_or_too_long_stay_behind() {
    let Some(world) = world("strange-times") else { return };
    let mut relay = world.run(&["source.headers=[\"note\"]"]);
    let as_number = u32::from(ADDRESS.parse::<std::net::Ipv4Addr>().unwrap());
    let begun_ms = now_us() / 1000;
    let long: &str = Box::leak("x".repeat(990_000).into_boxed_str());
    let record = |number: u128, action: &str| Raw {
        partition: Some(0),
        key: None,
        value: Some(
            format!("{{\"session_id\":\"{}\",\"timestamp\":{},\"action\":\"{action}\"}}", session(number), now_us())
                .into_bytes(),
        ),
        headers: vec![
            ("note", "for=81.2.69.142;proto=https"),
            ("note", "ip:2001:db8::1"),
            ("note", long),
            ("note", "version 1.2.3"),
        ],
        timestamp_ms: Some(i64::from(as_number)),
    };
    world.send(&[record(0xb0, "EnterPage"), record(0xb1, "Nonsense")]);
    world.await_relayed(&mut relay);
    let (output, letters) = (world.output(), world.dead_letters());
    assert_eq!((output.len(), letters.len()), (1, 1));
    let headers: Vec<(&str, &str)> = output[0].0.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(headers, [("note", "version 1.2.3")]);
    for record in [&output[0].0, &letters[0]] {
        assert!(record.timestamp_ms.unwrap() >= begun_ms, "the time of writing: {record:?}");
    }
}

#[test]
fn what_goes_along_and_what_stays_behind() {
    let Some(world) = world("along") else { return };
    let mut relay = world.run(&["source.headers=[\"trace\", \"visitor\", \"note\"]"]);
    // An hour ago: not the time of sending, and not so old that retention would eat it at once.
    let begun_ms = now_us() / 1000 - 3_600_000;
    let record = |number: u128, ip: &str| {
        let body = format!(
            "{{\"session_id\":\"{}\",\"timestamp\":\"2026-11-20T11:00:00.123456+02:00\",\"action\":\"EnterPage\"{ip},\
             \"page\":\"/a\",\"more\":{{\"ip\":\"{ADDRESS}\"}}}}",
            session(number).to_uppercase()
        );
        Raw {
            partition: Some(0),
            key: Some("a key that is not the session".into()),
            value: Some(body.into_bytes()),
            headers: vec![
                ("trace", "4711"),
                ("visitor", ADDRESS),
                ("x-forwarded-for", ADDRESS),
                ("note", "not an address"),
            ],
            timestamp_ms: Some(begun_ms + number as i64),
        }
    };
    let known = format!(",\"ip\":\"{ADDRESS}\"");
    world.send(&[
        record(0xa0, ""),
        record(0xa1, ",\"ip\":null"),
        record(0xa2, ",\"ip\":\"10.1.2.3\""),
        record(0xa3, ",\"ip\":\"2001:db8::1\""),
        record(0xa4, &known),
    ]);
    world.await_relayed(&mut relay);
    let mut output = world.output();
    output.sort_by_key(|(record, _)| record.timestamp_ms);
    assert_eq!(output.len(), 5);
    for (number, (record, fields)) in (0xa0_u128..).zip(&output) {
        assert_eq!(fields["session_id"], session(number), "lower case, whatever came");
        assert_eq!(record.key, session(number).as_bytes(), "the key is the session id");
        assert_eq!(record.timestamp_ms, Some(begun_ms + number as i64));
        let headers: Vec<(&str, &str)> = record.headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(headers, [("trace", "4711"), ("note", "not an address")]);
        let at: jiff::Timestamp = "2026-11-20T09:00:00.123456Z".parse().unwrap();
        assert_eq!(fields["timestamp"], at.as_microsecond(), "ISO 8601 with its offset");
        assert_eq!(fields["cohort"], Value::Null);
        if number < 0xa4 {
            assert_eq!(fields["country_code"], "--");
            assert_eq!(fields["city_name"], "");
            assert_eq!(fields["latitude"], Value::Null);
        }
        assert!(!record.holds(ADDRESS.as_bytes()), "{record:?}");
    }
    let metrics = relay.metrics();
    assert_eq!(metrics.sum("pressline_unknown_fields_total"), 10.0, "`page` and `more` of five records");
    assert_eq!(metrics.sum("pressline_records_dead_total"), 0.0);
    assert_eq!(relay.stop(), 0);
    assert!(!relay.log().contains(ADDRESS));
}

#[test]
fn the_circuit_breaker_stops_before_a_mistake_eats_the_stream() {
    let Some(world) = world("breaker") else { return };
    let batch = "batch.max_records=500";
    let before = presses(0, 0..4_000);
    world.send(&before);
    let mut relay = world.run(&[batch]);
    world.await_relayed(&mut relay);
    // Of less than a window the share of what was seen counts: the 4,001st bad one is more than half.
    let bad = vec![Raw::value(0, "{\"session_id\":"); 6_000];
    world.send(&bad);
    assert_eq!(relay.exit_code(Duration::from_secs(60)), 1);
    holds_all(
        &relay.log(),
        &[
            "circuit breaker: 4001 of the last 8001 records of topic",
            "are dead letters, more than dead_letter.max_dead_share = 0.5",
            "the last one: the value is not one well-formed JSON document",
            "or raise dead_letter.max_dead_share, and start again: the batch was rolled back, nothing is lost",
        ],
    );
    let committed = world.committed()[&0];
    assert!((7_500..=8_000).contains(&committed), "committed up to {committed}, it tripped at 8001");
    let dead = world.dead_letters().len() as i64;
    assert_eq!(dead, committed - 4_000, "of the batch that tripped it nothing was committed");
    everything_once(&world, 4_000, dead);

    world.send(&presses(0, 4_000..5_000));
    let mut relay = world.run(&[batch, "dead_letter.max_dead_share=1.0"]);
    world.await_relayed(&mut relay);
    everything_once(&world, 5_000, 6_000);
    assert_eq!(relay.stop(), 0);
}

/// 30 records a start, of which most are bad, and two workers: no one of them would ever see enough.
#[test]
fn the_circuit_breaker_remembers_what_was_seen_over_restarts_and_workers() {
    let Some(world) = world("slow-breaker") else { return };
    for start in 0..3 {
        for partition in 0..3 {
            let first = 1_000 * partition as u128 + 100 * start;
            world.send(&presses(partition, first..first + 3));
            world.send(&vec![Raw::value(partition, "{"); 7]);
        }
        let mut relay = world.run(&["workers=2"]);
        world.await_relayed(&mut relay);
        assert_eq!(relay.stop(), 0, "start {start}: {}", relay.log());
    }
    let mut relay = world.run(&["workers=2"]);
    // A partition brings what was seen of it when it is assigned: each worker has some, and none is on its way.
    let begun = Instant::now();
    loop {
        let metrics = relay.metrics();
        let of = |worker: &str| metrics.with("pressline_assigned_partitions", worker);
        if of("worker=\"0\"") > 0.0 && of("worker=\"1\"") > 0.0 && metrics.sum("pressline_assigned_partitions") == 3.0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(60), "{}", relay.log());
        std::thread::sleep(Duration::from_millis(100));
    }
    world.send(&vec![Raw::value(0, "{"); 20]);
    assert_eq!(relay.exit_code(Duration::from_secs(60)), 1);
    holds_all(&relay.log(), &["circuit breaker: 73 of the last 100 records of topic"]);
    assert_eq!(world.dead_letters().len(), 63, "nothing of the batch that tripped it");

    // Whoever raises the limit for one start has decided on these.
    let mut relay = world.run(&["dead_letter.max_dead_share=1.0"]);
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);
    world.send(&[Raw::value(0, "{")]);
    let mut relay = world.run(&[]);
    world.await_relayed(&mut relay);
    assert_eq!(relay.stop(), 0);
    everything_once(&world, 27, 84);
}

fn everything_once(world: &World, written: u128, dead: i64) {
    let sessions: Vec<String> = world.output().iter().map(|(_, f)| f["session_id"].as_str().unwrap().into()).collect();
    let distinct: BTreeSet<&String> = sessions.iter().collect();
    assert_eq!(sessions.len() as u128, written, "written");
    assert_eq!(distinct.len() as u128, written, "none doubled");
    let letters: BTreeSet<Vec<u8>> = world.dead_letters().into_iter().map(|record| record.key).collect();
    assert_eq!(letters.len() as i64, dead, "dead letters, each once");
    assert_eq!(world.dead_letters().len() as i64, dead);
}

#[test]
fn an_action_list_of_ones_own() {
    let Some(world) = world("actions") else { return };
    world.send(&[
        Raw::value(0, press(1)),
        Raw::value(0, press(2).replace("PressButton", "EatChips")),
        Raw::value(0, press(3).replace("PressButton", "EnterPage")),
    ]);
    let mut relay = world.run(&["source.actions=[\"EatChips\", \"EnterPage\"]"]);
    world.await_relayed(&mut relay);
    let actions: BTreeSet<String> = world.output().iter().map(|(_, f)| f["action"].as_str().unwrap().into()).collect();
    assert_eq!(actions, ["EatChips", "EnterPage"].map(String::from).into());
    assert_eq!(world.dead_letters()[0].header("pressline.reason"), Some("unknown_action"));
}
