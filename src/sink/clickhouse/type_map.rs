//! The map of types: which Avro type goes into which ClickHouse type, and how. What is not in it is refused before the
//! first row.
//!
//! | Column | Field | |
//! |---|---|---|
//! | `Bool` | boolean | |
//! | `(U)Int8` to `(U)Int256` | int, long; timestamps, dates and times as their raw number (from 64 bits, dates and time-millis from 32); decimal of scale 0 (from 128 bits) | a value out of range refuses the row |
//! | `Float32` | float; double, int, long if `lossy` | |
//! | `Float64` | float, double, int; long if `lossy` | |
//! | `Decimal(p, s)` | decimal of at most `s` places, int, long | too many digits refuse the row |
//! | `String` | string, enum, uuid, bytes, fixed; record, map, array and union as JSON | |
//! | `FixedString(n)` | string, enum, uuid: filled up with NUL characters; bytes, fixed: exactly n bytes | |
//! | `UUID` | uuid, string, bytes, fixed of 16 | no UUID refuses the row |
//! | `Date`, `Date32` | date | 1970 to 2149, 1900 to 2299 |
//! | `DateTime` | timestamp-*, if `lossy` | whole seconds, rounded down; 1970 to 2106 |
//! | `DateTime64(p)` | timestamp-* of at most p digits; of more if `lossy` | 1900 to 2299, p = 9 to 2262 |
//! | | local-timestamp-* if `lossy`: taken as UTC | |
//! | `Enum8`, `Enum16` | enum whose symbols are all labels; string | an unknown label refuses the row |
//! | `Array(T)` | array of what T takes | |
//! | `Map(K, V)` | map, K a `String` | |
//! | `Nullable(T)`, `LowCardinality(T)` | what T takes | |
//! | `IPv4`, `IPv6` | never | |

use super::block::{Codec, Digits, Float, Framing, Null, Target, Text, Whole, Wide, bytes_of};
use super::types::Type;
use crate::avro::{Shape, UuidForm};

/// Seconds since 1970 of the first and after the last that ClickHouse's DateTime64 is made for (1900-01-01 and
/// 2300-01-01).
const DATETIME64_SECONDS: (i64, i64) = (-2_208_988_800, 10_413_792_000);
/// Days since 1970 of the first and last that Date32 holds (1900-01-01 and 2299-12-31).
const DATE32_DAYS: (i64, i64) = (-25_567, 120_529);

/// A pair that is in the map.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// The conversion.
    pub codec: Codec,
    /// How the column's values are framed.
    pub framing: Framing,
    /// The conversion in words.
    pub says: String,
    /// Null refuses the row, although the field may be null.
    pub refuses_null: bool,
}

/// A pair that is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// Why not.
    pub why: String,
    /// What to do.
    pub cure: String,
}

fn misfit<T>(why: impl Into<String>, cure: impl Into<String>) -> Result<T, Misfit> {
    Err(Misfit { why: why.into(), cure: cure.into() })
}

type Found = Result<(Codec, String), Misfit>;

/// How a field of this shape goes into a column of this type; `lossy`: the operator lets it lose something.
pub fn pair(shape: &Shape, column: &Type, lossy: bool) -> Result<Pair, Misfit> {
    if column.holds_ip() {
        return misfit("addresses are never written", "drop the column; pressline's records hold no address");
    }
    let (inner, null_first) = match shape {
        Shape::Optional { null_first, some } => (some.as_ref(), Some(*null_first)),
        other => (other, None),
    };
    match column {
        Type::LowCardinality(of) => low_cardinality(inner, null_first, of, lossy),
        Type::Nullable(of) => {
            let (codec, says) = value(inner, of, lossy)?;
            let codec = match null_first {
                None => Codec::Present(Box::new(codec)),
                Some(null_first) => optional(null_first, codec, Null::Marked(filler(of))),
            };
            Ok(Pair { codec, framing: Framing::Plain, says, refuses_null: false })
        }
        Type::Array(_) | Type::Map(..) => nested(inner, null_first, column, lossy),
        plain => {
            let (codec, says) = value(inner, plain, lossy)?;
            Ok(required(null_first, codec, Framing::Plain, says))
        }
    }
}

