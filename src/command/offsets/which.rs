//! Which pipeline and which of its parts a command is about.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{OffsetsError, PipelinePart};
use crate::config::finding::Finding;
use crate::config::load::{self, Sources};
use crate::config::sink::LoadConfig;
use crate::config::{LogConfig, MemoryConfig, PipelineConfig};
use crate::kafka::topic_patterns;
use crate::runtime::terminal::counted;

/// Names a pipeline.
#[derive(Clone, Debug, clap::Args)]
pub struct Which {
    /// The pipeline: its name (of a file in pipelines/), or its file [default: the only one in pipelines/]
    #[arg(short, long, value_name = "NAME|FILE")]
    pub pipeline: Option<String>,
    /// Settings shared by all pipelines [default: pressline.toml if there is one]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Override a setting; wins over files and environment
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub sets: Vec<String>,
}

/// A pipeline's configuration.
pub struct Pipeline {
    /// Its name.
    pub name: String,
    /// Its relay, if it has one.
    pub relay: Option<PipelineConfig>,
    /// Its sinks, if it has some.
    pub load: Option<LoadConfig>,
    /// How logs are written.
    pub log: LogConfig,
    /// What its workers may hold.
    pub memory: MemoryConfig,
}

impl Which {
    /// Reads the configuration. Errors: findings; no pipeline of that name.
    pub fn load(&self) -> Result<Pipeline, OffsetsError> {
        let file = self.pipeline.as_deref().filter(|named| Path::new(named).exists() || named.ends_with(".toml"));
        let pipelines: Vec<PathBuf> = file.map(PathBuf::from).into_iter().collect();
        // Of what is found then, there may be one only.
        let named = self.pipeline.as_deref().filter(|_| file.is_none());
        let sources = Sources { shared: self.config.clone(), pipelines, sets: self.sets.clone() };
        let loaded = load::load(&sources).map_err(OffsetsError::Findings)?;
        let (loaded, _) = topic_patterns::expand(loaded, Duration::ZERO);
        let of_topics: Vec<String> =
            loaded.loads.iter().filter_map(|(_, load)| Some(load.as_ref().ok()?.name.clone())).collect();
        let relay = self.find(named, loaded.pipelines, |config| &config.name)?;
        let sinks = self.find(named, loaded.loads, |config| &config.name)?;
        let name = relay.as_ref().map(|relay| relay.name.clone()).or(sinks.as_ref().map(|load| load.name.clone()));
        let name = name.ok_or_else(|| {
            let named = self.pipeline.as_deref().unwrap_or_default();
            let of_topics: Vec<&String> =
                of_topics.iter().filter(|name| name.starts_with(&format!("{named}."))).collect();
            OffsetsError::Refused(match of_topics.first() {
                None => format!("--pipeline {named}: there is no pipeline of that name in pipelines/; name its file"),
                Some(first) => format!(
                    "--pipeline {named}: its file has a pipeline for each of {}; name one, such as --pipeline {first}",
                    counted(of_topics.len(), "topic")
                ),
            })
        })?;
        Ok(Pipeline { name, relay, load: sinks, log: loaded.process.log, memory: loaded.process.memory })
    }

    /// The one of that name. Errors: the findings of a file of that name; several pipelines in a folder.
    fn find<T>(
        &self,
        named: Option<&str>,
        found: Vec<(PathBuf, Result<T, Vec<Finding>>)>,
        name: impl Fn(&T) -> &str,
    ) -> Result<Option<T>, OffsetsError> {
        let mut one = None;
        for (file, config) in found {
            let is_meant = named.is_none_or(|named| match &config {
                Ok(config) => name(config) == named,
                // Which topics a pattern means could not be asked.
                Err(_) => file.file_stem().and_then(|stem| named.strip_prefix(stem.to_str()?)).is_some_and(is_rest),
            });
            if !is_meant {
                continue;
            }
            let config = config.map_err(OffsetsError::Findings)?;
            if one.replace(config).is_some() {
                let what = match &self.pipeline {
                    Some(named) => format!(
                        "--pipeline {named}: holds several pipelines; name one of its files, or, of a file with source.topics, one of its \
                         pipelines"
                    ),
                    None => "there are several pipelines; name one with --pipeline".into(),
                };
                return Err(OffsetsError::Refused(what));
            }
        }
        Ok(one)
    }
}

/// Whether it is what stands behind a file's name in that of its pipeline.
fn is_rest(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('.')
}

impl Pipeline {
    /// The parts that it has.
    pub fn parts(&self) -> Vec<PipelinePart> {
        let has = |part: &PipelinePart| match part {
            PipelinePart::Relay => self.relay.is_some(),
            PipelinePart::Postgres => self.load.as_ref().is_some_and(|load| load.sink.postgres.is_some()),
            PipelinePart::Clickhouse => self.load.as_ref().is_some_and(|load| load.sink.clickhouse.is_some()),
        };
        PipelinePart::ALL.into_iter().filter(has).collect()
    }

    /// Why a part cannot be looked at.
    pub fn lacks(&self, part: PipelinePart) -> OffsetsError {
        let names: Vec<&str> = self.parts().into_iter().map(PipelinePart::name).collect();
        OffsetsError::Refused(format!("pipeline {} has no {}; it has {}", self.name, part.name(), names.join(", ")))
    }
}
