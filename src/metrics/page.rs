//! The text of `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write;

use ::metrics::gauge;
use metrics_exporter_prometheus::PrometheusHandle;

use super::delays;
use super::names::{PROCESS_CPU, PROCESS_MEMORY, describe};

/// The value of a gauge whose series ends: the recorder cannot forget a series once it has one, so the page leaves it out
/// until it has a number again.
pub const ENDED: f64 = f64::NAN;

/// Every series in Prometheus' text format, with memory and CPU time of the process as they are now.
pub fn render(handle: &PrometheusHandle) -> String {
    if let Some(bytes) = resident_bytes() {
        gauge!(PROCESS_MEMORY).set(bytes);
    }
    let recorded = handle.render();
    let mut page = String::with_capacity(recorded.len() + 256);
    for line in ordered(&recorded) {
        page.push_str(line);
        page.push('\n');
    }
    delays::render(&mut page);
    // Not by the recorder, whose counters are whole numbers.
    if let Some(seconds) = cpu_seconds() {
        describe(PROCESS_CPU, &mut page);
        // Writing to a string cannot fail.
        let _ = writeln!(page, "{PROCESS_CPU} {seconds}");
    }
    page
}

/// The lines by name and labels: the recorder gives them in an order that changes from start to start.
fn ordered(recorded: &str) -> Vec<&str> {
    let mut families: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut name = "";
    for line in recorded.lines().filter(|line| !line.is_empty() && !line.ends_with(" NaN")) {
        if let Some(about) = line.strip_prefix("# ") {
            name = about.split(' ').nth(1).unwrap_or_default();
        }
        families.entry(name).or_default().push(line);
    }
    for lines in families.values_mut() {
        // Stable: the buckets of a series stay in the order of their bounds, its sum and count behind them.
        lines.sort_by_key(|line| labels(line));
    }
    families.into_values().flatten().collect()
}

/// The labels of a series without a bucket's bound; none of help and kind, which thus come first.
fn labels(line: &str) -> Option<&str> {
    if line.starts_with('#') {
        return None;
    }
    let inside = line.split_once('{').and_then(|(_, rest)| rest.rsplit_once('}')).map_or("", |(inside, _)| inside);
    let inside = inside.rsplit_once("le=\"").map_or(inside, |(before, _)| before);
    Some(inside.trim_end_matches(','))
}

/// Resident memory by /proc.
pub fn resident_bytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kb = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?;
    Some(kb.parse::<f64>().ok()? * 1024.0)
}

/// User and system time by /proc.
pub fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field, the command, may hold blanks: count from its closing bracket.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut ticks = rest.split_whitespace().skip(11).map_while(|number| number.parse::<f64>().ok());
    // USER_HZ is 100 on every Linux that Rust's std supports.
    Some((ticks.next()? + ticks.next()?) / 100.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use ::metrics::with_local_recorder;
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::metrics::LAG_RECORDS;

    #[test]
    fn an_ended_series_is_left_out_until_it_has_a_number_again() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let page = |value: f64| {
            with_local_recorder(&recorder, || {
                gauge!(LAG_RECORDS, "partition" => "0").set(3.0);
                gauge!(LAG_RECORDS, "partition" => "1").set(value);
                render(&recorder.handle())
            })
        };
        let series = |page: &str| page.lines().filter(|line| line.starts_with(LAG_RECORDS)).count();
        assert_eq!(series(&page(7.0)), 2);
        let ended = page(ENDED);
        assert_eq!(series(&ended), 1, "{ended}");
        assert!(ended.contains("partition=\"0\"} 3\n"), "{ended}");
        assert_eq!(series(&page(0.0)), 2);
    }

    #[test]
    fn series_are_in_order_and_buckets_stay_in_that_of_their_bounds() {
        let recorded = "# TYPE b histogram\nb_bucket{p=\"2\",le=\"10\"} 0\nb_bucket{p=\"2\",le=\"+Inf\"} 1\nb_sum{p=\"2\"} 4\n\
                        b_bucket{p=\"1\",le=\"10\"} 0\nb_sum{p=\"1\"} 5\n\n# TYPE a gauge\na{x=\"2\"} 1\na{x=\"1\"} 2\n";
        let expected = [
            "# TYPE a gauge",
            "a{x=\"1\"} 2",
            "a{x=\"2\"} 1",
            "# TYPE b histogram",
            "b_bucket{p=\"1\",le=\"10\"} 0",
            "b_sum{p=\"1\"} 5",
            "b_bucket{p=\"2\",le=\"10\"} 0",
            "b_bucket{p=\"2\",le=\"+Inf\"} 1",
            "b_sum{p=\"2\"} 4",
        ];
        assert_eq!(ordered(recorded), expected);
    }

    #[test]
    fn cpu_time_is_a_counter_with_fractions_of_a_second() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let page = with_local_recorder(&recorder, || render(&recorder.handle()));
        assert!(page.contains("# TYPE process_cpu_seconds_total counter\n"), "{page}");
        let value = page.lines().find_map(|line| line.strip_prefix("process_cpu_seconds_total ")).unwrap();
        assert!(value.parse::<f64>().is_ok_and(|seconds| seconds >= 0.0), "{page}");
    }
}
