//! Which field of a schema goes into which column of the table, and how: worked out once per schema, before the first row.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::block::{Block, BlockColumn, Codec, Coordinates, Layout};
use super::ddl;
use super::table::{COORDINATES, DefaultKind, Table, TableColumn};
use crate::avro::{Field, Shape};
use crate::config::finding::Finding;
use crate::sink::clickhouse::type_map;
use crate::sink::{Columns, Conversion, Missing, PlanLine};

/// What is done with the next field of a datum.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Passed over.
    Skip(Shape),
    /// Written.
    Write {
        /// Index of the block's column.
        column: usize,
        /// Its name, for refusals.
        name: Arc<str>,
        /// The conversion.
        codec: Codec,
    },
}

/// The way of one schema's records into one table.
#[derive(Clone, Debug)]
pub struct Plan {
    steps: Vec<Step>,
    layout: Arc<Layout>,
    lines: Vec<PlanLine>,
    warnings: Vec<Finding>,
}

impl Plan {
    /// Works out the plan. Where the table has `_topic`, `_partition` and `_offset`, they name the record, `topic` being its
    /// topic. Errors: everything that does not fit, each naming column, type, the field's type and the cure.
    pub fn compile(shape: &Shape, table: &Table, columns: &Columns<'_>, topic: &str) -> Result<Self, Vec<Finding>> {
        Draft::of(shape, table, columns).finish(topic)
    }

    /// Each field and each column for people, with everything that does not fit: what [`Plan::compile`] would find.
    pub fn examine(shape: &Shape, table: &Table, columns: &Columns<'_>) -> (Vec<PlanLine>, Vec<Finding>) {
        let mut draft = Draft::of(shape, table, columns);
        draft.left_out();
        draft.problems.append(&mut draft.warnings);
        (draft.lines, draft.problems)
    }

    /// The steps in the order of the datum's fields.
    #[inline]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The columns it fills.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// An empty block for its rows.
    pub fn block(&self) -> Block {
        Block::new(Arc::clone(&self.layout))
    }

    /// The plan for people: all fields, then the columns that none of them fills.
    pub fn lines(&self) -> &[PlanLine] {
        &self.lines
    }

    /// What works, but deserves a look.
    pub fn warnings(&self) -> &[Finding] {
        &self.warnings
    }
}

/// A plan in the making.
struct Draft<'a> {
    table: &'a Table,
    place: String,
    /// Fields in the datum's order: skipped, or with the position of their column in the table.
    found: Vec<Result<(usize, type_map::Pair), Shape>>,
    /// Names of columns that a field goes into, fitting or not.
    taken: BTreeSet<String>,
    lines: Vec<PlanLine>,
    problems: Vec<Finding>,
    warnings: Vec<Finding>,
}

impl<'a> Draft<'a> {
    fn of(shape: &Shape, table: &'a Table, columns: &Columns<'_>) -> Self {
        let place = table.place();
        let (assigned, problems) = columns.assign(shape, &place, |field, column| match table.column(column) {
            Some(_) => None,
            None => {
                let names = table.columns.iter().map(|column| column.name.as_str());
                Some(Missing::among(names, column, || ddl::add_column(table, field, column)))
            }
        });
        let (found, taken) = (Vec::new(), BTreeSet::new());
        let mut draft = Self { table, place, found, taken, lines: Vec::new(), problems, warnings: Vec::new() };
        for (field, conversion) in assigned {
            match conversion {
                Conversion::Ignored => draft.ignore(field),
                Conversion::Nowhere => draft.lines.push(PlanLine::new(Some(field), None, "no column")),
                Conversion::Column(name) => draft.assign(field, name, columns.may_lose(&field.name)),
            }
        }
        draft
    }

    fn ignore(&mut self, field: &Field) {
        self.found.push(Err(field.shape.clone()));
        self.lines.push(PlanLine::new(Some(field), None, "dropped, as the configuration says"));
    }

