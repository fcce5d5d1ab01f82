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
mod progress;
mod table;
mod textfile;
mod topic;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;
use rdkafka::message::Message;

pub use compare::{Comparison, Difference, Kind, Offsets, Run, Sums};
use progress::Progress;
use table::Table;
pub use textfile::METRICS;
use topic::{LettersOf, Records};

use crate::command::offsets::{OffsetsError, Part, Pipeline, Positions, Stand, To, Which, say};
use crate::config::sink::LoadConfig;
use crate::kafka::coordinator::Partition;
use crate::runtime::stdio;
use crate::runtime::terminal::counted;

/// Offsets that are compared at once.
const CHUNK: i64 = 200_000;

/// Options of `pressline reconcile`.
#[derive(Clone, Debug, Args)]
pub struct ReconcileArgs {
    #[command(flatten)]
    which: Which,
    /// Only this sink's table [default: the tables of all sinks of the pipeline]
    #[arg(short, long)]
    sink: Option<Part>,
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

/// Runs the command and prints what differs. A sink that cannot be compared keeps no other from it. Blocks; must not be called
/// from within an async runtime.
pub fn run(args: &ReconcileArgs) -> Result<Verdict, OffsetsError> {
    let pipeline = args.which.load()?;
    let sinks = args.sink.map_or_else(|| pipeline.parts(), |part| vec![part]);
    let sinks: Vec<Part> = sinks.into_iter().filter(|part| *part != Part::Relay).collect();
    if sinks.is_empty() {
        return Err(OffsetsError::Refused(format!(
            "pipeline {}: a relay has no table to compare. Name a pipeline with [sink.postgres] or [sink.clickhouse], and one of its \
             sinks with --sink",
            pipeline.name
        )));
    }
    let (mut outcomes, mut failures) = (Vec::new(), Vec::new());
    for sink in sinks {
        match reconcile(args, &pipeline, sink) {
            Ok(outcome) => outcomes.push((sink.name(), outcome)),
            Err(error) => failures.push(format!("{}: {error}", sink.name())),
        }
    }
    for failure in &failures {
        stdio::tell(format_args!("error: {failure}"));
    }
    // Not when one of them could not be compared: the file's time then tells how long that has been so.
    if let Some(path) = args.textfile.as_ref().filter(|_| failures.is_empty()) {
        let page = textfile::page(&pipeline.name, &outcomes, Timestamp::now().as_second());
        textfile::write(path, &page).map_err(|error| {
            OffsetsError::Refused(format!("--textfile {}: cannot be written: {error}", path.display()))
        })?;
    }
    Ok(match (failures.is_empty(), outcomes.iter().all(|(_, outcome)| outcome.is_equal())) {
        (false, _) => Verdict::NotCompared,
        (true, true) => Verdict::Equal,
        (true, false) => Verdict::Differs,
    })
}

fn reconcile(args: &ReconcileArgs, pipeline: &Pipeline, sink: Part) -> Result<Outcome, OffsetsError> {
    let load = pipeline.load.as_ref().ok_or_else(|| pipeline.lacks(sink))?;
    let positions = Positions::open(pipeline, sink)?;
    let spans = spans(args, &positions)?;
    let runtime = crate::daemon::runtime().map_err(OffsetsError::Refused)?;
    let table = runtime.block_on(Table::open(load, sink))?;
    let consumer = match sink {
        Part::Clickhouse => load.sink.clickhouse.as_ref().map(|sink| &sink.consumer),
        Part::Postgres | Part::Relay => load.sink.postgres.as_ref().map(|sink| &sink.consumer),
    };
    let dead_topic = consumer.map(|consumer| load.dead_topic(consumer)).unwrap_or_default();
    let wanted = LettersOf { topic: load.topic(), sink: sink.name(), spans: &spans };
    let letters = topic::dead_letters(&load.kafka, &dead_topic, &wanted)?;
    let task = Task { load, positions: &positions, spans: &spans, letters: &letters.dead, runtime: &runtime };
    for (partition, what) in &letters.views {
        say(format!("partition {partition}, {what}"));
    }
    if runtime.block_on(table.has_offsets())? {
        return offset_by_offset(&task, &table);
    }
    if args.from.is_some() || args.to.is_some() {
        return Err(OffsetsError::Refused(format!(
            "{} has no columns _topic, _partition and _offset, filled in every row: leave --from and --to away",
            table.place()
        )));
    }
    hours::compare(&task, &table)
}

/// What is compared of each partition: from the topic's beginning to the sink's position, or less.
fn spans(args: &ReconcileArgs, positions: &Positions) -> Result<BTreeMap<Partition, (i64, i64)>, OffsetsError> {
    let from = args.from.map(|from| places(from, positions)).transpose()?.unwrap_or_default();
    let to = args.to.map(|to| places(to, positions)).transpose()?.unwrap_or_default();
    let id = positions.group.topic_id.as_ref().map(|id| id.as_str());
    let mut spans = BTreeMap::new();
    for (partition, Stand { position, pending, topic_id, range: (low, stable), .. }) in positions.read()? {
        if topic_id.is_some() && topic_id.as_deref() != id {
            return Err(OffsetsError::Refused(format!(
                "topic {} was made again since partition {partition} was loaded: {} shows more",
                positions.group.topic,
                positions.advice.show()
            )));
        }
        let Some(position) = position else {
            say(format!("partition {partition}: the sink has no position"));
            continue;
        };
        if let Some(pending) = pending {
            say(format!("partition {partition}: {position} to {} is being written and not compared", pending.end - 1));
        }
        not_reached(args, positions, partition, position, stable);
        let end = to.get(&partition).copied().unwrap_or(position).min(position);
        let start = from.get(&partition).copied().unwrap_or(low).max(low);
        spans.insert(partition, (start, end.max(start)));
    }
    Ok(spans)
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

fn places(place: To, positions: &Positions) -> Result<BTreeMap<Partition, i64>, OffsetsError> {
    let ranges = &positions.group.ranges;
    Ok(match place {
        To::Offset(offset) => ranges.keys().map(|partition| (*partition, offset)).collect(),
        To::Beginning => ranges.iter().map(|(partition, (low, _))| (*partition, *low)).collect(),
        To::End => ranges.iter().map(|(partition, (_, high))| (*partition, *high)).collect(),
        To::Time(time) => positions.group.offsets_at(time.as_millisecond())?,
    })
}

fn offset_by_offset(task: &Task<'_>, table: &Table) -> Result<Outcome, OffsetsError> {
    let Task { load, runtime, .. } = task;
    let compacted = runtime.block_on(topic::is_compacted(&load.kafka, load.topic()));
    let mut progress = Progress::new(task.spans);
    let mut records = Records::open(&load.kafka, load.topic())?;
    let mut comparison = Comparison::default();
    for (&partition, &(from, to)) in task.spans {
        let letters = task.letters.get(&partition).map_or(&[][..], Vec::as_slice);
        let tell = Tell { progress: &mut progress, compacted };
        if from < to {
            records.seek(partition, from)?;
        }
        let mut ahead = Ahead::default();
        let mut start = from;
        while start < to {
            let end = (start + CHUNK).min(to);
            let offsets = ahead.chunk(&records, start, end)?;
            let runs = runtime.block_on(table.runs(load.topic(), partition, start, end))?;
            comparison.chunk(partition, &offsets, letters, &runs, &mut |difference| tell.difference(difference));
            tell.progress.at(partition, end);
            start = end;
        }
        comparison.close(&mut |difference| tell.difference(difference));
    }
    progress.end();
    Ok(summary(task, table, &comparison.sums, compacted))
}

/// Where the differences are told.
struct Tell<'a> {
    progress: &'a mut Progress,
    compacted: bool,
}

impl Tell<'_> {
    fn difference(&self, difference: Difference) {
        if difference.kind != Kind::Stray || !self.compacted {
            self.progress.print(&difference.to_string());
        }
    }
}

