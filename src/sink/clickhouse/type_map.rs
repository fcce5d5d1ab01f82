//! The map of types: which Avro type goes into which ClickHouse type, and how. What is not in it is refused before the
//! first row.
//!
//! | Column | Field | |
//! |---|---|---|
//! | `Bool`, `UInt8`, `Int8` | boolean: 0 or 1 | |
//! | `(U)Int8` to `(U)Int256` | int, long; timestamps, dates and times as their raw number (from 64 bits, dates and time-millis from 32); decimal of scale 0 (from 128 bits) | a value out of range refuses the row |
//! | `Float32` | float; double, int, long if `lossy` | beyond 3.4e38 refuses the row |
//! | `Float64` | float, double, int; long if `lossy` | |
//! | `Decimal(p, s)` | decimal of at most `s` places, int, long | too many digits refuse the row |
//! | `String` | string, enum, uuid, bytes, fixed; record, map, array and union as JSON | |
//! | `FixedString(n)` | string, enum, uuid: filled up with NUL characters; bytes, fixed: exactly n bytes | |
//! | `UUID` | uuid, string, bytes, fixed of 16 | no UUID refuses the row |
//! | `Date`, `Date32` | date | 1970 to 2149; 1900 to 2299, from the years 0 to 9999 where the server holds them |
//! | `DateTime` | timestamp-*, if `lossy` | whole seconds, rounded down; 1970 to 2106 |
//! | `DateTime64(p)` | timestamp-* of at most p digits; of more if `lossy` | as `Date32`, p = 9 from 1677 to 2262 |
//! | | local-timestamp-* if `lossy`: taken as UTC | |
//! | `Time`, `Time64(p)` | time-* of at most p digits; of more if `lossy` | within a day |
//! | `Enum8`, `Enum16` | enum whose symbols are all labels; string | an unknown label refuses the row |
//! | `Array(T)` | array of what T takes | |
//! | `Map(K, V)` | map, K a `String` | |
//! | `Nullable(T)`, `LowCardinality(T)`, `SimpleAggregateFunction(f, T)` | what T takes | |
//! | any that takes no null | what may be null | null refuses the row, or is the column's default if `null_as_default` |
//! | `IPv4`, `IPv6` | never | |

use super::block::{Codec, Digits, Float, Framing, Null, Target, Text, Whole, Wide, bytes_of};
use super::types::{Type, literal};
use crate::avro::{Shape, UuidForm};

const SECONDS_OF_DAY: i64 = 86_400;

/// The first and the last day, counted from 1970, that Date32 and DateTime64 hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    /// The first.
    pub first: i64,
    /// The last.
    pub last: i64,
    /// The default of a Date32.
    pub default: i32,
}

impl Days {
    /// 1900-01-01 to 2299-12-31, which every server holds.
    pub const NARROW: Self = Self { first: -25_567, last: 120_529, default: -25_567 };
    /// 0000-01-01 to 9999-12-31, which newer ones hold.
    pub const WIDE: Self = Self { first: -719_528, last: 2_932_896, default: -25_567 };
}

/// On what terms a field goes into a column.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// The operator lets it lose something.
    pub lossy: bool,
    /// The operator lets null leave the column to its default.
    pub null_as_default: bool,
    /// The column has a DEFAULT expression.
    pub has_default: bool,
    /// What the server's dates hold.
    pub days: Days,
}

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
    /// The block's column takes null, the table's does not: null is its DEFAULT.
    pub null_as_default: bool,
}

/// A pair that is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaMismatch {
    /// Why not.
    pub why: String,
    /// What to do.
    pub cure: Cure,
}

/// What to do about a field that does not fit its column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cure {
    /// Give the column the type that the field has by itself, or the one named here.
    Column(Option<String>),
    /// The same, or accept what is lost.
    ColumnOrLoss(Option<String>),
    /// In these words.
    Words(String),
}

