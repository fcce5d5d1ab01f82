//! A schema of its own for each test, datums written by apache-avro, rows read back as text.

use std::sync::Arc;

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use figment::providers::{Format, Toml};
use pressline::avro::Shape;
use pressline::config::finding::Finding;
use pressline::config::sink::{ColumnsConfig, PostgresConfig};
use pressline::sink::postgres::{Connection, CopyPlan, Table, TableName, Writer};
use pressline::sink::{Columns, RowBatch};
use tokio_postgres::{NoTls, SimpleQueryMessage};

/// One test's server: a schema, and another client that looks into it.
pub struct Server {
    pub schema: String,
    pub password: String,
    host: String,
    port: u16,
    database: String,
    user: String,
    other: tokio_postgres::Client,
    folder: tempfile::TempDir,
}

/// The server with an empty schema, or `None`, said aloud, where there is none.
pub async fn server(test: &str) -> Option<Server> {
    let Ok(address) = std::env::var("PRESSLINE_TEST_POSTGRES") else {
        println!("skipped: PRESSLINE_TEST_POSTGRES is not set");
        return None;
    };
    let variable = |name: &str, default: &str| std::env::var(name).unwrap_or_else(|_| default.into());
    let (host, port) = address.rsplit_once(':').expect("host:port");
    let user = variable("PRESSLINE_TEST_POSTGRES_USER", "postgres");
    let password = variable("PRESSLINE_TEST_POSTGRES_PASSWORD", "");
    let database = variable("PRESSLINE_TEST_POSTGRES_DATABASE", "postgres");
    let (other, connection) = tokio_postgres::Config::new()
        .host(host)
        .port(port.parse().unwrap())
        .user(&user)
        .password(&password)
        .dbname(&database)
        .connect(NoTls)
        .await
        .expect("the test server answers");
    tokio::spawn(connection);
    let server = Server {
        schema: format!("pressline_{test}"),
        host: host.into(),
        port: port.parse().unwrap(),
        database,
        user,
        other,
        folder: tempfile::tempdir().unwrap(),
        password,
    };
    server.sql(&format!("DROP SCHEMA IF EXISTS {0} CASCADE; CREATE SCHEMA {0}", server.schema)).await;
    Some(server)
}

impl Server {
    /// Configuration for a table of the test's schema, with lines added.
    pub fn config(&self, more: &str) -> PostgresConfig {
        self.config_as(&self.user, &self.password, more)
    }

    /// The same as another user.
    pub fn config_as(&self, user: &str, password: &str, more: &str) -> PostgresConfig {
        let file = self.folder.path().join(format!("{user}.password"));
        std::fs::write(&file, format!("{password}\n")).unwrap();
        let host = if more.contains("host =") { String::new() } else { format!("host = \"{}\"\n", self.host) };
        let text = format!(
            "{host}port = {}\ndatabase = \"{}\"\nuser = \"{user}\"\npassword_file = \"{}\"\ntable = \"t\"\n{more}\n",
            self.port,
            self.database,
            file.display()
        );
        figment::Figment::from(Toml::string(&text)).extract().unwrap()
    }

    /// `[sink.postgres]` of a pipeline's file, for a table of the test's schema, with lines added.
    pub fn sink(&self, table: &str, more: &str) -> String {
        let file = self.path("sink.password");
        std::fs::write(&file, format!("{}\n", self.password)).unwrap();
        let Self { host, port, database, user, schema, .. } = self;
        format!(
            "[sink.postgres]\nhost = \"{host}\"\nport = {port}\ndatabase = \"{database}\"\nuser = \"{user}\"\npassword_file = \
             \"{}\"\ntable = \"{schema}.{table}\"\noffsets_table = \"{schema}.positions\"\n{more}",
            file.display()
        )
    }

    /// A path in the test's folder.
    pub fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    pub async fn connect(&self) -> Connection {
        Connection::open(&self.config(""), "test").await.unwrap()
    }

    pub async fn writer(&self) -> Writer {
        Writer::new(self.connect().await)
    }

    /// Statements by the other client; the rows as text.
    pub async fn sql(&self, sql: &str) -> Vec<Vec<Option<String>>> {
        let messages = self.other.simple_query(sql).await.unwrap_or_else(|error| panic!("{error:?}: {sql}"));
        let mut rows = Vec::new();
        for message in messages {
            if let SimpleQueryMessage::Row(row) = message {
                rows.push((0..row.len()).map(|index| row.get(index).map(String::from)).collect());
            }
        }
        rows
    }

    /// One value of one row.
    pub async fn value(&self, sql: &str) -> String {
        self.sql(sql).await[0][0].clone().unwrap()
    }

    /// The table's name in the test's schema.
    pub fn name(&self, table: &str) -> TableName {
        TableName { schema: Some(self.schema.clone()), table: table.into() }
    }

    pub async fn table(&self, connection: &Connection, table: &str) -> Arc<Table> {
        Arc::new(Table::read(connection, &self.name(table)).await.unwrap().expect("the table"))
    }

    /// A plan for a schema and a table.
    pub async fn plan(&self, table: &str, schema: &str, columns: &ColumnsConfig) -> Result<CopyPlan, Vec<Finding>> {
        let connection = self.connect().await;
        let table = self.table(&connection, table).await;
        CopyPlan::compile(&Shape::parse(schema).unwrap(), &table, &Columns::new(columns, "sink.postgres"))
    }
}

/// A record schema with fields, each `(name, type)`.
pub fn record(fields: &[(&str, &str)]) -> String {
    let fields: Vec<String> =
        fields.iter().map(|(name, kind)| format!("{{\"name\":\"{name}\",\"type\":{kind}}}")).collect();
    format!("{{\"type\":\"record\",\"name\":\"row\",\"fields\":[{}]}}", fields.join(","))
}

/// A datum as apache-avro writes it.
pub fn datum(schema: &str, values: Vec<(&str, Value)>) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    let values = values.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(Value::Record(values)).unwrap()
}

/// A batch of datums of schema 1 in partition 0, from offset 0 on.
pub fn batch(datums: &[Vec<u8>]) -> RowBatch {
    let mut batch = RowBatch::default();
    for (offset, datum) in (0i64..).zip(datums) {
        batch.push(0, offset, None, 1, datum);
    }
    batch.cover(0, 0, datums.len() as i64);
    batch
}

/// Column settings.
pub fn lossy(fields: &[&str]) -> ColumnsConfig {
    ColumnsConfig { lossy: fields.iter().map(ToString::to_string).collect(), ..ColumnsConfig::default() }
}
