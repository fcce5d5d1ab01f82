//! `auto_create` through the daemon: no table, a run, and the table has the documented types and every row.

use serde_json::Value;
use tokio::runtime::Runtime;

use crate::daemon::{assert_same, await_rows, chain, printed_statement, send, with_sink};
use crate::relay::World;
use crate::support::{Server, server};

const PRESSES: usize = 90;

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The rows, as objects; timestamps as microseconds.
async fn rows(server: &Server, table: &str) -> Vec<Value> {
    let sql = format!(
        "SELECT to_jsonb(t) || jsonb_build_object('timestamp', (extract(epoch FROM \"timestamp\") * 1000000)::bigint) FROM \
         {}.{table} t",
        server.schema
    );
    server.sql(&sql).await.iter().map(|row| serde_json::from_str(row[0].as_ref().unwrap()).unwrap()).collect()
}

async fn count(server: &Server, table: &str) -> usize {
    let there = server.value(&format!("SELECT to_regclass('{}.{table}') IS NOT NULL", server.schema)).await;
    if there == "f" {
        return 0;
    }
    server.value(&format!("SELECT count(*) FROM {}.{table}", server.schema)).await.parse().unwrap()
}

/// Runs pressline until the table has everything, and compares.
fn load(runtime: &Runtime, world: &World, server: &Server, table: &str) {
    let mut process = world.run(&[]);
    await_rows(PRESSES, || runtime.block_on(count(server, table)), || process.still_runs());
    assert_eq!(process.stop(), 0);
    assert_same(world, runtime.block_on(rows(server, table)), false);
}

#[test]
fn auto_create_makes_the_table_of_documented_types_and_fills_it() {
    let Some(world) = chain("pg-made") else { return };
    let runtime = runtime();
    let Some(server) = runtime.block_on(server("daemon_made")) else { return };
    with_sink(&world, &server.sink("made", "auto_create = true\n"));
    send(&world, 0..PRESSES as u128);
    load(&runtime, &world, &server, "made");
    let sql = format!(
        "SELECT attname || ' ' || format_type(atttypid, atttypmod) || CASE WHEN attnotnull THEN ' NOT NULL' ELSE '' END FROM \
         pg_attribute WHERE attrelid = '{}.made'::regclass AND attnum > 0 ORDER BY attnum",
        server.schema
    );
    let columns: Vec<String> =
        runtime.block_on(server.sql(&sql)).into_iter().map(|mut row| row.remove(0).unwrap()).collect();
    assert_eq!(
        columns,
        [
            "session_id uuid NOT NULL",
            "timestamp timestamp with time zone NOT NULL",
            "cohort integer",
            "action text NOT NULL",
            "country_name text NOT NULL",
            "country_code text NOT NULL",
            "subdivision_name text NOT NULL",
            "subdivision_code text NOT NULL",
            "city_name text NOT NULL",
            "latitude double precision",
            "longitude double precision",
            "accuracy_km integer",
            "time_zone text",
        ]
    );
}

#[test]
fn without_auto_create_the_sink_stops_and_its_statement_executed_by_hand_works() {
    let Some(world) = chain("pg-told") else { return };
    let runtime = runtime();
    let Some(server) = runtime.block_on(server("daemon_told")) else { return };
    with_sink(&world, &server.sink("told", ""));
    send(&world, 0..PRESSES as u128);
    let mut process = world.run(&[]);
    process.await_log("there is no table \"pressline_daemon_told\".\"told\"; make it, for example so");
    world.await_relayed(&mut process);
    process.await_log(");");
    assert_eq!(process.stop(), 1, "a sink was refused");
    assert_eq!(runtime.block_on(count(&server, "told")), 0);
    let log = process.log();
    runtime.block_on(server.sql(printed_statement(&log)));
    load(&runtime, &world, &server, "told");
}

/// The relay registers its own schema while the sink starts: the table must not be made for the one before.
#[test]
fn the_first_start_is_like_the_second_where_the_subject_has_an_older_version() {
    let Some(world) = chain("pg-older") else { return };
    let runtime = runtime();
    let Some(server) = runtime.block_on(server("daemon_older")) else { return };
    let mut older: Value = serde_json::from_str(include_str!("../../schemas/button_presses.avsc")).unwrap();
    older["fields"].as_array_mut().unwrap().truncate(9);
    let config = pressline::config::RegistryConfig {
        url: world.registry.clone(),
        username: None,
        password_file: None,
        ca: None,
        timeout_ms: 20_000,
    };
    let registry = pressline::avro::registry::Registry::new(&config).unwrap();
    let subject = format!("{}-value", world.out);
    runtime.block_on(registry.ensure(&subject, &older.to_string(), true)).unwrap();
    with_sink(&world, &server.sink("older", "auto_create = true\n"));
    let mut process = world.run(&[]);
    process.await_ready();
    send(&world, 0..PRESSES as u128);
    await_rows(PRESSES, || runtime.block_on(count(&server, "older")), || process.still_runs());
    assert_eq!(process.stop(), 0);
    assert_same(&world, runtime.block_on(rows(&server, "older")), false);
}
