//! The relay as a user runs it: the program itself, between a real Kafka and a real schema registry.
//!
//! Services come from `tests/stack/stack.py run -- cargo test --release --test relay`, or are named by `PRESSLINE_TEST_...`;
//! without them every test says that it was skipped.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod cluster;
mod dead_letters;
mod end_to_end;
mod kill;
mod offsets;
mod open_transaction;
mod other_members;
mod output_limits;
mod places;
mod positions;
mod registry;
mod reload;
mod rights;
mod security;
mod service_manager;
mod shop;
mod shutdown;
mod subjects;
mod support;
mod tally;
mod transforms;
