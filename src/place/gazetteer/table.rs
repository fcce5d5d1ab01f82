//! Files with GeoNames' dump columns: UTF-8 lines, columns apart by tabs, no quotes (GeoNames' readme.txt).

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// Columns of the widest file.
const MOST_COLUMNS: usize = 19;

/// Bytes of the longest line that is still read: alternate names have up to 10,000 characters by GeoNames' readme.
const MOST_BYTES: u64 = 64 << 10;

/// Characters of a bad value that an error shows.
const SHOWN: usize = 40;

/// Why a gazetteer file is not used.
#[derive(Debug, thiserror::Error)]
pub enum GazetteerError {
    /// The file is not there or cannot be read.
    #[error("{file}: cannot be read: {source}; name a file that is there and readable")]
    Read {
        /// Path as configured.
        file: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A line is not what GeoNames' readme says.
    #[error("{file}:{line}: {column}: found {found}, expected {expected}; {cure}")]
    Line {
        /// Path as configured.
        file: String,
        /// Line, from 1.
        line: u64,
        /// Number, from 1, and name of the column; or "the line".
        column: String,
        /// What is there, cut short.
        found: String,
        /// What should be there.
        expected: &'static str,
        /// What to do.
        cure: &'static str,
    },
    /// The file has no row at all.
    #[error("{file}: found no row, expected {expected}; download it again")]
    Empty {
        /// Path as configured.
        file: String,
        /// What the file should hold.
        expected: &'static str,
    },
    /// The file is larger than the memory that it may take.
    #[error("{file}: found more than {most} {what}; take a smaller extract, such as cities500.txt or cities15000.txt")]
    TooLarge {
        /// Path as configured.
        file: String,
        /// The bound.
        most: usize,
        /// What there are too many of.
        what: &'static str,
    },
}

/// One line's columns.
pub(super) struct Row<'a> {
    file: &'a str,
    line: u64,
    columns: [&'a str; MOST_COLUMNS],
}

/// A column: its number from 1, and its name in GeoNames' readme.
pub(super) type Column = (usize, &'static str);

/// Gives each line with columns to `take`, comments (`#`) and empty lines left out. `columns` is how many there must be.
/// Reads line by line: the file never stands in memory. Errors: those of `take`, an unreadable file, a line with too few
/// columns, no row at all.
pub(super) fn each_row(
    path: &Path,
    columns: usize,
    expected: &'static str,
    mut take: impl FnMut(&Row<'_>) -> Result<(), GazetteerError>,
) -> Result<(), GazetteerError> {
    let file = path.display().to_string();
    let unreadable = |source| GazetteerError::Read { file: file.clone(), source };
    let mut reader = BufReader::with_capacity(256 << 10, File::open(path).map_err(unreadable)?);
    let (mut bytes, mut line, mut rows) = (Vec::new(), 0, 0u64);
    loop {
        bytes.clear();
        let read = reader.by_ref().take(MOST_BYTES).read_until(b'\n', &mut bytes).map_err(unreadable)?;
        if read == 0 {
            break;
        }
        line += 1;
        let bad = |found: String, expected| bad_line(&file, line, found, expected);
        if read as u64 == MOST_BYTES {
            return Err(bad(format!("more than {MOST_BYTES} bytes"), "columns apart by tabs"));
        }
        let Ok(text) = std::str::from_utf8(&bytes) else {
            return Err(bad(kind_of(&bytes).to_owned(), "UTF-8 text with columns apart by tabs"));
        };
        let text = text.trim_end_matches(['\n', '\r']);
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let mut row = Row { file: &file, line, columns: [""; MOST_COLUMNS] };
        let mut found = 0;
        for column in text.split('\t') {
            if let Some(place) = row.columns.get_mut(found) {
                *place = column;
            }
            found += 1;
        }
        if found < columns {
            return Err(bad(format!("{found} columns"), expected));
        }
        rows += 1;
        take(&row)?;
    }
    if rows == 0 { Err(GazetteerError::Empty { file, expected }) } else { Ok(()) }
}

fn bad_line(file: &str, line: u64, found: String, expected: &'static str) -> GazetteerError {
    let cure = "take the file from GeoNames' dump as it is, unpacked";
    GazetteerError::Line { file: file.to_owned(), line, column: "the line".to_owned(), found, expected, cure }
}

/// What bytes are that are no text.
fn kind_of(bytes: &[u8]) -> &'static str {
    match bytes {
        [b'P', b'K', 3, 4, ..] => "a zip archive",
        [0x1f, 0x8b, ..] => "gzip-compressed data",
        _ => "bytes that are not UTF-8",
    }
}

impl<'a> Row<'a> {
    /// A column's text; "" where it is empty.
    pub(super) fn text(&self, column: Column) -> &'a str {
        column.0.checked_sub(1).and_then(|index| self.columns.get(index)).copied().unwrap_or_default()
    }

    /// A column's number, within bounds.
    pub(super) fn number(&self, column: Column, most: f64, expected: &'static str) -> Result<f64, GazetteerError> {
        let number = self.text(column).parse::<f64>().ok().filter(|number| (-most..=most).contains(number));
        number.ok_or_else(|| self.bad(column, expected))
    }

    /// A column's ISO 3166-1 code.
    pub(super) fn country(&self, column: Column) -> Result<[u8; 2], GazetteerError> {
        match *self.text(column).as_bytes() {
            [a, b] if a.is_ascii_uppercase() && b.is_ascii_uppercase() => Ok([a, b]),
            _ => Err(self.bad(column, "a country code of two capital letters")),
        }
    }

    /// The error about a column.
    pub(super) fn bad(&self, column: Column, expected: &'static str) -> GazetteerError {
        let text = self.text(column);
        let shown: String = text.chars().filter(|c| !c.is_control()).take(SHOWN).collect();
        let more = if text.chars().count() > SHOWN { "…" } else { "" };
        GazetteerError::Line {
            file: self.file.to_owned(),
            line: self.line,
            column: format!("column {} ({})", column.0, column.1),
            found: format!("`{shown}{more}`"),
            expected,
            cure: "take the file from GeoNames' dump as it is, or fix the line",
        }
    }

    /// The error of a file with more rows than fit.
    pub(super) fn too_many(&self, most: usize, what: &'static str) -> GazetteerError {
        GazetteerError::TooLarge { file: self.file.to_owned(), most, what }
    }
}
