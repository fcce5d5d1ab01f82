//! From an address to the ready-made Avro bytes of its place.
//!
//! The lookup in the database always takes the full address and gives the key of a record; by that key the cache has the
//! record's fragment. No cache is keyed by an address. (A smaller cache in front, one for each worker, was tried and did
//! not show in the benchmark.)

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::pipeline::press::encode::Encoder;
use crate::pipeline::press::event::ClientIp;
use crate::place::{CacheStats, Chain, Coarsening, FragmentCache, Lookup, Place, PlaceError, PlaceKey, Places};
use crate::runtime::supervise::drop_in_background;

/// Makes the ready-made bytes of a place, in the form that an output wants.
pub trait Fragments: Send + Sync {
    /// The bytes.
    fn place_fragment(&self, place: &Place) -> Box<[u8]>;
}

impl Fragments for Encoder {
    fn place_fragment(&self, place: &Place) -> Box<[u8]> {
        Encoder::place_fragment(self, place)
    }
}

/// Header of an output record: when the database that its place came from was built, seconds since 1970 in decimal.
pub const BUILD_HEADER: &str = "pressline.place_build";

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

/// The cache that the workers of a pipeline share: another one for each snapshot of databases, so that the fragments of
/// replaced ones take no memory.
pub struct Caches {
    capacity: usize,
    /// Generation of the databases, and their cache.
    newest: Mutex<(u32, Arc<FragmentCache>)>,
}

impl Caches {
    /// Caches of at most `capacity` fragments each.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, newest: Mutex::new((0, Arc::new(FragmentCache::new(capacity)))) }
    }

    /// The cache for these databases. The first worker that has new ones makes it.
    pub fn of(&self, places: &Places) -> Arc<FragmentCache> {
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        if newest.0 != places.generation() {
            *newest = (places.generation(), Arc::new(newest.1.successor(self.capacity)));
        }
        Arc::clone(&newest.1)
    }
}

/// Where newer databases come from, and the cache for each of them.
#[derive(Clone)]
struct Supply {
    databases: watch::Receiver<Arc<Places>>,
    caches: Arc<Caches>,
}

/// Looks places up. Each worker has its own, over the same databases and cache.
#[derive(Clone)]
pub struct Enricher {
    places: Arc<Places>,
    chain: Arc<Chain>,
    cache: Arc<FragmentCache>,
    encoder: Arc<dyn Fragments>,
    /// The fragment of the place nothing is known about.
    unknown: Arc<[u8]>,
    coarsening: Coarsening,
    /// None where the databases stay the same.
    supply: Option<Supply>,
}

impl Enricher {
    /// An enricher over one set of databases. `cache` may be shared only by those with the same schema: what it keeps are
    /// the bytes that `encoder` makes of a place.
    pub fn new(places: Arc<Places>, cache: Arc<FragmentCache>, encoder: Arc<dyn Fragments>) -> Self {
        let unknown = encoder.place_fragment(&Place::unknown()).into();
        let (chain, coarsening) = (Arc::default(), Coarsening::default());
        Self { places, chain, cache, encoder, unknown, coarsening, supply: None }
    }

    /// With steps behind the databases, for what their records lack.
    pub fn with_chain(mut self, chain: Arc<Chain>) -> Self {
        self.chain = chain;
        self
    }

    /// With less told of places in which few people live.
    pub fn with_coarsening(self, coarsening: Coarsening) -> Self {
        Self { coarsening, ..self }
    }

    /// An enricher over databases that are replaced while it works; it takes the new ones at [`Enricher::refresh`].
    /// `caches` as in [`Enricher::new`].
    pub fn following(
        mut databases: watch::Receiver<Arc<Places>>,
        caches: Arc<Caches>,
        encoder: Arc<dyn Fragments>,
        coarsening: Coarsening,
    ) -> Self {
        let places = Arc::clone(&databases.borrow_and_update());
        let cache = caches.of(&places);
        Self { coarsening, supply: Some(Supply { databases, caches }), ..Self::new(places, cache, encoder) }
    }

    /// Takes the databases that are loaded now, and their cache; between batches, so that a batch is of one edition. Where
    /// they are the same, this reads one number.
    pub fn refresh(&mut self) {
        let Some(supply) = &mut self.supply else { return };
        // An error says that there will be no others.
        if supply.databases.has_changed().unwrap_or(false) {
            let places = Arc::clone(&supply.databases.borrow_and_update());
            let cache = supply.caches.of(&places);
            let replaced = (std::mem::replace(&mut self.places, places), std::mem::replace(&mut self.cache, cache));
            // Whoever drops a database last unmaps it and frees every fragment: no batch is to wait for that.
            drop_in_background(replaced);
        }
    }

    /// How the cache in use stands.
    pub fn cache_stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// The fragment of the place of an address, for [`Encoder::encode`], and how it was come by. Allocates only on a miss.
    pub fn fragment(&self, ip: Option<&ClientIp>) -> (Arc<[u8]>, LookupOutcome) {
        let (fragment, outcome, _) = self.fragment_of(ip.map(|ip| self.search(ip)));
        (fragment, outcome)
    }

    /// What the databases have for an address; [`Enricher::fragment_of`] makes a place of it. Until a
    /// [`Enricher::refresh`] only.
    #[inline]
    pub fn search(&self, ip: &ClientIp) -> Lookup {
        self.places.lookup(ip)
    }

