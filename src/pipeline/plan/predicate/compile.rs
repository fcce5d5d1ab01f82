//! From CEL's syntax tree to the evaluator, as far as that goes.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use cel::parser::Parser;

use super::eval::{List, Node, Orders, TextTest, Value};
use super::input::{At, Field, null_where_absent};
use super::interpret::{Interpreted, Variable};
use super::types::{Checker, Type, dotted};
use crate::avro::Shape;
use crate::pipeline::plan::fields::{Fields, From, Plain, Unusable};
use crate::pipeline::plan::value::{Cast, Form};

/// Who runs a predicate.
pub(super) enum Run {
    Compiled(Node),
    Interpreted(Box<Interpreted>),
}

/// Longest text of a predicate, in bytes.
const MAX_TEXT: usize = 10_000;

/// Gives the slot of a path of the input.
type Slots<'s> = dyn FnMut(&[String]) -> usize + 's;

pub(super) fn compile(text: &str, fields: &Fields, slots: &mut Slots<'_>) -> Result<Run, Unusable> {
    let expr = checked(text, fields)?;
    let node = Compiler { fields, slots }.node(&expr);
    match node {
        Some(node) => Ok(Run::Compiled(node)),
        None => by_interpreter(expr, fields, slots),
    }
}

pub(super) fn interpreted(text: &str, fields: &Fields, slots: &mut Slots<'_>) -> Result<Run, Unusable> {
    by_interpreter(checked(text, fields)?, fields, slots)
}

/// Parses and types it.
fn checked(text: &str, fields: &Fields) -> Result<IdedExpr, Unusable> {
    let wrong = |what: String, cure: &str| Unusable { what, cure: cure.into() };
    if text.len() > MAX_TEXT {
        return Err(wrong(format!("{} bytes long, at most {MAX_TEXT} are allowed", text.len()), "use several filters"));
    }
    let parsed = Parser::default().parse(text).map_err(|errors| {
        let first = errors.errors.first();
        let at = first.map_or(String::new(), |error| format!(" at column {}", error.pos.1));
        let said = first.map_or("", |error| error.msg.lines().next().unwrap_or_default());
        wrong(format!("not a CEL expression{at}: {said}"), "write it like `count > 1 && name.startsWith(\"a\")`")
    })?;
    match (Checker { fields, scope: Vec::new() }).of(&parsed)? {
        Type::Bool | Type::Any => Ok(parsed),
        other => Err(wrong(format!("gives {other}, expected bool"), "compare the value, such as `count > 1`")),
    }
}

/// Where a value is read from.
fn at(plain: &Plain, slots: &mut Slots<'_>) -> At {
    match &plain.from {
        From::Input(path) => At::Slot(slots(path)),
        From::Place { lookup, field } => At::Place { lookup: *lookup, field: *field },
    }
}

struct Compiler<'c, 's> {
    fields: &'c Fields,
    slots: &'c mut Slots<'s>,
}

impl Compiler<'_, '_> {
    /// None: only the interpreter can.
    fn node(&mut self, expr: &IdedExpr) -> Option<Node> {
        match &expr.expr {
            Expr::Literal(LiteralValue::Boolean(value)) => Some(Node::Literal(*value.inner())),
            Expr::Select(select) if select.test => {
                let name = format!("{}.{}", dotted(&select.operand)?, select.field);
                let plain = self.fields.plain(&name).ok()?;
                let at = at(&plain, self.slots);
                Some(match Field::new(at, &plain, &name) {
                    Some(field) => Node::Has(field),
                    None => Node::HasAny(at, null_byte(&plain.stored)),
                })
            }
            Expr::Ident(_) | Expr::Select(_) => match self.value(expr)? {
                Value::Field(field) if field.form == Form::Bool || field.cast == Some(Cast::ToBool) => {
                    Some(Node::Field(field))
                }
                _ => None,
            },
            Expr::Call(call) => self.call(call),
            _ => None,
        }
    }

