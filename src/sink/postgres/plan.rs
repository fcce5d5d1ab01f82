//! The plan: from one schema's datums to one table's rows, compiled once, then walked for each row.

use std::sync::Arc;

use super::catalogue::{Beside, Column, ColumnType, Filled, RelationKind, Table};
use super::convert::{self, Cure, Unsupported};
use super::ddl::no_field;
use super::encode::{Null, Slot};
use super::name::quote_name;
use crate::avro::{Cursor, Field, Shape};
use crate::config::finding::Finding;
use crate::sink::{Columns, Conversion, PlanLine, Refusal};

/// One step along the record.
#[derive(Debug)]
pub(super) enum CopyStep {
    /// The field goes into a column.
    Write(Arc<str>, Slot),
    /// The field is dropped.
    Skip(Shape),
}

/// How datums of one schema become rows of one table.
#[derive(Debug)]
pub struct CopyPlan {
    table: Arc<Table>,
    steps: Vec<CopyStep>,
    /// Number of columns, as it begins each row.
    header: [u8; 2],
    copy: String,
    lines: Vec<PlanLine>,
    warnings: Vec<Finding>,
}

/// What a schema and a table make together, whether or not they fit.
struct Draft {
    steps: Vec<CopyStep>,
    filled: Vec<Arc<str>>,
    lines: Vec<PlanLine>,
    findings: Vec<Finding>,
}

impl Draft {
    fn of(shape: &Shape, table: &Table, columns: &Columns<'_>) -> Self {
        let title = table.title();
        let mut draft =
            Self { steps: Vec::new(), filled: Vec::new(), lines: Vec::new(), findings: about_table(table, &title) };
        let (assigned, more) = columns.assign(shape, &title, |field, column| table.missing(field, column));
        if more.is_empty() && !assigned.iter().any(|(_, conversion)| matches!(conversion, Conversion::Column(_))) {
            draft.findings.push(no_field(&title));
        }
        draft.findings.extend(more);
        for (field, conversion) in assigned {
            match conversion {
                Conversion::Column(name) => {
                    if let Some(column) = table.column(name) {
                        draft.assign(field, column, table, columns, &title);
                    }
                }
                Conversion::Ignored => {
                    draft.steps.push(CopyStep::Skip(field.shape.clone()));
                    draft.lines.push(PlanLine::new(Some(field), None, "dropped, as columns.ignore says"));
                }
                Conversion::Nowhere => draft.lines.push(PlanLine::new(Some(field), None, "no column")),
            }
        }
        for column in table.columns.iter().filter(|column| !draft.filled.contains(&column.name)) {
            let note = left_out(column, table, &title).unwrap_or_else(|finding| {
                draft.findings.push(*finding);
                "no field, and the column demands a value"
            });
            draft.lines.push(PlanLine::new(None, Some((&column.name, &column.type_text)), note));
        }
        draft
    }

    fn assign(&mut self, field: &Field, column: &Column, table: &Table, columns: &Columns<'_>, title: &str) {
        self.filled.push(Arc::clone(&column.name));
        let note = match step(field, column, table, columns, title) {
            Ok((slot, note)) => {
                self.steps.push(CopyStep::Write(Arc::clone(&column.name), slot));
                note
            }
            Err(finding) => {
                self.findings.push(*finding);
                "does not fit".into()
            }
        };
        self.lines.push(PlanLine::new(Some(field), Some((&column.name, &column.type_text)), note));
    }
}

impl CopyPlan {
    /// Compiles a plan. Errors: everything that does not fit, all at once, each with its cure.
    pub fn compile(shape: &Shape, table: &Arc<Table>, columns: &Columns<'_>) -> Result<Self, Vec<Finding>> {
        let draft = Draft::of(shape, table, columns);
        if draft.findings.iter().any(Finding::is_error) {
            return Err(draft.findings);
        }
        let names: Vec<String> = draft.filled.iter().map(|name| quote_name(name)).collect();
        Ok(Self {
            copy: format!("COPY {} ({}) FROM STDIN (FORMAT binary)", table.name, names.join(", ")),
            // A table has at most 1,600 columns.
            header: (draft.filled.len() as i16).to_be_bytes(),
            table: Arc::clone(table),
            steps: draft.steps,
            lines: draft.lines,
            warnings: draft.findings,
        })
    }

    /// The same plan for the table that it was compiled for a part of.
    pub(super) fn for_table(self, table: &Arc<Table>) -> Self {
        Self { table: Arc::clone(table), ..self }
    }

    /// Each field and each column for people, with everything that does not fit: what [`CopyPlan::compile`] would find.
    pub fn examine(shape: &Shape, table: &Table, columns: &Columns<'_>) -> (Vec<PlanLine>, Vec<Finding>) {
        let draft = Draft::of(shape, table, columns);
        (draft.lines, draft.findings)
    }

