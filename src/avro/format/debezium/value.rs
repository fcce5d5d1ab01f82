//! One value as Debezium writes it, and the Avro type that it becomes.
//!
//! In Avro the meaning stands in the schema's attribute `connect.name`, where the standard's logical types are not used. Some
//! values are none: an infinite time is a number or a text that no other time has, and a value that the source's log does not
//! hold, since the update left it unchanged (TOAST), is a placeholder. Both are refused, never written.

use std::borrow::Cow;

use super::super::datum;
use super::super::reject::{Reason, Reject};
use super::schema::Schemas;
use crate::avro::{Cursor, DatumError, Shape, UuidForm, timestamp};

/// What stands for a value that is not in the log: Debezium's `unavailable.value.placeholder`.
pub(super) const PLACEHOLDER: &str = "__debezium_unavailable_value";
/// The same in the encodings of `binary.handling.mode`: hex and base64.
const ENCODED: [&str; 2] =
    ["5f5f646562657a69756d5f756e617661696c61626c655f76616c7565", "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="];
/// Days that stand for infinity and minus infinity: of a snapshot, of the log.
const INFINITE_DAYS: [i64; 4] = [-622_191_234, -625_821_272, -2_147_472_692, -2_147_472_691];
/// Microseconds that stand for infinity and minus infinity.
const INFINITE_MICROS: [i64; 2] = [9_223_372_036_825_200_000, -9_223_372_036_832_400_000];
/// Most digits after the point of a number whose scale comes along: what PostgreSQL's numeric has.
const MOST_PLACES: i32 = 16_383;

/// How a value is written anew.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// As it is.
    Copy(Shape),
    /// A time, of whose numbers these stand for infinity.
    Finite(Shape, Vec<i64>),
    /// Text, unless it is the placeholder.
    Text(Shape),
    /// Bytes, unless they are the placeholder.
    Bytes,
    /// Text of an instant; becomes microseconds.
    Instant,
    /// A number with its scale beside it; becomes text.
    VariableScale,
    /// With its null branch.
    Optional { null_first: bool, some: Box<Value> },
    /// With a null branch that the source's type does not have: only what no row is needs it.
    Nullable(Box<Value>),
    /// Item by item.
    Array(Box<Value>),
    /// Entry by entry.
    Map(Box<Value>),
    /// Nothing can be done with it; the type's name.
    Unusable(&'static str),
}

