//! What the topics that are written to take: size of a batch, record timestamps, and whether dead letters stay there.

use super::raw_retention::{Settings, duration};
use super::{Report, Subject};
use crate::kafka::producer::{SMALLEST_DEAD_LETTER, TopicLimits};

/// What a topic is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Output of the relay.
    Output,
    /// Dead letters, of the relay or of a sink.
    DeadLetters,
}

/// Compares a topic's settings with what is written to it. `alter` gives the command that changes one.
pub fn check<C>(
    subject: &Subject<'_, C>,
    key: &str,
    (topic, role): (&str, Role),
    settings: &Settings,
    alter: &dyn Fn(&str) -> String,
    report: &mut Report,
) {
    let limits = TopicLimits::of(settings);
    if let Some(bytes) = limits.batch_bytes.filter(|bytes| *bytes < SMALLEST_DEAD_LETTER) {
        let what = format!(
            "topic {topic} takes {bytes} bytes at most (max.message.bytes, segment.bytes); expected at least \
             {SMALLEST_DEAD_LETTER}, which every record needs"
        );
        report.findings.push(subject.error(key, what, alter("max.message.bytes=1048588")));
    } else {
        let says = says(limits);
        if !says.is_empty() {
            report.ok(subject.line(format_args!("topic {topic} takes {says}")));
        }
    }
    let compacts = settings.get("cleanup.policy").is_some_and(|policy| policy.contains("compact"));
    if role == Role::DeadLetters && compacts {
        let what = format!("topic {topic} is compacted: dead letters have no value, so compaction deletes them");
        report.findings.push(subject.warning(key, what, alter("cleanup.policy=delete")));
    }
}

/// `batches up to 16384 bytes, record timestamps up to 1 h ahead (others become the time of writing)`.
fn says(limits: TopicLimits) -> String {
    let mut says = Vec::new();
    if let Some(bytes) = limits.batch_bytes {
        says.push(format!("batches up to {bytes} bytes"));
    }
    let times: Vec<String> = [(limits.before_ms, "old"), (limits.after_ms, "ahead")]
        .into_iter()
        .filter_map(|(limit, direction)| Some(format!("{} {direction}", duration(limit?))))
        .collect();
    if !times.is_empty() {
        says.push(format!("record timestamps up to {} (others become the time of writing)", times.join(" or ")));
    }
    says.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_said_in_words() {
        let limits = TopicLimits { batch_bytes: Some(16_384), before_ms: None, after_ms: Some(3_600_000) };
        assert_eq!(
            says(limits),
            "batches up to 16384 bytes, record timestamps up to 1 hour ahead (others become the time of writing)"
        );
        assert_eq!(says(TopicLimits::default()), "");
    }
}
