"""Addresses that are told from everything else, and records that hold them where they belong and where they do not."""

import ipaddress
import itertools
import json
import random

import maxminddb

from tests.harness.paths import ROOT

_DEMO = ROOT / "data" / "demo.mmdb"
# Of the first and last byte of an IPv4 address: so its integers, in either byte order, are no times of our day in
# seconds, and its hexadecimal digits stand in no session id.
_LOW, _HIGH = 112, 223
BASE_US = 1_750_000_000_000_000
ACTIONS = ("EnterPage", "PressButton", "ExitPage")
# The headers that the pipeline lets through.
ALLOWED = ("traceparent", "origin-note")


def networks():
    """Networks of the demo database that have a city."""
    with maxminddb.open_database(str(_DEMO)) as reader:
        return [ipaddress.ip_network(network) for network, record in reader if record.get("city")]


def canaries(count, networks, seed):
    """So many addresses, half of each version, all different; one in four from `networks`, which have a place."""
    draw = random.Random(seed)
    found = {}
    v4 = [network for network in networks if network.version == 4]
    v6 = [network for network in networks if network.version == 6]
    while len(found) < count:
        if len(found) % 2:
            found[_v6(draw, v6)] = None
        elif (address := _v4(draw, v4)) is not None:
            found[address] = None
    return list(found)


def _v4(draw, networks):
    if draw.random() < 0.25 and networks:
        network = draw.choice(networks)
        address = network[draw.randrange(network.num_addresses)]
    else:
        address = ipaddress.IPv4Address(
            bytes([draw.randint(_LOW, _HIGH), *draw.randbytes(2), draw.randint(_LOW, _HIGH)])
        )
    raw = address.packed
    return str(address) if all(_LOW <= byte <= _HIGH for byte in (raw[0], raw[3])) else None


def _v6(draw, networks):
    if draw.random() < 0.25 and networks:
        network = draw.choice(networks)
        number = int(network[0]) | draw.getrandbits(128 - network.prefixlen)
    else:
        number = 0x2A << 120 | draw.getrandbits(120)
    if draw.random() < 0.2:  # zeros between, as interfaces often have
        number &= ~(0xFFFF_FFFF << 32)
    return str(ipaddress.IPv6Address(number))


def session_id(number):
    """The UUID of a record: few digits that are not zero, and none that an address has in front."""
    return f"00000000-0000-4000-8000-{number:012d}"


def sound(number, address):
    """A press as it should be."""
    return {
        "session_id": session_id(number),
        "timestamp": BASE_US + number,
        "cohort": number % 5 or None,
        "action": ACTIONS[number % 3],
        "ip": address,
    }


def record(number, address):
    """Key, value, headers and time (ms, or None for now) of a record: most are sound, and all wrong kinds come."""
    draw = number % 100
    if draw < len(_KINDS):
        return _KINDS[draw](number, address)
    return plain(sound(number, address))


def kinds():
    """How many kinds of records there are beside the sound ones."""
    return len(_KINDS)


def plain(fields, key=None, headers=(), time=None):
    """Key, value, headers and time of a record with these fields."""
    key = fields.get("session_id", "") if key is None else key
    return str(key).encode(), json.dumps(fields, separators=(",", ":")).encode(), list(headers), time


def _with(**changes):
    """A kind whose fields differ from a sound record's; a value may be a function of the address."""

    def make(number, address):
        fields = sound(number, address)
        for name, value in changes.items():
            fields[name] = value(address) if callable(value) else value
        return plain(fields)

    return make


def _without(name):
    def make(number, address):
        fields = sound(number, address)
        del fields[name]
        return plain(fields)

    return make


def _text(change):
    """A kind made of a sound record's text."""

    def make(number, address):
        key, value, headers, time = plain(sound(number, address))
        return key, change(value, address.encode()), headers, time

    return make


def _headers(*pairs):
    def make(number, address):
        made = [(name.replace("ADDRESS", address), value(address).encode()) for name, value in pairs]
        return plain(sound(number, address), headers=made)

    return make


