//! What is written: each field of the output by its source, and the record's key.

use std::sync::Arc;

use super::fields::{From, Plain};
use super::place_fields;
use super::predicate::Input;
use super::value::{Cast, Form, Scalar, as_text, write};
use crate::avro::{Cursor, Shape, write_json};
use crate::kafka::dead_letter::Reason;

/// A field of the output.
pub struct Put {
    /// Its name.
    pub name: String,
    /// Its name as JSON, with the colon.
    json_name: Box<[u8]>,
    /// Its type.
    pub shape: Shape,
    pub(super) source: Source,
}

/// Where a field's bytes come from.
pub(super) enum Source {
    /// The value, as it lies in the datum.
    Copy(At),
    /// The value under another type, or with another null.
    Convert(Convert),
    /// What the schema says where nothing is there.
    Constant(Box<[u8]>),
}

/// Where a value lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Slot(usize),
    /// Fields of a place, one behind the other.
    Place {
        lookup: usize,
        first: usize,
        last: usize,
    },
}

pub(super) struct Convert {
    pub at: At,
    /// Null is branch 0 of the stored value; none: it cannot be null.
    pub stored_null_first: Option<bool>,
    /// The same of the output.
    pub null_first: Option<bool>,
    pub cast: Option<(Cast, Form, Form)>,
}

impl At {
    pub fn of(plain: &Plain, slot: &mut dyn FnMut(&[String]) -> usize) -> Self {
        match &plain.from {
            From::Input(path) => Self::Slot(slot(path)),
            From::Place { lookup, field } => Self::Place { lookup: *lookup, first: *field, last: *field },
        }
    }

    #[inline]
    fn bytes<'a>(self, input: &Input<'a>) -> Option<&'a [u8]> {
        match self {
            Self::Slot(slot) => input.slots.get(slot)?.of(input.datum),
            Self::Place { lookup, first, last } => {
                let fragment: &'a Arc<[u8]> = input.places.get(lookup)?;
                Some(place_fields::slice(fragment, first, last))
            }
        }
    }
}

impl Put {
    pub(super) fn new(name: &str, shape: Shape, source: Source) -> Self {
        let json_name = format!("{}:", serde_json::Value::from(name)).into_bytes().into_boxed_slice();
        Self { name: name.into(), json_name, shape, source }
    }

    /// Appends the value as Avro. Errors: it has none of this type.
    #[inline]
    pub(super) fn avro(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
        match &self.source {
            Source::Copy(at) => {
                out.extend_from_slice(at.bytes(input).ok_or(Reason::MissingField)?);
                Ok(())
            }
            Source::Convert(convert) => convert.avro(input, out),
            Source::Constant(bytes) => {
                out.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    /// Appends name and value as JSON; `scratch` is overwritten. Errors: as for Avro.
    pub(super) fn json(&self, input: &Input<'_>, scratch: &mut Vec<u8>, out: &mut Vec<u8>) -> Result<(), Reason> {
        out.extend_from_slice(&self.json_name);
        let bytes = match &self.source {
            Source::Copy(at) => at.bytes(input).ok_or(Reason::MissingField)?,
            _ => {
                scratch.clear();
                self.avro(input, scratch)?;
                scratch
            }
        };
        write_json(&self.shape, &mut Cursor::new(bytes), out).map_err(|_| Reason::WrongType)
    }
}

impl Convert {
    fn avro(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<(), Reason> {
        let value = stored(self.at.bytes(input), self.stored_null_first);
        match (value, self.null_first) {
            (None, None) => return Err(Reason::MissingField),
            (None, Some(null_first)) => {
                out.push(if null_first { 0 } else { 2 });
                return Ok(());
            }
            (Some(_), Some(null_first)) => out.push(if null_first { 2 } else { 0 }),
            (Some(_), None) => {}
        }
        let bytes = value.unwrap_or_default();
        match &self.cast {
            None => out.extend_from_slice(bytes),
            Some((cast, from, to)) => write(to, cast.apply(from.read(bytes))?, out),
        }
        Ok(())
    }
}

/// The bytes of a value that is not null.
#[inline]
fn stored(bytes: Option<&[u8]>, null_first: Option<bool>) -> Option<&[u8]> {
    let bytes = bytes?;
    let Some(null_first) = null_first else { return Some(bytes) };
    let (branch, rest) = bytes.split_first()?;
    ((*branch == 2) == null_first).then_some(rest)
}

/// The record's key.
pub enum Key {
    /// That of the input record.
    Input,
    /// None.
    None,
    /// The text of a field.
    Field(KeyField),
}

/// See [`Key::Field`].
pub struct KeyField {
    /// Its name.
    pub name: String,
    pub(super) at: At,
    pub(super) null_first: Option<bool>,
    pub(super) form: Form,
    pub(super) cast: Option<Cast>,
}

impl KeyField {
    /// Puts the key into `out`. `false`: the record has none. Errors: its value cannot be cast.
    pub(super) fn put(&self, input: &Input<'_>, out: &mut Vec<u8>) -> Result<bool, Reason> {
        out.clear();
        let Some(bytes) = stored(self.at.bytes(input), self.null_first) else { return Ok(false) };
        let value = self.form.read(bytes);
        let value = self.cast.map_or(Ok(value), |cast| cast.apply(value))?;
        let mut room = [0; 32];
        out.extend_from_slice(as_text(value, &mut room));
        Ok(value != Scalar::Null)
    }
}
