//! Records that somebody wrote by hand, in the format that a topic has.

use serde_json::Value;

use super::WIRE_FORMAT;
use super::datum::{self, Misfit};
use crate::avro::Shape;
use crate::avro::schema::SchemaText;

/// A value or a key as it was written by hand.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// Its bytes; in Avro, its fields as JSON.
    Text(String),
    /// Its fields.
    Fields(Value),
}

/// Makes a topic's bytes of them.
pub enum Inputs {
    /// Text as it is, fields as JSON.
    Json,
    /// Confluent's wire format, by this shape.
    Avro(Box<Shape>),
}

impl Inputs {
    /// Of a topic whose values have this schema. Errors, in words: it cannot be read.
    pub fn avro(schema: &SchemaText) -> Result<Self, String> {
        Shape::registered(schema).map(|shape| Self::Avro(Box::new(shape)))
    }

    /// The bytes. Errors: they do not fit the schema.
    pub fn bytes(&self, input: &Input) -> Result<Vec<u8>, Misfit> {
        match (self, input) {
            (Self::Json, Input::Text(text)) => Ok(text.clone().into_bytes()),
            (Self::Json, Input::Fields(fields)) => Ok(fields.to_string().into_bytes()),
            (Self::Avro(shape), Input::Fields(fields)) => wire_format(shape, fields),
            (Self::Avro(shape), Input::Text(text)) => {
                let fields = serde_json::from_str(text);
                let not_json = |error| Misfit::new("", format!("expected JSON of the record's fields: {error}"));
                wire_format(shape, &fields.map_err(not_json)?)
            }
        }
    }
}

fn wire_format(shape: &Shape, fields: &Value) -> Result<Vec<u8>, Misfit> {
    let mut bytes = WIRE_FORMAT.to_vec();
    datum::write(shape, fields, "", &mut bytes)?;
    Ok(bytes)
}
