//! Casts: a field is read as the type that the pipeline file says, where the schema has the logical type in the wrong place or
//! not at all. The bytes stay as they are, so only types that are written in the same way can stand for each other.

use std::collections::BTreeMap;

use super::declared;
use crate::avro::{Shape, UuidForm};

/// Field → type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Casts(BTreeMap<String, Shape>);

impl Casts {
    /// The casts of a configuration. Errors, in words: an unknown type.
    pub fn new(casts: &BTreeMap<String, String>) -> Result<Self, String> {
        let shape = |(field, text): (&String, &String)| Ok((field.clone(), declared::parse(text, field)?.shape()));
        Ok(Self(casts.iter().map(shape).collect::<Result<_, String>>()?))
    }

    /// The line under `[source.cast]` by which a field of this type is read as the logical type; `None` where it cannot be.
    pub fn line(field: &str, logical: &str, shape: &Shape) -> Option<String> {
        // Many write `timestamp_micros`.
        let logical = logical.replace('_', "-");
        let wanted = declared::parse(&logical, field).ok()?.shape();
        let is_bare = !field.is_empty() && field.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-');
        let key = if is_bare { field.to_string() } else { format!("{field:?}") };
        retyped(&mut shape.clone(), &wanted).then(|| format!("{key} = \"{logical}\""))
    }

    /// Whether there is a cast of the field.
    pub fn has(&self, field: &str) -> bool {
        self.0.contains_key(field)
    }

    /// Gives the fields of a record their types. Errors, in words: a field that is not there, or is written in another way.
    pub fn apply(&self, shape: &mut Shape) -> Result<(), String> {
        for (name, wanted) in &self.0 {
            let Shape::Record(fields) = shape else {
                return Err(format!("source.cast.{name}: the schema is {shape}, not a record"));
            };
            let field = fields.iter_mut().find(|field| field.name == *name);
            let field = field.ok_or_else(|| format!("source.cast.{name}: the schema has no field of this name"))?;
            if !retyped(&mut field.shape, wanted) {
                return Err(format!(
                    "source.cast.{name}: a field of type {} cannot be read as {wanted}, which is written in another way",
                    field.shape
                ));
            }
            field.misplaced = None;
        }
        Ok(())
    }
}

/// Puts `wanted` in the place of a type that is written in the same way; `wanted` need not say again that null is allowed.
fn retyped(shape: &mut Shape, wanted: &Shape) -> bool {
    if let (Shape::Optional { some, .. }, wanted) = (&mut *shape, wanted.unwrap_optional().0) {
        return retyped(some, wanted);
    }
    if let (Shape::Array(items), Shape::Array(wanted)) = (&mut *shape, wanted) {
        return retyped(items, wanted);
    }
    let same = match (&*shape, wanted) {
        (Shape::Fixed(size), Shape::Decimal { precision, scale, .. }) => {
            *shape = Shape::Decimal { precision: *precision, scale: *scale, fixed: Some(*size) };
            return true;
        }
        (Shape::Fixed(16), Shape::Uuid(_)) => {
            *shape = Shape::Uuid(UuidForm::Fixed);
            return true;
        }
        (Shape::Bytes, Shape::Uuid(_)) => {
            *shape = Shape::Uuid(UuidForm::Bytes);
            return true;
        }
        (one, other) => written_as(one).is_some_and(|one| written_as(other) == Some(one)),
    };
    if same {
        *shape = wanted.clone();
    }
    same
}

/// The primitive type by which a value of the shape is written.
fn written_as(shape: &Shape) -> Option<Shape> {
    Some(match shape {
        Shape::Boolean => Shape::Boolean,
        Shape::Float => Shape::Float,
        Shape::Double => Shape::Double,
        Shape::Int | Shape::Date | Shape::TimeMillis => Shape::Int,
        Shape::Long
        | Shape::TimeMicros
        | Shape::TimestampMillis
        | Shape::TimestampMicros
        | Shape::TimestampNanos
        | Shape::LocalTimestampMillis
        | Shape::LocalTimestampMicros
        | Shape::LocalTimestampNanos => Shape::Long,
        Shape::String | Shape::Uuid(UuidForm::Text) => Shape::String,
        Shape::Bytes | Shape::Decimal { fixed: None, .. } => Shape::Bytes,
        _ => return None,
    })
}
