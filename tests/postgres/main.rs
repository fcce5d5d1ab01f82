//! The PostgreSQL half of the load against a real server: types, transactions, positions, TLS.
//!
//! The server comes from `tests/stack/stack.py run -- cargo test --release --test postgres`, or is named by
//! `PRESSLINE_TEST_POSTGRES...`; without it every test says that it was skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
#[path = "../relay/cluster.rs"]
mod cluster;
#[allow(dead_code)]
#[path = "../loads/mod.rs"]
mod loads;
#[allow(dead_code)]
#[path = "../relay/support.rs"]
mod process;

mod offsets;
mod positions;
mod presses;
mod reconcile;
mod refusals;
mod rows;
mod security;
mod support;
mod types;
