"""Where `pressline run` spends its time: a flame graph (SVG) and the share of each stage, of a relay or, with `--sink`, a sink at
work.

Run it through `make profile`, which starts the services. Needs `perf` (Debian: linux-perf); installs inferno, which draws
the graph, into the cache. Samples the clock, since virtual machines often have no counters of the processor.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from tests.harness import interpreter

interpreter.require_packages()

from tests.bench import bench  # noqa: E402

FOLDER = bench.ROOT / "target/profile"
CACHE = Path(os.environ.get("PRESSLINE_CACHE") or Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")) / "pressline")
TOOLS = CACHE.expanduser() / "cargo-tools"
# Samples a second; no round number, so that they do not keep step with timers.
FREQUENCY = 1999
# A sample belongs to the first stage that any of its frames (the outermost is the thread) matches.
STAGES = [
    ("kernel: sending and receiving", r"_(sendmsg|recvmsg|sendto|recvfrom)$|^sock_(send|recv)msg|tcp_(send|recv)msg"),
    ("kernel: polls, wake-ups, page faults and the rest", r"^(entry_SYSCALL|do_syscall|asm_|ret_from_fork|el0t?_)"),
    ("decode", r"^<?pressline::(pipeline::press::(decode|event)|avro::timestamp)\b"),
    ("lookup of the place", r"^<?pressline::(pipeline::press::enrich|place)\b"),
    ("encode", r"^<?pressline::pipeline::press::encode\b"),
    ("rows to the database's format", r"^<?pressline::(avro|sink::postgres::(encode|convert|plan|numeric|copy)|sink::clickhouse::(block|plan))\b"),
    ("lz4 of ClickHouse's blocks", r"lz4_flex"),
    ("gathering a batch", r"^<?pressline::sink::batch\b"),
    ("librdkafka: lz4, unpacking", r"LZ4F?_decompress|lz4_decompress"),
    ("librdkafka: lz4, packing", r"LZ4F?_compress|lz4_compress"),
    ("librdkafka: checksums", r"crc32c"),
    ("librdkafka: reading fetched batches", r"rd_kafka_msgset_(reader|parse)|rd_kafka_handle_Fetch"),
    ("librdkafka: handing records to the worker", r"BaseConsumer.*poll|rd_kafka_consumer_poll|rd_kafka_consume"),
    ("librdkafka: freeing records read", r"drop_in_place<rdkafka::message::BorrowedMessage|rd_kafka_message_destroy"),
    ("librdkafka: taking records to write", r"^rd_kafka_producev?a?$|rd_kafka_msg_new|pressline::kafka::producer::.*send$"),
    ("librdkafka: delivery reports", r"rd_kafka_dr_|rd_kafka_handle_Produce|msgbatch_handle_Produce|pressline::kafka::producer"),
    ("librdkafka: writing batches", r"rd_kafka_msgset_(writer|create)|rd_kafka_toppar_producer_serve|ProduceRequest"),
    ("librdkafka: everything else", r"^rdk:|rd_kafka_"),
    ("pressline: metrics", r"^<?pressline::metrics\b"),
    # What is left of the threads that also send to databases.
    ("HTTP pages, asked for by this measurement", r"^pressline-http"),
    ("pressline: the loop", r"^pressline-"),
]
_STAGES = [(name, re.compile(pattern)) for name, pattern in STAGES]


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--events", type=int, default=2_000_000)
    arguments.add_argument("--sink", choices=["postgres", "clickhouse"], help="of the sink, instead of the relay")
    options = arguments.parse_args()
    if not bench.BOOTSTRAP or not bench.REGISTRY:
        print("PRESSLINE_TEST_BOOTSTRAP and PRESSLINE_TEST_REGISTRY are not set: run `make profile`", file=sys.stderr)
        return 2
    if not shutil.which("perf"):
        print("perf is missing: install it (Debian: linux-perf; Ubuntu: linux-tools-generic)", file=sys.stderr)
        return 1
    FOLDER.mkdir(parents=True, exist_ok=True)
    folded = fold(sample_sink(options.sink, options.events) if options.sink else sample(options.events))
    draw(folded, f"pressline run, {options.events:,} presses{f' into {options.sink}' if options.sink else ''}")
    print(table(folded, options.events))
    return 0


def sample(events: int) -> Path:
    """Samples a relay at work; the file of perf."""
    mmdb = [f for f in os.environ.get("PRESSLINE_BENCH_MMDB", "").split(":") if f] or [str(bench.ROOT / "data/demo.mmdb")]
    raw = f"profile_raw_{os.getpid()}"
    bench.generate(raw, events, mmdb)
    daemon = bench.relaying(raw, f"profile_out_{os.getpid()}", mmdb)
    return _until(daemon, "pressline_records_in_total", events)


def sample_sink(name: str, events: int) -> Path:
    """Samples a sink, and it alone, at work; the file of perf."""
    from tests.bench import sinks  # needs the databases' clients

    topic = sinks.presses(events)
    with tempfile.TemporaryDirectory() as folder:
        database = (sinks.Postgres if name == "postgres" else sinks.ClickHouse)(folder)
        database.make()
        daemon = bench.Daemon(f"{topic}_{name}", f'[sink]\ntopic = "{topic}"\n{database.settings()}')
        data = _until(daemon, "pressline_sink_rows_total", events)
        database.must_hold(events)
    return data


def _until(daemon: bench.Daemon, metric: str, events: int) -> Path:
    """Samples from the first of these records to the last."""
    # Once records come: a thread that is made while perf lists those that there are would be left out.
    daemon.wait(lambda: daemon.metric(metric), "first records")
    data = FOLDER / "perf.data"
    # By DWARF, since neither Rust's nor C's optimised code keeps frame pointers.
    perf = subprocess.Popen(
        ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(FREQUENCY), "--call-graph", "dwarf,8192", "-m", "1024",
         "-p", str(daemon.process.pid), "-o", str(data)])
    daemon.wait(lambda: daemon.metric(metric) >= events, "end", pause=0.5)
    daemon.stop()
    perf.wait(60)
    return data


def fold(data: Path) -> dict[str, int]:
    """Nanoseconds by stack: `thread;outermost;...;innermost` → how long it was seen."""
    # Looking up inlined frames takes hours with perf's addr2line.
    script = subprocess.Popen(["perf", "script", "--no-inline", "-i", str(data)], stdout=subprocess.PIPE)
    out = subprocess.run([tool("inferno-collapse-perf")], stdin=script.stdout, stdout=subprocess.PIPE, check=True)
    lines = (line.rsplit(" ", 1) for line in out.stdout.decode().splitlines())
    return {stack: int(nanoseconds) for stack, nanoseconds in lines}


def draw(folded: dict[str, int], title: str) -> None:
    """The flame graph."""
    text = "".join(f"{stack} {nanoseconds}\n" for stack, nanoseconds in folded.items())
    (FOLDER / "folded.txt").write_text(text)
    with open(FOLDER / "flamegraph.svg", "wb") as svg:
        subprocess.run([tool("inferno-flamegraph"), "--title", title, "--countname", "ns"], input=text.encode(), stdout=svg, check=True)


def tool(name: str) -> str:
    """Path of one of inferno's programs."""
    found = shutil.which(name, path=f"{TOOLS}/bin:{os.environ['PATH']}")
    if not found:
        subprocess.run(["cargo", "install", "inferno", "--locked", "--root", str(TOOLS)], check=True)
    return found or f"{TOOLS}/bin/{name}"


def stage_of(stack: str) -> str:
    """The stage of a stack."""
    frames = stack.split(";")
    return next((name for name, pattern in _STAGES if any(map(pattern.search, frames))), "other")


def table(folded: dict[str, int], events: int) -> str:
    """Shares by stage and by thread, in Markdown."""
    total = sum(folded.values())
    stages, threads = Counter(), Counter()
    for stack, nanoseconds in folded.items():
        stages[stage_of(stack)] += nanoseconds
        threads[stack.split(";")[0]] += nanoseconds
    lines = [f"{events:,} presses, {total / 1e9:.1f} CPU s sampled at {FREQUENCY} Hz; {bench.machine()}", ""]
    for head, counts in (("stage", stages), ("thread", threads)):
        lines += [f"| {head} | share of CPU time |", "|---|---:|"]
        lines += [f"| {name} | {nanoseconds / total:.1%} |" for name, nanoseconds in counts.most_common()] + [""]
    return "\n".join([*lines, f"flame graph: {FOLDER / 'flamegraph.svg'}"])


if __name__ == "__main__":
    sys.exit(main())
