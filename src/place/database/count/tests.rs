#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use maxminddb_writer::metadata::IpVersion;
use serde_json::{Value, json};

use crate::place::tests::mmdb;
use crate::place::{Coarsening, Lookup, Place, PlaceKey, Places};

fn record(state: &str, city: &str) -> Value {
    json!({"country_code": "FI", "state1": state, "city": city, "latitude": 60.1699, "longitude": 24.9384,
           "timezone": "Europe/Helsinki"})
}

/// Uusimaa holds 65,536 + 256 IPv4 addresses, Lappi 16 and 2 networks of /56 and one of /64, Kainuu 4,096 of /64.
fn database() -> Vec<u8> {
    mmdb(
        IpVersion::V6,
        &[
            ("81.1.0.0/16", record("Uusimaa", "Helsinki")),
            ("81.2.3.0/24", record("Uusimaa", "Hanko")),
            ("81.3.0.0/29", record("Lappi", "Utsjoki")),
            ("81.3.1.0/29", record("Lappi", "Utsjoki")),
            ("2a01::/55", record("Lappi", "Utsjoki")),
            ("2a01:0:0:1000::/65", record("Lappi", "Utsjoki")),
            ("2a01:0:0:1000:8000::/65", record("Lappi", "Utsjoki")),
            ("2a02::/52", record("Kainuu", "Kajaani")),
            ("10.0.0.0/8", record("Uusimaa", "Hanko")),
        ],
    )
}

fn key(places: &Places, ip: &str) -> PlaceKey {
    let Lookup::Found(key) = places.lookup_addr(ip.parse().unwrap()) else { panic!("{ip} is not found") };
    key
}

fn held(places: &Places, ip: &str) -> [(u64, u64); 2] {
    let (city, subdivision) = places.held(key(places, ip)).unwrap();
    [(city.v4, city.v6), (subdivision.v4, subdivision.v6)]
}

fn told(places: &Places, ip: &str, min_addresses: u64) -> Place {
    let key = key(places, ip);
    let mut place = places.place(key).unwrap();
    Coarsening { min_addresses, round_coordinates: None }.reduce(places, key, &mut place).unwrap();
    place
}

#[test]
fn addresses_are_counted_by_city_and_by_subdivision() {
    let places = Places::from_bytes_counted("counted.mmdb", database()).unwrap();
    assert_eq!(held(&places, "81.1.0.1"), [(65_536, 0), (65_792, 0)]);
    assert_eq!(held(&places, "81.2.3.1"), [(256, 0), (65_792, 0)], "private networks do not count");
    assert_eq!(held(&places, "81.3.0.1"), [(16, 513), (16, 513)], "two halves of a /64 are one");
    assert_eq!(held(&places, "2a02::1"), [(0, 4096), (0, 4096)]);
    let uncounted = Places::from_bytes("uncounted.mmdb", database()).unwrap();
    assert!(uncounted.held(key(&uncounted, "81.1.0.1")).is_err());
}

#[test]
fn a_city_is_told_from_its_number_of_addresses_on() {
    let places = Places::from_bytes_counted("counted.mmdb", database()).unwrap();
    for (least, city, subdivision) in [(0, true, true), (256, true, true), (257, false, true), (65_793, false, false)] {
        let place = told(&places, "81.2.3.1", least);
        assert_eq!(place.city_name.as_str(), if city { "Hanko" } else { "" }, "{least}");
        assert_eq!(place.latitude.is_some() && place.longitude.is_some(), city, "{least}");
        assert_eq!(place.time_zone.is_some(), city, "{least}");
        let wanted = if subdivision { ("Uusimaa", "18") } else { ("", "") };
        assert_eq!((place.subdivision_name.as_str(), place.subdivision_code.as_str()), wanted, "{least}");
        assert_eq!((place.country_code.as_str(), place.country_name.as_str()), ("FI", "Finland"), "{least}");
    }
    assert_eq!(told(&places, "81.3.0.1", 18).city_name, "Utsjoki", "IPv4 addresses and networks of /56 are added");
    assert_eq!(told(&places, "81.3.0.1", 19).city_name, "");
    assert_eq!(told(&places, "2a02::1", 16).city_name, "Kajaani");
    assert_eq!(told(&places, "2a02::1", 17).city_name, "");
}

#[test]
fn files_that_know_the_same_city_do_not_make_it_larger() {
    let folder = tempfile::tempdir().unwrap();
    let files: Vec<_> = ["one.mmdb", "two.mmdb"].map(|name| folder.path().join(name)).into();
    for file in &files {
        std::fs::write(file, database()).unwrap();
    }
    let places = Places::open_counted(&files).unwrap();
    assert_eq!(held(&places, "81.2.3.1"), [(256, 0), (65_792, 0)]);
}

#[test]
fn a_tree_whose_ways_meet_again_is_left_before_it_takes_long() {
    // The nodes of IPv4 lead to the next one by both sides, 2^31 ways; behind the last is a record or, of a file of both
    // versions, nothing.
    for (version, first) in [(IpVersion::V4, 0), (IpVersion::V6, 96)] {
        let mut bytes = mmdb(version, &[("81.2.3.4/32", record("Uusimaa", "Hanko"))]);
        for node in first..first + 31usize {
            let next = (node as u32 + 1).to_be_bytes();
            bytes[node * 6..node * 6 + 3].copy_from_slice(&next[1..]);
            bytes[node * 6 + 3..node * 6 + 6].copy_from_slice(&next[1..]);
        }
        if matches!(version, IpVersion::V6) {
            bytes[127 * 6..128 * 6].copy_from_slice(&[0, 0, 128, 0, 0, 128]);
        }
        let begun = std::time::Instant::now();
        let error = Places::from_bytes_counted("meeting.mmdb", bytes).err().expect("refused").to_string();
        assert!(error.contains("damaged MaxMind DB file: a search tree"), "{error}");
        assert!(begun.elapsed().as_secs() < 5);
    }
}

#[test]
fn coordinates_are_rounded_to_the_nearest_step() {
    let rounded = |degrees: f64, latitude: f64, longitude: f64| {
        let mut place = Place { latitude: Some(latitude), longitude: Some(longitude), ..Place::unknown() };
        Coarsening { min_addresses: 0, round_coordinates: Some(degrees) }.round(&mut place);
        (place.latitude.unwrap(), place.longitude.unwrap())
    };
    assert_eq!(rounded(0.1, 60.1699, 24.9384), (60.2, 24.9));
    assert_eq!(rounded(0.1, -0.04, 179.96), (0.0, 180.0));
    assert_eq!(rounded(0.25, 60.1699, -24.9384), (60.25, -25.0));
    assert_eq!(rounded(1.5, 89.9, -179.9), (90.0, -180.0));
    assert!(rounded(0.1, -0.04, 0.0).0.is_sign_positive());
    let mut none = Place::unknown();
    Coarsening { min_addresses: 0, round_coordinates: Some(0.1) }.round(&mut none);
    assert_eq!(none, Place::unknown());
}
