//! `pressline status`: asks running daemons over HTTP what they do, how far they are behind and what went wrong last.

pub mod ask;
mod page;
mod run;

use std::path::PathBuf;

use clap::Args;

use crate::config::finding::{Finding, sentences};
pub use run::{Health, run};

/// Options of `pressline status`.
#[derive(Clone, Debug, Args)]
#[command(
    after_help = "Example:\n  pressline status --watch\n  pressline status --url http://127.0.0.1:9187 --url http://127.0.0.1:9188 --json"
)]
pub struct StatusArgs {
    #[command(flatten)]
    daemons: DaemonArgs,
    /// Only pipelines of which the name has this text
    #[arg(short, long, value_name = "TEXT")]
    pipeline: Option<String>,
    /// Also each partition: its worker, position and lag
    #[arg(long)]
    partitions: bool,
    /// As JSON, one object a look
    #[arg(long)]
    json: bool,
    /// Look again and again, until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    /// Seconds between two looks of --watch
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0, value_parser = seconds)]
    every: f64,
}

/// Which daemons are asked.
#[derive(Clone, Debug, Args)]
pub struct DaemonArgs {
    /// Address of a daemon, as its log names it; can be given several times [default: http.listen of the configuration]
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "sets"])]
    url: Vec<String>,
    /// Settings shared by all pipelines [default: pressline.toml if there is one]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override a setting; wins over files and environment
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    sets: Vec<String>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.1..=3_600.0).contains(&seconds) => Ok(seconds),
        _ => Err("expected a number from 0.1 to 3600".into()),
    }
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// The configuration is wrong.
    #[error("{}", sentences(.0))]
    Findings(Vec<Finding>),
    /// It does not say where the daemon is, or not well.
    #[error("{0}")]
    Address(String),
    /// There is no HTTP client, or no handler of signals.
    #[error("{0}")]
    Client(String),
}
