//! Why a record is refused, in words that hold none of its values.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Mutex, PoisonError};

use rdkafka::message::{Header, OwnedHeaders};

use crate::avro::format;

/// What the headers of a dead letter are called.
pub mod header {
    /// [`Reason::code`](super::Reason::code), or the code of a sink's refusal.
    pub const REASON: &str = "pressline.reason";
    /// The field or column it is about; empty where it is the whole record.
    pub const FIELD: &str = "pressline.field";
    /// The reason in words.
    pub const MESSAGE: &str = "pressline.message";
    /// The topic that the record stands in.
    pub const TOPIC: &str = "pressline.topic";
    /// The partition that the record stands in.
    pub const PARTITION: &str = "pressline.partition";
    /// The record's offset.
    pub const OFFSET: &str = "pressline.offset";
    /// What was found, in pressline's own words; empty where the reason says it all.
    pub const DETAIL: &str = "pressline.detail";
    /// The sink that refused the row.
    pub const SINK: &str = "pressline.sink";
    /// The pipeline that wrote the letter: several may read one topic, and have one topic of dead letters.
    pub const PIPELINE: &str = "pressline.pipeline";
    /// What became of a letter later: [`Mark`](crate::kafka::letters::Mark).
    pub const MARK: &str = "pressline.mark";
    /// Why a letter was discarded, in the words of who did it.
    pub const NOTE: &str = "pressline.note";

    /// Those of the relay's letters.
    pub const OF_RELAY: [&str; 8] = [REASON, FIELD, MESSAGE, TOPIC, PARTITION, OFFSET, DETAIL, PIPELINE];

    /// Those of a sink's letters.
    pub const OF_SINK: [&str; 8] = [REASON, FIELD, MESSAGE, TOPIC, PARTITION, OFFSET, SINK, PIPELINE];

    /// Those of a mark.
    pub const OF_MARK: [&str; 7] = [MARK, NOTE, TOPIC, PARTITION, OFFSET, SINK, PIPELINE];
}

/// A dead letter's headers, in this order; `names` are [`header::OF_RELAY`] or [`header::OF_SINK`].
pub fn headers<const N: usize>(names: [&str; N], values: [&str; N]) -> OwnedHeaders {
    let headers = OwnedHeaders::new_with_capacity(N);
    let pairs = names.into_iter().zip(values);
    pairs.fold(headers, |headers, (key, value)| headers.insert(Header { key, value: Some(value) }))
}

/// Why a record cannot be relayed. The record goes to the dead-letter topic with [`Reason::code`] in a header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// Longer than the pipeline's limit.
    TooLarge,
    /// The value is null (a tombstone).
    NullValue,
    /// The value is not UTF-8 text.
    NotUtf8,
    /// The value is not one JSON document.
    NotJson,
    /// Arrays and objects are nested deeper than the limit.
    TooDeep,
    /// A known field is there twice.
    DuplicateKey,
    /// A field that must be there is missing.
    MissingField,
    /// A field, or the whole document, has another JSON type than expected.
    WrongType,
    /// `session_id` is not a UUID.
    BadUuid,
    /// `timestamp` is no plausible time.
    ImplausibleTimestamp,
    /// `action` is not on the pipeline's allow list.
    UnknownAction,
    /// `ip`, or the field that a place is looked up by, is not an address.
    BadIp,
    /// The value is not Avro in Confluent's wire format, or not of its schema.
    NotAvro,
    /// The schema registry does not have the schema, or it is one that the pipeline does not fit.
    UnknownSchema,
    /// A value that its type cannot hold.
    OutOfRange,
    /// A filter or a route has no answer for the record.
    StepFailed,
}

impl Reason {
    /// Every reason, roughly in the order of the tests (see [`crate::pipeline::press::decode`]).
    pub const ALL: [Reason; 16] = [
        Reason::TooLarge,
        Reason::NullValue,
        Reason::NotUtf8,
        Reason::NotJson,
        Reason::TooDeep,
        Reason::DuplicateKey,
        Reason::MissingField,
        Reason::WrongType,
        Reason::BadUuid,
        Reason::ImplausibleTimestamp,
        Reason::UnknownAction,
        Reason::BadIp,
        Reason::NotAvro,
        Reason::UnknownSchema,
        Reason::OutOfRange,
        Reason::StepFailed,
    ];

