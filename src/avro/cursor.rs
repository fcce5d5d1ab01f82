//! Reads a datum's bytes, each bound checked; no allocation.

use super::{Recursion, Shape, UuidForm};

/// Most items of one datum, in all its arrays and maps.
const MAX_ITEMS: usize = 1_000_000;
/// Most of them that take no bytes: a few bytes can announce billions of nulls, and lists of lists of them.
const MAX_EMPTY_ITEMS: usize = 1_000;
/// Longest decimal, some 2,400 digits: making text of one takes time quadratic in its length.
const MAX_DECIMAL_BYTES: usize = 1_024;
/// How deep a datum may go into records that hold themselves: each level takes a part of the thread's stack.
const MAX_DEPTH: usize = 512;

/// Why bytes are not a datum of the schema. Never holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatumError {
    /// The bytes end within a value.
    #[error("the datum ends too early")]
    TooShort,
    /// Bytes are left over after it.
    #[error("bytes are left over after the datum")]
    TooLong,
    /// A varint of more than 64 bits, or an int of more than 32.
    #[error("a number has too many bits")]
    TooManyBits,
    /// A boolean that is neither 0 nor 1.
    #[error("a boolean is neither 0 nor 1")]
    NotBoolean,
    /// A length below zero.
    #[error("a length is below zero")]
    NegativeLength,
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// An index of a symbol or branch that the schema does not have.
    #[error("a symbol or union branch that the schema does not have")]
    NoSuchBranch,
    /// More than a million items.
    #[error("arrays and maps have more than a million items, or more than a thousand that take no bytes")]
    TooManyItems,
    /// A decimal longer than any column holds.
    #[error("a decimal has more than 1024 bytes")]
    TooManyDigits,
    /// Records within themselves, too many levels of them.
    #[error("records within themselves are nested too deep")]
    TooDeep,
}

/// A place in a datum.
#[derive(Clone, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
    items_left: usize,
    empty_items_left: usize,
    depth_left: usize,
}

impl<'a> Cursor<'a> {
    /// At the start of `datum` (without the wire format's five bytes).
    pub fn new(datum: &'a [u8]) -> Self {
        Self { rest: datum, items_left: MAX_ITEMS, empty_items_left: MAX_EMPTY_ITEMS, depth_left: MAX_DEPTH }
    }

