//! The fields that a record has at one point of the transforms, by name: where each comes from, its type, and whether it is, or
//! holds, an address.
//!
//! Privacy is a check of types here. [`Fields::plain`] is the only way to a value that may be written, compared or made a key,
//! and it refuses addresses; [`Fields::address`] gives a slot that only the place lookup takes.

use super::place_fields;
use super::plan_error::PlanError;
use super::value::Cast;
use crate::avro::Shape;
use crate::config::transforms::PLACE_FIELDS;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// A path in the input.
    Input(Vec<String>),
    /// A field of the place that a lookup found.
    Place {
        /// Which lookup.
        lookup: usize,
        /// Which field of [`PLACE_FIELDS`].
        field: usize,
    },
}

/// A value that may be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Plain {
    /// Where it comes from.
    pub from: From,
    /// Its type there.
    pub stored: Shape,
    /// Its type after the cast, if there is one. Both are nullable or not alike.
    pub shape: Shape,
    /// The change of type of the value, where it is not null.
    pub cast: Option<Cast>,
    /// A record around it may be null: then it is absent.
    pub may_be_absent: bool,
}

impl Plain {
    /// Whether it may have no value.
    pub fn is_nullable(&self) -> bool {
        self.may_be_absent || matches!(self.shape, Shape::Optional { .. } | Shape::Null)
    }

    /// Its type without null.
    pub fn inner(&self) -> &Shape {
        self.shape.unwrap_optional().0
    }
}

/// See the module. In the order in which they are written.
#[derive(Clone, Debug)]
pub struct Fields {
    named: Vec<(String, Plain)>,
    /// Paths in the input that are addresses.
    addresses: Vec<Vec<String>>,
}

/// A field that cannot be had, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unusable {
    /// What was found and expected.
    pub what: String,
    /// What to do.
    pub cure: String,
}

impl Unusable {
    fn new(what: impl Into<String>, cure: impl Into<String>) -> Self {
        Self { what: what.into(), cure: cure.into() }
    }

    /// As a fault of a key.
    pub fn at(self, key: &str) -> PlanError {
        PlanError { key: key.into(), what: self.what, cure: self.cure }
    }
}

impl Fields {
    /// The fields of a record. Errors: no record.
    pub fn of(shape: &Shape) -> Result<Self, Unusable> {
        let Shape::Record(fields) = shape else {
            let what = format!("the values of the topic are {shape}, expected a record");
            return Err(Unusable::new(what, "read a topic of records"));
        };
        let plain = |field: &crate::avro::Field| {
            let (from, shape) = (From::Input(vec![field.name.clone()]), field.shape.clone());
            let plain = Plain { from, stored: shape.clone(), shape, cast: None, may_be_absent: false };
            (field.name.clone(), plain)
        };
        Ok(Self { named: fields.iter().map(plain).collect(), addresses: Vec::new() })
    }

