//! Which value a key has, where neighbouring keys mostly have the same one: a search that touches few cache lines.
//!
//! The starts of all ranges stand in order, in lines of sixteen. The first start of each line stands in the level above,
//! in lines again, and so on up to a level small enough for a core's innermost cache. Of 4 million ranges, a search reads
//! one line of each of three levels, of which only the lowest is too large to be in a cache.

/// Entries of a line. Of IPv4 a line of starts is one line of the processor's cache, and so is one of values.
const LANES: usize = 16;

/// Entries that the uppermost level may have: 16 KB of the longer keys.
const TOP_MOST: usize = 2_048;

/// Lines that [`Ranges::any`] looks at.
const ATTEMPTS: usize = 64;

/// What ranges are of: an address or its first bits.
pub(super) trait Key: Copy + Ord {
    /// How many bits it has.
    const BITS: u8;
    /// The highest one.
    const LAST: Self;

    /// The first bits of `bits`.
    fn first_of(bits: u128) -> Self;

    /// The bits at the high end, zeros behind.
    fn bits(self) -> u128;
}

macro_rules! key {
    ($($of:ty),+) => { $(
        impl Key for $of {
            const BITS: u8 = <$of>::BITS as u8;
            const LAST: $of = <$of>::MAX;

            #[inline]
            fn first_of(bits: u128) -> $of {
                (bits >> (128 - <$of>::BITS)) as $of
            }

            #[inline]
            fn bits(self) -> u128 {
                u128::from(self) << (128 - <$of>::BITS)
            }
        }
    )+ };
}

key!(u32, u64, u128);

/// Where the processor's cache lines begin.
#[repr(align(64))]
#[derive(Clone, Copy)]
struct Line<T>([T; LANES]);

/// The value of every key from the first start on; each range ends where the next one starts.
pub(super) struct Ranges<K> {
    /// The first start of each line of the level below.
    top: Box<[K]>,
    /// The same of the levels between, from above.
    between: Vec<Box<[Line<K>]>>,
    starts: Box<[Line<K>]>,
    values: Box<[Line<u32>]>,
    len: usize,
    /// What the highest key has, which is not searched: the last line of each level is filled up with it.
    last: Option<u32>,
}

impl<K: Key> Ranges<K> {
    /// The value of a key. None where there are no ranges.
    #[inline]
    pub(super) fn get(&self, key: K) -> Option<u32> {
        if key == K::LAST {
            return self.last;
        }
        let mut line = last_not_above(&self.top, key);
        for level in &self.between {
            line = line * LANES + level.get(line)?.last_not_above(key);
        }
        let values = self.values.get(line)?;
        // Neither line is likely to be in a cache. To read something of this one now has it fetched along with the other.
        std::hint::black_box(values.0[0]);
        Some(values.0[self.starts.get(line)?.last_not_above(key)])
    }

    /// The start and the value of the range at an index.
    pub(super) fn at(&self, index: usize) -> Option<(K, u32)> {
        let (line, lane) = (index / LANES, index % LANES);
        let range = (self.starts.get(line)?.0[lane], self.values.get(line)?.0[lane]);
        (index < self.len).then_some(range)
    }

    /// The start of a range whose value is wanted, near a place that `chance` says; none where chance led far from any.
    pub(super) fn any(&self, chance: u64, is_wanted: impl Fn(u32) -> bool) -> Option<K> {
        let first = (u128::from(chance) * self.len as u128 >> 64) as usize;
        (first..self.len).chain(0..first).take(ATTEMPTS).find_map(|index| {
            let (start, value) = self.at(index)?;
            is_wanted(value).then_some(start)
        })
    }
}

/// Index of the last start that is not above the key; 0 where all are. Without a branch that the processor could guess
/// wrong.
#[inline]
fn last_not_above<K: Key>(starts: &[K], key: K) -> usize {
    let (mut first, mut len) = (0, starts.len());
    while len > 1 {
        let half = len / 2;
        first = if starts[first + half] <= key { first + half } else { first };
        len -= half;
    }
    first
}

impl<K: Key> Line<K> {
    /// The same of a line.
    #[inline]
    fn last_not_above(&self, key: K) -> usize {
        let mut lane = 0;
        for half in [8, 4, 2, 1] {
            lane = if self.0[(lane + half) % LANES] <= key { lane + half } else { lane };
        }
        lane
    }
}

/// Counts ranges whose values come in order.
#[derive(Default)]
pub(super) struct Runs {
    pub(super) len: usize,
    last: Option<u32>,
}

impl Runs {
    /// Whether a range begins with this value; else it goes on with the one before.
    #[inline]
    pub(super) fn begins(&mut self, value: u32) -> bool {
        let begins = self.last != Some(value);
        self.last = Some(value);
        self.len += usize::from(begins);
        begins
    }
}

/// Ranges that are being put together, in order.
pub(super) struct RangesBuilder<K> {
    starts: Vec<Line<K>>,
    values: Vec<Line<u32>>,
    runs: Runs,
}

