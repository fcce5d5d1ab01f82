//! The relays and sinks that run: started, stopped one by one or together, and waited for.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::config::sink::LoadConfig;
use crate::config::{MemoryConfig, MemoryShare, PipelineConfig};
use crate::daemon::service_manager::Watched;
use crate::daemon::shown::Shown;
use crate::pipeline::start::Library;
use crate::runtime::figures::About;
use crate::runtime::status::Status;
use crate::runtime::supervise::Ending;
use crate::sink::DatabaseKind;
use crate::{metrics, pipeline, sink};

/// A relay or sink that runs.
struct Part {
    /// The pipeline's name; of a sink the part's has the database's behind it.
    pipeline: String,
    workers: usize,
    stop: watch::Sender<bool>,
}

/// What runs.
pub struct Running {
    tasks: JoinSet<(String, Ending)>,
    /// By its name in logs, metrics and `/status`.
    parts: BTreeMap<String, Part>,
    /// Parts that end because their topic is gone.
    leaving: BTreeSet<String>,
    /// Pipelines whose topic is gone: for its return the process goes on, even with nothing to run.
    left: BTreeSet<String>,
    /// Of topics that were back before their pipelines had ended.
    back: Vec<LoadConfig>,
    shown: Shown,
    memory: MemoryConfig,
    stopping: bool,
}

impl Running {
    /// Starts all; each worker gets its share of the memory. To be called within a runtime.
    pub fn start(relays: Vec<PipelineConfig>, loads: Vec<LoadConfig>, shown: Shown, memory: &MemoryConfig) -> Self {
        let (tasks, parts, memory) = (JoinSet::new(), BTreeMap::new(), memory.clone());
        let (leaving, left, back) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let mut running = Self { tasks, parts, leaving, left, back, shown, memory, stopping: false };
        let workers = relays.iter().map(|relay| relay.workers).chain(loads.iter().map(workers_of)).sum();
        let share = running.memory.share(workers);
        let library = Arc::new(Library::default());
        for relay in relays {
            running.relay(relay, &library, share);
        }
        for load in loads {
            running.sinks(&load, share);
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
        if self.leaving.iter().filter_map(|name| self.parts.get(name)).any(|part| part.pipeline == load.name) {
            self.back.push(load);
            return;
        }
        let workers = self.parts.values().map(|part| part.workers).sum::<usize>() + workers_of(&load);
        let share = self.memory.share(workers);
        self.sinks(&load, share);
    }

    /// Ends the pipeline of a topic that is gone.
    pub fn leave(&mut self, pipeline: &str) {
        self.left.insert(pipeline.to_string());
        for (name, part) in self.parts.iter().filter(|(_, part)| part.pipeline == pipeline) {
            self.leaving.insert(name.clone());
            // Nobody listens any more only if it has ended.
            let _ = part.stop.send(true);
        }
        // Those that had ended before.
        for kind in [DatabaseKind::Postgres, DatabaseKind::ClickHouse] {
            let name = format!("{pipeline}.{}", kind.name());
            if !self.parts.contains_key(&name) {
                self.forget(&name);
            }
        }
    }

    /// A pipeline that cannot be started, in one line.
    pub fn add_broken(&self, line: String) {
        self.shown.add_broken(line);
    }

    /// Tells all to stop.
    pub fn stop(&mut self) {
        self.stopping = true;
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
            // Those that have still not ended wait once more.
            for load in std::mem::take(&mut self.back) {
                self.take_up(load);
            }
        }
        Some(Ok(ended))
    }

    fn forget(&self, name: &str) {
        self.shown.remove(name);
        metrics::gone(name);
    }

    fn relay(&mut self, config: PipelineConfig, library: &Arc<Library>, memory: MemoryShare) {
        let status = Arc::new(Status::new(&config.name).of(relay_about(&config)));
        let (stop, stopped) = watch::channel(false);
        let part = Part { pipeline: config.name.clone(), workers: config.workers, stop };
        let watched = Watched::new(&config.kafka, Arc::clone(&status));
        let (library, of_run) = (Arc::clone(library), Arc::clone(&status));
        let run = pipeline::start::run(config, None, library, memory, None, of_run, stopped);
        self.spawn(part, watched, run);
    }

    fn sinks(&mut self, load: &LoadConfig, memory: MemoryShare) {
        for kind in DatabaseKind::of(load) {
            let name = format!("{}.{}", load.name, kind.name());
            if self.parts.contains_key(&name) {
                let line =
                    format!("{name}: not started, another pipeline has the same name; give each file its own `name`");
                tracing::error!(topic = load.topic(), "{line}");
                self.shown.add_broken(line);
                continue;
            }
            let status = Arc::new(Status::new(&name).of(sink_about(load, kind)));
            let (stop, stopped) = watch::channel(false);
            let part = Part { pipeline: load.name.clone(), workers: kind.workers(load), stop };
            let watched = Watched::new(&load.kafka, Arc::clone(&status));
            let run = sink::run(load.clone(), kind, memory, None, status, stopped);
            self.spawn(part, watched, run);
        }
    }

    fn spawn(&mut self, part: Part, watched: Watched, run: impl Future<Output = Ending> + Send + 'static) {
        let status = Arc::clone(watched.status());
        let name = status.name().to_string();
        self.shown.add(watched);
        self.parts.insert(name.clone(), part);
        self.tasks.spawn(async move {
            let ending = run.await;
            status.end();
            (name, ending)
        });
    }
}

fn workers_of(load: &LoadConfig) -> usize {
    DatabaseKind::of(load).into_iter().map(|kind| kind.workers(load)).sum()
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
