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
        // jiff takes offsets of up to 25 hours.
        Ok(_) if offset_hours(text) > 23 => Err("a UTC offset of 24 hours or more"),
        // Nanoseconds since year -9999 fit i64 once divided.
        Ok(timestamp) => i64::try_from(timestamp.as_nanosecond().div_euclid(1000)).map_err(|_| "out of range"),
        Err(_) => Err(fault(text)),
    }
}

/// The hours of the UTC offset of a text that is an ISO 8601 time; 0 for `Z`.
fn offset_hours(text: &str) -> u32 {
    let time = text.find(['T', 't', ' ']).and_then(|at| text.get(at..)).unwrap_or_default();
    let hours = time.find(['+', '-']).and_then(|at| time.get(at + 1..at + 3));
    hours.and_then(|hours| hours.parse().ok()).unwrap_or(0)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_is_read_to_the_microsecond() {
        for (text, us) in [
            ("2026-11-21T12:00:00Z", 1_795_262_400_000_000),
            ("2026-11-21t12:00:00z", 1_795_262_400_000_000),
            ("2026-11-21 12:00:00Z", 1_795_262_400_000_000),
            ("2026-11-21T14:00:00+02:00", 1_795_262_400_000_000),
            ("2026-11-21T12:00Z", 1_795_262_400_000_000),
            ("20261121T120000Z", 1_795_262_400_000_000),
            ("2026-11-21T12:00:00.123456Z", 1_795_262_400_123_456),
            ("2026-11-21T12:00:00.123456999Z", 1_795_262_400_123_456),
            ("2026-11-21T12:00:00,5Z", 1_795_262_400_500_000),
            // A leap second counts as the second before it.
            ("2016-12-31T23:59:60Z", 1_483_228_799_000_000),
            // Before 1970 too, digits are cut off towards the past.
            ("1969-12-31T23:59:59.999999999Z", -1),
            ("1969-12-31T23:59:59.9999990Z", -1),
            ("1969-12-31T23:59:59.9999981Z", -2),
        ] {
            assert_eq!(parse(text), Ok(us), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_text_is_said() {
        for (text, detail) in [
            ("2026-11-21T12:00:00", "no UTC offset"),
            ("2026-11-21 12:00:00.5", "no UTC offset"),
            ("2026-11-21", "date without time and UTC offset"),
            ("", "text that is not ISO 8601"),
            ("now", "text that is not ISO 8601"),
            ("21.11.2026 12:00 Z", "text that is not ISO 8601"),
            ("2026-11-21T12:00:00+25:00:00:00", "text that is not ISO 8601"),
            ("2026-11-21T12:00:00+24:00", "a UTC offset of 24 hours or more"),
            ("2026-11-21T12:00:00.5-2400", "a UTC offset of 24 hours or more"),
            ("2026-11-21 12:00:00+25:59:59", "a UTC offset of 24 hours or more"),
            ("2026-11-21T25:00:00Z", "text that is not ISO 8601"),
            ("2026-11-21T12:00:00Z\0", "text that is not ISO 8601"),
            ("Sat, 21 Nov 2026 12:00:00 +0000", "text that is not ISO 8601"),
        ] {
            assert_eq!(parse(text), Err(detail), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printed_timestamps_are_read_back(us in EARLIEST_US..4_102_444_800_000_000, hours in -23..=23_i32) {
            let timestamp = Timestamp::from_microsecond(us).unwrap();
            prop_assert_eq!(parse(&timestamp.to_string()), Ok(us));
            let offset = jiff::tz::Offset::from_hours(hours as i8).unwrap();
            prop_assert_eq!(parse(&timestamp.display_with_offset(offset).to_string()), Ok(us));
        }

        #[test]
        fn plausible_is_from_2000_to_a_day_ahead(us: i64, now_us in EARLIEST_US..4_102_444_800_000_000) {
            let expected = (EARLIEST_US..=now_us + MAX_AHEAD_US).contains(&us);
            prop_assert_eq!(plausible(us, now_us).is_ok(), expected);
        }

        #[test]
        fn mistaken_units_are_recognised(us in EARLIEST_US..1_795_262_400_000_000_i64) {
            let now_us = 1_795_262_400_000_000;
            prop_assert_eq!(plausible(us / 1_000_000, now_us), Err("looks like seconds"));
            prop_assert_eq!(plausible(us / 1000, now_us), Err("looks like milliseconds"));
            prop_assert_eq!(plausible(us * 1000, now_us), Err("looks like nanoseconds"));
        }
    }
}
