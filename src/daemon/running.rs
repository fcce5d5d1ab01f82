//! The relays and sinks that run: started, stopped one by one or together, and waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::sink::LoadConfig;
use crate::config::{MemoryConfig, MemoryShare, PipelineConfig};
use crate::daemon::reload::ReloadReport;
use crate::daemon::service_manager::Watched;
use crate::daemon::shown::Shown;
use crate::pipeline::start::Library;
use crate::runtime::figures::About;
use crate::runtime::status::Status;
use crate::runtime::supervise::Ending;
use crate::sink::DatabaseKind;
use crate::{metrics, pipeline, sink};

/// A relay or sink as it is configured.
enum PartConfig {
    Relay(Box<PipelineConfig>),
    Sink(Box<LoadConfig>, DatabaseKind),
}

/// A relay or sink that runs.
struct Part {
    /// The pipeline's name; of a sink the part's has the database's behind it.
    pipeline: String,
    workers: usize,
    /// See [`PartConfig::fingerprint`].
    fingerprint: u64,
    stop: watch::Sender<bool>,
}

/// What runs.
pub struct Running {
    tasks: JoinSet<(String, Ending)>,
    /// By its name in logs, metrics and `/status`.
    parts: BTreeMap<String, Part>,
    /// Parts that end because their topic is gone or their configuration is another.
    leaving: BTreeSet<String>,
    /// What begins when the part of the same name has ended.
    next: BTreeMap<String, PartConfig>,
    /// Pipelines whose topic is gone: for its return the process goes on, even with nothing to run.
    left: BTreeSet<String>,
    shown: Shown,
    /// Place databases that several relays use.
    library: Arc<Library>,
    memory: MemoryConfig,
    stopping: bool,
}

impl Running {
    /// Starts all; each worker gets its share of the memory. To be called within a runtime.
    pub fn start(relays: Vec<PipelineConfig>, loads: Vec<LoadConfig>, shown: Shown, memory: &MemoryConfig) -> Self {
        let mut running = Self {
            tasks: JoinSet::new(),
            parts: BTreeMap::new(),
            leaving: BTreeSet::new(),
            next: BTreeMap::new(),
            left: BTreeSet::new(),
            shown,
            library: Arc::default(),
            memory: memory.clone(),
            stopping: false,
        };
        let wanted = parts_of(relays, loads);
        let share = running.memory.share(wanted.iter().map(PartConfig::workers).sum());
        for config in wanted {
            running.begin(config, share);
        }
        running
    }

    /// Starts the pipeline of a topic that has come. Its share of the memory is what it would have if all had begun together, and comes on top
    /// of what the others have.
    pub fn take_up(&mut self, load: LoadConfig) {
        self.left.remove(&load.name);
        if self.stopping {
            return;
        }
        for config in parts_of(Vec::new(), vec![load]) {
            self.begin_when_ended(config);
        }
    }

    /// Ends the pipeline of a topic that is gone.
    pub fn leave(&mut self, pipeline: &str) {
        self.left.insert(pipeline.to_string());
        let names = self.parts.iter().filter(|(_, part)| part.pipeline == pipeline).map(|(name, _)| name.clone());
        for name in names.collect::<Vec<_>>() {
            self.end(&name);
        }
        // Those that had ended before.
        for kind in [DatabaseKind::Postgres, DatabaseKind::ClickHouse] {
            let name = format!("{pipeline}.{}", kind.name());
            if !self.parts.contains_key(&name) {
                self.forget(&name);
            }
        }
    }

    /// Runs from now on what the configuration says: what is configured as before goes on untouched, what is configured otherwise begins
    /// again, what is new or had ended begins, what is there no more ends. Says which is which.
    pub fn replace(&mut self, relays: Vec<PipelineConfig>, loads: Vec<LoadConfig>) -> ReloadReport {
        let mut report = ReloadReport::default();
        self.left.clear();
        self.next.clear();
        self.shown.forget_broken();
        let wanted: BTreeMap<String, PartConfig> =
            parts_of(relays, loads).into_iter().map(|config| (config.name(), config)).collect();
        let gone = |name: &&String| !wanted.contains_key(*name);
        let shown: Vec<String> = self.shown.statuses().iter().map(|status| status.name().to_string()).collect();
        report.stopped.extend(self.parts.keys().filter(gone).cloned());
        for name in shown.iter().filter(gone) {
            if self.parts.contains_key(name) { self.end(name) } else { self.forget(name) }
        }
        for (name, config) in wanted {
            match self.parts.get(&name) {
                Some(part) if part.fingerprint == config.fingerprint() && !self.leaving.contains(&name) => {
                    report.unchanged.push(name);
                    continue;
                }
                Some(_) => report.restarted.push(name.clone()),
                None => report.started.push(name.clone()),
            }
            if self.parts.contains_key(&name) {
                self.end(&name);
            }
            self.begin_when_ended(config);
        }
        report
    }

    /// A pipeline that cannot be started, in one line.
    pub fn add_broken(&self, line: String) {
        self.shown.add_broken(line);
    }

    /// Tells all to stop.
    pub fn stop(&mut self) {
        self.stopping = true;
        self.next.clear();
        for part in self.parts.values() {
            let _ = part.stop.send(true);
        }
    }

    /// Nothing runs, and nothing will.
    pub fn is_done(&self) -> bool {
        self.tasks.is_empty() && (self.stopping || self.left.is_empty())
    }

