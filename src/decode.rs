//! From the bytes of an ingress record to a validated [`Press`].
//!
//! serde_json does the parsing; a visitor of our own picks the five known fields out of the stream, borrowed from the
//! payload, so that an ordinary record (no escapes in its texts) is decoded without allocation. Nothing of what is
//! skipped is kept, and no error holds a value.
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

use std::{borrow::Cow, cell::Cell, fmt, sync::Arc};

use serde::de::{DeserializeSeed, Deserializer as _, Error as _, MapAccess, SeqAccess, Visitor};

use crate::{
    dead_letter::{Reason, Reject},
    event::{Action, Actions, ClientIp, Press, PressBody, SessionId},
    timestamp,
};

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
}

impl Decoder {
    /// A decoder with these limits (`max_depth` is brought into 1 to [`MAX_DEPTH`]) and this allow list of actions.
    pub fn new(limits: Limits, actions: Arc<Actions>) -> Self {
        let max_depth = limits.max_depth.clamp(1, MAX_DEPTH);
        Self { limits: Limits { max_depth, ..limits }, actions }
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
        let fields = self.parse(text)?;
        if let Some(field) = fields.duplicate() {
            return Err(Reject::field(Reason::DuplicateKey, field, ""));
        }
        let [session_id, timestamp, action, cohort, ip] = fields.values;
        Ok(Press {
            body: PressBody {
                session_id: session_id_of(session_id)?,
                timestamp_us: timestamp_of(timestamp, now_us)?,
                action: self.action_of(action)?,
                cohort: cohort_of(cohort)?,
            },
            ip: ip_of(ip)?,
            unknown_fields: fields.unknown,
        })
    }

    fn parse<'a>(&self, text: &'a str) -> Result<Fields<'a>, Reject> {
        let too_deep = Cell::new(false);
        let mut json = serde_json::Deserializer::from_str(text);
        let level = Level { left: self.limits.max_depth, too_deep: &too_deep };
        let document = json.deserialize_any(Document(level)).and_then(|document| json.end().map(|()| document));
        match document {
            Ok(Ok(fields)) => Ok(fields),
            Ok(Err(detail)) => Err(Reject::field(Reason::WrongType, "", detail)),
            Err(_) if too_deep.get() => Err(Reject::record(Reason::TooDeep)),
            Err(_) => Err(Reject::record(Reason::NotJson)),
        }
    }

    fn action_of(&self, raw: Raw<'_>) -> Result<Action, Reject> {
        let name = required_text(raw, ACTION)?;
        self.actions.index_of(&name).ok_or(Reject::field(Reason::UnknownAction, ACTION, ""))
    }
}

const SESSION_ID: &str = "session_id";
const TIMESTAMP: &str = "timestamp";
const ACTION: &str = "action";
const COHORT: &str = "cohort";
const IP: &str = "ip";
/// The known fields, in the order in which they are tested.
const KNOWN: [&str; 5] = [SESSION_ID, TIMESTAMP, ACTION, COHORT, IP];

