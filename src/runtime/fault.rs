//! What went wrong: a sentence for people, and fields that alerts and tests can match.

use std::fmt;

/// Why something failed. The sentence says it all; the fields repeat what of it has a name, where it is known. Holds no secret and no
/// value of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// What happened, and what to do about it.
    pub message: String,
    /// The topic that it is about.
    pub topic: Option<Box<str>>,
    /// Its partition.
    pub partition: Option<i32>,
    /// The offset there.
    pub offset: Option<i64>,
    /// What the other side calls it: PostgreSQL's SQLSTATE, ClickHouse's number, Kafka's name of the error.
    pub code: Option<Box<str>>,
}

impl Fault {
    /// About a topic.
    #[must_use]
    pub fn topic(mut self, topic: &str) -> Self {
        self.topic = Some(topic.into());
        self
    }

    /// About a partition of a topic.
    #[must_use]
    pub fn partition(self, topic: &str, partition: i32) -> Self {
        Self { partition: Some(partition), ..self.topic(topic) }
    }

    /// About an offset; of a partition that is named too.
    #[must_use]
    pub fn offset(self, offset: i64) -> Self {
        Self { offset: Some(offset), ..self }
    }

    /// With what the other side calls it, if it gave it a name.
    #[must_use]
    pub fn code(self, code: Option<impl Into<Box<str>>>) -> Self {
        Self { code: code.map(Into::into), ..self }
    }

    /// The same with more words at its end.
    #[must_use]
    pub fn with(mut self, words: &str) -> Self {
        self.message.push_str(words);
        self
    }
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self { message, ..Self::default() }
    }
}

impl From<&str> for Fault {
    fn from(message: &str) -> Self {
        message.to_string().into()
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
