//! Log lines on standard error: which are shown, and how they look.

use tracing::level_filters::LevelFilter;
use tracing_log::AsLog;
use tracing_subscriber::layer::SubscriberExt;

use crate::config::log_filter::filter;
use crate::config::{LogConfig, LogFormat};
use crate::runtime::logfmt::Logfmt;
use crate::runtime::stdio::{self, LogWriter};

/// Sends log lines to standard error as configured; librdkafka's come along.
pub fn init(config: &LogConfig) -> Result<(), String> {
    let filter = filter(&config.level).map_err(|what| format!("log.level: {what}"))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| LogWriter)
        // A line that cannot be written is counted by the writer.
        .log_internal_errors(false)
        .with_target(false);
    // The filter is of the whole, not of the layer: a layer's own filter remembers, for its thread, that a line of the `log` crate
    // was asked about and not wanted, and then drops the next line of ours (seen with tracing-subscriber 0.3).
    let registry = tracing_subscriber::registry().with(filter);
    match config.format {
        LogFormat::Text => {
            let lines = lines.with_ansi(stdio::err_has_colours());
            tracing::subscriber::set_global_default(registry.with(lines))
        }
        LogFormat::Logfmt => {
            let lines = lines.with_ansi(false).event_format(Logfmt);
            tracing::subscriber::set_global_default(registry.with(lines))
        }
        LogFormat::Json => tracing::subscriber::set_global_default(registry.with(lines.json())),
    }
    .map_err(|error| error.to_string())?;
    // What the filter lets nobody see is dropped where it is written: librdkafka's binding has a line for each record it frees.
    let most = LevelFilter::current().as_log();
    tracing_log::LogTracer::builder().with_max_level(most).init().map_err(|error| error.to_string())
}
