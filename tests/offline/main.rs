//! What needs no services, in one program: each program that is linked costs seconds.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod coordinator;
mod fuzz_corpus;
mod places;
mod registry;
