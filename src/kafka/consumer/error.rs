//! Why a consumer cannot go on.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::runtime::supervise::WorkerError;

/// Why the source cannot go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Going on would lose or duplicate events: a person must decide.
    #[error("{0}")]
    Refused(String),
    /// It may pass by itself: make a new consumer after a while.
    #[error("{0}")]
    Transient(String),
    /// No broker answers this consumer, and a new client is answered: make a new consumer at once.
    #[error("{0}")]
    Stale(String),
}

impl From<SourceError> for WorkerError {
    fn from(error: SourceError) -> Self {
        match error {
            SourceError::Refused(message) => Self::Refused(message),
            SourceError::Transient(message) | SourceError::Stale(message) => Self::Transient(message),
        }
    }
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
    SourceError::Transient(format!("{what}: {error}{cure}"))
}
