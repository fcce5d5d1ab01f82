//! Reads values of an mmdb data section in place, by offset.
//!
//! The maxminddb crate decodes only what one of its lookups has just found, which would tie a cached record to an
//! address. This reader needs an offset and nothing else.

use std::ops::ControlFlow;

/// Deepest nesting, pointers included, that is followed: real records have three levels, a crafted file could have a cycle.
const MAX_DEPTH: u8 = 16;

/// A value; text is borrowed from the file.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Number(f64),
    Map(Container<'a>),
    Array(Container<'a>),
    /// Bytes, booleans, 128-bit numbers: kinds that no place has.
    Other,
}

/// A map or array: how many entries and where they begin.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Container<'a> {
    section: &'a [u8],
    at: usize,
    len: usize,
    depth: u8,
}

// The section is the whole file: never print it.
impl std::fmt::Debug for Container<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} entries at offset {}", self.len, self.at)
    }
}

/// Where in the data section reading failed, and why.
#[derive(Debug, PartialEq)]
pub(crate) struct Damage {
    pub(crate) offset: usize,
    pub(crate) what: &'static str,
}

type Read<T> = Result<T, Damage>;

/// The value at an offset of the data section.
pub(crate) fn value_at(section: &[u8], offset: usize) -> Read<Value<'_>> {
    Ok(read(section, offset, 0)?.0)
}