    /// Names, in their order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.named.iter().map(|(name, _)| name.as_str())
    }

    /// Paths in the input that are addresses.
    pub fn addresses(&self) -> &[Vec<String>] {
        &self.addresses
    }

    /// Takes what others know to be addresses.
    pub fn take_addresses(&mut self, other: &Fields) {
        self.addresses.clone_from(&other.addresses);
    }

    /// Takes a field for an address from here on. Errors: there is no such field, or it is not text of a record.
    pub fn declare_address(&mut self, name: &str) -> Result<(), Unusable> {
        let found = self.found(name)?;
        let From::Input(path) = &found.from else {
            return Err(Unusable::new(
                format!("field `{name}` comes from a place, expected an address"),
                "name the field of the input that holds the address",
            ));
        };
        if found.cast.is_some() || *found.inner() != Shape::String {
            return Err(Unusable::new(
                format!("field `{name}` is {}, expected string: an address is read from its text", found.shape),
                "name the field that holds the address as text, and cast nothing there",
            ));
        }
        if !self.addresses.contains(path) {
            self.addresses.push(path.clone());
        }
        Ok(())
    }

    /// The address of this name: only a lookup may read it. Errors: as [`Fields::declare_address`].
    pub fn address(&mut self, name: &str) -> Result<Plain, Unusable> {
        self.declare_address(name)?;
        self.found(name)
    }

    /// A value that may be written, compared or made a key. Errors: there is no such field; it is an address, or holds one.
    pub fn plain(&self, name: &str) -> Result<Plain, Unusable> {
        let found = self.found(name)?;
        let From::Input(path) = &found.from else { return Ok(found) };
        for address in &self.addresses {
            if path.starts_with(address) {
                return Err(Unusable::new(
                    format!("field `{name}` is an address, which goes nowhere but into a place lookup"),
                    "use the fields of its place, or drop it",
                ));
            }
            if address.starts_with(path) {
                return Err(Unusable::new(
                    format!(
                        "field `{name}` holds the address `{}`, which goes nowhere but into a place lookup",
                        address.join(".")
                    ),
                    format!(
                        "take the other fields out of it, such as rename = {{ \"{name}.other\" = \"other\" }}, and drop `{name}`"
                    ),
                ));
            }
        }
        Ok(found)
    }

    /// Whether a field is an address or holds one.
    pub fn is_tainted(&self, name: &str) -> bool {
        self.found(name).is_ok() && self.plain(name).is_err()
    }

    /// The field of a name, or at a path that begins with one. The name of a field may have dots in it: the longest counts.
    fn found(&self, name: &str) -> Result<Plain, Unusable> {
        let named = |name: &str| self.named.iter().find(|(known, _)| known == name).map(|(_, plain)| plain);
        if let Some(plain) = named(name) {
            return Ok(plain.clone());
        }
        let whole = name.match_indices('.').map(|(at, _)| at).rev().find(|at| named(&name[..*at]).is_some());
        let Some((at, root)) = whole.and_then(|at| Some((at, named(&name[..at])?))) else {
            return Err(self.unknown(name));
        };
        name[at + 1..].split('.').try_fold(root.clone(), |plain, part| plain.part(&name[..at], part))
    }

    fn unknown(&self, name: &str) -> Unusable {
        let first = name.split('.').next().unwrap_or(name);
        let near = self.names().map(|known| (strsim::damerau_levenshtein(known, first), known)).min();
        let cure = match near.filter(|(distance, _)| *distance <= 1 + first.len() / 4) {
            Some((_, known)) => format!("did you mean `{known}`?"),
            None => format!("use one of {}", self.names().collect::<Vec<_>>().join(", ")),
        };
        Unusable::new(format!("field `{name}` is not there"), cure)
    }

    /// Gives a field another name. Errors: it is not there, or the name is taken.
    pub fn rename(&mut self, old: &str, new: &str) -> Result<(), Unusable> {
        if new != old && self.names().any(|name| name == new) {
            return Err(Unusable::new(
                format!("there is a field `{new}` already"),
                "choose another name, or drop that field before",
            ));
        }
        match self.named.iter_mut().find(|(name, _)| name == old) {
            Some(named) => named.0 = new.into(),
            // Taken out of a record, which stays.
            None => {
                let found = self.found(old)?;
                self.named.push((new.into(), found));
            }
        }
        Ok(())
    }

    /// Leaves a field out. Errors: it is not there, or within a record.
    pub fn drop(&mut self, name: &str) -> Result<(), Unusable> {
        let before = self.named.len();
        self.named.retain(|(known, _)| known != name);
        if self.named.len() < before {
            return Ok(());
        }
        self.found(name)?;
        Err(Unusable::new(
            format!("field `{name}` stands within a record, which goes on as a whole"),
            "take the other fields out of the record by rename, and drop the record",
        ))
    }

    /// Gives a field another type. Errors: it is not there, is an address, or has no such type.
    pub fn cast(&mut self, name: &str, to: &Shape) -> Result<(), Unusable> {
        let plain = self.plain(name)?;
        let Some(at) = self.named.iter().position(|(known, _)| known == name) else {
            return Err(Unusable::new(
                format!("field `{name}` stands within a record"),
                format!("take it out of the record before: rename = {{ \"{name}\" = \"{}\" }}", name.replace('.', "_")),
            ));
        };
        let none = |from: &Shape| {
            Unusable::new(
                format!("field `{name}` is {from}, which cannot be cast to {to}"),
                "cast it to a type that holds its values, or leave it",
            )
        };
        if plain.cast.is_some_and(|cast| cast != Cast::Same) {
            return Err(Unusable::new(
                format!("field `{name}` is cast twice"),
                "cast it once, to the type that is wanted",
            ));
        }
        let cast = Cast::between(plain.inner(), to).ok_or_else(|| none(plain.inner()))?;
        let shape = match &plain.shape {
            Shape::Optional { null_first, .. } => {
                Shape::Optional { null_first: *null_first, some: Box::new(to.clone()) }
            }
            _ => to.clone(),
        };
        self.named[at].1 = Plain { shape, cast: Some(cast), ..plain };
        Ok(())
    }

    /// Adds fields of a place. Errors: a name that is taken; a field that a place does not have.
    pub fn add_place(&mut self, lookup: usize, prefix: &str, wanted: &[String]) -> Result<(), Unusable> {
        if let Some(other) = wanted.iter().find(|name| !PLACE_FIELDS.contains(&name.as_str())) {
            return Err(Unusable::new(
                format!("a place has no field `{other}`"),
                format!("use {}", PLACE_FIELDS.join(", ")),
            ));
        }
        for (field, name) in PLACE_FIELDS.iter().enumerate() {
            if !wanted.is_empty() && !wanted.iter().any(|wanted| wanted == name) {
                continue;
            }
            let name = format!("{prefix}{name}");
            if self.names().any(|known| known == name) {
                return Err(Unusable::new(
                    format!("there is a field `{name}` already"),
                    "set `prefix`, or name other `fields`",
                ));
            }
            let shape = place_fields::shape(field);
            let from = From::Place { lookup, field };
            self.named.push((name, Plain { from, stored: shape.clone(), shape, cast: None, may_be_absent: false }));
        }
        Ok(())
    }
}

