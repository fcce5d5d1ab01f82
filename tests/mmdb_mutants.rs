//! GeoIP databases damaged at random: opening, verifying, counting, looking up and decoding may refuse, and neither crash
//! nor take long.
//!
//! `PRESSLINE_MMDB_MUTANTS` is how many (10,000 unless set), `PRESSLINE_MMDB_SEED` the first one's number (0): a failure
//! names the one to try again alone.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use maxminddb_writer::metadata::IpVersion;
use pressline::place::{BUNDLED, Coarsening, Lookup, Places};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use serde_json::{Value, json};

/// Longest that one may take; a sound file of this size takes milliseconds.
const MOST: Duration = Duration::from_secs(10);
/// One of so many is the bundled database, which is larger than the others.
const BUNDLED_EVERY: u64 = 500;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

fn database(version: IpVersion, nested: bool) -> Vec<u8> {
    let mut database = maxminddb_writer::Database::default();
    database.metadata.ip_version = version;
    database.metadata.binary_format_major_version = 2;
    database.metadata.database_type = "made-up-City".to_owned();
    for number in 0..40u32 {
        let record = database.insert_value(record(number, nested)).unwrap();
        let bits = u128::from(number.wrapping_mul(0x9e37_79b9) | 0x0100_0000) << 96;
        let (bits, len) = match (version, number % 3) {
            (IpVersion::V4, _) => (bits, 8 + (number % 25) as u8),
            (IpVersion::V6, 0) => (bits >> 96, 96 + 8 + (number % 25) as u8),
            (IpVersion::V6, _) => (0x2a00 << 112 | bits >> 16, 20 + (number % 100) as u8),
        };
        database.insert_node((0..len).map(move |bit| bits >> (127 - bit) & 1 == 1), record);
    }
    database.write_to(Vec::new()).unwrap()
}

fn record(number: u32, nested: bool) -> Value {
    let (city, degrees) = (format!("Kaupunki {number}"), f64::from(number));
    if nested {
        json!({"city": {"geoname_id": number, "names": {"de": city, "en": city}},
               "country": {"iso_code": "FI", "is_in_european_union": true, "names": {"en": "Finland"}},
               "location": {"latitude": degrees, "longitude": -degrees, "accuracy_radius": 20u16, "time_zone": "Europe/Helsinki"},
               "subdivisions": [{"iso_code": "18", "names": {"en": "Uusimaa"}}]})
    } else {
        json!({"country_code": "FI", "state1": "Uusimaa", "state2": "", "city": city, "postcode": "",
               "latitude": number as f32, "longitude": 25.0f32, "timezone": ""})
    }
}

/// The mutant of a number: some bytes changed, a stretch overwritten, moved or cut out, or the end cut off.
fn mutant(sound: &[Vec<u8>], number: u64) -> Vec<u8> {
    let mut random = Pcg64::seed_from_u64(number);
    let mut bytes = match number % BUNDLED_EVERY {
        0 => BUNDLED.to_vec(),
        _ => sound[random.random_range(0..sound.len())].clone(),
    };
    for _ in 0..random.random_range(1..=4) {
        let len = bytes.len();
        let at = random.random_range(0..len);
        let stretch = random.random_range(1..=64.min(len - at));
        match random.random_range(0..12) {
            0..5 => bytes[at] = random.random(),
            5 | 6 => bytes[at] ^= 1 << random.random_range(0..8),
            7 => bytes[at..at + stretch].fill_with(|| random.random()),
            8 => bytes[at..at + stretch].fill([0, 0xff][random.random_range(0..2)]),
            9 => {
                let from = random.random_range(0..=len - stretch);
                bytes.copy_within(from..from + stretch, at);
            }
            10 => drop(bytes.drain(at..at + stretch)),
            // Rarely, since most of what is cut off is refused at once.
            _ if random.random_range(0..8) == 0 => bytes.truncate(at.max(1)),
            _ => {}
        }
    }
    bytes
}

/// Everything that is done with a database. Whether it was taken.
fn use_it(bytes: Vec<u8>, number: u64) -> bool {
    let Ok(places) = Places::from_bytes("mutant.mmdb", bytes.clone()) else { return false };
    let counted = Places::from_bytes_counted("mutant.mmdb", bytes).ok();
    let coarsening = Coarsening { min_addresses: 1_000, round_coordinates: Some(0.1) };
    let mut random = Pcg64::seed_from_u64(number ^ 0x5eed);
    let chance: Vec<IpAddr> = (0..100)
        .flat_map(|_| [IpAddr::V4(random.random::<u32>().into()), IpAddr::V6(random.random::<u128>().into())])
        .collect();
    let known: Vec<IpAddr> = places.networks().take(5_000).map(|network| network.addr).collect();
    for ip in chance.into_iter().chain(known) {
        if let Lookup::Found(key) = places.lookup_addr(ip) {
            places.place(key).expect("what was verified can be read");
        }
        if let Some(places) = &counted
            && let Lookup::Found(key) = places.lookup_addr(ip)
        {
            let mut place = places.place(key).expect("what was verified can be read");
            coarsening.reduce(places, key, &mut place).expect("what was counted can be asked");
            coarsening.round(&mut place);
        }
    }
    let _ = places.sample_networks(100);
    let _ = places.report(1_024);
    true
}

#[test]
fn no_damaged_database_crashes_or_holds_up() {
    let (count, first) = (setting("PRESSLINE_MMDB_MUTANTS", 10_000), setting("PRESSLINE_MMDB_SEED", 0));
    let sound: Vec<Vec<u8>> =
        [(IpVersion::V4, false), (IpVersion::V4, true), (IpVersion::V6, false), (IpVersion::V6, true)]
            .map(|(version, nested)| database(version, nested))
            .into();
    for bytes in &sound {
        assert!(use_it(bytes.clone(), 0), "the files that mutants are made of are sound");
    }
    let again = |number: u64| format!("PRESSLINE_MMDB_SEED={number} PRESSLINE_MMDB_MUTANTS=1");
    let (current, done) = (AtomicU64::new(first), AtomicU64::new(0));
    let taken = std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let mut taken = 0;
            for number in first..first + count {
                current.store(number, Ordering::Relaxed);
                let bytes = mutant(&sound, number);
                let result = catch_unwind(AssertUnwindSafe(|| use_it(bytes, number)));
                taken += u64::from(result.unwrap_or_else(|_| panic!("it panics: {}", again(number))));
                done.fetch_add(1, Ordering::Relaxed);
            }
            taken
        });
        let (mut seen, mut since) = (0, Instant::now());
        while !worker.is_finished() {
            std::thread::sleep(Duration::from_millis(20));
            if seen != done.load(Ordering::Relaxed) {
                (seen, since) = (done.load(Ordering::Relaxed), Instant::now());
            }
            if since.elapsed() > MOST {
                // The thread cannot be stopped: only the process can end.
                eprintln!("it takes more than {MOST:?}: {}", again(current.load(Ordering::Relaxed)));
                std::process::exit(1);
            }
        }
        worker.join().unwrap()
    });
    println!("{count} mutants from {first} on, {taken} taken");
    // Were all refused, nothing behind opening would have been tried.
    assert!(count < 1_000 || taken > count / 20 && taken < count, "{taken} of {count} were taken");
}
