//! ClickHouse's Native format, as HTTP takes it: number of columns, number of rows, then column after column: name, type,
//! and all values.
//!
//! (`Formats/NativeWriter.cpp` and `DataTypes/Serializations/` in ClickHouse's source; protocol revision 0, so neither
//! block information nor custom serializations.)

use super::buffer::{Buffer, varuint};
use super::dictionary::Dictionary;

/// `SharedDictionariesWithAdditionalKeys`, the one version of a dictionary's serialization.
const DICTIONARY_VERSION: u64 = 1;
/// The dictionary is in the block itself.
const HAS_ADDITIONAL_KEYS: u64 = 1 << 9;

/// How values of a column are framed, which its bytes alone do not tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Bytes as they stand, nulls before them.
    Plain,
    /// A dictionary of texts, each with its length.
    Texts,
    /// A dictionary of values of so many bytes.
    Values(usize),
    /// Ends, then the framings inside.
    Nested(Vec<Framing>),
}

/// A text with its length.
pub fn text(text: &str, out: &mut Vec<u8>) {
    varuint(text.len() as u64, out);
    out.extend_from_slice(text.as_bytes());
}

/// What precedes all values of a column, nested dictionaries' versions first.
pub fn prefix(framing: &Framing, out: &mut Vec<u8>) {
    match framing {
        Framing::Plain => {}
        Framing::Texts | Framing::Values(_) => out.extend_from_slice(&DICTIONARY_VERSION.to_le_bytes()),
        Framing::Nested(inner) => inner.iter().for_each(|framing| prefix(framing, out)),
    }
}

/// The values.
pub fn values(framing: &Framing, buffer: &Buffer, out: &mut Vec<u8>) {
    match (framing, &buffer.dictionary) {
        (Framing::Nested(inner), _) => {
            for end in &buffer.ends {
                out.extend_from_slice(&end.to_le_bytes());
            }
            for (framing, items) in inner.iter().zip(&buffer.items) {
                values(framing, items, out);
            }
        }
        (framing, Some(words)) => dictionary(words, *framing == Framing::Texts, out),
        (_, None) => {
            out.extend_from_slice(&buffer.nulls);
            out.extend_from_slice(&buffer.data);
        }
    }
}

fn dictionary(dictionary: &Dictionary, texts: bool, out: &mut Vec<u8>) {
    let rows = dictionary.rows();
    if rows.is_empty() {
        // An array column without items: ClickHouse writes and expects nothing.
        return;
    }
    // 0, 1, 2: numbers of one, two, four bytes.
    let width: u64 = match dictionary.len() {
        0..=0x100 => 0,
        0x101..=0x1_0000 => 1,
        _ => 2,
    };
    out.extend_from_slice(&(HAS_ADDITIONAL_KEYS | width).to_le_bytes());
    out.extend_from_slice(&(dictionary.len() as u64).to_le_bytes());
    for key in dictionary.keys() {
        if texts {
            varuint(key.len() as u64, out);
        }
        out.extend_from_slice(key);
    }
    out.extend_from_slice(&(rows.len() as u64).to_le_bytes());
    match width {
        0 => out.extend(rows.iter().map(|number| *number as u8)),
        1 => out.extend(rows.iter().flat_map(|number| (*number as u16).to_le_bytes())),
        _ => out.extend(rows.iter().flat_map(|number| number.to_le_bytes())),
    }
}

/// A dictionary of one text that all `rows` have, without building one.
pub fn constant(value: &str, rows: usize, out: &mut Vec<u8>) {
    out.extend_from_slice(&HAS_ADDITIONAL_KEYS.to_le_bytes());
    out.extend_from_slice(&2u64.to_le_bytes());
    text("", out);
    text(value, out);
    out.extend_from_slice(&(rows as u64).to_le_bytes());
    out.resize(out.len() + rows, 1);
}
