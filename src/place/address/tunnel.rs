//! IPv6 addresses that stand for an IPv4 address: files place them in three ways, of which only the IPv4 address's own is right.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::private;

/// The IPv4 address within a mapped, translated (RFC 2765), 6to4, NAT64 or Teredo address, of the last one the client's; any
/// other address as it is.
#[inline]
pub(crate) fn inner(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V6(v6) => inner_v4(v6).map_or(ip, IpAddr::V4),
        v4 => v4,
    }
}

#[inline]
fn inner_v4(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let (high, low) = match v6.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] => (high, low),
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] => (high, low),
        [0x2002, high, low, ..] => (high, low),
        // The client's address stands there with all its bits turned round.
        [0x2001, 0, _, _, _, _, high, low] => (!high, !low),
        _ => return None,
    };
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Some(Ipv4Addr::new(a, b, c, d))
}

/// Whether addresses of a network that begins so are looked up by that network's record.
pub(crate) fn is_looked_up(first: IpAddr) -> bool {
    inner(first) == first && !private::is_private(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn an_address_within_another_comes_out() {
        for (outer, within) in [
            ("::ffff:81.2.69.142", "81.2.69.142"),
            ("::ffff:0:81.2.69.142", "81.2.69.142"),
            ("64:ff9b::81.2.69.142", "81.2.69.142"),
            ("2002:5102:458e::1", "81.2.69.142"),
            ("2002:5102:458e:ffff:ffff:ffff:ffff:ffff", "81.2.69.142"),
            ("2002:a00:1::1", "10.0.0.1"),
            // RFC 4380: server 65.54.227.120, client 192.0.2.45.
            ("2001:0:4136:e378:8000:63bf:3fff:fdd2", "192.0.2.45"),
            ("2001:1::1", "2001:1::1"),
            ("2003::1", "2003::1"),
            ("64:ff9b:1::1", "64:ff9b:1::1"),
            ("64:ff9b::1:0:0", "64:ff9b::1:0:0"),
            ("81.2.69.142", "81.2.69.142"),
        ] {
            assert_eq!(inner(outer.parse().unwrap()), within.parse::<IpAddr>().unwrap(), "{outer}");
            assert_eq!(
                is_looked_up(outer.parse().unwrap()),
                outer == within && !outer.starts_with("64:ff9b:1:"),
                "{outer}"
            );
        }
    }
}
