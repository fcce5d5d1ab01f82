//! What a predicate reads of a record.

use std::sync::Arc;

use crate::avro::Shape;
use crate::kafka::dead_letter::Reason;
use crate::pipeline::plan::fields::Plain;
use crate::pipeline::plan::place_fields;
use crate::pipeline::plan::value::{Cast, Form, Scalar};
use crate::pipeline::plan::walk::Span;

/// Why a predicate has no answer for a record. Never holds a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fail {
    /// A null where a value is needed.
    Null,
    /// NaN.
    NotANumber,
    /// A value that cannot be cast.
    Cast(Reason),
    /// The interpreter's evaluation failed.
    Failed,
}

impl Fail {
    /// In words.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Null => "a null where a value is needed",
            Self::NotANumber => "a number that is none is compared",
            Self::Cast(_) => "a value cannot be cast",
            Self::Failed => "the expression has no value",
        }
    }
}

/// What of a record a predicate reads.
#[derive(Clone, Copy)]
pub struct Input<'a> {
    /// The datum.
    pub datum: &'a [u8],
    /// Where values lie in it.
    pub slots: &'a [Span],
    /// Fragments of the places found so far.
    pub places: &'a [Arc<[u8]>],
}

/// Where a predicate's value is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    Slot(usize),
    Place { lookup: usize, field: usize },
}

impl At {
    /// The value's bytes; none where it is absent.
    #[inline]
    pub fn bytes<'a>(self, input: &Input<'a>) -> Option<&'a [u8]> {
        match self {
            Self::Slot(slot) => input.slots.get(slot)?.of(input.datum),
            Self::Place { lookup, field } => {
                input.places.get(lookup).map(|fragment| place_fields::slice(fragment, field, field))
            }
        }
    }
}

/// A scalar of a record.
#[derive(Clone, Debug)]
pub(super) struct Field {
    pub at: At,
    /// Null is branch 0; none: it cannot be null.
    null_first: Option<bool>,
    pub form: Form,
    pub cast: Option<Cast>,
    /// Null where it is absent: see [`null_where_absent`].
    absent_is_null: bool,
}

/// Whether a field of this name is null where the record around it is. A field taken out of that record under a name of its own is;
/// by its path there, `client.address`, it has no value, as CEL has it.
pub(super) fn null_where_absent(name: &str) -> bool {
    !name.contains('.')
}

impl Field {
    pub fn new(at: At, plain: &Plain, name: &str) -> Option<Self> {
        let (stored, is_optional) = plain.stored.unwrap_optional();
        let null_first = match &plain.stored {
            Shape::Optional { null_first, .. } if is_optional => Some(*null_first),
            _ => None,
        };
        let cast = plain.cast.filter(|cast| *cast != Cast::Same);
        Some(Self { at, null_first, form: Form::of(stored)?, cast, absent_is_null: null_where_absent(name) })
    }

    /// Its value, null included. Errors: a record around it is null, where it is named by its path; its cast
    /// fails.
    #[inline]
    pub fn read<'a>(&'a self, input: &Input<'a>) -> Result<Scalar<'a>, Fail> {
        let Some(mut bytes) = self.at.bytes(input) else {
            return if self.absent_is_null { Ok(Scalar::Null) } else { Err(Fail::Null) };
        };
        if let Some(null_first) = self.null_first {
            match bytes.split_first() {
                Some((branch, rest)) if (*branch == 2) == null_first => bytes = rest,
                _ => return Ok(Scalar::Null),
            }
        }
        let value = self.form.read(bytes);
        match self.cast {
            Some(cast) => cast.apply(value).map_err(Fail::Cast),
            None => Ok(value),
        }
    }
}
