//! Changes in Debezium's envelope as a log.

use crate::loads::change_log::{NOT_NULL, NULLABLE, a_truncate_needs_columns_that_take_null, each_change_is_a_row};
use crate::loads::{Load, load};
use crate::offsets::Database;

fn stage(test: &str, source: &str) -> Option<(Database, Load)> {
    let database = Database::new(test)?;
    let load = load(test, "postgres", |_| format!("{}{source}", database.tables("auto_create = true\n")))?;
    Some((database, load))
}

fn rows(database: &Database) -> Vec<String> {
    let row = "concat_ws('|', _op, coalesce(a::text, '-'), coalesce(b, '-'))";
    let rows = database.value(&format!("SELECT string_agg({row}, ',' ORDER BY {row} COLLATE \"C\") FROM SCHEMA.t"));
    rows.split(',').map(String::from).collect()
}

#[test]
fn each_change_of_a_table_is_a_row() {
    let Some((database, load)) = stage("change_log", NULLABLE) else { return };
    each_change_is_a_row(&load, || rows(&database));
}

#[test]
fn a_truncate_is_one_where_it_is_asked_for() {
    let source = format!("{NOT_NULL}truncate = \"apply\"\n");
    let Some((database, load)) = stage("change_log_apply", &source) else { return };
    each_change_is_a_row(&load, || rows(&database));
}

#[test]
fn a_truncate_stops_a_log_that_has_no_row_for_it() {
    let Some((database, load)) = stage("change_log_stop", NOT_NULL) else { return };
    a_truncate_needs_columns_that_take_null(&load, || rows(&database));
}
