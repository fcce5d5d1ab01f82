//! A bounded cache of ready-made fragments by record.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use dashmap::DashMap;

use super::PlaceKey;

/// Keeps at most a set number of fragments (the bytes a place becomes in the output), shared by all workers.
///
/// Two halves: new entries and those asked for again go to the young half; when it is full, the old half is emptied and
/// the two change roles. So what is in use stays, nothing is ever searched for a victim, and the bound is strict.
pub struct FragmentCache {
    halves: [Half; 2],
    /// Index of the young half.
    young: AtomicUsize,
    /// Held by the one thread that turns the halves round.
    turning: Mutex<()>,
    hits: OwnLine,
    misses: AtomicU64,
    evictions: AtomicU64,
    /// How often fragments were forgotten: a fragment that was being made meanwhile may be of the old kind.
    forgotten: AtomicU64,
}

/// What a cache has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Fragments that were there.
    pub hits: u64,
    /// Fragments that had to be made.
    pub misses: u64,
    /// Fragments that were dropped to make room.
    pub evictions: u64,
    /// Fragments kept now.
    pub entries: u64,
}

/// A counter in a cache line of its own: every lookup writes it, and must not slow down the readers of its neighbours.
#[derive(Default)]
#[repr(align(64))]
struct OwnLine(AtomicU64);

struct Half {
    map: DashMap<PlaceKey, Arc<[u8]>, BuildHasherDefault<KeyHasher>>,
    /// Entries, and places reserved for entries about to be inserted: never above `most`.
    taken: AtomicUsize,
    most: usize,
}

impl FragmentCache {
    /// A cache of at most `capacity` fragments; below 2 it is 2.
    pub fn new(capacity: usize) -> FragmentCache {
        let half = |most| Half { map: DashMap::default(), taken: AtomicUsize::new(0), most };
        let most = (capacity / 2).max(1);
        FragmentCache {
            halves: [half(most), half(most)],
            young: AtomicUsize::new(0),
            turning: Mutex::new(()),
            hits: OwnLine::default(),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
        }
    }

    /// An empty cache that goes on counting hits, misses and evictions where this one stands: for other databases.
    pub fn successor(&self, capacity: usize) -> FragmentCache {
        let stats = self.stats();
        let next = FragmentCache::new(capacity);
        next.hits.0.store(stats.hits, Relaxed);
        next.misses.store(stats.misses, Relaxed);
        next.evictions.store(stats.evictions, Relaxed);
        next
    }

    /// The fragment of a record, made by `make` if it is not there. No lock is held while `make` runs; two threads that
    /// miss the same key at once both make it, and either result is kept.
    ///
    /// Errors: those of `make`; nothing is kept then.
    pub fn get_or_insert_with<T: Into<Arc<[u8]>>, E>(
        &self,
        key: PlaceKey,
        make: impl FnOnce() -> Result<T, E>,
    ) -> Result<Arc<[u8]>, E> {
        let young = self.young.load(Relaxed) & 1;
        if let Some(fragment) = self.halves[young].get(key) {
            self.hits.0.fetch_add(1, Relaxed);
            return Ok(fragment);
        }
        let forgotten = self.forgotten.load(SeqCst);
        let fragment = match self.halves[1 - young].get(key) {
            Some(fragment) => {
                self.hits.0.fetch_add(1, Relaxed);
                self.halves[1 - young].remove(key);
                fragment
            }
            None => {
                self.misses.fetch_add(1, Relaxed);
                make()?.into()
            }
        };
        self.keep(key, &fragment);
        if self.forgotten.load(SeqCst) != forgotten {
            self.remove(key);
        }
        Ok(fragment)
    }

    /// Drops a fragment: what it was made of has changed. The next lookup makes it again.
    pub fn forget(&self, key: PlaceKey) {
        // Before, so that a thread that begins now finds none; after, for one that was keeping it.
        self.remove(key);
        self.forgotten.fetch_add(1, SeqCst);
        self.remove(key);
    }

    /// Drops every fragment.
    pub fn forget_all(&self) {
        for _ in 0..2 {
            for half in &self.halves {
                half.clear();
            }
            self.forgotten.fetch_add(1, SeqCst);
        }
    }

    fn remove(&self, key: PlaceKey) {
        for half in &self.halves {
            half.remove(key);
        }
    }

    /// Hits, misses, evictions since the start, and entries now.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.0.load(Relaxed),
            misses: self.misses.load(Relaxed),
            evictions: self.evictions.load(Relaxed),
            entries: self.halves.iter().map(|half| half.taken.load(Relaxed) as u64).sum(),
        }
    }

    fn keep(&self, key: PlaceKey, fragment: &Arc<[u8]>) {
        let young = self.young.load(Relaxed) & 1;
        if !self.halves[young].insert(key, fragment) {
            // A thread that finds the halves being turned leaves its fragment out: the next miss will keep it.
            if let Ok(_turning) = self.turning.try_lock() {
                self.turn();
            }
            let young = self.young.load(Relaxed) & 1;
            self.halves[young].insert(key, fragment);
        }
    }

    /// Empties the old half and makes it the young one. Called with `turning` held.
    fn turn(&self) {
        let young = self.young.load(Relaxed) & 1;
        // Another thread may have turned between our full half and our lock.
        if self.halves[young].has_room() {
            return;
        }
        let dropped = self.halves[1 - young].clear();
        self.evictions.fetch_add(dropped as u64, Relaxed);
        self.young.store(1 - young, Relaxed);
    }
}

