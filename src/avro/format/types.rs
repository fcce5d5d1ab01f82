//! What a JSON value is expected to be, and the Avro type that it becomes.

use std::collections::HashMap;
use std::sync::Arc;

use crate::avro::{Field, Shape, UuidForm};

/// A type of JSON values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Type {
    /// Of the field, such as `city.name`, for rejects.
    pub path: Arc<str>,
    pub kind: TypeKind,
    /// Null is a value of it, and what a missing field becomes.
    pub nullable: bool,
    /// What a missing field becomes otherwise: a datum of the type.
    pub default: Option<Vec<u8>>,
}

/// See [`Type`].
#[derive(Clone, Debug, PartialEq)]
pub(super) enum TypeKind {
    Boolean,
    /// Of so many bits: 8 and 16 are Kafka Connect's.
    Int {
        bits: u32,
    },
    Long,
    Float,
    Double,
    String,
    /// Base64.
    Bytes,
    Uuid,
    /// A number, or text of one; base64 of the unscaled number where `base64` is set.
    Decimal {
        precision: usize,
        scale: usize,
        base64: bool,
    },
    Date,
    TimeMillis,
    TimeMicros,
    Timestamp(Unit),
    LocalTimestamp(Unit),
    Array(Box<Type>),
    Map(Box<Type>),
    Record(Record),
    /// Any value, kept as JSON text.
    Json,
}

/// The unit of a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unit {
    Millis,
    Micros,
    Nanos,
}

/// Fields in the order of the datum.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    pub fields: Vec<(String, Type)>,
    pub by_name: HashMap<String, usize>,
}

impl Record {
    /// Errors: a name that is there twice.
    pub fn new(fields: Vec<(String, Type)>) -> Result<Self, String> {
        let mut by_name = HashMap::new();
        for (index, (name, _)) in fields.iter().enumerate() {
            if by_name.insert(name.clone(), index).is_some() {
                return Err(format!("field {name} is there twice"));
            }
        }
        Ok(Self { fields, by_name })
    }
}

impl Unit {
    pub fn per_second(self) -> i64 {
        match self {
            Self::Millis => 1_000,
            Self::Micros => 1_000_000,
            Self::Nanos => 1_000_000_000,
        }
    }
}

impl Type {
    pub fn new(path: &str, kind: TypeKind) -> Self {
        Self { path: Arc::from(path), kind, nullable: false, default: None }
    }

    /// The Avro type.
    pub fn shape(&self) -> Shape {
        let shape = self.kind.shape();
        if self.nullable { Shape::Optional { null_first: true, some: Box::new(shape) } } else { shape }
    }
}

impl TypeKind {
    fn shape(&self) -> Shape {
        match self {
            Self::Boolean => Shape::Boolean,
            Self::Int { .. } => Shape::Int,
            Self::Long => Shape::Long,
            Self::Float => Shape::Float,
            Self::Double => Shape::Double,
            Self::String | Self::Json => Shape::String,
            Self::Bytes => Shape::Bytes,
            Self::Uuid => Shape::Uuid(UuidForm::Text),
            Self::Decimal { precision, scale, .. } => {
                Shape::Decimal { precision: *precision, scale: *scale, fixed: None }
            }
            Self::Date => Shape::Date,
            Self::TimeMillis => Shape::TimeMillis,
            Self::TimeMicros => Shape::TimeMicros,
            Self::Timestamp(Unit::Millis) => Shape::TimestampMillis,
            Self::Timestamp(Unit::Micros) => Shape::TimestampMicros,
            Self::Timestamp(Unit::Nanos) => Shape::TimestampNanos,
            Self::LocalTimestamp(Unit::Millis) => Shape::LocalTimestampMillis,
            Self::LocalTimestamp(Unit::Micros) => Shape::LocalTimestampMicros,
            Self::LocalTimestamp(Unit::Nanos) => Shape::LocalTimestampNanos,
            Self::Array(items) => Shape::Array(Box::new(items.shape())),
            Self::Map(values) => Shape::Map(Box::new(values.shape())),
            Self::Record(record) => {
                let field = |(name, of): &(String, Type)| Field::new(name.clone(), of.shape());
                Shape::Record(record.fields.iter().map(field).collect())
            }
        }
    }

    /// In words, for rejects.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Boolean => "boolean",
            Self::Int { bits: 8 } => "int8",
            Self::Int { bits: 16 } => "int16",
            Self::Int { .. } => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::String => "string",
            Self::Bytes => "bytes in base64",
            Self::Uuid => "uuid",
            Self::Decimal { .. } => "decimal",
            Self::Date => "date",
            Self::TimeMillis | Self::TimeMicros => "time",
            Self::Timestamp(_) => "timestamp",
            Self::LocalTimestamp(_) => "local timestamp",
            Self::Array(_) => "array",
            Self::Map(_) => "map",
            Self::Record(_) => "object",
            Self::Json => "JSON",
        }
    }
}
