//! `pressline topics create`: makes the topics that the pipelines describe, and shows in which settings those that are there
//! differ.
//!
//! ```text
//! pipeline files ─► wanted ─┐
//!                           ├─► missing: made
//! brokers ────────► found ──┘   else: differences, applied if asked
//! ```

mod differ;
mod wanted;

use std::thread;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use tokio::runtime::Runtime;

use crate::command::offsets::{aligned, say};
use crate::config::finding;
use crate::config::finding::Finding;
use crate::config::load::{self, Sources};
use crate::config::{CreateConfig, KafkaConfig};
use crate::kafka::admin::{self, Mode, Refusal};
use crate::kafka::client;
use crate::kafka::client::{METADATA_TIMEOUT, Role};
use crate::kafka::reach::{Probe, reach};
use crate::kafka::topic_patterns;
use crate::runtime::stdio;
use crate::runtime::terminal::counted;
pub use differ::{Change, Difference, Found, differences};
use wanted::{Cluster, gather};

/// A topic that was made is not known to every broker at once.
const SPREADS_WITHIN: Duration = Duration::from_secs(10);

/// What may be changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// Topics that are there are changed too.
    pub apply: bool,
    /// The brokers are asked whether they would do it; nothing is done.
    pub dry_run: bool,
}

impl Options {
    fn mode(self) -> Mode {
        if self.dry_run { Mode::Dry } else { Mode::Real }
    }
}

/// Why the topics cannot be looked at.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TopicsError {
    /// The configuration is wrong.
    #[error("{}", finding::sentences(.0))]
    Findings(Vec<Finding>),
    /// Kafka does not answer, or refuses to tell.
    #[error("{0}")]
    Refused(String),
}

/// Makes what is missing, shows what differs; gives whether every topic is as it should be in the end. Blocks; must not be
/// called from within an async runtime.
pub fn create(sources: &Sources, options: Options) -> Result<bool, TopicsError> {
    let loaded = load::load_for_kafka(sources).map_err(TopicsError::Findings)?;
    let (loaded, _) = topic_patterns::expand(loaded, Duration::ZERO);
    let clusters = gather(&loaded).map_err(TopicsError::Findings)?;
    let runtime = crate::daemon::runtime().map_err(TopicsError::Refused)?;
    let mut all_well = true;
    for Cluster { kafka, topics } in clusters {
        let brokers = Brokers::open(&kafka, &runtime)?;
        for (topic, wanted) in topics {
            let done = match brokers.find(&topic) {
                Ok(None) => brokers.make(&topic, &wanted.create, options),
                Ok(Some(found)) => brokers.settle(&topic, &differences(&wanted.create, &found), options),
                Err(error) => Err(error),
            };
            // One topic that is refused does not keep the others from being created.
            all_well &= done.unwrap_or_else(|error| {
                stdio::tell(format_args!("error: topic {topic}: {error}"));
                false
            });
        }
    }
    Ok(all_well)
}

/// Makes those of the topics that are missing: name, another topic of which the numbers are taken that the description leaves open,
/// and the description. Blocks; must not be called from within an async runtime.
pub fn make_missing(kafka: &KafkaConfig, topics: &[(&str, &str, &CreateConfig)]) -> Result<(), TopicsError> {
    let runtime = crate::daemon::runtime().map_err(TopicsError::Refused)?;
    let brokers = Brokers::open(kafka, &runtime)?;
    for (topic, like, wanted) in topics {
        let failed = |error| TopicsError::Refused(format!("topic {topic}: {error}"));
        if brokers.find(topic).map_err(failed)?.is_none() {
            let like = brokers.find(like).map_err(failed)?;
            let number = |of: fn(&Found) -> usize| like.as_ref().and_then(|found| i32::try_from(of(found)).ok());
            let wanted = CreateConfig {
                partitions: wanted.partitions.or_else(|| number(|found| found.partitions)),
                replication: wanted.replication.or_else(|| number(|found| found.replication)),
                settings: wanted.settings.clone(),
            };
            brokers.make(topic, &wanted, Options::default()).map_err(failed)?;
        }
    }
    Ok(())
}

