//! Who keeps the positions: the consumer group, or the database that is loaded.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::error::SourceError;
use crate::config::StartPolicy;
use crate::config::sink::SinkStart;
use crate::kafka::offset_note::{CommittedOffset, NextOffset, Partition};

/// Who keeps the positions, and so decides where a partition begins.
#[derive(Clone)]
pub enum PositionStore {
    /// The consumer group, with offsets that are committed in the same transaction as the output.
    Group {
        /// Where to begin without offsets.
        policy: StartPolicy,
        /// Where what was read is written: if anything is there, a lost position must not become a new beginning.
        output_topic: String,
    },
    /// The database that is loaded.
    Sink(Arc<dyn SinkPositions>),
}

/// A partition at its assignment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The partition.
    pub partition: Partition,
    /// What the group has of it.
    pub committed: Option<CommittedOffset>,
    /// Its first offset and the one after its last.
    pub range: (NextOffset, NextOffset),
}

/// Partitions that a sink is asked for.
#[derive(Clone, Copy, Debug)]
pub struct Assignment<'a> {
    /// Id of the topic.
    pub topic_id: Option<&'a str>,
    /// Partitions the topic had when the group first started: higher ones were added later.
    pub first_partitions: i32,
    /// The partitions.
    pub partitions: &'a [Assigned],
}

impl Assignment<'_> {
    /// Where a partition begins of which the sink knows nothing; one that was added later is loaded from its beginning.
    pub fn first_offset(&self, assigned: &Assigned, start: SinkStart) -> NextOffset {
        let (low, high) = assigned.range;
        let skip = start == SinkStart::End && assigned.partition < self.first_partitions;
        if skip { high } else { low }
    }
}

/// Positions that are kept in a sink.
pub trait SinkPositions: Send + Sync {
    /// Where each partition begins. Called in a rebalance, so it may block for seconds only. Errors: refused where going on
    /// would lose or duplicate rows, transient where the sink does not answer.
    fn claim(&self, assignment: &Assignment<'_>) -> Result<BTreeMap<Partition, NextOffset>, SourceError>;

    /// Whether [`Self::claim`] finds out by itself that a partition without an offset was loaded before.
    fn knows_first_start(&self) -> bool;

    /// Whether the positions are kept beside the rows, and the group's offsets only show them. Where they are the group's
    /// offsets, only the sink's own steps may commit them: an offset committed late by others would go back behind rows that
    /// are written, and they would be written again.
    fn are_only_shown_by_group(&self) -> bool;
}