/// Why a value is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    Damaged(DatumError),
    Infinite,
    Unavailable,
    NoInstant(&'static str),
    TooManyPlaces,
    Unusable(&'static str),
}

impl From<DatumError> for Unfit {
    fn from(error: DatumError) -> Self {
        Self::Damaged(error)
    }
}

impl Unfit {
    /// For the field of this name.
    pub fn of(self, field: &std::sync::Arc<str>) -> Reject {
        let (reason, detail): (_, Cow<'static, str>) = match self {
            Self::Damaged(error) => (Reason::WrongType, error.to_string().into()),
            Self::Infinite => (
                Reason::OutOfRange,
                "an infinite date or time, which Debezium writes as an ordinary number; change the row at its source, or leave the \
                 field out: columns.ignore"
                    .into(),
            ),
            Self::Unavailable => (Reason::Unavailable, "ALTER TABLE ... REPLICA IDENTITY FULL at the source".into()),
            Self::NoInstant(found) => (Reason::OutOfRange, found.into()),
            Self::TooManyPlaces => (Reason::OutOfRange, "a scale that numeric does not have".into()),
            Self::Unusable(name) => (Reason::WrongType, format!("{name}; leave it out: columns.ignore").into()),
        };
        Reject::field(reason, field, detail)
    }
}

impl Value {
    /// Of a shape, and of the schema that has it, if that is Avro's.
    pub fn of(shape: &Shape, schema: Option<&serde_json::Value>, schemas: &Schemas<'_>) -> Self {
        let schema = schema.map(|schema| schemas.resolve(schema));
        match shape {
            Shape::Optional { null_first, some } => {
                let some = Self::of(some, schema.and_then(|schema| schemas.not_null(schema)), schemas);
                Self::Optional { null_first: *null_first, some: Box::new(some) }
            }
            Shape::Array(items) => {
                Self::Array(Box::new(Self::of(items, schema.and_then(|schema| schema.get("items")), schemas)))
            }
            Shape::Map(values) => {
                Self::Map(Box::new(Self::of(values, schema.and_then(|schema| schema.get("values")), schemas)))
            }
            Shape::Record(fields) => {
                let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
                match names[..] {
                    ["scale", "value"] => Self::VariableScale,
                    ["wkb", "srid"] | ["srid", "wkb"] | ["x", "y", "wkb", "srid"] => Self::Unusable("a geometry"),
                    _ => Self::Copy(shape.clone()),
                }
            }
            simple => Self::simple(simple, schema.and_then(|schema| schema.get("connect.name")?.as_str())),
        }
    }

    fn simple(shape: &Shape, name: Option<&str>) -> Self {
        let name = name.unwrap_or_default();
        let known = match (name.strip_prefix("io.debezium.").unwrap_or(name), shape) {
            ("time.Date" | "org.apache.kafka.connect.data.Date", Shape::Int) => Shape::Date,
            ("time.Time" | "org.apache.kafka.connect.data.Time", Shape::Int) => Shape::TimeMillis,
            ("time.MicroTime", Shape::Long) => Shape::TimeMicros,
            ("time.Timestamp", Shape::Long) => Shape::LocalTimestampMillis,
            ("time.MicroTimestamp", Shape::Long) => Shape::LocalTimestampMicros,
            ("time.NanoTimestamp", Shape::Long) => Shape::LocalTimestampNanos,
            ("org.apache.kafka.connect.data.Timestamp", Shape::Long) => Shape::TimestampMillis,
            ("data.Uuid", Shape::String) => Shape::Uuid(UuidForm::Text),
            ("time.ZonedTimestamp", Shape::String) => return Self::Instant,
            (_, other) => other.clone(),
        };
        match &known {
            Shape::Date => Self::Finite(known, INFINITE_DAYS.to_vec()),
            Shape::LocalTimestampMillis | Shape::TimestampMillis => {
                Self::Finite(known, INFINITE_MICROS.map(|micros| micros / 1_000).to_vec())
            }
            Shape::LocalTimestampMicros | Shape::TimestampMicros => Self::Finite(known, INFINITE_MICROS.to_vec()),
            Shape::String => Self::Text(known),
            Shape::Bytes => Self::Bytes,
            _ => Self::Copy(known),
        }
    }

    /// The type that it becomes.
    pub fn shape(&self) -> Shape {
        match self {
            Self::Copy(shape) | Self::Finite(shape, _) | Self::Text(shape) => shape.clone(),
            Self::Bytes => Shape::Bytes,
            Self::Instant => Shape::TimestampMicros,
            Self::VariableScale => Shape::String,
            Self::Optional { null_first, some } => {
                Shape::Optional { null_first: *null_first, some: Box::new(some.shape()) }
            }
            Self::Nullable(some) => Shape::Optional { null_first: true, some: Box::new(some.shape()) },
            Self::Array(items) => Shape::Array(Box::new(items.shape())),
            Self::Map(values) => Shape::Map(Box::new(values.shape())),
            // A table is told of it by this name.
            Self::Unusable(_) => Shape::Record(Vec::new()),
        }
    }

    /// Whether it has a null branch.
    pub fn takes_null(&self) -> bool {
        matches!(self, Self::Optional { .. } | Self::Nullable(_) | Self::Copy(Shape::Null))
    }

    /// Writes null; whether it is one of the values.
    pub fn write_null(&self, out: &mut Vec<u8>) -> bool {
        match self {
            Self::Optional { null_first, .. } => datum::long(i64::from(!null_first), out),
            Self::Nullable(_) => datum::long(0, out),
            _ => return self.takes_null(),
        }
        true
    }

    /// Writes the value that comes next. `may_lack`: it may be a placeholder.
    pub fn write(&self, cursor: &mut Cursor<'_>, may_lack: bool, out: &mut Vec<u8>) -> Result<(), Unfit> {
        match self {
            Self::Copy(shape) => {
                let before = cursor.rest();
                cursor.skip(shape)?;
                let length = before.len() - cursor.rest().len();
                out.extend_from_slice(before.get(..length).unwrap_or_default());
            }
            Self::Finite(_, infinite) => {
                let number = cursor.long()?;
                if infinite.contains(&number) {
                    return Err(Unfit::Infinite);
                }
                datum::long(number, out);
            }
            Self::Text(_) => {
                let text = cursor.text()?;
                if may_lack && (text == PLACEHOLDER || ENCODED.contains(&text)) {
                    return Err(Unfit::Unavailable);
                }
                datum::bytes(text.as_bytes(), out);
            }
            Self::Bytes => {
                let bytes = cursor.bytes()?;
                if may_lack && bytes == PLACEHOLDER.as_bytes() {
                    return Err(Unfit::Unavailable);
                }
                datum::bytes(bytes, out);
            }
            Self::Instant => {
                let text = cursor.text()?;
                match text {
                    "infinity" | "-infinity" => return Err(Unfit::Infinite),
                    _ => datum::long(timestamp::parse(text).map_err(Unfit::NoInstant)?, out),
                }
            }
            Self::VariableScale => variable_scale(cursor, out)?,
            Self::Optional { null_first, some } => {
                let is_some = cursor.is_some(*null_first)?;
                datum::long(i64::from(is_some == *null_first), out);
                if is_some {
                    some.write(cursor, may_lack, out)?;
                }
            }
            Self::Nullable(some) => {
                datum::long(1, out);
                some.write(cursor, may_lack, out)?;
            }
            Self::Array(items) => items_of(items, cursor, may_lack, out)?,
            Self::Map(values) => {
                let begin = datum::begin_items(out);
                let count = cursor.items(|cursor| {
                    let key = cursor.text()?;
                    if may_lack && key == PLACEHOLDER {
                        return Err(Unfit::Unavailable);
                    }
                    datum::bytes(key.as_bytes(), out);
                    values.write(cursor, may_lack, out)
                })?;
                datum::end_items(begin, count, out);
            }
            Self::Unusable(name) => return Err(Unfit::Unusable(name)),
        }
        Ok(())
    }
}

fn items_of(items: &Value, cursor: &mut Cursor<'_>, may_lack: bool, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let (begin, before) = (datum::begin_items(out), cursor.clone());
    let count = cursor.items(|cursor| items.write(cursor, may_lack, out))?;
    if may_lack && count == PLACEHOLDER.len() && are_placeholder(items, before) {
        return Err(Unfit::Unavailable);
    }
    datum::end_items(begin, count, out);
    Ok(())
}

/// Whether numbers are the bytes of the placeholder: so an array of numbers that is not in the log is written.
fn are_placeholder(items: &Value, mut cursor: Cursor<'_>) -> bool {
    let (plain, null_first) = match items {
        Value::Optional { null_first, some } => (some.as_ref(), Some(*null_first)),
        other => (other, None),
    };
    let mut expected = PLACEHOLDER.bytes();
    let mut is_same = true;
    let read = cursor.items(|cursor| {
        let is_some = null_first.map_or(Ok(true), |null_first| cursor.is_some(null_first))?;
        let number = match (is_some, plain) {
            (false, _) => None,
            (true, Value::Copy(Shape::Int | Shape::Long)) => Some(cursor.long()? as f64),
            (true, Value::Copy(Shape::Float)) => Some(f64::from(cursor.float()?)),
            (true, Value::Copy(Shape::Double)) => Some(cursor.double()?),
            (true, other) => {
                let mut unused = Vec::new();
                other.write(cursor, false, &mut unused).map_err(|_| DatumError::TooShort)?;
                None
            }
        };
        is_same &= number.is_some() && number == expected.next().map(f64::from);
        Ok::<(), DatumError>(())
    });
    read.is_ok() && is_same
}

/// Scale and unscaled number, big endian, as the number's text.
fn variable_scale(cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let scale = cursor.int()?;
    let digits = cursor.decimal(None)?;
    if !(-MOST_PLACES..=MOST_PLACES).contains(&scale) {
        return Err(Unfit::TooManyPlaces);
    }
    let mut text = crate::avro::decimal_text(digits, usize::try_from(scale).unwrap_or(0));
    if scale < 0 && text != "0" {
        text.extend(std::iter::repeat_n('0', scale.unsigned_abs() as usize));
    }
    datum::bytes(text.as_bytes(), out);
    Ok(())
}
