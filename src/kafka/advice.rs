//! The commands that settle what a relay or sink will not decide by itself, for the messages in which it says so.

use std::fmt::Display;

use clap::ValueEnum;

use crate::config::REPLAYS;
use crate::kafka::offset_note::Partition;

/// Who has positions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PipelinePart {
    /// From the ingress topic to the output topic.
    Relay,
    /// Into PostgreSQL.
    Postgres,
    /// Into ClickHouse.
    Clickhouse,
}

impl PipelinePart {
    /// All, in the order of the data.
    pub const ALL: [PipelinePart; 3] = [Self::Relay, Self::Postgres, Self::Clickhouse];

    /// Its name on the command line, in groups and in messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Relay => "relay",
            Self::Postgres => "postgres",
            Self::Clickhouse => "clickhouse",
        }
    }

    /// What it does with records.
    pub fn done(self) -> &'static str {
        match self {
            Self::Relay => "relayed",
            Self::Postgres | Self::Clickhouse => "loaded",
        }
    }
}

/// Writes the commands of one pipeline's relay or sink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advice {
    /// Pipeline.
    pub pipeline: String,
    /// Whose positions.
    pub part: PipelinePart,
}

impl Advice {
    /// Of a pipeline's relay or sink.
    pub fn new(pipeline: &str, part: PipelinePart) -> Self {
        Self { pipeline: pipeline.to_string(), part }
    }

    /// Shows what there is.
    pub fn show(&self) -> String {
        self.command("show", "")
    }

    /// Sets all partitions.
    pub fn set_all(&self, to: &str) -> String {
        self.command("set", &format!(" --to {to}"))
    }

    /// Sets one partition.
    pub fn set(&self, partition: impl Display, to: impl Display) -> String {
        self.command("set", &format!(" --partition {partition} --to {to}"))
    }

    /// Ends a range of which nobody knows whether it was written.
    pub fn clear_pending(&self, partition: Partition, to: &str) -> String {
        self.command("clear-pending", &format!(" --partition {partition} --to {to}"))
    }

    fn command(&self, name: &str, more: &str) -> String {
        // The positions of a replay are its own, and it has other ways out.
        if self.pipeline.starts_with(REPLAYS) {
            return "the same `pressline replay` with --allow-gaps, to go on without what is gone, or with --restart, to start \
                    over (empty its target first)"
                .into();
        }
        format!("`pressline offsets {name} --pipeline {} --sink {}{more}`", self.pipeline, self.part.name())
    }
}
