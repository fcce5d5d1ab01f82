//! Which value a key has, where neighbouring keys mostly have the same one: a search that touches few cache lines.
//!
//! The ranges stand in order, in blocks of sixteen. The first key of each block stands in the level above, in lines of
//! sixteen again, and so on up to a level small enough for a core's innermost cache. Of 4 million ranges, a search reads
//! one line of each of two levels and a block, of which only the block is unlikely to be in a cache.

/// Entries of a line: of 32 bits each they are what the processor's caches deal in.
const LANES: usize = 16;

/// Entries that the uppermost level may have: 16 KB of the longer keys.
const TOP_MOST: usize = 2_048;

/// Blocks that a table has room for at first: 48 MB of address space, of which only what is written takes memory. So much is
/// mapped apart by glibc (over 32 MB it always is, see M_MMAP_THRESHOLD in mallopt(3)), so that all of it is given back when
/// a newer database takes its place. Never shrunk: what is aligned like this would be copied for that.
const ROOM: usize = 393_216;

/// Ranges that [`Ranges::any`] looks at.
pub(crate) const ATTEMPTS: usize = 64;

/// What ranges are of: the first bits of an address.
pub(crate) trait Key: Copy + Ord {
    /// How many.
    const BITS: u8;
    /// The highest one.
    const LAST: Self;

    /// The first bits of `bits`.
    fn first_of(bits: u128) -> Self;

    /// The bits at the high end, zeros behind.
    fn bits(self) -> u128;

    /// All but the last 32 bits.
    fn high(self) -> u32;

    /// The last 32 bits.
    fn low(self) -> u32;

    /// The same but for the last 32 bits.
    fn with_low(self, low: u32) -> Self;
}

impl Key for u32 {
    const BITS: u8 = 32;
    const LAST: u32 = u32::MAX;

    #[inline]
    fn first_of(bits: u128) -> u32 {
        (bits >> 96) as u32
    }

    #[inline]
    fn bits(self) -> u128 {
        u128::from(self) << 96
    }

    #[inline]
    fn high(self) -> u32 {
        0
    }

    #[inline]
    fn low(self) -> u32 {
        self
    }

    fn with_low(self, low: u32) -> u32 {
        low
    }
}

impl Key for u64 {
    const BITS: u8 = 64;
    const LAST: u64 = u64::MAX;

    #[inline]
    fn first_of(bits: u128) -> u64 {
        (bits >> 64) as u64
    }

    #[inline]
    fn bits(self) -> u128 {
        u128::from(self) << 64
    }

    #[inline]
    fn high(self) -> u32 {
        (self >> 32) as u32
    }

    #[inline]
    fn low(self) -> u32 {
        self as u32
    }

    fn with_low(self, low: u32) -> u64 {
        u64::from(self.high()) << 32 | u64::from(low)
    }
}

/// Begins where a line of the processor's caches does.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line<T>([T; LANES]);

/// Ranges whose starts differ in their last 32 bits alone, which is nearly always so of sixteen neighbours. What is left of
/// a block is filled up with the highest start and the last value.
#[derive(Clone, Copy)]
struct Block {
    starts: Line<u32>,
    values: Line<u32>,
}

/// The value of every key from the first start on; each range ends where the next one starts.
pub(crate) struct Ranges<K> {
    /// The first key of each line of the level below.
    top: Box<[K]>,
    /// The same of the levels between, from above; the last of them has the first key of each block.
    between: Vec<Box<[Line<K>]>>,
    blocks: Vec<Block>,
}

impl<K: Key> Ranges<K> {
    /// The value of a key. None where there are no ranges.
    #[inline]
    pub(crate) fn get(&self, key: K) -> Option<u32> {
        let mut found = last_not_above(&self.top, key);
        let mut first = self.top.get(found).copied();
        for level in &self.between {
            // The highest key finds what the levels are filled up with, behind the last line.
            let line = level.get(found).or(level.last())?;
            let lane = line.last_not_above(key);
            (found, first) = (found * LANES + lane, Some(line.0[lane]));
        }
        let block = self.blocks.get(found.min(self.blocks.len().saturating_sub(1)))?;
        // The values are as unlikely to be in a cache as the starts. To read one now has them fetched at the same time.
        std::hint::black_box(block.values.0[0]);
        // Behind the last start that has the same first bits.
        let low = if first?.high() == key.high() { key.low() } else { u32::MAX };
        Some(block.values.0[block.starts.last_not_above(low)])
    }

