//! The search tree of an mmdb file: a binary tree over the bits of an address.

use maxminddb::Metadata;

use super::record::Damage;

/// The tree's nodes, in place.
pub(crate) struct Tree<'a> {
    bytes: &'a [u8],
    /// How many nodes there are; as a child it means that nothing is there, above it begin pointers into the data.
    pub(crate) nodes: u32,
    /// Bytes of a node: 6, 7 or 8.
    width: usize,
    ip_version: u16,
}

/// A part of the tree to walk over.
pub(crate) struct Subtree {
    /// The node that it is below.
    start: u32,
    /// Bits of its addresses.
    longest: u8,
    /// Ways that come to this node end there.
    start_v4: Option<u32>,
}

/// Where a way through the tree ends.
pub(crate) struct End {
    /// Of the first address: at the high end, the rest is zeros.
    pub(crate) bits: u128,
    /// How many bits lead there.
    pub(crate) depth: u8,
    pub(crate) found: Found,
}

/// What is found at an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// A record, at this offset in the data section.
    Record(u32),
    Nothing,
    /// The node where the IPv4 addresses begin, which MaxMind's files reach by several ways (6to4, Teredo and so on).
    Ipv4,
}

/// Bits of IPv6 that lead to IPv4 addresses, at most.
const LONGEST_TO_V4: u8 = 96;

/// Zero bytes between search tree and data section.
pub(crate) const SEPARATOR: u32 = 16;

impl<'a> Tree<'a> {
    pub(crate) fn new(bytes: &'a [u8], metadata: &Metadata) -> Tree<'a> {
        Tree {
            bytes,
            nodes: metadata.node_count,
            width: usize::from(metadata.record_size) / 4,
            ip_version: metadata.ip_version,
        }
    }

    /// The child of a node, 0 left or 1 right: below `nodes` another node, equal nothing, above a pointer.
    #[inline]
    pub(crate) fn child(&self, node: u32, side: usize) -> u32 {
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

    /// The IPv4 addresses: the whole tree of a file of IPv4 alone, else what is below ::/96. None where the file has no
    /// node for them.
    pub(crate) fn part_v4(&self) -> Option<Subtree> {
        let start = if self.ip_version == 4 { 0 } else { self.start_v4()? };
        Some(Subtree { start, longest: 32, start_v4: None })
    }

    /// The IPv6 addresses; none in a file of IPv4 alone.
    pub(crate) fn part_v6(&self) -> Option<Subtree> {
        (self.ip_version != 4).then(|| Subtree { start: 0, longest: 128, start_v4: self.start_v4() })
    }

    /// Where the IPv4 addresses begin in a file of both.
    fn start_v4(&self) -> Option<u32> {
        let below = |node, _| if node < self.nodes { self.child(node, 0) } else { self.nodes };
        Some((0..LONGEST_TO_V4).fold(0, below)).filter(|start| *start < self.nodes)
    }

    /// Visits every end of a part of the tree, in order of address. A tree has as many ways as nodes; one with a cycle, or
    /// with ways that meet again and again, is left as damaged before it takes long.
    pub(crate) fn each_end(
        &self,
        part: &Subtree,
        mut visit: impl FnMut(End) -> Result<(), Damage>,
    ) -> Result<(), Damage> {
        let Subtree { start, longest, start_v4 } = *part;
        // In a sound tree each node is there once, and a few are there twice.
        let mut budget = u64::from(self.nodes) * 4 + 512;
        let mut open = vec![(start, 0u8, 0u128)];
        while let Some((mut node, mut depth, bits)) = open.pop() {
            let is_v4 = |node, depth| Some(node) == start_v4 && depth <= LONGEST_TO_V4;
            // Down to the left; what lies to the right comes later.
            while node < self.nodes && !is_v4(node, depth) {
                if depth >= longest {
                    return Err(Damage {
                        offset: 0,
                        what: "a search tree deeper than an address is long, before the data",
                    });
                }
                open.push((self.child(node, 1), depth + 1, bits | 1 << (127 - depth)));
                node = self.child(node, 0);
                depth += 1;
                budget -= 1;
                if budget == 0 {
                    return Err(Damage { offset: 0, what: "a search tree whose ways meet again, before the data" });
                }
            }
            let found = match node.checked_sub(self.nodes) {
                None => Found::Ipv4,
                Some(pointer) => pointer.checked_sub(SEPARATOR).map_or(Found::Nothing, Found::Record),
            };
            visit(End { bits, depth, found })?;
        }
        Ok(())
    }
}