fn schema_mismatch<T>(why: impl Into<String>, cure: Cure) -> Result<T, SchemaMismatch> {
    Err(SchemaMismatch { why: why.into(), cure })
}

/// The column gets the field's own type.
fn other_column<T>(why: impl Into<String>) -> Result<T, SchemaMismatch> {
    schema_mismatch(why, Cure::Column(None))
}

type Found = Result<(Codec, String), SchemaMismatch>;

/// How a field of this shape goes into a column of this type.
pub fn pair(shape: &Shape, column: &Type, terms: Terms) -> Result<Pair, SchemaMismatch> {
    if column.holds_ip() {
        let cure = Cure::Words("drop the column; pressline's records hold no address".into());
        return schema_mismatch("addresses are never written", cure);
    }
    let (null, null_as_default) = null_in(column, terms);
    let (inner, null_first) = match shape {
        Shape::Null => return always_null(column, null, null_as_default),
        Shape::Optional { null_first, some } => (some.as_ref(), Some(*null_first)),
        other => (other, None),
    };
    let filled = filled(inner, column, terms)?;
    let Some(null_first) = null_first else {
        let codec = match column {
            Type::Nullable(_) => filled.codec.present(),
            _ => filled.codec,
        };
        return Ok(Pair { codec, ..filled });
    };
    let says = match &null {
        Null::Refused => format!("{}; null refuses the row", filled.says),
        _ if null_as_default => format!("{}; null is the column's DEFAULT", filled.says),
        Null::Empty => format!("{}; null is empty", filled.says),
        Null::EncodedChunk(_) => format!("{}; null is the type's default", filled.says),
        Null::Word if !takes_null(column) => format!("{}; null is the type's default", filled.says),
        Null::Word | Null::Marked(_) => filled.says,
    };
    let refuses_null = filled.refuses_null || null == Null::Refused;
    let codec = Codec::Optional { null_first, some: Box::new(filled.codec), null };
    Ok(Pair { codec, framing: filled.framing, says, refuses_null, null_as_default })
}

/// What null becomes in a column of this type, and whether the block's column must take it where the table's does not.
fn null_in(column: &Type, terms: Terms) -> (Null, bool) {
    match column {
        Type::Nullable(of) => (Null::Marked(filler(of)), false),
        Type::LowCardinality(_) if takes_null(column) => (Null::Word, false),
        _ if !terms.null_as_default => (Null::Refused, false),
        Type::LowCardinality(of) if **of == Type::Date32 && !terms.has_default => (Null::Refused, false),
        Type::LowCardinality(_) => (Null::Word, terms.has_default),
        // No array can be null, so there is no way to say that a row of a block leaves it to its DEFAULT.
        Type::Array(_) | Type::Map(..) if terms.has_default => (Null::Refused, false),
        Type::Array(_) | Type::Map(..) => (Null::Empty, false),
        plain if terms.has_default => (Null::Marked(filler(plain)), true),
        // Not 0, as in all others.
        Type::Date32 => (Null::EncodedChunk(terms.days.default.to_le_bytes().to_vec()), false),
        plain => (Null::EncodedChunk(filler(plain)), false),
    }
}

/// What stands in the column for a record whose schema lacks the field, so that it is as if the insert did not name the
/// column, and whether the block's column must take null for it. `None`: it cannot be said for one row of a block.
pub fn absent(column: &Type, has_default: bool, days: Days) -> Option<(Null, bool)> {
    if has_default && (takes_null(column) || matches!(column, Type::Array(_) | Type::Map(..))) {
        return None;
    }
    let terms = Terms { lossy: false, null_as_default: true, has_default, days };
    Some(null_in(column, terms)).filter(|(null, _)| *null != Null::Refused)
}

fn takes_null(column: &Type) -> bool {
    match column {
        Type::LowCardinality(of) => of.unwrap_nullable().1,
        other => other.unwrap_nullable().1,
    }
}

