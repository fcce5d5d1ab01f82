//! The harness: a table of its own for each test, datums written by apache-avro, and answers as ClickHouse's own text.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use pressline::avro::Shape;
use pressline::config::finding::Finding;
use pressline::config::sink::{ClickHouseConfig, ColumnsConfig};
use pressline::sink::Columns;
use pressline::sink::clickhouse::{Block, BlockPlan, ChError, Client, Table};
use tokio::runtime::Runtime;

pub const DATABASE: &str = "pressline";
pub const TOPIC: &str = "button_presses";

/// A server, and names of tables that no other test has.
pub struct World {
    pub client: Client,
    pub runtime: Runtime,
    config: ClickHouseConfig,
    dir: tempfile::TempDir,
    test: &'static str,
}

/// The value of a variable that the stack sets.
pub fn service(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests by tests/stack/stack.py run"))
}

/// A world, or `None`, said aloud, where there is no ClickHouse.
pub fn world(test: &'static str) -> Option<World> {
    let Ok(url) = std::env::var("PRESSLINE_TEST_CLICKHOUSE") else {
        println!("skipped: PRESSLINE_TEST_CLICKHOUSE is not set");
        return None;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let config = config(&url, &password_file(&dir, &service("PRESSLINE_TEST_CLICKHOUSE_PASSWORD")), "");
    let client = runtime.block_on(Client::open(&config)).unwrap();
    Some(World { client, runtime, config, dir, test })
}

pub fn password_file(dir: &tempfile::TempDir, password: &str) -> PathBuf {
    let file = dir.path().join("password");
    std::fs::write(&file, format!("{password}\n")).unwrap();
    file
}

/// A configuration as a pipeline's file gives it; `more` is TOML.
pub fn config(url: &str, password_file: &std::path::Path, more: &str) -> ClickHouseConfig {
    use figment::providers::Format;
    let text = format!(
        "url = \"{url}\"\nuser = \"{}\"\npassword_file = \"{}\"\ndatabase = \"{DATABASE}\"\ntable = \"t\"\n{more}",
        service("PRESSLINE_TEST_CLICKHOUSE_USER"),
        password_file.display()
    );
    figment::Figment::from(figment::providers::Toml::string(&text)).extract().unwrap()
}

impl World {
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The configuration for a table.
    pub fn config(&self, table: &str) -> ClickHouseConfig {
        ClickHouseConfig { table: table.into(), ..self.config.clone() }
    }

    /// `[sink.clickhouse]` of a pipeline's file, with lines added.
    pub fn sink(&self, table: &str, more: &str) -> String {
        format!(
            "[sink.clickhouse]\nurl = \"{}\"\nuser = \"{}\"\npassword_file = \"{}\"\ndatabase = \"{DATABASE}\"\ntable = \
             \"{table}\"\n{more}[sink.clickhouse.batch]\nmax_wait_ms = 200\n",
            self.config.url,
            self.config.user,
            self.path("password").display()
        )
    }

    /// A name for a table.
    pub fn name(&self) -> String {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let since = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() % 1_000_000_000;
        format!("{}_{since}_{}", self.test, COUNT.fetch_add(1, Ordering::Relaxed))
    }

    pub fn run(&self, sql: &str) {
        self.runtime.block_on(self.client.execute(sql)).unwrap_or_else(|error| panic!("{error}: {sql}"));
    }

    /// A table `(columns) ENGINE = ...`, described.
    pub fn table(&self, definition: &str) -> Table {
        let name = self.name();
        self.run(&format!("CREATE TABLE {DATABASE}.{name} {definition}"));
        self.describe(&name)
    }

    pub fn describe(&self, name: &str) -> Table {
        self.runtime.block_on(Table::describe(&self.client, DATABASE, name)).unwrap().unwrap()
    }

    /// Rows of a SELECT of one text column `v`.
    pub fn select(&self, sql: &str) -> Vec<String> {
        #[derive(serde::Deserialize)]
        struct Row {
            v: Option<String>,
        }
        let rows: Result<Vec<Row>, ChError> = self.runtime.block_on(self.client.rows(sql));
        let rows = rows.unwrap_or_else(|error| panic!("{error}: {sql}"));
        rows.into_iter().map(|row| row.v.unwrap_or("NULL".into())).collect()
    }

    /// Inserts a block under a token.
    pub fn insert(&self, table: &Table, block: &Block, token: &str) -> Result<(), ChError> {
        let mut native = Vec::new();
        block.native(&mut native);
        self.runtime.block_on(async {
            let mut insert = self.client.begin_insert(table, block.layout(), token).await?;
            insert.send(&native).await?;
            insert.finish().await
        })
    }
}

/// A plan, with fields that may lose something.
pub fn plan(shape: &Shape, table: &Table, lossy: &[&str]) -> Result<BlockPlan, Vec<Finding>> {
    let config = ColumnsConfig { lossy: lossy.iter().map(ToString::to_string).collect(), ..ColumnsConfig::default() };
    BlockPlan::compile(shape, table, &Columns::new(&config, "sink.clickhouse"), TOPIC)
}

/// The schema of a record with one field `v`.
pub fn record_of(field: &str) -> String {
    format!(r#"{{"type": "record", "name": "r", "fields": [{{"name": "v", "type": {field}}}]}}"#)
}

/// A datum by apache-avro.
pub fn datum(schema: &str, value: Value) -> Vec<u8> {
    let schema = Schema::parse_str(schema).unwrap();
    let writer = GenericDatumWriter::builder(&schema).build().unwrap();
    writer.write_value_to_vec(value).unwrap()
}

/// A datum of a record with one field `v`.
pub fn one(schema: &str, value: Value) -> Vec<u8> {
    datum(schema, Value::Record(vec![("v".into(), value)]))
}
