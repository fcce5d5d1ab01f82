//! Which topics the brokers have for `source.topics`: each file becomes a pipeline for each of them. While the process runs the brokers are
//! asked again and again, and who listens is told of topics that have come and gone.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;
use tokio::sync::mpsc::UnboundedSender;

use super::client::{self, Role};
use super::reach::{Probe, reach};
use crate::config::finding::Finding;
use crate::config::load::Loaded;
use crate::config::sink::LoadConfig;
use crate::runtime::supervise::drop_in_background;

/// Between two looks for topics that have come or gone.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// In so many looks, one behind the other, a topic must lack before it is taken as gone: a broker that has just started may not know all.
const GONE_AFTER: u32 = 2;
/// Between two attempts to ask brokers that do not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A file of several topics, and which of them are known.
pub struct Pattern {
    file: PathBuf,
    config: LoadConfig,
    /// Topic → in how many looks it has lacked since it was there.
    known: BTreeMap<String, u32>,
}

/// What a look at the brokers has shown.
pub enum TopicChange {
    /// A topic has come, or come again.
    Came {
        /// The pattern's.
        file: PathBuf,
        /// Its name.
        topic: String,
        /// Its pipeline, or what is senseless in it.
        pipeline: Box<Result<LoadConfig, Vec<Finding>>>,
    },
    /// A topic is no longer there.
    Gone {
        /// Its name.
        topic: String,
        /// Its pipeline's name.
        pipeline: String,
    },
}

/// Puts the pipelines of the topics in the place of files with `source.topics`, and gives what is to be watched. Brokers that do not answer
/// are asked again for as long as `patience`. Blocks; must not be called from within an async runtime.
pub fn expand(loaded: Loaded, patience: Duration) -> (Loaded, Vec<Pattern>) {
    let (mut loads, mut patterns) = (Vec::new(), Vec::new());
    for (file, load) in loaded.loads {
        match load {
            Ok(config) if config.topics().is_some() => match topics_of(&config, patience) {
                Ok(topics) => {
                    let of_topics = topics.iter().filter_map(|topic| config.of_topic(topic));
                    loads.extend(of_topics.map(|load| (file.clone(), load)));
                    let known = topics.into_iter().map(|topic| (topic, 0)).collect();
                    patterns.push(Pattern { file, config, known });
                }
                Err(finding) => loads.push((file, Err(vec![finding]))),
            },
            load => loads.push((file, load)),
        }
    }
    (Loaded { loads, ..loaded }, patterns)
}

/// The topics that the pattern means. Errors: there is none, or no broker answers.
fn topics_of(config: &LoadConfig, patience: Duration) -> Result<BTreeSet<String>, Finding> {
    let pattern = config.topics().unwrap_or_default();
    let finding =
        |what: String, cure: &str| Finding::error(config.origin.place("source.topics"), "source.topics", what, cure);
    let begun = Instant::now();
    let found = loop {
        match look(config) {
            Ok(found) => break found,
            Err(what) if begun.elapsed() >= patience => {
                return Err(finding(what, "which topics there are the brokers say: see to them, and start again"));
            }
            Err(what) => {
                tracing::warn!(pipeline = %config.name, "{what}; asking for the topics of {pattern} again");
                std::thread::sleep(AGAIN_AFTER);
            }
        }
    };
    if found.is_empty() {
        return Err(finding(
            format!("the brokers have no topic of the form {pattern}, or the user may not describe it"),
            "correct the pattern, in which a * stands for a part without a dot; or start again once a topic is there",
        ));
    }
    Ok(found)
}

/// Asks once. Errors, in words: no broker answers.
fn look(config: &LoadConfig) -> Result<BTreeSet<String>, String> {
    let names = names(config)?;
    Ok(names.into_iter().filter(|(_, is_usable)| *is_usable).map(|(topic, _)| topic).collect())
}

/// The topics that the pattern means, and whether each can be used: one that is just being made may not have a leader yet.
fn names(config: &LoadConfig) -> Result<BTreeMap<String, bool>, String> {
    let client = client::client_config(&config.kafka, Role::Consumer).map_err(|error| error.to_string())?;
    let probe: BaseConsumer<Probe> = client.create_with_context(Probe::default()).map_err(|error| error.to_string())?;
    let reached = reach(&probe, None);
    drop_in_background(probe);
    let metadata = reached.map_err(|unreachable| unreachable.to_string())?;
    let named = metadata.topics().iter().map(|topic| (topic.name().to_string(), topic.error().is_none()));
    Ok(named.filter(|(topic, _)| config.of_topic(topic).is_some()).collect())
}