impl Plain {
    /// A field of this record. Errors: this is not a record, or has no such field.
    fn part(self, name: &str, part: &str) -> Result<Plain, Unusable> {
        let (record, is_optional) = self.stored.unwrap_optional();
        let (Shape::Record(fields), From::Input(path)) = (record, &self.from) else {
            return Err(Unusable::new(
                format!("field `{name}` is {}, in which there is no field `{part}`", self.shape),
                "a path leads through records only, not through lists, maps and unions",
            ));
        };
        let Some(field) = fields.iter().find(|field| field.name == part) else {
            let names: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
            return Err(Unusable::new(
                format!("field `{name}` has no field `{part}`"),
                format!("use one of {}", names.join(", ")),
            ));
        };
        let path = path.iter().cloned().chain([part.to_string()]).collect();
        let may_be_absent = self.may_be_absent || is_optional;
        let shape = field.shape.clone();
        Ok(Plain { from: From::Input(path), stored: shape.clone(), shape, cast: None, may_be_absent })
    }
}

/// Whether a record within itself stands anywhere in it.
pub fn is_recursive(shape: &Shape) -> bool {
    match shape {
        Shape::Recursive(_) => true,
        Shape::Array(inner) | Shape::Map(inner) | Shape::Optional { some: inner, .. } => is_recursive(inner),
        Shape::Record(fields) => fields.iter().any(|field| is_recursive(&field.shape)),
        Shape::Union(branches) => branches.iter().any(is_recursive),
        _ => false,
    }
}
