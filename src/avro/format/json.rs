//! From JSON to a datum, in one pass and without a tree between: fields are written as they come, and put in the schema's order
//! where they came in another.

use std::fmt;

use jiff::{Timestamp, civil};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::datum;
use super::reject::{Reason, Reject};
use super::types::{Record, Type, TypeKind, Unit};
use crate::avro::timestamp;

/// Whole numbers up to here are exact as floating point.
const EXACT: f64 = 9_007_199_254_740_992.0;
/// serde_json's own limit of nesting.
const TOO_DEEP: &str = "recursion limit exceeded";

/// Memory that is kept from one payload to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    /// Where each field of the open records was written.
    spans: Vec<Option<(usize, usize)>>,
}

/// Appends a JSON document as a datum. Errors: why it is not one; `out` is then as long as before.
pub(super) fn write(of: &Type, json: &[u8], scratch: &mut Scratch, out: &mut Vec<u8>) -> Result<(), Reject> {
    let start = out.len();
    scratch.spans.clear();
    let mut writer = Writer { out, spans: &mut scratch.spans, reject: None };
    let mut document = serde_json::Deserializer::from_slice(json);
    let parsed = Value { of, writer: &mut writer }.deserialize(&mut document).and_then(|()| document.end());
    let reject = writer.reject.take();
    let Err(error) = parsed else { return Ok(()) };
    out.truncate(start);
    Err(reject.unwrap_or_else(|| {
        let is_too_deep = error.is_syntax() && error.to_string().starts_with(TOO_DEEP);
        Reject::record(if is_too_deep { Reason::TooDeep } else { Reason::NotJson })
    }))
}

struct Writer<'o> {
    out: &'o mut Vec<u8>,
    spans: &'o mut Vec<Option<(usize, usize)>>,
    /// Why reading was broken off.
    reject: Option<Reject>,
}

impl Writer<'_> {
    /// Breaks off.
    fn refuse<E: Error>(&mut self, reject: Reject) -> E {
        self.reject.get_or_insert(reject);
        E::custom("")
    }

    fn wrong<E: Error>(&mut self, of: &Type, found: &str) -> E {
        self.refuse(Reject::field(Reason::WrongType, &of.path, format!("expected {}, found {found}", of.kind.name())))
    }

    fn out_of_range<E: Error>(&mut self, of: &Type) -> E {
        self.refuse(Reject::field(Reason::OutOfRange, &of.path, of.kind.name()))
    }
}

/// A value of a type.
struct Value<'t, 'w, 'o> {
    of: &'t Type,
    writer: &'w mut Writer<'o>,
}

impl<'de> DeserializeSeed<'de> for Value<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.of.kind {
            // A number's own digits, since serde_json may round the last one wrong, and any value's text.
            TypeKind::Decimal { base64: false, .. } | TypeKind::Float | TypeKind::Double | TypeKind::Json => {
                let raw = <&RawValue>::deserialize(deserializer)?;
                self.raw(raw.get())
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Value<'_, '_, '_> {
    /// Before a value that is not null.
    fn branch(&mut self) {
        if self.of.nullable {
            datum::long(1, self.writer.out);
        }
    }

    fn raw<E: Error>(mut self, text: &str) -> Result<(), E> {
        match self.of.kind {
            _ if text == "null" => self.null(),
            TypeKind::Decimal { precision, scale, .. } => {
                let Some(number) = number_in(text) else { return Err(self.writer.wrong(self.of, "something else")) };
                let Some(bytes) = datum::decimal(number, precision, scale) else {
                    return Err(self.writer.out_of_range(self.of));
                };
                self.branch();
                datum::bytes(&bytes, self.writer.out);
                Ok(())
            }
            TypeKind::Float | TypeKind::Double => self.floating(text),
            _ => {
                self.branch();
                datum::bytes(text.as_bytes(), self.writer.out);
                Ok(())
            }
        }
    }

    fn floating<E: Error>(mut self, text: &str) -> Result<(), E> {
        // As JavaScript and PostgreSQL write what JSON has no numbers for.
        let special = matches!(text, "\"NaN\"" | "\"Infinity\"" | "\"-Infinity\"");
        let number = if special { text.trim_matches('"') } else { text };
        if !special && !text.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
            return Err(self.writer.wrong(self.of, "something else"));
        }
        let (single, double) = (number.parse::<f32>(), number.parse::<f64>());
        let (Ok(single), Ok(double)) = (single, double) else {
            return Err(self.writer.wrong(self.of, "something else"));
        };
        let is_single = self.of.kind == TypeKind::Float;
        if !special && (is_single && single.is_infinite() || double.is_infinite()) {
            return Err(self.writer.out_of_range(self.of));
        }
        self.branch();
        match is_single {
            true => self.writer.out.extend_from_slice(&single.to_le_bytes()),
            false => self.writer.out.extend_from_slice(&double.to_le_bytes()),
        }
        Ok(())
    }

