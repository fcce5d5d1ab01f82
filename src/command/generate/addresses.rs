//! Where the addresses of fake visitors come from: networks of a GeoIP database, so that places exist for them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use maxminddb::{Reader, WithinOptions};
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;

use super::GenerateError;
use crate::place::BUNDLED;

/// Files with fewer nodes than this are listed whole; larger ones (a full DB-IP file has millions of networks) are
/// sampled, so that the start stays under two seconds.
const LISTED_WHOLE_NODES: usize = 400_000;
/// Networks drawn from a file that is sampled, for each IP version.
const SAMPLES: usize = 4_096;
/// Random starts for each of them.
const TRIES: usize = 8;
/// No registry gave out more to one network; a wider one is a database's filler.
const WIDEST_V6: u8 = 16;
/// Addresses kept that no file knows.
const UNKNOWN_ADDRESSES: usize = 256;
/// Empty stretches of the tree to step over from a random address to the next network with a record. Between two
/// neighbours lie at most two per bit of an address, so this crosses the largest gaps.
const MAX_STEPS: usize = 512;

/// Networks to draw addresses from. The same files and seed give the same addresses.
#[derive(Clone, Debug)]
pub struct Addresses {
    v4: Vec<(u32, u8)>,
    v6: Vec<(u128, u8)>,
    unknown: Vec<IpAddr>,
}

impl Addresses {
    /// From GeoIP databases (MaxMind DB files, any layout). Errors: a file that cannot be read, is no such database, or
    /// knows no public network.
    pub fn from_files(files: &[PathBuf], seed: u64) -> Result<Self, GenerateError> {
        let mut readers = Vec::new();
        for file in files {
            let bytes =
                std::fs::read(file).map_err(|source| GenerateError::Unreadable { file: file.clone(), source })?;
            readers.push(reader(file, bytes)?);
        }
        Self::from_readers(&readers, seed).ok_or_else(|| no_networks(files))
    }

    /// From one database in memory, such as the bundled one. `name` stands in errors.
    pub fn from_bytes(name: &str, bytes: &[u8], seed: u64) -> Result<Self, GenerateError> {
        let name = PathBuf::from(name);
        let readers = [reader(&name, bytes.to_vec())?];
        Self::from_readers(&readers, seed).ok_or_else(|| no_networks(&[name]))
    }

    /// From the bundled database of some thousand real cities. Errors: none, unless the program was built from a damaged
    /// file.
    pub fn bundled(seed: u64) -> Result<Self, GenerateError> {
        Self::from_bytes("bundled demo.mmdb", BUNDLED, seed)
    }

    fn from_readers(readers: &[Reader<Vec<u8>>], seed: u64) -> Option<Self> {
        let mut rng = Pcg64::seed_from_u64(seed ^ 0x5eed_add2);
        let mut this = Self { v4: Vec::new(), v6: Vec::new(), unknown: Vec::new() };
        for reader in readers {
            if (reader.metadata().node_count as usize) < LISTED_WHOLE_NODES {
                this.list(reader);
            } else {
                this.sample(reader, &mut rng);
            }
        }
        this.find_unknown(readers, &mut rng);
        (!this.v4.is_empty() || !this.v6.is_empty()).then_some(this)
    }

    fn list(&mut self, reader: &Reader<Vec<u8>>) {
        let Ok(networks) = reader.networks(WithinOptions::default()) else { return };
        for network in networks.flatten().filter_map(|found| found.network().ok()) {
            self.add(network.network(), network.prefix());
        }
    }

    fn sample(&mut self, reader: &Reader<Vec<u8>>, rng: &mut Pcg64) {
        for _ in 0..SAMPLES {
            self.sample_one(reader, || IpAddr::V4(Ipv4Addr::from_bits(rng.random())));
            if reader.metadata().ip_version == 6 {
                self.sample_one(reader, || IpAddr::V6(random_global(rng)));
            }
        }
    }

    /// Behind the last network there is nothing; then another start is tried.
    fn sample_one(&mut self, reader: &Reader<Vec<u8>>, mut start: impl FnMut() -> IpAddr) {
        let found = (0..TRIES).find_map(|_| next_network(reader, start()));
        if let Some((network, prefix)) = found {
            self.add(network, prefix);
        }
    }

