//! Values in the form of binary COPY: a length of four bytes, then the bytes that the type's receive function reads
//! (<https://www.postgresql.org/docs/current/sql-copy.html>, "Binary Format"), straight from the datum's bytes.

use serde::de::IgnoredAny;
use uuid::Uuid;

use super::numeric;
use crate::avro::{Cursor, DatumError, Shape, write_json};
use crate::sink::Why;

/// Days from 1970 to 2000, where PostgreSQL counts from.
const EPOCH_DAYS: i32 = 10_957;
/// The same in microseconds.
const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * DAY;
/// A day in microseconds.
const DAY: i64 = 86_400_000_000;
/// Dates that PostgreSQL holds, from 4713 BC on, in days from 2000 (src/include/datatype/timestamp.h).
const DATES: std::ops::Range<i32> = -2_451_545..2_145_031_949;
/// Timestamps that PostgreSQL holds, in microseconds from 2000.
const TIMESTAMPS: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// How many bits the Avro integer has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bits {
    Int,
    Long,
}

/// Unit of an Avro time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    /// Cut down to microseconds.
    Nanos,
}

/// Where null stands in the field's union.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Null {
    Never,
    First,
    Last,
}

/// A value that may be null.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub null: Null,
    /// Whether the column takes it.
    pub takes_null: bool,
    /// What is written in its place, with its length.
    pub instead: Option<std::sync::Arc<[u8]>>,
    pub write: Write,
}

/// From one Avro type to one type of PostgreSQL.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Boolean,
    Int2(Bits),
    Int4(Bits),
    Int8(Bits),
    Float4,
    Float8,
    FloatToFloat8,
    DoubleToFloat4,
    IntegerToFloat4(Bits),
    IntegerToFloat8(Bits),
    IntegerToNumeric {
        bits: Bits,
        integer_digits: Option<usize>,
    },
    Decimal {
        fixed: Option<usize>,
        scale: usize,
        precision: usize,
        integer_digits: Option<usize>,
    },
    /// With the most characters that the column holds.
    Text(Option<usize>),
    /// An Avro enum's symbols, ready-made with their lengths.
    Symbol(Vec<Vec<u8>>),
    /// The labels of PostgreSQL's enum, sorted.
    Label(std::sync::Arc<[String]>),
    UuidFromText,
    UuidFixed,
    UuidFromBytes,
    TextFromUuid {
        fixed: bool,
    },
    Bytes,
    Fixed(usize),
    Date,
    Time(Unit),
    Timestamp(Unit),
    JsonText {
        binary: bool,
    },
    Json {
        shape: Box<Shape>,
        binary: bool,
    },
    Array {
        oid: u32,
        item: Box<Slot>,
    },
    /// By the branch; none for null, which is [`Why::Null`].
    Union(Vec<Option<Write>>),
}