/// What was found where something else was expected, as text that is known at compile time.
macro_rules! found_instead_of {
    ($expected:literal, $raw:expr) => {
        match $raw {
            Raw::Absent => concat!("nothing where ", $expected, " was expected"),
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

fn required_text<'a>(raw: Raw<'a>, field: &'static str) -> Result<Cow<'a, str>, Reject> {
    match raw {
        Raw::Text(text) => Ok(text),
        Raw::Absent => Err(Reject::field(Reason::MissingField, field, "")),
        other => Err(Reject::field(Reason::WrongType, field, found_instead_of!("text", other))),
    }
}

fn session_id_of(raw: Raw<'_>) -> Result<SessionId, Reject> {
    let text = required_text(raw, SESSION_ID)?;
    SessionId::parse(&text).ok_or(Reject::field(Reason::BadUuid, SESSION_ID, ""))
}

fn timestamp_of(raw: Raw<'_>, now_us: i64) -> Result<i64, Reject> {
    let implausible = |detail| Reject::field(Reason::ImplausibleTimestamp, TIMESTAMP, detail);
    match raw {
        Raw::Integer(us) => timestamp::plausible(us, now_us).map_err(implausible),
        Raw::Text(text) => timestamp::parse_plausible(&text, now_us).map_err(implausible),
        Raw::Absent => Err(Reject::field(Reason::MissingField, TIMESTAMP, "")),
        other => {
            let detail = found_instead_of!("a whole number or ISO 8601 text", other);
            Err(Reject::field(Reason::WrongType, TIMESTAMP, detail))
        }
    }
}

fn cohort_of(raw: Raw<'_>) -> Result<Option<i16>, Reject> {
    match raw {
        Raw::Absent | Raw::Null => Ok(None),
        Raw::Integer(number) => i16::try_from(number)
            .map(Some)
            .map_err(|_| Reject::field(Reason::WrongType, COHORT, "number outside of -32768 to 32767")),
        other => {
            Err(Reject::field(Reason::WrongType, COHORT, found_instead_of!("a small whole number or null", other)))
        }
    }
}

fn ip_of(raw: Raw<'_>) -> Result<Option<ClientIp>, Reject> {
    match raw {
        Raw::Absent | Raw::Null => Ok(None),
        Raw::Text(text) => ClientIp::parse(&text).map(Some).ok_or(Reject::field(Reason::BadIp, IP, "")),
        other => Err(Reject::field(Reason::WrongType, IP, found_instead_of!("text or null", other))),
    }
}

/// The value of a known field, as far as anyone asks. No `Debug`: one of them is the address.
enum Raw<'a> {
    Absent,
    Null,
    Boolean,
    /// A whole number of 64 bits, with sign.
    Integer(i64),
    /// Every other number.
    Number,
    /// Borrowed unless there are escapes in it.
    Text(Cow<'a, str>),
    Array,
    Object,
}

/// What the document says of the known fields.
struct Fields<'a> {
    /// In the order of [`KNOWN`].
    values: [Raw<'a>; KNOWN.len()],
    /// Which of [`KNOWN`] are there more than once.
    twice: [bool; KNOWN.len()],
    unknown: u32,
}

impl Fields<'_> {
    fn duplicate(&self) -> Option<&'static str> {
        self.twice.iter().zip(KNOWN).find_map(|(twice, field)| twice.then_some(field))
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

/// The visitor of the whole document: the fields, or what was found instead of an object.
struct Document<'w>(Level<'w>);

/// Visits of everything that is neither array nor object, given what becomes of each.
macro_rules! visit_scalars {
    ($null:expr, $boolean:expr, |$integer:ident| $from_integer:expr, $number:expr) => {
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("JSON")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($null)
        }

        fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
            Ok($boolean)
        }

        fn visit_i64<E>(self, $integer: i64) -> Result<Self::Value, E> {
            Ok($from_integer)
        }

        fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
            match i64::try_from(number) {
                Ok($integer) => Ok($from_integer),
                Err(_) => Ok($number),
            }
        }

        fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
            Ok($number)
        }
    };
}

impl<'de> Visitor<'de> for Document<'_> {
    type Value = Result<Fields<'de>, &'static str>;

    visit_scalars!(
        Err("null where an object was expected"),
        Err("true or false where an object was expected"),
        |_number| Err("number where an object was expected"),
        Err("number where an object was expected")
    );

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(Err("text where an object was expected"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        self.0.skip_array(items)?;
        Ok(Err("array where an object was expected"))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let inner = self.0.enter()?;
        let mut fields =
            Fields { values: [const { Raw::Absent }; KNOWN.len()], twice: [false; KNOWN.len()], unknown: 0 };
        while let Some(key) = entries.next_key_seed(Key)? {
            let Some(known) = key else {
                entries.next_value_seed(Skip(inner))?;
                fields.unknown = fields.unknown.saturating_add(1);
                continue;
            };
            let value = entries.next_value_seed(Keep(inner))?;
            let (Some(slot), Some(twice)) = (fields.values.get_mut(known), fields.twice.get_mut(known)) else {
                return Err(A::Error::custom("no such field"));
            };
            *twice |= !matches!(slot, Raw::Absent);
            *slot = value;
        }
        Ok(Ok(fields))
    }
}

/// Reads a key: its place in [`KNOWN`], or `None` for any other.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Option<usize>;

    fn deserialize<D: serde::Deserializer<'de>>(self, key: D) -> Result<Self::Value, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Key {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(KNOWN.iter().position(|known| *known == key))
    }
}

/// Keeps a scalar, reads past an array or object.
struct Keep<'w>(Level<'w>);

impl<'de> DeserializeSeed<'de> for Keep<'_> {
    type Value = Raw<'de>;

    fn deserialize<D: serde::Deserializer<'de>>(self, value: D) -> Result<Self::Value, D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keep<'_> {
    type Value = Raw<'de>;

    visit_scalars!(Raw::Null, Raw::Boolean, |number| Raw::Integer(number), Raw::Number);

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Raw::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Raw::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<Self::Value, A::Error> {
        self.0.skip_array(items)?;
        Ok(Raw::Array)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Self::Value, A::Error> {
        self.0.skip_object(entries)?;
        Ok(Raw::Object)
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

    visit_scalars!((), (), |_number| (), ());

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, items: A) -> Result<(), A::Error> {
        self.0.skip_array(items)
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<(), A::Error> {
        self.0.skip_object(entries)
    }
}

#[cfg(test)]
mod tests;
