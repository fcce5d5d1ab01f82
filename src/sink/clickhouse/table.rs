//! The target table as the server describes it, and whether it can keep what a delivery promises.

use std::fmt;

use serde::Deserialize;

use super::block::{Absent, BlockColumn, Framing};
use super::client::Client;
use super::ddl;
use super::error::ChError;
use super::type_map::{self, Days};
use super::types::{Type, literal, on_one_line, quoted};
use crate::config::finding::Finding;
use crate::config::sink::ClickHouseDelivery;

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

    /// What stands against the delivery, each with its cure; warnings among them.
    pub fn refusals(&self, delivery: ClickHouseDelivery) -> Vec<Finding> {
        let mut findings = Vec::new();
        self.judge_engine(delivery, &mut findings);
        match delivery {
            ClickHouseDelivery::ExactlyOnce => {
                self.judge_coordinates(&mut findings);
                self.judge_ttl(&mut findings);
            }
            ClickHouseDelivery::Deduplicated => self.judge_window(&mut findings),
        }
        self.judge_views(&mut findings);
        findings
    }

    /// An insert that fails in a view has already reached the table, and the same token again reaches only what lacks it:
    /// in tables of views without a window of their own, that is all of it (both tried on ClickHouse 26.9).
    fn judge_views(&self, findings: &mut Vec<Finding>) {
        if self.views.is_empty() {
            return;
        }
        findings.push(Finding::warning(
            self.place(),
            self.views.join(", "),
            "materialized views read what is inserted: one that fails lacks all rows of that insert, which is told in the log and \
             the dead-letter topic; and after an insert that failed midway, their tables have rows twice unless they have a \
             deduplication window of their own",
            "ALTER TABLE (the view's table) MODIFY SETTING non_replicated_deduplication_window = 1000",
        ));
    }

    fn judge_engine(&self, delivery: ClickHouseDelivery, findings: &mut Vec<Finding>) {
        let plain =
            self.engine.strip_prefix("Replicated").or(self.engine.strip_prefix("Shared")).unwrap_or(&self.engine);
        let why = match plain {
            "MergeTree" => None,
            "Distributed" | "Buffer" => Some("keeps rows elsewhere for a while, where they can be lost or duplicated"),
            "Null" => Some("keeps nothing"),
            "View" | "MaterializedView" | "LiveView" | "WindowView" => Some("is no table"),
            _ if delivery == ClickHouseDelivery::Deduplicated && plain.ends_with("MergeTree") => None,
            _ if plain.ends_with("MergeTree") => {
                Some("merges rows away, so that nobody can tell which records are in the table")
            }
            _ => Some("has no atomic inserts and no deduplication"),
        };
        if let Some(why) = why {
            findings.push(Finding::error(
                self.place(),
                "engine",
                format!("engine {} {why}", self.engine),
                "write into a MergeTree, and feed others from it by a materialized view",
            ));
        }
        if self.engine.starts_with("Replicated") {
            findings.push(Finding::warning(
                self.place(),
                "engine",
                "after a crash pressline reads from the replica it is connected to, which may lag behind the one that was written",
                "let the address lead to one replica, or set insert_quorum = 'auto' for the user",
            ));
        }
    }

    fn judge_coordinates(&self, findings: &mut Vec<Finding>) {
        let missing: Vec<&str> = COORDINATES.into_iter().filter(|name| self.column(name).is_none()).collect();
        if !missing.is_empty() {
            findings.push(Finding::error(
                self.place(),
                missing.join(", "),
                "delivery = \"exactly_once\" rests on these columns, which the table lacks",
                format!("{}; or delivery = \"deduplicated\"", ddl::add_columns(self, &missing)),
            ));
        }
        for column in COORDINATES.into_iter().filter_map(|name| self.column(name)) {
            if !is_coordinate(column) {
                findings.push(Finding::error(
                    self.place(),
                    &column.name,
                    format!(
                        "column {} is {} {}, expected {}",
                        column.name,
                        column.default,
                        column.type_name,
                        ddl::type_of(&column.name)
                    ),
                    ddl::modify_column(self, &column.name),
                ));
            }
            if column.has_ttl {
                findings.push(Finding::error(
                    self.place(),
                    &column.name,
                    format!(
                        "a TTL wipes column {}, so that nobody can tell which records are in the table",
                        column.name
                    ),
                    format!("ALTER TABLE {} MODIFY COLUMN {} REMOVE TTL", self.quoted(), quoted(&column.name)),
                ));
            }
        }
    }

    /// Rows that are gone before a crash is recovered from count as missing and are written again. Expired rows then go
    /// again, too; but sums that were rolled up, and views that have counted them, would have them twice.
    fn judge_ttl(&self, findings: &mut Vec<Finding>) {
        if self.ttl.is_empty() {
            return;
        }
        if self.ttl.contains(" GROUP BY ") {
            findings.push(Finding::error(
                self.place(),
                "TTL",
                "TTL ... GROUP BY rolls rows up, so that nobody can tell which records are in the table",
                "roll up in a materialized view",
            ));
            return;
        }
        if self.ttl.split(',').all(moves_or_recompresses) {
            return;
        }
        let cure = "keep rows far longer than the oldest record that is loaded is old";
        findings.push(if self.views.is_empty() {
            let what = "rows that expire before a crash is recovered from are written again, and expire again";
            Finding::warning(self.place(), "TTL", what, cure)
        } else {
            let what = "rows that expire before a crash is recovered from would reach the materialized views twice";
            Finding::error(self.place(), "TTL", what, cure)
        });
    }

    fn judge_window(&self, findings: &mut Vec<Finding>) {
        if self.deduplication_window == 0 {
            findings.push(Finding::error(
                self.place(),
                "non_replicated_deduplication_window",
                "delivery = \"deduplicated\" rests on the table's deduplication window, which is 0",
                format!("ALTER TABLE {} MODIFY SETTING non_replicated_deduplication_window = 1000", self.quoted()),
            ));
            return;
        }
        let lost = match self.is_replicated() {
            true => "older than replicated_deduplication_window_seconds",
            false => "lost in a crash of the server, which does not force its log of tokens to disk",
        };
        findings.push(Finding::warning(
            self.place(),
            "delivery",
            format!(
                "delivery = \"deduplicated\" does not promise each row once: a repeated insert is dropped only while its token \
                 is among the last {} inserts into the table, whoever made them, and not {lost}",
                self.deduplication_window
            ),
            format!(
                "for a promise that rests on what is in the table: {}, and delivery = \"exactly_once\"",
                ddl::add_columns(self, &COORDINATES)
            ),
        ));
    }

    /// Whether the table is ordered or partitioned by the column.
    pub(super) fn is_in_key(&self, column: &str) -> bool {
        let is_name = |c: char| c.is_alphanumeric() || c == '_';
        [&self.sorting_key, &self.partition_key].iter().any(|key| key.split(|c| !is_name(c)).any(|word| word == column))
    }

    fn is_replicated(&self) -> bool {
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

fn is_coordinate(column: &TableColumn) -> bool {
    let fits = match column.name.as_str() {
        "_topic" => matches!(column.type_name.as_str(), "String" | "LowCardinality(String)"),
        name => column.type_name == ddl::type_of(name),
    };
    fits && matches!(column.default, DefaultKind::None | DefaultKind::Default)
}

fn moves_or_recompresses(rule: &str) -> bool {
    [" TO DISK ", " TO VOLUME ", " RECOMPRESS "].iter().any(|word| rule.contains(word))
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
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match open {
            None => {
                bare.push(letter);
                open = matches!(letter, '\'' | '`').then_some(letter);
            }
            Some(_) if letter == '\\' => drop(letters.next()),
            Some(quote) if letter == quote => {
                bare.push(letter);
                open = None;
            }
            Some(_) => {}
        }
    }
    bare
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
