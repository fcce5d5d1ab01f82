//! How many addresses a city has in a file: the count that tells a place where many are from one where a few are.
//!
//! An IPv4 address mostly stands for a household or a few. Of IPv6 a household has 2^64 addresses at least, and mostly a
//! network of /56 (RIPE-690), so that is what counts like an address there. Sums are kept in /64.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, DefaultHasher, Hash, Hasher};

use super::networks::Leaf;
use super::record::Damage;
use crate::place::Place;
use crate::place::cache::KeyHasher;

/// Addresses that a city, a subdivision or all the world holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Held {
    /// IPv4 addresses.
    pub v4: u64,
    /// IPv6 networks of /64, whole ones.
    pub v6: u64,
}

impl Held {
    /// How many lines that may be: IPv4 addresses and IPv6 networks of /56.
    pub fn lines(self) -> u64 {
        self.v4.saturating_add(self.v6 >> 8)
    }

    /// The larger of each kind: two files that know the same city know mostly the same addresses of it, so adding theirs
    /// would make small places look large.
    pub(crate) fn most(self, other: Held) -> Held {
        Held { v4: self.v4.max(other.v4), v6: self.v6.max(other.v6) }
    }
}

/// Adds networks up; IPv6 exactly, in single addresses.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sum {
    v4: u64,
    v6: u128,
}

impl Sum {
    pub(crate) fn add(&mut self, leaf: &Leaf) {
        if leaf.is_v4 {
            self.v4 = self.v4.saturating_add(1 << (32 - u32::from(leaf.prefix_len).min(32)));
        } else {
            let addresses = 1u128.checked_shl(128 - u32::from(leaf.prefix_len)).unwrap_or(u128::MAX);
            self.v6 = self.v6.saturating_add(addresses);
        }
    }

    pub(crate) fn held(self) -> Held {
        Held { v4: self.v4, v6: (self.v6 >> 64) as u64 }
    }
}

/// A city or a subdivision by its names, 64 bits of them: of a million names, two are taken for one with odds of one to
/// thirty million.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NameKey(u64);

impl NameKey {
    /// `place` as its record has it, before names are completed.
    pub(crate) fn city(place: &Place) -> NameKey {
        NameKey::of(&(&place.country_code, &place.subdivision_name, Some(&place.city_name)))
    }

    pub(crate) fn subdivision(place: &Place) -> NameKey {
        NameKey::of(&(&place.country_code, &place.subdivision_name, None::<&String>))
    }

    fn of(names: &impl Hash) -> NameKey {
        let mut hasher = DefaultHasher::new();
        names.hash(&mut hasher);
        NameKey(hasher.finish())
    }
}

/// Hashed already, or small numbers in no hostile order.
pub(crate) type Quick = BuildHasherDefault<KeyHasher>;

/// The addresses of every city and subdivision of one file.
#[derive(Default)]
pub(crate) struct Counts {
    by_name: HashMap<NameKey, Held, Quick>,
}

impl Counts {
    /// Goes over all networks once and reads every record once.
    pub(crate) fn of(
        each_leaf: impl FnOnce(&mut dyn FnMut(&Leaf) -> Result<(), Damage>) -> Result<(), Damage>,
        place_at: impl Fn(usize) -> Result<Place, Damage>,
    ) -> Result<Counts, Damage> {
        // Which sum a record's networks go to: the index of its city.
        let mut city_of: HashMap<u32, u32, Quick> = HashMap::default();
        let mut index_of: HashMap<NameKey, u32, Quick> = HashMap::default();
        let mut cities: Vec<(NameKey, NameKey, Sum)> = Vec::new();
        each_leaf(&mut |leaf| {
            let index = match city_of.get(&leaf.offset) {
                Some(index) => *index,
                None => {
                    let place = place_at(leaf.offset as usize)?;
                    let next = cities.len() as u32;
                    let index = *index_of.entry(NameKey::city(&place)).or_insert(next);
                    if index == next {
                        cities.push((NameKey::city(&place), NameKey::subdivision(&place), Sum::default()));
                    }
                    city_of.insert(leaf.offset, index);
                    index
                }
            };
            if let Some((_, _, sum)) = cities.get_mut(index as usize) {
                sum.add(leaf);
            }
            Ok(())
        })?;
        drop((city_of, index_of));
        let mut subdivisions: HashMap<NameKey, Sum, Quick> = HashMap::default();
        for (_, subdivision, sum) in &cities {
            let all = subdivisions.entry(*subdivision).or_default();
            all.v4 = all.v4.saturating_add(sum.v4);
            all.v6 = all.v6.saturating_add(sum.v6);
        }
        let cities = cities.into_iter().map(|(city, _, sum)| (city, sum));
        Ok(Counts { by_name: cities.chain(subdivisions).map(|(name, sum)| (name, sum.held())).collect() })
    }

    pub(crate) fn held(&self, name: NameKey) -> Held {
        self.by_name.get(&name).copied().unwrap_or_default()
    }
}

#[cfg(test)]
#[path = "count/tests.rs"]
mod tests;
