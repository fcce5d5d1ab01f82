//! From the one reader of the topic to all who watch the map.
//!
//! The reader hands over what came in a quarter of a second; it is counted, encoded once as one frame, and the same bytes go
//! to every watcher. Counts in a frame are whole, the events in it are a sample. A watcher that comes, or that was too slow,
//! gets a snapshot of the counts first, so that it never misses one; one that comes back gets what it missed.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::{broadcast, watch};

use super::history::{Arrived, History, Kept, Missed, Positions, Since};
use super::press::Press;
use super::tally::{MINUTES, Tally};

/// Frames that a watcher may be behind before it gets a snapshot instead.
const BEHIND: usize = 32;
/// Presses in a frame that light up; more would not be told apart by anybody.
const SAMPLE: usize = 25;
/// The same of what a watcher has missed.
const MISSED_SAMPLE: usize = 100;
/// Milliseconds for which a snapshot is given to all who ask.
const SNAPSHOT_MS: i64 = 1_000;
/// Records shown.
const RECORDS: usize = 8;

#[derive(Default)]
struct State {
    tally: Tally,
    history: History,
    newest: VecDeque<Shown>,
    /// The last one, and when it was made.
    snapshot: Option<(i64, Bytes)>,
    problem: Option<&'static str>,
}

/// See the module.
pub struct Hub {
    state: Mutex<State>,
    /// Server-sent events, the same bytes for all.
    frames: broadcast::Sender<Bytes>,
    is_ready: watch::Sender<bool>,
}

/// What a watcher gets: first what it lacks, then what comes.
pub struct Watching {
    /// To be sent at once.
    pub first: VecDeque<Bytes>,
    /// What comes after.
    pub next: broadcast::Receiver<Bytes>,
}

impl Default for Hub {
    fn default() -> Self {
        Self { state: Mutex::default(), frames: broadcast::Sender::new(BEHIND), is_ready: watch::Sender::default() }
    }
}

impl Hub {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A partition is read from this offset on, and not from where it was left off.
    pub fn begin(&self, partition: i32, from: i64) {
        self.state().history.begin(partition, from);
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
        self.send(state.snapshot_event(now_ms));
    }

    /// The past is read: who comes back can be told what it missed.
    pub fn set_ready(&self) {
        self.is_ready.send_if_modified(|is_ready| !std::mem::replace(is_ready, true));
    }

    /// Says when [`Hub::set_ready`] was called.
    pub fn ready(&self) -> watch::Receiver<bool> {
        self.is_ready.subscribe()
    }

    /// Counts what came, and shows it.
    pub fn show(&self, records: &[Arrived], now_ms: i64) {
        if records.is_empty() {
            return;
        }
        let mut state = self.state();
        let kept = state.count(records);
        state.snapshot = None;
        let newest = records.iter().rev().take(RECORDS).map(shown).collect();
        self.send(event("frame", &state.history.id(), &frame(&kept, newest, now_ms)));
    }

    fn send(&self, event: Bytes) {
        // Nobody watches: that is no error.
        let _ = self.frames.send(event);
    }

    /// What keeps the reader from reading, for people; `None` when it reads.
    pub fn set_problem(&self, problem: Option<&'static str>) {
        self.state().problem = problem;
    }

