//! Records that the relay must refuse: one builder for each kind of mistake.

use std::io::Write;

pub(super) const MICROS_PER_SECOND: i64 = 1_000_000;

/// The parts of one press.
#[derive(Clone, Copy)]
pub(super) struct Line<'a> {
    pub session: &'a [u8; 36],
    pub timestamp_us: i64,
    pub cohort: &'a str,
    pub action: &'a str,
    /// JSON of the address with its quotes, `null`, or empty for no such field.
    pub ip: &'a str,
    /// The rest of the object.
    pub tail: &'a str,
}

impl Line<'_> {
    pub fn write(&self, value: &mut Vec<u8>) {
        value.extend_from_slice(b"{\"session_id\":\"");
        value.extend_from_slice(self.session);
        value.extend_from_slice(b"\",\"timestamp\":");
        write_integer(self.timestamp_us, value);
        value.extend_from_slice(b",\"cohort\":");
        value.extend_from_slice(self.cohort.as_bytes());
        value.extend_from_slice(b",\"action\":\"");
        value.extend_from_slice(self.action.as_bytes());
        value.push(b'"');
        if !self.ip.is_empty() {
            value.extend_from_slice(b",\"ip\":");
            value.extend_from_slice(self.ip.as_bytes());
        }
        value.extend_from_slice(self.tail.as_bytes());
    }
}

/// Mistakes, in the order in which they take turns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Malformed {
    /// A JSON object that breaks off.
    NotJson,
    /// Text with a byte that is not UTF-8.
    NotUtf8,
    /// Nested deeper than 32.
    TooDeep,
    /// Above 65,536 bytes.
    TooLarge,
    /// No value at all (a tombstone).
    NullValue,
    /// No `timestamp`.
    MissingField,
    /// A number as `action`.
    WrongType,
    /// `action` twice.
    DuplicateKey,
    /// A session id that is no UUID.
    BadUuid,
    /// An unknown action.
    UnknownAction,
    /// The timestamp in seconds.
    Seconds,
    /// The timestamp in milliseconds.
    Milliseconds,
    /// A timestamp before the year 2000.
    Before2000,
    /// A timestamp a hundred years ahead.
    FarAhead,
    /// Text that is no address as `ip`.
    BadIp,
}

/// A little more than the default limit of the relay.
const TOO_LARGE_BYTES: usize = 66_000;
/// A little more than the default limit of the relay.
const TOO_DEEP: usize = 40;
/// 1999-06-01T00:00:00Z.
const YEAR_1999_US: i64 = 928_195_200 * MICROS_PER_SECOND;
const HUNDRED_YEARS_US: i64 = 3_155_760_000 * MICROS_PER_SECOND;

impl Malformed {
    /// Every kind, in the order in which they take turns.
    pub const ALL: [Self; 15] = [
        Self::NotJson,
        Self::NotUtf8,
        Self::TooDeep,
        Self::TooLarge,
        Self::NullValue,
        Self::MissingField,
        Self::WrongType,
        Self::DuplicateKey,
        Self::BadUuid,
        Self::UnknownAction,
        Self::Seconds,
        Self::Milliseconds,
        Self::Before2000,
        Self::FarAhead,
        Self::BadIp,
    ];

    /// Its name in summaries.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotJson => "not JSON",
            Self::NotUtf8 => "not UTF-8",
            Self::TooDeep => "nested too deep",
            Self::TooLarge => "too large",
            Self::NullValue => "null value",
            Self::MissingField => "missing field",
            Self::WrongType => "wrong type",
            Self::DuplicateKey => "duplicate key",
            Self::BadUuid => "bad UUID",
            Self::UnknownAction => "unknown action",
            Self::Seconds => "timestamp in seconds",
            Self::Milliseconds => "timestamp in milliseconds",
            Self::Before2000 => "timestamp before 2000",
            Self::FarAhead => "timestamp far ahead",
            Self::BadIp => "bad IP text",
        }
    }

    /// Writes a press with this mistake; nothing for [`Self::NullValue`]. `line` is what the press would be without it.
    pub(super) fn write(self, line: &Line<'_>, value: &mut Vec<u8>) {
        let second = line.timestamp_us / MICROS_PER_SECOND;
        match self {
            Self::NullValue => {}
            Self::NotJson => {
                line.write(value);
                value.truncate(value.len() / 2);
            }
            Self::NotUtf8 => {
                line.write(value);
                // Inside the user agent's closing quote: still a JSON object but for the one byte.
                let end = value.len() - 2;
                value.insert(end, 0xff);
            }
            Self::TooDeep => with_extra(line, value, "history", |value| {
                value.extend(std::iter::repeat_n(b'[', TOO_DEEP));
                value.extend(std::iter::repeat_n(b']', TOO_DEEP));
            }),
            Self::TooLarge => with_extra(line, value, "history", |value| {
                value.push(b'"');
                value.extend(std::iter::repeat_n(b'.', TOO_LARGE_BYTES));
                value.push(b'"');
            }),
            Self::DuplicateKey => {
                with_extra(line, value, "action", |value| value.extend_from_slice(b"\"PressButton\""))
            }
            Self::MissingField => swap(line, value, &format!("\"timestamp\":{},", line.timestamp_us), ""),
            Self::WrongType => swap(line, value, &format!("\"action\":\"{}\"", line.action), "\"action\":7"),
            Self::BadUuid => {
                let text = String::from_utf8_lossy(line.session).into_owned();
                swap(line, value, &text, "visitor-17");
            }
            Self::UnknownAction => {
                swap(line, value, &format!("\"action\":\"{}\"", line.action), "\"action\":\"Explode\"")
            }
            Self::Seconds => Line { timestamp_us: second, ..*line }.write(value),
            Self::Milliseconds => Line { timestamp_us: line.timestamp_us / 1_000, ..*line }.write(value),
            Self::Before2000 => Line { timestamp_us: YEAR_1999_US + second % 1_000_000, ..*line }.write(value),
            Self::FarAhead => {
                Line { timestamp_us: line.timestamp_us.saturating_add(HUNDRED_YEARS_US), ..*line }.write(value);
            }
            Self::BadIp => Line { ip: "\"300.1.2.3\"", ..*line }.write(value),
        }
    }
}

/// The press with one more field at its end.
fn with_extra(line: &Line<'_>, value: &mut Vec<u8>, name: &str, content: impl FnOnce(&mut Vec<u8>)) {
    line.write(value);
    value.pop();
    // Writing to a Vec cannot fail.
    let _ = write!(value, ",\"{name}\":");
    content(value);
    value.push(b'}');
}

/// The press with one stretch of its text replaced.
fn swap(line: &Line<'_>, value: &mut Vec<u8>, old: &str, new: &str) {
    line.write(value);
    let text = String::from_utf8_lossy(value).replacen(old, new, 1);
    value.clear();
    value.extend_from_slice(text.as_bytes());
}

/// Decimal digits without an allocation or the formatter, which would be the largest cost of an event.
pub(super) fn write_integer(number: i64, value: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        digits[at] = b'0' + (rest % 10) as u8;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        value.push(b'-');
    }
    value.extend_from_slice(&digits[at..]);
}