fn always_null(column: &Type, null: Null, null_as_default: bool) -> Result<Pair, SchemaMismatch> {
    if null == Null::Refused || matches!(column, Type::Other) {
        return schema_mismatch("it is always null", Cure::Words("leave it out, or give it a Nullable column".into()));
    }
    let framing = framing(column);
    Ok(Pair { codec: Codec::Null(null), framing, says: "always null".into(), refuses_null: false, null_as_default })
}

/// How values of a column of this type are framed.
fn framing(column: &Type) -> Framing {
    match column {
        Type::LowCardinality(of) => match of.unwrap_nullable().0 {
            Type::String => Framing::Texts,
            of => Framing::Values(filler(of).len()),
        },
        Type::Array(of) => Framing::Nested(vec![framing(of)]),
        Type::Map(keys, values) => Framing::Nested(vec![framing(keys), framing(values)]),
        _ => Framing::Plain,
    }
}

/// A value that is there, into a column with its wrapping.
fn filled(shape: &Shape, column: &Type, terms: Terms) -> Result<Pair, SchemaMismatch> {
    let plain =
        |codec, says| Pair { codec, framing: framing(column), says, refuses_null: false, null_as_default: false };
    match column {
        Type::LowCardinality(of) => {
            let (codec, says) = value(shape, of.unwrap_nullable().0, terms)?;
            let codec = match codec {
                Codec::Text(text) => Codec::Word(text),
                other => Codec::Entry(Box::new(other)),
            };
            Ok(plain(codec, format!("{says}, dictionary")))
        }
        Type::Nullable(of) => value(shape, of, terms).map(|(codec, says)| plain(codec, says)),
        Type::Array(_) | Type::Map(..) => nested(shape, column, terms),
        of => value(shape, of, terms).map(|(codec, says)| plain(codec, says)),
    }
}

fn nested(shape: &Shape, column: &Type, terms: Terms) -> Result<Pair, SchemaMismatch> {
    // The column's DEFAULT is none of its items'.
    let inside = Terms { has_default: false, ..terms };
    match (column, shape) {
        (Type::Array(of), Shape::Array(items)) => {
            let items = pair(items, of, inside)?;
            let says = format!("item by item: {}", items.says);
            let codec = Codec::Array(Box::new(items.codec));
            Ok(Pair { codec, framing: framing(column), says, refuses_null: items.refuses_null, null_as_default: false })
        }
        (Type::Map(key_type, value_type), Shape::Map(values)) => {
            let keys = pair(&Shape::String, key_type, inside)?;
            let values = pair(values, value_type, inside)?;
            let says = format!("entry by entry: {}", values.says);
            let codec = Codec::Map(Box::new(keys.codec), Box::new(values.codec));
            Ok(Pair {
                codec,
                framing: framing(column),
                says,
                refuses_null: values.refuses_null,
                null_as_default: false,
            })
        }
        _ => other_column("only an array fills an Array, only a map a Map"),
    }
}

