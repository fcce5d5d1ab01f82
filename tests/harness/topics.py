"""Reads a topic from beginning to end, and decodes Avro by the registry."""

import io
import json
import time
import urllib.request

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition


def partitions(bootstrap, topic):
    """How many partitions a topic has; 0 when there is no such topic."""
    consumer = _consumer(bootstrap)
    try:
        return len(consumer.list_topics(topic, timeout=20).topics[topic].partitions)
    finally:
        consumer.close()


def read_all(bootstrap, topic):
    """Yields every committed message, in the order of each partition."""
    consumer = _consumer(bootstrap)
    open_partitions = set(range(partitions(bootstrap, topic)))
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in open_partitions])
    try:
        heard = time.monotonic()
        while open_partitions:
            # It waits out its time unless the whole batch is there, so the time is short.
            batch = consumer.consume(10_000, timeout=0.2)
            if batch:
                heard = time.monotonic()
            elif time.monotonic() - heard > 20:
                raise SystemExit(
                    f"{topic}: nothing for 20 s, the end of partitions {sorted(open_partitions)} not reached"
                )
            for message in batch:
                if message.error() is None:
                    yield message
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    open_partitions.discard(message.partition())
                else:
                    raise SystemExit(f"{topic}: {message.error()}")
    finally:
        consumer.close()


def _consumer(bootstrap):
    return Consumer(
        {
            "bootstrap.servers": bootstrap,
            "group.id": "verify_relay",  # required, never committed to
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "error",
        }
    )


class Registry:
    """Schemas by number, from a registry with the Confluent API."""

    def __init__(self, address):
        self._address = address.rstrip("/")
        self._schemas = {}

    def decode(self, value):
        """The fields of a value in the Confluent wire format; raises ValueError when it is not in it."""
        if value is None or len(value) < 5 or value[0] != 0:
            raise ValueError("not the Confluent wire format")
        datum = io.BytesIO(value[5:])
        try:
            fields = fastavro.schemaless_reader(datum, self._schema(int.from_bytes(value[1:5], "big")))
        except (EOFError, IndexError, UnicodeDecodeError) as error:
            raise ValueError(f"not Avro of that schema: {error}") from None
        if datum.read(1):
            raise ValueError("bytes after the end of the datum")
        return fields

    def logical_types(self):
        """Field name → logical type, of every schema seen."""
        return [
            {
                field["name"]: field["type"].get("logicalType")
                for field in schema["fields"]
                if isinstance(field["type"], dict)
            }
            for schema, _ in self._schemas.values()
        ]

    def field_names(self):
        """Names of the fields in order, of every schema seen."""
        return [[field["name"] for field in schema["fields"]] for schema, _ in self._schemas.values()]

    def _schema(self, number):
        if number not in self._schemas:
            with urllib.request.urlopen(f"{self._address}/schemas/ids/{number}", timeout=20) as answer:
                schema = json.loads(json.load(answer)["schema"])
            # Decoded as on the wire: a UUID object would hide the case of its letters, a datetime its microseconds.
            self._schemas[number] = schema, fastavro.parse_schema(_without_logical_types(schema))
        return self._schemas[number][1]


def _without_logical_types(schema):
    if isinstance(schema, list):
        return [_without_logical_types(part) for part in schema]
    if isinstance(schema, dict):
        return {key: _without_logical_types(value) for key, value in schema.items() if key != "logicalType"}
    return schema


def murmur2_partition(key, count):
    """The partition that Java clients give a key."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    h = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for start in range(0, whole, 4):
        k = int.from_bytes(key[start : start + 4], "little") * m & mask
        k = (k ^ k >> 24) * m & mask
        h = (h * m & mask) ^ k
    if len(key) > whole:
        h = (h ^ int.from_bytes(key[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    h ^= h >> 15
    return (h & 0x7FFFFFFF) % count
