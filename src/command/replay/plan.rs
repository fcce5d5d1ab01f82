//! Where a replay begins and ends: decided once, when it is begun, and noted in its group. Started again, it goes on by the
//! notes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::job::Job;
use super::store::{Noted, Store};
use super::{ReplayArgs, ReplayError};
use crate::command::offsets::{Pipeline, Positions, To, confirm, say};
use crate::kafka::consumer::SESSION_TIMEOUT;
use crate::kafka::offset_note::{Account, NextOffset, OffsetNote, Partition};
use crate::kafka::replay_range::{Overlap, RangeProgress};

/// How long the members of a killed process may stay in the group: its session time-out, and a little.
const REST_WITHIN: Duration = SESSION_TIMEOUT.saturating_add(Duration::from_secs(15));

/// What there is to do.
pub struct ReplayPlan {
    /// Where each partition stands.
    pub progress: BTreeMap<Partition, RangeProgress>,
    /// What the replay was begun with.
    pub asked: String,
    /// Whether there is something to do.
    pub state: State,
    /// Offsets that were asked for and that it does not reach, in words.
    pub not_reached: Vec<String>,
}

/// Whether there is something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// There is.
    Open,
    /// It was done before.
    Finished,
    /// The range holds no offsets, and nothing was noted.
    Nothing,
    /// Somebody said no, and nothing was noted.
    Cancelled,
}

/// Decides, and notes what was decided. Errors: a live process of the same name; a range that retention has removed in part;
/// a replay of that name with another range; a target that has these records already.
pub fn plan(args: &ReplayArgs, pipeline: &Pipeline, job: &Job, store: &Store) -> Result<ReplayPlan, ReplayError> {
    store.refuse_upserts()?;
    await_rest(store)?;
    let noted = if args.restart { None } else { store.noted()? };
    let asked = asked(args, job);
    match noted {
        Some(noted) => resume(args, job, store, noted, asked),
        None => begin(args, pipeline, job, store, asked),
    }
}

/// Waits for the end of a process that was killed.
fn await_rest(store: &Store) -> Result<(), ReplayError> {
    let begun = Instant::now();
    loop {
        let members = store.group.members()?;
        if members.is_empty() {
            return Ok(());
        }
        if begun.elapsed() > REST_WITHIN {
            return Err(ReplayError::Refused(format!(
                "this replay runs already: {}. Stop it, or give this one another --name",
                members.join(", ")
            )));
        }
        tracing::info!(group = %store.group.name, "waiting for a process of this replay that was killed, or runs");
        std::thread::sleep(Duration::from_secs(1));
    }
}

/// What the range was asked for as, in one word.
fn asked(args: &ReplayArgs, job: &Job) -> String {
    let partitions: Vec<String> = args.partition.iter().map(ToString::to_string).collect();
    let partitions = if partitions.is_empty() { "all".into() } else { partitions.join(",") };
    format!("{}/{}/{partitions}/{}", args.from, args.to, job.into.replace(char::is_whitespace, "_"))
}

/// Goes on where it was.
fn resume(args: &ReplayArgs, job: &Job, store: &Store, noted: Noted, asked: String) -> Result<ReplayPlan, ReplayError> {
    if noted.asked != asked {
        return Err(ReplayError::Refused(format!(
            "replay {} was begun with other arguments (from/to/partitions/target: {}; now {asked}). Give this one another --name, \
             or start over with --restart",
            job.name, noted.asked
        )));
    }
    let mut progress = noted.progress;
    for (partition, partition_progress) in &mut progress {
        let low = store.group.ranges.get(partition).map_or(0, |range| range.0);
        // What a crash left undecided is for the worker, which asks the table.
        let undecided = noted.undecided.contains(partition);
        if partition_progress.position >= partition_progress.account.end.min(low) || undecided {
            continue;
        }
        let next = low.min(partition_progress.account.end);
        let gap = Gap {
            partition: *partition,
            from: partition_progress.position,
            first: low,
            count: next - partition_progress.position,
        };
        gap.allow(args, job)?;
        partition_progress.account.removed += gap.removed();
        partition_progress.position = next;
        store.move_on(*partition, *partition_progress, &asked)?;
    }
    store.claim(&progress)?;
    let finished =
        progress.values().all(|partition_progress| partition_progress.position >= partition_progress.account.end);
    let not_reached = not_reached(args, store, &progress);
    let state = if finished { State::Finished } else { State::Open };
    Ok(ReplayPlan { progress, asked, state, not_reached })
}

