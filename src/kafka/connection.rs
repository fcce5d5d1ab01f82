//! Where Kafka and the registry are, for the tools (`generate`, `consume`): the same keys as a pipeline's, or flags alone.

use std::path::{Path, PathBuf};

use crate::config::finding::Finding;
use crate::config::layers::Setting;
use crate::config::load::{self, Sources};
use crate::config::secret::SecretError;
use crate::config::{KafkaConfig, PipelineConfig, RegistryConfig, properties};
use crate::kafka::client::Role;
use crate::kafka::reach::{Probe, reach};
use crate::runtime::supervise::drop_in_background;

/// Where a broker on this machine listens.
const LOCAL_BROKER: &str = "127.0.0.1:9092";

/// Options that say how to reach Kafka and the registry.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(next_help_heading = "Connection")]
pub struct ClusterOptions {
    /// Brokers, `host:port`, several separated by commas [default: 127.0.0.1:9092] [env: PRESSLINE__KAFKA__BOOTSTRAP_SERVERS]
    #[arg(short, long, value_name = "HOST:PORT")]
    pub bootstrap_servers: Option<String>,
    /// File whose `[kafka]` and `[registry]` tables are used (TLS, SASL, ...) [default: pressline.toml if there is one]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Pipeline whose connections and topics are used: its name (of a file in pipelines/), or its file
    #[arg(short, long, value_name = "NAME|FILE")]
    pub pipeline: Option<PathBuf>,
    /// Schema registry, such as http://127.0.0.1:8081 [env: PRESSLINE__REGISTRY__URL]
    #[arg(long, value_name = "URL")]
    pub registry: Option<String>,
    /// A librdkafka property, such as `-X client.rack=a`; can be given several times
    #[arg(short = 'X', value_name = "KEY=VALUE")]
    pub properties: Vec<String>,
}

/// What [`ClusterOptions`] comes to.
#[derive(Clone, Debug)]
pub struct Connected {
    /// How to reach Kafka.
    pub kafka: KafkaConfig,
    /// How to reach the registry; `None` where none is named.
    pub registry: Option<RegistryConfig>,
    /// The pipeline of `--pipeline`.
    pub pipeline: Option<PipelineConfig>,
}

/// Why there is no connection to be had from the options.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// The configuration is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Findings(Vec<Finding>),
    /// No broker answers.
    #[error("{0}")]
    Unreachable(String),
    /// A password or key passphrase cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl ClusterOptions {
    /// Reads files, environment and flags, later ones win. Errors: findings that name file or flag.
    pub fn resolve(&self) -> Result<Connected, ConnectionError> {
        let mut connected = match &self.pipeline {
            Some(file) => self.pipeline_connection(file)?,
            None => self.tables_connection()?,
        };
        if let Some(servers) = &self.bootstrap_servers {
            connected.kafka.bootstrap_servers.clone_from(servers);
        }
        if let (Some(url), Some(registry)) = (&self.registry, &mut connected.registry) {
            registry.url.clone_from(url);
        }
        for property in &self.properties {
            let (name, value) = parse_property(property).map_err(|finding| ConnectionError::Findings(vec![finding]))?;
            // Into the tables of one side, which win over the common one.
            for side in [&mut connected.kafka.consumer, &mut connected.kafka.producer] {
                side.0.insert(name.clone(), value.clone());
            }
        }
        Ok(connected)
    }

    fn pipeline_connection(&self, file: &Path) -> Result<Connected, ConnectionError> {
        let sources = Sources { shared: self.config.clone(), pipelines: vec![file.into()], sets: Vec::new() };
        let mut loaded = load::load_for_kafka(&sources).map_err(ConnectionError::Findings)?;
        // A file with only sinks has connections too.
        if let ([], [_]) = (loaded.pipelines.as_slice(), loaded.loads.as_slice()) {
            let load = loaded.loads.remove(0).1.map_err(ConnectionError::Findings)?;
            return Ok(Connected { kafka: load.kafka, registry: Some(load.registry), pipeline: None });
        }
        if loaded.pipelines.len() != 1 {
            return Err(ConnectionError::Findings(vec![Finding::error(
                file.display().to_string(),
                "--pipeline",
                "several pipelines, expected one",
                "name one of their files",
            )]));
        }
        let pipeline = loaded.pipelines.remove(0).1.map_err(ConnectionError::Findings)?;
        Ok(Connected {
            kafka: pipeline.kafka.clone(),
            registry: Some(pipeline.registry.clone()),
            pipeline: Some(pipeline),
        })
    }

    fn tables_connection(&self) -> Result<Connected, ConnectionError> {
        let defaults = vec![Setting::flag("kafka.bootstrap_servers", LOCAL_BROKER)];
        let flags = self.registry.iter().map(|url| Setting::flag("registry.url", url)).collect();
        let tables = load::tables::<Tables>(self.config.as_deref(), defaults, flags, &["kafka", "registry"]);
        let tables = tables.map_err(ConnectionError::Findings)?;
        Ok(Connected { kafka: tables.kafka, registry: tables.registry, pipeline: None })
    }
}

