//! The envelope of a change: the row before and after it, what was done, and where in the source's log that stands.

use serde_json::Value as Json;

use super::super::cast::Casts;
use super::super::reject::{Reason, Reject};
use super::super::types::{Record, Type, TypeKind};
use super::log::Log;
use super::op::{Op, odd};
use super::row::Row;
use super::schema::Schemas;
use crate::avro::{Cursor, DatumError, Shape};
use crate::config::format::Truncate;

/// How datums of one schema are opened.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum EnvelopePlan {
    /// A change of a row.
    Change(Envelope),
    /// Always [`Op::Nothing`].
    Notice,
    /// The record itself is the row: a key.
    Row(Row),
}

/// The fields of an envelope, and the row in it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Envelope {
    fields: Vec<(EnvelopeField, Shape)>,
    row: Row,
    /// Changes are rows of their own.
    log: Option<Log>,
}

/// What is read of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EnvelopeField {
    /// Only of a log.
    Before,
    After,
    Op,
    Other,
}

/// What stands in an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Opened<'d> {
    before: Option<&'d [u8]>,
    after: Option<&'d [u8]>,
    op: &'d str,
}

impl EnvelopePlan {
    /// Of a change's schema; `log`: changes are rows of their own, and this becomes of a truncate. Errors, in words: it is no
    /// envelope.
    pub fn of_change(
        shape: &Shape,
        schema: Option<&Json>,
        casts: &Casts,
        log: Option<Truncate>,
    ) -> Result<Self, String> {
        let Shape::Record(fields) = shape else { return Err(format!("it is {shape}, not Debezium's envelope")) };
        let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
        if !is_change(&names)? {
            return Ok(Self::Notice);
        }
        let nothing = Json::Null;
        let schemas = Schemas::within(schema.unwrap_or(&nothing));
        let (mut parts, mut before, mut after) = (Vec::new(), None, None);
        for field in fields {
            let part = match field.name.as_str() {
                "before" if log.is_some() => EnvelopeField::Before,
                "after" => EnvelopeField::After,
                "op" => EnvelopeField::Op,
                _ => EnvelopeField::Other,
            };
            if matches!(part, EnvelopeField::Before | EnvelopeField::After) {
                let schema = schema.and_then(|schema| schemas.field(schema, &field.name));
                let schema = schema.and_then(|schema| schemas.not_null(schema).or(Some(schema)));
                let row = Row::of(field.shape.unwrap_optional().0, schema, &schemas, casts)?;
                *(if part == EnvelopeField::After { &mut after } else { &mut before }) = Some(row);
            }
            parts.push((part, field.shape.clone()));
        }
        let mut row = after.ok_or("Debezium's envelope without the field after")?;
        if before.is_some_and(|before| before != row) {
            return Err("Debezium's envelope with rows of two types, before and after".into());
        }
        let log = log.map(|truncate| Log::of(&mut row, truncate)).transpose()?;
        Ok(Self::Change(Envelope { fields: parts, row, log }))
    }

    /// Of a key's schema. Errors, in words: it is no record.
    pub fn of_key(shape: &Shape, schema: Option<&Json>, casts: &Casts) -> Result<Self, String> {
        let nothing = Json::Null;
        let schemas = Schemas::within(schema.unwrap_or(&nothing));
        Row::of(shape, schema, &schemas, casts).map(Self::Row)
    }

    /// The type of what is written.
    pub fn shape(&self) -> Option<&Shape> {
        match self {
            Self::Change(Envelope { log: Some(log), .. }) => Some(log.shape()),
            Self::Change(Envelope { row, .. }) | Self::Row(row) => Some(row.shape()),
            Self::Notice => None,
        }
    }

