//! The target table as the server describes it, and whether it can keep what a delivery promises.

use std::fmt;

use serde::Deserialize;

use super::block::{Absent, BlockColumn, Framing};
use super::client::Client;
use super::error::ChError;
use super::type_map::{self, Days};
use super::types::{Type, literal, on_one_line, quoted};
use super::versions;

/// The columns that name the record a row came from, as ClickHouse's own Kafka engine calls them.
pub const COORDINATES: [&str; 3] = ["_topic", "_partition", "_offset"];

/// `UNKNOWN_TABLE`.
const UNKNOWN_TABLE: u32 = 60;

/// Where a column's value comes from when no row gives one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DefaultKind {
    /// The type's default: 0, the empty text, null.
    None,
    /// An expression.
    Default,
    /// An expression, always.
    Materialized,
    /// Nothing is stored: an expression when read.
    Alias,
    /// Nothing is stored: only other columns' expressions use it.
    Ephemeral,
}

impl DefaultKind {
    fn parse(text: &str) -> Self {
        match text {
            "DEFAULT" => Self::Default,
            "MATERIALIZED" => Self::Materialized,
            "ALIAS" => Self::Alias,
            "EPHEMERAL" => Self::Ephemeral,
            _ => Self::None,
        }
    }

    /// What becomes of a column that no field fills.
    pub fn left_out(self) -> &'static str {
        match self {
            Self::None => "no field: the type's default",
            Self::Default => "no field: left to its DEFAULT",
            Self::Materialized => "MATERIALIZED, computed by ClickHouse",
            Self::Alias => "ALIAS, computed by ClickHouse",
            Self::Ephemeral => "EPHEMERAL, not stored",
        }
    }
}

impl fmt::Display for DefaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "plain",
            Self::Default => "DEFAULT",
            Self::Materialized => "MATERIALIZED",
            Self::Alias => "ALIAS",
            Self::Ephemeral => "EPHEMERAL",
        })
    }
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// Name.
    pub name: String,
    /// Type, in the server's words.
    pub type_name: String,
    /// Type, understood.
    pub parsed: Type,
    /// Its default.
    pub default: DefaultKind,
    /// Values are wiped after a time.
    pub has_ttl: bool,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Address of the server, for findings.
    pub server: String,
    /// Database.
    pub database: String,
    /// Name.
    pub name: String,
    /// Columns, in their order.
    pub columns: Vec<TableColumn>,
    /// Engine, such as `ReplicatedMergeTree`.
    pub engine: String,
    /// What stands in parentheses behind the engine.
    pub arguments: String,
    /// How many past inserts the server compares deduplication tokens with; 0: none.
    pub deduplication_window: u64,
    /// `PARTITION BY`.
    pub partition_key: String,
    /// `ORDER BY`.
    pub sorting_key: String,
    /// `TTL`; empty: none.
    pub ttl: String,
    /// Materialized views that read what is inserted.
    pub views: Vec<String>,
    /// What the server's dates hold.
    pub days: Days,
}

#[derive(Deserialize)]
struct RawColumn {
    name: String,
    r#type: String,
    default_type: String,
    ttl_expression: String,
}

#[derive(Deserialize)]
struct RawTable {
    engine: String,
    engine_full: String,
    partition_key: String,
    sorting_key: String,
    dependencies_table: Vec<String>,
}

#[derive(Deserialize)]
struct RawSetting {
    name: String,
    value: String,
}

impl Table {
    /// Asks the server; `None`: there is no such table. Errors: any [`ChError`].
    pub async fn describe(client: &Client, database: &str, name: &str) -> Result<Option<Self>, ChError> {
        let describe = format!("DESCRIBE TABLE {}.{}", quoted(database), quoted(name));
        let columns: Vec<RawColumn> = match client.rows(&describe).await {
            Ok(columns) => columns,
            Err(error) if error.code == Some(UNKNOWN_TABLE) => return Ok(None),
            Err(error) => return Err(error),
        };
        let about = format!(
            "SELECT engine, engine_full, partition_key, sorting_key, dependencies_table FROM system.tables \
             WHERE database = {} AND name = {}",
            literal(database),
            literal(name)
        );
        let Some(about) = client.rows::<RawTable>(&about).await?.into_iter().next() else { return Ok(None) };
        let defaults =
            "SELECT name, value FROM system.merge_tree_settings WHERE name LIKE '%replicated_deduplication_window'";
        let defaults: Vec<RawSetting> = client.rows(defaults).await?;
        let days = client.days().await?;
        let (ttl, settings) = clauses(&about.engine_full);
        Ok(Some(Self {
            server: client.address().into(),
            database: database.into(),
            name: name.into(),
            columns: columns.into_iter().map(TableColumn::from).collect(),
            arguments: versions::arguments(&about.engine, &about.engine_full),
            deduplication_window: window(&about.engine, &settings, &defaults),
            engine: about.engine,
            partition_key: about.partition_key,
            sorting_key: about.sorting_key,
            ttl,
            views: about.dependencies_table,
            days,
        }))
    }

    /// For findings: `ClickHouse http://host:8123, table default.presses`.
    pub fn place(&self) -> String {
        format!("ClickHouse {}, table {}.{}", self.server, self.database, self.name)
    }

