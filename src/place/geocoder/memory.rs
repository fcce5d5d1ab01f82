//! Answers and misses of a geocoder: bounded, each kind with a lifetime of its own.

use std::collections::HashMap;

use super::answer::Point;

/// Seconds since 1970.
pub(super) type Seconds = i64;

/// What is known about one place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    /// None: the geocoder does not know the place.
    pub(super) point: Option<Point>,
    /// When it answered.
    pub(super) at: Seconds,
}

/// What a lookup gives.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Recalled {
    /// Nothing: ask.
    Unknown,
    /// An answer or a miss within its lifetime.
    Fresh(Option<Point>),
    /// An answer past its lifetime: ask again, and use it until the new one is there.
    Stale(Point),
}

/// How long entries hold, and how many there may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryLimits {
    pub(super) entries: usize,
    pub(super) answers: Seconds,
    pub(super) misses: Seconds,
}

/// The cache. Keys are those of questions.
pub(super) struct Memory {
    bounds: MemoryLimits,
    entries: HashMap<String, Entry>,
    evictions: u64,
}

impl Memory {
    pub(super) fn new(bounds: MemoryLimits) -> Self {
        Self { bounds, entries: HashMap::new(), evictions: 0 }
    }

    pub(super) fn recall(&self, key: &str, now: Seconds) -> Recalled {
        match self.entries.get(key) {
            Some(entry) if !self.has_expired(entry, now) => Recalled::Fresh(entry.point),
            Some(Entry { point: Some(point), .. }) => Recalled::Stale(*point),
            _ => Recalled::Unknown,
        }
    }

    /// Keeps an answer or a miss. When there are too many, the oldest tenth goes at once, so that not every one searches.
    pub(super) fn keep(&mut self, key: String, entry: Entry) {
        self.entries.insert(key, entry);
        if self.entries.len() <= self.bounds.entries {
            return;
        }
        let mut ages: Vec<Seconds> = self.entries.values().map(|entry| entry.at).collect();
        ages.sort_unstable();
        let surplus = self.entries.len() - self.bounds.entries;
        let mut leaving = surplus + self.bounds.entries / 10;
        let youngest_leaving = ages.get(leaving.saturating_sub(1)).copied().unwrap_or_default();
        let before = self.entries.len();
        self.entries.retain(|_, entry| {
            let leaves = leaving > 0 && entry.at <= youngest_leaving;
            leaving -= usize::from(leaves);
            !leaves
        });
        self.evictions += (before - self.entries.len()) as u64;
    }

    /// Whether an entry's lifetime ended after `since`.
    pub(super) fn expired_since(&self, since: Seconds, now: Seconds) -> bool {
        self.entries.values().any(|entry| self.has_expired(entry, now) && !self.has_expired(entry, since))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Entries dropped to make room.
    pub(super) fn evictions(&self) -> u64 {
        self.evictions
    }

    /// All entries, for saving.
    pub(super) fn entries(&self) -> impl Iterator<Item = (&str, &Entry)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), entry))
    }

    fn has_expired(&self, entry: &Entry, now: Seconds) -> bool {
        let lifetime = if entry.point.is_some() { self.bounds.answers } else { self.bounds.misses };
        now.saturating_sub(entry.at) >= lifetime
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POINT: Point = (1.0, 2.0);

    fn memory(entries: usize) -> Memory {
        Memory::new(MemoryLimits { entries, answers: 100, misses: 10 })
    }

    #[test]
    fn answers_and_misses_have_lifetimes_of_their_own() {
        let mut memory = memory(10);
        memory.keep("answer".into(), Entry { point: Some(POINT), at: 1_000 });
        memory.keep("miss".into(), Entry { point: None, at: 1_000 });
        assert_eq!(memory.recall("other", 1_000), Recalled::Unknown);
        assert_eq!(memory.recall("answer", 1_099), Recalled::Fresh(Some(POINT)));
        assert_eq!(memory.recall("answer", 1_100), Recalled::Stale(POINT), "asked again, and used until then");
        assert_eq!(memory.recall("miss", 1_009), Recalled::Fresh(None));
        assert_eq!(memory.recall("miss", 1_010), Recalled::Unknown);
        assert!(!memory.expired_since(1_000, 1_009));
        assert!(memory.expired_since(1_009, 1_010) && !memory.expired_since(1_010, 1_099));
        assert!(memory.expired_since(1_099, 1_100) && !memory.expired_since(1_100, 2_000));
    }

    #[test]
    fn it_is_bounded_and_the_oldest_go_first() {
        let mut memory = memory(100);
        for n in 0..1_000 {
            memory.keep(n.to_string(), Entry { point: Some(POINT), at: n });
            assert!(memory.len() <= 100);
            assert_eq!(memory.recall(&n.to_string(), n), Recalled::Fresh(Some(POINT)));
        }
        assert_eq!(memory.len() as u64 + memory.evictions(), 1_000);
        let kept: Vec<i64> = memory.entries().map(|(_, entry)| entry.at).collect();
        assert!(kept.len() >= 89 && kept.iter().all(|at| *at >= 900), "{kept:?}");
        // All of one age.
        for n in 0..1_000 {
            memory.keep(format!("same {n}"), Entry { point: None, at: 5_000 });
            assert!((80..=100).contains(&memory.len()));
        }
    }
}
