//! The lengths of the prefixes of networks that lie side by side, in about two bits each.
//!
//! Where a network begins says how short its prefix is at least: its address has no bits behind it. So what is kept is how
//! many bits longer it is, as so many ones and a zero. That is the shape of the tree the networks are from.

/// The networks of a family, gaps among them: together all addresses.
#[derive(Default)]
pub(crate) struct Prefixes {
    words: Vec<u64>,
    /// How many bits of the words are in use.
    len: usize,
}

impl Prefixes {
    /// Adds the network that begins where the one before ends. `first` is its first address, the bits at the high end.
    pub(crate) fn push(&mut self, first: u128, prefix_len: u8) {
        for _ in shortest(first)..prefix_len {
            self.push_bit(true);
        }
        self.push_bit(false);
    }

    #[inline]
    fn push_bit(&mut self, bit: bool) {
        if self.len.is_multiple_of(64) {
            self.words.push(0);
        }
        if let Some(word) = self.words.last_mut() {
            *word |= u64::from(bit) << (self.len % 64);
        }
        self.len += 1;
    }

    fn bit(&self, at: usize) -> Option<bool> {
        (at < self.len).then(|| self.words.get(at / 64).is_some_and(|word| word >> (at % 64) & 1 == 1))
    }

    /// First address and length of the prefix of each.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u128, u8)> + '_ {
        let (mut next, mut at) = (Some(0u128), 0);
        std::iter::from_fn(move || {
            let first = next?;
            let mut prefix_len = shortest(first);
            while self.bit(at)? {
                (prefix_len, at) = (prefix_len + 1, at + 1);
            }
            at += 1;
            // None behind the last address.
            next = 1u128.checked_shl(128 - u32::from(prefix_len)).and_then(|size| first.checked_add(size));
            Some((first, prefix_len))
        })
    }
}

/// Bits of the shortest prefix that a network can have that begins there.
#[inline]
fn shortest(first: u128) -> u8 {
    (128 - first.trailing_zeros()) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_come_back_as_they_were() {
        let mut longest = vec![(0, 128)];
        // What is beside each bit of the lowest address.
        longest.extend((0..128).rev().map(|depth| (1 << (127 - depth), depth + 1)));
        for networks in [
            vec![(0, 0)],
            vec![(0, 1), (1 << 127, 1)],
            vec![(0, 2), (1 << 126, 3), (3 << 125, 3), (1 << 127, 1)],
            vec![(0, 1), (1 << 127, 2), (3 << 126, 8), (3 << 126 | 1 << 120, 8)],
            longest,
        ] {
            let mut prefixes = Prefixes::default();
            networks.iter().for_each(|(first, len)| prefixes.push(*first, *len));
            assert_eq!(prefixes.iter().collect::<Vec<_>>(), networks);
        }
        assert_eq!(Prefixes::default().iter().next(), None);
    }
}
