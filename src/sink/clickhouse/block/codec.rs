//! How one field's Avro bytes become one column's bytes: the conversions a plan is made of.

use uuid::Uuid;

use super::buffer::Buffer;
use super::decimal::{Target, Wide};
use crate::avro::{Cursor, Shape, write_json};
use crate::sink::Why;

/// Reads one value and appends it to its column, or says why it cannot.
#[derive(Clone, Debug, PartialEq)]
pub enum Codec {
    /// Boolean, one byte.
    Boolean,
    /// A whole number of up to eight bytes.
    Integer {
        /// The field.
        from: Whole,
        /// Bytes of the column.
        bytes: usize,
        /// Smallest that fits.
        min: i64,
        /// Largest that fits.
        max: i64,
    },
    /// A whole number of 16 or 32 bytes.
    WideInteger {
        /// The field.
        from: Digits,
        /// Bytes of the column.
        bytes: usize,
        /// `Int`, not `UInt`.
        signed: bool,
    },
    /// A decimal.
    Decimal {
        /// The field.
        from: Digits,
        /// The column.
        target: Target,
    },
    /// Float or double to `Float32`.
    Float32(Float),
    /// Float or double to `Float64`.
    Float64(Float),
    /// An instant: value * multiply / divide, rounded down, within bounds.
    Ticks {
        /// Ticks of the column in one of the field.
        multiply: i64,
        /// Ticks of the field in one of the column.
        divide: i64,
        /// First tick that the column can hold.
        min: i64,
        /// Last tick.
        max: i64,
        /// 4 for `DateTime`, 8 for `DateTime64`.
        bytes: usize,
    },
    /// A UUID: its two halves, each little endian.
    Uuid(Text),
    /// A text.
    Text(Text),
    /// A text of at most so many bytes, filled up with NUL characters.
    FixedText(Text, usize),
    /// Exactly so many bytes.
    FixedBytes(Text, usize),
    /// The number of an enum's label, by the index of the Avro symbol.
    Symbol {
        /// The label's number for each symbol.
        numbers: Vec<i16>,
        /// 2 bytes, not 1.
        wide: bool,
    },
    /// The number of an enum's label, by the text; sorted.
    Label {
        /// Labels and their numbers.
        labels: Vec<(String, i16)>,
        /// 2 bytes, not 1.
        wide: bool,
    },
    /// A text in a dictionary.
    Word(Text),
    /// Any other value in a dictionary.
    Entry(Box<Codec>),
    /// An array.
    Array(Box<Codec>),
    /// A map: keys, values.
    Map(Box<Codec>, Box<Codec>),
    /// A value that is always there, in a nullable column.
    Present(Box<Codec>),
    /// An optional value, by what becomes of null.
    Optional {
        /// Null is branch 0 of the union.
        null_first: bool,
        /// What a value becomes.
        some: Box<Codec>,
        /// What null becomes.
        null: Null,
    },
    /// A field that is always null, which takes no bytes.
    Null(Null),
}

/// What null becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Null {
    /// The row is refused.
    Refused,
    /// A mark, and these bytes in the values' place.
    Marked(Vec<u8>),
    /// Key 0 of the dictionary: null, or the type's default where the column takes none.
    Word,
    /// The type's default, as these bytes.
    EncodedChunk(Vec<u8>),
    /// The empty array or map.
    Empty,
}

/// A field with a whole number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whole {
    /// 32 bits.
    Int,
    /// 64 bits.
    Long,
}

/// A field with a number of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Digits {
    /// An int or long.
    Whole(Whole),
    /// A decimal in bytes.
    Bytes,
    /// A decimal in a fixed.
    Fixed(usize),
}

/// A field with a number that a float column takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Float {
    /// Four bytes.
    Single,
    /// Eight bytes.
    Double,
    /// An int or long.
    Whole(Whole),
}

/// A field that can be had as bytes.
#[derive(Clone, Debug, PartialEq)]
pub enum Text {
    /// A string.
    String,
    /// Bytes.
    Bytes,
    /// A fixed of so many bytes.
    Fixed(usize),
    /// An enum's symbols.
    Symbols(Vec<String>),
    /// A UUID in 16 bytes, written as text.
    UuidBytes,
    /// A UUID in a fixed, written as text.
    UuidFixed,
    /// Anything, written as JSON.
    Json(Shape),
}

impl Whole {
    #[inline]
    fn read(self, cursor: &mut Cursor<'_>) -> Result<i64, Why> {
        Ok(match self {
            Self::Int => i64::from(cursor.int()?),
            Self::Long => cursor.long()?,
        })
    }
}

impl Digits {
    fn read(self, cursor: &mut Cursor<'_>) -> Result<Option<Wide>, Why> {
        Ok(match self {
            Self::Whole(from) => Some(Wide::from_i64(from.read(cursor)?)),
            Self::Bytes => Wide::from_big_endian(cursor.bytes()?),
            Self::Fixed(size) => Wide::from_big_endian(cursor.take(size)?),
        })
    }
}

