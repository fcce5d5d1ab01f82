//! What came of the tests.

use std::time::Duration;

/// A pipeline, and what came of its tests.
pub struct Checked {
    /// The pipeline's file.
    pub file: String,
    /// Those of its tests that were run.
    pub results: Vec<TestResult>,
    /// Whether it has any.
    pub has_fixtures: bool,
}

/// What came of one test.
pub struct TestResult {
    /// What the test shows.
    pub name: String,
    /// `file:line`.
    pub place: String,
    /// How long it took.
    pub took: Duration,
    /// How it ended.
    pub verdict: Verdict,
    /// What is not as expected, or what is wrong; empty where it passed.
    pub told: String,
}

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is as expected.
    Passed,
    /// Something is not.
    Failed,
    /// It could not be run.
    Wrong,
}

impl TestResult {
    /// Whether something is not as expected.
    pub fn is_failure(&self) -> bool {
        self.verdict == Verdict::Failed
    }

    /// Whether it could not be run.
    pub fn is_error(&self) -> bool {
        self.verdict == Verdict::Wrong
    }
}