fn optional(null_first: bool, some: Codec, null: Null) -> Codec {
    Codec::Optional { null_first, some: Box::new(some), null }
}

/// A column that takes no null.
fn required(null_first: Option<bool>, codec: Codec, framing: Framing, says: String) -> Pair {
    match null_first {
        None => Pair { codec, framing, says, refuses_null: false },
        Some(null_first) => {
            let says = format!("{says}; null refuses the row");
            Pair { codec: optional(null_first, codec, Null::Refused), framing, says, refuses_null: true }
        }
    }
}

fn low_cardinality(shape: &Shape, null_first: Option<bool>, of: &Type, lossy: bool) -> Result<Pair, Misfit> {
    let (of, nullable) = of.unwrap_nullable();
    let (codec, says) = value(shape, of, lossy)?;
    let says = format!("{says}, dictionary");
    let (codec, framing) = match codec {
        Codec::Text(text) => (Codec::Word(text), Framing::Texts),
        other => (Codec::Entry(Box::new(other)), Framing::Values(filler(of).len())),
    };
    match null_first {
        Some(null_first) if nullable => {
            Ok(Pair { codec: optional(null_first, codec, Null::Word), framing, says, refuses_null: false })
        }
        null_first => Ok(required(null_first, codec, framing, says)),
    }
}

fn nested(shape: &Shape, null_first: Option<bool>, column: &Type, lossy: bool) -> Result<Pair, Misfit> {
    match (column, shape) {
        (Type::Array(of), Shape::Array(items)) => {
            let items = pair(items, of, lossy)?;
            let says = format!("item by item: {}", items.says);
            let framing = Framing::Nested(vec![items.framing]);
            let mut pair = required(null_first, Codec::Array(Box::new(items.codec)), framing, says);
            pair.refuses_null |= items.refuses_null;
            Ok(pair)
        }
        (Type::Map(key_type, value_type), Shape::Map(values)) => {
            let keys = pair(&Shape::String, key_type, lossy)?;
            let values = pair(values, value_type, lossy)?;
            let says = format!("entry by entry: {}", values.says);
            let framing = Framing::Nested(vec![keys.framing, values.framing]);
            let codec = Codec::Map(Box::new(keys.codec), Box::new(values.codec));
            let mut pair = required(null_first, codec, framing, says);
            pair.refuses_null |= values.refuses_null;
            Ok(pair)
        }
        _ => {
            misfit("only an array fills an Array, only a map a Map", "change the column's type to String for JSON text")
        }
    }
}

/// A value that is there into a type without wrapping.
fn value(shape: &Shape, column: &Type, lossy: bool) -> Found {
    match column {
        Type::Bool => match shape {
            Shape::Boolean => Ok((Codec::Boolean, "exact".into())),
            _ => misfit("only boolean fits Bool", "change the column's type"),
        },
        Type::Integer { bits, signed } => integer(shape, *bits, *signed),
        Type::Float32 => float32(shape, lossy),
        Type::Float64 => float64(shape, lossy),
        Type::Decimal { precision, scale } => decimal(shape, *precision, *scale),
        Type::String => string(shape),
        Type::FixedString(length) => fixed_string(shape, *length),
        Type::Uuid => uuid(shape),
        Type::Date => date(shape, 2, (0, i64::from(u16::MAX))),
        Type::Date32 => date(shape, 4, DATE32_DAYS),
        Type::DateTime => instant(shape, 0, 4, (0, i64::from(u32::MAX)), lossy),
        Type::DateTime64(digits) => date_time64(shape, *digits, lossy),
        Type::Enum { wide, labels } => label(shape, *wide, labels),
        Type::LowCardinality(_) | Type::Nullable(_) | Type::Array(_) | Type::Map(..) | Type::Ip | Type::Other => {
            misfit("pressline does not write this type", "use another type; String takes JSON text")
        }
    }
}

