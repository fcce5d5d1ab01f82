//! The load: from the Avro topic into a database, each record once.
//!
//! ```text
//! source ─► batch ─► sink: Avro bytes ─► columns ─► database, with the position
//!             │        │
//!             └────────┴─► dead letters
//! ```
//!
//! [`worker`] is the loop; a [`Sink`] is one kind of database, which keeps the positions too.

pub mod clickhouse;
pub mod postgres;

mod batch;
mod change_events;
mod change_rows;
pub mod changes;
mod columns;
mod dead_letters;
mod error;
pub mod error_policy;
mod interface;
mod known_changes;
mod letter_rows;
pub mod letters;
mod metrics;
mod record_types;
mod refusal;
mod schemas;
mod start;
pub mod worker;

pub use batch::{RecordOrigin, Row, RowBatch, Span};
pub use columns::{Columns, Conversion, Missing, PlanLine, Renamed, make_table, note_renamed};
pub use dead_letters::DeadLetters;
pub use error::{LoadError, RetryClass, Tries};
use interface::wait_for;
pub use interface::{Comes, EarlyStart, InDoubt, Sink, WriteContext, Written};
pub use record_types::RecordTypes;
pub use refusal::{Refusal, VIEW, Why};
pub use start::{DatabaseKind, run};
