//! Changes in Debezium's envelope as a log.

use crate::evolve::tables;
use crate::loads::change_log::{NOT_NULL, NULLABLE, a_truncate_needs_columns_that_take_null, each_change_is_a_row};
use crate::loads::{Load, load};
use crate::support::{DATABASE, World, world};

fn stage(test: &'static str, source: &str) -> Option<(World, Load)> {
    let world = world(test)?;
    let load = load(test, "clickhouse", |name| format!("{}{source}", tables(name, "auto_create = true\n")))?;
    Some((world, load))
}

fn rows(world: &World, load: &Load) -> Vec<String> {
    let row = "concat(_op, '|', ifNull(toString(a), '-'), '|', ifNull(b, '-'))";
    world.select(&format!("SELECT {row} AS v FROM {DATABASE}.{} ORDER BY v", load.name))
}

#[test]
fn each_change_of_a_table_is_a_row() {
    let Some((world, load)) = stage("change_log", NULLABLE) else { return };
    each_change_is_a_row(&load, || rows(&world, &load));
    let records = format!(
        "SELECT concat(_op, toString(_partition), ':', toString(_offset)) AS v FROM {DATABASE}.{} ORDER BY v",
        load.name
    );
    assert_eq!(world.select(&records), ["c0:0", "d0:2", "r1:0", "t0:5", "u0:1"]);
}

#[test]
fn a_truncate_is_one_where_it_is_asked_for() {
    let source = format!("{NOT_NULL}truncate = \"apply\"\n");
    let Some((world, load)) = stage("change_log_apply", &source) else { return };
    each_change_is_a_row(&load, || rows(&world, &load));
}

#[test]
fn a_truncate_stops_a_log_that_has_no_row_for_it() {
    let Some((world, load)) = stage("change_log_stop", NOT_NULL) else { return };
    a_truncate_needs_columns_that_take_null(&load, || rows(&world, &load));
}