fn whole(shape: &Shape) -> Option<Whole> {
    match shape {
        Shape::Int => Some(Whole::Int),
        Shape::Long => Some(Whole::Long),
        _ => None,
    }
}

/// Numbers as they are, and times as the number that is written.
fn integer(shape: &Shape, bits: u16, signed: bool) -> Found {
    let (from, wanted, says) = match shape {
        Shape::Int => (Whole::Int, 8, "whole number"),
        Shape::Long => (Whole::Long, 8, "whole number"),
        Shape::Date => (Whole::Int, 32, "days since 1970"),
        Shape::TimeMillis => (Whole::Int, 32, "milliseconds since midnight"),
        Shape::TimeMicros => (Whole::Long, 64, "microseconds since midnight"),
        Shape::TimestampMillis | Shape::LocalTimestampMillis => (Whole::Long, 64, "milliseconds since 1970"),
        Shape::TimestampMicros | Shape::LocalTimestampMicros => (Whole::Long, 64, "microseconds since 1970"),
        Shape::TimestampNanos | Shape::LocalTimestampNanos => (Whole::Long, 64, "nanoseconds since 1970"),
        Shape::Decimal { scale: 0, .. } if bits >= 128 => {
            let codec = Codec::WideInteger { from: digits(shape)?, bytes: usize::from(bits / 8), signed };
            return Ok((codec, "whole number, range checked".into()));
        }
        _ => return misfit("it is not a whole number", "use a column of the field's own kind, or String"),
    };
    if bits < wanted {
        return misfit(format!("a time needs {wanted} bits"), format!("use Int{wanted}, or a date or time type"));
    }
    let bytes = usize::from(bits / 8);
    if bytes > 8 {
        return Ok((Codec::WideInteger { from: Digits::Whole(from), bytes, signed }, says.into()));
    }
    let (min, max) = match (signed, bits) {
        (true, 64) => (i64::MIN, i64::MAX),
        (false, 64) => (0, i64::MAX),
        (true, _) => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        (false, _) => (0, (1 << bits) - 1),
    };
    let exact = signed && (bits == 64 || (bits == 32 && from == Whole::Int));
    let says = if exact { says.to_string() } else { format!("{says}, range checked") };
    Ok((Codec::Integer { from, bytes, min, max }, says))
}

fn float32(shape: &Shape, lossy: bool) -> Found {
    let from = match shape {
        Shape::Float => return Ok((Codec::Float32(Float::Single), "exact".into())),
        Shape::Double => Float::Double,
        other => Float::Whole(whole(other).ok_or_else(not_a_number)?),
    };
    let says = "rounded to 24 bits";
    if lossy {
        Ok((Codec::Float32(from), says.into()))
    } else {
        lossy_only("Float32 keeps 24 bits of it", "use Float64")
    }
}

fn float64(shape: &Shape, lossy: bool) -> Found {
    let from = match shape {
        Shape::Float => Float::Single,
        Shape::Double => Float::Double,
        Shape::Int => Float::Whole(Whole::Int),
        Shape::Long if lossy => return Ok((Codec::Float64(Float::Whole(Whole::Long)), "rounded to 53 bits".into())),
        Shape::Long => return lossy_only("Float64 keeps 53 bits of it", "use Int64"),
        _ => return Err(not_a_number()),
    };
    Ok((Codec::Float64(from), "exact".into()))
}

fn not_a_number() -> Misfit {
    Misfit { why: "it is not a number".into(), cure: "use a column of the field's own kind, or String".into() }
}

fn lossy_only<T>(why: &str, better: &str) -> Result<T, Misfit> {
    misfit(why, format!("{better}; or accept the loss: sink.clickhouse.columns.lossy with the field's name"))
}

