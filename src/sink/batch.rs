//! Rows on their way from the topic to a database: their Avro bytes side by side in one buffer, in the order they were
//! polled, which within a partition is the order of their offsets.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rdkafka::message::{BorrowedMessage, Message};

use super::changes::{Change, Changes, Pair};
use super::{Refusal, Why};
use crate::avro::format::{Decoded, Decoder};
use crate::kafka::consumer::BatchBuilder;
use crate::kafka::offset_note::Partition;

/// Where a record comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordOrigin {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
}

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Id of its schema in the registry, or a number that stands for it.
    pub schema_id: u32,
    /// Its payload is no datum yet: it waits for its schema.
    is_raw: bool,
    /// Where its datum lies in the buffer.
    at: (u32, u32),
}

/// Offsets of one partition: from `start`, which is where the load stood before the batch, up to but not including
/// `end`. Offsets between them may be missing: compaction and transaction markers leave gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// First offset.
    pub start: i64,
    /// After the last.
    pub end: i64,
}

/// What a raw record takes beside its bytes, its row included.
const RAW_RECORD: usize = size_of::<RawRecord>() + size_of::<Row>();
/// What a refusal's words take, at most.
const REFUSAL_TEXT: usize = 128;

/// Records as they came, which become changes once their schemas are known.
#[derive(Debug, Default)]
pub struct RawRecords {
    bytes: Vec<u8>,
    records: Vec<RawRecord>,
}

/// One of them.
#[derive(Clone, Copy, Debug)]
struct RawRecord {
    origin: RecordOrigin,
    key: Option<(u32, u32)>,
    value: Option<(u32, u32)>,
}

impl RawRecords {
    fn push(&mut self, origin: RecordOrigin, key: Option<&[u8]>, value: Option<&[u8]>) {
        let mut add = |part: Option<&[u8]>| {
            let start = offset_in_buffer(self.bytes.len());
            self.bytes.extend_from_slice(part?);
            Some((start, offset_in_buffer(self.bytes.len())))
        };
        let (key, value) = (add(key), add(value));
        self.records.push(RawRecord { origin, key, value });
    }

    /// Where each comes from, its key and its value.
    pub fn iter(&self) -> impl Iterator<Item = (RecordOrigin, Option<&[u8]>, Option<&[u8]>)> {
        let part = |at: Option<(u32, u32)>| at.and_then(|(from, to)| self.bytes.get(from as usize..to as usize));
        self.records.iter().map(move |record| (record.origin, part(record.key), part(record.value)))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }
}

/// Records that are written together.
#[derive(Debug, Default)]
pub struct RowBatch {
    /// Reads formats other than Avro, whose datums are taken as they are.
    decoder: Option<Decoder>,
    datums: Vec<u8>,
    rows: Vec<Row>,
    changes: Changes,
    /// Of a topic whose records become changes later.
    raw: Option<RawRecords>,
    /// How many of them are changes already.
    opened: usize,
    /// Offset of the record, the first of these, that empties the table before all others.
    empties_at: Option<i64>,
    /// Where the batch ends when the records that are not yet opened are changes, too.
    goes_on_to: Option<Span>,
    /// Records that change nothing.
    filtered: u64,
    /// The same, of those that a log of changes has no row for.
    no_change: Vec<RecordOrigin>,
    /// Where a table was truncated that the log has no row for.
    truncated_at: Option<RecordOrigin>,
    spans: BTreeMap<Partition, Span>,
    refused: Vec<(RecordOrigin, Refusal)>,
    /// Schemas of records that are not loaded, and those of them that the batch has.
    left_out: (BTreeSet<u32>, Vec<RecordOrigin>),
    /// Records of each partition.
    taken: BTreeMap<Partition, usize>,
    /// The most of them.
    fullest: usize,
    /// When the first record came.
    since: Option<Instant>,
}

impl Row {
    /// Where it comes from.
    pub fn origin(&self) -> RecordOrigin {
        RecordOrigin { partition: self.partition, offset: self.offset, timestamp_ms: self.timestamp_ms }
    }
}

impl RowBatch {
    /// Of records that are read so.
    pub fn of_changes(changes: Changes) -> Self {
        Self { changes, ..Self::default() }
    }

