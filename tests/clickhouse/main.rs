//! ClickHouse against the real engine. Needs `PRESSLINE_TEST_CLICKHOUSE` and its siblings (tests/stack/stack.py sets them).

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

mod inserts;
mod matrix;
mod presses;
mod refused;
