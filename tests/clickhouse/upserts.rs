//! Changes in a ReplacingMergeTree: the view shows what a model says, whatever was inserted again, and in whatever order.

use std::collections::BTreeMap;

use apache_avro::types::Value;
use pressline::avro::Shape;
use pressline::config::changes::{ChangesConfig, KeyFormat, PkMode};
use pressline::config::sink::{ColumnsConfig, WriteMode};
use pressline::sink::changes::{Change, ChangeShape, Changes, Datum};
use pressline::sink::clickhouse::{BlockPlan, Table, create_table, create_view};
use pressline::sink::{Columns, RecordOrigin, RowBatch};
use proptest::prelude::*;

use crate::loads::{load, upserts};
use crate::support::{DATABASE, TOPIC, World, datum, service, world};

const KEY: &str = r#"{"type": "record", "name": "k", "fields": [{"name": "id", "type": "long"}]}"#;
const ROW: &str = r#"{"type": "record", "name": "r", "fields": [{"name": "name", "type": "string"},
    {"name": "tags", "type": {"type": "array", "items": "string"}}, {"name": "n", "type": ["null", "long"]}]}"#;

fn config() -> ChangesConfig {
    ChangesConfig {
        mode: WriteMode::Upsert,
        deletes: true,
        pk_mode: PkMode::RecordKey,
        pk_fields: Vec::new(),
        key_format: KeyFormat::Avro,
        ..ChangesConfig::default()
    }
}

fn shape(is_delete: bool) -> ChangeShape {
    let (key, row) = (Shape::parse(KEY).unwrap(), Shape::parse(ROW).unwrap());
    let row = (!is_delete).then_some(&row);
    ChangeShape::of((&config(), true), &ColumnsConfig::default(), Some(&key), row).unwrap()
}

/// The table that auto_create makes, and its view.
fn table(world: &World) -> Table {
    let name = world.name();
    let config = world.config(&name);
    let change = shape(false);
    world.run(&create_table(&change.shape, &config, &change.key).unwrap().sql);
    world.run(&create_view(&config));
    let table = world.describe(&name);
    assert!(table.refusals_of_upserts(&change.key).is_empty(), "{:?}", table.refusals_of_upserts(&change.key));
    table
}

/// Inserts these changes, whose offsets begin with `first`.
fn insert(world: &World, table: &Table, first: i64, steps: &[(i64, Option<u8>)]) {
    let columns = ColumnsConfig::default();
    let plans = [false, true].map(|is_delete| {
        BlockPlan::compile(&shape(is_delete).shape, table, &Columns::new(&columns, "sink.clickhouse"), TOPIC).unwrap()
    });
    let [mut upserts, mut deletes] = plans;
    BlockPlan::unite(&mut [&mut upserts, &mut deletes]);
    let mut batch = RowBatch::of_changes(Changes::new(config(), true));
    for (offset, (id, value)) in (first..).zip(steps) {
        let key = datum(KEY, Value::Record(vec![("id".into(), Value::Long(*id))]));
        let key = Datum { schema_id: Some(1), bytes: &key };
        let origin = RecordOrigin { partition: 0, offset, timestamp_ms: None };
        match value {
            None => batch.push_change(origin, &Change::Delete { key }),
            Some(value) => {
                let tags = Value::Array(vec![Value::String(format!("t{value}")); usize::from(value % 3)]);
                let row = Value::Record(vec![
                    ("name".into(), Value::String(value.to_string())),
                    ("tags".into(), tags),
                    ("n".into(), Value::Union(0, Box::new(Value::Null))),
                ]);
                let row = datum(ROW, row);
                batch.push_change(
                    origin,
                    &Change::Upsert { key: Some(key), row: Datum { schema_id: Some(2), bytes: &row } },
                );
            }
        }
    }
    let mut block = upserts.block();
    for row in batch.rows() {
        let is_delete = batch.pair(row.schema_id).unwrap().row.is_none();
        let plan = if is_delete { &deletes } else { &upserts };
        block.push(plan, batch.datum(row), row.partition, row.offset).unwrap();
    }
    world.insert(table, &block, &format!("{first}-{:?}", std::time::Instant::now())).unwrap();
}

fn current(world: &World, table: &Table) -> Vec<String> {
    let row = "concat(toString(id), '|', name, '|', toString(length(tags)))";
    world.select(&format!("SELECT {row} AS v FROM {DATABASE}.{}_current ORDER BY id", table.name))
}

