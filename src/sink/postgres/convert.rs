//! Which Avro type goes into which column type, and how: the type map of the PostgreSQL sink.

use super::catalogue::ColumnType;
use super::encode::{Bits, Null, Slot, Unit, Write};
use crate::avro::{Shape, UuidForm};

/// Most digits after the point that numeric holds.
const MAX_SCALE: usize = 16_383;

/// A way from field to column.
pub(super) struct Cast {
    pub write: Write,
    /// For people.
    pub note: String,
    /// What is lost on it, if anything.
    pub loss: Option<&'static str>,
}

/// Why there is no conversion, and what to do about it.
pub(super) struct Unsupported {
    pub why: String,
    pub cure: Cure,
}

/// What to do about a field and a column that do not fit.
pub(super) enum Cure {
    /// Give the column another type.
    Alter(&'static str),
    /// Anything else, in words.
    Other(String),
}

type Found = Result<Cast, Unsupported>;

fn exact(write: Write, note: &str) -> Found {
    Ok(Cast { write, note: note.into(), loss: None })
}

fn lossy(write: Write, loss: &'static str) -> Found {
    Ok(Cast { write, note: format!("lossy: {loss}"), loss: Some(loss) })
}

fn alter(why: &str, to: &'static str) -> Found {
    Err(Unsupported { why: why.into(), cure: Cure::Alter(to) })
}

fn other(why: &str, cure: impl Into<String>) -> Found {
    Err(Unsupported { why: why.into(), cure: Cure::Other(cure.into()) })
}

/// The way of a field without its null branch.
pub(super) fn find(shape: &Shape, column: &ColumnType) -> Found {
    match (shape, column) {
        (_, ColumnType::Address) => other(
            "the column holds IP addresses, which pressline writes nowhere",
            "leave the column out of the table, or let it take null and rename the field",
        ),
        (Shape::Null, _) => other("the field is always null", "leave it out: columns.ignore"),
        (_, ColumnType::Other) => alter("pressline does not know the column's type", natural(shape)),
        (_, ColumnType::Json | ColumnType::Jsonb) => to_json(shape, *column == ColumnType::Jsonb),
        (Shape::Union(branches), _) => from_union(branches, column),
        (Shape::Record(_) | Shape::Map(_) | Shape::Recursive(_), _) => {
            alter("a record or map fits no column but json and jsonb", "jsonb")
        }
        (Shape::Array(items), _) => to_array(items, column),
        (_, ColumnType::Array { .. }) => alter("the field is no array", natural(shape)),
        (Shape::Int | Shape::Long, _) => from_integer(shape, column),
        (Shape::Decimal { precision, scale, fixed }, ColumnType::Numeric(limits)) => {
            from_decimal(*precision, *scale, *fixed, *limits)
        }
        (Shape::String | Shape::Enum(_) | Shape::Uuid(_), _) => from_text(shape, column),
        (Shape::Fixed(16), ColumnType::Uuid) => exact(Write::UuidFixed, "16 bytes"),
        (Shape::Bytes, ColumnType::Uuid) => exact(Write::UuidFromBytes, "16 bytes, checked"),
        (Shape::Boolean, ColumnType::Boolean) => exact(Write::Boolean, "as is"),
        (Shape::Float, ColumnType::Float4) => exact(Write::Float4, "as is"),
        (Shape::Float, ColumnType::Float8) => exact(Write::FloatToFloat8, "exact"),
        (Shape::Double, ColumnType::Float8) => exact(Write::Float8, "as is"),
        (Shape::Double, ColumnType::Float4) => lossy(Write::DoubleToFloat4, "digits after the seventh or so"),
        (Shape::Bytes, ColumnType::Bytea) => exact(Write::Bytes, "as is"),
        (Shape::Fixed(size), ColumnType::Bytea) => exact(Write::Fixed(*size), "as is"),
        _ => from_time(shape, column),
    }
}

/// The column type that takes the field as it is, also `auto_create`'s choice.
pub(super) fn natural(shape: &Shape) -> &'static str {
    match shape {
        Shape::Boolean => "boolean",
        Shape::Int => "integer",
        Shape::Long | Shape::TimestampNanos | Shape::LocalTimestampNanos => "bigint",
        Shape::Float => "real",
        Shape::Double => "double precision",
        Shape::Bytes | Shape::Fixed(_) => "bytea",
        Shape::Null | Shape::String | Shape::Enum(_) => "text",
        Shape::Array(_) | Shape::Map(_) | Shape::Record(_) | Shape::Recursive(_) | Shape::Union(_) => "jsonb",
        Shape::Optional { some, .. } => natural(some),
        Shape::Decimal { .. } => "numeric",
        Shape::Uuid(_) => "uuid",
        Shape::Date => "date",
        Shape::TimeMillis | Shape::TimeMicros => "time",
        Shape::TimestampMillis | Shape::TimestampMicros => "timestamptz",
        Shape::LocalTimestampMillis | Shape::LocalTimestampMicros => "timestamp",
    }
}

