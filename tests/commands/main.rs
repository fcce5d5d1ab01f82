//! Commands for people, against real services where they need them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../relay/cluster.rs"]
#[allow(dead_code)]
mod cluster;
#[path = "../relay/support.rs"]
#[allow(dead_code)]
mod relay;

mod demo;
mod fixtures;
mod reload;
mod status;
mod tools;
mod topics;
