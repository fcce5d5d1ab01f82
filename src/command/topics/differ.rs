//! What a topic is beside what it should be.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{CreateConfig, topic::shown};

/// A topic that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Partitions.
    pub partitions: usize,
    /// Copies that the partition with the fewest has.
    pub replication: usize,
    /// All its settings, defaults too.
    pub settings: BTreeMap<String, String>,
}

/// What makes a topic as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// So many partitions in all.
    Partitions(usize),
    /// A setting, as Kafka takes it.
    Setting {
        /// Its name.
        name: String,
        /// Its value.
        value: String,
    },
    /// Nothing that Kafka does.
    None,
}

/// Something in which a topic is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Partitions, replication or the setting's name.
    pub what: String,
    /// As it is.
    pub is: String,
    /// As it should be.
    pub should_be: String,
    /// What fixes it.
    pub change: Change,
    /// What comes of the change, or what to do instead; may be empty.
    pub note: String,
}

/// All differences; what is not described makes none.
pub fn differences(wanted: &CreateConfig, found: &Found) -> Vec<Difference> {
    let mut differences = Vec::new();
    differences.extend(partitions(wanted, found.partitions));
    differences.extend(replication(wanted, found.replication));
    for (name, value) in &wanted.settings.0 {
        let is = found.settings.get(name);
        if is.is_none_or(|is| !same(is, value)) {
            differences.push(Difference {
                what: name.clone(),
                is: is.map_or_else(|| "unknown to the broker".into(), |is| shown(name, is)),
                should_be: shown(name, value),
                change: Change::Setting { name: name.clone(), value: value.clone() },
                note: is.map(|is| consequence(name, is, value)).unwrap_or_default().into(),
            });
        }
    }
    differences
}

fn partitions(wanted: &CreateConfig, is: usize) -> Option<Difference> {
    let should_be = wanted.partitions.and_then(|count| usize::try_from(count).ok()).filter(|count| *count != is)?;
    let (change, note) = if should_be > is {
        let note =
            "a key's new records may land in another partition than its old ones: its order holds only within each";
        (Change::Partitions(should_be), note)
    } else {
        let note =
            "Kafka takes no partitions away: fix the number in the file, or make another topic and move over to it";
        (Change::None, note)
    };
    Some(Difference {
        what: "partitions".into(),
        is: is.to_string(),
        should_be: should_be.to_string(),
        change,
        note: note.into(),
    })
}

fn replication(wanted: &CreateConfig, is: usize) -> Option<Difference> {
    let should_be = wanted.replication.and_then(|count| usize::try_from(count).ok()).filter(|count| *count != is)?;
    let note = "not changed here, since it moves data: use kafka-reassign-partitions.sh, or fix the number in the file";
    Some(Difference {
        what: "replication".into(),
        is: is.to_string(),
        should_be: should_be.to_string(),
        change: Change::None,
        note: note.into(),
    })
}

/// Whether two values mean the same: `compact,delete` and `delete,compact`, `0.5` and `0.50`.
fn same(is: &str, should_be: &str) -> bool {
    let words = |text: &str| text.split(',').map(|word| word.trim().to_string()).collect::<BTreeSet<_>>();
    let number = |text: &str| text.parse::<f64>().ok();
    is == should_be
        || words(is) == words(should_be)
        || number(is).zip(number(should_be)).is_some_and(|(is, should_be)| is == should_be)
}

/// What is lost by it.
fn consequence(name: &str, is: &str, should_be: &str) -> &'static str {
    let number = |text: &str| text.parse::<i64>().ok().map(|number| if number < 0 { i64::MAX } else { number });
    let less = number(is).zip(number(should_be)).is_some_and(|(is, should_be)| should_be < is);
    let compacts = |text: &str| text.contains("compact");
    match name {
        "retention.ms" if less => "records older than that are deleted within minutes",
        "retention.bytes" if less => "the oldest records beyond that are deleted within minutes",
        "cleanup.policy" if !compacts(is) && compacts(should_be) => "of each key only the newest record is kept",
        "max.message.bytes" if less => "larger batches are refused from now on",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::topic::TopicSettings;

    fn settings(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn found() -> Found {
        let settings = settings(&[
            ("retention.ms", "604800000"),
            ("cleanup.policy", "delete"),
            ("min.cleanable.dirty.ratio", "0.5"),
            ("retention.bytes", "-1"),
        ]);
        Found { partitions: 3, replication: 1, settings }
    }

    fn wanted(partitions: i32, replication: i32, pairs: &[(&str, &str)]) -> CreateConfig {
        CreateConfig {
            partitions: Some(partitions),
            replication: Some(replication),
            settings: TopicSettings(settings(pairs)),
        }
    }

    #[test]
    fn what_is_as_it_should_be_or_not_described_is_no_difference() {
        assert_eq!(differences(&CreateConfig::default(), &found()), []);
        let same = [("retention.ms", "604800000"), ("min.cleanable.dirty.ratio", "0.50")];
        assert_eq!(differences(&wanted(3, 1, &same), &found()), []);
        let both = Found { settings: settings(&[("cleanup.policy", "delete,compact")]), ..found() };
        assert_eq!(differences(&wanted(3, 1, &[("cleanup.policy", "compact, delete")]), &both), []);
    }

    #[test]
    fn settings_that_differ_tell_what_is_lost() {
        let changes = [
            ("retention.ms", "3600000", "older than that are deleted"),
            ("retention.ms", "-1", ""),
            ("retention.bytes", "1", "beyond that are deleted"),
            ("cleanup.policy", "compact,delete", "only the newest"),
            ("no.such.thing", "1", ""),
        ];
        for (name, value, note) in changes {
            let found = differences(&wanted(3, 1, &[(name, value)]), &found());
            assert_eq!(found.len(), 1, "{name}");
            let change = Change::Setting { name: name.into(), value: value.into() };
            assert_eq!(found.first().map(|difference| &difference.change), Some(&change));
            let told = found.first().map(|difference| difference.note.as_str()).unwrap_or_default();
            assert!(told.contains(note) && told.is_empty() == note.is_empty(), "{name}: {told}");
        }
    }

    #[test]
    fn partitions_only_become_more_and_copies_stay() {
        let more = differences(&wanted(6, 1, &[]), &found());
        assert_eq!(more.iter().map(|d| &d.change).collect::<Vec<_>>(), [&Change::Partitions(6)]);
        let fewer = differences(&wanted(2, 3, &[]), &found());
        assert_eq!(fewer.iter().map(|d| &d.change).collect::<Vec<_>>(), [&Change::None, &Change::None]);
        assert!(fewer.iter().all(|difference| difference.note.contains("fix the number")));
    }
}
