//! Kafka: clients, the consumer, the producer and its transactions, and the state machine that decides about positions.

pub mod admin;
pub mod advice;
pub mod circuit_breaker;
pub mod client;
pub mod connection;
pub mod consumer;
pub mod coordinator;
pub mod dead_letter;
pub mod lag;
pub mod letter_marks;
pub mod letters;
pub mod offset_note;
pub mod producer;
pub mod reach;
pub mod records;
mod repeated;
pub mod replay_range;
pub mod topic_id;
pub mod topic_patterns;