/// A value that is there into a type without wrapping.
fn value(shape: &Shape, column: &Type, terms: Terms) -> Found {
    let lossy = terms.lossy;
    match column {
        Type::Bool => match shape {
            Shape::Boolean => Ok((Codec::Boolean, "exact".into())),
            _ => other_column("only boolean fits Bool"),
        },
        Type::Integer { bits, signed } => integer(shape, *bits, *signed),
        Type::Float32 => float32(shape, lossy),
        Type::Float64 => float64(shape, lossy),
        Type::Decimal { precision, scale } => decimal(shape, *precision, *scale),
        Type::String => string(shape),
        Type::FixedString(length) => fixed_string(shape, *length),
        Type::Uuid => uuid(shape),
        Type::Date => date(shape, 2, (0, i64::from(u16::MAX))),
        Type::Date32 => date(shape, 4, (terms.days.first, terms.days.last)),
        Type::DateTime => instant(shape, 0, 4, (0, i64::from(u32::MAX)), lossy),
        Type::DateTime64(digits) => date_time64(shape, *digits, terms),
        Type::Time => time(shape, 0, 4, lossy),
        Type::Time64(digits) => time(shape, *digits, 8, lossy),
        Type::Enum { wide, labels } => label(shape, *wide, labels),
        Type::LowCardinality(_) | Type::Nullable(_) | Type::Array(_) | Type::Map(..) | Type::Ip | Type::Other => {
            other_column("pressline does not write this type")
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
        Shape::Boolean if bits == 8 => return Ok((Codec::Boolean, "0 or 1".into())),
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
        _ => return other_column("it is not a whole number"),
    };
    if bits < wanted {
        return schema_mismatch(format!("a time needs {wanted} bits"), Cure::Column(Some(format!("Int{wanted}"))));
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
    if lossy { Ok((Codec::Float32(from), says.into())) } else { lossy_only("Float32 keeps 24 bits of it") }
}

fn float64(shape: &Shape, lossy: bool) -> Found {
    let from = match shape {
        Shape::Float => Float::Single,
        Shape::Double => Float::Double,
        Shape::Int => Float::Whole(Whole::Int),
        Shape::Long if lossy => return Ok((Codec::Float64(Float::Whole(Whole::Long)), "rounded to 53 bits".into())),
        Shape::Long => return lossy_only("Float64 keeps 53 bits of it"),
        _ => return Err(not_a_number()),
    };
    Ok((Codec::Float64(from), "exact".into()))
}

fn not_a_number() -> SchemaMismatch {
    SchemaMismatch { why: "it is not a number".into(), cure: Cure::Column(None) }
}

fn lossy_only<T>(why: impl Into<String>) -> Result<T, SchemaMismatch> {
    schema_mismatch(why, Cure::ColumnOrLoss(None))
}

fn digits(shape: &Shape) -> Result<Digits, SchemaMismatch> {
    match shape {
        Shape::Decimal { fixed: Some(size), .. } => Ok(Digits::Fixed(*size)),
        Shape::Decimal { .. } => Ok(Digits::Bytes),
        Shape::Float | Shape::Double => other_column("it is a binary fraction, which no Decimal holds exactly"),
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
        return other_column(format!("it has {found_scale} decimal places"));
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
            None => other_column("it is not text"),
        },
    }
}

fn fixed_string(shape: &Shape, length: usize) -> Found {
    if let Shape::Fixed(size) = shape
        && *size != length
    {
        return other_column(format!("it has {size} bytes, the column {length}"));
    }
    let padded = |text| (Codec::FixedText(text, length), format!("filled up to {length} bytes with NUL characters"));
    match (text(shape), bytes(shape)) {
        (Some(text), _) => Ok(padded(text)),
        (None, Some(bytes)) => Ok((Codec::FixedBytes(bytes, length), format!("exactly {length} bytes"))),
        _ => other_column("it is not text"),
    }
}

fn uuid(shape: &Shape) -> Found {
    let (from, says) = match shape {
        Shape::Uuid(UuidForm::Text) => (Text::String, "exact"),
        Shape::String => (Text::String, "text that must be a UUID"),
        Shape::Uuid(UuidForm::Fixed) | Shape::Fixed(16) => (Text::Fixed(16), "exact"),
        Shape::Uuid(UuidForm::Bytes) | Shape::Bytes => (Text::Bytes, "16 bytes"),
        _ => return other_column("it is not a UUID"),
    };
    Ok((Codec::Uuid(from), says.into()))
}

fn date(shape: &Shape, bytes: usize, (min, max): (i64, i64)) -> Found {
    match shape {
        Shape::Date => Ok((Codec::Integer { from: Whole::Int, bytes, min, max }, "exact, range checked".into())),
        _ => other_column("only int with logicalType date is a date"),
    }
}

fn date_time64(shape: &Shape, digits: u8, terms: Terms) -> Found {
    let ticks = 10i64.pow(u32::from(digits));
    let (first, end) = (terms.days.first * SECONDS_OF_DAY, (terms.days.last + 1) * SECONDS_OF_DAY);
    // Nanoseconds since 1970 run out of 64 bits in 1677 and 2262.
    let replay_range = (first.saturating_mul(ticks), end.checked_mul(ticks).map_or(i64::MAX, |end| end - 1));
    instant(shape, digits, 8, replay_range, terms.lossy)
}

/// A time of day into ticks of `digits` after the second.
fn time(shape: &Shape, digits: u8, bytes: usize, lossy: bool) -> Found {
    let found = match shape {
        Shape::TimeMillis => 3u8,
        Shape::TimeMicros => 6,
        _ => return other_column("it is not a time of day"),
    };
    let end = SECONDS_OF_DAY * 10i64.pow(u32::from(digits));
    ticks(found, digits, bytes, (0, end - 1), lossy, "Time64")
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
            let why =
                "a plain number says neither that it is a time nor in which unit (logicalType timestamp-micros would)";
            return other_column(why);
        }
        _ => return other_column("it is not an instant"),
    };
    if local && !lossy {
        return lossy_only("it has no time zone, and the column is an instant: it would be taken as UTC");
    }
    let (codec, says) = ticks(found, digits, bytes, (min, max), lossy, "DateTime64")?;
    let zone = if local { ", taken as UTC" } else { "" };
    Ok((codec, format!("{says}{zone}")))
}

