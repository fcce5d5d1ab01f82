#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use clap::Parser;
use serde_json::Value;

use super::send::Events as _;
use super::*;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    args: GenerateArgs,
}

fn args(line: &str) -> GenerateArgs {
    Line::try_parse_from(std::iter::once("generate").chain(line.split_whitespace())).unwrap().args
}

struct Event {
    made: Made,
    key: Vec<u8>,
    value: Vec<u8>,
}

fn events(recipe: Recipe, count: usize) -> Vec<Event> {
    let addresses = Addresses::bundled(recipe.seed).unwrap();
    let mut presses = Presses::new(recipe, addresses).unwrap();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let mut next = || {
        let made = presses.next_into(&mut key, &mut value);
        Event { made, key: key.clone(), value: value.clone() }
    };
    (0..count).map(|_| next()).collect()
}

fn bytes(recipe: Recipe) -> Vec<u8> {
    events(recipe, 5_000)
        .iter()
        .flat_map(|e| [&e.key[..], &e.value[..], &e.made.timestamp_us.to_le_bytes()].concat())
        .collect()
}

/// What a consumer that knows nothing of this crate has against a record; `None` if it is a good press.
fn complaint(value: Option<&[u8]>) -> Option<&'static str> {
    let Some(value) = value else { return Some("null value") };
    if value.len() > 65_536 {
        return Some("too large");
    }
    let Ok(text) = std::str::from_utf8(value) else { return Some("not UTF-8") };
    let Ok(json) = serde_json::from_str::<Value>(text) else { return Some("not JSON") };
    let depth = value.iter().scan(0i32, |at, b| {
        *at += i32::from(matches!(b, b'{' | b'[')) - i32::from(matches!(b, b'}' | b']'));
        Some(*at)
    });
    if depth.max() > Some(32) {
        return Some("nested too deep");
    }
    if text.matches("\"action\":").count() > 1 {
        return Some("duplicate key");
    }
    for name in ["session_id", "timestamp", "cohort", "action"] {
        if json.get(name).is_none() {
            return Some("missing field");
        }
    }
    let (Some(session), Some(time), Some(action)) =
        (json["session_id"].as_str(), json["timestamp"].as_i64(), json["action"].as_str())
    else {
        return Some("wrong type");
    };
    if uuid::Uuid::parse_str(session).is_err() {
        return Some("bad UUID");
    }
    if !["EnterPage", "PressButton"].contains(&action) {
        return Some("unknown action");
    }
    match time {
        ..10_000_000_000 => return Some("timestamp in seconds"),
        10_000_000_000..10_000_000_000_000 => return Some("timestamp in milliseconds"),
        10_000_000_000_000..946_684_800_000_000 => return Some("timestamp before 2000"),
        4_000_000_000_000_000.. => return Some("timestamp far ahead"),
        _ => {}
    }
    match json.get("ip") {
        None | Some(Value::Null) => None,
        Some(ip) => ip.as_str().and_then(|ip| ip.parse::<IpAddr>().ok()).map_or(Some("bad IP text"), |_| None),
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let recipe = |seed| Recipe { seed, malformed: 0.1, cohorts: vec![1, 2], ..Recipe::default() };
    assert_eq!(bytes(recipe(7)), bytes(recipe(7)));
    assert_ne!(bytes(recipe(7)), bytes(recipe(8)));
}

#[test]
fn every_kind_of_mistake_is_one_and_everything_else_is_a_press() {
    let mut seen = BTreeMap::<&str, usize>::new();
    for event in events(Recipe { malformed: 0.2, ..Recipe::default() }, 20_000) {
        let found = complaint(event.made.has_value.then_some(&event.value[..]));
        match event.made.kind {
            PressKind::Malformed(mistake) => {
                assert_eq!(found, Some(mistake.name()), "{}", String::from_utf8_lossy(&event.value));
                *seen.entry(mistake.name()).or_default() += 1;
            }
            _ => assert_eq!(found, None, "{}", String::from_utf8_lossy(&event.value)),
        }
    }
    assert_eq!(seen.len(), Malformed::ALL.len());
    let (least, most) = (seen.values().min().unwrap(), seen.values().max().unwrap());
    assert!(most - least <= 1, "they do not take turns: {seen:?}");
}