    /// The same, of records that tell only by their schemas what they change: see [`RowBatch::take_raw`].
    pub fn of_raw(changes: Changes) -> Self {
        Self { changes, raw: Some(RawRecords::default()), ..Self::default() }
    }

    /// The records that are to become changes, and how many of them are already; they are to be given back by [`RowBatch::give_back`].
    pub fn take_raw(&mut self) -> (RawRecords, usize) {
        (self.raw.replace(RawRecords::default()).unwrap_or_default(), self.opened)
    }

    /// So many of the records are changes.
    pub fn give_back(&mut self, raw: RawRecords, opened: usize) {
        self.raw = Some(raw);
        self.opened = opened;
    }

    /// The table is emptied before the batch's rows are written, by the record at this offset.
    pub fn empty_at(&mut self, offset: i64) {
        self.empties_at = Some(offset);
        self.filtered += 1;
    }

    /// Where the record is that empties the table before all rows.
    pub fn empties_at(&self) -> Option<i64> {
        self.empties_at
    }

    /// The batch ends before the record at this offset, which is the first of another one with the rest.
    pub fn end_before(&mut self, partition: Partition, offset: i64) {
        if let Some(span) = self.spans.get_mut(&partition) {
            self.goes_on_to = Some(Span { start: offset, end: span.end });
            span.end = offset;
        }
    }

    /// Goes on with the rest, once all before it is written. Whether there is one.
    pub fn next_part(&mut self) -> bool {
        let Some(rest) = self.goes_on_to.take() else { return false };
        self.spans.values_mut().for_each(|span| *span = rest);
        self.datums.clear();
        self.rows.clear();
        self.refused.clear();
        self.empties_at = None;
        true
    }

    /// A record changes nothing.
    pub fn filter(&mut self) {
        self.filtered += 1;
    }

    /// Records that change nothing.
    pub fn filtered(&self) -> u64 {
        self.filtered + self.no_change.len() as u64
    }

    /// Those of them that a log of changes has no row for.
    pub fn no_change(&self) -> &[RecordOrigin] {
        &self.no_change
    }

    /// Where a log of changes stops, because a truncate is no row of it.
    pub fn truncated_at(&self) -> Option<RecordOrigin> {
        self.truncated_at
    }

    /// A record that cannot be written.
    pub fn refuse(&mut self, origin: RecordOrigin, refusal: Refusal) {
        self.refused.push((origin, refusal));
    }

    /// Adds what a record does to the row of its key. Its schema's id is then the number of [`RowBatch::pair`].
    pub fn push_change(&mut self, origin: RecordOrigin, change: &Change<'_>) {
        let RecordOrigin { partition, offset, timestamp_ms } = origin;
        let start = offset_in_buffer(self.datums.len());
        let schema_id = self.changes.write(change, offset, &mut self.datums);
        let at = (start, offset_in_buffer(self.datums.len()));
        self.rows.push(Row { partition, offset, timestamp_ms, schema_id, is_raw: false, at });
    }

    /// The schemas of changes with this number.
    pub fn pair(&self, number: u32) -> Option<Pair> {
        self.changes.pair(number)
    }

    /// A batch of records of the decoder's format.
    pub fn of(decoder: Decoder) -> Self {
        Self { decoder: Some(decoder).filter(|decoder| !decoder.is_avro()), ..Self::default() }
    }

    /// The decoder of a format other than Avro.
    pub fn decoder(&mut self) -> Option<&mut Decoder> {
        self.decoder.as_mut()
    }

    /// Makes datums of the payloads whose schema is known by now.
    pub fn decode_rest(&mut self) {
        let Some(decoder) = self.decoder.as_mut().filter(|_| self.rows.iter().any(|row| row.is_raw)) else { return };
        let (datums, refused, mut payload) = (&mut self.datums, &mut self.refused, Vec::new());
        let (no_change, truncated_at) = (&mut self.no_change, &mut self.truncated_at);
        self.rows.retain_mut(|row| {
            if !row.is_raw {
                return true;
            }
            payload.clear();
            payload.extend_from_slice(datums.get(row.at.0 as usize..row.at.1 as usize).unwrap_or_default());
            let start = datums.len();
            match decoder.decode(Some(&payload), datums) {
                Ok(Decoded::Datum { schema, .. }) => {
                    (row.schema_id, row.is_raw) = (schema, false);
                    row.at = (offset_in_buffer(start), offset_in_buffer(datums.len()));
                    true
                }
                Ok(Decoded::Unknown(_)) => true,
                Ok(Decoded::Nothing) => {
                    no_change.push(row.origin());
                    false
                }
                Ok(Decoded::Truncated) => {
                    *truncated_at = truncated_at.or(Some(row.origin()));
                    false
                }
                Err(reject) => {
                    refused.push((row.origin(), reject.into()));
                    false
                }
            }
        });
    }

