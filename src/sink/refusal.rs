//! Why a row cannot be written, in words that hold none of its values.

use std::sync::Arc;

use crate::avro::DatumError;
use crate::avro::format::Reject;

/// What is wrong with a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// The record has no value.
    #[error("the value is null (a tombstone), which a sink without `deletes = true` cannot write")]
    NullValue,
    /// The record has no key.
    #[error("the record has no key, or a part of it is null: no row can be found by it")]
    NoKey,
    /// The key is not in Confluent's wire format.
    #[error(
        "the key is not in Confluent's wire format (key_format = \"avro\"): it does not begin with a 0 byte and a schema id"
    )]
    KeyNotWireFormat,
    /// Not Confluent's wire format.
    #[error("the value is not in Confluent's wire format: it does not begin with a 0 byte and four bytes of schema id")]
    NotWireFormat,
    /// The registry does not have the schema.
    #[error("the registry has no schema of the record's id")]
    UnknownSchema,
    /// The registry's schema is of a kind, or of a form, that cannot be read.
    #[error("the registry's schema of the record's id cannot be read: {0}")]
    UnreadableSchema(String),
    /// The payload is no record of the source's format.
    #[error("{0}")]
    NotOfFormat(Reject),
    /// The bytes are not what the schema says.
    #[error("the bytes do not fit the schema: {0}")]
    Damaged(#[from] DatumError),
    /// Outside what the column holds.
    #[error("the value is outside what the column's type can hold")]
    OutOfRange,
    /// Digits would be lost.
    #[error("the value has more digits than the column's type keeps")]
    Inexact,
    /// Longer than the column.
    #[error("the value is longer than the column")]
    TooLong,
    /// Null in a column that takes none.
    #[error("null in a column that does not take null")]
    Null,
    /// No UUID.
    #[error("the text is not a UUID")]
    NotUuid,
    /// Not a label of the column's enum.
    #[error("the text is not a label of the column's enum type")]
    UnknownLabel,
    /// No JSON.
    #[error("the text is not JSON")]
    NotJson,
    /// A NUL character, which the database's text cannot hold.
    #[error("the text has a NUL character, which the column's type cannot hold")]
    NulCharacter,
    /// The database itself refused the row: its code for why (SQLSTATE or ClickHouse's number).
    #[error("the database refuses the row (code {0})")]
    Database(String),
    /// A materialized view failed on an insert. Its rows are in the table: this is a notice beside them, no outcome of theirs.
    #[error(
        "offsets {first} to {last}: {rows} rows are in the table, but not in that of the materialized view, which failed on their \
         insert (code {code})"
    )]
    View {
        /// First offset.
        first: i64,
        /// Last offset.
        last: i64,
        /// Rows.
        rows: usize,
        /// ClickHouse's number.
        code: String,
    },
}

/// [`Why::View`]'s code.
pub const VIEW: &str = "view";

impl Why {
    /// All codes, for the metric's labels.
    pub const CODES: [&'static str; 21] = [
        "null_value",
        "no_key",
        "key_not_wire_format",
        "not_wire_format",
        "unknown_schema",
        "unreadable_schema",
        "damaged",
        "too_deep",
        "duplicate_key",
        "missing_field",
        "wrong_type",
        "unavailable_value",
        "out_of_range",
        "inexact",
        "too_long",
        "null",
        "not_uuid",
        "unknown_label",
        "not_json",
        "nul_character",
        "database",
    ];

    /// Stable snake_case name for the dead letter's header and the metric's label.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NullValue => "null_value",
            Self::NoKey => "no_key",
            Self::KeyNotWireFormat => "key_not_wire_format",
            Self::NotWireFormat => "not_wire_format",
            Self::UnknownSchema => "unknown_schema",
            Self::UnreadableSchema(_) => "unreadable_schema",
            Self::NotOfFormat(reject) => reject.reason.code(),
            Self::Damaged(_) => "damaged",
            Self::OutOfRange => "out_of_range",
            Self::Inexact => "inexact",
            Self::TooLong => "too_long",
            Self::Null => "null",
            Self::NotUuid => "not_uuid",
            Self::UnknownLabel => "unknown_label",
            Self::NotJson => "not_json",
            Self::NulCharacter => "nul_character",
            Self::Database(_) => "database",
            Self::View { .. } => VIEW,
        }
    }
}

/// A value that cannot be written, and its column.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{why}", of_column(column))]
pub struct Refusal {
    /// Column; empty where it is the whole row.
    pub column: Arc<str>,
    /// What is wrong.
    pub why: Why,
}

impl Refusal {
    /// The whole row is refused.
    pub fn row(why: impl Into<Why>) -> Self {
        Self { column: Arc::from(""), why: why.into() }
    }

    /// The column that it is about, or the field of a record that could not be read; empty where it is the whole row.
    pub fn field(&self) -> &str {
        match &self.why {
            Why::NotOfFormat(reject) => &reject.field,
            _ => &self.column,
        }
    }

    /// The row is refused for one column.
    pub fn column(column: &Arc<str>, why: impl Into<Why>) -> Self {
        Self { column: Arc::clone(column), why: why.into() }
    }
}

impl From<Reject> for Refusal {
    fn from(reject: Reject) -> Self {
        // The field is named by the reject's own words.
        Self::row(Why::NotOfFormat(reject))
    }
}

fn of_column(column: &str) -> String {
    if column.is_empty() { String::new() } else { format!("column {column}: ") }
}
