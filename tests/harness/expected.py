"""What must become of a raw press, worked out from its bytes alone: a second, plain reading of the rules, in Python.

Nothing here comes from pressline's code. Where the two disagree, one of them is wrong.
"""

import ipaddress
import json
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Optional

KNOWN_FIELDS = ("session_id", "timestamp", "action", "cohort", "ip")
MAX_DEPTH = 32
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
EARLIEST_US = 946_684_800_000_000  # 2000-01-01
DAY_US = 86_400_000_000

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_ISO_8601 = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(Z|[+-]\d\d(?::?\d\d)?)", re.ASCII | re.IGNORECASE
)


class Refused(Exception):
    """The record belongs to the dead letters; arguments: reason, field ("" for the whole record)."""


@dataclass(frozen=True)
class Press:
    """What is to be written of a press, apart from its place, and the address that must not be."""

    session_id: str
    timestamp: int
    cohort: Optional[int]
    action: str
    address: object  # IPv4Address, IPv6Address or None


def read_press(payload, now_us, actions, max_bytes):
    """The press in a record's value; raises `Refused` with the first rule that it breaks."""
    fields = _known_fields(_document(payload, max_bytes))
    return Press(
        session_id=_session_id(fields),
        timestamp=_timestamp(fields, now_us),
        action=_action(fields, actions),
        cohort=_cohort(fields),
        address=_address(fields),
    )


def _document(payload, max_bytes):
    """The JSON document; objects are `_Pairs`, so that a name given twice can be seen."""
    if payload is None:
        raise Refused("null_value", "")
    if len(payload) > max_bytes:
        raise Refused("too_large", "")
    try:
        text = payload.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("not_utf8", "") from None
    too_deep_at = _first_too_deep(text)
    try:
        document = json.loads(text, object_pairs_hook=_Pairs, parse_constant=_no_constant, parse_float=_finite)
        _refuse_lone_surrogates(document, text)
    except RecursionError:
        raise Refused("too_deep", "") from None
    except json.JSONDecodeError as error:
        raise Refused("not_json" if too_deep_at is None or error.pos < too_deep_at else "too_deep", "") from None
    except ValueError:
        raise Refused("not_json", "") from None
    if too_deep_at is not None:
        raise Refused("too_deep", "")
    return document


class _Pairs(list):
    """An object of JSON as the list of its names and values."""


def _first_too_deep(text):
    """Where nesting first goes beyond `MAX_DEPTH`, or None."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return None
    depth, inside_text, escaped = 0, False, False
    for position, character in enumerate(text):
        if inside_text:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                inside_text = False
        elif character == '"':
            inside_text = True
        elif character in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                return position
        elif character in "]}":
            depth -= 1
    return None


def _no_constant(_):
    raise ValueError("NaN and Infinity are not JSON")


def _finite(text):
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("out of range")
    return number


def _refuse_lone_surrogates(document, text):
    if "\\u" in text:
        json.dumps(document, ensure_ascii=False).encode("utf-8")  # UnicodeEncodeError is a ValueError


def _known_fields(document):
    if not isinstance(document, _Pairs):
        raise Refused("wrong_type", "")
    names = [name for name, _ in document]
    for field in KNOWN_FIELDS:
        if names.count(field) > 1:
            raise Refused("duplicate_key", field)
    return dict(document)


def _text(fields, field):
    if field not in fields:
        raise Refused("missing_field", field)
    value = fields[field]
    if not isinstance(value, str):
        raise Refused("wrong_type", field)
    return value


def _is_integer(value):
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _session_id(fields):
    text = _text(fields, "session_id")
    lower = text.lower()
    if not text.isascii() or not _UUID.fullmatch(lower):
        raise Refused("bad_uuid", "session_id")
    return lower


def _timestamp(fields, now_us):
    if "timestamp" not in fields:
        raise Refused("missing_field", "timestamp")
    value = fields["timestamp"]
    if isinstance(value, str):
        value = _microseconds(value)
    elif not _is_integer(value):
        raise Refused("wrong_type", "timestamp")
    if value is None or not EARLIEST_US <= value <= now_us + DAY_US:
        raise Refused("implausible_timestamp", "timestamp")
    return value


def _microseconds(text):
    """ISO 8601 text with a UTC offset as microseconds since 1970, digits beyond cut off; None when it is none."""
    match = _ISO_8601.fullmatch(text)
    if not match:
        return None
    day, minute, second, fraction, offset = match.groups()
    second = "59" if second == "60" else second or "00"  # a leap second counts as the one before
    offset = "+00:00" if offset in "Zz" else f"{offset[:3]}:{offset[3:].lstrip(':') or '00'}"
    try:
        whole = datetime.fromisoformat(f"{day}T{minute}:{second}{offset}")
    except ValueError:
        return None
    return (whole - EPOCH) // timedelta(microseconds=1) + int((fraction or "0").ljust(6, "0")[:6])


def _action(fields, actions):
    text = _text(fields, "action")
    if text not in actions:
        raise Refused("unknown_action", "action")
    return text


def _cohort(fields):
    value = fields.get("cohort")
    if value is not None and not (_is_integer(value) and -(2**15) <= value < 2**15):
        raise Refused("wrong_type", "cohort")
    return value


def _address(fields):
    value = fields.get("ip")
    if value is None:
        return None
    if not isinstance(value, str):
        raise Refused("wrong_type", "ip")
    # A port, brackets and a zone, as proxies write them, are cut off.
    bracketed = re.fullmatch(r"\[([^\]]*)\](:[0-9]{1,5})?", value)
    with_port = re.fullmatch(r"([0-9.]+)(:[0-9]{1,5})", value)
    found = bracketed or with_port
    try:
        if found and found[2] and int(found[2][1:]) > 65535:
            raise ValueError
        address = ipaddress.ip_address(found[1] if found else value)
        if getattr(address, "scope_id", None):
            address = ipaddress.ip_address(str(address).split("%")[0])
    except ValueError:
        raise Refused("bad_ip", "ip") from None
    return getattr(address, "ipv4_mapped", None) or address
