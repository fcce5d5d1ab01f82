//! Where rows do not say which record they are: records and rows are counted by the hour of a time that both have, or all
//! together.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use jiff::Timestamp;
use rdkafka::message::Message;

use super::left_out::LeftOut;
use super::table::{Table, TimeField};
use super::{Outcome, Progress, Task, verdict};
use crate::avro::format::registered_shape;
use crate::avro::registry::{Registry, SchemaId};
use crate::avro::{Cursor, DatumError, Shape};
use crate::command::offsets::{OffsetsError, PipelinePart, say};
use crate::config::format::{Format, FormatConfig};
use crate::config::sink::LoadConfig;
use crate::kafka::records::Records;
use crate::runtime::terminal::counted;

/// Records and rows of an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    records: u64,
    rows: u64,
}

/// Asks for schemas, each once.
struct Shapes<'a> {
    format: FormatConfig,
    registry: Registry,
    runtime: &'a tokio::runtime::Runtime,
    known: BTreeMap<u32, Shape>,
}

impl Shapes<'_> {
    /// The shape of an id; [`Shape::Null`] where the registry has none that can be read: such records are dead letters.
    fn get(&mut self, id: u32) -> Result<&Shape, OffsetsError> {
        if !self.known.contains_key(&id) {
            let shape = match self.runtime.block_on(self.registry.schema_by_id(SchemaId(id))) {
                Ok(schema) => registered_shape(&self.format, &schema).unwrap_or(Shape::Null),
                Err(error) if error.is_absent() => Shape::Null,
                Err(error) => return Err(OffsetsError::Refused(error.to_string())),
            };
            self.known.insert(id, shape);
        }
        Ok(self.known.entry(id).or_insert(Shape::Null))
    }
}

/// Compares; gives whether all is equal. The sink must rest: its position and its table are read at different times.
pub fn compare(task: &Task<'_>, table: &Table) -> Result<Outcome, OffsetsError> {
    must_rest(task, table)?;
    let registry = Registry::new(&task.load.registry).map_err(|error| OffsetsError::Refused(error.to_string()))?;
    let mut shapes = Shapes { format: task.load.format(), registry, runtime: task.runtime, known: BTreeMap::new() };
    let field = time_field(task, table)?;
    let rows = task.runtime.block_on(table.hours(field.as_ref()))?;
    let mut counts: BTreeMap<Option<i64>, Counts> = BTreeMap::new();
    for (hour, rows) in rows {
        counts.entry(hour).or_default().rows += rows;
    }
    let by = field.as_ref().map_or("total counts".to_string(), |field| format!("hourly counts by `{}`", field.name));
    say(format!("{} has no columns for partition and offset: comparing {by}", table.place()));
    let mut left_out = LeftOut::of(task)?;
    let (since, dead) = count_records(task, field.as_ref(), (&mut shapes, &mut left_out), &mut counts)?;
    left_out.tell();
    if let Some(hour) = since {
        say(format!("before {} nothing is compared: retention took records of that time", shown(Some(hour))));
        counts.retain(|of, _| of.is_none_or(|of| of >= hour));
    }
    Ok(report(&counts, dead))
}

fn must_rest(task: &Task<'_>, table: &Table) -> Result<(), OffsetsError> {
    let group = &task.positions.group;
    if group.members()?.is_empty() {
        return Ok(());
    }
    Err(OffsetsError::Refused(format!(
        "{} cannot be compared while its sink runs: it has no column _offset, and its rows and the sink's position would be counted \
         at different times. Stop the sink (group {}) and compare again; a process that was killed counts as running for 30 s",
        table.place(),
        group.name
    )))
}

/// Counts the records that should have rows; gives the hour from which on the topic is whole, and the dead letters.
fn count_records(
    task: &Task<'_>,
    field: Option<&TimeField>,
    (shapes, left_out): (&mut Shapes<'_>, &mut LeftOut<'_>),
    counts: &mut BTreeMap<Option<i64>, Counts>,
) -> Result<(Option<i64>, u64), OffsetsError> {
    let (mut since, mut dead) = (None, 0);
    let mut progress = Progress::new(task.spans);
    let mut records = Records::open(&task.load.kafka, task.load.topic(), &task.positions.group.name)?;
    for (&partition, &(from, to)) in task.spans {
        if from > 0 && field.is_none() {
            return Err(OffsetsError::Refused(format!(
                "partition {partition}: offsets before {from} are gone from the topic, and the table has no column of a time by \
                 which the others could be told from them"
            )));
        }
        let letters = task.letters.get(&partition).map_or(&[][..], Vec::as_slice);
        let mut is_first = from > 0;
        records.seek(partition, from)?;
        while from < to
            && let Some(record) = records.next()?
            && record.offset() < to
        {
            progress.at(partition, record.offset());
            let hour = match (field, record.payload()) {
                (Some(field), Some(value)) => hour(value, field, shapes)?,
                _ => None,
            };
            if let (true, Some(hour)) = (std::mem::take(&mut is_first), hour) {
                since = since.max(Some(hour + 1));
            }
            if left_out.has(record.payload())? {
                left_out.count += 1;
            } else if letters.binary_search(&record.offset()).is_ok() {
                dead += 1;
            } else {
                counts.entry(hour).or_default().records += 1;
            }
            if record.offset() + 1 == to {
                break;
            }
        }
    }
    progress.end();
    Ok((since, dead))
}

