//! What the evaluator does not know: run by the crate's interpreter, over values that are made when they are asked for.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, LazyLock};

use cel::common::value::{CowVal, Val};
use cel::context::VariableResolver;
use cel::objects::{Key, Map};
use cel::{Context, Env, IdedExpr};

use super::input::{At, Fail, Input};
use crate::avro::{Cursor, DatumError, Shape};
use crate::pipeline::plan::value::{Cast, Form, Scalar, as_text};

static STANDARD: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// An expression, and the fields that it names.
pub(super) struct Interpreted {
    expr: IdedExpr,
    variables: Vec<Variable>,
}

/// A field by its dotted name.
pub(super) struct Variable {
    pub name: String,
    pub at: At,
    pub shape: Shape,
    pub cast: Option<Cast>,
    /// See [`super::input::null_where_absent`].
    pub absent_is_null: bool,
    /// It is whether the field is there.
    pub is_presence: bool,
}

impl Interpreted {
    pub fn new(expr: IdedExpr, variables: Vec<Variable>) -> Self {
        Self { expr, variables }
    }

    pub fn holds(&self, input: &Input<'_>) -> Result<bool, Fail> {
        let record = Record { input: *input, variables: &self.variables };
        let mut context = Context::with_env(Arc::clone(&STANDARD));
        context.set_variable_resolver(&record);
        // The errors hold values, and so may a panic's message: neither is shown.
        let run = || cel::Value::resolve(&self.expr, &context);
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(cel::Value::Bool(value))) => Ok(value),
            _ => Err(Fail::Failed),
        }
    }
}

struct Record<'r> {
    input: Input<'r>,
    variables: &'r [Variable],
}

impl VariableResolver for Record<'_> {
    fn resolve<'b>(&'b self, variable: &str) -> Option<CowVal<'b, 'b>> {
        let variable = self.variables.iter().find(|known| known.name == variable)?;
        let value: Box<dyn Val> = variable.value(&self.input)?.try_into().ok()?;
        Some(CowVal::Owned(value))
    }
}

impl Variable {
    fn value(&self, input: &Input<'_>) -> Option<cel::Value> {
        let bytes = self.at.bytes(input);
        if self.is_presence {
            return Some(cel::Value::Bool(bytes.is_some_and(|bytes| !is_null(&self.shape, bytes))));
        }
        if bytes.is_none() && self.absent_is_null {
            return Some(cel::Value::Null);
        }
        let value = value(&self.shape, &mut Cursor::new(bytes?)).ok()?;
        match self.cast.filter(|cast| *cast != Cast::Same) {
            Some(cast) => cast_of(cast, &value),
            None => Some(value),
        }
    }
}

/// Whether a value is null, also of types that CEL has no values of.
fn is_null(shape: &Shape, bytes: &[u8]) -> bool {
    let mut cursor = Cursor::new(bytes);
    match shape {
        Shape::Null => true,
        Shape::Optional { null_first, .. } => cursor.is_some(*null_first) == Ok(false),
        Shape::Union(branches) => {
            let branch = cursor.long().ok().and_then(|branch| branches.get(usize::try_from(branch).ok()?));
            branch == Some(&Shape::Null)
        }
        _ => false,
    }
}

fn cast_of(cast: Cast, value: &cel::Value) -> Option<cel::Value> {
    let scalar = match value {
        cel::Value::Null => Scalar::Null,
        cel::Value::Bool(value) => Scalar::Bool(*value),
        cel::Value::Int(value) => Scalar::Int(*value),
        cel::Value::Float(value) => Scalar::Double(*value),
        cel::Value::String(text) => Scalar::Text(text),
        _ => return None,
    };
    let scalar = cast.apply(scalar).ok()?;
    if cast == Cast::ToText && scalar != Scalar::Null {
        let mut room = [0; 32];
        return std::str::from_utf8(as_text(scalar, &mut room)).ok().map(cel::Value::from);
    }
    Some(of_scalar(scalar))
}

fn of_scalar(scalar: Scalar<'_>) -> cel::Value {
    match scalar {
        Scalar::Null => cel::Value::Null,
        Scalar::Bool(value) => cel::Value::Bool(value),
        Scalar::Int(value) => cel::Value::Int(value),
        Scalar::Double(value) => cel::Value::Float(value),
        Scalar::Text(text) => cel::Value::String(Arc::new(text.into())),
        Scalar::Bytes(bytes) => cel::Value::Bytes(Arc::new(bytes.into())),
    }
}

/// The value at the cursor, made for the interpreter.
fn value(shape: &Shape, cursor: &mut Cursor<'_>) -> Result<cel::Value, DatumError> {
    Ok(match shape {
        Shape::Null => cel::Value::Null,
        Shape::Optional { null_first, some } => match cursor.is_some(*null_first)? {
            true => value(some, cursor)?,
            false => cel::Value::Null,
        },
        Shape::Union(branches) => {
            let index = cursor.index(branches.len())?;
            value(branches.get(index).ok_or(DatumError::NoSuchBranch)?, cursor)?
        }
        Shape::Array(items) => {
            let mut list = Vec::new();
            cursor.items::<DatumError>(|cursor| {
                list.push(value(items, cursor)?);
                Ok(())
            })?;
            cel::Value::List(Arc::new(list))
        }
        Shape::Map(values) => {
            let mut map = HashMap::new();
            cursor.items::<DatumError>(|cursor| {
                let key = Key::from(cursor.text()?);
                map.insert(key, value(values, cursor)?);
                Ok(())
            })?;
            cel::Value::Map(Map { map: Arc::new(map) })
        }
        Shape::Record(fields) => {
            let mut map = HashMap::new();
            for field in fields {
                map.insert(Key::from(field.name.as_str()), value(&field.shape, cursor)?);
            }
            cel::Value::Map(Map { map: Arc::new(map) })
        }
        scalar => {
            let before = cursor.rest();
            cursor.skip(scalar)?;
            let bytes = before.get(..before.len() - cursor.rest().len()).unwrap_or_default();
            Form::of(scalar).map_or(cel::Value::Null, |form| of_scalar(form.read(bytes)))
        }
    })
}
