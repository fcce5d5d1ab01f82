//! `[source.create]`, `[output.create]`, …: how `pressline topics create` makes a topic, and what it holds an existing one
//! against.

use std::borrow::Cow;
use std::fmt::Write as _;

use figment::value::Dict;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};

use super::PropertyMap;
use super::properties::{dotted_table, flatten};

/// What a topic is made with. What is not set is left to the brokers, and not looked at in a topic that is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CreateConfig {
    /// Partitions; the brokers' own number unless set. Those of an existing topic are only ever increased.
    pub partitions: Option<i32>,
    /// Copies of each partition; the brokers' own number unless set. Not changed in an existing topic.
    pub replication: Option<i32>,
    /// The topic's settings, by Kafka's names.
    pub settings: TopicSettings,
}

/// Settings of a topic by Kafka's names, such as `retention.ms`, in Kafka's own units. In TOML `retention.ms = "7 days"` and
/// `"retention.ms" = 604800000` mean the same: settings that end in `.ms` take a time with its unit, those that end in
/// `bytes` a size.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct TopicSettings(pub PropertyMap);

impl<'de> Deserialize<'de> for TopicSettings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut settings = PropertyMap::new();
        flatten("", Dict::deserialize(deserializer)?, &mut settings).map_err(serde::de::Error::custom)?;
        for (name, value) in &mut settings {
            *value = in_kafkas_unit(name, value).map_err(serde::de::Error::custom)?;
        }
        Ok(Self(settings))
    }
}

impl JsonSchema for TopicSettings {
    fn schema_name() -> Cow<'static, str> {
        "TopicSettings".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        dotted_table()
    }
}

/// A unit's names, and how many of Kafka's own units it has.
type Unit = (&'static [&'static str], i64);

const TIMES: [Unit; 6] = [
    (&["ms"], 1),
    (&["s", "second", "seconds"], 1_000),
    (&["min", "minute", "minutes"], 60_000),
    (&["h", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
    (&["w", "week", "weeks"], 604_800_000),
];

const SIZES: [Unit; 5] =
    [(&["B", "bytes"], 1), (&["KiB"], 1 << 10), (&["MiB"], 1 << 20), (&["GiB"], 1 << 30), (&["TiB"], 1 << 40)];

/// The units of a setting by its name, and an example.
fn units(name: &str) -> Option<(&'static [Unit], &'static str)> {
    if name.ends_with(".ms") {
        Some((&TIMES, "`7 days`, `12 h` or `30 s`"))
    } else if name.ends_with("bytes") {
        Some((&SIZES, "`1 GiB` or `512 MiB`"))
    } else {
        None
    }
}

fn in_kafkas_unit(name: &str, value: &str) -> Result<String, String> {
    let value = value.trim();
    let Some((units, example)) = units(name).filter(|_| value.parse::<i64>().is_err()) else {
        return Ok(value.to_string());
    };
    let digits = value.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = value.split_at(digits);
    let factor = units.iter().find(|(names, _)| names.contains(&unit.trim())).map(|(_, factor)| *factor);
    let number = number.parse::<i64>().ok().zip(factor).and_then(|(number, factor)| number.checked_mul(factor));
    number.map(|number| number.to_string()).ok_or_else(|| {
        format!("property {name}: expected a whole number, or one with its unit such as {example}; -1 is no limit")
    })
}

/// A setting's value for people: `604800000 (7 days)`.
pub fn shown(name: &str, value: &str) -> String {
    let mut text = value.to_string();
    let number = value.parse::<i64>().ok().filter(|number| *number > 0);
    let largest = units(name).zip(number).and_then(|((units, _), number)| {
        let fits = |(_, factor): &&Unit| *factor > 1 && number % factor == 0;
        let (names, factor) = units.iter().rev().find(fits)?;
        Some((number / factor, names.last()?))
    });
    if let Some((count, unit)) = largest {
        let unit = if count == 1 { unit.trim_end_matches('s') } else { unit };
        let _ = write!(text, " ({count} {unit})");
    }
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use figment::Figment;
    use figment::providers::{Format, Toml};

    use super::*;

    fn read(toml: &str) -> Result<CreateConfig, String> {
        Figment::from(Toml::string(toml)).extract().map_err(|error| error.to_string())
    }

    #[test]
    fn times_and_sizes_may_have_units() {
        let config = read(
            "partitions = 6\n[settings]\nretention.ms = \"7 days\"\nlocal.retention.ms = \"12h\"\nsegment.ms = 5\n\
             segment.bytes = \"1 GiB\"\nmax.message.bytes = \"64KiB\"\nretention.bytes = -1\n\
             remote.storage.enable = true\n\"cleanup.policy\" = \"compact,delete\"\nmin.cleanable.dirty.ratio = 0.5",
        )
        .unwrap();
        let settings: Vec<(&str, &str)> = config.settings.0.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(
            settings,
            [
                ("cleanup.policy", "compact,delete"),
                ("local.retention.ms", "43200000"),
                ("max.message.bytes", "65536"),
                ("min.cleanable.dirty.ratio", "0.5"),
                ("remote.storage.enable", "true"),
                ("retention.bytes", "-1"),
                ("retention.ms", "604800000"),
                ("segment.bytes", "1073741824"),
                ("segment.ms", "5"),
            ]
        );
        assert_eq!((config.partitions, config.replication), (Some(6), None));
    }

    #[test]
    fn what_is_no_time_or_size_is_refused() {
        for value in ["a week", "7 fortnights", "", "1.5 days", "99999999999999999 d", "days", "-7 days", "1 GiB"] {
            let error = read(&format!("settings.retention.ms = \"{value}\"")).unwrap_err();
            assert!(error.contains("property retention.ms: expected a whole number"), "{value}: {error}");
        }
        assert!(read("settings.segment.bytes = \"1 GB\"").unwrap_err().contains("`512 MiB`"));
        assert!(read("settings.segment.bytes = [1]").unwrap_err().contains("expected text, a number"));
    }

    #[test]
    fn values_are_shown_in_their_largest_unit() {
        assert_eq!(shown("retention.ms", "604800000"), "604800000 (1 week)");
        assert_eq!(shown("retention.ms", "259200000"), "259200000 (3 days)");
        assert_eq!(shown("retention.ms", "5400000"), "5400000 (90 minutes)");
        assert_eq!(shown("retention.ms", "-1"), "-1");
        assert_eq!(shown("retention.ms", "7"), "7");
        assert_eq!(shown("segment.bytes", "1073741824"), "1073741824 (1 GiB)");
        assert_eq!(shown("cleanup.policy", "delete"), "delete");
    }
}