    /// Database and name, for statements.
    pub fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.database), quoted(&self.name))
    }

    /// A column and where it stands.
    pub fn position(&self, name: &str) -> Option<(usize, &TableColumn)> {
        self.columns.iter().enumerate().find(|(_, column)| column.name == name)
    }

    /// A column.
    pub fn column(&self, name: &str) -> Option<&TableColumn> {
        self.position(name).map(|(_, column)| column)
    }

    /// Whether `_topic`, `_partition` and `_offset` are there and can be written.
    pub fn has_coordinates(&self) -> bool {
        COORDINATES.iter().all(|name| self.column(name).is_some_and(is_coordinate))
    }

    /// Whether the table is ordered or partitioned by the column.
    pub(super) fn is_in_key(&self, column: &str) -> bool {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        [&self.sorting_key, &self.partition_key].iter().any(|key| key.split(|c| !is_name(c)).any(|word| word == column))
    }

    pub(super) fn is_replicated(&self) -> bool {
        self.engine.starts_with("Replicated") || self.engine.starts_with("Shared")
    }
}

impl TableColumn {
    /// The column in a block.
    pub(super) fn in_block(&self, framing: Framing, null_as_default: bool, days: Days) -> BlockColumn {
        let absent = type_map::absent(&self.parsed, self.default != DefaultKind::None, days);
        let absent = absent.map(|(null, needs_null)| Absent { null, needs_null });
        BlockColumn {
            name: self.name.as_str().into(),
            type_name: self.type_name.clone(),
            framing,
            null_as_default,
            absent,
        }
    }
}

impl From<RawColumn> for TableColumn {
    fn from(raw: RawColumn) -> Self {
        Self {
            parsed: Type::parse(&raw.r#type),
            name: raw.name,
            type_name: on_one_line(&raw.r#type),
            default: DefaultKind::parse(&raw.default_type),
            has_ttl: !raw.ttl_expression.is_empty(),
        }
    }
}

pub(super) fn is_coordinate(column: &TableColumn) -> bool {
    let fits = match column.name.as_str() {
        "_topic" => matches!(column.type_name.as_str(), "String" | "LowCardinality(String)"),
        name => column.type_name == coordinate_type(name),
    };
    fits && matches!(column.default, DefaultKind::None | DefaultKind::Default)
}

/// The deduplication window: the table's own setting, else the server's.
fn window(engine: &str, settings: &str, defaults: &[RawSetting]) -> u64 {
    let replicated = engine.starts_with("Replicated") || engine.starts_with("Shared");
    let wanted = if replicated { "replicated_deduplication_window" } else { "non_replicated_deduplication_window" };
    let own = settings.split(',').find_map(|setting| {
        let (name, value) = setting.split_once('=')?;
        (name.trim() == wanted).then(|| value.trim().parse().ok())?
    });
    let default = || defaults.iter().find(|setting| setting.name == wanted)?.value.parse().ok();
    own.or_else(default).unwrap_or(0)
}

/// The TTL and SETTINGS clauses of an engine's full text.
fn clauses(engine: &str) -> (String, String) {
    let bare = without_literals(engine);
    let (before, settings) = bare.split_once(" SETTINGS ").unwrap_or((&bare, ""));
    let ttl = before.split_once(" TTL ").map_or("", |(_, ttl)| ttl);
    (ttl.trim().to_string(), settings.trim().to_string())
}

/// The text with nothing between its quotes.
fn without_literals(text: &str) -> String {
    let mut bare = String::with_capacity(text.len());
    let mut open = None;
    let mut chars = text.chars();
    while let Some(letter) = chars.next() {
        match open {
            None => {
                bare.push(letter);
                open = matches!(letter, '\'' | '`').then_some(letter);
            }
            Some(_) if letter == '\\' => drop(chars.next()),
            Some(quote) if letter == quote => {
                bare.push(letter);
                open = None;
            }
            Some(_) => {}
        }
    }
    bare
}

/// The type of one of the columns that name the record.
pub fn coordinate_type(column: &str) -> &'static str {
    match column {
        "_topic" => "LowCardinality(String)",
        "_partition" => "Int32",
        _ => "Int64",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clauses_of_an_engine_and_not_of_its_literals() {
        let text = "MergeTree PARTITION BY toYYYYMM(t) ORDER BY (`a TTL b`, x) TTL t + toIntervalYear(2) \
                    SETTINGS index_granularity = 8192, non_replicated_deduplication_window = 100";
        let (ttl, settings) = clauses(text);
        assert_eq!(ttl, "t + toIntervalYear(2)");
        assert_eq!(window("MergeTree", &settings, &[]), 100);
        assert_eq!(window("ReplicatedMergeTree", &settings, &[]), 0, "another setting counts there");
        assert_eq!(clauses("MergeTree ORDER BY tuple()"), (String::new(), String::new()));
    }

    #[test]
    fn the_servers_window_counts_where_the_table_has_none() {
        let defaults = [RawSetting { name: "replicated_deduplication_window".into(), value: "10000".into() }];
        assert_eq!(window("SharedMergeTree", "index_granularity = 8192", &defaults), 10_000);
        assert_eq!(window("MergeTree", "index_granularity = 8192", &defaults), 0);
    }
}