/// The record that was read after a chunk's end.
#[derive(Default)]
struct Ahead {
    offset: Option<i64>,
    ended: bool,
}

impl Ahead {
    /// The offsets from `start` to before `end` that are records.
    fn chunk(&mut self, records: &Records, start: i64, end: i64) -> Result<Offsets, OffsetsError> {
        let mut offsets = Offsets::none(start, end);
        while !self.ended {
            let offset = match self.offset.take() {
                Some(offset) => offset,
                None => match records.next()? {
                    Some(record) => record.offset(),
                    None => {
                        self.ended = true;
                        break;
                    }
                },
            };
            if offset >= end {
                self.offset = Some(offset);
                break;
            }
            offsets.insert(offset);
            if offset + 1 == end {
                break;
            }
        }
        Ok(offsets)
    }
}

fn summary(task: &Task<'_>, table: &Table, sums: &Sums, compacted: bool) -> Outcome {
    let Sums { records, rows, dead, missing, surplus, stray } = sums;
    let stray_fault = if compacted { 0 } else { *stray };
    let compaction = if compacted { " (the topic is compacted)" } else { "" };
    for (partition, (from, to)) in task.spans {
        say(format!("partition {partition}: offsets {from} to before {to}"));
    }
    say(format!(
        "topic {}: {}; {}: {}; {}, {missing} missing, {}, {}{compaction}",
        task.load.topic(),
        counted(*records, "record"),
        table.place(),
        counted(*rows, "row"),
        counted(*dead, "dead letter"),
        counted(*surplus, "duplicate"),
        counted(*stray, "orphan row")
    ));
    verdict(Outcome { missing: *missing, surplus: *surplus, stray: stray_fault })
}

/// The last line.
fn verdict(outcome: Outcome) -> Outcome {
    say(if outcome.is_equal() { "OK" } else { "DIFFERENCES FOUND" });
    outcome
}
