//! Texts that are JSON by its grammar (RFC 8259) and that a parser into characters and numbers refuses all the same.

/// What stands for a half of a surrogate pair: the character for what cannot be shown.
const REPLACEMENT: &str = "fffd";
/// Stands for a number beyond the range of floating point: its value is never used.
const LARGE: &str = "1e300";

/// The same text with each half of a surrogate pair, which is what `JSON.stringify` writes of a text that was cut within an emoji,
/// and each number beyond all bounds replaced; `None` where it has none of them.
pub(super) fn readable(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut out, mut copied, mut at, mut inside) = (String::new(), 0, 0, false);
    while let Some(&byte) = bytes.get(at) {
        match (inside, byte) {
            (_, b'"') => {
                inside = !inside;
                at += 1;
            }
            (true, b'\\') => match surrogate(text, at) {
                Some(half) if half < 0xdc00 && matches!(surrogate(text, at + 6), Some(0xdc00..)) => at += 12,
                Some(_) => {
                    out.push_str(text.get(copied..at + 2)?);
                    out.push_str(REPLACEMENT);
                    at += 6;
                    copied = at;
                }
                None => at += 2,
            },
            (false, b'-' | b'0'..=b'9') => {
                let number = |byte: &u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
                let end = at + bytes.get(at..)?.iter().take_while(|byte| number(byte)).count();
                if text.get(at..end)?.parse::<f64>().is_ok_and(f64::is_infinite) {
                    out.push_str(text.get(copied..at)?);
                    out.push_str(LARGE);
                    copied = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    out.push_str(text.get(copied..)?);
    (copied > 0).then_some(out)
}

/// The half of a surrogate pair that an escape stands for.
fn surrogate(text: &str, at: usize) -> Option<u16> {
    let digits = text.get(at..at + 6)?.strip_prefix("\\u")?;
    u16::from_str_radix(digits, 16).ok().filter(|unit| (0xd800..=0xdfff).contains(unit))
}

#[cfg(test)]
mod tests {
    use super::readable;

    #[test]
    fn halves_of_pairs_and_endless_numbers_are_replaced() {
        for (text, expected) in [
            (r#"{"a":"abc\ud83d"}"#, Some(r#"{"a":"abc\ufffd"}"#)),
            (r#"{"a":"\ud83d\ud83d\ude00","\uDE00":1}"#, Some(r#"{"a":"\ufffd\ud83d\ude00","\ufffd":1}"#)),
            (r#"{"a":"\ude00\ud83dx"}"#, Some(r#"{"a":"\ufffd\ufffdx"}"#)),
            (r#"{"a":1e999,"b":-1E+999,"c":1e3}"#, Some(r#"{"a":1e300,"b":1e300,"c":1e3}"#)),
            (r#"{"a":"1e999","b":"\\ud83d","c":"\ud83d\ude00"}"#, None),
            (r#"{"a":"\ud83"#, None),
            (r#"{"a":"é\"#, None),
            ("", None),
        ] {
            assert_eq!(readable(text).as_deref(), expected, "{text}");
        }
        // A whole number with a thousand digits.
        assert_eq!(readable(&format!("[{}]", "9".repeat(1_000))).as_deref(), Some("[1e300]"));
    }
}