fn to_json(shape: &Shape, binary: bool) -> Found {
    match shape {
        Shape::String => exact(Write::JsonText { binary }, "JSON text, checked"),
        Shape::Record(_) | Shape::Recursive(_) | Shape::Map(_) | Shape::Array(_) | Shape::Union(_) => {
            exact(Write::Json { shape: Box::new(shape.clone()), binary }, "as JSON")
        }
        _ => alter("the field is no JSON", natural(shape)),
    }
}

/// A union of numbers, or of texts, goes into a column that takes each of them.
fn from_union(branches: &[Shape], column: &ColumnType) -> Found {
    let is_number = |shape: &Shape| matches!(shape, Shape::Int | Shape::Long | Shape::Float | Shape::Double);
    let is_text = |shape: &Shape| matches!(shape, Shape::String | Shape::Enum(_));
    let all = |like: &dyn Fn(&Shape) -> bool| branches.iter().all(|branch| *branch == Shape::Null || like(branch));
    if !all(&is_number) && !all(&is_text) {
        return alter("a union of several types fits no column but json and jsonb", "jsonb");
    }
    let (mut writes, mut notes, mut loss) = (Vec::new(), Vec::new(), None);
    for branch in branches {
        if *branch == Shape::Null {
            writes.push(None);
            continue;
        }
        let way = find(branch, column).map_err(|Unsupported { why, .. }| Unsupported {
            why: format!("{branch}, of its types: {why}"),
            cure: Cure::Alter("jsonb"),
        })?;
        writes.push(Some(way.write));
        notes.push(format!("{branch}: {}", way.note));
        loss = loss.or(way.loss);
    }
    Ok(Cast { write: Write::Union(writes), note: notes.join("; "), loss })
}

fn to_array(items: &Shape, column: &ColumnType) -> Found {
    let ColumnType::Array { oid, item } = column else {
        return alter("the field is an array, the column is none", "jsonb");
    };
    let (shape, null) = unwrap_null(items);
    if matches!(shape, Shape::Array(_) | Shape::Record(_) | Shape::Recursive(_) | Shape::Map(_) | Shape::Union(_)) {
        return alter("its items are not simple values", "jsonb");
    }
    let way = find(shape, item).map_err(|Unsupported { why, cure }| Unsupported {
        why: format!("its items: {why}"),
        cure: match cure {
            // A type for the items would be none for the column.
            Cure::Alter(_) => Cure::Alter("jsonb"),
            words => words,
        },
    })?;
    let item = Box::new(Slot { null, takes_null: true, instead: None, write: way.write });
    Ok(Cast { write: Write::Array { oid: *oid, item }, note: format!("each item: {}", way.note), loss: way.loss })
}

/// A type without its null, and where that stood.
pub(super) fn unwrap_null(shape: &Shape) -> (&Shape, Null) {
    match shape {
        Shape::Optional { null_first: true, some } => (some, Null::First),
        Shape::Optional { null_first: false, some } => (some, Null::Last),
        other => (other, Null::Never),
    }
}