/// Fixes the range and notes it.
fn begin(
    args: &ReplayArgs,
    pipeline: &Pipeline,
    job: &Job,
    store: &Store,
    asked: String,
) -> Result<ReplayPlan, ReplayError> {
    let from = places(args.from, store)?;
    let to = places(args.to, store)?;
    refuse_reversed(args, &from, &to)?;
    let limits = live_positions(args, pipeline, job)?;
    let mut progress = BTreeMap::new();
    for (&partition, &(low, high)) in &store.group.ranges {
        let wanted = args.partition.is_empty() || args.partition.contains(&partition);
        let end = to.get(&partition).copied().unwrap_or(high).min(limits.get(&partition).copied().unwrap_or(high));
        let end = if wanted { end.clamp(low, high) } else { low };
        let from = if wanted { from.get(&partition).copied().unwrap_or(low).min(end) } else { end };
        refuse_unknown_gap(args, job, partition, from, low)?;
        let gap = Gap { partition, from, first: low, count: low - from };
        if from < low {
            gap.allow(args, job)?;
        }
        let account = Account { from, end, removed: gap.removed(), ..Account::default() };
        progress.insert(partition, RangeProgress { position: from.max(low), account });
    }
    if let Some(partition) = args.partition.iter().find(|partition| !progress.contains_key(partition)) {
        return Err(ReplayError::Refused(format!("topic {} has no partition {partition}", job.topic())));
    }
    if progress.values().all(|partition_progress| partition_progress.account.from == partition_progress.account.end) {
        let not_reached = not_reached(args, store, &progress);
        return Ok(ReplayPlan { progress, asked, state: State::Nothing, not_reached });
    }
    store.refuse_overlap(args, job, &progress)?;
    if !may_repeat(args, job, store, &progress)? {
        return Ok(ReplayPlan { progress, asked, state: State::Cancelled, not_reached: Vec::new() });
    }
    if args.restart {
        store.forget()?;
    }
    // Seconds since 1970: a replay that is started again must not have the deduplication tokens of the one before.
    let resets = UNIX_EPOCH.elapsed().ok().and_then(|since| u32::try_from(since.as_secs()).ok()).unwrap_or(1);
    let partitions = i32::try_from(progress.len()).ok();
    for (&partition, partition_progress) in &progress {
        let (account, asked) = (Some(partition_progress.account), Some(asked.clone()));
        let note =
            OffsetNote { topic_id: store.topic_id(), partitions, resets, account, asked, ..OffsetNote::default() };
        store.group.commit(partition, partition_progress.position, &note)?;
    }
    store.claim(&progress)?;
    let not_reached = not_reached(args, store, &progress);
    Ok(ReplayPlan { progress, asked, state: State::Open, not_reached })
}

/// Refuses an end before its beginning: it is a slip, and the note of it would stand in the way of what was meant.
fn refuse_reversed(
    args: &ReplayArgs,
    from: &BTreeMap<Partition, NextOffset>,
    to: &BTreeMap<Partition, NextOffset>,
) -> Result<(), ReplayError> {
    let times = match (args.from, args.to) {
        (To::Time(from), To::Time(to)) => from.as_millisecond() > to.as_millisecond(),
        _ => false,
    };
    let mut pairs = from.iter().filter_map(|(partition, from)| Some((from, to.get(partition)?))).peekable();
    let offsets = pairs.peek().is_some() && pairs.all(|(from, to)| from > to);
    if times || offsets {
        return Err(ReplayError::Refused(format!(
            "--to {} lies before --from {}: nothing was replayed or noted. Give an end after the beginning",
            args.to, args.from
        )));
    }
    Ok(())
}

