"""How fast the relay is when every address is new: each press comes from another IPv4 network of /24, in no order, so that every lookup
searches another part of the tables, and every place is made ready for the first time. Prints events per second and CPU
seconds per million, from the first batch on.

Run it through `make bench-cold`, which starts the services. GeoIP databases: PRESSLINE_BENCH_MMDB (files separated by colons).
"""

import argparse
import json
import os
import random
import sys
import time
import uuid
from pathlib import Path

from tests.bench.bench import BOOTSTRAP, ROOT, cpu_so_far, create, machine, relaying


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=1_000_000)
    options = arguments.parse_args()
    if not BOOTSTRAP:
        print("PRESSLINE_TEST_BOOTSTRAP is not set: run `make bench-cold`", file=sys.stderr)
        return 2
    mmdb = [f for f in os.environ.get("PRESSLINE_BENCH_MMDB", "").split(":") if f] or [str(ROOT / "data/demo.mmdb")]
    raw = f"bench_cold_{os.getpid()}"
    create(raw)
    send(raw, networks(options.events))
    daemon = relaying(raw, f"{raw}_out", mmdb)
    seconds, cpu = flow(daemon, options.events)
    # The cache's gauge is set when librdkafka gives its statistics.
    places = daemon.wait(lambda: daemon.metric("pressline_place_cache_entries"), "statistics")
    peak = daemon.stop()["rss_mb"]
    print(f"{options.events:,} presses, each from another /24; GeoIP files {', '.join(Path(f).name for f in mmdb)}; {places:,.0f} places "
          f"in the cache; peak RSS {peak:.0f} MB; machine: {machine()}; {time.strftime('%Y-%m-%d')}")
    print(f"{options.events / seconds:,.0f} events/s, {cpu * 1e6 / options.events:.2f} CPU s per million events")
    return 0


def networks(count: int) -> list[str]:
    """An address in each of so many networks of /24, in no order; the same ones every time. Left out are the first octets under
    which some are private or reserved."""
    octets = [n for n in range(1, 224) if n not in (10, 100, 127, 169, 172, 192, 198, 203)]
    chosen = random.Random(7).sample(range(len(octets) << 16), count)
    return [f"{octets[n >> 16]}.{n >> 8 & 255}.{n & 255}.{1 + n % 254}" for n in chosen]


def send(topic: str, addresses: list[str]) -> None:
    from confluent_kafka import Producer
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "linger.ms": 20, "compression.type": "lz4"})
    now = int(time.time() * 1e6)
    for number, address in enumerate(addresses):
        session = str(uuid.UUID(int=number))
        press = {"session_id": session, "timestamp": now, "cohort": 1, "action": "PressButton", "ip": address}
        while True:
            try:
                producer.produce(topic, json.dumps(press).encode(), session)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()


def flow(daemon, events: int) -> tuple[float, float]:
    """Seconds and CPU seconds from the first batch until so many events are relayed."""
    relayed = lambda: daemon.metric("pressline_records_in_total")
    first = daemon.wait(lambda: relayed() and time.monotonic(), "first batch")
    cpu = cpu_so_far(daemon.process.pid)
    daemon.wait(lambda: relayed() >= events, "end", pause=0.05)
    return time.monotonic() - first, cpu_so_far(daemon.process.pid) - cpu


if __name__ == "__main__":
    sys.exit(main())
