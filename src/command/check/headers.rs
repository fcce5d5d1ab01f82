//! Headers that go along to the output: none may carry the visitor's address past the place lookup.

use super::{Report, Subject, data_flow};

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

pub fn check(subject: &Subject<'_>, report: &mut Report) {
    let before = report.findings.len();
    for flow in data_flow::headers(subject.config) {
        let header = &flow.name;
        if flow.breaks_the_rule() {
            report.findings.push(subject.error(
                "source.headers",
                format!("header `{header}` would carry the address into the output topic"),
                "remove it from the list: the address goes nowhere but into the place lookup",
            ));
        } else if sounds_like_address(&plain(header)) {
            report.findings.push(subject.warning(
                "source.headers",
                format!("header `{header}` sounds as if it carried an address"),
                "remove it from the list unless you know what it holds",
            ));
        }
    }
    let allowed = subject.config.source.headers.len();
    if report.findings.len() == before && allowed > 0 {
        report.ok(subject.line(format_args!("{allowed} allowed headers, none known to carry addresses")));
    }
}

/// Whether proxies and content networks hand on the visitor's address in headers of this name.
pub fn known_to_carry_addresses(header: &str) -> bool {
    ADDRESS_HEADERS.contains(&plain(header).as_str())
}

fn plain(header: &str) -> String {
    header.to_lowercase().replace('_', "-")
}

fn sounds_like_address(name: &str) -> bool {
    name.split(['-', '.', ':']).any(|word| {
        matches!(
            word,
            "ip" | "ipv4" | "ipv6" | "ipaddr" | "addr" | "forwarded" | "clientip" | "remoteip" | "remoteaddr"
        )
    })
}
