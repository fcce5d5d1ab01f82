//! ClickHouse against the real engine. Needs `PRESSLINE_TEST_CLICKHOUSE` and its siblings (tests/stack/stack.py sets them).

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

mod link;
mod support;

mod auto_create;
mod bad_rows;
mod begun;
mod change_log;
mod deduplicated;
mod defaults;
mod error_policy;
mod evolve;
mod inserts;
mod matrix;
mod offsets;
mod orders;
mod presses;
mod reconcile;
mod refused;
mod rights;
mod upserts;
