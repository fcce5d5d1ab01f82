//! Why a transaction or the producer failed, and what to do about it.

use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::left_behind::Room;

use crate::kafka::consumer::kafka_code;
use crate::runtime::fault::Fault;
use crate::runtime::supervise::WorkerError;

/// Why a transaction or the producer failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransactionError {
    /// Whatever it was, a new producer and the committed offsets put it right.
    #[error("{cause}: {fault}")]
    Recover {
        /// Bounded name for the metric.
        cause: Cause,
        /// What Kafka said.
        fault: Fault,
    },
    /// Another live process uses the same transactional id.
    #[error(
        "fenced by another process with the same transactional id {transactional_id}; exiting. Give each process a unique \
         `instance`"
    )]
    Fenced {
        /// The shared id.
        transactional_id: String,
    },
    /// Only a person can help: what Kafka said and what to do.
    #[error("{0}")]
    Fatal(Fault),
}

impl TransactionError {
    /// See [`Self::Recover`].
    pub(super) fn recover(cause: Cause, fault: impl Into<Fault>) -> Self {
        Self::Recover { cause, fault: fault.into() }
    }

    /// See [`Self::Fatal`].
    pub(super) fn fatal(fault: impl Into<Fault>) -> Self {
        Self::Fatal(fault.into())
    }
}

impl From<TransactionError> for WorkerError {
    fn from(error: TransactionError) -> Self {
        match error {
            TransactionError::Recover { fault, .. } => Self::Transient(fault),
            TransactionError::Fenced { .. } => Self::fenced(error.to_string()),
            TransactionError::Fatal(fault) => Self::Refused(fault),
        }
    }
}

/// Why a transaction was aborted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cause {
    /// Kafka demanded an abort.
    Abortable,
    /// A message could not be delivered.
    Delivery,
    /// A request timed out or a connection broke.
    Transport,
    /// A rebalance moved partitions.
    Rebalance,
    /// The process stood still past the transaction's time-out.
    Stalled,
    /// The pipeline stops.
    Stop,
    /// The circuit breaker.
    CircuitBreaker,
}

impl Cause {
    /// All causes, for the metric's labels.
    pub const ALL: [Cause; 7] = [
        Self::Abortable,
        Self::Delivery,
        Self::Transport,
        Self::Rebalance,
        Self::Stalled,
        Self::Stop,
        Self::CircuitBreaker,
    ];

    /// Label of the metric.
    pub fn label(self) -> &'static str {
        match self {
            Self::Abortable => "abortable",
            Self::Delivery => "delivery",
            Self::Transport => "transport",
            Self::Rebalance => "rebalance",
            Self::Stalled => "stalled",
            Self::Stop => "stop",
            Self::CircuitBreaker => "circuit_breaker",
        }
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.label())
    }
}

pub(super) fn init_error(error: &KafkaError, transactional_id: &str) -> TransactionError {
    let fault = |message: String| Fault::from(message).code(kafka_code(error));
    match error.rdkafka_error_code() {
        Some(code @ (RDKafkaErrorCode::UnsupportedFeature | RDKafkaErrorCode::InvalidTransactionTimeout)) => {
            TransactionError::fatal(fault(init_advice(code, transactional_id)))
        }
        // As a consumer's: grants are changed while pressline runs.
        Some(
            code
            @ (RDKafkaErrorCode::TransactionalIdAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed),
        ) => TransactionError::recover(Cause::Transport, fault(init_advice(code, transactional_id))),
        _ => TransactionError::recover(Cause::Transport, fault(format!("InitProducerId: {error}"))),
    }
}

fn init_advice(code: RDKafkaErrorCode, transactional_id: &str) -> String {
    match code {
        RDKafkaErrorCode::InvalidTransactionTimeout => "the broker's transaction.max.timeout.ms is below our \
            transaction.timeout.ms: raise the one or lower the other (kafka.producer)"
            .to_string(),
        RDKafkaErrorCode::UnsupportedFeature => "the broker has no transactions: use Kafka 2.5 or newer, or set \
            delivery = \"at_least_once\""
            .to_string(),
        other => format!(
            "not allowed to use transactional id {transactional_id} ({other}): grant Write and Describe on it to this user"
        ),
    }
}

