//! Asks the brokers about topics, over connections of its own: on the consumer's a fetch waits for records, for as long as
//! `fetch.wait.max.ms`, and a broker answers what comes behind it only then. One for all workers of the process that have the
//! same brokers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::error::SourceError;
use crate::config::KafkaConfig;
use crate::kafka::client::{self, METADATA_TIMEOUT, Role};
use crate::kafka::reach::{Probe, complaint};
use crate::kafka::topic_id::{self, TopicId, TopicIdError};
use crate::runtime::supervise::drop_in_background;

/// Those in use, by how they connect.
static ASKERS: Mutex<BTreeMap<String, Weak<Asker>>> = Mutex::new(BTreeMap::new());

/// A client that is in no group and reads nothing.
pub(super) struct Asker(Option<BaseConsumer<Probe>>);

impl Asker {
    /// The one for these brokers. Errors: the client cannot be made.
    pub(super) fn of(kafka: &KafkaConfig) -> Result<Arc<Self>, SourceError> {
        // Secrets stand in files or in the environment, not in there.
        let key = serde_json::to_string(kafka).unwrap_or_default();
        let mut askers = ASKERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(asker) = askers.get(&key).and_then(Weak::upgrade) {
            return Ok(asker);
        }
        let config =
            client::client_config(kafka, Role::Consumer).map_err(|error| SourceError::refused(error.to_string()))?;
        let client = config
            .create_with_context(Probe::default())
            .map_err(|error| SourceError::refused(format!("cannot make a consumer: {error}")))?;
        let asker = Arc::new(Self(Some(client)));
        askers.retain(|_, other| other.strong_count() > 0);
        askers.insert(key, Arc::downgrade(&asker));
        Ok(asker)
    }

    /// Leaves it to those who have it: who comes next gets a new one, which reads the secrets again.
    pub(super) fn retire(&self) {
        let mut askers = ASKERS.lock().unwrap_or_else(PoisonError::into_inner);
        askers.retain(|_, other| other.as_ptr() != std::ptr::from_ref(self));
    }

    /// The id of a topic; `None` where the brokers have none.
    pub(super) fn topic_id(&self, topic: &str) -> Result<Option<TopicId>, TopicIdError> {
        match &self.0 {
            Some(client) => topic_id::topic_id(client.client(), topic, METADATA_TIMEOUT),
            None => Ok(None),
        }
    }

    /// What librdkafka complained about, to be added to an error.
    pub(super) fn complaint(&self) -> String {
        let complaint = self.0.as_ref().and_then(complaint);
        complaint.map(|complaint| format!("; {complaint}")).unwrap_or_default()
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(drop_in_background);
    }
}
