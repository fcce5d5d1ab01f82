"""Finds any of millions of needles in any number of bytes.

Eight bytes of each needle are its key. Every eight bytes in a row of what is searched are looked up in a table of bits
first, which few pass, then among the sorted keys, and what passes that is compared as a whole.
"""

import functools
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import numpy

from forms import forms

_KEY = 8
_BITS = 28
_FACTOR = numpy.uint64(0x9E3779B97F4A7C15)
_CHUNK = 1 << 22
_PART = 10_000
_MOST_HITS = 10_000
_DIGITS = frozenset(b"0123456789abcdefABCDEF")


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
        """Hits in these bytes, at most some thousands."""
        hits = []
        for folded, index in self._indexes.items():
            searched = content.lower() if folded else content
            for at, owner in index.candidates(searched):
                hits += self._confirm(searched, at, self._addresses[owner], folded)
                if len(hits) > _MOST_HITS:
                    return hits
        return hits

    def _confirm(self, content, at, address, folded):
        for form in self._forms(address):
            begin = at - form.key_at()
            end = begin + len(form.needle)
            if form.folded != folded or begin < 0 or content[begin:end] != form.needle:
                continue
            around = content[max(begin - 1, 0) : begin] + content[end : end + 1]
            if not (form.alone and _DIGITS.intersection(around)):
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
        self._passes = numpy.zeros(1 << _BITS, dtype=bool)
        self._passes[_place(self._keys)] = True

    def candidates(self, content):
        """(begin of a key, owner) wherever a key stands."""
        for begin in range(0, len(content), _CHUNK):
            chunk = content[begin : begin + _CHUNK + _KEY - 1]
            if len(chunk) < _KEY:
                return
            rows = numpy.ndarray(len(chunk) - _KEY + 1, dtype="<u8", buffer=chunk, strides=(1,))
            at = numpy.flatnonzero(self._passes[_place(rows)])
            found = rows[at]
            first = numpy.searchsorted(self._keys, found, "left")
            last = numpy.searchsorted(self._keys, found, "right")
            for where in numpy.flatnonzero(last > first):
                for owner in set(self._owners[first[where] : last[where]].tolist()):
                    yield begin + int(at[where]), owner


def _place(numbers):
    return (numbers * _FACTOR) >> numpy.uint64(64 - _BITS)
