//! The text of IPv4 and IPv6 addresses: what the standard library reads, in a fraction of its time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Reads an address exactly as `IpAddr::from_str` does. `None` where the text is no address.
pub(crate) fn read(text: &str) -> Option<IpAddr> {
    let ordinary = ipv4(text).map(IpAddr::V4).or_else(|| ipv6(text).map(IpAddr::V6));
    // The standard library has the last word: it also reads IPv6 that ends as IPv4.
    ordinary.or_else(|| text.parse().ok())
}

/// Reads an address as proxies and servers write it: `192.0.2.1:443`, `[2001:db8::1]`, `[2001:db8::1]:443`, `fe80::1%eth0`. What
/// stands around the address is cut off. `None` where the text is not an address.
pub(super) fn read_within(text: &str) -> Option<IpAddr> {
    let (address, rest) = match text.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once(']')?,
        None if text.matches(':').count() == 1 => text.split_at(text.find(':')?),
        None => (text, ""),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok();
    if !rest.is_empty() && !rest.strip_prefix(':').is_some_and(is_port) {
        return None;
    }
    match address.split_once('%') {
        Some((address, zone)) if !zone.is_empty() => address.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        Some(_) => None,
        None => read(address),
    }
}

/// Reads four decimal numbers up to 255 without leading zeros, with dots between: what `Ipv4Addr` reads too, slower.
fn ipv4(text: &str) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let (mut at, mut value, mut digits) = (0, 0_u32, 0);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' if digits == 0 || value > 0 => {
                value = value * 10 + u32::from(byte - b'0');
                digits += 1;
            }
            b'.' if digits > 0 && at < 3 => {
                octets[at] = u8::try_from(value).ok()?;
                (at, value, digits) = (at + 1, 0, 0);
            }
            _ => return None,
        }
        if value > 255 {
            return None;
        }
    }
    octets[3] = u8::try_from(value).ok()?;
    (at == 3 && digits > 0).then(|| octets.into())
}

