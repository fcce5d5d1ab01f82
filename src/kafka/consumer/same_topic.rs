//! Whether the topic is still the one that the worker began with, and not another of that name.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use super::asker::Asker;
use super::topic::another_topic_of;
use super::{Source, SourceError};
use crate::kafka::advice::Advice;
use crate::kafka::topic_id::TopicId;
use crate::runtime::backoff::Backoff;
use crate::runtime::supervise::sleep_unless;

/// How often the topic is asked.
const INTERVAL: Duration = Duration::from_secs(30);
/// When nothing came for so long, the topic is asked before what comes next is used: only unseen can it have been deleted, made
/// again and grown past our position, from where librdkafka would go on reading without a word.
const SILENCE: Duration = Duration::from_millis(50);
/// How long a batch waits for the answer, asked again and again, before a new consumer is made: well within
/// `max.poll.interval.ms`.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

impl Source {
    /// [`Self::same_topic`], every half minute. To be called between batches; not asked while no broker can be reached, which
    /// would only hold the worker up.
    pub fn same_topic_still(&self) -> Result<(), SourceError> {
        if !self.in_touch() || self.state.topic_asked.get().elapsed() <= INTERVAL {
            return Ok(());
        }
        self.state.topic_asked.set(Instant::now());
        self.same_topic()
    }

    /// Refuses if the topic's id is not the one the worker began with. Gone or no answer is no refusal: whether it comes back as
    /// another is asked again later.
    pub(super) fn same_topic(&self) -> Result<(), SourceError> {
        match self.question().ask() {
            Err(SourceError::Transient(_)) => Ok(()),
            known => known,
        }
    }

    /// A record has come that begins a batch. After a silence the topic is asked now, on a thread of its own, so that the answer is
    /// mostly there when the batch is full.
    pub(super) fn heard(&self) {
        let lately = self.state.heard.get().elapsed() <= SILENCE;
        if lately || self.consumer.context().topic_id.is_none() {
            return;
        }
        let (answered, answer) = mpsc::channel();
        let question = self.question();
        let spawned = std::thread::Builder::new().name("pressline-topic".into()).spawn(move || {
            let _ = answered.send(question.ask());
        });
        // Without a thread there is no answer, and the question is put again where it is waited for.
        if spawned.is_ok() {
            self.state.topic_answer.set(Some(answer));
        }
    }

    /// To be called when a batch has come, before it is used: waits for the answer that [`Self::heard`] has asked for. One that
    /// fails is asked for again, while the consumer stays in its group.
    pub fn same_topic_after_silence(&self) -> Result<(), SourceError> {
        let lately = self.state.heard.get().elapsed() <= SILENCE;
        let answer = self.state.topic_answer.take();
        if !lately || answer.is_some() {
            self.await_same_topic(answer)?;
        }
        self.state.heard.set(Instant::now());
        Ok(())
    }

    fn await_same_topic(&self, mut answer: Option<Receiver<Result<(), SourceError>>>) -> Result<(), SourceError> {
        let (begun, mut pause) = (Instant::now(), Backoff::default());
        loop {
            let same = match answer.take().map(|answer| answer.recv_timeout(ANSWER_WITHIN)) {
                Some(Ok(same)) => same,
                None | Some(Err(RecvTimeoutError::Disconnected | RecvTimeoutError::Timeout)) => self.question().ask(),
            };
            let Err(SourceError::Transient(fault)) = same else { return same };
            let stop = &self.consumer.context().stop;
            if begun.elapsed() >= ANSWER_WITHIN || stop.load(Ordering::Acquire) {
                return Err(SourceError::Transient(fault));
            }
            tracing::debug!(topic = %self.topic, %fault, "asked again");
            sleep_unless(pause.next_wait(), stop);
        }
    }

    fn question(&self) -> Question {
        let context = self.consumer.context();
        Question {
            asker: Arc::clone(&self.asker),
            topic: self.topic.clone(),
            known: context.topic_id.clone(),
            advice: context.advice.clone(),
        }
    }
}

/// Whether the topic is the same, to be asked anywhere.
struct Question {
    asker: Arc<Asker>,
    topic: String,
    known: Option<TopicId>,
    advice: Advice,
}

impl Question {
    /// As [`Source::same_topic`], where records are about to be used of which that is in doubt: no answer is an error too.
    fn ask(&self) -> Result<(), SourceError> {
        let Self { asker, topic, known, advice } = self;
        let Some(known) = known else { return Ok(()) };
        match asker.topic_id(topic) {
            Ok(Some(current)) if current != *known => Err(another_topic_of(topic, advice, 0, known.as_str(), &current)),
            Ok(_) => Ok(()),
            Err(error) => Err(SourceError::transient(format!(
                "topic {topic}: whether it is still the same cannot be told, so what was read of it is read again: {error}"
            )).about(|fault| fault.topic(topic))),
        }
    }
}
