//! `pressline check`: everything that can be known to be wrong before the first event, in words.
//!
//! Without `--online` only files are read. With it, brokers, registry and databases are asked, and nothing is changed there:
//! no topic is made, no group joined, no schema registered, no table made, no row written.

mod changes;
mod clickhouse;
mod data_flow;
mod ddl;
mod flow;
mod group;
mod headers;
mod newest;
mod offline;
mod online;
mod output;
mod output_limits;
mod place_chain;
mod plan;
mod postgres;
mod raw_retention;
mod report;
mod retention;
mod rights;
mod run;
mod siblings;
mod sink_fields;
mod sink_topics;
mod sinks;
mod source_database;
mod source_facts;
mod table_plan;
mod time_outs;

pub use ddl::statements;
pub use flow::Flow;
pub use report::Report;
use report::Subject;
pub use run::{Wanted, check, command, contradictions};
pub use table_plan::TablePlan;
