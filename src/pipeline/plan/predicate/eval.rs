//! The evaluator: a tree that is walked for each record. Its answers are those of the interpreter.

use std::cmp::Ordering;

use super::input::{At, Fail, Field, Input};
use crate::avro::{Cursor, DatumError};
use crate::pipeline::plan::value::{Form, Scalar};

/// What is true or false.
#[derive(Debug)]
pub(super) enum Node {
    Literal(bool),
    /// A boolean field.
    Field(Field),
    Not(Box<Node>),
    And(Box<Node>, Box<Node>),
    Or(Box<Node>, Box<Node>),
    Equal(Value, Value),
    /// The orders for which it is true.
    Order(Value, Value, Orders),
    Text(TextTest, Value, Value),
    /// One of several literals.
    OneOf(Value, Vec<Value>),
    /// An item of a list of scalars.
    ItemOf(Value, List),
    /// Not null, and no record around it is.
    Has(Field),
    /// The same of a value that is no scalar; null is the branch of this byte, where it can be null.
    HasAny(At, Option<u8>),
    /// A value that is no scalar is null.
    IsNull {
        at: At,
        /// The byte of null's branch.
        null: u8,
        /// See [`super::input::null_where_absent`].
        absent_is_null: bool,
    },
}

/// A field or a literal.
#[derive(Debug)]
pub(super) enum Value {
    Field(Field),
    Null,
    Bool(bool),
    Int(i64),
    Double(f64),
    Text(Box<str>),
    Bytes(Box<[u8]>),
}

/// `<`, `<=`, `>` or `>=`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Orders {
    pub less: bool,
    pub equal: bool,
    pub greater: bool,
}

/// A question about texts.
#[derive(Clone, Copy, Debug)]
pub(super) enum TextTest {
    StartsWith,
    EndsWith,
    Contains,
}

/// A list of scalars in the datum.
#[derive(Debug)]
pub(super) struct List {
    pub at: At,
    pub null_first: Option<bool>,
    pub item: Form,
    pub item_null_first: Option<bool>,
}

impl Node {
    pub(super) fn holds(&self, input: &Input<'_>) -> Result<bool, Fail> {
        match self {
            Self::Literal(value) => Ok(*value),
            Self::Field(field) => match field.read(input)? {
                Scalar::Bool(value) => Ok(value),
                _ => Err(Fail::Null),
            },
            Self::Not(node) => Ok(!node.holds(input)?),
            // As CEL has it: what one side decides does not fail for the other.
            Self::And(left, right) => match left.holds(input) {
                Ok(false) => Ok(false),
                Ok(true) => right.holds(input),
                Err(fail) => {
                    if right.holds(input)? {
                        Err(fail)
                    } else {
                        Ok(false)
                    }
                }
            },
            Self::Or(left, right) => match left.holds(input) {
                Ok(true) => Ok(true),
                Ok(false) => right.holds(input),
                Err(fail) => {
                    if right.holds(input)? {
                        Ok(true)
                    } else {
                        Err(fail)
                    }
                }
            },
            Self::Equal(left, right) => Ok(equal(left.read(input)?, right.read(input)?)),
            Self::Order(left, right, orders) => Ok(match order(left.read(input)?, right.read(input)?)? {
                Ordering::Less => orders.less,
                Ordering::Equal => orders.equal,
                Ordering::Greater => orders.greater,
            }),
            Self::Text(test, text, part) => match (text.read(input)?, part.read(input)?) {
                (Scalar::Text(text), Scalar::Text(part)) => Ok(match test {
                    TextTest::StartsWith => text.starts_with(part),
                    TextTest::EndsWith => text.ends_with(part),
                    TextTest::Contains => text.contains(part),
                }),
                _ => Err(Fail::Null),
            },
            Self::OneOf(value, literals) => {
                let value = value.read(input)?;
                Ok(literals.iter().any(|literal| literal.read(input).is_ok_and(|literal| equal(value, literal))))
            }
            Self::ItemOf(value, list) => list.holds(value.read(input)?, input),
            Self::Has(field) => Ok(field.at.bytes(input).is_some() && !matches!(field.read(input), Ok(Scalar::Null))),
            Self::IsNull { at, null, absent_is_null } => match at.bytes(input) {
                Some(bytes) => Ok(bytes.first().is_none_or(|branch| branch == null)),
                None if *absent_is_null => Ok(true),
                None => Err(Fail::Null),
            },
            Self::HasAny(at, null) => Ok(at
                .bytes(input)
                .is_some_and(|bytes| null.is_none_or(|null| bytes.first().is_some_and(|branch| *branch != null)))),
        }
    }
}

