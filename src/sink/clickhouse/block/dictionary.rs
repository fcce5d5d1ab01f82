//! Dictionaries of `LowCardinality` columns: each distinct value once, rows as their numbers.
//!
//! A value is looked up by its bytes as they stand in the datum, so a repeated city or country costs one hash and one
//! comparison, and the server gets the column as it stores it.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

/// The distinct values of one column of a block, and which of them each row has.
#[derive(Debug)]
pub struct Dictionary {
    /// The keys, end to end.
    keys: Vec<u8>,
    /// Where each key ends.
    ends: Vec<u32>,
    /// Numbers of keys, by the hash of the key. The table keeps no keys of its own: they would be a second allocation each.
    numbers: HashTable<u32>,
    /// The key of each row.
    rows: Vec<u32>,
    /// Differs from process to process, so that nobody can choose values that all fall into one bucket.
    hasher: RandomState,
    /// Keys and rows before the row that is being written.
    mark: (usize, usize),
    /// The first key is not a value: it stands for null, or for the type's default.
    reserved: usize,
}

impl Dictionary {
    /// An empty one whose key 0 is `default`, as ClickHouse's own dictionaries begin.
    pub fn new(default: &[u8]) -> Self {
        let mut dictionary = Self {
            keys: Vec::new(),
            ends: Vec::new(),
            numbers: HashTable::new(),
            rows: Vec::new(),
            hasher: RandomState::default(),
            mark: (0, 0),
            reserved: default.len(),
        };
        dictionary.add_key(default);
        dictionary
    }

    /// A row with this value.
    #[inline]
    pub fn push(&mut self, value: &[u8]) {
        self.push_if(value, || true);
    }

    /// A row with this value; one that is not here yet only if `check` passes it. Returns whether the row was added.
    #[inline]
    pub fn push_if(&mut self, value: &[u8], check: impl FnOnce() -> bool) -> bool {
        let hash = hash(&self.hasher, value);
        let found = self.numbers.find(hash, |number| self.key(*number as usize) == value).copied();
        if let Some(number) = found {
            self.rows.push(number);
            return true;
        }
        let passed = check();
        if passed {
            self.push_new(hash, value);
        }
        passed
    }

    /// A row with key 0, which in a nullable column is null.
    #[inline]
    pub fn push_null(&mut self) {
        self.rows.push(0);
    }

    fn push_new(&mut self, hash_of_value: u64, value: &[u8]) {
        let number = self.ends.len() as u32;
        self.add_key(value);
        self.rows.push(number);
        let Self { keys, ends, numbers, hasher, .. } = self;
        numbers.insert_unique(hash_of_value, number, |number| hash(hasher, key(keys, ends, *number as usize)));
    }

    fn add_key(&mut self, key: &[u8]) {
        self.keys.extend_from_slice(key);
        // A block's values are far below 4 GiB: a batch's datums are.
        self.ends.push(self.keys.len() as u32);
    }

    #[inline]
    fn key(&self, number: usize) -> &[u8] {
        key(&self.keys, &self.ends, number)
    }

    /// The keys in the order of their numbers.
    pub fn keys(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.ends.len()).map(|number| self.key(number))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// The key of each row.
    pub fn rows(&self) -> &[u32] {
        &self.rows
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.keys.len() + 4 * (self.ends.len() + self.rows.len())
    }

    /// A row begins.
    #[inline]
    pub fn begin(&mut self) {
        self.mark = (self.ends.len(), self.rows.len());
    }

    /// The row that began last is taken out, its keys with it.
    pub fn undo(&mut self) {
        self.rows.truncate(self.mark.1);
        while self.ends.len() > self.mark.0 {
            let number = self.ends.len() - 1;
            let hash = hash(&self.hasher, self.key(number));
            if let Ok(found) = self.numbers.find_entry(hash, |found| *found as usize == number) {
                found.remove();
            }
            self.ends.pop();
            self.keys.truncate(self.ends.last().map_or(0, |end| *end as usize));
        }
    }

    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.keys.truncate(self.reserved);
        self.ends.truncate(1);
        self.rows.clear();
        self.numbers.clear();
    }
}

#[inline]
fn key<'k>(keys: &'k [u8], ends: &[u32], number: usize) -> &'k [u8] {
    let start = if number == 0 { 0 } else { ends.get(number - 1).map_or(0, |end| *end as usize) };
    let end = ends.get(number).map_or(0, |end| *end as usize);
    keys.get(start..end).unwrap_or_default()
}

#[inline]
fn hash(hasher: &RandomState, value: &[u8]) -> u64 {
    let mut hasher = hasher.build_hasher();
    hasher.write(value);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(dictionary: &Dictionary) -> Vec<Vec<u8>> {
        let keys: Vec<&[u8]> = dictionary.keys().collect();
        dictionary.rows().iter().map(|row| keys[*row as usize].to_vec()).collect()
    }

    #[test]
    fn each_value_once_and_rows_by_number() {
        let mut dictionary = Dictionary::new(b"");
        for value in ["a", "b", "a", "a longer value", "b", "a longer value"] {
            dictionary.push(value.as_bytes());
        }
        assert_eq!(dictionary.len(), 4);
        assert_eq!(dictionary.rows(), [1, 2, 1, 3, 2, 3]);
    }

    #[test]
    fn a_hundred_thousand_values_and_back() {
        let mut dictionary = Dictionary::new(b"");
        let wanted: Vec<Vec<u8>> = (0..200_000).map(|n| format!("v{}", n % 100_000).into_bytes()).collect();
        wanted.iter().for_each(|value| dictionary.push(value));
        assert_eq!(dictionary.len(), 100_001);
        assert_eq!(values(&dictionary), wanted);
        dictionary.clear();
        dictionary.push(b"v1");
        assert_eq!((dictionary.len(), dictionary.rows()), (2, &[1u32][..]));
    }

    #[test]
    fn a_row_taken_out_leaves_nothing_behind() {
        let mut dictionary = Dictionary::new(b"");
        for n in 0..1000u32 {
            dictionary.begin();
            dictionary.push(&n.to_le_bytes());
            if n % 3 == 0 {
                dictionary.undo();
            }
        }
        assert_eq!(dictionary.len(), 1 + 666);
        // What was taken out is new again, what stayed is still found.
        for n in 0..1000u32 {
            dictionary.push(&n.to_le_bytes());
        }
        assert_eq!(dictionary.len(), 1001);
        assert_eq!(values(&dictionary).len(), 1666);
    }
}
