//! What every part of the process runs on: supervision of worker threads, status, TLS and HTTP clients.

pub mod backoff;
pub mod descriptors;
pub mod fault;
pub mod figures;
pub mod http_client;
pub mod http_server;
pub mod log;
mod logfmt;
pub mod pem;
pub mod status;
pub mod stdio;
pub mod supervise;
pub mod terminal;
