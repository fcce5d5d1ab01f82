//! Changes of positions: shown first, confirmed by the operator, then made and logged.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};

use super::show::aligned;
use super::{OffsetsError, Positions, Side, Stand, To, say};
use crate::kafka::offset_note::{NextOffset, Partition};
use crate::kafka::topic_id::TopicId;
use crate::runtime::terminal::counted;

/// A partition's position before and after.
struct Change {
    partition: Partition,
    before: Stand,
    after: NextOffset,
}

/// `pressline offsets set`; whether it was done: of all partitions unless some are named.
pub fn set(positions: &Positions, partitions: &[Partition], to: To, yes: bool) -> Result<bool, OffsetsError> {
    positions.group.must_rest()?;
    let stands = chosen(positions.read()?, positions, partitions)?;
    let times = match to {
        To::Time(time) => positions.group.offsets_at(time.as_millisecond())?,
        _ => BTreeMap::new(),
    };
    let mut changes = Vec::new();
    for (partition, before) in stands {
        let (low, high) = before.range;
        let after = match to {
            To::Offset(offset) => offset,
            To::Beginning => low,
            To::End => high,
            To::Time(_) => times.get(&partition).map_or(high, |offset| (*offset).clamp(low, high)),
        };
        if !(low..=high).contains(&after) {
            return Err(OffsetsError::Refused(format!(
                "topic {}, partition {partition}: offset {after} is not there; expected {low} to {high}",
                positions.group.topic
            )));
        }
        changes.push(Change { partition, before, after });
    }
    apply(positions, &changes, yes, "set by hand")
}

/// `pressline offsets clear-pending`: moves partitions to one side of their pending range.
pub fn clear_pending(
    positions: &Positions,
    partitions: &[Partition],
    to: Side,
    yes: bool,
) -> Result<bool, OffsetsError> {
    positions.group.must_rest()?;
    let mut changes = Vec::new();
    for (partition, before) in chosen(positions.read()?, positions, partitions)? {
        let Some((pending, start)) = before.pending.zip(before.position) else { continue };
        let (after, what) = match to {
            Side::Start => (start, "it is written as if it had never been tried"),
            Side::End => (pending.end, "it counts as written"),
        };
        let rows = positions.rows_in_table(partition, start, pending.end)?;
        let in_table =
            rows.map_or("the table cannot tell".into(), |rows| format!("the table has {} of it", counted(rows, "row")));
        say(format!("partition {partition}: the range {start}..{} is pending, {in_table}; {what}", pending.end));
        changes.push(Change { partition, before, after });
    }
    if changes.is_empty() {
        return Err(OffsetsError::Refused(format!(
            "nothing is pending; {} shows what there is",
            positions.advice.show()
        )));
    }
    apply(positions, &changes, yes, "pending range ended by hand")
}

/// `pressline offsets copy-from-group`: partitions of which the other group has no offset stay as they are.
pub fn copy(positions: &Positions, from: &str, yes: bool) -> Result<bool, OffsetsError> {
    if from == positions.group.name {
        return Err(OffsetsError::Refused(format!("{from} is the group to copy to")));
    }
    positions.group.must_rest()?;
    let other = positions.other_group(from)?;
    other.must_rest()?;
    let committed = other.committed()?;
    if committed.is_empty() {
        return Err(OffsetsError::Refused(format!(
            "group {from} has no offsets of topic {}: mind its name; Kafka Connect's is connect-NAME of the connector",
            other.topic
        )));
    }
    let mut changes = Vec::new();
    for (partition, before) in positions.read()? {
        let Some(offset) = committed.get(&partition) else {
            say(format!("partition {partition}: group {from} has no offset of it; left as it is"));
            continue;
        };
        let (low, high) = before.range;
        if !(low..=high).contains(&offset.next) {
            return Err(OffsetsError::Refused(format!(
                "topic {}, partition {partition}: group {from} is at offset {}, which is not there; expected {low} to {high}. \
                 Set the partitions one by one: {}",
                other.topic,
                offset.next,
                positions.advice.set("N", "OFFSET")
            )));
        }
        changes.push(Change { partition, before, after: offset.next });
    }
    apply(positions, &changes, yes, &format!("taken over from group {from}"))
}

