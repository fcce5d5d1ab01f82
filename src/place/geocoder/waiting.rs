//! Places that wait to be asked about, each once, and the fragments to renew when an answer comes.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Weak};

use super::super::{FragmentCache, PlaceKey};
use super::question::Question;

/// Fragments that are remembered for renewal. Beyond that a place is dropped, and all fragments are renewed once the
/// queue is empty.
pub(super) const MOST_FRAGMENTS: usize = 200_000;

/// The queue. The place that is being asked about stays in it until it is settled.
#[derive(Default)]
pub(super) struct Waiting {
    queue: VecDeque<String>,
    places: HashMap<String, Place>,
    fragments: usize,
    /// Caches that fragments are in: one for each pipeline.
    caches: Vec<Weak<FragmentCache>>,
    /// Places dropped since all fragments were renewed last.
    dropped: u64,
}

struct Place {
    question: Question,
    fragments: BTreeSet<(usize, PlaceKey)>,
    /// Requests that failed while the server answered others.
    failed: u32,
}

impl Waiting {
    /// Places that wait.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether a place waits.
    pub(super) fn has(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// Lets a place wait, with a fragment that lacks its answer. False where there is no room.
    pub(super) fn add(
        &mut self,
        key: &str,
        question: Question,
        cache: &Arc<FragmentCache>,
        fragment: PlaceKey,
    ) -> bool {
        let cache = self.index_of(cache);
        if self.fragments >= MOST_FRAGMENTS {
            self.dropped += 1;
            return false;
        }
        let place = self.places.entry(key.to_owned()).or_insert_with(|| {
            self.queue.push_back(key.to_owned());
            Place { question, fragments: BTreeSet::new(), failed: 0 }
        });
        self.fragments += usize::from(place.fragments.insert((cache, fragment)));
        true
    }

    fn index_of(&mut self, cache: &Arc<FragmentCache>) -> usize {
        self.caches.iter().position(|known| std::ptr::eq(known.as_ptr(), Arc::as_ptr(cache))).unwrap_or_else(|| {
            self.caches.push(Arc::downgrade(cache));
            self.caches.len() - 1
        })
    }

    /// The place to ask about next.
    pub(super) fn front(&self) -> Option<(String, Question)> {
        let key = self.queue.front()?;
        Some((key.clone(), self.places.get(key)?.question.clone()))
    }

    /// The first place was not answered: it goes to the end of the queue.
    pub(super) fn put_back(&mut self) {
        if let Some(first) = self.queue.pop_front() {
            self.queue.push_back(first);
        }
    }

    /// The server failed on this place while it answers others; gives how often that was so.
    pub(super) fn blame(&mut self, key: &str) -> u32 {
        self.places.get_mut(key).map_or(0, |place| {
            place.failed += 1;
            place.failed
        })
    }

    /// A place is settled; gives the fragments to renew.
    pub(super) fn take(&mut self, key: &str) -> Vec<(Arc<FragmentCache>, PlaceKey)> {
        self.queue.retain(|waiting| waiting != key);
        let Some(place) = self.places.remove(key) else { return Vec::new() };
        self.fragments -= place.fragments.len();
        let with_cache = |(cache, key): (usize, PlaceKey)| Some((self.caches.get(cache)?.upgrade()?, key));
        place.fragments.into_iter().filter_map(with_cache).collect()
    }

    /// Whether places were dropped that there is room for again; asked once.
    pub(super) fn take_dropped(&mut self) -> bool {
        self.places.is_empty() && std::mem::take(&mut self.dropped) > 0
    }

    /// Every cache that is still in use.
    pub(super) fn caches(&self) -> Vec<Arc<FragmentCache>> {
        self.caches.iter().filter_map(Weak::upgrade).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::super::super::Place;
    use super::*;

    fn question(city: &str) -> Question {
        let place = Place { country_code: "FR".into(), city_name: city.into(), ..Place::unknown() };
        Question::of(&place).unwrap()
    }

    #[test]
    fn a_place_waits_once_with_all_its_fragments() {
        let (mut waiting, cache, other) =
            (Waiting::default(), Arc::new(FragmentCache::new(10)), Arc::new(FragmentCache::new(10)));
        for (place, cache, offset) in
            [("a", &cache, 1), ("b", &cache, 2), ("a", &cache, 3), ("a", &cache, 1), ("a", &other, 1)]
        {
            assert!(waiting.add(place, question(place), cache, PlaceKey::new(1, 0, offset)));
        }
        assert_eq!((waiting.len(), waiting.fragments), (2, 4));
        assert_eq!(waiting.front().unwrap().0, "a");
        drop(other);
        let renew: Vec<_> = waiting.take("a").into_iter().map(|(_, key)| key).collect();
        assert_eq!(renew, [PlaceKey::new(1, 0, 1), PlaceKey::new(1, 0, 3)], "one cache is no more");
        assert_eq!((waiting.front().unwrap().0, waiting.fragments), ("b".into(), 1));
        assert!(waiting.take("a").is_empty());
    }

    #[test]
    fn what_fails_goes_to_the_end_and_its_own_failures_are_counted() {
        let (mut waiting, cache) = (Waiting::default(), Arc::new(FragmentCache::new(10)));
        for place in ["a", "b"] {
            waiting.add(place, question(place), &cache, PlaceKey::new(1, 0, 1));
        }
        waiting.put_back();
        assert_eq!(waiting.front().unwrap().0, "b");
        waiting.put_back();
        assert_eq!(waiting.front().unwrap().0, "a");
        assert_eq!([waiting.blame("a"), waiting.blame("a"), waiting.blame("b"), waiting.blame("c")], [1, 2, 1, 0]);
    }

    #[test]
    fn beyond_its_bound_places_are_dropped_and_made_good_for_later() {
        let (mut waiting, cache) = (Waiting::default(), Arc::new(FragmentCache::new(10)));
        for offset in 0..MOST_FRAGMENTS as u32 {
            assert!(waiting.add(&(offset % 100).to_string(), question("x"), &cache, PlaceKey::new(1, 0, offset)));
        }
        assert!(!waiting.add("y", question("y"), &cache, PlaceKey::new(1, 0, 1)));
        assert!(!waiting.has("y") && !waiting.take_dropped(), "the queue is not empty yet");
        for place in 0..100 {
            waiting.take(&place.to_string());
        }
        assert!(waiting.take_dropped() && !waiting.take_dropped());
    }
}