/// The tables used here; all others are not looked at.
#[derive(serde::Deserialize)]
struct Tables {
    kafka: KafkaConfig,
    registry: Option<RegistryConfig>,
}

impl Connected {
    /// Whether brokers answer. Errors: why not, and what to do.
    pub fn reach(&self) -> Result<(), ConnectionError> {
        let probe = self.client_config(Role::Consumer)?.create_with_context(Probe::default());
        let probe = probe.map_err(|error| ConnectionError::Unreachable(error.to_string()))?;
        let reached = reach(&probe, None).map(drop);
        drop_in_background(probe);
        reached.map_err(|unreachable| ConnectionError::Unreachable(unreachable.at(&self.kafka.bootstrap_servers)))
    }

    /// The client configuration of one side. Errors: a secret that cannot be read.
    pub fn client_config(&self, role: Role) -> Result<rdkafka::ClientConfig, ConnectionError> {
        Ok(crate::kafka::client::client_config(&self.kafka, role)?)
    }
}

fn parse_property(text: &str) -> Result<(String, String), Finding> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(Finding::error("command line", "-X", "no `=` in it", "write -X name=value"));
    };
    let name = name.trim().to_ascii_lowercase();
    match properties::refusal(&name) {
        Some(reason) => Err(Finding::error("command line", format!("-X {name}"), "may not be set", reason)),
        None => Ok((name, value.to_string())),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use std::io::Write;

    use super::*;

    fn file(text: &str) -> tempfile::NamedTempFile {
        let mut file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file
    }

    #[test]
    fn flags_win_over_the_file() {
        let file =
            file("[kafka]\nbootstrap_servers = \"a:1\"\n[registry]\nurl = \"http://b\"\nusername = \"u\"\n[http]\n");
        let connection = ClusterOptions { config: Some(file.path().into()), ..ClusterOptions::default() };
        let connected = connection.resolve().unwrap();
        assert_eq!(connected.kafka.bootstrap_servers, "a:1");
        assert_eq!(connected.registry.unwrap().url, "http://b");
        let connection = ClusterOptions {
            bootstrap_servers: Some("c:2".into()),
            registry: Some("http://d".into()),
            properties: vec!["Client.Rack=r".into()],
            ..connection
        };
        let connected = connection.resolve().unwrap();
        assert_eq!(connected.kafka.bootstrap_servers, "c:2");
        let registry = connected.registry.clone().unwrap();
        assert_eq!((registry.url.as_str(), registry.username.as_deref()), ("http://d", Some("u")));
        assert_eq!(connected.client_config(Role::Producer).unwrap().get("client.rack"), Some("r"));
    }

    #[test]
    fn a_registry_needs_no_file() {
        let connection = ClusterOptions { registry: Some("http://127.0.0.1:8081".into()), ..ClusterOptions::default() };
        assert_eq!(connection.resolve().unwrap().registry.unwrap().timeout_ms, 10_000);
    }

    #[test]
    fn findings_name_the_key_and_not_the_value() {
        let file = file("[kafka]\nbootstrap_servers = \"a:1\"\nsasl = \"hunter2\"\n");
        let connection = ClusterOptions { config: Some(file.path().into()), ..ClusterOptions::default() };
        let error = connection.resolve().unwrap_err().to_string();
        assert!(error.contains("kafka.sasl: found text, expected a table"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_password_as_a_property_is_refused() {
        let connection =
            ClusterOptions { properties: vec!["sasl.password=hunter2".into()], ..ClusterOptions::default() };
        let error = connection.resolve().unwrap_err().to_string();
        assert!(error.contains("-X sasl.password: may not be set"), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
