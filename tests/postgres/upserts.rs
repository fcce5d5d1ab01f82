//! Upserts and deletes: the table is what a model says, whatever the order, the cuts and the bad rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use apache_avro::types::Value;
use pressline::avro::Shape;
use pressline::config::changes::{ChangesConfig, KeyFormat, PkMode};
use pressline::config::sink::{ColumnsConfig, WriteMode};
use pressline::sink::changes::{Change, ChangeShape, Changes, Datum};
use pressline::sink::postgres::{Advance, ChangePlan, CommitError, Offsets, RowKey, Writer};
use pressline::sink::{Columns, RecordOrigin, RowBatch};
use proptest::prelude::*;

use crate::loads::{load, upserts};
use crate::offsets::Database;
use crate::support::{Server, datum, record, server};

/// `Some`: the row of this key has these values; `None`: it goes.
type Step = (i64, Option<Vec<(&'static str, Value)>>);

fn config(pk_fields: &[&str]) -> ChangesConfig {
    ChangesConfig {
        mode: WriteMode::Upsert,
        deletes: true,
        pk_mode: PkMode::RecordKey,
        pk_fields: pk_fields.iter().map(ToString::to_string).collect(),
        key_format: KeyFormat::Avro,
        ..ChangesConfig::default()
    }
}

/// A table, a key of one long `id`, and a schema of values.
struct Target {
    server: Server,
    schema: String,
    has_merge: Option<bool>,
}

impl Target {
    async fn new(test: &str, ddl: &str, fields: &[(&str, &str)]) -> Option<Self> {
        let server = server(test).await?;
        server.sql(&ddl.replace("SCHEMA", &server.schema)).await;
        Some(Self { server, schema: record(fields), has_merge: None })
    }

    fn batch(&self, first: i64, steps: &[Step]) -> RowBatch {
        let mut batch = RowBatch::of_changes(Changes::new(config(&[]), false));
        let key_schema = record(&[("id", "\"long\"")]);
        for (offset, (id, row)) in (first..).zip(steps) {
            let key = datum(&key_schema, vec![("id", Value::Long(*id))]);
            let key = Datum { schema_id: Some(1), bytes: &key };
            let origin = RecordOrigin { partition: 0, offset, timestamp_ms: None };
            match row {
                None => batch.push_change(origin, &Change::Delete { key }),
                Some(values) => {
                    let row = datum(&self.schema, values.clone());
                    batch.push_change(
                        origin,
                        &Change::Upsert { key: Some(key), row: Datum { schema_id: Some(2), bytes: &row } },
                    );
                }
            }
        }
        batch.cover(0, first, first + steps.len() as i64);
        batch
    }

    /// Plans of the batch's changes.
    async fn plans(&self, batch: &RowBatch) -> Result<BTreeMap<u32, ChangePlan>, String> {
        let connection = self.server.connect().await;
        let table = self.server.table(&connection, "T").await;
        let columns = ColumnsConfig::default();
        let key_shape = Shape::parse(&record(&[("id", "\"long\"")])).unwrap();
        let row_shape = Shape::parse(&self.schema).unwrap();
        let mut plans = BTreeMap::new();
        for number in batch.schema_ids() {
            let row = batch.pair(number).unwrap().row.map(|_| &row_shape);
            let change = ChangeShape::of((&config(&[]), false), &columns, Some(&key_shape), row)?;
            let (mut key, findings) = RowKey::read(&connection, &table, &change.key).await.unwrap();
            let errors: Vec<String> = findings.iter().map(ToString::to_string).collect();
            if findings.iter().any(|f| f.severity == pressline::config::finding::Severity::Error) {
                return Err(errors.join("\n"));
            }
            key.has_merge = self.has_merge.unwrap_or(key.has_merge);
            let plan = ChangePlan::compile(&change, &table, &Columns::new(&columns, "sink.postgres"), &Arc::new(key));
            plans
                .insert(number, plan.map_err(|findings| findings.iter().map(ToString::to_string).collect::<String>())?);
        }
        Ok(plans)
    }

    /// Applies a batch; numbers of the refused steps with their reasons.
    async fn apply(&self, writer: &mut Writer, steps: &[Step]) -> Vec<(usize, String)> {
        let batch = self.batch(0, steps);
        let plans = self.plans(&batch).await.unwrap();
        let offsets = Offsets::new("unused", "p", "t", "i").unwrap();
        let mut transaction = writer.begin().await.unwrap();
        let refused = transaction.apply(&batch, |id| plans.get(&id), 1_000, &mut || {}).await.unwrap();
        transaction.commit(&offsets, &[]).await.unwrap();
        refused.into_iter().map(|(index, refusal)| (index, refusal.to_string())).collect()
    }

    async fn rows(&self, columns: &str) -> Vec<String> {
        let sql = format!("SELECT concat_ws('|', {columns}) FROM {}.\"T\" ORDER BY id", self.server.schema);
        self.server.sql(&sql).await.into_iter().map(|row| row[0].clone().unwrap()).collect()
    }
}

fn named(name: &str) -> Option<Vec<(&'static str, Value)>> {
    Some(vec![("name", Value::String(name.into()))])
}

const NAME: &[(&str, &str)] = &[("name", "\"string\"")];

#[tokio::test]
async fn the_last_change_of_each_key_stands() {
    let ddl = "CREATE TABLE SCHEMA.\"T\" (id bigint PRIMARY KEY, name text, touched int DEFAULT 7)";
    for has_merge in [true, false] {
        let Some(mut target) = Target::new("upsert_last", ddl, NAME).await else { return };
        target.has_merge = Some(has_merge);
        let mut writer = target.server.writer().await;
        let steps = [
            (1, named("a")),
            (2, named("b")),
            (1, named("c")),
            (3, named("gone")),
            (3, None),
            (4, None),
            (4, named("back")),
            (5, named("x")),
            (5, None),
            (5, named("again")),
        ];
        assert!(target.apply(&mut writer, &steps).await.is_empty());
        assert_eq!(target.rows("id, name, touched").await, ["1|c|7", "2|b|7", "4|back|7", "5|again|7"]);
        // What the change does not know stays, unless the row was deleted in between.
        target.server.sql(&format!("UPDATE {}.\"T\" SET touched = 8", target.server.schema)).await;
        let steps = [(1, named("d")), (2, None), (2, named("e")), (9, None)];
        assert!(target.apply(&mut writer, &steps).await.is_empty());
        assert_eq!(target.rows("id, name, touched").await, ["1|d|8", "2|e|7", "4|back|8", "5|again|8"]);
    }
}

#[tokio::test]
async fn rows_that_swap_a_unique_value_are_written_and_others_refused() {
    for (deferrable, expected) in [("", "1|b|8"), (" DEFERRABLE INITIALLY DEFERRED", "1|b|8")] {
        let ddl = format!(
            "CREATE TABLE SCHEMA.\"T\" (id bigint PRIMARY KEY, name text UNIQUE{deferrable}, touched int DEFAULT 7, CHECK (name <> 'bad'))"
        );
        let Some(target) = Target::new("upsert_swap", &ddl, NAME).await else { return };
        let mut writer = target.server.writer().await;
        assert!(target.apply(&mut writer, &[(1, named("a")), (2, named("b")), (3, named("c"))]).await.is_empty());
        target.server.sql(&format!("UPDATE {}.\"T\" SET touched = 8", target.server.schema)).await;
        assert!(target.apply(&mut writer, &[(1, named("b")), (2, named("a"))]).await.is_empty());
        assert_eq!(target.rows("id, name, touched").await[..2], [expected, "2|a|8"]);
        // Swapped again, beside a row that violates what is there and one that is bad: the earlier change of the latter stands.
        let steps =
            [(1, named("a")), (4, named("c")), (2, named("b")), (5, named("good")), (5, named("bad")), (6, named("f"))];
        let refused = target.apply(&mut writer, &steps).await;
        assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1, 4], "{refused:?}");
        assert!(refused[0].1.contains("23505") && refused[1].1.contains("23514"), "{refused:?}");
        assert_eq!(target.rows("id, name").await, ["1|a", "2|b", "3|c", "5|good", "6|f"], "{deferrable}");
    }
}

