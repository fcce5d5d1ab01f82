//! The key by which an upsert finds its row, and what else of the table matters to one.

use std::sync::Arc;

use super::catalogue::{ColumnType, Filled, RelationKind, Table};
use super::connection::Connection;
use super::error::{ErrorClass, PgError};
use super::name::quote_name;
use crate::config::finding::Finding;

/// The first version that has MERGE.
const MERGE: u32 = 150_000;

/// What is known of a table's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowKey {
    /// Its columns.
    pub columns: Vec<Arc<str>>,
    /// Whether two keys that are equal are equal byte by byte.
    pub is_exact: bool,
    /// Type of each column as SQL, a domain by what it stands on: changes hold null where the table does not.
    pub types: Vec<(Arc<str>, String)>,
    /// A unique constraint can be deferred: ON CONFLICT takes none such.
    pub has_deferrable: bool,
    /// Foreign keys lead to the table: no row may be deleted only to be written again.
    pub is_referenced: bool,
    /// The server has MERGE, and the table takes it.
    pub has_merge: bool,
}

/// A column as far as it matters here.
struct Typed {
    name: Arc<str>,
    sql: String,
    is_deterministic: bool,
}

impl RowKey {
    /// Reads what the catalogue tells of a table whose key these columns are to be. Errors: the server's.
    pub async fn read(connection: &Connection, table: &Table, key: &[String]) -> Result<(Self, Vec<Finding>), PgError> {
        let indexes = indexes(connection, table.oid).await?;
        let typed = types(connection, table.oid).await?;
        let facts = format!(
            "SELECT EXISTS (SELECT 1 FROM pg_catalog.pg_constraint WHERE contype = 'f' AND confrelid = {}), \
             pg_catalog.current_setting('server_version_num'), \
             pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')",
            table.oid
        );
        let facts = connection.rows(&facts).await?;
        let fact = |index: usize| facts.first().and_then(|row| row.get(index)).unwrap_or_default();
        let version: u32 = fact(1).parse().unwrap_or_default();
        let columns = key.iter().map(|name| Arc::from(name.as_str())).collect();
        let is_exact = key.iter().all(|name| is_exact(table, &typed, name));
        let found = Self {
            columns,
            is_exact,
            types: typed.into_iter().map(|column| (column.name, column.sql)).collect(),
            has_deferrable: indexes.iter().any(|index| !index.is_immediate),
            is_referenced: fact(0) == "t",
            has_merge: version >= MERGE && table.beside.rules.is_empty(),
        };
        let mut findings = found.findings(table, &indexes);
        if fact(2) != "t" {
            let what = "the user may make no temporary tables in the database, and mode = \"upsert\" puts each batch into one first";
            findings.push(Finding::error(
                table.title(),
                "",
                what,
                "GRANT TEMPORARY ON DATABASE the database TO the user",
            ));
        }
        let lacking = connection.lacks(table, &["SELECT", "UPDATE", "DELETE"]).await?;
        if !lacking.is_empty() {
            let lacking = lacking.join(", ");
            let what = format!("the user lacks {lacking} on the table, which mode = \"upsert\" needs");
            findings.push(Finding::error(
                table.title(),
                "",
                what,
                format!("GRANT {lacking} ON {} TO the user", table.name),
            ));
        }
        Ok((found, findings))
    }

    /// What stands against upserts.
    fn findings(&self, table: &Table, indexes: &[Index]) -> Vec<Finding> {
        let title = table.title();
        let mut findings = Vec::new();
        for name in self.columns.iter().filter(|name| table.column(name).is_none()) {
            let what = format!("pk_fields names column {name}, which the table has not");
            findings.push(Finding::error(&title, &**name, what, "correct sink.postgres.pk_fields, or columns.rename"));
        }
        let is_key = |index: &Index| {
            index.columns.len() == self.columns.len() && self.columns.iter().all(|name| index.columns.contains(name))
        };
        if findings.is_empty() && !indexes.iter().any(is_key) {
            findings.push(self.no_constraint(table, indexes));
        }
        if self.is_referenced && !self.has_deferrable && indexes.len() > 1 {
            findings.push(Finding::warning(
                &title,
                "",
                "foreign keys lead to the table, so no row is deleted to be written again: of two rows that swap a unique value in \
                 one batch, both go to the dead letter queue",
                "make the unique constraint DEFERRABLE, which is then checked at the end of the statement",
            ));
        }
        findings
    }

