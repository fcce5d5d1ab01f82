//! The harness: a pipeline with both sinks, replays of it, and tables compared within their database.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

use crate::clickhouse::{self, DATABASE};
use crate::cluster::await_that;
use crate::daemon::{SHORT, chain};
use crate::postgres::{Server, server};
use crate::relay::{Relay, World, calm_world, service};

/// A pipeline from the ingress topic into a table of each database, and what looks at them from outside.
pub struct Stage {
    pub world: World,
    pub clickhouse: clickhouse::World,
    pub postgres: Server,
    runtime: tokio::runtime::Runtime,
    live: String,
}

/// A stage with topics of three partitions, or `None`, said aloud, where there are no services.
pub fn stage(test: &'static str) -> Option<Stage> {
    build(test, chain(test)?)
}

/// A stage with topics of one partition, whose offsets so tell their order.
pub fn narrow_stage(test: &'static str) -> Option<Stage> {
    let world = calm_world(test, 1)?;
    world.cluster.create_topics(&[(&format!("{}.dead", world.out), 1)]);
    build(test, world)
}

fn build(test: &'static str, world: World) -> Option<Stage> {
    let clickhouse = clickhouse::world(test)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let postgres = runtime.block_on(server(test))?;
    let live = clickhouse.name();
    let stage = Stage { world, clickhouse, postgres, runtime, live };
    stage.write_pipeline("");
    Some(stage)
}

impl Stage {
    /// The pipeline's file; `more` goes before its tables.
    pub fn write_pipeline(&self, more: &str) {
        let sinks = [
            self.postgres.sink("live", "auto_create = true\n"),
            self.clickhouse.sink(&self.live, "auto_create = true\n"),
        ];
        let file = format!("pipelines/{}.toml", self.world.name);
        self.world.write(&file, &format!("{more}{}{}", self.world.pipeline(), sinks.join("")));
    }

    /// The live table of ClickHouse.
    pub fn live(&self) -> &str {
        &self.live
    }

    /// Runs the pipeline until all presses are relayed and so many rows are in both tables.
    pub fn run_live(&self, rows: usize, sets: &[&str]) {
        let mut run = self.world.run(&[&SHORT[..], sets].concat());
        self.world.await_relayed(&mut run);
        await_that(&format!("{rows} rows in both tables"), || {
            run.still_runs();
            self.postgres_count("live") >= rows && self.clickhouse_count(&self.live) >= rows
        });
        assert_eq!(run.stop(), 0);
        assert_eq!((self.postgres_count("live"), self.clickhouse_count(&self.live)), (rows, rows));
    }

    /// Offsets of the live groups.
    pub fn live_offsets(&self) -> String {
        let World { cluster, raw, out, .. } = &self.world;
        let group = self.world.group();
        let sinks = ["postgres", "clickhouse"].map(|sink| cluster.committed(&format!("{group}.{sink}"), out));
        format!("{:?} {sinks:?}", cluster.committed(&group, raw))
    }

    fn replay_command(&self, arguments: &[&str]) -> std::process::Command {
        let mut command = self.world.pressline();
        command.args(["replay", "--pipeline", &self.world.name]).args(arguments);
        for set in SHORT {
            command.args(["--set", set]);
        }
        command
    }

    /// A replay in the background.
    pub fn start(&self, arguments: &[&str]) -> Relay {
        Relay::spawn(self.replay_command(arguments))
    }

    /// The same with these variables in its environment.
    pub fn start_as(&self, environment: &[(&str, String)], arguments: &[&str]) -> Relay {
        let mut command = self.replay_command(arguments);
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        Relay::spawn(command)
    }

    /// A replay to its end on a terminal of 100 columns: exit code, and all that was drawn there.
    pub fn on_terminal(&self, arguments: &[&str]) -> (i32, String) {
        let command = self.replay_command(arguments);
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut terminal = Command::new("script");
        terminal.args(["-qefc", &format!("stty cols 100 && exec {}", words.join(" ")), "/dev/null"]);
        terminal.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let output = terminal.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null()).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A replay to its end: exit code, and all that it said.
    pub fn replay(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.replay_command(arguments).output().unwrap();
        let text = String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
        println!("$ pressline replay {}\n{text}", arguments.join(" "));
        (output.status.code().unwrap(), text)
    }

