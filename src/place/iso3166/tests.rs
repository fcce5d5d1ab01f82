#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
use std::collections::HashMap;
use std::path::PathBuf;

use super::super::Places;
use super::*;

fn code(country: &str, name: &str) -> &'static str {
    subdivision_code(country, name)
}

#[test]
fn countries_are_called_as_people_call_them() {
    for (code, name) in [
        ("US", "United States"),
        ("GB", "United Kingdom"),
        ("KR", "South Korea"),
        ("IR", "Iran"),
        ("FR", "France"),
        ("XK", "Kosovo"),
        ("QQ", ""),
        ("--", ""),
    ] {
        assert_eq!(country_name(code), name, "{code}");
    }
    for country in rust_iso3166::ALL {
        let name = country_name(country.alpha2);
        assert!(!name.is_empty() && !name.contains(['(', ',']) || name.starts_with("Saint Helena"), "{name}");
    }
}

#[test]
fn names_with_and_without_accents_kinds_and_in_english_give_the_code() {
    for (country, name, expected) in [
        ("US", "California", "CA"),
        ("FR", "Île-de-France", "IDF"),
        ("FR", "Ile de France", "IDF"),
        ("FI", "Uusimaa", "18"),
        ("FI", "Nyland", "18"),
        ("DE", "Bavaria", "BY"),
        ("DE", "BAYERN", "BY"),
        ("IT", "Lombardy", "25"),
        ("IT", "Lombardia", "25"),
        ("ES", "Catalonia", "CT"),
        ("ES", "Madrid", "MD"),
        ("BE", "Flanders", "VLG"),
        ("NL", "North Holland", "NH"),
        ("JP", "Tōkyō", "13"),
        ("JP", "Tokyo", "13"),
        ("KR", "Seoul", "11"),
        ("SE", "Stockholm County", "AB"),
        ("RU", "Samara Oblast", "SAM"),
        ("RU", "Omsk Oblast", "OMS"),
        ("UA", "Lviv", "46"),
        ("NO", "Akershus", "32"),
        ("PL", "Mazovia", "14"),
    ] {
        assert_eq!(code(country, name), expected, "{country} {name}");
    }
}

#[test]
fn a_name_that_does_not_determine_the_subdivision_gives_no_code() {
    for (country, name) in [
        ("TW", "Hsinchu"),
        ("US", "Bavaria"),
        ("US", ""),
        ("US", "---"),
        ("QQ", "California"),
        ("--", "California"),
        ("KZ", "Almaty Prefecture of Nowhere"),
    ] {
        assert_eq!(code(country, name), "", "{country} {name}");
    }
}

#[test]
fn a_city_is_not_taken_for_the_region_around_it() {
    assert_eq!(code("RU", "Moscow"), "MOW");
    assert_eq!(code("RU", "Moscow Oblast"), "MOS");
    assert_eq!(code("UA", "Kyiv"), "30");
    assert_eq!(code("UA", "Kyiv Oblast"), "32");
    assert_eq!(code("GT", "Guatemala City"), "");
}

#[test]
fn every_alias_is_folded_and_names_a_subdivision() {
    let newer_than_the_tables = ["NO-31", "NO-32", "NO-33", "NO-39", "NO-40", "NO-55", "NO-56"];
    for (country, names) in aliases::SUBDIVISIONS {
        for alias in names.split('|') {
            let (name, code) = alias.split_once('=').unwrap();
            assert_eq!(fold(name), name, "{country}: not folded");
            let full = format!("{country}-{code}");
            assert!(
                iso3166_2::from_code(&full).is_some() || newer_than_the_tables.contains(&full.as_str()),
                "{full} ({name}) is no code of ISO 3166-2"
            );
        }
    }
}

