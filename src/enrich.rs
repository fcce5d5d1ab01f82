//! From an address to the ready-made Avro bytes of its place.
//!
//! The lookup in the database always takes the full address and gives the key of a record; by that key the cache has the
//! record's fragment. No cache is keyed by an address. (A smaller cache in front, one for each worker, was tried and did
//! not show in the benchmark.)

use std::sync::Arc;

use crate::{
    encode::Encoder,
    event::ClientIp,
    place::{Chain, FragmentCache, Lookup, Place, PlaceError, PlaceKey, Places},
};

/// How the lookup of one record ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LookupOutcome {
    /// The place was in the cache.
    Hit,
    /// The place was read from the database and put into the cache.
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

/// Looks places up. Each worker has its own, over the same databases and cache.
#[derive(Clone)]
pub struct Enricher {
    places: Arc<Places>,
    chain: Arc<Chain>,
    cache: Arc<FragmentCache>,
    encoder: Arc<Encoder>,
    /// The fragment of the place nothing is known about.
    unknown: Arc<[u8]>,
}

impl Enricher {
    /// An enricher over one set of databases. `cache` may be shared only by those with the same schema: what it keeps are
    /// the bytes that `encoder` makes of a place.
    pub fn new(places: Arc<Places>, cache: Arc<FragmentCache>, encoder: Arc<Encoder>) -> Self {
        let unknown = encoder.place_fragment(&Place::unknown()).into();
        Self { places, chain: Arc::default(), cache, encoder, unknown }
    }

    /// With steps behind the databases, for what their records lack.
    pub fn with_chain(mut self, chain: Arc<Chain>) -> Self {
        self.chain = chain;
        self
    }

    /// The fragment of the place of an address, for [`Encoder::encode`], and how it was come by. Allocates only on a miss.
    pub fn fragment(&self, ip: Option<&ClientIp>) -> (Arc<[u8]>, LookupOutcome) {
        let Some(ip) = ip else { return (Arc::clone(&self.unknown), LookupOutcome::NoAddress) };
        match self.places.lookup(ip) {
            Lookup::Found(key) => self.of_record(key),
            Lookup::Unknown => (Arc::clone(&self.unknown), LookupOutcome::NotFound),
            Lookup::Private => (Arc::clone(&self.unknown), LookupOutcome::Private),
        }
    }

    fn of_record(&self, key: PlaceKey) -> (Arc<[u8]>, LookupOutcome) {
        let mut outcome = LookupOutcome::Hit;
        let made = self.cache.get_or_insert_with(key, || {
            outcome = LookupOutcome::Miss;
            self.place(key).map(|place| self.encoder.place_fragment(&place))
        });
        match made {
            Ok(fragment) => (fragment, outcome),
            // Opening the file read every record, so this is a fault of ours; the event is worth more than its place.
            Err::<_, PlaceError>(_) => (Arc::clone(&self.unknown), LookupOutcome::Failed),
        }
    }

    /// The place of a record as it is told. The chain comes behind everything that leaves something out of the place: its
    /// geocoder is another machine.
    fn place(&self, key: PlaceKey) -> Result<Place, PlaceError> {
        let mut place = self.places.place(key)?;
        self.chain.complete(&mut place, &self.places.raw_place(key)?, Some((&self.cache, key)));
        Ok(place)
    }
}

#[cfg(test)]
#[path = "../tests/presses/mod.rs"]
mod presses;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::LazyLock;

    use super::*;
    use crate::event::Actions;

    static DATABASE: LazyLock<Vec<u8>> = LazyLock::new(presses::database);

    fn enricher() -> Enricher {
        let schema = apache_avro::Schema::parse_str(include_str!("../schemas/button_presses.avsc")).unwrap();
        let actions = Actions::new(vec!["PressButton".to_owned()]).unwrap();
        let encoder = Encoder::compile(&schema, 1, &actions, "schemas/button_presses.avsc").ok().unwrap();
        let places = Places::from_bytes("made-up.mmdb", DATABASE.clone()).unwrap();
        Enricher::new(Arc::new(places), Arc::new(FragmentCache::new(100)), Arc::new(encoder))
    }

    fn look_up(enricher: &Enricher, ip: &str) -> (Arc<[u8]>, LookupOutcome) {
        enricher.fragment(Some(&ClientIp::parse(ip).unwrap()))
    }

    #[test]
    fn labels_are_distinct() {
        let labels: std::collections::HashSet<_> = LookupOutcome::ALL.iter().map(|outcome| outcome.label()).collect();
        assert_eq!(labels.len(), LookupOutcome::ALL.len());
    }

    #[test]
    fn a_place_is_made_once_for_all_its_addresses() {
        let enricher = enricher();
        let (first, outcome) = look_up(&enricher, &presses::address_v4(7, 1).to_string());
        assert_eq!(outcome, LookupOutcome::Miss);
        for again in [presses::address_v4(7, 1), presses::address_v4(7, 250), presses::address_v6(7, 9)] {
            assert_eq!(look_up(&enricher, &again.to_string()), (Arc::clone(&first), LookupOutcome::Hit));
        }
        let mapped = format!("::ffff:{}", presses::address_v4(7, 3));
        assert_eq!(look_up(&enricher, &mapped), (Arc::clone(&first), LookupOutcome::Hit));
        let text = String::from_utf8_lossy(&first).into_owned();
        assert!(text.contains("Finland") && text.contains("Kaupunki 7"), "{text}");
        let (other, outcome) = look_up(&enricher, &presses::address_v4(8, 1).to_string());
        assert_eq!(outcome, LookupOutcome::Miss);
        assert_ne!(other, first);
    }

    #[test]
    fn without_a_place_the_place_is_unknown() {
        let enricher = enricher();
        let unknown: Arc<[u8]> = enricher.encoder.place_fragment(&Place::unknown()).into();
        for (ip, outcome) in [
            ("127.0.0.1", LookupOutcome::Private),
            ("192.168.1.1", LookupOutcome::Private),
            ("::ffff:10.0.0.1", LookupOutcome::Private),
            ("fe80::1", LookupOutcome::Private),
            ("9.9.9.9", LookupOutcome::NotFound),
            ("2a01::1", LookupOutcome::NotFound),
        ] {
            assert_eq!(look_up(&enricher, ip), (Arc::clone(&unknown), outcome), "{ip}");
        }
        assert_eq!(enricher.fragment(None), (unknown, LookupOutcome::NoAddress));
    }

    #[test]
    fn a_record_that_cannot_be_read_is_an_unknown_place_and_not_kept() {
        let (enricher, other) = (enricher(), enricher());
        // A key of another set of databases stands for the record that cannot be read.
        let Lookup::Found(stale) = other.places.lookup_addr(presses::address_v4(7, 1)) else { panic!("found") };
        let unknown = Arc::clone(&enricher.unknown);
        for _ in 0..2 {
            assert_eq!(enricher.of_record(stale), (Arc::clone(&unknown), LookupOutcome::Failed));
        }
    }
}
