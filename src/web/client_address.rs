//! Whom a request comes from: the connection's other end, or what a trusted proxy says.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::{HeaderMap, header};

use crate::config::WebConfig;
use crate::config::web::{ProxyHeader, parse_network};

/// A visitor's address, for the raw topic and the rate limit. Like `place::ClientIp` it can be neither printed nor compared
/// nor serialised by accident.
pub struct VisitorAddress(IpAddr);

impl VisitorAddress {
    /// Writes it into the JSON of a raw press: the one way out.
    pub fn write(&self, json: &mut Vec<u8>) {
        use std::io::Write;
        // Writing into memory does not fail.
        let _ = write!(json, "{}", self.0);
    }

    /// A number that stands for it as long as the process lives, with a key that is nowhere else; one for a /64 of IPv6.
    pub fn fingerprint(&self, key: &RandomState) -> u64 {
        match self.0 {
            IpAddr::V4(_) => key.hash_one(self.0),
            IpAddr::V6(address) => key.hash_one(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        }
    }

    /// Whether it cannot occur on the public internet.
    pub fn is_local(&self) -> bool {
        match self.0 {
            IpAddr::V4(v4) => v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified(),
            IpAddr::V6(v6) => {
                v6.is_loopback() || v6.is_unicast_link_local() || v6.is_unique_local() || v6.is_unspecified()
            }
        }
    }

    /// One that was made up.
    pub fn made_up(address: IpAddr) -> Self {
        Self(address)
    }
}

/// The proxies that are believed.
pub struct Proxies {
    networks: Vec<(IpAddr, u8)>,
    header: ProxyHeader,
}

impl Proxies {
    /// As the configuration has them, which was checked.
    pub fn of(config: &WebConfig) -> Self {
        let networks = config.trusted_proxies.iter().filter_map(|text| parse_network(text)).collect();
        Self { networks, header: config.proxy_header }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| holds(*network, address))
    }

    /// Walks from our own end of the connection: each trusted proxy tells who stood before it. What stands left of the
    /// first that is not trusted is anybody's claim. A header that trusted proxies do not write is never looked at.
    pub fn visitor(&self, peer: SocketAddr, headers: &HeaderMap) -> VisitorAddress {
        let mut at = peer.ip().to_canonical();
        let hops = match self.header {
            ProxyHeader::XForwardedFor => hops(headers, "x-forwarded-for"),
            ProxyHeader::Forwarded => hops(headers, header::FORWARDED.as_str()),
        };
        for hop in hops.iter().rev() {
            if !self.trusts(at) {
                break;
            }
            let text = match self.header {
                ProxyHeader::XForwardedFor => Some(hop.as_str()),
                ProxyHeader::Forwarded => of_forwarded(hop),
            };
            // `unknown` and hidden names (RFC 7239) say nothing about who it was.
            let Some(address) = text.and_then(read) else { break };
            at = address;
        }
        VisitorAddress(at)
    }

    /// Whether the visitor came by TLS, as a trusted proxy says.
    pub fn came_by_tls(&self, peer: SocketAddr, headers: &HeaderMap) -> bool {
        if !self.trusts(peer.ip().to_canonical()) {
            return false;
        }
        let last = |name: &str| headers.get_all(name).iter().next_back().and_then(|value| value.to_str().ok());
        match self.header {
            ProxyHeader::XForwardedFor => last("x-forwarded-proto").is_some_and(|text| {
                text.rsplit(',').next().is_some_and(|text| text.trim().eq_ignore_ascii_case("https"))
            }),
            ProxyHeader::Forwarded => hops(headers, header::FORWARDED.as_str())
                .last()
                .and_then(|hop| parameter(hop, "proto"))
                .is_some_and(|proto| proto.eq_ignore_ascii_case("https")),
        }
    }
}

/// The elements of a list over all lines of a header.
fn hops(headers: &HeaderMap, name: &str) -> Vec<String> {
    let lines = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|hop| hop.trim().to_string()).collect()
}

fn of_forwarded(hop: &str) -> Option<&str> {
    parameter(hop, "for")
}

fn parameter<'a>(hop: &'a str, name: &str) -> Option<&'a str> {
    hop.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// An address as proxies write it: with a port, with brackets.
