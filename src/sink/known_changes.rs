//! The schemas of changes: asked of the registry once, put together for each pair of key and value, and given to the sink.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use super::change_events::{ChangeEvents, Shapes};
use super::change_rows::ChangeRows;
use super::changes::{ChangeShape, Pair, plain_key};
use super::schemas::{Schema, Schemas};
use super::{LoadError, RecordOrigin, RetryClass, RowBatch, Sink, Why, WriteContext};
use crate::avro::Shape;
use crate::config::changes::ChangesConfig;
use crate::config::sink::ColumnsConfig;

/// What one worker knows of the schemas of changes.
pub struct KnownChanges {
    config: ChangesConfig,
    is_stamped: bool,
    columns: ColumnsConfig,
    /// Asked for the keys' schemas.
    keys: Schemas,
    shapes: Shapes,
    /// Makes changes of records that do not tell by themselves what they change.
    reader: Option<Reader>,
    /// Numbers that the sink knows.
    learnt: BTreeSet<u32>,
}

/// How records become changes once a batch is read.
enum Reader {
    /// They come in Debezium's envelope.
    Events(ChangeEvents),
    /// Their values or keys are in other formats than Avro.
    Rows(ChangeRows),
}

/// What became of a schema.
type Found<'s> = Result<Option<&'s Shape>, Why>;

impl KnownChanges {
    /// Nothing met yet.
    pub fn new((config, is_stamped): (ChangesConfig, bool), columns: ColumnsConfig, keys: Schemas) -> Self {
        let (shapes, learnt) = Default::default();
        Self { config, is_stamped, columns, keys, shapes, reader: None, learnt }
    }

    /// Changes come as these events.
    pub fn of_events(self, events: ChangeEvents) -> Self {
        Self { reader: Some(Reader::Events(events)), ..self }
    }

    /// Changes come as rows in these formats.
    pub fn of_rows(self, rows: ChangeRows) -> Self {
        Self { reader: Some(Reader::Rows(rows)), ..self }
    }

