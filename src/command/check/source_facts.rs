//! What the catalogue of the source's database says about what Debezium needs.

use crate::sink::postgres::{Connection, PgError, TableName, quote_text};

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Facts {
    pub wal_level: String,
    /// `None`: there is no such role, or it may not log in.
    pub may_replicate: Option<bool>,
    /// The table, or the parts of a partitioned one; `None`: there is none.
    pub tables: Option<Vec<Table>>,
    /// `None`: there is none.
    pub publication: Option<Publication>,
    /// `None`: there is none.
    pub slot: Option<Slot>,
    pub free_slots: i64,
}

/// A table that holds rows.
#[derive(Clone, Debug, Default)]
pub(super) struct Table {
    /// As SQL.
    pub name: String,
    /// Its schema, as SQL.
    pub schema: String,
    /// `d`, `n`, `f` or `i`, as pg_class has it.
    pub identity: String,
    /// The log says which row was changed or deleted.
    pub has_identity: bool,
    pub has_key: bool,
    /// Columns outside of the key whose values may be stored apart, with commas between.
    pub large: String,
    pub is_unlogged: bool,
    /// By the connector's role.
    pub is_readable: bool,
}

/// A publication.
#[derive(Clone, Debug, Default)]
pub(super) struct Publication {
    /// `insert` and so on.
    pub publishes: Vec<&'static str>,
    /// Tables that it does not have, as SQL.
    pub lacking: Vec<String>,
    /// Of a table only some rows.
    pub is_filtered: bool,
}

/// A replication slot.
#[derive(Clone, Debug, Default)]
pub(super) struct Slot {
    /// `logical` or `physical`.
    pub kind: String,
    pub plugin: String,
    /// It is of this database.
    pub is_here: bool,
    pub is_active: bool,
    /// `reserved`, `extended`, `unreserved`, `lost`; empty before PostgreSQL 13.
    pub wal_status: String,
    pub retained_bytes: u64,
}

impl Facts {
    /// Asks. Errors: the server's.
    pub(super) async fn read(
        connection: &Connection,
        role: &str,
        name: &TableName,
        publication: &str,
        slot: &str,
    ) -> Result<Self, PgError> {
        let asked = Asked { connection, role: quote_text(role), table: quote_text(&name.to_string()) };
        let server = asked
            .row(
                "SELECT pg_catalog.current_setting('wal_level'), pg_catalog.current_setting('max_replication_slots')::bigint \
                 - (SELECT count(*) FROM pg_catalog.pg_replication_slots)",
            )
            .await?
            .unwrap_or_default();
        let may_replicate = asked.may_replicate().await?;
        Ok(Self {
            wal_level: text(&server, 0),
            free_slots: text(&server, 1).parse().unwrap_or_default(),
            may_replicate,
            tables: asked.tables(may_replicate.is_some()).await?,
            publication: asked.publication(&quote_text(publication)).await?,
            slot: asked.slot(&quote_text(slot)).await?,
        })
    }
}

/// What is asked about; names as SQL's texts.
struct Asked<'a> {
    connection: &'a Connection,
    role: String,
    table: String,
}

type Row = Vec<Option<String>>;

fn text(row: &Row, at: usize) -> String {
    row.get(at).cloned().flatten().unwrap_or_default()
}

fn is(row: &Row, at: usize) -> bool {
    text(row, at) == "t"
}