impl Slot {
    /// Appends the value at the cursor, length first. Errors: the value cannot be held.
    #[inline]
    pub fn write(&self, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Why> {
        let there = match self.null {
            Null::Never => true,
            Null::First => cursor.is_some(true)?,
            Null::Last => cursor.is_some(false)?,
        };
        match if there { self.write.write(cursor, out) } else { Err(Why::Null) } {
            Err(Why::Null) => self.write_null(out),
            written => written,
        }
    }

    fn write_null(&self, out: &mut Vec<u8>) -> Result<(), Why> {
        if let Some(default) = &self.instead {
            out.extend_from_slice(default);
        } else if self.takes_null {
            out.extend_from_slice(&(-1i32).to_be_bytes());
        } else {
            return Err(Why::Null);
        }
        Ok(())
    }
}

impl Write {
    #[inline]
    fn write(&self, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Why> {
        match self {
            Self::Boolean => sized(&[u8::from(cursor.boolean()?)], out),
            Self::Int2(bits) => sized(&narrow::<i16>(integer(*bits, cursor)?)?.to_be_bytes(), out),
            Self::Int4(bits) => sized(&narrow::<i32>(integer(*bits, cursor)?)?.to_be_bytes(), out),
            Self::Int8(bits) => sized(&integer(*bits, cursor)?.to_be_bytes(), out),
            Self::Float4 => sized(&cursor.float()?.to_be_bytes(), out),
            Self::Float8 => sized(&cursor.double()?.to_be_bytes(), out),
            Self::FloatToFloat8 => sized(&f64::from(cursor.float()?).to_be_bytes(), out),
            Self::DoubleToFloat4 => sized(&shorten(cursor.double()?)?.to_be_bytes(), out),
            Self::IntegerToFloat4(bits) => sized(&(integer(*bits, cursor)? as f32).to_be_bytes(), out),
            Self::IntegerToFloat8(bits) => sized(&(integer(*bits, cursor)? as f64).to_be_bytes(), out),
            Self::Text(most) => sized(text(cursor, *most)?, out),
            Self::UuidFromText => {
                let uuid = Uuid::try_parse_ascii(cursor.bytes()?).map_err(|_| Why::NotUuid)?;
                sized(uuid.as_bytes(), out);
            }
            Self::Timestamp(unit) => sized(&timestamp(*unit, cursor.long()?)?.to_be_bytes(), out),
            Self::Symbol(symbols) => {
                let symbol = symbols.get(cursor.index(symbols.len())?).ok_or(DatumError::NoSuchBranch)?;
                out.extend_from_slice(symbol);
            }
            Self::Label(labels) => {
                let label = cursor.text()?;
                labels.binary_search_by(|known| known.as_str().cmp(label)).map_err(|_| Why::UnknownLabel)?;
                sized(label.as_bytes(), out);
            }
            other => other.write_rarer(cursor, out)?,
        }
        Ok(())
    }

    fn write_rarer(&self, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Why> {
        match self {
            Self::UuidFixed => sized(&cursor.array::<16>()?, out),
            Self::UuidFromBytes => match cursor.bytes()? {
                bytes if bytes.len() == 16 => sized(bytes, out),
                _ => return Err(Why::NotUuid),
            },
            Self::TextFromUuid { fixed } => {
                let bytes = if *fixed { cursor.take(16)? } else { cursor.bytes()? };
                let uuid = Uuid::from_slice(bytes).map_err(|_| Why::NotUuid)?;
                sized(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes(), out);
            }
            Self::Bytes => sized(cursor.bytes()?, out),
            Self::Fixed(size) => sized(cursor.take(*size)?, out),
            Self::Date => {
                let days = cursor.int()?.checked_sub(EPOCH_DAYS).filter(|days| DATES.contains(days));
                sized(&days.ok_or(Why::OutOfRange)?.to_be_bytes(), out);
            }
            Self::Time(unit) => {
                let micros = match unit {
                    Unit::Millis => i64::from(cursor.int()?) * 1_000,
                    _ => cursor.long()?,
                };
                // PostgreSQL holds 24:00:00 too.
                if !(0..=DAY).contains(&micros) {
                    return Err(Why::OutOfRange);
                }
                sized(&micros.to_be_bytes(), out);
            }
            Self::IntegerToNumeric { bits, integer_digits } => {
                numeric::whole(i128::from(integer(*bits, cursor)?), 0, usize::MAX, *integer_digits, out)?;
            }
            Self::Decimal { fixed, scale, precision, integer_digits } => {
                let unscaled = match fixed {
                    Some(size) => cursor.take(*size)?,
                    None => cursor.bytes()?,
                };
                numeric::decimal(unscaled, *scale, *precision, *integer_digits, out)?;
            }
            Self::JsonText { binary } => {
                let text = cursor.text()?;
                serde_json::from_str::<IgnoredAny>(text).map_err(|_| Why::NotJson)?;
                json(*binary, out, |out| {
                    out.extend_from_slice(text.as_bytes());
                    Ok(())
                })?;
            }
            Self::Json { shape, binary } => json(*binary, out, |out| write_json(shape, cursor, out))?,
            Self::Array { oid, item } => array(*oid, item, cursor, out)?,
            Self::Union(branches) => match branches.get(cursor.index(branches.len())?) {
                Some(Some(branch)) => branch.write(cursor, out)?,
                Some(None) => return Err(Why::Null),
                None => return Err(DatumError::NoSuchBranch.into()),
            },
            // All others are in `write`.
            _ => {}
        }
        Ok(())
    }
}

#[inline]
fn sized(bytes: &[u8], out: &mut Vec<u8>) {
    // No value is near 2 GiB: a Kafka record is not.
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Appends what `write` appends, with its length before it.
fn measured(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Result<(), Why>) -> Result<(), Why> {
    let at = out.len();
    out.extend_from_slice(&[0; 4]);
    write(out)?;
    let length = (out.len() - at - 4) as i32;
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&length.to_be_bytes());
    }
    Ok(())
}

#[inline]
fn integer(bits: Bits, cursor: &mut Cursor<'_>) -> Result<i64, DatumError> {
    match bits {
        Bits::Int => cursor.int().map(i64::from),
        Bits::Long => cursor.long(),
    }
}

#[inline]
fn narrow<T: TryFrom<i64>>(number: i64) -> Result<T, Why> {
    T::try_from(number).map_err(|_| Why::OutOfRange)
}

/// The nearest float; one that would become infinite is out of range.
fn shorten(number: f64) -> Result<f32, Why> {
    let short = number as f32;
    if short.is_infinite() && number.is_finite() { Err(Why::OutOfRange) } else { Ok(short) }
}

#[inline]
fn text<'a>(cursor: &mut Cursor<'a>, most: Option<usize>) -> Result<&'a [u8], Why> {
    let bytes = cursor.bytes()?;
    // Mostly short and of plain ASCII: one pass over it, without a branch, tells both that and that it has no NUL.
    let plain = bytes.iter().fold(true, |plain, &byte| plain & (1..0x80).contains(&byte));
    let characters = if plain { bytes.len() } else { characters(bytes)? };
    match most {
        Some(most) if characters > most => Err(Why::TooLong),
        _ => Ok(bytes),
    }
}

