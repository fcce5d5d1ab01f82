//! The search tree of an mmdb file: a binary tree over the bits of an address.

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
        let mut open = vec![(start, 0)];
        while let Some((node, depth)) = open.pop() {
            if node > self.nodes {
                found += 1;
            }
            if node >= self.nodes {
                continue;
            }
            if depth == 32 || found > all {
                return Err(Damage { offset: 0, what: "a search tree with a cycle, before the data" });
            }
            open.extend([(self.child(node, 0), depth + 1), (self.child(node, 1), depth + 1)]);
        }
        Ok(found)
    }
}