    /// See [`Hub::set_problem`].
    pub fn problem(&self) -> Option<&'static str> {
        self.state().problem
    }

    /// A new watcher, or one that comes back and says what it had last.
    pub fn watch(&self, last: Option<&Positions>, now_ms: i64) -> Watching {
        let mut state = self.state();
        // Under the lock, so that no frame lies between the two.
        let next = self.frames.subscribe();
        let first = match last.map(|last| (last, state.history.since(last))) {
            None | Some((_, Since::Elsewhere)) => [state.snapshot_event(now_ms)].into(),
            Some((_, Since::Skipped(offsets))) => [skipped(offsets), state.snapshot_event(now_ms)].into(),
            Some((_, Since::Whole(missed))) if missed.records.is_empty() => VecDeque::new(),
            Some((last, Since::Whole(missed))) => {
                let is_missed = |record: &&Shown| last.get(&record.partition).is_none_or(|had| record.offset > *had);
                let newest = state.newest.iter().filter(is_missed).cloned().collect();
                let id = state.history.id();
                drop(state);
                [event("missed", &id, &missed_data(&missed, newest, now_ms))].into()
            }
        };
        Watching { first, next }
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
    fn count(&mut self, records: &[Arrived]) -> Vec<Kept> {
        let kept: Vec<Kept> = records.iter().map(Kept::of).collect();
        for (record, kept) in records.iter().zip(&kept) {
            self.tally.add(&record.press, record.at_ms);
            self.history.push(record.partition, kept.clone());
            self.newest.push_front(shown(record));
        }
        self.newest.truncate(RECORDS);
        kept
    }

    /// Made once for all who ask within a second and before the next record. Not kept longer: by its time browsers tell the
    /// server's, and so which minutes are the last hour.
    fn snapshot_event(&mut self, now_ms: i64) -> Bytes {
        if let Some((made_ms, made)) = &self.snapshot
            && now_ms - made_ms < SNAPSHOT_MS
        {
            return made.clone();
        }
        let made = event("snapshot", &self.history.id(), &self.snapshot(now_ms));
        self.snapshot = Some((now_ms, made.clone()));
        made
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

/// As a snapshot, of what one watcher lacks: to be added to what it has.
#[derive(Serialize)]
struct MissedData<'a> {
    at: i64,
    minutes: Vec<Value>,
    /// As in a frame.
    e: Vec<Value>,
    r: Vec<Shown>,
    /// Partition, first and last offset, records.
    p: &'a [(i32, i64, i64, usize)],
}

/// What these types hold can always be written.
fn to_json(data: &impl Serialize) -> String {
    serde_json::to_string(data).unwrap_or_default()
}

/// Presses by country, and how many of them were generated.
#[derive(Default)]
struct Counts<'a> {
    countries: BTreeMap<&'a str, u32>,
    generated: u32,
}

impl<'a> Counts<'a> {
    fn add(&mut self, press: &'a Kept) {
        *self.countries.entry(press.country()).or_default() += 1;
        self.generated += u32::from(press.is_generated);
    }
}

/// Presses that light up: a sample spread over all.
fn lights(records: &[Kept], most: usize) -> Vec<Value> {
    let presses = || records.iter().filter(|record| record.is_press);
    let step = presses().count().div_ceil(most).max(1);
    let light = |press: &Kept| {
        let (x, y) = press.place().map_or((Value::Null, Value::Null), |(x, y)| (x.into(), y.into()));
        json!([x, y, press.country(), u8::from(press.is_generated)])
    };
    presses().step_by(step).map(light).collect()
}

/// Counts by country, whole; presses that light up; the newest records.
fn frame(records: &[Kept], newest: Vec<Shown>, now_ms: i64) -> String {
    let mut all = Counts::default();
    records.iter().filter(|record| record.is_press).for_each(|press| all.add(press));
    to_json(&Fresh { at: now_ms, c: all.countries, g: all.generated, e: lights(records, SAMPLE), r: newest })
}

/// The same by minute, of those that the page shows.
fn missed_data(missed: &Missed, newest: Vec<Shown>, now_ms: i64) -> String {
    let first = now_ms / 60_000 - MINUTES as i64;
    let mut minutes: BTreeMap<i64, Counts<'_>> = BTreeMap::new();
    for press in missed.records.iter().filter(|record| record.is_press && record.at_ms / 60_000 > first) {
        minutes.entry(press.at_ms / 60_000).or_default().add(press);
    }
    let minutes = minutes.into_iter().map(|(minute, counts)| json!([minute, counts.countries, counts.generated]));
    to_json(&MissedData {
        at: now_ms,
        minutes: minutes.collect(),
        e: lights(&missed.records, MISSED_SAMPLE),
        r: newest,
        p: &missed.ranges,
    })
}