    fn null<E: Error>(self) -> Result<(), E> {
        if self.of.nullable {
            datum::long(0, self.writer.out);
            return Ok(());
        }
        if self.of.path.is_empty() {
            return Err(self.writer.refuse(Reject::record(Reason::NullValue)));
        }
        Err(self.writer.wrong(self.of, "null"))
    }

    fn whole<E: Error>(mut self, value: i64) -> Result<(), E> {
        let bits = match self.of.kind {
            TypeKind::Int { bits } => bits,
            TypeKind::Date | TypeKind::TimeMillis => 32,
            TypeKind::Long | TypeKind::TimeMicros | TypeKind::Timestamp(_) | TypeKind::LocalTimestamp(_) => 64,
            _ => return Err(self.writer.wrong(self.of, "a number")),
        };
        if bits < 64 && !(-(1i64 << (bits - 1))..1i64 << (bits - 1)).contains(&value) {
            return Err(self.writer.out_of_range(self.of));
        }
        self.branch();
        datum::long(value, self.writer.out);
        Ok(())
    }

    fn fraction<E: Error>(self, value: f64) -> Result<(), E> {
        match self.of.kind {
            TypeKind::Int { .. }
            | TypeKind::Long
            | TypeKind::Date
            | TypeKind::Timestamp(_)
            | TypeKind::LocalTimestamp(_)
                if value.fract() == 0.0 =>
            {
                // 1.0 is a whole number, as JSON Schema has it too.
                if value.abs() <= EXACT { self.whole(value as i64) } else { Err(self.writer.out_of_range(self.of)) }
            }
            TypeKind::Int { .. } | TypeKind::Long => Err(self.writer.wrong(self.of, "a number with a fraction")),
            _ => Err(self.writer.wrong(self.of, "a number")),
        }
    }

    fn text<E: Error>(mut self, text: &str) -> Result<(), E> {
        let time = match &self.of.kind {
            TypeKind::String => {
                self.branch();
                datum::bytes(text.as_bytes(), self.writer.out);
                return Ok(());
            }
            TypeKind::Uuid => {
                if text.len() != 36 || uuid::Uuid::try_parse(text).is_err() {
                    return Err(self.writer.wrong(self.of, "text that is no UUID"));
                }
                self.branch();
                datum::bytes(text.as_bytes(), self.writer.out);
                return Ok(());
            }
            TypeKind::Bytes | TypeKind::Decimal { .. } => {
                let Some(bytes) = base64(text) else {
                    return Err(self.writer.wrong(self.of, "text that is no base64"));
                };
                self.branch();
                datum::bytes(&bytes, self.writer.out);
                return Ok(());
            }
            kind => time(kind, text),
        };
        match time {
            Ok(value) => self.whole(value),
            Err(found) => Err(self.writer.wrong(self.of, found)),
        }
    }

    fn record<'de, A: MapAccess<'de>>(self, record: &Record, mut entries: A) -> Result<(), A::Error> {
        let writer = self.writer;
        let (base, start) = (writer.spans.len(), writer.out.len());
        writer.spans.resize(base + record.fields.len(), None);
        // Fields mostly come in one order.
        let (mut expected, mut in_order) = (0, true);
        while let Some(found) = entries.next_key_seed(Name { record, expected })? {
            let Some(index) = found else {
                entries.next_value::<IgnoredAny>()?;
                continue;
            };
            let Some((_, of)) = record.fields.get(index) else { continue };
            if writer.spans.get(base + index).is_some_and(Option::is_some) {
                return Err(writer.refuse(Reject::field(Reason::DuplicateKey, &of.path, "")));
            }
            in_order &= index == expected;
            let begin = writer.out.len();
            entries.next_value_seed(Value { of, writer: &mut *writer })?;
            if let Some(span) = writer.spans.get_mut(base + index) {
                *span = Some((begin, writer.out.len()));
            }
            expected = index + 1;
        }
        if !in_order || expected != record.fields.len() {
            ordered(record, base, start, writer)?;
        }
        writer.spans.truncate(base);
        Ok(())
    }

