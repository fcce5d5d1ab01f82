"""Visitors without a browser: all bytes of each answer, and an address that a proxy tells of."""

import http.client
import json
import re
import threading
import urllib.parse
from collections import Counter
from contextlib import suppress
from typing import NamedTuple

PATIENCE = 30


class Answer(NamedTuple):
    """What came back: `head` and `body` as they were sent."""

    status: int
    head: str
    body: str

    def header(self, name):
        """The first of that name; None without one."""
        found = re.search(rf"(?im)^{re.escape(name)}: (.*)$", self.head)
        return found and found[1].strip()

    def content(self):
        """Everything."""
        return f"{self.status}\n{self.head}\n{self.body}".encode()


class Visitor:
    """One session, over one connection; `address` is what the proxy in front of the pages tells."""

    def __init__(self, port, address=None, header="X-Forwarded-For"):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        self._own = {} if address is None else {header: f"for={_quoted(address)}" if header == "Forwarded" else address}
        self.cookie = None

    def ask(self, method, path, body=None, **headers):
        """A request with the visitor's cookie; headers with `_` for `-`."""
        more = {"Cookie": self.cookie} if self.cookie else {}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        self._connection.request(method, path, body, self._own | more | given)
        answer = self._connection.getresponse()
        found = Answer(answer.status, str(answer.headers), answer.read().decode(errors="surrogateescape"))
        if cookie := found.header("set-cookie"):
            self.cookie = cookie.partition(";")[0]
        return found

    def visit(self):
        """The button's page."""
        return self.ask("GET", "/")

    def press(self):
        """As the page's script does."""
        return self.ask("POST", "/", Accept="application/json")

    @property
    def session_id(self):
        return self.cookie.partition("=")[2].split(".")[0]

    @property
    def cohort(self):
        return int(self.cookie.split(".")[1])

    @property
    def count(self):
        return int(self.cookie.split(".")[2])

    def close(self):
        """Ends the connection; another request makes a new one."""
        self._connection.close()


def _quoted(address):
    return f'"[{address}]"' if ":" in address else address


class Event(NamedTuple):
    """A server-sent event."""

    name: str
    id: str
    data: dict

    def presses(self):
        """How many it counts."""
        return sum(self.countries().values())

    def countries(self):
        """How many of each country."""
        if self.name == "frame":
            return Counter(self.data["c"])
        minutes = [] if self.name == "skipped" else self.data["minutes"]
        return sum((Counter(countries) for _, countries, _ in minutes), Counter())

    def positions(self):
        """Offset of the last record of each partition."""
        return {int(partition): int(offset) for partition, offset in (pair.split(":") for pair in self.id.split())}


class Watcher:
    """Somebody who watches the map, from where `last` (an event's id) left off."""

    def __init__(self, port, last=None, query=None, address=None):
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
        path = "/live/events" + ("" if query is None else f"?last={urllib.parse.quote(query)}")
        headers = ({"Last-Event-ID": last} if last is not None else {}) | ({"X-Forwarded-For": address} if address else {})
        self._connection.request("GET", path, headers=headers)
        self._socket = self._connection.sock
        self._answer = self._connection.getresponse()
        self.status = self._answer.status
        self._came = bytearray(str(self._answer.headers).encode() + b"\n\n")
        self.ended = threading.Event()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        with suppress(OSError, http.client.HTTPException, AttributeError, ValueError):
            while piece := self._answer.read1(1 << 16):
                self._came += piece
        self.ended.set()

    def content(self):
        """All bytes so far."""
        return bytes(self._came)

    def events(self):
        """The events so far."""
        whole = self.content().decode().split("\n\n")[:-1]
        found = []
        for block in whole:
            lines = dict(line.split(": ", 1) for line in block.split("\n") if ": " in line and not line.startswith(":"))
            if "event" in lines:
                found.append(Event(lines["event"], lines.get("id", ""), json.loads(lines["data"])))
        return found

    def total(self):
        """Presses that the page would show: of the last snapshot, and of what came since."""
        total = 0
        for event in self.events():
            total = event.presses() + (0 if event.name == "snapshot" else total)
        return total

    def close(self):
        with suppress(OSError):
            self._socket.shutdown(2)
        self._connection.close()
