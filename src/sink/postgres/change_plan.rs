//! The plan of changes: from datums of one shape to a temporary table, and the statements that apply them from there.

use std::fmt::Write as _;
use std::sync::Arc;

use super::catalogue::{Column, Filled, Table};
use super::plan::{CopyPlan, CopyStep};
use super::row_key::RowKey;
use crate::avro::Cursor;
use crate::config::finding::Finding;
use crate::sink::changes::ChangeShape;
use crate::sink::postgres::name::quote_name;
use crate::sink::{Columns, Refusal, Why};

/// The temporary table that a batch's changes go into. It goes away with its transaction.
const CHANGES: &str = "pg_temp.pressline_changes";
/// The rows that changes do not know all columns of, while they are deleted and written again.
const OLD: &str = "pg_temp.pressline_old";
/// Null in binary COPY.
const NULL: [u8; 4] = (-1i32).to_be_bytes();

/// What is done with a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    /// It has these values.
    Upsert = 0,
    /// It goes.
    Delete = 1,
    /// It goes and comes again: columns that the change does not know have their defaults.
    Replace = 2,
}

/// How changes of one shape reach the table.
#[derive(Debug)]
pub struct ChangePlan {
    plan: CopyPlan,
    /// It has no values beside the key.
    pub(super) is_delete: bool,
    /// A column that the row keeps as it is, so that there must be a row.
    pub(super) kept: Option<Arc<str>>,
    /// Steps up to the last column of the key.
    key_steps: usize,
    key: Vec<Arc<str>>,
    filled: Vec<Arc<str>>,
    pub(super) sql: Statements,
    pub(super) facts: Arc<RowKey>,
}

/// The statements.
#[derive(Debug, Default)]
pub(super) struct Statements {
    /// Makes the temporary table.
    pub make: String,
    /// Fills it.
    pub copy: String,
    /// Deletes the rows that go.
    pub delete: String,
    /// Writes the others.
    pub write: Vec<String>,
    /// Deletes all rows of the batch, and writes the others.
    pub replace: Vec<String>,
    /// Deletes all rows of the batch.
    pub delete_all: String,
    /// Writes the change whose number stands behind it.
    pub write_one: String,
    /// Of changes that only a row that is there can take, the numbers of those without one.
    pub absent: Option<String>,
}

impl ChangePlan {
    /// Compiles a plan. Errors: everything that does not fit, all at once, each with its cure.
    pub fn compile(
        change: &ChangeShape,
        table: &Arc<Table>,
        columns: &Columns<'_>,
        facts: &Arc<RowKey>,
    ) -> Result<Self, Vec<Finding>> {
        // Other columns get no value, and need none.
        let among = |names: &[String], column: &Column| names.iter().any(|name| **name == *column.name);
        let mut part = (**table).clone();
        let plan = if change.is_delete {
            part.columns.retain(|column| among(&change.key, column));
            CopyPlan::compile(&change.shape, &Arc::new(part), columns)?
        } else if !change.kept.is_empty() {
            part.columns.retain(|column| !among(&change.kept, column));
            CopyPlan::compile(&change.shape, &Arc::new(part), columns)?.for_table(table)
        } else {
            CopyPlan::compile(&change.shape, table, columns)?
        };
        let filled: Vec<Arc<str>> = plan.columns().cloned().collect();
        let refuse = |what: String| vec![Finding::error(table.title(), "", what, "see docs/upserts.md")];
        if let Some(name) = change.key.iter().find(|name| !filled.iter().any(|filled| **filled == ***name)) {
            return Err(refuse(format!("no field fills column {name} of the key")));
        }
        facts.refuse_fixed(table, &filled).map_err(refuse)?;
        let key: Vec<Arc<str>> = filled.iter().filter(|name| facts.columns.contains(name)).cloned().collect();
        let is_of_key = |step: &CopyStep| matches!(step, CopyStep::Write(name, _) if facts.columns.contains(name));
        let key_steps = plan.steps().iter().rposition(is_of_key).map_or(0, |last| last + 1);
        let kept = change.kept.first().map(|name| Arc::from(name.as_str()));
        let sql = Sql { table, facts, filled: &filled, key: &key, is_update: kept.is_some() }.statements();
        Ok(Self { plan, is_delete: change.is_delete, kept, key_steps, key, filled, sql, facts: Arc::clone(facts) })
    }

    /// The plan of its datums.
    pub fn plan(&self) -> &CopyPlan {
        &self.plan
    }

    /// Whether rows of both go into one temporary table.
    pub(super) fn goes_with(&self, other: &Self) -> bool {
        std::ptr::eq(self, other) || (self.is_delete || other.is_delete) && self.key == other.key
    }

