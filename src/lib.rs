//! pressline: raw button presses in, enriched Avro out, each event exactly once.
//!
//! Data flows one way, and so do the modules:
//!
//! ```text
//! source ─► decode ─► enrich ─► encode ─► transaction ─► output topic
//!              │         │                     │
//!              └ reject ─┴─► dead_letter ──────┘
//! ```
//!
//! [`relay`] is the loop that joins them, [`coordinator`] is the part of it that decides (without I/O), [`pipeline`]
//! builds the workers that run it, and [`supervise`] looks after them.

pub mod allocator;
pub mod avro;
pub mod bounds;
pub mod brake;
pub mod check;
pub mod clickhouse;
pub mod config;
pub mod connection;
pub mod consume;
pub mod coordinator;
pub mod crash;
pub mod daemon;
pub mod dead_letter;
pub mod decode;
pub mod demo;
pub mod encode;
pub mod enrich;
pub mod event;
pub mod events;
pub mod fail_point;
pub mod finding;
pub mod generate;
pub mod http;
pub mod http_client;
pub mod kafka;
pub mod load;
pub mod locate;
pub mod metrics;
pub mod mutant;
pub mod notify;
pub mod offsets;
pub mod pem;
pub mod pipeline;
pub mod place;
pub mod places;
pub mod postgres;
pub mod produce;
pub mod reconcile;
pub mod registry;
pub mod relay;
pub mod reload;
pub mod replay;
pub mod retire;
pub mod schema;
pub mod source;
pub mod status;
pub mod supervise;
pub mod terminal;
pub mod timestamp;
pub mod topic_id;
pub mod topics;
pub mod transaction;
pub mod try_events;
