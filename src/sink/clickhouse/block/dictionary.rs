//! Dictionaries of `LowCardinality` columns: each distinct value once, rows as their numbers.
//!
//! A value is looked up by its bytes as they stand in the datum, so a repeated city or country costs one hash and one
//! comparison, and the server gets the column as it stores it.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Slots to begin with; a power of two.
const FIRST_SLOTS: usize = 64;
/// An unused slot.
const FREE: u32 = u32::MAX;

/// The distinct values of one column of a block, and which of them each row has.
#[derive(Debug)]
pub struct Dictionary {
    /// The keys, end to end.
    keys: Vec<u8>,
    /// Where each key ends.
    ends: Vec<u32>,
    /// Open addressing with linear probing: the hash's upper half and the number of a key.
    slots: Vec<(u32, u32)>,
    /// The key of each row.
    rows: Vec<u32>,
    /// Differs from process to process, so that nobody can choose values that all fall into one slot.
    seed: u64,
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
            slots: vec![(0, FREE); FIRST_SLOTS],
            rows: Vec::new(),
            seed: RandomState::new().build_hasher().finish(),
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
        let hash = hash(self.seed, value);
        let tag = (hash >> 32) as u32;
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while let Some((found_tag, number)) = self.slots.get(at).copied() {
            if number == FREE {
                let passed = check();
                if passed {
                    self.push_new(at, tag, value);
                }
                return passed;
            }
            if found_tag == tag && self.key(number as usize) == value {
                self.rows.push(number);
                return true;
            }
            at = (at + 1) & mask;
        }
        false
    }

    /// A row with key 0, which in a nullable column is null.
    #[inline]
    pub fn push_null(&mut self) {
        self.rows.push(0);
    }

    fn push_new(&mut self, at: usize, tag: u32, value: &[u8]) {
        let number = self.ends.len() as u32;
        self.add_key(value);
        if let Some(slot) = self.slots.get_mut(at) {
            *slot = (tag, number);
        }
        self.rows.push(number);
        // Three quarters full: probes stay short.
        if self.ends.len() * 4 > self.slots.len() * 3 {
            self.grow();
        }
    }

    fn add_key(&mut self, key: &[u8]) {
        self.keys.extend_from_slice(key);
        // A block's values are far below 4 GiB: a batch's datums are.
        self.ends.push(self.keys.len() as u32);
    }

    fn grow(&mut self) {
        let slots = self.slots.len() * 2;
        self.slots.clear();
        self.slots.resize(slots, (0, FREE));
        // In the order of their numbers, so that the last keys can be taken out again.
        for number in 1..self.ends.len() {
            let hash = hash(self.seed, self.key(number));
            let free = self.probe(hash, FREE);
            if let Some(slot) = self.slots.get_mut(free) {
                *slot = ((hash >> 32) as u32, number as u32);
            }
        }
    }

    /// The first slot from the hash's own on that holds the number.
    fn probe(&self, hash: u64, number: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        while self.slots.get(at).is_some_and(|slot| slot.1 != number) {
            at = (at + 1) & mask;
        }
        at
    }

    #[inline]
    fn key(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends.get(number - 1).map_or(0, |end| *end as usize) };
        let end = self.ends.get(number).map_or(0, |end| *end as usize);
        self.keys.get(start..end).unwrap_or_default()
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
            // The newest key first: no other was put behind it.
            let hash = hash(self.seed, self.key(number));
            let at = self.probe(hash, number as u32);
            if let Some(slot) = self.slots.get_mut(at) {
                *slot = (0, FREE);
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
        self.slots.fill((0, FREE));
    }
}

/// Folded multiplication over words of eight bytes, as wyhash does: values here are short, and the seed is ours alone.
#[inline]
fn hash(seed: u64, bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut state = seed ^ (bytes.len() as u64).wrapping_mul(ODD);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), ODD);
    }
    if !rest.is_empty() {
        state = fold(state ^ tail(bytes), ODD);
    }
    fold(state, seed | 1)
}

/// The last bytes, up to eight, in loads of known size that may overlap; with the length, which the state begins with, they are
/// unmistakable.
#[inline]
fn tail(bytes: &[u8]) -> u64 {
    if let Some(last) = bytes.last_chunk::<8>() {
        return u64::from_le_bytes(*last);
    }
    if let (Some(first), Some(last)) = (bytes.first_chunk::<4>(), bytes.last_chunk::<4>()) {
        return u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last));
    }
    match *bytes {
        [only] => u64::from(only),
        [first, .., last] => {
            // The middle one of three; of two, the last once more.
            let middle = bytes.get(bytes.len() / 2).copied().unwrap_or_default();
            u64::from(first) << 16 | u64::from(middle) << 8 | u64::from(last)
        }
        [] => 0,
    }
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ (product >> 64) as u64
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
    fn each_byte_of_a_value_counts_in_its_hash() {
        for length in 1..=40 {
            let value: Vec<u8> = (1..=length).collect();
            for at in 0..value.len() {
                let mut other = value.clone();
                other[at] ^= 1;
                assert_ne!(hash(7, &value), hash(7, &other), "byte {at} of {length}");
            }
            assert_ne!(hash(7, &value), hash(7, &value[1..]));
        }
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
