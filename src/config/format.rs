//! How the records of a topic are written: `[source] format` and what belongs to it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A topic's format, with what it needs to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FormatConfig {
    /// The format.
    pub format: Format,
    /// Fields of `json`.
    pub fields: BTreeMap<String, FieldConfig>,
    /// Field → the type that it is read as.
    pub cast: BTreeMap<String, String>,
    /// What stands around each row.
    pub envelope: Envelope,
    /// Changes in an envelope are rows of their own, and this becomes of a truncate; `None`: they change rows.
    pub log: Option<Truncate>,
}

impl FormatConfig {
    /// Whether records are changes of rows, which their envelope says.
    pub fn are_changes(&self) -> bool {
        self.envelope == Envelope::Debezium && self.log.is_none()
    }
}

/// What stands around the row in a record's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Envelope {
    /// Nothing: the value is the row.
    #[default]
    None,
    /// Debezium's: what was done, and the row before and after that.
    Debezium,
}

/// What is done where the source's table was truncated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Truncate {
    /// The sink stops before it.
    #[default]
    Stop,
    /// Nothing: the rows stay.
    Ignore,
    /// The rows go.
    Apply,
}

/// How values (or keys) are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Confluent's wire format: a byte 0, the schema's id, Avro.
    #[default]
    Avro,
    /// JSON objects, whose fields are declared in `fields`.
    Json,
    /// JSON in Kafka Connect's envelope: `schema` and `payload` in each record.
    ConnectJson,
    /// Confluent's JSON Schema: a byte 0, the schema's id, JSON; or `schema` and `payload` in each record.
    JsonSchema,
}

impl Format {
    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Avro => "avro",
            Self::Json => "json",
            Self::ConnectJson => "connect_json",
            Self::JsonSchema => "json_schema",
        }
    }

    /// Whether the schemas stand in the registry.
    pub fn has_registered_schemas(self) -> bool {
        matches!(self, Self::Avro | Self::JsonSchema)
    }
}

/// A declared field: a type such as `long`, `array<string>` or `timestamp-micros?`, or a table of fields, which is a record.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum FieldConfig {
    /// Its type; with a `?` behind it, it may be null or missing.
    Type(String),
    /// A record.
    Record(BTreeMap<String, FieldConfig>),
}

/// `[source.key]`: how the records' keys are written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeyConfig {
    /// Format of the keys, by the names of `source.format`; unset, a key is opaque bytes.
    pub format: Option<Format>,
    /// Fields of `json`.
    pub fields: BTreeMap<String, FieldConfig>,
    /// Field → the type that it is read as.
    pub cast: BTreeMap<String, String>,
}

impl KeyConfig {
    /// The keys' format, if they are read.
    pub fn format(&self) -> Option<FormatConfig> {
        let format = self.format?;
        let (fields, cast) = (self.fields.clone(), self.cast.clone());
        Some(FormatConfig { format, fields, cast, ..FormatConfig::default() })
    }
}
