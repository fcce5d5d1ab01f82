//! One entry a command for people.

pub mod check;
pub mod consume;
pub mod demo;
pub mod generate;
pub mod init;
pub mod locate;
pub mod offsets;
pub mod places;
pub mod produce;
pub mod reconcile;
pub mod replay;
pub mod status;
pub mod topics;
pub mod try_events;
pub mod web;
