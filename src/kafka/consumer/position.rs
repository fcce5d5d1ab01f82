//! Start positions: where each partition begins when it is assigned, and where the worker goes back to, always from the
//! group's committed offsets and what was noted with them ([`decide_start`] has the rules).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;

use super::committed::{believed, commit, known_committed, note, offsets_with_notes};
use super::context::SourceContext;
use super::error::SourceError;
use super::position_store::{Assigned, Assignment, PositionStore, SinkPositions};
use super::topic::{another_topic, is_empty, layout, watermarks};
use crate::config::StartPolicy;
use crate::kafka::client::TopicLayout;
use crate::kafka::coordinator::{Start, decide_start};
use crate::kafka::offset_note::{CommittedOffset, NextOffset, Partition};
use crate::kafka::topic_id::TopicId;

/// Most partitions whose offsets one log line shows.
const RUNS_SHOWN: usize = 16;
/// How long a missing offset is asked for again before a start is refused for it.
const MISSING_TIMEOUT: Duration = Duration::from_secs(10);

/// Decides where each partition begins: from the group's offsets, or by asking the sink. A refusal because an offset is
/// missing is looked into for [`MISSING_TIMEOUT`].
pub(super) fn starts(
    context: &SourceContext,
    consumer: &BaseConsumer<SourceContext>,
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
    let deadline = Instant::now() + MISSING_TIMEOUT;
    loop {
        let layout = layout(consumer, &context.topic)?;
        let committed = believed(context, consumer, &layout, partitions)?;
        let missing = partitions.iter().any(|partition| !committed.contains_key(partition));
        let noted = |partition: &Partition| Some((*partition, committed.get(partition)?.note.seen?));
        let seen = partitions.iter().filter_map(noted).collect();
        let starts = match &context.position_store {
            PositionStore::Group { policy, output_topic } => {
                group_starts(context, consumer, partitions, &layout, committed, *policy, output_topic)
            }
            PositionStore::Sink(positions) => {
                sink_starts(context, consumer, partitions, &layout, committed, positions.as_ref())
            }
        };
        if !missing || Instant::now() >= deadline || !matches!(starts, Err(SourceError::Refused(_))) {
            if starts.is_ok() {
                context.breaker.remember(&seen);
            }
            return starts;
        }
        context.pause()?;
    }
}

/// See [`decide_start`]. A partition that had no offset gets one committed at once, so that from then on "no offset
/// anywhere" means that they were lost.
fn group_starts(
    context: &SourceContext,
    consumer: &BaseConsumer<SourceContext>,
    partitions: &[Partition],
    layout: &TopicLayout,
    mut committed: BTreeMap<Partition, CommittedOffset>,
    policy: StartPolicy,
    output_topic: &str,
) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
    let mut output_empty = true;
    if committed.is_empty() && policy == StartPolicy::Auto {
        output_empty = is_empty(consumer, output_topic)?;
        if !output_empty {
            // Another instance may have made its first start between our two questions.
            committed = known_committed(context, consumer, layout)?;
        }
    }
    check_topic_id(context, &committed)?;
    note_first_partitions(context, &committed, layout);
    let mut starts = BTreeMap::new();
    let mut initial = BTreeMap::new();
    for &partition in partitions {
        let start = decide_start(partition, &committed, policy, output_empty);
        let (low, high) = watermarks(consumer, &context.topic, partition)?;
        let offset = match start {
            Start::At(offset) if is_through(context, partition, offset) => offset.max(low),
            Start::At(offset) => in_range(context, partition, offset, low, high)?,
            Start::Beginning => low,
            Start::End => high,
            Start::Refuse => return Err(no_offsets(context)),
        };
        begin_run(context, partition, offset, committed.get(&partition))?;
        starts.insert(partition, offset);
        if !matches!(start, Start::At(_)) {
            initial.insert(partition, offset);
        }
    }
    if !initial.is_empty() {
        tell_first_start(context, &initial);
        let list = offsets_with_notes(&context.topic, &initial, |_| note(context));
        commit(consumer, &list)?;
        for (&partition, &offset) in &initial {
            context.committed_watermark.raise(partition, offset, &note(context));
        }
    }
    Ok(starts)
}

