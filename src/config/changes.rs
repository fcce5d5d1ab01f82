//! `mode`, `deletes`, `pk_mode`, `pk_fields` and `key_format` of a sink: whether records are rows of their own or changes of rows
//! that have a key. The names are those of Kafka Connect's JDBC sinks.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How rows are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WriteMode {
    /// Each record is a row of its own; of changes in an envelope it is a log.
    #[default]
    Insert,
    /// Each record changes the row of its key.
    Upsert,
}

/// Where a row's key comes from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PkMode {
    /// Rows have no key.
    #[default]
    None,
    /// Topic, partition and offset. Refused: no record would ever change another one's row.
    Kafka,
    /// The record's key.
    RecordKey,
    /// Fields of the record's value.
    RecordValue,
}

/// How the records' keys are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KeyFormat {
    /// Confluent's wire format: a byte 0, the schema's id, Avro.
    #[default]
    Avro,
    /// UTF-8 text.
    Text,
    /// Bytes as they are.
    Bytes,
}

/// What becomes of a value that a change does not hold, because the update left it as it was (PostgreSQL's TOAST).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Toast {
    /// The change is a dead letter.
    #[default]
    Refuse,
    /// The row keeps the value that it has, which must be there; only in PostgreSQL.
    Skip,
}

/// What a sink's configuration says about changes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChangesConfig {
    /// Rows or changes.
    pub mode: WriteMode,
    /// A record without a value deletes the row of its key.
    pub deletes: bool,
    /// Where the key comes from.
    pub pk_mode: PkMode,
    /// The key's fields.
    pub pk_fields: Vec<String>,
    /// How the records' keys are written.
    pub key_format: KeyFormat,
    /// What becomes of values that a change does not hold.
    pub toast: Toast,
}

/// A key of the configuration, what is wrong with it, and what to do.
pub type Contradiction = (&'static str, &'static str, &'static str);

impl ChangesConfig {
    /// Whether records change rows.
    pub fn is_upsert(&self) -> bool {
        self.mode == WriteMode::Upsert
    }

    /// Whether the records' keys are read.
    pub fn reads_keys(&self) -> bool {
        self.is_upsert() && self.pk_mode == PkMode::RecordKey
    }

    /// What contradicts itself.
    pub fn faults(&self) -> Vec<Contradiction> {
        if self.is_upsert() { self.faults_of_upsert() } else { self.faults_of_insert() }
    }

    fn faults_of_insert(&self) -> Vec<Contradiction> {
        let cure = "set mode = \"upsert\", or remove it";
        let named = [
            ("deletes", self.deletes),
            ("pk_mode", self.pk_mode != PkMode::None),
            ("pk_fields", !self.pk_fields.is_empty()),
            ("key_format", self.key_format != KeyFormat::Avro),
            ("toast", self.toast != Toast::Refuse),
        ];
        let is_set = named.into_iter().filter(|(_, is_set)| *is_set);
        is_set.map(|(key, _)| (key, "has no effect: mode is insert", cure)).collect()
    }

    fn faults_of_upsert(&self) -> Vec<Contradiction> {
        let mut faults = Vec::new();
        match self.pk_mode {
            PkMode::None => faults.push((
                "pk_mode",
                "\"none\", but mode = \"upsert\" needs a key by which rows are found",
                "set pk_mode = \"record_key\", or \"record_value\" with pk_fields; or mode = \"insert\", which writes each record as \
                 a row of its own",
            )),
            PkMode::Kafka => faults.push((
                "pk_mode",
                "\"kafka\" gives each record a key of its own, so that no row is ever changed",
                "set mode = \"insert\" without pk_mode, which writes each record once; or pk_mode = \"record_key\"",
            )),
            PkMode::RecordValue => {
                if self.pk_fields.is_empty() {
                    faults.push(("pk_fields", "empty", "name the fields of the value that make the key"));
                }
                if self.deletes {
                    let cure = "set pk_mode = \"record_key\", or remove deletes";
                    faults.push(("deletes", "a record without a value has no key in its value", cure));
                }
                if self.key_format != KeyFormat::Avro {
                    let cure = "set pk_mode = \"record_key\", or remove it";
                    faults.push(("key_format", "has no effect: pk_mode is record_value", cure));
                }
            }
            PkMode::RecordKey if self.key_format != KeyFormat::Avro && self.pk_fields.len() != 1 => {
                let cure = "name one column, such as pk_fields = [\"id\"]";
                faults.push(("pk_fields", "a key of text or bytes is one value", cure));
            }
            PkMode::RecordKey => {}
        }
        let mut sorted: Vec<&str> = self.pk_fields.iter().map(String::as_str).collect();
        sorted.sort_unstable();
        if sorted.first().is_some_and(|first| first.is_empty()) || sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            faults.push(("pk_fields", "an empty name, or one twice", "name each field once"));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upsert(pk_mode: PkMode, fields: &[&str]) -> ChangesConfig {
        let pk_fields = fields.iter().map(ToString::to_string).collect();
        ChangesConfig { mode: WriteMode::Upsert, pk_mode, pk_fields, ..ChangesConfig::default() }
    }

    fn keys(config: &ChangesConfig) -> Vec<&'static str> {
        config.faults().iter().map(|fault| fault.0).collect()
    }

    #[test]
    fn contradictions_are_named_by_their_key() {
        assert!(keys(&ChangesConfig::default()).is_empty());
        let insert = ChangesConfig { deletes: true, pk_mode: PkMode::RecordKey, ..ChangesConfig::default() };
        assert_eq!(keys(&insert), ["deletes", "pk_mode"]);
        assert_eq!(keys(&upsert(PkMode::None, &[])), ["pk_mode"]);
        assert_eq!(keys(&upsert(PkMode::Kafka, &[])), ["pk_mode"]);
        assert_eq!(keys(&upsert(PkMode::RecordValue, &[])), ["pk_fields"]);
        assert_eq!(keys(&ChangesConfig { deletes: true, ..upsert(PkMode::RecordValue, &["id"]) }), ["deletes"]);
        assert_eq!(keys(&upsert(PkMode::RecordKey, &["id", "id"])), ["pk_fields"]);
        assert!(keys(&ChangesConfig { deletes: true, ..upsert(PkMode::RecordKey, &[]) }).is_empty());
        let text = |fields: &[&str]| ChangesConfig { key_format: KeyFormat::Text, ..upsert(PkMode::RecordKey, fields) };
        assert_eq!(keys(&text(&[])), ["pk_fields"]);
        assert!(keys(&text(&["id"])).is_empty());
    }
}