    fn no_constraint(&self, table: &Table, indexes: &[Index]) -> Finding {
        let list = |names: &[Arc<str>]| names.iter().map(|name| quote_name(name)).collect::<Vec<_>>().join(", ");
        let own = list(&self.columns);
        let primary = indexes.iter().find(|index| index.is_primary);
        let (has, add) = match primary {
            Some(index) => (format!("its primary key is ({})", list(&index.columns)), format!("UNIQUE ({own})")),
            None => ("it has no primary key".into(), format!("PRIMARY KEY ({own})")),
        };
        let more = match table.kind {
            RelationKind::Partitioned => {
                " (on a partitioned table it must include the partition's columns: name these in pk_fields, too)"
            }
            _ => "",
        };
        Finding::error(
            table.title(),
            "",
            format!("no primary key or unique constraint is on ({own}), the columns of sink.postgres.pk_fields; {has}"),
            format!("ALTER TABLE {} ADD {add}{more}; or name the columns of a constraint that is there", table.name),
        )
    }

    /// A type as SQL.
    pub fn type_of(&self, column: &str) -> &str {
        self.types.iter().find(|(name, _)| **name == *column).map_or("text", |(_, sql)| sql)
    }

    /// Errors, in words: a column cannot be updated.
    pub fn refuse_fixed(&self, table: &Table, filled: &[Arc<str>]) -> Result<(), String> {
        let is_fixed = |name: &&Arc<str>| {
            !self.columns.contains(name) && table.column(name).is_some_and(|c| c.filled == Filled::IdentityAlways)
        };
        match filled.iter().find(is_fixed) {
            None => Ok(()),
            Some(name) => Err(format!(
                "column {name} is GENERATED ALWAYS AS IDENTITY, and no update can set it: ALTER TABLE {} ALTER {} SET GENERATED BY \
                 DEFAULT; or leave the field out with columns.ignore",
                table.name,
                quote_name(name)
            )),
        }
    }
}

fn is_exact(table: &Table, typed: &[Typed], name: &str) -> bool {
    let Some(column) = table.column(name) else { return true };
    let Some(Typed { sql, is_deterministic, .. }) = typed.iter().find(|typed| *typed.name == *name) else {
        return false;
    };
    match column.kind {
        ColumnType::Boolean
        | ColumnType::Int2
        | ColumnType::Int4
        | ColumnType::Int8
        | ColumnType::Uuid
        | ColumnType::Bytea
        | ColumnType::Date
        | ColumnType::Enum(_)
        | ColumnType::Timestamp(6)
        | ColumnType::TimestampTz(6) => true,
        // citext is not.
        ColumnType::Text | ColumnType::Varchar(_) => {
            *is_deterministic && (sql.starts_with("text") || sql.starts_with("character varying"))
        }
        _ => false,
    }
}

/// A unique index without a condition.
struct Index {
    is_primary: bool,
    is_immediate: bool,
    columns: Vec<Arc<str>>,
}

async fn indexes(connection: &Connection, table: u32) -> Result<Vec<Index>, PgError> {
    let sql = format!(
        "SELECT i.indexrelid, i.indisprimary, i.indimmediate, a.attname FROM pg_catalog.pg_index i \
         CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(attnum, place) \
         JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum \
         WHERE i.indrelid = {table} AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL \
         AND k.place <= i.indnkeyatts ORDER BY 1, k.place"
    );
    let mut indexes: Vec<(String, Index)> = Vec::new();
    for row in connection.rows(&sql).await? {
        let (oid, name) = (row.get(0).unwrap_or_default().to_string(), Arc::from(row.get(3).unwrap_or_default()));
        match indexes.last_mut().filter(|(last, _)| *last == oid) {
            Some((_, index)) => index.columns.push(name),
            None => {
                let is = |index: usize| row.get(index) == Some("t");
                indexes.push((oid, Index { is_primary: is(1), is_immediate: is(2), columns: vec![name] }));
            }
        }
    }
    Ok(indexes.into_iter().map(|(_, index)| index).collect())
}

async fn types(connection: &Connection, table: u32) -> Result<Vec<Typed>, PgError> {
    let sql = format!(
        "SELECT a.attname, pg_catalog.format_type(CASE t.typtype WHEN 'd' THEN t.typbasetype ELSE a.atttypid END, \
         CASE t.typtype WHEN 'd' THEN t.typtypmod ELSE a.atttypmod END), coalesce(c.collisdeterministic, true), \
         CASE WHEN a.attcollation <> 0 AND c.collname <> 'default' THEN pg_catalog.format(' COLLATE %I.%I', n.nspname, c.collname) END \
         FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid \
         LEFT JOIN pg_catalog.pg_collation c ON c.oid = a.attcollation \
         LEFT JOIN pg_catalog.pg_namespace n ON n.oid = c.collnamespace \
         WHERE a.attrelid = {table} AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum"
    );
    let missing = || connection.error(ErrorClass::Transient, "the catalogue's answer lacks a value");
    let mut types = Vec::new();
    for row in connection.rows(&sql).await? {
        let name = Arc::from(row.get(0).ok_or_else(missing)?);
        let sql = format!("{}{}", row.get(1).ok_or_else(missing)?, row.get(3).unwrap_or_default());
        types.push(Typed { name, sql, is_deterministic: row.get(2) == Some("t") });
    }
    Ok(types)
}
