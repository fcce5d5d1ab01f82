//! The consumer, dropped on another thread so that nobody waits for it.

use std::mem::{self, ManuallyDrop};
use std::ops::Deref;
use std::sync::atomic::Ordering;

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::context::SourceContext;
use crate::runtime::supervise::drop_in_background;

/// What takes long to drop.
pub(super) trait Slow: Send + 'static {
    /// It will be dropped where nobody waits for it.
    fn will_go(&self);
}

impl Slow for BaseConsumer<SourceContext> {
    fn will_go(&self) {
        self.context().closing.store(true, Ordering::Release);
    }
}

/// A worker's consumer. When a panic drops it, its destructor, which can wait for a silent broker, runs on a thread of its own:
/// else the worker's place in its pipeline would stay empty.
pub(super) struct Held<T: Slow = BaseConsumer<SourceContext>>(ManuallyDrop<T>);

impl<T: Slow> Held<T> {
    pub(super) fn new(consumer: T) -> Self {
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

impl<T: Slow> Deref for Held<T> {
    type Target = T;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl<T: Slow> Drop for Held<T> {
    fn drop(&mut self) {
        // SAFETY: nobody takes it before or after.
        let consumer = unsafe { ManuallyDrop::take(&mut self.0) };
        consumer.will_go();
        drop_in_background(consumer);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};
    use std::thread::{self, ThreadId};
    use std::time::Duration;

    use super::*;

    /// Its destructor waits until it may go on.
    struct Silent {
        told: Sender<&'static str>,
        dropped_by: Sender<ThreadId>,
        may_go: Receiver<()>,
    }

    impl Slow for Silent {
        fn will_go(&self) {
            self.told.send("will go").unwrap();
        }
    }

    impl Drop for Silent {
        fn drop(&mut self) {
            self.may_go.recv_timeout(Duration::from_secs(60)).unwrap();
            self.dropped_by.send(thread::current().id()).unwrap();
        }
    }

    #[test]
    fn what_a_panic_drops_holds_nobody_up_and_what_is_closed_ends_here() {
        let ((told, hears), (dropped_by, dropped), (go, may_go)) = (channel(), channel(), channel());
        let silent = Held::new(Silent { told: told.clone(), dropped_by: dropped_by.clone(), may_go });
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _silent = silent;
            std::panic::resume_unwind(Box::new("a defect"));
        }));
        assert!(panicked.is_err());
        assert_eq!(hears.try_recv(), Ok("will go"));
        assert!(dropped.try_recv().is_err(), "its destructor waits still, and nobody for it");
        go.send(()).unwrap();
        assert_ne!(dropped.recv_timeout(Duration::from_secs(60)).unwrap(), thread::current().id());

        let (go, may_go) = channel();
        go.send(()).unwrap();
        Held::new(Silent { told, dropped_by, may_go }).close();
        assert_eq!(dropped.try_recv(), Ok(thread::current().id()));
        assert!(hears.try_recv().is_err());
    }
}
