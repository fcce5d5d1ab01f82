//! A log of changes: each change a row of its own, whose first field says what was done.

use std::sync::Arc;

use super::super::datum;
use super::super::reject::{Reason, Reject};
use super::op::{Op, odd};
use super::row::Row;
use crate::avro::{Field, Shape};
use crate::config::format::Truncate;

/// The field that says what was done, by the letter that Debezium writes: `c`, `u`, `r`, `d`, `t`.
pub(super) const OPERATION: &str = "_op";

/// How rows of a log are written.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Log {
    truncate: Truncate,
    shape: Arc<Shape>,
}

impl Log {
    /// Of the row in the envelope, which is made to take null everywhere where a truncate asks for it. Errors, in words: it has a
    /// field of the operation's name.
    pub fn of(row: &mut Row, truncate: Truncate) -> Result<Self, String> {
        if truncate == Truncate::Apply {
            row.take_null();
        }
        let Shape::Record(fields) = row.shape().as_ref() else { return Err("a row is no record".into()) };
        if fields.iter().any(|field| field.name == OPERATION) {
            return Err(format!(
                "the table at the source has a column {OPERATION}, which in a log of changes says what was done: rename it there, or \
                 remove source.envelope and load the changes as they are"
            ));
        }
        let fields = std::iter::once(Field::new(OPERATION, Shape::String)).chain(fields.iter().cloned());
        Ok(Self { truncate, shape: Arc::new(Shape::Record(fields.collect())) })
    }

    /// Type of its rows.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Appends what a change is in the log: the row after it, or before a delete. Errors: why it cannot be; `out` is then as it was.
    pub fn write(
        &self,
        row: &Row,
        op: &str,
        (before, after): (Option<&[u8]>, Option<&[u8]>),
        out: &mut Vec<u8>,
    ) -> Result<Op, Reject> {
        let start = out.len();
        let values = match (op, before, after) {
            ("m", ..) => return Ok(Op::Nothing),
            ("c" | "u" | "r", _, Some(after)) => after,
            ("d", Some(before), None) => before,
            ("d", None, None) => {
                let cure =
                    "ALTER TABLE ... REPLICA IDENTITY FULL at the source, so that a delete says which row has gone";
                return Err(Reject::field(Reason::MissingField, &Arc::from("before"), cure));
            }
            ("t", _, None) => return Ok(self.write_truncate(row, out)),
            _ => return Err(odd()),
        };
        datum::bytes(op.as_bytes(), out);
        // A snapshot reads whole rows.
        row.write(values, op != "r", out).map(|()| Op::Write).inspect_err(|_| out.truncate(start))
    }

    fn write_truncate(&self, row: &Row, out: &mut Vec<u8>) -> Op {
        if self.truncate == Truncate::Ignore {
            return Op::Nothing;
        }
        let start = out.len();
        datum::bytes(b"t", out);
        if row.write_nulls(out) {
            return Op::Write;
        }
        out.truncate(start);
        Op::Truncate
    }
}
