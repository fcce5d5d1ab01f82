//! What this process has read of the topic, counted: the last hour by minute, and all. Bounded, and gone with the process.

use std::collections::{BTreeMap, HashMap, VecDeque};

use super::press::Press;

/// Minutes that are kept.
pub const MINUTES: usize = 60;
/// Places of one minute that are counted apart; presses of further ones count in their country alone.
const MOST_PLACES_A_MINUTE: usize = 4_000;
/// The same of all time.
const MOST_PLACES: usize = 50_000;
/// Sessions that are remembered; the one that began first makes room.
const MOST_SESSIONS: usize = 50_000;

/// A place at one of three depths: its country, subdivision, city.
type PlaceKey = String;

/// What is known of one session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionSeen {
    /// Milliseconds since the epoch of its first record.
    pub first_ms: i64,
    /// Presses.
    pub presses: u64,
    /// Where it pressed last: code of the country, then names.
    pub country: (String, String),
    /// Subdivision, or empty.
    pub subdivision: String,
    /// City, or empty.
    pub city: String,
}

impl SessionSeen {
    /// Keys of the place, from the country to the city, as far as it is known, with the name of each.
    fn keys(&self) -> Vec<(PlaceKey, String)> {
        let (code, name) = &self.country;
        let mut keys = vec![(code.clone(), name.clone())];
        if !self.subdivision.is_empty() {
            keys.push((format!("{code}\t{}", self.subdivision), self.subdivision.clone()));
        }
        if !self.city.is_empty() {
            keys.push((format!("{code}\t{}\t{}", self.subdivision, self.city), self.city.clone()));
        }
        keys
    }
}

/// Presses of one minute.
#[derive(Clone, Debug, Default)]
pub struct Minute {
    /// Minutes since the epoch.
    pub minute: i64,
    /// Presses by country.
    pub countries: BTreeMap<String, u32>,
    /// Presses of generated sessions among them.
    pub generated: u32,
    places: HashMap<PlaceKey, u32>,
}

/// The counts.
#[derive(Default)]
pub struct Tally {
    minutes: VecDeque<Minute>,
    all: HashMap<PlaceKey, u64>,
    names: BTreeMap<String, String>,
    countries: BTreeMap<String, u64>,
    hours: [u64; 24],
    sessions: HashMap<String, SessionSeen>,
    order: VecDeque<String>,
    /// Presses in all.
    pub presses: u64,
    /// Presses of generated sessions among them.
    pub generated: u64,
}

impl Tally {
    /// Counts a record that came at this time, milliseconds since the epoch.
    pub fn add(&mut self, press: &Press, at_ms: i64) {
        let seen = self.session(press, at_ms);
        if !press.is_press() {
            return;
        }
        seen.presses += 1;
        seen.country = (press.country().into(), press.country_name.clone());
        seen.subdivision.clone_from(&press.subdivision_name);
        seen.city.clone_from(&press.city_name);
        let keys = seen.keys();
        self.presses += 1;
        let generated = press.cohort.is_none();
        self.generated += u64::from(generated);
        if let Some(count) = press.local_hour().and_then(|hour| self.hours.get_mut(hour)) {
            *count += 1;
        }
        *self.countries.entry(press.country().into()).or_default() += 1;
        if !self.names.contains_key(press.country()) {
            self.names.insert(press.country().into(), press.country_name.clone());
        }
        for (key, _) in &keys {
            count(&mut self.all, key, MOST_PLACES);
        }
        if let Some(minute) = self.minute(at_ms / 60_000) {
            *minute.countries.entry(press.country().into()).or_default() += 1;
            minute.generated += u32::from(generated);
            for (key, _) in &keys {
                count(&mut minute.places, key, MOST_PLACES_A_MINUTE);
            }
        }
    }

    fn session(&mut self, press: &Press, at_ms: i64) -> &mut SessionSeen {
        if !self.sessions.contains_key(&press.session_id) {
            if self.order.len() >= MOST_SESSIONS
                && let Some(oldest) = self.order.pop_front()
            {
                self.sessions.remove(&oldest);
            }
            self.order.push_back(press.session_id.clone());
        }
        let first = || SessionSeen { first_ms: at_ms, ..SessionSeen::default() };
        self.sessions.entry(press.session_id.clone()).or_insert_with(first)
    }