impl Asked<'_> {
    async fn rows(&self, sql: &str) -> Result<Vec<Row>, PgError> {
        let rows = self.connection.rows(sql).await?;
        Ok(rows.iter().map(|row| (0..row.len()).map(|at| row.get(at).map(String::from)).collect()).collect())
    }

    async fn row(&self, sql: &str) -> Result<Option<Row>, PgError> {
        Ok(self.rows(sql).await?.into_iter().next())
    }

    /// Amazon RDS gives the right by a role of its own.
    async fn may_replicate(&self) -> Result<Option<bool>, PgError> {
        let row = self
            .row(&format!(
                "SELECT r.rolsuper OR r.rolreplication OR EXISTS (SELECT FROM pg_catalog.pg_roles AS a WHERE a.rolname = 'rds_replication' \
                 AND pg_catalog.pg_has_role(r.oid, a.oid, 'MEMBER')) FROM pg_catalog.pg_roles AS r WHERE r.rolname = {} AND r.rolcanlogin",
                self.role
            ))
            .await?;
        Ok(row.map(|row| is(&row, 0)))
    }

    async fn tables(&self, has_role: bool) -> Result<Option<Vec<Table>>, PgError> {
        // A role that is not there has no rights to be asked for.
        let readable = match has_role {
            true => format!(
                "pg_catalog.has_schema_privilege({0}, n.oid, 'USAGE') AND pg_catalog.has_table_privilege({0}, c.oid, 'SELECT')",
                self.role
            ),
            false => "true".into(),
        };
        let rows = self
            .rows(&format!(
                "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname), c.relreplident, \
                 EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary), \
                 EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisreplident), \
                 (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute AS a \
                 WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attstorage IN ('x', 'e') AND NOT EXISTS (SELECT FROM \
                 pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = ANY (i.indkey))), \
                 c.relpersistence = 'u', {readable}, pg_catalog.quote_ident(n.nspname) \
                 FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace \
                 WHERE c.relkind = 'r' AND (c.oid = pg_catalog.to_regclass({0}) OR c.oid IN (SELECT relid FROM \
                 pg_catalog.pg_partition_tree(pg_catalog.to_regclass({0})))) ORDER BY 1",
                self.table
            ))
            .await?;
        if rows.is_empty() {
            let sql = format!(
                "SELECT FROM pg_catalog.pg_class WHERE relkind = 'p' AND oid = pg_catalog.to_regclass({})",
                self.table
            );
            return Ok(self.row(&sql).await?.map(|_| Vec::new()));
        }
        let table = |row: &Row| {
            let (identity, has_key) = (text(row, 1), is(row, 2));
            let has_identity = match identity.as_str() {
                "f" => true,
                "i" => is(row, 3),
                "d" => has_key,
                _ => false,
            };
            let (large, is_unlogged, is_readable) = (text(row, 4), is(row, 5), is(row, 6));
            let (name, schema) = (text(row, 0), text(row, 7));
            Table { name, schema, identity, has_identity, has_key, large, is_unlogged, is_readable }
        };
        Ok(Some(rows.iter().map(table).collect()))
    }

    async fn publication(&self, name: &str) -> Result<Option<Publication>, PgError> {
        let sql = format!(
            "SELECT pubinsert, pubupdate, pubdelete, pubtruncate FROM pg_catalog.pg_publication WHERE pubname = {name}"
        );
        let Some(row) = self.row(&sql).await? else { return Ok(None) };
        let all = ["insert", "update", "delete", "truncate"];
        let publishes = all.into_iter().enumerate().filter(|(at, _)| is(&row, *at)).map(|(_, what)| what).collect();
        // A partitioned table is published itself or by its parts. Columns of later versions are read as JSON.
        let listed = format!(
            "SELECT p.* FROM pg_catalog.pg_publication_tables AS p WHERE p.pubname = {name} AND \
             pg_catalog.to_regclass(pg_catalog.format('%I.%I', p.schemaname, p.tablename))"
        );
        let top = format!("pg_catalog.to_regclass({})", self.table);
        let lacking = self
            .rows(&format!(
                "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n \
                 ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND (c.oid = {top} OR c.oid IN (SELECT relid FROM \
                 pg_catalog.pg_partition_tree({top}))) AND NOT EXISTS ({listed} IN (c.oid, {top})) ORDER BY 1"
            ))
            .await?;
        let filtered = self
            .row(&format!(
                "SELECT pg_catalog.bool_or(pg_catalog.to_jsonb(l) ->> 'rowfilter' IS NOT NULL) FROM ({listed} = {top}) AS l"
            ))
            .await?;
        let lacking = lacking.iter().map(|row| text(row, 0)).collect();
        Ok(Some(Publication { publishes, lacking, is_filtered: filtered.is_some_and(|row| is(&row, 0)) }))
    }

    async fn slot(&self, name: &str) -> Result<Option<Slot>, PgError> {
        let row = self
            .row(&format!(
                "SELECT s.slot_type, s.plugin, s.database = pg_catalog.current_database(), s.active, pg_catalog.to_jsonb(s) ->> 'wal_status', \
                 pg_catalog.pg_wal_lsn_diff(CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_receive_lsn() ELSE \
                 pg_catalog.pg_current_wal_lsn() END, s.restart_lsn)::bigint FROM pg_catalog.pg_replication_slots AS s WHERE s.slot_name = {name}"
            ))
            .await?;
        Ok(row.map(|row| Slot {
            kind: text(&row, 0),
            plugin: text(&row, 1),
            is_here: is(&row, 2),
            is_active: is(&row, 3),
            wal_status: text(&row, 4),
            retained_bytes: text(&row, 5).parse().unwrap_or_default(),
        }))
    }
}
