//! The command: the checks one after the other, and how their report is told.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::output::Output;
use super::{Report, Subject, data_flow, ddl, offline, online, plan, siblings, sinks, time_outs};
use crate::config::PipelineConfig;
use crate::config::finding::Finding;
use crate::config::load::{self, Loaded, Sources};
use crate::kafka::topic_patterns;
use crate::runtime::stdio;

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
    /// The plans of the relays instead of what was found, which goes to standard error then.
    pub explain: bool,
}

/// Loads, checks and prints to standard output. Gives [`Report::exit_code`].
pub fn command(sources: &Sources, wanted: Wanted) -> ExitCode {
    if wanted.ddl {
        return tables(sources, wanted.online);
    }
    let report = match load::load(sources) {
        Ok(loaded) => match tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build() {
            Ok(runtime) => {
                let loaded = if wanted.online { topic_patterns::expand(loaded, Duration::ZERO).0 } else { loaded };
                runtime.block_on(check(&loaded, wanted.online))
            }
            Err(error) => {
                let cure = "give the process a few more threads and file descriptors";
                Report::of(vec![Finding::error("pressline", "", format!("cannot start its runtime: {error}"), cure)])
            }
        },
        Err(findings) => Report::of(findings),
    };
    if wanted.explain {
        report.findings.iter().for_each(stdio::tell);
        stdio::print(report.explained());
        return ExitCode::from(report.exit_code());
    }
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
fn tables(sources: &Sources, is_online: bool) -> ExitCode {
    let (text, findings) = match (load::load_without_secrets(sources), crate::daemon::runtime()) {
        (Ok(loaded), Ok(runtime)) => {
            let (loaded, _) = topic_patterns::expand(loaded, Duration::ZERO);
            runtime.block_on(ddl::statements(&loaded, is_online))
        }
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
    data_flow::check_headers(&subject, &mut report);
    report.findings.retain(Finding::is_error);
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
        let of_press = offline::check(&subject, &mut report);
        let mut planned = None;
        if config.is_press() {
            let text = "  the press kernel: session_id, timestamp, cohort and action go out as they are; ip goes into the place \
                        lookup and nowhere else\n";
            report.explained.push((file.display().to_string(), text.into()));
        } else {
            planned = plan::check(&subject, &mut report);
        }
        if online {
            online::check(&subject, of_press.as_ref().map(|(schema, _)| schema), &mut report).await;
            if !config.is_press() {
                planned = plan::check_online(&subject, &mut report).await.or(planned);
            }
        }
        let output = of_press.map(|(schema, origins)| {
            let says = format!("schema file {}", schema.path.display());
            Output { says, schema: schema.compact.as_str().into(), origins }
        });
        let output = output.or(planned);
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
