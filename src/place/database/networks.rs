//! The networks of a file as flat tables, made of its search tree when it is opened.
//!
//! A step through the tree is a miss in the processor's caches, and an address takes some twenty. So the tree is walked
//! once and dropped; what is kept of it is smaller. Neighbours that have the same record are one range of [`Ranges`], which
//! lookups search; the single networks come back from the lengths of their prefixes.

use std::net::IpAddr;

use super::prefixes::Prefixes;
use super::ranges::{ATTEMPTS, Key, Ranges, RangesBuilder};
use super::record::Damage;
use super::tree::{End, Found, Subtree, Tree};

/// Values of ranges from here on do not stand for records; no data section is that long, see [`values_of`].
const FIRST_SPECIAL: u32 = u32::MAX - 255;
/// No record is there.
const NOTHING: u32 = u32::MAX;
/// Parts have different values, which stand in the table of whole addresses.
const DETAILS: u32 = u32::MAX - 1;
/// With the number of bits added that lead there (0 to 96): the IPv4 address in the 32 bits behind them is looked up.
const IPV4_BEHIND: u32 = FIRST_SPECIAL;

/// A network that has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Leaf {
    pub(crate) is_v4: bool,
    /// 0 to 32, or 0 to 128.
    pub(crate) prefix_len: u8,
    /// First address, its bits at the high end.
    pub(crate) bits: u128,
    /// Of the record, in the data section.
    pub(crate) offset: u32,
}

impl Leaf {
    /// First address.
    pub(crate) fn addr(&self) -> IpAddr {
        addr(self.is_v4, self.bits)
    }
}

/// The address whose bits stand at the high end of `bits`.
fn addr(is_v4: bool, bits: u128) -> IpAddr {
    if is_v4 { IpAddr::V4(((bits >> 96) as u32).into()) } else { IpAddr::V6(bits.into()) }
}

/// All networks of a file.
pub(crate) struct Networks {
    /// `None` without IPv4 networks.
    v4: Option<Family<u32>>,
    /// `None` without IPv6 networks. Hardly a network has more than 64 bits, so those are searched.
    v6: Option<Family<u64>>,
}

/// The networks of one version of IP.
struct Family<K> {
    ranges: Ranges<K>,
    /// By whole addresses, what is [`DETAILS`] in `ranges`.
    details: Details,
    /// Of all networks and of what lies between them.
    prefixes: Prefixes,
    /// Networks that have a record.
    count: u64,
}

impl Networks {
    /// Walks the tree.
    ///
    /// Errors: a tree with a cycle, or whose ways meet again and again: they are found before that takes long.
    pub(crate) fn of(tree: &Tree<'_>) -> Result<Networks, Damage> {
        Ok(Networks {
            v4: tree.part_v4().map_or(Ok(None), |part| Family::of(tree, &part))?,
            v6: tree.part_v6().map_or(Ok(None), |part| Family::of(tree, &part))?,
        })
    }

    /// The offset of the record of an address in the data section.
    #[inline]
    pub(crate) fn find(&self, ip: IpAddr) -> Option<u32> {
        match ip {
            IpAddr::V4(ip) => self.find_v4(ip.to_bits()),
            IpAddr::V6(ip) => self.find_v6(ip.to_bits()),
        }
    }

    #[inline]
    fn find_v4(&self, bits: u32) -> Option<u32> {
        self.v4.as_ref()?.ranges.get(bits).filter(is_record)
    }

    #[inline]
    fn find_v6(&self, bits: u128) -> Option<u32> {
        let v6 = self.v6.as_ref()?;
        match v6.ranges.get(u64::first_of(bits))? {
            offset @ ..FIRST_SPECIAL => Some(offset),
            DETAILS => match v6.details.get(bits)? {
                offset @ ..FIRST_SPECIAL => Some(offset),
                DETAILS | NOTHING => None,
                behind => self.find_v4(u32::first_of(bits << (behind - IPV4_BEHIND))),
            },
            _ => None,
        }
    }

    /// How many networks of IPv4 have a record.
    pub(crate) fn count_v4(&self) -> u64 {
        self.v4.as_ref().map_or(0, |family| family.count)
    }

    /// The same of IPv6; what leads to the IPv4 addresses again, as 6to4 does in MaxMind's files, is not counted.
    pub(crate) fn count_v6(&self) -> u64 {
        self.v6.as_ref().map_or(0, |family| family.count)
    }

