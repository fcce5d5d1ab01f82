//! What became of a batch's records, and what the group is told of it.

use std::collections::BTreeMap;

use crate::kafka::consumer::{SinkStep, Source};
use crate::kafka::offset_note::{Partition, Pending, Tally};
use crate::sink::{LoadError, RecordOrigin, Refusal, RowBatch, Span};

/// What becomes of the batch's records, by partition.
pub fn outcomes(batch: &RowBatch, dead_letters: &[(RecordOrigin, Refusal)]) -> BTreeMap<Partition, Tally> {
    let mut outcomes: BTreeMap<Partition, Tally> = BTreeMap::new();
    let dead = dead_letters.iter().map(|(origin, _)| origin.partition);
    let all = batch.rows().iter().map(|row| row.partition).chain(batch.refused().iter().map(|(o, _)| o.partition));
    for partition in dead {
        outcomes.entry(partition).or_default().dead += 1;
    }
    for partition in all {
        outcomes.entry(partition).or_default().read += 1;
    }
    for tally in outcomes.values_mut() {
        tally.written = tally.read.saturating_sub(tally.dead);
    }
    for origin in batch.left_out().iter().chain(batch.no_change()) {
        outcomes.entry(origin.partition).or_default().add_filtered();
    }
    outcomes
}

/// Commits each partition's offset to the group with the account of a bounded run: before the transaction as what it is about
/// to do (`begun`), after it as done.
pub fn show(
    source: &Source,
    batch: &RowBatch,
    outcomes: &BTreeMap<Partition, Tally>,
    begun: bool,
) -> Result<(), LoadError> {
    for (&partition, &Span { start, end }) in batch.spans() {
        let outcome = outcomes.get(&partition).copied().unwrap_or_default();
        let (next, step) = match begun {
            true => (start, SinkStep::Begins { pending: Pending { end, attempt: 1 }, then: outcome, begun: None }),
            false => (end, SinkStep::Wrote { done: outcome, begun: None }),
        };
        source.commit_for_sink(partition, next, step)?;
    }
    Ok(())
}
