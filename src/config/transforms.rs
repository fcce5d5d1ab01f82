//! `[[transforms]]`: what is done to each record on its way, in the file's order.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The fields that a place lookup can add, in the order in which they are added.
pub const PLACE_FIELDS: [&str; 9] = [
    "country_name",
    "country_code",
    "subdivision_name",
    "subdivision_code",
    "city_name",
    "latitude",
    "longitude",
    "accuracy_km",
    "time_zone",
];

/// One of `[[transforms]]`. Exactly one of `filter`, `rename`, `drop`, `cast`, `route` and `enrich` is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TransformConfig {
    /// CEL predicate: records for which it is false are counted as filtered and go nowhere.
    pub filter: Option<String>,
    /// Field to its new name. `"client.agent" = "agent"` takes a field out of a record.
    pub rename: BTreeMap<String, String>,
    /// Fields that go no further.
    pub drop: Vec<String>,
    /// Field to its new type.
    pub cast: BTreeMap<String, String>,
    /// CEL predicate: records for which it is true are written to `topic`. The first route that is true decides.
    pub route: Option<String>,
    /// Topic of `route`.
    pub topic: Option<String>,
    /// Field with an IP address: fields of its place are added, the address itself goes nowhere.
    pub enrich: Option<String>,
    /// What the names of the fields of `enrich` begin with.
    pub prefix: String,
    /// Which fields of the place `enrich` adds; all unless set.
    pub fields: Vec<String>,
}

/// What a [`TransformConfig`] does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transform<'a> {
    /// Keeps what is true.
    Filter(&'a str),
    /// Old to new.
    Rename(&'a BTreeMap<String, String>),
    /// Leaves fields out.
    Drop(&'a [String]),
    /// Changes types.
    Cast(&'a BTreeMap<String, String>),
    /// Predicate and topic.
    Route(&'a str, &'a str),
    /// Field with the address; prefix; fields, none for all.
    Enrich(&'a str, &'a str, &'a [String]),
}

impl TransformConfig {
    /// Which of them it is. Errors: what is wrong, and what to do.
    pub fn kind(&self) -> Result<Transform<'_>, (String, &'static str)> {
        const ONE: &str = "set one of filter, rename, drop, cast, route, enrich in each [[transforms]]";
        let mut kinds = Vec::new();
        kinds.extend(self.filter.as_deref().map(Transform::Filter));
        kinds.extend((!self.rename.is_empty()).then_some(Transform::Rename(&self.rename)));
        kinds.extend((!self.drop.is_empty()).then_some(Transform::Drop(&self.drop)));
        kinds.extend((!self.cast.is_empty()).then_some(Transform::Cast(&self.cast)));
        if let Some(predicate) = self.route.as_deref() {
            let topic =
                self.topic.as_deref().ok_or(("route without topic".to_string(), "name the topic in `topic`"))?;
            kinds.push(Transform::Route(predicate, topic));
        } else if self.topic.is_some() {
            return Err(("topic without route".into(), "set `route` to a predicate, or remove `topic`"));
        }
        if let Some(field) = self.enrich.as_deref() {
            kinds.push(Transform::Enrich(field, &self.prefix, &self.fields));
        } else if !self.prefix.is_empty() || !self.fields.is_empty() {
            return Err(("prefix or fields without enrich".into(), "set `enrich` to the field with the address"));
        }
        match kinds.as_slice() {
            [kind] => Ok(*kind),
            [] => Err(("nothing to do in it".into(), ONE)),
            several => Err((format!("{} transforms in one", several.len()), ONE)),
        }
    }
}

/// How values are written: `[output] format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputFormat {
    /// Avro in Confluent's wire format, its schema registered.
    #[default]
    Avro,
    /// One JSON object.
    Json,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn transform(toml: &str) -> TransformConfig {
        use figment::Figment;
        use figment::providers::{Format, Toml};
        Figment::from(Toml::string(toml)).extract().unwrap()
    }

    #[test]
    fn each_transform_is_exactly_one_thing() {
        assert_eq!(transform("filter = 'a > 1'").kind(), Ok(Transform::Filter("a > 1")));
        assert_eq!(transform("route = 'a'\ntopic = 't'").kind(), Ok(Transform::Route("a", "t")));
        assert_eq!(transform("enrich = 'c.ip'\nprefix = 'c_'").kind(), Ok(Transform::Enrich("c.ip", "c_", &[])));
        for wrong in ["", "filter = 'a'\ndrop = ['b']", "route = 'a'", "topic = 't'", "prefix = 'x'\nfilter = 'a'"] {
            assert!(transform(wrong).kind().is_err(), "{wrong}");
        }
    }
}
