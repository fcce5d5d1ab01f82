//! `auto_create` and `auto_evolve`: the table that a schema asks for, and the columns that a newer one adds.

use super::catalogue::Table;
use super::connection::Connection;
use super::convert::{natural, unwrap_null};
use super::encode::Null;
use super::error::PgError;
use super::name::{self, TableName, quote_name};
use crate::avro::{Field, Shape};
use crate::config::finding::Finding;
use crate::sink::{Columns, Conversion, Missing};

/// How long the statement that adds columns waits for the table, in milliseconds.
const EVOLVE_LOCK_MS: u32 = 2_000;

/// `CREATE TABLE` for the record, fields renamed and left out as the configuration says; columns take null where the
/// field does. Types, besides the obvious: uuid; timestamptz from timestamps, timestamp from local ones, bigint (the raw
/// number) where they have nanoseconds; numeric(p, s); arrays of simple types; jsonb from records, maps and other unions;
/// text from enums. Errors: the schema is no record or leaves no column, two fields for one column, a name that is too long.
pub fn create_table_sql(shape: &Shape, name: &TableName, columns: &Columns<'_>) -> Result<String, Vec<Finding>> {
    let mut lines = Vec::new();
    let (assigned, mut findings) =
        columns.assign(shape, &name.to_string(), |_, column| name::column_fault(column).map(Missing::Name));
    if findings.is_empty() && !assigned.iter().any(|(_, conversion)| matches!(conversion, Conversion::Column(_))) {
        findings.push(no_field(&name.to_string()));
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    for (field, conversion) in assigned {
        let Conversion::Column(column) = conversion else { continue };
        let (inner, null) = unwrap_null(&field.shape);
        let takes_null = null != Null::Never || matches!(inner, Shape::Null) || takes_null(inner);
        let not_null = if takes_null { "" } else { " NOT NULL" };
        lines.push(format!("    {} {}{not_null}", quote_name(column), column_type(inner)));
    }
    Ok(format!("CREATE TABLE IF NOT EXISTS {name} (\n{}\n)", lines.join(",\n")))
}

/// The same table with a primary key.
pub fn with_primary_key(ddl: &str, key: &[String]) -> String {
    let names: Vec<String> = key.iter().map(|name| quote_name(name)).collect();
    let columns = ddl.strip_suffix("\n)").unwrap_or(ddl);
    format!("{columns},\n    PRIMARY KEY ({})\n)", names.join(", "))
}

/// `COPY t ()` is no statement, and rows of nothing but defaults would tell nothing.
pub(super) fn no_field(table: &str) -> Finding {
    Finding::error(
        table,
        "",
        "no field of the record goes into a column",
        "take a field out of columns.ignore, or load a topic whose records have fields",
    )
}

/// Adds the column of a field to a table. It takes null, whatever the field does: rows that are there have no value of it.
pub fn add_column_sql(table: &TableName, field: &Field, column: &str) -> String {
    format!("ALTER TABLE {table} ADD COLUMN {}", column_definition(field, column))
}

fn column_definition(field: &Field, column: &str) -> String {
    format!("{} {}", quote_name(column), column_type(unwrap_null(&field.shape).0))
}

impl Table {
    /// Why it has no column for a field; `None` where it has one of this name.
    pub(super) fn missing(&self, field: &Field, column: &str) -> Option<Missing> {
        if self.column(column).is_some() {
            return None;
        }
        let names = self.columns.iter().map(|column| &*column.name);
        let fault = name::column_fault(column).map(Missing::Name);
        Some(fault.unwrap_or_else(|| Missing::among(names, column, || add_column_sql(&self.name, field, column))))
    }

    /// `auto_evolve`: the statement that adds what the table lacks for a record, by the rule of [`Columns::to_add`].
    pub fn add_columns_sql(
        &self,
        shape: &Shape,
        columns: &Columns<'_>,
        key: &[String],
        found: &[Finding],
    ) -> Option<String> {
        let lacking = columns.to_add(shape, key, found, |field, column| self.missing(field, column))?;
        let add =
            |(field, column): &(&Field, &str)| format!("ADD COLUMN IF NOT EXISTS {}", column_definition(field, column));
        let added: Vec<String> = lacking.iter().map(add).collect();
        Some(format!("ALTER TABLE {} {}", self.name, added.join(", ")))
    }
}

/// Adds columns. Errors: the server's; without the right to, the sentence holds the statement. It waits for the table's lock no longer
/// than [`EVOLVE_LOCK_MS`], because all who want the table wait behind it; another worker may have added them meanwhile.
pub async fn add_columns(connection: &Connection, sql: &str) -> Result<(), PgError> {
    match connection.run(&format!("SET LOCAL lock_timeout = {EVOLVE_LOCK_MS}; {sql}")).await {
        Err(error) if error.is("42501") => {
            let what = format!("the user may not add columns (auto_evolve); let the table's owner run:\n{sql};");
            Err(PgError { what, ..error })
        }
        other => other,
    }
}

/// A union with null among several types is written as JSON's null.
fn takes_null(shape: &Shape) -> bool {
    matches!(shape, Shape::Union(branches) if branches.contains(&Shape::Null))
}

fn column_type(shape: &Shape) -> String {
    match shape {
        // Beyond 1,000 digits a numeric cannot be declared.
        Shape::Decimal { precision, scale, .. } if *precision <= 1_000 => format!("numeric({precision}, {scale})"),
        Shape::Array(items) => {
            let (item, _) = unwrap_null(items);
            match natural(item) {
                "jsonb" => "jsonb".into(),
                _ => format!("{}[]", column_type(item)),
            }
        }
        other => natural(other).into(),
    }
}

/// Makes the table. Errors: the server's; without the right to, the sentence holds the statement.
pub async fn create_table(connection: &Connection, sql: &str) -> Result<(), PgError> {
    match connection.run(sql).await {
        // Another worker made it at the same time.
        Err(error) if error.is("23505") || error.is("42P07") => Ok(()),
        Err(error) if error.is("42501") => {
            let what = format!("the user may not create the table; let its owner run:\n{sql}");
            Err(PgError { what, ..error })
        }
        other => other,
    }
}
