"""Tells an INSERT that brings its data along from every other statement, as ClickHouse's HTTP interface has to."""

import re
from typing import NamedTuple

_TOKEN = re.compile(
    rb"""\s+ | --[^\n]* | /\*.*?\*/ | '(?:[^'\\]|\\.|'')*' | `(?:[^`\\]|\\.)*` | "(?:[^"\\]|\\.)*"
    | (?P<word>\w+) | .""",
    re.VERBOSE | re.DOTALL,
)
# The clause and the blanks up to the end of its line; what follows is data.
_FORMAT_NAME = re.compile(rb"\s*(\w+)[ \t]*(?:;?\r?\n)?")


class Insert(NamedTuple):
    """`head` ends before FORMAT or VALUES, the form in which the engine takes a statement apart from its data."""

    head: str
    format: str
    data: bytes


def insert_with_data(text, default_format):
    """The parts of an INSERT whose data follows it; None for any other statement, such as INSERT ... SELECT."""
    depth = 0
    words = 0
    for token in _TOKEN.finditer(text):
        word = (token["word"] or b"").upper()
        if word and not words and word != b"INSERT":
            return None
        words += bool(word)
        depth += {b"(": 1, b")": -1}.get(token[0], 0)
        if depth:
            continue
        if word in (b"SELECT", b"WITH"):
            return None
        head = text[: token.start()].decode(errors="replace")
        if word == b"VALUES":
            return Insert(head, "Values", text[token.end() :])
        if word == b"FORMAT":
            name = _FORMAT_NAME.match(text, token.end())
            return name and Insert(head, name[1].decode(), text[name.end() :])
    return Insert(text.decode(errors="replace"), default_format or "Values", b"") if words else None
