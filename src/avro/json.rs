//! A datum as JSON text, for columns that hold JSON: records and maps as objects, times as ISO 8601 text, decimals as
//! numbers with all their digits, bytes as hexadecimal text.

use jiff::Timestamp;

use super::{Cursor, DatumError, Shape, UuidForm, decimal_text};

/// Appends the value at the cursor. Errors: the bytes do not fit the shape; what was appended is then of no use.
pub fn write_json(shape: &Shape, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), DatumError> {
    match shape {
        Shape::Null => out.extend_from_slice(b"null"),
        Shape::Boolean => display(cursor.boolean()?, out),
        Shape::Int => display(cursor.int()?, out),
        Shape::Long => display(cursor.long()?, out),
        Shape::Float => number(f64::from(cursor.float()?), out),
        Shape::Double => number(cursor.double()?, out),
        Shape::String | Shape::Uuid(UuidForm::Text) => text(cursor.text()?, out),
        Shape::Bytes => hex(cursor.bytes()?, out),
        Shape::Fixed(size) => hex(cursor.take(*size)?, out),
        Shape::Uuid(form) => {
            let bytes = if *form == UuidForm::Fixed { cursor.take(16)? } else { cursor.bytes()? };
            match uuid::Uuid::from_slice(bytes) {
                Ok(uuid) => quoted(uuid, out),
                Err(_) => hex(bytes, out),
            }
        }
        Shape::Enum(symbols) => {
            let index = cursor.index(symbols.len())?;
            text(symbols.get(index).ok_or(DatumError::NoSuchBranch)?, out);
        }
        Shape::Decimal { scale, fixed, .. } => {
            out.extend_from_slice(decimal_text(cursor.decimal(*fixed)?, *scale).as_bytes());
        }
        Shape::Optional { null_first, some } => {
            if cursor.is_some(*null_first)? {
                write_json(some, cursor, out)?;
            } else {
                out.extend_from_slice(b"null");
            }
        }
        Shape::Union(branches) => {
            let index = cursor.index(branches.len())?;
            write_json(branches.get(index).ok_or(DatumError::NoSuchBranch)?, cursor, out)?;
        }
        Shape::Recursive(of) => cursor.recurse(of, |shape, cursor| write_json(shape, cursor, out))?,
        Shape::Array(_) | Shape::Map(_) | Shape::Record(_) => nested(shape, cursor, out)?,
        time => write_time(time, cursor, out)?,
    }
    Ok(())
}

fn nested(shape: &Shape, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), DatumError> {
    match shape {
        Shape::Array(items) => {
            out.push(b'[');
            let start = out.len();
            cursor.items(|cursor| {
                comma(start, out);
                write_json(items, cursor, out)
            })?;
            out.push(b']');
        }
        Shape::Map(values) => {
            out.push(b'{');
            let start = out.len();
            cursor.items(|cursor| {
                comma(start, out);
                text(cursor.text()?, out);
                out.push(b':');
                write_json(values, cursor, out)
            })?;
            out.push(b'}');
        }
        Shape::Record(fields) => {
            out.push(b'{');
            let start = out.len();
            for field in fields {
                comma(start, out);
                text(&field.name, out);
                out.push(b':');
                write_json(&field.shape, cursor, out)?;
            }
            out.push(b'}');
        }
        _ => {}
    }
    Ok(())
}

fn write_time(shape: &Shape, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), DatumError> {
    let raw = match shape {
        Shape::Date | Shape::TimeMillis => i64::from(cursor.int()?),
        _ => cursor.long()?,
    };
    let (time, format) = match shape {
        Shape::Date => (raw.checked_mul(86_400).and_then(|s| Timestamp::from_second(s).ok()), "%F"),
        Shape::TimeMillis => (within_day(raw, 1_000).and_then(|raw| Timestamp::from_millisecond(raw).ok()), "%T%.3f"),
        Shape::TimeMicros => {
            (within_day(raw, 1_000_000).and_then(|raw| Timestamp::from_microsecond(raw).ok()), "%T%.6f")
        }
        Shape::TimestampMillis => (Timestamp::from_millisecond(raw).ok(), "%FT%T%.3fZ"),
        Shape::LocalTimestampMillis => (Timestamp::from_millisecond(raw).ok(), "%FT%T%.3f"),
        Shape::TimestampMicros => (Timestamp::from_microsecond(raw).ok(), "%FT%T%.6fZ"),
        Shape::LocalTimestampMicros => (Timestamp::from_microsecond(raw).ok(), "%FT%T%.6f"),
        Shape::TimestampNanos => (Timestamp::from_nanosecond(i128::from(raw)).ok(), "%FT%T%.9fZ"),
        _ => (Timestamp::from_nanosecond(i128::from(raw)).ok(), "%FT%T%.9f"),
    };
    match time {
        Some(time) => quoted(time.strftime(format), out),
        // Beyond the calendar's years, or the day: the number says more than nothing, or than another time.
        None => display(raw, out),
    }
    Ok(())
}

/// The time of day, if it is one.
fn within_day(raw: i64, per_second: i64) -> Option<i64> {
    (0..86_400 * per_second).contains(&raw).then_some(raw)
}

fn comma(start: usize, out: &mut Vec<u8>) {
    if out.len() > start {
        out.push(b',');
    }
}

fn display(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    out.extend_from_slice(value.to_string().as_bytes());
}

fn quoted(value: impl std::fmt::Display, out: &mut Vec<u8>) {
    out.extend_from_slice(format!("\"{value}\"").as_bytes());
}

/// JSON has no NaN and no infinities: as the texts that PostgreSQL, Java and JavaScript write and read.
fn number(value: f64, out: &mut Vec<u8>) {
    match serde_json::Number::from_f64(value) {
        Some(number) => display(number, out),
        None if value.is_nan() => quoted("NaN", out),
        None => quoted(if value > 0.0 { "Infinity" } else { "-Infinity" }, out),
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    // Writing text into memory cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn hex(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in bytes {
        out.extend_from_slice(format!("{byte:02x}").as_bytes());
    }
    out.push(b'"');
}