#[tokio::test]
async fn no_row_that_others_point_to_is_deleted_to_be_written_again() {
    let ddl = "CREATE TABLE SCHEMA.\"T\" (id bigint PRIMARY KEY, name text UNIQUE); \
               CREATE TABLE SCHEMA.child (of bigint REFERENCES SCHEMA.\"T\" ON DELETE CASCADE)";
    let Some(target) = Target::new("upsert_child", ddl, NAME).await else { return };
    let mut writer = target.server.writer().await;
    target.apply(&mut writer, &[(1, named("a")), (2, named("b"))]).await;
    target.server.sql(&format!("INSERT INTO {}.child VALUES (1), (2)", target.server.schema)).await;
    let refused = target.apply(&mut writer, &[(1, named("b")), (2, named("a")), (3, named("c"))]).await;
    assert_eq!(refused.len(), 2, "{refused:?}");
    assert_eq!(target.rows("id, name").await, ["1|a", "2|b", "3|c"]);
    let children = format!("SELECT count(*) FROM {}.child", target.server.schema);
    assert_eq!(target.server.value(&children).await, "2");
}

#[tokio::test]
async fn partitioned_tables_generated_columns_arrays_and_bytes() {
    let ddl = "CREATE DOMAIN SCHEMA.word AS text NOT NULL; \
               CREATE TABLE SCHEMA.\"T\" (id bigint, \"Day\" int NOT NULL, tags text[], raw bytea, word SCHEMA.word, \
               twice bigint GENERATED ALWAYS AS (id * 2) STORED, n int GENERATED ALWAYS AS IDENTITY, \
               PRIMARY KEY (id)) PARTITION BY RANGE (id); \
               CREATE TABLE SCHEMA.low PARTITION OF SCHEMA.\"T\" FOR VALUES FROM (0) TO (10); \
               CREATE TABLE SCHEMA.high PARTITION OF SCHEMA.\"T\" FOR VALUES FROM (10) TO (100)";
    let fields = [
        ("Day", "\"int\""),
        ("tags", "{\"type\":\"array\",\"items\":[\"null\",\"string\"]}"),
        ("raw", "\"bytes\""),
        ("word", "\"string\""),
    ];
    let Some(target) = Target::new("upsert_types", ddl, &fields).await else { return };
    let mut writer = target.server.writer().await;
    let row = |day: i32, tags: &[&str]| {
        let items = tags.iter().map(|tag| Value::Union(1, Box::new(Value::String(tag.to_string())))).collect();
        let raw = Value::Bytes(vec![day as u8; 3]);
        Some(vec![
            ("Day", Value::Int(day)),
            ("tags", Value::Array(items)),
            ("raw", raw),
            ("word", Value::String("w".into())),
        ])
    };
    let steps = [(1, row(1, &["a", "b"])), (11, row(2, &[])), (2, row(3, &["x"])), (2, None), (50, row(5, &[]))];
    assert!(target.apply(&mut writer, &steps).await.is_empty());
    // The virtual partition of 200 is none: that row alone is refused.
    let steps = [(1, row(9, &["c"])), (200, row(2, &[])), (11, None), (50, row(6, &["z"]))];
    let refused = target.apply(&mut writer, &steps).await;
    assert_eq!(refused.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [1], "{refused:?}");
    assert_eq!(
        target.rows("id, \"Day\", tags, raw, word, twice").await,
        ["1|9|{c}|\\x090909|w|2", "50|6|{z}|\\x060606|w|100"]
    );
}

