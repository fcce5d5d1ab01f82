//! A schema resolved: references replaced by what they name, `["null", T]` recognised, logical types with their form. A record
//! within itself stays a reference.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Weak};

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, NamespaceRef, UuidSchema};

use crate::avro::schema::{MAX_DEPTH, SchemaText, former_names, misplaced_logical_type, original, parse_registered};

/// Most types of a schema with all references replaced by what they name: a short text can unfold into billions.
const MAX_TYPES: usize = 10_000;
/// Most digits of a decimal: as many as PostgreSQL's numeric can be declared with.
const MAX_PRECISION: usize = 1_000;

/// What a value is and how it is written (Avro 1.12 specification, "Data Serialization and Deserialization").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Nothing, in no bytes.
    Null,
    /// One byte.
    Boolean,
    /// 32 bits, zigzag varint.
    Int,
    /// 64 bits, zigzag varint.
    Long,
    /// Four bytes, little endian.
    Float,
    /// Eight bytes, little endian.
    Double,
    /// Length and bytes.
    Bytes,
    /// Length and UTF-8 text.
    String,
    /// So many bytes.
    Fixed(usize),
    /// The index of a symbol.
    Enum(Vec<String>),
    /// Blocks of items.
    Array(Box<Shape>),
    /// Blocks of text keys and values.
    Map(Box<Shape>),
    /// Field after field.
    Record(Vec<Field>),
    /// Union of null and one other type: the branch's index and, if it is not null, the value.
    Optional {
        /// Null is branch 0, as in `["null", T]`.
        null_first: bool,
        /// The other branch.
        some: Box<Shape>,
    },
    /// Any other union.
    Union(Vec<Shape>),
    /// A record within itself.
    Recursive(Recursion),
    /// Two's complement, big endian, without the decimal point.
    Decimal {
        /// Most digits.
        precision: usize,
        /// Digits after the point.
        scale: usize,
        /// Length of a fixed; `None` for bytes.
        fixed: Option<usize>,
    },
    /// A UUID.
    Uuid(UuidForm),
    /// Days since 1970, an int.
    Date,
    /// Milliseconds since midnight, an int.
    TimeMillis,
    /// Microseconds since midnight, a long.
    TimeMicros,
    /// Milliseconds since 1970 in UTC, a long.
    TimestampMillis,
    /// Microseconds.
    TimestampMicros,
    /// Nanoseconds.
    TimestampNanos,
    /// Milliseconds of a clock on some wall, a long.
    LocalTimestampMillis,
    /// Microseconds.
    LocalTimestampMicros,
    /// Nanoseconds.
    LocalTimestampNanos,
}

/// How a UUID is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UuidForm {
    /// 36 characters of text.
    Text,
    /// A fixed of 16 bytes.
    Fixed,
    /// Bytes, 16 of them.
    Bytes,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Name.
    pub name: String,
    /// Type.
    pub shape: Shape,
    /// The logical type that the schema has beside the field's type, where readers ignore it.
    pub misplaced: Option<String>,
    /// Names that it had in older schemas.
    pub aliases: Vec<String>,
}

impl Field {
    /// A field that a schema says no more of than this.
    pub fn new(name: impl Into<String>, shape: Shape) -> Self {
        Self { name: name.into(), shape, misplaced: None, aliases: Vec::new() }
    }
}

impl Shape {
    /// Parses a schema text. Errors, in words: not JSON, too deep, no Avro schema.
    pub fn parse(schema: &str) -> Result<Self, String> {
        Self::registered(&schema.into())
    }

    /// Parses a schema as the registry has it. Errors: as those of [`Shape::parse`]; types of another kind.
    pub fn registered(schema: &SchemaText) -> Result<Self, String> {
        Self::of(&parse_registered(schema)?)
    }

