//! `pressline reconcile`: whether a sink's table has each record of the topic once, up to the sink's position.
//!
//! ```text
//! topic ─► records ─┐
//! dead letters ─────┼─► comparison, chunk by chunk ─► differences
//! table ─► runs ────┘
//! ```
//!
//! Memory: a bit for each offset of a chunk, the table's runs in it, and eight bytes for each dead letter.

mod compare;
mod hours;
mod left_out;
mod progress;
mod run;
mod table;
mod textfile;
mod topic;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;

use crate::command::offsets::{OffsetsError, PipelinePart, Positions, To, Which, say};
use crate::config::sink::LoadConfig;
use crate::kafka::offset_note::Partition;
pub use compare::{Comparison, Difference, OffsetFault, Offsets, Run, Sums};
use progress::Progress;
pub use run::run;
pub use textfile::METRICS;

/// Offsets that are compared at once.
const CHUNK: i64 = 200_000;

/// Options of `pressline reconcile`.
#[derive(Clone, Debug, Args)]
pub struct ReconcileArgs {
    #[command(flatten)]
    which: Which,
    /// Only this sink's table [default: the tables of all sinks of the pipeline]
    #[arg(short, long)]
    sink: Option<PipelinePart>,
    /// From here on, in every partition [default: the topic's beginning]
    #[arg(long, value_name = "OFFSET|TIME", allow_hyphen_values = true)]
    from: Option<To>,
    /// Up to here, without it [default: the sink's position, which is also the furthest]
    #[arg(long, value_name = "OFFSET|TIME", allow_hyphen_values = true)]
    to: Option<To>,
    /// Also write the result as metrics for node_exporter's textfile collector; a name that ends in .prom
    #[arg(long, value_name = "PATH")]
    textfile: Option<PathBuf>,
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Rows that lack.
    pub missing: u64,
    /// Rows that are there beside the first of the same record.
    pub surplus: u64,
    /// Rows without a record, where that is a fault.
    pub stray: u64,
}

impl Outcome {
    /// Whether each record has its row, once.
    pub fn is_equal(&self) -> bool {
        *self == Self::default()
    }
}

/// What is compared.
struct Task<'a> {
    load: &'a LoadConfig,
    positions: &'a Positions,
    /// Partition → first offset, and the one after the last.
    spans: &'a BTreeMap<Partition, (i64, i64)>,
    /// Partition → offsets of dead letters.
    letters: &'a BTreeMap<Partition, Vec<i64>>,
    runtime: &'a tokio::runtime::Runtime,
}

/// How a comparison ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every table has each record once.
    Equal,
    /// A table does not.
    Differs,
    /// A table could not be compared; what was compared may differ too.
    NotCompared,
}

/// Names the offsets that a comparison up to now does not reach.
fn not_reached(args: &ReconcileArgs, positions: &Positions, partition: Partition, position: i64, stable: i64) {
    if matches!(args.to, Some(To::Offset(_) | To::Time(_) | To::Beginning)) {
        return;
    }
    if position < stable {
        let last = stable - 1;
        say(format!("partition {partition}: offsets {position} to {last} are not loaded yet and not compared"));
    }
    if let Some((stable, high)) = positions.group.behind_transactions().get(&partition) {
        say(format!(
            "partition {partition}: offsets {stable} to {} are behind an open transaction of another producer and not compared",
            high - 1
        ));
    }
}

/// Where the differences are printed.
struct Tell<'a> {
    progress: &'a mut Progress,
    compacted: bool,
}

impl Tell<'_> {
    fn difference(&self, difference: Difference) {
        if difference.kind != OffsetFault::Stray || !self.compacted {
            self.progress.print(&difference.to_string());
        }
    }
}

/// The last line.
fn verdict(outcome: Outcome) -> Outcome {
    say(if outcome.is_equal() { "OK" } else { "DIFFERENCES FOUND" });
    outcome
}
