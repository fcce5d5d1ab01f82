//! The data path of the relay: decode, look up, encode, and the loop that joins them in one transaction. What a pipeline file says
//! is compiled to a plan; button presses have a kernel of their own.

pub mod plan;
pub mod press;
pub mod relay;
pub mod start;
