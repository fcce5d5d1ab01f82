//! From an address to the ready-made Avro bytes of its place.
//!
//! Most presses of a moment come from few places, and the presses of a session follow one another. So there are three
//! steps: the lookup in the database, always, with the full address, which gives the key of a record; the fragments this
//! worker used last, without a lock; then the cache that all workers share. No cache is keyed by an address.

use std::{
    hash::{Hash, Hasher},
    sync::Arc,
};

use crate::{
    encode::Encoder,
    event::ClientIp,
    place::{FragmentCache, Lookup, Place, PlaceError, PlaceKey, Places},
};

/// Fragments that a worker remembers for itself: a power of two, and small enough (24 bytes each) to stay in the
/// processor's first cache. The shared cache behind it holds the rest.
const REMEMBERED_BITS: u32 = 8;

/// How the lookup of one record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookupOutcome {
    /// The place was in a cache.
    Hit,
    /// The place was read from the database and put into the caches.
    Miss,
    /// The address is private, loopback or otherwise not of the public internet.
    Private,
    /// No database knows the address.
    NotFound,
    /// The record has no address.
    NoAddress,
    /// The database's record could not be read; the place is given as unknown.
    Failed,
}

impl LookupOutcome {
    /// Every outcome.
    pub const ALL: [LookupOutcome; 6] = [
        LookupOutcome::Hit,
        LookupOutcome::Miss,
        LookupOutcome::Private,
        LookupOutcome::NotFound,
        LookupOutcome::NoAddress,
        LookupOutcome::Failed,
    ];

    /// Stable name for the metric's label.
    pub const fn label(self) -> &'static str {
        match self {
            LookupOutcome::Hit => "hit",
            LookupOutcome::Miss => "miss",
            LookupOutcome::Private => "private",
            LookupOutcome::NotFound => "not_found",
            LookupOutcome::NoAddress => "no_address",
            LookupOutcome::Failed => "failed",
        }
    }
}

/// Looks places up for one worker.
pub struct Enricher {
    places: Arc<Places>,
    cache: Arc<FragmentCache>,
    encoder: Arc<Encoder>,
    /// The fragment of the place nothing is known about.
    unknown: Box<[u8]>,
    /// Direct-mapped by key: a fragment stands in one slot or nowhere.
    remembered: Vec<Option<(PlaceKey, Arc<[u8]>)>>,
}

impl Enricher {
    /// An enricher over one set of databases. `cache` may be shared by workers, but only by those with the same schema:
    /// what it keeps are the bytes that `encoder` makes of a place.
    pub fn new(places: Arc<Places>, cache: Arc<FragmentCache>, encoder: Arc<Encoder>) -> Self {
        let unknown = encoder.place_fragment(&Place::unknown());
        Self { places, cache, encoder, unknown, remembered: vec![None; 1 << REMEMBERED_BITS] }
    }

    /// The fragment of the place of an address, for [`Encoder::encode`], and how it was come by. Allocates only on a miss.
    pub fn fragment(&mut self, ip: Option<&ClientIp>) -> (&[u8], LookupOutcome) {
        let Some(ip) = ip else { return (&self.unknown, LookupOutcome::NoAddress) };
        match self.places.lookup_addr(ip.addr()) {
            Lookup::Found(key) => self.recall(key),
            Lookup::Unknown => (&self.unknown, LookupOutcome::NotFound),
            Lookup::Private => (&self.unknown, LookupOutcome::Private),
        }
    }

    fn recall(&mut self, key: PlaceKey) -> (&[u8], LookupOutcome) {
        let Self { places, cache, encoder, unknown, remembered } = self;
        let Some(slot) = remembered.get_mut(slot_of(key)) else { return (unknown, LookupOutcome::Failed) };
        if slot.as_ref().is_some_and(|(kept, _)| *kept == key) {
            return (slot.as_ref().map_or(unknown, |(_, fragment)| fragment), LookupOutcome::Hit);
        }
        let mut outcome = LookupOutcome::Hit;
        let fragment = cache.get_or_insert_with(key, || {
            outcome = LookupOutcome::Miss;
            places.place(key).map(|place| encoder.place_fragment(&place))
        });
        match fragment {
            Ok(fragment) => (&slot.insert((key, fragment)).1, outcome),
            // Opening the file read every record, so this is a fault of ours; the event is worth more than its place.
            Err::<_, PlaceError>(_) => (unknown, LookupOutcome::Failed),
        }
    }
}

/// The slot in which a key is remembered.
fn slot_of(key: PlaceKey) -> usize {
    let mut hasher = Slot(0);
    key.hash(&mut hasher);
    hasher.finish() as usize
}

/// One multiplication, of which the upper bits are kept: keys are offsets into a file, and close to one another.
struct Slot(u64);

impl Hasher for Slot {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio.
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    fn finish(&self) -> u64 {
        self.0 >> (u64::BITS - REMEMBERED_BITS)
    }
}
