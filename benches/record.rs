//! What one record costs on the hot path, step by step: `cargo bench --bench record`.
//!
//! Each figure is per record; the records are drawn from 100,000, so that data is not all in the processor's caches.
//! `PRESSLINE_BENCH_MMDB` names the files of a real database (`:` between them) to look up in, instead of the made-up one.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../tests/presses/general.rs"]
mod general;
#[path = "../tests/presses/mod.rs"]
mod presses;

use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, LazyLock},
};

use apache_avro::{Schema, types::Value, writer::datum::GenericDatumWriter};
use divan::{Bencher, counter::ItemsCount};
use pressline::avro::format;
use pressline::config::format::{FieldConfig, Format, FormatConfig};
use pressline::pipeline::plan::fields::Fields;
use pressline::pipeline::plan::predicate::{Input, Predicate};
use pressline::pipeline::plan::walk::{Span, Walk};
use pressline::pipeline::press::decode::{Decoder, Limits};
use pressline::pipeline::press::encode::Encoder;
use pressline::pipeline::press::enrich::Enricher;
use pressline::pipeline::press::event::{Actions, ClientIp, PressBody};
use pressline::place::{DatabaseSet, FragmentCache, Lookup, Place, Places};

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
            // In no order.
            let network = |n: usize| networks[n * 7_919 % networks.len()].addr;
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
        Enricher::new(Arc::clone(&self.places), Arc::clone(&self.cache), self.encoder.clone())
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

/// serde_json into a tree of values, as a decoder without a visitor of its own would begin: for comparison.
#[divan::bench]
fn json_parser_into_values(bencher: Bencher) {
    each(bencher, &STAGE.records, |record| {
        divan::black_box(serde_json::from_str::<serde_json::Value>(record).unwrap());
    });
}

#[divan::bench]
fn decode(bencher: Bencher) {
    each(bencher, &STAGE.records, |record| {
        divan::black_box(STAGE.decode(record));
    });
}

/// The search for the record alone, with addresses already parsed.
#[divan::bench]
fn lookup_tree(bencher: Bencher) {
    let addresses: Vec<IpAddr> = STAGE.addresses.iter().copied().flatten().collect();
    each(bencher, &addresses, |address| {
        divan::black_box(STAGE.places.lookup_addr(*address));
    });
}

/// The same addresses by the maxminddb crate, bit by bit from the root of the tree: for comparison.
#[divan::bench]
fn lookup_tree_maxminddb(bencher: Bencher) {
    // One file: with a real database of several, the first.
    let file = match std::env::var_os("PRESSLINE_BENCH_MMDB") {
        Some(files) => std::fs::read(std::env::split_paths(&files).next().unwrap()).unwrap(),
        None => presses::database(),
    };
    let reader = maxminddb::Reader::from_source(file).unwrap();
    let addresses: Vec<IpAddr> = STAGE.addresses.iter().copied().flatten().collect();
    each(bencher, &addresses, |address| {
        divan::black_box(reader.lookup(*address).ok());
    });
}

