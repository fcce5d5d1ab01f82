"""Every form in which an address is searched for.

A form is text, searched for in any case, or bytes as they are. The eight hexadecimal and ten decimal digits of an IPv4
address are searched for only where they stand alone, with no more hexadecimal digits beside them and not in front of a
UUID: in pointers and the ids of members and requests they would be there by chance. Left out, because among so many
addresses and bytes chance alone would find them: the four raw bytes of an IPv4 address, and their base64 at other
offsets than the first (five letters). All of an IPv6 address's forms are long enough.
"""

import base64
import hashlib
import ipaddress
import re
from typing import NamedTuple

_HASHES = ("md5", "sha1", "sha256")


class Form(NamedTuple):
    """`needle` is in lower case where `folded`: then it is found in any case. `alone`: only without hexadecimal digits
    beside it, and not as the first part of a UUID."""

    name: str
    needle: bytes
    folded: bool
    alone: bool = False

    def key_at(self):
        """Where those eight bytes of the needle begin by which it is looked for: the last ones, as many needles begin
        alike, but not of names that all end alike."""
        return 0 if self.needle.endswith(b".arpa") else len(self.needle) - 8


def forms(address):
    """All forms of an address (its text, in any notation), each name once."""
    parsed = ipaddress.ip_address(address)
    found = _v4(parsed) if parsed.version == 4 else _v6(parsed)
    return [*found, *_hashes(str(parsed), parsed.packed)]


def _text(name, text, alone=False):
    return Form(name, text.lower().encode(), True, alone)


def _v4(parsed):
    raw = parsed.packed
    dotted, high, low = str(parsed), raw[:2].hex(), raw[2:].hex()
    mapped = bytes(10) + b"\xff\xff" + raw
    yield _text("dotted", dotted)
    yield _text("zero-padded", ".".join(f"{part:03}" for part in raw))
    yield _text("dashed", dotted.replace(".", "-"))
    yield _text("hex", raw.hex(), alone=True)
    yield _text("hex, little endian", raw[::-1].hex(), alone=True)
    yield _text("hex with colons", raw.hex(":"))
    yield _text("integer", str(int(parsed)), alone=True)
    yield _text("integer, little endian", str(int.from_bytes(raw, "little")), alone=True)
    yield _text("mapped", f"::ffff:{dotted}")
    yield _text("mapped, hex groups", f"::ffff:{int(high, 16):x}:{int(low, 16):x}")
    yield _text("mapped, expanded", f"0000:0000:0000:0000:0000:ffff:{high}:{low}")
    yield _text("mapped, URL-encoded", f"%3a%3affff%3a{dotted}")
    yield _text("PTR", ".".join(str(part) for part in raw[::-1]) + ".in-addr.arpa")
    yield _text("/24", dotted.rpartition(".")[0] + ".")
    yield Form("mapped, raw", mapped, False)
    yield Form("base64 of raw", base64.b64encode(raw), False)
    yield from _base64("base64 of text", dotted.encode())


def _v6(parsed):
    raw, compressed, expanded = parsed.packed, parsed.compressed, parsed.exploded
    groups = [f"{int(group, 16):x}" for group in expanded.split(":")]
    yield _text("compressed", compressed)
    yield _text("without zeros in front", ":".join(groups))
    yield _text("expanded", expanded)
    yield _text("hex", raw.hex())
    yield _text("hex, little endian", raw[::-1].hex())
    yield _text("hex with colons", raw.hex(":"))
    yield _text("integer", str(int(parsed)))
    yield _text("integer, little endian", str(int.from_bytes(raw, "little")))
    yield _text("compressed, URL-encoded", compressed.replace(":", "%3a"))
    yield _text("expanded, URL-encoded", expanded.replace(":", "%3a"))
    yield _text("PTR", parsed.reverse_pointer)
    yield _text("/64", ":".join(groups[:4]) + ":")
    yield _text("/64, expanded", expanded[:20])
    yield _text("/64, hex", raw[:8].hex())
    yield Form("raw", raw, False)
    yield Form("raw, little endian", raw[::-1], False)
    yield from _base64("base64 of raw", raw)
    yield from _base64("base64 of text", compressed.encode())


def _base64(name, content):
    """The letters that stay the same whatever stands around, for each of the three offsets. With `/` or `+` among them
    also in the alphabet for URLs."""
    for offset in range(3):
        letters = base64.b64encode(bytes(offset) + content)
        own = letters[(offset * 8 + 5) // 6 : (offset + len(content)) * 8 // 6]
        yield Form(f"{name}, offset {offset}", own, False)
        if re.search(rb"[+/]", own):
            yield Form(f"{name}, for URLs, offset {offset}", own.translate(bytes.maketrans(b"+/", b"-_")), False)


def _hashes(text, raw):
    for name in _HASHES:
        for what, content in (("text", text.encode()), ("raw", raw)):
            digest = hashlib.new(name, content, usedforsecurity=False).digest()
            yield _text(f"{name} of {what}, hex", digest.hex())
            yield Form(f"{name} of {what}, raw", digest, False)