impl Float {
    #[inline]
    fn read(self, cursor: &mut Cursor<'_>) -> Result<f64, Why> {
        Ok(match self {
            Self::Single => f64::from(cursor.float()?),
            Self::Double => cursor.double()?,
            Self::Whole(from) => from.read(cursor)? as f64,
        })
    }
}

impl Text {
    /// The bytes, from the datum where they stand in it, else made in `scratch`.
    #[inline]
    fn read<'r, 'd: 'r>(&'r self, cursor: &mut Cursor<'d>, scratch: &'r mut Vec<u8>) -> Result<&'r [u8], Why> {
        Ok(match self {
            Self::String => cursor.text()?.as_bytes(),
            Self::Bytes => cursor.bytes()?,
            Self::Fixed(size) => cursor.take(*size)?,
            Self::Symbols(symbols) => {
                let index = cursor.index(symbols.len())?;
                symbols.get(index).map(String::as_bytes).unwrap_or_default()
            }
            Self::UuidBytes => uuid_text(cursor.bytes()?, scratch)?,
            Self::UuidFixed => uuid_text(cursor.take(16)?, scratch)?,
            Self::Json(shape) => {
                scratch.clear();
                write_json(shape, cursor, scratch)?;
                scratch
            }
        })
    }
}

fn uuid_text<'r>(bytes: &[u8], scratch: &'r mut Vec<u8>) -> Result<&'r [u8], Why> {
    let uuid = Uuid::from_slice(bytes).map_err(|_| Why::NotUuid)?;
    scratch.clear();
    scratch.extend_from_slice(uuid.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
    Ok(scratch)
}

impl Codec {
    /// The same for a column that takes null in the block, although this field's null is still refused.
    pub fn present(self) -> Self {
        match self {
            Self::Optional { null_first, some, null: Null::Refused } => {
                Self::Optional { null_first, some: Box::new(Self::Present(some)), null: Null::Refused }
            }
            other => Self::Present(Box::new(other)),
        }
    }

    /// Reads the value at the cursor and appends it. Errors: it does not fit; what was appended must then be undone.
    #[inline]
    pub fn write(&self, cursor: &mut Cursor<'_>, to: &mut Buffer, scratch: &mut Vec<u8>) -> Result<(), Why> {
        match self {
            Self::Integer { from, bytes, min, max } => {
                let value = from.read(cursor)?;
                if value < *min || value > *max {
                    return Err(Why::OutOfRange);
                }
                little_endian(value, *bytes, &mut to.data);
            }
            Self::Ticks { multiply, divide, min, max, bytes } => {
                // Only narrowing divides, and it may lose: the plan saw to that.
                let scaled = cursor.long()?.checked_mul(*multiply).ok_or(Why::OutOfRange)?;
                let ticks = if *divide == 1 { scaled } else { scaled.div_euclid(*divide) };
                if ticks < *min || ticks > *max {
                    return Err(Why::OutOfRange);
                }
                little_endian(ticks, *bytes, &mut to.data);
            }
            Self::Text(from) => to.text(from.read(cursor, scratch)?),
            Self::Word(from) => write_word(from, cursor, to, scratch)?,
            Self::Uuid(from) => write_uuid(from, cursor, &mut to.data)?,
            Self::Float64(from) => to.data.extend_from_slice(&from.read(cursor)?.to_le_bytes()),
            Self::Optional { null_first, some, null } => {
                if cursor.is_some(*null_first)? {
                    if matches!(null, Null::Marked(_)) {
                        to.nulls.push(0);
                    }
                    return some.write(cursor, to, scratch);
                }
                write_null(null, to)?;
            }
            Self::Present(some) => {
                to.nulls.push(0);
                return some.write(cursor, to, scratch);
            }
            other => return other.write_rare(cursor, to, scratch),
        }
        Ok(())
    }

    fn write_rare(&self, cursor: &mut Cursor<'_>, to: &mut Buffer, scratch: &mut Vec<u8>) -> Result<(), Why> {
        match self {
            Self::Boolean => to.data.push(u8::from(cursor.boolean()?)),
            Self::Float32(from) => {
                let value = from.read(cursor)?;
                let single = value as f32;
                if single.is_infinite() && value.is_finite() {
                    return Err(Why::OutOfRange);
                }
                to.data.extend_from_slice(&single.to_le_bytes());
            }
            Self::Null(null) => write_null(null, to)?,
            Self::WideInteger { from, bytes, signed } => {
                let value = from.read(cursor)?.filter(|value| value.fits(*bytes, *signed)).ok_or(Why::OutOfRange)?;
                to.data.extend_from_slice(value.little_endian().get(..*bytes).unwrap_or_default());
            }
            Self::Decimal { from, target } => target.write(from.read(cursor)?, &mut to.data)?,
            Self::FixedText(from, length) => write_padded(from.read(cursor, scratch)?, *length, &mut to.data)?,
            Self::FixedBytes(from, length) => {
                let bytes = from.read(cursor, scratch)?;
                match bytes.len() {
                    found if found > *length => return Err(Why::TooLong),
                    found if found < *length => return Err(Why::OutOfRange),
                    _ => to.data.extend_from_slice(bytes),
                }
            }
            Self::Symbol { numbers, wide } => {
                let index = cursor.index(numbers.len())?;
                write_label(numbers.get(index).copied(), *wide, &mut to.data)?;
            }
            Self::Label { labels, wide } => {
                let text = cursor.text()?;
                let found = labels.binary_search_by(|(label, _)| label.as_str().cmp(text)).ok();
                let number = found.and_then(|at| labels.get(at)).map(|(_, number)| *number);
                write_label(number, *wide, &mut to.data)?;
            }
            Self::Entry(value) => {
                // The value's own bytes pass through `data`, which a dictionary column has no other use for.
                to.data.clear();
                value.write(cursor, to, scratch)?;
                if let Some(dictionary) = &mut to.dictionary {
                    dictionary.push(&to.data);
                }
            }
            _ => self.write_nested(cursor, to, scratch)?,
        }
        Ok(())
    }

