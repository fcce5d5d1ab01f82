"""Failures that tests order from the ClickHouse front, and its record of the INSERTs it saw."""

import threading
from collections import deque

KINDS = {
    "lose_request": "drop the connection instead of running the INSERT",
    "lose_response": "run the INSERT, then drop the connection without an answer",
    "too_many_parts": "answer the INSERT with code 252",
    "read_only_disk": "answer the INSERT with code 164",
    "error": "answer the INSERT with the code= and text= that came with the order",
    "slow": "wait ms= milliseconds before the INSERT",
    "slow_answer": "wait ms= milliseconds between the INSERT and its answer",
    "down": "answer everything with 503",
}


class Faults:
    """What is to go wrong; safe to use from several threads."""

    def __init__(self):
        self._lock = threading.Lock()
        self._orders = {}

    def order(self, kind, options):
        """Adds a fault: for the next `count` INSERTs, or for all until `clear` where no count is given."""
        with self._lock:
            if kind == "clear":
                self._orders.clear()
            else:
                self._orders[kind] = {**options, "left": int(options.get("count") or 1 << 62)}

    def take(self, kind):
        """The options of an ordered fault, one of whose turns is used up; None when there is none."""
        with self._lock:
            order = self._orders.get(kind)
            if order is None:
                return None
            order["left"] -= 1
            if order["left"] == 0:
                del self._orders[kind]
            return order

    def refusal(self):
        """The error text to answer an INSERT with; None to run it."""
        if self.take("too_many_parts"):
            return (
                "Code: 252. DB::Exception: Too many parts (3001 with average size of 1.00 KiB) in table 'pressline.t'. "
                "Merges are processing significantly slower than inserts. (TOO_MANY_PARTS)"
            )
        if self.take("read_only_disk"):
            return "Code: 164. DB::Exception: Disk `default` is in read-only mode. (READONLY)"
        order = self.take("error")
        return order and f"Code: {order['code']}. DB::Exception: {order['text']}"


class Record:
    """The last INSERTs: statement, settings, size and outcome."""

    def __init__(self):
        self._lock = threading.Lock()
        self._entries = deque(maxlen=10_000)

    def add(self, entry):
        """Adds an INSERT that ended."""
        with self._lock:
            self._entries.append(entry)

    def entries(self):
        """All, oldest first."""
        with self._lock:
            return list(self._entries)

    def clear(self):
        """Forgets all."""
        with self._lock:
            self._entries.clear()
