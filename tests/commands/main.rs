//! Commands for people, against real services where they need them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod demo;
mod fixtures;
mod tools;
mod topics;
