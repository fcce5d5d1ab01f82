//! Addresses that have no public place.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Whether an address is of a range that IANA's special-purpose registries keep from the public internet: this network, loopback,
/// private, shared (carrier NAT), link-local, unique-local, site-local, documentation, benchmarking, discard, multicast, reserved.
/// An IPv4-mapped address must have been turned into IPv4 before.
#[inline]
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => is_private_v6(v6),
    }
}

#[inline]
fn is_private_v4(ip: Ipv4Addr) -> bool {
    matches!(
        ip.octets(),
        [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [192, 168, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

#[inline]
fn is_private_v6(ip: Ipv6Addr) -> bool {
    match ip.segments() {
        // Unspecified, loopback, and the rest of ::/96 (IPv4-compatible, deprecated in 2006).
        [0, 0, 0, 0, 0, 0, ..] => true,
        [0x64, 0xff9b, 1, ..] => true,
        [0x100, 0, 0, 0, ..] => true,
        [0x2001, 2, 0, ..] => true,
        [0x2001, 0xdb8, ..] => true,
        [0x3fff, second, ..] => second < 0x1000,
        [first, ..] => matches!(first, 0xfc00..=0xfdff | 0xfe80..=0xfeff | 0xff00..=0xffff),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn ranges_without_a_public_place() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "169.254.1.1",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.19.255.255",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::8.8.8.8",
            "64:ff9b:1::1",
            "100::1",
            "2001:2::1",
            "2001:db8::1",
            "3fff:fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(is_private(text.parse().unwrap()), "{text} is not public");
        }
    }

    #[test]
    fn their_neighbours_are_public() {
        for text in [
            "1.0.0.0",
            "9.255.255.255",
            "11.0.0.0",
            "100.63.255.255",
            "100.128.0.0",
            "126.255.255.255",
            "128.0.0.0",
            "169.253.255.255",
            "172.15.255.255",
            "172.32.0.0",
            "192.0.1.0",
            "192.0.3.0",
            "192.167.255.255",
            "192.169.0.0",
            "198.17.255.255",
            "198.20.0.0",
            "198.51.99.255",
            "203.0.114.0",
            "223.255.255.255",
            "64:ff9b::808:808",
            "2001:db7::1",
            "2001:db9::1",
            "2002:808:808::1",
            "2600::1",
            "3fff:1000::1",
            "2001::1",
            "fbff::1",
        ] {
            assert!(!is_private(text.parse().unwrap()), "{text} is public");
        }
    }
}
