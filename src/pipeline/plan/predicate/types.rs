//! The types of an expression's parts, found out before any record is read: what a record could only fail at is refused.

use std::fmt;

use cel::IdedExpr;
use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators};

use crate::avro::Shape;
use crate::pipeline::plan::fields::{Fields, Unusable};
use crate::pipeline::plan::value::Form;

/// What a value is in CEL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Bool,
    Int,
    Double,
    Text,
    Bytes,
    Null,
    List(Box<Type>),
    Map(Box<Type>),
    Record,
    /// Known only when a record is read.
    Any,
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Double => "double",
            Self::Text => "string",
            Self::Bytes => "bytes",
            Self::Null => "null",
            Self::List(items) => return write!(f, "list of {items}"),
            Self::Map(values) => return write!(f, "map of {values}"),
            Self::Record => "record",
            Self::Any => "any",
        })
    }
}

/// CEL's type of an Avro type; none for a decimal, which CEL does not have.
pub(super) fn of_shape(shape: &Shape) -> Option<Type> {
    Some(match shape.unwrap_optional().0 {
        Shape::Array(items) => Type::List(Box::new(of_shape(items)?)),
        Shape::Map(values) => Type::Map(Box::new(of_shape(values)?)),
        Shape::Record(_) => Type::Record,
        Shape::Null => Type::Null,
        Shape::Union(_) => Type::Any,
        Shape::Decimal { .. } | Shape::Recursive(_) => return None,
        scalar => match Form::of(scalar)? {
            Form::Bool => Type::Bool,
            Form::Int => Type::Int,
            Form::Float | Form::Double => Type::Double,
            Form::Text | Form::Symbol(_) => Type::Text,
            Form::Bytes | Form::Fixed => Type::Bytes,
        },
    })
}

/// Functions that CEL has here, for messages.
const FUNCTIONS: &str =
    "startsWith, endsWith, contains, size, int, double, string, bool, has, all, exists, exists_one, map, filter";

/// Finds types out.
pub(super) struct Checker<'f> {
    pub fields: &'f Fields,
    /// Variables of comprehensions that we are inside of.
    pub scope: Vec<(String, Type)>,
}

/// The dotted name that an expression spells.
pub(super) fn dotted(expr: &IdedExpr) -> Option<String> {
    match &expr.expr {
        Expr::Ident(name) => Some(name.clone()),
        Expr::Select(select) if !select.test => Some(format!("{}.{}", dotted(&select.operand)?, select.field)),
        _ => None,
    }
}

fn wrong(what: impl Into<String>, cure: impl Into<String>) -> Unusable {
    Unusable { what: what.into(), cure: cure.into() }
}

