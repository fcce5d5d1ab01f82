//! What one record costs on the hot path, step by step: `cargo bench --bench record`.
//!
//! Each figure is per record; the records are drawn from 100,000, so that data is not all in the processor's caches.
//! `PRESSLINE_BENCH_MMDB` names the files of a real database (`:` between them) to look up in, instead of the made-up one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/presses/mod.rs"]
mod presses;

use std::{
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
    records: Vec<String>,
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let actions = Arc::new(Actions::new(vec!["EnterPage".to_owned(), "PressButton".to_owned()]).unwrap());
    let schema = Schema::parse_str(include_str!("../schemas/button_presses.avsc")).unwrap();
    let places = match std::env::var_os("PRESSLINE_BENCH_MMDB") {
        Some(files) => Places::open(&std::env::split_paths(&files).collect::<Vec<PathBuf>>()).unwrap(),
        None => Places::from_bytes("made-up.mmdb", presses::database()).unwrap(),
    };
    let records: Vec<String> = (0..100_000).map(presses::record).collect();
    let bytes: usize = records.iter().map(String::len).sum();
    println!("records of {} bytes on average", bytes / records.len());
    Stage {
        encoder: Arc::new(Encoder::compile(&schema, 1, &actions, "schemas/button_presses.avsc").ok().unwrap()),
        decoder: Decoder::new(Limits::default(), actions),
        places: Arc::new(places),
        cache: Arc::new(FragmentCache::new(100_000)),
        records,
    }
});

impl Stage {
    fn enricher(&self) -> Enricher {
        Enricher::new(Arc::clone(&self.places), Arc::clone(&self.cache), Arc::clone(&self.encoder))
    }

    fn decoded(&self) -> Vec<(Option<ClientIp>, PressBody)> {
        let decode =
            |record: &String| self.decoder.decode(Some(record.as_bytes()), presses::NOW_US).ok().unwrap().split();
        self.records.iter().map(decode).collect()
    }
}

/// Batches of the stage's records, one after another, for ever.
fn batches<T>(records: &[T]) -> impl FnMut() -> &[T] {
    let mut all = records.chunks_exact(BATCH).cycle();
    move || all.next().unwrap()
}

fn main() {
    LazyLock::force(&STAGE);
    divan::main();
}

/// serde_json alone, reading past everything: what a parser of our own could save at most.
#[divan::bench]
fn json_parser_alone(bencher: Bencher) {
    let stage = &*STAGE;
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(batches(&stage.records)).bench_values(|records| {
        for record in records {
            divan::black_box(serde_json::from_slice::<serde::de::IgnoredAny>(record.as_bytes()).unwrap());
        }
    });
}

#[divan::bench]
fn decode(bencher: Bencher) {
    let stage = &*STAGE;
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(batches(&stage.records)).bench_values(|records| {
        for record in records {
            divan::black_box(stage.decoder.decode(Some(record.as_bytes()), presses::NOW_US).ok());
        }
    });
}

/// The search tree alone, with addresses already parsed.
#[divan::bench]
fn lookup_tree(bencher: Bencher) {
    let stage = &*STAGE;
    let addresses: Vec<_> = (0..100_000).filter_map(presses::address).collect();
    bencher.counter(ItemsCount::new(BATCH)).with_inputs(batches(&addresses)).bench_values(|addresses| {
        for address in addresses {
            divan::black_box(stage.places.lookup_addr(*address));
        }
    });
}

#[divan::bench]
fn lookup_warm(bencher: Bencher) {
    let stage = &*STAGE;
    let (decoded, mut enricher) = (stage.decoded(), stage.enricher());
    let mut next = batches(&decoded);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for (ip, _) in next() {
            divan::black_box(enricher.fragment(ip.as_ref()));
        }
    });
}

/// A record that no cache has: decode it from the database, complete its names, make its bytes.
#[divan::bench]
fn lookup_cold(bencher: Bencher) {
    let stage = &*STAGE;
    let found: Vec<_> = (0..100_000)
        .filter_map(presses::address)
        .filter_map(|address| match stage.places.lookup_addr(address) {
            Lookup::Found(key) => Some(key),
            _ => None,
        })
        .collect();
    let mut next = batches(&found);
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        for key in next() {
            divan::black_box(stage.encoder.place_fragment(&stage.places.place(*key).unwrap()));
        }
    });
}

#[divan::bench]
fn encode(bencher: Bencher) {
    let stage = &*STAGE;
    let decoded = stage.decoded();
    let fragment = stage.encoder.place_fragment(&Place { city_name: "Kaupunki 1".to_owned(), ..Place::unknown() });
    let mut next = batches(&decoded);
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        out.clear();
        for (_, body) in next() {
            stage.encoder.encode(body, &fragment, &mut out);
        }
        divan::black_box(&out);
    });
}

/// All of it, warm: the bytes of a raw record to the bytes of an enriched one.
#[divan::bench]
fn whole(bencher: Bencher) {
    let stage = &*STAGE;
    let mut enricher = stage.enricher();
    let mut next = batches(&stage.records);
    let mut out = Vec::new();
    bencher.counter(ItemsCount::new(BATCH)).bench_local(|| {
        out.clear();
        for record in next() {
            let press = stage.decoder.decode(Some(record.as_bytes()), presses::NOW_US);
            let Ok(press) = press else { continue };
            let (ip, body) = press.split();
            let (fragment, _) = enricher.fragment(ip.as_ref());
            stage.encoder.encode(&body, fragment, &mut out);
        }
        divan::black_box(&out);
    });
}
