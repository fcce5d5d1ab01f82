//! `pressline replay` as a user runs it: between a real Kafka with tiered storage and real databases.
//!
//! Services come from `tests/stack/stack.py run -- cargo test --release --test replay`; without them every test says that it
//! was skipped. `PRESSLINE_TEST_REPLAY` is the number of events replayed from remote segments, 200,000 unless set.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../clickhouse/support.rs"]
#[allow(dead_code)]
mod clickhouse;
#[path = "../relay/cluster.rs"]
#[allow(dead_code)]
mod cluster;
#[path = "../daemon/mod.rs"]
#[allow(dead_code)]
mod daemon;
#[path = "../postgres/support.rs"]
#[allow(dead_code)]
mod postgres;
#[path = "../relay/support.rs"]
#[allow(dead_code)]
mod relay;

mod bounds;
mod commands;
mod dead_letters;
mod letter_kills;
mod relayed;
mod remote;
mod rights;
mod same;
mod support;
