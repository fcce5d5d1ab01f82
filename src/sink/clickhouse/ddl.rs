//! Statements that make or fix the target table, exactly as they are run or printed.

use super::table::Table;
use super::types::quoted;
use crate::avro::{Field, Shape};
use crate::config::finding::Finding;
use crate::config::sink::ClickHouseConfig;
use crate::sink::{Columns, Conversion};

/// Inserts whose tokens the server remembers: far more than can be in doubt at once.
const DEDUPLICATION_WINDOW: u32 = 1000;

/// Names of text fields whose values repeat: a dictionary makes them smaller and faster. Other texts stay plain, for a
/// dictionary of mostly different values costs more than it saves.
const REPEATING: [&str; 12] =
    ["action", "category", "code", "country", "currency", "event", "kind", "name", "region", "state", "status", "type"];

/// The type of one of the columns that name the record.
pub fn type_of(column: &str) -> &'static str {
    match column {
        "_topic" => "LowCardinality(String)",
        "_partition" => "Int32",
        _ => "Int64",
    }
}

fn definition(column: &str) -> String {
    // Offsets grow by one: differences of them are next to nothing.
    let codec = if column == "_offset" { " CODEC(Delta, ZSTD)" } else { "" };
    format!("{} {}{codec}", quoted(column), type_of(column))
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
pub fn add_column(table: &Table, field: &Field, column: &str) -> String {
    match column_type(field) {
        Ok(kind) => format!("ALTER TABLE {} ADD COLUMN {} {kind}", table.quoted(), quoted(column)),
        Err(_) => "add the column".into(),
    }
}

/// `CREATE TABLE` for a record's fields, renamed and left out as the configuration says, with the columns that name the record
/// and a deduplication window; ordered by the record and not partitioned unless `order_by` and `partition_by` say otherwise.
/// Errors: the schema is no record, two fields for one column, a field has no type in ClickHouse.
pub fn create_table(shape: &Shape, config: &ClickHouseConfig) -> Result<String, Vec<Finding>> {
    let table = format!("{}.{}", quoted(&config.database), quoted(&config.table));
    let (assigned, mut findings) = Columns::new(&config.columns, "sink.clickhouse").assign(shape, &table, |_, _| None);
    let mut columns = Vec::with_capacity(assigned.len() + 3);
    for (field, conversion) in assigned {
        let Conversion::Column(column) = conversion else { continue };
        match column_type(field) {
            Ok(kind) => columns.push(format!("    {} {kind}", quoted(column))),
            Err(what) => {
                let cure = format!("leave it out: sink.clickhouse.columns.ignore = [\"{}\"]", field.name);
                findings.push(Finding::error(&table, &field.name, what, cure));
            }
        }
    }
    if !findings.is_empty() {
        return Err(findings);
    }
    for column in super::table::COORDINATES {
        columns.push(format!("    {}", definition(column)));
    }
    let partition = match config.partition_by.as_str() {
        "" => String::new(),
        by => format!("\nPARTITION BY {by}"),
    };
    let order = match config.order_by.as_str() {
        "" => "(`_topic`, `_partition`, `_offset`)",
        by => by,
    };
    Ok(format!(
        "CREATE TABLE IF NOT EXISTS {table}\n(\n{}\n)\nENGINE = MergeTree{partition}\nORDER BY {order}\n\
         SETTINGS non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}",
        columns.join(",\n")
    ))
}

fn column_type(field: &Field) -> Result<String, String> {
    let (shape, optional) = field.shape.unwrap_optional();
    let inner =
        type_for(shape).ok_or_else(|| format!("field {} ({}) has no type in ClickHouse", field.name, field.shape))?;
    let can_be_null = !matches!(shape, Shape::Array(_) | Shape::Map(_));
    if optional && !can_be_null {
        return Err(format!("field {} ({}): ClickHouse has no nullable {inner}", field.name, field.shape));
    }
    let inner = if optional { format!("Nullable({inner})") } else { inner };
    Ok(match shape {
        Shape::Enum(_) => format!("LowCardinality({inner})"),
        Shape::String if repeats(&field.name) => format!("LowCardinality({inner})"),
        Shape::TimestampMillis | Shape::TimestampMicros | Shape::TimestampNanos if !optional => {
            format!("{inner} CODEC(DoubleDelta, ZSTD)")
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
fn type_for(shape: &Shape) -> Option<String> {
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
        Shape::Array(items) => format!("Array({})", item_type(items)?),
        Shape::Map(values) => format!("Map(String, {})", item_type(values)?),
        Shape::Decimal { .. } | Shape::Null | Shape::Optional { .. } => return None,
    })
}

fn item_type(shape: &Shape) -> Option<String> {
    let (inner, optional) = shape.unwrap_optional();
    let inner_type = type_for(inner)?;
    if optional && matches!(inner, Shape::Array(_) | Shape::Map(_)) {
        return None;
    }
    Some(if optional { format!("Nullable({inner_type})") } else { inner_type })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
        let sql = create_table(&shape, &config(columns)).unwrap();
        assert!(sql.contains("`group` Nullable(Int32)"), "{sql}");
        assert!(!sql.contains("`cohort`") && !sql.contains("time_zone"), "{sql}");
    }

    #[test]
    fn the_table_of_button_presses() {
        let schema = include_str!("../../../schemas/button_presses.avsc");
        let shape = Shape::parse(schema).unwrap();
        let sql = create_table(&shape, &config("")).unwrap();
        for line in [
            "`session_id` UUID,",
            "`timestamp` DateTime64(6, 'UTC') CODEC(DoubleDelta, ZSTD),",
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
