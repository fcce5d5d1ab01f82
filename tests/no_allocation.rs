//! The hot path allocates nothing per record once it is warm: decode, look up, encode.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "presses/general.rs"]
mod general;
mod presses;

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
};

use apache_avro::Schema;
use pressline::pipeline::plan::kernel::Verdict;
use pressline::pipeline::press::decode::{Decoder, Limits};
use pressline::pipeline::press::encode::Encoder;
use pressline::pipeline::press::enrich::{Caches, Enricher, LookupOutcome};
use pressline::pipeline::press::event::Actions;
use pressline::place::{Coarsening, DatabaseSet, Places};

/// Counts what the calling thread allocates, so that the test harness's own threads do not disturb.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

#[test]
fn a_warm_record_costs_no_allocation() {
    let actions = Arc::new(Actions::new(vec!["EnterPage".to_owned(), "PressButton".to_owned()]).unwrap());
    let schema = Schema::parse_str(include_str!("../schemas/button_presses.avsc")).unwrap();
    let encoder = Arc::new(Encoder::compile(&schema, 1, &actions, "schemas/button_presses.avsc").ok().unwrap());
    let places = Places::from_bytes_counted("made-up.mmdb", presses::database()).unwrap();
    let database_set = DatabaseSet::fixed(Arc::new(places));
    let coarsening = Coarsening { min_addresses: 300, round_coordinates: Some(0.1) };
    let caches = Arc::new(Caches::new(100_000));
    let mut enricher = Enricher::following(database_set.subscribe(), caches, encoder.clone(), coarsening);
    let decoder = Decoder::new(Limits::default(), actions);
    let records: Vec<String> = (0..10_000).map(presses::record).collect();
    let mut out = Vec::new();
    let mut outcomes = Vec::with_capacity(2 * records.len());
    let mut relay = |outcomes: &mut Vec<LookupOutcome>| {
        out.clear();
        for record in &records {
            enricher.refresh();
            let (ip, body) = decoder.decode(Some(record.as_bytes()), presses::NOW_US).ok().unwrap().split();
            let (fragment, outcome) = enricher.fragment(ip.as_ref());
            encoder.encode(&body, &fragment, &mut out);
            outcomes.push(outcome);
        }
    };

    let cold = allocations_of(|| relay(&mut outcomes));
    assert!(cold > 1_000, "the counter counts: {cold} allocations while the caches filled");
    assert!(outcomes.contains(&LookupOutcome::Miss));
    outcomes.clear();
    assert_eq!(allocations_of(|| relay(&mut outcomes)), 0, "allocations over 10,000 records");
    for kind in [LookupOutcome::Hit, LookupOutcome::Private, LookupOutcome::NotFound, LookupOutcome::NoAddress] {
        assert!(outcomes.contains(&kind), "{kind:?}");
    }
    assert!(!outcomes.contains(&LookupOutcome::Miss) && !outcomes.contains(&LookupOutcome::Failed));
}

#[test]
fn a_warm_record_costs_no_allocation_in_the_general_kernel() {
    let places = Places::from_bytes_counted("made-up.mmdb", presses::database()).unwrap();
    let stock = DatabaseSet::fixed(Arc::new(places));
    let filter = "[[transforms]]\nfilter = 'what in [\"EnterPage\", \"PressButton\"] && country_code != \"SE\" && !(cohort == 7)'\n";
    let cast = "[[transforms]]\ncast = { timestamp = \"timestamp-millis\" }\n";
    let mut kernel = general::kernel(&format!("{}{filter}{cast}", general::RENAMED), Some(&stock));
    let records: Vec<String> = (0..10_000).map(presses::record).collect();
    let mut relay = || {
        let mut written = 0;
        for record in &records {
            let verdict = kernel.run(Some(record.as_bytes()), None);
            assert_eq!(verdict, Ok(Verdict::Write(0)));
            written += kernel.value().len() + kernel.key(None).map_or(0, <[u8]>::len);
        }
        written
    };
    let cold = allocations_of(|| assert!(relay() > 500_000));
    assert!(cold > 1_000, "the counter counts: {cold} allocations while the caches filled");
    assert_eq!(allocations_of(|| assert!(relay() > 500_000)), 0, "allocations over 10,000 records");
}
