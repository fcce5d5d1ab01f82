//! Log lines on standard error: which are shown, and how they look.

use tracing::level_filters::LevelFilter;
use tracing_log::{AsLog, LogTracer, log};
use tracing_subscriber::fmt::format::{DefaultFields, Format};
use tracing_subscriber::fmt::{self, MakeWriter};
use tracing_subscriber::layer::SubscriberExt;

use crate::config::log_filter::filter;
use crate::config::{LogConfig, LogFormat};
use crate::runtime::logfmt::Logfmt;
use crate::runtime::stdio::{self, LogWriter};

/// Sends log lines to standard error as configured; librdkafka's come along.
pub fn init(config: &LogConfig) -> Result<(), String> {
    let filter = filter(&config.level).map_err(|what| format!("log.level: {what}"))?;
    let lines = lines(|| LogWriter);
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
    // What the filter hides is dropped where it is written: librdkafka's binding has a line for each record it frees.
    let most = LevelFilter::current().as_log();
    log::set_boxed_logger(Box::new(WithoutPlace(LogTracer::new()))).map_err(|error| error.to_string())?;
    log::set_max_level(most);
    Ok(())
}

/// Takes the `log` crate's lines over, but not where in a library's source they come from: that is a folder of the machine on
/// which pressline was built.
struct WithoutPlace(LogTracer);

impl log::Log for WithoutPlace {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &log::Record<'_>) {
        let metadata = record.metadata().clone();
        self.0.log(&log::Record::builder().metadata(metadata).args(*record.args()).build());
    }

    fn flush(&self) {}
}

/// How lines look, but for their format.
fn lines<S, W>(writer: W) -> fmt::Layer<S, DefaultFields, Format, W>
where
    W: for<'w> MakeWriter<'w> + 'static,
{
    // A line that cannot be written is counted by the writer.
    fmt::layer().with_writer(writer).log_internal_errors(false).with_target(false)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing::subscriber::with_default;
    use tracing_log::log::{Level, Log, Record};

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_librarys_line_does_not_show_where_it_was_built() {
        let written = Written::default();
        let writer = || {
            let written = written.clone();
            move || written.clone()
        };
        let tell = || {
            let mut record = Record::builder();
            record.level(Level::Warn).target("library").file(Some("/home/builder/library.rs")).line(Some(7));
            WithoutPlace(LogTracer::new()).log(&record.args(format_args!("an odd schema")).build());
        };
        let registry = tracing_subscriber::registry;
        with_default(registry().with(lines(writer()).with_ansi(false)), tell);
        with_default(registry().with(lines(writer()).json()), tell);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.matches("an odd schema").count(), 2, "{text}");
        assert!(!text.contains("builder") && !text.contains("log.line"), "{text}");
    }
}
