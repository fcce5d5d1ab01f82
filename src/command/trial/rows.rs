//! The rows that sinks make of a record: which field goes into which column, and which key a change has. Whether the values fit the
//! columns' types, the table alone knows: see `pressline check --online`.

use serde_json::Value;

use super::{SCHEMA_ID, fields_of};
use crate::avro::Shape;
use crate::avro::format::{Decoded, Decoder};
use crate::avro::schema::SchemaText;
use crate::config::changes::ChangesConfig;
use crate::config::format::Envelope;
use crate::config::sink::{ColumnsConfig, LoadConfig};
use crate::sink::changes::{Change, ChangeShape, Changes, Datum, plain_key};
use crate::sink::{Columns, Conversion, DatabaseKind, Refusal};

/// What a sink makes of one record.
#[derive(Clone, Debug)]
pub enum RowOutcome {
    /// Values by column.
    Row(Vec<(String, Value)>),
    /// The row of this key is deleted.
    Deleted(Vec<(String, Value)>),
    /// A dead letter.
    Dead(Refusal),
}

/// The sinks of a pipeline.
pub struct Rows {
    decoder: Decoder,
    sinks: Vec<SinkRows>,
    keys: Keys,
}

/// How records' keys are read.
struct Keys {
    /// By the sink's `key_format`: the type of those in Avro.
    shape: Option<Shape>,
    /// By `[source.key]`.
    decoder: Option<Decoder>,
}

struct SinkRows {
    kind: DatabaseKind,
    columns: ColumnsConfig,
    changes: ChangesConfig,
}

impl Rows {
    /// By a configuration; `schema` and `key_schema` are those that a registry would have. Errors, in words: the format, a schema.
    pub fn new(
        config: &LoadConfig,
        schema: Option<&SchemaText>,
        key_schema: Option<&SchemaText>,
    ) -> Result<Self, String> {
        if config.envelope() != Envelope::None {
            return Err(ENVELOPE.into());
        }
        let mut decoder = Decoder::new(&config.format())?;
        if let Some(schema) = schema.filter(|_| config.format().format.has_registered_schemas()) {
            decoder.learn(SCHEMA_ID, schema)?;
        }
        let postgres = config.sink.postgres.as_ref();
        let postgres = postgres.map(|sink| (DatabaseKind::Postgres, sink.columns.clone(), sink.changes()));
        let clickhouse = config.sink.clickhouse.as_ref();
        let clickhouse = clickhouse.map(|sink| (DatabaseKind::ClickHouse, sink.columns.clone(), sink.changes()));
        let sinks = postgres.into_iter().chain(clickhouse);
        let sinks = sinks.map(|(kind, columns, changes)| SinkRows { kind, columns, changes }).collect();
        let mut keys = config.key_reader().map(|format| Decoder::new(&format)).transpose()?;
        let registered = config.key_reader().is_some_and(|format| format.format.has_registered_schemas());
        if let (Some(decoder), Some(schema)) = (&mut keys, key_schema.filter(|_| registered)) {
            decoder.learn(SCHEMA_ID, schema)?;
        }
        let shape = key_schema.filter(|_| keys.is_none()).map(Shape::registered).transpose()?;
        Ok(Self { decoder, sinks, keys: Keys { shape, decoder: keys } })
    }

    /// What each sink makes of a record. Errors, in words: the pipeline does not fit the schema.
    pub fn of(&mut self, value: Option<&[u8]>, key: Option<&[u8]>) -> Result<Vec<(DatabaseKind, RowOutcome)>, String> {
        let Self { decoder, sinks, keys } = self;
        let each = sinks.iter().map(|sink| {
            let outcome = match sink.changes.is_upsert() {
                true => sink.change(decoder, keys, value, key),
                false => sink.row(decoder, value),
            };
            Ok((sink.kind, outcome?))
        });
        each.collect()
    }
}

impl SinkRows {
    fn row(&self, decoder: &mut Decoder, value: Option<&[u8]>) -> Result<RowOutcome, String> {
        let mut arena = Vec::new();
        let (schema, datum) = match decoder.decode(value, &mut arena) {
            Ok(Decoded::Datum { schema, bytes }) => (schema, bytes),
            Ok(Decoded::Unknown(_)) => return Err(NO_SCHEMA.into()),
            Ok(Decoded::Nothing | Decoded::Truncated) => return Err(ENVELOPE.into()),
            Err(reject) => return Ok(RowOutcome::Dead(reject.into())),
        };
        let shape = decoder.shape(schema).ok_or(NO_SCHEMA)?;
        self.columns_of(shape, datum).map(RowOutcome::Row)
    }

