//! When a press happened: from JSON numbers and ISO 8601 text to microseconds, and whether that is plausible.

use jiff::{Timestamp, civil::DateTime};

/// Microseconds in a second.
const SECOND_US: i64 = 1_000_000;
/// How far ahead of our clock a sender's may be: one day, in microseconds. More is a mistaken unit or a broken clock.
pub const MAX_AHEAD_US: i64 = 86_400 * SECOND_US;
/// 2000-01-01T00:00:00Z in microseconds: nothing was pressed before, and seconds or milliseconds taken for microseconds
/// fall far below.
pub const EARLIEST_US: i64 = 946_684_800 * SECOND_US;

/// Reads ISO 8601 text with a UTC offset (`Z` or `+02:00`) into microseconds since 1970-01-01T00:00:00Z.
///
/// Digits beyond microseconds (at most nine decimals are read) are cut off towards the past. A leap second (`:60`) counts
/// as the second before it. The result may be implausible: see [`plausible`].
///
/// # Errors
/// A detail without the text: whether only the offset is missing, only the time of day, or it is no ISO 8601 at all.
pub fn parse(text: &str) -> Result<i64, &'static str> {
    match text.parse::<Timestamp>() {
        // Nanoseconds since year -9999 fit i64 once divided.
        Ok(timestamp) => i64::try_from(timestamp.as_nanosecond().div_euclid(1000)).map_err(|_| "out of range"),
        Err(_) => Err(fault(text)),
    }
}

fn fault(text: &str) -> &'static str {
    if text.parse::<jiff::civil::Date>().is_ok() && !text.contains([':', 'T', 't']) {
        "date without time and UTC offset"
    } else if text.parse::<DateTime>().is_ok() {
        "no UTC offset"
    } else {
        "text that is not ISO 8601"
    }
}

/// Whether microseconds are a plausible time of a press: from 2000 to one day ahead of `now_us`.
///
/// # Errors
/// What it looks like instead: seconds, milliseconds or nanoseconds by mistake, before 2000, or more than a day ahead.
pub fn plausible(timestamp_us: i64, now_us: i64) -> Result<i64, &'static str> {
    let fits = |us: Option<i64>| us.is_some_and(|us| (EARLIEST_US..=now_us.saturating_add(MAX_AHEAD_US)).contains(&us));
    if fits(Some(timestamp_us)) {
        Ok(timestamp_us)
    } else if timestamp_us < EARLIEST_US {
        if fits(timestamp_us.checked_mul(SECOND_US)) {
            Err("looks like seconds")
        } else if fits(timestamp_us.checked_mul(1000)) {
            Err("looks like milliseconds")
        } else {
            Err("before 2000")
        }
    } else if fits(Some(timestamp_us.div_euclid(1000))) {
        Err("looks like nanoseconds")
    } else {
        Err("more than a day ahead")
    }
}

/// [`parse`] and [`plausible`] in one; text is not taken for another unit.
///
/// # Errors
/// As the two.
pub fn parse_plausible(text: &str, now_us: i64) -> Result<i64, &'static str> {
    let timestamp_us = parse(text)?;
    if timestamp_us < EARLIEST_US {
        Err("before 2000")
    } else if timestamp_us > now_us.saturating_add(MAX_AHEAD_US) {
        Err("more than a day ahead")
    } else {
        Ok(timestamp_us)
    }
}
