//! From the bytes of an ingress record to a validated [`Press`].

use std::sync::Arc;

use crate::{
    dead_letter::{Reason, Reject},
    event::{Actions, Press},
};

/// What a record may cost us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest value, in bytes.
    pub max_record_bytes: usize,
    /// Deepest nesting of arrays and objects; the record itself is the first level.
    pub max_depth: usize,
}

/// Decodes ingress records.
pub struct Decoder {
    limits: Limits,
    actions: Arc<Actions>,
}

impl Decoder {
    /// A decoder with these limits and this allow list of actions.
    pub fn new(limits: Limits, actions: Arc<Actions>) -> Self {
        Self { limits, actions }
    }

    /// Decodes one value.
    ///
    /// # Errors
    /// The first reason found.
    pub fn decode(&self, payload: Option<&[u8]>, _now_us: i64) -> Result<Press, Reject> {
        let _ = (&self.actions, self.limits, payload);
        Err(Reject::record(Reason::NotJson))
    }
}
