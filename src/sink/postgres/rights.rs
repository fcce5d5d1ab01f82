//! What the user may do, as far as the catalogue tells: asked by `pressline check`, before anything fails.

use super::catalogue::Table;
use super::connection::Connection;
use super::error::PgError;
use super::name::{TableName, quote_text};

impl Connection {
    /// Whether transactions here cannot write: a standby, or a setting of the user. Errors: the server's.
    pub async fn is_read_only(&self) -> Result<bool, PgError> {
        self.is_true("SELECT pg_catalog.current_setting('transaction_read_only') = 'on'").await
    }

    /// Whether the user may make a table of this name. Errors: the server's, such as a schema that does not exist.
    pub async fn may_create(&self, name: &TableName) -> Result<bool, PgError> {
        let schema = match &name.schema {
            Some(schema) => quote_text(schema),
            // Null where the search path leads nowhere.
            None => "pg_catalog.current_schema()".into(),
        };
        self.is_true(&format!("SELECT pg_catalog.has_schema_privilege({schema}::text, 'CREATE')")).await
    }

    /// Which of these rights on the table the user has not got. Errors: the server's.
    pub async fn lacks(&self, table: &Table, rights: &[&'static str]) -> Result<Vec<&'static str>, PgError> {
        let mut lacking = Vec::new();
        for &right in rights {
            let sql = format!("SELECT pg_catalog.has_table_privilege({}::pg_catalog.oid, '{right}')", table.oid);
            if !self.is_true(&sql).await? {
                lacking.push(right);
            }
        }
        Ok(lacking)
    }

    async fn is_true(&self, sql: &str) -> Result<bool, PgError> {
        let rows = self.rows(sql).await?;
        Ok(rows.first().is_some_and(|row| row.get(0) == Some("t")))
    }
}
