//! The topics of sinks on the brokers: whether they are there, and whether our user may read the one, write the other and
//! commit.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::metadata::Metadata;

use super::rights::{self, Need};
use super::{Report, Subject, online, output_limits};
use crate::config::finding::Finding;
use crate::config::sink::LoadConfig;
use crate::kafka::client::Role;
use crate::kafka::consumer::other_members;
use crate::kafka::reach::{Probe, Unreachable, reach};
use crate::kafka::{admin, client};
use crate::runtime::supervise::drop_in_background;
use crate::runtime::terminal::counted;
use crate::sink::DatabaseKind;

/// The key that a broker that does not answer is reported at.
const SERVERS: &str = "kafka.bootstrap_servers";

/// Asks the brokers. `topic_told`: the check of the relay that fills the topic has told of it.
pub async fn check(subject: &Subject<'_, LoadConfig>, topic_told: bool, report: &mut Report) {
    // Each wait for brokers that do not answer takes seconds.
    if report.findings.iter().any(|told| told.subject == SERVERS && told.place == subject.place(SERVERS)) {
        return;
    }
    let (file, config) = (subject.file.to_path_buf(), subject.config.clone());
    let asked = tokio::task::spawn_blocking(move || {
        let mut report = Report::default();
        let subject = Subject { file: &file, name: &config.name, origin: &config.origin, config: &config };
        for kind in DatabaseKind::of(&config) {
            if !ask(&subject, kind, topic_told, &mut report) {
                break;
            }
        }
        report
    });
    match asked.await {
        Ok(part) => {
            report.findings.extend(part.findings);
            report.checked.extend(part.checked);
        }
        Err(_) => {
            let cure = "report it as a fault of pressline";
            report.findings.push(subject.error("kafka", "the questions to the brokers broke off", cure));
        }
    }
}

/// Gives whether the brokers answered.
fn ask(subject: &Subject<'_, LoadConfig>, kind: DatabaseKind, topic_told: bool, report: &mut Report) -> bool {
    let config = subject.config;
    let Some(settings) = kind.consumer(config) else { return true };
    // A secret that cannot be read is a finding of the configuration already.
    let Ok(mut client) = client::client_config(&config.kafka, Role::Consumer) else { return true };
    let group = config.group(kind.name(), settings);
    // One that cannot be made has a property that librdkafka does not take, which is a finding already.
    let Ok(consumer) = online::consumer(&mut client, &group) else { return true };
    let reached = reach(&consumer, None);
    let answered = reached.is_ok();
    match reached {
        Ok(metadata) => {
            let inquiry = Inquiry { subject, consumer: &consumer, metadata };
            let dead_key = format!("sink.{}.consumer.dead_letter_topic", kind.name());
            let dead = config.dead_topic(settings);
            if inquiry.topic(config.topic(), "sink.topic", Need::Read, !topic_told, report) {
                inquiry.group(&group, &format!("sink.{}.consumer.group", kind.name()), report);
            }
            if inquiry.topic(&dead, &dead_key, Need::Write, true, report) {
                inquiry.limits(&dead, &dead_key, report);
            }
        }
        Err(Unreachable { reason, cause }) => {
            let what = format!("no broker at {} answers: {reason}", config.kafka.bootstrap_servers);
            report.findings.push(subject.error(SERVERS, what, cause.fix()));
        }
    }
    // Its destructor may wait for librdkafka's threads.
    drop_in_background(consumer);
    answered
}

/// What is asked about one sink.
struct Inquiry<'a> {
    subject: &'a Subject<'a, LoadConfig>,
    consumer: &'a BaseConsumer<Probe>,
    metadata: Metadata,
}

impl Inquiry<'_> {
    /// Whether the topic is there; with what is missing, unless only the right is asked for (`tell`).
    fn topic(&self, topic: &str, key: &str, need: Need, tell: bool, report: &mut Report) -> bool {
        let found = self.metadata.topics().iter().find(|found| found.name() == topic);
        let partitions = found.map_or(0, |found| found.partitions().len());
        if partitions == 0 {
            if tell {
                let right = rights::lacking(self.subject, self.consumer.client(), key, topic, need);
                report.findings.push(right.unwrap_or_else(|| self.missing(topic, key)));
            }
            return false;
        }
        if tell {
            report.ok(self.subject.line(format_args!("topic {topic}: {}", counted(partitions, "partition"))));
        }
        report.findings.extend(rights::lacking(self.subject, self.consumer.client(), key, topic, need));
        true
    }

    /// What the topic of dead letters takes. Without the right to read its settings only the run shows it.
    fn limits(&self, topic: &str, key: &str, report: &mut Report) {
        let Ok(settings) = admin::settings(self.consumer.client(), topic) else { return };
        let servers = &self.subject.config.kafka.bootstrap_servers;
        let alter = |setting: &str| {
            format!("kafka-configs.sh --bootstrap-server {servers} --alter --topic {topic} --add-config {setting}")
        };
        output_limits::check(self.subject, key, (topic, output_limits::Role::DeadLetters), &settings, &alter, report);
    }

    fn missing(&self, topic: &str, key: &str) -> Finding {
        let config = self.subject.config;
        let ours = topic != config.topic() || config.output.as_ref().is_some_and(|output| output.topic == topic);
        if ours {
            return online::missing(self.subject, key, topic);
        }
        let what = format!("topic {topic} does not exist");
        self.subject.error(key, what, "fix its name, or let whoever fills it make it")
    }

    fn group(&self, group: &str, key: &str, report: &mut Report) {
        let strategy = other_members::strategy(&self.subject.config.kafka);
        if let Some((what, cure)) = other_members::other_members(self.consumer, strategy, group, key) {
            report.findings.push(self.subject.error(key, what, cure));
        }
        if let Err(error) = super::group::committed(self.consumer, self.subject.config.topic(), &[0]) {
            let what = format!("the offsets of group {group} cannot be read: {error}");
            let cure = format!(
                "grant this user Read on the group: kafka-acls.sh --add --operation Read --group {group}; or see to the brokers"
            );
            report.findings.push(self.subject.error(key, what, cure));
        }
    }
}
