//! Headers that go along to the output: none may carry the visitor's address past the place lookup.

/// Names under which proxies and content networks hand on the visitor's address, in lower case with `-`.
const ADDRESS_HEADERS: [&str; 25] = [
    "akamai-client-ip",
    "cf-connecting-ip",
    "cf-connecting-ipv6",
    "cf-pseudo-ipv4",
    "client-ip",
    "clientip",
    "do-connecting-ip",
    "fastly-client-ip",
    "fly-client-ip",
    "forwarded",
    "forwarded-for",
    "ip",
    "ip-address",
    "remote-addr",
    "remote-ip",
    "true-client-ip",
    "x-appengine-user-ip",
    "x-azure-clientip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-envoy-external-address",
    "x-forwarded",
    "x-forwarded-for",
    "x-original-forwarded-for",
    "x-real-ip",
];

/// Whether proxies and content networks hand on the visitor's address in headers of this name.
pub fn known_to_carry_addresses(header: &str) -> bool {
    ADDRESS_HEADERS.contains(&plain(header).as_str())
}

pub(super) fn plain(header: &str) -> String {
    header.to_lowercase().replace('_', "-")
}

pub(super) fn sounds_like_address(name: &str) -> bool {
    name.split(['-', '.', ':']).any(|word| {
        matches!(
            word,
            "ip" | "ipv4" | "ipv6" | "ipaddr" | "addr" | "forwarded" | "clientip" | "remoteip" | "remoteaddr"
        )
    })
}
