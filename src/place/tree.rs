//! The search tree of an mmdb file: a binary tree over the bits of an address.

use std::net::IpAddr;

use maxminddb::Metadata;

use super::record::Damage;

/// The tree's nodes, in place.
pub(super) struct Tree<'a> {
    bytes: &'a [u8],
    /// How many nodes there are; as a child it means that nothing is there, above it begin pointers into the data.
    pub(super) nodes: u32,
    /// Bytes of a node: 6, 7 or 8.
    width: usize,
    ip_version: u16,
}

/// Bits of an address that one step through a [`Jumps`] takes: 65,536 nodes are 256 KB, which a core's cache holds.
const JUMP_BITS: u32 = 16;

/// Where the first 16 bits of an address lead. Each step through a full database's tree is a miss in the cache, and an
/// IPv4 address takes about 22 of them without this.
pub(super) struct Jumps(Box<[u32]>);

/// A network that has a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) is_v4: bool,
    /// 0 to 32, or 0 to 128.
    pub(super) prefix_len: u8,
    /// First address, its bits at the high end.
    pub(super) bits: u128,
    /// Of the record, in the data section.
    pub(super) offset: u32,
}

impl Leaf {
    /// First address.
    pub(super) fn addr(&self) -> IpAddr {
        if self.is_v4 { IpAddr::V4(((self.bits >> 96) as u32).into()) } else { IpAddr::V6(self.bits.into()) }
    }
}

/// Zero bytes between search tree and data section.
pub(super) const SEPARATOR: u32 = 16;

