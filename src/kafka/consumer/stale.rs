//! A consumer that no broker answers any more, though a new client is answered.
//!
//! The password or the certificate that it was made with is refused since another lies on disk, or its connections do not come
//! back: librdkafka 2.12 was seen to fail for minutes with "Broker transport failure" after a broker that had been too busy, while
//! other clients reached it. A new consumer reads the secrets again and connects anew.

use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::BaseConsumer;

use super::error::SourceError;
use crate::config::KafkaConfig;
use crate::kafka::client::{self, Role};
use crate::kafka::reach::{Probe, reach};

/// How long no broker may answer before a new client is tried.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two tries. Each is a connection with its handshake, which a broker that is overloaded has to bear.
const TRY_EVERY: Duration = Duration::from_secs(30);

/// Since when no broker has answered, and whether a new client was.
#[derive(Debug, Default)]
pub(super) struct Silence {
    since: Option<Instant>,
    tried: Option<Instant>,
    /// What the new client will tell: whether it was answered.
    answer: Option<Receiver<bool>>,
}

impl Silence {
    /// A broker has answered.
    pub fn end(&mut self) {
        *self = Self::default();
    }

    /// No broker has answered. `try_new` is called now and then to ask with a new client and may take its time; for how long
    /// there was no answer, once that client had one.
    pub fn observe(&mut self, now: Instant, try_new: impl FnOnce() -> Receiver<bool>) -> Option<Duration> {
        let since = *self.since.get_or_insert(now);
        match self.answer.as_ref().map(Receiver::try_recv) {
            Some(Ok(true)) => return Some(now.saturating_duration_since(since)),
            Some(Err(TryRecvError::Empty)) => return None,
            Some(Ok(false) | Err(TryRecvError::Disconnected)) | None => self.answer = None,
        }
        let is_due = |last: Instant, pause: Duration| now.saturating_duration_since(last) > pause;
        if is_due(since, PATIENCE) && self.tried.is_none_or(|tried| is_due(tried, TRY_EVERY)) {
            self.tried = Some(now);
            self.answer = Some(try_new());
        }
        None
    }
}

/// Asks for the topic with a new client, on a thread of its own, since brokers may keep silent.
pub(super) fn try_new_client(kafka: &KafkaConfig, topic: &str) -> Receiver<bool> {
    let (answered, answer) = mpsc::channel();
    let (kafka, topic) = (kafka.clone(), topic.to_string());
    // Without a thread there is no answer: it is tried again.
    let _ = std::thread::Builder::new().name("pressline-reach".into()).spawn(move || {
        let _ = answered.send(is_answered(&kafka, &topic));
    });
    answer
}

fn is_answered(kafka: &KafkaConfig, topic: &str) -> bool {
    // A secret that cannot be read at the moment, or a client that cannot be made, is no reason for a new consumer.
    let Ok(config) = client::client_config(kafka, Role::Consumer) else { return false };
    let Ok(probe) = config.create_with_context::<_, BaseConsumer<Probe>>(Probe::default()) else { return false };
    reach(&probe, Some(topic)).is_ok()
}

/// A new consumer is wanted.
pub(super) fn stale(topic: &str, silent: Duration) -> SourceError {
    SourceError::stale(format!(
        "topic {topic}: no broker has answered this consumer for {} s, though a new client is answered; a new one is made",
        silent.as_secs()
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn told(answer: bool) -> Receiver<bool> {
        let (sender, receiver) = mpsc::channel();
        sender.send(answer).unwrap();
        receiver
    }

    #[test]
    fn a_new_client_is_tried_after_a_while_and_only_its_answer_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        let mut tries = Vec::new();
        for seconds in 0..=95 {
            let found = silence.observe(at(seconds), || {
                tries.push(seconds);
                told(tries.len() == 3)
            });
            assert_eq!(found, (seconds == 94).then_some(Duration::from_secs(94)), "{seconds}");
            if found.is_some() {
                break;
            }
        }
        assert_eq!(tries, [31, 62, 93]);
    }

    #[test]
    fn an_answer_ends_the_silence() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        assert_eq!(silence.observe(at(0), || told(true)), None);
        silence.end();
        for seconds in [25, 50] {
            assert_eq!(silence.observe(at(seconds), || unreachable!("too early")), None);
        }
        assert_eq!(silence.observe(at(56), || told(true)), None);
        silence.end();
        assert_eq!(silence.observe(at(57), || told(true)), None, "what was asked before is of no interest");
    }

    #[test]
    fn one_client_at_a_time() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut silence = Silence::default();
        silence.observe(at(0), || unreachable!());
        let (sender, receiver) = mpsc::channel();
        silence.observe(at(31), || receiver);
        assert_eq!(silence.observe(at(200), || unreachable!("one is asking")), None);
        drop(sender);
        assert_eq!(silence.observe(at(201), || told(true)), None);
        assert_eq!(silence.observe(at(202), || unreachable!()), Some(Duration::from_secs(202)));
    }
}
