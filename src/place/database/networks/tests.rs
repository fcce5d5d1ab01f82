//! Lookups in the tables, beside those of the maxminddb crate in the tree they are made of.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;

use maxminddb::{Reader, WithinOptions};
use maxminddb_writer::metadata::IpVersion;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::place::tests::mmdb;

/// Length of a record in the data section of [`file`]: an integer.
const RECORD: usize = 2;

/// A file with a tree of these nodes (record size 32) and `records` records.
fn file(version: u8, nodes: &[[Child; 2]], records: usize) -> Vec<u8> {
    let count = nodes.len() as u32;
    let mut bytes = Vec::new();
    for child in nodes.iter().flatten() {
        let child = match *child {
            Child::Node(node) => node,
            Child::Nothing => count,
            Child::Record(record) => count + 16 + record * RECORD as u32,
        };
        bytes.extend(child.to_be_bytes());
    }
    bytes.extend([0; 16]);
    (0..records).for_each(|record| bytes.extend([0xa1, record as u8]));
    bytes.extend(b"\xab\xcd\xefMaxMind.com");
    let text = |bytes: &mut Vec<u8>, text: &str| {
        bytes.push(2 << 5 | text.len() as u8);
        bytes.extend(text.bytes());
    };
    let numbers = [
        ("binary_format_major_version", vec![0xa1, 2]),
        ("binary_format_minor_version", vec![0xa0]),
        ("ip_version", vec![0xa1, version]),
        ("record_size", vec![0xa1, 32]),
        ("node_count", [vec![0xc4], count.to_be_bytes().to_vec()].concat()),
        ("build_epoch", vec![0x01, 2, 1]),
    ];
    bytes.push(0xe0 | (numbers.len() + 3) as u8);
    for (name, number) in numbers {
        text(&mut bytes, name);
        bytes.extend(number);
    }
    text(&mut bytes, "database_type");
    text(&mut bytes, "Test");
    text(&mut bytes, "description");
    bytes.push(0xe0);
    text(&mut bytes, "languages");
    bytes.extend([0x00, 4]);
    bytes
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Child {
    Node(u32),
    Nothing,
    Record(u32),
}

/// Nodes of a tree that networks are put into, of IPv4 ones below ::/96 where it is of version 6.
struct Nodes(Vec<[Child; 2]>);

impl Nodes {
    fn new() -> Nodes {
        Nodes(vec![[Child::Nothing; 2]])
    }

    /// What is at the end of the first `len` of these bits becomes `child`, if no network is on the way; what was behind
    /// it is lost.
    fn put(&mut self, bits: u128, len: u8, child: Child) {
        let mut node = 0usize;
        for depth in 0..len {
            let side = (bits >> (127 - depth) & 1) as usize;
            if depth + 1 == len {
                self.0[node][side] = child;
                return;
            }
            node = match self.0[node][side] {
                Child::Node(next) => next as usize,
                Child::Record(_) => return,
                Child::Nothing => {
                    self.0.push([Child::Nothing; 2]);
                    self.0[node][side] = Child::Node(self.0.len() as u32 - 1);
                    self.0.len() - 1
                }
            };
        }
    }

    /// The node behind these bits, if there is one.
    fn node(&self, bits: u128, len: u8) -> Option<u32> {
        (0..len).try_fold(0, |node, depth| match self.0[node as usize][(bits >> (127 - depth) & 1) as usize] {
            Child::Node(next) => Some(next),
            _ => None,
        })
    }

    /// Ways to the IPv4 addresses that begin with these bits, where there are any.
    fn alias(&mut self, aliases: &[(u128, u8)]) {
        let Some(start) = self.node(0, 96) else { return };
        for (bits, len) in aliases {
            // Not on the way to the IPv4 addresses themselves, nor within them, which would be a cycle.
            let is_within = (1..*len).any(|len| self.node(*bits, len) == Some(start));
            if bits >> (128 - len) != 0 && !is_within {
                self.put(*bits, *len, Child::Node(start));
            }
        }
    }
}

fn networks(bytes: &[u8]) -> Result<Networks, &'static str> {
    let metadata = Reader::from_source(bytes).unwrap().metadata().clone();
    Networks::of(&Tree::new(bytes, &metadata)).map_err(|damage| damage.what)
}

