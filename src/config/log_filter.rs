//! `log.level`: which lines of the log are shown.

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;

/// A level for everything, levels for the lines of one origin (`librdkafka=debug`), or both, separated by commas. Errors are
/// shown whatever it says. Errors: what in it is no level, and the levels.
pub fn filter(text: &str) -> Result<Targets, String> {
    const LEVELS: &str = "error, warn, info, debug or trace";
    let mut all = None;
    let mut targets = Targets::new();
    for part in text.split(',').map(str::trim) {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target.trim()), level.trim()),
            None => (None, part),
        };
        let found = match level.to_ascii_lowercase().as_str() {
            "error" => LevelFilter::ERROR,
            "warn" | "warning" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            "off" => return Err(format!("`off`: errors are always shown, expected {LEVELS}")),
            "" => return Err(format!("no level in `{part}`, expected {LEVELS}")),
            _ => return Err(format!("`{level}` is not a level, expected {LEVELS}")),
        };
        match target {
            Some("") => return Err(format!("no name before the `=` of `{part}`, expected one such as librdkafka")),
            Some(target) => targets = targets.with_target(target, found),
            None if all.replace(found).is_some() => {
                return Err(format!("two levels for everything in `{text}`, expected one"));
            }
            None => {}
        }
    }
    Ok(targets.with_default(all.unwrap_or(LevelFilter::ERROR)))
}
