//! Statements that make or fix the target table, exactly as they are run or printed.

use super::client::{Client, Undefined};
use super::table::{COORDINATES, DefaultKind, Table, TableColumn, coordinate_type};
use super::types::{Type, literal, quoted, with_null};
use super::versions;
use crate::avro::{Field, Shape};
use crate::config::finding::Finding;
use crate::config::sink::ClickHouseConfig;
use crate::sink::{Columns, Conversion};

/// Inserts whose tokens the server remembers: far more than can be in doubt at once.
const DEDUPLICATION_WINDOW: u32 = 1000;

/// Names of text fields whose values repeat: a dictionary makes them smaller and faster. Other texts stay plain, for a
/// dictionary of mostly different values costs more than it saves.
const REPEATING: [&str; 13] = [
    "action", "category", "code", "country", "currency", "event", "kind", "name", "region", "state", "status", "type",
    "zone",
];

fn definition(column: &str) -> String {
    // Offsets grow by one: differences of them are next to nothing.
    let codec = if column == "_offset" { " CODEC(Delta, ZSTD)" } else { "" };
    format!("{} {}{codec}", quoted(column), coordinate_type(column))
}

/// Adds the columns that name the record.
pub fn add_columns(table: &Table, columns: &[&str]) -> String {
    let added: Vec<String> = columns.iter().map(|column| format!("ADD COLUMN {}", definition(column))).collect();
    format!("ALTER TABLE {} {}", table.quoted(), added.join(", "))
}

/// Gives a column that names the record its right type.
pub fn modify_column(table: &Table, column: &str) -> String {
    format!("ALTER TABLE {} MODIFY COLUMN {}", table.quoted(), definition(column))
}

/// Adds the column of a field.
pub fn add_column(table: &Table, field: &Field, column: &str, null_as_default: bool) -> String {
    match added_type(field, null_as_default) {
        Ok(kind) => format!("ALTER TABLE {} ADD COLUMN {} {kind}", table.quoted(), quoted(column)),
        Err(_) => "add the column".into(),
    }
}

/// The type of a column that is added: rows that are there have no value of it, so it takes null where ClickHouse has such a type, else
/// they have an empty one.
fn added_type(field: &Field, null_as_default: bool) -> Result<String, String> {
    let some = match field.shape.unwrap_optional() {
        (Shape::Array(_) | Shape::Map(_), _) => field.shape.clone(),
        (some, _) => Shape::Optional { null_first: true, some: Box::new(some.clone()) },
    };
    column_type(&Field { shape: some, ..field.clone() }, null_as_default)
}

/// `auto_evolve`: the statement that adds what the table lacks for a record, by the rule of [`Columns::to_add`].
pub fn add_lacking(
    table: &Table,
    shape: &Shape,
    columns: &Columns<'_>,
    key: &[String],
    found: &[Finding],
) -> Option<String> {
    let lacking = columns.to_add(shape, key, found, |field, column| table.missing(field, column, columns))?;
    let is_own =
        |name: &str| name.starts_with('_') && (versions::type_of(name).is_some() || COORDINATES.contains(&name));
    let add = |(field, column): &(&Field, &str)| {
        let is_refused = is_own(column) || table.has_nested(column);
        let kind = added_type(field, columns.null_is_default(&field.name)).ok().filter(|_| !is_refused)?;
        Some(format!("ADD COLUMN IF NOT EXISTS {} {kind}", quoted(column)))
    };
    let added: Option<Vec<String>> = lacking.iter().map(add).collect();
    Some(format!("ALTER TABLE {} {}", table.quoted(), added?.join(", ")))
}

/// Gives a column that does not take a field the field's own type, or the one named.
pub fn change_column(table: &Table, field: &Field, column: &TableColumn, kind: Option<String>) -> String {
    let optional = field.shape.unwrap_optional().1;
    let kind = match kind {
        Some(kind) if optional => Ok(format!("Nullable({kind})")),
        Some(kind) => Ok(kind),
        None => column_type(field, false).or_else(|_| column_type(field, true)),
    };
    let Ok(kind) = kind else {
        return format!("leave the field out: sink.clickhouse.columns.ignore = [\"{}\"]", field.name);
    };
    modify(table, column, &kind)
}

/// Lets a column take null, where ClickHouse has such a type, or null be its default.
pub fn take_null(table: &Table, field: &Field, column: &TableColumn) -> String {
    let setting = format!("sink.clickhouse.columns.null_as_default = [\"{}\"]", field.name);
    let kind = match &column.parsed {
        Type::Array(_) | Type::Map(..) if column.default != DefaultKind::None => {
            return format!(
                "drop the column's DEFAULT, and {setting}: null is then empty, because no Array or Map can be null"
            );
        }
        Type::Array(_) | Type::Map(..) => {
            return format!("{setting}: null is then empty, because no Array or Map of ClickHouse can be null");
        }
        _ => with_null(&column.type_name),
    };
    format!("{}; or leave the column to its default: {setting}", modify(table, column, &kind))
}

