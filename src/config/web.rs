//! `[web]`: the web app of `pressline web`, the button and the map.

use std::net::{IpAddr, SocketAddr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::ConfigOrigin;
use crate::config::finding::Finding;

/// Most days that browsers keep a cookie.
const MOST_COOKIE_DAYS: u32 = 400;

/// `[web]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebConfig {
    /// Address or host name, and port of the pages.
    #[serde(deserialize_with = "super::listen_address")]
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    /// The same of `/metrics`, `/livez` and `/readyz` of this process.
    #[serde(deserialize_with = "super::listen_address")]
    #[schemars(with = "String")]
    pub metrics_listen: SocketAddr,
    /// Connections served at once; a page that shows the map holds one.
    pub max_connections: usize,
    /// Milliseconds a client has to send its request's headers.
    pub header_timeout_ms: u64,
    /// Address by which browsers reach the pages, such as `https://press.example`; with `https` the cookie is for TLS alone.
    pub public_url: Option<String>,
    /// Who answers for the pages, for the privacy statement.
    pub operator: Option<String>,
    /// Days for which a browser keeps the session after the last visit.
    pub cookie_days: u32,
    /// Groups of an experiment, of which each visitor is drawn one; two of our own unless set.
    pub cohorts: Vec<CohortConfig>,
    /// Proxies, as addresses or networks, that are believed whom a request comes from.
    pub trusted_proxies: Vec<String>,
    /// The header in which they say it.
    pub proxy_header: ProxyHeader,
    /// Give visitors from this machine or a private network a public address, drawn for their session.
    pub made_up_address: bool,
    /// Presses a minute of one session; ten at once are always taken.
    pub session_presses_per_minute: u32,
    /// Presses and first visits a minute of one address, or one /64 network of IPv6.
    pub address_presses_per_minute: u32,
    /// Pages that watch the map at once; further ones are asked to come back later.
    pub max_watchers: usize,
    /// Where `/stats` gets its numbers from.
    pub store: StoreChoice,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            metrics_listen: SocketAddr::from(([127, 0, 0, 1], 9188)),
            max_connections: 2_048,
            header_timeout_ms: 5_000,
            public_url: None,
            operator: None,
            cookie_days: 30,
            cohorts: Vec::new(),
            trusted_proxies: Vec::new(),
            proxy_header: ProxyHeader::XForwardedFor,
            made_up_address: false,
            session_presses_per_minute: 600,
            address_presses_per_minute: 6_000,
            max_watchers: 1_000,
            store: StoreChoice::Auto,
        }
    }
}

/// One group of an experiment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CohortConfig {
    /// Its number in the records.
    pub number: i16,
    /// What stands on the button.
    pub label: String,
    /// The button's colour, `#rrggbb`.
    pub colour: String,
    /// What stands above it.
    pub text: String,
}

/// See [`WebConfig::proxy_header`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProxyHeader {
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// See [`WebConfig::store`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StoreChoice {
    /// ClickHouse if the pipeline has that sink, else PostgreSQL, else memory.
    Auto,
    /// The table of `[sink.postgres]`.
    Postgres,
    /// The table of `[sink.clickhouse]`.
    Clickhouse,
    /// What this process has read of the topic.
    Memory,
    /// Nothing: the page says so.
    None,
}

/// An address, or a network: base and length of the prefix.
pub fn parse_network(text: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = match text.split_once('/') {
        Some((address, length)) => (address, Some(length.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.trim().parse().ok()?;
    let longest = if address.is_ipv4() { 32 } else { 128 };
    let length = length.unwrap_or(longest);
    (length <= longest).then_some((address, length))
}

/// What is senseless in it.
pub(super) fn findings(web: &WebConfig, origin: &ConfigOrigin) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut complain =
        |key: &str, what: &str, cure: &str| findings.push(Finding::error(origin.place(key), key, what, cure));
    for (key, number) in [
        ("web.max_connections", web.max_connections),
        ("web.max_watchers", web.max_watchers),
        ("web.session_presses_per_minute", web.session_presses_per_minute as usize),
        ("web.address_presses_per_minute", web.address_presses_per_minute as usize),
        ("web.header_timeout_ms", usize::try_from(web.header_timeout_ms).unwrap_or(usize::MAX)),
    ] {
        if number == 0 {
            complain(key, "0, which would serve nobody", "use at least 1");
        }
    }
    if !(1..=MOST_COOKIE_DAYS).contains(&web.cookie_days) {
        complain("web.cookie_days", "not 1 to 400 days", "browsers keep no cookie longer than 400 days");
    }
    if web.trusted_proxies.iter().any(|proxy| parse_network(proxy).is_none()) {
        complain("web.trusted_proxies", "one of them is no address and no network", "write 10.0.0.7 or 10.0.0.0/8");
    }
    if web.public_url.as_deref().is_some_and(|url| !is_origin(url)) {
        complain("web.public_url", "no address of a site", "write https://HOST, without a path");
    }
    let cohorts = &web.cohorts;
    for (at, cohort) in cohorts.iter().enumerate() {
        if cohorts[..at].iter().any(|other| other.number == cohort.number) {
            complain("web.cohorts", "two of them have the same number", "number each differently");
        }
        if cohort.label.trim().is_empty() {
            complain("web.cohorts", "one of them has an empty label", "write what stands on the button");
        }
        if parse_colour(&cohort.colour).is_none() {
            complain("web.cohorts", "a colour is not written #rrggbb", "write such as #0b6e4f");
        }
    }
    findings
}

/// Scheme, host and port, without a path.
fn is_origin(url: &str) -> bool {
    let host = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' ']))
}

/// Red, green and blue of `#rrggbb`.
pub fn parse_colour(text: &str) -> Option<[u8; 3]> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let part = |at: usize| u8::from_str_radix(digits.get(at..at + 2)?, 16).ok();
    Some([part(0)?, part(2)?, part(4)?])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn complaints(web: &WebConfig) -> Vec<String> {
        findings(web, &ConfigOrigin::default()).into_iter().map(|finding| finding.subject).collect()
    }

    #[test]
    fn the_defaults_are_sound() {
        assert_eq!(complaints(&WebConfig::default()), Vec::<String>::new());
    }

    #[test]
    fn what_makes_no_sense_is_named_by_its_key() {
        let cohort = |number, colour: &str| CohortConfig {
            number,
            label: "x".into(),
            colour: colour.into(),
            text: String::new(),
        };
        let web = WebConfig {
            cookie_days: 0,
            max_watchers: 0,
            public_url: Some("https://press.example/path".into()),
            trusted_proxies: vec!["10.0.0.0/8".into(), "10.0.0.0/33".into()],
            cohorts: vec![cohort(1, "#0b6e4f"), cohort(1, "green")],
            ..WebConfig::default()
        };
        assert_eq!(
            complaints(&web),
            [
                "web.max_watchers",
                "web.cookie_days",
                "web.trusted_proxies",
                "web.public_url",
                "web.cohorts",
                "web.cohorts"
            ]
        );
    }

    #[test]
    fn networks_and_colours_are_read() {
        assert_eq!(parse_network("10.0.0.0/8"), Some(("10.0.0.0".parse().unwrap(), 8)));
        assert_eq!(parse_network("::1"), Some(("::1".parse().unwrap(), 128)));
        for wrong in ["", "10.0.0.0/33", "::1/129", "proxy", "10.0.0.1/"] {
            assert_eq!(parse_network(wrong), None, "{wrong}");
        }
        assert_eq!(parse_colour("#0b6e4f"), Some([11, 110, 79]));
        assert_eq!(parse_colour("#0b6e4"), None);
    }
}