    /// Stable snake_case name, for the dead letter's header and the metric's label.
    pub const fn code(self) -> &'static str {
        match self {
            Reason::TooLarge => "too_large",
            Reason::NullValue => "null_value",
            Reason::NotUtf8 => "not_utf8",
            Reason::NotJson => "not_json",
            Reason::TooDeep => "too_deep",
            Reason::DuplicateKey => "duplicate_key",
            Reason::MissingField => "missing_field",
            Reason::WrongType => "wrong_type",
            Reason::BadUuid => "bad_uuid",
            Reason::ImplausibleTimestamp => "implausible_timestamp",
            Reason::UnknownAction => "unknown_action",
            Reason::BadIp => "bad_ip",
            Reason::NotAvro => "not_avro",
            Reason::UnknownSchema => "unknown_schema",
            Reason::OutOfRange => "out_of_range",
            Reason::StepFailed => "step_failed",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Reason::TooLarge => "the record is larger than the limit: raise max_record_bytes, or send smaller records",
            Reason::NullValue => "the value is null where a record was expected: the ingress topic takes no tombstones",
            Reason::NotUtf8 => "the value is not UTF-8 text: send JSON in UTF-8",
            Reason::NotJson => "the value is not one well-formed JSON document: send one JSON object a record",
            Reason::TooDeep => "arrays and objects are nested deeper than the limit: send a flat JSON object",
            Reason::DuplicateKey => {
                "the field is there twice: send it once, since readers differ in which one they take"
            }
            Reason::MissingField => "the field is missing: send it in every record",
            Reason::WrongType => "the type is not the expected one: send the type that the pipeline reads",
            Reason::BadUuid => "not a UUID: send 36 characters of hyphenated hexadecimal text",
            Reason::ImplausibleTimestamp => {
                "not a plausible time: send microseconds since 1970 as an integer, or ISO 8601 text with a UTC offset, \
                 between 2000 and one day ahead"
            }
            Reason::UnknownAction => "the action is not on the pipeline's list: add it to `actions`, or fix the sender",
            Reason::BadIp => {
                "not an IPv4 or IPv6 address: send its text without a prefix, or null, or set source.bad_ip = \"unknown_place\""
            }
            Reason::NotAvro => {
                "the value is not Avro of its schema in Confluent's wire format: write it with the registry's serializer"
            }
            Reason::UnknownSchema => {
                "the record's schema is not in the registry, or the pipeline does not fit it: register it, or change the pipeline"
            }
            Reason::OutOfRange => {
                "the value is outside what the field's type can hold: send a smaller one, or cast the field"
            }
            Reason::StepFailed => {
                "a transform has no answer for the record: guard it against what was found, such as `field != null && …`"
            }
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sentence())
    }
}

/// One refused record: why, and which field. Never a value: all text in it is pressline's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Why it is refused.
    pub reason: Reason,
    /// The field it is about; empty where it is the whole record.
    pub field: &'static str,
    /// What was found, such as `looks like seconds`; empty where the reason says it all.
    pub detail: &'static str,
}

impl Reject {
    /// What became of the record is larger than the output topic takes.
    pub const TOO_LARGE_FOR_OUTPUT: Self = Self { reason: Reason::TooLarge, field: "", detail: "output" };

    /// The whole record is refused.
    pub const fn record(reason: Reason) -> Self {
        Self { reason, field: "", detail: "" }
    }

    /// The record is refused for one field.
    pub const fn field(reason: Reason, field: &'static str, detail: &'static str) -> Self {
        Self { reason, field, detail }
    }
}

impl fmt::Display for Reject {
    /// `timestamp: not a plausible time: ... (looks like seconds)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::TOO_LARGE_FOR_OUTPUT {
            return f.write_str(
                "the record is larger than the output topic takes: raise its max.message.bytes (and message.max.bytes \
                 in kafka.producer), or send smaller records",
            );
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}", self.reason)?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Reject {}

/// The same text for as long as the process runs: what names a field in a [`Reject`]. At most so many texts, since a sender may
/// choose them; of others, nothing is named.
pub fn interned(text: &str) -> &'static str {
    const MOST: usize = 10_000;
    static KNOWN: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    match known.get(text) {
        Some(text) => text,
        None if known.len() >= MOST => "",
        None => {
            let text: &'static str = Box::leak(text.into());
            known.insert(text);
            text
        }
    }
}

impl From<format::Reject> for Reject {
    fn from(reject: format::Reject) -> Self {
        let reason = match reject.reason {
            format::Reason::NullValue => Reason::NullValue,
            format::Reason::NotWireFormat => Reason::NotAvro,
            format::Reason::NotJson => Reason::NotJson,
            format::Reason::TooDeep => Reason::TooDeep,
            format::Reason::DuplicateKey => Reason::DuplicateKey,
            format::Reason::MissingField => Reason::MissingField,
            format::Reason::WrongType => Reason::WrongType,
            format::Reason::OutOfRange => Reason::OutOfRange,
            format::Reason::UnreadableSchema => Reason::UnknownSchema,
            // Only sinks read envelopes.
            format::Reason::Unavailable => Reason::WrongType,
        };
        Self::field(reason, interned(&reject.field), interned(&reject.detail))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn codes_are_distinct_snake_case() {
        let codes: HashSet<&str> = Reason::ALL.iter().map(|reason| reason.code()).collect();
        assert_eq!(codes.len(), Reason::ALL.len());
        assert!(
            codes.iter().all(|code| code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'))
        );
    }

    #[test]
    fn a_reject_reads_as_field_sentence_detail() {
        let reject = Reject::field(Reason::ImplausibleTimestamp, "timestamp", "looks like seconds");
        assert_eq!(
            reject.to_string(),
            "timestamp: not a plausible time: send microseconds since 1970 as an integer, or ISO 8601 text with a UTC \
             offset, between 2000 and one day ahead (looks like seconds)"
        );
        assert_eq!(Reject::record(Reason::NotUtf8).to_string(), "the value is not UTF-8 text: send JSON in UTF-8");
    }
}
