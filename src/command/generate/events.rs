//! Events written by hand: JSON documents in a file or on standard input, for `pressline try` and
//! `pressline produce`.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

/// A document over several lines that is longer is not one.
const MOST_BYTES: usize = 16 << 20;

/// The events of a file, one a line. A document that is spread over several lines begins with a line `{` and ends with a line
/// `}`, as programs that print JSON for people write it. Empty lines are skipped.
pub struct Events {
    what: PathBuf,
    lines: Box<dyn BufRead>,
}

/// The file cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {}: {source}", what.display())]
pub struct Unreadable {
    what: PathBuf,
    source: io::Error,
}

impl Events {
    /// Opens the file; `-` is standard input. Errors: it cannot be read.
    pub fn open(file: &Path) -> Result<Self, Unreadable> {
        let lines: Box<dyn BufRead> = if file.as_os_str() == "-" {
            Box::new(BufReader::new(io::stdin()))
        } else {
            let opened = File::open(file).map_err(|source| Unreadable { what: file.into(), source })?;
            Box::new(BufReader::new(opened))
        };
        Ok(Self { what: file.into(), lines })
    }

    /// The next event; none at the end. Its last line break is not part of it. Errors: as for [`Self::open`].
    pub fn next_event(&mut self) -> Result<Option<Vec<u8>>, Unreadable> {
        let mut event = Vec::new();
        while self.line(&mut event)? {
            if event.trim_ascii() == b"{" {
                while event.len() < MOST_BYTES && !ends_document(&event) && self.line(&mut event)? {}
            }
            if !event.trim_ascii().is_empty() {
                let length = event.trim_ascii_end().len();
                event.truncate(length);
                return Ok(Some(event));
            }
            event.clear();
        }
        Ok(None)
    }

    /// Appends the next line; false at the end.
    fn line(&mut self, event: &mut Vec<u8>) -> Result<bool, Unreadable> {
        let read = self.lines.read_until(b'\n', event);
        read.map(|read| read > 0).map_err(|source| Unreadable { what: self.what.clone(), source })
    }
}

/// Whether the last line is `}`, not indented.
fn ends_document(event: &[u8]) -> bool {
    let text = event.trim_ascii_end();
    text.ends_with(b"\n}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn events(text: &'static str) -> Vec<String> {
        let mut events = Events { what: "-".into(), lines: Box::new(text.as_bytes()) };
        std::iter::from_fn(|| events.next_event().unwrap()).map(|event| String::from_utf8(event).unwrap()).collect()
    }

    #[test]
    fn an_event_is_a_line_or_a_printed_document() {
        assert_eq!(events("{\"a\":1}\n\n  \n{\"a\":2}"), ["{\"a\":1}", "{\"a\":2}"]);
        let printed = "{\n  \"a\": {\n    \"b\": 1\n  }\n}";
        assert_eq!(events("{\n  \"a\": {\n    \"b\": 1\n  }\n}\n{}\n"), [printed, "{}"]);
        // What is no JSON is an event too: pressline has to cope with it.
        assert_eq!(events("not JSON\r\n[1]\n"), ["not JSON", "[1]"]);
        assert_eq!(events("{\n  \"a\": 1\n"), ["{\n  \"a\": 1"], "cut short");
        assert_eq!(events(""), Vec::<String>::new());
    }
}
