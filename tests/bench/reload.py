"""GeoIP databases replaced again and again during a stream of events, on a real Kafka: whether an event is lost, how long the
outputs pause, what happens to memory. Prints figures; exits with 1 if one is not as promised.

Run it through `make bench-reload`, which starts the services. GeoIP databases: PRESSLINE_BENCH_MMDB (files separated by
colons), else those of the cache folder (DB-IP City Lite, 134 MB), else the bundled one. A pause is the time between two
moments at which a read_committed consumer of the output got records, while the stream runs; so it also holds whatever else
the machine, the broker and the generator do. That is why others stand beside it: the longest one without a reload, that
of a consumer of the input, whose pauses are none of pressline's, and how long the worker itself was busy with one batch,
the broker not waited for (pressline_work_seconds): the part of a pause that a reload can make.
"""

import argparse
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer

from tests.bench import bench

LONGEST_PAUSE = 0.2
# Above the level before the reloads: what the allocator keeps of the counting, about 20 MB. Databases kept would be 134 MB each.
MOST_GROWTH = 0.15


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=5_000_000)
    arguments.add_argument("--rate", type=int, default=20_000, help="events per second")
    arguments.add_argument("--reloads", type=int, default=10)
    arguments.add_argument("--min-addresses", type=int, default=1024, help="small places are counted at each reload; 0: not")
    options = arguments.parse_args()
    if not bench.BOOTSTRAP or not bench.REGISTRY:
        print("PRESSLINE_TEST_BOOTSTRAP and PRESSLINE_TEST_REGISTRY are not set: run `make bench-reload`", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        return measure(options, Databases(databases(), Path(folder)))


def databases() -> list[Path]:
    named = [Path(f) for f in os.environ.get("PRESSLINE_BENCH_MMDB", "").split(":") if f]
    cache = Path(os.environ.get("PRESSLINE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "pressline")
    cached = sorted((cache.expanduser() / "geo").glob("*.mmdb"))
    return named or cached or [bench.ROOT / "data/demo.mmdb"]


class Databases:
    """Copies that the daemon reads, and editions that take their place."""

    def __init__(self, sources: list[Path], folder: Path):
        self.sources = sources
        self.files = [folder / source.name for source in sources]
        self.replace()
        self.megabytes = sum(f.stat().st_size for f in self.files) / 1e6

    def replace(self) -> None:
        for source, file in zip(self.sources, self.files):
            new = file.with_suffix(".new")
            shutil.copyfile(source, new)
            new.replace(file)


class Reader(multiprocessing.Process):
    """Counts a topic's committed records and notes when they came; a process, so that it waits for no other's Python."""

    def __init__(self, topic: str):
        super().__init__(daemon=True)
        self.topic = topic
        self.count, self.stop, self.noted = multiprocessing.Value("q"), multiprocessing.Event(), multiprocessing.Queue()
        self.arrivals: list[float] = []

    @property
    def records(self) -> int:
        return self.count.value

    def run(self) -> None:
        consumer = Consumer({"bootstrap.servers": bench.BOOTSTRAP, "group.id": f"{self.topic}_reader",
                             "auto.offset.reset": "earliest", "isolation.level": "read_committed",
                             "fetch.wait.max.ms": 10, "enable.auto.commit": False})
        consumer.subscribe([self.topic])
        arrivals = []
        while not self.stop.is_set():
            messages = [m for m in consumer.consume(5_000, timeout=0.01) if not m.error()]
            if messages:
                self.count.value += len(messages)
                arrivals.append(time.monotonic())
        consumer.close()
        self.noted.put(arrivals)

    def end(self) -> None:
        self.stop.set()
        self.arrivals = self.noted.get()
        self.join()

    def pauses(self, since: float, until: float) -> list[float]:
        arrivals = [t for t in self.arrivals if since <= t <= until]
        return [b - a for a, b in zip(arrivals, arrivals[1:])] or [0.0]


class Memory(threading.Thread):
    """Resident memory of a process, in MB, over time."""

    def __init__(self, pid: int):
        super().__init__(daemon=True)
        self.pid, self.samples = pid, []

    def run(self) -> None:
        while True:
            try:
                status = Path(f"/proc/{self.pid}/status").read_text()
            except OSError:
                return
            if found := re.search(r"VmRSS:\s+(\d+)", status):
                self.samples.append((time.monotonic(), int(found[1]) / 1024))
            time.sleep(0.1)

    def between(self, since: float, until: float) -> list[float]:
        return [mb for at, mb in self.samples if since <= at <= until]


class Work:
    """How long the worker was busy with a batch, from the buckets of the histogram; `metrics` later than `before`."""

    def __init__(self, before: str, metrics: str):
        old, new = self._buckets(before), self._buckets(metrics)
        buckets = {bound: count - old[bound] for bound, count in new.items()}
        self.batches = max(buckets.values())
        self.over = self.batches - buckets[LONGEST_PAUSE]
        self.longest = f"{min(b for b, count in buckets.items() if count == self.batches) * 1000:.0f} ms"

    @staticmethod
    def _buckets(metrics: str) -> dict[float, int]:
        found = re.findall(r'^pressline_work_seconds_bucket\{.*le="([^"]+)"\} (\d+)', metrics, re.MULTILINE)
        return {float(bound): int(count) for bound, count in found}


def measure(options: argparse.Namespace, databases: Databases) -> int:
    raw, output = f"reload_raw_{os.getpid()}", f"reload_out_{os.getpid()}"
    bench.create(raw)
    daemon = bench.relaying(raw, output, [str(f) for f in databases.files], f"min_addresses = {options.min_addresses}\n")
    daemon.wait(lambda: daemon.metric("pressline_assigned_partitions") == 3, "assignment")
    reader, control, memory = Reader(output), Reader(raw), Memory(daemon.process.pid)
    for thread in (reader, control, memory):
        thread.start()
    generator = subprocess.Popen(
        [bench.PRESSLINE, "generate", "--topic", raw, "--count", str(options.events), "--rate", str(options.rate),
         "--malformed", "0", "--bootstrap-servers", bench.BOOTSTRAP, "--mmdb", *databases.files], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL)
    daemon.wait(lambda: reader.records > options.rate, "first records")
    # A quarter of the stream goes without reloads, for comparison; the rest has them evenly.
    length = options.events / options.rate
    began, at_start = time.monotonic(), daemon.get("/metrics")
    time.sleep(length / 4)
    first, before_first = time.monotonic(), daemon.get("/metrics")
    windows = []
    for number in range(options.reloads):
        due = first + number * length * 0.65 / options.reloads
        time.sleep(max(0.0, due - time.monotonic()))
        since = time.monotonic()
        databases.replace()
        wanted = (number + 1) * len(databases.files)
        daemon.wait(lambda: daemon.log.read_text().count("GeoIP database replaced") >= wanted, "reload")
        windows.append((since, time.monotonic() + 1))
    during_stream = generator.poll() is None
    last = time.monotonic()
    generator.wait(600)
    daemon.wait(lambda: reader.records >= options.events, "end")
    time.sleep(8)
    calm, busy = memory.between(first - length / 8, first), memory.between(first, last)
    after = memory.between(time.monotonic() - 3, time.monotonic())
    counted = {name: daemon.metric(f"pressline_records_{name}_total") for name in ("in", "written", "dead")}
    reloads = daemon.metric("pressline_mmdb_reloads_total")
    calm_work, work = Work(at_start, before_first), Work(before_first, daemon.get("/metrics"))
    reader.end()
    control.end()
    daemon.stop()
    before, level = statistics.median(calm), statistics.median(after)
    without = max(reader.pauses(began, first))
    pauses = [max(reader.pauses(*window)) for window in windows]
    input_without = max(control.pauses(began, first))
    inputs = [max(control.pauses(*window)) for window in windows]
    took = [until - since - 1 for since, until in windows]
    print(f"""{options.events:,} events at {options.rate:,}/s, {options.reloads} reloads of {databases.megabytes:.0f} MB \
({', '.join(f.name for f in databases.files)}), min_addresses = {options.min_addresses}; machine: {bench.machine()}; \
{time.strftime('%Y-%m-%d')}
records: {counted['in']:,.0f} in, {counted['written']:,.0f} written, {counted['dead']:,.0f} dead; {reader.records:,} read by a \
read_committed consumer
longest pause of the output: {without * 1000:.0f} ms without a reload, {max(pauses) * 1000:.0f} ms with one \
(median of the {options.reloads}: {statistics.median(pauses) * 1000:.0f} ms); of the input, which pressline has no part in: \
{input_without * 1000:.0f} ms, {max(inputs) * 1000:.0f} ms (median {statistics.median(inputs) * 1000:.0f} ms)
the worker itself was busy with a batch for at most {calm_work.longest} ({calm_work.batches:,} batches, without a reload), \
{work.longest} ({work.batches:,} batches, with them)
from the rename of the files to the last one in use: {statistics.median(took):.1f} s, at most {max(took):.1f} s
resident memory: {before:.0f} MB before, at most {max(busy):.0f} MB, {level:.0f} MB after; load of the machine: \
{os.getloadavg()[1]:.1f}""")
    failures = []
    if not counted["in"] == counted["written"] == reader.records == options.events:
        failures.append("events were lost or doubled")
    if work.over:
        failures.append(f"the worker was busy with a batch for more than {LONGEST_PAUSE * 1000:.0f} ms")
    if max(pauses) > max(LONGEST_PAUSE, without):
        failures.append(f"a pause of more than {LONGEST_PAUSE * 1000:.0f} ms, and longer than without reloads")
    if level > before * (1 + MOST_GROWTH):
        failures.append("memory did not return to its level")
    if reloads != options.reloads * len(databases.files):
        failures.append(f"{reloads:.0f} files were read again")
    if not during_stream:
        failures.append("the stream ended before the last reload: give it more --events, or a lower --rate")
    print("\n".join(failures) or "as promised")
    return 1 if failures else 0


if __name__ == "__main__":
    # A fork would take librdkafka's locks along without its threads.
    multiprocessing.set_start_method("spawn")
    sys.exit(main())
