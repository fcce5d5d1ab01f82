//! From Debezium's records to changes of rows: what each does, by its envelope, to the row of its key.
//!
//! A record is opened by its schema, so this comes once a batch is read, before its changes are known by their shapes.

use std::collections::BTreeMap;

use super::changes::{Change, Datum};
use super::schemas::{Schema, Schemas};
use super::{LoadError, RecordOrigin, Refusal, RetryClass, RowBatch, Why, WriteContext};
use crate::avro::Shape;
use crate::avro::format::debezium::{Event, Events, Op};
use crate::avro::schema::SchemaText;
use crate::config::changes::Toast;
use crate::config::format::{FormatConfig, Truncate};
use crate::kafka::consumer::SourceError;

/// What one worker knows of the schemas of a topic of Debezium's.
pub struct ChangeEvents {
    values: Events,
    keys: Events,
    truncate: Truncate,
    /// Sets of fields that changes lack, by their numbers from 1: places in the row's type.
    kept: Vec<Vec<usize>>,
    /// Buffers of a record's key and row.
    key: Vec<u8>,
    row: Vec<u8>,
}

/// The types of keys and of rows, by what they were written by.
#[derive(Default)]
pub struct Shapes {
    /// Of keys.
    pub keys: BTreeMap<u32, Shape>,
    /// Of rows.
    pub rows: BTreeMap<u32, Shape>,
}

/// What is done at a truncate.
enum Truncated {
    /// Nothing.
    Nothing,
    /// The table is emptied, before the rows behind it are written and after those before it.
    First,
}

/// A part of a record.
enum RecordPart {
    /// The key's, or the value's, schema and what it does.
    Read(u32, Op),
    /// It is refused.
    Refused(Refusal),
}

impl ChangeEvents {
    /// Nothing met yet. Errors, in words: settings of `[source]` that contradict themselves.
    pub fn new(values: &FormatConfig, keys: &FormatConfig, truncate: Truncate, toast: Toast) -> Result<Self, String> {
        let values = Events::of_values(values)?;
        let values = if toast == Toast::Skip { values.skipping() } else { values };
        let keys = Events::of_keys(keys).map_err(|what| format!("key: {what}"))?;
        Ok(Self { values, keys, truncate, kept: Vec::new(), key: Vec::new(), row: Vec::new() })
    }

    /// Makes changes of the batch's records. The types of rows and keys that it meets are added to `shapes`. Errors: the registry does not
    /// answer; a table without a key; a truncate, where that stops the sink.
    pub fn open(
        &mut self,
        batch: &mut RowBatch,
        (keys, values): (&mut Schemas, &mut Schemas),
        shapes: &mut Shapes,
        context: &mut WriteContext<'_>,
    ) -> Result<(), LoadError> {
        let (raw, opened) = batch.take_raw();
        // Of each partition, the key that its last record deleted.
        let mut deleted: BTreeMap<i32, &[u8]> = BTreeMap::new();
        let mut end = raw.len();
        for (at, (origin, key, value)) in raw.iter().enumerate().skip(opened) {
            context.heartbeat();
            let before = deleted.remove(&origin.partition);
            let Some(value) = value else {
                match key {
                    // It lets compaction forget the key, and says what the record before it has said.
                    Some(key) if before == Some(key) => batch.filter(),
                    key => self.delete(batch, origin, key, keys, shapes)?,
                }
                continue;
            };
            let (schema, op) = match read(&mut self.values, values, origin, value, &mut self.row)? {
                RecordPart::Read(schema, op) => (schema, op),
                RecordPart::Refused(refusal) => {
                    batch.refuse(origin, refusal);
                    continue;
                }
            };
            // A table that a delete makes has the columns of a row.
            if let Some(shape) = self.values.row_shape(schema).filter(|_| !shapes.rows.contains_key(&schema)) {
                shapes.rows.insert(schema, shape.clone());
            }
            match op {
                Op::Nothing => batch.filter(),
                Op::Truncate => match self.truncated(context, origin)? {
                    Truncated::Nothing => batch.filter(),
                    Truncated::First if at == opened => batch.empty_at(origin.offset),
                    // What came before is written before it.
                    Truncated::First => {
                        batch.end_before(origin.partition, origin.offset);
                        end = at;
                        break;
                    }
                },
                Op::Delete => {
                    let key = has_key(key)?;
                    self.delete(batch, origin, Some(key), keys, shapes)?;
                    deleted.insert(origin.partition, key);
                }
                Op::Write => {
                    let kept = self.kept_now();
                    let row = Datum { schema_id: Some(schema), bytes: &self.row };
                    match find_key(&mut self.keys, keys, origin, has_key(key)?, &mut self.key, shapes)? {
                        Err(refusal) => batch.refuse(origin, refusal),
                        Ok(key) if kept == 0 => batch.push_change(origin, &Change::Upsert { key: Some(key), row }),
                        Ok(key) => batch.push_change(origin, &Change::Update { key, row, kept }),
                    }
                }
            }
        }
        batch.give_back(raw, end);
        Ok(())
    }

    /// Places in the row's type of the fields that changes with this number keep.
    pub fn kept(&self, number: u32) -> &[usize] {
        number.checked_sub(1).and_then(|place| self.kept.get(place as usize)).map_or(&[], Vec::as_slice)
    }