    /// Whether it has columns beside the key's.
    pub(super) fn has_values(&self) -> bool {
        self.filled.len() > self.key.len()
    }

    /// Appends the key's columns in the form of binary COPY. Errors: no key.
    pub(super) fn write_key(&self, datum: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let start = out.len();
        let mut cursor = Cursor::new(datum);
        for step in self.plan.steps().iter().take(self.key_steps) {
            let at = out.len();
            let written = match step {
                CopyStep::Skip(shape) => cursor.skip(shape).map_err(Refusal::row),
                CopyStep::Write(name, slot) => slot
                    .write(&mut cursor, out)
                    .map_err(|why| Refusal::column(name, why))
                    .and_then(|()| match self.facts.columns.contains(name) {
                        true if out.get(at..) == Some(&NULL) => Err(Refusal::column(name, Why::NoKey)),
                        true => Ok(()),
                        false => {
                            out.truncate(at);
                            Ok(())
                        }
                    }),
            };
            if written.is_err() {
                out.truncate(start);
                return written;
            }
        }
        Ok(())
    }

    /// Appends a row of the temporary table. Errors: a value that its column cannot hold; then `out` is as it was.
    pub(super) fn write_change(&self, op: Op, number: usize, datum: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let start = out.len();
        self.begin_row(op, number, out);
        let written = self.plan.write_columns(datum, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// The same, of a delete that has been found to have this key: the plan is that of upserts with the same key.
    pub(super) fn write_delete(&self, number: usize, key: &[u8], out: &mut Vec<u8>) {
        self.begin_row(Op::Delete, number, out);
        out.extend_from_slice(key);
        (self.key.len()..self.filled.len()).for_each(|_| out.extend_from_slice(&NULL));
    }

    fn begin_row(&self, op: Op, number: usize, out: &mut Vec<u8>) {
        // A table has at most 1,600 columns, a batch no more rows than 32 bits count.
        out.extend_from_slice(&(self.filled.len() as i16 + 2).to_be_bytes());
        out.extend_from_slice(&2i32.to_be_bytes());
        out.extend_from_slice(&(op as i16).to_be_bytes());
        out.extend_from_slice(&4i32.to_be_bytes());
        out.extend_from_slice(&(number as i32).to_be_bytes());
    }
}

/// Writes the statements.
struct Sql<'a> {
    table: &'a Table,
    facts: &'a RowKey,
    filled: &'a [Arc<str>],
    key: &'a [Arc<str>],
    /// Rows have columns that changes keep: none comes that is not there.
    is_update: bool,
}

impl Sql<'_> {
    fn statements(&self) -> Statements {
        let (table, source) = (&self.table.name, self.last());
        let columns = self.list(self.filled, |name, _| quote_name(name));
        let values = self.list(self.filled, |_, place| format!("s.c{place}"));
        let same = self.same("t");
        let overriding = if self.has_identity() { " OVERRIDING SYSTEM VALUE" } else { "" };
        let is_of_key = |name: &Arc<str>| self.key.contains(name);
        let others: Vec<_> = self.filled.iter().enumerate().filter(|(_, name)| !is_of_key(name)).collect();
        let set: Vec<String> =
            others.iter().map(|(place, name)| format!("{} = s.c{place}", quote_name(name))).collect();
        let set = set.join(", ");
        let insert = format!("INSERT INTO {table} ({columns}){overriding} SELECT {values} FROM {source} s");
        let update = format!("UPDATE {table} t SET {set} FROM {source} s WHERE {same}");
        let write = if self.is_update {
            (!set.is_empty()).then_some(update).into_iter().collect()
        } else if self.facts.has_merge {
            let update = if set.is_empty() { String::new() } else { format!(" WHEN MATCHED THEN UPDATE SET {set}") };
            vec![format!(
                "MERGE INTO {table} t USING {source} s ON {same}{update} WHEN NOT MATCHED THEN INSERT \
                 ({columns}){overriding} VALUES ({values})"
            )]
        } else {
            let insert = format!("{insert} WHERE NOT EXISTS (SELECT 1 FROM {table} t WHERE {same})");
            [(!set.is_empty()).then_some(update), Some(insert)].into_iter().flatten().collect()
        };
        Statements {
            make: self.make(),
            copy: format!("COPY {CHANGES} FROM STDIN (FORMAT binary)"),
            delete: format!("DELETE FROM {table} t USING {CHANGES} s WHERE s.op > 0 AND {same}"),
            write,
            replace: self.replace(&insert),
            delete_all: self.delete_all(),
            write_one: format!("{insert} WHERE s.seq = "),
            absent: self.is_update.then(|| self.absent()),
        }
    }

