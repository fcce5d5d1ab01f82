//! From the one reader of the topic to all who watch the map.
//!
//! The reader hands over what came in a quarter of a second; it is counted, encoded once as one frame, and the same bytes go
//! to every watcher. Counts in a frame are whole, the events in it are a sample. A watcher that comes, or that was too slow,
//! gets a snapshot of the counts first, so that it never misses one.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::map::project;
use super::press::Press;
use super::tally::Tally;

/// Frames kept for watchers whose connection broke: a minute's.
const KEPT_FRAMES: usize = 240;
/// Frames that a watcher may be behind before it gets a snapshot instead.
const BEHIND: usize = 32;
/// Presses in a frame that light up; more would not be told apart by anybody.
const SAMPLE: usize = 25;
/// Milliseconds for which a snapshot is given to all who ask.
const SNAPSHOT_MS: i64 = 1_000;
/// Records shown.
const RECORDS: usize = 8;

/// The same bytes for all watchers.
#[derive(Clone)]
pub struct Frame {
    id: String,
    /// A server-sent event.
    pub bytes: Bytes,
}

/// A record with where it stands and when it came.
pub struct Arrived {
    /// Partition.
    pub partition: i32,
    /// Offset.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub at_ms: i64,
    /// The record.
    pub press: Press,
}

#[derive(Default)]
struct State {
    tally: Tally,
    positions: BTreeMap<i32, i64>,
    frames: VecDeque<Frame>,
    newest: VecDeque<Shown>,
    /// The last one, and when it was made.
    snapshot: Option<(i64, Frame)>,
    problem: Option<&'static str>,
}

/// See the module.
pub struct Hub {
    state: Mutex<State>,
    frames: broadcast::Sender<Frame>,
}

/// What a watcher gets: first what it lacks, then what comes.
pub struct Watching {
    /// To be sent at once.
    pub first: Vec<Frame>,
    /// What comes after.
    pub next: broadcast::Receiver<Frame>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { state: Mutex::default(), frames: broadcast::Sender::new(BEHIND) }
    }
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts what was there before we came, without lighting it up.
    pub fn remember(&self, records: &[Arrived]) {
        let mut state = self.state();
        state.count(records);
        state.snapshot = None;
    }

    /// Gives all who watch a snapshot: what is remembered is in no frame, and they may have come before it was.
    pub fn refresh(&self, now_ms: i64) {
        let mut state = self.state();
        let snapshot = state.snapshot_frame(now_ms);
        self.send(&mut state, snapshot);
    }

    /// Counts what came, and shows it.
    pub fn show(&self, records: &[Arrived], now_ms: i64) {
        if records.is_empty() {
            return;
        }
        let mut state = self.state();
        state.count(records);
        state.snapshot = None;
        let id = position_id(&state.positions);
        let bytes = event("frame", &id, &frame(records, now_ms));
        self.send(&mut state, Frame { id, bytes });
    }

    /// To all who watch, and to those whose connection is broken just now.
    fn send(&self, state: &mut State, frame: Frame) {
        if state.frames.len() >= KEPT_FRAMES {
            state.frames.pop_front();
        }
        state.frames.push_back(frame.clone());
        // Nobody watches: that is no error.
        let _ = self.frames.send(frame);
    }

    /// What keeps the reader from reading, for people; `None` when it reads.
    pub fn set_problem(&self, problem: Option<&'static str>) {
        self.state().problem = problem;
    }

    /// See [`Hub::set_problem`].
    pub fn problem(&self) -> Option<&'static str> {
        self.state().problem
    }

    /// A new watcher, or one that comes back and says which frame it had last.
    pub fn watch(&self, last: Option<&str>, now_ms: i64) -> Watching {
        let mut state = self.state();
        let next = self.frames.subscribe();
        let had = last.and_then(|id| state.frames.iter().position(|frame| frame.id == id));
        if let Some(had) = had {
            let first = state.frames.iter().skip(had + 1).cloned().collect();
            return Watching { first, next };
        }
        Watching { first: vec![state.snapshot_frame(now_ms)], next }
    }

    /// Looks at the counts.
    pub fn with_tally<T>(&self, look: impl FnOnce(&Tally) -> T) -> T {
        look(&self.state().tally)
    }

    /// The newest records as text, newest first.
    pub fn newest(&self) -> Vec<String> {
        self.state().newest.iter().map(to_json).collect()
    }
}

