//! A pipeline file, compiled to a plan: once for each schema of the input, before a record of it is relayed.
//!
//! ```text
//! datum ─► walk ─► slots ─► filter, route, look up ─► puts ─► value
//!            (one pass)        (in the file's order)   (Avro or JSON)
//! ```
//!
//! `rename` and `drop` cost nothing when records are read: they only change which slot an output field reads. A slot is plain, or
//! it is an address, which only a place lookup reads: see [`fields`]. A plan is immutable; [`kernel`] has the buffers.

mod compile;
mod derive;
mod explain;
pub mod fields;
pub mod kernel;
mod output;
pub mod place_fields;
mod plan_error;
pub mod predicate;
mod program;
pub mod schemas;
#[cfg(test)]
mod tests;
pub mod value;
pub mod walk;

pub use compile::{OutputSchema, compile};
pub use derive::derived_schema;
pub use output::{Key, Put};
pub use plan_error::PlanError;
pub use program::{AddressSlot, Op, TransformPlan};
