//! `pressline offsets`: shows where a relay or sink stands, and settles what it will not decide by itself.
//!
//! Positions of a relay and of a ClickHouse sink are the group's committed offsets with their notes, those of a PostgreSQL
//! sink the rows of its offsets table. Nothing is changed while the group has members, and nothing without a yes.

mod change;
mod group;
mod positions;
mod run;
mod show;
mod which;

use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use crate::config::finding::Finding;
pub use crate::kafka::advice::{Advice, PipelinePart};
use crate::kafka::consumer::SourceError;
use crate::kafka::offset_note::Partition;
pub(crate) use crate::runtime::stdio::say;
use crate::sink::clickhouse::ChError;
use crate::sink::postgres::PgError;
pub(crate) use change::confirm;
pub use group::Group;
pub use positions::{Positions, Stand};
pub use run::run;
pub(crate) use show::{aligned, caught_up};
pub use which::{Pipeline, Which};

/// Options of `pressline offsets`.
#[derive(Clone, Debug, Args)]
pub struct OffsetsArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Show each partition's position, the topic's range, the lag and what is noted
    Show(ShowArgs),
    /// Set the offsets to resume from
    Set(SetArgs),
    /// Resolve an in-doubt ClickHouse insert
    ClearPending(ClearArgs),
    /// Take the positions over from another consumer group, such as Kafka Connect's or that of ClickHouse's Kafka engine
    CopyFromGroup(CopyArgs),
}

#[derive(Clone, Debug, Args)]
struct ShowArgs {
    #[command(flatten)]
    which: Which,
    /// Only this part of the pipeline
    #[arg(short, long)]
    sink: Option<PipelinePart>,
}

/// A part of a pipeline, and a yes.
#[derive(Clone, Debug, Args)]
struct Chosen {
    #[command(flatten)]
    which: Which,
    /// Whose positions
    #[arg(short, long)]
    sink: PipelinePart,
    /// Do it without asking
    #[arg(short, long)]
    yes: bool,
}

#[derive(Clone, Debug, Args)]
struct SetArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Only this partition; can be given several times [default: all]
    #[arg(long, value_name = "N")]
    partition: Vec<Partition>,
    /// Next offset; the topic's beginning or end; or its first record of this time or later (2026-01-31T12:00:00Z, a date, or
    /// -1h for an hour ago)
    #[arg(long, value_name = "OFFSET|beginning|end|TIME", allow_hyphen_values = true)]
    to: To,
}

#[derive(Clone, Debug, Args)]
struct ClearArgs {
    #[command(flatten)]
    chosen: Chosen,
    /// Only this partition; can be given several times [default: all that have a pending range]
    #[arg(long, value_name = "N")]
    partition: Vec<Partition>,
    /// `end`: the range counts as written; `start`: it is written as if it had never been tried
    #[arg(long, value_name = "start|end")]
    to: Side,
}

#[derive(Clone, Debug, Args)]
struct CopyArgs {
    /// The group whose offsets are taken, such as connect-NAME
    #[arg(value_name = "GROUP")]
    group: String,
    #[command(flatten)]
    chosen: Chosen,
}

/// A side of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Side {
    /// Before its first offset.
    Start,
    /// After its last.
    End,
}

/// Where to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// At this offset.
    Offset(i64),
    /// At the oldest record.
    Beginning,
    /// After the newest.
    End,
    /// At the first record of this time or later.
    Time(When),
}

/// A time, said as such or by how long ago it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct When {
    at: Timestamp,
    /// A command that says `-1h` again means the same as before, not another time.
    ago: Option<Duration>,
}

impl std::fmt::Display for When {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.at.fmt(f)
    }
}

impl When {
    /// Milliseconds since 1970.
    pub fn as_millisecond(self) -> i64 {
        self.at.as_millisecond()
    }
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.parse::<i64>()) {
            ("beginning", _) => Ok(Self::Beginning),
            ("end" | "now", _) => Ok(Self::End),
            (_, Ok(offset)) if offset >= 0 => Ok(Self::Offset(offset)),
            _ => match crate::command::generate::parse_time(text) {
                Ok(at) => Ok(Self::Time(When { at, ago: crate::command::generate::parse_ago(text) })),
                Err(_) => {
                    Err("expected an offset, `beginning`, `end`, or a time such as 2026-01-31T12:00:00Z or -1h".into())
                }
            },
        }
    }
}

/// Why positions are not shown or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OffsetsError {
    /// The configuration is wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Findings(Vec<Finding>),
    /// It would do harm, or cannot be done.
    #[error("{0}")]
    Refused(String),
    /// Kafka does not answer or refuses.
    #[error(transparent)]
    Kafka(#[from] SourceError),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(Box<PgError>),
    /// ClickHouse.
    #[error(transparent)]
    ClickHouse(Box<ChError>),
}

impl From<PgError> for OffsetsError {
    fn from(error: PgError) -> Self {
        Self::Postgres(Box::new(error))
    }
}

impl From<ChError> for OffsetsError {
    fn from(error: ChError) -> Self {
        Self::ClickHouse(Box::new(error))
    }
}

impl std::fmt::Display for To {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Offset(offset) => write!(f, "{offset}"),
            Self::Beginning => f.write_str("beginning"),
            Self::End => f.write_str("now"),
            Self::Time(When { ago: Some(ago), .. }) => write!(f, "-{}s", ago.as_secs()),
            Self::Time(when) => write!(f, "{when}"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn where_to_go_on() {
        assert_eq!("17".parse(), Ok(To::Offset(17)));
        assert_eq!("beginning".parse(), Ok(To::Beginning));
        assert_eq!("end".parse(), Ok(To::End));
        let at = "2026-01-31T00:00:00Z".parse().unwrap();
        assert_eq!("2026-01-31".parse(), Ok(To::Time(When { at, ago: None })));
        let Ok(To::Time(hour_ago)) = "-1h".parse() else { panic!("-1h is a time") };
        let since = Timestamp::now().as_millisecond() - hour_ago.as_millisecond();
        assert!((3_600_000..3_610_000).contains(&since), "{since}");
        // What a replay notes of its arguments is the same whenever they are given.
        assert_eq!("-90m".parse::<To>().unwrap().to_string(), "-5400s");
        for text in ["-1", "", "start", "1.5", "-0s", "-h"] {
            assert!(text.parse::<To>().is_err(), "{text}");
        }
    }
}