    fn call(&mut self, call: &CallExpr) -> Option<Node> {
        let boxed = |node: Option<Node>| node.map(Box::new);
        let orders = |less, equal, greater| Orders { less, equal, greater };
        match (call.func_name.as_str(), &call.target, call.args.as_slice()) {
            (operators::LOGICAL_NOT, None, [of]) => Some(Node::Not(boxed(self.node(of))?)),
            (operators::LOGICAL_AND, None, [one, other]) => {
                Some(Node::And(boxed(self.node(one))?, boxed(self.node(other))?))
            }
            (operators::LOGICAL_OR, None, [one, other]) => {
                Some(Node::Or(boxed(self.node(one))?, boxed(self.node(other))?))
            }
            (operators::EQUALS, None, [one, other]) => self.equal(one, other),
            (operators::NOT_EQUALS, None, [one, other]) => Some(Node::Not(Box::new(self.equal(one, other)?))),
            (name, None, [one, other]) if name != operators::IN => {
                let orders = match name {
                    operators::LESS => orders(true, false, false),
                    operators::LESS_EQUALS => orders(true, true, false),
                    operators::GREATER => orders(false, false, true),
                    operators::GREATER_EQUALS => orders(false, true, true),
                    _ => return None,
                };
                Some(Node::Order(self.value(one)?, self.value(other)?, orders))
            }
            (operators::IN, None, [item, list]) => self.within(item, list),
            (name, Some(target), [part]) => {
                let test = match name {
                    "startsWith" => TextTest::StartsWith,
                    "endsWith" => TextTest::EndsWith,
                    "contains" => TextTest::Contains,
                    _ => return None,
                };
                Some(Node::Text(test, self.value(target)?, self.value(part)?))
            }
            _ => None,
        }
    }

    fn equal(&mut self, one: &IdedExpr, other: &IdedExpr) -> Option<Node> {
        let is_null = |expr: &IdedExpr| matches!(expr.expr, Expr::Literal(LiteralValue::Null));
        for (field, null) in [(one, other), (other, one)] {
            if let (true, Some(name)) = (is_null(null), dotted(field))
                && let Ok(plain) = self.fields.plain(&name)
                && let (None, Some(null)) = (Form::of(plain.stored.unwrap_optional().0), null_byte(&plain.stored))
            {
                return Some(Node::IsNull {
                    at: at(&plain, self.slots),
                    null,
                    absent_is_null: null_where_absent(&name),
                });
            }
        }
        Some(Node::Equal(self.value(one)?, self.value(other)?))
    }

    fn within(&mut self, item: &IdedExpr, list: &IdedExpr) -> Option<Node> {
        let item = self.value(item)?;
        if let Expr::List(literals) = &list.expr {
            let literals: Option<Vec<Value>> = literals.elements.iter().map(|literal| self.literal(literal)).collect();
            return Some(Node::OneOf(item, literals?));
        }
        let plain = self.fields.plain(&dotted(list)?).ok()?;
        let Shape::Array(items) = plain.stored.unwrap_optional().0 else { return None };
        let form = Form::of(items.unwrap_optional().0).filter(|form| *form != Form::Fixed)?;
        let (item_null_first, at) = (null_first(items), at(&plain, self.slots));
        Some(Node::ItemOf(item, List { at, null_first: null_first(&plain.stored), item: form, item_null_first }))
    }

    /// A field or a literal that is a scalar.
    fn value(&mut self, expr: &IdedExpr) -> Option<Value> {
        let Some(name) = dotted(expr) else { return self.literal(expr) };
        let plain = self.fields.plain(&name).ok()?;
        // Text of a number would have to be put somewhere.
        if plain.cast == Some(Cast::ToText) && !matches!(plain.stored.unwrap_optional().0, Shape::Enum(_)) {
            return None;
        }
        Field::new(at(&plain, self.slots), &plain, &name).map(Value::Field)
    }

    fn literal(&mut self, expr: &IdedExpr) -> Option<Value> {
        let literal = match &expr.expr {
            Expr::Literal(literal) => literal,
            // `-1` may be written as a negated 1.
            Expr::Call(call) if call.func_name == operators::NEGATE => {
                return match self.literal(call.args.first()?)? {
                    Value::Int(value) => Some(Value::Int(value.checked_neg()?)),
                    Value::Double(value) => Some(Value::Double(-value)),
                    _ => None,
                };
            }
            _ => return None,
        };
        Some(match literal {
            LiteralValue::Boolean(value) => Value::Bool(*value.inner()),
            LiteralValue::Bytes(bytes) => Value::Bytes(bytes.inner().into()),
            LiteralValue::Double(value) => Value::Double(*value.inner()),
            LiteralValue::Int(value) => Value::Int(*value.inner()),
            LiteralValue::UInt(value) => Value::Int(i64::try_from(*value.inner()).ok()?),
            LiteralValue::Null => Value::Null,
            LiteralValue::String(text) => Value::Text(text.inner().into()),
        })
    }
}