/// Asks both for an address.
fn compare(ours: &Networks, theirs: &Reader<&[u8]>, ip: IpAddr) {
    // A file is not asked for a version it has no networks of.
    let is_asked = if ip.is_ipv4() { ours.count_v4() > 0 } else { ours.count_v6() > 0 };
    let expected = if is_asked { theirs.lookup(ip).unwrap().offset() } else { None };
    assert_eq!(ours.find(ip).map(|offset| offset as usize), expected, "{ip}");
}

/// Asks both for the first, the last and some addresses between and beside of every network, and lists all networks.
fn compare_all(bytes: &[u8]) -> Networks {
    let ours = networks(bytes).unwrap();
    let theirs = Reader::from_source(bytes).unwrap();
    let is_v4_file = theirs.metadata().ip_version == 4;
    let mut expected = Vec::new();
    let every = WithinOptions::default().include_aliased_networks().include_networks_without_data();
    // Where a record is in the place of the IPv4 addresses, the crate takes others with the same one for ways to it.
    let has_v4 = Tree::new(bytes, theirs.metadata()).part_v4().is_some();
    let once = WithinOptions::default();
    let once = if has_v4 { once } else { once.include_aliased_networks() };
    for (found, is_alias) in theirs
        .networks(once)
        .unwrap()
        .map(|found| (found, false))
        .chain(theirs.networks(every).unwrap().map(|found| (found, true)))
    {
        let found = found.unwrap();
        let network = found.network().unwrap();
        if !is_alias {
            expected.push((network.ip(), network.prefix(), found.offset().unwrap() as u32));
        }
        let len = u32::from(network.prefix());
        match network.ip() {
            IpAddr::V4(ip) => {
                let size = 1u64 << (32 - len);
                for bits in [0, size / 2, size - 1].map(|within| ip.to_bits() + within as u32) {
                    for bits in [bits, bits.wrapping_sub(1), bits.wrapping_add(1)] {
                        compare(&ours, &theirs, IpAddr::V4(bits.into()));
                        if !is_v4_file {
                            compare(&ours, &theirs, IpAddr::V6(u128::from(bits).into()));
                        }
                    }
                }
            }
            IpAddr::V6(ip) => {
                let last = u128::MAX.checked_shr(len).unwrap_or(0);
                for bits in [0, last / 2 + 1, last].map(|within| ip.to_bits() | within & last) {
                    for bits in [bits, bits.wrapping_sub(1), bits.wrapping_add(1)] {
                        compare(&ours, &theirs, IpAddr::V6(bits.into()));
                    }
                }
            }
        }
    }
    for ip in ["0.0.0.0", "255.255.255.255", "::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"] {
        let ip: IpAddr = ip.parse().unwrap();
        if ip.is_ipv4() || !is_v4_file {
            compare(&ours, &theirs, ip);
        }
    }
    let mut counts = [0, 0];
    expected.iter().for_each(|(ip, _, _)| counts[usize::from(ip.is_ipv6())] += 1);
    assert_eq!([ours.count_v4(), ours.count_v6()], counts);
    assert_eq!(ours.leaves().map(|leaf| (leaf.addr(), leaf.prefix_len, leaf.offset)).collect::<Vec<_>>(), expected);
    ours
}

