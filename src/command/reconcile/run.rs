//! The comparison, offset by offset or hour by hour.

use std::collections::BTreeMap;

use jiff::Timestamp;
use rdkafka::message::Message;

use crate::command::offsets::{OffsetsError, Pipeline, PipelinePart, Positions, Stand, To, caught_up, say};
use crate::command::reconcile::compare::{Comparison, Offsets, Sums};
use crate::command::reconcile::left_out::LeftOut;
use crate::command::reconcile::progress::Progress;
use crate::command::reconcile::table::Table;
use crate::command::reconcile::topic::LettersOf;
use crate::command::reconcile::{CHUNK, Outcome, ReconcileArgs, Task, Tell, Verdict, not_reached, verdict};
use crate::config::sink::WriteMode;
use crate::kafka::offset_note::Partition;
use crate::kafka::records::Records;
use crate::runtime::stdio;
use crate::runtime::terminal::counted;

/// Runs the command and prints what differs. A sink that cannot be compared keeps no other from it. Blocks; must not be called
/// from within an async runtime.
pub fn run(args: &ReconcileArgs) -> Result<Verdict, OffsetsError> {
    let pipeline = args.which.load()?;
    let sinks = args.sink.map_or_else(|| pipeline.parts(), |part| vec![part]);
    let sinks: Vec<PipelinePart> = sinks.into_iter().filter(|part| *part != PipelinePart::Relay).collect();
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
        let page = super::textfile::page(&pipeline.name, &outcomes, Timestamp::now().as_second());
        super::textfile::write(path, &page).map_err(|error| {
            OffsetsError::Refused(format!("--textfile {}: cannot be written: {error}", path.display()))
        })?;
    }
    Ok(match (failures.is_empty(), outcomes.iter().all(|(_, outcome)| outcome.is_equal())) {
        (false, _) => Verdict::NotCompared,
        (true, true) => Verdict::Equal,
        (true, false) => Verdict::Differs,
    })
}

fn reconcile(args: &ReconcileArgs, pipeline: &Pipeline, sink: PipelinePart) -> Result<Outcome, OffsetsError> {
    let load = pipeline.load.as_ref().ok_or_else(|| pipeline.lacks(sink))?;
    let mode = match sink {
        PipelinePart::Clickhouse => load.sink.clickhouse.as_ref().map(|sink| sink.mode),
        PipelinePart::Postgres | PipelinePart::Relay => load.sink.postgres.as_ref().map(|sink| sink.mode),
    };
    if mode == Some(WriteMode::Upsert) {
        return Err(OffsetsError::Refused(format!(
            "sink.{}.mode is upsert, so that the table has one row a key and not one a record: compare it with its source by key",
            sink.name()
        )));
    }
    let positions = Positions::open(pipeline, sink)?;
    let spans = spans(args, &positions)?;
    let runtime = crate::daemon::runtime().map_err(OffsetsError::Refused)?;
    let table = runtime.block_on(Table::open(load, sink))?;
    let consumer = match sink {
        PipelinePart::Clickhouse => load.sink.clickhouse.as_ref().map(|sink| &sink.consumer),
        PipelinePart::Postgres | PipelinePart::Relay => load.sink.postgres.as_ref().map(|sink| &sink.consumer),
    };
    let dead_topic = consumer.map(|consumer| load.dead_topic(consumer)).unwrap_or_default();
    let wanted = LettersOf {
        topic: load.topic(),
        group: &positions.group.name,
        pipeline: &load.name,
        sink: sink.name(),
        spans: &spans,
    };
    let letters = super::topic::dead_letters(&load.kafka, &dead_topic, &wanted)?;
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
    super::hours::compare(&task, &table)
}

/// What is compared of each partition: from the topic's beginning to the sink's position, or less.
fn spans(args: &ReconcileArgs, positions: &Positions) -> Result<BTreeMap<Partition, (i64, i64)>, OffsetsError> {
    let from = args.from.map(|from| places(from, positions)).transpose()?.unwrap_or_default();
    let to = args.to.map(|to| places(to, positions)).transpose()?.unwrap_or_default();
    let id = positions.group.topic_id.as_ref().map(|id| id.as_str());
    let mut spans = BTreeMap::new();
    let stands = positions.read()?;
    let caught_up = caught_up(positions, &stands)?;
    for (partition, Stand { position, pending, topic_id, range: (low, stable), .. }) in stands {
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
        let stable = if caught_up.contains(&partition) { position } else { stable };
        not_reached(args, positions, partition, position, stable);
        let end = to.get(&partition).copied().unwrap_or(position).min(position);
        let start = from.get(&partition).copied().unwrap_or(low).max(low);
        spans.insert(partition, (start, end.max(start)));
    }
    Ok(spans)
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
    let compacted = runtime.block_on(super::topic::is_compacted(&load.kafka, load.topic()));
    let mut progress = Progress::new(task.spans);
    let mut records = Records::open(&load.kafka, load.topic(), &task.positions.group.name)?;
    let mut comparison = Comparison::default();
    let mut left_out = LeftOut::of(task)?;
    for (&partition, &(from, to)) in task.spans {
        let letters = task.letters.get(&partition).map_or(&[][..], Vec::as_slice);
        let tell = Tell { progress: &mut progress, compacted };
        if from < to {
            records.seek(partition, from)?;
        }
        let mut ahead = Lookahead::default();
        let mut start = from;
        while start < to {
            let end = (start + CHUNK).min(to);
            let offsets = ahead.chunk(&records, &mut left_out, start, end)?;
            let runs = runtime.block_on(table.runs(load.topic(), partition, start, end))?;
            comparison.chunk(partition, &offsets, letters, &runs, &mut |difference| tell.difference(difference));
            tell.progress.at(partition, end);
            start = end;
        }
        comparison.close(&mut |difference| tell.difference(difference));
    }
    progress.end();
    left_out.tell();
    Ok(summary(task, table, &comparison.sums, compacted))
}

/// The record that was read after a chunk's end.
#[derive(Default)]
struct Lookahead {
    /// Its offset, and whether it is not loaded.
    next: Option<(i64, bool)>,
    ended: bool,
}

impl Lookahead {
    /// The offsets from `start` to before `end` that are records which are loaded.
    fn chunk(
        &mut self,
        records: &Records,
        left_out: &mut LeftOut<'_>,
        start: i64,
        end: i64,
    ) -> Result<Offsets, OffsetsError> {
        let mut offsets = Offsets::none(start, end);
        while !self.ended {
            let (offset, is_left_out) = match self.next.take() {
                Some(next) => next,
                None => match records.next()? {
                    Some(record) => (record.offset(), left_out.has(record.payload())?),
                    None => {
                        self.ended = true;
                        break;
                    }
                },
            };
            if offset >= end {
                self.next = Some((offset, is_left_out));
                break;
            }
            match is_left_out {
                true => left_out.count += 1,
                false => offsets.insert(offset),
            }
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