    /// Has the sink prepare for the changes that the batch brings for the first time; those that nothing can be done with are refused.
    /// Errors: the registry does not answer; the sink's.
    pub fn learn(
        &mut self,
        rows: &mut Schemas,
        sink: &mut dyn Sink,
        batch: &mut RowBatch,
        context: &mut WriteContext<'_>,
        subject: &str,
    ) -> Result<(), LoadError> {
        let schemas = (&mut self.keys, &mut *rows);
        match &mut self.reader {
            Some(Reader::Events(events)) => events.open(batch, schemas, &mut self.shapes, context)?,
            Some(Reader::Rows(reader)) => reader.open(batch, schemas, &mut self.shapes, context)?,
            None => {}
        }
        let numbers = batch.schema_ids();
        let new: Vec<u32> = numbers.into_iter().filter(|number| !self.learnt.contains(number)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let pairs: Vec<(u32, Pair)> = new.iter().filter_map(|number| Some((*number, batch.pair(*number)?))).collect();
        let ids = |of: fn(&Pair) -> Option<u32>| pairs.iter().filter_map(|(_, pair)| of(pair)).collect::<Vec<u32>>();
        self.keys.meet(&ids(|pair| pair.key.id()));
        rows.meet(&ids(|pair| pair.row));
        let mut unusable = BTreeMap::new();
        // Changes with a value first: of them a table is made. Newer schemas have higher ids, and more fields.
        let (deletes, mut upserts): (Vec<_>, Vec<_>) = pairs.into_iter().partition(|(_, pair)| pair.row.is_none());
        upserts.sort_by_key(|(_, pair)| (pair.kept != 0, std::cmp::Reverse(pair.row)));
        for (number, pair) in upserts.into_iter().chain(deletes) {
            context.heartbeat();
            match self.shape_of(rows, batch, number, pair)? {
                Err(why) => drop(unusable.insert(number, why)),
                Ok(change) => {
                    if (change.is_delete || !change.kept.is_empty()) && sink.will_make_table() {
                        self.make_table(rows, sink, subject, pair)?;
                    }
                    sink.learn_change(number, &change)?;
                    self.learnt.insert(number);
                }
            }
        }
        if !unusable.is_empty() {
            batch.refuse_schemas(&unusable);
        }
        Ok(())
    }

    fn shape_of(
        &mut self,
        rows: &mut Schemas,
        batch: &RowBatch,
        number: u32,
        pair: Pair,
    ) -> Result<Result<ChangeShape, Why>, LoadError> {
        let first = batch.first_of(number);
        let key = match pair.key.id().map(|id| met(&mut self.keys, &mut self.shapes.keys, id, first)).transpose()? {
            None => self.plain_key(),
            Some(Err(why)) => return Ok(Err(why)),
            Some(Ok(key)) => key.cloned(),
        };
        let row = match pair.row.map(|id| met(rows, &mut self.shapes.rows, id, first)).transpose()? {
            None => None,
            Some(Err(why)) => return Ok(Err(why)),
            Some(Ok(row)) => row.cloned(),
        };
        let change = self.change(key.as_ref(), row.as_ref())?;
        let kept = match &self.reader {
            Some(Reader::Events(events)) => events.kept(pair.kept),
            _ => &[],
        };
        Ok(Ok(match &row {
            Some(row) if !kept.is_empty() => change.keeping(kept, row, &self.columns),
            _ => change,
        }))
    }

    /// The shape of a key that is one text or bytes.
    fn plain_key(&self) -> Option<Shape> {
        let is_read = self.config.reads_keys() && !matches!(self.reader, Some(Reader::Events(_)));
        plain_key(self.config.key_format).filter(|_| is_read)
    }

    fn change(&self, key: Option<&Shape>, row: Option<&Shape>) -> Result<ChangeShape, LoadError> {
        ChangeShape::of((&self.config, self.is_stamped), &self.columns, key, row).map_err(LoadError::refused)
    }

    /// The changes that are to come, as far as the registry tells: of a value of this shape.
    pub fn expected(&self, row: &Shape, topic: &str) -> Option<Result<ChangeShape, LoadError>> {
        let declared = match &self.reader {
            // Its key's schema is known by the first record.
            Some(Reader::Events(_)) => return None,
            Some(Reader::Rows(reader)) => reader.declared_key().cloned(),
            None => None,
        };
        let key = match self.plain_key() {
            None if self.config.reads_keys() => Some(declared.or_else(|| self.keys.latest(&format!("{topic}-key")))?),
            plain => plain,
        };
        Some(self.change(key.as_ref(), Some(row)))
    }

    /// A table that is to be made has the columns of the newest values: a delete has none.
    fn make_table(&mut self, rows: &Schemas, sink: &mut dyn Sink, subject: &str, pair: Pair) -> Result<(), LoadError> {
        let met = self.shapes.rows.last_key_value().filter(|_| self.reader.is_some()).map(|(_, shape)| shape.clone());
        let Some(newest) = met.or_else(|| rows.latest(subject)) else {
            let message = format!(
                "there is no table yet, and nothing but deletes to make it for: register the schema of the values as {subject}, or \
                 make the table"
            );
            return Err(LoadError::again(RetryClass::Transient, message));
        };
        let known = pair.key.id().and_then(|id| self.shapes.keys.get(&id)).cloned();
        let change = self.change(known.or_else(|| self.plain_key()).as_ref(), Some(&newest))?;
        sink.prepare_change(&change)
    }
}

/// The shape of a schema, asked for once.
fn met<'s>(
    schemas: &mut Schemas,
    shapes: &'s mut BTreeMap<u32, Shape>,
    id: u32,
    first: Option<RecordOrigin>,
) -> Result<Found<'s>, LoadError> {
    if let Entry::Vacant(unknown) = shapes.entry(id) {
        match schemas.get(id, first, None)? {
            Schema::New(shape) => {
                unknown.insert(shape);
                schemas.learnt(id);
            }
            // Of changes all are loaded.
            Schema::Known | Schema::LeftOut => {}
            Schema::Unusable(why) => return Ok(Err(why)),
        }
    }
    Ok(Ok(shapes.get(&id)))
}