    /// A replay that must succeed, saying this.
    #[track_caller]
    pub fn done(&self, arguments: &[&str], parts: &[&str]) -> String {
        let (code, text) = self.replay(arguments);
        assert_eq!(code, 0, "{text}");
        crate::relay::holds_all(&text, parts);
        text
    }

    /// A replay that must be refused, saying this.
    #[track_caller]
    pub fn refused(&self, arguments: &[&str], parts: &[&str]) {
        let (code, text) = self.replay(arguments);
        assert_eq!(code, 1, "{text}");
        crate::relay::holds_all(&text, parts);
    }

    /// Statements in PostgreSQL, with the test's schema in place of `SCHEMA`; the first value, if any.
    pub fn sql(&self, sql: &str) -> String {
        let rows = self.runtime.block_on(self.postgres.sql(&sql.replace("SCHEMA", &self.postgres.schema)));
        rows.first().and_then(|row| row[0].clone()).unwrap_or_default()
    }

    /// A table of the test's schema, as `--into` takes it.
    pub fn table(&self, name: &str) -> String {
        format!("{}.{name}", self.postgres.schema)
    }

    /// Rows of a ClickHouse table, rows that are a record of their own, and a hash of all columns of all rows.
    pub fn clickhouse_hash(&self, table: &str) -> String {
        let sql = format!(
            "SELECT concat(toString(count()), ' ', toString(uniqExact(_partition, _offset)), ' ', \
             toString(sum(cityHash64(toString(tuple(*)))))) AS v FROM {DATABASE}.{table}"
        );
        self.clickhouse.select(&sql).remove(0)
    }

    /// Rows of a ClickHouse table; none while it is not there.
    pub fn clickhouse_count(&self, table: &str) -> usize {
        let exists = format!(
            "SELECT toString(count()) AS v FROM system.tables WHERE database = '{DATABASE}' AND name = '{table}'"
        );
        if self.clickhouse.select(&exists) == ["0"] {
            return 0;
        }
        let sql = format!("SELECT toString(count()) AS v FROM {DATABASE}.{table}");
        self.clickhouse.select(&sql).remove(0).parse().unwrap()
    }

    /// The same for a PostgreSQL table.
    pub fn postgres_hash(&self, table: &str) -> String {
        self.sql(&format!("SELECT count(*) || ' ' || sum(hashtextextended(t::text, 0)::numeric) FROM SCHEMA.{table} t"))
    }

    /// Rows of a PostgreSQL table; none while it is not there.
    pub fn postgres_count(&self, table: &str) -> usize {
        if self.sql(&format!("SELECT to_regclass('SCHEMA.{table}') IS NULL")) == "t" {
            return 0;
        }
        self.sql(&format!("SELECT count(*) FROM SCHEMA.{table}")).parse().unwrap()
    }

    /// Segments of a megabyte; with `remote`, kept in the remote tier only, but for the last.
    pub fn set_segments(&self, topic: &str, remote: bool) {
        let mut config = AlterConfig::new(ResourceSpecifier::Topic(topic)).set("segment.bytes", "1048576");
        if remote {
            config = config.set("remote.storage.enable", "true").set("local.retention.ms", "100");
        }
        let config = config.set("retention.ms", "-1");
        let admin: AdminClient<DefaultClientContext> =
            ClientConfig::new().set("bootstrap.servers", self.world.cluster.bootstrap()).create().unwrap();
        let altered = self.runtime.block_on(admin.alter_configs([&config], &AdminOptions::new()));
        altered.unwrap().remove(0).unwrap();
    }

    /// Waits until the broker has deleted most of what it had on its own disk; the first offset there, by partition.
    pub fn await_remote(&self, topic: &str) -> Vec<(i64, i64)> {
        let ends = self.world.cluster.ends(topic);
        let local = |partition: i32| first_local(&PathBuf::from(service("PRESSLINE_TEST_TLS_DIR")), topic, partition);
        let mut found = Vec::new();
        await_that("local segments to be deleted", || {
            found = ends.iter().map(|(&partition, &(_, end))| (local(partition), end)).collect();
            found.iter().all(|(local, end)| local * 10 > end * 7)
        });
        found
    }
}

/// First offset of a partition on the broker's own disk: in the name of its first segment there.
fn first_local(tls: &std::path::Path, topic: &str, partition: i32) -> i64 {
    let folder = tls.parent().unwrap().join(format!("kafka/log/{topic}-{partition}"));
    let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter_map(|name| name.strip_suffix(".log")?.parse().ok()).min().unwrap()
}
