"""What a consumer group has committed, asked of the broker itself, which must be the only one.

No client serves here. librdkafka's admin ends the process where the coordinator has moved, as it does whenever Kafka restarts
(https://github.com/confluentinc/librdkafka/issues/5040), and what its Python binding makes of the text noted with an offset
runs past the text's end, which is an error as often as not."""

import socket
import struct
import threading

from confluent_kafka import Consumer, TopicPartition

# OffsetFetch as of KIP-320; from version 7 on it may wait for open transactions.
_OFFSET_FETCH, _VERSION = 9, 5


class Unanswered(Exception):
    """The broker is away, or does not know the offsets now."""


class Group:
    """A group's offsets in one topic; it joins nothing. May be asked by several threads."""

    def __init__(self, bootstrap, name, topic, partitions):
        self.name, self.topic, self.partitions = name, topic, range(partitions)
        self._bootstrap, self._lock = bootstrap, threading.Lock()
        self._socket, self._asked = None, 0

    def offsets(self, timeout=5):
        """Partition → the committed offset, 0 where there is none, and what was noted with it. Raises `Unanswered`."""
        with self._lock:
            try:
                return self._offsets(timeout)
            except (OSError, Unanswered) as error:
                self._disconnect()
                raise Unanswered(f"offsets of group {self.name}: {error}") from None

    def reached(self):
        """Sum of the offsets."""
        return sum(offset for offset, _ in self.offsets().values())

    def end(self):
        """Sum of the partitions' ends, behind the markers of ended transactions."""
        consumer = Consumer({"bootstrap.servers": self._bootstrap, "group.id": "looks-on", "log_level": 0})
        ends = [consumer.get_watermark_offsets(TopicPartition(self.topic, p), 10)[1] for p in self.partitions]
        consumer.close()
        return sum(ends)

    def close(self):
        """Ends the connection; a later question makes another."""
        with self._lock:
            self._disconnect()

    def _disconnect(self):
        if self._socket:
            self._socket.close()
        self._socket = None

    def _offsets(self, timeout):
        partitions = struct.pack(f">i{len(self.partitions)}i", len(self.partitions), *self.partitions)
        answer = _Answer(self._ask(_text(self.name) + struct.pack(">i", 1) + _text(self.topic) + partitions, timeout))
        answer.take(">i")  # throttled for
        found = {}
        for _ in range(answer.take(">i")):
            answer.text()
            for _ in range(answer.take(">i")):
                partition, offset, _ = answer.take(">iqi")
                note = answer.text()
                answer.must_be_none(f"partition {partition}")
                found[partition] = (max(offset, 0), note)
        answer.must_be_none("the group")
        return found

    def _ask(self, body, timeout):
        if not self._socket:
            host, port = self._bootstrap.split(",")[0].rsplit(":", 1)
            self._socket = socket.create_connection((host, int(port)), timeout)
        self._socket.settimeout(timeout)
        self._asked += 1
        request = struct.pack(">hhi", _OFFSET_FETCH, _VERSION, self._asked) + _text("tests") + body
        self._socket.sendall(struct.pack(">i", len(request)) + request)
        (length,) = struct.unpack(">i", self._read(4))
        answer = self._read(length)
        if struct.unpack_from(">i", answer) != (self._asked,):
            raise Unanswered("the answer is to another question")
        return answer[4:]

    def _read(self, count):
        found = b""
        while len(found) < count:
            more = self._socket.recv(count - len(found))
            if not more:
                raise Unanswered("the broker closed the connection")
            found += more
        return found


class _Answer:
    def __init__(self, data):
        self._data, self._at = data, 0

    def take(self, layout):
        """The next numbers; one alone is itself."""
        found = struct.unpack_from(layout, self._data, self._at)
        self._at += struct.calcsize(layout)
        return found if len(found) > 1 else found[0]

    def text(self):
        length = max(self.take(">h"), 0)
        self._at += length
        return self._data[self._at - length : self._at].decode()

    def must_be_none(self, whose):
        """The error code that is next."""
        if code := self.take(">h"):
            raise Unanswered(f"error {code} of {whose}")


def _text(text):
    return struct.pack(">h", len(text.encode())) + text.encode()
