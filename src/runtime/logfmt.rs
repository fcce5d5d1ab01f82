//! Log lines in logfmt: `time=… level=… msg=… key=value`.

use std::fmt::{self, Write as _};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Writes an event as one line.
pub struct Logfmt;

impl<S, N> FormatEvent<S, N> for Logfmt
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let mut line = Line::default();
        event.record(&mut line);
        let now = Timestamp::now();
        writeln!(writer, "time={now:.6} level={level} msg={}{}", value(&line.message), line.fields)
    }
}

/// The fields of an event.
#[derive(Default)]
struct Line {
    message: String,
    /// Each with a space before it.
    fields: String,
}

impl Line {
    fn add(&mut self, field: &Field, text: &str) {
        match field.name() {
            "message" => text.clone_into(&mut self.message),
            // Where a line of the `log` crate comes from.
            name if name.starts_with("log.") => {}
            name => {
                // Writing to a string cannot fail.
                let _ = write!(self.fields, " {}={}", key(name), value(text));
            }
        }
    }
}

impl Visit for Line {
    fn record_str(&mut self, field: &Field, text: &str) {
        self.add(field, text);
    }

    fn record_error(&mut self, field: &Field, error: &(dyn std::error::Error + 'static)) {
        self.add(field, &error.to_string());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// A key has neither spaces nor what ends it.
fn key(name: &str) -> String {
    name.chars().map(|c| if c.is_whitespace() || c.is_control() || "=\"".contains(c) { '_' } else { c }).collect()
}

/// As it is, or in quotation marks with escapes, as Go writes texts.
fn value(text: &str) -> String {
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"=\"\\".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.into();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_is_keys_and_values() {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer().event_format(Logfmt).with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::warn!(pipeline = "p", rows = 7, empty = "", odd = "a=\"b\"\n\u{1}", "two words");
            tracing::error!(cause = %"none", "once");
        });
        let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        let (time, rest) = lines[0].strip_prefix("time=").unwrap().split_once(' ').unwrap();
        assert!(time.parse::<Timestamp>().is_ok() && time.len() == 27, "{time}");
        assert_eq!(rest, r#"level=warn msg="two words" pipeline=p rows=7 empty="" odd="a=\"b\"\n\u0001""#);
        assert!(lines[1].ends_with("level=error msg=once cause=none"), "{}", lines[1]);
        assert_eq!(lines.len(), 2, "a line break ends no line");
    }
}
