//! What becomes of records without Kafka, registry and databases, for `pressline try` and `pressline test`: the same kernels that
//! the relay runs, and the same rules by which sinks read records. So nothing that comes out can hold an address.

mod datum;
mod given;
mod input;
mod relay;
mod rows;

pub use datum::Misfit;
pub use given::{GivenPlace, PlaceAnswer};
pub use input::{Input, Inputs};
pub use relay::{Outcome, Trial, Written};
pub use rows::{RowOutcome, Rows};

use serde_json::Value;

use crate::avro::{Cursor, Field, write_json};

/// The id that the only schema has, where a registry would have given one.
const SCHEMA_ID: u32 = 1;

/// What stands before a datum in Confluent's wire format.
const WIRE_FORMAT: [u8; 5] = [0, 0, 0, 0, SCHEMA_ID as u8];

/// The fields of a datum as JSON, in the schema's order. Errors, in words: the bytes do not fit the fields.
fn fields_of(fields: &[Field], datum: &[u8]) -> Result<Vec<(String, Value)>, String> {
    let mut cursor = Cursor::new(datum);
    let mut value = Vec::with_capacity(fields.len());
    for Field { name, shape, .. } in fields {
        let mut text = Vec::new();
        write_json(shape, &mut cursor, &mut text).map_err(|error| format!("{name}: {error}"))?;
        let read = serde_json::from_slice(&text).map_err(|error| format!("{name}: {error}"))?;
        value.push((name.clone(), read));
    }
    Ok(value)
}
