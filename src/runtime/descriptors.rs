//! File descriptors: as many as the system allows, and how many are open. A pipeline with relay and both sinks takes about 35.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Warned of from this share of the limit on.
const MANY: f64 = 0.8;

/// Raises the soft limit to the hard one: the usual 1,024 are for programs that use `select`, which nothing here does.
pub fn raise_limit() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        // One that may not be raised is warned of when it is nearly reached.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    }
}

/// Open ones; unknown where there is no /proc.
pub fn open() -> Option<usize> {
    // The folder that is read counts as one.
    Some(std::fs::read_dir("/proc/self/fd").ok()?.count().saturating_sub(1))
}

/// The most that may be open; `None` without a limit.
pub fn limit() -> Option<u64> {
    getrlimit(Resource::Nofile).current
}

/// Whether an error says that there are none left, which passes when some are closed. By its words, since files, sockets and
/// librdkafka's own threads all say it in their way.
pub fn are_lacking(message: &str) -> bool {
    ["Too many open files", "(os error 24)", "(os error 23)"].iter().any(|words| message.contains(words))
}

/// Looks now and then whether they run out.
#[derive(Debug, Default)]
pub struct Watch {
    warned: bool,
}

impl Watch {
    /// Warns when most are used, once until some are free again.
    pub fn look(&mut self) {
        let Some((open, limit)) = open().zip(limit()) else { return };
        let many = open as f64 > limit as f64 * MANY;
        if many && !self.warned {
            tracing::warn!(
                open,
                limit,
                "most file descriptors are in use; raise the limit (LimitNOFILE= of systemd, ulimit -Hn) or run fewer pipelines in a process"
            );
        }
        self.warned = many;
    }
}