    /// The fragment of what was found for an address, if there was one; and when the database was built whose record it is,
    /// where one was found: seconds since the epoch.
    #[inline]
    pub fn fragment_of(&self, found: Option<Lookup>) -> (Arc<[u8]>, LookupOutcome, Option<u64>) {
        let outcome = match found {
            Some(Lookup::Found(key)) => {
                let (fragment, outcome) = self.of_record(key);
                return (fragment, outcome, self.places.build_epoch(key));
            }
            Some(Lookup::Unknown) => LookupOutcome::NotFound,
            Some(Lookup::Private) => LookupOutcome::Private,
            None => LookupOutcome::NoAddress,
        };
        (Arc::clone(&self.unknown), outcome, None)
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

    /// The place of a record as it is written. The chain comes behind what leaves something out of the place: its geocoder is
    /// another machine.
    fn place(&self, key: PlaceKey) -> Result<Place, PlaceError> {
        let mut place = self.places.place(key)?;
        self.coarsening.reduce(&self.places, key, &mut place)?;
        self.chain.complete(&mut place, &self.places.raw_place(key)?, Some((&self.cache, key)));
        self.coarsening.round(&mut place);
        Ok(place)
    }
}

#[cfg(test)]
#[path = "../../../tests/presses/mod.rs"]
mod presses;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::sync::LazyLock;

    use super::*;
    use crate::pipeline::press::event::Actions;
    use crate::place::{DatabaseSet, Gazetteer, GazetteerFiles};

    static DATABASE: LazyLock<Vec<u8>> = LazyLock::new(presses::database);

    fn enricher() -> Enricher {
        let schema = apache_avro::Schema::parse_str(include_str!("../../../schemas/button_presses.avsc")).unwrap();
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
    fn newer_databases_are_taken_when_told_to_with_a_cache_of_their_own() {
        let enricher = enricher();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("made-up.mmdb");
        std::fs::write(&file, &*DATABASE).unwrap();
        let database_set = DatabaseSet::open(std::slice::from_ref(&file), true).unwrap();
        let caches = Arc::new(Caches::new(100));
        let follower = |coarsening| {
            Enricher::following(
                database_set.subscribe(),
                Arc::clone(&caches),
                Arc::clone(&enricher.encoder),
                coarsening,
            )
        };
        // Each city has 256 addresses and a network of /48: 512 lines.
        let small = Coarsening { min_addresses: 513, round_coordinates: None };
        let (mut one, mut two, reduced) =
            (follower(Coarsening::default()), follower(Coarsening::default()), follower(small));
        let visitor = presses::address_v4(7, 1).to_string();
        let (first, _) = look_up(&one, &visitor);
        assert_eq!(look_up(&two, &visitor), (Arc::clone(&first), LookupOutcome::Hit), "workers share a cache");
        let named = |fragment: &[u8]| String::from_utf8_lossy(fragment).contains("Kaupunki 7");
        assert!(named(&first));
        let key = match reduced.places.lookup_addr(presses::address_v4(8, 1)) {
            Lookup::Found(key) => key,
            other => panic!("{other:?}"),
        };
        let place = reduced.place(key).unwrap();
        assert_eq!((place.city_name.as_str(), place.latitude, place.subdivision_name.as_str()), ("", None, "Uusimaa"));

        assert_eq!(database_set.look(true).len(), 1);
        assert_eq!(look_up(&one, &visitor).1, LookupOutcome::Hit, "not before it is told to");
        let before = one.cache_stats();
        one.refresh();
        assert_eq!(one.cache_stats(), CacheStats { entries: 0, ..before }, "what was counted counts on");
        assert_eq!(look_up(&one, &visitor), (Arc::clone(&first), LookupOutcome::Miss));
        two.refresh();
        assert_eq!(look_up(&two, &visitor).1, LookupOutcome::Hit);
        one.refresh();
        assert_eq!(one.cache_stats().entries, 1, "nothing new, nothing dropped");
    }

    #[test]
    fn a_city_that_is_not_told_is_told_to_no_step_behind_the_database() {
        let folder = tempfile::tempdir().unwrap();
        let (file, cities) = (folder.path().join("made-up.mmdb"), folder.path().join("cities.txt"));
        std::fs::write(&file, &*DATABASE).unwrap();
        std::fs::write(
            &cities,
            "8\tKaupunki 8\tKaupunki 8\t\t9.5\t8.5\tP\tPPL\tFI\t\t18\t\t\t\t5000\t\t1\tEurope/Helsinki\t2026-01-01\n\
             1\tSeat\tSeat\t\t60.0\t25.0\tP\tPPLC\tFI\t\t18\t\t\t\t600000\t\t1\tEurope/Helsinki\t2026-01-01\n",
        )
        .unwrap();
        let files = GazetteerFiles { cities: Some(cities), ..GazetteerFiles::default() };
        let gazetteer = Some(Arc::new(Gazetteer::open(&files).unwrap()));
        let chain = Arc::new(Chain::uncounted(gazetteer, None));
        let database_set = DatabaseSet::open(std::slice::from_ref(&file), true).unwrap();
        let caches = Arc::new(Caches::new(100));
        let small = Coarsening { min_addresses: 513, round_coordinates: None };
        let enricher = Enricher::following(database_set.subscribe(), caches, Arc::clone(&enricher().encoder), small)
            .with_chain(Arc::clone(&chain));
        let Lookup::Found(key) = enricher.places.lookup_addr(presses::address_v4(8, 1)) else { panic!("found") };
        let place = enricher.place(key).unwrap();
        assert_eq!((place.city_name.as_str(), place.latitude), ("", Some(60.0)), "the area's, not the city's");

        let mut told = enricher.places.place(key).unwrap();
        (told.latitude, told.longitude) = (None, None);
        chain.complete(&mut told, &Place::unknown(), None);
        assert_eq!(told.latitude, Some(9.5), "the gazetteer knows the city");
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