/// Asks before records are written a second time to where the pipeline writes; not where the rows tell which records they are, so
/// that only missing ones are written.
fn may_repeat(
    args: &ReplayArgs,
    job: &Job,
    store: &Store,
    progress: &BTreeMap<Partition, RangeProgress>,
) -> Result<bool, ReplayError> {
    if job.overlap == Overlap::None || store.tells_records()? {
        return Ok(true);
    }
    let offsets: i64 = progress
        .values()
        .map(|partition_progress| partition_progress.account.end - partition_progress.account.from)
        .sum();
    say(format!(
        "up to {offsets} records of topic {} will be written to {} again: what is there already will be there twice",
        job.topic(),
        job.target()
    ));
    Ok(confirm(args.yes)?)
}

fn places(place: To, store: &Store) -> Result<BTreeMap<Partition, NextOffset>, ReplayError> {
    let ranges = store.group.ranges.iter();
    Ok(match place {
        To::Offset(offset) => ranges.map(|(partition, _)| (*partition, offset)).collect(),
        To::Beginning => ranges.map(|(partition, (low, _))| (*partition, *low)).collect(),
        To::End => ranges.map(|(partition, (_, high))| (*partition, *high)).collect(),
        To::Time(time) => store.group.offsets_at(time.as_millisecond())?,
    })
}

/// What was asked for and cannot be read before an open transaction ends, in words.
fn not_reached(args: &ReplayArgs, store: &Store, progress: &BTreeMap<Partition, RangeProgress>) -> Vec<String> {
    let mut lines = Vec::new();
    for (partition, (stable, high)) in store.group.behind_transactions() {
        let is_asked = args.partition.is_empty() || args.partition.contains(&partition);
        let goes_on = !matches!(args.to, To::Offset(end) if end <= stable);
        let ends_there =
            progress.get(&partition).is_some_and(|partition_progress| partition_progress.account.end == stable);
        if is_asked && goes_on && ends_there {
            lines.push(format!(
                "partition {partition}: offsets {stable} to {} are behind an open transaction of another producer and no part of \
                 this replay. Once it has ended, replay them with --from {stable} and another --name",
                high - 1
            ));
        }
    }
    lines
}

/// What the live pipeline has not written yet it will write itself: a replay into the same target goes up to its position.
fn live_positions(
    args: &ReplayArgs,
    pipeline: &Pipeline,
    job: &Job,
) -> Result<BTreeMap<Partition, NextOffset>, ReplayError> {
    if job.overlap == Overlap::None {
        return Ok(BTreeMap::new());
    }
    let live = Positions::open(pipeline, args.sink)?.read()?;
    Ok(live.into_iter().map(|(partition, stand)| (partition, stand.position.unwrap_or(stand.range.0))).collect())
}

/// Offsets that retention has removed.
struct Gap {
    partition: Partition,
    from: NextOffset,
    /// First offset that is kept.
    first: NextOffset,
    count: i64,
}

impl Gap {
    fn removed(&self) -> u64 {
        u64::try_from(self.count).unwrap_or_default()
    }

    fn allow(&self, args: &ReplayArgs, job: &Job) -> Result<(), ReplayError> {
        let Self { partition, from, first, count } = self;
        let topic = job.topic();
        if args.allow_gaps {
            tracing::warn!(
                topic,
                partition,
                from,
                first,
                count,
                "retention has removed these offsets; going on without them"
            );
            return Ok(());
        }
        Err(ReplayError::Refused(format!(
            "topic {topic}, partition {partition}: from offset {from} on, {count} offsets were deleted by retention; the first one \
             kept is {first}. To go on without them, counted: --allow-gaps"
        )))
    }
}

/// A time before the first record that is kept: what was there is unknown.
fn refuse_unknown_gap(
    args: &ReplayArgs,
    job: &Job,
    partition: Partition,
    from: NextOffset,
    low: NextOffset,
) -> Result<(), ReplayError> {
    let To::Time(time) = args.from else { return Ok(()) };
    if from != low || low == 0 || args.allow_gaps {
        return Ok(());
    }
    Err(ReplayError::Refused(format!(
        "topic {}, partition {partition}: the first record that is kept, at offset {low}, is of {time} or later: records of that \
         time may be among the {low} offsets before it, which were deleted by retention. To begin with what is kept: \
         --allow-gaps",
        job.topic()
    )))
}