    /// Appends a datum's row in the form of binary COPY. Errors: a value that its column cannot hold; then `out` is as
    /// it was.
    pub fn encode_row(&self, datum: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let start = out.len();
        let written = self.write_row(datum, out);
        if written.is_err() {
            out.truncate(start);
        }
        written
    }

    /// The steps in the order of the datum's fields.
    pub(super) fn steps(&self) -> &[CopyStep] {
        &self.steps
    }

    /// The columns that it fills, in the order in which it writes them.
    pub(super) fn columns(&self) -> impl Iterator<Item = &Arc<str>> {
        self.steps.iter().filter_map(|step| match step {
            CopyStep::Write(column, _) => Some(column),
            CopyStep::Skip(_) => None,
        })
    }

    fn write_row(&self, datum: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        out.extend_from_slice(&self.header);
        self.write_columns(datum, out)
    }

    /// Appends the columns of a datum's row, without the row's header.
    pub(super) fn write_columns(&self, datum: &[u8], out: &mut Vec<u8>) -> Result<(), Refusal> {
        let mut cursor = Cursor::new(datum);
        for step in &self.steps {
            match step {
                CopyStep::Write(column, slot) => {
                    slot.write(&mut cursor, out).map_err(|why| Refusal::column(column, why))?;
                }
                CopyStep::Skip(shape) => cursor.skip(shape).map_err(Refusal::row)?,
            }
        }
        cursor.finish().map_err(Refusal::row)
    }

    /// The statement that the rows are for.
    pub fn copy_statement(&self) -> &str {
        &self.copy
    }

    /// The table that it was compiled for.
    pub fn table(&self) -> &Arc<Table> {
        &self.table
    }

    /// Each field and each column, for people.
    pub fn lines(&self) -> &[PlanLine] {
        &self.lines
    }

    /// What does not stop the load but is worth a look.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }
}

fn about_table(table: &Table, title: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let RelationKind::Other(kind) = table.kind {
        findings.push(Finding::error(
            title,
            "",
            format!("it is {kind}, expected a table: rows and positions have to be committed together"),
            "name the table itself in sink.postgres.table",
        ));
    }
    if table.row_security {
        findings.push(Finding::error(
            title,
            "",
            "row-level security applies to the user, and PostgreSQL allows no COPY then",
            "let the table's owner load it, or ALTER ROLE the user BYPASSRLS",
        ));
    }
    if !table.may_insert() {
        findings.push(Finding::error(
            title,
            "",
            "the user may not insert into the table",
            format!("GRANT INSERT ON {} TO the user", table.name),
        ));
    }
    if table.unlogged {
        findings.push(Finding::warning(
            title,
            "",
            "the table is UNLOGGED: a crash of the server empties it while the positions stay, so rows would be lost",
            format!("ALTER TABLE {} SET LOGGED", table.name),
        ));
    }
    findings.extend(about_parts(table, title));
    findings
}

/// What happens to rows on their way, or after it, that nobody sees from the table's columns.
fn about_parts(table: &Table, title: &str) -> Vec<Finding> {
    let Beside { unlogged, foreign, triggers, rules } = &table.beside;
    let each = |names: &[String], what: &str, cure: fn(&str, &Table) -> String| -> Vec<Finding> {
        let finding =
            |name: &String| Finding::warning(title, "", what.replace("{name}", name), cure(name.as_str(), table));
        names.iter().map(finding).collect()
    };
    [
        each(
            unlogged,
            "its partition {name} is UNLOGGED: a crash of the server empties it while the offsets stay, so rows would be lost",
            // The catalogue writes names of tables as SQL.
            |name, _| format!("ALTER TABLE {name} SET LOGGED"),
        ),
        each(
            foreign,
            "its partition {name} is a foreign table: rows there and offsets here cannot be committed as one",
            |name, table| format!("make it a table of this server, or ALTER TABLE {} DETACH PARTITION {name}", table.name),
        ),
        each(
            triggers,
            "the trigger {name} runs before each row and can drop it; pressline_sink_rows_dropped_total counts dropped rows",
            |_, _| "nothing, unless that number grows and should not".into(),
        ),
        each(rules, "COPY passes over the rule {name}, which INSERT would obey", |name, table| {
            format!("use a trigger for what it does, and DROP RULE {} ON {}", quote_name(name), table.name)
        }),
    ]
    .concat()
}

