//! What librdkafka's callbacks share with the worker, and what they tell it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rdkafka::statistics::Statistics;

use super::committed_watermark::CommittedWatermark;
use super::error::SourceError;
use super::position_store::PositionStore;
use super::unacknowledged::Unacknowledged;
use crate::kafka::advice::Advice;
use crate::kafka::circuit_breaker::CircuitBreaker;
use crate::kafka::offset_note::{NextOffset, Partition};
use crate::kafka::replay_range::ReplayRange;
use crate::kafka::topic_id::TopicId;

/// What the group coordinator did to us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum GroupEvent {
    Assigned(BTreeMap<Partition, NextOffset>),
    Revoked { partitions: Vec<Partition>, lost: bool },
    Failed(SourceError),
}

/// State shared with librdkafka's callbacks.
pub(super) struct SourceContext {
    pub(super) topic: String,
    pub(super) position_store: PositionStore,
    pub(super) advice: Advice,
    pub(super) committed_watermark: Arc<CommittedWatermark>,
    pub(super) stop: Arc<AtomicBool>,
    /// Of a run that ends by itself.
    pub(super) replay_range: Option<Arc<ReplayRange>>,
    pub(super) breaker: Arc<CircuitBreaker>,
    /// Id of the ingress topic when the worker started.
    pub(super) topic_id: Option<TopicId>,
    pub(super) events: Mutex<Vec<GroupEvent>>,
    /// Set after an event was pushed: asked after every record, where the lock would cost.
    pub(super) has_events: AtomicBool,
    pub(super) statistics: Mutex<Option<Box<Statistics>>>,
    /// Partitions at the group's first start, as noted with its offsets.
    pub(super) first_partitions: Mutex<Option<i32>>,
    /// How often each partition's position was set by hand, as noted with its offset.
    pub(super) resets: Mutex<BTreeMap<Partition, u32>>,
    /// Of a sink that keeps its positions itself.
    pub(super) unacknowledged: Unacknowledged,
    pub(super) closing: AtomicBool,
    /// The record that the mutant `position_left` polled and left.
    #[cfg(feature = "mutants")]
    pub(super) left: Mutex<Option<(Partition, NextOffset)>>,
    /// Partitions that were revoked in the middle of a batch, which the mutant `old_epoch_accepted` ends all the same.
    #[cfg(feature = "mutants")]
    pub(super) late: Mutex<Vec<Vec<Partition>>>,
}

impl SourceContext {
    /// Waits before offsets are asked for again. Error: the worker is to stop.
    pub(super) fn pause(&self) -> Result<(), SourceError> {
        if self.stop.load(Ordering::Acquire) {
            return Err(SourceError::transient(format!("topic {}: stopped while offsets were waited for", self.topic)));
        }
        std::thread::sleep(Duration::from_millis(200));
        Ok(())
    }

    pub(super) fn send(&self, event: GroupEvent) {
        if let Ok(mut events) = self.events.lock() {
            events.push(event);
        }
        self.has_events.store(true, Ordering::Release);
    }
}
