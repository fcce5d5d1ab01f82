"""Answers to OffsetFetch as a group coordinator gives them that has lost offsets or not loaded them yet: without an error.

Versions 8 and 9, which librdkafka asks: correlation id (4), tags, throttle time (4), an array of groups; of each its id, an
array of topics (name, an array of partitions, tags), an error code (2) and tags; of each partition its number (4), the
offset (8), the leader's epoch (4), metadata, an error code (2) and tags. Lengths are unsigned varints, one more than there
are; tags are a count and that many of number, size, bytes.
"""

import struct

VERSIONS = (8, 9)
_NUMBER, _OFFSET = struct.Struct(">i"), struct.Struct(">q")


def without_offsets(_partition, _offset):
    """No partition has an offset."""
    return -1


def as_before(offsets):
    """Offsets that were true before: `offsets` by partition."""
    return lambda partition, offset: min(offset, offsets.get(partition, offset))


def editing(change):
    """Edits a whole frame, its length included: each partition's offset becomes `change(partition, offset)`."""

    def edit(frame, version):
        if version not in VERSIONS:
            raise ValueError(f"OffsetFetch of version {version}, not of {VERSIONS}")
        frame = bytearray(frame)
        walk = _Walk(frame, _NUMBER.size + 4)
        walk.tags()
        walk.at += 4
        for _ in range(walk.length()):
            walk.skip_text()
            for _ in range(walk.length()):
                walk.skip_text()
                for _ in range(walk.length()):
                    _partition(walk, change)
                walk.tags()
            walk.at += 2
            walk.tags()
        return bytes(frame)

    return edit


def _partition(walk, change):
    number = _NUMBER.unpack_from(walk.frame, walk.at)[0]
    offset = _OFFSET.unpack_from(walk.frame, walk.at + 4)[0]
    _OFFSET.pack_into(walk.frame, walk.at + 4, change(number, offset))
    walk.at += 4 + 8 + 4
    walk.skip_text()
    walk.at += 2
    walk.tags()


class _Walk:
    """Where we are in a frame."""

    def __init__(self, frame, at):
        self.frame, self.at = frame, at

    def varint(self):
        value = shift = 0
        while True:
            byte = self.frame[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def length(self):
        """Of an array or a text; that of none is 0."""
        return max(self.varint() - 1, 0)

    def skip_text(self):
        length = self.length()
        self.at += length

    def tags(self):
        for _ in range(self.varint()):
            self.varint()
            size = self.varint()
            self.at += size
