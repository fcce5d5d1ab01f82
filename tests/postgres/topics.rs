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
    // A topic that comes later is told of, and loaded by the next start.
    load.cluster.create_topics(&[(&topic("later"), 1), (&format!("{}.dead", topic("later")), 1)]);
    send("later", &[4]);
    await_that("the new topic is seen", || run.log().contains("a new topic is of the form of source.topics"));
    assert!(run.log().contains(&topic("later")) && !run.log().contains(".other.x"), "{}", run.log());
    assert_eq!(run.stop(), 0);
    let mut run = load.run();
    loaded(&mut run, "later");
    assert_eq!(run.stop(), 0);
    assert_eq!((rows("orders"), rows("later")), ("1 2".into(), "4".into()));
}
