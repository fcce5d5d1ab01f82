//! Avro as the load reads it: a schema as a tree that can be walked without looking anything up ([`Shape`]), and a
//! datum's bytes ([`Cursor`]).
//!
//! apache-avro parses the schema; datums are read here, straight from the record's bytes into columns, with every bound
//! checked: what stands on a topic is nobody's promise.

pub mod format;
pub mod registry;
pub mod schema;
pub mod timestamp;

mod cursor;
mod decimal;
mod json;
mod shape;

pub use cursor::{Cursor, DatumError};
pub use decimal::{decimal_digits, decimal_text, is_negative};
pub use json::write_json;
pub use shape::{Field, Recursion, Shape, UuidForm};

#[cfg(test)]
mod tests;
