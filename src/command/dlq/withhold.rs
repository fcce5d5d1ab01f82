//! Takes addresses out of a record that is shown: what the pipeline's plan reads as one, and whatever text holds one.

use std::collections::BTreeSet;

use rdkafka::message::{BorrowedMessage, Headers, Message};
use serde_json::json;

use super::choose::time;
use crate::command::consume::ConsumeError;
use crate::command::consume::decode::{Decoded, Decoder};
use crate::command::consume::show::decoded;
use crate::command::consume::text::{self, Style, WITHHELD};
use crate::config::PipelineConfig;
use crate::place::ClientIp;

/// How records are shown: addresses never.
pub const STYLE: Style = Style { people: true, addresses: false };

/// Last parts of the names of the fields that a relay's plan takes for addresses.
pub fn address_fields(config: &PipelineConfig) -> BTreeSet<String> {
    let looked_up = config.transforms.iter().filter_map(|transform| transform.enrich.as_ref());
    let mut names: BTreeSet<&str> = config.source.addresses.iter().chain(looked_up).map(String::as_str).collect();
    if config.is_press() {
        names.insert("ip");
    }
    // Under its old name it is in the record.
    for transform in config.transforms.iter().rev() {
        names.extend(
            transform
                .rename
                .iter()
                .filter(|(_, new)| names.contains(new.as_str()))
                .map(|(old, _)| old.as_str())
                .collect::<Vec<_>>(),
        );
    }
    names.into_iter().map(|name| name.rsplit('.').next().unwrap_or(name).to_string()).collect()
}

/// A record's parts, ready to be shown: names and JSON texts.
pub struct Shown {
    /// `key`, `value`.
    pub parts: Vec<(&'static str, String)>,
    /// Names and JSON texts of its headers.
    pub headers: Vec<(String, String)>,
    /// When it was written, for people.
    pub time: String,
    /// Why the value is not shown as what it seems to be.
    pub problem: Option<String>,
}

/// The record without addresses. Errors: the registry does not answer.
pub fn shown(
    record: &BorrowedMessage<'_>,
    decoder: &mut Decoder,
    addresses: &BTreeSet<String>,
) -> Result<Shown, ConsumeError> {
    let (key, value) = decoded(record, decoder)?;
    let part = |decoded: &Decoded| without_addresses(&decoded.text, addresses);
    let headers = record.headers().into_iter().flat_map(Headers::iter).map(|header| {
        let mut shown = String::new();
        match header.value.map(std::str::from_utf8) {
            None => shown.push_str("null"),
            Some(_) if STYLE.withholds(header.key) => shown.push_str(WITHHELD),
            Some(Ok(value)) => text::string(value, &mut shown),
            Some(Err(_)) => shown.push_str(WITHHELD),
        }
        (header.key.to_string(), without_addresses(&shown, addresses))
    });
    Ok(Shown {
        parts: vec![("key", part(&key)), ("value", part(&value))],
        headers: headers.collect(),
        time: time(record.timestamp().to_millis()),
        problem: value.problem,
    })
}

impl Shown {
    /// As a JSON object.
    pub fn object(&self) -> serde_json::Value {
        let parsed = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| json!(text));
        let mut object = json!({ "time": self.time, "problem": self.problem });
        for (name, text) in &self.parts {
            object[*name] = parsed(text);
        }
        object["headers"] = self.headers.iter().map(|(name, text)| json!([name, parsed(text)])).collect();
        object
    }
}

/// The JSON text with `"<withheld>"` in place of each text that holds an address, and of each value under one of these names,
/// whatever its type. What is no JSON is withheld whole if it holds one.
fn without_addresses(json: &str, names: &BTreeSet<String>) -> String {
    let mut shown = String::with_capacity(json.len());
    let mut rest = json;
    while let Some(quote) = rest.find('"') {
        shown.push_str(&rest[..quote]);
        let Some(length) = string_length(&rest[quote..]) else {
            rest = &rest[quote..];
            break;
        };
        let (string, after) = rest[quote..].split_at(length);
        let text: String = serde_json::from_str(string).unwrap_or_default();
        shown.push_str(if ClientIp::stands_in(&text) { WITHHELD } else { string });
        rest = after;
        if names.contains(&text) && rest.starts_with(':') {
            let value = value_length(&rest[1..]);
            let is_null = rest[1..].starts_with("null");
            shown.push(':');
            shown.push_str(if is_null { "null" } else { WITHHELD });
            rest = &rest[1 + value..];
        }
    }
    if ClientIp::stands_in(rest) {
        WITHHELD.clone_into(&mut shown)
    } else {
        shown.push_str(rest)
    }
    shown
}

/// Bytes of the JSON string that the text begins with.
fn string_length(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.char_indices().skip(1).find_map(|(at, c)| {
        let ends = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        ends.then_some(at + 1)
    })
}

/// Bytes of the JSON value that the text begins with, compactly written.
fn value_length(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while let Some(c) = text[at..].chars().next() {
        match c {
            '"' => {
                at += string_length(&text[at..]).unwrap_or(text.len() - at);
                continue;
            }
            '{' | '[' => depth += 1,
            '}' | ']' if depth == 0 => return at,
            '}' | ']' => depth -= 1,
            ',' if depth == 0 => return at,
            _ => {}
        }
        at += c.len_utf8();
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_with_addresses_and_fields_that_are_addresses_are_withheld() {
        let names = BTreeSet::from(["client".to_string()]);
        for (json, expected) in [
            (r#"{"a":"x 192.0.2.1 y","b":1}"#, r#"{"a":"<withheld>","b":1}"#),
            (r#"{"client":3221225985,"b":"two"}"#, r#"{"client":"<withheld>","b":"two"}"#),
            (r#"{"client":{"v4":[1,2],"x":"}"},"b":[]}"#, r#"{"client":"<withheld>","b":[]}"#),
            (r#"{"n":{"client":null,"x":"\"2001:db8::1"}}"#, r#"{"n":{"client":null,"x":"<withheld>"}}"#),
            (r#"{"192.0.2.1":"client"}"#, r#"{"<withheld>":"client"}"#),
            (r#""client""#, r#""client""#),
            ("{\"client\":\"é\"}", r#"{"client":"<withheld>"}"#),
            ("192.0.2.1", "\"<withheld>\""),
        ] {
            assert_eq!(without_addresses(json, &names), expected, "{json}");
        }
    }
}
