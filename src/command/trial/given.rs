//! Answers about addresses that a fixture gives: a GeoIP database in memory, so that the lookup is the relay's own.
//!
//! The file format is MaxMind DB 2.0 (<https://maxmind.github.io/MaxMind-DB/>), the records have MaxMind's nested layout.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The place of an address, as a GeoIP database would have it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PlaceAnswer {
    /// Two letters (ISO 3166-1).
    pub country_code: String,
    /// Unless set, the one that ISO 3166-1 has.
    pub country_name: String,
    /// Code of the subdivision without the country (ISO 3166-2).
    pub subdivision_code: String,
    /// Name of the subdivision.
    pub subdivision_name: String,
    /// Name of the city.
    pub city_name: String,
    /// Degrees north.
    pub latitude: Option<f64>,
    /// Degrees east.
    pub longitude: Option<f64>,
    /// Radius in kilometres within which the address probably is.
    pub accuracy_km: Option<u16>,
    /// IANA time zone, such as `Europe/Helsinki`.
    pub time_zone: Option<String>,
}

/// An answer, and the address that it is about.
#[derive(Clone, Debug, PartialEq)]
pub struct GivenPlace {
    /// The address.
    pub address: IpAddr,
    /// Its place.
    pub answer: PlaceAnswer,
}

/// A branch of the search tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Branch {
    Nothing,
    Node(u32),
    /// Offset of the record in the data section.
    Data(u32),
}

/// The bytes of a database that knows these places and no others.
pub fn database(given: &[GivenPlace]) -> Vec<u8> {
    let (mut nodes, mut data) = (vec![[Branch::Nothing; 2]], Vec::new());
    for GivenPlace { address, answer } in given {
        let at = Branch::Data(data.len() as u32);
        record(answer, &mut data);
        insert(&mut nodes, bits(*address), at);
    }
    let count = nodes.len() as u32;
    let mut file = Vec::with_capacity(nodes.len() * 8 + data.len() + 256);
    for branch in nodes.into_iter().flatten() {
        let value = match branch {
            Branch::Nothing => count,
            Branch::Node(node) => node,
            Branch::Data(offset) => count + SEPARATOR.len() as u32 + offset,
        };
        file.extend_from_slice(&value.to_be_bytes());
    }
    file.extend_from_slice(&SEPARATOR);
    file.append(&mut data);
    file.extend_from_slice(b"\xab\xcd\xefMaxMind.com");
    metadata(count, &mut file);
    file
}

const SEPARATOR: [u8; 16] = [0; 16];

/// IPv4 addresses are the first of the space of IPv6.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn insert(nodes: &mut Vec<[Branch; 2]>, address: u128, leaf: Branch) {
    let mut node = 0;
    for depth in (0..128).rev() {
        let side = usize::from(address >> depth & 1 == 1);
        let next = nodes.len() as u32;
        let Some(branch) = nodes.get_mut(node).and_then(|node| node.get_mut(side)) else { return };
        match *branch {
            _ if depth == 0 => *branch = leaf,
            Branch::Node(there) => node = there as usize,
            _ => {
                *branch = Branch::Node(next);
                nodes.push([Branch::Nothing; 2]);
                node = next as usize;
            }
        }
    }
}

fn record(answer: &PlaceAnswer, out: &mut Vec<u8>) {
    map(4, out);
    text("country", out);
    part(&answer.country_code, &answer.country_name, out);
    text("subdivisions", out);
    // An array of one.
    out.extend_from_slice(&[1, ARRAY - 7]);
    part(&answer.subdivision_code, &answer.subdivision_name, out);
    text("city", out);
    part("", &answer.city_name, out);
    text("location", out);
    location(answer, out);
}

/// A country, subdivision or city.
fn part(code: &str, name: &str, out: &mut Vec<u8>) {
    map(2, out);
    text("iso_code", out);
    text(code, out);
    text("names", out);
    map(1, out);
    text("en", out);
    text(name, out);
}

