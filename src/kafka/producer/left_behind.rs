//! Calls into librdkafka that do not return, each with its thread and its producer. They are counted, and past a limit no
//! more are made: a coordinator that keeps silent for hours must not fill the process with threads.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::error::KafkaError;

/// So many calls may be left behind in a process: some for each worker of a large one.
const MOST: usize = 64;
/// How long the limit may be reached before only a new process helps.
const PATIENCE: Duration = Duration::from_secs(300);

/// Those of the process.
pub static LEFT_BEHIND: LeftBehind = LeftBehind { state: Mutex::new(State { count: 0, full_since: None }) };

/// Counts calls that were left behind.
pub struct LeftBehind {
    state: Mutex<State>,
}

struct State {
    count: usize,
    full_since: Option<Instant>,
}

/// Whether another call may be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// It may.
    Free,
    /// Not now: so many have not returned.
    Full(usize),
    /// Never: they have not returned for too long.
    Hopeless(usize),
}

impl LeftBehind {
    /// Whether another call may be made.
    pub fn room(&self, now: Instant) -> Room {
        let state = self.state();
        match state.full_since {
            None => Room::Free,
            Some(since) if now.saturating_duration_since(since) < PATIENCE => Room::Full(state.count),
            Some(_) => Room::Hopeless(state.count),
        }
    }

    fn leave(&self) -> usize {
        let mut state = self.state();
        state.count += 1;
        if state.count >= MOST {
            state.full_since.get_or_insert_with(Instant::now);
        }
        state.count
    }

    fn came_back(&self) {
        let mut state = self.state();
        state.count = state.count.saturating_sub(1);
        if state.count < MOST {
            state.full_since = None;
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const RUNNING: u8 = 0;
const RETURNED: u8 = 1;
const LEFT: u8 = 2;

/// A call on a thread of its own. Dropped before it has returned, it is left behind.
pub struct Call {
    result: Receiver<Result<(), KafkaError>>,
    state: Arc<AtomicU8>,
    count: &'static LeftBehind,
}

impl Call {
    /// Makes the call.
    pub fn spawn(
        count: &'static LeftBehind,
        call: impl FnOnce() -> Result<(), KafkaError> + Send + 'static,
    ) -> std::io::Result<Self> {
        let (done, result) = mpsc::channel();
        let state = Arc::new(AtomicU8::new(RUNNING));
        let of_thread = Arc::clone(&state);
        std::thread::Builder::new().name("pressline-offsets".into()).spawn(move || {
            // Nobody listens any more when it was late.
            let _ = done.send(call());
            if of_thread.swap(RETURNED, Ordering::AcqRel) == LEFT {
                count.came_back();
            }
        })?;
        Ok(Self { result, state, count })
    }

    /// Waits for its end.
    pub fn wait(&self, limit: Duration) -> Result<Result<(), KafkaError>, RecvTimeoutError> {
        self.result.recv_timeout(limit)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // One whose result was taken may not have come to its last line yet: it does so at once.
        if self.state.compare_exchange(RUNNING, LEFT, Ordering::AcqRel, Ordering::Acquire).is_ok() {
            let calls = self.count.leave();
            tracing::debug!(calls, "a call to the group's coordinator is left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn counter() -> &'static LeftBehind {
        Box::leak(Box::new(LeftBehind { state: Mutex::new(State { count: 0, full_since: None }) }))
    }

    #[test]
    fn calls_that_do_not_return_are_counted_until_they_do_and_past_a_limit_no_more_are_made() {
        let count = counter();
        let now = Instant::now();
        let mut ends = Vec::new();
        for _ in 0..MOST {
            assert_eq!(count.room(now), Room::Free);
            let (end, told) = mpsc::channel::<()>();
            ends.push(end);
            let call = Call::spawn(count, move || {
                let _ = told.recv();
                Ok(())
            });
            drop(call.unwrap());
        }
        assert_eq!(count.room(Instant::now()), Room::Full(MOST));
        assert_eq!(count.room(Instant::now() + PATIENCE), Room::Hopeless(MOST));
        drop(ends.pop());
        let begun = Instant::now();
        while count.room(Instant::now()) != Room::Free {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(ends);
        while count.state().count > 0 {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_call_that_returned_in_time_is_not_counted() {
        let count = counter();
        let call = Call::spawn(count, || Ok(())).unwrap();
        assert_eq!(call.wait(Duration::from_secs(10)), Ok(Ok(())));
        drop(call);
        let begun = Instant::now();
        while count.state().count > 0 {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}