#[cold]
fn characters(bytes: &[u8]) -> Result<usize, Why> {
    let text = std::str::from_utf8(bytes).map_err(|_| DatumError::NotUtf8)?;
    if bytes.contains(&0) { Err(Why::NulCharacter) } else { Ok(text.chars().count()) }
}

#[inline]
fn timestamp(unit: Unit, raw: i64) -> Result<i64, Why> {
    let micros = match unit {
        Unit::Micros => Some(raw),
        Unit::Millis => raw.checked_mul(1_000),
        Unit::Nanos => Some(raw.div_euclid(1_000)),
    };
    let micros = micros.and_then(|micros| micros.checked_sub(EPOCH_MICROS));
    micros.filter(|micros| TIMESTAMPS.contains(micros)).ok_or(Why::OutOfRange)
}

fn json(
    binary: bool,
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), DatumError>,
) -> Result<(), Why> {
    measured(out, |out| {
        if binary {
            // The version of jsonb's binary form.
            out.push(1);
        }
        let start = out.len();
        write(out)?;
        let text = out.get(start..).unwrap_or_default();
        if binary && has_escaped_nul(text) { Err(Why::NulCharacter) } else { Ok(()) }
    })
}

/// Whether JSON text has `\u0000`, the one escape that jsonb does not take.
fn has_escaped_nul(json: &[u8]) -> bool {
    let mut rest = json;
    while let Some(at) = rest.iter().position(|byte| *byte == b'\\') {
        rest = rest.get(at + 1..).unwrap_or_default();
        if rest.starts_with(b"u0000") {
            return true;
        }
        // What is escaped could be a backslash itself.
        rest = rest.get(1..).unwrap_or_default();
    }
    false
}

/// One dimension, counted from 1 (src/backend/utils/adt/arrayfuncs.c, `array_recv`).
fn array(oid: u32, item: &Slot, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Why> {
    measured(out, |out| {
        let at = out.len();
        out.extend_from_slice(&[0; 20]);
        let count = cursor.items(|cursor| item.write(cursor, out))?;
        let (dimensions, size) = if count == 0 { (0i32, 12) } else { (1, 20) };
        let mut header = [0; 20];
        header[..4].copy_from_slice(&dimensions.to_be_bytes());
        header[4..8].copy_from_slice(&i32::from(item.null != Null::Never).to_be_bytes());
        header[8..12].copy_from_slice(&oid.to_be_bytes());
        header[12..16].copy_from_slice(&(count as i32).to_be_bytes());
        header[16..].copy_from_slice(&1i32.to_be_bytes());
        if let Some(place) = out.get_mut(at..at + 20) {
            place.copy_from_slice(&header);
        }
        if count == 0 {
            out.truncate(at + size);
        }
        Ok(())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn an_escaped_nul_is_told_from_an_escaped_backslash() {
        assert!(has_escaped_nul(br#""a\u0000""#));
        assert!(has_escaped_nul(br#""\\\u0000""#));
        assert!(!has_escaped_nul(br#""\\u0000""#));
        assert!(!has_escaped_nul(br#""\u00001""#.get(..6).unwrap()));
    }

    #[test]
    fn timestamps_beyond_postgres_are_refused() {
        assert_eq!(timestamp(Unit::Micros, 0), Ok(-946_684_800_000_000));
        for raw in [i64::MIN, i64::MIN + EPOCH_MICROS] {
            assert_eq!(timestamp(Unit::Micros, raw), Err(Why::OutOfRange), "{raw}");
            assert_eq!(timestamp(Unit::Millis, raw), Err(Why::OutOfRange), "{raw}");
        }
        // The largest number of microseconds from 1970 is still a timestamp, in the year 294247.
        assert_eq!(timestamp(Unit::Micros, i64::MAX), Ok(i64::MAX - EPOCH_MICROS));
        assert_eq!(timestamp(Unit::Millis, i64::MAX), Err(Why::OutOfRange));
        assert_eq!(timestamp(Unit::Nanos, -1), Ok(-1 - EPOCH_MICROS));
    }
}
