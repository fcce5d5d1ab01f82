//! Which field goes into which column, the part that all kinds of tables share.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::changes::ChangeShape;
use crate::avro::format::Casts;
use crate::avro::{Field, Shape};
use crate::config::finding::Finding;
use crate::config::sink::ColumnsConfig;

/// A field's way into its column, for people (`pressline check --online`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanLine {
    /// Field; empty for a column that no field fills.
    pub field: String,
    /// Its Avro type.
    pub avro_type: String,
    /// Column; empty for a field that is dropped.
    pub column: String,
    /// The column's type, as the database writes it.
    pub column_type: String,
    /// What happens on the way, such as `microseconds, exact` or `left to its default`.
    pub conversion: String,
}

impl PlanLine {
    /// Of a field, a column, or both; the column by its name and type.
    pub fn new(field: Option<&Field>, column: Option<(&str, &str)>, conversion: impl Into<String>) -> Self {
        let (column, column_type) = column.unwrap_or_default();
        Self {
            field: field.map(|field| field.name.clone()).unwrap_or_default(),
            avro_type: field.map(|field| field.shape.to_string()).unwrap_or_default(),
            column: column.into(),
            column_type: column_type.into(),
            conversion: conversion.into(),
        }
    }
}

/// What to do about a table that is not there.
pub fn make_table(section: &str, ddl: &str) -> String {
    format!("make it, for example so, or set {section}.auto_create = true:\n{ddl};")
}

/// What becomes of one field of the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Conversion<'a> {
    /// It goes into the column of this name, which the table has.
    Column(&'a str),
    /// It is dropped, as the configuration says.
    Ignored,
    /// It has no column of its own, which is a finding.
    Nowhere,
}

/// Why a field has no column in the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Missing {
    /// There is none of that name; the statement that adds it.
    Column(String),
    /// There is one whose name differs in case only.
    OtherCase(String),
    /// The database can have none of that name; why.
    Name(String),
}

impl Missing {
    /// Looks for a name that differs in case only, else gives the statement.
    pub fn among<'n>(
        mut names: impl Iterator<Item = &'n str>,
        column: &str,
        statement: impl FnOnce() -> String,
    ) -> Self {
        let wanted = column.to_lowercase();
        match names.find(|name| name.to_lowercase() == wanted) {
            Some(other) => Self::OtherCase(other.into()),
            None => Self::Column(statement()),
        }
    }
}

/// Former names of fields → the names that newer schemas have for them.
pub type Renamed = BTreeMap<String, String>;

/// Notes which fields of a record had another name before.
pub fn note_renamed(renamed: &mut Renamed, shape: &Shape) {
    let Shape::Record(fields) = shape else { return };
    for field in fields {
        let is_other = |name: &&String| !fields.iter().any(|other| other.name == **name);
        renamed.extend(field.aliases.iter().filter(is_other).map(|former| (former.clone(), field.name.clone())));
    }
}

/// The rules by which fields find columns.
pub struct Columns<'a> {
    config: &'a ColumnsConfig,
    /// What findings name: `sink.postgres`.
    section: &'a str,
    renamed: Option<&'a Renamed>,
}

impl<'a> Columns<'a> {
    /// Rules of the sink whose configuration stands in `section`.
    pub fn new(config: &'a ColumnsConfig, section: &'a str) -> Self {
        Self { config, section, renamed: None }
    }

    /// The same with what schemas have said that were met so far.
    pub fn with_renamed(self, renamed: &'a Renamed) -> Self {
        Self { renamed: Some(renamed), ..self }
    }