fn bits(ip: &str) -> u128 {
    match ip.parse().unwrap() {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// The ways to IPv4 in MaxMind's files.
const ALIASES: [(u128, u8); 4] = [(0x2002 << 112, 16), (0xffff << 32, 96), (0x2001 << 112, 32), (0x64_ff9b << 96, 96)];

fn maxmind_like() -> Nodes {
    let mut nodes = Nodes::new();
    for (record, (ip, len)) in (0..).zip([("1.0.0.0", 8), ("8.8.8.0", 24), ("8.8.9.1", 32), ("255.255.255.255", 32)]) {
        nodes.put(bits(ip) >> 96, 96 + len, Child::Record(record));
    }
    nodes.put(bits("2a00::"), 32, Child::Record(4));
    nodes.put(bits("2a01::1"), 128, Child::Record(5));
    nodes.put(bits("2a01:0:0:1:8000::"), 65, Child::Record(6));
    nodes.alias(&ALIASES);
    nodes
}

#[test]
fn the_demo_file_answers_as_its_tree_does() {
    let ours = compare_all(crate::place::BUNDLED);
    assert!(ours.count_v4() > 5_000 && ours.count_v6() > 2_000);
}

#[test]
fn ways_that_lead_to_ipv4_again_are_followed() {
    let ours = compare_all(&file(6, &maxmind_like().0, 7));
    let found = |ip: &str| ours.find(ip.parse().unwrap()).map(|offset| offset as usize / RECORD);
    for to_v4 in ["8.8.8.8", "::8.8.8.8", "::ffff:8.8.8.8", "2002:808:808::1", "2001:0:808:808::1", "64:ff9b::8.8.8.8"]
    {
        assert_eq!(found(to_v4), Some(1), "{to_v4}");
    }
    assert_eq!(
        [found("2002:808:909::"), found("2002:808:901::"), found("2002:ffff:ffff::1")],
        [None, Some(2), Some(3)]
    );
    assert_eq!([found("2a01::1"), found("2a01::2"), found("2a01::1:8000:0:0:1")], [Some(5), None, Some(6)]);
    assert_eq!((ours.count_v4(), ours.count_v6()), (4, 3), "what leads there again is not counted");
}

#[test]
fn a_network_may_be_everything_or_one_address() {
    let everything = [[Child::Record(0), Child::Record(0)]];
    for version in [4, 6] {
        let ours = compare_all(&file(version, &everything, 1));
        assert_eq!(ours.count_v4() + ours.count_v6(), 2);
    }
    for (version, longest) in [(4, 32), (6, 128)] {
        for bits in [0, 1 << (128 - longest), u128::MAX, bits("2a00::1"), bits("81.2.69.142")] {
            let mut nodes = Nodes::new();
            nodes.put(bits, longest, Child::Record(0));
            compare_all(&file(version, &nodes.0, 1));
        }
    }
    compare_all(&file(4, &[[Child::Nothing; 2]], 1));
}

#[test]
fn a_tree_that_does_not_end_is_damaged() {
    let node = |node| [Child::Node(node), Child::Record(0)];
    assert_eq!(
        networks(&file(4, &[node(0)], 1)).err(),
        Some("a search tree deeper than an address is long, before the data")
    );
    assert_eq!(
        networks(&file(6, &[node(0)], 1)).err(),
        Some("a search tree deeper than an address is long, before the data")
    );
    // Behind 2a00::/16 by both sides to the next node, 40 times.
    let mut nodes = Nodes::new();
    nodes.put(bits("2a00::"), 16, Child::Node(16));
    (17..57).for_each(|next| nodes.0.push([Child::Node(next); 2]));
    nodes.0.push([Child::Nothing, Child::Record(0)]);
    assert_eq!(networks(&file(6, &nodes.0, 1)).err(), Some("a search tree whose ways meet again, before the data"));
    // So near the end of an address that no IPv4 address fits behind it.
    let mut nodes = maxmind_like();
    let start = nodes.node(0, 96).unwrap();
    nodes.put(bits("2a02::"), 97, Child::Node(start));
    assert_eq!(
        networks(&file(6, &nodes.0, 7)).err(),
        Some("a search tree deeper than an address is long, before the data")
    );
}

#[test]
fn chance_leads_to_addresses_that_have_a_record() {
    for bytes in [file(6, &maxmind_like().0, 7), crate::place::BUNDLED.to_vec()] {
        let ours = networks(&bytes).unwrap();
        let mut found: HashMap<bool, std::collections::BTreeSet<IpAddr>> = HashMap::new();
        for number in 1..200u64 {
            for ip in ours.any(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
                assert!(ours.find(ip).is_some(), "{ip}");
                found.entry(ip.is_ipv4()).or_default().insert(ip);
            }
        }
        let least = |count: u64| if count > 1_000 { 150 } else { 1 };
        assert!(
            found[&true].len() >= least(ours.count_v4()) && found[&false].len() >= least(ours.count_v6()),
            "{found:?}"
        );
    }
    // All longer than what is searched first.
    let mut nodes = Nodes::new();
    nodes.put(bits("2a01::1"), 128, Child::Record(0));
    assert_eq!(
        networks(&file(6, &nodes.0, 1)).unwrap().any(7).collect::<Vec<_>>(),
        ["2a01::1".parse::<IpAddr>().unwrap()]
    );
}

#[test]
fn files_of_another_writer_answer_as_their_trees_do() {
    let city = |name: &str| json!({"country_code": "FI", "city": name});
    for version in [IpVersion::V4, IpVersion::V6] {
        let all = [
            ("0.0.0.0/1", "a"),
            ("128.0.0.0/3", "b"),
            ("81.2.69.142/31", "c"),
            ("2a00::/20", "d"),
            ("2a00::/127", "e"),
        ];
        let fits = |network: &str| matches!(version, IpVersion::V6) || !network.contains(':');
        let networks: Vec<_> =
            all.iter().filter(|(network, _)| fits(network)).map(|(network, name)| (*network, city(name))).collect();
        compare_all(&mmdb(version, &networks));
    }
}

/// Bits that begin like each other often, so that networks lie beside and within each other.
fn some_bits() -> impl Strategy<Value = u128> {
    let group = prop_oneof![Just(0u128), Just(0xffff), Just(0x2a00), Just(0x2002), 0u128..4, 0u128..=0xffff];
    proptest::collection::vec(group, 8).prop_map(|groups| groups.iter().fold(0, |bits, group| bits << 16 | group))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_tree_of_both_versions_answers_as_it_does(
        v4 in proptest::collection::vec((some_bits(), 1u8..=32), 0..30),
        v6 in proptest::collection::vec((some_bits(), 1u8..=128), 0..30),
        aliases in proptest::collection::vec((some_bits(), 1u8..=96), 0..5),
        asked in proptest::collection::vec(some_bits(), 0..100),
    ) {
        let mut nodes = Nodes::new();
        let networks = v4.iter().map(|(bits, len)| (bits >> 96, 96 + len)).chain(v6.iter().copied());
        for (number, (bits, len)) in (0..).zip(networks) {
            nodes.put(bits, len, Child::Record(number % 5));
        }
        nodes.alias(&aliases);
        let bytes = file(6, &nodes.0, 5);
        let ours = compare_all(&bytes);
        let theirs = Reader::from_source(&bytes[..]).unwrap();
        for bits in asked {
            compare(&ours, &theirs, IpAddr::V6(bits.into()));
            compare(&ours, &theirs, IpAddr::V4((bits as u32).into()));
        }
    }

    #[test]
    fn any_tree_of_ipv4_answers_as_it_does(
        v4 in proptest::collection::vec((some_bits(), 1u8..=32), 0..60),
        asked in proptest::collection::vec(0u32..=u32::MAX, 0..100),
    ) {
        let mut nodes = Nodes::new();
        for (number, (bits, len)) in (0..).zip(v4) {
            nodes.put(bits, len, Child::Record(number % 5));
        }
        let bytes = file(4, &nodes.0, 5);
        let ours = compare_all(&bytes);
        let theirs = Reader::from_source(&bytes[..]).unwrap();
        asked.iter().for_each(|bits| compare(&ours, &theirs, IpAddr::V4((*bits).into())));
    }
}
