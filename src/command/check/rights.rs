//! Whether our user may do with a topic what the pipeline does.

use rdkafka::client::{Client, ClientContext};

use super::Subject;
use crate::config::finding::Finding;
use crate::kafka::client::METADATA_TIMEOUT;
use crate::kafka::topic_id::{Rights, TopicIdError, rights};

/// What the pipeline does with a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Reads it.
    Read,
    /// Writes it.
    Write,
}

/// The right that is missing. `None` also where the brokers do not tell: then only the run shows it.
pub fn lacking<C>(
    subject: &Subject<'_, C>,
    client: &Client<impl ClientContext>,
    key: &str,
    topic: &str,
    need: Need,
) -> Option<Finding> {
    let allowed = match rights(client, topic, METADATA_TIMEOUT) {
        Ok(Some(Rights { read, write })) => match need {
            Need::Read => read,
            Need::Write => write,
        },
        Err(TopicIdError::NotAllowed) => false,
        Ok(None) | Err(_) => true,
    };
    let (right, does) = match need {
        Need::Read => ("Read", "read"),
        Need::Write => ("Write", "write"),
    };
    (!allowed).then(|| {
        let cure = format!("grant it {right} on the topic: kafka-acls.sh --add --operation {right} --topic {topic}");
        subject.error(key, format!("this user may not {does} topic {topic}"), cure)
    })
}
