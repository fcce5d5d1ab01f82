//! Lines of librdkafka that say the same again and again: each client has its own connection to each broker, and while one is
//! away every one of them says so every few hundred milliseconds. The first is shown; the others are counted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long after a line the same one is only counted.
const QUIET: Duration = Duration::from_secs(30);
/// Most lines that are remembered. Beyond that they are shown.
const MOST: usize = 1_000;

/// What the process's clients have said lately.
pub(super) static LATELY: Repeated = Repeated { lines: Mutex::new(BTreeMap::new()) };

/// Lines, without what differs from one time to the next.
pub(super) struct Repeated {
    lines: Mutex<BTreeMap<String, Seen>>,
}

struct Seen {
    shown: Instant,
    /// Not shown since.
    hidden: u64,
}

impl Repeated {
    /// Whether a line is shown, and then how many like it were not since the last one that was.
    pub(super) fn admit(&self, fac: &str, message: &str, now: Instant) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let key = alike(fac, message);
        if let Some(seen) = lines.get_mut(&key) {
            if now.saturating_duration_since(seen.shown) < QUIET {
                seen.hidden += 1;
                return None;
            }
            seen.shown = now;
            return Some(std::mem::take(&mut seen.hidden));
        }
        if lines.len() < MOST {
            lines.insert(key, Seen { shown: now, hidden: 0 });
        }
        Some(0)
    }

    /// The lines that were hidden and are not said any more, with how often; they are forgotten.
    pub(super) fn over(&self, now: Instant) -> Vec<(String, u64)> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut over = Vec::new();
        lines.retain(|key, seen| {
            let is_over = now.saturating_duration_since(seen.shown) >= QUIET;
            if is_over && seen.hidden > 0 {
                over.push((key.clone(), seen.hidden));
            }
            !is_over
        });
        over
    }
}

/// The line without the client's thread and with every number as `#`: what is left tells kind and broker.
fn alike(fac: &str, message: &str) -> String {
    let text = message.strip_prefix("[thrd:").and_then(|rest| rest.split_once("]: ")).map_or(message, |(_, text)| text);
    let mut key = format!("{fac}: ");
    // Only the times and counts in brackets, not the broker's port.
    let (said, details) = text.split_once(" (").unwrap_or((text, ""));
    key.push_str(said);
    for part in details.split(|c: char| c.is_ascii_digit()).filter(|part| !part.is_empty()) {
        key.push('#');
        key.push_str(part);
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_of_every_client_is_shown_once_and_counted() {
        let lately = Repeated { lines: Mutex::new(BTreeMap::new()) };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let line = |thread: &str, ms: u32, port: u32| {
            format!(
                "[thrd:{thread}]: b{port}:{port}/1: Connect to b{port}:{port} failed: Connection refused (after {ms}ms in state CONNECT)"
            )
        };
        assert_eq!(lately.admit("FAIL", &line("a", 0, 9092), at(0)), Some(0));
        for second in 1..30 {
            assert_eq!(lately.admit("FAIL", &line("b", second, 9092), at(u64::from(second))), None);
        }
        assert_eq!(lately.admit("FAIL", &line("a", 7, 9093), at(5)), Some(0), "another broker");
        assert_eq!(lately.admit("REQTMOUT", &line("a", 7, 9092), at(5)), Some(0), "another kind");
        assert_eq!(lately.admit("FAIL", &line("a", 12, 9092), at(31)), Some(29));
        assert_eq!(lately.admit("FAIL", &line("a", 12, 9092), at(32)), None);
        let over = lately.over(at(70));
        assert_eq!(over.len(), 1, "{over:?}");
        assert_eq!(over[0].1, 1);
        assert!(lately.over(at(70)).is_empty());
    }
}
