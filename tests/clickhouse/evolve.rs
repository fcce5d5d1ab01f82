//! `auto_evolve`: columns for the fields that newer schemas bring, and nothing else.

use pressline::avro::Shape;
use pressline::config::sink::ColumnsConfig;
use pressline::sink::Columns;
use pressline::sink::clickhouse::{BlockPlan, add_lacking};

use crate::loads::evolve::{COLUMNS, Ways, follows, settings};
use crate::loads::load;
use crate::support::{DATABASE, service, world};

pub fn tables(name: &str, more: &str) -> String {
    let url = std::env::var("PRESSLINE_TEST_CLICKHOUSE").unwrap_or_default();
    format!(
        "[sink.clickhouse]\nurl = \"{url}\"\nuser = \"{}\"\npassword_file = \"../password\"\ndatabase = \"{DATABASE}\"\ntable = \
         \"{name}\"\n{more}\n[sink.clickhouse.batch]\nmax_wait_ms = 200\n[sink.clickhouse.consumer]\nmax_dead_share = 0.5\n",
        service("PRESSLINE_TEST_CLICKHOUSE_USER"),
    )
}

fn follow(test: &'static str, is_upsert: bool) {
    let Some(world) = world(test) else { return };
    let Some(load) = load(test, "clickhouse", |name| tables(name, &settings(is_upsert))) else { return };
    let row = COLUMNS.map(|column| format!("ifNull(toString({column}), '-')")).join(", '|', ");
    let suffix = if is_upsert { "_current" } else { "" };
    let rows = || world.select(&format!("SELECT concat({row}) AS v FROM {DATABASE}.{}{suffix} ORDER BY v", load.name));
    let widen = format!("ALTER TABLE {DATABASE}.{} MODIFY COLUMN qty Int64", load.name);
    // A change is the whole row.
    follows(&load, &Ways { is_upsert, keeps: false, run: &|sql| world.run(sql), widen: &widen, rows: &rows });
    let columns = world.describe(&load.name).columns;
    let mut names: Vec<&str> = columns.iter().map(|c| c.name.as_str()).filter(|n| !n.starts_with('_')).collect();
    names.sort_unstable();
    let key = if is_upsert { vec!["id"] } else { vec![] };
    assert_eq!(names, [key, vec!["n", "name", "note", "old", "qty", "size"]].concat());
    world.run(&format!("DROP TABLE {DATABASE}.{}", load.name));
}

#[test]
fn inserts_follow_their_schemas() {
    follow("evolve_insert", false);
}

#[test]
fn upserts_follow_their_schemas() {
    follow("evolve_upsert", true);
}

#[test]
fn without_it_the_statement_is_printed() {
    let Some(world) = world("evolve_off") else { return };
    let Some(load) = load("evolve_off", "clickhouse", |name| tables(name, "")) else { return };
    let own = "_topic LowCardinality(String), _partition Int32, _offset Int64";
    world.run(&format!("CREATE TABLE {DATABASE}.{} (n Int64, {own}) ENGINE = MergeTree ORDER BY n", load.name));
    load.send(0, 0..10);
    let said = load.refused(&["the table has no column t for field t", "sink.clickhouse.auto_evolve = true"]);
    let begin = said.find("ALTER TABLE").unwrap();
    world.run(&said[begin..begin + said[begin..].find("; or").unwrap()]);
    load.load_all();
    let counts =
        format!("SELECT concat(toString(count()), ' ', toString(count(t))) AS v FROM {DATABASE}.{}", load.name);
    assert_eq!(world.select(&counts), ["10 10"]);
    world.run(&format!("DROP TABLE {DATABASE}.{}", load.name));
}

/// Nothing is altered where anything else is amiss, or the column is one that the table is ordered by.
#[test]
fn only_what_makes_the_record_fit_is_added() {
    let Some(world) = world("evolve_statement") else { return };
    let table = world.table("(a Int32, n Nested(x Int32)) ENGINE = MergeTree ORDER BY a");
    let config = ColumnsConfig::default();
    let columns = Columns::new(&config, "sink.clickhouse");
    let statement = |fields: &str, key: &[String]| {
        let shape = Shape::parse(&format!(r#"{{"type": "record", "name": "r", "fields": [{fields}]}}"#)).unwrap();
        let (_, found) = BlockPlan::examine(&shape, &table, &columns);
        add_lacking(&table, &shape, &columns, key, &found)
    };
    let (a, b) = (r#"{"name": "a", "type": "int"}"#, r#"{"name": "b", "type": "long"}"#);
    let tags = r#"{"name": "tags", "type": {"type": "array", "items": "string"}}"#;
    let sql = statement(&format!("{a}, {b}, {tags}"), &[]).unwrap();
    let added = "ADD COLUMN IF NOT EXISTS `b` Nullable(Int64), ADD COLUMN IF NOT EXISTS `tags` Array(String)";
    assert!(sql.ends_with(added), "{sql}");
    world.run(&sql);
    world.run(&sql);
    assert_eq!(statement(a, &[]), None, "it lacks nothing");
    assert_eq!(statement(&format!("{a}, {b}"), &["b".into()]), None, "a column of the key");
    assert_eq!(
        statement(&format!(r#"{{"name": "a", "type": "string"}}, {b}"#), &[]),
        None,
        "another field does not fit"
    );
    assert_eq!(statement(r#"{"name": "n", "type": "string"}"#, &[]), None, "a Nested column");
    assert_eq!(statement(r#"{"name": "_offset", "type": "long"}"#, &[]), None, "a name of its own");
    let optional = r#"{"name": "tags", "type": ["null", {"type": "array", "items": "string"}]}"#;
    assert_eq!(statement(optional, &[]), None, "ClickHouse has no such type");
}