impl Checker<'_> {
    /// Whether the name is a comprehension's, not a field's.
    pub fn is_local(&self, name: &str) -> bool {
        let first = name.split('.').next().unwrap_or(name);
        self.scope.iter().any(|(local, _)| local == first)
    }

    /// The type of an expression. Errors: what is wrong in it.
    pub fn of(&mut self, expr: &IdedExpr) -> Result<Type, Unusable> {
        match &expr.expr {
            Expr::Literal(literal) => Ok(match literal {
                LiteralValue::Boolean(_) => Type::Bool,
                LiteralValue::Bytes(_) => Type::Bytes,
                LiteralValue::Double(_) => Type::Double,
                LiteralValue::Int(_) | LiteralValue::UInt(_) => Type::Int,
                LiteralValue::Null => Type::Null,
                LiteralValue::String(_) => Type::Text,
            }),
            Expr::Ident(name) => match self.scope.iter().rev().find(|(local, _)| local == name) {
                Some((_, of)) => Ok(of.clone()),
                None => self.field(name),
            },
            Expr::Select(select) => {
                let name = dotted(&select.operand).filter(|name| !self.is_local(name));
                let whole = name.map(|name| format!("{name}.{}", select.field));
                // Of any type: whether it is there can be asked also of what cannot be compared.
                if select.test && whole.as_ref().is_some_and(|whole| self.fields.plain(whole).is_ok()) {
                    return Ok(Type::Bool);
                }
                let found = whole.map(|whole| self.field(&whole));
                if let Some(Ok(of)) = found {
                    return Ok(of);
                }
                let operand = match (self.of(&select.operand), found) {
                    // What is wrong with the whole path says more.
                    (Err(_), Some(Err(unusable))) => return Err(unusable),
                    (operand, found) => (operand?, found),
                };
                match operand {
                    (Type::Map(_) | Type::Any, _) if select.test => Ok(Type::Bool),
                    (Type::Map(values), _) => Ok(*values),
                    (Type::Any, _) => Ok(Type::Any),
                    // A record of a list: its fields are looked at when there is one.
                    (Type::Record, None) => Ok(if select.test { Type::Bool } else { Type::Any }),
                    (_, Some(Err(unusable))) => Err(unusable),
                    (other, _) => Err(wrong(
                        format!("`.{}` is asked of {other}, which has no fields", select.field),
                        "ask it of a record or a map",
                    )),
                }
            }
            Expr::List(list) => {
                let mut items = Type::Any;
                for (at, element) in list.elements.iter().enumerate() {
                    let of = self.of(element)?;
                    items = if at == 0 || items == of { of } else { Type::Any };
                }
                Ok(Type::List(Box::new(items)))
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.of(&entry.key)?;
                        self.of(&entry.value)?;
                    }
                }
                Ok(Type::Map(Box::new(Type::Any)))
            }
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::Struct(_) | Expr::Unspecified => {
                Err(wrong("a message is made in the expression", "compare fields one by one"))
            }
        }
    }

    fn field(&self, name: &str) -> Result<Type, Unusable> {
        let plain = self.fields.plain(name)?;
        of_shape(&plain.shape).ok_or_else(|| {
            wrong(format!("field `{name}` is {}, which CEL cannot compare", plain.shape), "ask it of another field")
        })
    }

    fn comprehension(&mut self, of: &ComprehensionExpr) -> Result<Type, Unusable> {
        let item = match self.of(&of.iter_range)? {
            Type::List(items) => *items,
            Type::Map(_) => Type::Text,
            Type::Any => Type::Any,
            other => {
                return Err(wrong(
                    format!("{other} is walked through, expected a list or a map"),
                    "ask all, exists, map and filter of a list",
                ));
            }
        };
        let initial = match self.of(&of.accu_init)? {
            // It grows by items of any type.
            Type::List(_) => Type::List(Box::new(Type::Any)),
            other => other,
        };
        let depth = self.scope.len();
        self.scope.push((of.accu_var.clone(), initial));
        let outside = self.scope.len();
        self.scope.push((of.iter_var.clone(), item));
        self.scope.extend(of.iter_var2.clone().map(|name| (name, Type::Any)));
        let inside = self.of(&of.loop_cond).and_then(|_| self.of(&of.loop_step));
        self.scope.truncate(outside);
        let result = inside.and_then(|_| self.of(&of.result));
        self.scope.truncate(depth);
        result
    }

    fn call(&mut self, call: &CallExpr) -> Result<Type, Unusable> {
        let target = call.target.as_ref().map(|target| self.of(target)).transpose()?;
        let arguments: Vec<Type> = target
            .into_iter()
            .map(Ok)
            .chain(call.args.iter().map(|argument| self.of(argument)))
            .collect::<Result<_, _>>()?;
        let name = call.func_name.as_str();
        match (name, arguments.as_slice()) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [left, right]) => {
                needs(left, &Type::Bool, name).and_then(|()| needs(right, &Type::Bool, name)).map(|()| Type::Bool)
            }
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, [of]) => {
                needs(of, &Type::Bool, name).map(|()| Type::Bool)
            }
            (operators::CONDITIONAL, [condition, one, other]) => {
                needs(condition, &Type::Bool, name)?;
                Ok(if one == other { one.clone() } else { Type::Any })
            }
            (operators::EQUALS | operators::NOT_EQUALS, [left, right]) if can_be_equal(left, right) => Ok(Type::Bool),
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [left, right],
            ) if can_be_ordered(left, right) => Ok(Type::Bool),
            (operators::IN, [item, Type::List(items)]) if can_be_equal(item, items) => Ok(Type::Bool),
            (operators::IN, [Type::Text | Type::Any, Type::Map(_)] | [_, Type::Any]) => Ok(Type::Bool),
            ("startsWith" | "endsWith" | "contains", [text, part]) => {
                needs(text, &Type::Text, name).and_then(|()| needs(part, &Type::Text, name)).map(|()| Type::Bool)
            }
            ("size", [Type::Text | Type::Bytes | Type::List(_) | Type::Map(_) | Type::Any]) => Ok(Type::Int),
            (operators::INDEX, [Type::List(items), Type::Int | Type::Any]) => Ok((**items).clone()),
            (operators::INDEX, [Type::Map(values), _]) => Ok((**values).clone()),
            (operators::INDEX, [Type::Any, _]) => Ok(Type::Any),
            (operators::ADD, [Type::Text, Type::Text]) => Ok(Type::Text),
            (operators::ADD, [Type::List(one), Type::List(other)]) => {
                Ok(Type::List(if one == other { one.clone() } else { Box::new(Type::Any) }))
            }
            (
                operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO,
                [one @ (Type::Int | Type::Double), other],
            ) if one == other => Ok(one.clone()),
            (
                operators::ADD | operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO,
                [Type::Any, _] | [_, Type::Any],
            ) => Ok(Type::Any),
            (operators::NEGATE, [of @ (Type::Int | Type::Double | Type::Any)]) => Ok(of.clone()),
            ("int", [Type::Int | Type::Double | Type::Text | Type::Any]) => Ok(Type::Int),
            ("double", [Type::Int | Type::Double | Type::Text | Type::Any]) => Ok(Type::Double),
            ("string", [Type::Int | Type::Double | Type::Text | Type::Bool | Type::Bytes | Type::Any]) => {
                Ok(Type::Text)
            }
            ("bool", [Type::Bool | Type::Text | Type::Any]) => Ok(Type::Bool),
            (name, [one, other]) if symbol(name) != name => Err(wrong(
                format!("{one} {} {other} has no meaning", symbol(name)),
                "compare values of one type: cast the field before, or write the literal as the field's type",
            )),
            (name, arguments) => {
                let types: Vec<String> = arguments.iter().map(ToString::to_string).collect();
                Err(wrong(
                    format!("there is no function `{}` of ({})", symbol(name), types.join(", ")),
                    format!("use {FUNCTIONS}, or operators"),
                ))
            }
        }
    }
}

