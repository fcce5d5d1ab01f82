"""Checks a relay from outside: reads the raw, the output and the dead-letter topic with clients that share no code with
pressline, works out from every raw record what must have become of it, and compares field by field.

Exit code 0 when everything agrees, 1 with the first 20 differences when not. Addresses are never printed.
"""

import argparse
import re
import sys
import time
from collections import Counter, defaultdict

from tests.harness.expected import Refused, read_press
from tests.harness.places import Names, Places
from tests.harness.topics import Registry, murmur2_partition, partitions, read_all

_DOTTED = re.compile(rb"\d{1,3}(?:\.\d{1,3}){3}")
_COLONS = re.compile(rb"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f.]{0,15}){2,8}")
_FIELDS = ("session_id", "timestamp", "cohort", "action", "country_code", "subdivision_name", "city_name")
_OPTIONAL = ("latitude", "longitude", "accuracy_km", "time_zone")
_FIRST_NINE = (*_FIELDS[:4], "country_name", "country_code", "subdivision_name", "subdivision_code", "city_name")


class Check:
    """What was expected, what was found, and where the two differ."""

    def __init__(self, arguments):
        self._arguments = arguments
        self._names = Names()
        self._registry = Registry(arguments.registry)
        self._expected = defaultdict(
            list
        )  # session → (where, fields, record time, traces of the address), in raw order
        self._refused = {}  # (partition, offset) → (reason, field, traces of the address)
        self._traces = set()
        self.counts = Counter()
        self.differences = []

    def differ(self, where, what):
        """Notes a difference."""
        self.counts["differences"] += 1
        if len(self.differences) < 20:
            self.differences.append(f"{where}: {what}")

    def read_raw(self):
        """Works out what must become of every raw record."""
        topic, now_us = self._arguments.raw_topic, time.time_ns() // 1000
        places = Places(self._arguments.mmdb)
        for message in read_all(self._arguments.bootstrap, topic):
            self.counts["raw records"] += 1
            payload, where = message.value(), (message.partition(), message.offset())
            traces = _addresses_in(payload or b"")
            self._traces |= traces
            try:
                press = read_press(payload, now_us, self._arguments.actions, self._arguments.max_record_bytes)
            except Refused as refused:
                self._refused[where] = (*refused.args, traces)
                continue
            place = places.of(press.address)
            fields = {key: getattr(press, key) for key in _FIELDS[:4]} | place
            if press.address is not None:
                self.counts[f"presses from IPv{press.address.version}"] += 1
                traces |= _forms(press.address)
            self.counts[
                "presses of an unknown place" if place["country_code"] == "--" else "presses of a known place"
            ] += 1
            self._expected[press.session_id].append(
                (f"{topic} {where[0]}/{where[1]}", fields, message.timestamp(), traces)
            )

    def read_output(self):
        """Compares the output, session by session."""
        topic = self._arguments.output_topic
        count = partitions(self._arguments.bootstrap, topic)
        found = defaultdict(list)
        for message in read_all(self._arguments.bootstrap, topic):
            self.counts["output records"] += 1
            where = f"{topic} {message.partition()}/{message.offset()}"
            try:
                fields = self._registry.decode(message.value())
            except ValueError as error:
                self.differ(where, str(error))
                continue
            session = fields["session_id"]
            if message.key() != session.encode():
                self.differ(where, "the key is not the session id")
            if message.partition() != murmur2_partition(message.key() or b"", count):
                self.differ(where, "not the partition that Java clients give this key")
            for fault in self._names.faults(fields):
                self.differ(where, fault)
            self._no_trace(
                where, message, self._traces_said(message)
            )  # of anybody's address; its own is looked for below
            found[session].append((where, fields, message))
        for session in self._expected.keys() | found.keys():
            self._compare_session(session, self._expected.get(session, []), found.get(session, []))
        self._check_schema()

    def _compare_session(self, session, expected, found):
        if len(expected) != len(found):
            lost = Counter(_identity(fields) for _, fields, *_ in expected)
            lost.subtract(_identity(fields) for _, fields, _ in found)
            missing, extra = sum((+lost).values()), sum((-lost).values())
            self.counts["lost"] += missing
            self.counts["doubled or invented"] += extra
            first = (expected or found)[0][0]
            self.differ(first, f"session {session}: {missing} records lost, {extra} too many")
            return
        if [_identity(fields) for _, fields, *_ in expected] != [_identity(fields) for _, fields, _ in found]:
            if Counter(_identity(f) for _, f, *_ in expected) == Counter(_identity(f) for _, f, _ in found):
                self.differ(
                    found[0][0], f"session {session}: the records are in another order than {expected[0][0]} and after"
                )
                return
        for (raw, wanted, raw_time, traces), (where, fields, message) in zip(expected, found):
            for key in (*_FIELDS, *_OPTIONAL):
                if not _same(fields.get(key), wanted[key]):
                    self.differ(where, f"{key} is {fields.get(key)!r} where {raw} makes it {wanted[key]!r}")
            if message.timestamp() != raw_time:
                self.differ(where, f"the record's time is {message.timestamp()[1]}, that of {raw} {raw_time[1]}")
            self._no_trace(where, message, traces)

    def _check_schema(self):
        for types in self._registry.logical_types():
            if types.get("session_id") != "uuid" or types.get("timestamp") != "timestamp-micros":
                self.differ(
                    "registry", "the logical types uuid and timestamp-micros are not inside the types of the fields"
                )
        for names in self._registry.field_names():
            if tuple(names[:9]) != _FIRST_NINE:
                self.differ("registry", f"the first nine fields are {', '.join(names[:9])}")

    def read_dead(self):
        """Compares the dead letters, record by record."""
        left = dict(self._refused)
        for message in read_all(self._arguments.bootstrap, self._arguments.dead_topic):
            where = f"{self._arguments.dead_topic} {message.partition()}/{message.offset()}"
            headers = {name: (value or b"").decode(errors="replace") for name, value in message.headers() or []}
            reason, field = headers.get("pressline.reason"), headers.get("pressline.field", "")
            self.counts["dead letters"] += 1
            self.counts[f"dead: {reason} {field}".rstrip()] += 1
            if message.value():
                self.differ(where, "the value is not empty")
            if headers.get("pressline.topic") != self._arguments.raw_topic:
                self.differ(where, "the header pressline.topic does not name the raw topic")
            try:
                raw = int(headers["pressline.partition"]), int(headers["pressline.offset"])
            except (KeyError, ValueError):
                self.differ(where, "the headers pressline.partition and pressline.offset are not both numbers")
                continue
            wanted = left.pop(raw, None)
            if wanted is None:
                what = "is there twice" if raw in self._refused else "should have been relayed"
                self.differ(where, f"raw record {raw[0]}/{raw[1]} {what} ({reason} {field})")
                continue
            if (reason, field) != wanted[:2]:
                self.differ(
                    where, f"reason {reason!r}, field {field!r} where {wanted[0]!r}, {wanted[1]!r} was expected"
                )
            self._no_trace(where, message, wanted[2] | self._traces_said(message))
        for (partition, offset), (reason, field, _) in left.items():
            self.counts["lost"] += 1
            self.differ(f"{self._arguments.raw_topic} {partition}/{offset}", f"no dead letter ({reason} {field})")

    def _traces_said(self, message):
        """Texts in a record that look like an address and are one of the raw topic's."""
        return {text for part in _parts(message) for text in _addresses_in(part)} & self._traces

    def _no_trace(self, where, message, traces):
        if any(trace in part for part in _parts(message) for trace in traces):
            self.counts["addresses found"] += 1
            self.differ(where, "holds a visitor's address")

    def report(self):
        """Prints the summary; the exit code."""
        sent = self._arguments.expect_sent
        if sent is not None and sent != self.counts["raw records"]:
            self.differ(self._arguments.raw_topic, f"{self.counts['raw records']} records where {sent} were sent")
        for name, count in [*self.counts.items(), *sorted(self._names.counts.items())]:
            print(f"{count:>10,}  {name}")
        written = self.counts["output records"] + self.counts["dead letters"]
        print(f"{written:>10,}  output records + dead letters, of {self.counts['raw records']:,} raw records")
        for difference in self.differences:
            print(f"DIFFERENT  {difference}")
        if not self.counts["raw records"]:
            print("DIFFERENT  there is nothing in the raw topic: nothing was checked")
            return 1
        return 1 if self.counts["differences"] else 0


