//! `pressline consume --group NAME`: shares a topic with the other members of a consumer group, and shows which partitions this
//! one has, at what pace it works and how far behind the group is.

use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::KafkaError;

use super::decode::Decoder;
use super::lag::Lag;
use super::read::transport;
use super::text::Style;
use super::{ConsumeArgs, ConsumeError, show};
use crate::kafka::client::{METADATA_TIMEOUT, Role, topic_layout};
use crate::kafka::connection::Connected;
use crate::kafka::reach::{Probe, reach};
use crate::runtime::stdio;
use crate::runtime::supervise::drop_in_background;

/// How often the state is shown and the position committed.
const EVERY: Duration = Duration::from_secs(1);
/// Longest wait for a record.
const POLL: Duration = Duration::from_millis(100);

/// A member of a group.
struct Member<'a> {
    consumer: BaseConsumer<Probe>,
    topic: &'a str,
    lag: Lag,
    /// Records since the state was shown last.
    since: (u64, Instant),
    shown: u64,
}

/// Reads until the most records asked for or a signal. Errors: no broker, no topic, or the group is refused.
pub fn share(
    args: &ConsumeArgs,
    group: &str,
    connected: &Connected,
    (decoder, style, colours): (&mut Decoder, Style, bool),
    stop: &AtomicBool,
    out: &mut dyn Write,
) -> Result<(), ConsumeError> {
    let mut member = Member::join(args, group, connected)?;
    // When the next record is due. Time in which there was none is not made up for.
    let mut due = Instant::now();
    while args.max.is_none_or(|max| member.shown < max) && !stop.load(Ordering::Relaxed) {
        let wait = due.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            std::thread::sleep(wait.min(POLL));
        }
        if wait <= POLL {
            let polled = member.consumer.poll(POLL);
            match polled {
                Some(Ok(record)) => {
                    show::write(&record, decoder, style, args.json, colours, out)?;
                    out.flush()?;
                    // Committed only once it was shown.
                    let stored = member.consumer.store_offset_from_message(&record);
                    stored.map_err(|source| member.kafka("storing a position", source))?;
                    drop(record);
                    member.shown += 1;
                    member.since.0 += 1;
                    if let Some(pace) = args.pace {
                        due = due.max(Instant::now() - POLL) + Duration::from_secs_f64(1.0 / pace);
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) | None => {}
                // librdkafka goes on trying to reach brokers by itself.
                Some(Err(source)) if source.rdkafka_error_code().is_some_and(transport) => {
                    stdio::tell(format_args!("topic {}: {source}; still trying", member.topic));
                }
                Some(Err(source)) => return Err(member.kafka("reading", source)),
            }
        }
        member.tell(group, false)?;
    }
    member.leave(group)
}

impl<'a> Member<'a> {
    fn join(args: &'a ConsumeArgs, group: &str, connected: &Connected) -> Result<Self, ConsumeError> {
        let topic = args.topic.as_str();
        let kafka = |source| ConsumeError::Kafka { what: format!("topic {topic}"), source };
        let mut config = connected.client_config(Role::Consumer)?;
        config
            .set("group.id", group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            // Partitions move one by one, so that the others are worked on meanwhile.
            .set("partition.assignment.strategy", "cooperative-sticky")
            // A preparer that goes home is missed soon.
            .set("session.timeout.ms", "10000")
            // What waits in this member's memory is behind all the same, and a new member should get it.
            .set("queued.max.messages.kbytes", "64")
            .set("isolation.level", if args.uncommitted { "read_uncommitted" } else { "read_committed" });
        let consumer: BaseConsumer<Probe> = config.create_with_context(Probe::default()).map_err(kafka)?;
        reach(&consumer, Some(topic))
            .map_err(|unreachable| ConsumeError::Unreachable(unreachable.at(&connected.kafka.bootstrap_servers)))?;
        let layout = topic_layout(consumer.client(), topic, METADATA_TIMEOUT).map_err(kafka)?;
        let layout = layout.ok_or_else(|| ConsumeError::NoTopic(topic.into()))?;
        let lag = Lag::watch(&config, topic, layout.partitions).map_err(kafka)?;
        consumer.subscribe(&[topic]).map_err(kafka)?;
        Ok(Self { consumer, topic, lag, since: (0, Instant::now()), shown: 0 })
    }

    /// Commits, and says once in a while what this member has and how far behind the group is.
    fn tell(&mut self, group: &str, now: bool) -> Result<(), ConsumeError> {
        let asked = Instant::now();
        let passed = asked - self.since.1;
        if passed < EVERY && !now {
            return Ok(());
        }
        match self.consumer.commit_consumer_state(CommitMode::Async) {
            Ok(()) | Err(KafkaError::ConsumerCommit(_)) => {}
            Err(source) => return Err(self.kafka("committing", source)),
        }
        let mine = self.consumer.assignment().map_err(|source| self.kafka("its partitions", source))?;
        let mut mine: Vec<i32> = mine.elements_for_topic(self.topic).iter().map(|part| part.partition()).collect();
        mine.sort_unstable();
        let list = mine.iter().map(i32::to_string).collect::<Vec<_>>().join(", ");
        let list = if list.is_empty() { "none".to_string() } else { list };
        let pace = self.since.0 as f64 / passed.as_secs_f64();
        let (own, all) = if now { self.lag.ask(&mine) } else { self.lag.latest(&mine) };
        let shown = |lag: Option<i64>| lag.map_or("?".to_string(), |lag| lag.to_string());
        let (own, all) = (shown(own), shown(all));
        stdio::tell(format_args!("{group}: partitions {list}; {pace:.1} records/s; lag {own}, of the group {all}"));
        self.since = (0, asked);
        Ok(())
    }

    /// Leaves the group at once, so that the others take over.
    fn leave(mut self, group: &str) -> Result<(), ConsumeError> {
        match self.consumer.commit_consumer_state(CommitMode::Sync) {
            Ok(()) | Err(KafkaError::ConsumerCommit(_)) => {}
            Err(source) => return Err(self.kafka("committing", source)),
        }
        self.tell(group, true)?;
        self.consumer.unsubscribe();
        drop_in_background((self.consumer, self.lag));
        Ok(())
    }

    fn kafka(&self, what: &str, source: KafkaError) -> ConsumeError {
        ConsumeError::Kafka { what: format!("topic {}: {what}", self.topic), source }
    }
}