    fn pairs<'de, A: SeqAccess<'de>>(self, values: &Type, mut pairs: A) -> Result<(), A::Error> {
        let (begin, mut count) = (datum::begin_items(self.writer.out), 0);
        while pairs.next_element_seed(Pair { values, of: self.of, writer: &mut *self.writer })?.is_some() {
            count += 1;
        }
        datum::end_items(begin, count, self.writer.out);
        Ok(())
    }
}

/// Writes the fields again behind what is there, in their order and with those that are missing, and moves that down.
fn ordered<E: Error>(record: &Record, base: usize, start: usize, writer: &mut Writer<'_>) -> Result<(), E> {
    let end = writer.out.len();
    for (index, (_, of)) in record.fields.iter().enumerate() {
        match (writer.spans.get(base + index).copied().flatten(), &of.default) {
            (Some((from, to)), _) => writer.out.extend_from_within(from..to),
            (None, Some(default)) => writer.out.extend_from_slice(default),
            (None, None) if of.nullable => datum::long(0, writer.out),
            (None, None) => return Err(writer.refuse(Reject::field(Reason::MissingField, &of.path, ""))),
        }
    }
    writer.out.drain(start..end);
    Ok(())
}

impl<'de> Visitor<'de> for Value<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.of.kind.name())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.null()
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<(), E> {
        if self.of.kind != TypeKind::Boolean {
            return Err(self.writer.wrong(self.of, "a boolean"));
        }
        self.branch();
        self.writer.out.push(u8::from(value));
        Ok(())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.whole(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        match i64::try_from(value) {
            Ok(value) => self.whole(value),
            Err(_) if matches!(self.of.kind, TypeKind::Int { .. } | TypeKind::Long) => {
                Err(self.writer.out_of_range(self.of))
            }
            Err(_) => Err(self.writer.wrong(self.of, "a number")),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        self.fraction(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<(), E> {
        self.text(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut items: A) -> Result<(), A::Error> {
        match &self.of.kind {
            TypeKind::Array(of) => {
                self.branch();
                let (begin, mut count) = (datum::begin_items(self.writer.out), 0);
                while items.next_element_seed(Value { of, writer: &mut *self.writer })?.is_some() {
                    count += 1;
                }
                datum::end_items(begin, count, self.writer.out);
                Ok(())
            }
            // Kafka Connect's form of maps whose keys may be no text.
            TypeKind::Map(of) => {
                self.branch();
                self.pairs(of, items)
            }
            _ => Err(self.writer.wrong(self.of, "an array")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut entries: A) -> Result<(), A::Error> {
        match &self.of.kind {
            TypeKind::Record(record) => {
                self.branch();
                self.record(record, entries)
            }
            TypeKind::Map(of) => {
                self.branch();
                let (begin, mut count) = (datum::begin_items(self.writer.out), 0);
                while entries.next_key_seed(MapKey { out: &mut *self.writer.out })?.is_some() {
                    entries.next_value_seed(Value { of, writer: &mut *self.writer })?;
                    count += 1;
                }
                datum::end_items(begin, count, self.writer.out);
                Ok(())
            }
            _ => Err(self.writer.wrong(self.of, "an object")),
        }
    }
}

/// The name of a record's field: which one it is, if any.
struct Name<'r> {
    record: &'r Record,
    expected: usize,
}

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Option<usize>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Option<usize>, E> {
        let expected = self.record.fields.get(self.expected).filter(|(known, _)| known == name);
        Ok(expected.map(|_| self.expected).or_else(|| self.record.by_name.get(name).copied()))
    }
}

/// The key of a map's entry.
struct MapKey<'o> {
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for MapKey<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MapKey<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<(), E> {
        datum::bytes(key.as_bytes(), self.out);
        Ok(())
    }
}

/// A map's entry as an array of key and value.
struct Pair<'t, 'w, 'o> {
    values: &'t Type,
    of: &'t Type,
    writer: &'w mut Writer<'o>,
}

impl<'de> DeserializeSeed<'de> for Pair<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Pair<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key and a value")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut pair: A) -> Result<(), A::Error> {
        let Self { values, of, writer } = self;
        // As text, whatever it was, as JSON itself writes keys.
        let Some(key) = pair.next_element::<&RawValue>()? else {
            return Err(writer.wrong(of, "an entry without a key"));
        };
        match key.get() {
            text if text.starts_with('"') => {
                let text: String = serde_json::from_str(text).map_err(A::Error::custom)?;
                datum::bytes(text.as_bytes(), writer.out);
            }
            other => datum::bytes(other.as_bytes(), writer.out),
        }
        match pair.next_element_seed(Value { of: values, writer: &mut *writer })? {
            Some(()) if pair.next_element::<IgnoredAny>()?.is_none() => Ok(()),
            _ => Err(writer.wrong(of, "an entry that is no pair")),
        }
    }
}