    fn decode(&mut self, origin: RecordOrigin, payload: Option<&[u8]>) {
        let Some(decoder) = &mut self.decoder else { return };
        let start = self.datums.len();
        let (schema_id, is_raw) = match decoder.decode(payload, &mut self.datums) {
            Ok(Decoded::Datum { schema, .. }) => (schema, false),
            Ok(Decoded::Unknown(id)) => {
                self.datums.extend_from_slice(payload.unwrap_or_default());
                (id, true)
            }
            Ok(Decoded::Nothing) => return self.no_change.push(origin),
            Ok(Decoded::Truncated) => {
                self.truncated_at = self.truncated_at.or(Some(origin));
                return;
            }
            Err(reject) => {
                self.refused.push((origin, reject.into()));
                return;
            }
        };
        let at = (offset_in_buffer(start), offset_in_buffer(self.datums.len()));
        let RecordOrigin { partition, offset, timestamp_ms } = origin;
        self.rows.push(Row { partition, offset, timestamp_ms, schema_id, is_raw, at });
    }

    /// Adds a record's datum (the value after the wire format's five bytes).
    pub fn push(&mut self, partition: Partition, offset: i64, timestamp_ms: Option<i64>, schema_id: u32, datum: &[u8]) {
        let start = offset_in_buffer(self.datums.len());
        self.datums.extend_from_slice(datum);
        let at = (start, offset_in_buffer(self.datums.len()));
        self.rows.push(Row { partition, offset, timestamp_ms, schema_id, is_raw: false, at });
    }

    /// The batch moves the partition from `start` to `end`.
    pub fn cover(&mut self, partition: Partition, start: i64, end: i64) {
        self.spans.entry(partition).and_modify(|span| span.end = end).or_insert(Span { start, end });
    }

    /// The rows.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// A row's datum.
    #[inline]
    pub fn datum(&self, row: &Row) -> &[u8] {
        self.datums.get(row.at.0 as usize..row.at.1 as usize).unwrap_or_default()
    }

    /// What it covers of each partition.
    pub fn spans(&self) -> &BTreeMap<Partition, Span> {
        &self.spans
    }

    /// Records that are no rows, and why.
    pub fn refused(&self) -> &[(RecordOrigin, Refusal)] {
        &self.refused
    }

    /// Drops the rows of these schemas again.
    pub fn refuse_schemas(&mut self, unusable: &BTreeMap<u32, Why>) {
        let refused = &mut self.refused;
        self.rows.retain(|row| match unusable.get(&row.schema_id) {
            Some(why) => {
                refused.push((row.origin(), Refusal::row(why.clone())));
                false
            }
            None => true,
        });
    }

    /// The records of these schemas are not to be loaded, nor those that come later.
    pub fn leave_out(&mut self, schema_ids: &BTreeSet<u32>) {
        let (ids, left_out) = &mut self.left_out;
        ids.extend(schema_ids);
        self.rows.retain(|row| {
            let stays = !schema_ids.contains(&row.schema_id);
            if !stays {
                left_out.push(row.origin());
            }
            stays
        });
    }

    /// Records that are not to be loaded.
    pub fn left_out(&self) -> &[RecordOrigin] {
        &self.left_out.1
    }

    /// Ids of the rows' schemas, each once, in their order.
    pub fn schema_ids(&self) -> Vec<u32> {
        let mut ids = BTreeSet::new();
        let mut last = None;
        for row in &self.rows {
            // Mostly the same as that of the row before.
            if last != Some(row.schema_id) {
                last = Some(row.schema_id);
                ids.insert(row.schema_id);
            }
        }
        ids.into_iter().collect()
    }

