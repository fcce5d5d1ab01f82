//! ClickHouse: the target table, the plan from Avro into its columns, Native blocks, and the HTTP that carries them.
//!
//! ```text
//! Table::describe ─► Plan::compile ─► Block::push … ─► Block::native ─► Client::begin_insert ─► send ─► finish
//! ```

pub mod chunk;
pub mod positions;
pub mod recovery;
mod search;
pub mod sink;

mod block;
mod client;
mod ddl;
mod delivery;
mod error;
mod grants;
mod insert;
pub mod letters;
mod plan;
mod queries;
pub mod session;
mod table;
mod type_map;
mod types;
mod upsert;
mod versions;

pub use block::{Block, Coordinates, Layout};
pub use client::{Client, Undefined, another_name};
pub use ddl::{Definition, add_lacking, create_table};
pub use error::{ChError, ErrorClass};
pub use grants::{Grant, needed, statements};
pub use insert::Insert;
pub use plan::BlockPlan;
pub use table::{COORDINATES, DefaultKind, Table, TableColumn};
pub use type_map::Days;
pub use types::{Type, literal, quoted};
pub use versions::create_view;