    /// The number of the fields that the change read last keeps; 0: it lacks none.
    fn kept_now(&mut self) -> u32 {
        let lacking = self.values.lacking();
        if lacking.is_empty() {
            return 0;
        }
        let place = self.kept.iter().position(|known| known == lacking).unwrap_or_else(|| {
            self.kept.push(lacking.to_vec());
            self.kept.len() - 1
        });
        u32::try_from(place + 1).unwrap_or(u32::MAX)
    }

    fn delete(
        &mut self,
        batch: &mut RowBatch,
        origin: RecordOrigin,
        key: Option<&[u8]>,
        schemas: &mut Schemas,
        shapes: &mut Shapes,
    ) -> Result<(), LoadError> {
        let Some(key) = key else {
            batch.refuse(origin, Refusal::row(Why::NoKey));
            return Ok(());
        };
        match find_key(&mut self.keys, schemas, origin, key, &mut self.key, shapes)? {
            Err(refusal) => batch.refuse(origin, refusal),
            Ok(key) => batch.push_change(origin, &Change::Delete { key }),
        }
        Ok(())
    }

    fn truncated(&self, context: &WriteContext<'_>, at: RecordOrigin) -> Result<Truncated, LoadError> {
        let truncated = truncated_at(at);
        match self.truncate {
            Truncate::Ignore => Ok(Truncated::Nothing),
            Truncate::Apply if partitions(context)? == 1 => Ok(Truncated::First),
            Truncate::Apply => Err(LoadError::refused(format!(
                "{truncated}, and its topic has several partitions: nothing says which of their records came before. Empty the table \
                 by hand and set source.truncate = \"ignore\", or load a topic with one partition"
            ))),
            Truncate::Stop => Err(LoadError::refused(format!(
                "{truncated}, and the sink stops before that: set source.truncate = \"apply\" to remove the rows, or \"ignore\" to \
                 go on with all rows kept"
            ))),
        }
    }
}

fn truncated_at(at: RecordOrigin) -> String {
    format!("the table was truncated at its source (partition {} offset {})", at.partition, at.offset)
}

/// Of a log of changes, why it stops where a table was truncated.
pub fn no_row_of_a_truncate(at: RecordOrigin) -> String {
    format!(
        "{}, and not each of its columns takes null there, so that the truncate is no row of the log, which stops before it: set \
         source.truncate = \"apply\" to write it with nulls, which the columns must take then, or \"ignore\" to leave it out",
        truncated_at(at)
    )
}

fn partitions(context: &WriteContext<'_>) -> Result<usize, LoadError> {
    let again = |error: SourceError| LoadError::again(RetryClass::Transient, error.to_string());
    context.source.partitions().map_err(again)
}

/// Reads a key or a value, asking the registry for a schema that is not known yet.
fn read(
    events: &mut Events,
    schemas: &mut Schemas,
    origin: RecordOrigin,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<RecordPart, LoadError> {
    out.clear();
    loop {
        match events.read(payload, out) {
            Ok(Event::Change { schema, op }) => return Ok(RecordPart::Read(schema, op)),
            Err(reject) => return Ok(RecordPart::Refused(reject.into())),
            Ok(Event::Unknown(id)) => {
                if let Err(refusal) = learn(schemas, id, origin, |schema| events.learn(id, schema))? {
                    return Ok(RecordPart::Refused(refusal));
                }
            }
        }
    }
}

/// Asks the registry for the schema of this id, which the record at `origin` carries, and has it learnt. A refusal: it is of no use.
/// Errors: the registry does not answer.
pub(super) fn learn(
    schemas: &mut Schemas,
    id: u32,
    origin: RecordOrigin,
    learn: impl FnOnce(&SchemaText) -> Result<Shape, String>,
) -> Result<Result<(), Refusal>, LoadError> {
    schemas.meet(&[id]);
    Ok(match schemas.read(id, Some(origin), learn)? {
        Schema::New(_) | Schema::Known => Ok(()),
        Schema::Unusable(why) => Err(Refusal::row(why)),
        // The configuration names no types of changes.
        Schema::LeftOut => Err(Refusal::row(Why::UnknownSchema)),
    })
}

fn find_key<'k>(
    events: &mut Events,
    schemas: &mut Schemas,
    origin: RecordOrigin,
    key: &[u8],
    out: &'k mut Vec<u8>,
    shapes: &mut Shapes,
) -> Result<Result<Datum<'k>, Refusal>, LoadError> {
    let schema = match read(events, schemas, origin, key, out)? {
        RecordPart::Refused(refusal) => return Ok(Err(refusal)),
        RecordPart::Read(schema, _) => schema,
    };
    if let Some(shape) = events.row_shape(schema).filter(|_| !shapes.keys.contains_key(&schema)) {
        shapes.keys.insert(schema, shape.clone());
    }
    Ok(Ok(Datum { schema_id: Some(schema), bytes: out }))
}

/// Errors: the table has none, so that nothing can keep a row of it equal.
fn has_key(key: Option<&[u8]>) -> Result<&[u8], LoadError> {
    key.ok_or_else(|| {
        LoadError::refused(
            "the records have no key, because the table at the source has no primary key: add one there, or name columns that are \
             unique in Debezium's message.key.columns; or set mode = \"insert\", which writes a log: each change a row of its own, with \
             what was done in the column _op",
        )
    })
}
