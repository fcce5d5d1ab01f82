//! The table's side: how many rows each offset has, or each hour.

use super::OffsetsError;
use super::compare::Run;
use crate::command::offsets::PipelinePart;
use crate::config::sink::{ColumnsConfig, LoadConfig};
use crate::kafka::offset_note::Partition;
use crate::sink::clickhouse::Client;
use crate::sink::postgres::{ColumnType, Connection, TableName};
use crate::sink::{clickhouse, postgres};

/// A field with a time that the table has, too.
pub struct TimeField {
    /// The field.
    pub name: String,
    /// What an hour counts in its unit.
    pub per_hour: i64,
    /// The hour of its column, as SQL.
    pub hour: String,
}

/// Longest question: a table without an index on its offsets is read as a whole for each.
const PATIENCE_MS: u64 = 600_000;

/// A table that was loaded.
pub enum Table {
    /// PostgreSQL's.
    Postgres(Box<Connection>, postgres::Table),
    /// ClickHouse's.
    ClickHouse(Box<Client>, clickhouse::Table),
}

/// Three numbers of a row.
type Numbers = [Option<i64>; 3];

#[derive(serde::Deserialize)]
struct RawNumbers {
    pressline_0: Option<String>,
    pressline_1: Option<String>,
    pressline_2: Option<String>,
}

impl Table {
    /// Connects, and describes the table. Errors: the database's; there is no such table.
    pub async fn open(load: &LoadConfig, part: PipelinePart) -> Result<Self, OffsetsError> {
        let none = |place: &str, name: &str| OffsetsError::Refused(format!("{place}: there is no table {name}"));
        if let (PipelinePart::Postgres, Some(sink)) = (part, &load.sink.postgres) {
            let mut sink = sink.clone();
            sink.statement_timeout_ms = sink.statement_timeout_ms.max(PATIENCE_MS);
            let name = TableName::parse(&sink.table)
                .map_err(|what| OffsetsError::Refused(format!("sink.postgres.table: {what}")))?;
            let connection = Connection::open(&sink, &load.name).await?;
            let table = postgres::Table::read(&connection, &name).await?;
            let table = table.ok_or_else(|| none(&postgres::place(&sink), &sink.table))?;
            return Ok(Self::Postgres(Box::new(connection), table));
        }
        let Some(sink) = load.sink.clickhouse.as_ref().filter(|_| part == PipelinePart::Clickhouse) else {
            return Err(OffsetsError::Refused(format!("pipeline {} has no sink {}", load.name, part.name())));
        };
        let mut sink = sink.clone();
        sink.timeout_ms = sink.timeout_ms.max(PATIENCE_MS);
        let client = Client::open(&sink).await?;
        let table = clickhouse::Table::describe(&client, &sink.database, &sink.table).await?;
        let table = table.ok_or_else(|| none(client.address(), &format!("{}.{}", sink.database, sink.table)))?;
        Ok(Self::ClickHouse(Box::new(client), table))
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        match self {
            Self::Postgres(connection, table) => format!("{}, table {}", connection.place(), table.title()),
            Self::ClickHouse(_, table) => table.place(),
        }
    }

    /// Whether each row says which record it is: by the columns `_topic`, `_partition` and `_offset`, which PostgreSQL's rows
    /// must all have filled.
    pub async fn has_offsets(&self) -> Result<bool, OffsetsError> {
        match self {
            Self::ClickHouse(_, table) => Ok(table.has_coordinates()),
            Self::Postgres(_, table) => {
                let is = |name: &str, kinds: &[ColumnType]| table.column(name).is_some_and(|c| kinds.contains(&c.kind));
                let numbers = [ColumnType::Int4, ColumnType::Int8];
                if !is("_topic", &[ColumnType::Text]) || !is("_partition", &numbers) || !is("_offset", &numbers[1..]) {
                    return Ok(false);
                }
                let empty = "WHERE _offset IS NULL OR _partition IS NULL OR _topic IS NULL LIMIT 1";
                Ok(self.select(["1", "1", "1"], &format!("FROM {} {empty}", self.quoted())).await?.is_empty())
            }
        }
    }

