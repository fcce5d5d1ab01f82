//! What this process has had from each registry: one that now lacks it has been restarted and has not read its log yet.

use std::collections::BTreeMap;
use std::sync::Mutex;

use super::SchemaId;

/// The newest of each kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Had {
    pub(super) id: Option<SchemaId>,
    pub(super) subject: Option<String>,
}

/// By account. Shared by all clients of the process: what one sink has had, the others believe.
static HAD: Mutex<BTreeMap<String, Had>> = Mutex::new(BTreeMap::new());

pub(super) fn had_id(account: &str, id: SchemaId) {
    note(account, |had| had.id = Some(id));
}

pub(super) fn had_subject(account: &str, subject: &str) {
    note(account, |had| had.subject = Some(subject.to_string()));
}

pub(super) fn had(account: &str) -> Had {
    HAD.lock().ok().and_then(|all| all.get(account).cloned()).unwrap_or_default()
}

fn note(account: &str, note: impl FnOnce(&mut Had)) {
    if let Ok(mut all) = HAD.lock() {
        note(all.entry(account.to_string()).or_default());
    }
}
