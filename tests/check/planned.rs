//! What `pressline check` says of a sink beside a relay with transforms: the relay's own schema is the plan's, which is in no file
//! and not in the registry yet.

use pressline::command::check::statements;
use pressline::config::load::{Sources, load};

use super::sinks::{Database, skip};
use super::{House, Services, has};

const PIPELINE: &str = r#"
[kafka]
bootstrap_servers = "BOOTSTRAP"
[registry]
url = "REGISTRY"
[source]
topic = "orders"
format = "json"
[source.fields]
order_time = "long"
count = "int"
order = "array<string>?"
[[transforms]]
rename = { count = "dishes" }
[output]
topic = "dishes"
"#;

const POSTGRES: &str = "[sink.postgres]\nuser = \"loader\"\ndatabase = \"shop\"\ntable = \"dishes\"\n";
const CLICKHOUSE: &str = "[sink.clickhouse]\nurl = \"http://127.0.0.1:1\"\nuser = \"loader\"\ndatabase = \"shop\"\n\
                          table = \"dishes\"\norder_by = \"order_time\"\n";

/// Orders whose `count` goes out as `dishes`, and this sink.
fn house(sink: &str) -> House {
    let house = House::new();
    house.pipeline("p", &format!("{PIPELINE}{sink}"));
    house
}

#[tokio::test]
async fn a_sink_that_fits_what_the_plan_makes() {
    let text = house(POSTGRES).read().await;
    has(&text, "ok: p: sink.postgres: settings fit the schema that the plan of p.toml makes\n");
    has(&text, "0 errors, 0 warnings");
}

#[tokio::test]
async fn columns_of_fields_that_the_plan_does_not_make() {
    let text = house(&format!("{POSTGRES}columns.ignore = [\"count\"]\n")).read().await;
    has(&text, "count: sink.postgres.columns names a field that the schema does not have");
    has(&text, "0 errors, 1 warning");
    let text = house(&format!("{POSTGRES}columns.rename = {{ dishes = \"order_time\" }}\n")).read().await;
    has(&text, "order_time: two fields go into column order_time");
    has(&text, "1 error, 0 warnings");
    assert!(!text.contains("settings fit"), "{text}");
}

#[tokio::test]
async fn keys_of_fields_that_the_plan_does_not_make() {
    let upsert = "mode = \"upsert\"\npk_mode = \"record_value\"\npk_fields = [\"count\"]\n";
    let text = house(&format!("{POSTGRES}{upsert}")).read().await;
    has(
        &text,
        "sink.postgres.pk_fields: pk_fields names count, which the record's value has not (it has dishes, order, order_time)",
    );
    has(&text, "1 error, 0 warnings");
    let text = house(&format!("{POSTGRES}{}", upsert.replace("count", "dishes"))).read().await;
    has(&text, "0 errors, 0 warnings");
}

#[tokio::test]
async fn types_that_a_table_to_be_made_cannot_have() {
    let made = format!("{CLICKHOUSE}auto_create = true\n");
    let text = house(&made).read().await;
    has(&text, "order: ");
    has(&text, "sink.clickhouse.columns.null_as_default = [\"order\"]");
    has(&text, "1 error, 0 warnings");
    let text = house(&format!("{made}columns.null_as_default = [\"order\"]\n")).read().await;
    has(&text, "0 errors, 0 warnings");
}

#[tokio::test]
async fn the_statement_for_the_table_needs_no_registry() {
    let house = house(POSTGRES);
    let loaded = load(&Sources { pipelines: vec![house.path("p.toml")], ..Sources::default() }).unwrap();
    let (text, findings) = statements(&loaded, false).await;
    assert_eq!(findings, []);
    has(&text, "-- pipeline p, PostgreSQL: for the schema that the plan of pipeline p makes\n");
    has(&text, "(\n    \"dishes\" integer NOT NULL,\n    \"order\" text[],\n    \"order_time\" bigint NOT NULL\n)");
}

#[tokio::test]
async fn online_the_table_is_compared_with_what_the_plan_makes_before_it_is_registered() {
    let Some(services) = Services::from_environment() else { return };
    if skip("PRESSLINE_TEST_POSTGRES") {
        return;
    }
    let database = Database::new("planned").await;
    services.topics().await;
    let house = House::new();
    let text = PIPELINE
        .replace("BOOTSTRAP", &services.bootstrap)
        .replace("REGISTRY", &services.registry)
        .replace("\"orders\"", &format!("\"{}\"", services.raw()))
        .replace("\"dishes\"\n", &format!("\"{}\"\n", services.out()));
    house.pipeline("p", &format!("name = \"{}\"\n{text}{}", services.unique, database.own_sink(&house, "")));
    database.run("CREATE TABLE check_planned.presses (order_time bigint, dishes uuid, \"order\" text[])").await;
    let text = house.text(&house.check(true).await);
    has(&text, "the schema that the plan of p.toml makes, not registered yet");
    has(&text, "column dishes (uuid) from field dishes (int): a number does not fit it");
    has(&text, "1 error");
    database.run("ALTER TABLE check_planned.presses ALTER dishes TYPE integer USING 0").await;
    has(&house.text(&house.check(true).await), "0 errors");
}
