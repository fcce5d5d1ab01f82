//! The part of the relay that decides, without I/O: which records may enter a transaction, which offsets go with it,
//! whether it may still be committed, and when everything must be read again from the committed offsets.
//!
//! The worker reports what happened and does what it is asked to; property tests drive the same code through random
//! interleavings against a model of the broker.
//!
//! The rules, and why:
//! - No rebalance inside a transaction counts: if the epoch moved between begin and commit, the transaction is aborted
//!   (its offsets may belong to somebody else by now).
//! - After a transaction that did not surely commit, positions are unknown: the broker may have committed it. They are
//!   read again from the group's committed offsets, never from memory.
//! - Offsets are last taken + 1, never the consumer's own position, which may be ahead of what was taken.

use std::collections::BTreeMap;

use crate::kafka::offset_note::{CommittedOffset, NextOffset, Partition};

/// What became of a polled record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Take {
    /// It belongs to the batch.
    Taken,
    /// It is of a partition that is not ours any more, or lies before our position: left over from before a rebalance
    /// or rewind. Dropping it loses nothing, because it will be or was read from the right position.
    Stale,
    /// It lies at or past the partition's end in a bounded run: the partition is through.
    Past,
}

/// What the worker must do before it may take records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Take records, begin a transaction when there are some.
    Ready,
    /// A transaction is open: send, then commit or give it up; do not poll.
    Open,
    /// Positions are unknown: new producer, read the committed offsets, rewind there, then [`Coordinator::rewound`].
    Lost,
}

/// An open transaction's offsets. It cannot be copied, and committing or giving it up consumes it, so nothing is
/// committed twice.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "an open transaction must be committed or aborted"]
pub struct OpenTransaction {
    epoch: u64,
    offsets: BTreeMap<Partition, NextOffset>,
}

impl OpenTransaction {
    /// What goes into the group's offsets with this transaction.
    pub fn offsets(&self) -> &BTreeMap<Partition, NextOffset> {
        &self.offsets
    }
}

/// State of one worker.
#[derive(Debug)]
pub struct Coordinator {
    /// Counts rebalances.
    epoch: u64,
    /// Next offset to relay of every assigned partition, as committed.
    positions: BTreeMap<Partition, NextOffset>,
    /// The same after the batch that is being taken.
    batch: BTreeMap<Partition, NextOffset>,
    /// Where a bounded run ends; a partition that is missing is no part of it.
    ends: Option<BTreeMap<Partition, NextOffset>>,
    phase: Phase,
}

impl Default for Coordinator {
    fn default() -> Self {
        Self::new()
    }
}

impl Coordinator {
    /// Nothing assigned yet.
    pub fn new() -> Self {
        Self { epoch: 0, positions: BTreeMap::new(), batch: BTreeMap::new(), ends: None, phase: Phase::Ready }
    }

    /// Nothing assigned yet; no record at or past these offsets is taken, and none of other partitions.
    pub fn until(ends: BTreeMap<Partition, NextOffset>) -> Self {
        Self { ends: Some(ends), ..Self::new() }
    }

    /// What to do next.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Rebalances so far.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Partitions that are ours, with the next offset to relay.
    pub fn positions(&self) -> &BTreeMap<Partition, NextOffset> {
        &self.positions
    }

    /// Where each partition stands after the batch that is being taken.
    pub fn batch_ends(&self) -> &BTreeMap<Partition, NextOffset> {
        &self.batch
    }

    /// Partitions were given to us, to be read from these offsets.
    pub fn assigned(&mut self, starts: &BTreeMap<Partition, NextOffset>) {
        self.epoch += 1;
        for (&partition, &start) in starts {
            self.batch.remove(&partition);
            self.positions.insert(partition, start);
        }
    }

    /// Partitions were taken from us. What the batch holds of them is dropped: their new owner relays it.
    pub fn revoked(&mut self, partitions: &[Partition]) {
        self.epoch += 1;
        for partition in partitions {
            self.batch.remove(partition);
            self.positions.remove(partition);
        }
    }

    /// A record was polled.
    pub fn take(&mut self, partition: Partition, offset: i64) -> Take {
        if self.phase != Phase::Ready {
            return Take::Stale;
        }
        let Some(&position) = self.positions.get(&partition) else { return Take::Stale };
        let next = self.batch.get(&partition).copied().unwrap_or(position);
        if offset < next {
            return Take::Stale;
        }
        if let Some(ends) = &self.ends
            && ends.get(&partition).is_none_or(|end| offset >= *end)
        {
            self.drained(partition);
            return Take::Past;
        }
        self.batch.insert(partition, offset + 1);
        Take::Taken
    }