    /// Puts rows side by side whose schemas have the same `key`, those of the first row's first, each in their order: where
    /// producers write two versions of a schema in turns, their rows are still written by two statements and not by one each.
    pub fn group_by<K: PartialEq>(&mut self, key: impl Fn(u32) -> K) {
        let mut keys: Vec<K> = Vec::new();
        let mut rank_of: BTreeMap<u32, usize> = BTreeMap::new();
        let (mut highest, mut is_grouped) = (0, true);
        for same in self.rows.chunk_by(|a, b| a.schema_id == b.schema_id) {
            let Some(id) = same.first().map(|row| row.schema_id) else { continue };
            let rank = *rank_of.entry(id).or_insert_with(|| {
                let key = key(id);
                let known = keys.iter().position(|other| *other == key);
                known.unwrap_or_else(|| {
                    keys.push(key);
                    keys.len() - 1
                })
            });
            is_grouped &= rank >= highest;
            highest = highest.max(rank);
        }
        if !is_grouped {
            self.rows.sort_by_cached_key(|row| rank_of.get(&row.schema_id).copied());
        }
    }

    /// Where the first row of a schema comes from.
    pub fn first_of(&self, schema_id: u32) -> Option<RecordOrigin> {
        self.rows.iter().find(|row| row.schema_id == schema_id).map(Row::origin)
    }

    /// The timestamp of each partition's last row that has one, in whatever order the rows are.
    pub fn last_timestamps(&self) -> BTreeMap<Partition, i64> {
        let mut last: BTreeMap<Partition, (i64, i64)> = BTreeMap::new();
        for row in &self.rows {
            if let Some(ms) = row.timestamp_ms {
                let known = last.entry(row.partition).or_insert((row.offset, ms));
                *known = (*known).max((row.offset, ms));
            }
        }
        last.into_iter().map(|(partition, (_, ms))| (partition, ms)).collect()
    }

    /// When the first record came.
    pub fn since(&self) -> Option<Instant> {
        self.since
    }

    fn count(&mut self, partition: Partition) {
        if self.fullest == 0 {
            self.since = Some(Instant::now());
        }
        let taken = self.taken.entry(partition).or_default();
        *taken += 1;
        self.fullest = self.fullest.max(*taken);
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.datums.clear();
        self.rows.clear();
        self.spans.clear();
        self.refused.clear();
        self.filtered = 0;
        self.no_change.clear();
        self.truncated_at = None;
        self.opened = 0;
        (self.empties_at, self.goes_on_to) = (None, None);
        if let Some(raw) = &mut self.raw {
            raw.clear();
        }
        self.left_out.1.clear();
        self.taken.clear();
        self.fullest = 0;
        self.since = None;
    }
}

impl<'s> BatchBuilder<'s> for RowBatch {
    fn take(&mut self, record: BorrowedMessage<'s>) {
        let origin = RecordOrigin {
            partition: record.partition(),
            offset: record.offset(),
            timestamp_ms: record.timestamp().to_millis(),
        };
        if let Some(raw) = &mut self.raw {
            raw.push(origin, record.key(), record.payload());
            return self.count(origin.partition);
        }
        if self.changes.are_read() {
            match self.changes.read(record.key(), record.payload()) {
                Ok(change) => self.push_change(origin, &change),
                Err(why) => self.refused.push((origin, Refusal::row(why))),
            }
            return self.count(origin.partition);
        }
        match record.payload() {
            payload if self.decoder.is_some() => self.decode(origin, payload),
            // Confluent's wire format: a byte 0, the schema's id, the datum.
            Some([0, a, b, c, d, datum @ ..]) => {
                let schema_id = u32::from_be_bytes([*a, *b, *c, *d]);
                if self.left_out.0.contains(&schema_id) {
                    self.left_out.1.push(origin);
                    return self.count(origin.partition);
                }
                self.push(origin.partition, origin.offset, origin.timestamp_ms, schema_id, datum);
            }
            Some(_) => self.refused.push((origin, Refusal::row(Why::NotWireFormat))),
            None => self.refused.push((origin, Refusal::row(Why::NullValue))),
        }
        self.count(origin.partition);
    }