/// One line for all partitions: there may be hundreds.
fn tell_first_start(context: &SourceContext, initial: &BTreeMap<Partition, NextOffset>) {
    tracing::info!(
        pipeline = %context.advice.pipeline, part = context.advice.part.name(), topic = %context.topic,
        partitions = initial.len(), offsets = %in_runs(initial), "first start of these partitions"
    );
}

/// Partitions with their offsets, those with the same one together: `0-299: 0, 300: 17`.
pub(super) fn in_runs(offsets: &BTreeMap<Partition, NextOffset>) -> String {
    let mut runs: Vec<(Partition, Partition, NextOffset)> = Vec::new();
    for (&partition, &offset) in offsets {
        match runs.last_mut() {
            Some((_, last, same)) if *last + 1 == partition && *same == offset => *last = partition,
            _ => runs.push((partition, partition, offset)),
        }
    }
    let shown = runs.iter().take(RUNS_SHOWN).map(|(first, last, offset)| {
        if first == last { format!("{first}: {offset}") } else { format!("{first}-{last}: {offset}") }
    });
    let mut text = shown.collect::<Vec<_>>().join(", ");
    if runs.len() > RUNS_SHOWN {
        text.push_str(&format!(" and {} more", runs.len() - RUNS_SHOWN));
    }
    text
}

fn sink_starts(
    context: &SourceContext,
    consumer: &BaseConsumer<SourceContext>,
    partitions: &[Partition],
    layout: &TopicLayout,
    mut committed: BTreeMap<Partition, CommittedOffset>,
    positions: &dyn SinkPositions,
) -> Result<BTreeMap<Partition, NextOffset>, SourceError> {
    check_topic_id(context, &committed)?;
    let first_partitions = note_first_partitions(context, &committed, layout);
    note_resets(context, &committed);
    let mut assigned = Vec::with_capacity(partitions.len());
    for &partition in partitions {
        let range = watermarks(consumer, &context.topic, partition)?;
        assigned.push(Assigned { partition, committed: committed.remove(&partition), range });
    }
    let topic_id = context.topic_id.as_ref().map(TopicId::as_str);
    let mut starts = positions.claim(&Assignment { topic_id, first_partitions, partitions: &assigned })?;
    let mut initial = BTreeMap::new();
    for found in &assigned {
        let Some(start) = starts.get_mut(&found.partition) else { continue };
        begin_run(context, found.partition, *start, found.committed.as_ref())?;
        if is_through(context, found.partition, *start) {
            *start = (*start).max(found.range.0);
            continue;
        }
        let offset = *start;
        // The topic has grown since its end was read: another owner may have loaded further meanwhile.
        let high = if offset > found.range.1 {
            watermarks(consumer, &context.topic, found.partition)?.1
        } else {
            found.range.1
        };
        in_range(context, found.partition, offset, found.range.0, high)?;
        match &found.committed {
            None => drop(initial.insert(found.partition, offset)),
            Some(committed) => {
                // The run's account is committed with its offsets, and synchronously.
                let shown_later = positions.are_only_shown_by_group() && context.replay_range.is_none();
                if shown_later && committed.next < offset {
                    context.unacknowledged.found(found.partition, offset);
                }
            }
        }
    }
    if !initial.is_empty() {
        tell_first_start(context, &initial);
        commit(consumer, &offsets_with_notes(&context.topic, &initial, |_| note(context)))?;
    }
    Ok(starts)
}

/// Takes over the account of a bounded run where a partition begins.
pub(super) fn begin_run(
    context: &SourceContext,
    partition: Partition,
    start: NextOffset,
    committed: Option<&CommittedOffset>,
) -> Result<(), SourceError> {
    let (Some(replay_range), Some(committed)) = (&context.replay_range, committed) else { return Ok(()) };
    replay_range.begin(partition, start, committed).map_err(|what| {
        let command = context.advice.set_all("beginning");
        SourceError::refused(format!("topic {}, {what}: another process has moved it; see {command}", context.topic))
    })
}