impl State {
    fn count(&mut self, records: &[Arrived]) {
        for record in records {
            self.tally.add(&record.press, record.at_ms);
            self.positions.insert(record.partition, record.offset);
            self.newest.push_front(shown(record));
        }
        self.newest.truncate(RECORDS);
    }

    /// Made once for all who ask within a second and before the next record. Not kept longer: by its time browsers tell the
    /// server's, and so which minutes are the last hour.
    fn snapshot_frame(&mut self, now_ms: i64) -> Frame {
        if let Some((made_ms, frame)) = &self.snapshot
            && now_ms - made_ms < SNAPSHOT_MS
        {
            return frame.clone();
        }
        let id = position_id(&self.positions);
        let frame = Frame { bytes: event("snapshot", &id, &self.snapshot(now_ms)), id };
        self.snapshot = Some((now_ms, frame.clone()));
        frame
    }

    fn snapshot(&self, now_ms: i64) -> String {
        let hour = self.tally.last_hour(now_ms);
        let minutes = hour.map(|minute| json!([minute.minute, minute.countries, minute.generated])).collect();
        to_json(&Snapshot { at: now_ms, minutes, r: &self.newest })
    }
}

/// A record as others see it, its fields in the schema's order.
#[derive(Clone, Serialize)]
struct Shown {
    partition: i32,
    offset: i64,
    value: Press,
}

fn shown(record: &Arrived) -> Shown {
    Shown { partition: record.partition, offset: record.offset, value: record.press.shown() }
}

#[derive(Serialize)]
struct Snapshot<'a> {
    at: i64,
    minutes: Vec<Value>,
    r: &'a VecDeque<Shown>,
}

#[derive(Serialize)]
struct Fresh<'a> {
    at: i64,
    /// Presses by country.
    c: BTreeMap<&'a str, u32>,
    /// Generated ones among them.
    g: u32,
    /// Presses that light up: x, y, country, whether generated.
    e: Vec<Value>,
    /// The newest records, newest first.
    r: Vec<Shown>,
}

/// What these types hold can always be written.
fn to_json(data: &impl Serialize) -> String {
    serde_json::to_string(data).unwrap_or_default()
}

/// Counts by country, whole; presses that light up, a sample spread over all; the newest records.
fn frame(records: &[Arrived], now_ms: i64) -> String {
    let mut countries: BTreeMap<&str, u32> = BTreeMap::new();
    let mut generated = 0u32;
    let presses: Vec<&Press> = records.iter().map(|record| &record.press).filter(|press| press.is_press()).collect();
    for press in &presses {
        *countries.entry(press.country()).or_default() += 1;
        generated += u32::from(press.cohort.is_none());
    }
    let step = presses.len().div_ceil(SAMPLE).max(1);
    let lights = presses.iter().step_by(step).map(|press| {
        let at = press.latitude.zip(press.longitude).and_then(|(north, east)| project(north, east));
        let tenth = |n: f64| (n * 10.0).round() / 10.0;
        let (x, y) = at.map_or((Value::Null, Value::Null), |(x, y)| (tenth(x).into(), tenth(y).into()));
        json!([x, y, press.country(), u8::from(press.cohort.is_none())])
    });
    let newest = records.iter().rev().take(RECORDS).map(shown).collect();
    to_json(&Fresh { at: now_ms, c: countries, g: generated, e: lights.collect(), r: newest })
}

/// `PARTITION:OFFSET` of the last record of each partition, with blanks between them.
fn position_id(positions: &BTreeMap<i32, i64>) -> String {
    let all: Vec<String> = positions.iter().map(|(partition, offset)| format!("{partition}:{offset}")).collect();
    all.join(" ")
}

