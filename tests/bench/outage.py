"""One database after the other is away for ten minutes while 20,000 events a second go through relay and both sinks in one
process, on real services: whether its memory stays flat, whether relay and other sink go on, how long the sink takes to
catch up, and whether every event is in both tables in the end. Prints figures; exits with 1 if one is not as promised.

Run it through `make bench-outage`, which starts the services. OUTAGE="--seconds 60" for a short one.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import bench
from tests.bench.sinks import ClickHouse, Postgres
from tests.harness.link import Link

# The process fills its queues first; after this share of the time nothing may grow by more than that.
FILLED, MOST_GROWTH_MB = 1 / 3, 16
# Of the rate, what relay and other sink must keep up with in every window of ten seconds.
LEAST_SHARE = 0.8
WINDOW = 10


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--rate", type=int, default=20_000, help="events per second")
    arguments.add_argument("--seconds", type=int, default=600, help="how long each database is away")
    options = arguments.parse_args()
    if not bench.BOOTSTRAP or not os.environ.get("PRESSLINE_TEST_POSTGRES"):
        print("PRESSLINE_TEST_BOOTSTRAP and PRESSLINE_TEST_POSTGRES are not set: run `make bench-outage`", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as folder:
        failures = measure(options, [Postgres(folder), ClickHouse(folder)])
    print("\n".join(failures) or "as promised")
    return 1 if failures else 0


def measure(options: argparse.Namespace, databases: list) -> list[str]:
    raw, output, mmdb = f"outage_raw_{os.getpid()}", f"outage_out_{os.getpid()}", [str(bench.ROOT / "data/demo.mmdb")]
    bench.create(raw)
    links, tables = {}, ""
    for database in databases:
        database.make()
        link = links[database.name] = Link(database.address)
        tables += database.settings(f"127.0.0.1:{link.port}")
    daemon = bench.relaying(raw, output, mmdb, tables)
    daemon.wait(lambda: daemon.metric("pressline_assigned_partitions") == 3, "assignment")
    generator = subprocess.Popen(
        [bench.PRESSLINE, "generate", "--topic", raw, "--rate", str(options.rate), "--malformed", "0", "--bootstrap-servers",
         bench.BOOTSTRAP, "--mmdb", *mmdb], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    names = [database.name for database in databases]
    daemon.wait(lambda: min(rows(daemon, name) for name in names) > 5 * options.rate, "first rows")
    failures = []
    for database in databases:
        failures += outage(options, daemon, links, database, next(name for name in names if name != database.name))
    generator.terminate()
    generator.wait(60)
    settled = lambda: daemon.metric("pressline_lag_records") == 0 and daemon.metric("pressline_sink_lag_records") == 0
    daemon.wait(settled, "end", pause=1)
    time.sleep(6)  # the gauges are librdkafka's, every 5 s
    daemon.wait(settled, "end", pause=1)
    events = int(daemon.metric("pressline_records_written_total"))
    daemon.stop()
    for database in databases:
        database.must_hold(events)
    doubled = int(databases[1].ask("SELECT count() - uniqExact(_partition, _offset) FROM bench_presses"))
    if doubled:
        failures.append(f"{doubled} rows came twice to ClickHouse")
    print(f"{events:,} events at {options.rate:,}/s, each in both tables; machine: {bench.machine()}; {time.strftime('%Y-%m-%d')}")
    return failures


def outage(options: argparse.Namespace, daemon, links: dict, database, other: str) -> list[str]:
    """Cuts one database off, and restores it; what was not as promised."""
    links[database.name].cut()
    began, failures = time.monotonic(), []
    memory, counts = [], []
    while (elapsed := time.monotonic() - began) < options.seconds:
        memory.append((elapsed, resident_mb(daemon.process.pid)))
        if not counts or elapsed - counts[-1][0] >= WINDOW:
            counts.append((elapsed, daemon.metric("pressline_records_written_total"), rows(daemon, other)))
        time.sleep(0.5)
    links[database.name].restore()
    restored, missed = time.monotonic(), options.rate * options.seconds
    level = rows(daemon, other)
    daemon.wait(lambda: rows(daemon, database.name) >= level, f"end of what {database.title} missed", 3600, 0.5)
    caught_up = time.monotonic() - restored
    early = max(mb for at, mb in memory if at < options.seconds * FILLED)
    late = max(mb for at, mb in memory if at >= options.seconds * FILLED)
    after = resident_mb(daemon.process.pid)
    pairs = list(zip(counts, counts[1:]))
    slowest = [min((b[of] - a[of]) / (b[0] - a[0]) for a, b in pairs) for of in (1, 2)]
    print(f"""without {database.title} for {options.seconds} s: resident memory at most {early:.0f} MB in the first third, {late:.0f} MB \
after it, {after:.0f} MB when it had caught up; slowest {WINDOW} s of the relay {slowest[0]:,.0f}/s, of the other sink \
{slowest[1]:,.0f}/s; some {missed:,} rows caught up in {caught_up:.0f} s, beside those that went on coming""", flush=True)
    if late > early + MOST_GROWTH_MB:
        failures.append(f"memory grew while {database.title} was away")
    if min(slowest) < options.rate * LEAST_SHARE:
        failures.append(f"relay or {other} slowed down while {database.title} was away")
    return failures


def rows(daemon, sink: str) -> float:
    """Rows that a sink has loaded."""
    found = re.findall(rf'^pressline_sink_rows_total{{[^}}]*sink="{sink}"[^}}]*}} (\S+)$', daemon.get("/metrics"), re.M)
    return sum(map(float, found))


def resident_mb(pid: int) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1]) / 1024


if __name__ == "__main__":
    sys.exit(main())