    /// Everything that the partition had when a bounded run began was polled: no record lies between the last one and the
    /// end, and the batch moves the position over that gap.
    pub fn drained(&mut self, partition: Partition) {
        let Some(&end) = self.ends.as_ref().and_then(|ends| ends.get(&partition)) else { return };
        let Some(&position) = self.positions.get(&partition) else { return };
        if self.phase == Phase::Ready && self.batch.get(&partition).copied().unwrap_or(position) < end {
            self.batch.insert(partition, end);
        }
    }

    /// What was taken of these partitions is not used: it will be read again from their positions.
    pub fn put_back(&mut self, partitions: &[Partition]) {
        for partition in partitions {
            self.batch.remove(partition);
        }
    }

    /// Whether the batch moves a position.
    pub fn has_batch(&self) -> bool {
        !self.batch.is_empty()
    }

    /// Whether our partitions are at their ends in a bounded run, committed.
    pub fn is_through(&self) -> bool {
        let Some(ends) = &self.ends else { return false };
        let through =
            |(partition, position): (&Partition, &NextOffset)| ends.get(partition).is_none_or(|end| position >= end);
        self.phase == Phase::Ready && self.batch.is_empty() && self.positions.iter().all(through)
    }

    /// Opens a transaction over the batch; `None` if there is no batch or the phase is another.
    pub fn begin(&mut self) -> Option<OpenTransaction> {
        if self.phase != Phase::Ready || self.batch.is_empty() {
            return None;
        }
        self.phase = Phase::Open;
        Some(OpenTransaction { epoch: self.epoch, offsets: std::mem::take(&mut self.batch) })
    }

    /// Whether the transaction's offsets are still ours to send: no rebalance since it began.
    pub fn may_commit(&self, transaction: &OpenTransaction) -> bool {
        self.phase == Phase::Open && transaction.epoch == self.epoch
    }

    /// The broker said that the transaction is committed.
    pub fn committed(&mut self, transaction: OpenTransaction) {
        for (partition, next) in transaction.offsets {
            if let Some(position) = self.positions.get_mut(&partition) {
                *position = next;
            }
        }
        self.phase = Phase::Ready;
    }

    /// The transaction did not surely commit (and may have).
    pub fn given_up(&mut self, transaction: OpenTransaction) {
        drop(transaction);
        self.lose();
    }

    /// Positions cannot be trusted any more, for whatever reason.
    pub fn lose(&mut self) {
        self.batch.clear();
        self.phase = Phase::Lost;
    }

    /// The consumer was rewound to the committed offsets, read after the new producer was there. Partitions that are
    /// not ours are ignored; returns those of ours that are missing, which keeps the phase at [`Phase::Lost`].
    pub fn rewound(&mut self, committed: &BTreeMap<Partition, NextOffset>) -> Vec<Partition> {
        let missing: Vec<Partition> =
            self.positions.keys().copied().filter(|partition| !committed.contains_key(partition)).collect();
        if missing.is_empty() {
            for (partition, position) in &mut self.positions {
                if let Some(&offset) = committed.get(partition) {
                    *position = offset;
                }
            }
            self.batch.clear();
            self.phase = Phase::Ready;
        }
        missing
    }
}

/// Where to begin with a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At the committed offset.
    At(NextOffset),
    /// At the oldest record there is.
    Beginning,
    /// After the newest.
    End,
    /// Nowhere: offsets are gone while the output is not empty; begin would relay everything twice.
    Refuse,
}

/// Decides where to begin with `partition`, from the offsets the group has of *all* the topic's partitions.
/// `output_empty` is asked only when it matters.
pub fn decide_start(
    partition: Partition,
    committed: &BTreeMap<Partition, CommittedOffset>,
    policy: crate::config::StartPolicy,
    output_empty: bool,
) -> Start {
    use crate::config::StartPolicy;
    if let Some(offset) = committed.get(&partition) {
        return Start::At(offset.next);
    }
    if committed.is_empty() {
        return match policy {
            StartPolicy::Beginning => Start::Beginning,
            StartPolicy::End => Start::End,
            StartPolicy::Auto if output_empty => Start::Beginning,
            StartPolicy::Auto => Start::Refuse,
        };
    }
    // Siblings have offsets: the partition was added later and is relayed from its beginning, or it was there at the
    // first start and a sibling's owner was faster, in which case the policy of the first start still holds.
    let first_count = committed.values().find_map(|c| c.note.partitions);
    match (policy, first_count) {
        (StartPolicy::End, Some(count)) if partition < count => Start::End,
        _ => Start::Beginning,
    }
}
