//! Named places where a test may kill the process, to prove what a crash there does. Builds without the feature
//! `fail-points` (all releases) hold none of it.

/// The process reached `name`.
#[cfg(not(feature = "fail-points"))]
#[inline(always)]
pub fn hit(_name: &str) {}

/// The process reached `name`: `PRESSLINE_FAIL_POINT=name` kills it here, `name:7` at the seventh time.
#[cfg(feature = "fail-points")]
pub fn hit(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    static CHOSEN: OnceLock<Option<(String, u64)>> = OnceLock::new();
    static HITS: AtomicU64 = AtomicU64::new(0);
    let chosen = CHOSEN.get_or_init(|| {
        let text = std::env::var("PRESSLINE_FAIL_POINT").ok()?;
        let (name, count) = text.split_once(':').unwrap_or((&text, "1"));
        Some((name.to_string(), count.parse().unwrap_or(1)))
    });
    if let Some((chosen, count)) = chosen
        && chosen == name
        && HITS.fetch_add(1, Ordering::Relaxed) + 1 == *count
    {
        // As kill -9: no destructors, no goodbye to the group.
        std::process::abort();
    }
}
