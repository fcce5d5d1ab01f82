//! Which topics the brokers have for `source.topics`: each file becomes a pipeline for each of them. Topics that come later are told of,
//! and taken up by the next start.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;

use super::client::{self, Role};
use super::reach::{Probe, reach};
use crate::config::finding::Finding;
use crate::config::load::Loaded;
use crate::config::sink::LoadConfig;
use crate::runtime::supervise::drop_in_background;

/// Between two looks for new topics.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// Between two attempts to ask brokers that do not answer.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// A file of several topics, and which of them are known.
pub struct Pattern {
    file: PathBuf,
    config: LoadConfig,
    known: BTreeSet<String>,
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
                    patterns.push(Pattern { file, config, known: topics });
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
    let client = client::client_config(&config.kafka, Role::Consumer).map_err(|error| error.to_string())?;
    let probe: BaseConsumer<Probe> = client.create_with_context(Probe::default()).map_err(|error| error.to_string())?;
    let reached = reach(&probe, None);
    drop_in_background(probe);
    let metadata = reached.map_err(|unreachable| unreachable.to_string())?;
    let names = metadata.topics().iter().filter(|topic| topic.error().is_none()).map(|topic| topic.name().to_string());
    Ok(names.filter(|topic| config.of_topic(topic).is_some()).collect())
}

impl Pattern {
    /// Says, once of each, that there is a topic which the process does not load. Goes on for ever.
    pub fn watch(mut self) {
        loop {
            std::thread::sleep(LOOK_EVERY);
            // That brokers do not answer, the workers say.
            let Ok(found) = look(&self.config) else { continue };
            for topic in found {
                if !self.known.contains(&topic) {
                    tracing::warn!(
                        pipeline = %self.config.name, topic, file = %self.file.display(),
                        "a new topic is of the form of source.topics and not loaded yet: the next start takes it up"
                    );
                    self.known.insert(topic);
                }
            }
        }
    }
}
