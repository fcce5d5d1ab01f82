//! Settings of topics and brokers: how long addresses are kept, what compaction and replication do to the promise.

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;

use super::output_limits::{self, Role as OutputRole};
use super::raw_retention::{LONGEST_MS, Retention, Settings, duration};
use super::{Report, Subject};
use crate::config::Delivery;
use crate::kafka::client;
use crate::kafka::client::{METADATA_TIMEOUT, Role};
use crate::kafka::producer::TRANSACTION_TIMEOUT;
use crate::runtime::terminal::counted;

/// What later questions need.
pub struct Cluster {
    /// Any broker's number.
    pub broker: i32,
    /// Topics that are there: name and smallest number of replicas a partition has.
    pub topics: Vec<(String, usize)>,
}

/// Asks for the settings of the topics that are there and of one broker.
pub async fn check(subject: &Subject<'_>, cluster: &Cluster, report: &mut Report) {
    match ask(subject, cluster).await {
        Ok((topics, broker)) => {
            for ((topic, replicas), settings) in cluster.topics.iter().zip(&topics) {
                topic_settings(subject, topic, *replicas, settings, report);
            }
            transaction_limit(subject, &broker, report);
        }
        Err(reason) => report.findings.push(subject.warning(
            "kafka",
            format!("settings of topics and brokers could not be read: {reason}; retention was not checked"),
            "give this user the right DescribeConfigs on topics and cluster for the check",
        )),
    }
}

async fn ask(subject: &Subject<'_>, cluster: &Cluster) -> Result<(Vec<Settings>, Settings), String> {
    let client = client::client_config(&subject.config.kafka, Role::Producer).map_err(|e| e.to_string())?;
    let admin: AdminClient<DefaultClientContext> = client.create().map_err(|e| e.to_string())?;
    let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
    let topics: Vec<_> = cluster.topics.iter().map(|(topic, _)| ResourceSpecifier::Topic(topic)).collect();
    let mut answers = Vec::new();
    if !topics.is_empty() {
        answers = admin.describe_configs(&topics, &options).await.map_err(|e| e.to_string())?;
    }
    // The question about a broker goes to that broker, so it is asked alone.
    let broker = [ResourceSpecifier::Broker(cluster.broker)];
    answers.extend(admin.describe_configs(&broker, &options).await.map_err(|e| e.to_string())?);
    // Its destructor may wait for librdkafka's threads.
    std::thread::spawn(move || drop(admin));
    let mut settings = Vec::new();
    for answer in answers {
        let entries = answer.map_err(|e| e.to_string())?.entries;
        settings.push(entries.into_iter().filter_map(|e| Some((e.name, e.value?))).collect());
    }
    let broker = settings.pop().unwrap_or_default();
    Ok((settings, broker))
}

fn topic_settings(subject: &Subject<'_>, topic: &str, replicas: usize, settings: &Settings, report: &mut Report) {
    let config = subject.config;
    let (is_source, is_output) = (topic == config.source.topic, topic == config.output.topic);
    let key = if is_source {
        "source.topic"
    } else if is_output {
        "output.topic"
    } else {
        "dead_letter.topic"
    };
    let alter = |setting: &str| {
        let servers = &config.kafka.bootstrap_servers;
        format!("kafka-configs.sh --bootstrap-server {servers} --alter --topic {topic} --add-config {setting}")
    };
    let policy = settings.get("cleanup.policy").map(String::as_str).unwrap_or_default();
    let compacts = policy.contains("compact");
    if compacts && (is_source || is_output) {
        let what = format!("topic {topic} is compacted: of the presses of one session only the last is kept");
        report.findings.push(subject.warning(key, what, alter("cleanup.policy=delete")));
    }
    if let Some(kept) = Retention::of(settings) {
        report.retentions.insert(topic.to_string(), format!("kept {}", kept.says()));
        if is_source {
            raw_retention(subject, topic, kept, &alter, report);
        }
    }
    if !is_source {
        let role = if is_output { OutputRole::Output } else { OutputRole::DeadLetters };
        output_limits::check(subject, key, (topic, role), settings, &alter, report);
        replication(subject, key, (topic, replicas), settings, &alter, report);
    }
}