/// Reads groups of one to four hexadecimal digits, `::` once for one or more groups of zeros: as `Ipv6Addr`, but for
/// addresses that end as IPv4 (`None` for those), and faster.
fn ipv6(text: &str) -> Option<Ipv6Addr> {
    let (mut groups, mut count, mut gap) = ([0_u16; 8], 0, None);
    let mut rest = text.as_bytes();
    if let Some(after) = rest.strip_prefix(b"::") {
        (gap, rest) = (Some(0), after);
    }
    while !rest.is_empty() {
        let group = groups.get_mut(count)?;
        let mut digits = 0;
        while let Some(digit) = rest.first().and_then(|&byte| char::from(byte).to_digit(16)) {
            // Digits that fall out at the top are too many, which is seen below.
            *group = *group << 4 | digit as u16;
            (digits, rest) = (digits + 1, &rest[1..]);
        }
        count += 1;
        rest = match rest {
            _ if !(1..=4).contains(&digits) => return None,
            [b':', b':', after @ ..] if gap.is_none() => {
                gap = Some(count);
                after
            }
            [b':', after @ ..] if !after.is_empty() => after,
            [] => rest,
            _ => return None,
        };
    }
    match gap {
        None if count == 8 => {}
        // The zeros behind the last group belong into the gap.
        Some(at) if count < 8 => groups[at..].rotate_right(8 - count),
        _ => return None,
    }
    Some(groups.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_stands_around_an_address_is_cut_off() {
        for (text, address) in [
            ("192.0.2.1:443", "192.0.2.1"),
            ("192.0.2.1:0", "192.0.2.1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:65535", "2001:db8::1"),
            ("[::ffff:192.0.2.1]:80", "::ffff:192.0.2.1"),
            ("[fe80::1%eth0]:80", "fe80::1"),
            ("fe80::1%25eth0", "fe80::1"),
            ("fe80::1%2", "fe80::1"),
        ] {
            assert_eq!(read_within(text), address.parse().ok(), "{text}");
        }
        for text in [
            "",
            ":",
            ":80",
            "[]",
            "[]:80",
            "[2001:db8::1",
            "2001:db8::1]",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "192.0.2.1:",
            "192.0.2.1:65536",
            "192.0.2.1:+1",
            "192.0.2.1:80:81",
            "192.0.2.1%eth0",
            "fe80::1%",
            "192.0.2.0/24",
            "192.0.2.1, 10.0.0.1",
            "unknown",
            "-",
            " 192.0.2.1",
            "300.1.2.3:80",
            "[192.0.2.1]x",
        ] {
            assert_eq!(read_within(text), None, "{text}");
        }
    }

    /// Whether all three agree with the standard library; `ipv6` leaves to it what holds a dot.
    fn agree(text: &str) -> bool {
        let v6 = text.parse::<Ipv6Addr>().ok().filter(|_| !text.contains('.'));
        ipv4(text) == text.parse::<Ipv4Addr>().ok() && ipv6(text) == v6 && read(text) == text.parse::<IpAddr>().ok()
    }

    #[test]
    fn every_character_at_every_position_is_read_as_the_standard_library_does() {
        let characters: Vec<char> = (0..128_u8).map(char::from).chain(['\u{b2}', '\u{661}', '\u{ff11}']).collect();
        for address in [
            "192.0.2.1",
            "255.255.255.255",
            "0.10.200.30",
            "2001:db8::1",
            "2001:DB8:0:0:0:0:0:1",
            "1:2:3:4:5:6:7::",
            "::2:3:4:5:6:7:8",
            "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            "::",
            "::ffff:192.0.2.1",
            "1:2:3:4:5:6:192.0.2.1",
        ] {
            assert!(agree(address) && read(address).is_some(), "{address}");
            for at in 0..=address.len() {
                assert!(agree(&address[..at]) && agree(&address[at..]), "{address} cut at {at}");
                for character in &characters {
                    let inserted = format!("{}{character}{}", &address[..at], &address[at..]);
                    assert!(agree(&inserted), "{inserted:?}");
                    if at < address.len() {
                        let replaced = format!("{}{character}{}", &address[..at], &address[at + 1..]);
                        assert!(agree(&replaced), "{replaced:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_number_is_read_as_the_standard_library_does() {
        let padded = |width: usize| (0..10_usize.pow(width as u32)).map(move |number| format!("{number:0width$}"));
        for number in (1..=4).flat_map(padded).chain(["4294967297".to_owned(), "9".repeat(30)]) {
            for text in [
                format!("{number}.1.2.3"),
                format!("1.2.3.{number}"),
                format!("{number}::1"),
                format!("1:2:3:4:5:6:7:{number}"),
            ] {
                assert!(agree(&text), "{text}");
            }
        }
    }

    #[test]
    fn every_number_of_groups_is_read_as_the_standard_library_does() {
        let groups = |count: usize| (1..=count).map(|group| group.to_string()).collect::<Vec<_>>().join(":");
        for (before, after) in (0..10).flat_map(|before| (0..10).map(move |after| (before, after))) {
            for between in ["", ":", "::", ":::", "::1::"] {
                let text = format!("{}{between}{}", groups(before), groups(after));
                assert!(agree(&text), "{text}");
            }
        }
    }

    proptest! {
        #[test]
        fn addresses_are_read_back(v4: Ipv4Addr, v6: Ipv6Addr, mask: u128) {
            // With groups of zeros too.
            for address in [IpAddr::V4(v4), IpAddr::V6(v6), IpAddr::V6((v6.to_bits() & mask & mask.rotate_left(31)).into())] {
                prop_assert_eq!(read(&address.to_string()), Some(address));
                prop_assert!(agree(&address.to_string()));
            }
        }

        #[test]
        fn all_texts_are_read_as_the_standard_library_does(
            text in prop_oneof!["[0-9a-fA-F:.]{0,45}", "([0-9a-f]{0,5}:){1,8}[0-9a-f]{0,5}", "([0-9]{1,3}\\.){3}[0-9]{1,3}", any::<String>()]
        ) {
            prop_assert!(agree(&text));
        }
    }
}
