//! Reading the configuration: at the start, and again at SIGHUP or `pressline reload`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::config::finding::{Finding, Severity};
use crate::config::load::{Loaded, Sources};
use crate::config::sink::LoadConfig;
use crate::config::{PipelineConfig, ProcessConfig};
use crate::kafka::topic_patterns::{self, Pattern};

/// What `pressline check` finds in one pipeline without any file or server, and what must not run.
pub type Contradictions = fn(&Path, &PipelineConfig) -> Vec<Finding>;

/// How long brokers that do not answer are asked which topics there are, where a pattern says which are loaded and the process runs.
const BROKERS_RELOAD_WITHIN: Duration = Duration::from_secs(10);

/// Where the configuration is, and what in a pipeline's settings must not run.
#[derive(Clone)]
pub struct Configuration {
    /// Where it is.
    pub sources: Sources,
    /// What must not run.
    pub contradictions: Contradictions,
}

/// What is to run, as the configuration says it.
pub struct Configured {
    /// Settings of the process.
    pub process: ProcessConfig,
    /// Relays.
    pub relays: Vec<PipelineConfig>,
    /// Sinks.
    pub loads: Vec<LoadConfig>,
    /// Files of pipelines that cannot be started, and why.
    pub broken: Vec<(PathBuf, Vec<Finding>)>,
    /// Which topics are looked for while the process runs.
    pub patterns: Vec<Pattern>,
    /// What has no effect and is no fault of one pipeline.
    pub notices: Vec<Finding>,
}

impl Configured {
    /// Of what was read; asks the brokers for the topics of patterns for as long as `patience`. Blocks; must not be called from within
    /// an async runtime.
    pub fn of(loaded: Loaded, contradictions: Contradictions, patience: Duration) -> Self {
        let (Loaded { process, pipelines, loads: files, notices }, patterns) = topic_patterns::expand(loaded, patience);
        let mut broken = Vec::new();
        let mut relays = Vec::new();
        for (file, pipeline) in pipelines {
            let pipeline = pipeline.and_then(|config| match contradictions(&file, &config) {
                none if none.is_empty() => Ok(config),
                findings => Err(findings),
            });
            relays.extend(pipeline.map_err(|findings| broken.push((file, findings))));
        }
        let mut loads = Vec::new();
        for (file, load) in files {
            loads.extend(load.map_err(|findings| broken.push((file, findings))));
        }
        Self { process, relays, loads, broken, patterns, notices }
    }
}

/// What a reload came to; the answer of `/reload`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReloadReport {
    /// Why nothing was changed, a finding each; empty: it was done.
    pub findings: Vec<String>,
    /// Relays and sinks that began, since they are new or had ended.
    pub started: Vec<String>,
    /// Those that begin again with other settings.
    pub restarted: Vec<String>,
    /// Those that end, since the configuration has them no more.
    pub stopped: Vec<String>,
    /// Those that were left alone.
    pub unchanged: Vec<String>,
    /// What people should know.
    pub notes: Vec<String>,
}

impl ReloadReport {
    /// Whether nothing was changed.
    pub fn is_refused(&self) -> bool {
        !self.findings.is_empty()
    }

    /// Says it in the log.
    pub fn tell(&self) {
        let Self { findings, started, restarted, stopped, unchanged, notes } = self;
        if self.is_refused() {
            tracing::error!(
                findings = findings.len(),
                "reload: nothing was changed; correct the configuration, then reload again"
            );
            return;
        }
        let names = |names: &[String]| names.join(",");
        tracing::info!(
            started = names(started),
            restarted = names(restarted),
            stopped = names(stopped),
            unchanged = unchanged.len(),
            "the configuration was read again"
        );
        notes.iter().for_each(|note| tracing::warn!("reload: {note}"));
    }
}

/// Asks the process to read its configuration again; the answer comes when it has.
pub type ReloadRequest = oneshot::Sender<ReloadReport>;

/// Reads the configuration again, one time after the other.
pub struct Reloading {
    configuration: Configuration,
    /// The settings of the process as it was started: they stay.
    process: serde_json::Value,
    requests: mpsc::UnboundedReceiver<ReloadRequest>,
    /// Who waits for the reading that is under way.
    waiting: Vec<ReloadRequest>,
    reading: Option<JoinHandle<Result<Configured, Vec<Finding>>>>,
}

impl Reloading {
    /// `process`: the settings with which the process was started.
    pub fn new(
        configuration: Configuration,
        process: &ProcessConfig,
        requests: mpsc::UnboundedReceiver<ReloadRequest>,
    ) -> Self {
        let process = serde_json::to_value(process).unwrap_or_default();
        Self { configuration, process, requests, waiting: Vec::new(), reading: None }
    }

    /// Begins to read; while it is being read, once more is not begun.
    pub fn begin(&mut self) {
        if self.reading.is_none() {
            let Configuration { sources, contradictions } = self.configuration.clone();
            self.reading = Some(tokio::task::spawn_blocking(move || {
                let loaded = crate::config::load::load(&sources)?;
                Ok(Configured::of(loaded, contradictions, BROKERS_RELOAD_WITHIN))
            }));
        }
    }

    /// What was read, when it was; answers meanwhile to those that ask by [`ReloadRequest`].
    pub async fn next(&mut self) -> Result<Configured, Vec<Finding>> {
        loop {
            tokio::select! {
                Some(request) = self.requests.recv() => {
                    self.waiting.push(request);
                    self.begin();
                }
                read = async {
                    match &mut self.reading {
                        Some(reading) => reading.await,
                        None => std::future::pending().await,
                    }
                } => {
                    self.reading = None;
                    return self.judged(read.unwrap_or_else(|error| {
                        Err(vec![Finding::error("configuration", "", error.to_string(), "report it: this is a defect of pressline")])
                    }));
                }
            }
        }
    }

    /// A configuration in which one file is wrong is not taken at all: what runs is right as it is, and half of a change may be worse
    /// than none.
    fn judged(&self, read: Result<Configured, Vec<Finding>>) -> Result<Configured, Vec<Finding>> {
        let configured = read?;
        let errors = |findings: &[Finding]| findings.iter().any(|finding| finding.severity == Severity::Error);
        if configured.broken.iter().any(|(_, findings)| errors(findings)) {
            return Err(configured.broken.into_iter().flat_map(|(_, findings)| findings).collect());
        }
        Ok(configured)
    }

    /// Whether settings of the process itself differ from those that it was started with.
    pub fn changes_process(&self, configured: &Configured) -> bool {
        serde_json::to_value(&configured.process).unwrap_or_default() != self.process
    }

    /// Tells who has asked.
    pub fn answer(&mut self, report: &ReloadReport) {
        for request in self.waiting.drain(..) {
            // Who has gone needs no answer.
            let _ = request.send(report.clone());
        }
    }
}
