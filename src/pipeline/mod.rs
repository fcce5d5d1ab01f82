//! The data path of the relay: decode, look up, encode, and the loop that joins them in one transaction.

pub mod press;
pub mod relay;
pub mod start;