impl<'a> Value<'a> {
    /// The text, or "" if it is anything else.
    pub(crate) fn text(&self) -> &'a str {
        match self {
            Value::Text(text) => text.trim(),
            _ => "",
        }
    }

    /// The number, or none if it is anything else.
    pub(crate) fn number(&self) -> Option<f64> {
        match self {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// The entry of a map; `Other` if this is no map or has no such key.
    pub(crate) fn get(&self, key: &str) -> Read<Value<'a>> {
        let Value::Map(map) = self else { return Ok(Value::Other) };
        let mut found = Value::Other;
        map.each_entry(|name, value| {
            if name != key {
                return ControlFlow::Continue(());
            }
            found = value;
            ControlFlow::Break(())
        })?;
        Ok(found)
    }

    /// The first item of an array; `Other` if this is no array or is empty.
    pub(crate) fn first(&self) -> Read<Value<'a>> {
        match self {
            Value::Array(array) if array.len > 0 => Ok(read(array.section, array.at, array.depth)?.0),
            _ => Ok(Value::Other),
        }
    }

    /// Reads everything inside, which proves that the record is whole. `budget` is the number of values that may still be
    /// read: pointers let a small file hold a huge tree.
    pub(crate) fn verify(&self, budget: &mut u32) -> Read<()> {
        match self {
            Value::Map(map) => {
                let mut inner = Ok(());
                map.each_entry(|_, value| match spend(budget, map.at).and_then(|()| value.verify(budget)) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(damage) => {
                        inner = Err(damage);
                        ControlFlow::Break(())
                    }
                })?;
                inner
            }
            Value::Array(array) => {
                let mut at = array.at;
                for _ in 0..array.len {
                    spend(budget, at)?;
                    let (value, next) = read(array.section, at, array.depth)?;
                    value.verify(budget)?;
                    at = next;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl<'a> Container<'a> {
    /// Calls `visit` with each key and value of a map until it breaks.
    pub(crate) fn each_entry(&self, mut visit: impl FnMut(&'a str, Value<'a>) -> ControlFlow<()>) -> Read<()> {
        let mut at = self.at;
        for _ in 0..self.len {
            let (key, value_at) = read(self.section, at, self.depth)?;
            let Value::Text(key) = key else { return Err(Damage { offset: at, what: "a map key that is not text" }) };
            let (value, next) = read(self.section, value_at, self.depth)?;
            if visit(key, value).is_break() {
                return Ok(());
            }
            at = next;
        }
        Ok(())
    }
}

fn spend(budget: &mut u32, offset: usize) -> Read<()> {
    *budget = budget.checked_sub(1).ok_or(Damage { offset, what: "a record of more values than any place has" })?;
    Ok(())
}

/// The value at `at` and the offset behind it (behind the pointer, where it is one).
fn read(section: &[u8], at: usize, depth: u8) -> Read<(Value<'_>, usize)> {
    if depth >= MAX_DEPTH {
        return Err(Damage { offset: at, what: "values nested too deep" });
    }
    let control = byte(section, at)?;
    if control >> 5 == 1 {
        return follow(section, at, control, depth);
    }
    let (kind, body) = match control >> 5 {
        0 => (u16::from(byte(section, at + 1)?) + 7, at + 2),
        kind => (u16::from(kind), at + 1),
    };
    let (size, body) = size(section, control, body)?;
    if kind == 7 || kind == 11 {
        return container(section, at, kind, size, body, depth);
    }
    // A boolean (14) holds its value in the size and has no body.
    let len = if kind == 14 { 0 } else { size };
    let bytes = slice(section, body, len)?;
    Ok((scalar(at, kind, bytes)?, body + len))
}

fn scalar(at: usize, kind: u16, bytes: &[u8]) -> Read<Value<'_>> {
    let value = match (kind, bytes.len()) {
        (2, _) => {
            Value::Text(str::from_utf8(bytes).map_err(|_| Damage { offset: at, what: "text that is not UTF-8" })?)
        }
        (3, 8) => Value::Number(f64::from_bits(unsigned(bytes))),
        (15, 4) => Value::Number(f64::from(f32::from_bits(unsigned(bytes) as u32))),
        (5, 0..=2) | (6, 0..=4) | (9, 0..=8) => Value::Number(unsigned(bytes) as f64),
        // Shorter than four bytes means padded with zeros on the left: then it is positive.
        (8, 0..=4) => Value::Number(f64::from(unsigned(bytes) as u32 as i32)),
        (4 | 14, _) | (10, 0..=16) => Value::Other,
        _ => return Err(Damage { offset: at, what: "a value of unknown kind or wrong size" }),
    };
    Ok(value)
}

fn container(section: &[u8], at: usize, kind: u16, len: usize, body: usize, depth: u8) -> Read<(Value<'_>, usize)> {
    // An entry takes a byte at least: no need to believe more.
    if len > section.len() {
        return Err(Damage { offset: at, what: "a map or array of more entries than the file has bytes" });
    }
    let inside = Container { section, at: body, len, depth: depth + 1 };
    let end = skip(section, body, if kind == 7 { len * 2 } else { len }, depth + 1)?;
    Ok((if kind == 7 { Value::Map(inside) } else { Value::Array(inside) }, end))
}

/// The offset behind `count` values, without following pointers.
fn skip(section: &[u8], mut at: usize, count: usize, depth: u8) -> Read<usize> {
    if depth >= MAX_DEPTH {
        return Err(Damage { offset: at, what: "values nested too deep" });
    }
    for _ in 0..count {
        let control = byte(section, at)?;
        if control >> 5 == 1 {
            at += 2 + usize::from(control >> 3 & 3);
            continue;
        }
        let (kind, body) = match control >> 5 {
            0 => (u16::from(byte(section, at + 1)?) + 7, at + 2),
            kind => (u16::from(kind), at + 1),
        };
        let (size, body) = size(section, control, body)?;
        at = match kind {
            7 | 11 => skip(section, body, if kind == 7 { size * 2 } else { size }, depth + 1)?,
            14 => body,
            _ => body + slice(section, body, size)?.len(),
        };
    }
    Ok(at)
}

fn follow(section: &[u8], at: usize, control: u8, depth: u8) -> Read<(Value<'_>, usize)> {
    let extra = usize::from(control >> 3 & 3);
    let low = unsigned(slice(section, at + 1, extra + 1)?) as usize;
    let high = usize::from(control & 7);
    let target = match extra {
        0 => high << 8 | low,
        1 => (high << 16 | low) + 2048,
        2 => (high << 24 | low) + 526_336,
        _ => low,
    };
    if section.get(target).is_some_and(|control| control >> 5 == 1) {
        return Err(Damage { offset: at, what: "a pointer to a pointer" });
    }
    Ok((read(section, target, depth + 1)?.0, at + 2 + extra))
}

/// The size field of a control byte, and where the value's body begins.
fn size(section: &[u8], control: u8, body: usize) -> Read<(usize, usize)> {
    Ok(match control & 31 {
        29 => (29 + unsigned(slice(section, body, 1)?) as usize, body + 1),
        30 => (285 + unsigned(slice(section, body, 2)?) as usize, body + 2),
        31 => (65_821 + unsigned(slice(section, body, 3)?) as usize, body + 3),
        small => (usize::from(small), body),
    })
}

fn byte(section: &[u8], at: usize) -> Read<u8> {
    section.get(at).copied().ok_or(Damage { offset: at, what: "a value that runs past the end of the data" })
}

fn slice(section: &[u8], at: usize, len: usize) -> Read<&[u8]> {
    at.checked_add(len)
        .and_then(|end| section.get(at..end))
        .ok_or(Damage { offset: at, what: "a value that runs past the end of the data" })
}

/// Up to eight bytes as a big-endian number.
fn unsigned(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}