fn needs(found: &Type, expected: &Type, name: &str) -> Result<(), Unusable> {
    if found == expected || *found == Type::Any {
        return Ok(());
    }
    let what = format!("`{}` is given {found}, expected {expected}", symbol(name));
    Err(wrong(what, "compare the value, such as `field == 1`, or cast the field before"))
}

fn can_be_equal(left: &Type, right: &Type) -> bool {
    let number = |of: &Type| matches!(of, Type::Int | Type::Double);
    match (left, right) {
        (Type::Any | Type::Null, _) | (_, Type::Any | Type::Null) => true,
        (Type::List(one), Type::List(other)) | (Type::Map(one), Type::Map(other)) => can_be_equal(one, other),
        (one, other) => one == other || number(one) && number(other),
    }
}

fn can_be_ordered(left: &Type, right: &Type) -> bool {
    let ordered =
        |of: &Type| matches!(of, Type::Int | Type::Double | Type::Text | Type::Bool | Type::Bytes | Type::Any);
    ordered(left) && ordered(right) && can_be_equal(left, right)
}

/// The operator as people write it.
fn symbol(name: &str) -> &str {
    match name {
        operators::IN => "in",
        operators::INDEX => "[]",
        operators::CONDITIONAL => "?:",
        name => name.trim_matches('_'),
    }
}
