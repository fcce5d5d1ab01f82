//! `pressline reload`: has running daemons read their configuration again.

use clap::Args;

use super::status::ask::{self, Daemon};
use super::status::{DaemonArgs, StatusError};
use crate::daemon::reload::ReloadReport;
use crate::runtime::stdio;

/// Options of `pressline reload`.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  pressline reload --url http://127.0.0.1:9187")]
pub struct ReloadArgs {
    #[command(flatten)]
    daemons: DaemonArgs,
    /// As JSON, one object a daemon
    #[arg(long)]
    json: bool,
}

/// How it went, which the exit code tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reloaded {
    /// Each daemon runs what its configuration says.
    All,
    /// The configuration of one is wrong: there nothing was changed.
    Refused,
    /// One does not answer.
    Unreachable,
}

/// Runs the command. Blocks; must not be called from within an async runtime. Errors: nobody can be asked.
pub fn run(args: &ReloadArgs) -> Result<Reloaded, StatusError> {
    let daemons = ask::daemons(&args.daemons)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| StatusError::Client(error.to_string()))?;
    let mut worst = Reloaded::All;
    for daemon in &daemons {
        let answer = runtime.block_on(daemon.reload());
        worst = worst.max(match &answer {
            Ok(report) if report.is_refused() => Reloaded::Refused,
            Ok(_) => Reloaded::All,
            Err(_) => Reloaded::Unreachable,
        });
        stdio::print(if args.json { as_json(daemon, &answer) } else { in_words(daemon, &answer) });
    }
    Ok(worst)
}

fn as_json(daemon: &Daemon, answer: &Result<ReloadReport, String>) -> String {
    let (report, error) = (answer.as_ref().ok(), answer.as_ref().err());
    format!("{}\n", serde_json::json!({ "url": daemon.url, "reload": report, "error": error }))
}

fn in_words(daemon: &Daemon, answer: &Result<ReloadReport, String>) -> String {
    let url = &daemon.url;
    let report = match answer {
        Ok(report) => report,
        Err(error) => return format!("{url}: {error}\n"),
    };
    if report.is_refused() {
        let findings = report.findings.join("\n");
        return format!("{findings}\n{url}: nothing was changed; correct the configuration, then reload again\n");
    }
    let mut text = String::new();
    let groups = [
        ("started", &report.started),
        ("restarted", &report.restarted),
        ("stopped", &report.stopped),
        ("unchanged", &report.unchanged),
    ];
    for (what, names) in groups {
        if !names.is_empty() {
            text += &format!("{url}: {what}: {}\n", names.join(", "));
        }
    }
    text.extend(report.notes.iter().map(|note| format!("{url}: {note}\n")));
    text
}