#[divan::bench]
fn lookup_warm(bencher: Bencher) {
    let enricher = STAGE.enricher();
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

/// The same fields by apache-avro's writer, its values already made: for comparison.
#[divan::bench]
fn encode_apache_avro(bencher: Bencher) {
    let schema = Schema::parse_str(include_str!("../schemas/button_presses.avsc")).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    let text = |text: &str| Value::String(text.to_owned());
    let null = || Value::Union(0, Box::new(Value::Null));
    let fields = [
        ("session_id", Value::Uuid(uuid::Uuid::from_u128(7))),
        ("timestamp", Value::TimestampMicros(presses::NOW_US)),
        ("cohort", null()),
        ("action", text("PressButton")),
        ("country_name", text("")),
        ("country_code", text("--")),
        ("subdivision_name", text("")),
        ("subdivision_code", text("")),
        ("city_name", text("Kaupunki 1")),
        ("latitude", null()),
        ("longitude", null()),
        ("accuracy_km", null()),
        ("time_zone", null()),
    ];
    let record = Value::Record(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
    let mut out = Vec::new();
    each(bencher, &STAGE.records, |_| {
        out.clear();
        writer.write_value_ref(&mut out, &record).unwrap();
        divan::black_box(&out);
    });
}

/// All of it, warm: the bytes of a raw record to the bytes of an enriched one.
#[divan::bench]
fn whole(bencher: Bencher) {
    let enricher = STAGE.enricher();
    let mut out = Vec::new();
    each(bencher, &STAGE.records, |record| {
        let (ip, body) = STAGE.decode(record);
        let (fragment, _) = enricher.fragment(ip.as_ref());
        out.clear();
        STAGE.encoder.encode(&body, &fragment, &mut out);
        divan::black_box(&out);
    });
}

/// The same with one field renamed, which the general kernel runs.
#[divan::bench]
fn whole_general(bencher: Bencher) {
    let stock = DatabaseSet::fixed(Arc::new(Places::from_bytes_counted("made-up.mmdb", presses::database()).unwrap()));
    let mut kernel = general::kernel(general::RENAMED, Some(&stock));
    each(bencher, &STAGE.records, |record| {
        kernel.run(Some(record.as_bytes()), None).unwrap();
        divan::black_box(kernel.value());
    });
}

/// The general kernel with neither lookup nor filter: what the next one is compared with.
#[divan::bench]
fn general_unfiltered(bencher: Bencher) {
    general_with(bencher, "");
}

/// A filter in front that drops every other record.
#[divan::bench]
fn general_filter_of_half(bencher: Bencher) {
    general_with(bencher, "[[transforms]]\nfilter = 'count > 0'\n");
}

/// Records with one more field, `count`: 0 or 1 in turns.
fn general_with(bencher: Bencher, transforms: &str) {
    const COUNT: &str = "[source]\naddresses = [\"ip\"]\n[source.fields]\ncount = \"int\"\n";
    let mut kernel = general::kernel(&format!("{COUNT}{transforms}"), None);
    let counted = |(n, record): (usize, &String)| record.replacen('{', &format!("{{\"count\": {}, ", n % 2), 1);
    let records: Vec<String> = STAGE.records.iter().enumerate().map(counted).collect();
    each(bencher, &records, |record| {
        divan::black_box(kernel.run(Some(record.as_bytes()), None).unwrap());
        divan::black_box(kernel.value());
    });
}

/// Predicates over a record that was walked already, each of one kind.
#[divan::bench(args = [
    "count > 0",
    "count > 0 && action != \"ExitPage\"",
    "action in [\"EnterPage\", \"PressButton\"]",
    "session_id.startsWith(\"00\") || action.contains(\"Press\")",
    "cohort != null && cohort < 3 && !(count == 7)",
])]
fn predicate(bencher: Bencher, text: &str) {
    let fields = [("session_id", "uuid"), ("count", "int"), ("cohort", "int?"), ("action", "string")];
    let fields = fields.map(|(name, of)| (name.to_string(), FieldConfig::Type(of.into()))).into();
    let mut decoder =
        format::Decoder::new(&FormatConfig { format: Format::Json, fields, ..Default::default() }).unwrap();
    let shape = decoder.declared().unwrap().clone();
    let mut paths: Vec<Vec<String>> = Vec::new();
    let predicate = Predicate::compile(text, &Fields::of(&shape).unwrap(), &mut |path| {
        paths.iter().position(|known| known == path).unwrap_or_else(|| {
            paths.push(path.to_vec());
            paths.len() - 1
        })
    });
    let (predicate, walk) = (predicate.unwrap(), Walk::compile(&shape, &paths));
    assert!(predicate.is_compiled());
    let mut walked = |(n, record): (usize, &String)| {
        let (mut arena, mut slots) = (Vec::new(), Vec::new());
        let counted = record.replacen('{', &format!("{{\"count\": {}, ", n % 2), 1);
        let decoded = decoder.decode(Some(counted.as_bytes()), &mut arena).unwrap();
        let format::Decoded::Datum { bytes, .. } = decoded else { panic!() };
        walk.run(bytes, &mut slots).unwrap();
        (bytes.to_vec(), slots)
    };
    let records: Vec<(Vec<u8>, Vec<Span>)> = STAGE.records.iter().enumerate().map(&mut walked).collect();
    each(bencher, &records, |(datum, slots)| {
        divan::black_box(predicate.holds(&Input { datum, slots, places: &[] }).unwrap());
    });
}