    fn assign(&mut self, field: &Field, name: &str, lossy: bool) {
        let Some((at, column)) = self.table.position(name) else { return };
        self.taken.insert(column.name.clone());
        let line = |says: &str| PlanLine::new(Some(field), Some((&column.name, &column.type_name)), says);
        if let Some(problem) = self.unwritable(field, column) {
            self.problems.push(problem);
            self.lines.push(line("takes no value"));
            return;
        }
        match type_map::pair(&field.shape, &column.parsed, lossy) {
            Ok(pair) => {
                if pair.refuses_null {
                    self.warn_of_null(field, column);
                }
                self.lines.push(line(&pair.says));
                self.found.push(Ok((at, pair)));
            }
            Err(misfit) => {
                self.problems.push(self.misfit(field, column, misfit));
                self.lines.push(line("does not fit"));
            }
        }
    }

    fn misfit(&self, field: &Field, column: &TableColumn, misfit: type_map::Misfit) -> Finding {
        Finding::error(
            &self.place,
            &field.name,
            format!(
                "field {} ({}) does not fit column {} ({}): {}",
                field.name, field.shape, column.name, column.type_name, misfit.why
            ),
            misfit.cure,
        )
    }

    fn unwritable(&self, field: &Field, column: &TableColumn) -> Option<Finding> {
        let what = match column.default {
            DefaultKind::Materialized | DefaultKind::Alias => {
                format!("column {} ({}) is {}: ClickHouse computes it", column.name, column.type_name, column.default)
            }
            _ if self.table.has_coordinates() && COORDINATES.contains(&column.name.as_str()) => {
                format!("column {} is pressline's own: it names the record a row came from", column.name)
            }
            _ => return None,
        };
        let cure = format!(
            "drop the field with sink.clickhouse.columns.ignore = [\"{}\"], or give it another column with rename",
            field.name
        );
        Some(Finding::error(&self.place, &field.name, what, cure))
    }

    fn warn_of_null(&mut self, field: &Field, column: &TableColumn) {
        self.warnings.push(Finding::warning(
            &self.place,
            &field.name,
            format!(
                "field {} ({}) may be null, column {} ({}) takes none: such rows become dead letters",
                field.name, field.shape, column.name, column.type_name
            ),
            format!(
                "ALTER TABLE {} MODIFY COLUMN {} Nullable(...)",
                self.table.quoted(),
                super::types::quoted(&column.name)
            ),
        ));
    }

    fn finish(mut self, topic: &str) -> Result<Plan, Vec<Finding>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        // In the table's order, so that schemas that fill the same columns share their blocks.
        let mut filled: Vec<usize> = self.found.iter().flatten().map(|(at, _)| *at).collect();
        filled.sort_unstable();
        let mut columns = Vec::with_capacity(filled.len());
        for at in &filled {
            let pair = self.found.iter().flatten().find(|(found, _)| found == at);
            if let (Some(column), Some((_, pair))) = (self.table.columns.get(*at), pair) {
                columns.push(BlockColumn {
                    name: Arc::from(column.name.as_str()),
                    type_name: column.type_name.clone(),
                    framing: pair.framing.clone(),
                });
            }
        }
        self.left_out();
        let steps = self.found.into_iter().map(|found| step(found, &filled, &columns)).collect();
        let coordinates = self.table.has_coordinates().then(|| Coordinates {
            topic: topic.into(),
            low_cardinality: self.table.column("_topic").is_some_and(|c| c.type_name != "String"),
        });
        let layout = Arc::new(Layout { columns, coordinates });
        Ok(Plan { steps, layout, lines: self.lines, warnings: self.warnings })
    }

    /// Lines of the columns that no field fills.
    fn left_out(&mut self) {
        for column in self.table.columns.iter().filter(|column| !self.taken.contains(&column.name)) {
            let own = self.table.has_coordinates().then(|| COORDINATES.iter().position(|name| *name == column.name));
            let conversion = match own.flatten() {
                Some(0) => "the record's topic",
                Some(1) => "the record's partition",
                Some(_) => "the record's offset",
                None => column.default.left_out(),
            };
            self.lines.push(PlanLine::new(None, Some((&column.name, &column.type_name)), conversion));
        }
    }
}

fn step(found: Result<(usize, type_map::Pair), Shape>, filled: &[usize], columns: &[BlockColumn]) -> Step {
    match found {
        Err(shape) => Step::Skip(shape),
        Ok((at, pair)) => {
            let column = filled.binary_search(&at).unwrap_or_default();
            let name = columns.get(column).map_or_else(|| Arc::from(""), |column| Arc::clone(&column.name));
            Step::Write { column, name, codec: pair.codec }
        }
    }
}
