//! The web app's own metrics; those of the process come with them.

use ::metrics::{counter, describe_counter, describe_gauge};

use super::sender::Action;
use crate::metrics::{Metric, MetricKind};

/// See [`METRICS`].
pub const PRESSES: &str = "pressline_web_events_total";
/// See [`METRICS`].
pub const RECORDS: &str = "pressline_web_records_read_total";
/// See [`METRICS`].
pub const WATCHERS: &str = "pressline_web_watchers";
/// See [`METRICS`].
pub const FRAMES: &str = "pressline_web_frames_sent_total";
/// See [`METRICS`].
pub const SNAPSHOTS: &str = "pressline_web_snapshots_sent_total";

/// All of them: docs/metrics.md has a table.
pub const METRICS: [Metric; 5] = [
    Metric {
        name: PRESSES,
        kind: MetricKind::Counter,
        labels: "action,outcome",
        help: "First visits and presses, by what came of them",
    },
    Metric {
        name: RECORDS,
        kind: MetricKind::Counter,
        labels: "outcome",
        help: "Records of the output topic that the map's reader has read, by whether it could show them",
    },
    Metric { name: WATCHERS, kind: MetricKind::Gauge, labels: "", help: "Pages that watch the map" },
    Metric { name: FRAMES, kind: MetricKind::Counter, labels: "", help: "Frames of the map sent to watchers" },
    Metric {
        name: SNAPSHOTS,
        kind: MetricKind::Counter,
        labels: "",
        help: "Snapshots sent to watchers that were too slow for the frames",
    },
];

/// Says what each is.
pub fn describe() {
    for metric in &METRICS {
        match metric.kind {
            MetricKind::Gauge => describe_gauge!(metric.name, metric.help),
            MetricKind::Counter | MetricKind::Histogram => describe_counter!(metric.name, metric.help),
        }
    }
}

/// What came of a first visit or a press.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The broker has it.
    Acknowledged,
    /// The visitor was too quick.
    RateLimited,
    /// The broker did not answer.
    Unavailable,
    /// Another site's page made the request.
    Refused,
}

impl Outcome {
    /// All, for the documentation.
    pub const ALL: [Self; 4] = [Self::Acknowledged, Self::RateLimited, Self::Unavailable, Self::Refused];

    /// Value of the label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Acknowledged => "acknowledged",
            Self::RateLimited => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::Refused => "refused",
        }
    }
}

/// Counts one.
pub fn count(action: Action, outcome: Outcome) {
    counter!(PRESSES, "action" => action.name(), "outcome" => outcome.label()).increment(1);
}
