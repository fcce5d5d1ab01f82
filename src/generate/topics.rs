//! Makes the topics that are missing.

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;

use super::{GenerateArgs, GenerateError};
use crate::connection::Connected;
use crate::kafka::{METADATA_TIMEOUT, Role, topic_layout};

/// A topic that was made is not known to every broker at once.
const SPREADS_WITHIN: Duration = Duration::from_secs(10);

/// Makes sure that the topic is there, making it and the pipeline's other topics first where that is asked for. Errors:
/// no broker, no topic, or the broker refuses to make one.
pub fn ready(args: &GenerateArgs, connected: &Connected, topic: &str) -> Result<(), GenerateError> {
    let kafka = |source| GenerateError::Kafka { what: format!("topic {topic} on {}", servers(connected)), source };
    let admin: AdminClient<DefaultClientContext> = connected.client_config(Role::Producer)?.create().map_err(kafka)?;
    if args.create_topics {
        let mut topics = vec![topic.to_string()];
        if let Some(pipeline) = &connected.pipeline {
            topics.extend([pipeline.output.topic.clone(), pipeline.dead_topic()]);
        }
        make(&admin, &topics, args, &servers(connected))?;
    }
    let until = Instant::now() + SPREADS_WITHIN;
    loop {
        if topic_layout(admin.inner(), topic, METADATA_TIMEOUT).map_err(kafka)?.is_some() {
            return Ok(());
        }
        if !args.create_topics || Instant::now() > until {
            return Err(GenerateError::NoTopic(topic.into()));
        }
        thread::sleep(Duration::from_millis(50));
    }
}

fn servers(connected: &Connected) -> String {
    connected.kafka.bootstrap_servers.clone()
}

fn make(
    admin: &AdminClient<DefaultClientContext>,
    topics: &[String],
    args: &GenerateArgs,
    servers: &str,
) -> Result<(), GenerateError> {
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| NewTopic::new(topic, args.partitions, TopicReplication::Fixed(args.replication)))
        .collect();
    let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let results = runtime
        .block_on(admin.create_topics(&new, &options))
        .map_err(|source| GenerateError::Kafka { what: format!("making topics on {servers}"), source })?;
    for result in results {
        match result {
            Ok(topic) => eprintln!("made topic {topic} with {} partitions", args.partitions),
            Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
            Err((topic, code)) => return Err(GenerateError::NotMade { topic, reason: code.to_string() }),
        }
    }
    Ok(())
}
