//! Inserts through our client: tokens, recovery, errors by class.

use std::time::Duration;

use apache_avro::types::Value;
use pressline::avro::Shape;
use pressline::sink::clickhouse::{Block, BlockPlan, Client, ErrorClass, Table};

use crate::support::{DATABASE, TOPIC, World, config, one, password_file, plan, record_of, service, world};

const OWN: &str = "_topic LowCardinality(String), _partition Int32, _offset Int64";

fn numbers(world: &World, more: &str) -> (Table, BlockPlan, String) {
    let schema = record_of("\"long\"");
    let table = world.table(&format!("(v Int64, {OWN}) ENGINE = MergeTree ORDER BY v {more}"));
    let plan = plan(&Shape::parse(&schema).unwrap(), &table, &[]).unwrap();
    (table, plan, schema)
}

fn block(plan: &BlockPlan, schema: &str, values: impl Iterator<Item = i64>) -> Block {
    let mut block = plan.block();
    values.for_each(|n| block.push(plan, &one(schema, Value::Long(n)), 0, n).unwrap());
    block
}

fn count(world: &World, table: &Table) -> String {
    world.select(&format!("SELECT toString(count()) AS v FROM {DATABASE}.{}", table.name)).remove(0)
}

#[test]
fn a_token_twice_inserts_once() {
    let Some(world) = world("token_twice") else { return };
    let (table, plan, schema) = numbers(&world, "SETTINGS non_replicated_deduplication_window = 100");
    let rows = block(&plan, &schema, 0..1000);
    world.insert(&table, &rows, "p:id:0:0:1000:1").unwrap();
    world.insert(&table, &rows, "p:id:0:0:1000:1").unwrap();
    assert_eq!(count(&world, &table), "1000");
    // The same rows under another token are other rows.
    world.insert(&table, &rows, "p:id:0:0:1000:2").unwrap();
    assert_eq!(count(&world, &table), "2000");
}

/// What recovery rests on: an insert that fails in a view is in the table all the same, and its token brings it into the
/// view alone.
#[test]
fn an_insert_that_fails_in_a_view() {
    let Some(world) = world("failing_view") else { return };
    let window = "SETTINGS non_replicated_deduplication_window = 100";
    let (table, plan, schema) = numbers(&world, window);
    let view = format!("{DATABASE}.{}_v", table.name);
    let make = |select: &str| {
        let sql =
            format!("CREATE MATERIALIZED VIEW {view} ENGINE = MergeTree ORDER BY s {window} AS SELECT {select} AS s");
        world.run(&format!("{sql} FROM {DATABASE}.{}", table.name));
    };
    make("throwIf(v = 5)");
    let rows = block(&plan, &schema, 0..10);
    let error = world.insert(&table, &rows, "1").unwrap_err();
    assert_eq!((error.class, error.code), (ErrorClass::Data, Some(395)), "{error}");
    let offsets = world.client.offsets_present(&table, TOPIC, 0, 0, 10);
    assert_eq!(world.runtime.block_on(offsets).unwrap().len(), 10, "rows are in the table although the insert failed");
    world.run(&format!("DROP VIEW {view}"));
    make("v");
    world.insert(&table, &rows, "1").unwrap();
    assert_eq!(count(&world, &table), "10");
    assert_eq!(world.select(&format!("SELECT toString(count()) AS v FROM {view}")), ["10"]);
}

#[test]
fn the_table_tells_which_offsets_are_there() {
    let Some(world) = world("present") else { return };
    let (table, plan, schema) = numbers(&world, "");
    world.insert(&table, &block(&plan, &schema, (0..100).filter(|n| n % 3 != 0)), "1").unwrap();
    let present = |topic, partition, start, end| {
        world.runtime.block_on(world.client.offsets_present(&table, topic, partition, start, end)).unwrap()
    };
    assert_eq!(present(TOPIC, 0, 2, 9), [2, 4, 5, 7, 8]);
    assert!(present(TOPIC, 1, 0, 100).is_empty());
    assert!(present("it's another", 0, 0, 100).is_empty());
}

