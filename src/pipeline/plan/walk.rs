//! One pass over a datum: notes where the values lie that the plan uses, and passes over the rest. Every bound is checked.

use crate::avro::{Cursor, DatumError, Shape};

/// Where a value lies in the datum; [`Span::ABSENT`] where a record around it is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    start: u32,
    end: u32,
}

impl Span {
    /// There is no such value in this record.
    pub const ABSENT: Self = Self { start: u32::MAX, end: u32::MAX };

    /// The value's bytes.
    #[inline]
    pub fn of<'a>(&self, datum: &'a [u8]) -> Option<&'a [u8]> {
        datum.get(self.start as usize..self.end as usize)
    }
}

/// What to do with the next value of the datum.
#[derive(Clone, Debug, PartialEq)]
pub enum WalkStep {
    /// Nothing of it is used.
    Skip(Shape),
    /// It is used whole.
    Slot(usize, Shape),
    /// It is used whole, and so are parts of it.
    Both(usize, Box<WalkStep>),
    /// A record of which parts are used.
    Record(Vec<WalkStep>),
    /// A record that may be null; its slots are absent then.
    Optional {
        /// Null is branch 0.
        null_first: bool,
        /// The record.
        some: Box<WalkStep>,
    },
}

/// The steps over one schema's data.
#[derive(Clone, Debug, PartialEq)]
pub struct Walk {
    step: WalkStep,
    slots: usize,
}

/// A tree of the paths that are used.
#[derive(Clone, Default)]
struct Used {
    slot: Option<usize>,
    parts: Vec<(String, Used)>,
}

impl Walk {
    /// The walk that fills slot `n` with the value at the `n`-th path. The paths lead through records, or records that may be
    /// null, of the shape.
    pub fn compile(shape: &Shape, paths: &[Vec<String>]) -> Self {
        let mut used = Used::default();
        for (slot, path) in paths.iter().enumerate() {
            let mut node = &mut used;
            for part in path {
                let at = match node.parts.iter().position(|(name, _)| name == part) {
                    Some(at) => at,
                    None => {
                        node.parts.push((part.clone(), Used::default()));
                        node.parts.len() - 1
                    }
                };
                node = &mut node.parts[at].1;
            }
            node.slot = Some(slot);
        }
        Self { step: step(shape, &used), slots: paths.len() }
    }

    /// Notes where the values lie. Errors: the bytes are no datum of the schema.
    #[inline]
    pub fn run(&self, datum: &[u8], slots: &mut Vec<Span>) -> Result<(), DatumError> {
        slots.clear();
        slots.resize(self.slots, Span::ABSENT);
        let mut cursor = Cursor::new(datum);
        go(&self.step, datum.len(), &mut cursor, slots)?;
        cursor.finish()
    }
}

fn step(shape: &Shape, used: &Used) -> WalkStep {
    let parts = (!used.parts.is_empty()).then(|| match shape {
        Shape::Record(fields) => WalkStep::Record(
            fields
                .iter()
                .map(|field| match used.parts.iter().find(|(name, _)| *name == field.name) {
                    Some((_, part)) => step(&field.shape, part),
                    None => WalkStep::Skip(field.shape.clone()),
                })
                .collect(),
        ),
        Shape::Optional { null_first, some } => {
            let inner = Used { slot: None, parts: used.parts.clone() };
            WalkStep::Optional { null_first: *null_first, some: Box::new(step(some, &inner)) }
        }
        other => WalkStep::Skip(other.clone()),
    });
    match (used.slot, parts) {
        (Some(slot), Some(parts)) => WalkStep::Both(slot, Box::new(parts)),
        (Some(slot), None) => WalkStep::Slot(slot, shape.clone()),
        (None, Some(parts)) => parts,
        (None, None) => WalkStep::Skip(shape.clone()),
    }
}

fn go(step: &WalkStep, length: usize, cursor: &mut Cursor<'_>, slots: &mut [Span]) -> Result<(), DatumError> {
    let at = |cursor: &Cursor<'_>| (length - cursor.rest().len()) as u32;
    let note = |slot: usize, start: u32, end: u32, slots: &mut [Span]| {
        if let Some(place) = slots.get_mut(slot) {
            *place = Span { start, end };
        }
    };
    match step {
        WalkStep::Skip(shape) => cursor.skip(shape),
        WalkStep::Slot(slot, shape) => {
            let start = at(cursor);
            cursor.skip(shape)?;
            note(*slot, start, at(cursor), slots);
            Ok(())
        }
        WalkStep::Both(slot, parts) => {
            let start = at(cursor);
            go(parts, length, cursor, slots)?;
            note(*slot, start, at(cursor), slots);
            Ok(())
        }
        WalkStep::Record(steps) => steps.iter().try_for_each(|step| go(step, length, cursor, slots)),
        WalkStep::Optional { null_first, some } => {
            if cursor.is_some(*null_first)? {
                go(some, length, cursor, slots)?;
            }
            Ok(())
        }
    }
}