/// A column of another type. ClickHouse changes none that the table is ordered or partitioned by.
fn modify(table: &Table, column: &TableColumn, kind: &str) -> String {
    if table.is_in_key(&column.name) {
        return format!(
            "make the table again with {} {kind}: no column of its keys can be changed",
            quoted(&column.name)
        );
    }
    let (table, name) = (table.quoted(), quoted(&column.name));
    if !is_converted(&column.parsed, &Type::parse(bare(kind))) {
        return format!(
            "ALTER TABLE {table} DROP COLUMN {name}, ADD COLUMN {name} {kind}; what the column holds is lost, for ClickHouse \
             converts none of it"
        );
    }
    format!("ALTER TABLE {table} MODIFY COLUMN {name} {kind}")
}

/// A column's type without its codec.
fn bare(kind: &str) -> &str {
    kind.split_once(" CODEC(").map_or(kind, |(bare, _)| bare)
}

/// Whether MODIFY COLUMN takes the one for the other (tried on ClickHouse 26.9).
fn is_converted(from: &Type, to: &Type) -> bool {
    match (from, to) {
        (Type::LowCardinality(from) | Type::Nullable(from), to) => is_converted(from, to),
        (from, Type::LowCardinality(to) | Type::Nullable(to)) => is_converted(from, to),
        (Type::String, _) | (_, Type::String) | (Type::Uuid, Type::Uuid) | (Type::Map(..), Type::Map(..)) => true,
        (Type::Array(from), Type::Array(to)) => is_converted(from, to),
        (Type::Uuid | Type::Array(_) | Type::Map(..), _) | (_, Type::Uuid | Type::Array(_) | Type::Map(..)) => false,
        _ => true,
    }
}

/// A table that is yet to be made.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The statement.
    pub sql: String,
    /// Names and types of its columns.
    pub columns: Vec<(String, String)>,
    /// `ORDER BY` and `PARTITION BY`, where there is one.
    pub keys: Vec<String>,
}

/// `CREATE TABLE` for a record's fields, renamed and left out as the configuration says, with the columns that name the record
/// and a deduplication window; ordered by the record and not partitioned unless `order_by` and `partition_by` say otherwise.
/// Errors: the schema is no record, two fields for one column, a field has no type in ClickHouse.
pub fn create_table(
    shape: &Shape,
    config: &ClickHouseConfig,
    upsert_key: &[String],
) -> Result<Definition, Vec<Finding>> {
    let table = format!("{}.{}", quoted(&config.database), quoted(&config.table));
    let rules = Columns::new(&config.columns, "sink.clickhouse");
    let (assigned, mut findings) = rules.assign(shape, &table, |_, _| None);
    let mut lines = Vec::with_capacity(assigned.len() + 3);
    let mut columns = Vec::with_capacity(assigned.len() + 3);
    for (field, conversion) in assigned {
        let Conversion::Column(column) = conversion else { continue };
        let own = versions::type_of(column).filter(|_| !upsert_key.is_empty()).map(|kind| Ok(kind.to_string()));
        match own.unwrap_or_else(|| column_type(field, rules.null_is_default(&field.name))) {
            Ok(kind) => {
                lines.push(format!("    {} {kind}", quoted(column)));
                columns.push((column.to_string(), bare(&kind).to_string()));
            }
            Err(what) => {
                let ignore = format!("leave it out: sink.clickhouse.columns.ignore = [\"{}\"]", field.name);
                let cure = match column_type(field, true) {
                    Ok(_) => format!(
                        "write null as empty: sink.clickhouse.columns.null_as_default = [\"{}\"]; or {ignore}",
                        field.name
                    ),
                    Err(_) => ignore,
                };
                findings.push(Finding::error(&table, &field.name, what, cure));
            }
        }
    }
    let beside = versions::beside_key(&config.partition_by, upsert_key, columns.iter().map(|(name, _)| name.as_str()));
    if !upsert_key.is_empty() && !beside.is_empty() {
        let what = format!("partition_by names {}, which is not in the key: old rows would stay", beside.join(", "));
        findings.push(Finding::error(&table, "partition_by", what, "remove it, or partition by columns of the key"));
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    for column in super::table::COORDINATES.into_iter().filter(|_| upsert_key.is_empty()) {
        lines.push(format!("    {}", definition(column)));
        columns.push((column.to_string(), coordinate_type(column).to_string()));
    }
    let partition = match config.partition_by.as_str() {
        "" => String::new(),
        by => format!("\nPARTITION BY {}", key(by)),
    };
    let order = match config.order_by.as_str() {
        "" => "(`_topic`, `_partition`, `_offset`)".into(),
        by => key(by),
    };
    let keys =
        [&config.order_by, &config.partition_by].into_iter().filter(|by| !by.is_empty()).map(|by| key(by)).collect();
    if !upsert_key.is_empty() {
        let engine = versions::engine(upsert_key, &partition);
        let sql = format!("CREATE TABLE IF NOT EXISTS {table}\n(\n{}\n)\n{engine}", lines.join(",\n"));
        return Ok(Definition { sql, columns, keys });
    }
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS {table}\n(\n{}\n)\nENGINE = MergeTree{partition}\nORDER BY {order}\n\
         SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}",
        lines.join(",\n")
    );
    Ok(Definition { sql, columns, keys })
}

