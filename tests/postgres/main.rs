//! The PostgreSQL half of the load against a real server: types, transactions, positions, TLS.
//!
//! The server comes from `tests/stack/stack.py run -- cargo test --release --test postgres`, or is named by
//! `PRESSLINE_TEST_POSTGRES...`; without it every test says that it was skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../relay/cluster.rs"]
#[allow(dead_code)]
mod cluster;
#[path = "../daemon/mod.rs"]
#[allow(dead_code)]
mod daemon;
#[path = "../loads/mod.rs"]
#[allow(dead_code)]
mod loads;
#[path = "../relay/support.rs"]
#[allow(dead_code)]
mod relay;

mod auto_create;
mod change_log;
mod error_policy;
mod evolve;
mod independent;
mod offsets;
mod orders;
mod pooler;
mod positions;
mod presses;
mod reconcile;
mod refusals;
mod rights;
mod rows;
mod security;
mod source_database;
mod support;
mod toast;
mod topics;
mod types;
mod upserts;
