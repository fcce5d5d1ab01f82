//! What a lookup gives: a place, the key of the record that it stands in, a network.

use std::net::IpAddr;

/// Where an address is. Cannot hold an IP.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// English short name of the country as people say it, "" unknown.
    pub country_name: String,
    /// ISO 3166-1 alpha-2 code in capitals, "--" unknown.
    pub country_code: String,
    /// First-level subdivision (state, region, province) as the database calls it, "" unknown.
    pub subdivision_name: String,
    /// Its ISO 3166-2 code without the country prefix ("CA", "IDF", "18"), "" unknown or not determined by the name.
    pub subdivision_code: String,
    /// City as the database calls it, "" unknown.
    pub city_name: String,
    /// Degrees north, -90 to 90.
    pub latitude: Option<f64>,
    /// Degrees east, -180 to 180.
    pub longitude: Option<f64>,
    /// Radius in kilometres within which the address probably is; only MaxMind's files have it.
    pub accuracy_km: Option<i32>,
    /// IANA time zone ("Europe/Paris"), where the record has one.
    pub time_zone: Option<String>,
}

impl Place {
    /// The place of an address nothing is known about: country code "--", all else empty.
    pub fn unknown() -> Place {
        Place {
            country_name: String::new(),
            country_code: "--".to_owned(),
            subdivision_name: String::new(),
            subdivision_code: String::new(),
            city_name: String::new(),
            latitude: None,
            longitude: None,
            accuracy_km: None,
            time_zone: None,
        }
    }
}

impl Default for Place {
    fn default() -> Self {
        Place::unknown()
    }
}

/// Names a record of a loaded database: generation of the snapshot (24 bits), index of the file (8), offset of the record in
/// its data section (32). Never derived from an address; two addresses in the same record give the same key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PlaceKey(u64);

impl PlaceKey {
    pub(super) fn new(generation: u32, file: u8, offset: u32) -> PlaceKey {
        PlaceKey(u64::from(generation & GENERATION_MASK) << 40 | u64::from(file) << 32 | u64::from(offset))
    }

    pub(super) fn generation(self) -> u32 {
        (self.0 >> 40) as u32
    }

    pub(super) fn file(self) -> usize {
        usize::from((self.0 >> 32) as u8)
    }

    pub(super) fn offset(self) -> usize {
        self.0 as u32 as usize
    }
}

/// What a lookup found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// A record; its country may still be unknown.
    Found(PlaceKey),
    /// No file has a record for the address.
    Unknown,
    /// Loopback, private, link-local, documentation, multicast, reserved: such an address has no public place and is not
    /// looked up.
    Private,
}

/// A network of a database and the record it has, for drawing addresses that have a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// First address.
    pub addr: IpAddr,
    /// Length of the prefix in bits: 0 to 32 for IPv4, 0 to 128 for IPv6.
    pub prefix_len: u8,
    /// The record.
    pub key: PlaceKey,
}

pub(super) const GENERATION_MASK: u32 = 0x00ff_ffff;
