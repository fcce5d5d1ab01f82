//! `pressline init`: writes the pipeline file that loads a topic into a database, from what stands on the topic or from the
//! configuration of a Kafka Connect sink.

mod connect;
mod draft;
mod run;
mod sample;
mod target;
mod topic;

use std::path::PathBuf;

use crate::kafka::connection::{ClusterOptions, ConnectionError};
pub use run::run;
use target::{Postgres, parse_postgres};

/// Options of `pressline init`.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("from").required(true).args(["topic", "from_connect"]))]
pub struct InitArgs {
    /// Topic to load: its registered schema, else a sample of its records, says what fields it has
    #[arg(long)]
    pub topic: Option<String>,
    /// Configuration of a Kafka Connect sink, as JSON: Aiven's and Confluent's JDBC, Debezium's JDBC, ClickHouse's
    #[arg(long, value_name = "FILE", conflicts_with_all = ["postgres", "clickhouse", "table"])]
    pub from_connect: Option<PathBuf>,
    /// Load the topic into PostgreSQL
    #[arg(long, value_name = "USER@HOST[:PORT]/DATABASE", value_parser = parse_postgres)]
    pub postgres: Option<Postgres>,
    /// Load the topic into ClickHouse, at its HTTP interface
    #[arg(long, value_name = "URL")]
    pub clickhouse: Option<String>,
    /// Table [default: named after the topic, with underscores]
    #[arg(long)]
    pub table: Option<String>,
    /// User of ClickHouse
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub clickhouse_user: String,
    /// Database of ClickHouse
    #[arg(long, default_value = "default", value_name = "NAME")]
    pub clickhouse_database: String,
    /// File with the database's password, as it will stand in the pipeline file
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// Pipeline file to write (- is standard output) [default: pipelines/NAME.toml]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// How to reach Kafka and the registry.
    #[command(flatten)]
    pub connection: ClusterOptions,
}

/// Why there is no pipeline file.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The configuration of the connection.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// What was given, or what stands on the topic, makes no pipeline.
    #[error("{0}")]
    Refused(String),
    /// A file cannot be read or written.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}