/// The bytes behind the branch of a value that may be null; none for null.
fn is_there(bytes: &[u8], null_first: Option<bool>) -> Option<&[u8]> {
    let Some(null_first) = null_first else { return Some(bytes) };
    let (branch, rest) = bytes.split_first()?;
    ((*branch == 2) == null_first).then_some(rest)
}

impl Value {
    #[inline]
    fn read<'a>(&'a self, input: &Input<'a>) -> Result<Scalar<'a>, Fail> {
        Ok(match self {
            Self::Field(field) => return field.read(input),
            Self::Null => Scalar::Null,
            Self::Bool(value) => Scalar::Bool(*value),
            Self::Int(value) => Scalar::Int(*value),
            Self::Double(value) => Scalar::Double(*value),
            Self::Text(text) => Scalar::Text(text),
            Self::Bytes(bytes) => Scalar::Bytes(bytes),
        })
    }
}

/// CEL's `==`: values of other types are not equal, numbers are whatever their type.
#[inline]
fn equal(left: Scalar<'_>, right: Scalar<'_>) -> bool {
    match (left, right) {
        (Scalar::Int(left), Scalar::Double(right)) => left as f64 == right,
        (Scalar::Double(left), Scalar::Int(right)) => left == right as f64,
        (left, right) => left == right,
    }
}

#[inline]
fn order(left: Scalar<'_>, right: Scalar<'_>) -> Result<Ordering, Fail> {
    match (left, right) {
        (Scalar::Int(left), Scalar::Int(right)) => Ok(left.cmp(&right)),
        (Scalar::Text(left), Scalar::Text(right)) => Ok(left.cmp(right)),
        (Scalar::Bool(left), Scalar::Bool(right)) => Ok(left.cmp(&right)),
        (Scalar::Bytes(left), Scalar::Bytes(right)) => Ok(left.cmp(right)),
        (Scalar::Int(left), Scalar::Double(right)) => (left as f64).partial_cmp(&right).ok_or(Fail::NotANumber),
        (Scalar::Double(left), Scalar::Int(right)) => left.partial_cmp(&(right as f64)).ok_or(Fail::NotANumber),
        (Scalar::Double(left), Scalar::Double(right)) => left.partial_cmp(&right).ok_or(Fail::NotANumber),
        _ => Err(Fail::Null),
    }
}

impl List {
    fn holds(&self, wanted: Scalar<'_>, input: &Input<'_>) -> Result<bool, Fail> {
        let bytes = self.at.bytes(input).and_then(|bytes| is_there(bytes, self.null_first)).ok_or(Fail::Null)?;
        let (mut cursor, mut found) = (Cursor::new(bytes), false);
        let walked = cursor.items::<DatumError>(|cursor| {
            let value = match self.item_null_first {
                Some(null_first) if !cursor.is_some(null_first)? => Scalar::Null,
                _ => read(&self.item, cursor)?,
            };
            found |= equal(value, wanted);
            Ok(())
        });
        walked.map(|_| found).map_err(|_| Fail::Failed)
    }
}

/// One item; a fixed, whose length its form does not have, is never asked for.
fn read<'a>(form: &'a Form, cursor: &mut Cursor<'a>) -> Result<Scalar<'a>, DatumError> {
    Ok(match form {
        Form::Bool => Scalar::Bool(cursor.boolean()?),
        Form::Int => Scalar::Int(cursor.long()?),
        Form::Float => Scalar::Double(f64::from(cursor.float()?)),
        Form::Double => Scalar::Double(cursor.double()?),
        Form::Text => Scalar::Text(cursor.text()?),
        Form::Symbol(symbols) => Scalar::Text(&symbols[cursor.index(symbols.len())?]),
        Form::Bytes | Form::Fixed => Scalar::Bytes(cursor.bytes()?),
    })
}
