//! The pipelines of the process as its pages and the service manager show them. They come and go with the topics of a pattern.

use std::sync::{Arc, Mutex};

use crate::daemon::service_manager::Watched;
use crate::runtime::status::Status;

/// What runs, and what could not be started; copies show the same.
#[derive(Clone, Default)]
pub struct Shown {
    pipelines: Arc<Mutex<Vec<Watched>>>,
    /// A line for each, with the reason.
    broken: Arc<Mutex<Vec<String>>>,
}

impl Shown {
    /// Of pipelines that neither come nor go.
    pub fn of(statuses: Vec<Arc<Status>>) -> Self {
        let watched = statuses.into_iter().map(Watched::by_default).collect();
        Self { pipelines: Arc::new(Mutex::new(watched)), broken: Arc::default() }
    }

    /// A pipeline begins.
    pub fn add(&self, pipeline: Watched) {
        if let Ok(mut pipelines) = self.pipelines.lock() {
            pipelines.push(pipeline);
        }
    }

    /// A pipeline is none of the process's any more.
    pub fn remove(&self, name: &str) {
        if let Ok(mut pipelines) = self.pipelines.lock() {
            pipelines.retain(|pipeline| pipeline.status().name() != name);
        }
    }

    /// A pipeline cannot be started.
    pub fn add_broken(&self, line: String) {
        if let Ok(mut broken) = self.broken.lock() {
            broken.push(line);
        }
    }

    /// What could not be started is no longer spoken of: the configuration was read again.
    pub fn forget_broken(&self) {
        if let Ok(mut broken) = self.broken.lock() {
            broken.clear();
        }
    }

    /// What the service manager looks at.
    pub fn watched(&self) -> Vec<Watched> {
        self.pipelines.lock().map(|pipelines| pipelines.clone()).unwrap_or_default()
    }

    /// The states of those that were started, ended ones too.
    pub fn statuses(&self) -> Vec<Arc<Status>> {
        self.watched().iter().map(|pipeline| Arc::clone(pipeline.status())).collect()
    }

    /// Those that could not be started, with the reason.
    pub fn broken(&self) -> Vec<String> {
        self.broken.lock().map(|broken| broken.clone()).unwrap_or_default()
    }
}