/// The byte of the branch that is null, in any union of fewer than 64 branches.
fn null_byte(shape: &Shape) -> Option<u8> {
    let index = match shape {
        Shape::Null => 0,
        Shape::Optional { null_first, .. } => usize::from(!null_first),
        Shape::Union(branches) => branches.iter().position(|branch| *branch == Shape::Null)?,
        _ => return None,
    };
    u8::try_from(2 * index).ok().filter(|byte| *byte < 0x80)
}

fn null_first(shape: &Shape) -> Option<bool> {
    match shape {
        Shape::Optional { null_first, .. } => Some(*null_first),
        _ => None,
    }
}

/// Has the interpreter run it, over the fields that it names.
fn by_interpreter(mut expr: IdedExpr, fields: &Fields, slots: &mut Slots<'_>) -> Result<Run, Unusable> {
    let mut found = Named { fields, slots, scope: Vec::new(), variables: Vec::new() };
    found.visit(&mut expr);
    let variables = found.variables;
    Ok(Run::Interpreted(Box::new(Interpreted::new(expr, variables))))
}

/// Collects the fields that an expression names, and puts `!= null` in the place of `has` where a record is asked.
struct Named<'c, 's> {
    fields: &'c Fields,
    slots: &'c mut Slots<'s>,
    scope: Vec<String>,
    variables: Vec<Variable>,
}

impl Named<'_, '_> {
    fn visit(&mut self, expr: &mut IdedExpr) {
        if let Expr::Select(select) = &expr.expr
            && select.test
            && let Some(of) = dotted(&select.operand).filter(|name| !self.is_local(name))
            && self.fields.plain(&format!("{of}.{}", select.field)).is_ok()
        {
            expr.expr = self.is_there(&format!("{of}.{}", select.field));
            return;
        }
        if let Some(name) = dotted(expr).filter(|name| !self.is_local(name))
            && self.note(&name)
        {
            return;
        }
        match &mut expr.expr {
            Expr::Select(select) => self.visit(&mut select.operand),
            Expr::Call(call) => {
                call.target.as_deref_mut().into_iter().chain(&mut call.args).for_each(|part| self.visit(part))
            }
            Expr::List(list) => list.elements.iter_mut().for_each(|element| self.visit(element)),
            Expr::Map(map) => {
                for entry in &mut map.entries {
                    if let cel::common::ast::EntryExpr::MapEntry(entry) = &mut entry.expr {
                        self.visit(&mut entry.key);
                        self.visit(&mut entry.value);
                    }
                }
            }
            Expr::Comprehension(of) => {
                self.visit(&mut of.iter_range);
                self.visit(&mut of.accu_init);
                let depth = self.scope.len();
                self.scope.extend([of.accu_var.clone(), of.iter_var.clone()]);
                self.scope.extend(of.iter_var2.clone());
                self.visit(&mut of.loop_cond);
                self.visit(&mut of.loop_step);
                self.visit(&mut of.result);
                self.scope.truncate(depth);
            }
            _ => {}
        }
    }

    fn is_local(&self, name: &str) -> bool {
        let first = name.split('.').next().unwrap_or(name);
        self.scope.iter().any(|local| local == first)
    }

    /// Whether the name is a field's, which is a variable then.
    fn note(&mut self, name: &str) -> bool {
        let Ok(plain) = self.fields.plain(name) else { return false };
        if !self.variables.iter().any(|variable| variable.name == name) {
            let at = at(&plain, self.slots);
            self.variables.push(Variable {
                name: name.into(),
                at,
                shape: plain.stored,
                cast: plain.cast,
                absent_is_null: null_where_absent(name),
                is_presence: false,
            });
        }
        true
    }

    /// Whether a field is there: a variable of its own.
    fn is_there(&mut self, name: &str) -> Expr {
        let variable = format!("has({name})");
        if let (Ok(plain), false) = (self.fields.plain(name), self.variables.iter().any(|known| known.name == variable))
        {
            let at = at(&plain, self.slots);
            let name = variable.clone();
            let (shape, absent_is_null) = (plain.stored, false);
            self.variables.push(Variable { name, at, shape, cast: None, absent_is_null, is_presence: true });
        }
        Expr::Ident(variable)
    }
}
