//! What one record costs on the hot path, step by step: `cargo bench --bench record`.
//!
//! Each figure is per record; the records are drawn from 100,000, so that data is not all in the processor's caches.
//! `PRESSLINE_BENCH_MMDB` names the files of a real database (`:` between them) to look up in, instead of the made-up one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/presses/mod.rs"]
mod presses;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use apache_avro::Schema;
use divan::{Bencher, counter::ItemsCount};
use pressline::{
    decode::{Decoder, Limits},
    encode::Encoder,
    enrich::Enricher,
    event::{Actions, ClientIp, PressBody},
    place::{FragmentCache, Lookup, Place, Places},
};

/// Records a sample.
const BATCH: usize = 10_000;

struct Stage {
    decoder: Decoder,
    encoder: Arc<Encoder>,
    places: Arc<Places>,
    cache: Arc<FragmentCache>,
    addresses: Vec<Option<IpAddr>>,
    records: Vec<String>,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let actions = Arc::new(Actions::new(vec!["EnterPage".to_owned(), "PressButton".to_owned()]).unwrap());
    let schema = Schema::parse_str(include_str!("../schemas/button_presses.avsc")).unwrap();
    let (places, addresses): (_, Vec<_>) = match std::env::var_os("PRESSLINE_BENCH_MMDB") {
        Some(files) => {
            let places = Places::open(&std::env::split_paths(&files).collect::<Vec<PathBuf>>()).unwrap();
            let networks = places.sample_networks(presses::CITIES as usize);
            // Four presses a visitor, networks in no order.
            let network = |n: usize| networks[n / 4 * 7_919 % networks.len()].addr;
            (places, (0..100_000).map(|n| Some(network(n))).collect())
        }
        None => (
            Places::from_bytes("made-up.mmdb", presses::database()).unwrap(),
            (0..100_000).map(presses::address).collect(),
        ),
    };
    let records: Vec<String> = (0..).zip(&addresses).map(|(n, address)| presses::record_from(n, *address)).collect();
    let bytes: usize = records.iter().map(String::len).sum();
    println!("records of {} bytes on average", bytes / records.len());
    Stage {
        encoder: Arc::new(Encoder::compile(&schema, 1, &actions, "schemas/button_presses.avsc").ok().unwrap()),
        decoder: Decoder::new(Limits::default(), actions),
        places: Arc::new(places),
        cache: Arc::new(FragmentCache::new(100_000)),
        addresses,
        records,
    }
});

impl Stage {
    fn enricher(&self) -> Enricher {
        Enricher::new(Arc::clone(&self.places), Arc::clone(&self.cache), Arc::clone(&self.encoder))
    }

    fn decode(&self, record: &str) -> (Option<ClientIp>, PressBody) {
        self.decoder.decode(Some(record.as_bytes()), presses::NOW_US).ok().unwrap().split()
    }

    fn decoded(&self) -> Vec<(Option<ClientIp>, PressBody)> {
        self.records.iter().map(|record| self.decode(record)).collect()
    }
}

/// Works on the items in batches, one batch a sample, over and over.
fn each<T>(bencher: Bencher, items: &[T], mut work: impl FnMut(&T)) {
    let mut batches = items.chunks_exact(BATCH).cycle();
    let mut batch = || batches.next().unwrap().iter().for_each(&mut work);
    // Once over everything, so that caches are warm.
    (0..items.len() / BATCH).for_each(|_| batch());
    bencher.counter(ItemsCount::new(BATCH)).bench_local(batch);
}

fn main() {
    LazyLock::force(&STAGE);
    divan::main();
}

/// serde_json alone, reading past everything: what is left of decoding if ours cost nothing.
#[divan::bench]
fn json_parser_alone(bencher: Bencher) {
    each(bencher, &STAGE.records, |record| {
        divan::black_box(serde_json::from_str::<serde::de::IgnoredAny>(record).unwrap());
    });
}

#[divan::bench]
fn decode(bencher: Bencher) {
    each(bencher, &STAGE.records, |record| {
        divan::black_box(STAGE.decode(record));
    });
}

/// The search tree alone, with addresses already parsed.
#[divan::bench]
fn lookup_tree(bencher: Bencher) {
    let addresses: Vec<IpAddr> = STAGE.addresses.iter().copied().flatten().collect();
    each(bencher, &addresses, |address| {
        divan::black_box(STAGE.places.lookup_addr(*address));
    });
}

#[divan::bench]
fn lookup_warm(bencher: Bencher) {
    let mut enricher = STAGE.enricher();
    each(bencher, &STAGE.decoded(), |(ip, _)| {
        divan::black_box(enricher.fragment(ip.as_ref()));
    });
}

/// A record that no cache has: decode it from the database, complete its names, make its bytes.
#[divan::bench]
fn lookup_cold(bencher: Bencher) {
    let found = STAGE.addresses.iter().flatten().filter_map(|address| match STAGE.places.lookup_addr(*address) {
        Lookup::Found(key) => Some(key),
        _ => None,
    });
    each(bencher, &found.collect::<Vec<_>>(), |key| {
        divan::black_box(STAGE.encoder.place_fragment(&STAGE.places.place(*key).unwrap()));
    });
}

#[divan::bench]
fn encode(bencher: Bencher) {
    let fragment = STAGE.encoder.place_fragment(&Place { city_name: "Kaupunki 1".to_owned(), ..Place::unknown() });
    let mut out = Vec::new();
    each(bencher, &STAGE.decoded(), |(_, body)| {
        out.clear();
        STAGE.encoder.encode(body, &fragment, &mut out);
        divan::black_box(&out);
    });
}

/// All of it, warm: the bytes of a raw record to the bytes of an enriched one.
#[divan::bench]
fn whole(bencher: Bencher) {
    let mut enricher = STAGE.enricher();
    let mut out = Vec::new();
    each(bencher, &STAGE.records, |record| {
        let (ip, body) = STAGE.decode(record);
        let (fragment, _) = enricher.fragment(ip.as_ref());
        out.clear();
        STAGE.encoder.encode(&body, fragment, &mut out);
        divan::black_box(&out);
    });
}
