//! Kafka clients from the configuration: connection, security and the properties that are the user's to set.
//!
//! What the guarantees rest on is set by [`crate::kafka::consumer`] and [`crate::kafka::producer`], after this, so that it wins.

use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::client::{Client, ClientContext};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;

use super::repeated;
use crate::config::secret::{self, SecretError};
use crate::config::{KafkaConfig, SaslConfig, TlsConfig};

/// Which side of the pipeline a client is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Reads.
    Consumer,
    /// Writes.
    Producer,
}

/// How long one question about topics or groups may take.
pub const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// The configuration of a client, without what belongs to source or transaction. Errors: a secret that cannot be read.
pub fn client_config(kafka: &KafkaConfig, role: Role) -> Result<ClientConfig, SecretError> {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.bootstrap_servers)
        .set("client.id", "pressline")
        // Without it a half-open connection is noticed only by a request's time-out.
        .set("socket.keepalive.enable", "true")
        // Client metrics for the broker (KIP-714) take a lock for each record polled, and ours tell more.
        .set("enable.metrics.push", "false")
        // A broker that is back after a while is found in seconds, not after ten of them: visitors of the web app wait eight.
        .set("reconnect.backoff.max.ms", "2000")
        // Fetch responses may exceed fetch.max.bytes by one batch; a large record must not kill the connection.
        .set("receive.message.max.bytes", "200000000");
    security(&mut config, kafka)?;
    let own = match role {
        Role::Consumer => &kafka.consumer,
        Role::Producer => &kafka.producer,
    };
    for (name, value) in kafka.properties.0.iter().chain(&own.0) {
        config.set(name, value);
    }
    Ok(config)
}

fn security(config: &mut ClientConfig, kafka: &KafkaConfig) -> Result<(), SecretError> {
    let protocol = match (&kafka.tls, &kafka.sasl) {
        (None, None) => "plaintext",
        (Some(_), None) => "ssl",
        (_, Some(sasl)) if sasl.plaintext => "sasl_plaintext",
        (_, Some(_)) => "sasl_ssl",
    };
    config.set("security.protocol", protocol);
    if let Some(tls) = &kafka.tls {
        set_tls(config, tls);
    }
    if let Some(SaslConfig { mechanism, username, .. }) = &kafka.sasl {
        config.set("sasl.mechanism", mechanism.name()).set("sasl.username", username);
    }
    read_passwords(config, kafka)
}

fn set_tls(config: &mut ClientConfig, tls: &TlsConfig) {
    let files =
        [("ssl.ca.location", &tls.ca), ("ssl.certificate.location", &tls.certificate), ("ssl.key.location", &tls.key)];
    for (name, file) in files {
        if let Some(file) = file {
            config.set(name, file.relative().to_string_lossy());
        }
    }
}

/// Reads the passwords, again for a client that replaces another. Certificates and keys librdkafka reads itself, when a client is
/// made. Errors: a secret that cannot be read.
pub fn read_passwords(config: &mut ClientConfig, kafka: &KafkaConfig) -> Result<(), SecretError> {
    if let Some(tls) = &kafka.tls {
        let file = tls.key_password_file.as_ref().map(|f| f.relative());
        if let Some(passphrase) = secret::read(secret::TLS_KEY_PASSWORD, file.as_deref())? {
            config.set("ssl.key.password", passphrase.expose());
        }
    }
    if let Some(sasl) = &kafka.sasl {
        let file = sasl.password_file.as_ref().map(|f| f.relative());
        if let Some(password) = secret::read(secret::SASL_PASSWORD, file.as_deref())? {
            config.set("sasl.password", password.expose());
        }
    }
    Ok(())
}

/// A property librdkafka does not take: its name and why. The value is not repeated.
pub fn invalid_property(config: &ClientConfig) -> Option<(String, String)> {
    match config.create_native_config() {
        Err(KafkaError::ClientConfig(_, reason, name, value)) => {
            let reason = if value.is_empty() { reason } else { reason.replace(&value, "…") };
            Some((name, reason))
        }
        Err(other) => Some((String::new(), other.to_string())),
        Ok(_) => None,
    }
}

/// Whether a consumer is in touch with a broker. The connection to the group's coordinator tells only of a member that sends
/// heartbeats over it: one that joins has a single request there, which waits for minutes for an answer that was lost.
pub fn in_touch(statistics: &Statistics) -> bool {
    let heartbeats = statistics.cgrp.as_ref().is_some_and(|group| group.join_state == "steady");
    statistics.brokers.values().any(|broker| broker.state == "UP" && (heartbeats || broker.source != "logical"))
}

/// What a client's topic looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicLayout {
    /// Partition numbers, ascending.
    pub partitions: Vec<i32>,
}

/// Partitions of a topic; `Ok(None)` if the cluster does not know it. Blocks for at most `timeout`.
pub fn topic_layout<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Option<TopicLayout>, KafkaError> {
    let metadata = client.fetch_metadata(Some(topic), timeout)?;
    let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
    if let Some(error) = found.error() {
        return match RDKafkaErrorCode::from(error) {
            RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic => Ok(None),
            other => Err(KafkaError::MetadataFetch(other)),
        };
    }
    let mut partitions: Vec<i32> = found.partitions().iter().map(|p| p.id()).collect();
    if partitions.is_empty() {
        return Ok(None);
    }
    partitions.sort_unstable();
    Ok(Some(TopicLayout { partitions }))
}

/// librdkafka's log line as ours. What it calls an error is mostly a broken connection that it fixes by itself, so
/// errors become warnings: the worker says it when there is something to do.
pub fn log(level: RDKafkaLogLevel, fac: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => {
            if let Some(repeated) = repeated::LATELY.admit(fac, message, Instant::now()) {
                tracing::warn!(target: "librdkafka", fac, repeated, "{message}");
            }
        }
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
            if let Some(repeated) = repeated::LATELY.admit(fac, message, Instant::now()) {
                tracing::info!(target: "librdkafka", fac, repeated, "{message}");
            }
        }
        RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", fac, "{message}"),
    }
}

/// Says, for ever, of lines that were only counted and have not come for a while how often they came.
pub async fn keep_telling_repeated() {
    loop {
        tokio::time::sleep(Duration::from_secs(60)).await;
        tell_repeated();
    }
}

fn tell_repeated() {
    for (line, times) in repeated::LATELY.over(Instant::now()) {
        tracing::info!(target: "librdkafka", times, "repeated: {line}");
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Broker, ConsumerGroup};

    use super::*;

    #[test]
    fn a_member_that_waits_for_its_join_is_not_in_touch_by_that() {
        let statistics = |broker: &str, coordinator: &str, join_state: &str| {
            let broker = Broker { source: "learned".into(), state: broker.into(), ..Broker::default() };
            let coordinator = Broker { source: "logical".into(), state: coordinator.into(), ..Broker::default() };
            let group = ConsumerGroup { join_state: join_state.into(), ..ConsumerGroup::default() };
            let brokers = [("1".to_string(), broker), ("GroupCoordinator".to_string(), coordinator)].into();
            Statistics { brokers, cgrp: Some(group), ..Statistics::default() }
        };
        assert!(in_touch(&statistics("UP", "UP", "steady")));
        assert!(in_touch(&statistics("UP", "CONNECT", "wait-join")));
        assert!(in_touch(&statistics("INIT", "UP", "steady")), "a member that stands by needs no other connection");
        assert!(!in_touch(&statistics("APIVERSION_QUERY", "UP", "wait-join")));
        assert!(!in_touch(&statistics("CONNECT", "CONNECT", "steady")));
    }
}