fn from_integer(shape: &Shape, column: &ColumnType) -> Found {
    let bits = if *shape == Shape::Int { Bits::Int } else { Bits::Long };
    match (column, bits) {
        (ColumnType::Int2, _) => exact(Write::Int2(bits), "range checked"),
        (ColumnType::Int4, Bits::Long) => exact(Write::Int4(bits), "range checked"),
        (ColumnType::Int4, Bits::Int) => exact(Write::Int4(bits), "as is"),
        (ColumnType::Int8, _) => exact(Write::Int8(bits), "as is"),
        (ColumnType::Float8, Bits::Int) => exact(Write::IntegerToFloat8(bits), "exact"),
        (ColumnType::Float8, Bits::Long) => lossy(Write::IntegerToFloat8(bits), "digits of numbers above 2^53"),
        (ColumnType::Float4, _) => lossy(Write::IntegerToFloat4(bits), "digits of numbers above 2^24"),
        (ColumnType::Numeric(limits), _) => {
            let integer_digits = limits.map(|(precision, scale)| digits(precision - scale));
            let write = Write::IntegerToNumeric { bits, integer_digits };
            match limits {
                Some((_, scale)) if *scale < 0 => lossy(write, "digits, by rounding"),
                _ => exact(write, if limits.is_some() { "range checked" } else { "exact" }),
            }
        }
        (ColumnType::Timestamp(_) | ColumnType::TimestampTz(_) | ColumnType::Date | ColumnType::Time(_), _) => other(
            "a plain number does not tell its unit",
            "say it in the schema, inside the type ({\"type\": \"long\", \"logicalType\": \"timestamp-micros\"}), or make \
             the column a bigint",
        ),
        _ => alter("a number does not fit it", natural(shape)),
    }
}

fn digits(count: i32) -> usize {
    usize::try_from(count).unwrap_or(0)
}

fn from_decimal(precision: usize, scale: usize, fixed: Option<usize>, limits: Option<(i32, i32)>) -> Found {
    if scale > MAX_SCALE {
        return other("it has more digits after the point than numeric holds", "leave the field out: columns.ignore");
    }
    let integer_digits = limits.map(|(precision, scale)| digits(precision - scale));
    let write = Write::Decimal { fixed, scale, precision, integer_digits };
    match (limits, integer_digits) {
        (Some((_, kept)), _) if (scale as i64) > i64::from(kept) => lossy(write, "digits after the point, by rounding"),
        (_, Some(most)) if precision - scale.min(precision) > most => exact(write, "range checked"),
        _ => exact(write, "exact"),
    }
}

fn from_text(shape: &Shape, column: &ColumnType) -> Found {
    let most = match column {
        ColumnType::Varchar(most) | ColumnType::Char(most) => Some(*most),
        _ => None,
    };
    let is_text = matches!(column, ColumnType::Text | ColumnType::Varchar(_) | ColumnType::Char(_));
    match (shape, column) {
        (Shape::String | Shape::Uuid(UuidForm::Text), ColumnType::Uuid) => {
            exact(Write::UuidFromText, "text read as UUID")
        }
        (Shape::Uuid(UuidForm::Fixed), ColumnType::Uuid) => exact(Write::UuidFixed, "as is"),
        (Shape::Uuid(UuidForm::Bytes), ColumnType::Uuid) => exact(Write::UuidFromBytes, "16 bytes, checked"),
        (Shape::Uuid(form), _) if is_text && *form != UuidForm::Text => {
            if most.is_some_and(|most| most < 36) {
                return alter("a UUID has 36 characters", "uuid");
            }
            exact(Write::TextFromUuid { fixed: *form == UuidForm::Fixed }, "as text")
        }
        (Shape::Enum(symbols), ColumnType::Enum(labels)) => {
            let missing: Vec<&str> =
                symbols.iter().filter(|symbol| !labels.contains(symbol)).map(String::as_str).collect();
            if missing.is_empty() {
                return exact(symbols_of(symbols), "symbol to label");
            }
            let list = missing.join(", ");
            let adds: Vec<String> =
                missing.iter().map(|label| format!("ADD VALUE {}", super::quote_text(label))).collect();
            other(
                &format!("the column's enum has no label {list}"),
                format!("ALTER TYPE {{type}} {}", adds.join("; ALTER TYPE {type} ")),
            )
        }
        (Shape::String, ColumnType::Enum(labels)) => {
            exact(Write::Label(std::sync::Arc::clone(labels)), &format!("one of {} labels, checked", labels.len()))
        }
        (Shape::Enum(symbols), _) if is_text => {
            match symbols.iter().find(|symbol| most.is_some_and(|m| symbol.len() > m)) {
                Some(long) => alter(&format!("symbol {long} is longer than the column"), "text"),
                None => exact(symbols_of(symbols), "as text"),
            }
        }
        (_, ColumnType::Char(_)) => exact(Write::Text(most), "length checked; padded with spaces by the server"),
        (_, ColumnType::Varchar(_)) => exact(Write::Text(most), "length checked"),
        (_, ColumnType::Text) => exact(Write::Text(None), "as is"),
        _ => alter("a text does not fit it", natural(shape)),
    }
}