    /// Resolves a parsed schema. Errors: a type that is not known here or unfolds into too many.
    fn of(schema: &Schema) -> Result<Self, String> {
        let mut names = HashMap::new();
        crate::avro::schema::collect_names(schema, None, &mut names);
        let mut unfolded = Unfolded::default();
        let shape = resolve(schema, None, &names, &mut unfolded)?;
        if unfolded.recursive.is_empty() {
            return Ok(shape);
        }
        let types = linked(unfolded.recursive, |full, link| {
            let named = names.get(full).ok_or_else(|| format!("type `{full}` is not in the schema"))?;
            let mut unfolded = Unfolded { link, ..Unfolded::default() };
            Ok((resolve(named, None, &names, &mut unfolded)?, unfolded.deepest, unfolded.recursive))
        })?;
        resolve(schema, None, &names, &mut Unfolded { link: Link::Strong(types), ..Unfolded::default() })
    }

    /// Whether this record has all the fields of another, and beside them only such as may be null.
    pub fn extends(&self, older: &Shape) -> bool {
        let (Self::Record(fields), Self::Record(older)) = (self, older) else { return false };
        let like = |field: &Field, other: &Field| field.name == other.name && field.shape == other.shape;
        older.iter().all(|old| fields.iter().any(|field| like(field, old)))
            && fields.iter().all(|field| {
                matches!(field.shape, Self::Optional { .. }) || older.iter().any(|old| old.name == field.name)
            })
    }

    /// The type without its null branch, and whether it had one.
    pub fn unwrap_optional(&self) -> (&Shape, bool) {
        match self {
            Self::Optional { some, .. } => (some, true),
            other => (other, false),
        }
    }
}

/// How far references have been followed.
#[derive(Default)]
struct Unfolded {
    /// Records that we are inside of.
    open: Vec<String>,
    depth: usize,
    deepest: usize,
    types: usize,
    /// Records that hold themselves.
    recursive: BTreeSet<String>,
    /// Where those are found.
    link: Link,
}

fn resolve(
    schema: &Schema,
    namespace: NamespaceRef<'_>,
    names: &HashMap<String, Schema>,
    unfolded: &mut Unfolded,
) -> Result<Shape, String> {
    unfolded.types += 1;
    unfolded.depth += 1;
    unfolded.deepest = unfolded.deepest.max(unfolded.depth);
    if unfolded.types > MAX_TYPES {
        return Err(format!("the schema has more than {MAX_TYPES} types with its references followed"));
    }
    if unfolded.depth > MAX_DEPTH {
        return Err(format!("types are nested deeper than {MAX_DEPTH} with references followed"));
    }
    let shape = resolve_type(schema, namespace, names, unfolded);
    unfolded.depth -= 1;
    shape
}

fn resolve_type(
    schema: &Schema,
    namespace: NamespaceRef<'_>,
    names: &HashMap<String, Schema>,
    unfolded: &mut Unfolded,
) -> Result<Shape, String> {
    Ok(match schema {
        Schema::Null => Shape::Null,
        Schema::Boolean => Shape::Boolean,
        Schema::Int => Shape::Int,
        Schema::Long => Shape::Long,
        Schema::Float => Shape::Float,
        Schema::Double => Shape::Double,
        Schema::Bytes => Shape::Bytes,
        Schema::String => Shape::String,
        Schema::Fixed(fixed) => Shape::Fixed(fixed.size),
        Schema::Enum(inner) => Shape::Enum(inner.symbols.iter().map(|symbol| original(symbol).into_owned()).collect()),
        Schema::Array(array) => Shape::Array(Box::new(resolve(&array.items, namespace, names, unfolded)?)),
        Schema::Map(map) => Shape::Map(Box::new(resolve(&map.types, namespace, names, unfolded)?)),
        Schema::Union(union) => {
            let branches: Result<Vec<Shape>, String> =
                union.variants().iter().map(|branch| resolve(branch, namespace, names, unfolded)).collect();
            optional(branches?)
        }
        Schema::Record(record) => {
            let full = record.name.fullname(namespace);
            if unfolded.open.contains(&full) {
                unfolded.recursive.insert(full.clone());
                return Ok(Shape::Recursive(Recursion::new(full, unfolded.link.clone())));
            }
            let namespace = record.name.namespace().or(namespace);
            unfolded.open.push(full);
            let mut fields = Vec::with_capacity(record.fields.len());
            for field in &record.fields {
                let shape = resolve(&field.schema, namespace, names, unfolded)?;
                let misplaced = misplaced_logical_type(&field.custom_attributes).map(str::to_string);
                let (name, aliases) = (original(&field.name).into_owned(), former_names(&field.custom_attributes));
                fields.push(Field { name, shape, misplaced, aliases });
            }
            unfolded.open.pop();
            Shape::Record(fields)
        }
        Schema::Ref { name } => {
            let full = name.fullname(namespace);
            let named = names.get(&full).ok_or_else(|| format!("type `{full}` is not in the schema"))?;
            resolve(named, namespace, names, unfolded)?
        }
        logical => resolve_logical(logical)?,
    })
}

