//! Members of a consumer group with which we cannot be in it: they divide the partitions in another way, and the broker refuses
//! who comes later (INCONSISTENT_GROUP_PROTOCOL). librdkafka goes on asking to join, without a word.

use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};

use crate::config::KafkaConfig;
use crate::kafka::client::METADATA_TIMEOUT;

/// What we divide partitions by unless the user sets something else.
pub(super) const STRATEGY: (&str, &str) = ("partition.assignment.strategy", "cooperative-sticky");

/// Most client ids that are named.
const NAMED: usize = 5;

/// What we divide partitions by.
pub(crate) fn strategy(kafka: &KafkaConfig) -> &str {
    let set = kafka.consumer.0.get(STRATEGY.0).or_else(|| kafka.properties.0.get(STRATEGY.0));
    set.map_or(STRATEGY.1, String::as_str)
}

/// Says that the group has members of another kind than `ours`, if it has, and what to do; `key` is the setting that names the group.
pub(crate) fn other_members<C: ConsumerContext>(
    consumer: &BaseConsumer<C>,
    ours: &str,
    group: &str,
    key: &str,
) -> Option<(String, String)> {
    let groups = consumer.fetch_group_list(Some(group), METADATA_TIMEOUT).ok()?;
    let found = groups.groups().iter().find(|found| found.name() == group)?;
    if found.members().is_empty() || fits(ours, found.protocol_type(), found.protocol()) {
        return None;
    }
    let kind = if found.protocol_type() == "consumer" { found.protocol() } else { found.protocol_type() };
    let clients: Vec<&str> = found.members().iter().map(|member| member.client_id()).take(NAMED).collect();
    Some((
        format!("group {group} has members of another kind ({kind}; client ids: {})", clients.join(", ")),
        format!("stop them, or name another group in {key}"),
    ))
}

/// Whether a group that divides partitions like this takes us. In the midst of a rebalance it does not tell.
fn fits(ours: &str, protocol_type: &str, protocol: &str) -> bool {
    let is_ours = || ours.split(',').any(|one| one.trim() == protocol);
    protocol.is_empty() || (protocol_type == "consumer" && is_ours())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_divides_otherwise_is_another_kind() {
        assert!(fits(STRATEGY.1, "consumer", "cooperative-sticky"));
        assert!(fits("range, roundrobin", "consumer", "roundrobin"));
        assert!(fits(STRATEGY.1, "consumer", ""), "a rebalance");
        assert!(!fits(STRATEGY.1, "consumer", "range"));
        assert!(!fits(STRATEGY.1, "connect", "sessioned"), "Kafka Connect's workers");
    }
}