fn digits(shape: &Shape) -> Result<Digits, Misfit> {
    match shape {
        Shape::Decimal { fixed: Some(size), .. } => Ok(Digits::Fixed(*size)),
        Shape::Decimal { .. } => Ok(Digits::Bytes),
        other => whole(other).map(Digits::Whole).ok_or_else(not_a_number),
    }
}

fn decimal(shape: &Shape, precision: u8, scale: u8) -> Found {
    let from = digits(shape)?;
    let (found_precision, found_scale) = match shape {
        Shape::Decimal { precision, scale, .. } => (*precision, *scale),
        Shape::Int => (10, 0),
        _ => (19, 0),
    };
    let Some(more_places) = usize::from(scale).checked_sub(found_scale) else {
        return misfit(format!("it has {found_scale} decimal places"), format!("use Decimal(.., {found_scale})"));
    };
    let bound = Wide::power_of_ten(precision).ok_or_else(not_a_number)?;
    let target = Target { more_places: more_places as u8, bound, bytes: bytes_of(precision) };
    let fits = found_precision + more_places <= usize::from(precision);
    Ok((Codec::Decimal { from, target }, if fits { "exact" } else { "exact, range checked" }.into()))
}

/// What can be had as text.
fn text(shape: &Shape) -> Option<Text> {
    Some(match shape {
        Shape::String | Shape::Uuid(UuidForm::Text) => Text::String,
        Shape::Enum(symbols) => Text::Symbols(symbols.clone()),
        Shape::Uuid(UuidForm::Fixed) => Text::UuidFixed,
        Shape::Uuid(UuidForm::Bytes) => Text::UuidBytes,
        _ => return None,
    })
}

fn bytes(shape: &Shape) -> Option<Text> {
    match shape {
        Shape::Bytes => Some(Text::Bytes),
        Shape::Fixed(size) => Some(Text::Fixed(*size)),
        _ => None,
    }
}

fn string(shape: &Shape) -> Found {
    match shape {
        Shape::Record(_) | Shape::Recursive(_) | Shape::Map(_) | Shape::Array(_) | Shape::Union(_) => {
            Ok((Codec::Text(Text::Json(shape.clone())), "as JSON text".into()))
        }
        _ => match text(shape).or_else(|| bytes(shape)) {
            Some(text) => Ok((Codec::Text(text), "exact".into())),
            None => misfit("it is not text", "use a column of the field's own kind"),
        },
    }
}

fn fixed_string(shape: &Shape, length: usize) -> Found {
    if let Shape::Fixed(size) = shape
        && *size != length
    {
        return misfit(format!("it has {size} bytes, the column {length}"), format!("use FixedString({size})"));
    }
    let padded = |text| (Codec::FixedText(text, length), format!("filled up to {length} bytes with NUL characters"));
    match (text(shape), bytes(shape)) {
        (Some(text), _) => Ok(padded(text)),
        (None, Some(bytes)) => Ok((Codec::FixedBytes(bytes, length), format!("exactly {length} bytes"))),
        _ => misfit("it is not text", "use a column of the field's own kind"),
    }
}

fn uuid(shape: &Shape) -> Found {
    let (from, says) = match shape {
        Shape::Uuid(UuidForm::Text) => (Text::String, "exact"),
        Shape::String => (Text::String, "text that must be a UUID"),
        Shape::Uuid(UuidForm::Fixed) | Shape::Fixed(16) => (Text::Fixed(16), "exact"),
        Shape::Uuid(UuidForm::Bytes) | Shape::Bytes => (Text::Bytes, "16 bytes"),
        _ => return misfit("it is not a UUID", "use a column of the field's own kind, or String"),
    };
    Ok((Codec::Uuid(from), says.into()))
}

fn date(shape: &Shape, bytes: usize, (min, max): (i64, i64)) -> Found {
    match shape {
        Shape::Date => Ok((Codec::Integer { from: Whole::Int, bytes, min, max }, "exact, range checked".into())),
        _ => misfit("only int with logicalType date is a date", "use a column of the field's own kind"),
    }
}

