//! From the bytes of an ingress record to a validated [`Press`].
//!
//! serde_json does the parsing; a visitor of our own picks the five known fields out of the stream and turns each into what
//! is written while its text is still the payload's, so that an ordinary record (no escapes in its texts) is decoded
//! without allocation. Nothing of what is skipped is kept, and no error holds a value.
//!
//! A record is tested in this order, and the first thing that is wrong is the one reason it is refused for:
//!
//! 1. size, null, UTF-8;
//! 2. JSON, from left to right: whatever is not well-formed ([`Reason::NotJson`]) or nests too deep
//!    ([`Reason::TooDeep`]), whichever comes first, in unknown fields too;
//! 3. the document is an object; no known field is there twice;
//! 4. the fields `session_id`, `timestamp`, `action`, `cohort`, `ip`, in that order wherever they stand, each: missing,
//!    JSON type, value.
//!
//! Unknown fields are dropped and counted; where one is there twice, it counts twice.

use std::{cell::Cell, fmt, sync::Arc};

mod lenient;

use serde::de::{DeserializeSeed, Deserializer as _, MapAccess, SeqAccess, Visitor};

use crate::avro::timestamp;
use crate::config::BadIp;
use crate::kafka::dead_letter::{Reason, Reject};
use crate::pipeline::press::event::{Action, Actions, ClientIp, Press, PressBody, SessionId};

/// Deepest nesting that can be configured: serde_json itself stops at 127.
pub const MAX_DEPTH: usize = 100;

/// What a record may cost us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest value, in bytes.
    pub max_record_bytes: usize,
    /// Deepest nesting of arrays and objects, at most [`MAX_DEPTH`]; the record itself is the first level.
    pub max_depth: usize,
}

impl Default for Limits {
    /// 1 MB, Kafka's own default of `message.max.bytes`, and 32 levels.
    fn default() -> Self {
        Self { max_record_bytes: 1_000_000, max_depth: 32 }
    }
}

/// Decodes and validates ingress records; shared by workers.
#[derive(Clone, Debug)]
pub struct Decoder {
    limits: Limits,
    actions: Arc<Actions>,
    bad_ip: BadIp,
}

impl Decoder {
    /// A decoder with these limits (`max_depth` is brought into 1 to [`MAX_DEPTH`]) and this allow list of actions.
    pub fn new(limits: Limits, actions: Arc<Actions>) -> Self {
        let max_depth = limits.max_depth.clamp(1, MAX_DEPTH);
        Self { limits: Limits { max_depth, ..limits }, actions, bad_ip: BadIp::default() }
    }

    /// The same, with what becomes of an event whose `ip` is no address.
    pub fn with_bad_ip(self, bad_ip: BadIp) -> Self {
        Self { bad_ip, ..self }
    }

    /// Decodes one record's value; `now_us` is our clock, in microseconds since 1970, for the test of plausibility.
    ///
    /// # Errors
    /// The first reason that applies, in the order of the module's documentation, with the field it is about.
    pub fn decode(&self, payload: Option<&[u8]>, now_us: i64) -> Result<Press, Reject> {
        let Some(payload) = payload else { return Err(Reject::record(Reason::NullValue)) };
        if payload.len() > self.limits.max_record_bytes {
            return Err(Reject::record(Reason::TooLarge));
        }
        let text = std::str::from_utf8(payload).map_err(|_| Reject::record(Reason::NotUtf8))?;
        let mut fields = Fields::absent(&self.actions, now_us);
        self.parse(text, &mut fields)?;
        if let Some(field) = fields.duplicate() {
            return Err(Reject::field(Reason::DuplicateKey, field, ""));
        }
        Ok(Press {
            body: PressBody {
                session_id: fields.session_id?,
                timestamp_us: fields.timestamp_us?,
                action: fields.action?,
                cohort: fields.cohort?,
            },
            ip: match fields.ip {
                Err(reject) if reject.reason == Reason::BadIp && self.bad_ip == BadIp::UnknownPlace => None,
                ip => ip?,
            },
            unknown_fields: fields.unknown,
        })
    }

    fn parse(&self, text: &str, fields: &mut Fields<'_>) -> Result<(), Reject> {
        match self.parse_strictly(text, fields) {
            // What the parser refuses may be JSON all the same, such as half an emoji in a text that was cut.
            Err(reject) if reject.reason == Reason::NotJson => match lenient::readable(text) {
                Some(text) => {
                    *fields = Fields::absent(fields.actions, fields.now_us);
                    self.parse_strictly(&text, fields)
                }
                None => Err(reject),
            },
            parsed => parsed,
        }
    }

    fn parse_strictly(&self, text: &str, fields: &mut Fields<'_>) -> Result<(), Reject> {
        let too_deep = Cell::new(false);
        let mut json = serde_json::Deserializer::from_str(text);
        let level = Level { left: self.limits.max_depth, too_deep: &too_deep };
        let document = json.deserialize_any(Document { level, fields });
        match document.and_then(|document| json.end().map(|()| document)) {
            Ok(document) => document.map_err(|detail| Reject::field(Reason::WrongType, "", detail)),
            Err(_) if too_deep.get() => Err(Reject::record(Reason::TooDeep)),
            Err(_) => Err(Reject::record(Reason::NotJson)),
        }
    }
}

