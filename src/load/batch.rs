//! Rows on their way from the topic to a database: their Avro bytes side by side in one buffer, in the order they were
//! polled, which within a partition is the order of their offsets.

use std::collections::BTreeMap;

use crate::coordinator::Partition;

/// One record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its partition.
    pub partition: Partition,
    /// Its offset.
    pub offset: i64,
    /// Its timestamp, milliseconds since 1970.
    pub timestamp_ms: Option<i64>,
    /// Id of its schema.
    pub schema_id: u32,
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

/// Records that are written together.
#[derive(Debug, Default)]
pub struct Batch {
    datums: Vec<u8>,
    rows: Vec<Row>,
    spans: BTreeMap<Partition, Span>,
}

impl Batch {
    /// Adds a record's datum (the value after the wire format's five bytes).
    pub fn push(&mut self, partition: Partition, offset: i64, timestamp_ms: Option<i64>, schema_id: u32, datum: &[u8]) {
        let start = offset_in_buffer(self.datums.len());
        self.datums.extend_from_slice(datum);
        let at = (start, offset_in_buffer(self.datums.len()));
        self.rows.push(Row { partition, offset, timestamp_ms, schema_id, at });
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

    /// Bytes of all datums.
    pub fn bytes(&self) -> usize {
        self.datums.len()
    }

    /// Nothing in it, and nothing covered.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty() && self.spans.is_empty()
    }

    /// Drops what it holds of partitions that are not ours any more.
    pub fn forget(&mut self, partitions: &[Partition]) {
        self.rows.retain(|row| !partitions.contains(&row.partition));
        self.spans.retain(|partition, _| !partitions.contains(partition));
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.datums.clear();
        self.rows.clear();
        self.spans.clear();
    }
}

/// A batch is far below 4 GiB: `max_bytes` is checked at start.
fn offset_in_buffer(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}
