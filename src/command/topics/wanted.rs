//! The topics that pipelines describe: each once, however many of them name it.

use std::collections::BTreeMap;

use crate::config::finding::Finding;
use crate::config::load::Loaded;
use crate::config::sink::LoadConfig;
use crate::config::{ConfigOrigin, CreateConfig, KafkaConfig, PipelineConfig};
use crate::sink::DatabaseKind;

/// The topics of one Kafka.
pub struct Cluster {
    /// How to reach it.
    pub kafka: KafkaConfig,
    /// Its topics, by name.
    pub topics: BTreeMap<String, Wanted>,
}

/// A topic as it should be.
pub struct Wanted {
    /// What it is made with.
    pub create: CreateConfig,
    /// `file:line` of the table that says so, and the table.
    pub place: (String, String),
}

/// Every topic that a pipeline writes, and the ingress topics. What sinks alone read is made by whoever fills it. Errors:
/// broken pipelines; two descriptions of a topic that contradict each other.
pub fn gather(loaded: &Loaded) -> Result<Vec<Cluster>, Vec<Finding>> {
    let mut clusters = BTreeMap::new();
    let mut findings = Vec::new();
    for (_, relay) in &loaded.pipelines {
        match relay {
            Ok(config) => add(&mut clusters, &mut findings, &config.origin, &config.kafka, of_relay(config)),
            Err(broken) => findings.extend(broken.iter().cloned()),
        }
    }
    for (_, load) in &loaded.loads {
        match load {
            Ok(config) => add(&mut clusters, &mut findings, &config.origin, &config.kafka, of_sinks(config)),
            Err(broken) => findings.extend(broken.iter().cloned()),
        }
    }
    if findings.is_empty() { Ok(clusters.into_values().collect()) } else { Err(findings) }
}

type Description<'a> = (&'static str, String, &'a CreateConfig);

fn of_relay(config: &PipelineConfig) -> Vec<Description<'_>> {
    let mut topics = vec![("source", config.source.topic.clone(), &config.source.create)];
    // Topics of routes are made as the output is.
    topics.extend(config.output_topics().into_iter().map(|topic| ("output", topic.to_string(), &config.output.create)));
    topics.push(("dead_letter", config.dead_topic(), &config.dead_letter.create));
    topics
}

fn of_sinks(config: &LoadConfig) -> Vec<Description<'_>> {
    let mut topics = Vec::new();
    if let Some(output) = &config.output {
        topics.push(("output", output.topic.clone(), &output.create));
    }
    for kind in DatabaseKind::of(config) {
        let topic = kind.consumer(config).map(|consumer| config.dead_topic(consumer));
        topics.extend(topic.map(|topic| ("sink.dead_letter", topic, &config.sink.dead_letter.create)));
    }
    topics
}

fn add(
    clusters: &mut BTreeMap<String, Cluster>,
    findings: &mut Vec<Finding>,
    origin: &ConfigOrigin,
    kafka: &KafkaConfig,
    described: Vec<Description<'_>>,
) {
    let cluster = clusters
        .entry(kafka.bootstrap_servers.clone())
        .or_insert_with(|| Cluster { kafka: kafka.clone(), topics: BTreeMap::new() });
    for (table, topic, create) in described {
        let key = format!("{table}.create");
        let place = (origin.place(&key), key);
        match cluster.topics.get_mut(&topic) {
            None => drop(cluster.topics.insert(topic, Wanted { create: create.clone(), place })),
            Some(other) if other.create == *create || *create == CreateConfig::default() => {}
            Some(other) if other.create == CreateConfig::default() => {
                *other = Wanted { create: create.clone(), place };
            }
            Some(other) => findings.push(Finding::error(
                place.0,
                place.1,
                format!("topic {topic} is described otherwise by {}: {}", other.place.0, other.place.1),
                "describe it the same in both, or in one of them only",
            )),
        }
    }
}