    /// Start and value of what stands in a lane; of one that was filled up, the last key that has the value.
    fn at(&self, block: usize, lane: usize) -> Option<(K, u32)> {
        let first = match self.between.last() {
            Some(level) => level.get(block / LANES)?.0[block % LANES],
            None => *self.top.get(block)?,
        };
        let block = self.blocks.get(block)?;
        Some((first.with_low(block.starts.0[lane]), block.values.0[lane]))
    }

    /// Starts of ranges, in order, each with the value from there on. Some ranges are given in two parts.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, u32)> + '_ {
        (0..self.blocks.len()).flat_map(move |block| (0..LANES).filter_map(move |lane| self.at(block, lane)))
    }

    /// A key whose value is wanted, near a place that `chance` says; none where chance led far from any.
    pub(crate) fn any(&self, chance: u64, is_wanted: impl Fn(u32) -> bool) -> Option<K> {
        let lanes = self.blocks.len() * LANES;
        let first = ((u128::from(chance) * lanes as u128) >> 64) as usize;
        (first..lanes).chain(0..first).take(ATTEMPTS).find_map(|index| {
            let (start, value) = self.at(index / LANES, index % LANES)?;
            is_wanted(value).then_some(start)
        })
    }
}

/// Index of the last key that is not above this one; 0 where all are. Without a branch that the processor could guess wrong.
#[inline]
fn last_not_above<K: Key>(keys: &[K], key: K) -> usize {
    let (mut first, mut len) = (0, keys.len());
    while len > 1 {
        let half = len / 2;
        first = if keys[first + half] <= key { first + half } else { first };
        len -= half;
    }
    first
}

impl<T: Copy + Ord> Line<T> {
    /// The same of a line.
    #[inline]
    fn last_not_above(&self, key: T) -> usize {
        let mut lane = 0;
        for half in [8, 4, 2, 1] {
            lane = if self.0[(lane + half) % LANES] <= key { lane + half } else { lane };
        }
        lane
    }
}

/// Ranges that are being put together, in order.
pub(crate) struct RangesBuilder<K> {
    /// The first key of each block.
    firsts: Vec<K>,
    blocks: Vec<Block>,
    /// How many ranges the last block has.
    lanes: usize,
    last: Option<u32>,
}

impl<K: Key> RangesBuilder<K> {
    pub(crate) fn new() -> RangesBuilder<K> {
        RangesBuilder { firsts: Vec::new(), blocks: Vec::with_capacity(ROOM), lanes: LANES, last: None }
    }

    /// From `start` on, which is not below the one before, keys have this value.
    pub(crate) fn push(&mut self, start: K, value: u32) {
        if self.last == Some(value) {
            return;
        }
        self.last = Some(value);
        if self.lanes == LANES || self.firsts.last().is_some_and(|first| first.high() != start.high()) {
            self.begin_block(start);
        }
        if let Some(block) = self.blocks.last_mut() {
            block.starts.0[self.lanes] = start.low();
            block.values.0[self.lanes..].fill(value);
        }
        self.lanes += 1;
    }

    fn begin_block(&mut self, first: K) {
        self.blocks.push(Block { starts: Line([u32::MAX; LANES]), values: Line([0; LANES]) });
        self.firsts.push(first);
        self.lanes = 0;
    }

    pub(crate) fn done(self) -> Ranges<K> {
        let (mut top, mut between) = (self.firsts.into_boxed_slice(), Vec::new());
        while top.len() > TOP_MOST {
            let level = lines_of(&top);
            top = level.iter().map(|line| line.0[0]).collect();
            between.push(level);
        }
        between.reverse();
        Ranges { top, between, blocks: self.blocks }
    }
}