/// Whether a bounded run has nothing left to read of the partition: then retention may have taken what is there.
fn is_through(context: &SourceContext, partition: Partition, offset: NextOffset) -> bool {
    context.replay_range.as_ref().is_some_and(|replay_range| replay_range.is_through(partition, offset))
}

fn note_first_partitions(
    context: &SourceContext,
    committed: &BTreeMap<Partition, CommittedOffset>,
    layout: &TopicLayout,
) -> i32 {
    let noted = committed.values().find_map(|c| c.note.partitions);
    let first = noted.unwrap_or_else(|| i32::try_from(layout.partitions.len()).unwrap_or(i32::MAX));
    if let Ok(mut slot) = context.first_partitions.lock() {
        *slot = Some(first);
    }
    first
}

fn note_resets(context: &SourceContext, committed: &BTreeMap<Partition, CommittedOffset>) {
    if let Ok(mut resets) = context.resets.lock() {
        *resets = committed.iter().map(|(partition, offset)| (*partition, offset.note.resets)).collect();
    }
}

pub(super) fn no_offsets(context: &SourceContext) -> SourceError {
    let output_topic = match &context.position_store {
        PositionStore::Group { output_topic, .. } => output_topic.as_str(),
        PositionStore::Sink(_) => "",
    };
    SourceError::refused(format!(
        "topic {}: the consumer group has no committed offsets, but output topic {} is not empty. They have expired or \
         were deleted (Kafka deletes them together with a topic, so it may also have been made again), or the output is \
         somebody else's; beginning now could write events twice. Decide where to go on: {} relays from then on, `--to \
         beginning` all there is, `--to end` only what comes from now on; source.start = \"beginning\" or \"end\" says the \
         same in the configuration",
        context.topic,
        output_topic,
        context.advice.set_all("2026-01-31T12:00:00Z")
    )).about(|fault| fault.topic(&context.topic))
}

pub(super) fn in_range(
    context: &SourceContext,
    partition: Partition,
    offset: NextOffset,
    low: i64,
    high: i64,
) -> Result<NextOffset, SourceError> {
    let (topic, advice) = (&context.topic, &context.advice);
    if offset < low {
        return Err(SourceError::refused(format!(
            "topic {topic}, partition {partition}: offsets {offset} to {} were deleted by retention before they were {}. To \
             go on without them: {}",
            low - 1,
            advice.part.done(),
            advice.set(partition, low)
        )).at(topic, partition, offset));
    }
    if offset > high {
        return Err(SourceError::refused(format!(
            "topic {topic}, partition {partition}: the position {offset} lies past the topic's end {high}: the topic was \
             recreated or truncated. Find out what happened ({}), then set where to go on: {}",
            advice.show(),
            advice.set(partition, "OFFSET")
        )).at(topic, partition, offset));
    }
    Ok(offset)
}

fn check_topic_id(
    context: &SourceContext,
    committed: &BTreeMap<Partition, CommittedOffset>,
) -> Result<(), SourceError> {
    let Some(current) = &context.topic_id else { return Ok(()) };
    for (partition, offset) in committed {
        if let Some(noted) = &offset.note.topic_id
            && noted != current.as_str()
        {
            return Err(another_topic(context, *partition, noted, current));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_of_many_partitions_are_one_short_line() {
        let same = |count: i32| (0..count).map(|partition| (partition, 0)).collect::<BTreeMap<_, _>>();
        assert_eq!(in_runs(&same(300)), "0-299: 0");
        assert_eq!(in_runs(&BTreeMap::from([(0, 5), (1, 5), (3, 5), (4, 7)])), "0-1: 5, 3: 5, 4: 7");
        let different: BTreeMap<_, _> = (0..300).map(|partition| (partition, i64::from(partition))).collect();
        assert!(in_runs(&different).ends_with(", 15: 15 and 284 more"), "{}", in_runs(&different));
    }
}
