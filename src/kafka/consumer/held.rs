//! The consumer, let go of so that nobody waits for it.

use std::mem::{self, ManuallyDrop};
use std::ops::Deref;
use std::sync::atomic::Ordering;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::SourceContext;
use crate::runtime::supervise::drop_in_background;

/// A worker's consumer. When a panic drops it, its destructor, which can wait for a silent broker, runs on a thread of its own:
/// else the worker's place in its pipeline would stay empty.
pub(super) struct Held(ManuallyDrop<BaseConsumer<SourceContext>>);

impl Held {
    pub(super) fn new(consumer: BaseConsumer<SourceContext>) -> Self {
        Self(ManuallyDrop::new(consumer))
    }

    /// Drops it here.
    pub(super) fn close(mut self) {
        // SAFETY: taken once; `self` is forgotten, so that its `drop` does not take it again.
        let consumer = unsafe { ManuallyDrop::take(&mut self.0) };
        mem::forget(self);
        drop(consumer);
    }
}

impl Deref for Held {
    type Target = BaseConsumer<SourceContext>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // SAFETY: nobody takes it before or after.
        let consumer = unsafe { ManuallyDrop::take(&mut self.0) };
        consumer.context().closing.store(true, Ordering::Release);
        drop_in_background(consumer);
    }
}