#[test]
fn shares_come_out_as_asked() {
    // Short sessions weigh shares by visitor, so very long ones are evened out by many of them.
    let recipe = Recipe { private: 0.10, unknown: 0.05, malformed: 0.02, v6: 0.25, ..Recipe::default() };
    let events = events(recipe, 400_000);
    let share = |test: &dyn Fn(&Event) -> bool| events.iter().filter(|e| test(e)).count() as f64 / events.len() as f64;
    let near = |what, share: f64, expected: f64| {
        assert!((share - expected).abs() < expected * 0.25, "{what}: {share}, expected about {expected}");
    };
    near("private", share(&|e| e.made.kind == PressKind::Private), 0.098);
    near("unknown", share(&|e| e.made.kind == PressKind::Unknown), 0.049);
    near("malformed", share(&|e| matches!(e.made.kind, PressKind::Malformed(_))), 0.02);
    let v6 = |e: &Event| serde_json::from_slice::<Value>(&e.value).unwrap()["ip"].as_str().unwrap().contains(':');
    let good = share(&|e| e.made.kind == PressKind::Good);
    near("v6", share(&|e| e.made.kind == PressKind::Good && v6(e)) / good, 0.25);
}

#[test]
fn a_session_enters_then_presses_with_one_address_and_time_goes_on() {
    let mut sessions = HashMap::<Vec<u8>, (usize, Value, i64)>::new();
    let mut last = i64::MIN;
    let events = events(Recipe { malformed: 0.0, sessions: Some(50), ..Recipe::default() }, 20_000);
    let (mut mixed, mut previous) = (0, Vec::new());
    for event in &events {
        let value: Value = serde_json::from_slice(&event.value).unwrap();
        assert_eq!(value["session_id"].as_str().unwrap().as_bytes(), event.key, "the key is the session id");
        let time = value["timestamp"].as_i64().unwrap();
        assert_eq!(time, event.made.timestamp_us);
        assert!(time >= last, "time went back");
        last = time;
        let ip = value["ip"].clone();
        let session = sessions.entry(event.key.clone()).or_insert((0, ip.clone(), time));
        let expected = if session.0 == 0 { "EnterPage" } else { "PressButton" };
        assert_eq!(value["action"], expected);
        assert_eq!(session.1, ip, "one visitor has one address");
        session.0 += 1;
        mixed += usize::from(previous != event.key);
        previous.clone_from(&event.key);
    }
    assert!(mixed > 19_000, "sessions are not mixed: {mixed}");
    let longest = sessions.values().map(|s| s.0).max().unwrap();
    let shortest = sessions.values().filter(|s| s.0 == 1).count();
    assert!(longest > 20, "no long tail: {longest}");
    assert!(shortest * 10 > sessions.len() * 2, "too few leave at once: {shortest} of {}", sessions.len());
}

#[test]
fn a_press_has_about_220_bytes() {
    let recipe = Recipe { malformed: 0.0, ..Recipe::default() };
    let events = events(recipe, 10_000);
    let mean = events.iter().map(|e| e.value.len()).sum::<usize>() / events.len();
    assert!((205..=235).contains(&mean), "{mean}");
}

#[test]
fn cohorts_are_null_or_drawn() {
    let cohorts = |cohorts: Vec<i16>| {
        let events = events(Recipe { malformed: 0.0, cohorts, ..Recipe::default() }, 1_000);
        let mut seen: Vec<String> =
            events.iter().map(|e| serde_json::from_slice::<Value>(&e.value).unwrap()["cohort"].to_string()).collect();
        seen.sort();
        seen.dedup();
        seen
    };
    assert_eq!(cohorts(vec![]), ["null"]);
    assert_eq!(cohorts(vec![1, 2]), ["1", "2"]);
}

#[test]
fn back_dated_presses_stay_in_their_spread() {
    let args = args("--count 1000 --start 2025-01-01 --spread 7d");
    let pace = Pace::of(&args, Timestamp::now()).unwrap();
    let addresses = Addresses::bundled(1).unwrap();
    let mut presses = Presses::new(pace.recipe(&args), addresses).unwrap();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let times: Vec<i64> = (0..1_000).map(|_| presses.next_into(&mut key, &mut value).timestamp_us).collect();
    let (start, week) = (1_735_689_600_000_000, 7 * 86_400 * 1_000_000i64);
    assert!(times[0] >= start && times[999] < start + week);
    assert!(times[999] > start + week * 9 / 10, "they fill it");
}

#[test]
fn without_a_start_the_data_ends_now() {
    let now = Timestamp::now();
    let pace = Pace::of(&args("--count 1000 --spread 1h"), now).unwrap();
    assert_eq!(pace.start_us, now.as_microsecond() - 3_600_000_000);
    let pace = Pace::of(&args("--rate 50"), now).unwrap();
    assert_eq!((pace.start_us, pace.step_ns), (now.as_microsecond(), 20_000_000));
}

