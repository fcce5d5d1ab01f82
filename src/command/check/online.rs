//! What only the brokers and the registry can tell. Nothing is changed there.

use std::collections::BTreeMap;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::Offset;

use super::offline::registry_finding;
use super::retention::Cluster;
use super::rights::{self, Need};
use super::{Report, Subject, retention};
use crate::avro::registry::{Registry, SubjectState};
use crate::avro::schema::SchemaFile;
use crate::command::offsets::{Advice, PipelinePart};
use crate::config::finding::Finding;
use crate::kafka::client;
use crate::kafka::client::{METADATA_TIMEOUT, Role};
use crate::kafka::consumer::other_members;
use crate::kafka::coordinator::{Start, decide_start};
use crate::kafka::offset_note::{CommittedOffset, OffsetNote};
use crate::kafka::reach::{Probe, Unreachable, reach};
use crate::kafka::topic_id::topic_id;
use crate::runtime::terminal::counted;

/// Asks brokers and registry about one pipeline.
pub async fn check(subject: &Subject<'_>, schema: Option<&SchemaFile>, report: &mut Report) {
    brokers(subject, report).await;
    if let Some(schema) = schema {
        registry(subject, schema, report).await;
    }
}

async fn registry(subject: &Subject<'_>, schema: &SchemaFile, report: &mut Report) {
    // One that cannot be made is a finding of the offline part already.
    let Ok(registry) = Registry::new(&subject.config.registry) else { return };
    let name = subject.config.subject();
    match registry.examine(&name, &schema.compact, subject.config.output.register).await {
        Ok(SubjectState::Registered(id)) => {
            report.ok(subject.line(format_args!("subject {name}: registered as id {}", id.0)));
            let differences = registry.kept_otherwise(id, &schema.compact).await.unwrap_or_default();
            if !differences.is_empty() {
                report.findings.push(subject.warning(
                    "output.schema",
                    format!("the registry keeps another text under id {}, which readers get: {}", id.0, differences.join("; ")),
                    "change something that the registry tells apart (a field, a type), or leave it: the records are written as the file says",
                ));
            }
        }
        Ok(SubjectState::Compatible) => {
            report.ok(subject.line(format_args!("subject {name}: compatible, will be registered at start")));
        }
        Err(error) => report.findings.push(registry_finding(subject, &error)),
    }
}

/// Blocking questions go to a thread of their own.
async fn brokers(subject: &Subject<'_>, report: &mut Report) {
    let (file, config) = (subject.file.to_path_buf(), subject.config.clone());
    let task = tokio::task::spawn_blocking(move || {
        let mut report = Report::default();
        let subject = Subject { file: &file, name: &config.name, origin: &config.origin, config: &config };
        let found = ask_brokers(&subject, &mut report);
        (report, found)
    });
    let Ok((part, found)) = task.await else {
        let cure = "report it as a fault of pressline";
        return report.findings.push(subject.error("kafka", "the questions to the brokers broke off", cure));
    };
    report.findings.extend(part.findings);
    report.checked.extend(part.checked);
    if let Some(found) = found {
        retention::check(subject, &found, report).await;
    }
}

fn ask_brokers(subject: &Subject<'_>, report: &mut Report) -> Option<Cluster> {
    let config = subject.config;
    let Ok(mut client) = client::client_config(&config.kafka, Role::Consumer) else { return None };
    let consumer = match consumer(&mut client, &config.group()) {
        Ok(consumer) => consumer,
        Err(error) => {
            let what = format!("cannot make a consumer: {error}");
            report.findings.push(subject.error("kafka", what, "fix the setting that is named"));
            return None;
        }
    };
    let cluster = ask(subject, &consumer, report);
    // Its destructor may wait for librdkafka's threads.
    std::thread::spawn(move || drop(consumer));
    cluster
}