    /// Every network that has a record, in order of address, IPv4 first. What leads to the IPv4 addresses again is left
    /// out.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = Leaf> + '_ {
        let v4 = self.v4.as_ref().into_iter().flat_map(|family| family.leaves(true));
        v4.chain(self.v6.as_ref().into_iter().flat_map(|family| family.leaves(false)))
    }

    /// An IPv4 and an IPv6 address that have a record, where there are some: other ones by another `chance`. None where
    /// chance led far from any.
    pub(crate) fn any(&self, chance: u64) -> impl Iterator<Item = IpAddr> {
        let v4 = self.v4.as_ref().and_then(|family| family.any(chance)).map(|bits| addr(true, bits));
        let v6 = self.v6.as_ref().and_then(|family| family.any(chance)).map(|bits| addr(false, bits));
        v4.into_iter().chain(v6)
    }
}

/// What few networks need: ranges by whole addresses.
#[derive(Default)]
struct Details {
    starts: Vec<u128>,
    values: Vec<u32>,
}

impl Details {
    fn push(&mut self, start: u128, value: u32) {
        if self.values.last() != Some(&value) {
            self.starts.push(start);
            self.values.push(value);
        }
    }

    fn get(&self, bits: u128) -> Option<u32> {
        let after = self.starts.partition_point(|start| *start <= bits);
        self.values.get(after.checked_sub(1)?).copied()
    }

    /// The bits of an address that has a record, as [`Ranges::any`] finds one.
    fn any(&self, chance: u64) -> Option<u128> {
        let first = ((u128::from(chance) * self.values.len() as u128) >> 64) as usize;
        let near = (first..self.values.len()).chain(0..first).take(ATTEMPTS);
        near.filter(|index| self.values.get(*index).is_some_and(is_record))
            .find_map(|index| self.starts.get(index).copied())
    }
}

fn is_record(value: &u32) -> bool {
    *value < FIRST_SPECIAL
}

impl<K: Key> Family<K> {
    /// Of a part of the tree; none if no record is in it.
    fn of(tree: &Tree<'_>, part: &Subtree) -> Result<Option<Family<K>>, Damage> {
        let (mut ranges, mut details, mut prefixes) = (RangesBuilder::new(), Details::default(), Prefixes::default());
        let mut count = 0;
        tree.each_end(part, |end| {
            let (value, detail) = values_of::<K>(&end)?;
            ranges.push(K::first_of(end.bits), value);
            if let Some(detail) = detail {
                details.push(end.bits, detail);
            }
            prefixes.push(end.bits, end.depth);
            count += u64::from(is_record(&detail.unwrap_or(value)));
            Ok(())
        })?;
        Ok((count > 0).then(|| Family { ranges: ranges.done(), details, prefixes, count }))
    }

    fn leaves(&self, is_v4: bool) -> impl Iterator<Item = Leaf> + '_ {
        let mut ranges = self.ranges.iter().peekable();
        // Of the range that the network is in.
        let mut value = NOTHING;
        self.prefixes.iter().filter_map(move |(bits, prefix_len)| {
            while let Some((_, next)) = ranges.next_if(|(start, _)| *start <= K::first_of(bits)) {
                value = next;
            }
            let offset = if value == DETAILS { self.details.get(bits)? } else { value };
            is_record(&offset).then_some(Leaf { is_v4, prefix_len, bits, offset })
        })
    }

    /// The bits of an address that has a record.
    fn any(&self, chance: u64) -> Option<u128> {
        let in_ranges = self.ranges.any(chance, |value| is_record(&value)).map(K::bits);
        in_ranges.or_else(|| self.details.any(chance))
    }
}

/// What stands for an end of the tree in the ranges, and in the details where it stands in those.
///
/// Errors: a record so far in the data that its offset means something else.
#[inline]
fn values_of<K: Key>(end: &End) -> Result<(u32, Option<u32>), Damage> {
    let value = match end.found {
        Found::Nothing => NOTHING,
        Found::Ipv4 => return Ok((DETAILS, Some(IPV4_BEHIND + u32::from(end.depth)))),
        Found::Record(offset) if is_record(&offset) => offset,
        Found::Record(offset) => {
            return Err(Damage { offset: offset as usize, what: "a record beyond the first 4 GB of data," });
        }
    };
    Ok(if end.depth > K::BITS { (DETAILS, Some(value)) } else { (value, None) })
}

#[cfg(test)]
#[path = "networks/tests.rs"]
mod tests;