#[tokio::test]
async fn keys_that_are_equal_with_other_bytes_are_one_row() {
    let ddl = "CREATE TABLE SCHEMA.\"T\" (id numeric PRIMARY KEY, name text)";
    let Some(target) = Target::new("upsert_numeric", ddl, NAME).await else { return };
    // The key is a long here; whether it is exact is the column's matter.
    let mut writer = target.server.writer().await;
    let steps = [(1, named("a")), (2, named("b")), (1, None), (1, named("c")), (2, None)];
    assert!(target.apply(&mut writer, &steps).await.is_empty());
    assert_eq!(target.rows("id, name").await, ["1|c"]);
}

#[tokio::test]
async fn a_table_without_the_key_is_refused_with_the_statement() {
    let ddl = "CREATE TABLE SCHEMA.\"T\" (id bigint, name text)";
    let Some(target) = Target::new("upsert_nokey", ddl, NAME).await else { return };
    let batch = target.batch(0, &[(1, named("a"))]);
    let error = target.plans(&batch).await.unwrap_err();
    assert!(error.contains("ADD PRIMARY KEY (\"id\")"), "{error}");
    target.server.sql(&format!("ALTER TABLE {}.\"T\" ADD n int PRIMARY KEY", target.server.schema)).await;
    let error = target.plans(&batch).await.unwrap_err();
    assert!(error.contains("its primary key is (\"n\")") && error.contains("ADD UNIQUE (\"id\")"), "{error}");
    target.server.sql(&format!("CREATE UNIQUE INDEX ON {}.\"T\" (id) INCLUDE (name)", target.server.schema)).await;
    let error = target.plans(&batch).await.unwrap_err();
    assert!(error.contains('n') && !error.contains("no primary key"), "{error}");
}

