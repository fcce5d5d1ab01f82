"""ClickHouse's compressed block format, as `compress=1` answers and `decompress=1` requests carry it.

A block is a checksum of 16 bytes (CityHash128 of version 1.0.2 over all that follows), one byte for the method, two
little-endian u32 (the size of the block without its checksum, and of the data when unpacked), then the packed data.
"""

import struct

import lz4.block
from clickhouse_cityhash.cityhash import CityHash128

_LZ4, _NONE = 0x82, 0x02
_CHECKSUM = struct.Struct("<QQ")
_HEADER = struct.Struct("<BII")
_BLOCK = 1 << 20


class Malformed(Exception):
    """Not a sequence of whole blocks; the text is the engine's error code and wording."""


def pack(data):
    """The data as LZ4 blocks of up to 1 MiB."""
    packed = bytearray()
    for start in range(0, len(data), _BLOCK):
        piece = data[start : start + _BLOCK]
        squeezed = lz4.block.compress(piece, store_size=False)
        block = _HEADER.pack(_LZ4, _HEADER.size + len(squeezed), len(piece)) + squeezed
        packed += _checksum(block) + block
    return bytes(packed)


def unpack(packed):
    """The data of all blocks; checksums are verified, as the server does."""
    data = bytearray()
    at = 0
    while at < len(packed):
        start = at + _CHECKSUM.size
        if start + _HEADER.size > len(packed):
            raise Malformed("Code: 33. DB::Exception: Cannot read all data. (CANNOT_READ_ALL_DATA)")
        method, size, unpacked = _HEADER.unpack_from(packed, start)
        block = packed[start : start + size]
        if len(block) < size:
            raise Malformed("Code: 33. DB::Exception: Cannot read all data. (CANNOT_READ_ALL_DATA)")
        if _checksum(block) != packed[at:start]:
            raise Malformed("Code: 40. DB::Exception: Checksum doesn't match: corrupted data. (CHECKSUM_DOESNT_MATCH)")
        data += _unpacked(method, block[_HEADER.size :], unpacked)
        at = start + size
    return bytes(data)


def _unpacked(method, squeezed, size):
    if method == _NONE:
        return squeezed
    if method == _LZ4:
        return lz4.block.decompress(squeezed, uncompressed_size=size)
    raise Malformed(f"Code: 89. DB::Exception: Unknown compression method: {method}. (UNKNOWN_COMPRESSION_METHOD)")


def _checksum(block):
    both = CityHash128(bytes(block))
    return _CHECKSUM.pack(both >> 64, both & (1 << 64) - 1)
