//! From records in formats other than Avro, or with keys in such, to changes of rows: the value is the row, a record without one
//! deletes the row of its key.
//!
//! What a record is written by may have to be asked of the registry, so this comes once a batch is read, as with
//! [`super::change_events`].

use super::change_events::{Shapes, learn};
use super::changes::{Change, Datum};
use super::schemas::Schemas;
use super::{LoadError, RecordOrigin, Refusal, RowBatch, Why, WriteContext};
use crate::avro::Shape;
use crate::avro::format::{Decoded, Decoder, wire_format};
use crate::config::changes::{ChangesConfig, KeyFormat, PkMode};
use crate::config::format::FormatConfig;

/// What one worker knows of the schemas of a topic whose values are rows.
pub struct ChangeRows {
    values: Decoder,
    keys: Keys,
    deletes: bool,
    /// Buffers of a record's key and row.
    key: Vec<u8>,
    row: Vec<u8>,
}

/// Where a row's key is.
enum Keys {
    /// In the value.
    InRow,
    /// The record's key is one text or bytes.
    Plain,
    /// The record's key is written in a format.
    Read(Decoder),
}

/// What became of a key or a value: the id or number of its schema.
type Read = Result<u32, Refusal>;

impl ChangeRows {
    /// Nothing met yet; `keys` is how records' keys are written, where `[source.key]` says so. Errors, in words: settings of
    /// `[source]` that contradict themselves.
    pub fn new(values: &FormatConfig, keys: Option<&FormatConfig>, config: &ChangesConfig) -> Result<Self, String> {
        let read = |format: &FormatConfig| Decoder::new(format).map_err(|what| format!("key: {what}"));
        let keys = match (config.pk_mode, keys, config.key_format) {
            (PkMode::RecordKey, Some(format), _) => Keys::Read(read(format)?),
            (PkMode::RecordKey, None, KeyFormat::Avro) => Keys::Read(read(&FormatConfig::default())?),
            (PkMode::RecordKey, None, KeyFormat::Text | KeyFormat::Bytes) => Keys::Plain,
            _ => Keys::InRow,
        };
        let (key, row) = Default::default();
        Ok(Self { values: Decoder::new(values)?, keys, deletes: config.deletes, key, row })
    }

    /// The type that all keys have, where the pipeline file declares it.
    pub fn declared_key(&self) -> Option<&Shape> {
        match &self.keys {
            Keys::Read(decoder) => decoder.declared().map(AsRef::as_ref),
            Keys::InRow | Keys::Plain => None,
        }
    }

    /// Makes changes of the batch's records. The types of rows and keys that it meets are added to `shapes`. Errors: the registry does
    /// not answer.
    pub fn open(
        &mut self,
        batch: &mut RowBatch,
        (keys, values): (&mut Schemas, &mut Schemas),
        shapes: &mut Shapes,
        context: &mut WriteContext<'_>,
    ) -> Result<(), LoadError> {
        let (raw, opened) = batch.take_raw();
        for (origin, key, value) in raw.iter().skip(opened) {
            context.heartbeat();
            let key = match self.key(origin, key, keys, shapes)? {
                Ok(key) => key,
                Err(refusal) => {
                    batch.refuse(origin, refusal);
                    continue;
                }
            };
            let key = key.map(|schema_id| Datum { schema_id, bytes: &self.key });
            let read = value.map(|value| read(&mut self.values, values, origin, value, &mut self.row)).transpose()?;
            let schema = match read.transpose() {
                Ok(schema) => schema,
                Err(refusal) => {
                    batch.refuse(origin, refusal);
                    continue;
                }
            };
            if let Some(schema) = schema.filter(|schema| !shapes.rows.contains_key(schema))
                && let Some(shape) = self.values.shape(schema)
            {
                shapes.rows.insert(schema, shape.as_ref().clone());
            }
            let row = schema.map(|schema| Datum { schema_id: Some(schema), bytes: &self.row });
            match Change::of(key, row, self.deletes) {
                Ok(change) => batch.push_change(origin, &change),
                Err(why) => batch.refuse(origin, Refusal::row(why)),
            }
        }
        let all = raw.len();
        batch.give_back(raw, all);
        Ok(())
    }

    /// Reads the record's key into the buffer: its schema, if it has one; `None` where the key is in the value.
    fn key(
        &mut self,
        origin: RecordOrigin,
        key: Option<&[u8]>,
        schemas: &mut Schemas,
        shapes: &mut Shapes,
    ) -> Result<Result<Option<Option<u32>>, Refusal>, LoadError> {
        if matches!(self.keys, Keys::InRow) {
            return Ok(Ok(None));
        }
        let Some(key) = key else { return Ok(Err(Refusal::row(Why::NoKey))) };
        let Keys::Read(decoder) = &mut self.keys else {
            self.key.clear();
            self.key.extend_from_slice(key);
            return Ok(Ok(Some(None)));
        };
        let schema = match read(decoder, schemas, origin, key, &mut self.key)? {
            Err(refusal) if refusal.why == Why::NotWireFormat => return Ok(Err(Refusal::row(Why::KeyNotWireFormat))),
            Err(refusal) => return Ok(Err(refusal)),
            Ok(schema) => schema,
        };
        if let Some(shape) = decoder.shape(schema).filter(|_| !shapes.keys.contains_key(&schema)) {
            shapes.keys.insert(schema, shape.as_ref().clone());
        }
        Ok(Ok(Some(Some(schema))))
    }
}

/// Reads a key or a value, asking the registry for a schema that is not known yet.
fn read(
    decoder: &mut Decoder,
    schemas: &mut Schemas,
    origin: RecordOrigin,
    payload: &[u8],
    out: &mut Vec<u8>,
) -> Result<Read, LoadError> {
    loop {
        out.clear();
        let id = match decode(decoder, payload, out) {
            Ok(Decoded::Unknown(id)) => id,
            Ok(Decoded::Datum { schema, .. }) => return Ok(Ok(schema)),
            // Of changes in an envelope.
            Ok(Decoded::Nothing | Decoded::Truncated) => return Ok(Err(Refusal::row(Why::NullValue))),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let known = learn(schemas, id, origin, |schema| decoder.learn(id, schema).map(|shape| shape.as_ref().clone()))?;
        if let Err(refusal) = known {
            return Ok(Err(refusal));
        }
    }
}

/// The datum goes into `out`, also where the record holds it as it is.
fn decode<'a>(decoder: &mut Decoder, payload: &'a [u8], out: &'a mut Vec<u8>) -> Result<Decoded<'a>, Refusal> {
    if !decoder.is_avro() {
        return decoder.decode(Some(payload), out).map_err(Refusal::from);
    }
    let (schema, bytes) = wire_format(payload).ok_or_else(|| Refusal::row(Why::NotWireFormat))?;
    if decoder.shape(schema).is_none() {
        return Ok(Decoded::Unknown(schema));
    }
    out.extend_from_slice(bytes);
    Ok(Decoded::Datum { schema, bytes: out })
}
