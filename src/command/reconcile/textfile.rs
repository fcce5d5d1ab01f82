//! A comparison's result as metrics in a file, for node_exporter's textfile collector.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use super::Outcome;
use crate::metrics::{Metric, MetricKind};

/// The metrics of the file; those of a running pressline are [`crate::metrics::ALL`].
pub const METRICS: [Metric; 4] = [
    gauge("pressline_reconcile_missing_rows", "Records without a row, by the last comparison"),
    gauge("pressline_reconcile_duplicate_rows", "Rows beside the first of the same record, by the last comparison"),
    gauge("pressline_reconcile_stray_rows", "Rows without a record, by the last comparison"),
    gauge(
        "pressline_reconcile_last_run_timestamp_seconds",
        "When the table was last compared with the topic, Unix time",
    ),
];

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, labels: "pipeline,sink", help }
}

/// The file's text; `now`: seconds since 1970.
pub fn page(pipeline: &str, outcomes: &[(&'static str, Outcome)], now: i64) -> String {
    let mut page = String::new();
    for (at, Metric { name, help, .. }) in METRICS.iter().enumerate() {
        // Writing to a string cannot fail. Names of pipelines and sinks need no escapes (see the configuration).
        let _ = write!(page, "# HELP {name} {help}\n# TYPE {name} gauge\n");
        for (sink, outcome) in outcomes {
            let values = [outcome.missing, outcome.surplus, outcome.stray, u64::try_from(now).unwrap_or_default()];
            let value = values.get(at).copied().unwrap_or_default();
            let _ = writeln!(page, "{name}{{pipeline=\"{pipeline}\",sink=\"{sink}\"}} {value}");
        }
    }
    page
}

/// Puts the text in the file's place at once: the collector never reads half of it.
pub fn write(path: &Path, text: &str) -> io::Result<()> {
    // Beside it, since a name cannot be moved between file systems; the collector reads only what ends in .prom.
    let mut unfinished = path.as_os_str().to_owned();
    unfinished.push(format!(".{}", std::process::id()));
    let unfinished = Path::new(&unfinished);
    let written = File::create(unfinished)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(unfinished, path));
    if written.is_err() {
        let _ = fs::remove_file(unfinished);
    }
    written
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_file_holds_each_sink_under_each_metric() {
        let outcomes = [("postgres", Outcome::default()), ("clickhouse", Outcome { missing: 3, surplus: 2, stray: 1 })];
        let text = page("presses", &outcomes, 1_795_291_814);
        let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
        assert_eq!(
            samples,
            [
                "pressline_reconcile_missing_rows{pipeline=\"presses\",sink=\"postgres\"} 0",
                "pressline_reconcile_missing_rows{pipeline=\"presses\",sink=\"clickhouse\"} 3",
                "pressline_reconcile_duplicate_rows{pipeline=\"presses\",sink=\"postgres\"} 0",
                "pressline_reconcile_duplicate_rows{pipeline=\"presses\",sink=\"clickhouse\"} 2",
                "pressline_reconcile_stray_rows{pipeline=\"presses\",sink=\"postgres\"} 0",
                "pressline_reconcile_stray_rows{pipeline=\"presses\",sink=\"clickhouse\"} 1",
                "pressline_reconcile_last_run_timestamp_seconds{pipeline=\"presses\",sink=\"postgres\"} 1795291814",
                "pressline_reconcile_last_run_timestamp_seconds{pipeline=\"presses\",sink=\"clickhouse\"} 1795291814",
            ]
        );
        assert_eq!(text.lines().filter(|line| line.starts_with("# TYPE")).count(), METRICS.len());
    }

    #[test]
    fn the_file_is_replaced_and_nothing_is_left_beside_it() {
        let folder = std::env::temp_dir().join(format!("pressline-textfile-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.prom");
        write(&path, "old").unwrap();
        write(&path, "new").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        // A folder in the file's place cannot be replaced.
        fs::create_dir(folder.join("b.prom")).unwrap();
        assert!(write(&folder.join("b.prom"), "x").is_err());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 2);
        fs::remove_dir_all(&folder).unwrap();
    }
}
