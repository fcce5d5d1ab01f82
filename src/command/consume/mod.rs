//! `pressline consume`: prints a topic's records, decoded, without disturbing anybody.
//!
//! Partitions are assigned, never subscribed to, and no offset is ever committed: no consumer group comes to be. Only with
//! `--group` is it a member like others.

pub mod avro;
pub mod decode;
pub mod group;
mod lag;
pub mod read;
mod run;
pub mod show;
pub mod text;

use std::io;
use std::str::FromStr;

use jiff::Timestamp;

use crate::avro::registry::RegistryError;
use crate::kafka::connection::{ClusterOptions, ConnectionError};
pub use run::{print, run};

/// Records of each partition that are shown where no start is given.
const LAST: i64 = 10;

/// Options of `pressline consume`.
#[derive(Clone, Debug, clap::Args)]
pub struct ConsumeArgs {
    /// Topic to print
    pub topic: String,
    /// From the first record on [default: the last 10 offsets of each partition; with --follow, new records only]
    #[arg(long, conflicts_with = "from")]
    pub from_beginning: bool,
    /// From a time (2026-01-31T12:00:00Z, a date, or -1h for an hour ago) or an offset on; a negative number is so many
    /// before the end
    #[arg(long, value_name = "TIME|OFFSET", allow_hyphen_values = true)]
    pub from: Option<Start>,
    /// Stop after so many records
    #[arg(short = 'n', long, value_name = "N")]
    pub max: Option<u64>,
    /// Go on with new records at the end, until Ctrl-C
    #[arg(short, long)]
    pub follow: bool,
    /// Only this partition; can be given several times
    #[arg(long, value_name = "N")]
    pub partition: Vec<i32>,
    /// Share the topic with the other members of this consumer group, from its committed offsets on, and commit what was shown;
    /// each second, partitions, pace and lag go to standard error
    #[arg(long, value_name = "NAME", conflicts_with_all = ["from_beginning", "from", "partition", "follow"])]
    pub group: Option<String>,
    /// With --group, show no more than so many records per second
    #[arg(long, value_name = "N", requires = "group", value_parser = parse_pace)]
    pub pace: Option<f64>,
    /// One JSON object a line; times inside values are then numbers as in the schema, bytes are hexadecimal text
    #[arg(long)]
    pub json: bool,
    /// Include uncommitted and aborted records (read_uncommitted)
    #[arg(long)]
    pub uncommitted: bool,
    /// Show IP addresses, which are personal data, instead of `<withheld>`
    #[arg(long)]
    pub show_addresses: bool,
    /// How to reach Kafka and the registry.
    #[command(flatten)]
    pub connection: ClusterOptions,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// This offset, or where the partition begins or ends if it lies beyond.
    Offset(i64),
    /// So many offsets before the end.
    Last(i64),
    /// The first record of this time or later.
    Time(Timestamp),
    /// The end.
    End,
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<i64>() {
            Ok(offset) if offset >= 0 => Ok(Self::Offset(offset)),
            Ok(offset) => Ok(Self::Last(offset.saturating_neg())),
            Err(_) => crate::command::generate::parse_time(text)
                .map(Self::Time)
                .map_err(|_| "expected an offset, or a time such as 2026-01-31T12:00:00Z or -1h".into()),
        }
    }
}

fn parse_pace(text: &str) -> Result<f64, String> {
    let pace = text.parse::<f64>().ok().filter(|pace| pace.is_finite() && *pace > 0.0);
    pace.ok_or_else(|| "expected a number of records per second above 0".into())
}

/// Why printing failed.
#[derive(Debug, thiserror::Error)]
pub enum ConsumeError {
    /// The configuration of the connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// The registry's client cannot be made.
    #[error("registry: {0}")]
    Registry(Box<RegistryError>),
    /// The registry does not answer.
    #[error("{topic} partition {partition} offset {offset}: cannot fetch its schema: {source}")]
    Schema {
        /// Topic.
        topic: String,
        /// Partition.
        partition: i32,
        /// Offset.
        offset: i64,
        /// What the registry said.
        source: Box<RegistryError>,
    },
    /// Kafka cannot be reached or refuses something.
    #[error("{what}: {source}")]
    Kafka {
        /// What was tried, with topic and partition.
        what: String,
        /// What librdkafka said.
        source: rdkafka::error::KafkaError,
    },
    /// No broker answers.
    #[error("{0}")]
    Unreachable(String),
    /// The topic is not there.
    #[error("topic {0} does not exist")]
    NoTopic(String),
    /// The partition is not there.
    #[error("topic {topic} has no partition {partition}; it has {count}, from 0 on")]
    NoPartition {
        /// Topic.
        topic: String,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        count: usize,
    },
    /// Standard output cannot be written.
    #[error("cannot write: {0}")]
    Output(#[from] io::Error),
}

#[cfg(test)]
mod tests;
