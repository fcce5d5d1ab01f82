//! What every part of the process runs on: supervision of worker threads, status, TLS and HTTP clients.

pub mod background;
pub mod http_client;
pub mod pem;
pub mod status;
pub mod supervise;
pub mod terminal;
