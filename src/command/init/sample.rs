//! What fields the JSON records of a sample have, as declared types.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value;

use super::draft::{key, quoted};

/// What values of a field have been seen.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    null: bool,
    kinds: Vec<SampleType>,
}

#[derive(Clone, Debug, PartialEq)]
enum SampleType {
    Boolean,
    Whole,
    Fraction,
    Text,
    Uuid,
    /// ISO 8601 with an offset.
    Time,
    /// An IP address, which is personal data.
    Address,
    Array(Box<Seen>),
    Object(BTreeMap<String, Seen>),
}

impl Seen {
    /// Takes a value into account.
    pub fn add(&mut self, value: &Value) {
        let kind = match value {
            Value::Null => {
                self.null = true;
                return;
            }
            Value::Bool(_) => SampleType::Boolean,
            Value::Number(number) if number.is_i64() => SampleType::Whole,
            Value::Number(_) => SampleType::Fraction,
            Value::String(text) if text.len() == 36 && uuid::Uuid::try_parse(text).is_ok() => SampleType::Uuid,
            Value::String(text) if text.parse::<IpAddr>().is_ok() => SampleType::Address,
            Value::String(text) if crate::avro::timestamp::parse(text).is_ok() => SampleType::Time,
            Value::String(_) => SampleType::Text,
            Value::Array(items) => {
                let mut seen = Seen::default();
                items.iter().for_each(|item| seen.add(item));
                SampleType::Array(Box::new(seen))
            }
            Value::Object(fields) => {
                let of = |(name, value): (&String, &Value)| {
                    let mut seen = Seen::default();
                    seen.add(value);
                    (name.clone(), seen)
                };
                SampleType::Object(fields.iter().map(of).collect())
            }
        };
        self.merge(kind);
    }

    fn merge(&mut self, kind: SampleType) {
        for known in &mut self.kinds {
            if *known == kind {
                return;
            }
            match (&mut *known, &kind) {
                (SampleType::Array(items), SampleType::Array(more)) => return items.unite(more),
                (SampleType::Object(fields), SampleType::Object(more)) => {
                    for (name, seen) in fields.iter_mut() {
                        match more.get(name) {
                            Some(more) => seen.unite(more),
                            None => seen.null = true,
                        }
                    }
                    for (name, seen) in more.iter().filter(|(name, _)| !fields.contains_key(*name)).collect::<Vec<_>>()
                    {
                        fields.insert(name.clone(), Seen { null: true, ..seen.clone() });
                    }
                    return;
                }
                (SampleType::Whole | SampleType::Fraction, SampleType::Whole | SampleType::Fraction) => {
                    *known = SampleType::Fraction;
                    return;
                }
                (
                    SampleType::Text | SampleType::Uuid | SampleType::Time,
                    SampleType::Text | SampleType::Uuid | SampleType::Time,
                ) => {
                    *known = SampleType::Text;
                    return;
                }
                _ => {}
            }
        }
        self.kinds.push(kind);
    }

    fn unite(&mut self, more: &Seen) {
        self.null |= more.null;
        more.kinds.iter().for_each(|kind| self.merge(kind.clone()));
    }

    /// The fields of objects, each with its declared type in TOML; `None` where something else was seen, or nothing.
    pub fn fields(&self) -> Option<Vec<(String, String)>> {
        match &self.kinds[..] {
            [SampleType::Object(fields)] if !fields.is_empty() => {
                let named = fields.iter().filter(|(_, seen)| !seen.has_address());
                Some(named.map(|(name, seen)| (key(name), seen.declared())).collect())
            }
            _ => None,
        }
    }

    /// Fields that hold addresses, of the record itself.
    pub fn addresses(&self) -> Vec<String> {
        match &self.kinds[..] {
            [SampleType::Object(fields)] => {
                fields.iter().filter(|(_, seen)| seen.has_address()).map(|(name, _)| name.clone()).collect()
            }
            _ => Vec::new(),
        }
    }

    fn has_address(&self) -> bool {
        self.kinds.iter().any(|kind| match kind {
            SampleType::Address => true,
            SampleType::Array(items) => items.has_address(),
            SampleType::Object(fields) => fields.values().any(Seen::has_address),
            _ => false,
        })
    }

    /// As TOML: a text, or a table of fields.
    fn declared(&self) -> String {
        if let Some(fields) = self.fields().filter(|_| !self.null) {
            let fields: Vec<String> = fields.into_iter().map(|(name, of)| format!("{name} = {of}")).collect();
            return format!("{{ {} }}", fields.join(", "));
        }
        quoted(&self.text())
    }

    fn text(&self) -> String {
        let name = match &self.kinds[..] {
            [SampleType::Boolean] => "boolean".into(),
            [SampleType::Whole] => "long".into(),
            [SampleType::Fraction] => "double".into(),
            [SampleType::Text] => "string".into(),
            [SampleType::Uuid] => "uuid".into(),
            [SampleType::Time] => "timestamp-micros".into(),
            [SampleType::Array(items)] => format!("array<{}>", items.text()),
            // Of several kinds, or none.
            _ => "json".to_string(),
        };
        if self.null || self.kinds.is_empty() { format!("{name}?") } else { name }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    #[test]
    fn a_sample_gives_the_declared_types_that_read_it() {
        let mut seen = Seen::default();
        let id = "e0569750-8c8e-42a8-83fd-d9ad310162b5";
        for record in [
            json!({"a": 1, "b": 1, "c": "x", "d": id, "e": "2026-01-01T00:00:00Z", "f": [1], "g": {"h": true}, "i": null, "j": 1}),
            json!({"a": 2, "b": 1.5, "c": id, "d": id, "e": "2026-01-01T00:00:00+02:00", "f": [], "g": {"h": false}, "j": "x"}),
        ] {
            seen.add(&record);
        }
        let fields: Vec<String> =
            seen.fields().unwrap().into_iter().map(|(name, of)| format!("{name} = {of}")).collect();
        assert_eq!(
            fields,
            [
                "a = \"long\"",
                "b = \"double\"",
                "c = \"string\"",
                "d = \"uuid\"",
                "e = \"timestamp-micros\"",
                "f = \"array<long>\"",
                "g = { h = \"boolean\" }",
                "i = \"json?\"",
                "j = \"json\"",
            ]
        );
        let mut visits = Seen::default();
        visits.add(&json!({"n": 1, "ip": "192.0.2.1", "client": {"address": ["2001:db8::1"]}}));
        visits.add(&json!({"n": 1, "ip": "unknown", "client": {}}));
        assert_eq!(visits.fields().unwrap(), [("n".to_string(), "\"long\"".to_string())]);
        assert_eq!(visits.addresses(), ["client", "ip"]);
        let mut other = Seen::default();
        other.add(&json!([1]));
        assert_eq!(other.fields(), None);
    }
}