    /// Errors: bytes are left over.
    pub fn finish(&self) -> Result<(), DatumError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DatumError::TooLong) }
    }

    /// What is not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// `length` bytes.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], DatumError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(DatumError::TooShort)?;
        self.rest = rest;
        Ok(taken)
    }

    /// As many bytes as the array has.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], DatumError> {
        let (taken, rest) = self.rest.split_first_chunk::<N>().ok_or(DatumError::TooShort)?;
        self.rest = rest;
        Ok(*taken)
    }

    /// A boolean.
    #[inline]
    pub fn boolean(&mut self) -> Result<bool, DatumError> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(DatumError::NotBoolean),
        }
    }

    /// A long (or anything written as one).
    #[inline]
    pub fn long(&mut self) -> Result<i64, DatumError> {
        // Most lengths and branches fit one byte.
        if let [byte, rest @ ..] = self.rest
            && byte & 0x80 == 0
        {
            self.rest = rest;
            return Ok(unzigzag(u64::from(*byte)));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<i64, DatumError> {
        let mut bits = 0u64;
        for (index, byte) in self.rest.iter().enumerate().take(10) {
            if index == 9 && *byte > 1 {
                return Err(DatumError::TooManyBits);
            }
            bits |= u64::from(byte & 0x7f) << (7 * index);
            if byte & 0x80 == 0 {
                self.rest = self.rest.get(index + 1..).unwrap_or_default();
                return Ok(unzigzag(bits));
            }
        }
        Err(if self.rest.len() < 10 { DatumError::TooShort } else { DatumError::TooManyBits })
    }

    /// An int.
    #[inline]
    pub fn int(&mut self) -> Result<i32, DatumError> {
        i32::try_from(self.long()?).map_err(|_| DatumError::TooManyBits)
    }

    /// A float.
    #[inline]
    pub fn float(&mut self) -> Result<f32, DatumError> {
        Ok(f32::from_le_bytes(self.array()?))
    }

    /// A double.
    #[inline]
    pub fn double(&mut self) -> Result<f64, DatumError> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    /// Bytes.
    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], DatumError> {
        let length = usize::try_from(self.long()?).map_err(|_| DatumError::NegativeLength)?;
        self.take(length)
    }

    /// A string.
    #[inline]
    pub fn text(&mut self) -> Result<&'a str, DatumError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| DatumError::NotUtf8)
    }

    /// A decimal's bytes: `fixed` of them, or as many as it says.
    #[inline]
    pub fn decimal(&mut self, fixed: Option<usize>) -> Result<&'a [u8], DatumError> {
        let bytes = match fixed {
            Some(size) => self.take(size)?,
            None => self.bytes()?,
        };
        if bytes.len() > MAX_DECIMAL_BYTES { Err(DatumError::TooManyDigits) } else { Ok(bytes) }
    }

    /// The index of an enum's symbol or a union's branch, below `count`.
    #[inline]
    pub fn index(&mut self, count: usize) -> Result<usize, DatumError> {
        usize::try_from(self.long()?).ok().filter(|index| *index < count).ok_or(DatumError::NoSuchBranch)
    }

    /// Whether an optional value is there; then it follows.
    #[inline]
    pub fn is_some(&mut self, null_first: bool) -> Result<bool, DatumError> {
        Ok((self.index(2)? == 1) == null_first)
    }

    /// Calls `item` at each item of an array or entry of a map: blocks of a count (below zero: the block's size in bytes
    /// follows), up to a count of 0. Returns how many there were.
    pub fn items<E: From<DatumError>>(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), E>) -> Result<usize, E> {
        let mut total = 0usize;
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(total);
            }
            if count < 0 {
                self.long()?;
            }
            let count = usize::try_from(count.unsigned_abs()).map_err(|_| DatumError::TooManyItems)?;
            self.items_left = self.items_left.checked_sub(count).ok_or(DatumError::TooManyItems)?;
            total += count;
            for _ in 0..count {
                let before = self.rest.len();
                item(self)?;
                if self.rest.len() == before {
                    self.empty_items_left = self.empty_items_left.checked_sub(1).ok_or(DatumError::TooManyItems)?;
                }
            }
        }
    }

    /// Reads a value of a type that holds itself. Errors: those of `read`; a datum that goes too deep into itself.
    pub(super) fn recurse(
        &mut self,
        of: &Recursion,
        read: impl FnOnce(&Shape, &mut Self) -> Result<(), DatumError>,
    ) -> Result<(), DatumError> {
        let within = of.with_type(|shape, depth| {
            self.depth_left = self.depth_left.checked_sub(depth).ok_or(DatumError::TooDeep)?;
            read(shape, self)?;
            self.depth_left += depth;
            Ok(())
        });
        within.unwrap_or(Err(DatumError::NoSuchBranch))
    }

    /// Passes over a value.
    pub fn skip(&mut self, shape: &Shape) -> Result<(), DatumError> {
        match shape {
            Shape::Null => {}
            Shape::Boolean => drop(self.boolean()?),
            Shape::Int | Shape::Date | Shape::TimeMillis => drop(self.int()?),
            Shape::Long
            | Shape::TimeMicros
            | Shape::TimestampMillis
            | Shape::TimestampMicros
            | Shape::TimestampNanos
            | Shape::LocalTimestampMillis
            | Shape::LocalTimestampMicros
            | Shape::LocalTimestampNanos => drop(self.long()?),
            Shape::Float => drop(self.array::<4>()?),
            Shape::Double => drop(self.array::<8>()?),
            Shape::Bytes | Shape::Uuid(UuidForm::Bytes) => drop(self.bytes()?),
            Shape::String | Shape::Uuid(UuidForm::Text) => drop(self.text()?),
            Shape::Fixed(size) => drop(self.take(*size)?),
            Shape::Decimal { fixed, .. } => drop(self.decimal(*fixed)?),
            Shape::Uuid(UuidForm::Fixed) => drop(self.take(16)?),
            Shape::Enum(symbols) => drop(self.index(symbols.len())?),
            Shape::Array(items) => drop(self.items(|cursor| cursor.skip(items))?),
            Shape::Map(values) => drop(self.items(|cursor| {
                cursor.text()?;
                cursor.skip(values)
            })?),
            Shape::Record(fields) => fields.iter().try_for_each(|field| self.skip(&field.shape))?,
            Shape::Recursive(of) => self.recurse(of, |shape, cursor| cursor.skip(shape))?,
            Shape::Optional { null_first, some } => {
                if self.is_some(*null_first)? {
                    self.skip(some)?;
                }
            }
            Shape::Union(branches) => {
                let index = self.index(branches.len())?;
                let branch = branches.get(index).ok_or(DatumError::NoSuchBranch)?;
                self.skip(branch)?;
            }
        }
        Ok(())
    }
}

fn unzigzag(bits: u64) -> i64 {
    (bits >> 1) as i64 ^ -((bits & 1) as i64)
}