def _identity(fields):
    """A record's fields as something to count and to compare, coordinates left to the comparison field by field."""
    return tuple(fields.get(key) for key in _FIELDS)


def _forms(address):
    """Ways to write an address that cannot occur by chance: not `::1`, and not the four bytes of IPv4."""
    texts = {str(address).encode(), address.exploded.encode()}
    return {text for text in texts if len(text) >= 7} | ({address.packed} if address.version == 6 else set())


def _same(found, wanted):
    if isinstance(found, float) and isinstance(wanted, float):
        return abs(found - wanted) <= 1e-9
    return found == wanted and type(found) is type(wanted)


def _parts(message):
    yield message.key() or b""
    yield message.value() or b""
    for name, value in message.headers() or []:
        yield name.encode()
        yield value or b""


def _addresses_in(text):
    """Texts that look like an IPv4 address, right or wrong, or like an IPv6 address with two groups or more."""
    colons = {found for found in _COLONS.findall(text) if len(found) > 5 and (b"::" in found or found.count(b":") == 7)}
    return set(_DOTTED.findall(text)) | colons


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("--bootstrap", "--registry", "--raw-topic", "--output-topic", "--dead-topic"):
        parser.add_argument(name, required=True)
    parser.add_argument(
        "--mmdb", nargs="+", required=True, metavar="FILE", help="files of the flat layout, first answer wins"
    )
    parser.add_argument("--expect-sent", type=int, metavar="N", help="how many raw records there must be")
    parser.add_argument("--actions", nargs="+", default=["EnterPage", "PressButton", "ExitPage"])
    parser.add_argument("--max-record-bytes", type=int, default=1_000_000)
    check = Check(parser.parse_args())
    check.read_raw()
    check.read_output()
    check.read_dead()
    return check.report()


if __name__ == "__main__":
    sys.exit(main())
