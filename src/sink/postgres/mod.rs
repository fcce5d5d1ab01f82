//! PostgreSQL: rows by binary COPY, positions beside them, both in one transaction.
//!
//! In the order of their use: [`Connection`] reads the [`Table`] from the catalogue; a [`CopyPlan`] is compiled from a schema
//! and the table; [`Offsets`] tells where to begin; then, batch after batch, [`Writer::begin`], [`Transaction::copy`],
//! [`Transaction::commit`], which compares the positions, sets them and commits in one message. [`Writer::start`] begins
//! before that, while the batch is still being read.

pub mod sink;

mod catalogue;
mod change_plan;
mod connection;
mod convert;
mod copy;
mod ddl;
mod defaults;
mod dropped;
mod encode;
mod error;
mod letter_marks;
mod name;
mod numeric;
mod offsets;
mod password;
mod plan;
mod pooler;
mod rights;
mod row_key;
mod stream;
#[cfg(test)]
mod tests;
mod tls;
mod upsert;

pub use catalogue::{Beside, Column, ColumnType, Defaults, Filled, RelationKind, Table};
pub use change_plan::ChangePlan;
pub use connection::{Connection, place};
pub use copy::{Refused, Search, Transaction, Writer};
pub use ddl::{add_columns, create_table, create_table_sql, with_primary_key};
pub use error::{ErrorClass, PgError};
pub use letter_marks::LetterMarks;
pub use name::{TableName, quote_name, quote_text};
pub use offsets::{Advance, ClaimError, CommitError, Offsets, Position, Settled, Stored};
pub use plan::CopyPlan;
pub use row_key::RowKey;
