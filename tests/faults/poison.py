"""Records made to hurt: each must come out once, as an output or a dead letter, and memory must stay bounded."""

import json

from confluent_kafka import Producer

from tests.harness.waiting import PATIENCE, await_that
from tests.harness.world import PARTITIONS, press

SETTINGS = {"source.max_record_bytes": 1_000_000, "dead_letter.max_dead_share": 1.0}
# Of the whole process: 48 MB of prefetched records, one batch of the producer, one answer to a fetch, unpacked.
MOST_KB = 400_000
_BROKERS_LIMIT = 1_048_588


def poison(world, times, random):
    """A share of each kind among sound records, with two live instances."""
    pair = world.start_pair()
    world.load.end()
    for _ in range(times):
        for partition in range(PARTITIONS):
            for codec, send in (
                ("gzip", _unpacking),
                ("zstd", _unpacking),
                ("none", _large),
                ("gzip", _deep),
                ("zstd", _wide),
            ):
                producer = _producer(world, codec)
                send(world, producer, partition)
                producer.flush(60)
        await_that(
            "all to be relayed", lambda: (world.check_running(), world.committed() == world.load.sent)[1], PATIENCE, 0.3
        )
    peaks = [instance.memory_kb("VmHWM") for instance in pair.values()]
    world.notes.append(f"peak memory {max(peaks) // 1000} MB")
    if max(peaks) > MOST_KB:
        world.fail(f"peak memory is {max(peaks)} kB, more than {MOST_KB}")


def _producer(world, codec):
    limits = {"message.max.bytes": 100_000_000, "batch.size": 40_000_000, "linger.ms": 200}
    return Producer(
        {"bootstrap.servers": world.bootstrap, "compression.type": codec, "enable.idempotence": True, **limits}
    )


def _send(world, producer, partition, value, dead=False, key=None, headers=None):
    sequence = world.load.sent[partition]
    if callable(value):
        value = value(press(world.run, partition, sequence))
    if dead:
        world.poisoned.add((partition, sequence))
    world.load.sent[partition] = sequence + 1

    def delivered(error, message):
        if error is not None or message.offset() != sequence:
            world.fail(f"the harness could not send poison: {error}")

    producer.produce(world.raw, value, key, partition, delivered, headers=headers or [])
    producer.poll(0)


def _unpacking(world, producer, partition):
    """A few kilobytes of batch that are twenty megabytes of sound JSON, or of nothing."""
    for count in range(40):
        _send(world, producer, partition, lambda sound: sound[:-1] + b" " * 500_000 + b"}")
        if count % 10 == 0:
            _send(world, producer, partition, bytes(500_000), dead=True)


def _large(world, producer, partition):
    """As large as the broker takes; keys and headers of nearly a megabyte."""
    _send(world, producer, partition, b"x" * (_BROKERS_LIMIT - 100), dead=True)
    producer.flush(60)
    _send(world, producer, partition, lambda sound: sound, key=b"k" * 900_000)
    producer.flush(60)
    _send(world, producer, partition, lambda sound: sound, headers=[("h" * 400_000, b"v" * 400_000)])
    producer.flush(60)
    _send(world, producer, partition, b"not json", dead=True, key=b"k" * 400_000, headers=[("h", b"v" * 400_000)] * 1)


def _deep(world, producer, partition):
    """JSON of 10,000 levels, closed and not, alone and as an unknown field."""
    for value in (b"[" * 10_000 + b"]" * 10_000, b'{"a":' * 10_000, b"[" * 900_000):
        _send(world, producer, partition, value, dead=True)
    _send(
        world,
        producer,
        partition,
        lambda sound: sound[:-1] + b',"x":' + b"[" * 10_000 + b"]" * 10_000 + b"}",
        dead=True,
    )


def _wide(world, producer, partition):
    """A hundred thousand unknown fields, all different."""
    fields = json.dumps({format(n, "x"): 0 for n in range(100_000)}, separators=(",", ":")).encode()
    _send(world, producer, partition, lambda sound: sound[:-1] + b"," + fields[1:])
