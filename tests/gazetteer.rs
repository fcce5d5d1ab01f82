//! Memory and time that a gazetteer of cities500.txt's size takes, in a process of its own. The file is made up, with as
//! many rows and names as the real one of 2026 has; `PRESSLINE_GAZETTEER` may name a folder with the real files instead.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Instant;

use pressline::place::{Gazetteer, GazetteerFiles, Place};

/// Rows of cities500.txt in 2026: 234,908.
const ROWS: u32 = 235_000;
/// Alternate names of a row in Latin letters (the real file has 2.9) and in others.
const LATIN_NAMES: u32 = 3;
const OTHER_NAMES: u32 = 4;
/// What docs/operations.md promises of such a file, in MiB.
const MOST_MIB: u64 = 40;

/// A line of /proc/self/status in KiB.
fn memory_kib(line: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(line)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn name(n: u32) -> String {
    format!("Ville-{:x} d'Éxemple", n.wrapping_mul(2_654_435_761))
}

fn write_cities(path: &Path) {
    let mut out = BufWriter::new(std::fs::File::create(path).unwrap());
    for n in 0..ROWS {
        let latin: Vec<String> = (1..=LATIN_NAMES).map(|k| name(n + k * 10_000_000)).collect();
        let other: Vec<String> = (0..OTHER_NAMES).map(|k| format!("Город {n} {k}")).collect();
        let (country, admin1) = ([b'A' + (n % 10) as u8, b'A' + (n / 10 % 25) as u8], n % 16);
        let country = std::str::from_utf8(&country).unwrap();
        let (north, east) = (f64::from(n % 17_000) / 100.0 - 85.0, f64::from(n % 35_000) / 100.0 - 175.0);
        writeln!(
            out,
            "{n}\t{0}\t{0}\t{1},{2}\t{north}\t{east}\tP\tPPL\t{country}\t\t{admin1}\t\t\t\t{n}\t\t10\tEtc/Zone-{3}\t2026-01-01",
            name(n),
            latin.join(","),
            other.join(","),
            n % 420,
        )
        .unwrap();
    }
}

fn write_subdivisions(path: &Path) {
    let mut out = BufWriter::new(std::fs::File::create(path).unwrap());
    for n in 0..4_000u32 {
        let country = [b'A' + (n % 10) as u8, b'A' + (n / 10 % 25) as u8];
        let country = std::str::from_utf8(&country).unwrap();
        writeln!(out, "{country}.{}\tRegion {n}\tRegion {n}\t{n}", n / 250).unwrap();
    }
}

#[test]
fn a_file_of_the_size_of_cities500_fits_the_memory_that_is_promised() {
    let folder = tempfile::tempdir().unwrap();
    let real = std::env::var_os("PRESSLINE_GAZETTEER").map(PathBuf::from);
    let place_of = |file: &str| real.as_deref().unwrap_or(folder.path()).join(file);
    let files = GazetteerFiles {
        cities: Some(place_of("cities500.txt")),
        subdivisions: Some(place_of("admin1CodesASCII.txt")),
        countries: real.as_ref().map(|_| place_of("countryInfo.txt")),
    };
    if real.is_none() {
        write_cities(&place_of("cities500.txt"));
        write_subdivisions(&place_of("admin1CodesASCII.txt"));
    }
    let (before, began) = (memory_kib("VmRSS:"), Instant::now());
    let gazetteer = Gazetteer::open(&files).unwrap();
    let (took, after, peak) = (began.elapsed(), memory_kib("VmRSS:"), memory_kib("VmHWM:"));
    let (kept, most) = ((after - before) / 1024, (peak - before) / 1024);
    println!(
        "{} cities, {} names, {} subdivisions: {kept} MiB kept, {most} MiB at most while loading, {took:?}",
        gazetteer.cities(),
        gazetteer.names(),
        gazetteer.subdivisions(),
    );
    if real.is_none() {
        assert_eq!(gazetteer.cities(), ROWS as usize);
        assert_eq!(gazetteer.names(), ROWS as usize * 4);
        let city = Place { country_code: "AA".into(), city_name: name(0).to_uppercase(), ..Place::unknown() };
        assert_eq!(gazetteer.find(&city).unwrap().latitude, -85.0);
    }
    assert!(most <= MOST_MIB, "{most} MiB at most while loading, promised are {MOST_MIB}");
}