#[test]
fn options_that_contradict_each_other_are_refused_in_words() {
    let refusal = |line: &str| Pace::of(&args(line), Timestamp::now()).unwrap_err().to_string();
    assert_eq!(refusal("--spread 1h"), "--spread: spreads a number of events; give --count too");
    assert_eq!(refusal("--rate 0"), "--rate: 0 (as fast as it goes) needs --count");
    let parse = |line: &str| {
        Line::try_parse_from(std::iter::once("generate").chain(line.split_whitespace())).err().unwrap().to_string()
    };
    assert!(parse("--private 3").contains("expected a share such as 0.02 or 2%"), "{}", parse("--private 3"));
    assert!(parse("--start yesterday").contains("expected a time such as 2026-01-31T12:00:00Z"));
    assert!(parse("--spread soon").contains("expected a duration such as 7d, 90m or 1h30m"));
    let recipe = Recipe { private: 0.7, unknown: 0.7, ..Recipe::default() };
    let error = Presses::new(recipe, Addresses::bundled(1).unwrap()).err().unwrap().to_string();
    assert!(error.contains("private and unknown shares together are above 1"), "{error}");
}

#[test]
fn lines_hold_every_event_and_the_summary_counts_them() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let args = args("--count 3000 --malformed 10%");
    let pace = Pace::of(&args, Timestamp::now()).unwrap();
    let mut presses = Presses::new(pace.recipe(&args), Addresses::bundled(1).unwrap()).unwrap();
    let mut lines = send::Lines::create(file.path()).unwrap();
    let summary = send::send(&mut presses, &mut lines, &pace, &std::sync::atomic::AtomicBool::new(false)).unwrap();
    let written = std::fs::read(file.path()).unwrap();
    assert_eq!(written.iter().filter(|b| **b == b'\n').count(), 3_000);
    let malformed: u64 = summary.malformed.values().sum();
    assert_eq!(summary.good + summary.private + summary.unknown + malformed, 3_000);
    assert!(summary.to_string().starts_with("sent 3000 events in "), "{summary}");
}

/// (value, time) of every event of a simulated audience.
fn audience(line: &str) -> Vec<(Value, i64)> {
    let args = args(&format!("--start 2026-03-02 --malformed 0 {line}"));
    let pace = Pace::of(&args, Timestamp::now()).unwrap();
    let addresses = Addresses::bundled(args.seed).unwrap();
    let span = args.audience.simulate.unwrap();
    let mut audience = Audience::new(&args.audience, span, pace.recipe(&args), &addresses, &[]).unwrap();
    let expected = audience.events();
    let (mut key, mut value) = (Vec::new(), Vec::new());
    let mut all = Vec::new();
    while let Some(made) = audience.next_into(&mut key, &mut value) {
        let parsed: Value = serde_json::from_slice(&value).unwrap();
        assert_eq!(parsed["session_id"].as_str().unwrap().as_bytes(), key);
        all.push((parsed, made.timestamp_us));
    }
    assert_eq!(all.len() as u64, expected);
    assert!(all.is_sorted_by_key(|(_, time)| *time), "time went back");
    all
}

/// Each session's time of first event and presses.
fn of_sessions(events: &[(Value, i64)]) -> HashMap<String, (i64, u64)> {
    let mut sessions = HashMap::new();
    for (value, time) in events {
        let session = sessions.entry(value["session_id"].as_str().unwrap().to_string()).or_insert((*time, 0));
        session.1 += u64::from(value["action"] == "PressButton");
    }
    sessions
}

#[test]
fn an_audience_is_the_same_for_the_same_seed() {
    let line = |seed| audience(&format!("--simulate 7d --visitors 200 --cohorts 1,2 --seed {seed}"));
    assert_eq!(line(3), line(3));
    assert_ne!(line(3), line(4));
}

#[test]
fn an_audience_doubles_as_fast_as_asked() {
    let events = audience("--simulate 28d --visitors 20000 --doubling 7d --returns 0 --presses 0");
    assert_eq!(of_sessions(&events).len(), 20_000);
    let start = events[0].1 - events[0].1 % 86_400_000_000;
    let mut weeks = [0u32; 4];
    for (_, time) in &events {
        weeks[usize::try_from((time - start) / (7 * 86_400_000_000)).unwrap()] += 1;
    }
    for pair in weeks.windows(2) {
        let ratio = f64::from(pair[1]) / f64::from(pair[0]);
        assert!((ratio - 2.0).abs() < 0.15, "{weeks:?}");
    }
}

#[test]
fn a_cohort_presses_as_many_times_as_asked() {
    let events = audience("--simulate 7d --visitors 20000 --returns 0 --cohorts 1,2 --cohort-effect 2=1.5");
    let mut cohorts = BTreeMap::<i64, (u64, HashMap<String, ()>)>::new();
    for (value, _) in &events {
        let cohort = cohorts.entry(value["cohort"].as_i64().unwrap()).or_default();
        cohort.0 += u64::from(value["action"] == "PressButton");
        cohort.1.insert(value["session_id"].to_string(), ());
    }
    let mean = |cohort: i64| cohorts[&cohort].0 as f64 / cohorts[&cohort].1.len() as f64;
    assert!((mean(1) - 6.0).abs() < 0.25 && (mean(2) - 9.0).abs() < 0.35, "{} and {}", mean(1), mean(2));
}

