//! What a table of changes has: columns for the version of a row and for its end, the engine that reads them, and a view.

use super::types::{literal, quoted};
use crate::config::sink::ClickHouseConfig;
use crate::sink::changes::{DELETED, VERSION};

/// The engine's arguments that name the two columns.
pub(super) const ARGUMENTS: &str = "_version, _deleted";
/// The types of the two columns.
pub(super) const TYPES: [(&str, &str); 2] = [(VERSION, "UInt64"), (DELETED, "UInt8")];

/// The type of a column that each change has; `None`: it is none of these.
pub(super) fn type_of(column: &str) -> Option<&'static str> {
    TYPES.iter().find(|(name, _)| *name == column).map(|(_, kind)| *kind)
}

/// How a table with this key ends in its statement.
pub(super) fn engine(key: &[String], partition: &str) -> String {
    let columns: Vec<String> = key.iter().map(|name| quoted(name).to_string()).collect();
    format!("ENGINE = ReplacingMergeTree({ARGUMENTS}){partition}\nORDER BY ({})", columns.join(", "))
}

/// The view that shows of each key the row as it is now.
pub fn create_view(config: &ClickHouseConfig) -> String {
    format!("CREATE VIEW IF NOT EXISTS {}\nAS {}", view(config), current(config))
}

/// The same in the place of the one that is there: its columns are those that the table had when it was made.
pub(super) fn replace_view(config: &ClickHouseConfig) -> String {
    format!("CREATE OR REPLACE VIEW {}\nAS {}", view(config), current(config))
}

/// How many views there are that [`create_view`] has made.
pub(super) fn count_views(config: &ClickHouseConfig) -> String {
    format!(
        "SELECT toString(count()) AS number FROM system.tables WHERE database = {} AND name = {} AND engine = 'View' AND \
         formatQuerySingleLine(as_select) = formatQuerySingleLine({})",
        literal(&config.database),
        literal(&view_name(config)),
        literal(&current(config))
    )
}

fn view_name(config: &ClickHouseConfig) -> String {
    format!("{}_current", config.table)
}

fn view(config: &ClickHouseConfig) -> String {
    format!("{}.{}", quoted(&config.database), quoted(&view_name(config)))
}

fn table(config: &ClickHouseConfig) -> String {
    format!("{}.{}", quoted(&config.database), quoted(&config.table))
}

fn current(config: &ClickHouseConfig) -> String {
    format!("SELECT * EXCEPT ({VERSION}, {DELETED}) FROM {} FINAL WHERE {DELETED} = 0", table(config))
}

/// The statement by which a change of this version deletes all rows.
pub(super) fn delete_all(config: &ClickHouseConfig, version: i64) -> String {
    let table = table(config);
    // Within one SELECT, WHERE would take _deleted for what REPLACE makes of it.
    format!(
        "INSERT INTO {table} SELECT * REPLACE (toUInt64({version}) AS {VERSION}, toUInt8(1) AS {DELETED}) FROM (SELECT * FROM {table} FINAL \
         WHERE {DELETED} = 0 AND {VERSION} < {version})"
    )
}

/// Columns beside the key in an expression: rows of a key would lie in several table partitions.
pub(super) fn beside_key<'c>(expression: &str, key: &[String], columns: impl Iterator<Item = &'c str>) -> Vec<&'c str> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let words: Vec<&str> = expression.split(|c| !is_name(c)).collect();
    columns.filter(|column| words.contains(column) && !key.iter().any(|name| name == column)).collect()
}

/// The arguments of an engine, as its full text has them.
pub(super) fn arguments(engine: &str, full: &str) -> String {
    let rest = full.strip_prefix(engine).and_then(|rest| rest.strip_prefix('(')).unwrap_or_default();
    rest.split_once(')').map_or("", |(arguments, _)| arguments).trim().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_arguments_and_what_partitions_beside_the_key() {
        let full = "ReplacingMergeTree(_version, _deleted) PARTITION BY id % 8 ORDER BY id SETTINGS x = 1";
        assert_eq!(arguments("ReplacingMergeTree", full), ARGUMENTS);
        assert_eq!(arguments("MergeTree", "MergeTree ORDER BY (a, b)"), "");
        let columns = || ["id", "day"].into_iter();
        let key = ["id".to_string()];
        assert!(beside_key("id % 8", &key, columns()).is_empty());
        assert_eq!(beside_key("toYYYYMM(day)", &key, columns()), ["day"]);
    }
}
