//! `pressline check`: everything that can be known to be wrong before the first event, in words.
//!
//! Without `--online` only files are read. With it, brokers, registry and databases are asked, and nothing is changed there:
//! no topic is made, no group joined, no schema registered, no table made, no row written.

mod clickhouse;
mod data_flow;
mod ddl;
mod group;
mod headers;
mod newest;
mod offline;
mod online;
mod output_limits;
mod place_chain;
mod postgres;
mod raw_retention;
mod retention;
mod rights;
mod siblings;
mod sink_topics;
mod sinks;
mod time_outs;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use crate::config::finding::{Finding, Severity};
use crate::config::load::{self, Loaded, Sources};
use crate::config::{Origin, PipelineConfig};
use crate::runtime::stdio;
use crate::runtime::terminal::counted;

pub use data_flow::Flow;
pub use sinks::TablePlan;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// What is wrong, in the order of the pipelines.
    pub findings: Vec<Finding>,
    /// What was looked at and is well, one line each.
    pub checked: Vec<String>,
    /// Schemas beside the tables that they are loaded into.
    pub plans: Vec<TablePlan>,
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
        data_flow::to_markdown(&self.flows, &self.retentions)
    }

    /// The same as one JSON object: `flows` (objects) and `retentions` (topic to text).
    pub fn data_flow_json(&self) -> serde_json::Value {
        serde_json::json!({ "flows": self.flows, "retentions": self.retentions })
    }

    fn count(&self, severity: Severity) -> usize {
        self.findings.iter().filter(|f| f.severity == severity).count()
    }

    /// What a relay and the sinks of its file both complain of is told once.
    fn forget_repeated(&mut self) {
        let mut told: Vec<Finding> = Vec::with_capacity(self.findings.len());
        for finding in self.findings.drain(..) {
            if !told.contains(&finding) {
                told.push(finding);
            }
        }
        self.findings = told;
    }

    fn ok(&mut self, line: impl Into<String>) {
        self.checked.push(line.into());
    }
}

/// What is asked of a check.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Brokers, registry and databases are asked too.
    pub online: bool,
    /// JSON instead of text.
    pub json: bool,
    /// What leaves instead of what was found, which goes to standard error then.
    pub data_flow: bool,
    /// Only the statements that make the sinks' tables.
    pub ddl: bool,
}

/// Loads, checks and prints to standard output. Gives [`Report::exit_code`].
pub fn command(sources: &Sources, wanted: Wanted) -> ExitCode {
    if wanted.ddl {
        return tables(sources);
    }
    let report = match load::load(sources) {
        Ok(loaded) => match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
            Ok(runtime) => runtime.block_on(check(&loaded, wanted.online)),
            Err(error) => {
                let cure = "give the process a few more threads and file descriptors";
                Report::of(vec![Finding::error("pressline", "", format!("cannot start its runtime: {error}"), cure)])
            }
        },
        Err(findings) => Report::of(findings),
    };
    let text = match (wanted.data_flow, wanted.json) {
        (false, false) => report.to_text(),
        (false, true) => format!("{:#}\n", report.to_json()),
        (true, false) => report.data_flow(),
        (true, true) => format!("{:#}\n", report.data_flow_json()),
    };
    if wanted.data_flow {
        report.findings.iter().for_each(stdio::tell);
    }
    stdio::print(text);
    ExitCode::from(report.exit_code())
}

/// Prints the statements that make the sinks' tables; findings go to standard error.
fn tables(sources: &Sources) -> ExitCode {
    let (text, findings) = match (load::load(sources), crate::daemon::runtime()) {
        (Ok(loaded), Ok(runtime)) => runtime.block_on(ddl::statements(&loaded)),
        (Ok(_), Err(what)) => {
            (String::new(), vec![Finding::error("pressline", "", what, "give the process more threads")])
        }
        (Err(findings), _) => (String::new(), findings),
    };
    findings.iter().for_each(stdio::tell);
    stdio::print(text);
    ExitCode::from(Report::of(findings).exit_code())
}

/// What [`check`] finds in one pipeline without reading any file and what must not run: time-outs that contradict each
/// other, headers that carry addresses.
pub fn contradictions(file: &Path, config: &PipelineConfig) -> Vec<Finding> {
    let mut report = Report::default();
    let subject = Subject { file, name: &config.name, origin: &config.origin, config };
    time_outs::check(&subject, &mut report);
    headers::check(&subject, &mut report);
    report.findings.retain(|finding| finding.severity == Severity::Error);
    report.findings
}

/// Checks what was loaded; `online` asks brokers, registries and databases too, which takes up to a minute where they are
/// silent.
pub async fn check(loaded: &Loaded, online: bool) -> Report {
    let mut report = Report::default();
    let mut outputs = BTreeMap::new();
    for (file, pipeline) in &loaded.pipelines {
        let config = match pipeline {
            Ok(config) => config,
            Err(findings) => {
                report.findings.extend(findings.iter().cloned());
                continue;
            }
        };
        let subject = Subject { file, name: &config.name, origin: &config.origin, config };
        let output = offline::check(&subject, &mut report);
        if online {
            online::check(&subject, output.as_ref().map(|output| &output.schema), &mut report).await;
        }
        outputs.extend(output.map(|output| (file, output)));
    }
    for (file, load) in &loaded.loads {
        let alone = loaded.pipelines.iter().all(|(other, _)| other != file);
        match load {
            Ok(config) => {
                let subject = Subject { file, name: &config.name, origin: &config.origin, config };
                sinks::check(&subject, outputs.get(file), alone, online, &mut report).await;
            }
            Err(findings) => report.findings.extend(findings.iter().cloned()),
        }
    }
    siblings::check(loaded, &mut report);
    report.findings.extend(loaded.notices.iter().cloned());
    report.forget_repeated();
    report
}

/// A pipeline's relay or sinks, and the file they came from.
#[derive(Clone, Copy)]
struct Subject<'a, C = PipelineConfig> {
    file: &'a Path,
    name: &'a str,
    origin: &'a Origin,
    config: &'a C,
}

impl<C> Subject<'_, C> {
    /// `file:line` of a key such as `source.topic`, or the other layer that it was set in.
    fn place(&self, key: &str) -> String {
        self.origin.place(key)
    }

    fn error(&self, key: &str, what: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding::error(self.place(key), key, what, cure)
    }

    fn warning(&self, key: &str, what: impl Into<String>, cure: impl Into<String>) -> Finding {
        Finding::warning(self.place(key), key, what, cure)
    }

    /// A line of [`Report::checked`].
    fn line(&self, text: impl std::fmt::Display) -> String {
        format!("{}: {text}", self.name)
    }
}
