//! `pressline dlq`: what lies in a pipeline's dead letter topics, and what becomes of it.
//!
//! ```text
//! dead letter topic ─► letters, marks ─┬─► ls, show
//!                                      ├─► replay ─► source record ─► relay or sink, with a mark in the same transaction
//!                                      └─► discard ─► a mark
//! ```
//!
//! A letter is open until a mark says that it was replayed or discarded ([`crate::kafka::letters`]).

mod choose;
mod discard;
mod ls;
mod part;
mod replay;
mod run;
mod show;
mod withhold;

use std::str::FromStr;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::command::consume::ConsumeError;
use crate::command::offsets::{OffsetsError, PipelinePart, Which};
use crate::kafka::consumer::SourceError;
use crate::kafka::offset_note::Partition;
pub use run::run;

/// Options of `pressline dlq`.
#[derive(Clone, Debug, Args)]
pub struct DlqArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Count the letters by reason and field
    #[command(after_help = "Examples:\n  pressline dlq ls\n  pressline dlq ls --sink postgres --by day")]
    Ls(LsArgs),
    /// Show one letter and, if asked, the record that it is about
    #[command(after_help = "Example:\n  pressline dlq show --sink relay 0:17 --source")]
    Show(ShowArgs),
    /// Read the letters' records again and write them by the pipeline as it is now, each exactly once; exit code 0 if none is left
    #[command(
        after_help = "Examples:\n  pressline dlq replay --sink postgres --reason too_long --dry-run\n  pressline dlq replay --sink relay --reason unknown_action"
    )]
    Replay(ReplayArgs),
    /// Mark letters as not to be replayed, with the reason
    #[command(
        after_help = "Example:\n  pressline dlq discard --sink relay --reason bad_uuid --reason-text 'test traffic of 3 May'"
    )]
    Discard(DiscardArgs),
}

/// Which letters.
#[derive(Clone, Debug, Default, Args)]
struct Filter {
    /// Only with this reason; can be given several times
    #[arg(long, value_name = "CODE")]
    reason: Vec<String>,
    /// Only about this field or column; can be given several times
    #[arg(long, value_name = "NAME")]
    field: Vec<String>,
    /// Only of records of this time or later (2026-01-31T12:00:00Z, a date, or -1h for an hour ago)
    #[arg(long, value_name = "TIME", value_parser = crate::command::generate::parse_time, allow_hyphen_values = true)]
    from: Option<Timestamp>,
    /// Only of records before this time
    #[arg(long, value_name = "TIME", value_parser = crate::command::generate::parse_time, allow_hyphen_values = true)]
    to: Option<Timestamp>,
}

#[derive(Clone, Debug, Args)]
struct LsArgs {
    #[command(flatten)]
    which: Which,
    /// Only the letters of this part of the pipeline
    #[arg(short, long)]
    sink: Option<PipelinePart>,
    #[command(flatten)]
    filter: Filter,
    /// Count each hour or day of the records for itself
    #[arg(long, value_name = "hour|day")]
    by: Option<Span>,
    /// A line for each letter, with where it lies
    #[arg(long, conflicts_with = "by")]
    each: bool,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

/// A span of time that letters are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Span {
    /// An hour, in UTC.
    Hour,
    /// A day, in UTC.
    Day,
}

/// One part of one pipeline.
#[derive(Clone, Debug, Args)]
struct Chosen {
    #[command(flatten)]
    which: Which,
    /// Whose letters [default: the pipeline's only part]
    #[arg(short, long)]
    sink: Option<PipelinePart>,
}

#[derive(Clone, Debug, Args)]
struct ShowArgs {
    /// Where the letter lies in the dead letter topic, as `ls --each` prints it
    #[arg(value_name = "PARTITION:OFFSET")]
    letter: At,
    #[command(flatten)]
    chosen: Chosen,
    /// Also the record that it is about, as far as the topic still keeps it, without its addresses
    #[arg(long)]
    source: bool,
    /// As one JSON object
    #[arg(long)]
    json: bool,
}

/// A part's letters.
#[derive(Clone, Debug, Args)]
struct Selection {
    #[command(flatten)]
    chosen: Chosen,
    #[command(flatten)]
    filter: Filter,
    /// Only this letter; can be given several times
    #[arg(long, value_name = "PARTITION:OFFSET")]
    letter: Vec<At>,
    /// Also letters of releases that did not yet name the pipeline in them: only where no other pipeline writes to the topic
    #[arg(long)]
    unnamed: bool,
}

#[derive(Clone, Debug, Args)]
struct ReplayArgs {
    #[command(flatten)]
    selection: Selection,
    /// Say what would become of each letter, and write nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Clone, Debug, Args)]
struct DiscardArgs {
    #[command(flatten)]
    selection: Selection,
    /// Why they are not to be replayed: kept in the dead letter topic for as long as that keeps records
    #[arg(long, value_name = "TEXT")]
    reason_text: String,
    /// Do it without asking
    #[arg(short, long)]
    yes: bool,
}

/// A place in the dead letter topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At(Partition, i64);

impl FromStr for At {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let numbers = text.split_once(':').and_then(|(partition, offset)| {
            let (partition, offset) = (partition.parse().ok()?, offset.parse().ok()?);
            (partition >= 0 && offset >= 0).then_some(Self(partition, offset))
        });
        numbers.ok_or_else(|| "expected partition and offset of the dead letter topic, such as 0:17".into())
    }
}

/// Why letters are not shown or not replayed.
#[derive(Debug, thiserror::Error)]
pub enum DlqError {
    /// It would do harm, or cannot be done.
    #[error("{0}")]
    Refused(String),
    /// Configuration, or positions.
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
    /// A topic cannot be read.
    #[error(transparent)]
    Kafka(#[from] SourceError),
    /// A record cannot be shown.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
}

fn refused(what: impl Into<String>) -> DlqError {
    DlqError::Refused(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_two_numbers() {
        assert_eq!("3:17".parse(), Ok(At(3, 17)));
        for text in ["", "3", "3:", ":3", "-1:3", "3:-1", "a:b"] {
            assert!(text.parse::<At>().is_err(), "{text}");
        }
    }
}