fn step(
    field: &Field,
    column: &Column,
    table: &Table,
    columns: &Columns<'_>,
    title: &str,
) -> Result<(Slot, String), Box<Finding>> {
    let subject = format!("column {} ({}) from field {} ({})", column.name, column.type_text, field.name, field.shape);
    let refuse = |what: &str, cure: String| Err(Box::new(Finding::error(title, &subject, what, cure)));
    if column.filled == Filled::Generated {
        return refuse("the column is generated and takes no value", leave_out(field));
    }
    if !column.may_insert && table.may_insert() {
        return refuse("the user may not insert into it", format!("GRANT INSERT ON {} TO the user", table.name));
    }
    let (shape, null) = convert::unwrap_null(&field.shape);
    let way = match convert::find(shape, &column.kind) {
        Ok(way) => way,
        Err(Unsupported { why, cure }) => return refuse(&why, in_words(cure, field, column, table)),
    };
    if let Some(loss) = way.loss
        && !columns.may_lose(&field.name)
    {
        return refuse(
            &format!("the column would lose {loss}"),
            format!("{}; or allow it: columns.lossy = [\"{}\"]", alter(table, column, wide_enough(shape)), field.name),
        );
    }
    let mut note = way.note;
    if column.filled == Filled::IdentityAlways {
        // COPY writes it, as INSERT ... OVERRIDING SYSTEM VALUE does.
        note.push_str("; the identity column takes the field's value");
    }
    let instead = if columns.null_is_default(&field.name) { table.defaults.get(&column.name) } else { None };
    match instead {
        Some(Ok(_)) => note.push_str("; null becomes the column's default"),
        Some(Err(why)) => {
            let cure = format!(
                "ALTER TABLE {} ALTER {} SET DEFAULT a constant; or let a trigger fill the column, without null_as_default",
                table.name,
                quote_name(&column.name)
            );
            return refuse(&format!("null cannot become its default (columns.null_as_default): {why}"), cure);
        }
        None if null != Null::Never && column.not_null => note.push_str("; null is refused, row by row"),
        None => {}
    }
    let instead = instead.and_then(|found| found.as_ref().ok()).cloned();
    Ok((Slot { null, takes_null: !column.not_null, instead, write: way.write }, note))
}

fn leave_out(field: &Field) -> String {
    format!("leave the field out: columns.ignore = [\"{}\"]; or rename it to another column", field.name)
}

fn in_words(cure: Cure, field: &Field, column: &Column, table: &Table) -> String {
    match cure {
        Cure::Alter(to) => format!("{}; or {}", alter(table, column, to), leave_out(field)),
        // Of an array, the words are about its items.
        Cure::Other(words) => words.replace("{type}", column.type_text.trim_end_matches("[]")),
    }
}

/// A statement that runs as it stands where the rows that are there can be converted, or there are none.
fn alter(table: &Table, column: &Column, to: &str) -> String {
    let name = quote_name(&column.name);
    // The server cannot convert every default along with the column, nor an identity into what is no whole number.
    let table = &table.name;
    let first = match column.filled {
        Filled::Default => format!("ALTER {name} DROP DEFAULT, "),
        Filled::IdentityAlways | Filled::IdentityByDefault if !matches!(to, "bigint" | "integer") => {
            format!("ALTER {name} DROP IDENTITY; ALTER TABLE {table} ")
        }
        _ => String::new(),
    };
    let using = match (&column.kind, to) {
        (ColumnType::Timestamp(_), "timestamptz") | (ColumnType::TimestampTz(_), "timestamp") => {
            format!(" USING {name} AT TIME ZONE 'UTC'")
        }
        (kind, _) if widens(kind, to) => String::new(),
        (ColumnType::Json, "jsonb") => format!(" USING {name}::jsonb"),
        (_, "jsonb") => format!(" USING to_jsonb({name})"),
        // By way of its text every type can become every other, as far as the values are the same in words.
        _ => format!(" USING {name}::text::{to}"),
    };
    format!("ALTER TABLE {table} {first}ALTER {name} TYPE {to}{using}")
}

/// Whether the server converts the column by itself, and every value fits.
fn widens(from: &ColumnType, to: &str) -> bool {
    use ColumnType as From;
    match to {
        "text" => matches!(from, From::Text | From::Varchar(_) | From::Char(_)),
        "integer" => *from == From::Int2,
        "bigint" => matches!(from, From::Int2 | From::Int4),
        "numeric" => matches!(from, From::Int2 | From::Int4 | From::Int8 | From::Numeric(_)),
        "double precision" => *from == From::Float4,
        "time" => matches!(from, From::Time(_)),
        "timestamp" => matches!(from, From::Timestamp(_)),
        "timestamptz" => matches!(from, From::TimestampTz(_)),
        _ => false,
    }
}

/// The type that keeps all of the field.
fn wide_enough(shape: &Shape) -> &'static str {
    match shape {
        Shape::Long => "numeric",
        other => convert::natural(other),
    }
}

fn left_out(column: &Column, table: &Table, title: &str) -> Result<&'static str, Box<Finding>> {
    match column.filled {
        Filled::Default => Ok("no field: left to its default"),
        Filled::Generated => Ok("no field: generated"),
        Filled::IdentityAlways | Filled::IdentityByDefault => Ok("no field: identity"),
        Filled::No if !column.not_null => Ok("no field: null"),
        Filled::No => Err(Box::new(Finding::error(
            title,
            format!("column {} ({})", column.name, column.type_text),
            "no field fills it, and it takes no null and has no default",
            format!(
                "give a field that name (columns.rename), or ALTER TABLE {} ALTER {} DROP NOT NULL (or SET DEFAULT ...)",
                table.name,
                quote_name(&column.name)
            ),
        ))),
    }
}
