//! One entry a command for people.

pub mod check;
pub mod completions;
pub mod consume;
pub mod demo;
pub mod dlq;
pub mod generate;
pub mod init;
pub mod locate;
pub mod man;
pub mod offsets;
pub mod places;
pub mod produce;
pub mod reconcile;
pub mod reload;
pub mod replay;
pub mod schema;
pub mod status;
pub mod test_pipelines;
pub mod topics;
mod trial;
pub mod try_events;
pub mod web;
