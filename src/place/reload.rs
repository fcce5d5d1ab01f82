//! GeoIP databases that are replaced while pressline runs: files are watched, read again, and each load is logged.
//!
//! A file may be replaced by a rename, rewritten in place, or be a link that is made to lead elsewhere. The system
//! tells of that where it can (inotify; not on network file systems), and a slow poll sees what it does not tell.
//! SIGHUP reads everything at once.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use ::notify::event::{AccessKind, AccessMode, EventKind};
use ::notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{Notify, oneshot, watch};

use crate::config::{OnStale, PlaceConfig};
use crate::metrics::{self, Reload};
use crate::place::{Chain, DatabaseInfo, DatabaseSet, Places, ReloadEvent};
use crate::runtime::figures::PlaceDatabase;
use crate::runtime::status::Status;

/// Words of a file system come in swarms: they are listened to for so long before a look.
const DEBOUNCE: Duration = Duration::from_millis(200);
/// Between looks at a file that is being written.
const UNSETTLED: Duration = Duration::from_millis(500);
/// Between looks at the age of what is loaded.
const AGE_CHECK: Duration = Duration::from_secs(60);
/// How often the warning about a stale database is repeated.
const TOLD_AGAIN: Duration = Duration::from_secs(86_400);
/// Of 20 steps down from the usual priority.
const LOW_PRIORITY: i32 = 15;
/// Links that are followed from one file name to the next.
const MOST_LINKS: usize = 16;

/// Keeps a set of `files` up to date for as long as anyone uses it. `poll` as [`PlaceConfig::poll`].
pub async fn keep(database_set: Weak<DatabaseSet>, files: Vec<PathBuf>, poll: Option<Duration>) {
    let changed = Arc::new(Notify::new());
    // None of the signals is missed from here on; without them the files are watched all the same.
    let mut hangups = signal(SignalKind::hangup()).ok();
    let mut watched = poll.map(|_| watch_files(&files, &changed));
    let mut unsettled = false;
    loop {
        let hangup = async {
            match &mut hangups {
                Some(hangups) => hangups.recv().await,
                None => std::future::pending().await,
            }
        };
        let pause = async {
            match poll {
                _ if unsettled => tokio::time::sleep(UNSETTLED).await,
                Some(poll) => tokio::time::sleep(poll).await,
                None => std::future::pending().await,
            }
        };
        let urgent = tokio::select! {
            _ = hangup => true,
            () = changed.notified() => {
                tokio::time::sleep(DEBOUNCE).await;
                false
            }
            () = pause => false,
        };
        let Some(database_set) = database_set.upgrade() else { return };
        let events = look(database_set, urgent).await;
        unsettled = events.iter().any(|events| matches!(events, ReloadEvent::Unsettled));
        events.iter().for_each(tell);
        // Links may lead to other folders now.
        if !events.is_empty() && !unsettled && watched.is_some() {
            watched = poll.map(|_| watch_files(&files, &changed));
        }
    }
}

/// Looks on a thread of its own, which steps back where others have work: reading a full database takes seconds of a core, and
/// no event is to wait for it.
async fn look(database_set: Arc<DatabaseSet>, urgent: bool) -> Vec<ReloadEvent> {
    let (tell, told) = oneshot::channel();
    let thread = std::thread::Builder::new().name("pressline-places".into()).spawn(move || {
        // Elsewhere this would be of the whole process. Where it is not allowed, the thread takes its turn with the others.
        if cfg!(target_os = "linux") {
            let _ = rustix::process::setpriority_process(None, LOW_PRIORITY);
        }
        let _ = tell.send(database_set.look(urgent));
    });
    if let Err(error) = thread {
        tracing::warn!("GeoIP databases cannot be looked at now: no thread can be started: {error}");
    }
    told.await.unwrap_or_default()
}

fn tell(events: &ReloadEvent) {
    match events {
        ReloadEvent::Taken { path, info } => {
            metrics::mmdb_reload(&name_of(path), Some(Reload::Taken));
            tracing::info!(
                file = %path.display(), kind = %info.database_type, built = %day(info.build_epoch),
                networks_v4 = info.networks_v4, networks_v6 = info.networks_v6, attribution = %info.attribution,
                "GeoIP database replaced"
            );
        }
        ReloadEvent::Refused { path, reason } => {
            metrics::mmdb_reload(&name_of(path), Some(Reload::Refused));
            tracing::error!(
                file = %path.display(),
                "GeoIP database refused, the one that was loaded stays in use: {reason}"
            );
        }
        ReloadEvent::Unsettled => {}
    }
}

/// As in [`DatabaseInfo::file`].
fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The day of a time in seconds since 1970.
fn day(epoch: u64) -> String {
    let time = i64::try_from(epoch).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.map_or_else(|| format!("{epoch} s after 1970"), |time| time.strftime("%Y-%m-%d").to_string())
}