/// A key as ClickHouse takes it: several expressions in parentheses.
pub fn key(expression: &str) -> String {
    let mut depth = 0;
    let mut quote = None;
    let mut escaped = false;
    let mut is_list = false;
    for c in expression.chars() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some(_) if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if matches!(c, '\'' | '"' | '`') => quote = Some(c),
            None => {
                depth += i32::from(matches!(c, '(' | '[' | '{')) - i32::from(matches!(c, ')' | ']' | '}'));
                is_list |= c == ',' && depth == 0;
            }
        }
    }
    if is_list { format!("({expression})") } else { expression.into() }
}

/// `null_as_default`: null is no value of the column.
fn column_type(field: &Field, null_as_default: bool) -> Result<String, String> {
    let (shape, optional) = field.shape.unwrap_optional();
    let optional = optional && !null_as_default;
    let inner = type_for(shape, null_as_default)
        .ok_or_else(|| format!("field {} ({}) has no type in ClickHouse", field.name, field.shape))?;
    let can_be_null = !matches!(shape, Shape::Array(_) | Shape::Map(_));
    if optional && !can_be_null {
        return Err(format!("field {} ({}): ClickHouse has no nullable {inner}", field.name, field.shape));
    }
    let inner = if optional { format!("Nullable({inner})") } else { inner };
    Ok(match shape {
        Shape::Enum(_) => format!("LowCardinality({inner})"),
        Shape::String if repeats(&field.name) => format!("LowCardinality({inner})"),
        Shape::TimestampMillis | Shape::TimestampMicros | Shape::TimestampNanos if !optional => {
            format!("{inner} CODEC(Delta, ZSTD)")
        }
        _ => inner,
    })
}

/// By the last word of the name: `country_name`, `status`.
fn repeats(name: &str) -> bool {
    let last = name.rsplit('_').next().unwrap_or(name);
    REPEATING.contains(&last)
}

/// The type that holds all values of the shape exactly.
fn type_for(shape: &Shape, null_as_default: bool) -> Option<String> {
    Some(match shape {
        Shape::Boolean => "Bool".into(),
        Shape::Int | Shape::TimeMillis => "Int32".into(),
        // A wall's clock is no instant: its number.
        Shape::Long
        | Shape::TimeMicros
        | Shape::LocalTimestampMillis
        | Shape::LocalTimestampMicros
        | Shape::LocalTimestampNanos => "Int64".into(),
        Shape::Float => "Float32".into(),
        Shape::Double => "Float64".into(),
        Shape::String | Shape::Bytes | Shape::Enum(_) => "String".into(),
        Shape::Record(_) | Shape::Recursive(_) | Shape::Union(_) => "String".into(),
        Shape::Fixed(size) => format!("FixedString({size})"),
        Shape::Uuid(_) => "UUID".into(),
        Shape::Date => "Date32".into(),
        Shape::TimestampMillis => "DateTime64(3, 'UTC')".into(),
        Shape::TimestampMicros => "DateTime64(6, 'UTC')".into(),
        Shape::TimestampNanos => "DateTime64(9, 'UTC')".into(),
        Shape::Decimal { precision, scale, .. } if *precision <= 76 => format!("Decimal({precision}, {scale})"),
        Shape::Array(items) => format!("Array({})", item_type(items, null_as_default)?),
        Shape::Map(values) => format!("Map(String, {})", item_type(values, null_as_default)?),
        Shape::Decimal { .. } | Shape::Null | Shape::Optional { .. } => return None,
    })
}

fn item_type(shape: &Shape, null_as_default: bool) -> Option<String> {
    let (inner, optional) = shape.unwrap_optional();
    let inner_type = type_for(inner, null_as_default)?;
    let is_nested = matches!(inner, Shape::Array(_) | Shape::Map(_));
    let optional = optional && !(null_as_default && is_nested);
    if optional && is_nested {
        return None;
    }
    Some(if optional { format!("Nullable({inner_type})") } else { inner_type })
}

