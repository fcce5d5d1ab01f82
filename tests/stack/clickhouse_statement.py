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
    """`head` names table and columns; `settings` is the SETTINGS clause or nothing."""

    head: str
    settings: str
    format: str
    data: bytes

    def from_file(self, path):
        """The statement that reads its data from a file."""
        return f"{self.head} FROM INFILE '{path}' COMPRESSION 'none' {self.settings} FORMAT {self.format}"


def insert_with_data(text, default_format):
    """The parts of an INSERT whose data follows it; None for any other statement, such as INSERT ... SELECT."""
    depth = 0
    words = 0
    settings = None
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
        if word == b"SETTINGS":
            settings = token.start()
        if word == b"VALUES":
            return _insert(text[: token.start()], settings, "Values", text[token.end() :])
        if word == b"FORMAT":
            name = _FORMAT_NAME.match(text, token.end())
            return name and _insert(text[: token.start()], settings, name[1].decode(), text[name.end() :])
    return _insert(text, settings, default_format or "Values", b"") if words else None


def _insert(head, settings, form, data):
    at = len(head) if settings is None else settings
    return Insert(head[:at].decode(errors="replace"), head[at:].decode(errors="replace"), form, data)