#[test]
fn a_sink_follows_its_topic() {
    let Some(database) = Database::new("upsert_daemon") else { return };
    let Some(load) = load("upsert_daemon", "postgres", |_| database.tables(upserts::SETTINGS)) else { return };
    let rows = || {
        let rows = database.value("SELECT coalesce(string_agg(id || '|' || n, ',' ORDER BY id), '') FROM SCHEMA.t");
        rows.split(',').map(String::from).collect()
    };
    upserts::follows(&load, rows);
    let said = load.check();
    assert!(said.contains("0 errors"), "{said}");
    database.sql("ALTER TABLE SCHEMA.t DROP CONSTRAINT t_pkey");
    assert!(load.check().contains("ADD PRIMARY KEY (\"id\")"), "{}", load.check());
}

#[test]
fn values_and_keys_of_every_format_are_followed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(server) = runtime.block_on(server("upsert_formats")) else { return };
    let sink = server.sink("${topic}", "normalize_topic = true\nCHANGES\n");
    let Some(load) = load("upsert_formats", "postgres", |_| sink.clone()) else { return };
    upserts::follows_in_every_format(&load, &sink, |table| {
        let sql = format!("SELECT id || '|' || n FROM {}.{table} ORDER BY id COLLATE \"C\"", server.schema);
        runtime.block_on(server.sql(&sql)).iter().map(|row| row[0].clone().unwrap()).collect()
    });
}

/// What the table is to hold.
fn model(steps: &[(i64, Option<u8>)]) -> BTreeMap<i64, u8> {
    let mut rows = BTreeMap::new();
    for (id, value) in steps {
        match value {
            Some(value) => drop(rows.insert(*id, *value)),
            None => drop(rows.remove(id)),
        }
    }
    rows
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is done in whatever batches, some of them sent again after their answer was lost, the table is as the model.
    #[test]
    fn the_table_is_as_the_model(
        steps in prop::collection::vec((0i64..6, prop::option::weighted(0.7, any::<u8>())), 1..60),
        cuts in prop::collection::vec((1usize..12, any::<bool>()), 1..20),
    ) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let done = runtime.block_on(follow(&steps, &cuts));
        if let Some(rows) = done {
            prop_assert_eq!(rows, model(&steps));
        }
    }
}

/// Applies the steps, cut so; after a cut that says so, its commit's answer is lost and the batch is sent again from its start.
async fn follow(steps: &[(i64, Option<u8>)], cuts: &[(usize, bool)]) -> Option<BTreeMap<i64, u8>> {
    let ddl = "CREATE TABLE SCHEMA.\"T\" (id bigint PRIMARY KEY, name text)";
    let target = Target::new("upsert_model", ddl, NAME).await?;
    let offsets = Offsets::new(&format!("{}.positions", target.server.schema), "p", "t", "i").unwrap();
    let connection = target.server.connect().await;
    offsets.ensure_table(&connection).await.unwrap();
    offsets.claim(&connection, &BTreeMap::from([(0, 0)])).await.unwrap();
    let mut writer = Writer::new(connection);
    let all: Vec<Step> =
        steps.iter().map(|(id, value)| (*id, value.and_then(|value| named(&value.to_string())))).collect();
    let both = target.batch(0, &[(1, named("a")), (1, None)]);
    let plans = target.plans(&both).await.unwrap();
    let (mut at, mut cuts) = (0, cuts.iter().cycle());
    while at < all.len() {
        let (length, is_sent_again) = *cuts.next().unwrap();
        let end = (at + length).min(all.len());
        let batch = target.batch(at as i64, &all[at..end]);
        // Upserts have number 0 there, deletes 1.
        let plan_of = |id| plans.get(&u32::from(batch.pair(id).unwrap().row.is_none()));
        for attempt in 0..1 + i32::from(is_sent_again) {
            let mut transaction = writer.begin().await.unwrap();
            let refused = transaction.apply(&batch, plan_of, 0, &mut || {}).await.unwrap();
            assert!(refused.is_empty());
            let advance = Advance { partition: 0, start: at as i64, end: end as i64 };
            match (attempt, transaction.commit(&offsets, &[advance]).await) {
                (0, Ok(())) | (1, Err(CommitError::Missed)) => {}
                (_, other) => panic!("{other:?}"),
            }
        }
        at = end;
    }
    let rows = target.rows("id, name").await;
    Some(
        rows.iter()
            .map(|row| row.split_once('|').unwrap())
            .map(|(id, v)| (id.parse().unwrap(), v.parse().unwrap()))
            .collect(),
    )
}
