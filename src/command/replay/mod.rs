//! `pressline replay`: a bounded part of a topic goes through one of a pipeline's loops again, into another place.
//!
//! ```text
//! ingress topic ─► relay ─► another topic          --sink relay
//! Avro topic    ─► load  ─► another table          --sink postgres, --sink clickhouse
//! ```
//!
//! The loops are those of the live pipeline, and so is the guarantee; range and account are in [`crate::kafka::replay_range`]. The replay
//! has a group, positions, transactional ids and deduplication tokens of its own, so that the live ones are never touched.

mod fetch;
mod job;
mod plan;
mod progress;
mod run;
mod store;
mod summary;

use clap::Args;

use crate::command::offsets::{OffsetsError, PipelinePart, To, Which};
use crate::kafka::offset_note::Partition;
use crate::sink::clickhouse::ChError;
use crate::sink::postgres::PgError;
pub use run::run;

/// Options of `pressline replay`.
#[derive(Clone, Debug, Args)]
pub struct ReplayArgs {
    #[command(flatten)]
    which: Which,
    /// Through which loop: `relay` reads the raw topic, a sink the Avro topic
    #[arg(short, long)]
    sink: PipelinePart,
    /// Table or topic that is written, other than the pipeline's own
    #[arg(long, value_name = "TABLE|TOPIC", required_unless_present = "into_same")]
    into: Option<String>,
    /// Write where the pipeline itself writes, up to where it is: ClickHouse takes only the rows it lacks, elsewhere what is
    /// there comes twice
    #[arg(long, conflicts_with = "into")]
    into_same: bool,
    /// From here on; an offset is the same in every partition, a time may be -1h for an hour ago
    #[arg(long, value_name = "OFFSET|beginning|TIME", allow_hyphen_values = true, default_value = "beginning")]
    from: To,
    /// Up to here, without it: fixed when the replay is begun
    #[arg(long, value_name = "OFFSET|now|TIME", allow_hyphen_values = true, default_value = "now")]
    to: To,
    /// Only this partition; can be given several times [default: all]
    #[arg(long, value_name = "N")]
    partition: Vec<Partition>,
    /// Replay name, used for its consumer group; reuse it to resume [default: from pipeline, sink and target]
    #[arg(long)]
    name: Option<String>,
    /// At most so many records a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// Go on without what retention has removed, and count it
    #[arg(long)]
    allow_gaps: bool,
    /// Discard this replay's progress and start over
    #[arg(long)]
    restart: bool,
    /// With --into-same: do it without asking
    #[arg(short, long, requires = "into_same")]
    yes: bool,
    /// With --sink relay: make the topics that are missing, as the pipeline's own are described
    #[arg(long, conflicts_with = "into_same")]
    create_topics: bool,
    /// Topic of the relay's dead letters [default: TOPIC.dead]
    #[arg(long, value_name = "TOPIC")]
    dead_letters: Option<String>,
}

/// Why nothing is replayed, or not all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It would do harm, or cannot be done.
    #[error("{0}")]
    Refused(String),
    /// Configuration, or positions.
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
    /// PostgreSQL.
    #[error(transparent)]
    Postgres(#[from] PgError),
    /// ClickHouse.
    #[error(transparent)]
    ClickHouse(#[from] ChError),
}