    /// The bucket of a minute; `None` for one that is over.
    fn minute(&mut self, number: i64) -> Option<&mut Minute> {
        let newest = self.minutes.back().map_or(i64::MIN, |minute| minute.minute);
        if number > newest {
            self.minutes.push_back(Minute { minute: number, ..Minute::default() });
            while self.minutes.front().is_some_and(|oldest| oldest.minute <= number - MINUTES as i64) {
                self.minutes.pop_front();
            }
            return self.minutes.back_mut();
        }
        // History is read partition by partition, so that time goes back.
        let at = self.minutes.partition_point(|minute| minute.minute < number);
        if number <= newest - MINUTES as i64 {
            return None;
        }
        if self.minutes.get(at).is_none_or(|minute| minute.minute != number) {
            self.minutes.insert(at, Minute { minute: number, ..Minute::default() });
        }
        self.minutes.get_mut(at)
    }

    /// The minutes of the last hour before this time that had presses.
    pub fn last_hour(&self, now_ms: i64) -> impl Iterator<Item = &Minute> {
        let first = now_ms / 60_000 - MINUTES as i64;
        self.minutes.iter().filter(move |minute| minute.minute > first)
    }

    /// One session.
    pub fn of_session(&self, id: &str) -> Option<&SessionSeen> {
        self.sessions.get(id)
    }

    /// Presses from the same places as this session: name, in the last hour, in all; from the country to the city.
    pub fn same_places(&self, seen: &SessionSeen, now_ms: i64) -> Vec<(String, u64, u64)> {
        let of = |(key, name): (PlaceKey, String)| {
            let hour = self.last_hour(now_ms).filter_map(|minute| minute.places.get(&key)).map(|n| u64::from(*n)).sum();
            let all = self.all.get(&key).copied().unwrap_or_default();
            (name, hour, all)
        };
        seen.keys().into_iter().map(of).collect()
    }

    /// Countries with most presses: name and presses.
    pub fn countries(&self, most: usize) -> Vec<(String, u64)> {
        let named = |(code, presses): (&String, &u64)| {
            let name = self.names.get(code).filter(|name| !name.is_empty()).map_or("place unknown", String::as_str);
            (name.to_string(), *presses)
        };
        let mut all: Vec<(String, u64)> = self.countries.iter().map(named).collect();
        all.sort_by(|one, other| other.1.cmp(&one.1).then(one.0.cmp(&other.0)));
        all.truncate(most);
        all
    }

    /// Presses by hour of the day where they were pressed.
    pub fn hours(&self) -> [u64; 24] {
        self.hours
    }
}

fn count<N: From<u8> + std::ops::AddAssign>(counts: &mut HashMap<PlaceKey, N>, key: &str, most: usize) {
    if let Some(known) = counts.get_mut(key) {
        *known += N::from(1);
    } else if counts.len() < most {
        counts.insert(key.into(), N::from(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn press(session: &str, action: &str, city: &str) -> Press {
        Press {
            session_id: session.into(),
            action: action.into(),
            country_code: "DE".into(),
            country_name: "Germany".into(),
            subdivision_name: "Saxony".into(),
            city_name: city.into(),
            ..Press::default()
        }
    }

    #[test]
    fn presses_count_by_place_for_an_hour_and_for_all_time() {
        let mut tally = Tally::default();
        let minute = 60_000;
        tally.add(&press("a", "EnterPage", "Leipzig"), 0);
        tally.add(&press("a", "PressButton", "Leipzig"), minute);
        tally.add(&press("b", "PressButton", "Dresden"), 30 * minute);
        // Read later, pressed before.
        tally.add(&press("b", "PressButton", "Leipzig"), 5 * minute);
        tally.add(&press("a", "PressButton", "Leipzig"), 62 * minute);
        let seen = tally.of_session("a").cloned().unwrap_or_default();
        assert_eq!((seen.first_ms, seen.presses), (0, 2));
        let same = tally.same_places(&seen, 62 * minute);
        let named = |name: &str, hour, all| (name.to_string(), hour, all);
        assert_eq!(same, [named("Germany", 3, 4), named("Saxony", 3, 4), named("Leipzig", 2, 3)]);
        assert_eq!(tally.countries(5), [("Germany".to_string(), 4)]);
        assert_eq!((tally.presses, tally.generated), (4, 4));
    }

    #[test]
    fn sessions_and_places_are_bounded() {
        let mut tally = Tally::default();
        for n in 0..MOST_SESSIONS + 10 {
            tally.add(&press(&format!("s{n}"), "PressButton", &format!("city {n}")), 0);
        }
        assert_eq!((tally.sessions.len(), tally.order.len()), (MOST_SESSIONS, MOST_SESSIONS));
        assert!(tally.of_session("s0").is_none() && tally.all.len() <= MOST_PLACES);
        assert_eq!(tally.presses, MOST_SESSIONS as u64 + 10);
    }
}
