//! Rows as columns: one Native block, built straight from Avro bytes.

mod buffer;
mod codec;
mod decimal;
mod dictionary;
mod layout;
mod native;

use std::sync::Arc;

use super::plan::{BlockPlan, BlockStep};
use super::types::with_null;
use crate::avro::Cursor;
use crate::sink::{Refusal, Why};
pub use buffer::Buffer;
pub use codec::{Codec, Digits, Float, Null, Text, Whole};
pub use decimal::{Target, Wide, bytes_of};
pub use layout::{Absent, BlockColumn, Coordinates, Layout};
pub use native::Framing;

/// Rows that are inserted together.
#[derive(Debug)]
pub struct Block {
    layout: Arc<Layout>,
    columns: Vec<Buffer>,
    partitions: Vec<u8>,
    offsets: Vec<u8>,
    rows: usize,
    /// Texts that are made, not read, such as JSON.
    scratch: Vec<u8>,
}

impl Block {
    /// An empty block of the layout.
    pub fn new(layout: Arc<Layout>) -> Self {
        let columns = layout.columns.iter().map(|column| buffer(&column.framing)).collect();
        Self { layout, columns, partitions: Vec::new(), offsets: Vec::new(), rows: 0, scratch: Vec::new() }
    }

    /// Whether rows of the plan can go into it: two schemas of one topic fill the same columns, or need two inserts.
    pub fn takes(&self, plan: &BlockPlan) -> bool {
        Arc::ptr_eq(&self.layout, plan.layout()) || self.layout == *plan.layout()
    }

    /// Adds a record: its datum, read by the plan of its schema, which [`Block::takes`] must have said yes to. Errors:
    /// why it cannot be written; then nothing of it is in the block.
    #[inline]
    pub fn push(&mut self, plan: &BlockPlan, datum: &[u8], partition: i32, offset: i64) -> Result<(), Refusal> {
        self.columns.iter_mut().for_each(Buffer::begin);
        if let Err(refusal) = self.write(plan, datum) {
            self.columns.iter_mut().for_each(Buffer::undo);
            return Err(refusal);
        }
        if self.layout.coordinates.is_some() {
            self.partitions.extend_from_slice(&partition.to_le_bytes());
            self.offsets.extend_from_slice(&offset.to_le_bytes());
        }
        self.rows += 1;
        Ok(())
    }

    #[inline]
    fn write(&mut self, plan: &BlockPlan, datum: &[u8]) -> Result<(), Refusal> {
        let mut cursor = Cursor::new(datum);
        for step in plan.steps() {
            match step {
                BlockStep::Skip(shape) => cursor.skip(shape).map_err(Refusal::row)?,
                BlockStep::Write { column, name, codec } => {
                    if let Some(buffer) = self.columns.get_mut(*column) {
                        codec.write(&mut cursor, buffer, &mut self.scratch).map_err(|why| refusal(name, why))?;
                    }
                }
            }
        }
        for (column, absent) in plan.absent() {
            if let Some(buffer) = self.columns.get_mut(*column) {
                codec::write_null(absent, buffer).map_err(Refusal::row)?;
            }
        }
        cursor.finish().map_err(Refusal::row)
    }

    /// How many rows it has.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// About how many bytes it will be on the wire, uncompressed.
    pub fn bytes(&self) -> usize {
        self.columns.iter().map(Buffer::bytes).sum::<usize>() + self.partitions.len() + self.offsets.len()
    }

    /// The columns.
    pub fn layout(&self) -> &Arc<Layout> {
        &self.layout
    }

    /// Appends the rows as one block in ClickHouse's Native format.
    pub fn native(&self, out: &mut Vec<u8>) {
        out.reserve(self.bytes() + 4096);
        let more = if self.layout.coordinates.is_some() { 3 } else { 0 };
        buffer::varuint((self.columns.len() + more) as u64, out);
        buffer::varuint(self.rows as u64, out);
        for (column, buffer) in self.layout.columns.iter().zip(&self.columns) {
            native::text(&column.name, out);
            match column.null_as_default {
                true => native::text(&with_null(&column.type_name), out),
                false => native::text(&column.type_name, out),
            }
            // ClickHouse writes nothing at all of a column without rows.
            if self.rows > 0 {
                native::prefix(&column.framing, out);
                native::values(&column.framing, buffer, out);
            }
        }
        if let Some(coordinates) = &self.layout.coordinates {
            self.native_coordinates(coordinates, out);
        }
    }

    fn native_coordinates(&self, coordinates: &Coordinates, out: &mut Vec<u8>) {
        native::text("_topic", out);
        if coordinates.low_cardinality {
            native::text("LowCardinality(String)", out);
            if self.rows > 0 {
                native::prefix(&Framing::Texts, out);
                native::constant(&coordinates.topic, self.rows, out);
            }
        } else {
            native::text("String", out);
            (0..self.rows).for_each(|_| native::text(&coordinates.topic, out));
        }
        native::text("_partition", out);
        native::text("Int32", out);
        out.extend_from_slice(&self.partitions);
        native::text("_offset", out);
        native::text("Int64", out);
        out.extend_from_slice(&self.offsets);
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.columns.iter_mut().for_each(Buffer::clear);
        self.partitions.clear();
        self.offsets.clear();
        self.rows = 0;
    }
}

/// A datum that does not fit its schema is no single column's fault.
fn refusal(column: &Arc<str>, why: Why) -> Refusal {
    match why {
        Why::Damaged(_) => Refusal::row(why),
        why => Refusal::column(column, why),
    }
}

fn buffer(framing: &Framing) -> Buffer {
    match framing {
        Framing::Plain => Buffer::default(),
        Framing::Texts => Buffer::low_cardinality(&[]),
        Framing::Values(width) => Buffer::low_cardinality(&vec![0; *width]),
        Framing::Nested(inner) => Buffer::nested(inner.iter().map(buffer).collect()),
    }
}

impl BlockPlan {
    /// An empty block for its rows.
    pub fn block(&self) -> Block {
        Block::new(Arc::clone(self.layout()))
    }
}