/// Symbols of an Avro enum are ASCII names: no NUL, a byte a character.
fn symbols_of(symbols: &[String]) -> Write {
    let ready = |symbol: &String| [&(symbol.len() as i32).to_be_bytes(), symbol.as_bytes()].concat();
    Write::Symbol(symbols.iter().map(ready).collect())
}

fn from_time(shape: &Shape, column: &ColumnType) -> Found {
    let unit = match shape {
        Shape::TimeMillis | Shape::TimestampMillis | Shape::LocalTimestampMillis => Unit::Millis,
        Shape::TimestampNanos | Shape::LocalTimestampNanos => Unit::Nanos,
        _ => Unit::Micros,
    };
    match (shape, column) {
        (Shape::Date, ColumnType::Date) => exact(Write::Date, "exact"),
        (Shape::Date | Shape::TimeMillis, ColumnType::Int4 | ColumnType::Int8) => {
            let write = if *column == ColumnType::Int4 { Write::Int4(Bits::Int) } else { Write::Int8(Bits::Int) };
            exact(write, "the raw number")
        }
        (Shape::TimeMicros, ColumnType::Int8) => exact(Write::Int8(Bits::Long), "the raw number"),
        (Shape::TimeMillis | Shape::TimeMicros, ColumnType::Time(kept)) => {
            with_fraction(Write::Time(unit), unit, *kept)
        }
        (instant, _) if is_instant(instant) => match column {
            ColumnType::Int8 => exact(Write::Int8(Bits::Long), &format!("the raw number, {}", name(unit))),
            ColumnType::TimestampTz(kept) => with_fraction(Write::Timestamp(unit), unit, *kept),
            ColumnType::Timestamp(_) => {
                lossy(Write::Timestamp(unit), "that the time is UTC, which timestamp does not hold")
            }
            _ => alter("an instant does not fit it", natural(shape)),
        },
        (local, _) if is_local(local) => match column {
            ColumnType::Int8 => exact(Write::Int8(Bits::Long), &format!("the raw number, {}", name(unit))),
            ColumnType::Timestamp(kept) => with_fraction(Write::Timestamp(unit), unit, *kept),
            ColumnType::TimestampTz(_) => {
                alter("a local time does not tell its zone, so it is no instant", natural(shape))
            }
            _ => alter("a local time does not fit it", natural(shape)),
        },
        _ => alter(&format!("{shape} does not fit it"), natural(shape)),
    }
}

fn is_instant(shape: &Shape) -> bool {
    matches!(shape, Shape::TimestampMillis | Shape::TimestampMicros | Shape::TimestampNanos)
}

fn is_local(shape: &Shape) -> bool {
    matches!(shape, Shape::LocalTimestampMillis | Shape::LocalTimestampMicros | Shape::LocalTimestampNanos)
}

/// Exact where the column keeps as many digits of the second as the unit has: the server rounds without a word.
fn with_fraction(write: Write, unit: Unit, kept: u32) -> Found {
    match unit {
        Unit::Millis if kept >= 3 => exact(write, "milliseconds, exact"),
        Unit::Micros if kept >= 6 => exact(write, "microseconds, exact"),
        Unit::Nanos if kept >= 6 => lossy(write, "digits below the microsecond, cut off"),
        _ => lossy(write, "fractions of a second, rounded to the column's precision"),
    }
}

fn name(unit: Unit) -> &'static str {
    match unit {
        Unit::Millis => "milliseconds",
        Unit::Micros => "microseconds",
        Unit::Nanos => "nanoseconds",
    }
}