    /// Takes a network whose addresses are all public.
    fn add(&mut self, network: IpAddr, prefix: u8) {
        match network {
            IpAddr::V4(base) if prefix <= 32 => {
                let size = host_bits(32 - u32::from(prefix)) as u32;
                if public(network) && public(IpAddr::V4(Ipv4Addr::from_bits(base.to_bits() | size))) {
                    self.v4.push((base.to_bits(), prefix));
                }
            }
            IpAddr::V6(base) if (WIDEST_V6..=128).contains(&prefix) => {
                let size = host_bits(128 - u32::from(prefix));
                if public(network) && public(IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() | size))) {
                    self.v6.push((base.to_bits(), prefix));
                }
            }
            _ => {}
        }
    }

    fn find_unknown(&mut self, readers: &[Reader<Vec<u8>>], rng: &mut Pcg64) {
        let known = |ip| readers.iter().any(|r| r.lookup(ip).is_ok_and(|found| found.has_data()));
        for round in 0..UNKNOWN_ADDRESSES * 64 {
            let ip = match round % 2 {
                0 => IpAddr::V4(Ipv4Addr::from_bits(rng.random())),
                _ => IpAddr::V6(random_global(rng)),
            };
            if public(ip) && !known(ip) {
                self.unknown.push(ip);
            }
            if self.unknown.len() == UNKNOWN_ADDRESSES {
                return;
            }
        }
        if self.unknown.is_empty() {
            // TEST-NET-3 (RFC 5737): nobody's place.
            self.unknown.push(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 7)));
        }
    }

    /// An address that a database has a record for; IPv6 with the probability `v6_share` where there are both kinds.
    pub fn draw_public(&self, rng: &mut Pcg64, v6_share: f64) -> IpAddr {
        let v6 = !self.v6.is_empty() && (self.v4.is_empty() || rng.random_bool(v6_share));
        if v6 {
            let (base, prefix) = self.v6[rng.random_range(0..self.v6.len())];
            return draw_within(IpAddr::V6(Ipv6Addr::from_bits(base)), prefix, rng);
        }
        let (base, prefix) = self.v4[rng.random_range(0..self.v4.len())];
        draw_within(IpAddr::V4(Ipv4Addr::from_bits(base)), prefix, rng)
    }

    /// Every network, IPv4 first.
    pub fn all(&self) -> impl Iterator<Item = (IpAddr, u8)> + '_ {
        let v4 = self.v4.iter().map(|(base, prefix)| (IpAddr::V4(Ipv4Addr::from_bits(*base)), *prefix));
        v4.chain(self.v6.iter().map(|(base, prefix)| (IpAddr::V6(Ipv6Addr::from_bits(*base)), *prefix)))
    }

    /// A public address that no database has a record for.
    pub fn draw_unknown(&self, rng: &mut Pcg64) -> IpAddr {
        self.unknown[rng.random_range(0..self.unknown.len())]
    }

    /// How many networks of IPv4 and of IPv6 there are to draw from.
    pub fn networks(&self) -> (usize, usize) {
        (self.v4.len(), self.v6.len())
    }
}

/// An address of a network.
pub fn draw_within(network: IpAddr, prefix: u8, rng: &mut Pcg64) -> IpAddr {
    match network {
        IpAddr::V6(base) => {
            let host = rng.random::<u128>() & host_bits(128 - u32::from(prefix));
            IpAddr::V6(Ipv6Addr::from_bits(base.to_bits() | host))
        }
        IpAddr::V4(base) => {
            let host = rng.random::<u32>() & host_bits(32 - u32::from(prefix)) as u32;
            IpAddr::V4(Ipv4Addr::from_bits(base.to_bits() | host))
        }
    }
}

/// A private, loopback, link-local or shared address, IPv4 or IPv6.
pub fn draw_private(rng: &mut Pcg64) -> IpAddr {
    let bits: u32 = rng.random();
    let v4 = |base: u32, prefix: u32| IpAddr::V4(Ipv4Addr::from_bits(base | (bits & host_bits(32 - prefix) as u32)));
    let v6 = |base: u128| IpAddr::V6(Ipv6Addr::from_bits(base | u128::from(bits)));
    match rng.random_range(0..8) {
        0 | 1 => v4(0x0a00_0000, 8),
        2 => v4(0xac10_0000, 12),
        3 => v4(0xc0a8_0000, 16),
        4 => v4(0x7f00_0000, 8),
        5 => v4(0x6440_0000, 10),
        6 => v6(0xfd12_3456_789a << 80),
        _ => v6(0xfe80 << 112),
    }
}

fn reader(name: &Path, bytes: Vec<u8>) -> Result<Reader<Vec<u8>>, GenerateError> {
    Reader::from_source(bytes)
        .map_err(|error| GenerateError::NoDatabase { file: name.to_path_buf(), reason: error.to_string() })
}

fn no_networks(files: &[PathBuf]) -> GenerateError {
    let file = files.first().cloned().unwrap_or_default();
    GenerateError::NoDatabase { file, reason: "no public network in it".into() }
}

