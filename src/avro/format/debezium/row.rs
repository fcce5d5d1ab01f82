//! A row, or a key, as Debezium writes it.

use std::sync::Arc;

use serde_json::Value as Json;

use super::super::cast::Casts;
use super::super::reject::{Reason, Reject};
use super::schema::Schemas;
use super::value::Value;
use crate::avro::{Cursor, Field, Shape};

/// The fields of a row, each with what is done with it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    fields: Vec<(Arc<str>, Value)>,
    shape: Arc<Shape>,
}

impl Row {
    /// Of a record. Errors, in words: it is none.
    pub fn of(shape: &Shape, schema: Option<&Json>, schemas: &Schemas<'_>) -> Result<Self, String> {
        let Shape::Record(fields) = shape else { return Err(format!("a row is {shape}, expected a record")) };
        let value = |field: &Field| {
            let schema = schema.and_then(|schema| schemas.field(schema, &field.name));
            (Arc::from(field.name.as_str()), Value::of(&field.shape, schema, schemas))
        };
        let fields: Vec<(Arc<str>, Value)> = fields.iter().map(value).collect();
        let field = |(name, value): &(Arc<str>, Value)| Field::new(&**name, value.shape());
        let shape = Arc::new(Shape::Record(fields.iter().map(field).collect()));
        Ok(Self { fields, shape })
    }

    /// Reads fields as other types. Errors, in words: a field that is not there, or is written in another way.
    pub fn cast(&mut self, casts: &Casts) -> Result<(), String> {
        casts.apply(Arc::make_mut(&mut self.shape))
    }

    /// What it becomes.
    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// Appends the row that begins here. `may_lack`: values may be missing in it. Errors: a value that cannot be written; `out` is then as
    /// it was.
    pub fn write(&self, datum: &[u8], may_lack: bool, out: &mut Vec<u8>) -> Result<(), Reject> {
        let (mut cursor, start) = (Cursor::new(datum), out.len());
        for (name, value) in &self.fields {
            if let Err(fault) = value.write(&mut cursor, may_lack, out) {
                out.truncate(start);
                return Err(fault.of(name));
            }
        }
        if cursor.finish().is_err() {
            out.truncate(start);
            return Err(Reject { detail: "bytes are left over".into(), ..Reject::record(Reason::WrongType) });
        }
        Ok(())
    }
}