#[test]
fn an_insert_that_is_dropped_inserts_nothing() {
    let Some(world) = world("dropped") else { return };
    let (table, plan, schema) = numbers(&world, "");
    let rows = block(&plan, &schema, 0..500_000);
    let mut native = Vec::new();
    rows.native(&mut native);
    world.runtime.block_on(async {
        let mut insert = world.client.begin_insert(&table, rows.layout(), "1").await.unwrap();
        insert.send(&native[..native.len() / 2]).await.unwrap();
        drop(insert);
        tokio::time::sleep(Duration::from_millis(300)).await;
    });
    assert_eq!(count(&world, &table), "0");
    world.insert(&table, &rows, "1").unwrap();
    assert_eq!(count(&world, &table), "500000");
}

#[test]
fn a_block_can_be_filled_again() {
    let Some(world) = world("again") else { return };
    let (table, plan, schema) = numbers(&world, "");
    let mut rows = block(&plan, &schema, 0..10);
    world.insert(&table, &rows, "1").unwrap();
    rows.clear();
    rows.push(&plan, &one(&schema, Value::Long(77)), 0, 77).unwrap();
    world.insert(&table, &rows, "2").unwrap();
    assert_eq!(count(&world, &table), "11");
}

#[test]
fn errors_by_class() {
    let Some(world) = world("classes") else { return };
    let (table, plan, schema) = numbers(&world, "");
    let rows = block(&plan, &schema, 0..10);
    world.run(&format!("ALTER TABLE {DATABASE}.{} ADD CONSTRAINT positive CHECK v != 5", table.name));
    let error = world.insert(&table, &rows, "1").unwrap_err();
    assert_eq!((error.class, error.code), (ErrorClass::Data, Some(469)), "{error}");
    world.run(&format!("ALTER TABLE {DATABASE}.{} DROP COLUMN _offset", table.name));
    let error = world.insert(&table, &rows, "2").unwrap_err();
    assert_eq!(error.class, ErrorClass::Schema, "{error}");
    world.run(&format!("DROP TABLE {DATABASE}.{}", table.name));
    let error = world.insert(&table, &rows, "3").unwrap_err();
    assert_eq!((error.class, error.code), (ErrorClass::Schema, Some(60)), "{error}");
    assert!(world.runtime.block_on(Table::describe(&world.client, DATABASE, &table.name)).unwrap().is_none());
}

#[test]
fn a_type_that_changed_is_never_converted_silently() {
    let Some(world) = world("changed_type") else { return };
    let schema = record_of("\"long\"");
    let table = world.table("(k Int8, v Int64) ENGINE = MergeTree ORDER BY k");
    let plan = plan(&Shape::parse(&schema).unwrap(), &table, &[]).unwrap();
    world.run(&format!("ALTER TABLE {DATABASE}.{} MODIFY COLUMN v DateTime", table.name));
    let error =
        world.insert(&table, &block(&plan, &schema, 1_000_000_000_000_000..1_000_000_000_000_003), "1").unwrap_err();
    assert_eq!(error.class, ErrorClass::Schema, "{error}");
    assert_eq!(count(&world, &table), "0");
}

#[test]
fn a_wrong_password_and_a_server_that_is_not_there() {
    let Some(world) = world("password") else { return };
    let dir = tempfile::tempdir().unwrap();
    let open = |url: &str, password| {
        let config = config(url, &password_file(&dir, password), "");
        world.runtime.block_on(Client::open(&config)).err().unwrap()
    };
    let error = open(&service("PRESSLINE_TEST_CLICKHOUSE"), "wrong");
    assert_eq!(error.class, ErrorClass::Authentication, "{error}");
    assert!(!error.to_string().contains("wrong\n"));
    let error = open("http://127.0.0.1:1", "wrong");
    assert_eq!(error.class, ErrorClass::Transient, "{error}");
    let error = open("http://user:secret@127.0.0.1:1", "wrong");
    assert_eq!(error.class, ErrorClass::Configuration, "{error}");
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[test]
fn tls_with_our_authority_only() {
    let Some(world) = world("tls") else { return };
    let tls = service("PRESSLINE_TEST_TLS_DIR");
    let file = world.path("password");
    let open = |ca: &str| {
        let more = format!("ca = \"{tls}/{ca}\"\n");
        let config = config(&service("PRESSLINE_TEST_CLICKHOUSE_TLS"), &file, &more);
        world.runtime.block_on(async { Client::open(&config).await?.ping().await })
    };
    open("ca.pem").unwrap();
    let error = open("stranger-ca.pem").unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    let error = open("no-such-file.pem").unwrap_err();
    assert_eq!(error.class, ErrorClass::Authentication, "{error}");
}