fn location(answer: &PlaceAnswer, out: &mut Vec<u8>) {
    let degrees = [("latitude", answer.latitude), ("longitude", answer.longitude)];
    let degrees = degrees.into_iter().filter_map(|(name, value)| Some((name, value?)));
    let entries =
        degrees.clone().count() + usize::from(answer.accuracy_km.is_some()) + usize::from(answer.time_zone.is_some());
    map(entries as u8, out);
    for (name, value) in degrees {
        text(name, out);
        out.push(DOUBLE << 5 | 8);
        out.extend_from_slice(&value.to_be_bytes());
    }
    if let Some(km) = answer.accuracy_km {
        text("accuracy_radius", out);
        number(UINT16, &km.to_be_bytes(), out);
    }
    if let Some(zone) = &answer.time_zone {
        text("time_zone", out);
        text(zone, out);
    }
}

fn metadata(nodes: u32, out: &mut Vec<u8>) {
    map(9, out);
    for (name, value) in [("binary_format_major_version", 2_u16), ("binary_format_minor_version", 0)] {
        text(name, out);
        number(UINT16, &value.to_be_bytes(), out);
    }
    for (name, value) in [("record_size", 32_u16), ("ip_version", 6)] {
        text(name, out);
        number(UINT16, &value.to_be_bytes(), out);
    }
    text("node_count", out);
    number(UINT32, &nodes.to_be_bytes(), out);
    text("database_type", out);
    text("pressline-fixtures", out);
    text("build_epoch", out);
    // Extended: the type less 7 stands in the second byte.
    out.extend_from_slice(&[8, UINT64 - 7]);
    out.extend_from_slice(&1_u64.to_be_bytes());
    text("languages", out);
    out.extend_from_slice(&[0, ARRAY - 7]);
    text("description", out);
    map(0, out);
}

const TEXT: u8 = 2;
const DOUBLE: u8 = 3;
const UINT16: u8 = 5;
const UINT32: u8 = 6;
const MAP: u8 = 7;
const UINT64: u8 = 9;
const ARRAY: u8 = 11;
/// Sizes from here on stand behind the control byte.
const LONG: usize = 29;

fn map(entries: u8, out: &mut Vec<u8>) {
    out.push(MAP << 5 | entries);
}

fn number(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(kind << 5 | bytes.len() as u8);
    out.extend_from_slice(bytes);
}

/// Nothing of text that is too long: no place has such a name.
fn text(text: &str, out: &mut Vec<u8>) {
    match text.len() {
        short if short < LONG => out.push(TEXT << 5 | short as u8),
        long if long < LONG + 256 => out.extend_from_slice(&[TEXT << 5 | LONG as u8, (long - LONG) as u8]),
        _ => return out.push(TEXT << 5),
    }
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::place::{ClientIp, Lookup, Places};

    #[test]
    fn the_relays_lookup_reads_what_is_given() {
        let full = PlaceAnswer {
            country_code: "FR".into(),
            subdivision_code: "ARA".into(),
            subdivision_name: "Auvergne-Rhône-Alpes, that some people call by its old and much longer names".into(),
            city_name: "Lyon".into(),
            latitude: Some(45.75),
            longitude: Some(4.85),
            accuracy_km: Some(20),
            time_zone: Some("Europe/Paris".into()),
            ..PlaceAnswer::default()
        };
        let bare = PlaceAnswer { country_code: "FI".into(), ..PlaceAnswer::default() };
        let given = [("81.2.69.142", &full), ("2a02:ec80::1", &bare)]
            .map(|(address, answer)| GivenPlace { address: address.parse().unwrap(), answer: answer.clone() });
        let places = Places::from_bytes("places", database(&given)).unwrap();
        let look_up = |address: &str| places.lookup(&ClientIp::parse(address).unwrap());
        let place = |address: &str| match look_up(address) {
            Lookup::Found(key) => places.place(key).unwrap(),
            other => panic!("{other:?}"),
        };
        let lyon = place("81.2.69.142");
        assert_eq!((lyon.country_name.as_str(), lyon.city_name.as_str()), ("France", "Lyon"));
        assert_eq!(lyon.subdivision_name, full.subdivision_name);
        assert_eq!((lyon.latitude, lyon.longitude, lyon.accuracy_km), (Some(45.75), Some(4.85), Some(20)));
        assert_eq!(lyon.time_zone.as_deref(), Some("Europe/Paris"));
        assert_eq!(place("2a02:ec80::1").country_name, "Finland");
        assert_eq!(look_up("81.2.69.143"), Lookup::Unknown);
        assert_eq!(look_up("10.0.0.1"), Lookup::Private);
    }
}
