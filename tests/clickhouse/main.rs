//! ClickHouse against the real engine. Needs `PRESSLINE_TEST_CLICKHOUSE` and its siblings (tests/stack/stack.py sets them).

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
mod support;

mod inserts;
mod matrix;
mod offsets;
mod presses;
mod reconcile;
mod refused;
