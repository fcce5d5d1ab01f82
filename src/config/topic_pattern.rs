//! `source.topics`: one pipeline file for several topics, each loaded by a pipeline of its own.
//!
//! ```text
//! inventory.toml, topics = "inventory.public.*"  ─►  inventory.customers   inventory.public.customers
//!                                                    inventory.orders      inventory.public.orders
//! ```
//!
//! A `*` stands for one or more characters other than a dot, so that `T.dead`, where the dead letters of `T` go, is not meant. Which
//! topics there are the brokers know: see `kafka::topic_patterns`.

use super::finding::Finding;
use super::sink::LoadConfig;
use super::validate::{self, Secrets};

/// What stands for a part of the name in the pattern.
const ANY: char = '*';
/// Begins what stands for the topic's name, or a part of it, in a table's.
const TOPIC: &str = "${topic";

impl LoadConfig {
    /// The pattern of the topics that are loaded; `None`: one topic is named.
    pub fn topics(&self) -> Option<&str> {
        self.source.as_ref().map(|source| source.topics.as_str()).filter(|topics| !topics.is_empty())
    }

    /// The pipeline of one topic; `None`: the pattern does not mean it. Errors: what is senseless in that pipeline.
    pub fn of_topic(&self, topic: &str) -> Option<Result<Self, Vec<Finding>>> {
        self.judged(topic, Secrets::None)
    }

    /// The name of a topic's pipeline; `None`: the pattern does not mean it.
    pub fn name_of_topic(&self, topic: &str) -> Option<String> {
        let stands_for = matched(self.topics()?, topic)?;
        Some(format!("{}.{}", self.name, stands_for.join(".")))
    }

    fn judged(&self, topic: &str, secrets: Secrets) -> Option<Result<Self, Vec<Finding>>> {
        let name = self.name_of_topic(topic)?;
        let mut config = self.clone();
        let source = config.source.as_mut()?;
        source.topics.clear();
        source.topic = topic.into();
        config.name = name;
        config.name_tables();
        let findings = validate::load(&config, secrets);
        Some(if findings.is_empty() { Ok(config) } else { Err(findings) })
    }

    /// What is senseless in a file of several topics, beside what is in each.
    pub(super) fn faults_of_topics(&self, secrets: Secrets) -> Vec<Finding> {
        let Some(pattern) = self.topics() else { return validate::load(self, secrets) };
        let mut findings = Vec::new();
        let mut complain =
            |key: &str, what: &str, cure: &str| findings.push(Finding::error(self.origin.place(key), key, what, cure));
        if !pattern.contains(ANY) {
            complain("source.topics", "without a *, so that it means one topic", "name that as source.topic");
        }
        let is_legal = validate::is_topic(&pattern.replace(ANY, "x"));
        if !is_legal {
            complain(
                "source.topics",
                "no pattern of topics' names",
                "use A-Z a-z 0-9 . _ -, and * for a part without a dot",
            );
        }
        let is_named = |topic: &str| !topic.is_empty();
        if self.source.as_ref().is_some_and(|source| is_named(&source.topic)) || is_named(&self.sink.topic) {
            complain(
                "source.topics",
                "beside a topic that is named",
                "remove source.topic and sink.topic, or source.topics",
            );
            // Its name is in the tables'.
            return findings;
        }
        if self.source.as_ref().is_some_and(|source| is_named(&source.subject)) {
            let what = "one subject for several topics";
            complain("source.subject", what, "remove it: each topic has its own, by subject_name_strategy");
        }
        for (sink, table, consumer) in self.tables() {
            if !table.contains(TOPIC) {
                let what = "the same table for several topics";
                let cure = "put the topic's name, or a part of it, into the table's: \"${topic.2}\" is customers of inventory.public.customers";
                complain(&format!("sink.{sink}.table"), what, cure);
            }
            if is_named(consumer) {
                let what = "one consumer group for several topics";
                complain(&format!("sink.{sink}.consumer.group"), what, "remove it: each topic has its own");
            }
        }
        if findings.is_empty() {
            // Topics of which nobody knows yet are judged by one that could be.
            let example = self.judged(&pattern.replace(ANY, "x"), secrets).and_then(Result::err);
            findings.extend(example.unwrap_or_default());
        }
        findings
    }

    /// Sink, table and consumer group of each sink.
    fn tables(&self) -> impl Iterator<Item = (&'static str, &str, &str)> {
        let postgres = self.sink.postgres.as_ref().map(|sink| ("postgres", sink.table.as_str(), &*sink.consumer.group));
        let clickhouse =
            self.sink.clickhouse.as_ref().map(|sink| ("clickhouse", sink.table.as_str(), &*sink.consumer.group));
        postgres.into_iter().chain(clickhouse)
    }
}

/// The parts of a name, between dots, that a `*` stands for or in; `None`: the pattern does not mean it.
fn matched<'t>(pattern: &str, topic: &'t str) -> Option<Vec<&'t str>> {
    if pattern.split('.').count() != topic.split('.').count() {
        return None;
    }
    let parts = || pattern.split('.').zip(topic.split('.'));
    let is_meant = parts().all(|(pattern, part)| fits(pattern, part));
    is_meant.then(|| parts().filter(|(pattern, _)| pattern.contains(ANY)).map(|(_, part)| part).collect())
}

/// Whether a part of a name is of the form, where a `*` is one or more characters.
fn fits(pattern: &str, part: &str) -> bool {
    let Some((before, rest)) = pattern.split_once(ANY) else { return pattern == part };
    let Some(part) = part.strip_prefix(before) else { return false };
    part.char_indices()
        .skip(1)
        .map(|(at, _)| at)
        .chain([part.len()])
        .filter(|at| *at > 0)
        .any(|at| fits(rest, &part[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_is_a_part_of_a_name() {
        let of = |topic| matched("inventory.public.*", topic);
        assert_eq!(of("inventory.public.customers"), Some(vec!["customers"]));
        assert_eq!(of("inventory.public.customers.dead"), None);
        assert_eq!(of("inventory.public."), None);
        assert_eq!(of("inventory.other.customers"), None);
        assert_eq!(of("inventory.public"), None);
        assert_eq!(matched("*.public.t_*", "shop.public.t_orders"), Some(vec!["shop", "t_orders"]));
        assert_eq!(matched("a*b*c", "axbybzc"), Some(vec!["axbybzc"]));
        assert_eq!(matched("a*b*c", "abc"), None);
        assert_eq!(matched("a*", "b"), None);
        assert_eq!(matched("orders", "orders"), Some(vec![]));
    }
}