const SESSION_ID: &str = "session_id";
const TIMESTAMP: &str = "timestamp";
const ACTION: &str = "action";
const COHORT: &str = "cohort";
const IP: &str = "ip";
/// The known fields, in the order in which they are tested.
const KNOWN: [&str; 5] = [SESSION_ID, TIMESTAMP, ACTION, COHORT, IP];

/// Which of [`KNOWN`].
#[derive(Clone, Copy)]
enum Known {
    SessionId,
    Timestamp,
    Action,
    Cohort,
    Ip,
}

/// The value of a known field, as far as anyone asks. No `Debug`: one of them is the address.
enum Raw<'t> {
    Null,
    Boolean,
    /// A whole number of 64 bits, with sign.
    Integer(i64),
    /// Every other number.
    Number,
    Text(&'t str),
    Array,
    Object,
}

/// What was found where something else was expected, as text that is known at compile time.
macro_rules! found_instead_of {
    ($expected:literal, $raw:expr) => {
        match $raw {
            Raw::Null => concat!("null where ", $expected, " was expected"),
            Raw::Boolean => concat!("true or false where ", $expected, " was expected"),
            Raw::Integer(_) => concat!("number where ", $expected, " was expected"),
            Raw::Number => concat!("number with fraction, exponent or over 64 bits where ", $expected, " was expected"),
            Raw::Text(_) => concat!("text where ", $expected, " was expected"),
            Raw::Array => concat!("array where ", $expected, " was expected"),
            Raw::Object => concat!("object where ", $expected, " was expected"),
        }
    };
}

/// What the document says of the known fields. Each is tested when it is read, so that no text is kept; of what is wrong
/// with them nothing is reported before the document is read to its end.
struct Fields<'d> {
    actions: &'d Actions,
    now_us: i64,
    session_id: Result<SessionId, Reject>,
    timestamp_us: Result<i64, Reject>,
    action: Result<Action, Reject>,
    cohort: Result<Option<i16>, Reject>,
    ip: Result<Option<ClientIp>, Reject>,
    /// Bits: which of [`KNOWN`] are there, and which more than once.
    seen: u8,
    twice: u8,
    unknown: u32,
}

impl<'d> Fields<'d> {
    /// The fields of an empty object.
    fn absent(actions: &'d Actions, now_us: i64) -> Self {
        Self {
            actions,
            now_us,
            session_id: Err(Reject::field(Reason::MissingField, SESSION_ID, "")),
            timestamp_us: Err(Reject::field(Reason::MissingField, TIMESTAMP, "")),
            action: Err(Reject::field(Reason::MissingField, ACTION, "")),
            cohort: Ok(None),
            ip: Ok(None),
            seen: 0,
            twice: 0,
            unknown: 0,
        }
    }

    fn duplicate(&self) -> Option<&'static str> {
        KNOWN.get(self.twice.trailing_zeros() as usize).copied()
    }

    fn put(&mut self, known: Known, raw: &Raw<'_>) {
        let bit = 1 << known as u8;
        self.twice |= self.seen & bit;
        self.seen |= bit;
        match known {
            Known::SessionId => self.session_id = session_id_of(raw),
            Known::Timestamp => self.timestamp_us = timestamp_of(raw, self.now_us),
            Known::Action => self.action = action_of(raw, self.actions),
            Known::Cohort => self.cohort = cohort_of(raw),
            Known::Ip => self.ip = ip_of(raw),
        }
    }
}

fn required_text<'t>(raw: &Raw<'t>, field: &'static str) -> Result<&'t str, Reject> {
    match raw {
        Raw::Text(text) => Ok(text),
        other => Err(Reject::field(Reason::WrongType, field, found_instead_of!("text", other))),
    }
}

fn session_id_of(raw: &Raw<'_>) -> Result<SessionId, Reject> {
    let text = required_text(raw, SESSION_ID)?;
    SessionId::parse(text).ok_or(Reject::field(Reason::BadUuid, SESSION_ID, ""))
}

fn timestamp_of(raw: &Raw<'_>, now_us: i64) -> Result<i64, Reject> {
    let implausible = |detail| Reject::field(Reason::ImplausibleTimestamp, TIMESTAMP, detail);
    match raw {
        Raw::Integer(us) => timestamp::plausible(*us, now_us).map_err(implausible),
        Raw::Text(text) => timestamp::parse_plausible(text, now_us).map_err(implausible),
        other => {
            let detail = found_instead_of!("a whole number or ISO 8601 text", other);
            Err(Reject::field(Reason::WrongType, TIMESTAMP, detail))
        }
    }
}

fn action_of(raw: &Raw<'_>, actions: &Actions) -> Result<Action, Reject> {
    let name = required_text(raw, ACTION)?;
    actions.index_of(name).ok_or(Reject::field(Reason::UnknownAction, ACTION, ""))
}

