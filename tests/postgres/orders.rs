//! Topics of other formats than Avro, and the tables of the fish-and-chips talk.

use serde_json::Value;

use crate::loads::{load, orders};
use crate::support::server;

#[test]
fn orders_of_every_format_give_the_same_table() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let Some(server) = runtime.block_on(server("orders")) else { return };
    let sink = server.sink("${topic}", "normalize_topic = true\n");
    let Some(load) = load("pg_orders", "postgres", |_| sink.clone()) else { return };
    for (_, topic) in orders::TOPICS {
        let columns = "\"order_time\" bigint primary key, \"count\" integer not null, \"order\" text[] not null";
        let table = orders::table(&load, topic);
        runtime.block_on(server.sql(&format!("create table {}.{table} ({columns})", server.schema)));
    }
    orders::all_formats(&load, &sink, |table| {
        let sql = format!(
            "SELECT jsonb_build_array(order_time, count, \"order\") FROM {}.{table} ORDER BY order_time",
            server.schema
        );
        let rows = runtime.block_on(server.sql(&sql));
        rows.iter().map(|row| serde_json::from_str::<Value>(row[0].as_ref().unwrap()).unwrap()).collect()
    });
    let config = server.config("");
    orders::init(&load, |format| {
        let at = format!("{}@{}:{}/{}", config.user, config.host, config.port, config.database);
        let password = config.password_file.as_ref().unwrap().relative().display().to_string();
        let table = format!("{}.made_{format}", server.schema);
        ["--postgres", &at, "--password-file", &password, "--table", &table].map(String::from).to_vec()
    });
}
