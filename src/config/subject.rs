//! Under which subject of the registry the schemas of a topic's values stand: `subject_name_strategy`, as Confluent's serializers
//! name it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::complaint::Complain;

/// How a subject is named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SubjectNameStrategy {
    /// TopicNameStrategy: `TOPIC-value`.
    #[default]
    Topic,
    /// RecordNameStrategy: the full name of the record.
    Record,
    /// TopicRecordNameStrategy: `TOPIC-` and the full name of the record.
    TopicRecord,
}

impl SubjectNameStrategy {
    /// As the configuration names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Topic => "topic",
            Self::Record => "record",
            Self::TopicRecord => "topic-record",
        }
    }

    /// The subject of a topic's values.
    pub fn subject(self, topic: &str, record: &str) -> String {
        match self {
            Self::Topic => format!("{topic}-value"),
            Self::Record => record.into(),
            Self::TopicRecord => format!("{topic}-{record}"),
        }
    }
}

/// What a table of the configuration says about its subject: `subject`, `subject_name_strategy` and `record`.
#[derive(Clone, Copy, Debug)]
pub struct SubjectKeys<'c> {
    /// The subject itself, if it is named.
    pub subject: &'c str,
    /// Else, how it is named.
    pub strategy: SubjectNameStrategy,
    /// The record's full name.
    pub record: &'c str,
}

impl SubjectKeys<'_> {
    /// The subject of a topic's values.
    pub fn of(&self, topic: &str) -> String {
        if self.subject.is_empty() { self.strategy.subject(topic, self.record) } else { self.subject.into() }
    }

    /// What contradicts itself. `names_schema`: `record` is also the name of a schema that is made.
    pub(super) fn complain(&self, table: &str, names_schema: bool, complain: &mut Complain<'_>) {
        let needs_record = self.strategy != SubjectNameStrategy::Topic;
        let key = |name: &str| format!("{table}.{name}");
        if needs_record && !self.subject.is_empty() {
            let what = format!("has no effect: {table}.subject names the subject");
            complain(&key("subject_name_strategy"), &what, "remove one of them");
        } else if needs_record && self.record.is_empty() {
            let what =
                format!("\"{}\" names the subject by the records' full name, which is not set", self.strategy.name());
            complain(&key("subject_name_strategy"), &what, &format!("set {table}.record, such as \"shop.Order\""));
        } else if !needs_record && !self.record.is_empty() && !names_schema {
            let what = "has no effect: the subject is named by the topic";
            let cure = format!("set {table}.subject_name_strategy to record or topic-record, or remove it");
            complain(&key("record"), what, &cure);
        }
        if !self.record.is_empty() && !self.record.split('.').all(is_part) {
            let cure = "use letters, digits and _, parted by dots, such as \"shop.Order\"";
            complain(&key("record"), "no full name of a record", cure);
        }
    }
}

/// Whether it is a name as Avro has them, between dots.
fn is_part(part: &str) -> bool {
    let is_letter = |c: char| c.is_ascii_alphabetic() || c == '_';
    part.starts_with(is_letter) && part.chars().all(|c| is_letter(c) || c.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys<'c>(subject: &'c str, strategy: SubjectNameStrategy, record: &'c str) -> SubjectKeys<'c> {
        SubjectKeys { subject, strategy, record }
    }

    #[test]
    fn subjects_are_named_as_confluents_serializers_name_them() {
        use SubjectNameStrategy::{Record, Topic, TopicRecord};
        for (keys, subject) in [
            (keys("", Topic, ""), "orders-value"),
            (keys("", Record, "shop.Order"), "shop.Order"),
            (keys("", TopicRecord, "shop.Order"), "orders-shop.Order"),
            (keys("all", Topic, ""), "all"),
        ] {
            assert_eq!(keys.of("orders"), subject);
        }
    }

    #[test]
    fn what_contradicts_itself_is_said() {
        use SubjectNameStrategy::{Record, Topic, TopicRecord};
        let found = |keys: SubjectKeys<'_>, names_schema| {
            let mut found = Vec::new();
            let mut note = |key: &str, _: &str, _: &str| found.push(key.to_string());
            keys.complain("source", names_schema, &mut note);
            found
        };
        assert_eq!(found(keys("", Record, "shop.Order"), false), [""; 0]);
        assert_eq!(found(keys("", TopicRecord, ""), false), ["source.subject_name_strategy"]);
        assert_eq!(found(keys("all", Record, "shop.Order"), false), ["source.subject_name_strategy"]);
        assert_eq!(found(keys("", Topic, "shop.Order"), false), ["source.record"]);
        assert_eq!(found(keys("", Topic, "shop.Order"), true), [""; 0]);
        assert_eq!(found(keys("", Record, "shop..Order"), false), ["source.record"]);
    }
}
