"""Compares what came out with what was sent, by bitmaps of (input partition, sequence).

A record's session id tells where it came from and its sequence there is its offset; dead letters name their origin in
their headers. So each output says which input it is, and every input must be seen once.
"""

import uuid
from collections import Counter
from dataclasses import dataclass, field

_RUN = 0x9E  # first byte of our session ids
_BAD = 37  # one record of so many is a dead letter


def session_id(run, partition, sequence):
    """The UUID of an input: `run` of 32 bits, `partition` of 24, `sequence` of 40."""
    return str(uuid.UUID(int=_RUN << 120 | (run & 0xFFFFFFFF) << 64 | (partition & 0xFFFFFF) << 40 | sequence))


def origin(text):
    """(run, partition, sequence) of a session id; None for one that is none of ours."""
    try:
        number = uuid.UUID(text).int
    except ValueError:
        return None
    if number >> 120 != _RUN or number >> 96 & 0xFFFFFF:
        return None
    return number >> 64 & 0xFFFFFFFF, number >> 40 & 0xFFFFFF, number & 0xFFFFFFFFFF


def is_bad(partition, sequence):
    """Whether this input is one that must become a dead letter."""
    return (sequence + partition) % _BAD == _BAD - 1


@dataclass
class Verdict:
    """Counts of what is wrong, and the first few of each kind in words."""

    inputs: int = 0
    written: int = 0
    dead: int = 0
    filtered: int = 0
    lost: int = 0
    doubled: int = 0
    disordered: int = 0
    wrong: int = 0
    examples: list = field(default_factory=list)

    @property
    def sound(self):
        """Whether every input came out once, in order and right, but for those that must not."""
        return not (self.lost or self.doubled or self.disordered or self.wrong) and (
            self.inputs == self.written + self.dead + self.filtered
        )


class Tally:
    """Takes outputs as they are read and gives the verdict at the end."""

    def __init__(self, run, expected, is_bad=is_bad, is_filtered=lambda _partition, _sequence: False):
        """`expected(partition, sequence)`: the fields of the output that are known beforehand."""
        self._run, self._expected, self._is_bad, self._is_filtered = run, expected, is_bad, is_filtered
        self._seen = {}  # input partition → bytearray of bits
        self._last = {}  # (input partition, output topic, its partition) → sequence
        self._counts = Counter()
        self._examples = []

    def written(self, fields, topic_partition):
        """An output record, decoded; returns its (partition, sequence), or None."""
        where = origin(fields["session_id"])
        if where is None or where[0] != self._run:
            self.wrong(f"{topic_partition}: session {fields['session_id']} was never sent in this run")
            return None
        _, partition, sequence = where
        self._counts["written"] += 1
        if self._is_bad(partition, sequence):
            self.wrong(f"input {partition}/{sequence} was written but is bad")
        for name, value in self._expected(partition, sequence).items():
            if fields.get(name) != value:
                self.wrong(f"input {partition}/{sequence}: {name} is {fields.get(name)!r}, not {value!r}")
        self._see(partition, sequence, topic_partition)
        return partition, sequence

    def dead(self, partition, sequence, topic_partition):
        """A dead letter of this input."""
        self._counts["dead"] += 1
        if not self._is_bad(partition, sequence):
            self.wrong(f"input {partition}/{sequence} is a dead letter but is sound")
        self._see(partition, sequence, topic_partition)

    def undecodable(self, why):
        """An output or dead letter that nobody can read."""
        self._counts["written"] += 1
        self.wrong(why)

    @property
    def distinct(self):
        """Inputs seen so far, each once."""
        return self._counts["distinct"]

    def _see(self, partition, sequence, topic_partition):
        if self._is_filtered(partition, sequence):
            self.wrong(f"input {partition}/{sequence} must be filtered out and is at {topic_partition}")
        bits = self._seen.setdefault(partition, bytearray())
        byte, mask = sequence >> 3, 1 << (sequence & 7)
        if byte >= len(bits):
            bits.extend(bytes(max(byte + 1 - len(bits), 1024)))
        if bits[byte] & mask:
            self._counts["doubled"] += 1
            self._example(f"input {partition}/{sequence} is doubled, again at {topic_partition}")
            return
        bits[byte] |= mask
        self._counts["distinct"] += 1
        key = partition, topic_partition[:2]
        last = self._last.get(key, -1)
        if sequence < last:
            self._counts["disordered"] += 1
            self._example(f"input {partition}/{sequence} came after {last} at {topic_partition}")
        self._last[key] = max(last, sequence)

    def verdict(self, sent):
        """`sent`: input partition → how many were sent to it."""
        lost = filtered = 0
        for partition, count in sent.items():
            bits = self._seen.get(partition, b"")
            for sequence in range(count):
                if self._is_filtered(partition, sequence):
                    filtered += 1
                    continue
                byte = sequence >> 3
                if byte >= len(bits) or not bits[byte] & 1 << (sequence & 7):
                    lost += 1
                    if lost <= 5:
                        self._example(f"input {partition}/{sequence} is lost")
        for partition, bits in self._seen.items():
            invented = sum(
                bits[sequence >> 3] >> (sequence & 7) & 1 for sequence in range(sent.get(partition, 0), len(bits) * 8)
            )
            if invented:
                self._counts["wrong"] += invented
                self._example(f"partition {partition}: {invented} outputs of inputs that were never sent")
        counts = self._counts
        return Verdict(
            sum(sent.values()),
            counts["written"],
            counts["dead"],
            filtered,
            lost,
            counts["doubled"],
            counts["disordered"],
            counts["wrong"],
            self._examples,
        )

    def wrong(self, text):
        """Something about an output that is not as it must be."""
        self._counts["wrong"] += 1
        self._example(text)

    def _example(self, text):
        if len(self._examples) < 20:
            self._examples.append(text)
