//! Changes that lack values, because an update left them as they were: `toast = "skip"`.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::cluster::{Raw, Record};
use crate::loads::{Load, load};
use crate::offsets::Database;

const SOURCE: &str = "[source]\nformat = \"json\"\nenvelope = \"debezium\"\nfields = { id = \"int\", note = \"string?\", big = \"string?\", \
                      list = \"array<string>?\" }\nkey = { format = \"json\", fields = { id = \"int\" } }\n";
const SINK: &str = "mode = \"upsert\"\ndeletes = true\npk_mode = \"record_key\"\n";
/// What Debezium writes in the place of a value that is not in the log.
const LACKING: &str = "__debezium_unavailable_value";

fn stage(test: &str, more: &str) -> Option<(Database, Load)> {
    let database = Database::new(test)?;
    let load = load(test, "postgres", |_| format!("{}{SOURCE}", database.tables(&format!("{SINK}{more}"))))?;
    Some((database, load))
}

/// A change of the row `id`: note, big and list; `None` is a delete.
fn change(id: i64, op: &str, row: Option<(&str, &str)>) -> Raw {
    let after = row.map_or("null".to_string(), |(note, big)| {
        format!(r#"{{"id":{id},"note":"{note}","big":"{big}","list":["{big}"]}}"#)
    });
    let value = format!(r#"{{"before":null,"after":{after},"op":"{op}"}}"#);
    let (partition, key) = (Some(0), Some(format!(r#"{{"id":{id}}}"#)));
    Raw { partition, key, value: Some(value.into_bytes()), ..Raw::default() }
}

fn rows(database: &Database) -> String {
    database
        .value("SELECT coalesce(string_agg(concat_ws('|', id, note, big, list[1]), ' ' ORDER BY id), '') FROM SCHEMA.t")
}

fn load_all(load: &Load, changes: &[Raw]) {
    load.cluster.send(&load.topic, changes);
    load.load_all();
}

/// Reasons and fields of the dead letters.
fn letters(load: &Load) -> Vec<String> {
    let letters = load.cluster.read(&format!("{}.dead", load.topic));
    let shown = |name, letter: &Record| letter.header(name).unwrap_or_default().to_string();
    letters
        .iter()
        .map(|letter| format!("{} {}", shown("pressline.reason", letter), shown("pressline.field", letter)))
        .collect()
}

#[test]
fn a_row_keeps_what_a_change_does_not_hold() {
    let Some((database, load)) = stage("toast_skip", "toast = \"skip\"\nauto_create = true\n") else { return };
    // In one batch with what it needs, and alone in the next one.
    let whole = Some(("first", "x"));
    load_all(&load, &[change(1, "c", whole), change(1, "u", Some(("second", LACKING))), change(2, "c", whole)]);
    assert_eq!(rows(&database), "1|second|x|x 2|first|x|x");
    load_all(&load, &[change(2, "u", Some(("second", LACKING))), change(1, "u", Some(("third", "y")))]);
    assert_eq!(rows(&database), "1|third|y|y 2|second|x|x");
    assert_eq!(letters(&load), [""; 0]);
    // Rows that are not there, or not any more; what else the batch does to them stands.
    let lacking = Some(("none", LACKING));
    load_all(
        &load,
        &[
            change(3, "u", lacking),
            change(3, "u", lacking),
            change(2, "d", None),
            change(2, "c", lacking),
            change(4, "u", lacking),
            change(4, "c", whole),
            change(1, "u", lacking),
        ],
    );
    assert_eq!(rows(&database), "1|none|y|y 4|first|x|x");
    assert_eq!(letters(&load), ["unavailable_value big"; 4]);
    let said = load.cluster.read(&format!("{}.dead", load.topic));
    assert!(said[0].header("pressline.message").is_some_and(|said| said.contains("REPLICA IDENTITY FULL")));
    // All of it once more.
    load.tool_ok(&["offsets", "set", "--to", "beginning", "--yes"]);
    load.load_all();
    assert_eq!(rows(&database), "1|none|y|y 4|first|x|x");
}

#[test]
fn unless_it_is_asked_for_such_changes_are_dead_letters() {
    let Some((database, load)) = stage("toast_refuse", "auto_create = true\n") else { return };
    load_all(&load, &[change(1, "c", Some(("first", "x"))), change(1, "u", Some(("second", LACKING)))]);
    assert_eq!((rows(&database), letters(&load)), ("1|first|x|x".into(), vec!["unavailable_value big".into()]));
}

/// A column that takes no null is kept, too; what violates a constraint is refused alone.
#[test]
fn it_keeps_columns_that_take_no_null_beside_rows_that_are_refused() {
    let Some(database) = Database::new("toast_checks") else { return };
    let columns =
        "id int PRIMARY KEY, note text UNIQUE, big text NOT NULL, list text[] NOT NULL, CHECK (note <> 'bad')";
    database.sql(&format!("CREATE TABLE SCHEMA.t ({columns})"));
    let more = format!("{SINK}toast = \"skip\"\n");
    let Some(load) = load("toast_checks", "postgres", |_| format!("{}{SOURCE}", database.tables(&more))) else {
        return;
    };
    load_all(
        &load,
        &[change(1, "c", Some(("a", "x"))), change(2, "c", Some(("b", "y"))), change(3, "c", Some(("c", "z")))],
    );
    let update = |id, note| change(id, "u", Some((note, LACKING)));
    // The first two swap a unique value.
    load_all(&load, &[update(1, "b"), update(2, "a"), update(3, "d"), update(9, "e")]);
    assert_eq!(rows(&database), "1|b|x|x 2|a|y|y 3|d|z|z");
    load_all(&load, &[update(1, "bad"), update(2, "f"), update(3, "g")]);
    assert_eq!(rows(&database), "1|b|x|x 2|f|y|y 3|g|z|z");
    let mut reasons = letters(&load);
    reasons.sort();
    assert_eq!(reasons, ["database ", "unavailable_value big"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, max_shrink_iters: 0, ..ProptestConfig::default() })]

    /// Whole rows, rows that lack a value, and deletes, in batches of any size.
    #[test]
    fn the_table_is_as_the_model(steps in proptest::collection::vec((0..5_i64, 0..4_u8), 1..60), cut in 1..10_usize) {
        let Some((database, load)) = stage("toast_model", "toast = \"skip\"\nauto_create = true\n") else { return Ok(()) };
        let mut model: BTreeMap<i64, (String, String)> = BTreeMap::new();
        let mut changes = vec![change(100, "c", Some(("n", "x")))];
        model.insert(100, ("n".into(), "x".into()));
        for (place, (id, what)) in steps.iter().enumerate() {
            let note = format!("n{place}");
            match what {
                0 => drop(model.remove(id)),
                1 | 2 => {
                    if let Some((of_row, _)) = model.get_mut(id) {
                        of_row.clone_from(&note);
                    }
                }
                _ => drop(model.insert(*id, (note.clone(), format!("b{place}")))),
            }
            changes.push(match what {
                0 => change(*id, "d", None),
                1 | 2 => change(*id, "u", Some((&note, LACKING))),
                _ => change(*id, "c", Some((&note, &format!("b{place}")))),
            });
        }
        load.cluster.send(&load.topic, &changes);
        let batch = format!("sink.postgres.batch.max_rows={cut}");
        let mut run = load.run_with(&[&batch, "sink.postgres.consumer.max_dead_share=1.0"]);
        load.await_loaded(&mut run);
        prop_assert_eq!(run.stop(), 0);
        let expected: Vec<String> = model.iter().map(|(id, (note, big))| format!("{id}|{note}|{big}|{big}")).collect();
        prop_assert_eq!(rows(&database), expected.join(" "));
    }
}
