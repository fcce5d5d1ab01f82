//! Makes the topics that are missing.

use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use super::{GenerateArgs, GenerateError};
use crate::kafka::client::{METADATA_TIMEOUT, Role, TopicLayout, topic_layout};
use crate::kafka::connection::Connected;
use crate::runtime::stdio;
use crate::runtime::terminal::counted;

/// A topic that was made is not known to every broker at once.
const SPREADS_WITHIN: Duration = Duration::from_secs(10);

/// Kafka deletes by the records' own timestamps, so a topic for back-dated events must keep them this much longer.
const KEEP_FOR: Duration = Duration::from_secs(7 * 86_400);

/// Makes sure that the topic is there, making it and the pipeline's other topics first where that is asked for. Errors:
/// no broker, no topic, or the broker refuses to make one. `first_us` is the time of the first event, microseconds since
/// the epoch: a new topic is made to keep it, for an old one there is a warning.
pub fn ready(args: &GenerateArgs, connected: &Connected, topic: &str, first_us: i64) -> Result<(), GenerateError> {
    let kafka = |source| GenerateError::Kafka { what: format!("topic {topic} on {}", servers(connected)), source };
    connected.reach()?;
    let admin: AdminClient<DefaultClientContext> = connected.client_config(Role::Producer)?.create().map_err(kafka)?;
    let age = Duration::from_micros(u64::try_from(Timestamp::now().as_microsecond() - first_us).unwrap_or(0));
    if args.create_topics {
        let mut topics = vec![topic.to_string()];
        if let Some(pipeline) = &connected.pipeline {
            topics.extend([pipeline.output.topic.clone(), pipeline.dead_topic()]);
        }
        make(&admin, &topics, args, age, &servers(connected))?;
    }
    if age > KEEP_FOR {
        stdio::tell(format_args!(
            "the first events are {} days old: a topic whose retention.ms is shorter loses them within minutes",
            age.as_secs() / 86_400
        ));
    }
    let until = Instant::now() + SPREADS_WITHIN;
    loop {
        let layout = topic_layout(admin.inner(), topic, METADATA_TIMEOUT).map_err(kafka)?;
        let may_wait = args.create_topics && Instant::now() <= until;
        match layout {
            Some(layout) if !may_wait || leaders_answer(&admin, topic, &layout) => return Ok(()),
            None if !may_wait => return Err(GenerateError::NoTopic(topic.into())),
            _ => thread::sleep(Duration::from_millis(50)),
        }
    }
}

/// Whether every partition's leader has taken it up. One that has not may refuse a batch and take the next, which librdkafka
/// believes to mean that the first is there as well.
fn leaders_answer(admin: &AdminClient<DefaultClientContext>, topic: &str, layout: &TopicLayout) -> bool {
    let answers = |partition| admin.inner().fetch_watermarks(topic, partition, METADATA_TIMEOUT).is_ok();
    layout.partitions.iter().copied().all(answers)
}

fn servers(connected: &Connected) -> String {
    connected.kafka.bootstrap_servers.clone()
}

fn make(
    admin: &AdminClient<DefaultClientContext>,
    topics: &[String],
    args: &GenerateArgs,
    age: Duration,
    servers: &str,
) -> Result<(), GenerateError> {
    let retention = (age + KEEP_FOR).as_millis().to_string();
    let old = age > Duration::from_secs(86_400);
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| {
            let new = NewTopic::new(topic, args.partitions, TopicReplication::Fixed(args.replication));
            if old { new.set("retention.ms", &retention) } else { new }
        })
        .collect();
    let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let results = runtime
        .block_on(admin.create_topics(&new, &options))
        .map_err(|source| GenerateError::Kafka { what: format!("making topics on {servers}"), source })?;
    for result in results {
        match result {
            Ok(topic) => {
                stdio::tell(format_args!("made topic {topic} with {}", counted(args.partitions, "partition")));
            }
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(GenerateError::NotMade { topic, reason: code.to_string() }),
        }
    }
    Ok(())
}
