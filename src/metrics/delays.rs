//! The histogram of delays, kept apart from the recorder: that takes the samples of a histogram one by one, and keeps each
//! until its next upkeep, which costs 35 ns and 8 bytes a record. Here a batch is a few additions.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::names::{DELAY_SECONDS, SECONDS, describe};

/// By pipeline: for the life of the process, as counters are.
static PIPELINES: Mutex<BTreeMap<String, Arc<Delays>>> = Mutex::new(BTreeMap::new());

/// One pipeline's delays.
#[derive(Default)]
pub struct Delays {
    /// How many, by the first of [`SECONDS`] that is not below them; the last are above all.
    buckets: [AtomicU64; SECONDS.len() + 1],
    /// Milliseconds in all; below 0 where clocks differ.
    sum_ms: AtomicI64,
}

impl Delays {
    /// Those of a pipeline, shared by its workers.
    pub fn of(pipeline: &str) -> Arc<Delays> {
        let mut pipelines = PIPELINES.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(pipelines.entry(pipeline.to_owned()).or_default())
    }

    /// Adds the time from each of these until `now_ms`.
    pub fn record(&self, now_ms: i64, timestamps_ms: &[i64]) {
        let bounds_ms = SECONDS.map(|seconds| (seconds * 1000.0) as i64);
        let (mut counts, mut sum) = ([0u64; SECONDS.len() + 1], 0i64);
        for timestamp in timestamps_ms {
            let delay = now_ms.saturating_sub(*timestamp);
            sum = sum.saturating_add(delay);
            if let Some(count) = counts.get_mut(bounds_ms.partition_point(|bound| *bound < delay)) {
                *count += 1;
            }
        }
        for (bucket, count) in self.buckets.iter().zip(counts).filter(|(_, count)| *count > 0) {
            bucket.fetch_add(count, Ordering::Relaxed);
        }
        self.sum_ms.fetch_add(sum, Ordering::Relaxed);
    }

    fn write(&self, pipeline: &str, page: &mut String) {
        let pipeline = pipeline.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let mut count = 0;
        let bounds = SECONDS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        // Writing to a string cannot fail.
        for (bucket, bound) in self.buckets.iter().zip(bounds) {
            count += bucket.load(Ordering::Relaxed);
            let _ = writeln!(page, "{DELAY_SECONDS}_bucket{{pipeline=\"{pipeline}\",le=\"{bound}\"}} {count}");
        }
        let sum = self.sum_ms.load(Ordering::Relaxed) as f64 / 1000.0;
        let _ = writeln!(page, "{DELAY_SECONDS}_sum{{pipeline=\"{pipeline}\"}} {sum}");
        let _ = writeln!(page, "{DELAY_SECONDS}_count{{pipeline=\"{pipeline}\"}} {count}");
    }
}

/// Adds every pipeline's to the page.
pub fn render(page: &mut String) {
    let pipelines = PIPELINES.lock().unwrap_or_else(PoisonError::into_inner);
    if pipelines.is_empty() {
        return;
    }
    describe(DELAY_SECONDS, page);
    pipelines.iter().for_each(|(pipeline, delays)| delays.write(pipeline, page));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_counted_up_to_each_bound_and_summed() {
        let delays = Delays::of("delays \"test\"");
        // 5 ms and less, 6 ms, more than all bounds, and a clock ahead of ours.
        delays.record(1_000_000, &[999_995, 999_996, 999_994, 399_999, 1_000_010]);
        Delays::of("delays \"test\"").record(1_000_000, &[999_000]);
        let mut page = String::new();
        render(&mut page);
        let series = |name: &str| {
            let start = format!("pressline_delay_seconds_{name}");
            page.lines().find_map(|line| line.strip_prefix(&start)?.strip_prefix(' ')).map(str::to_owned)
        };
        let pipeline = r#"pipeline="delays \"test\"""#;
        for (bound, count) in [("0.005", 3), ("0.01", 4), ("0.5", 4), ("1", 5), ("600", 5), ("+Inf", 6)] {
            assert_eq!(series(&format!("bucket{{{pipeline},le=\"{bound}\"}}")), Some(count.to_string()), "{page}");
        }
        assert_eq!(series(&format!("count{{{pipeline}}}")), Some("6".to_owned()));
        // 5 + 4 + 6 + 600,001 - 10 + 1,000 milliseconds.
        assert_eq!(series(&format!("sum{{{pipeline}}}")), Some("601.006".to_owned()), "{page}");
        assert!(page.starts_with("# HELP pressline_delay_seconds "), "{page}");
        assert!(page.contains("# TYPE pressline_delay_seconds histogram\n"), "{page}");
    }
}