    fn change(
        &self,
        decoder: &mut Decoder,
        keys: &mut Keys,
        value: Option<&[u8]>,
        key: Option<&[u8]>,
    ) -> Result<RowOutcome, String> {
        let mut changes = Changes::new(self.changes.clone(), false);
        let (mut of_key, mut of_row) = (Vec::new(), Vec::new());
        let key = match (&mut keys.decoder, key) {
            _ if !self.changes.reads_keys() => None,
            (Some(decoder), Some(key)) => match datum(decoder, key, &mut of_key)? {
                Ok(key) => Some(key),
                Err(refusal) => return Ok(RowOutcome::Dead(refusal)),
            },
            (_, key) => match changes.key(key) {
                Ok(key) => {
                    let plain = plain_key(self.changes.key_format);
                    Some((key, plain.or_else(|| keys.shape.clone()).ok_or(NO_KEY_SCHEMA)?))
                }
                Err(why) => return Ok(RowOutcome::Dead(Refusal::row(why))),
            },
        };
        let row = match value.map(|value| datum(decoder, value, &mut of_row)).transpose()? {
            None => None,
            Some(Ok(row)) => Some(row),
            Some(Err(refusal)) => return Ok(RowOutcome::Dead(refusal)),
        };
        let (key, key_shape) = key.unzip();
        let (row, row_shape) = row.unzip();
        let change = match Change::of(key, row, self.changes.deletes) {
            Ok(change) => change,
            Err(why) => return Ok(RowOutcome::Dead(Refusal::row(why))),
        };
        let mut written = Vec::new();
        changes.write(&change, 0, &mut written);
        let shapes = (key_shape.as_ref(), row_shape.as_ref());
        let made = ChangeShape::of((&self.changes, false), &self.columns, shapes.0, shapes.1)?;
        let columns = self.columns_of(&made.shape, &written)?;
        Ok(if made.is_delete { RowOutcome::Deleted(columns) } else { RowOutcome::Row(columns) })
    }

    fn columns_of(&self, shape: &Shape, datum: &[u8]) -> Result<Vec<(String, Value)>, String> {
        let columns = Columns::new(&self.columns, self.kind.name());
        let (assigned, findings) = columns.assign(shape, self.kind.name(), |_, _| None);
        if let Some(finding) = findings.first() {
            return Err(finding.to_string());
        }
        let Shape::Record(fields) = shape else { return Err(format!("the schema is {shape}, not a record")) };
        let values = fields_of(fields, datum)?;
        let pairs = assigned.into_iter().zip(values);
        Ok(pairs.filter_map(|((_, conversion), (_, value))| Some((column(&conversion)?.to_owned(), value))).collect())
    }
}

/// A key or a value as a datum, with its type. Errors: nobody knows its schema.
fn datum<'b>(
    decoder: &mut Decoder,
    payload: &'b [u8],
    out: &'b mut Vec<u8>,
) -> Result<Result<(Datum<'b>, Shape), Refusal>, String> {
    let (schema, bytes) = match decoder.decode(Some(payload), out) {
        Ok(Decoded::Datum { schema, bytes }) => (schema, bytes),
        Ok(Decoded::Unknown(_)) => return Err(NO_SCHEMA.into()),
        Ok(Decoded::Nothing | Decoded::Truncated) => return Err(ENVELOPE.into()),
        Err(reject) => return Ok(Err(reject.into())),
    };
    let shape = decoder.shape(schema).ok_or(NO_SCHEMA)?.as_ref().clone();
    Ok(Ok((Datum { schema_id: Some(schema), bytes }, shape)))
}

const NO_SCHEMA: &str = "the records' schema is not known, and nobody asks a registry here: name an Avro schema file as `schema` in the \
                         fixtures";

const ENVELOPE: &str = "changes in Debezium's envelope have no fixtures: what they do to rows, `pressline check --online` and a table tell";
const NO_KEY_SCHEMA: &str =
    "the schema of the records' keys is not known: name an Avro schema file as `key_schema` in the fixtures";

fn column<'c>(conversion: &Conversion<'c>) -> Option<&'c str> {
    match conversion {
        Conversion::Column(name) => Some(*name),
        Conversion::Ignored | Conversion::Nowhere => None,
    }
}