/// The brokers of one Kafka.
struct Brokers<'a> {
    consumer: BaseConsumer<Probe>,
    admin: AdminClient<DefaultClientContext>,
    count: usize,
    runtime: &'a Runtime,
}

impl<'a> Brokers<'a> {
    fn open(kafka: &KafkaConfig, runtime: &'a Runtime) -> Result<Self, TopicsError> {
        let refused = |what: String| TopicsError::Refused(format!("{}: {what}", kafka.bootstrap_servers));
        let config = |role| client::client_config(kafka, role).map_err(|error| refused(error.to_string()));
        let consumer: BaseConsumer<Probe> = config(Role::Consumer)?
            .set("allow.auto.create.topics", "false")
            .create_with_context(Probe::default())
            .map_err(|error| refused(error.to_string()))?;
        let metadata = reach(&consumer, None)
            .map_err(|unreachable| TopicsError::Refused(unreachable.at(&kafka.bootstrap_servers)))?;
        let count = metadata.brokers().len();
        let admin = config(Role::Producer)?.create().map_err(|error| refused(error.to_string()))?;
        Ok(Self { consumer, admin, count, runtime })
    }

    /// The topic as it is; `None` where there is none.
    fn find(&self, topic: &str) -> Result<Option<Found>, String> {
        let metadata = self.consumer.client().fetch_metadata(Some(topic), METADATA_TIMEOUT);
        let metadata = metadata.map_err(|error| error.to_string())?;
        let Some(found) = metadata.topics().iter().find(|found| found.name() == topic) else { return Ok(None) };
        match found.error().map(RDKafkaErrorCode::from) {
            None => {}
            Some(RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic) => return Ok(None),
            Some(RDKafkaErrorCode::TopicAuthorizationFailed) => {
                return Err("this user may not see whether it is there: grant Describe on the topic".into());
            }
            Some(other) => return Err(other.to_string()),
        }
        Ok(Some(Found {
            partitions: found.partitions().len(),
            replication: found.partitions().iter().map(|partition| partition.replicas().len()).min().unwrap_or(0),
            settings: self.settings(topic)?,
        }))
    }

    fn settings(&self, topic: &str) -> Result<std::collections::BTreeMap<String, String>, String> {
        let resources = [ResourceSpecifier::Topic(topic)];
        let options = AdminOptions::new().request_timeout(Some(METADATA_TIMEOUT));
        let mut answers = self
            .runtime
            .block_on(self.admin.describe_configs(&resources, &options))
            .map_err(|error| format!("its settings cannot be read: {error}"))?;
        match answers.pop() {
            Some(Ok(resource)) => {
                Ok(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect())
            }
            Some(Err(RDKafkaErrorCode::TopicAuthorizationFailed)) => {
                Err("this user may not read its settings: grant DescribeConfigs on the topic".into())
            }
            Some(Err(other)) => Err(format!("its settings cannot be read: {other}")),
            None => Err("its settings cannot be read: an empty answer".into()),
        }
    }

    /// Makes a topic that is missing.
    fn make(&self, topic: &str, wanted: &CreateConfig, options: Options) -> Result<bool, String> {
        match admin::create(self.consumer.client(), topic, wanted, options.mode()) {
            Ok(()) if options.dry_run => {
                say(format!("topic {topic} is missing, and would be made"));
                Ok(false)
            }
            Ok(()) => {
                let made = self.await_made(topic)?;
                say(format!("made topic {topic} with {}", sizes(made.partitions, made.replication)));
                Ok(true)
            }
            // Somebody else made it meanwhile: the next run looks at its settings.
            Err(refusal) if refusal.code == RDKafkaErrorCode::TopicAlreadyExists => {
                Err("another process is creating it: run this again".into())
            }
            Err(refusal) => Err(self.explained("cannot be made", "Create on the topic or the cluster", &refusal)),
        }
    }

