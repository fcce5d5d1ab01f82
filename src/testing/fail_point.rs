//! Named places where a test may kill the process, to prove what a crash there does. Builds without the feature
//! `fail-points` (all releases) hold none of it.
//!
//! `PRESSLINE_FAIL_POINT=name` kills at that place, `name:7` at the seventh time. In the order of a batch the places are
//! `after_produce`, `after_send_offsets`, `before_commit`, `during_end_txn`, `after_commit`; of a batch into PostgreSQL
//! `pg_after_copy`, `pg_before_commit`, `pg_during_commit`, `pg_after_commit`; of one into ClickHouse `ch_after_pending`,
//! `ch_mid_body`, `ch_after_insert`. Where dead letters are replayed, they are `letters_between` (a relay's outputs and their marks),
//! `pg_before_letter`, `pg_after_letter` and `ch_before_letter`, beside those of the commit. At `panic_in_record` there is a panic instead, whose message
//! quotes the record.

/// The process reached `name`: where the test chose it, it is killed here.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn hit(_name: &str) {}

/// As [`hit`], but killed within the next few milliseconds, in the middle of what comes next.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn soon(_name: &str) {}

/// As [`hit`], but with a panic that quotes what was being handled, as a careless line of code would.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn quote(_name: &str, _handled: Option<&[u8]>) {}

#[cfg(feature = "fail-points")]
pub use chosen::{hit, quote, soon};

#[cfg(feature = "fail-points")]
mod chosen {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    /// The process reached `name`: where the test chose it, it is killed here.
    pub fn hit(name: &str) {
        if is_due(name) {
            // As kill -9: no destructors, no goodbye to the group.
            std::process::abort();
        }
    }

    /// As [`hit`], but killed within the next few milliseconds, in the middle of what comes next.
    pub fn soon(name: &str) {
        if is_due(name) {
            // A request takes a millisecond or two here: up to three, so that kills hit it at its begin, within and
            // after it. The process id is as good as a random number.
            let delay = Duration::from_micros(u64::from(std::process::id() % 16) * 200);
            std::thread::spawn(move || {
                std::thread::sleep(delay);
                std::process::abort();
            });
        }
    }

    /// As [`hit`], but with a panic that quotes what was being handled, as a careless line of code would.
    #[allow(clippy::panic)]
    pub fn quote(name: &str, handled: Option<&[u8]>) {
        if is_due(name) {
            panic!("cannot handle {}", String::from_utf8_lossy(handled.unwrap_or_default()));
        }
    }

    fn is_due(name: &str) -> bool {
        static CHOSEN: OnceLock<Option<(String, u64)>> = OnceLock::new();
        static HITS: AtomicU64 = AtomicU64::new(0);
        let chosen = CHOSEN.get_or_init(|| {
            let text = std::env::var("PRESSLINE_FAIL_POINT").ok()?;
            let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
            Some((name.to_string(), count.parse().unwrap_or(1)))
        });
        matches!(chosen, Some((chosen, count)) if chosen == name && HITS.fetch_add(1, Ordering::Relaxed) + 1 == *count)
    }
}