/// Refuses another producer while too many calls of others have not returned.
pub(super) fn too_many_calls(room: Room) -> Result<(), TransactionError> {
    match room {
        Room::Free => Ok(()),
        Room::Full(calls) => Err(TransactionError::recover(
            Cause::Transport,
            format!(
                "{calls} calls to the group's coordinator have not returned, so no further one is made: look at the broker \
                 that coordinates the group"
            ),
        )),
        Room::Hopeless(calls) => Err(TransactionError::fatal(format!(
            "{calls} calls to the group's coordinator have not returned for minutes: start pressline again"
        ))),
    }
}

pub(super) fn no_producer() -> TransactionError {
    TransactionError::recover(Cause::Transport, "no producer")
}

pub(super) fn offsets_not_taken(what: &str) -> TransactionError {
    TransactionError::recover(Cause::Transport, format!("the offsets were not taken: {what}"))
}

/// Why messages were not delivered, with what to do where that is known.
pub(super) fn undelivered(reason: Option<&KafkaError>) -> Fault {
    let Some(reason) = reason else { return "messages were not delivered".into() };
    let cure = match reason.rdkafka_error_code() {
        Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
            ": grant this user Write and Describe on the output topic and the topic of dead letters"
        }
        Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => {
            ": create the output topic and the topic of dead letters"
        }
        Some(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::MessageBatchTooLarge) => {
            ": the output or dead letter topic takes no batch of this size, so smaller ones are sent now; if this repeats, \
             raise its max.message.bytes"
        }
        Some(RDKafkaErrorCode::InvalidTimestamp) => {
            ": the output or dead letter topic takes no such record timestamp, so its limits are read again; if this \
             repeats, raise its message.timestamp.before.max.ms and message.timestamp.after.max.ms, grant this user \
             DescribeConfigs on it, or set this host's clock"
        }
        Some(RDKafkaErrorCode::InvalidRecord) => {
            ": the output or dead letter topic refuses the record; look at its cleanup.policy and message.timestamp settings, \
             and at the broker's log"
        }
        Some(RDKafkaErrorCode::MessageTimedOut) => {
            ": no broker took them within message.timeout.ms; look at the brokers, and whether the output topic and the topic of \
             dead letters exist"
        }
        Some(RDKafkaErrorCode::PolicyViolation) => ": a policy of the brokers forbids it; ask who runs them",
        Some(RDKafkaErrorCode::NotEnoughReplicas | RDKafkaErrorCode::NotEnoughReplicasAfterAppend) => {
            ": fewer replicas are in sync than the topic's min.insync.replicas; start the missing brokers"
        }
        _ => "",
    };
    Fault::from(format!("messages were not delivered ({reason}){cure}")).code(kafka_code(reason))
}

pub(super) fn retriable(error: &KafkaError) -> bool {
    matches!(error, KafkaError::Transaction(e) if e.is_retriable() && !e.is_fatal())
}

pub(super) fn names_fencing(error: &KafkaError) -> bool {
    error.rdkafka_error_code().is_some_and(is_fencing)
}

pub(super) fn is_fencing(code: RDKafkaErrorCode) -> bool {
    matches!(code, RDKafkaErrorCode::Fenced | RDKafkaErrorCode::ProducerFenced | RDKafkaErrorCode::InvalidProducerEpoch)
}

/// Why the broker takes a producer for one that another has replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fenced {
    /// Another process has the same transactional id.
    ByAnother,
    /// We stood still, and the broker ended the transaction at its time-out.
    ForTime,
    /// An InitProducerId of our own came late, after the one that was sent in its stead.
    ByOurselves,
}

pub(super) fn classify(error: &KafkaError, fenced: Option<Fenced>, transactional_id: &str) -> TransactionError {
    let cause = match error {
        _ if fenced == Some(Fenced::ByAnother) => {
            return TransactionError::Fenced { transactional_id: transactional_id.to_string() };
        }
        _ if fenced == Some(Fenced::ForTime) => Cause::Stalled,
        _ if fenced == Some(Fenced::ByOurselves) => Cause::Transport,
        KafkaError::Flush(_) | KafkaError::MessageProduction(_) => Cause::Delivery,
        KafkaError::Transaction(e) if e.txn_requires_abort() => Cause::Abortable,
        _ => Cause::Transport,
    };
    let said = || Fault::from(error.to_string()).code(kafka_code(error));
    TransactionError::recover(cause, if cause == Cause::Delivery { undelivered(Some(error)) } else { said() })
}