    fn await_made(&self, topic: &str) -> Result<Found, String> {
        let until = Instant::now() + SPREADS_WITHIN;
        loop {
            match self.find(topic) {
                Ok(Some(found)) => return Ok(found),
                _ if Instant::now() < until => thread::sleep(Duration::from_millis(50)),
                Ok(None) => return Err("was made, but the brokers do not show it yet".into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Shows how a topic differs, and changes it where that is asked for and can be done.
    fn settle(&self, topic: &str, differences: &[Difference], options: Options) -> Result<bool, String> {
        if differences.is_empty() {
            say(format!("topic {topic}: as described"));
            return Ok(true);
        }
        say(format!("topic {topic} differs:\n{}", table(differences).trim_end()));
        if !options.apply {
            say("  nothing is changed there without --apply");
            return Ok(false);
        }
        let mut settings = Vec::new();
        for difference in differences {
            match &difference.change {
                Change::Setting { name, value } => settings.push((name.as_str(), value.as_str())),
                Change::Partitions(total) => {
                    admin::add_partitions(self.consumer.client(), topic, *total, options.mode())
                        .map_err(|refusal| self.explained("gets no partitions", "Alter on the topic", &refusal))?;
                }
                Change::None => {}
            }
        }
        if !settings.is_empty() {
            admin::alter(self.consumer.client(), topic, &settings, options.mode())
                .map_err(|refusal| self.explained("cannot be changed", "AlterConfigs on the topic", &refusal))?;
        }
        let left = differences.iter().filter(|difference| difference.change == Change::None).count();
        let done = if options.dry_run { "the brokers would change it" } else { "changed" };
        match left {
            0 => say(format!("  {done}")),
            left if left == differences.len() => say("  nothing of this can be changed here"),
            left => say(format!("  {done}, all but {left}")),
        }
        Ok(left == 0 && !options.dry_run)
    }

    /// A refusal and what to do.
    fn explained(&self, what: &str, right: &str, Refusal { code, reason }: &Refusal) -> String {
        let cure = match code {
            RDKafkaErrorCode::TopicAuthorizationFailed | RDKafkaErrorCode::ClusterAuthorizationFailed => {
                format!("grant this user {right}")
            }
            RDKafkaErrorCode::InvalidReplicationFactor => {
                let brokers = counted(self.count, "broker");
                format!("the cluster has {brokers}: fix `replication` in the file, or add brokers")
            }
            RDKafkaErrorCode::PolicyViolation => {
                "a policy of the brokers forbids it: fix the file, or ask who runs them".into()
            }
            RDKafkaErrorCode::InvalidConfig | RDKafkaErrorCode::InvalidRequest => setting_cure(reason).into(),
            RDKafkaErrorCode::InvalidPartitions => "fix `partitions` in the file".into(),
            _ => "see to the brokers, then run this again".into(),
        };
        format!("{what}: {reason}\n    {cure}")
    }
}

/// The broker says which setting it refuses; it does not say how to let it.
fn setting_cure(reason: &str) -> &'static str {
    if reason.contains("Tiered Storage functionality is disabled") {
        return "switch tiered storage on in the brokers (remote.log.storage.system.enable), or take remote.storage.enable out of \
                the file";
    }
    "fix the setting in the file"
}

fn sizes(partitions: usize, replication: usize) -> String {
    format!("{}, replication {replication}", counted(partitions, "partition"))
}

fn table(differences: &[Difference]) -> String {
    let mut lines = vec![["SETTING", "IS", "SHOULD BE", "NOTE"].map(String::from).to_vec()];
    for difference in differences {
        let Difference { what, is, should_be, note, .. } = difference.clone();
        lines.push(vec![what, is, should_be, note]);
    }
    aligned(&lines)
}