fn resolve_logical(schema: &Schema) -> Result<Shape, String> {
    Ok(match schema {
        Schema::Decimal(decimal) if decimal.precision > MAX_PRECISION => {
            return Err(format!("a decimal of {} digits, at most {MAX_PRECISION} are possible", decimal.precision));
        }
        Schema::Decimal(decimal) => {
            let fixed = match &decimal.inner {
                InnerDecimalSchema::Bytes => None,
                InnerDecimalSchema::Fixed(fixed) => Some(fixed.size),
            };
            Shape::Decimal { precision: decimal.precision, scale: decimal.scale, fixed }
        }
        Schema::Uuid(UuidSchema::String) => Shape::Uuid(UuidForm::Text),
        Schema::Uuid(UuidSchema::Fixed(_)) => Shape::Uuid(UuidForm::Fixed),
        Schema::Uuid(UuidSchema::Bytes) => Shape::Uuid(UuidForm::Bytes),
        Schema::Date => Shape::Date,
        Schema::TimeMillis => Shape::TimeMillis,
        Schema::TimeMicros => Shape::TimeMicros,
        Schema::TimestampMillis => Shape::TimestampMillis,
        Schema::TimestampMicros => Shape::TimestampMicros,
        Schema::TimestampNanos => Shape::TimestampNanos,
        Schema::LocalTimestampMillis => Shape::LocalTimestampMillis,
        Schema::LocalTimestampMicros => Shape::LocalTimestampMicros,
        Schema::LocalTimestampNanos => Shape::LocalTimestampNanos,
        Schema::Duration(fixed) => Shape::Fixed(fixed.size),
        // Scale and digits inside bytes: no column type holds a number whose scale changes from row to row.
        Schema::BigDecimal => Shape::Bytes,
        other => return Err(format!("type {other:?} is not known to this version of pressline")),
    })
}

fn optional(mut branches: Vec<Shape>) -> Shape {
    let null_first = branches.first() == Some(&Shape::Null);
    if branches.len() == 2 && branches.iter().filter(|shape| **shape == Shape::Null).count() == 1 {
        let some = branches.remove(usize::from(null_first));
        return Shape::Optional { null_first, some: Box::new(some) };
    }
    Shape::Union(branches)
}