    /// The column that the field's name leads to.
    fn column_of<'f>(&self, field: &'f str) -> &'f str
    where
        'a: 'f,
    {
        self.config.rename.get(field).map_or(field, String::as_str)
    }

    /// The column that the table has for the field under its name in another schema.
    fn column_of_another_name<'f>(
        &self,
        field: &'f Field,
        fields: &'f [Field],
        is_there: impl Fn(&str) -> bool,
    ) -> Option<&'f str>
    where
        'a: 'f,
    {
        let newer = self.renamed.and_then(|renamed| renamed.get(&field.name));
        let is_free = |column: &str| !fields.iter().any(|other| self.column_of(&other.name) == column);
        let mut columns = field.aliases.iter().chain(newer).map(|name| self.column_of(name));
        columns.find(|column| is_there(column) && is_free(column))
    }

    /// Whether the field's conversion may lose something.
    pub fn may_lose(&self, field: &str) -> bool {
        self.config.lossy.iter().any(|name| name == field)
    }

    /// Whether the field's null becomes the column's default.
    pub fn null_is_default(&self, field: &str) -> bool {
        self.config.null_as_default.iter().any(|name| name == field)
    }

    /// Columns whose default takes the place of null.
    pub fn with_defaults(&self) -> Vec<&'a str> {
        let column = |field: &'a String| self.config.rename.get(field).unwrap_or(field).as_str();
        self.config.null_as_default.iter().map(column).collect()
    }

    /// The fields of the record, in their order, each with what becomes of it, and findings: the schema is no record; fields
    /// without a column; two fields for one column. `missing` tells why the table lacks the column, or `None` where it has it.
    pub fn assign<'f>(
        &self,
        shape: &'f Shape,
        table: &str,
        missing: impl Fn(&Field, &str) -> Option<Missing>,
    ) -> (Vec<(&'f Field, Conversion<'f>)>, Vec<Finding>)
    where
        'a: 'f,
    {
        let Shape::Record(fields) = shape else {
            let what = format!("the schema is {shape}, not a record");
            return (Vec::new(), vec![Finding::error(table, "", what, "load a topic whose values are records")]);
        };
        let mut findings = Vec::new();
        let mut assigned = Vec::new();
        let mut taken = BTreeSet::new();
        for field in fields {
            let mut column = self.column_of(&field.name);
            let mut lacks = missing(field, column);
            if lacks.is_some()
                && let Some(known) =
                    self.column_of_another_name(field, fields, |column| missing(field, column).is_none())
            {
                (column, lacks) = (known, None);
            }
            if self.config.ignore.contains(&field.name) || ChangeShape::hides(&field.name) {
                assigned.push((field, Conversion::Ignored));
            } else if let Some(lacks) = lacks {
                findings.push(self.without_column(field, column, table, &lacks));
                assigned.push((field, Conversion::Nowhere));
            } else if !taken.insert(column) {
                let what = format!("two fields go into column {column}");
                findings.push(Finding::error(table, &field.name, what, self.rename_cure(&field.name)));
                assigned.push((field, Conversion::Nowhere));
            } else {
                assigned.push((field, Conversion::Column(column)));
            }
        }
        (assigned, findings)
    }

    /// `auto_evolve`: the fields that the table has no column for, although it could have one, with that column's name. `None` where
    /// there are none, where anything else was `found` amiss, or where one is of the `key`, which rows that are there would not have.
    pub fn to_add<'f>(
        &self,
        shape: &'f Shape,
        key: &[String],
        found: &[Finding],
        missing: impl Fn(&Field, &str) -> Option<Missing>,
    ) -> Option<Vec<(&'f Field, &'f str)>>
    where
        'a: 'f,
    {
        let (assigned, _) = self.assign(shape, "", &missing);
        let nowhere = assigned.into_iter().filter(|(_, conversion)| *conversion == Conversion::Nowhere);
        let with_names = nowhere.map(|(field, _)| (field, self.column_of(&field.name)));
        let could_be = |(field, column): &(&Field, &str)| matches!(missing(field, column), Some(Missing::Column(_)));
        let lacking: Vec<_> = with_names.filter(could_be).collect();
        let is_all_that_is_amiss = found.iter().filter(|finding| finding.is_error()).count() == lacking.len();
        let is_of_key = |(_, column): &(&Field, &str)| key.iter().any(|of| of == column);
        (!lacking.is_empty() && is_all_that_is_amiss && !lacking.iter().any(is_of_key)).then_some(lacking)
    }

    /// What looks mistaken: names in the configuration that no field of the record has, and logical types of the schema that
    /// stand where no reader sees them.
    pub fn unknown_fields(&self, shape: &Shape, table: &str) -> Vec<Finding> {
        let Shape::Record(fields) = shape else { return Vec::new() };
        let ColumnsConfig { rename, ignore, lossy, null_as_default } = self.config;
        let named = rename.keys().chain(ignore).chain(lossy).chain(null_as_default);
        let unknown = named.filter(|name| !fields.iter().any(|field| field.name == **name));
        let finding = |name: &String| {
            let what = format!("{}.columns names a field that the schema does not have", self.section);
            Finding::warning(table, name, what, "remove it, or fix its spelling")
        };
        unknown.map(finding).chain(fields.iter().filter_map(|field| misplaced(field, table))).collect()
    }

    fn without_column(&self, field: &Field, column: &str, table: &str, missing: &Missing) -> Finding {
        let (section, name) = (self.section, &field.name);
        let none = format!("the table has no column {column} for field {name} ({})", field.shape);
        let ignore = format!("drop the field on purpose with {section}.columns.ignore = [\"{name}\"]");
        let rename = |to: &str| format!("{section}.columns.rename = {{ {name} = \"{to}\" }}");
        let (what, cure) = match missing {
            Missing::Column(statement) => {
                let evolve = format!("let the sink add it with {section}.auto_evolve = true");
                (none, format!("{statement}; or {evolve}; or {}; or {ignore}", rename("another_column")))
            }
            Missing::OtherCase(other) => (
                format!("{none}; there is {other}, and names keep their case"),
                format!("{}; or {ignore}", rename(other)),
            ),
            Missing::Name(why) => (why.clone(), format!("{}; or {ignore}", rename("shorter_name"))),
        };
        Finding::error(table, name, what, cure)
    }

    fn rename_cure(&self, field: &str) -> String {
        format!("give each its own: {}.columns.rename = {{ {field} = \"another_column\" }}", self.section)
    }
}

/// A logical type beside a field's type instead of in it.
fn misplaced(field: &Field, table: &str) -> Option<Finding> {
    let (logical, shape) = (field.misplaced.as_ref()?, &field.shape);
    let what = format!(
        "the schema has logicalType `{logical}` beside the type of the field, where readers ignore it: it is read as a plain {shape}"
    );
    let mut cure =
        format!("put it into the type in the producer's schema: {{\"type\": …, \"logicalType\": \"{logical}\"}}");
    if let Some(line) = Casts::line(&field.name, logical, shape) {
        cure.push_str(&format!("; or cast the field, with this line under [source.cast] in the pipeline file: {line}"));
    }
    Some(Finding::warning(table, &field.name, what, cure))
}
