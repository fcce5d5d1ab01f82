//! Single values: read from a datum's bytes, cast, written as Avro again. Nothing here allocates but where `out` must grow.

use std::io::Write as _;

use crate::avro::format::datum;
use crate::avro::{Cursor, Shape, UuidForm};
use crate::kafka::dead_letter::Reason;

/// A value that is no list, map or record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar<'a> {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// An int, a long, or a time in its unit.
    Int(i64),
    /// A float or a double.
    Double(f64),
    /// Text, a UUID's text, or an enum's symbol.
    Text(&'a str),
    /// Bytes or a fixed.
    Bytes(&'a [u8]),
}

/// How a scalar is written in a datum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// One byte.
    Bool,
    /// A varint.
    Int,
    /// Four bytes.
    Float,
    /// Eight bytes.
    Double,
    /// Length and text.
    Text,
    /// Index of a symbol.
    Symbol(Vec<String>),
    /// Length and bytes.
    Bytes,
    /// Bytes alone.
    Fixed,
}

impl Form {
    /// The form of a shape, if it is a scalar's.
    pub fn of(shape: &Shape) -> Option<Self> {
        Some(match shape {
            Shape::Boolean => Self::Bool,
            Shape::Int
            | Shape::Long
            | Shape::Date
            | Shape::TimeMillis
            | Shape::TimeMicros
            | Shape::TimestampMillis
            | Shape::TimestampMicros
            | Shape::TimestampNanos
            | Shape::LocalTimestampMillis
            | Shape::LocalTimestampMicros
            | Shape::LocalTimestampNanos => Self::Int,
            Shape::Float => Self::Float,
            Shape::Double => Self::Double,
            Shape::String | Shape::Uuid(UuidForm::Text) => Self::Text,
            Shape::Enum(symbols) => Self::Symbol(symbols.clone()),
            Shape::Bytes | Shape::Uuid(UuidForm::Bytes) => Self::Bytes,
            Shape::Fixed(_) | Shape::Uuid(UuidForm::Fixed) => Self::Fixed,
            _ => return None,
        })
    }

    /// The value of these bytes, which the walk has found sound; null for others.
    #[inline]
    pub fn read<'a>(&'a self, bytes: &'a [u8]) -> Scalar<'a> {
        let mut cursor = Cursor::new(bytes);
        let read = match self {
            Self::Bool => cursor.boolean().map(Scalar::Bool),
            Self::Int => cursor.long().map(Scalar::Int),
            Self::Float => cursor.float().map(|value| Scalar::Double(f64::from(value))),
            Self::Double => cursor.double().map(Scalar::Double),
            Self::Text => cursor.text().map(Scalar::Text),
            Self::Symbol(symbols) => {
                return cursor
                    .index(symbols.len())
                    .ok()
                    .and_then(|index| symbols.get(index))
                    .map_or(Scalar::Null, |symbol| Scalar::Text(symbol));
            }
            Self::Bytes => cursor.bytes().map(Scalar::Bytes),
            Self::Fixed => return Scalar::Bytes(bytes),
        };
        read.unwrap_or(Scalar::Null)
    }
}

/// A change of type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cast {
    /// The same bytes under another name.
    Same,
    /// Text that must be a UUID.
    Uuid,
    /// A time in another unit: times the first number, or divided by the second, towards the past.
    Scale(i64, i64),
    /// To an int, where it fits.
    ToInt,
    /// To a long, where it fits: a number without a fraction, or its text.
    ToLong,
    /// To a float.
    ToFloat,
    /// To a double.
    ToDouble,
    /// To text.
    ToText,
    /// `true` or `false` to a boolean.
    ToBool,
}

impl Cast {
    /// The cast from one type to another, if there is one.
    pub fn between(from: &Shape, to: &Shape) -> Option<Self> {
        use Shape::{Boolean, Date, Double, Enum, Float, Int, Long, String, TimeMicros, TimeMillis, Uuid};
        if from == to {
            return Some(Self::Same);
        }
        Some(match (from, to) {
            (Int, Long | Date | TimeMillis)
            | (Date | TimeMillis, Int | Long)
            | (Long, TimeMicros)
            | (TimeMicros, Long) => Self::Same,
            (Uuid(UuidForm::Text), String) => Self::Same,
            (String, Uuid(UuidForm::Text)) => Self::Uuid,
            (TimeMillis, TimeMicros) => Self::Scale(1000, 1),
            (TimeMicros, TimeMillis) => Self::Scale(1, 1000),
            (Long | Double | Float | String, Int) => Self::ToInt,
            (Double | Float | String, Long) => Self::ToLong,
            (Int | Long | Double | String, Float) => Self::ToFloat,
            (Int | Long | Float | String, Double) => Self::ToDouble,
            (Int | Long | Float | Double | Boolean | Enum(_), String) => Self::ToText,
            (String, Boolean) => Self::ToBool,
            (from, to) => return Self::between_times(from, to),
        })
    }