fn lines_of<K: Key>(keys: &[K]) -> Box<[Line<K>]> {
    let line = |keys: &[K]| {
        let mut line = Line([K::LAST; LANES]);
        line.0[..keys.len()].copy_from_slice(keys);
        line
    };
    keys.chunks(LANES).map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Ranges at these starts, each with its index as its value.
    fn ranges<K: Key>(starts: &[K]) -> Ranges<K> {
        let mut builder = RangesBuilder::new();
        for (start, value) in starts.iter().zip(0..) {
            builder.push(*start, value);
        }
        builder.done()
    }

    /// The starts that were put in, without what blocks are filled up with.
    fn starts<K: Key>(ranges: &Ranges<K>) -> Vec<(K, u32)> {
        let mut found: Vec<_> = ranges.iter().collect();
        assert!(found.is_sorted_by_key(|(start, _)| *start));
        found.dedup_by_key(|(_, value)| *value);
        found
    }

    #[test]
    fn every_key_has_the_value_of_the_range_it_is_in() {
        for len in [1, 2, 15, 16, 17, 255, 256, 257, 32_767, 32_768, 70_000] {
            for last in [len * 40, u32::MAX] {
                let keys: Vec<u32> = (0..len).map(|n| n * 40).chain([last]).collect();
                let ranges = ranges(&keys);
                assert_eq!(
                    ranges.between.len(),
                    usize::from(len >= 32_768),
                    "one more where the top would be too long"
                );
                for (index, start) in keys.iter().enumerate() {
                    assert_eq!(ranges.get(*start), Some(index as u32));
                    assert_eq!(ranges.get(start.saturating_add(39)), Some(index as u32), "{start} of {len}");
                }
                assert_eq!(ranges.get(u32::MAX), Some(len));
                assert_eq!(starts(&ranges), keys.iter().copied().zip(0..).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn blocks_end_where_the_first_bits_change() {
        for step in [1u64 << 20, 1 << 28, 1 << 31, 1 << 32, 3 << 40] {
            let len = ((u64::MAX / step).min(1_200_000)) as u32;
            let keys: Vec<u64> = (0..u64::from(len)).map(|n| n * step).chain([u64::MAX - 1, u64::MAX]).collect();
            let ranges = ranges(&keys);
            assert!(step != 1 << 32 || ranges.between.len() == 3, "a block for each key, and levels above them");
            for (index, start) in
                keys.iter().enumerate().filter(|(index, _)| index % 7 == 0 || *index as u32 > len - 40)
            {
                let end = keys.get(index + 1).map_or(u64::MAX, |next| next - 1);
                for key in [*start, start / 2 + end / 2, end] {
                    let wanted = if key < *start { index as u32 - 1 } else { index as u32 };
                    assert_eq!(ranges.get(key), Some(wanted), "{key:x}, steps of {step:x}");
                }
            }
            assert_eq!(starts(&ranges), keys.iter().copied().zip(0..).collect::<Vec<_>>());
        }
    }

    #[test]
    fn neighbours_with_one_value_are_one_range() {
        let mut builder = RangesBuilder::new();
        for (start, value) in [(0u64, 7), (10, 7), (20, 8), (30, 7), (30, 7)] {
            builder.push(start, value);
        }
        let ranges = builder.done();
        assert_eq!(starts(&ranges), [(0, 7), (20, 8), (30, 7)]);
        assert_eq!([9, 19, 20, 29, 30, u64::MAX].map(|key| ranges.get(key)), [7, 7, 8, 8, 7, 7].map(Some));
    }

    #[test]
    fn no_ranges_have_no_value() {
        let none = ranges::<u64>(&[]);
        assert_eq!(
            (none.get(0), none.get(u64::MAX), none.iter().next(), none.any(1, |_| true)),
            (None, None, None, None)
        );
    }

    #[test]
    fn chance_leads_everywhere_and_only_to_what_is_wanted() {
        let ranges = ranges(&(0..100).collect::<Vec<u32>>());
        let chances = (0..10_000u64).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let found: std::collections::BTreeSet<u32> =
            chances.filter_map(|chance| ranges.get(ranges.any(chance, |value| value % 2 == 1)?)).collect();
        assert_eq!(found, (0..100).filter(|value| value % 2 == 1).collect());
        assert_eq!(ranges.any(0, |_| false), None);
    }

    #[test]
    fn a_key_is_the_first_bits() {
        let bits = 0x2a00_1450_4001_081b_0000_0000_0000_200e;
        assert_eq!((u32::first_of(bits), u64::first_of(bits)), (0x2a00_1450, 0x2a00_1450_4001_081b));
        assert_eq!(u32::first_of(bits).bits(), 0x2a00_1450 << 96);
        assert_eq!(u64::first_of(bits).bits(), 0x2a00_1450_4001_081b << 64);
    }
}