fn cohort_of(raw: &Raw<'_>) -> Result<Option<i16>, Reject> {
    match raw {
        Raw::Null => Ok(None),
        Raw::Integer(number) => i16::try_from(*number)
            .map(Some)
            .map_err(|_| Reject::field(Reason::WrongType, COHORT, "number outside of -32768 to 32767")),
        other => {
            Err(Reject::field(Reason::WrongType, COHORT, found_instead_of!("a small whole number or null", other)))
        }
    }
}

fn ip_of(raw: &Raw<'_>) -> Result<Option<ClientIp>, Reject> {
    match raw {
        Raw::Null => Ok(None),
        Raw::Text(text) => ClientIp::parse(text).map(Some).ok_or(Reject::field(Reason::BadIp, IP, "")),
        other => Err(Reject::field(Reason::WrongType, IP, found_instead_of!("text or null", other))),
    }
}

/// How many levels of nesting are left, and where to note that they were not enough: the parser's error cannot say.
#[derive(Clone, Copy)]
struct Level<'w> {
    left: usize,
    too_deep: &'w Cell<bool>,
}

impl<'w> Level<'w> {
    fn enter<E: serde::de::Error>(self) -> Result<Self, E> {
        match self.left.checked_sub(1) {
            Some(left) => Ok(Self { left, ..self }),
            None => {
                self.too_deep.set(true);
                Err(E::custom("too deep"))
            }
        }
    }

    fn skip_array<'de, A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.enter()?;
        while items.next_element_seed(Skip(inner))?.is_some() {}
        Ok(())
    }

    fn skip_object<'de, A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let inner = self.enter()?;
        while entries.next_key_seed(Key)?.is_some() {
            entries.next_value_seed(Skip(inner))?;
        }
        Ok(())
    }
}

/// Visits of everything that is neither array nor object, given what becomes of it.
macro_rules! visit_scalars {
    (|$visitor:ident, $raw:ident| $outcome:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            let ($visitor, $raw) = (self, Raw::Null);
            Ok($outcome)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            let ($visitor, $raw) = (self, Raw::Boolean);
            Ok($outcome)
        }

        fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
            let ($visitor, $raw) = (self, Raw::Integer(number));
            Ok($outcome)
        }

        fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
            let ($visitor, $raw) = (self, i64::try_from(number).map_or(Raw::Number, Raw::Integer));
            Ok($outcome)
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            let ($visitor, $raw) = (self, Raw::Number);
            Ok($outcome)
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            let ($visitor, $raw) = (self, Raw::Text(text));
            Ok($outcome)
        }
    };
}

/// The visitor of the whole document: fills the fields, or tells what was found instead of an object.
struct Document<'f, 'd> {
    level: Level<'f>,
    fields: &'f mut Fields<'d>,
}

impl<'de> Visitor<'de> for Document<'_, '_> {
    type Value = Result<(), &'static str>;

    visit_scalars!(|_document, raw| Err(match raw {
        Raw::Number => "number where an object was expected",
        other => found_instead_of!("an object", other),
    }));

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        self.level.skip_array(items)?;
        Ok(Err(found_instead_of!("an object", Raw::Array)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let level = self.level.enter()?;
        let fields = self.fields;
        while let Some(key) = entries.next_key_seed(Key)? {
            match key {
                Some(known) => entries.next_value_seed(Keep { level, known, fields })?,
                None => {
                    entries.next_value_seed(Skip(level))?;
                    fields.unknown = fields.unknown.saturating_add(1);
                }
            }
        }
        Ok(Ok(()))
    }
}

/// Reads a key; `None` for one that is not known.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<Known>;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<Known>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        // A match, since the compiler turns it into one look at the length and one comparison.
        Ok(match key {
            SESSION_ID => Some(Known::SessionId),
            TIMESTAMP => Some(Known::Timestamp),
            ACTION => Some(Known::Action),
            COHORT => Some(Known::Cohort),
            IP => Some(Known::Ip),
            _ => None,
        })
    }
}

/// Reads the value of a known field; past it, where it is an array or object.
struct Keep<'f, 'd> {
    level: Level<'f>,
    known: Known,
    fields: &'f mut Fields<'d>,
}

impl<'de> DeserializeSeed<'de> for Keep<'_, '_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keep<'_, '_> {
    type Value = ();

    visit_scalars!(|keep, raw| keep.fields.put(keep.known, &raw));

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.level.skip_array(items)?;
        self.fields.put(self.known, &Raw::Array);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<(), A::Error> {
        self.level.skip_object(entries)?;
        self.fields.put(self.known, &Raw::Object);
        Ok(())
    }
}

/// Reads past a value, counting levels: serde's own `IgnoredAny` nests without limit.
struct Skip<'w>(Level<'w>);

impl<'de> DeserializeSeed<'de> for Skip<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Skip<'_> {
    type Value = ();

    visit_scalars!(|_skip, _raw| ());

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.0.skip_array(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<(), A::Error> {
        self.0.skip_object(entries)
    }
}

#[cfg(test)]
mod tests;