    fn forget(&mut self, partitions: &[Partition]) {
        self.rows.retain(|row| !partitions.contains(&row.partition));
        self.refused.retain(|(origin, _)| !partitions.contains(&origin.partition));
        if let Some(raw) = &mut self.raw {
            raw.records.retain(|record| !partitions.contains(&record.origin.partition));
        }
        self.left_out.1.retain(|origin| !partitions.contains(&origin.partition));
        self.no_change.retain(|origin| !partitions.contains(&origin.partition));
        self.truncated_at = self.truncated_at.filter(|origin| !partitions.contains(&origin.partition));
        self.taken.retain(|partition, _| !partitions.contains(partition));
        self.fullest = self.taken.values().copied().max().unwrap_or_default();
    }

    fn len(&self) -> usize {
        self.rows.len()
            + self.refused.len()
            + self.left_out.1.len()
            + self.no_change.len()
            + self.raw.as_ref().map_or(0, |raw| raw.records.len())
    }

    fn fullest(&self) -> usize {
        self.fullest
    }

    fn bytes(&self) -> usize {
        self.datums.len() + self.raw.as_ref().map_or(0, |raw| raw.bytes.len())
    }

    fn held(&self) -> usize {
        // What is raw is still there when its changes are.
        let raw = self.raw.as_ref().map_or(0, |raw| 2 * raw.bytes.len() + raw.records.len() * RAW_RECORD);
        self.datums.len()
            + raw
            + self.rows.len() * size_of::<Row>()
            + self.refused.len() * (size_of::<(RecordOrigin, Refusal)>() + REFUSAL_TEXT)
            + (self.left_out.1.len() + self.no_change.len()) * size_of::<RecordOrigin>()
    }
}

/// A batch is far below 4 GiB: `max_bytes` is checked at start.
fn offset_in_buffer(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::kafka::consumer::BatchLimits;

    #[test]
    fn rows_of_the_same_columns_go_together_and_keep_their_order() {
        let grouped = |schemas: &[u32]| {
            let mut batch = RowBatch::default();
            for (offset, schema) in (0..).zip(schemas) {
                batch.push(0, offset, None, *schema, b"");
            }
            // Schemas 30 to 39 fill the same columns.
            batch.group_by(|id| if id / 10 == 3 { 3 } else { id });
            batch.rows().iter().map(|row| (row.schema_id, row.offset)).collect::<Vec<_>>()
        };
        assert_eq!(grouped(&[]), []);
        assert_eq!(grouped(&[7, 31, 32, 31]), [(7, 0), (31, 1), (32, 2), (31, 3)]);
        // The first rows stay where they are: a COPY that was started early has them.
        let mixed = grouped(&[7, 7, 31, 7, 5, 30, 5]);
        assert_eq!(mixed, [(7, 0), (7, 1), (7, 3), (31, 2), (30, 5), (5, 4), (5, 6)]);
    }

    #[test]
    fn the_last_timestamp_is_that_of_the_highest_offset() {
        let mut batch = RowBatch::default();
        for (partition, offset, ms, schema) in
            [(0, 1, Some(50), 7), (0, 2, Some(40), 3), (1, 9, Some(5), 3), (0, 3, None, 7)]
        {
            batch.push(partition, offset, ms, schema, b"");
        }
        batch.group_by(|id| id);
        assert_eq!(batch.last_timestamps(), BTreeMap::from([(0, 40), (1, 5)]));
    }

    #[test]
    fn a_batch_is_full_by_all_rows_or_by_those_of_one_partition() {
        let mut batch = RowBatch::default();
        for (offset, partition) in [0, 0, 0, 1, 1].into_iter().enumerate() {
            batch.push(partition, offset as i64, None, 1, b"datum");
            batch.count(partition);
        }
        let reached = |batch: &RowBatch, records, by_partition| {
            BatchLimits { records, by_partition, bytes: 1, memory: 1, wait: Duration::ZERO }.reached(batch)
        };
        assert!(reached(&batch, 5, false) && !reached(&batch, 6, false));
        assert!(reached(&batch, 3, true) && !reached(&batch, 4, true));
        assert_eq!(batch.held(), 5 * (5 + size_of::<Row>()), "rows hold more than their datums");
        batch.forget(&[0]);
        assert!(reached(&batch, 2, true) && !reached(&batch, 3, true), "what went away counts no more");
        batch.clear();
        assert!(!reached(&batch, 1, true) && !reached(&batch, 1, false));
    }
}