/// A number of `found` digits after the second into ticks of `digits`, within bounds.
fn ticks(found: u8, digits: u8, bytes: usize, (min, max): (i64, i64), lossy: bool, column: &str) -> Found {
    if found > digits && !lossy {
        let why = format!("it has {found} digits after the second, the column {digits}");
        let zone = if column == "DateTime64" { ", 'UTC'" } else { "" };
        return schema_mismatch(why, Cure::ColumnOrLoss(Some(format!("{column}({found}{zone})"))));
    }
    let multiply = 10i64.pow(u32::from(digits.saturating_sub(found)));
    let divide = 10i64.pow(u32::from(found.saturating_sub(digits)));
    let unit = match found {
        3 => "milliseconds",
        6 => "microseconds",
        _ => "nanoseconds",
    };
    let exactness = if divide > 1 { "rounded down" } else { "exact" };
    Ok((Codec::Ticks { multiply, divide, min, max, bytes }, format!("{unit}, {exactness}, range checked")))
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
                return schema_mismatch(why, Cure::Column(Some(with_labels(labels, &missing))));
            }
            let numbers = symbols.iter().filter_map(number).collect();
            Ok((Codec::Symbol { numbers, wide }, "by label".into()))
        }
        _ => other_column("only string and enum have labels"),
    }
}

/// An enum's type with more labels, numbered behind those it has.
fn with_labels(labels: &[(String, i16)], missing: &[&str]) -> String {
    let next = labels.iter().map(|(_, number)| i32::from(*number) + 1).max().unwrap_or(1);
    let known = labels.iter().map(|(label, number)| (label.as_str(), i32::from(*number)));
    let all: Vec<(&str, i32)> = known.chain(missing.iter().copied().zip(next..)).collect();
    let width = if all.iter().all(|(_, number)| (-128..128).contains(number)) { 8 } else { 16 };
    let all: Vec<String> = all.iter().map(|(label, number)| format!("{} = {number}", literal(label))).collect();
    format!("Enum{width}({})", all.join(", "))
}

/// What stands in a null's place among the values: the type's default, as ClickHouse writes it.
fn filler(column: &Type) -> Vec<u8> {
    let width = match column {
        Type::Bool => 1,
        // The empty text's length.
        Type::String => 1,
        Type::Integer { bits, .. } => usize::from(bits / 8),
        Type::Float32 | Type::Date32 | Type::DateTime | Type::Time => 4,
        Type::Float64 | Type::DateTime64(_) | Type::Time64(_) => 8,
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