impl<'a> Tree<'a> {
    pub(super) fn new(bytes: &'a [u8], metadata: &Metadata) -> Tree<'a> {
        Tree {
            bytes,
            nodes: metadata.node_count,
            width: usize::from(metadata.record_size) / 4,
            ip_version: metadata.ip_version,
        }
    }

    /// The child of a node, 0 left or 1 right: below `nodes` another node, equal nothing, above a pointer.
    #[inline]
    pub(super) fn child(&self, node: u32, side: usize) -> u32 {
        let at = node as usize * self.width;
        match (self.bytes.get(at..at + self.width), side) {
            (Some(&[a, b, c, _, _, _]), 0) | (Some(&[_, _, _, a, b, c]), _) => u32::from_be_bytes([0, a, b, c]),
            (Some(&[a, b, c, both, _, _, _]), 0) => u32::from_be_bytes([both >> 4, a, b, c]),
            (Some(&[_, _, _, both, a, b, c]), _) => u32::from_be_bytes([both & 15, a, b, c]),
            (Some(&[a, b, c, d, _, _, _, _]), 0) | (Some(&[_, _, _, _, a, b, c, d]), _) => {
                u32::from_be_bytes([a, b, c, d])
            }
            _ => self.nodes,
        }
    }

    /// The pointer that an address leads to, counted from the end of the tree. Its bits are at the high end of `bits`,
    /// `len` of them.
    #[inline]
    pub(super) fn find(&self, jumps: &Jumps, bits: u128, len: u32) -> Option<u32> {
        let mut node = *jumps.0.get((bits >> (128 - JUMP_BITS)) as usize)?;
        let mut left = bits << JUMP_BITS;
        for _ in JUMP_BITS..len {
            if node >= self.nodes {
                break;
            }
            node = self.child(node, (left >> 127) as usize);
            left <<= 1;
        }
        node.checked_sub(self.nodes).filter(|pointer| *pointer > 0)
    }

    /// Where the IPv4 addresses begin: at the root of a file of IPv4 alone, else under ::/96. No node where the file has
    /// none.
    pub(super) fn start_v4(&self) -> u32 {
        let steps = if self.ip_version == 4 { 0 } else { 96 };
        (0..steps).fold(0, |node, _| if node < self.nodes { self.child(node, 0) } else { self.nodes })
    }

    /// Where the first bits of all addresses lead, from a node on.
    pub(super) fn jumps(&self, start: u32) -> Jumps {
        let mut jumps = vec![self.nodes; 1 << JUMP_BITS];
        let mut open = vec![(start, 0usize, JUMP_BITS)];
        while let Some((node, first, left)) = open.pop() {
            if left > 0 && node < self.nodes {
                open.push((self.child(node, 0), first, left - 1));
                open.push((self.child(node, 1), first + (1 << (left - 1)), left - 1));
            } else if let Some(covered) = jumps.get_mut(first..first + (1 << left)) {
                covered.fill(node);
            }
        }
        Jumps(jumps.into())
    }

    /// Networks of IPv4; `all` is how many there are of both versions.
    pub(super) fn networks_v4(&self, all: u64) -> Result<u64, Damage> {
        if self.ip_version == 4 {
            return Ok(all);
        }
        let start = self.start_v4();
        if start >= self.nodes {
            return Ok(0);
        }
        let mut found = 0;
        let mut budget = self.most_ways();
        let mut open = vec![(start, 0)];
        while let Some((node, depth)) = open.pop() {
            budget = budget.saturating_sub(1);
            if node > self.nodes {
                found += 1;
            }
            if node >= self.nodes {
                continue;
            }
            if depth == 32 || found > all || budget == 0 {
                return Err(Damage { offset: 0, what: "a search tree with a cycle, before the data" });
            }
            open.extend([(self.child(node, 0), depth + 1), (self.child(node, 1), depth + 1)]);
        }
        Ok(found)
    }

    /// Steps that a walk over the tree may take: a sound one has two ways from each node, and a few that are there twice.
    fn most_ways(&self) -> u64 {
        u64::from(self.nodes) * 8 + 1024
    }

    /// The first address of a network that has a record, found by taking turns of chance at each node; none where chance
    /// led into a part without records. `turns` has the bits of chance.
    pub(super) fn any_leaf(&self, is_v4: bool, turns: u128) -> Option<IpAddr> {
        let (mut node, longest) = if is_v4 { (self.start_v4(), 32) } else { (0, 128) };
        let hidden = if is_v4 { self.nodes } else { self.start_v4() };
        let mut bits = 0u128;
        for depth in 0..longest {
            if node >= self.nodes {
                break;
            }
            let wanted = (turns >> (127 - depth) & 1) as usize;
            let leads = |side: &usize| {
                let child = self.child(node, *side);
                child != self.nodes && child != hidden
            };
            let side = [wanted, 1 - wanted].into_iter().find(leads)?;
            node = self.child(node, side);
            bits |= (side as u128) << (127 - depth);
        }
        let leaf = Leaf { is_v4, prefix_len: 0, bits, offset: 0 };
        (node > self.nodes).then(|| leaf.addr())
    }

    /// Visits every network that has a record, IPv4 first. What leads to the IPv4 addresses again, as 6to4 does in
    /// MaxMind's files, is not visited twice. A tree has as many ways as nodes; one with a cycle, or with ways that meet
    /// again and again, is left as damaged before it takes long.
    pub(super) fn each_leaf(&self, mut visit: impl FnMut(&Leaf) -> Result<(), Damage>) -> Result<(), Damage> {
        let start_v4 = self.start_v4();
        let mut budget = self.most_ways();
        if start_v4 < self.nodes {
            self.each_leaf_below(start_v4, true, None, &mut budget, &mut visit)?;
        }
        if self.ip_version != 4 {
            let hidden = Some(start_v4).filter(|start| *start < self.nodes);
            self.each_leaf_below(0, false, hidden, &mut budget, &mut visit)?;
        }
        Ok(())
    }

    fn each_leaf_below(
        &self,
        start: u32,
        is_v4: bool,
        hidden: Option<u32>,
        budget: &mut u64,
        visit: &mut impl FnMut(&Leaf) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        let longest = if is_v4 { 32 } else { 128 };
        let mut open = vec![(start, 0u8, 0u128)];
        while let Some((node, depth, bits)) = open.pop() {
            *budget = budget.saturating_sub(1);
            if *budget == 0 {
                return Err(Damage { offset: 0, what: "a search tree whose ways meet again, before the data" });
            }
            if node == self.nodes || hidden == Some(node) {
                continue;
            }
            if node > self.nodes {
                if let Some(offset) = (node - self.nodes).checked_sub(SEPARATOR) {
                    visit(&Leaf { is_v4, prefix_len: depth, bits, offset })?;
                }
                continue;
            }
            if depth >= longest {
                return Err(Damage {
                    offset: 0,
                    what: "a search tree deeper than an address is long, before the data",
                });
            }
            open.push((self.child(node, 1), depth + 1, bits | 1 << (127 - depth)));
            open.push((self.child(node, 0), depth + 1, bits));
        }
        Ok(())
    }
}
