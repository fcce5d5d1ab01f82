//! The one task that asks: takes the first place that waits, keeps the pace, settles what came back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::answer::{Answer, Point};
use super::client::seconds_now;
use super::memory::Entry;
use super::question::Question;
use super::{Shared, State};

/// How often the cache is written, if it has changed.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked for entries whose lifetime has ended.
const EXPIRY_EVERY: Duration = Duration::from_secs(3600);
/// When a server that answers others has failed so often on one place, the place is taken for one that it does not know.
const MOST_FAILURES: u32 = 3;

/// Runs until told to stop.
pub(super) async fn run(shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    let upkeep = async {
        let (mut save, mut expiry) = (tokio::time::interval(SAVE_EVERY), tokio::time::interval(EXPIRY_EVERY));
        save.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut looked = seconds_now();
        loop {
            tokio::select! {
                _ = save.tick() => {
                    let shared = Arc::clone(&shared);
                    // Writes a file: not on the threads that serve HTTP.
                    let _ = tokio::task::spawn_blocking(move || shared.save()).await;
                }
                _ = expiry.tick() => looked = shared.renew_expired(looked),
            }
        }
    };
    tokio::select! {
        () = upkeep => {}
        () = ask_for_ever(&shared) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn ask_for_ever(shared: &Shared) {
    loop {
        let next = shared.state().waiting.front();
        let Some((key, question)) = next else {
            shared.asked.notified().await;
            continue;
        };
        let turn = shared.state().pace.next();
        tokio::time::sleep_until(turn.into()).await;
        shared.state().pace.leaves(Instant::now());
        let answer = shared.client.ask(&question).await;
        shared.metrics.answered(&answer);
        shared.settle(&key, &question, answer);
    }
}

impl Shared {
    fn settle(&self, key: &str, question: &Question, answer: Answer) {
        let mut state = self.state();
        let was_open = state.pace.is_open();
        let mut reason = String::new();
        match answer {
            Answer::Found(point) => self.keep(&mut state, key, Some(point)),
            Answer::NotFound => self.keep(&mut state, key, None),
            Answer::Refused(what) => {
                tracing::debug!(country = question.country_code(), "the geocoder gave {what}: refused");
                self.keep(&mut state, key, None);
            }
            Answer::RateLimited(pause) => {
                reason = "it asks for a pause".into();
                state.failed(pause);
            }
            Answer::Unreadable(what) => {
                reason = format!("it answered with {what}");
                self.blame(&mut state, key, None);
            }
            Answer::Failed(what, pause) => {
                reason = what;
                self.blame(&mut state, key, pause);
            }
        }
        match (was_open, state.pace.is_open()) {
            (false, true) => tracing::warn!(
                geocoder = self.client.host(),
                waiting = state.waiting.len(),
                "the geocoder fails again and again ({reason}): it is probed now and then, and records go out without it"
            ),
            (true, false) => tracing::info!(geocoder = self.client.host(), "the geocoder answers again"),
            _ => {}
        }
        self.show(&state);
    }

    /// A place is settled: what lacked its answer is made again.
    fn keep(&self, state: &mut State, key: &str, point: Option<Point>) {
        state.pace.succeeded();
        self.remember(state, key, point);
    }

    fn remember(&self, state: &mut State, key: &str, point: Option<Point>) {
        state.memory.keep(key.to_owned(), Entry { point, at: seconds_now() });
        state.unsaved = true;
        for (cache, fragment) in state.waiting.take(key) {
            cache.forget(fragment);
        }
        if state.waiting.take_dropped() {
            state.waiting.caches().iter().for_each(|cache| cache.forget_all());
        }
        self.settled.notify_all();
    }

    /// The server failed on a place. If it answers others and fails on this one again and again, it is not asked about it
    /// for the lifetime of a miss.
    fn blame(&self, state: &mut State, key: &str, pause: Option<Duration>) {
        let answers_others = state.pace.failures() == 0;
        state.failed(pause);
        if answers_others && state.waiting.blame(key) >= MOST_FAILURES {
            self.remember(state, key, None);
        }
    }

    /// Has fragments made again if a lifetime has ended since the last look, so that their places are asked about again.
    fn renew_expired(&self, looked: i64) -> i64 {
        let (state, now) = (self.state(), seconds_now());
        if state.memory.expired_since(looked, now) {
            state.waiting.caches().iter().for_each(|cache| cache.forget_all());
        }
        now
    }
}

impl State {
    /// The place stays, and the next request, about another one if there is one, leaves later.
    fn failed(&mut self, pause: Option<Duration>) {
        self.pace.failed(Instant::now(), pause);
        self.waiting.put_back();
    }
}