/// A consumer that asks about a group and is never its member.
pub fn consumer(client: &mut ClientConfig, group: &str) -> KafkaResult<BaseConsumer<Probe>> {
    client
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        // Offsets inside an open transaction are not waited for: a look must not take as long as one.
        .set("isolation.level", "read_uncommitted")
        .set("allow.auto.create.topics", "false")
        .create_with_context(Probe::default())
}

fn ask(subject: &Subject<'_>, consumer: &BaseConsumer<Probe>, report: &mut Report) -> Option<Cluster> {
    let config = subject.config;
    let servers = &config.kafka.bootstrap_servers;
    let metadata = match reach(consumer, None) {
        Ok(metadata) => metadata,
        Err(Unreachable { reason, cause }) => {
            let what = format!("no broker at {servers} answers: {reason}");
            report.findings.push(subject.error("kafka.bootstrap_servers", what, cause.fix()));
            return None;
        }
    };
    let broker = metadata.brokers().first().map_or(0, |b| b.id());
    report.ok(subject.line(format_args!("{servers}: {}", counted(metadata.brokers().len(), "broker"))));
    let dead = config.dead_topic();
    let wanted =
        [("source.topic", &config.source.topic), ("output.topic", &config.output.topic), ("dead_letter.topic", &dead)];
    let mut topics = Vec::new();
    for (key, topic) in wanted {
        let need = if key == "source.topic" { Need::Read } else { Need::Write };
        let found = metadata.topics().iter().find(|t| t.name() == topic && !t.partitions().is_empty());
        let Some(found) = found else {
            // One that the user may not see looks as if it were not there.
            let right = rights::lacking(subject, consumer.client(), key, topic, need);
            report.findings.push(right.unwrap_or_else(|| missing(subject, key, topic)));
            continue;
        };
        let partitions = found.partitions().len();
        let shown = counted(partitions, "partition");
        report.ok(subject.line(format_args!("topic {topic}: {shown}")));
        let replicas = found.partitions().iter().map(|p| p.replicas().len()).min().unwrap_or(0);
        topics.push((topic.clone(), replicas));
        report.findings.extend(rights::lacking(subject, consumer.client(), key, topic, need));
        if key == "source.topic" && config.workers > partitions {
            let what = format!("{} workers, but topic {topic} has {shown}: the rest will idle", config.workers);
            report.findings.push(subject.warning("workers", what, "use fewer workers, or add partitions"));
        }
    }
    let strategy = other_members::strategy(&config.kafka);
    if let Some((what, cure)) = other_members::other_members(consumer, strategy, &config.group(), "source.group") {
        report.findings.push(subject.error("source.group", what, cure));
    }
    if topics.iter().any(|(topic, _)| *topic == config.source.topic)
        && let Err(error) = group(subject, consumer, report)
    {
        let what = format!("the offsets of group {} cannot be read: {error}", config.group());
        let cure = "give this user the right to read the group and the topics, or see to the brokers";
        report.findings.push(subject.error("source.group", what, cure));
    }
    Some(Cluster { broker, topics })
}

/// A topic that is not there. `pressline topics create` makes it: the pipeline's file describes it.
pub fn missing<C>(subject: &Subject<'_, C>, key: &str, topic: &str) -> Finding {
    let what = format!("topic {topic} does not exist");
    subject.error(key, what, format!("create it: pressline topics create {}", subject.file.display()))
}

/// Where the group would begin, and whether it may.
fn group(subject: &Subject<'_>, consumer: &BaseConsumer<Probe>, report: &mut Report) -> KafkaResult<()> {
    let config = subject.config;
    let (topic, group) = (&config.source.topic, config.group());
    let Some(layout) = client::topic_layout(consumer.client(), topic, METADATA_TIMEOUT)? else { return Ok(()) };
    let committed = committed(consumer, topic, &layout.partitions)?;
    if let Some(finding) = another_topic(subject, consumer, &committed) {
        report.findings.push(finding);
        return Ok(());
    }
    let output_empty = is_empty(consumer, &config.output.topic)?;
    let before = report.findings.len();
    let mut behind = 0;
    for &partition in &layout.partitions {
        let (low, high) = consumer.fetch_watermarks(topic, partition, METADATA_TIMEOUT)?;
        match decide_start(partition, &committed, config.source.start, output_empty) {
            Start::At(next) => {
                report.findings.extend(out_of_range(subject, partition, next, low, high));
                behind += (high - next).max(0);
            }
            Start::Beginning => behind += high - low,
            Start::End => {}
            Start::Refuse => {
                report.findings.push(no_offsets(subject, &group));
                return Ok(());
            }
        }
    }
    if report.findings.len() == before {
        let (with, all) = (committed.len(), layout.partitions.len());
        let line = format!(
            "group {group}: offsets on {with} of {all} partitions, about {} to relay",
            counted(behind, "record")
        );
        report.ok(subject.line(line));
    }
    Ok(())
}