impl fmt::Display for Shape {
    /// As people write it: `long (timestamp-micros)`, `["null", string]`, `array of string`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Boolean => f.write_str("boolean"),
            Self::Int => f.write_str("int"),
            Self::Long => f.write_str("long"),
            Self::Float => f.write_str("float"),
            Self::Double => f.write_str("double"),
            Self::Bytes => f.write_str("bytes"),
            Self::String => f.write_str("string"),
            Self::Fixed(size) => write!(f, "fixed of {size} bytes"),
            Self::Enum(symbols) => write!(f, "enum of {} symbols", symbols.len()),
            Self::Array(items) => write!(f, "array of {items}"),
            Self::Map(values) => write!(f, "map of {values}"),
            Self::Record(fields) => write!(f, "record of {} fields", fields.len()),
            Self::Optional { null_first: true, some } => write!(f, "[null, {some}]"),
            Self::Optional { null_first: false, some } => write!(f, "[{some}, null]"),
            Self::Union(branches) => {
                let names: Vec<String> = branches.iter().map(ToString::to_string).collect();
                write!(f, "[{}]", names.join(", "))
            }
            Self::Recursive(of) => write!(f, "record `{}` within itself", original(of.name())),
            Self::Decimal { precision, scale, .. } => write!(f, "decimal({precision}, {scale})"),
            Self::Uuid(UuidForm::Text) => f.write_str("string (uuid)"),
            Self::Uuid(UuidForm::Fixed) => f.write_str("fixed (uuid)"),
            Self::Uuid(UuidForm::Bytes) => f.write_str("bytes (uuid)"),
            Self::Date => f.write_str("int (date)"),
            Self::TimeMillis => f.write_str("int (time-millis)"),
            Self::TimeMicros => f.write_str("long (time-micros)"),
            Self::TimestampMillis => f.write_str("long (timestamp-millis)"),
            Self::TimestampMicros => f.write_str("long (timestamp-micros)"),
            Self::TimestampNanos => f.write_str("long (timestamp-nanos)"),
            Self::LocalTimestampMillis => f.write_str("long (local-timestamp-millis)"),
            Self::LocalTimestampMicros => f.write_str("long (local-timestamp-micros)"),
            Self::LocalTimestampNanos => f.write_str("long (local-timestamp-nanos)"),
        }
    }
}

/// A reference to a type that it stands in.
#[derive(Clone, Debug)]
pub struct Recursion {
    name: String,
    link: Link,
}

/// The types that hold themselves, with how deep each is nested.
#[derive(Debug)]
struct Types(BTreeMap<String, (Shape, usize)>);

/// Where a reference finds its type. The references within the types do not keep them: nothing would ever free them.
#[derive(Clone, Debug)]
enum Link {
    Strong(Arc<Types>),
    Weak(Weak<Types>),
}

impl Default for Link {
    fn default() -> Self {
        Self::Weak(Weak::new())
    }
}

/// All types of these names, and those that they refer to in the same way. `resolve` gives a type with links put in, its depth
/// and the names that it links to. Errors: those of `resolve`.
fn linked(
    names: BTreeSet<String>,
    resolve: impl Fn(&str, Link) -> Result<(Shape, usize, BTreeSet<String>), String>,
) -> Result<Arc<Types>, String> {
    let mut error = None;
    let types = Arc::new_cyclic(|weak| {
        let (mut found, mut open) = (BTreeMap::new(), names);
        while let Some(name) = open.pop_first() {
            match resolve(&name, Link::Weak(weak.clone())) {
                Ok((shape, depth, more)) => {
                    found.insert(name, (shape, depth));
                    open.extend(more.into_iter().filter(|name| !found.contains_key(name)));
                }
                Err(why) => error = Some(why),
            }
        }
        Types(found)
    });
    error.map_or(Ok(types), Err)
}

impl Recursion {
    fn new(name: String, link: Link) -> Self {
        Self { name, link }
    }

    /// Full name of the type.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The type and how deep it is nested; `None` where the schema that it stands in is gone.
    pub fn with_type<R>(&self, read: impl FnOnce(&Shape, usize) -> R) -> Option<R> {
        let upgraded;
        let types = match &self.link {
            Link::Strong(types) => Some(types),
            Link::Weak(types) => {
                upgraded = types.upgrade();
                upgraded.as_ref()
            }
        };
        types.and_then(|types| types.0.get(&self.name)).map(|(shape, depth)| read(shape, *depth))
    }
}

impl PartialEq for Recursion {
    /// By name: what differs within the type differs where it stands unfolded, too.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Recursion {}
