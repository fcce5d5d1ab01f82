//! The visitor's address: a type that can be looked up and nothing else.

#[cfg(doctest)]
pub mod cannot;
pub mod private;
pub mod text;
pub mod tunnel;

use std::net::{IpAddr, Ipv6Addr};

/// The visitor's address, for the place lookup and nothing else.
///
/// Deliberately without `Debug`, `Display`, `Serialize`, `Clone`, `Hash` and comparisons, so that no log line, error,
/// metric, header or cache key can hold it by accident; and only this module's lookup can take the address out again.
/// Tests below and the examples of `client_ip_cannot.rs`, which must not compile, hold it to that.
pub struct ClientIp(IpAddr);

impl ClientIp {
    /// Reads IPv4 or IPv6 text, without prefix length, blanks or leading zeros. A port, brackets and a zone, as proxies write
    /// them (`192.0.2.1:443`, `[2001:db8::1]:443`, `fe80::1%eth0`), are cut off.
    ///
    /// An IPv4 address mapped into IPv6 (`::ffff:192.0.2.1`) is taken for the IPv4 address it stands for. `None` where
    /// the text is no address.
    pub fn parse(text: &str) -> Option<Self> {
        let address = text::read(text).or_else(|| text::read_within(text));
        address.map(|address| Self(address.to_canonical()))
    }

    /// The address itself; only the lookup can ask for it.
    pub(in crate::place) fn addr(&self) -> IpAddr {
        self.0
    }

    /// The address, for the tests of what reads it.
    #[cfg(test)]
    pub(crate) fn of_test(&self) -> IpAddr {
        self.0
    }

    /// Whether an address stands anywhere in a text, with a port, a prefix length or leading zeros too. Takes a version of
    /// four numbers for one, and a fingerprint of eight pairs of digits with colons.
    pub fn stands_in(text: &str) -> bool {
        let of_address = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
        text.split(|c| !of_address(c))
            .any(|word| holds_groups(word) || word.split(|c: char| !c.is_ascii_digit() && c != '.').any(holds_quad))
    }
}

/// An IPv6 address of more than four characters, whatever stands before it and behind it with a colon: `ip:2001:db8::1`, a port.
fn holds_groups(word: &str) -> bool {
    let mut starts: Vec<usize> = vec![0];
    starts.extend(word.match_indices(':').map(|(at, _)| at + 1));
    let end_of = |group: usize| starts.get(group + 1).map_or(word.len(), |next| next - 1);
    starts.iter().enumerate().any(|(first, &start)| {
        // Eight groups at most, and `::` at an end is two empty ones.
        (first..starts.len().min(first + 9)).any(|last| {
            let end = end_of(last);
            // Of `::` at an end, the colon that parts it from what is not of the address belongs to it all the same.
            let from = if end_of(first) == start { start.saturating_sub(1) } else { start };
            let to = if starts.get(last) == Some(&end) { (end + 1).min(word.len()) } else { end };
            word.get(from..to).map(|part| part.trim_matches('.')).is_some_and(is_long_v6)
        })
    })
}

fn is_long_v6(part: &str) -> bool {
    (5..=45).contains(&part.len()) && part.parse::<Ipv6Addr>().is_ok()
}