#[test]
fn every_name_of_the_tables_finds_itself_or_nothing() {
    let mut found = 0;
    let mut all = 0;
    for (country, subdivisions) in iso3166_2::SUBDIVISION_COUNTRY_MAP.entries() {
        for subdivision in subdivisions.iter() {
            let code = subdivision_code(country, subdivision.name);
            let namesake = subdivisions.iter().find(|other| other.region_code == code);
            all += 1;
            found += usize::from(code == subdivision.region_code);
            // A first-level subdivision goes before one of the same name within it.
            let within = aliases::SECOND_LEVEL
                .iter()
                .any(|(own, types)| own == country && types.contains(&subdivision.subdivision_type));
            let same_name = namesake.is_none_or(|other| {
                alternatives(other.name).any(|own| alternatives(subdivision.name).any(|mine| fold(own) == fold(mine)))
            });
            assert!(
                within || same_name,
                "{country} {} gives {code}, not {}",
                subdivision.name,
                subdivision.region_code
            );
        }
    }
    assert!(found * 100 >= all * 93, "{found} of {all}");
}

#[test]
fn what_a_record_has_stays_and_what_it_lacks_is_filled_in() {
    let record = Place {
        country_code: "US".to_owned(),
        country_name: "The States".to_owned(),
        subdivision_code: "CA".to_owned(),
        ..Place::unknown()
    };
    let place = complete(record);
    assert_eq!(place.country_name, "The States");
    assert_eq!(place.subdivision_name, "California");
    assert_eq!(complete(Place::unknown()), Place::unknown());
}

/// Prints which share of a full database's networks gets a code, by country, and the commonest names that get none.
/// `PRESSLINE_TEST_MMDB=a.mmdb,b.mmdb cargo test --release --lib share_of_codes -- --ignored --nocapture`
#[test]
#[ignore = "needs full databases"]
fn share_of_codes() {
    let files: Vec<PathBuf> = std::env::var("PRESSLINE_TEST_MMDB").unwrap().split(',').map(PathBuf::from).collect();
    let started = std::time::Instant::now();
    let places = Places::open(&files).unwrap();
    println!("opened in {:?}: {:#?}", started.elapsed(), places.databases());
    let started = std::time::Instant::now();
    let mut records: HashMap<_, u64> = HashMap::new();
    for network in places.networks() {
        *records.entry(network.key).or_default() += 1;
    }
    println!("walked in {:?}", started.elapsed());
    let started = std::time::Instant::now();
    let mut found = 0u32;
    for step in 0..10_000_000u32 {
        let ip = std::net::Ipv4Addr::from(step.wrapping_mul(0x9e37_79b9));
        found += u32::from(matches!(places.lookup_addr(ip.into()), super::super::Lookup::Found(_)));
    }
    println!("10,000,000 lookups of IPv4 in {:?}, {found} found", started.elapsed());
    let started = std::time::Instant::now();
    let mut names: HashMap<(String, String), (u64, bool)> = HashMap::new();
    for (key, networks) in &records {
        let place = places.place(*key).unwrap();
        if place.subdivision_name.is_empty() {
            continue;
        }
        let country = place.country_code.clone();
        let entry = names.entry((country.clone(), place.subdivision_name.clone())).or_default();
        if entry.0 == 0 && !place.subdivision_code.is_empty() {
            println!(
                "FOUND\t{country}\t{}\t{}\t{}",
                place.subdivision_name,
                place.subdivision_code,
                subdivision_name(&country, &place.subdivision_code)
            );
        }
        *entry = (entry.0 + networks, !place.subdivision_code.is_empty());
    }
    println!("decoded {} records in {:?}", records.len(), started.elapsed());
    let mut countries: HashMap<&str, (u64, u64)> = HashMap::new();
    for ((country, _), (networks, coded)) in &names {
        for key in [country.as_str(), "all"] {
            let sum = countries.entry(key).or_default();
            *sum = (sum.0 + networks, sum.1 + if *coded { *networks } else { 0 });
        }
    }
    let mut countries: Vec<_> = countries.into_iter().collect();
    countries.sort_by_key(|(_, (all, _))| std::cmp::Reverse(*all));
    for (country, (all, coded)) in countries.iter().take(60) {
        println!("{country} {all} {:.1} %", 100.0 * *coded as f64 / *all as f64);
    }
    let mut missing: Vec<_> = names.iter().filter(|(_, (_, coded))| !coded).collect();
    missing.sort_by_key(|(_, (networks, _))| std::cmp::Reverse(*networks));
    for ((country, name), (networks, _)) in missing.iter().take(700) {
        println!("MISSING\t{country}\t{name}\t{networks}");
    }
}
