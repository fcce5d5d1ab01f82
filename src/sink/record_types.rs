//! Which of several record types in one topic a sink loads: `sink.records`.

use crate::avro::schema::{SchemaText, record_name};
use crate::config::sink::LoadConfig;

/// The record types that are loaded.
#[derive(Clone, Debug, Default)]
pub struct RecordTypes(Vec<String>);

impl RecordTypes {
    /// Of a pipeline's configuration.
    pub fn of(config: &LoadConfig) -> Self {
        Self(config.sink.records.clone())
    }

    /// All types are.
    pub fn are_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether records of this schema are: its name is in the list, with its namespace or without.
    pub fn hold(&self, schema: &SchemaText) -> bool {
        let is_named = |full: &str| {
            let simple = full.rsplit_once('.').map_or(full, |(_, simple)| simple);
            self.0.iter().any(|name| name == full || name == simple)
        };
        self.are_all() || record_name(schema).is_some_and(|full| is_named(&full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_named_with_its_namespace_or_without() {
        let order = SchemaText::from(r#"{"type":"record","name":"Order","namespace":"shop.till","fields":[]}"#);
        let dotted = SchemaText::from(r#"{"type":"record","name":"shop.till.Order","namespace":"other","fields":[]}"#);
        let of = |names: &[&str]| RecordTypes(names.iter().map(ToString::to_string).collect());
        for schema in [&order, &dotted] {
            for names in [&[][..], &["Order"], &["shop.till.Order"], &["Note", "Order"]] {
                assert!(of(names).hold(schema), "{names:?}");
            }
            for names in [&["till.Order"][..], &["other.Order"], &["order"], &["Note"]] {
                assert!(!of(names).hold(schema), "{names:?}");
            }
        }
        assert!(!of(&["Order"]).hold(&SchemaText::from("\"long\"")), "no record at all");
    }
}
