//! The databases in use, and what lies in their files now: a replaced file is taken while events flow, or refused.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::probe;
use crate::place::database::Database;
use crate::place::{DatabaseInfo, PlaceError, Places};

/// A file that has changed is not read before it has been left alone for so long.
pub const SETTLE: Duration = Duration::from_secs(2);

/// A set of database files. What was loaded from them is handed out by [`DatabaseSet::subscribe`]; [`DatabaseSet::look`] takes what
/// has been put in their place.
pub struct DatabaseSet {
    current: watch::Sender<Arc<Places>>,
    counted: bool,
    /// How long a changed file must have been left alone.
    settle: Duration,
    /// In order of precedence; held for as long as one look takes.
    slots: Mutex<Vec<DatabaseSlot>>,
}

/// What a look at the files found, for each that has changed.
#[derive(Debug)]
pub enum ReloadEvent {
    /// It is loaded and in use.
    Taken {
        /// Path as configured.
        path: PathBuf,
        /// What it is.
        info: Box<DatabaseInfo>,
    },
    /// It cannot be used; what was loaded stays in use.
    Refused {
        /// Path as configured.
        path: PathBuf,
        /// Why, in words that name the file.
        reason: String,
    },
    /// It is being written, or was until just now: look again in a moment.
    Unsettled,
}

/// A file's place.
struct DatabaseSlot {
    path: PathBuf,
    /// What was read last, whether it was taken or refused.
    read: Option<Fingerprint>,
    /// What was seen there last, and since when.
    seen: Option<(Option<Fingerprint>, Instant)>,
}

/// Tells whether a file was written or another one put in its place; of a link, the file that it leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Fingerprint {
    /// None where there is no file that can be asked.
    fn of(path: &Path) -> Option<Fingerprint> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Fingerprint {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// What to do about a file.
enum ReloadDecision {
    AsBefore,
    Unsettled,
    Read(Option<Fingerprint>),
}

impl DatabaseSet {
    /// Reads and verifies the files, in order of precedence; with `counted`, counts the addresses of their cities too.
    ///
    /// Errors: as for [`Places::open`].
    pub fn open(paths: &[PathBuf], counted: bool) -> Result<DatabaseSet, PlaceError> {
        // Before they are read: a change in between is seen by the first look.
        let slots =
            paths.iter().map(|path| DatabaseSlot { path: path.clone(), read: Fingerprint::of(path), seen: None });
        let slots = slots.collect();
        let places = if counted { Places::open_counted(paths)? } else { Places::open(paths)? };
        Ok(DatabaseSet {
            current: watch::Sender::new(Arc::new(places)),
            counted,
            settle: SETTLE,
            slots: Mutex::new(slots),
        })
    }

    /// Databases that never change, such as the bundled one.
    pub fn fixed(places: Arc<Places>) -> DatabaseSet {
        let slots = Mutex::new(Vec::new());
        DatabaseSet { current: watch::Sender::new(places), counted: false, settle: SETTLE, slots }
    }

    /// What is loaded, and word of every change of it. Asking whether there was one costs a read of one number.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Places>> {
        self.current.subscribe()
    }

    /// Reads what has changed and was left alone since, verifies it, tries it with sample addresses, and takes it.
    /// `urgent` reads every file, changed or not, and waits for none to settle. Takes seconds; not for a thread that
    /// serves others.
    pub fn look(&self, urgent: bool) -> Vec<ReloadEvent> {
        let Ok(mut slots) = self.slots.lock() else { return Vec::new() };
        let before = Arc::clone(&self.current.borrow());
        let mut places = Arc::clone(&before);
        let mut events = Vec::new();
        for (index, slot) in slots.iter_mut().enumerate() {
            let found = match slot.decision(urgent, self.settle) {
                ReloadDecision::AsBefore => continue,
                ReloadDecision::Unsettled => {
                    events.push(ReloadEvent::Unsettled);
                    continue;
                }
                ReloadDecision::Read(found) => found,
            };
            let database = Database::open(&slot.path, self.counted);
            if Fingerprint::of(&slot.path) != found {
                // Written while it was read: whatever came of that is not what will be there in the end.
                events.push(ReloadEvent::Unsettled);
                continue;
            }
            slot.read = found;
            let path = slot.path.clone();
            match database.map_err(|error| error.to_string()).and_then(|database| judge(&places, index, database)) {
                Ok((next, info)) => {
                    places = Arc::new(next);
                    events.push(ReloadEvent::Taken { path, info: Box::new(info) });
                }
                Err(reason) => events.push(ReloadEvent::Refused { path, reason }),
            }
        }
        if places.generation() != before.generation() {
            self.current.send_replace(places);
        }
        events
    }
}

/// The databases with the new one among them. Errors: why not, in words that name the file.
fn judge(places: &Places, index: usize, database: Database) -> Result<(Places, DatabaseInfo), String> {
    let info = database.info().clone();
    let next = places.with(index, database);
    probe::compare(places, &next).map_err(|reason| format!("{}: {reason}", info.file))?;
    Ok((next, info))
}

impl DatabaseSlot {
    fn decision(&mut self, urgent: bool, settle: Duration) -> ReloadDecision {
        let found = Fingerprint::of(&self.path);
        if urgent {
            return ReloadDecision::Read(found);
        }
        if found == self.read {
            self.seen = None;
            return ReloadDecision::AsBefore;
        }
        match self.seen {
            Some((seen, since)) if seen == found => {
                if since.elapsed() >= settle {
                    return ReloadDecision::Read(found);
                }
            }
            _ => self.seen = Some((found, Instant::now())),
        }
        ReloadDecision::Unsettled
    }
}

#[cfg(test)]
#[path = "set/tests.rs"]
mod tests;
