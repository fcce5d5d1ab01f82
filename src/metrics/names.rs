//! Every metric: its name, type, labels and help text, in one place.

use std::fmt::Write;

/// Upper bounds, in seconds, of the delay and duration histograms.
pub(super) const SECONDS: [f64; 14] = [0.005, 0.01, 0.02, 0.04, 0.06, 0.1, 0.2, 0.3, 0.5, 1.0, 3.0, 10.0, 60.0, 600.0];

/// Kind of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Buckets.
    Histogram,
}

/// One metric: name, kind, labels, the question it answers.
pub struct Metric {
    /// Name, by Prometheus' conventions.
    pub name: &'static str,
    /// Kind.
    pub kind: MetricKind,
    /// Labels, comma separated.
    pub labels: &'static str,
    /// Help text.
    pub help: &'static str,
}

macro_rules! metrics {
    ($($constant:ident = $name:literal, $kind:ident, $labels:literal, $help:literal;)*) => {
        $(#[doc = $help] pub const $constant: &str = $name;)*
        /// All metrics.
        pub const ALL: &[Metric] = &[$(Metric { name: $name, kind: MetricKind::$kind, labels: $labels, help: $help }),*];
    };
}

metrics! {
    RECORDS_IN = "pressline_records_in_total", Counter, "pipeline", "Records taken from the ingress topic and settled: the sum of written, filtered and dead";
    RECORDS_WRITTEN = "pressline_records_written_total", Counter, "pipeline", "Records written to the output topic";
    RECORDS_FILTERED = "pressline_records_filtered_total", Counter, "pipeline", "Records left out on purpose";
    RECORDS_DEAD = "pressline_records_dead_total", Counter, "pipeline,reason", "Records sent to the dead-letter topic, by reason";
    BYTES_IN = "pressline_bytes_in_total", Counter, "pipeline", "Bytes of ingress values";
    BYTES_OUT = "pressline_bytes_out_total", Counter, "pipeline", "Bytes of output values";
    UNKNOWN_FIELDS = "pressline_unknown_fields_total", Counter, "pipeline", "Fields of ingress records that are not known and were ignored";
    TIMESTAMPS_REPLACED = "pressline_record_timestamps_replaced_total", Counter, "pipeline", "Records whose timestamp is implausible or beyond what the output topic takes, and was replaced by the time of writing";
    BATCHES = "pressline_batches_total", Counter, "pipeline,trigger", "Batches, by the limit that ended them";
    COMMITTED = "pressline_transactions_committed_total", Counter, "pipeline", "Transactions committed";
    ABORTED = "pressline_transactions_aborted_total", Counter, "pipeline,cause", "Transactions aborted, by cause";
    RECOVERIES = "pressline_recoveries_total", Counter, "pipeline", "Times a worker made a new producer and went back to the committed offsets";
    TRANSACTION_SECONDS = "pressline_transaction_seconds", Histogram, "pipeline", "From the begin of a transaction to its confirmed commit";
    WORK_SECONDS = "pressline_work_seconds", Histogram, "pipeline", "The worker's own part of a batch: decode, place, encode, hand over; no broker is waited for";
    DELAY_SECONDS = "pressline_delay_seconds", Histogram, "pipeline", "From a record's timestamp to the confirmed commit of its output";
    LAG_RECORDS = "pressline_lag_records", Gauge, "pipeline,partition", "Records of the ingress topic not relayed yet";
    LAG_SECONDS = "pressline_lag_seconds", Gauge, "pipeline,partition", "Age of the last relayed record while there is lag, else 0";
    OPEN_TRANSACTION_RECORDS = "pressline_open_transaction_records", Gauge, "pipeline,partition", "Offsets of the ingress topic behind another producer's open transaction, which nobody can read yet";
    OPEN_TRANSACTION_SECONDS = "pressline_open_transaction_seconds", Gauge, "pipeline,partition", "How long the last stable offset has stood still with records behind it, else 0";
    ASSIGNED = "pressline_assigned_partitions", Gauge, "pipeline,worker", "Partitions this worker reads";
    REBALANCES = "pressline_rebalances_total", Counter, "pipeline", "Changes of the partitions assigned to this process";
    LOOKUPS = "pressline_place_lookups_total", Counter, "pipeline,outcome", "Place lookups by outcome";
    CACHE_ENTRIES = "pressline_place_cache_entries", Gauge, "pipeline", "Places in the cache of ready-made fragments";
    CACHE_EVICTIONS = "pressline_place_cache_evictions_total", Counter, "pipeline", "Places dropped from the cache to make room for others";
    PLACE_PARTS = "pressline_place_parts_total", Counter, "pipeline,part,step", "Parts of places made ready, once a record of the database and not once an event, by the step that gave them";
    GEOCODER_LOOKUPS = "pressline_geocoder_lookups_total", Counter, "geocoder,entry", "Places looked for among the geocoder's answers, by what was there";
    GEOCODER_REQUESTS = "pressline_geocoder_requests_total", Counter, "geocoder,answer", "Requests to the geocoder, by how they ended";
    GEOCODER_WAITING = "pressline_geocoder_waiting_places", Gauge, "geocoder", "Places that wait to be asked about";
    GEOCODER_ENTRIES = "pressline_geocoder_cache_entries", Gauge, "geocoder", "Answers and misses kept";
    GEOCODER_EVICTIONS = "pressline_geocoder_cache_evictions_total", Counter, "geocoder", "Answers and misses dropped to make room for others";
    GEOCODER_OPEN = "pressline_geocoder_circuit_open", Gauge, "geocoder", "1 while the geocoder fails again and again and is only probed, else 0";
    MMDB_BUILD = "pressline_mmdb_build_timestamp_seconds", Gauge, "pipeline,file", "When the GeoIP database was built, Unix time";
    MMDB_STALE = "pressline_mmdb_stale", Gauge, "pipeline,file", "1 while the GeoIP database is older than place.max_age_days, else 0";
    MMDB_RELOADS = "pressline_mmdb_reloads_total", Counter, "file,result", "GeoIP databases read again while running, by what came of it";
    READY = "pressline_pipeline_ready", Gauge, "pipeline", "1 while the pipeline has what it needs, else 0";
    RESTARTS = "pressline_worker_restarts_total", Counter, "pipeline", "Workers started again after an error";
    SINK_ROWS = "pressline_sink_rows_total", Counter, "pipeline,sink", "Rows written to the table, with their positions";
    SINK_FOUND = "pressline_sink_rows_found_total", Counter, "pipeline,sink", "Rows that a recovery found in the table already and did not write again";
    SINK_FILTERED = "pressline_sink_records_filtered_total", Counter, "pipeline,sink", "Records that change no row, such as heartbeats in a topic of Debezium's and tombstones behind deletes";
    SINK_LEFT_OUT = "pressline_sink_records_left_out_total", Counter, "pipeline,sink", "Records of types that sink.records does not name";
    SINK_DROPPED = "pressline_sink_rows_dropped_total", Counter, "pipeline,sink", "Rows that the database took and dropped, as a trigger of the table told it to";
    SINK_WITHOUT_VIEW = "pressline_sink_rows_without_view_total", Counter, "pipeline,sink", "Rows that are in the table, but not in that of a materialized view, which failed on their insert";
    SINK_DEAD = "pressline_sink_rows_dead_total", Counter, "pipeline,sink,reason", "Rows that could not be written and went to the dead-letter topic, by reason";
    SINK_BYTES = "pressline_sink_bytes_total", Counter, "pipeline,sink", "Bytes sent to the database, before compression";
    SINK_BATCHES = "pressline_sink_batches_total", Counter, "pipeline,sink,trigger", "Batches written, by the limit that ended them";
    SINK_RETRIES = "pressline_sink_retries_total", Counter, "pipeline,sink,class", "Batches aborted and read again, by class of error";
    SINK_WRITE_SECONDS = "pressline_sink_write_seconds", Histogram, "pipeline,sink", "From the begin of a batch's write to its position's confirmed move";
    SINK_LAG_RECORDS = "pressline_sink_lag_records", Gauge, "pipeline,sink,partition", "Records of the topic not loaded yet";
    SINK_LAG_SECONDS = "pressline_sink_lag_seconds", Gauge, "pipeline,sink,partition", "Age of the last loaded record while there is lag, else 0";
    SINK_OPEN_TRANSACTION_RECORDS = "pressline_sink_open_transaction_records", Gauge, "pipeline,sink,partition", "Offsets of the topic behind another producer's open transaction, which nobody can read yet";
    SINK_OPEN_TRANSACTION_SECONDS = "pressline_sink_open_transaction_seconds", Gauge, "pipeline,sink,partition", "How long the last stable offset has stood still with records behind it, else 0";
    SINK_ASSIGNED = "pressline_sink_assigned_partitions", Gauge, "pipeline,sink,worker", "Partitions this worker loads";
    SINK_PENDING_AGE = "pressline_sink_pending_age_seconds", Gauge, "pipeline,sink,partition", "How long it has not been known whether a range of offsets was written, else 0";
    KAFKA_QUEUE = "pressline_librdkafka_queued_records", Gauge, "pipeline,worker", "Records prefetched and waiting";
    KAFKA_QUEUE_BYTES = "pressline_librdkafka_queued_bytes", Gauge, "pipeline,worker", "Bytes of them";
    KAFKA_RX = "pressline_librdkafka_received_bytes", Gauge, "pipeline,worker", "Bytes received from brokers since the consumer was made";
    KAFKA_RTT = "pressline_librdkafka_broker_rtt_seconds", Gauge, "pipeline,worker", "Slowest broker's 99th percentile of round trips";
    LOG_DROPPED = "pressline_log_lines_dropped_total", Counter, "", "Log lines that could not be written to standard error";
    PROCESS_MEMORY = "process_resident_memory_bytes", Gauge, "", "Resident memory of the process";
    PROCESS_CPU = "process_cpu_seconds_total", Counter, "", "User and system time of the process";
    PROCESS_FDS = "process_open_fds", Gauge, "", "Open file descriptors of the process";
    PROCESS_MAX_FDS = "process_max_fds", Gauge, "", "File descriptors that the process may have open";
    PROCESS_START = "process_start_time_seconds", Gauge, "", "When the process started, Unix time";
    BUILD = "pressline_build_info", Gauge, "version", "Always 1; the version is in the label";
}

/// Adds help and kind of a metric that the recorder does not have.
pub(super) fn describe(name: &str, page: &mut String) {
    let Some(metric) = ALL.iter().find(|metric| metric.name == name) else { return };
    let kind = match metric.kind {
        MetricKind::Counter => "counter",
        MetricKind::Gauge => "gauge",
        MetricKind::Histogram => "histogram",
    };
    let _ = write!(page, "# HELP {name} {}\n# TYPE {name} {kind}\n", metric.help);
}
