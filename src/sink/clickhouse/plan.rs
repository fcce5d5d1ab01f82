//! Which field of a schema goes into which column of the table, and how: worked out once per schema, before the first row.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::block::{BlockColumn, Codec, Coordinates, Framing, Layout, Null};
use super::table::{COORDINATES, DefaultKind, Table, TableColumn};
use super::{ddl, type_map};
use crate::avro::{Field, Shape};
use crate::config::finding::Finding;
use crate::sink::{Columns, Conversion, Missing, PlanLine};

/// What is done with the next field of a datum.
#[derive(Clone, Debug, PartialEq)]
pub enum BlockStep {
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
pub struct BlockPlan {
    steps: Vec<BlockStep>,
    /// Columns of the block that only other schemas fill, and what stands in them.
    absent: Vec<(usize, Null)>,
    layout: Arc<Layout>,
    /// What becomes of each field: the position of its column in the table and the conversion, or it is skipped.
    fields: Vec<Result<(usize, Codec), Shape>>,
    /// The columns that the schema fills by itself, by their position in the table.
    own: BTreeMap<usize, BlockColumn>,
    lines: Vec<PlanLine>,
    warnings: Vec<Finding>,
}

impl BlockPlan {
    /// Works out the plan. Where the table has `_topic`, `_partition` and `_offset`, they name the record, `topic` being its
    /// topic. Errors: everything that does not fit, each naming column, type, the field's type and the cure.
    pub fn compile(shape: &Shape, table: &Table, columns: &Columns<'_>, topic: &str) -> Result<Self, Vec<Finding>> {
        Draft::of(shape, table, columns).finish(topic)
    }

    /// Each field and each column for people, with everything that does not fit: what [`BlockPlan::compile`] would find.
    pub fn examine(shape: &Shape, table: &Table, columns: &Columns<'_>) -> (Vec<PlanLine>, Vec<Finding>) {
        let mut draft = Draft::of(shape, table, columns);
        draft.left_out();
        draft.problems.append(&mut draft.warnings);
        (draft.lines, draft.problems)
    }

    /// The steps in the order of the datum's fields.
    #[inline]
    pub fn steps(&self) -> &[BlockStep] {
        &self.steps
    }

    /// What stands in the block's columns that the schema does not fill.
    #[inline]
    pub fn absent(&self) -> &[(usize, Null)] {
        &self.absent
    }

    /// Gives plans into one table the same columns, so that rows of several schemas go into one block, in any order: what a
    /// schema lacks gets the column's default, as if the insert did not name the column. Where no row of a block can say that
    /// (see [`BlockColumn::absent`]), blocks stay apart.
    pub fn unite(plans: &mut [&mut Self]) {
        let mut shared: BTreeMap<usize, (BlockColumn, usize)> = BTreeMap::new();
        let columns = plans.iter().flat_map(|plan| &plan.own).filter(|(_, column)| column.absent.is_some());
        for (at, column) in columns {
            let (known, fill) = shared.entry(*at).or_insert_with(|| (column.clone(), 0));
            known.null_as_default |= column.null_as_default;
            *fill += 1;
        }
        for (column, fill) in shared.values_mut() {
            let is_left_out = *fill < plans.len();
            column.null_as_default |= is_left_out && column.absent.as_ref().is_some_and(|absent| absent.needs_null);
        }
        let shared: BTreeMap<usize, BlockColumn> = shared.into_iter().map(|(at, (column, _))| (at, column)).collect();
        let mut layouts: Vec<Arc<Layout>> = Vec::new();
        for plan in plans {
            plan.lay_out(&shared);
            // One allocation for equal ones: blocks compare pointers first.
            match layouts.iter().find(|layout| **layout == plan.layout) {
                Some(layout) => plan.layout = Arc::clone(layout),
                None => layouts.push(Arc::clone(&plan.layout)),
            }
        }
    }

    /// Writes into its own columns and these.
    fn lay_out(&mut self, shared: &BTreeMap<usize, BlockColumn>) {
        let mut all = self.own.clone();
        all.extend(shared.iter().map(|(at, column)| (*at, column.clone())));
        let (own, places) = (&self.own, all.keys().copied().collect::<Vec<_>>());
        let write = |at: usize, codec: &Codec| {
            let (column, wanted) = (places.binary_search(&at).unwrap_or_default(), all.get(&at));
            let marks = |column: Option<&BlockColumn>| {
                // A dictionary has no marks: null is its key 0.
                column.is_some_and(|column| column.null_as_default && column.framing == Framing::Plain)
            };
            let codec = match marks(wanted) && !marks(own.get(&at)) {
                true => codec.clone().present(),
                false => codec.clone(),
            };
            BlockStep::Write {
                column,
                name: wanted.map_or_else(|| Arc::from(""), |column| Arc::clone(&column.name)),
                codec,
            }
        };
        self.steps = self
            .fields
            .iter()
            .map(|field| match field {
                Ok((at, codec)) => write(*at, codec),
                Err(shape) => BlockStep::Skip(shape.clone()),
            })
            .collect();
        let absent = all.iter().enumerate().filter(|(_, (at, _))| !own.contains_key(at));
        self.absent =
            absent.filter_map(|(place, (_, column))| Some((place, column.absent.as_ref()?.null.clone()))).collect();
        let coordinates = self.layout.coordinates.clone();
        self.layout = Arc::new(Layout { columns: all.into_values().collect(), coordinates });
    }

