//! One record as a line for people or as a JSON object.

use crate::avro::registry::RegistryError;
use std::io::Write;

use jiff::Timestamp;
use rdkafka::message::{Headers, Message};

use super::ConsumeError;
use super::decode::{Decoded, Decoder, Encoding};
use super::text::{self, Style};

/// Colours of a line's parts; all empty where there are none.
struct Colours {
    dim: &'static str,
    key: &'static str,
    problem: &'static str,
    off: &'static str,
}

const PLAIN: Colours = Colours { dim: "", key: "", problem: "", off: "" };
const COLOURED: Colours = Colours { dim: "\x1b[2m", key: "\x1b[36m", problem: "\x1b[33m", off: "\x1b[0m" };

/// Writes one record. Errors: the output, or a registry that does not answer.
pub fn write<M: Message>(
    record: &M,
    decoder: &mut Decoder,
    style: Style,
    json: bool,
    colours: bool,
    out: &mut dyn Write,
) -> Result<(), ConsumeError> {
    let (key, value) = decoded(record, decoder)?;
    let headers = headers(record, style);
    let line =
        if json { object(record, &key, &value, &headers) } else { line(record, &key, &value, &headers, colours) };
    writeln!(out, "{line}")?;
    Ok(())
}

/// The record's key and value. Errors: a registry that does not answer.
pub fn decoded<M: Message>(record: &M, decoder: &mut Decoder) -> Result<(Decoded, Decoded), ConsumeError> {
    let failed = |source: RegistryError| ConsumeError::Schema {
        topic: record.topic().into(),
        partition: record.partition(),
        offset: record.offset(),
        source: Box::new(source),
    };
    let key = decoder.key(record.key()).map_err(failed)?;
    let value = decoder.value(record.payload()).map_err(failed)?;
    Ok((key, value))
}

/// Names and JSON texts, in order; a name may stand there more than once.
fn headers<M: Message>(record: &M, style: Style) -> Vec<(String, String)> {
    let Some(headers) = record.headers() else { return Vec::new() };
    let shown = |name: &str, value: Option<&[u8]>| {
        let mut shown = String::new();
        match value {
            None => shown.push_str("null"),
            Some(_) if style.withholds(name) => shown.push_str(text::WITHHELD),
            Some(bytes) => match std::str::from_utf8(bytes) {
                Ok(value) => text::string(value, &mut shown),
                Err(_) => text::hex(bytes, &mut shown),
            },
        }
        shown
    };
    headers.iter().map(|header| (header.key.to_string(), shown(header.key, header.value))).collect()
}

fn line<M: Message>(record: &M, key: &Decoded, value: &Decoded, headers: &[(String, String)], colours: bool) -> String {
    let Colours { dim, key: key_colour, problem, off } = if colours { COLOURED } else { PLAIN };
    let time = match record.timestamp().to_millis().and_then(|ms| Timestamp::from_millisecond(ms).ok()) {
        Some(time) => time.strftime("%FT%T%.3fZ").to_string(),
        None => "no time".into(),
    };
    // An id reads better without quotes; what holds a space or an escape keeps them.
    let bare = key.text.trim_matches('"');
    let plain = key.encoding == Encoding::Text && !bare.contains([' ', '\\', '"']) && !bare.is_empty();
    let key = if plain { bare } else { &key.text };
    let mut line = format!("{dim}{time} {}:{}{off} {key_colour}{key}{off}", record.partition(), record.offset());
    if !headers.is_empty() {
        let pairs: Vec<String> = headers.iter().map(|(name, value)| format!("{}={value}", printable(name))).collect();
        line.push_str(&format!(" {dim}[{}]{off}", pairs.join(" ")));
    }
    line.push_str(&format!(" {}", value.text));
    if let Some(why) = &value.problem {
        line.push_str(&format!(" {problem}({}){off}", printable(why)));
    }
    line
}

/// Without the quotes of a JSON string, but with its escapes.
fn printable(text: &str) -> String {
    let mut quoted = String::new();
    text::string(text, &mut quoted);
    quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default().to_string()
}

fn object<M: Message>(record: &M, key: &Decoded, value: &Decoded, headers: &[(String, String)]) -> String {
    let mut out = String::from("{\"topic\":");
    text::string(record.topic(), &mut out);
    out.push_str(&format!(",\"partition\":{},\"offset\":{}", record.partition(), record.offset()));
    let time = record.timestamp().to_millis().map_or("null".to_string(), |ms| ms.to_string());
    out.push_str(&format!(",\"timestamp\":{time},\"key\":{},\"headers\":[", key.text));
    for (index, (name, value)) in headers.iter().enumerate() {
        out.push_str(if index > 0 { ",[" } else { "[" });
        text::string(name, &mut out);
        out.push_str(&format!(",{value}]"));
    }
    let id = value.schema_id.map_or("null".to_string(), |id| id.to_string());
    out.push_str(&format!("],\"schema_id\":{id},\"encoding\":\"{}\",\"value\":{}", value.encoding.name(), value.text));
    if let Some(problem) = &value.problem {
        out.push_str(",\"problem\":");
        text::string(problem, &mut out);
    }
    out.push('}');
    out
}