impl Pattern {
    /// Tells of topics that come and go, for as long as somebody listens. Blocks.
    pub fn watch(mut self, tell: &UnboundedSender<TopicChange>) {
        loop {
            std::thread::sleep(LOOK_EVERY);
            if tell.is_closed() {
                return;
            }
            // That brokers do not answer, the workers say.
            let Ok(found) = names(&self.config) else { continue };
            for change in self.changes(&found) {
                if tell.send(change).is_err() {
                    return;
                }
            }
        }
    }

    /// What is otherwise than at the look before. `found`: topics, and whether each can be used.
    fn changes(&mut self, found: &BTreeMap<String, bool>) -> Vec<TopicChange> {
        let (mut changes, mut gone) = (Vec::new(), Vec::new());
        for (topic, lacked) in &mut self.known {
            *lacked = if found.contains_key(topic) { 0 } else { *lacked + 1 };
            if *lacked >= GONE_AFTER {
                gone.push(topic.clone());
            }
        }
        for topic in gone {
            self.known.remove(&topic);
            let pipeline = self.config.name_of_topic(&topic).unwrap_or_default();
            changes.push(TopicChange::Gone { topic, pipeline });
        }
        for (topic, _) in found.iter().filter(|(_, is_usable)| **is_usable) {
            if !self.known.contains_key(topic)
                && let Some(pipeline) = self.config.of_topic(topic)
            {
                self.known.insert(topic.clone(), 0);
                let (file, topic, pipeline) = (self.file.clone(), topic.clone(), Box::new(pipeline));
                changes.push(TopicChange::Came { file, topic, pipeline });
            }
        }
        changes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn pattern() -> Pattern {
        let text = "[kafka]\nbootstrap_servers = \"127.0.0.1:1\"\n[registry]\nurl = \"http://127.0.0.1:1\"\n[source]\ntopics = \"shop.*\"\n\
                    format = \"json\"\nfields = { n = \"long\" }\n[sink.postgres]\ndatabase = \"d\"\nuser = \"u\"\ntable = \"${topic.1}\"\n";
        let figment = figment::Figment::from(<figment::providers::Toml as figment::providers::Format>::string(text));
        let mut config: LoadConfig = figment.extract().unwrap();
        (config.name, config.instance) = ("file".into(), "one".into());
        Pattern { file: "file.toml".into(), config, known: BTreeMap::from([("shop.a".into(), 0)]) }
    }

    #[test]
    fn a_topic_that_comes_is_told_of_once_and_one_that_goes_after_two_looks() {
        let mut pattern = pattern();
        let mut look = |names: &[(&str, bool)]| {
            let found = names.iter().map(|(name, is_usable)| ((*name).to_string(), *is_usable)).collect();
            let told = pattern.changes(&found).into_iter().map(|change| match change {
                TopicChange::Came { topic, pipeline, .. } => format!("+{topic} {}", pipeline.unwrap().name),
                TopicChange::Gone { topic, pipeline } => format!("-{topic} {pipeline}"),
            });
            told.collect::<Vec<String>>().join(", ")
        };
        assert_eq!(look(&[("shop.a", true)]), "");
        assert_eq!(look(&[("shop.a", true), ("shop.b", false)]), "", "it has no leader yet");
        assert_eq!(look(&[("shop.a", false), ("shop.b", true)]), "+shop.b file.b");
        assert_eq!(look(&[("shop.b", true)]), "", "not in one look");
        assert_eq!(look(&[("shop.a", true), ("shop.b", true)]), "");
        assert_eq!(look(&[("shop.b", true)]), "");
        assert_eq!(look(&[("shop.b", true)]), "-shop.a file.a");
        assert_eq!(look(&[("shop.b", true)]), "");
        assert_eq!(look(&[("shop.a", true), ("shop.b", true)]), "+shop.a file.a", "made again");
    }
}