    fn between_times(from: &Shape, to: &Shape) -> Option<Self> {
        match (unit(from), unit(to)) {
            (None, Some(_)) if *from == Shape::Long => Some(Self::Same),
            (Some(_), None) if *to == Shape::Long => Some(Self::Same),
            // A wall's clock and an instant are not the same: only the unit changes.
            (Some((from, local)), Some((to, also))) if local == also => {
                Some(if to >= from { Self::Scale(to / from, 1) } else { Self::Scale(1, from / to) })
            }
            _ => None,
        }
    }

    /// The value under the other type. Errors: it cannot be cast.
    #[inline]
    pub fn apply<'a>(self, value: Scalar<'a>) -> Result<Scalar<'a>, Reason> {
        let fits = |number: i64| i32::try_from(number).map(|_| Scalar::Int(number)).map_err(|_| Reason::OutOfRange);
        Ok(match (self, value) {
            (Self::Same | Self::ToText, value) | (_, value @ Scalar::Null) => value,
            (Self::Uuid, Scalar::Text(text)) => {
                let is_uuid = crate::pipeline::press::event::SessionId::parse(text).is_some();
                return if is_uuid { Ok(value) } else { Err(Reason::BadUuid) };
            }
            (Self::Scale(times, by), Scalar::Int(number)) => {
                Scalar::Int(number.checked_mul(times).ok_or(Reason::OutOfRange)?.div_euclid(by))
            }
            (Self::ToInt, value) => match whole(value)? {
                Scalar::Int(number) => fits(number)?,
                other => other,
            },
            (Self::ToLong, value) => whole(value)?,
            (Self::ToFloat | Self::ToDouble, Scalar::Int(number)) => Scalar::Double(number as f64),
            (Self::ToFloat | Self::ToDouble, Scalar::Text(text)) => {
                Scalar::Double(text.trim().parse().map_err(|_| Reason::WrongType)?)
            }
            (Self::ToBool, Scalar::Text("true")) => Scalar::Bool(true),
            (Self::ToBool, Scalar::Text("false")) => Scalar::Bool(false),
            (Self::ToBool | Self::Uuid | Self::Scale(..), _) => return Err(Reason::WrongType),
            (Self::ToFloat | Self::ToDouble, value) => value,
        })
    }
}