fn committed(
    consumer: &BaseConsumer<Probe>,
    topic: &str,
    partitions: &[i32],
) -> KafkaResult<BTreeMap<i32, CommittedOffset>> {
    let mut offsets = BTreeMap::new();
    for element in super::group::committed(consumer, topic, partitions)?.elements() {
        if let Offset::Offset(next) = element.offset() {
            offsets.insert(element.partition(), CommittedOffset { next, note: OffsetNote::parse(element.metadata()) });
        }
    }
    Ok(offsets)
}

fn is_empty(consumer: &BaseConsumer<Probe>, topic: &str) -> KafkaResult<bool> {
    let Some(layout) = client::topic_layout(consumer.client(), topic, METADATA_TIMEOUT)? else { return Ok(true) };
    for partition in layout.partitions {
        if consumer.fetch_watermarks(topic, partition, METADATA_TIMEOUT)?.1 > 0 {
            return Ok(false);
        }
    }
    Ok(true)
}

fn another_topic(
    subject: &Subject<'_>,
    consumer: &BaseConsumer<Probe>,
    committed: &BTreeMap<i32, CommittedOffset>,
) -> Option<Finding> {
    let topic = &subject.config.source.topic;
    let current = topic_id(consumer.client(), topic, METADATA_TIMEOUT).ok().flatten()?;
    let (partition, noted) = committed.iter().find_map(|(partition, offset)| {
        let noted = offset.note.topic_id.as_ref().filter(|noted| noted.as_str() != current.as_str())?;
        Some((partition, noted))
    })?;
    Some(subject.error(
        "source.topic",
        format!(
            "topic {topic} was deleted and made again: the group's offset of partition {partition} belongs to topic id \
             {noted}, the topic there now has id {current}"
        ),
        format!("to relay the new topic from its beginning, run {}", advice(subject).set_all("beginning")),
    ))
}

fn out_of_range(subject: &Subject<'_>, partition: i32, next: i64, low: i64, high: i64) -> Option<Finding> {
    let topic = &subject.config.source.topic;
    let what = if next < low {
        format!(
            "topic {topic}, partition {partition}: offsets {next} to {} were deleted by retention before they were relayed",
            low - 1
        )
    } else if next > high {
        format!(
            "topic {topic}, partition {partition}: the group's offset {next} lies past the end {high}: the topic was recreated or truncated"
        )
    } else {
        return None;
    };
    let cure = format!(
        "find out what happened; to go on at the oldest record there is, run {}",
        advice(subject).set(partition, low)
    );
    Some(subject.error("source.topic", what, cure))
}

fn no_offsets(subject: &Subject<'_>, group: &str) -> Finding {
    subject.error(
        "source.start",
        format!(
            "group {group} has no offsets, but output topic {} is not empty: they expired or were deleted, or the output \
             is somebody else's; beginning now could write events twice",
            subject.config.output.topic
        ),
        format!(
            "decide where to go on: run {} with a time, an offset, `beginning` or `end`; or set source.start to \"beginning\" or \
             \"end\"",
            advice(subject).set_all("2026-01-31T12:00:00Z")
        ),
    )
}

fn advice(subject: &Subject<'_>) -> Advice {
    Advice::new(&subject.config.name, PipelinePart::Relay)
}
