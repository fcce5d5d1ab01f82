//! The load: from the Avro topic into a database, each record once.
//!
//! What every sink shares stands here: the rows of a batch, which fields go into which columns, and why a row is
//! refused.

mod batch;
mod columns;
mod refusal;

pub use batch::{Batch, Row, Span};
pub use columns::{Columns, Conversion, PlanLine};
pub use refusal::{Refusal, Why};
