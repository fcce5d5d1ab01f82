//! A compiled plan.

use super::output::{Key, Put};
use super::predicate::Predicate;
use super::walk::Walk;
use crate::avro::Shape;

/// One step that costs something when a record is read.
pub enum Op {
    /// Only records for which it is true go on. The number is that of the transform.
    Filter(usize, Predicate),
    /// Records for which it is true go to the topic of this index, unless an earlier route was true.
    Route(usize, Predicate, usize),
    /// The place of an address is looked up. Its slot is read by nothing else.
    LookUp(AddressSlot),
}

/// The only thing that knows in which slot an address lies.
pub struct AddressSlot {
    pub(super) slot: usize,
    /// Null is branch 0; none: it cannot be null.
    pub(super) null_first: Option<bool>,
    /// Its name, for dead letters.
    pub name: String,
    /// Its path in the input.
    pub path: Vec<String>,
    /// What the names of its place's fields begin with.
    pub prefix: String,
}

/// What is done to each record of one schema. Immutable: a kernel has the buffers.
pub struct TransformPlan {
    pub(super) walk: Walk,
    /// What each slot holds: its path, and its type.
    pub(super) slots: Vec<(Vec<String>, Shape)>,
    pub(super) ops: Vec<Op>,
    pub(super) puts: Vec<Put>,
    pub(super) key: Key,
    /// Topics that values are written to, by index.
    pub topics: Vec<String>,
    /// The type of the values that are written.
    pub output: Shape,
    pub(super) is_json: bool,
    /// Paths in the input that are addresses.
    pub(super) addresses: Vec<Vec<String>>,
    /// Fields of the input that go nowhere.
    pub(super) unused: Vec<String>,
}

impl TransformPlan {
    /// How many lookups a record takes.
    pub fn lookups(&self) -> usize {
        self.ops.iter().filter(|op| matches!(op, Op::LookUp(_))).count()
    }

    /// Each field of the output, and where its value comes from.
    pub fn puts(&self) -> &[Put] {
        &self.puts
    }

    /// Where the key comes from.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// Paths in the input that are addresses.
    pub fn addresses(&self) -> &[Vec<String>] {
        &self.addresses
    }
}