/// The network at or after an address that has a record.
fn next_network(reader: &Reader<Vec<u8>>, start: IpAddr) -> Option<(IpAddr, u8)> {
    let mut at = start;
    for _ in 0..MAX_STEPS {
        let found = reader.lookup(at).ok()?;
        let network = found.network().ok()?;
        if found.has_data() {
            return Some((network.network(), network.prefix()));
        }
        at = match (at, network.network()) {
            (IpAddr::V4(_), IpAddr::V4(base)) => {
                let last = base.to_bits() | host_bits(32 - u32::from(network.prefix())) as u32;
                IpAddr::V4(Ipv4Addr::from_bits(last.checked_add(1)?))
            }
            (IpAddr::V6(_), IpAddr::V6(base)) => {
                let last = base.to_bits() | host_bits(128 - u32::from(network.prefix()));
                IpAddr::V6(Ipv6Addr::from_bits(last.checked_add(1)?))
            }
            _ => return None,
        };
    }
    None
}

/// A mask of the lowest `bits` bits.
fn host_bits(bits: u32) -> u128 {
    1u128.checked_shl(bits).map_or(u128::MAX, |one| one - 1)
}

/// An address of the /12 blocks that the regional registries give out from. Elsewhere in 2000::/3 a database has at most
/// filler: one record for a whole /7, which would otherwise be drawn for most addresses.
fn random_global(rng: &mut Pcg64) -> Ipv6Addr {
    const BLOCKS: [u128; 5] = [0x240, 0x260, 0x280, 0x2a0, 0x2c0];
    let block = BLOCKS[rng.random_range(0..BLOCKS.len())];
    Ipv6Addr::from_bits(block << 116 | rng.random::<u128>() >> 12)
}

/// Whether an address may be a visitor's on the internet.
fn public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let special = ip.is_private() || ip.is_loopback() || ip.is_link_local() || ip.is_documentation();
            let shared = a == 100 && (64..128).contains(&b);
            let protocol = a == 192 && b == 0 && c == 0 || a == 192 && b == 88 && c == 99;
            let benchmark = a == 198 && (b == 18 || b == 19);
            !(special || shared || protocol || benchmark || a == 0 || a >= 224)
        }
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            // 2001::/23 protocols (Teredo), 2001:db8::/32 and 3fff::/20 documentation, 2002::/16 6to4.
            let protocol = a == 0x2001 && b < 0x200;
            let documentation = a == 0x2001 && b == 0xdb8 || a == 0x3fff && b < 0x1000;
            (0x2000..0x4000).contains(&a) && !(protocol || documentation || a == 0x2002)
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn private_addresses_are_never_public() {
        let mut rng = Pcg64::seed_from_u64(1);
        for _ in 0..1_000 {
            let ip = draw_private(&mut rng);
            assert!(!public(ip), "{ip}");
        }
    }

    #[test]
    fn masks_reach_from_none_to_all_bits() {
        assert_eq!(host_bits(0), 0);
        assert_eq!(host_bits(8), 255);
        assert_eq!(host_bits(32) as u32, u32::MAX);
        assert_eq!(host_bits(128), u128::MAX);
    }

    #[test]
    fn drawn_addresses_have_a_record_and_unknown_ones_have_none() {
        let reader = Reader::from_source(BUNDLED).unwrap();
        let addresses = Addresses::bundled(1).unwrap();
        let (v4, v6) = addresses.networks();
        assert!(v4 > 1_000 && v6 > 1_000, "{v4} and {v6} networks");
        let mut rng = Pcg64::seed_from_u64(1);
        for _ in 0..5_000 {
            let (known, unknown) = (addresses.draw_public(&mut rng, 0.5), addresses.draw_unknown(&mut rng));
            assert!(public(known) && reader.lookup(known).unwrap().has_data(), "{known}");
            assert!(public(unknown) && !reader.lookup(unknown).unwrap().has_data(), "{unknown}");
        }
    }

    #[test]
    fn sampling_finds_networks_in_a_sparse_tree() {
        let reader = Reader::from_source(BUNDLED.to_vec()).unwrap();
        let mut addresses = Addresses { v4: Vec::new(), v6: Vec::new(), unknown: Vec::new() };
        addresses.sample(&reader, &mut Pcg64::seed_from_u64(1));
        let (v4, v6) = addresses.networks();
        assert!(v4 > SAMPLES * 9 / 10 && v6 > SAMPLES * 8 / 10, "{v4} and {v6} of {SAMPLES}");
    }

    #[test]
    fn a_file_that_is_no_database_is_named() {
        let error = Addresses::from_bytes("places.mmdb", b"not a database", 1).unwrap_err().to_string();
        assert!(error.starts_with("places.mmdb: not a usable GeoIP database"), "{error}");
    }
}