    /// The columns of its blocks.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
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
        let (assigned, problems) = columns.assign(shape, &place, |field, column| table.missing(field, column, columns));
        let (found, taken) = (Vec::new(), BTreeSet::new());
        let mut draft = Self { table, place, found, taken, lines: Vec::new(), problems, warnings: Vec::new() };
        for (field, conversion) in assigned {
            match conversion {
                Conversion::Ignored => draft.ignore(field),
                Conversion::Nowhere => draft.lines.push(PlanLine::new(Some(field), None, "no column")),
                Conversion::Column(name) => draft.assign(field, name, columns),
            }
        }
        draft
    }

    fn ignore(&mut self, field: &Field) {
        self.found.push(Err(field.shape.clone()));
        self.lines.push(PlanLine::new(Some(field), None, "dropped, as the configuration says"));
    }

    fn assign(&mut self, field: &Field, name: &str, columns: &Columns<'_>) {
        let Some((at, column)) = self.table.position(name) else { return };
        let terms = type_map::Terms {
            lossy: columns.may_lose(&field.name),
            null_as_default: columns.null_is_default(&field.name),
            has_default: column.default != DefaultKind::None,
            days: self.table.days,
        };
        self.taken.insert(column.name.clone());
        let line = |says: &str| PlanLine::new(Some(field), Some((&column.name, &column.type_name)), says);
        if let Some(problem) = self.unwritable(field, column) {
            self.problems.push(problem);
            self.lines.push(line("takes no value"));
            return;
        }
        match type_map::pair(&field.shape, &column.parsed, terms) {
            Ok(pair) => {
                if pair.refuses_null {
                    self.warn_of_null(field, column);
                }
                self.lines.push(line(&pair.says));
                self.found.push(Ok((at, pair)));
            }
            Err(schema_mismatch) => {
                self.problems.push(self.schema_mismatch(field, column, schema_mismatch));
                self.lines.push(line("does not fit"));
            }
        }
    }

    fn schema_mismatch(
        &self,
        field: &Field,
        column: &TableColumn,
        schema_mismatch: type_map::SchemaMismatch,
    ) -> Finding {
        let other = |kind: Option<String>| ddl::change_column(self.table, field, column, kind);
        let cure = match schema_mismatch.cure {
            type_map::Cure::Column(kind) => other(kind),
            type_map::Cure::ColumnOrLoss(kind) => {
                format!("{}; or accept the loss: sink.clickhouse.columns.lossy = [\"{}\"]", other(kind), field.name)
            }
            type_map::Cure::Words(words) => words,
        };
        Finding::error(
            &self.place,
            &field.name,
            format!(
                "field {} ({}) does not fit column {} ({}): {}",
                field.name, field.shape, column.name, column.type_name, schema_mismatch.why
            ),
            cure,
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
            ddl::take_null(self.table, field, column),
        ));
    }

    fn finish(mut self, topic: &str) -> Result<BlockPlan, Vec<Finding>> {
        if !self.problems.is_empty() {
            return Err(self.problems);
        }
        self.left_out();
        let block_column = |(at, pair): &(usize, type_map::Pair)| {
            let column = self.table.columns.get(*at)?;
            Some((*at, column.in_block(pair.framing.clone(), pair.null_as_default, self.table.days)))
        };
        let own = self.found.iter().flatten().filter_map(block_column).collect();
        let coordinates = self.table.has_coordinates().then(|| Coordinates {
            topic: topic.into(),
            low_cardinality: self.table.column("_topic").is_some_and(|c| c.type_name != "String"),
        });
        let fields = self.found.into_iter().map(|found| found.map(|(at, pair)| (at, pair.codec))).collect();
        let layout = Arc::new(Layout { columns: Vec::new(), coordinates });
        let (lines, warnings) = (self.lines, self.warnings);
        let mut plan = BlockPlan { steps: Vec::new(), absent: Vec::new(), layout, fields, own, lines, warnings };
        plan.lay_out(&BTreeMap::new());
        Ok(plan)
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

impl Table {
    /// Why it has no column for a field; `None` where it has one of this name.
    pub(super) fn missing(&self, field: &Field, column: &str, columns: &Columns<'_>) -> Option<Missing> {
        if self.column(column).is_some() {
            return None;
        }
        let names = self.columns.iter().map(|column| column.name.as_str());
        let null_as_default = columns.null_is_default(&field.name);
        Some(Missing::among(names, column, || without_column(self, field, column, null_as_default)))
    }

    /// The parts of the Nested column of this name.
    fn nested(&self, column: &str) -> Vec<&str> {
        let is_part = |name: &&str| name.strip_prefix(column).is_some_and(|rest| rest.starts_with('.'));
        self.columns.iter().map(|column| column.name.as_str()).filter(is_part).collect()
    }

    /// Whether it has a Nested column of this name.
    pub(super) fn has_nested(&self, column: &str) -> bool {
        !self.nested(column).is_empty()
    }
}

/// What to do about a column that is not there, before the ways around it.
fn without_column(table: &Table, field: &Field, column: &str, null_as_default: bool) -> String {
    let rename = |to: &str| format!("sink.clickhouse.columns.rename = {{ {} = \"{to}\" }}", field.name);
    let nested = table.nested(column);
    if !nested.is_empty() {
        let (place, text) = (table.quoted(), format!("{column}_json"));
        return format!(
            "{column} is a Nested column: an array field of its own can go into each of {} by rename. For all of it as JSON \
             text: ALTER TABLE {place} ADD COLUMN {} String, and {}",
            nested.join(", "),
            super::types::quoted(&text),
            rename(&text)
        );
    }
    ddl::add_column(table, field, column, null_as_default)
}
