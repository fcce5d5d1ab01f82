//! What is wrong with a plan.

use crate::config::PipelineConfig;
use crate::config::finding::Finding;

/// One thing that is wrong, by the key that it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// Key of the pipeline file, such as `transforms.0.filter`.
    pub key: String,
    /// What was found and what was expected.
    pub what: String,
    /// What to do.
    pub cure: String,
}

impl PlanError {
    /// As a finding, with the line of the pipeline file.
    pub fn finding(&self, config: &PipelineConfig) -> Finding {
        Finding::error(config.origin.place(&self.key), &self.key, &self.what, &self.cure)
    }
}