def _integer(address):
    return int(ipaddress.ip_address(address))


def _keyed(number, address):
    return plain(sound(number, address), key=address)


def _timed(number, address):
    """Kafka's own time of the record; an IPv6 address's first bits."""
    return plain(sound(number, address), time=_integer(address) & 0xFFFF_FFFF)


def _of_zeros(address):
    parsed = ipaddress.ip_address(address)
    return ".".join(f"{part:03}" for part in parsed.packed) if parsed.version == 4 else parsed.exploded


_KINDS = (
    # The address where another field belongs.
    _with(session_id=str),
    _with(action=str),
    _with(timestamp=str),
    _with(timestamp=_integer),
    _with(cohort=str),
    _with(cohort=_integer),
    # The address in another form or type.
    _with(ip=_integer),
    _with(ip=lambda address: [address]),
    _with(ip=lambda address: {"address": address}),
    _with(ip=_of_zeros),
    _with(ip=lambda address: f"{address}:443"),
    _with(ip=lambda address: f"{address}%eth0"),
    _with(ip=lambda address: f"{address}/24"),
    _with(ip=lambda address: f" {address}"),
    # Fields that nobody asked for.
    _with(client_ip=str),
    _with(forwarded=lambda address: {"for": [address, {"deep": address}]}),
    lambda number, address: plain(sound(number, address) | {address: address}),
    _with(place=lambda address: {"city_name": address, "ip": address}),
    # Text that is not quite JSON, and JSON that is none of ours.
    _text(lambda value, address: value[:-1]),
    _text(lambda value, address: value + b',"ip":"' + address + b'"'),
    _text(lambda value, address: value[:-1] + b',"ip":"' + address + b'"}'),
    _text(lambda value, address: value.replace(b'"cohort"', b'"' + address + b'"\x00"')),
    _text(lambda value, address: b"GET / HTTP/1.1\r\nX-Forwarded-For: " + address),
    _text(lambda value, address: b'"' + address + b'"'),
    _text(lambda value, address: b'["' + address + b'"]'),
    _text(lambda value, address: b"\xff\xfe" + value),
    _text(lambda value, address: b'{"a":' * 40 + b'"' + address + b'"' + b"}" * 40),
    _text(lambda value, address: value[:-1] + b',"x":"' + (address + b" ") * 5000 + b'"}'),
    _text(lambda value, address: value.replace(address, b"".join(b"\\u%04x" % byte for byte in address))),
    _text(lambda value, address: value.replace(address, address[:-1] + b"\\q" + address)),
    _text(lambda value, address: value.replace(b"session_id", address)),
    # Missing fields beside it.
    _without("session_id"),
    _without("action"),
    _without("timestamp"),
    _with(action="Nonsense"),
    _with(timestamp="2026-01-01"),
    # Around the value.
    _keyed,
    lambda number, address: (address.encode(), None, [], None),
    _timed,
    _headers(("x-forwarded-for", str), ("ADDRESS", lambda _: "name")),
    _headers(("traceparent", str)),
    _headers(("traceparent", lambda address: f"00-4bf9-{address}")),
    _headers(("origin-note", lambda address: f"[{address}]:443, 10.0.0.1")),
    _headers(("origin-note", lambda address: f"for={_of_zeros(address)};proto=https")),
    _headers(("origin-note", lambda address: f"ip:{address}:54321")),
    _headers(("origin-note", lambda _: "nothing to see"), ("origin-note", str)),
)


def without_addresses(count):
    """All of the records' bytes with nothing where the addresses stand: what a search must find nothing in."""
    fill = itertools.repeat("::")  # any that is none of the canaries
    pieces = []
    for number, address in zip(range(count), fill):
        key, value, headers, _ = record(number, address)
        pieces += [
            key,
            value or b"",
            *(part if isinstance(part, bytes) else part.encode() for pair in headers for part in pair),
        ]
    return b"\n".join(pieces)
