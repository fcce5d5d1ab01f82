//! What the steps of the place lookup gave.

use ::metrics::{Counter, Label, counter};

use super::PLACE_PARTS;
use crate::place::chain::{Step, Steps};

/// Value of the label `step` for what no step knew.
const NO_STEP: &str = "none";

/// A pipeline's counters: made once, so that counting a place is a few atomic additions.
pub struct ChainMetrics {
    /// By part, then by step, the last for none.
    counters: Vec<Vec<Counter>>,
}

impl ChainMetrics {
    /// Counters of one pipeline.
    pub fn new(pipeline: &str) -> Self {
        let counter = |part, step| {
            let labels = [("part", part), ("step", step)].map(|(key, value)| Label::new(key, value));
            counter!(
                PLACE_PARTS,
                Vec::from([vec![Label::new("pipeline", pipeline.to_string())], labels.into()].concat())
            )
        };
        let steps = || Step::ALL.map(Step::label).into_iter().chain([NO_STEP]);
        let parts = Steps::default().parts();
        Self { counters: parts.iter().map(|(part, _)| steps().map(|step| counter(*part, step)).collect()).collect() }
    }

    /// Counts a place that was made ready.
    pub fn count(&self, steps: &Steps) {
        for (counters, (_, given)) in self.counters.iter().zip(steps.parts()) {
            let index = Step::ALL.iter().position(|step| Some(*step) == given).unwrap_or(Step::ALL.len());
            if let Some(counter) = counters.get(index) {
                counter.increment(1);
            }
        }
    }
}
