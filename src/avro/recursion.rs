//! Records that hold themselves, such as the nodes of a list: the one within is a reference to the type.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use super::{Cursor, DatumError, Shape};

/// A reference to a type that it stands in.
#[derive(Clone, Debug)]
pub struct Recursion {
    name: String,
    link: Link,
}

/// The types that hold themselves, with how deep each is nested.
#[derive(Debug)]
pub(super) struct Types(BTreeMap<String, (Shape, usize)>);

/// Where a reference finds its type. The references within the types do not keep them: nothing would ever free them.
#[derive(Clone, Debug)]
pub(super) enum Link {
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
pub(super) fn types(
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
    pub(super) fn new(name: String, link: Link) -> Self {
        Self { name, link }
    }

    /// Full name of the type.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Reads a value of the type at the cursor. Errors: those of `read`; a datum that goes too deep into itself.
    pub(super) fn read(
        &self,
        cursor: &mut Cursor<'_>,
        read: impl FnOnce(&Shape, &mut Cursor<'_>) -> Result<(), DatumError>,
    ) -> Result<(), DatumError> {
        let upgraded;
        let types = match &self.link {
            Link::Strong(types) => Some(types),
            Link::Weak(types) => {
                upgraded = types.upgrade();
                upgraded.as_ref()
            }
        };
        let found = types.and_then(|types| types.0.get(&self.name));
        let (shape, depth) = found.ok_or(DatumError::NoSuchBranch)?;
        cursor.deeper(*depth)?;
        read(shape, cursor)?;
        cursor.higher(*depth);
        Ok(())
    }
}

impl PartialEq for Recursion {
    /// By name: what differs within the type differs where it stands unfolded, too.
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Recursion {}