    /// What the datum does; a row that it has is appended to `out`, without the values that it lacks where their places can be appended
    /// to `lacking`. Errors: why it cannot be read or written.
    pub fn open(&self, datum: &[u8], lacking: Option<&mut Vec<usize>>, out: &mut Vec<u8>) -> Result<Op, Reject> {
        let envelope = match self {
            Self::Notice => return Ok(Op::Nothing),
            Self::Row(row) => return row.write(datum, false, out).map(|()| Op::Write),
            Self::Change(envelope) => envelope,
        };
        let opened = envelope
            .parts(datum)
            .map_err(|error| Reject { detail: error.to_string().into(), ..Reject::record(Reason::WrongType) })?;
        if let Some(log) = &envelope.log {
            return log.write(&envelope.row, opened.op, (opened.before, opened.after), out);
        }
        match (opened.op, opened.after) {
            // A snapshot reads whole rows; the update of a key is a delete and a create of what the log holds.
            ("c" | "u" | "r", Some(row)) => {
                match lacking.filter(|_| opened.op != "r") {
                    Some(lacking) => envelope.row.write_known(row, lacking, out)?,
                    None => envelope.row.write(row, opened.op != "r", out)?,
                }
                Ok(Op::Write)
            }
            ("d", None) => Ok(Op::Delete),
            ("t", None) => Ok(Op::Truncate),
            ("m", _) => Ok(Op::Nothing),
            _ => Err(odd()),
        }
    }
}

impl Envelope {
    fn parts<'d>(&self, datum: &'d [u8]) -> Result<Opened<'d>, DatumError> {
        let (mut cursor, mut opened) = (Cursor::new(datum), Opened { before: None, after: None, op: "" });
        for (part, shape) in &self.fields {
            let (within, is_some) = match (part, shape) {
                (EnvelopeField::Other, _) => {
                    cursor.skip(shape)?;
                    continue;
                }
                (_, Shape::Optional { null_first, some }) => (some.as_ref(), cursor.is_some(*null_first)?),
                (_, shape) => (shape, true),
            };
            match part {
                _ if !is_some => {}
                EnvelopeField::Op => opened.op = cursor.text()?,
                _ => {
                    let rest = cursor.rest();
                    cursor.skip(within)?;
                    let row = rest.get(..rest.len() - cursor.rest().len());
                    *(if *part == EnvelopeField::After { &mut opened.after } else { &mut opened.before }) = row;
                }
            }
        }
        cursor.finish()?;
        Ok(opened)
    }
}

/// Whether a record of these fields is a change of rows; what else Debezium writes is none. Errors, in words: it is nothing of
/// Debezium's.
fn is_change(names: &[&str]) -> Result<bool, String> {
    let has = |name: &str| names.contains(&name);
    let is_heartbeat = has("ts_ms") && names.iter().all(|name| ["ts_ms", "ts_us", "ts_ns"].contains(name));
    let is_transaction = has("status") && has("event_count") && has("data_collections");
    let is_message = has("op") && has("message") && !has("after");
    match has("op") && has("after") {
        true => Ok(true),
        false if is_heartbeat || is_transaction || is_message => Ok(false),
        false => Err(format!(
            "it is not Debezium's envelope, which has fields op and after (it has {}): remove source.envelope where records are the \
             rows themselves",
            names.join(", ")
        )),
    }
}

/// Of an envelope in JSON the part that is read, which of a log is more. Errors, in words: it is none.
pub(super) fn read_part(of: Type, is_log: bool) -> Result<Type, String> {
    let TypeKind::Record(record) = of.kind else { return Err("it is not Debezium's envelope, but no object".into()) };
    let names: Vec<&str> = record.fields.iter().map(|(name, _)| name.as_str()).collect();
    let is_read = match (is_change(&names)?, is_log) {
        (true, true) => ["before", "after", "op"].as_slice(),
        (true, false) => &["after", "op"],
        (false, _) => &["ts_ms"],
    };
    let fields = record.fields.into_iter().filter(|(name, _)| is_read.contains(&name.as_str())).collect();
    Ok(Type { kind: TypeKind::Record(Record::new(fields)?), ..of })
}

/// An envelope of rows of this type in JSON.
pub(super) fn around(row: Type, is_log: bool) -> Result<Type, String> {
    let row = Type { nullable: true, ..row };
    let before = is_log.then(|| ("before".to_string(), row.clone()));
    let others = [("after".to_string(), row), ("op".to_string(), Type::new("op", TypeKind::String))];
    let fields = before.into_iter().chain(others).collect();
    Ok(Type::new("", TypeKind::Record(Record::new(fields)?)))
}