/// A number, or the number in a text: its digits need no escapes.
fn number_in(json: &str) -> Option<&str> {
    let number = json.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(json);
    number.starts_with(|c: char| c == '-' || c == '+' || c == '.' || c.is_ascii_digit()).then_some(number)
}

/// A time's text as the number of its type. Errors: what it is instead.
fn time(kind: &TypeKind, text: &str) -> Result<i64, &'static str> {
    match kind {
        TypeKind::Timestamp(unit) => {
            let micros = timestamp::parse(text)?;
            match unit {
                Unit::Millis => Ok(micros.div_euclid(1_000)),
                Unit::Micros => Ok(micros),
                Unit::Nanos => {
                    let time = text.parse::<Timestamp>().map_err(|_| "text that is not ISO 8601")?;
                    i64::try_from(time.as_nanosecond()).map_err(|_| "a time that nanoseconds cannot hold")
                }
            }
        }
        TypeKind::LocalTimestamp(unit) => {
            let time: civil::DateTime = text.parse().map_err(|_| "text that is not ISO 8601")?;
            let since = time.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| "a time beyond the calendar")?.timestamp();
            let nanos = since.as_nanosecond();
            i64::try_from(nanos.div_euclid(i128::from(1_000_000_000 / unit.per_second())))
                .map_err(|_| "a time that nanoseconds cannot hold")
        }
        TypeKind::Date => {
            let date: civil::Date = text.parse().map_err(|_| "text that is no ISO 8601 date")?;
            let epoch = civil::Date::constant(1970, 1, 1);
            date.since(epoch).map(|span| i64::from(span.get_days())).map_err(|_| "a date beyond the calendar")
        }
        TypeKind::TimeMillis | TypeKind::TimeMicros => {
            let time: civil::Time = text.parse().map_err(|_| "text that is no ISO 8601 time of day")?;
            let nanos = time.duration_since(civil::Time::midnight()).as_nanos();
            let per = if *kind == TypeKind::TimeMillis { 1_000_000 } else { 1_000 };
            i64::try_from(nanos / per).map_err(|_| "a time beyond the day")
        }
        _ => Err("text"),
    }
}

/// Base64 with the alphabet of RFC 4648, section 4; the padding may be missing.
fn base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    if text.len() % 4 == 1 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut bits, mut count) = (0u32, 0);
    for symbol in text.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        (bits, count) = (bits << 6 | u32::from(value), count + 6);
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    // What is left over must be nothing.
    (bits & ((1 << count) - 1) == 0).then_some(bytes)
}

/// A value as the datum of its type: a default of a schema. Errors: it does not fit.
pub(super) fn datum_of(of: &Type, json: &serde_json::Value) -> Result<Vec<u8>, Reject> {
    let mut out = Vec::new();
    let text = serde_json::to_vec(json).map_err(|_| Reject::field(Reason::WrongType, &of.path, "default"))?;
    write(of, &text, &mut Scratch::default(), &mut out)?;
    Ok(out)
}
