//! Whether the topic is still the one that the worker began with, and not another of that name.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;

use super::position::another_topic;
use super::{Source, SourceError};
use crate::kafka::client::METADATA_TIMEOUT;
use crate::kafka::topic_id;

/// How often the topic is asked.
const INTERVAL: Duration = Duration::from_secs(30);
/// When nothing came for so long, the topic is asked before what comes next is used: only unseen can it have been deleted, made
/// again and grown past our position, from where librdkafka would go on reading without a word.
const SILENCE: Duration = Duration::from_millis(50);

impl Source {
    /// [`Self::same_topic`], every half minute. To be called between batches; not asked while no broker can be reached, which
    /// would only hold the worker up.
    pub fn same_topic_still(&self) -> Result<(), SourceError> {
        let Ok(mut asked) = self.topic_asked.lock() else { return Ok(()) };
        if !self.in_touch() || asked.elapsed() <= INTERVAL {
            return Ok(());
        }
        *asked = Instant::now();
        drop(asked);
        self.same_topic()
    }

    /// Refuses if the topic's id is not the one the worker began with. Gone or no answer is no refusal: whether it comes back as
    /// another is asked again later.
    pub(super) fn same_topic(&self) -> Result<(), SourceError> {
        match self.surely_same_topic() {
            Err(SourceError::Transient(_)) => Ok(()),
            known => known,
        }
    }

    /// To be called when a batch has come, before it is used: [`Self::surely_same_topic`], if nothing had come for a while.
    pub fn same_topic_after_silence(&self) -> Result<(), SourceError> {
        let lately = self.heard.lock().is_ok_and(|heard| heard.elapsed() <= SILENCE);
        if !lately {
            self.surely_same_topic()?;
        }
        if let Ok(mut heard) = self.heard.lock() {
            *heard = Instant::now();
        }
        Ok(())
    }

    /// As [`Self::same_topic`], where records are about to be used of which that is in doubt: no answer is an error too.
    fn surely_same_topic(&self) -> Result<(), SourceError> {
        let context = self.consumer.context();
        let Some(known) = &context.topic_id else { return Ok(()) };
        match topic_id::topic_id(self.consumer.client(), &self.topic, METADATA_TIMEOUT) {
            Ok(Some(current)) if current != *known => Err(another_topic(context, 0, known.as_str(), &current)),
            Ok(_) => Ok(()),
            Err(error) => Err(SourceError::Transient(format!(
                "topic {}: whether it is still the same cannot be told, so what was read of it is read again: {error}",
                self.topic
            ))),
        }
    }
}
