//! Raw presses and a GeoIP database for tests and benchmarks: plain bytes, made up, always the same.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{IpAddr, Ipv6Addr};

use maxminddb_writer::{Database, metadata::IpVersion, paths::IpAddrWithMask};
use serde_json::json;

/// Cities in the database; each has one IPv4 network (/24) and one IPv6 network (/48).
pub const CITIES: u32 = 20_000;

/// Visitors whose presses come mixed.
pub const VISITORS: u32 = 25_000;

/// 2026-11-21T12:00:00Z, in microseconds.
pub const NOW_US: i64 = 1_795_262_400_000_000;

/// An mmdb file in MaxMind's nested layout.
pub fn database() -> Vec<u8> {
    let mut database = Database::default();
    database.metadata.ip_version = IpVersion::V6;
    database.metadata.binary_format_major_version = 2;
    database.metadata.database_type = "made-up-City".to_owned();
    for city in 0..CITIES {
        let degrees = f64::from(city % 17_000) / 100.0 - 85.0;
        let record = database.insert_value(json!({
            "country": {"iso_code": "FI", "names": {"en": "Finland"}},
            "subdivisions": [{"iso_code": "18", "names": {"en": "Uusimaa"}}],
            "city": {"names": {"en": format!("Kaupunki {city}")}},
            "location": {"latitude": degrees, "longitude": -degrees, "accuracy_radius": 20, "time_zone": "Europe/Helsinki"},
        }));
        let record = record.unwrap();
        let IpAddr::V4(v4) = address_v4(city, 0) else { panic!("IPv4") };
        let IpAddr::V6(v6) = address_v6(city, 0) else { panic!("IPv6") };
        // IPv4 has the first 96 bits zero.
        let v4 = Ipv6Addr::from(u128::from(v4.to_bits()));
        database.insert_node(bits(IpAddrWithMask::new(IpAddr::V6(v4), 120)), record);
        database.insert_node(bits(IpAddrWithMask::new(IpAddr::V6(v6), 48)), record);
    }
    database.write_to(Vec::new()).unwrap()
}

fn bits(network: IpAddrWithMask) -> impl Iterator<Item = bool> {
    let IpAddr::V6(address) = network.addr else { panic!("IPv6") };
    (0..u32::from(network.mask)).map(move |bit| address.to_bits() >> (127 - bit) & 1 == 1)
}

/// An IPv4 address of a city, from 20.0.0.0 upwards.
pub fn address_v4(city: u32, host: u8) -> IpAddr {
    IpAddr::V4((0x1400_0000 + city * 256 + u32::from(host)).into())
}

/// An IPv6 address of a city, within 2a00::/16.
pub fn address_v6(city: u32, host: u8) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from((0x2a00_u128 << 112) | u128::from(city) << 80 | u128::from(host)))
}

/// One record's address: of eight, five have IPv4, two IPv6, and one has none, a private or an unknown one.
pub fn address(n: u32) -> Option<IpAddr> {
    // The presses of many visitors come mixed; cities in no order.
    let visitor = n % VISITORS;
    let city = visitor.wrapping_mul(2_654_435_761) % CITIES;
    match visitor % 8 {
        0..5 => Some(address_v4(city, visitor as u8)),
        5 | 6 => Some(address_v6(city, visitor as u8)),
        _ => match visitor / 8 % 3 {
            0 => None,
            1 => Some(IpAddr::V4(0x0a00_0000_u32.into())),
            _ => Some(IpAddr::V4(0x0900_0000_u32.into())),
        },
    }
}

/// The n-th raw press, about 220 bytes of JSON with fields that pressline does not know, as senders write them.
pub fn record(n: u32) -> String {
    record_from(n, address(n))
}

/// As [`record`], from that address.
pub fn record_from(n: u32, ip: Option<IpAddr>) -> String {
    let ip = ip.map_or("null".to_owned(), |ip| format!("\"{ip}\""));
    let session = 0x5bd1_e995_u128 * 0x9e37_79b9_7f4a_7c15_u128 * u128::from(n % VISITORS + 1);
    let session = format!("{session:032x}");
    let session = [&session[..8], &session[8..12], &session[12..16], &session[16..20], &session[20..]].join("-");
    let action = if n < VISITORS { "EnterPage" } else { "PressButton" };
    let cohort = if n.is_multiple_of(3) { "null" } else { "2" };
    let timestamp = match n % 16 {
        15 => format!("\"2026-11-21T11:{:02}:{:02}.123456+00:00\"", n / 60 % 60, n % 60),
        _ => (NOW_US - i64::from(n)).to_string(),
    };
    format!(
        "{{\"session_id\": \"{session}\", \"timestamp\": {timestamp}, \"cohort\": {cohort}, \"action\": \"{action}\", \
         \"ip\": {ip}, \"page\": \"/products/42?from=newsletter-week-47\", \"sender\": \"web-4.17\"}}"
    )
}
