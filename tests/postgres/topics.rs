//! `source.topics`: one file, a pipeline for each topic, each with a table, a group and positions of its own.

use crate::cluster::{PATIENCE, Raw, await_that};
use crate::loads::load;
use crate::offsets::Database;
use crate::relay::holds_all;

#[test]
fn each_topic_of_a_pattern_is_loaded_into_its_table() {
    let Some(database) = Database::new("topics") else { return };
    let Some(load) = load("topics", "postgres", |_| database.tables("")) else { return };
    let name = load.name.clone();
    let topic = |table: &str| format!("{name}.public.{table}");
    let tables = database.tables("auto_create = true\n").replace(".t\"", ".${topic.2}\"");
    let file = |pattern: &str| {
        let source = format!("[source]\ntopics = \"{pattern}\"\nformat = \"json\"\nfields = {{ n = \"long\" }}\n");
        load.write(&format!("pipelines/{name}.toml"), &format!("{source}{tables}"));
    };
    let pattern = format!("{name}.public.*");
    file(&pattern);
    let (ok, said) = load.says(&["check", "--online"]);
    assert!(!ok && said.contains(&format!("source.topics: the brokers have no topic of the form {pattern}")), "{said}");
    load.refused(&["the brokers have no topic of the form"]);
    load.cluster.create_topics(&[(&topic("orders"), 2), (&topic("visits"), 1), (&format!("{name}.other.x"), 1)]);
    let (ok, said) = load.says(&["topics", "create"]);
    assert!(ok && said.contains(&format!("made topic {}.dead", topic("visits"))), "{said}");
    let send = |table: &str, numbers: &[i64]| {
        let value = |n: &i64| Raw::value(0, format!("{{\"n\": {n}}}"));
        load.cluster.send(&topic(table), &numbers.iter().map(value).collect::<Vec<Raw>>());
    };
    send("orders", &[1, 2]);
    send("visits", &[3]);
    let mut run = load.run();
    let loaded = |run: &mut crate::relay::Relay, table: &str| {
        let group = format!("pressline.{name}.{table}.postgres");
        load.cluster.await_relayed(&group, &topic(table), PATIENCE, || run.still_runs());
    };
    loaded(&mut run, "orders");
    loaded(&mut run, "visits");
    let rows = |table: &str| database.value(&format!("SELECT string_agg(n::text, ' ' ORDER BY n) FROM SCHEMA.{table}"));
    assert_eq!((rows("orders"), rows("visits")), ("1 2".into(), "3".into()));
    let pipelines = database.value("SELECT string_agg(DISTINCT pipeline, ' ' ORDER BY pipeline) FROM SCHEMA.positions");
    assert_eq!(pipelines, format!("{name}.orders {name}.visits"));
    let (ok, said) = load.says(&["check", "--online"]);
    assert!(ok, "{said}");
    holds_all(
        &said,
        &[&format!("{name}.orders: topic {}: 2 partitions", topic("orders")), &format!("{name}.visits: ")],
    );
    let (ok, said) = load.says(&["offsets", "show", "--pipeline", &format!("{name}.orders")]);
    assert!(ok && said.contains(&format!("pressline.{name}.orders.postgres")), "{said}");
    let (ok, said) = load.says(&["offsets", "show", "--pipeline", &name]);
    assert!(
        !ok && said.contains(&format!("a pipeline for each of 2 topics; name one, such as --pipeline {name}.orders")),
        "{said}"
    );
    let shown = |run: &mut crate::relay::Relay| -> Vec<String> {
        let status: serde_json::Value = serde_json::from_str(&run.get("/status").1).unwrap();
        let name = |one: &serde_json::Value| one["name"].as_str().unwrap().to_string();
        status["pipelines"].as_array().unwrap().iter().map(name).collect()
    };
    let (orders, later, visits) =
        (format!("{name}.orders.postgres"), format!("{name}.later.postgres"), format!("{name}.visits.postgres"));
    assert_eq!(shown(&mut run), [orders.clone(), visits.clone()]);
    // A topic that comes later is loaded without a restart.
    load.cluster.create_topics(&[(&topic("later"), 1), (&format!("{}.dead", topic("later")), 1)]);
    send("later", &[4]);
    await_that("the new topic is taken up", || {
        run.still_runs();
        run.log().contains("it is loaded from now on")
    });
    assert!(run.log().contains(&topic("later")) && !run.log().contains(".other.x"), "{}", run.log());
    loaded(&mut run, "later");
    assert_eq!((rows("orders"), rows("later")), ("1 2".into(), "4".into()));
    assert_eq!(shown(&mut run), [orders.clone(), visits.clone(), later.clone()]);
    let ready = |pipeline: &str| format!("pressline_pipeline_ready{{pipeline=\"{pipeline}\"}} 1");
    await_that("it is ready", || run.get("/metrics").1.contains(&ready(&later)) && run.get("/readyz").0 == 200);
    assert!(run.get("/metrics").1.contains(&format!("pressline_sink_rows_total{{pipeline=\"{name}.later\"")));
    // It stops with the others, and is one of them from the start.
    assert_eq!(run.stop(), 0);
    send("later", &[5]);
    let mut run = load.run();
    loaded(&mut run, "later");
    assert_eq!(rows("later"), "4 5");
    // One that is deleted is told of, and the others go on; made again, it is another, which is refused.
    load.cluster.delete_topic(&topic("later"));
    await_that("its pipeline ends", || {
        run.still_runs();
        !shown(&mut run).contains(&later)
    });
    assert!(run.log().contains("the topic was deleted, or may no longer be described"), "{}", run.log());
    assert!(!run.get("/metrics").1.contains(&ready(&later).replace("} 1", "}")), "{}", run.get("/metrics").1);
    await_that("the others are ready", || run.get("/readyz").0 == 200);
    send("orders", &[6]);
    loaded(&mut run, "orders");
    assert_eq!(rows("orders"), "1 2 6");
    load.cluster.create_topics(&[(&topic("later"), 1)]);
    await_that("the topic is known to be another", || {
        run.still_runs();
        run.log().contains("but the topic's id is now")
    });
    assert!(shown(&mut run).contains(&later));
    assert_eq!(run.stop(), 1);
}