impl Client {
    /// Tries a table's definition without making it: its syntax, and whether its keys name columns and take no null. Errors
    /// that only making it would show are not found.
    pub async fn try_define(&self, table: &Definition) -> Result<(), Undefined> {
        self.define(&format!("EXPLAIN AST {}", table.sql)).await?;
        let column =
            |(name, kind): &(String, String)| format!("defaultValueOfTypeName({}) AS {}", literal(kind), quoted(name));
        let columns: Vec<String> = table.columns.iter().map(column).collect();
        let columns = columns.join(", ");
        for key in table.keys.iter().filter(|key| *key != "tuple()") {
            self.define(&format!("SELECT {key} FROM (SELECT {columns}) WHERE 0")).await?;
            let about =
                format!("SELECT toString(toTypeName({key}) LIKE '%Nullable(%') AS number FROM (SELECT {columns})");
            if self.numbers(&about).await.map_err(Undefined::Failed)? == [1] {
                let what =
                    format!("{key} may be null, which ClickHouse allows in no key unless allow_nullable_key is set");
                return Err(Undefined::Refused(what));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::another_name;
    use super::*;
    use figment::providers::{Format, Toml};

    fn config(more: &str) -> ClickHouseConfig {
        let text = format!(
            "url = \"http://h:8123\"\ntable = \"button_presses\"\norder_by = \"(timestamp, session_id)\"\n\
             partition_by = \"toYYYYMM(timestamp)\"\n{more}"
        );
        figment::Figment::from(Toml::string(&text)).extract().unwrap()
    }

    #[test]
    fn fields_are_renamed_and_left_out_as_configured() {
        let shape = Shape::parse(include_str!("../../../schemas/button_presses.avsc")).unwrap();
        let columns = "[columns]\nrename = { cohort = \"group\" }\nignore = [\"time_zone\"]\n";
        let sql = create_table(&shape, &config(columns), &[]).unwrap().sql;
        assert!(sql.contains("`group` Nullable(Int32)"), "{sql}");
        assert!(!sql.contains("`cohort`") && !sql.contains("time_zone"), "{sql}");
    }

    #[test]
    fn several_expressions_of_a_key_get_parentheses() {
        for (given, made) in [
            ("a, b", "(a, b)"),
            ("(a, b)", "(a, b)"),
            ("(a, b), c", "((a, b), c)"),
            ("concat(a, b)", "concat(a, b)"),
            ("concat(a, ')')", "concat(a, ')')"),
            ("if(a = '(', 1, 2), `x, y`", "(if(a = '(', 1, 2), `x, y`)"),
            ("'it\\'s, ' || a", "'it\\'s, ' || a"),
            ("tuple()", "tuple()"),
        ] {
            assert_eq!(key(given), made);
        }
    }

    #[test]
    fn a_name_that_is_like_another_is_told() {
        let found = |name: &str| vec![("Shop".to_string(), name.to_string())];
        let told = another_name("shop", "orders", &found("Orders"));
        assert!(told.contains("there is Shop.Orders: names keep their case"), "{told}");
        let told = another_name("default", "Shop.Orders", &found("Orders"));
        assert!(told.contains("database = \"Shop\" and table = \"Orders\""), "{told}");
        let told = another_name("default", "shop.orders", &[]);
        assert!(told.contains("database = \"shop\" and table = \"orders\""), "{told}");
        assert_eq!(another_name("default", "orders", &[]), "");
    }

    #[test]
    fn the_table_of_button_presses() {
        let schema = include_str!("../../../schemas/button_presses.avsc");
        let shape = Shape::parse(schema).unwrap();
        let made = create_table(&shape, &config(""), &[]).unwrap();
        // As the recommended table has them, which may compress more.
        let recommended = include_str!("../../../sql/clickhouse/button_presses.sql");
        for (name, kind) in &made.columns {
            let line = recommended.lines().find_map(|line| line.trim().strip_prefix(&format!("{name} ")));
            assert!(line.unwrap().trim().starts_with(bare(kind)), "{name}: {kind}");
        }
        let sql = made.sql;
        for line in [
            "`session_id` UUID,",
            "`timestamp` DateTime64(6, 'UTC') CODEC(Delta, ZSTD),",
            "`cohort` Nullable(Int32),",
            "`action` LowCardinality(String),",
            "`country_code` LowCardinality(String),",
            "`city_name` LowCardinality(String),",
            "`latitude` Nullable(Float64),",
            "`_offset` Int64 CODEC(Delta, ZSTD)\n",
            "PARTITION BY toYYYYMM(timestamp)\nORDER BY (timestamp, session_id)\n",
        ] {
            assert!(sql.contains(line), "{line} is not in\n{sql}");
        }
    }
}