/// Says before a snapshot that some of what was missed is in its counts alone. It has no id: that of the snapshot stands for both.
fn skipped(offsets: i64) -> Bytes {
    Bytes::from(format!("event: skipped\ndata: {{\"offsets\":{offsets}}}\n\n"))
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

    fn text(event: &Bytes) -> &str {
        std::str::from_utf8(event).unwrap()
    }

    fn back(hub: &Hub, id: &str) -> Vec<String> {
        let positions = super::super::history::positions(id).unwrap();
        hub.watch(Some(&positions), 60_000).first.iter().map(|event| text(event).to_string()).collect()
    }

    fn data(event: &str) -> Value {
        serde_json::from_str(event.split_once("data: ").unwrap().1).unwrap()
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
    }

    #[test]
    fn who_comes_back_gets_what_it_missed_and_no_more() {
        let hub = Hub::default();
        hub.begin(1, 0);
        for offset in 0..4 {
            hub.show(&[arrived(offset, if offset == 3 { "FR" } else { "DE" })], 60_000);
        }
        let missed = back(&hub, "1:1");
        assert!(missed.len() == 1 && missed[0].starts_with("event: missed\nid: 1:3\n"), "{missed:?}");
        let missed = data(&missed[0]);
        assert_eq!(missed["minutes"], json!([[1, { "DE": 1, "FR": 1 }, 0]]));
        assert_eq!(missed["p"], json!([[1, 2, 3, 2]]));
        let offsets: Vec<&Value> = missed["r"].as_array().unwrap().iter().map(|record| &record["offset"]).collect();
        assert_eq!(offsets, [3, 2], "newest first, and none that it had");
        assert_eq!(missed["e"].as_array().unwrap().len(), 2);
        assert_eq!(back(&hub, "1:3"), Vec::<String>::new());
        // Of a topic that was deleted and made again.
        assert!(back(&hub, "1:77")[0].starts_with("event: snapshot\nid: 1:3\n"));
    }

    #[test]
    fn a_snapshot_stands_for_what_is_not_kept_and_that_is_said() {
        let hub = Hub::default();
        hub.begin(1, 100);
        hub.remember(&[arrived(100, "FR")]);
        let events = back(&hub, "1:49");
        assert_eq!(events[0], "event: skipped\ndata: {\"offsets\":50}\n\n");
        assert!(events.len() == 2 && events[1].starts_with("event: snapshot\nid: 1:100\n"), "{events:?}");
    }

    #[test]
    fn what_was_missed_before_the_hour_is_not_counted_in_it() {
        let hub = Hub::default();
        hub.begin(1, 0);
        hub.remember(&[arrived(0, "FR")]);
        let event = &hub.watch(Some(&[(1, -1)].into()), 60_000 * 61).first[0];
        assert_eq!((&data(text(event))["minutes"], &data(text(event))["p"]), (&json!([]), &json!([[1, 0, 0, 1]])));
    }

    #[test]
    fn counts_are_whole_where_events_are_a_sample() {
        let records: Vec<Arrived> = (0..1_000).map(|offset| arrived(offset, "FR")).collect();
        let hub = Hub::default();
        let mut watching = hub.watch(None, 60_000);
        hub.show(&records, 60_000);
        let frame = data(text(&watching.next.try_recv().unwrap()));
        assert_eq!(frame["c"]["FR"], 1_000);
        assert!((20..=SAMPLE).contains(&frame["e"].as_array().unwrap().len()));
        assert_eq!(frame["r"].as_array().unwrap().len(), RECORDS);
        assert_eq!(frame["r"][0]["offset"], 999);
    }
}