fn date_time64(shape: &Shape, digits: u8, lossy: bool) -> Found {
    let ticks = 10i64.pow(u32::from(digits));
    let (first, end) = DATETIME64_SECONDS;
    // Nanoseconds since 1970 run out of 64 bits in 2262.
    let bounds = (first.saturating_mul(ticks), end.checked_mul(ticks).map_or(i64::MAX, |end| end - 1));
    instant(shape, digits, 8, bounds, lossy)
}

/// An instant into ticks of `digits` after the second.
fn instant(shape: &Shape, digits: u8, bytes: usize, (min, max): (i64, i64), lossy: bool) -> Found {
    let (found, local) = match shape {
        Shape::TimestampMillis => (3u8, false),
        Shape::TimestampMicros => (6, false),
        Shape::TimestampNanos => (9, false),
        Shape::LocalTimestampMillis => (3, true),
        Shape::LocalTimestampMicros => (6, true),
        Shape::LocalTimestampNanos => (9, true),
        Shape::Long | Shape::Int => {
            let cure = "give the field logicalType timestamp-micros (or -millis) if it is one; or use Int64";
            return misfit("a plain number says neither that it is a time nor in which unit", cure);
        }
        _ => return misfit("it is not an instant", "use a column of the field's own kind"),
    };
    if local && !lossy {
        return lossy_only("it has no time zone, and the column is an instant: it would be taken as UTC", "use Int64");
    }
    if found > digits && !lossy {
        let why = format!("it has {found} digits after the second, the column {digits}");
        return lossy_only(&why, &format!("use DateTime64({found}, 'UTC')"));
    }
    let multiply = 10i64.pow(u32::from(digits.saturating_sub(found)));
    let divide = 10i64.pow(u32::from(found.saturating_sub(digits)));
    let unit = match found {
        3 => "milliseconds",
        6 => "microseconds",
        _ => "nanoseconds",
    };
    let exactness = if divide > 1 { "rounded down" } else { "exact" };
    let zone = if local { ", taken as UTC" } else { "" };
    Ok((Codec::Ticks { multiply, divide, min, max, bytes }, format!("{unit}, {exactness}{zone}, range checked")))
}

fn label(shape: &Shape, wide: bool, labels: &[(String, i16)]) -> Found {
    match shape {
        Shape::String => {
            let mut labels = labels.to_vec();
            labels.sort();
            Ok((Codec::Label { labels, wide }, "by label; an unknown one refuses the row".into()))
        }
        Shape::Enum(symbols) => {
            let number = |symbol: &String| labels.iter().find(|(label, _)| label == symbol).map(|(_, number)| *number);
            let missing: Vec<&str> = symbols.iter().filter(|s| number(s).is_none()).map(String::as_str).collect();
            if !missing.is_empty() {
                let why = format!("the column's enum lacks {}", missing.join(", "));
                return misfit(why, "add them: ALTER TABLE ... MODIFY COLUMN with all labels");
            }
            let numbers = symbols.iter().filter_map(number).collect();
            Ok((Codec::Symbol { numbers, wide }, "by label".into()))
        }
        _ => misfit("only string and enum have labels", "use a column of the field's own kind"),
    }
}

/// What stands in a null's place among the values: the type's default, as ClickHouse writes it.
fn filler(column: &Type) -> Vec<u8> {
    let width = match column {
        Type::Bool => 1,
        // The empty text's length.
        Type::String => 1,
        Type::Integer { bits, .. } => usize::from(bits / 8),
        Type::Float32 | Type::Date32 | Type::DateTime => 4,
        Type::Float64 | Type::DateTime64(_) => 8,
        Type::Decimal { precision, .. } => bytes_of(*precision),
        Type::FixedString(length) => *length,
        Type::Uuid => 16,
        Type::Date => 2,
        Type::Enum { wide, labels } => {
            let least = labels.iter().map(|(_, number)| *number).min().unwrap_or(0).to_le_bytes();
            return least.into_iter().take(if *wide { 2 } else { 1 }).collect();
        }
        _ => 0,
    };
    vec![0; width]
}