fn read(text: &str) -> Option<IpAddr> {
    let text = text.trim().trim_matches('"');
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

fn holds((base, length): (IpAddr, u8), address: IpAddr) -> bool {
    match (base, address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => {
            let shift = 32 - u32::from(length.min(32));
            base.to_bits().checked_shr(shift).unwrap_or(0) == address.to_bits().checked_shr(shift).unwrap_or(0)
        }
        (IpAddr::V6(base), IpAddr::V6(address)) => {
            let shift = 128 - u32::from(length.min(128));
            base.to_bits().checked_shr(shift).unwrap_or(0) == address.to_bits().checked_shr(shift).unwrap_or(0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use static_assertions::assert_not_impl_any;

    use super::*;

    assert_not_impl_any!(VisitorAddress: std::fmt::Debug, std::fmt::Display, serde::Serialize, Clone, PartialEq, std::hash::Hash);

    fn visitor(header: ProxyHeader, peer: &str, lines: &[(&'static str, &str)]) -> String {
        let config = WebConfig {
            trusted_proxies: vec!["10.0.0.0/8".into(), "2001:db8::/32".into()],
            proxy_header: header,
            ..WebConfig::default()
        };
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        let found = Proxies::of(&config).visitor(format!("{peer}:1").parse().unwrap(), &headers);
        let mut text = Vec::new();
        found.write(&mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn only_what_trusted_proxies_say_is_believed() {
        use ProxyHeader::{Forwarded, XForwardedFor};
        let xff = "x-forwarded-for";
        for (header, peer, lines, expected) in [
            // Nobody trusted stands before us.
            (XForwardedFor, "198.51.100.1", &[(xff, "203.0.113.9")][..], "198.51.100.1"),
            (XForwardedFor, "10.0.0.1", &[], "10.0.0.1"),
            (XForwardedFor, "10.0.0.1", &[(xff, "203.0.113.9")], "203.0.113.9"),
            // What the visitor claims stands left of what the proxy saw.
            (XForwardedFor, "10.0.0.1", &[(xff, "192.0.2.66, 203.0.113.9")], "203.0.113.9"),
            (XForwardedFor, "10.0.0.1", &[(xff, "192.0.2.66, 203.0.113.9, 10.1.1.1")], "203.0.113.9"),
            (XForwardedFor, "10.0.0.1", &[(xff, "192.0.2.66"), (xff, "203.0.113.9")], "203.0.113.9"),
            (XForwardedFor, "10.0.0.1", &[(xff, "nonsense, 203.0.113.9:4711")], "203.0.113.9"),
            (XForwardedFor, "10.0.0.1", &[(xff, "203.0.113.9, unknown")], "10.0.0.1"),
            // The other header is the visitor's own.
            (XForwardedFor, "10.0.0.1", &[("forwarded", "for=192.0.2.66"), (xff, "203.0.113.9")], "203.0.113.9"),
            (
                Forwarded,
                "10.0.0.1",
                &[(xff, "192.0.2.66"), ("forwarded", "for=203.0.113.9;proto=https")],
                "203.0.113.9",
            ),
            (Forwarded, "10.0.0.1", &[("forwarded", "For=\"[2a00::17]:4711\"")], "2a00::17"),
            (Forwarded, "[2001:db8::1]", &[("forwarded", "for=192.0.2.66, for=198.51.100.7")], "198.51.100.7"),
            (XForwardedFor, "[::ffff:10.0.0.1]", &[(xff, "203.0.113.9")], "203.0.113.9"),
        ] {
            assert_eq!(visitor(header, peer, lines), expected, "{peer} {lines:?}");
        }
    }

    #[test]
    fn tls_is_believed_of_trusted_proxies_only() {
        let config = WebConfig { trusted_proxies: vec!["10.0.0.0/8".into()], ..WebConfig::default() };
        let proxies = Proxies::of(&config);
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        assert!(proxies.came_by_tls("10.0.0.1:1".parse().unwrap(), &headers));
        assert!(!proxies.came_by_tls("198.51.100.1:1".parse().unwrap(), &headers));
    }

    #[test]
    fn a_network_of_one_visitor_has_one_fingerprint() {
        let key = RandomState::new();
        let of = |text: &str| VisitorAddress(text.parse().unwrap()).fingerprint(&key);
        assert_eq!(of("2a00:1:2:3::1"), of("2a00:1:2:3:ffff::9"));
        assert_ne!(of("2a00:1:2:3::1"), of("2a00:1:2:4::1"));
        assert_ne!(of("203.0.113.1"), of("203.0.113.2"));
        assert!(holds(("0.0.0.0".parse().unwrap(), 0), "203.0.113.2".parse().unwrap()));
    }
}