/// The partitions that were named, or all.
fn chosen(
    mut stands: BTreeMap<Partition, Stand>,
    positions: &Positions,
    partitions: &[Partition],
) -> Result<BTreeMap<Partition, Stand>, OffsetsError> {
    if let Some(missing) = partitions.iter().find(|partition| !stands.contains_key(partition)) {
        let (topic, count) = (&positions.group.topic, stands.len());
        let what = format!("topic {topic} has no partition {missing}; it has {count}, from 0 on");
        return Err(OffsetsError::Refused(what));
    }
    stands.retain(|partition, _| partitions.is_empty() || partitions.contains(partition));
    Ok(stands)
}

fn apply(positions: &Positions, changes: &[Change], yes: bool, why: &str) -> Result<bool, OffsetsError> {
    let (pipeline, part) = (&positions.advice.pipeline, positions.advice.part);
    let mut lines = vec![["PARTITION", "BEFORE", "AFTER", "EFFECT"].map(String::from).to_vec()];
    for change in changes {
        lines.push(vec![
            change.partition.to_string(),
            shown(&change.before),
            change.after.to_string(),
            consequence(positions, change)?,
        ]);
    }
    say(format!("{pipeline} {}, topic {}:\n{}", part.name(), positions.group.topic, aligned(&lines).trim_end()));
    if !confirm(yes)? {
        say("Cancelled");
        return Ok(false);
    }
    positions.write(&changes.iter().map(|change| (change.partition, change.after)).collect())?;
    for Change { partition, before, after } in changes {
        let before = shown(before);
        tracing::info!(
            %pipeline, sink = part.name(), topic = %positions.group.topic, partition, before, after, "position changed: {why}"
        );
    }
    Ok(true)
}

fn shown(stand: &Stand) -> String {
    let Some(position) = stand.position else { return "none".into() };
    match stand.pending {
        Some(pending) => format!("{position}, pending to {}", pending.end),
        None => position.to_string(),
    }
}

/// Offsets are not records: compaction and transaction markers leave gaps.
fn consequence(positions: &Positions, change: &Change) -> Result<String, OffsetsError> {
    let (done, after) = (positions.advice.part.done(), change.after);
    let doubled = positions.rows_in_table(change.partition, after, i64::MAX)?.filter(|rows| *rows > 0);
    if let Some(rows) = doubled {
        return Ok(format!("{} already in the table will be inserted again", counted(rows, "row")));
    }
    let id = positions.group.topic_id.as_ref().map(TopicId::as_str);
    if id.is_some() && change.before.topic_id.as_deref().is_some_and(|noted| Some(noted) != id) {
        return Ok("the offset noted for the deleted topic of this name is discarded".into());
    }
    Ok(match change.before.position {
        None => "a first position".into(),
        Some(before) if before > after => format!("up to {} {done} again", counted(before - after, "offset")),
        Some(before) if before < after => format!("up to {} never {done}", counted(after - before, "offset")),
        Some(_) => "none".into(),
    })
}

/// Asks whether to do it.
pub(crate) fn confirm(yes: bool) -> Result<bool, OffsetsError> {
    if yes {
        return Ok(true);
    }
    if !io::stdin().is_terminal() {
        return Err(OffsetsError::Refused("nothing was changed: there is no terminal to ask on; add --yes".into()));
    }
    let mut answer = String::new();
    crate::runtime::stdio::print("Proceed? [y/N] ");
    let answered = io::stdin().read_line(&mut answer).is_ok();
    Ok(answered && matches!(answer.trim(), "y" | "Y" | "yes"))
}
