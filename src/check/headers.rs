//! Headers that go along to the output: none may carry the visitor's address past the place lookup.

use super::{Report, Subject};

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
    for header in &subject.config.source.headers {
        let name = header.to_lowercase().replace('_', "-");
        if ADDRESS_HEADERS.contains(&name.as_str()) {
            report.findings.push(subject.error(
                "source.headers",
                format!("header `{header}` would carry the address into the output topic"),
                "remove it from the list: the address goes nowhere but into the place lookup",
            ));
        } else if sounds_like_address(&name) {
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

fn sounds_like_address(name: &str) -> bool {
    name.split(['-', '.', ':']).any(|word| {
        matches!(
            word,
            "ip" | "ipv4" | "ipv6" | "ipaddr" | "addr" | "forwarded" | "clientip" | "remoteip" | "remoteaddr"
        )
    })
}
