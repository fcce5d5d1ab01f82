//! The columns of a block, and what stands in them where a record has no value.

use std::sync::Arc;

use super::codec::Null;
use super::native::Framing;

/// A column of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockColumn {
    /// Name.
    pub name: Arc<str>,
    /// The table's type, in its own words: but for null the server converts nothing.
    pub type_name: String,
    /// How its values are framed.
    pub framing: Framing,
    /// The block's column takes null, the table's does not: such a row's value is the column's DEFAULT.
    pub null_as_default: bool,
    /// What stands in it for a record whose schema lacks the field. `None`: a row of a block cannot leave it to its DEFAULT,
    /// because null is a value of the column, or no value of an array or map.
    pub absent: Option<Absent>,
}

/// What leaves a column of a block to its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Absent {
    /// What is written.
    pub null: Null,
    /// Only where the block's column takes null: see [`BlockColumn::null_as_default`].
    pub needs_null: bool,
}

/// The columns of a block. Plans of different schemas may share one: blocks take rows of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What fields fill, in the table's order.
    pub columns: Vec<BlockColumn>,
    /// `_topic`, `_partition`, `_offset` come after them, for records of this topic.
    pub coordinates: Option<Coordinates>,
}

/// The columns that name a row's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinates {
    /// The topic.
    pub topic: String,
    /// `_topic` is LowCardinality, not a plain String.
    pub low_cardinality: bool,
}

impl Layout {
    /// Whether null means the column's DEFAULT in one of its columns.
    pub fn has_null_as_default(&self) -> bool {
        self.columns.iter().any(|column| column.null_as_default)
    }
}
