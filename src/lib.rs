//! pressline reads raw button presses, writes enriched Avro, and loads it into databases, each event exactly once.
//!
//! ```text
//!              pipeline/ (the relay: Kafka to Kafka)                         sink/ (Kafka to a database)
//! ingress ─► decode ─► enrich ─► encode ─► output topic ─► decode ─► columns ─┬─► PostgreSQL
//!  topic        │         │                                           │       └─► ClickHouse
//!               └─────────┴─► dead letter queue ◄─────────────────────┘
//! ```
//!
//! Each folder under `src/` (a room) uses only rooms of lower layers; `tests/layers.rs` fails otherwise. High to low:
//!
//! ```text
//! main                    arguments, command, exit code
//! command                 what people type: check, consume, demo, dlq, generate, init, locate, offsets, places, reconcile, reload, replay, schema,
//!                         status, test, topics, try, web
//! daemon                  `pressline run`: start, HTTP, service manager
//! web                     the button, the map, statistics
//! pipeline     sink       the two loops: relay, load
//! kafka        place      clients, positions and transactions; from an address to a place
//! avro                    schemas, the schema registry, the cursor over a datum
//! runtime                 supervision of worker threads, status, HTTP client
//! config                  files and environment to settings, and what is wrong with them
//! metrics      testing    names and recorder; fail points and mutants
//! ```
//!
//! The files to read first: [`pipeline::relay`] and [`sink::worker`], the loops; [`kafka::coordinator`], which decides about
//! positions without any I/O; [`kafka::consumer`], which is the member of the group.

// `print!` and `eprint!` panic when the stream cannot be written; runtime::stdio does not.
#![deny(clippy::print_stdout, clippy::print_stderr)]

pub mod avro;
pub mod command;
pub mod config;
pub mod daemon;
pub mod kafka;
pub mod metrics;
pub mod pipeline;
pub mod place;
pub mod runtime;
pub mod sink;
pub mod testing;
pub mod web;