/// The number without a fraction that a value is.
fn whole(value: Scalar<'_>) -> Result<Scalar<'_>, Reason> {
    match value {
        // 2^63 is the first double beyond a long; -2^63 is the last one within.
        Scalar::Double(number)
            if number.fract() == 0.0
                && (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number) =>
        {
            Ok(Scalar::Int(number as i64))
        }
        Scalar::Double(_) => Err(Reason::OutOfRange),
        Scalar::Text(text) => text.trim().parse().map(Scalar::Int).map_err(|_| Reason::WrongType),
        Scalar::Int(_) => Ok(value),
        _ => Err(Reason::WrongType),
    }
}

/// Parts of a second, and whether it is a wall's clock, of a timestamp's type.
fn unit(shape: &Shape) -> Option<(i64, bool)> {
    Some(match shape {
        Shape::TimestampMillis => (1_000, false),
        Shape::TimestampMicros => (1_000_000, false),
        Shape::TimestampNanos => (1_000_000_000, false),
        Shape::LocalTimestampMillis => (1_000, true),
        Shape::LocalTimestampMicros => (1_000_000, true),
        Shape::LocalTimestampNanos => (1_000_000_000, true),
        _ => return None,
    })
}

/// The type that a cast of the configuration names.
pub fn type_of_name(name: &str) -> Option<Shape> {
    Some(match name {
        "boolean" => Shape::Boolean,
        "int" => Shape::Int,
        "long" => Shape::Long,
        "float" => Shape::Float,
        "double" => Shape::Double,
        "string" => Shape::String,
        "uuid" => Shape::Uuid(UuidForm::Text),
        "date" => Shape::Date,
        "time-millis" => Shape::TimeMillis,
        "time-micros" => Shape::TimeMicros,
        "timestamp-millis" => Shape::TimestampMillis,
        "timestamp-micros" => Shape::TimestampMicros,
        "timestamp-nanos" => Shape::TimestampNanos,
        "local-timestamp-millis" => Shape::LocalTimestampMillis,
        "local-timestamp-micros" => Shape::LocalTimestampMicros,
        "local-timestamp-nanos" => Shape::LocalTimestampNanos,
        _ => return None,
    })
}

/// The names that [`type_of_name`] knows.
pub const TYPE_NAMES: &str = "boolean, int, long, float, double, string, uuid, date, time-millis, time-micros, \
                              timestamp-millis, timestamp-micros, timestamp-nanos, local-timestamp-millis, \
                              local-timestamp-micros, local-timestamp-nanos";

/// Appends a value as Avro of a form; one that is not of the form as its text, where the form is text.
pub fn write(form: &Form, value: Scalar<'_>, out: &mut Vec<u8>) {
    match (form, value) {
        (Form::Bool, Scalar::Bool(value)) => out.push(u8::from(value)),
        (Form::Int, Scalar::Int(value)) => datum::long(value, out),
        (Form::Float, Scalar::Double(value)) => out.extend_from_slice(&(value as f32).to_le_bytes()),
        (Form::Double, Scalar::Double(value)) => out.extend_from_slice(&value.to_le_bytes()),
        (Form::Text, Scalar::Text(text)) => datum::bytes(text.as_bytes(), out),
        (Form::Text, value) => {
            let mut room = [0u8; 32];
            let text = as_text(value, &mut room);
            datum::bytes(text, out);
        }
        // Unreachable: the compiler pairs forms and casts.
        (_, Scalar::Bytes(bytes)) => datum::bytes(bytes, out),
        _ => {}
    }
}

/// A value as text: `true`, digits, the text itself.
pub fn as_text<'a>(value: Scalar<'a>, room: &'a mut [u8; 32]) -> &'a [u8] {
    let length = {
        let mut rest: &mut [u8] = room;
        let whole = rest.len();
        // 32 bytes hold every number.
        let _ = match value {
            Scalar::Null => Ok(()),
            Scalar::Bool(value) => write!(rest, "{value}"),
            Scalar::Int(value) => write!(rest, "{value}"),
            Scalar::Double(value) => write!(rest, "{value:?}"),
            Scalar::Text(text) => return text.as_bytes(),
            Scalar::Bytes(bytes) => return bytes,
        };
        whole - rest.len()
    };
    &room[..length]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_time_in_a_larger_unit_goes_towards_the_past() {
        let cast = Cast::between(&Shape::TimestampMicros, &Shape::TimestampMillis).unwrap();
        assert_eq!(cast.apply(Scalar::Int(-1)), Ok(Scalar::Int(-1)));
        assert_eq!(cast.apply(Scalar::Int(1_999)), Ok(Scalar::Int(1)));
        let back = Cast::between(&Shape::TimestampMillis, &Shape::TimestampNanos).unwrap();
        assert_eq!(back.apply(Scalar::Int(-3)), Ok(Scalar::Int(-3_000_000)));
        assert_eq!(back.apply(Scalar::Int(i64::MAX)), Err(Reason::OutOfRange));
        assert_eq!(Cast::between(&Shape::TimestampMillis, &Shape::LocalTimestampMillis), None);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let to_int = Cast::between(&Shape::Long, &Shape::Int).unwrap();
        assert_eq!(to_int.apply(Scalar::Int(i64::from(i32::MIN))), Ok(Scalar::Int(i64::from(i32::MIN))));
        assert_eq!(to_int.apply(Scalar::Int(1 << 31)), Err(Reason::OutOfRange));
        let to_long = Cast::between(&Shape::Double, &Shape::Long).unwrap();
        assert_eq!(to_long.apply(Scalar::Double(-2.0)), Ok(Scalar::Int(-2)));
        for wrong in [0.5, f64::NAN, f64::INFINITY, 9.3e18] {
            assert_eq!(to_long.apply(Scalar::Double(wrong)), Err(Reason::OutOfRange), "{wrong}");
        }
        assert_eq!(Cast::ToLong.apply(Scalar::Text("12x")), Err(Reason::WrongType));
        assert_eq!(Cast::ToBool.apply(Scalar::Text("yes")), Err(Reason::WrongType));
        assert_eq!(Cast::Uuid.apply(Scalar::Text("not one")), Err(Reason::BadUuid));
        assert_eq!(Cast::ToInt.apply(Scalar::Null), Ok(Scalar::Null));
    }

    #[test]
    fn numbers_become_text_as_people_write_them() {
        let mut out = Vec::new();
        for (value, text) in [
            (Scalar::Int(i64::MIN), "-9223372036854775808"),
            (Scalar::Double(0.1), "0.1"),
            (Scalar::Double(1e300), "1e300"),
            (Scalar::Bool(true), "true"),
        ] {
            out.clear();
            write(&Form::Text, value, &mut out);
            assert_eq!(Form::Text.read(&out), Scalar::Text(text));
        }
    }

    #[test]
    fn longs_are_read_as_they_were_written() {
        for number in [0, -1, 1, 63, -64, 64, i64::MAX, i64::MIN, 1_795_262_400_000_000] {
            let mut out = Vec::new();
            datum::long(number, &mut out);
            assert_eq!(Form::Int.read(&out), Scalar::Int(number));
        }
    }
}