    /// Waits for the next end; `None`: nothing runs. Errors: a task of the runtime has panicked.
    pub async fn next_end(&mut self) -> Option<Result<(String, Ending), String>> {
        let ended = match self.tasks.join_next().await? {
            Ok(ended) => ended,
            Err(error) => return Some(Err(error.to_string())),
        };
        self.parts.remove(&ended.0);
        if self.leaving.remove(&ended.0) && !self.stopping {
            self.forget(&ended.0);
            if let Some(config) = self.next.remove(&ended.0) {
                self.begin_when_ended(config);
            }
        }
        Some(Ok(ended))
    }

    fn forget(&self, name: &str) {
        self.shown.remove(name);
        metrics::gone(name);
    }

    fn end(&mut self, name: &str) {
        if let Some(part) = self.parts.get(name) {
            self.leaving.insert(name.to_string());
            // Nobody listens any more only if it has ended.
            let _ = part.stop.send(true);
        }
    }

    /// Begins a part, at once or when the one of the same name that is to end has ended.
    fn begin_when_ended(&mut self, config: PartConfig) {
        let name = config.name();
        if self.leaving.contains(&name) {
            self.next.insert(name, config);
            return;
        }
        if !self.parts.contains_key(&name) {
            // It may have ended by itself before.
            self.forget(&name);
        }
        let workers = self.parts.values().map(|part| part.workers).sum::<usize>() + config.workers();
        let share = self.memory.share(workers);
        self.begin(config, share);
    }

    fn begin(&mut self, config: PartConfig, memory: MemoryShare) {
        let name = config.name();
        if self.parts.contains_key(&name) {
            let line =
                format!("{name}: not started, another pipeline has the same name; give each file its own `name`");
            tracing::error!("{line}");
            self.shown.add_broken(line);
            return;
        }
        let (stop, stopped) = watch::channel(false);
        let (workers, fingerprint) = (config.workers(), config.fingerprint());
        let pipeline = config.pipeline().to_string();
        let status = Arc::new(Status::new(&name).of(config.about()));
        let of_run = Arc::clone(&status);
        let (kafka, run): (_, Pin<Box<dyn Future<Output = Ending> + Send>>) = match config {
            PartConfig::Relay(relay) => {
                let library = Arc::clone(&self.library);
                let kafka = relay.kafka.clone();
                (kafka, Box::pin(pipeline::start::run(*relay, None, library, memory, None, of_run, stopped)))
            }
            PartConfig::Sink(load, kind) => {
                (load.kafka.clone(), Box::pin(sink::run(*load, kind, memory, None, of_run, stopped)))
            }
        };
        self.shown.add(Watched::new(&kafka, Arc::clone(&status)));
        self.parts.insert(name.clone(), Part { pipeline, workers, fingerprint, stop });
        self.tasks.spawn(async move {
            let ending = run.await;
            status.end();
            (name, ending)
        });
    }
}

fn parts_of(relays: Vec<PipelineConfig>, loads: Vec<LoadConfig>) -> Vec<PartConfig> {
    let mut parts: Vec<_> = relays.into_iter().map(|relay| PartConfig::Relay(Box::new(relay))).collect();
    for load in loads {
        let kinds = DatabaseKind::of(&load);
        parts.extend(kinds.into_iter().map(|kind| PartConfig::Sink(Box::new(load.clone()), kind)));
    }
    parts
}

impl PartConfig {
    /// In logs, metrics and `/status`.
    fn name(&self) -> String {
        match self {
            Self::Relay(relay) => relay.name.clone(),
            Self::Sink(load, kind) => format!("{}.{}", load.name, kind.name()),
        }
    }

    fn pipeline(&self) -> &str {
        match self {
            Self::Relay(relay) => &relay.name,
            Self::Sink(load, _) => &load.name,
        }
    }

    fn workers(&self) -> usize {
        match self {
            Self::Relay(relay) => relay.workers,
            Self::Sink(load, kind) => kind.workers(load),
        }
    }

    fn about(&self) -> About {
        match self {
            Self::Relay(relay) => relay_about(relay),
            Self::Sink(load, kind) => sink_about(load, *kind),
        }
    }

    /// Differs where the part would run otherwise: its settings, and what is in the schema files that they name. Files of passwords,
    /// certificates and places are read again while it runs.
    fn fingerprint(&self) -> u64 {
        let (settings, schemas) = match self {
            Self::Relay(relay) => (serde_json::to_string(relay), vec![&relay.output.schema, &relay.source.schema]),
            Self::Sink(load, kind) => {
                let alone = kind.alone(load);
                (serde_json::to_string(&alone), load.output.iter().map(|output| &output.schema).collect())
            }
        };
        let files: Vec<PathBuf> = schemas.into_iter().flatten().map(|file| file.relative()).collect();
        let mut hasher = DefaultHasher::new();
        settings.unwrap_or_default().hash(&mut hasher);
        for file in files {
            std::fs::read(file).unwrap_or_default().hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn relay_about(relay: &PipelineConfig) -> About {
    About {
        kind: "relay".to_string(),
        from: relay.source.topic.clone(),
        to: relay.output.topic.clone(),
        group: relay.group(),
    }
}

fn sink_about(load: &LoadConfig, kind: DatabaseKind) -> About {
    About {
        kind: kind.name().to_string(),
        from: load.topic().to_string(),
        to: kind.table(load).unwrap_or_default().to_string(),
        group: kind.consumer(load).map(|consumer| load.group(kind.name(), consumer)).unwrap_or_default(),
    }
}