/// Four numbers up to 255 in a row, with dots between them.
fn holds_quad(digits: &str) -> bool {
    let mut row = 0;
    digits.split('.').any(|number| {
        let fits = (1..=3).contains(&number.len()) && number.parse::<u8>().is_ok();
        row = if fits { row + 1 } else { 0 };
        row == 4
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::borrow::Borrow;
    use std::fmt::{Binary, Debug, Display, LowerHex, UpperHex, Write};
    use std::hash::Hash;
    use std::ops::Deref;

    use static_assertions::{assert_impl_all, assert_not_impl_any};

    use super::*;
    use crate::pipeline::press::encode::Encoder;
    use crate::pipeline::press::event::{Press, PressBody, SessionId};
    use crate::place::{Lookup, Place, PlaceKey};

    // What the absences below are absent from: the address within has all of these.
    assert_impl_all!(IpAddr: Debug, Display, ToString, Clone, Copy, Hash, PartialEq, Eq, PartialOrd, Ord, serde::Serialize);

    assert_not_impl_any!(ClientIp: Debug, Display, ToString, LowerHex, UpperHex, Binary, Write, std::error::Error);
    assert_not_impl_any!(ClientIp: serde::Serialize, Clone, Copy, Hash, PartialEq, Eq, PartialOrd, Ord, Default);
    assert_not_impl_any!(ClientIp: Into<IpAddr>, Into<String>, Into<u32>, Into<u128>, Into<Vec<u8>>, Into<[u8; 16]>);
    assert_not_impl_any!(ClientIp: AsRef<IpAddr>, AsRef<str>, AsRef<[u8]>, Deref, Borrow<IpAddr>, Borrow<str>);
    assert_not_impl_any!(&ClientIp: Into<IpAddr>, Into<String>, Into<u32>, Into<u128>, Into<Vec<u8>>);
    // What holds one, or the bytes it came in.
    assert_not_impl_any!(Press: Debug, Display, serde::Serialize, Clone, Hash, PartialEq);
    assert_not_impl_any!(crate::kafka::consumer::PolledBatch<'static>: Debug, Display, serde::Serialize, Clone);
    // What is written, and what is remembered, cannot be made of one.
    assert_impl_all!(PressBody: Debug, Clone, PartialEq);
    assert_not_impl_any!(PressBody: From<ClientIp>, From<IpAddr>);
    assert_not_impl_any!(SessionId: From<ClientIp>, From<IpAddr>);
    assert_not_impl_any!(Place: From<ClientIp>, From<IpAddr>);
    assert_not_impl_any!(PlaceKey: From<ClientIp>, From<IpAddr>);
    assert_not_impl_any!(Lookup: From<ClientIp>, From<IpAddr>);
    assert_not_impl_any!(Encoder: Debug);

    #[test]
    fn addresses_are_read_strictly() {
        for right in [
            "192.0.2.1",
            "2001:db8::1",
            "::1",
            "2001:DB8:0:0:0:0:0:1",
            "fe80::1%eth0",
            "192.0.2.1:80",
            "[::1]",
            "[::1]:80",
        ] {
            assert!(ClientIp::parse(right).is_some(), "{right}");
        }
        for wrong in
            ["", "192.0.2", "192.0.2.01", "192.0.2.256", "192.0.2.1:80:80", "192.0.2.0/24", " 192.0.2.1", "[::1"]
        {
            assert!(ClientIp::parse(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_mapped_address_is_the_ipv4_address_it_stands_for() {
        let ip = ClientIp::parse("::ffff:192.0.2.1").unwrap();
        assert_eq!(ip.addr(), "192.0.2.1".parse::<IpAddr>().unwrap());
    }

    #[test]
    fn an_address_is_seen_anywhere_in_a_text() {
        for text in [
            "192.0.2.1",
            "for=192.0.2.1;by=here",
            "192.0.2.1:443",
            "192.000.002.001",
            "a192.0.2.1.example",
            "192.0.2.0/24",
            "[2001:db8::1]:443",
            "2001:db8:0:0:0:0:0:1, 10.0.0.1",
            "2001:db8::%eth0",
            "::ffff:192.0.2.1",
            "at 2001:DB8::1.",
            "at 2001:db8::1: refused",
            "ip:2001:db8::1",
            "face:2001:db8:0:0:0:0:0:1",
            "2001:db8::1:54321",
            "2001:db8:0:0:0:0:0:1:443",
            "a.2001:db8::1.b",
            "1.5::abc1",
            "2001:db8::1.5",
            "::ffff:192.0.2.1:443",
            "00:1b:63:ff:fe:84:45:e6",
        ] {
            assert!(ClientIp::stands_in(text), "{text}");
        }
        for text in [
            "",
            "1.2.3",
            "2026-11-21T19:58:04.123Z",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "::",
            "a::",
            "1.2.3.400",
            "face:b00c",
            "00:1b:63:84:45:e6",
            "19:58:04.123",
            ":::::",
        ] {
            assert!(!ClientIp::stands_in(text), "{text}");
        }
    }
}
