//! A schema beside the table that it is loaded into.

use std::fmt;

use serde::Serialize;

use crate::avro::Shape;
use crate::config::finding::Finding;
use crate::sink::{DatabaseKind, PlanLine};

/// A schema beside a table: what becomes of each field, and where each column's value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TablePlan {
    /// Pipeline.
    pub pipeline: String,
    /// Sink: `postgres` or `clickhouse`.
    pub sink: &'static str,
    /// Table.
    pub table: String,
    /// Which schema, such as `subject button_presses-value, version 2 (id 7)`.
    pub schema: String,
    /// Fields in the record's order, then columns that no field fills.
    pub lines: Vec<PlanLine>,
}

impl TablePlan {
    /// A plan's lines and what they are about.
    pub fn new(pipeline: &str, sink: DatabaseKind, table: String, schema: &TopicSchema, lines: Vec<PlanLine>) -> Self {
        Self { pipeline: pipeline.into(), sink: sink.name(), table, schema: schema.says.clone(), lines }
    }
}

impl fmt::Display for TablePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan: {}: {} table {}, {}", self.pipeline, self.sink, self.table, self.schema)?;
        let head = ["field", "Avro type", "column", "column type", "conversion"];
        let cells = |line: &PlanLine| {
            let PlanLine { field, avro_type, column, column_type, conversion } = line.clone();
            [field, avro_type, column, column_type, conversion]
                .map(|cell| if cell.is_empty() { "-".into() } else { cell })
        };
        let rows: Vec<[String; 5]> =
            std::iter::once(head.map(String::from)).chain(self.lines.iter().map(cells)).collect();
        let width = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
        let [a, b, c, d] = [0, 1, 2, 3].map(|at| width(at).unwrap_or_default());
        for [field, avro_type, column, column_type, conversion] in &rows {
            writeln!(f, "    {field:a$}  {avro_type:b$}  {column:c$}  {column_type:d$}  {conversion}")?;
        }
        Ok(())
    }
}

/// A schema that records of the topic have, or will have.
pub struct TopicSchema {
    /// Which it is, for people.
    pub says: String,
    /// Its shape.
    pub shape: Shape,
    /// Whether records have it, or will have it as far as can be told. Of another nobody stops.
    pub comes: bool,
}

/// `auto_evolve`: the statement that adds what a table lacks, empty where it lacks nothing. Errors: what else does not fit.
pub(super) fn statement_to_add(ddl: Option<String>, findings: Vec<Finding>) -> Result<String, Vec<Finding>> {
    match ddl {
        Some(ddl) => Ok(ddl),
        None if findings.iter().any(Finding::is_error) => Err(findings),
        None => Ok(String::new()),
    }
}
