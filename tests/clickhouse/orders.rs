//! Topics of other formats than Avro into `Array(String)`.

use serde_json::Value;

use crate::loads::{load, orders};
use crate::support::{DATABASE, world};

#[test]
fn orders_of_every_format_give_the_same_table() {
    let Some(world) = world("orders") else { return };
    let sink = world.sink("${topic}", "normalize_topic = true\n");
    let Some(load) = load("ch_orders", "clickhouse", |_| sink.clone()) else { return };
    for (_, topic) in orders::TOPICS {
        let columns = "order_time Int64, count Int32, order Array(String), _topic LowCardinality(String), _partition Int32, _offset Int64";
        let table = orders::table(&load, topic);
        world.run(&format!("CREATE TABLE {DATABASE}.{table} ({columns}) ENGINE = MergeTree ORDER BY order_time"));
    }
    orders::all_formats(&load, &sink, |table| {
        let select = format!(
            "SELECT toJSONString(tuple(order_time, count, order)) AS v FROM {DATABASE}.{table} ORDER BY order_time"
        );
        let quoted = format!("{select} SETTINGS output_format_json_quote_64bit_integers = 0");
        world.select(&quoted).iter().map(|row| serde_json::from_str::<Value>(row).unwrap()).collect()
    });
}