impl Half {
    #[inline]
    fn get(&self, key: PlaceKey) -> Option<Arc<[u8]>> {
        self.map.get(&key).map(|entry| Arc::clone(&entry))
    }

    fn has_room(&self) -> bool {
        self.taken.load(Relaxed) < self.most
    }

    /// False if the half is full.
    fn insert(&self, key: PlaceKey, fragment: &Arc<[u8]>) -> bool {
        let reserve = |taken: usize| (taken < self.most).then_some(taken + 1);
        if self.taken.fetch_update(Relaxed, Relaxed, reserve).is_err() {
            return false;
        }
        if self.map.insert(key, Arc::clone(fragment)).is_some() {
            self.taken.fetch_sub(1, Relaxed);
        }
        true
    }

    fn remove(&self, key: PlaceKey) {
        if self.map.remove(&key).is_some() {
            self.taken.fetch_sub(1, Relaxed);
        }
    }

    /// Counts what it drops, so that an insertion at the same time stays counted.
    fn clear(&self) -> usize {
        let mut dropped = 0;
        self.map.retain(|_, _| {
            dropped += 1;
            false
        });
        self.taken.fetch_sub(dropped, Relaxed);
        dropped
    }
}

/// Spreads a key's 64 bits by one multiplication: keys are offsets of records and come in no hostile order.
#[derive(Default)]
pub(super) struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.write_u64(u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio; the high half is mixed best, and the map takes bits from both ends.
        let spread = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = spread ^ (spread >> 32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn key(offset: u32) -> PlaceKey {
        PlaceKey::new(1, 0, offset)
    }

    fn fetch(cache: &FragmentCache, offset: u32) -> Arc<[u8]> {
        cache.get_or_insert_with(key(offset), || Ok::<_, ()>(offset.to_be_bytes().to_vec())).unwrap()
    }

    #[test]
    fn a_fragment_is_made_once() {
        let cache = FragmentCache::new(10);
        assert_eq!(&*fetch(&cache, 7), [0, 0, 0, 7]);
        let again = cache.get_or_insert_with::<Vec<u8>, ()>(key(7), || panic!("made twice"));
        assert_eq!(&*again.unwrap(), [0, 0, 0, 7]);
        assert_eq!(cache.stats(), CacheStats { hits: 1, misses: 1, evictions: 0, entries: 1 });
    }

    #[test]
    fn an_entry_forgotten_during_its_computation_is_not_kept() {
        let cache = FragmentCache::new(10);
        for offset in 0..5 {
            fetch(&cache, offset);
        }
        cache.forget(key(3));
        assert_eq!(cache.stats().entries, 4);
        // What it is made of changes after it was looked at.
        let during = cache.get_or_insert_with(key(3), || {
            cache.forget(key(3));
            Ok::<_, ()>(b"old".to_vec())
        });
        assert_eq!(&*during.unwrap(), b"old");
        let after = cache.get_or_insert_with(key(3), || Ok::<_, ()>(b"new".to_vec()));
        assert_eq!(&*after.unwrap(), b"new");
        cache.forget_all();
        assert_eq!(cache.stats().entries, 0);
        fetch(&cache, 3);
        assert_eq!(cache.stats(), CacheStats { hits: 0, misses: 8, evictions: 0, entries: 1 });
    }

    #[test]
    fn an_error_is_passed_on_and_not_kept() {
        let cache = FragmentCache::new(10);
        let failed = cache.get_or_insert_with::<Vec<u8>, _>(key(1), || Err("no such record"));
        assert_eq!(failed.unwrap_err(), "no such record");
        assert_eq!(cache.stats().entries, 0);
    }

    #[test]
    fn what_is_asked_for_often_outlives_what_is_asked_for_once() {
        let cache = FragmentCache::new(100);
        for offset in 0..10_000 {
            fetch(&cache, offset);
            fetch(&cache, 1_000_000);
            assert!(cache.stats().entries <= 100);
        }
        let stats = cache.stats();
        assert_eq!(stats.misses, 10_001, "the one asked for often was dropped");
        assert_eq!(stats.hits, 9_999);
        assert_eq!(stats.evictions + stats.entries, 10_001);
    }

    #[test]
    fn the_smallest_caches_work() {
        for capacity in [0, 1, 2, 3] {
            let cache = FragmentCache::new(capacity);
            for offset in 0..20 {
                assert_eq!(*fetch(&cache, offset), offset.to_be_bytes());
            }
            assert!(cache.stats().entries <= 3, "{capacity}");
        }
    }

    #[test]
    fn threads_share_it_and_the_bound_holds() {
        let cache = FragmentCache::new(64);
        std::thread::scope(|scope| {
            for thread in 0..8u32 {
                let cache = &cache;
                scope.spawn(move || {
                    for step in 0..50_000u32 {
                        // A few keys often, many seldom.
                        let offset =
                            if step % 3 == 0 { step % 16 } else { step.wrapping_mul(2_654_435_761 + thread) % 500 };
                        assert_eq!(*fetch(cache, offset), offset.to_be_bytes());
                        assert!(cache.stats().entries <= 64);
                    }
                });
            }
        });
        let stats = cache.stats();
        assert_eq!(stats.hits + stats.misses, 400_000);
        let kept: usize = cache.halves.iter().map(|half| half.map.len()).sum();
        assert_eq!(stats.entries, kept as u64, "the count has drifted from what is kept");
        assert!(kept > 16);
    }
}