/// Has `changed` notified when something happens in the folders of the files. None where the system refuses: the poll
/// remains.
fn watch_files(paths: &[PathBuf], changed: &Arc<Notify>) -> Option<RecommendedWatcher> {
    let notified = Arc::clone(changed);
    let watcher = ::notify::recommended_watcher(move |event: ::notify::Result<::notify::Event>| {
        // Reading is no change, and we read. An error may hide one.
        let is_read = |kind: &EventKind| matches!(kind, EventKind::Access(access) if *access != AccessKind::Close(AccessMode::Write));
        if !event.is_ok_and(|event| is_read(&event.kind)) {
            notified.notify_one();
        }
    });
    let told = |error: ::notify::Error| {
        tracing::warn!(
            "changes of GeoIP databases are seen by the poll only: the system does not tell of them: {error}"
        );
    };
    let mut watcher = watcher.map_err(told).ok()?;
    for folder in folders(paths) {
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            told(error);
        }
    }
    // What happened before it listened.
    changed.notify_one();
    Some(watcher)
}

/// The folders in which a change can make one of the paths another file: its own, and those of the links on the way.
fn folders(paths: &[PathBuf]) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    for path in paths {
        let mut path = path.clone();
        for _ in 0..MOST_LINKS {
            let folder = match path.parent() {
                Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
                _ => PathBuf::from("."),
            };
            // The folder may be a link itself, as in Kubernetes' volumes: then what counts is the folder of that link.
            if folder.is_symlink() {
                folders.extend(folder.parent().map(Path::to_path_buf));
            }
            folders.insert(folder.clone());
            match std::fs::read_link(&path) {
                Ok(target) => path = folder.join(target),
                Err(_) => break,
            }
        }
    }
    folders
}

/// What a pipeline tells of its databases: metrics, credits, and what comes of their age.
pub struct Follower {
    /// The pipeline's name.
    pub pipeline: String,
    /// Its settings.
    pub config: PlaceConfig,
    /// The steps behind the databases, which want to be credited too.
    pub chain: Arc<Chain>,
    /// What `/readyz` tells.
    pub status: Arc<Status>,
    /// Set while output records are to be tagged since a database is stale.
    pub tag: Arc<AtomicBool>,
}

impl Follower {
    /// Tells what is loaded, now and whenever it changes, and looks at its age from time to time.
    pub async fn follow(self, mut databases: watch::Receiver<Arc<Places>>) {
        let mut told = None;
        loop {
            let loaded = databases.borrow_and_update().databases();
            let credits = loaded.iter().map(|database| self.config.credit(database.attribution));
            self.status.credit(credits.chain(self.chain.attributions().map(|credit| -> &str { credit })));
            for database in &loaded {
                metrics::mmdb_build(&self.pipeline, &database.file, database.build_epoch);
            }
            self.look_at_age(&loaded, SystemTime::now(), &mut told);
            tokio::select! {
                changed = databases.changed() => if changed.is_err() {
                    // Databases that never change grow old all the same.
                    tokio::time::sleep(AGE_CHECK).await;
                },
                () = tokio::time::sleep(AGE_CHECK) => {}
            }
        }
    }

    fn place_database(&self, database: &DatabaseInfo, now: SystemTime) -> PlaceDatabase {
        PlaceDatabase {
            file: database.file.clone(),
            kind: database.database_type.clone(),
            build_epoch: database.build_epoch,
            is_stale: stale_days(database, self.config.max_age_days, now).is_some(),
        }
    }

    /// `told` is when staleness was last told in the log.
    fn look_at_age(&self, loaded: &[DatabaseInfo], now: SystemTime, told: &mut Option<Instant>) {
        let mut stale = Vec::new();
        for database in loaded {
            let days = stale_days(database, self.config.max_age_days, now);
            metrics::mmdb_stale(&self.pipeline, &database.file, days.is_some());
            stale.extend(days.map(|days| format!("{} was built {days} days ago", database.file)));
        }
        let message = format!("{}; place.max_age_days is {}", stale.join(", "), self.config.max_age_days);
        self.tag.store(!stale.is_empty() && self.config.on_stale == OnStale::Tag, Ordering::Relaxed);
        let unready = !stale.is_empty() && self.config.on_stale == OnStale::FailReadiness;
        self.status.place_databases(loaded.iter().map(|database| self.place_database(database, now)).collect());
        self.status.set("GeoIP databases", if unready { &message } else { "" });
        if stale.is_empty() {
            *told = None;
        } else if told.is_none_or(|told| told.elapsed() >= TOLD_AGAIN) {
            *told = Some(Instant::now());
            tracing::warn!(pipeline = %self.pipeline, "stale GeoIP database: {message}; put a newer file in its place");
        }
    }
}

/// The age of a database in whole days, if that is more than `max_age_days` (0: no limit).
pub fn stale_days(database: &DatabaseInfo, max_age_days: u64, now: SystemTime) -> Option<u64> {
    let now = now.duration_since(UNIX_EPOCH).ok()?.as_secs();
    let age = now.saturating_sub(database.build_epoch);
    (max_age_days > 0 && age > max_age_days.saturating_mul(86_400)).then_some(age / 86_400)
}