    /// Changes whose row is not there, or has been deleted before in the batch.
    fn absent(&self) -> String {
        let (table, same) = (&self.table.name, self.same("t"));
        // The same key with other bytes has a place of its own in the batch.
        let same_place =
            self.places().map(|(place, _)| format!("d.c{place} = s.c{place}")).collect::<Vec<_>>().join(" AND ");
        format!(
            "SELECT s.seq FROM {CHANGES} s WHERE s.op = 2 OR s.op = 0 AND (NOT EXISTS (SELECT 1 FROM {table} t WHERE {same}) OR EXISTS \
             (SELECT 1 FROM {CHANGES} d WHERE d.op > 0 AND d.seq < s.seq AND {same_place}))"
        )
    }

    fn make(&self) -> String {
        let mut sql =
            format!("DROP TABLE IF EXISTS {CHANGES}; CREATE TEMPORARY TABLE pressline_changes (op int2, seq int4");
        for (place, name) in self.filled.iter().enumerate() {
            let _ = write!(sql, ", c{place} {}", self.facts.type_of(name));
        }
        sql.push_str(") ON COMMIT DROP");
        sql
    }

    /// The last change of each key, unless it is a delete. Bytes have told the keys apart before; where equal keys may have other
    /// bytes, the server does.
    fn last(&self) -> String {
        if self.facts.is_exact {
            return format!("(SELECT * FROM {CHANGES} WHERE op <> 1)");
        }
        let keys: Vec<String> = self.places().map(|(place, _)| format!("c{place}")).collect();
        let keys = keys.join(", ");
        format!(
            "(SELECT * FROM (SELECT DISTINCT ON ({keys}) * FROM {CHANGES} ORDER BY {keys}, seq DESC) l WHERE op <> 1)"
        )
    }

    fn delete_all(&self) -> String {
        format!("DELETE FROM {} t USING {CHANGES} s WHERE {}", self.table.name, self.same("t"))
    }

    /// Deletes all keys of the batch, then writes them: what columns only the table knows is kept.
    fn replace(&self, insert: &str) -> Vec<String> {
        let (table, source, same) = (&self.table.name, self.last(), self.same("t"));
        let delete = self.delete_all();
        let extra: Vec<&Arc<str>> = self.extra().collect();
        if extra.is_empty() {
            return vec![delete, insert.into()];
        }
        let of_key = self.list(self.key, |name, _| format!("t.{}", quote_name(name)));
        let names: Vec<String> = extra.iter().map(|name| quote_name(name)).collect();
        let (kept, old) =
            (names.join(", "), names.iter().map(|name| format!("o.{name}")).collect::<Vec<_>>().join(", "));
        let columns = self.list(self.filled, |name, _| quote_name(name));
        let values = self.list(self.filled, |_, place| format!("s.c{place}"));
        let same_old = self.same("o");
        vec![
            format!(
                "DROP TABLE IF EXISTS {OLD}; CREATE TEMPORARY TABLE pressline_old ON COMMIT DROP AS SELECT {of_key}, {kept} FROM \
                 {table} t WHERE EXISTS (SELECT 1 FROM {CHANGES} s WHERE s.op = 0 AND {same})"
            ),
            delete,
            format!("{insert} WHERE NOT EXISTS (SELECT 1 FROM {OLD} o WHERE {same_old})"),
            format!(
                "INSERT INTO {table} ({columns}, {kept}) OVERRIDING SYSTEM VALUE SELECT {values}, {old} FROM {source} s JOIN {OLD} o \
                 ON {same_old}"
            ),
        ]
    }

    /// Columns that take values and that the changes do not know.
    fn extra(&self) -> impl Iterator<Item = &Arc<str>> {
        let unknown = self.table.columns.iter().filter(|column| !self.filled.contains(&column.name));
        unknown.filter(|column| column.filled != Filled::Generated).map(|column| &column.name)
    }

    fn has_identity(&self) -> bool {
        let is_identity =
            |name: &Arc<str>| self.table.column(name).is_some_and(|column| column.filled == Filled::IdentityAlways);
        self.filled.iter().any(is_identity)
    }

    fn list(&self, names: &[Arc<str>], one: impl Fn(&str, usize) -> String) -> String {
        names.iter().enumerate().map(|(place, name)| one(name, place)).collect::<Vec<_>>().join(", ")
    }

    /// The key's columns, and their places among all.
    fn places(&self) -> impl Iterator<Item = (usize, &Arc<str>)> {
        self.filled.iter().enumerate().filter(|(_, name)| self.key.contains(name))
    }

    fn same(&self, other: &str) -> String {
        let same = self.places().map(|(place, name)| format!("{other}.{} = s.c{place}", quote_name(name)));
        same.collect::<Vec<_>>().join(" AND ")
    }
}