/// The first field with a time whose column can be read as one.
fn time_field(task: &Task<'_>, table: &Table) -> Result<Option<TimeField>, OffsetsError> {
    let LoadConfig { registry, sink, .. } = task.load;
    let format = task.load.format();
    // The times within other formats are not looked at: all records are counted together.
    if format.format != Format::Avro || format.log.is_some() {
        return Ok(None);
    }
    let columns = match task.positions.advice.part {
        PipelinePart::Clickhouse => sink.clickhouse.as_ref().map(|sink| &sink.columns),
        PipelinePart::Postgres | PipelinePart::Relay => sink.postgres.as_ref().map(|sink| &sink.columns),
    };
    let refused = |error: crate::avro::registry::RegistryError| OffsetsError::Refused(error.to_string());
    let registry = Registry::new(registry).map_err(refused)?;
    let latest = task.runtime.block_on(registry.latest(&task.load.subject())).map_err(refused)?;
    let (Some(columns), Some(version)) = (columns, latest) else { return Ok(None) };
    let Ok(Shape::Record(fields)) = registered_shape(&format, &version.schema) else { return Ok(None) };
    Ok(fields.iter().find_map(|field| {
        let per_hour = per_hour(&field.shape)?;
        let hour = table.hour_of(Table::column_of(columns, &field.name)?, per_hour)?;
        Some(TimeField { name: field.name.clone(), per_hour, hour })
    }))
}

fn per_hour(shape: &Shape) -> Option<i64> {
    match shape {
        Shape::Optional { some, .. } => per_hour(some),
        Shape::TimestampMillis => Some(3_600_000),
        Shape::TimestampMicros => Some(3_600_000_000),
        Shape::TimestampNanos => Some(3_600_000_000_000),
        _ => None,
    }
}

/// The hour of a value in Confluent's wire format; none where it cannot be read.
fn hour(value: &[u8], field: &TimeField, shapes: &mut Shapes<'_>) -> Result<Option<i64>, OffsetsError> {
    let Some((&[0, a, b, c, d], datum)) = value.split_first_chunk::<5>() else { return Ok(None) };
    let shape = shapes.get(u32::from_be_bytes([a, b, c, d]))?;
    Ok(time_of(datum, shape, &field.name).ok().flatten().map(|time| time.div_euclid(field.per_hour)))
}

fn time_of(datum: &[u8], shape: &Shape, name: &str) -> Result<Option<i64>, DatumError> {
    let Shape::Record(fields) = shape else { return Ok(None) };
    let mut cursor = Cursor::new(datum);
    for field in fields {
        if field.name == name {
            return match &field.shape {
                Shape::Optional { null_first, .. } if !cursor.is_some(*null_first)? => Ok(None),
                shape if per_hour(shape).is_some() => cursor.long().map(Some),
                _ => Ok(None),
            };
        }
        cursor.skip(&field.shape)?;
    }
    Ok(None)
}

fn shown(hour: Option<i64>) -> String {
    let time = hour.and_then(|hour| Timestamp::from_second(hour.checked_mul(3_600)?).ok());
    time.map_or("no hour".into(), |time| time.to_string())
}

fn report(counts: &BTreeMap<Option<i64>, Counts>, dead: u64) -> Outcome {
    let (mut records, mut rows, mut different) = (0, 0, 0);
    let mut outcome = Outcome::default();
    for (hour, counts) in counts {
        records += counts.records;
        rows += counts.rows;
        let (more, what) = match counts.records.cmp(&counts.rows) {
            Ordering::Equal => continue,
            Ordering::Greater => (counts.records - counts.rows, "missing"),
            Ordering::Less => (counts.rows - counts.records, "too many"),
        };
        outcome.missing += counts.records.saturating_sub(counts.rows);
        outcome.surplus += counts.rows.saturating_sub(counts.records);
        different += 1;
        let (records, rows) = (counted(counts.records, "record"), counted(counts.rows, "row"));
        say(format!("{}: {records}, {rows}: {more} {what}", shown(*hour)));
    }
    say(format!(
        "{} without dead letters, {}, {}; {different} of {} hours differ",
        counted(records, "record"),
        counted(rows, "row"),
        counted(dead, "dead letter"),
        counts.len()
    ));
    verdict(outcome)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_of_a_time_before_1970_is_the_one_that_has_begun() {
        assert_eq!((-1_i64).div_euclid(3_600_000_000), -1);
        assert_eq!(shown(Some(0)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn the_time_is_found_behind_other_fields() {
        let schema = r#"{"type": "record", "name": "r", "fields": [{"name": "a", "type": "string"},
            {"name": "t", "type": ["null", {"type": "long", "logicalType": "timestamp-micros"}]}]}"#;
        let shape = Shape::parse(schema).unwrap();
        assert_eq!(time_of(b"\x02x\x02\x04", &shape, "t"), Ok(Some(2)));
        assert_eq!(time_of(b"\x02x\x00", &shape, "t"), Ok(None));
        assert!(time_of(b"\x02x", &shape, "t").is_err());
    }
}