fn model(steps: &[(i64, Option<u8>)]) -> Vec<String> {
    let mut rows = BTreeMap::new();
    for (id, value) in steps {
        match value {
            Some(value) => drop(rows.insert(*id, *value)),
            None => drop(rows.remove(id)),
        }
    }
    rows.iter().map(|(id, value)| format!("{id}|{value}|{}", value % 3)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Batches are inserted again, also after later ones, and parts are merged in between.
    #[test]
    fn the_view_is_as_the_model(
        steps in prop::collection::vec((0i64..6, prop::option::weighted(0.7, any::<u8>())), 1..60),
        cuts in prop::collection::vec((1usize..12, any::<bool>()), 1..20),
    ) {
        let Some(world) = world("upsert_model") else { return Ok(()) };
        let table = table(&world);
        let (mut at, mut cuts, mut again) = (0, cuts.iter().cycle(), Vec::new());
        while at < steps.len() {
            let (length, is_inserted_again) = *cuts.next().unwrap();
            let end = (at + length).min(steps.len());
            insert(&world, &table, at as i64, &steps[at..end]);
            if is_inserted_again {
                again.push((at, end));
            }
            at = end;
        }
        for (at, end) in again {
            insert(&world, &table, at as i64, &steps[at..end]);
        }
        prop_assert_eq!(current(&world, &table), model(&steps));
        world.run(&format!("OPTIMIZE TABLE {DATABASE}.{} FINAL", table.name));
        prop_assert_eq!(current(&world, &table), model(&steps));
        world.run(&format!("DROP TABLE {DATABASE}.{}", table.name));
    }
}

#[test]
fn tables_that_would_keep_old_rows_are_refused() {
    let Some(world) = world("upsert_refused") else { return };
    let columns = "id Int64, day Int32, name String, _version UInt64, _deleted UInt8";
    let key = ["id".to_string()];
    let found = |definition: &str| {
        let findings = world.table(definition).refusals_of_upserts(&key);
        findings.into_iter().map(|finding| finding.what).collect::<Vec<_>>().join("; ")
    };
    let replacing = "ENGINE = ReplacingMergeTree(_version, _deleted)";
    assert_eq!(found(&format!("({columns}) {replacing} ORDER BY id")), "");
    assert_eq!(found(&format!("({columns}) {replacing} PARTITION BY id % 4 ORDER BY id")), "");
    for (definition, words) in [
        (format!("({columns}) ENGINE = MergeTree ORDER BY id"), "engine MergeTree()"),
        (
            format!("({columns}) ENGINE = ReplacingMergeTree ORDER BY id"),
            "expected ReplacingMergeTree(_version, _deleted)",
        ),
        (format!("({columns}) {replacing} ORDER BY (id, day)"), "ordered by (id, day), the key is (id)"),
        (format!("({columns}) {replacing} PARTITION BY day ORDER BY id"), "partitioned by day"),
        ("(id Int64, name String) ENGINE = MergeTree ORDER BY id".into(), "column _version is not there"),
    ] {
        let found = found(&definition);
        assert!(found.contains(words), "{definition}: {found}");
    }
}

#[test]
fn values_and_keys_of_every_format_are_followed() {
    let Some(world) = world("upsert_formats") else { return };
    let sink = world.sink("${topic}", "normalize_topic = true\nCHANGES\n");
    let Some(load) = load("ch_upsert_formats", "clickhouse", |_| sink.clone()) else { return };
    upserts::follows_in_every_format(&load, &sink, |table| {
        world.select(&format!("SELECT concat(id, '|', toString(n)) AS v FROM {DATABASE}.{table}_current ORDER BY id"))
    });
}

#[test]
fn a_sink_follows_its_topic() {
    let Some(world) = world("upsert_daemon") else { return };
    let url = std::env::var("PRESSLINE_TEST_CLICKHOUSE").unwrap_or_default();
    let load = load("upsert_daemon", "clickhouse", |name| {
        format!(
            "[sink.clickhouse]\nurl = \"{url}\"\nuser = \"{}\"\npassword_file = \"../password\"\ndatabase = \"{DATABASE}\"\n\
             table = \"{name}\"\n{}\n[sink.clickhouse.batch]\nmax_wait_ms = 200\n[sink.clickhouse.consumer]\nmax_dead_share = 0.5\n",
            service("PRESSLINE_TEST_CLICKHOUSE_USER"),
            upserts::SETTINGS
        )
    });
    let Some(load) = load else { return };
    let rows = || {
        world.select(&format!(
            "SELECT concat(id, '|', toString(n)) AS v FROM {DATABASE}.{}_current ORDER BY id",
            load.name
        ))
    };
    upserts::follows(&load, rows);
    let said = load.check();
    assert!(said.contains("0 errors"), "{said}");
    // A partition that was added: its offsets are no versions that go on.
    load.cluster.add_partitions(&load.topic, 3);
    load.refused(&["partition 2 was added to topic"]);
}
