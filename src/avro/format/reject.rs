//! Why a payload is no datum, in words that hold none of its values.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

/// What is wrong with it. The set is small and closed, so that it can be a metric's label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Reason {
    /// There is no value.
    NullValue,
    /// Not Confluent's wire format.
    NotWireFormat,
    /// Not one JSON document.
    NotJson,
    /// Nested too deep.
    TooDeep,
    /// A field is there twice.
    DuplicateKey,
    /// A field that must be there is missing.
    MissingField,
    /// A value of another type.
    WrongType,
    /// A value that its type cannot hold.
    OutOfRange,
    /// The schema that comes along cannot be read.
    UnreadableSchema,
    /// The source's log does not hold the value.
    Unavailable,
}

impl Reason {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::NullValue,
        Self::NotWireFormat,
        Self::NotJson,
        Self::TooDeep,
        Self::DuplicateKey,
        Self::MissingField,
        Self::WrongType,
        Self::OutOfRange,
        Self::UnreadableSchema,
        Self::Unavailable,
    ];

    /// Stable snake_case name.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NullValue => "null_value",
            Self::NotWireFormat => "not_wire_format",
            Self::NotJson => "not_json",
            Self::TooDeep => "too_deep",
            Self::DuplicateKey => "duplicate_key",
            Self::MissingField => "missing_field",
            Self::WrongType => "wrong_type",
            Self::OutOfRange => "out_of_range",
            Self::UnreadableSchema => "unreadable_schema",
            Self::Unavailable => "unavailable_value",
        }
    }

    const fn sentence(self) -> &'static str {
        match self {
            Self::NullValue => "the value is null",
            Self::NotWireFormat => {
                "the value is not in Confluent's wire format: it does not begin with a 0 byte and four bytes of schema id"
            }
            Self::NotJson => "the value is not one well-formed JSON document",
            Self::TooDeep => "arrays and objects are nested too deep",
            Self::DuplicateKey => "the field is there twice",
            Self::MissingField => "the field is missing, and its type takes no null",
            Self::WrongType => "the JSON value is not of the field's type",
            Self::OutOfRange => "the value is outside what the field's type can hold",
            Self::UnreadableSchema => "the record's schema cannot be read",
            Self::Unavailable => {
                "the change holds a placeholder instead of the value, which the update left as it was (TOAST)"
            }
        }
    }
}

/// A payload that is refused: why, for which field, and what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reject {
    /// Why.
    pub reason: Reason,
    /// The field's path, such as `city.name`; empty where it is the whole record.
    pub field: Arc<str>,
    /// What was expected and found, such as `expected long, found text`; empty where the reason says it all.
    pub detail: Cow<'static, str>,
}

impl Reject {
    /// The whole record is refused.
    pub fn record(reason: Reason) -> Self {
        Self { reason, field: Arc::from(""), detail: Cow::Borrowed("") }
    }

    /// The schema that came along is refused.
    pub(super) fn schema(what: impl Into<Cow<'static, str>>) -> Self {
        Self { detail: what.into(), ..Self::record(Reason::UnreadableSchema) }
    }

    /// The record is refused for one field.
    pub(super) fn field(reason: Reason, field: &Arc<str>, detail: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, field: Arc::clone(field), detail: detail.into() }
    }
}

impl fmt::Display for Reject {
    /// `order_time: the JSON value is not of the field's type (expected long, found text)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        f.write_str(self.reason.sentence())?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

impl std::error::Error for Reject {}