/// A server-sent event: JSON has no line breaks.
fn event(name: &str, id: &str, data: &str) -> Bytes {
    Bytes::from(format!("event: {name}\nid: {id}\ndata: {data}\n\n"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn arrived(offset: i64, country: &str) -> Arrived {
        let press = Press {
            session_id: "c0ffee00-abcd-4abc-8def-0123456789ab".into(),
            action: "PressButton".into(),
            country_code: country.into(),
            latitude: Some(0.0),
            longitude: Some(0.0),
            cohort: Some(0),
            ..Press::default()
        };
        Arrived { partition: 1, offset, at_ms: 60_000, press }
    }

    fn text(frame: &Frame) -> &str {
        std::str::from_utf8(&frame.bytes).unwrap()
    }

    #[test]
    fn a_watcher_gets_a_snapshot_and_then_each_frame_once() {
        let hub = Hub::default();
        hub.remember(&[arrived(3, "DE")]);
        let mut watching = hub.watch(None, 60_000);
        assert!(text(&watching.first[0]).starts_with("event: snapshot\nid: 1:3\n"), "{}", text(&watching.first[0]));
        assert!(text(&watching.first[0]).contains(r#""minutes":[[1,{"DE":1},0]]"#), "{}", text(&watching.first[0]));
        hub.show(&[arrived(4, "FR"), arrived(5, "FR")], 60_100);
        let frame = watching.next.try_recv().unwrap();
        assert!(text(&frame).starts_with("event: frame\nid: 1:5\n"), "{}", text(&frame));
        assert!(text(&frame).contains(r#""c":{"FR":2}"#), "{}", text(&frame));
        let record = r#"{"partition":1,"offset":5,"value":{"session_id":"c0ffee00"#;
        assert!(text(&frame).contains(record), "{}", text(&frame));
        assert!(!text(&frame).contains("abcd-4abc"), "a whole session id is shown: {}", text(&frame));
        assert!(watching.next.try_recv().is_err());
    }

    #[test]
    fn a_snapshot_says_what_time_it_is_however_long_nobody_has_pressed() {
        let hub = Hub::default();
        hub.remember(&[arrived(0, "FR")]);
        let at = |now_ms| {
            let first = hub.watch(None, now_ms).first;
            text(&first[0]).contains(&format!("\"at\":{now_ms},"))
        };
        assert!(at(60_000) && !at(60_001) && at(1_860_000));
    }

    #[test]
    fn who_came_before_the_past_was_read_gets_it_too() {
        let hub = Hub::default();
        let mut watching = hub.watch(None, 60_000);
        hub.remember(&[arrived(0, "FR"), arrived(1, "FR")]);
        assert!(watching.next.try_recv().is_err());
        hub.refresh(60_000);
        let frame = watching.next.try_recv().unwrap();
        assert!(text(&frame).starts_with("event: snapshot\nid: 1:1\n"), "{}", text(&frame));
        assert!(text(&frame).contains(r#"{"FR":2}"#), "{}", text(&frame));
        hub.show(&[arrived(2, "FR")], 60_000);
        let first = hub.watch(Some("1:1"), 60_000).first;
        assert!(first.len() == 1 && text(&first[0]).starts_with("event: frame\nid: 1:2\n"), "{}", text(&first[0]));
    }

    #[test]
    fn who_comes_back_gets_what_it_missed_and_no_more() {
        let hub = Hub::default();
        for offset in 0..4 {
            hub.show(&[arrived(offset, "FR")], 60_000);
        }
        let ids = |watching: Watching| watching.first.iter().map(|frame| frame.id.clone()).collect::<Vec<_>>();
        assert_eq!(ids(hub.watch(Some("1:1"), 60_000)), ["1:2", "1:3"]);
        assert_eq!(ids(hub.watch(Some("1:3"), 60_000)), Vec::<String>::new());
        // Of another process, or longer ago than frames are kept.
        assert!(text(&hub.watch(Some("1:77"), 60_000).first[0]).starts_with("event: snapshot\nid: 1:3\n"));
    }

    #[test]
    fn counts_are_whole_where_events_are_a_sample() {
        let records: Vec<Arrived> = (0..1_000).map(|offset| arrived(offset, "FR")).collect();
        let frame: Value = serde_json::from_str(&frame(&records, 0)).unwrap();
        assert_eq!(frame["c"]["FR"], 1_000);
        assert!((20..=SAMPLE).contains(&frame["e"].as_array().unwrap().len()));
        assert_eq!(frame["r"].as_array().unwrap().len(), RECORDS);
        assert_eq!(frame["r"][0]["offset"], 999);
    }

    #[test]
    fn frames_that_are_kept_are_bounded() {
        let hub = Hub::default();
        for offset in 0..KEPT_FRAMES as i64 + 50 {
            hub.show(&[arrived(offset, "FR")], 60_000);
        }
        assert_eq!(hub.state().frames.len(), KEPT_FRAMES);
    }
}