fn raw_retention(
    subject: &Subject<'_>,
    topic: &str,
    kept: Retention,
    alter: &dyn Fn(&str) -> String,
    report: &mut Report,
) {
    let says = kept.says();
    let Some(limit) = subject.config.source.max_raw_retention_ms else {
        if kept.records_ms.is_none_or(|ms| ms > LONGEST_MS) {
            let what = format!("topic {topic} keeps raw addresses {says}; expected at most 7 days");
            report.findings.push(subject.warning("source.topic", what, alter("retention.ms=604800000")));
        } else {
            report.ok(subject.line(format_args!("topic {topic} keeps raw addresses {says}")));
        }
        return;
    };
    let limit_ms = i64::try_from(limit).unwrap_or(i64::MAX);
    if kept.longest_ms().is_some_and(|ms| ms <= limit_ms) {
        return report.ok(subject.line(format_args!("topic {topic} keeps raw addresses {says}, as was stated")));
    }
    // A tenth for the segment, at least a minute: what Kafka still rolls in time.
    let segment_ms = (limit_ms / 10).max(60_000);
    let cure = alter(&format!("retention.ms={},segment.ms={segment_ms}", (limit_ms - segment_ms).max(0)));
    let what = format!("topic {topic} keeps raw addresses {says}; stated are at most {}", duration(limit_ms));
    report.findings.push(subject.error("source.max_raw_retention_ms", what, cure));
}

fn replication(
    subject: &Subject<'_>,
    key: &str,
    (topic, replicas): (&str, usize),
    settings: &Settings,
    alter: &dyn Fn(&str) -> String,
    report: &mut Report,
) {
    let needed = settings.get("min.insync.replicas").and_then(|n| n.parse::<usize>().ok()).unwrap_or(1);
    let shown = counted(replicas, "replica");
    if needed > replicas {
        // With KRaft the broker takes the smaller of both (`effectiveMinIsr`): seen on Kafka 4.4.0, which acknowledged.
        let what = format!(
            "topic {topic} has {shown}, but min.insync.replicas is {needed}: older brokers refuse every write, newer \
             ones acknowledge it with {shown}"
        );
        let cure = alter(&format!("min.insync.replicas={}", replicas.saturating_sub(1).max(1)));
        report.findings.push(subject.error(key, what, cure));
    } else if key != "output.topic" {
        // What stands there is no event: only that it can be written matters.
    } else if needed == replicas && replicas > 1 {
        let what = format!(
            "topic {topic} has {shown} and min.insync.replicas is {needed}: one broker down stops the pipeline"
        );
        report.findings.push(subject.warning(
            "output.topic",
            what,
            alter(&format!("min.insync.replicas={}", needed - 1)),
        ));
    } else if needed == 1 && replicas > 2 {
        let what = format!(
            "topic {topic} has {shown}, but min.insync.replicas is 1: what only the leader has is lost with it"
        );
        report.findings.push(subject.warning("output.topic", what, alter("min.insync.replicas=2")));
    }
}

fn transaction_limit(subject: &Subject<'_>, broker: &Settings, report: &mut Report) {
    if subject.config.delivery != Delivery::ExactlyOnce {
        return;
    }
    let kafka = &subject.config.kafka;
    let set = |table: &crate::config::Properties| {
        table.0.get("transaction.timeout.ms").and_then(|ms| ms.parse::<u128>().ok())
    };
    let ours = set(&kafka.producer).or_else(|| set(&kafka.properties)).unwrap_or(TRANSACTION_TIMEOUT.as_millis());
    let limit = broker.get("transaction.max.timeout.ms").and_then(|ms| ms.parse::<u128>().ok());
    match limit {
        Some(limit) if limit < ours => report.findings.push(subject.error(
            "kafka.producer.transaction.timeout.ms",
            format!("transaction.timeout.ms is {ours}, but the broker allows {limit} (transaction.max.timeout.ms): it would refuse every producer"),
            format!("raise transaction.max.timeout.ms on the brokers, or set transaction.timeout.ms to {limit} and message.timeout.ms and socket.timeout.ms below it"),
        )),
        Some(limit) => report.ok(subject.line(format_args!("transactions of {ours} ms, the broker allows {limit}"))),
        None => {}
    }
}
