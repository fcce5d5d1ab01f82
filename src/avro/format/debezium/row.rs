//! A row, or a key, as Debezium writes it.

use std::sync::Arc;

use serde_json::Value as Json;

use super::super::cast::Casts;
use super::super::reject::{Reason, Reject};
use super::schema::Schemas;
use super::value::{Unfit, Value};
use crate::avro::{Cursor, Field, Shape};

/// The fields of a row, each with what is done with it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row {
    fields: Vec<(Arc<str>, Value)>,
    shape: Arc<Shape>,
}

impl Row {
    /// Of a record, its fields read as other types where casts say so. Errors, in words: it is none; a cast of a field that is not
    /// there, or is written in another way.
    pub fn of(shape: &Shape, schema: Option<&Json>, schemas: &Schemas<'_>, casts: &Casts) -> Result<Self, String> {
        let Shape::Record(fields) = shape else { return Err(format!("a row is {shape}, expected a record")) };
        let value = |field: &Field| {
            let schema = schema.and_then(|schema| schemas.field(schema, &field.name));
            (Arc::from(field.name.as_str()), Value::of(&field.shape, schema, schemas))
        };
        let fields: Vec<(Arc<str>, Value)> = fields.iter().map(value).collect();
        let field = |(name, value): &(Arc<str>, Value)| Field::new(&**name, value.shape());
        let mut shape = Shape::Record(fields.iter().map(field).collect());
        casts.apply(&mut shape)?;
        Ok(Self { fields, shape: Arc::new(shape) })
    }

    /// Lets each field take null, also where the source's column does not.
    pub fn take_null(&mut self) {
        let Shape::Record(fields) = Arc::make_mut(&mut self.shape) else { return };
        for ((_, value), field) in self.fields.iter_mut().zip(fields) {
            if !value.takes_null() {
                let (plain, shape) = (value.clone(), field.shape.clone());
                *value = Value::Nullable(Box::new(plain));
                field.shape = Shape::Optional { null_first: true, some: Box::new(shape) };
            }
        }
    }

    /// Appends a row of nulls; whether each field takes null.
    pub fn write_nulls(&self, out: &mut Vec<u8>) -> bool {
        self.fields.iter().all(|(_, value)| value.write_null(out))
    }

    /// What it becomes.
    pub fn shape(&self) -> &Arc<Shape> {
        &self.shape
    }

    /// Appends the row that begins here. `may_lack`: values may be missing in it. Errors: a value that cannot be written; `out` is then as
    /// it was.
    pub fn write(&self, datum: &[u8], may_lack: bool, out: &mut Vec<u8>) -> Result<(), Reject> {
        self.write_fields(datum, may_lack, None, out)
    }

    /// The same without the values that are missing, the places of whose fields are appended to `lacking`.
    pub fn write_known(&self, datum: &[u8], lacking: &mut Vec<usize>, out: &mut Vec<u8>) -> Result<(), Reject> {
        self.write_fields(datum, true, Some(lacking), out)
    }

    fn write_fields(
        &self,
        datum: &[u8],
        may_lack: bool,
        mut lacking: Option<&mut Vec<usize>>,
        out: &mut Vec<u8>,
    ) -> Result<(), Reject> {
        let (mut cursor, start) = (Cursor::new(datum), out.len());
        for (place, (name, value)) in self.fields.iter().enumerate() {
            let (before, at) = (cursor.clone(), out.len());
            let written = match (value.write(&mut cursor, may_lack, out), &mut lacking) {
                (Err(Unfit::Unavailable), Some(lacking)) => {
                    lacking.push(place);
                    cursor = before;
                    // A placeholder is read as any other value, to come to the one behind it.
                    let passed = value.write(&mut cursor, false, out);
                    out.truncate(at);
                    passed
                }
                (written, _) => written,
            };
            if let Err(fault) = written {
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