#[test]
fn returns_become_half_as_frequent_in_the_time_of_boredom() {
    let events = audience("--simulate 35d --visitors 20000 --returns 4 --boredom 7d --presses 0");
    let firsts = of_sessions(&events);
    let end = 35 * 86_400_000_000 + events[0].1 - events[0].1 % 86_400_000_000;
    let mut weeks = [(0u32, 0u32); 3];
    for (week, at) in weeks.iter_mut().enumerate() {
        let after = i64::try_from(week).unwrap() * 7 * 86_400_000_000;
        let old_enough = |first: i64| first + after + 7 * 86_400_000_000 <= end;
        at.0 = firsts.values().filter(|(first, _)| old_enough(*first)).count() as u32;
        let is_in = |(value, time): &&(Value, i64)| {
            let first = firsts[value["session_id"].as_str().unwrap()].0;
            *time > first && old_enough(first) && (after..after + 7 * 86_400_000_000).contains(&(time - first))
        };
        at.1 = events.iter().filter(is_in).count() as u32;
    }
    // Of four returns in all, two fall in the first week, one in the second, half a one in the third.
    for ((sessions, returns), expected) in weeks.into_iter().zip([2.0, 1.0, 0.5]) {
        let found = f64::from(returns) / f64::from(sessions);
        assert!((found / expected - 1.0).abs() < 0.06, "{found}, expected {expected}: {weeks:?}");
    }
}

#[test]
fn an_audience_spreads_from_its_city_and_follows_the_local_day() {
    let line = "--simulate 20d --visitors 3000 --seed-city helsinki,FI --reach 100 --private 0 --unknown 0";
    let places = crate::place::Places::from_bytes("demo.mmdb", crate::place::BUNDLED.to_vec()).unwrap();
    let (mut nearest, mut farthest) = (f64::MAX, 0.0f64);
    let mut hours = [0u32; 24];
    for (value, time) in audience(line) {
        let ip = value["ip"].as_str().unwrap().parse().unwrap();
        let crate::place::Lookup::Found(key) = places.lookup_addr(ip) else { panic!("no place") };
        let place = places.place(key).unwrap();
        let (north, east) = (place.latitude.unwrap(), place.longitude.unwrap());
        // Near enough at the equator of this question: degrees from Helsinki.
        let degrees = (north - 60.17).hypot((east - 24.94) * 60.17f64.to_radians().cos());
        let day = (time - 1_772_409_600_000_000) as f64 / 86_400e6;
        if day < 1.0 {
            nearest = nearest.min(degrees);
            assert!(degrees < 2.0, "{} on the first day", place.city_name);
        }
        farthest = farthest.max(degrees);
        let hour = (time as f64 / 3_600e6 + east / 15.0).rem_euclid(24.0);
        hours[hour as usize] += 1;
    }
    assert!(nearest < 0.5 && farthest > 12.0, "{nearest} to {farthest} degrees");
    let around = |hour: usize| hours[hour] + hours[(hour + 1) % 24];
    assert!(around(19) > 4 * around(7), "{hours:?}");
}

#[test]
fn options_of_an_audience_that_do_not_work_are_refused_in_words() {
    let refusal = |line: &str| {
        let args = args(&format!("--simulate 7d {line}"));
        let pace = Pace::of(&args, Timestamp::now()).unwrap();
        super::run::events(&args, &pace, 0).err().unwrap().to_string()
    };
    let city =
        "--seed-city: found Atlantis, expected a city that the GeoIP databases know, such as Helsinki or Paris,FR";
    assert_eq!(refusal("--seed-city Atlantis"), city);
    let cohort = "--cohort-effect: found cohort 3, expected one of --cohorts";
    assert_eq!(refusal("--cohorts 1,2 --cohort-effect 3=2"), cohort);
    assert_eq!(refusal("--busiest-hour 24"), "--busiest-hour: found 24, expected an hour from 0 to below 24");
    let parse = |line: &str| {
        Line::try_parse_from(std::iter::once("generate").chain(line.split_whitespace())).err().unwrap().to_string()
    };
    assert!(
        parse("--simulate 7d --cohorts 1 --cohort-effect 1").contains("expected a cohort and a factor such as 2=1.3")
    );
    assert!(parse("--simulate 7d --spread 1d").contains("cannot be used with"));
    assert!(parse("--doubling 7d").contains("--simulate"));
    assert!(parse("--simulate 0d").contains("expected a duration above zero"));
}
