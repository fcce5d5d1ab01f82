//! What a check looks at, and what it has found.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::flow::Flow;
use super::table_plan::TablePlan;
use crate::config::finding::{Finding, Severity};
use crate::config::{ConfigOrigin, PipelineConfig};
use crate::runtime::terminal::counted;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, in the order of the pipelines.
    pub findings: Vec<Finding>,
    /// What was looked at and is well, one line each.
    pub checked: Vec<String>,
    /// Schemas beside the tables that they are loaded into.
    pub plans: Vec<TablePlan>,
    /// Plans of relays in words: pipeline, and its plan.
    pub explained: Vec<(String, String)>,
    /// What leaves, and where it comes from.
    pub flows: Vec<Flow>,
    /// Topic → how long it keeps records, where brokers were asked.
    pub retentions: BTreeMap<String, String>,
}

impl Report {
    /// A report of findings alone, for a configuration that could not be read at all.
    pub fn of(findings: Vec<Finding>) -> Self {
        Self { findings, ..Self::default() }
    }

    /// 1 if there is an error, else 0: warnings alone do not fail.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.count(Severity::Error) > 0)
    }

    /// Lines for people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        for line in &self.checked {
            text.push_str(&format!("ok: {line}\n"));
        }
        for plan in &self.plans {
            text.push_str(&plan.to_string());
        }
        for finding in &self.findings {
            text.push_str(&format!("{finding}\n"));
        }
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        text.push_str(&format!("{}, {}\n", counted(errors, "error"), counted(warnings, "warning")));
        text
    }

    /// The plans of the relays.
    pub fn explained(&self) -> String {
        self.explained.iter().map(|(pipeline, plan)| format!("plan of {pipeline}\n{plan}")).collect()
    }

    /// One JSON object: `errors` and `warnings` (counts), `findings` (objects), `checked` (texts), `plans` (objects).
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "errors": self.count(Severity::Error),
            "warnings": self.count(Severity::Warning),
            "findings": self.findings,
            "checked": self.checked,
            "plans": self.plans,
        })
    }

    /// What leaves as a table in Markdown, one row each.
    pub fn data_flow(&self) -> String {
        super::flow::to_markdown(&self.flows, &self.retentions)
    }

    /// The same as one JSON object: `flows` (objects) and `retentions` (topic to text).
    pub fn data_flow_json(&self) -> serde_json::Value {
        serde_json::json!({ "flows": self.flows, "retentions": self.retentions })
    }

    pub(super) fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|f| f.severity == severity).count()
    }

    /// What a relay and the sinks of its file, or both sinks, have in common is reported once.
    pub(super) fn forget_repeated(&mut self) {
        let mut told: Vec<Finding> = Vec::with_capacity(self.findings.len());
        for finding in self.findings.drain(..) {
            if !told.contains(&finding) {
                told.push(finding);
            }
        }
        self.findings = told;
        let mut lines = BTreeSet::new();
        self.checked.retain(|line| lines.insert(line.clone()));
    }

    pub(super) fn ok(&mut self, line: impl Into<String>) {
        self.checked.push(line.into());
    }
}

/// A pipeline's relay or sinks, and the file they came from.
#[derive(Clone, Copy)]
pub(super) struct Subject<'a, C = PipelineConfig> {
    pub(super) file: &'a Path,
    pub(super) name: &'a str,
    pub(super) origin: &'a ConfigOrigin,
    pub(super) config: &'a C,
}

impl<C> Subject<'_, C> {
    /// `file:line` of a key such as `source.topic`, or the other layer that it was set in.
    pub(super) fn place(&self, key: &str) -> String {
        self.origin.place(key)
    }

    pub(super) fn error(&self, key: &str, what: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding::error(self.place(key), key, what, cure)
    }

    pub(super) fn warning(&self, key: &str, what: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding::warning(self.place(key), key, what, cure)
    }

    /// A line of [`Report::checked`].
    pub(super) fn line(&self, text: impl std::fmt::Display) -> String {
        format!("{}: {text}", self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_both_sinks_have_in_common_is_told_once() {
        let mut report = Report::default();
        for line in ["topic t.dead: 3 partitions", "sink a", "topic t.dead: 3 partitions", "sink b"] {
            report.ok(line);
        }
        report.forget_repeated();
        assert_eq!(report.checked, ["topic t.dead: 3 partitions", "sink a", "sink b"]);
    }
}
