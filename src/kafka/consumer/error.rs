//! Why a consumer cannot go on.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::kafka::offset_note::{NextOffset, Partition};
use crate::runtime::fault::Fault;
use crate::runtime::supervise::WorkerError;

/// Why the source cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Going on would lose or duplicate events: a person must decide.
    #[error("{0}")]
    Refused(Fault),
    /// It may pass by itself: make a new consumer after a while.
    #[error("{0}")]
    Transient(Fault),
    /// No broker answers this consumer, and a new client is answered: make a new consumer at once.
    #[error("{0}")]
    Stale(Fault),
}

impl SourceError {
    /// See [`Self::Refused`].
    pub fn refused(fault: impl Into<Fault>) -> Self {
        Self::Refused(fault.into())
    }

    /// See [`Self::Transient`].
    pub fn transient(fault: impl Into<Fault>) -> Self {
        Self::Transient(fault.into())
    }

    /// The same, with the fields of what it is about.
    #[must_use]
    pub fn about(self, fields: impl FnOnce(Fault) -> Fault) -> Self {
        match self {
            Self::Refused(fault) => Self::Refused(fields(fault)),
            Self::Transient(fault) => Self::Transient(fields(fault)),
            Self::Stale(fault) => Self::Stale(fields(fault)),
        }
    }

    /// The same, about an offset of a partition.
    #[must_use]
    pub fn at(self, topic: &str, partition: Partition, offset: NextOffset) -> Self {
        self.about(|fault| fault.partition(topic, partition).offset(offset))
    }

    /// See [`Self::Stale`].
    pub fn stale(fault: impl Into<Fault>) -> Self {
        Self::Stale(fault.into())
    }
}

impl From<SourceError> for WorkerError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Refused(fault) => Self::Refused(fault),
            SourceError::Transient(fault) | SourceError::Stale(fault) => Self::Transient(fault),
        }
    }
}

/// Kafka's or librdkafka's name of an error.
pub(crate) fn kafka_code(error: &KafkaError) -> Option<String> {
    error.rdkafka_error_code().map(|code| format!("{code:?}"))
}

/// With the right that is missing, where one is.
pub(crate) fn transient(error: &KafkaError, what: &str) -> SourceError {
    let cure = match error.rdkafka_error_code() {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            "; grant this user Read on a topic that is read, Write on one that is written"
        }
        Some(RDKafkaErrorCode::GroupAuthorizationFailed) => "; grant this user Read on the group",
        _ => "",
    };
    SourceError::transient(Fault::from(format!("{what}: {error}{cure}")).code(kafka_code(error)))
}
