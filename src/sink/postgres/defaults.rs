//! A column's DEFAULT as bytes that take the place of null (`columns.null_as_default`). COPY gives every row the same columns, so
//! the default is asked for once, in the form that COPY itself writes; one that differs from row to row cannot be had so.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use futures_util::TryStreamExt;

use super::catalogue::{Defaults, Table};
use super::connection::Connection;
use super::error::{ErrorClass, PgError};

/// Signature, flags and length of the extension, which is empty.
const HEADER: usize = 19;

impl Table {
    /// Reads the defaults of columns. Errors: the server's, also of an expression that fails.
    pub async fn read_defaults(&mut self, connection: &Connection, columns: &[&str]) -> Result<(), PgError> {
        if columns.is_empty() {
            return Ok(());
        }
        let mut found = Defaults::new();
        let mut constant = Vec::new();
        let expressions = expressions(connection, self.oid).await?;
        for column in self.columns.iter().filter(|column| columns.contains(&&*column.name)) {
            let name = Arc::clone(&column.name);
            match expressions.get(&*name) {
                None => drop(found.insert(name, Err("the column has no DEFAULT"))),
                Some((_, false)) => drop(found.insert(name, Err("it differs from row to row, or with time"))),
                Some((expression, true)) => constant.push((name, format!("({expression})::{}", column.type_text))),
            }
        }
        if !constant.is_empty() {
            let (names, values): (Vec<_>, Vec<_>) = constant.into_iter().unzip();
            let read = read(connection, &values.join(", ")).await?;
            let fields = fields(&read, names.len()).ok_or_else(|| {
                connection.error(ErrorClass::Transient, "the server's answer about defaults is cut short")
            })?;
            found.extend(names.into_iter().zip(fields).map(|(name, field)| (name, Ok(field.into()))));
        }
        self.defaults = found;
        Ok(())
    }
}

/// Expressions of a table's defaults by column, each with whether it is the same always: no function in it is stable or volatile,
/// and it is no text that is read with settings of the session.
async fn expressions(connection: &Connection, table: u32) -> Result<BTreeMap<String, (String, bool)>, PgError> {
    let sql = format!(
        "SELECT a.attname, pg_catalog.pg_get_expr(d.adbin, d.adrelid), \
           d.adbin::text !~ '[{{](SQLVALUEFUNCTION|NEXTVALUEEXPR|COERCEVIAIO)' AND NOT EXISTS (\
             SELECT FROM pg_catalog.regexp_matches(d.adbin::text, ':(?:funcid|opfuncid) ([0-9]+)', 'g') m \
             JOIN pg_catalog.pg_proc p ON p.oid = m[1]::pg_catalog.oid WHERE p.provolatile <> 'i') \
         FROM pg_catalog.pg_attrdef d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum \
         WHERE d.adrelid = {table} AND a.attgenerated = ''"
    );
    let rows = connection.rows(&sql).await?;
    let read = |row: &tokio_postgres::SimpleQueryRow| {
        Some((row.get(0)?.to_string(), (row.get(1)?.to_string(), row.get(2) == Some("t"))))
    };
    Ok(rows.iter().filter_map(read).collect())
}

/// One row of values in the binary form.
async fn read(connection: &Connection, values: &str) -> Result<Vec<u8>, PgError> {
    connection.begin().await?;
    let read = copied(connection, values).await;
    connection.control("ROLLBACK").await?;
    read
}

async fn copied(connection: &Connection, values: &str) -> Result<Vec<u8>, PgError> {
    let statement = connection.prepare(&format!("COPY (SELECT {values}) TO STDOUT (FORMAT binary)")).await?;
    let reading = async {
        let mut stream = pin!(connection.copy_out(&statement).await?);
        let mut bytes = Vec::new();
        while let Some(chunk) = stream.try_next().await? {
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    };
    connection.within(reading).await
}

/// The fields of the row, each with its length before it.
fn fields(copied: &[u8], count: usize) -> Option<Vec<&[u8]>> {
    let mut rest = copied.get(HEADER..)?;
    let columns = rest.split_off(..2)?;
    if usize::from(u16::from_be_bytes(columns.try_into().ok()?)) != count {
        return None;
    }
    let mut fields = Vec::with_capacity(count);
    for _ in 0..count {
        let length = i32::from_be_bytes(rest.get(..4)?.try_into().ok()?);
        // -1 is null.
        fields.push(rest.split_off(..4 + usize::try_from(length).unwrap_or(0))?);
    }
    Some(fields)
}
