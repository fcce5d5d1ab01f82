"""Finds any of millions of needles in any number of bytes.

Eight bytes of each needle are its key. Every eight bytes in a row of what is searched are looked up in two tables
first, which few pass, then among the sorted keys, and what passes that is compared as a whole.
"""

import functools
import multiprocessing
import re
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy

from tests.leaks.forms import forms

_KEY = 8
_BITS = 28
_FACTORS = (numpy.uint64(0x9E3779B97F4A7C15), numpy.uint64(0xC2B2AE3D27D4EB4F))
_CHUNK = 1 << 22
_PART = 10_000
_LONGEST = 128  # more than any needle and the bytes beside it
_MOST_HITS = 10_000
_DIGITS = frozenset(b"0123456789abcdefABCDEF")
_REST_OF_UUID = re.compile(rb"-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-")


class Hit(NamedTuple):
    """A form of an address, where it was found."""

    address: str
    form: str
    at: int


class Searcher:
    """Searches for all forms of these addresses."""

    def __init__(self, addresses):
        self._addresses = list(addresses)
        parts = [self._addresses[begin : begin + _PART] for begin in range(0, len(self._addresses), _PART)]
        if len(parts) > 1:
            # Fresh processes: this one may have threads by now.
            with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
                keyed = list(pool.map(_keys, parts))
        else:
            keyed = list(map(_keys, parts))
        self._indexes = {folded: _Index([part[folded] for part in keyed]) for folded in (True, False)}
        self.needles = sum(index.size for index in self._indexes.values())
        self._forms = functools.lru_cache(maxsize=1000)(lambda address: list(forms(address)))

    def find(self, content):
        """Hits in these bytes (or a file mapped into memory), at most some thousands."""
        hits = []
        for begin in range(0, len(content), _CHUNK):
            # With so much of both neighbours that a needle that begins in this chunk is whole, with what is beside it.
            before = min(begin, _LONGEST)
            piece = bytes(content[begin - before : begin + _CHUNK + _LONGEST])
            for folded, index in self._indexes.items():
                searched = piece.lower() if folded else piece
                for at, owner in index.candidates(searched):
                    found = self._confirm(searched, at, self._addresses[owner], folded)
                    own = (hit for hit in found if before <= hit.at < before + _CHUNK)
                    hits += [hit._replace(at=hit.at + begin - before) for hit in own]
            if len(hits) > _MOST_HITS:
                break
        return hits

    def _confirm(self, content, at, address, folded):
        for form in self._forms(address):
            begin = at - form.key_at()
            end = begin + len(form.needle)
            if form.folded != folded or begin < 0 or content[begin:end] != form.needle:
                continue
            around = content[max(begin - 1, 0) : begin] + content[end : end + 1]
            if not form.alone or not (_DIGITS.intersection(around) or _REST_OF_UUID.match(content, end)):
                yield Hit(address, form.name, begin)


def _keys(addresses):
    """Of the forms found in any case, and of the others: their keys in one piece, and each one's address by number."""
    keys, owners = {True: [], False: []}, {True: [], False: []}
    for number, address in enumerate(addresses):
        for form in forms(address):
            at = form.key_at()
            keys[form.folded].append(form.needle[at : at + _KEY])
            owners[form.folded].append(number)
    return {folded: (b"".join(keys[folded]), numpy.array(owners[folded], dtype=numpy.uint32)) for folded in keys}


class _Index:
    def __init__(self, parts):
        numbers = numpy.frombuffer(b"".join(keys for keys, _ in parts), dtype="<u8")
        owners = numpy.concatenate([owners + numpy.uint32(_PART * part) for part, (_, owners) in enumerate(parts)])
        order = numpy.argsort(numbers, kind="stable")
        self.size, self._keys, self._owners = len(numbers), numbers[order], owners[order]
        self._passes = [numpy.zeros(1 << _BITS, dtype=bool) for _ in _FACTORS]
        for passes, factor in zip(self._passes, _FACTORS):
            passes[_place(self._keys, factor)] = True

    def candidates(self, content):
        """(begin of a key, owner) wherever a key stands."""
        if len(content) < _KEY:
            return
        rows = numpy.ndarray(len(content) - _KEY + 1, dtype="<u8", buffer=content, strides=(1,))
        first_table, second_table = self._passes
        at = numpy.flatnonzero(first_table[_place(rows, _FACTORS[0])])
        at = at[second_table[_place(rows[at], _FACTORS[1])]]
        found = rows[at]
        first = numpy.searchsorted(self._keys, found, "left")
        last = numpy.searchsorted(self._keys, found, "right")
        for where in numpy.flatnonzero(last > first):
            for owner in set(self._owners[first[where] : last[where]].tolist()):
                yield int(at[where]), owner


def _place(numbers, factor):
    return (numbers * factor) >> numpy.uint64(64 - _BITS)


def report(searcher, captures):
    """Searches captures, prints a table and gives what was found as failures."""
    failures = []
    print("| capture | bytes | hits |\n|---|---:|---:|")
    for name, content in captures.items():
        hits = searcher.find(content)
        print(f"| {name} | {len(content):,} | {len(hits)} |", flush=True)
        kinds = Counter(hit.form for hit in hits)
        failures += [f"{name}: {count} times an address as {form}" for form, count in kinds.items()]
        for hit in hits[:3]:
            around = bytes(content[max(0, hit.at - 60) : hit.at + 80])
            failures.append(f"{name}, byte {hit.at}: {hit.address} as {hit.form} in {around!r}")
    return failures