    fn write_nested(&self, cursor: &mut Cursor<'_>, to: &mut Buffer, scratch: &mut Vec<u8>) -> Result<(), Why> {
        let count = match (self, to.items.as_mut_slice()) {
            (Self::Array(codec), [items]) => cursor.items::<Why>(|cursor| codec.write(cursor, items, scratch))?,
            (Self::Map(key, value), [keys, values]) => cursor.items::<Why>(|cursor| {
                key.write(cursor, keys, scratch)?;
                value.write(cursor, values, scratch)
            })?,
            _ => 0,
        };
        let before = to.ends.last().copied().unwrap_or(0);
        to.ends.push(before + count as u64);
        Ok(())
    }
}

/// A null, or a row without the field.
#[inline]
pub(super) fn write_null(null: &Null, to: &mut Buffer) -> Result<(), Why> {
    match null {
        Null::Refused => return Err(Why::Null),
        Null::Marked(filler) => {
            to.nulls.push(1);
            to.data.extend_from_slice(filler);
        }
        Null::Word => {
            if let Some(dictionary) = &mut to.dictionary {
                dictionary.push_null();
            }
        }
        Null::EncodedChunk(default) => to.data.extend_from_slice(default),
        Null::Empty => to.ends.push(to.ends.last().copied().unwrap_or(0)),
    }
    Ok(())
}

#[inline]
fn write_word(from: &Text, cursor: &mut Cursor<'_>, to: &mut Buffer, scratch: &mut Vec<u8>) -> Result<(), Why> {
    let Some(dictionary) = &mut to.dictionary else { return Ok(()) };
    if *from != Text::String {
        dictionary.push(from.read(cursor, scratch)?);
        return Ok(());
    }
    // What is in the dictionary already was seen to be UTF-8 when it came in.
    let bytes = cursor.bytes()?;
    if !dictionary.push_if(bytes, || std::str::from_utf8(bytes).is_ok()) {
        return Err(Why::Damaged(crate::avro::DatumError::NotUtf8));
    }
    Ok(())
}

#[inline]
fn write_uuid(from: &Text, cursor: &mut Cursor<'_>, out: &mut Vec<u8>) -> Result<(), Why> {
    let uuid = match from {
        Text::String => Uuid::try_parse(cursor.text()?),
        Text::Fixed(size) => Uuid::from_slice(cursor.take(*size)?),
        _ => Uuid::from_slice(cursor.bytes()?),
    };
    let (high, low) = uuid.map_err(|_| Why::NotUuid)?.as_u64_pair();
    out.extend_from_slice(&high.to_le_bytes());
    out.extend_from_slice(&low.to_le_bytes());
    Ok(())
}

/// ClickHouse fills a `FixedString` up with NUL characters, so a text that ends with one of its own could not be told from a
/// shorter one.
fn write_padded(text: &[u8], length: usize, out: &mut Vec<u8>) -> Result<(), Why> {
    if text.len() > length {
        return Err(Why::TooLong);
    }
    if text.last() == Some(&0) {
        return Err(Why::NulCharacter);
    }
    out.extend_from_slice(text);
    out.resize(out.len() + length - text.len(), 0);
    Ok(())
}

fn write_label(number: Option<i16>, wide: bool, out: &mut Vec<u8>) -> Result<(), Why> {
    let number = number.ok_or(Why::UnknownLabel)?;
    little_endian(i64::from(number), if wide { 2 } else { 1 }, out);
    Ok(())
}

#[inline]
fn little_endian(value: i64, bytes: usize, out: &mut Vec<u8>) {
    // One branch a width: each is a store of known size.
    match bytes {
        1 => out.push(value as u8),
        2 => out.extend_from_slice(&(value as u16).to_le_bytes()),
        4 => out.extend_from_slice(&(value as u32).to_le_bytes()),
        _ => out.extend_from_slice(&value.to_le_bytes()),
    }
}
