//! Whether the consumer is a member of its group, or on the way to become one.
//!
//! librdkafka 2.12 can stop asking to join. Seen twice on a machine so busy that the coordinator answered too late: the session
//! had expired and `max.poll.interval.ms` was over in the same moment, the lost partitions were given back, and for minutes
//! after that, polled all the while and with the broker back, it sent no JoinGroup. A new consumer joins.

use std::time::{Duration, Instant};

use rdkafka::statistics::Statistics;

use crate::kafka::client;

/// How long a consumer that can reach a broker may be outside of its group before it is taken to be stuck. It asks to join each
/// second.
const PATIENCE: Duration = Duration::from_secs(60);

/// Since when the consumer has been outside of its group without need.
#[derive(Debug, Default)]
pub(super) struct Membership {
    outside_since: Option<Instant>,
}

impl Membership {
    /// Takes notice of the consumer's state; for how long it has stood still outside, once that is too long.
    pub fn observe(&mut self, statistics: &Statistics, now: Instant) -> Option<Duration> {
        if is_joined(statistics) || !client::in_touch(statistics) {
            self.outside_since = None;
            return None;
        }
        let outside = now.saturating_duration_since(*self.outside_since.get_or_insert(now));
        (outside > PATIENCE).then_some(outside)
    }
}

/// Whether it has joined or has asked to: the coordinator may keep who asks waiting for as long as other members take to come,
/// their `max.poll.interval.ms`.
fn is_joined(statistics: &Statistics) -> bool {
    let Some(group) = &statistics.cgrp else { return true };
    matches!(group.join_state.as_str(), "steady" | "wait-join" | "wait-sync")
}

#[cfg(test)]
mod tests {
    use rdkafka::statistics::{Broker, ConsumerGroup};

    use super::*;

    fn statistics(broker: &str, join_state: &str) -> Statistics {
        let broker = Broker { source: "learned".into(), state: broker.into(), ..Broker::default() };
        let group = ConsumerGroup { join_state: join_state.into(), ..ConsumerGroup::default() };
        Statistics { brokers: [("1".to_string(), broker)].into(), cgrp: Some(group), ..Statistics::default() }
    }

    #[test]
    fn who_stands_outside_for_too_long_is_told() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for stuck in ["init", "wait-metadata", "wait-incr-unassign-to-complete"] {
            let mut membership = Membership::default();
            assert_eq!(membership.observe(&statistics("UP", stuck), at(0)), None);
            assert_eq!(membership.observe(&statistics("UP", stuck), at(60)), None);
            assert_eq!(membership.observe(&statistics("UP", stuck), at(65)), Some(Duration::from_secs(65)));
        }
    }

    #[test]
    fn who_is_a_member_or_waits_for_others_or_for_a_broker_is_left_alone() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        for (broker, join_state) in [("UP", "steady"), ("UP", "wait-join"), ("UP", "wait-sync"), ("CONNECT", "init")] {
            let mut membership = Membership::default();
            for seconds in [0, 100] {
                assert_eq!(
                    membership.observe(&statistics(broker, join_state), at(seconds)),
                    None,
                    "{broker} {join_state}"
                );
            }
        }
        let mut membership = Membership::default();
        for (broker, join_state, seconds) in
            [("UP", "init", 0), ("UP", "steady", 50), ("UP", "init", 70), ("UP", "init", 120)]
        {
            assert_eq!(membership.observe(&statistics(broker, join_state), at(seconds)), None, "it joined in between");
        }
    }
}