impl<K: Key> RangesBuilder<K> {
    /// `len` is how many ranges there will be: with another number memory would be copied.
    pub(super) fn new(len: usize) -> RangesBuilder<K> {
        let lines = len.div_ceil(LANES);
        RangesBuilder { starts: Vec::with_capacity(lines), values: Vec::with_capacity(lines), runs: Runs::default() }
    }

    /// From `start` on, which is not below the one before, keys have this value.
    pub(super) fn push(&mut self, start: K, value: u32) {
        let lane = self.runs.len % LANES;
        if !self.runs.begins(value) {
            return;
        }
        if lane == 0 {
            self.starts.push(Line([K::LAST; LANES]));
            self.values.push(Line([value; LANES]));
        }
        if let (Some(starts), Some(values)) = (self.starts.last_mut(), self.values.last_mut()) {
            (starts.0[lane], values.0[lane]) = (start, value);
        }
    }

    pub(super) fn done(self) -> Ranges<K> {
        let mut between = Vec::new();
        let mut top = firsts(&self.starts);
        while top.len() > TOP_MOST {
            let level = lines_of(&top);
            top = firsts(&level);
            between.push(level);
        }
        between.reverse();
        let (starts, values) = (self.starts.into_boxed_slice(), self.values.into_boxed_slice());
        Ranges { top, between, starts, values, len: self.runs.len, last: self.runs.last }
    }
}

fn firsts<K: Key>(lines: &[Line<K>]) -> Box<[K]> {
    lines.iter().map(|line| line.0[0]).collect()
}

fn lines_of<K: Key>(starts: &[K]) -> Box<[Line<K>]> {
    let line = |starts: &[K]| {
        let mut line = Line([K::LAST; LANES]);
        line.0[..starts.len()].copy_from_slice(starts);
        line
    };
    starts.chunks(LANES).map(line).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// Ranges at these starts, each with its index as its value.
    fn ranges<K: Key>(starts: &[K]) -> Ranges<K> {
        let mut builder = RangesBuilder::new(starts.len());
        for (start, value) in starts.iter().zip(0..) {
            builder.push(*start, value);
        }
        builder.done()
    }

    #[test]
    fn every_key_has_the_value_of_the_range_it_is_in() {
        for len in [1, 2, 15, 16, 17, 255, 256, 257, 32_768, 32_769, 100_000] {
            for last in [len * 40, u32::MAX] {
                let mut starts: Vec<u32> = (0..len).map(|n| n * 40).collect();
                starts.push(last);
                let ranges = ranges(&starts);
                assert_eq!(
                    ranges.between.len(),
                    usize::from(len >= 32_768),
                    "a level more where the top would be too long"
                );
                for (index, start) in starts.iter().enumerate() {
                    assert_eq!(ranges.get(*start), Some(index as u32));
                    assert_eq!(ranges.get(start.saturating_add(39)), Some((index as u32).min(len)), "{start} of {len}");
                    assert_eq!(ranges.at(index), Some((*start, index as u32)));
                }
                assert_eq!(ranges.get(u32::MAX), Some(len));
                assert_eq!(ranges.at(starts.len()), None);
            }
        }
    }

    #[test]
    fn neighbours_with_one_value_are_one_range() {
        let mut builder = RangesBuilder::new(0);
        for (start, value) in [(0u64, 7), (10, 7), (20, 8), (30, 7), (30, 7)] {
            builder.push(start, value);
        }
        let ranges = builder.done();
        assert_eq!((0..4).filter_map(|index| ranges.at(index)).collect::<Vec<_>>(), [(0, 7), (20, 8), (30, 7)]);
        assert_eq!([9, 19, 20, 29, 30, u64::MAX].map(|key| ranges.get(key)), [7, 7, 8, 8, 7, 7].map(Some));
    }

    #[test]
    fn no_ranges_have_no_value() {
        let none = ranges::<u128>(&[]);
        assert_eq!((none.get(0), none.get(u128::MAX), none.at(0), none.any(1, |_| true)), (None, None, None, None));
    }

    #[test]
    fn chance_leads_everywhere_and_only_to_what_is_wanted() {
        let starts: Vec<u32> = (0..100).collect();
        let ranges = ranges(&starts);
        let found: std::collections::BTreeSet<u32> = (0..10_000u64)
            .filter_map(|n| ranges.any(n.wrapping_mul(0x9e37_79b9_7f4a_7c15), |value| value % 2 == 1))
            .collect();
        assert_eq!(found, (0..100).filter(|start| start % 2 == 1).collect());
        assert_eq!(ranges.any(0, |_| false), None);
    }

    #[test]
    fn a_key_is_the_first_bits() {
        let bits = 0x2a00_1450_4001_081b_0000_0000_0000_200e;
        assert_eq!(
            (u32::first_of(bits), u64::first_of(bits), u128::first_of(bits)),
            (0x2a00_1450, 0x2a00_1450_4001_081b, bits)
        );
        assert_eq!(u32::first_of(bits).bits(), 0x2a00_1450 << 96);
    }
}