    /// Offsets of a partition that have rows, in ascending runs.
    pub async fn runs(
        &self,
        topic: &str,
        partition: Partition,
        start: i64,
        end: i64,
    ) -> Result<Vec<Run>, OffsetsError> {
        let topic = match self {
            Self::Postgres(..) => postgres::quote_text(topic),
            Self::ClickHouse(..) => clickhouse::literal(topic).to_string(),
        };
        let counted = format!(
            "SELECT _offset AS pl_offset, count(*) AS pl_rows FROM {} WHERE _topic = {topic} AND _partition = {partition} AND \
             _offset >= {start} AND _offset < {end} GROUP BY _offset",
            self.quoted()
        );
        // Within a run of equal counts, offset and rank grow alike.
        let ranked = format!(
            "SELECT pl_offset, pl_rows, pl_offset - row_number() OVER (PARTITION BY pl_rows ORDER BY pl_offset) AS pl_run \
             FROM ({counted}) AS counted"
        );
        let rest = format!("FROM ({ranked}) AS ranked GROUP BY pl_rows, pl_run ORDER BY min(pl_offset)");
        let rows = self.select(["min(pl_offset)", "max(pl_offset)", "pl_rows"], &rest).await?;
        Ok(rows
            .into_iter()
            .filter_map(|[first, last, rows]| {
                Some(Run { start: first?, end: last? + 1, rows: u64::try_from(rows?).ok()? })
            })
            .collect())
    }

    /// Hours since 1970 with their rows; without a field all rows are of no hour.
    pub async fn hours(&self, field: Option<&TimeField>) -> Result<Vec<(Option<i64>, u64)>, OffsetsError> {
        let Some(field) = field else {
            let rows = self.select(["count(*)", "0", "0"], &format!("FROM {}", self.quoted())).await?;
            return Ok(rows.into_iter().map(|[rows, ..]| (None, rows.unwrap_or(0).unsigned_abs())).collect());
        };
        let rest = format!("FROM {} GROUP BY {}", self.quoted(), field.hour);
        let rows = self.select([&field.hour, "count(*)", "0"], &rest).await?;
        Ok(rows.into_iter().map(|[hour, rows, _]| (hour, rows.unwrap_or(0).unsigned_abs())).collect())
    }

    /// The hour of a column, as SQL, where the column holds times; `per_hour` is what an hour counts in the field's unit.
    pub fn hour_of(&self, column: &str, per_hour: i64) -> Option<String> {
        match self {
            Self::Postgres(_, table) => {
                let quoted = postgres::quote_name(column);
                match table.column(column)?.kind {
                    ColumnType::TimestampTz(_) | ColumnType::Timestamp(_) => {
                        Some(format!("floor(extract(epoch FROM {quoted}) / 3600)::bigint"))
                    }
                    ColumnType::Int8 => Some(format!("floor({quoted}::numeric / {per_hour})::bigint")),
                    _ => None,
                }
            }
            Self::ClickHouse(_, table) => {
                let quoted = clickhouse::quoted(column);
                let kind = match &table.column(column)?.parsed {
                    clickhouse::Type::Nullable(of) => of.as_ref(),
                    plain => plain,
                };
                match kind {
                    clickhouse::Type::DateTime => Some(format!("intDiv(toInt64(toUnixTimestamp({quoted})), 3600)")),
                    clickhouse::Type::DateTime64(_) => {
                        Some(format!("toInt64(floor(toUnixTimestamp64Milli({quoted}) / 3600000))"))
                    }
                    clickhouse::Type::Integer { bits: 64, signed: true } => Some(format!(
                        "if({quoted} >= 0, intDiv({quoted}, {per_hour}), intDiv({quoted} - {per_hour} + 1, {per_hour}))"
                    )),
                    _ => None,
                }
            }
        }
    }

    /// The column of a field, unless it is dropped.
    pub fn column_of<'a>(columns: &'a ColumnsConfig, field: &'a str) -> Option<&'a str> {
        if columns.ignore.iter().any(|name| name == field) {
            return None;
        }
        Some(columns.rename.get(field).map_or(field, String::as_str))
    }

    fn quoted(&self) -> String {
        match self {
            Self::Postgres(_, table) => table.name.to_string(),
            Self::ClickHouse(_, table) => table.quoted(),
        }
    }

    async fn select(&self, numbers: [&str; 3], rest: &str) -> Result<Vec<Numbers>, OffsetsError> {
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        match self {
            Self::Postgres(connection, _) => {
                let rows = connection.rows(&format!("SELECT {} {rest}", numbers.join(", "))).await?;
                Ok(rows.iter().map(|row| [0, 1, 2].map(|index| number(row.get(index)))).collect())
            }
            Self::ClickHouse(client, _) => {
                let [a, b, c] = numbers;
                let sql = format!(
                    "SELECT toString({a}) AS pressline_0, toString({b}) AS pressline_1, toString({c}) AS pressline_2 {rest} \
                     SETTINGS select_sequential_consistency = 1"
                );
                let rows: Vec<RawNumbers> = client.rows(&sql).await?;
                let texts = |row: &RawNumbers| {
                    [&row.pressline_0, &row.pressline_1, &row.pressline_2].map(|text| number(text.as_deref()))
                };
                Ok(rows.iter().map(texts).collect())
            }
        }
    }
}
