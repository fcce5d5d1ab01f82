//! What the replay of dead letters asks of a database.

use super::{LoadError, Refusal, RowBatch};
use crate::avro::Shape;
use crate::kafka::offset_note::Partition;

/// A database that rows of dead letters are written into, one at a time.
pub trait LetterRows {
    /// What was known of a letter when the database was connected to. `is_named`: it names its pipeline, as those do that the database
    /// was told of.
    fn standing(&self, partition: Partition, offset: i64, is_named: bool) -> Standing;

    /// Prepares for rows of a schema, by the table as it is now. Errors: it does not fit.
    fn learn(&mut self, schema_id: u32, shape: &Shape) -> Result<(), LoadError>;

    /// Writes the one row of the batch such that it can be told afterwards that it was, or only tries to. Errors: the database's.
    fn write(&mut self, batch: &RowBatch, is_trial: bool) -> Result<RowEnd, LoadError>;
}

/// What is known of a letter before its record is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Its record has no row, or the table is asked when it comes to it.
    Open,
    /// Its row was written by a replay of letters.
    Replayed,
    /// The sink has written its row after all: it was killed before it passed the record over, and read it again.
    WrittenAfterAll,
}

/// What became of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RowEnd {
    /// It is written; of a trial, it could be.
    Written,
    /// It was written before.
    Marked,
    /// It is refused.
    Dead(Refusal),
}
