"""CPU seconds per million events, events per second and peak memory of `pressline run`, beside a bare pass-through and a
read-only consumer of the same records, in the same run and in turns. Prints a Markdown table.

Run it through `make bench`, which starts the services. GeoIP databases: PRESSLINE_BENCH_MMDB (files separated by colons),
else the bundled one.
"""

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

from tests.harness.paths import ROOT

PRESSLINE = ROOT / "target/release/pressline"
PEER = ROOT / "target/release/examples/bench_peer"
BOOTSTRAP = os.environ.get("PRESSLINE_TEST_BOOTSTRAP")
REGISTRY = os.environ.get("PRESSLINE_TEST_REGISTRY")
# Of each topic that is made here.
PARTITIONS = 3


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=3, help="0 measures the delay only")
    arguments.add_argument("--delay-seconds", type=int, default=30, help="length of the delay measurement; 0 leaves it out")
    options = arguments.parse_args()
    if not BOOTSTRAP or not REGISTRY:
        print("PRESSLINE_TEST_BOOTSTRAP and PRESSLINE_TEST_REGISTRY are not set: run `make bench`", file=sys.stderr)
        return 2
    mmdb = [f for f in os.environ.get("PRESSLINE_BENCH_MMDB", "").split(":") if f] or [str(ROOT / "data/demo.mmdb")]
    if options.rounds:
        throughput(options, mmdb)
    if options.delay_seconds:
        print(delay(mmdb, options.delay_seconds))
    return 0


def throughput(options: argparse.Namespace, mmdb: list[str]) -> None:
    raw = f"bench_raw_{os.getpid()}"
    generate(raw, options.events, mmdb)
    results: dict[str, list[dict]] = {}
    for number in range(options.rounds):
        for name, measure in MEASURES.items():
            result = measure(raw, options.events, mmdb, f"{os.getpid()}_{number}")
            results.setdefault(name, []).append(result)
            print(f"round {number + 1}: {name}: {json.dumps(result)}", file=sys.stderr, flush=True)
    print(table(results, options.events, mmdb))
    print(idle(raw, mmdb))


def generate(topic: str, events: int, mmdb: list[str]) -> None:
    subprocess.run(
        [PRESSLINE, "generate", "--topic", topic, "--create-topics", "--count", str(events), "--malformed", "0",
         "--bootstrap-servers", BOOTSTRAP, "--mmdb", *mmdb], check=True, stdout=sys.stderr)


def create(topic: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic
    admin = AdminClient({"bootstrap.servers": BOOTSTRAP})  # must live until the answer is there
    admin.create_topics([NewTopic(topic, PARTITIONS, 1)])[topic].result(30)


def usage_of(process: subprocess.Popen) -> dict:
    """Waits for a process; its CPU seconds and peak memory, by the kernel's accounting."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return {"cpu": usage.ru_utime + usage.ru_stime, "rss_mb": usage.ru_maxrss / 1024}


def cpu_so_far(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def peer(mode: str, topic: str, events: int, *more: str) -> dict:
    began = time.monotonic()
    process = subprocess.Popen([PEER, mode, BOOTSTRAP, topic, str(events), *more], stdout=subprocess.PIPE, text=True)
    output = process.stdout.read()
    result = usage_of(process)
    if process.returncode:
        raise SystemExit(f"bench_peer {mode} failed: {output}")
    return {**result, "seconds": time.monotonic() - began, "output": output.strip()}


def read_only(raw: str, events: int, mmdb: list[str], run: str) -> dict:
    return peer("read", raw, events)


def pass_through(raw: str, events: int, mmdb: list[str], run: str) -> dict:
    output = f"bench_pass_{run}"
    create(output)
    return peer("pass", raw, events, output)


class Daemon:
    """`pressline run` on one pipeline, with its metrics."""

    def __init__(self, name: str, tables: str):
        """`tables`: what the pipeline file says beside its name and the services."""
        self.name, self.folder = name, tempfile.TemporaryDirectory()
        pipeline = Path(self.folder.name) / "bench.toml"
        pipeline.write_text(
            f'name = "{name}"\n[kafka]\nbootstrap_servers = "{BOOTSTRAP}"\n[registry]\nurl = "{REGISTRY}"\n{tables}')
        self.log = Path(self.folder.name) / "log"
        self.began = time.monotonic()
        self.process = subprocess.Popen([PRESSLINE, "run", str(pipeline), "--set", "http.listen=127.0.0.1:0"],
                                        stderr=self.log.open("w"))
        self.address = self.wait(lambda: re.search(r"metrics on (http://\S+)/metrics", self.log.read_text()), "address")[1]

    def wait(self, question, what: str, seconds: float = 600, pause: float = 0.02):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise SystemExit(f"pressline ended:\n{self.log.read_text()}")
            if answer := question():
                return answer
            time.sleep(pause)
        raise SystemExit(f"pressline: no {what} within {seconds} s:\n{self.log.read_text()}")

    def get(self, path: str) -> str:
        try:
            with urllib.request.urlopen(self.address + path, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            return ""

    def metric(self, name: str) -> float:
        return sum(float(n) for n in re.findall(rf"^{name}(?:{{[^}}]*}})? (\S+)$", self.get("/metrics"), re.M))

    def stop(self) -> dict:
        # By /proc: what wait4 tells counts the memory of this Python too, which the process was until its exec.
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        peak = int(re.search(r"VmHWM:\s+(\d+) kB", status)[1]) / 1024
        self.process.send_signal(signal.SIGTERM)
        usage = usage_of(self.process) | {"rss_mb": peak}
        self.folder.cleanup()
        return usage


def relaying(raw: str, output: str, mmdb: list[str], place: str = "") -> Daemon:
    """A relay into a new topic. `place`: more lines of `[place]`."""
    create(output)
    create(f"{output}.dead")
    return Daemon(output, f"""
[source]
topic = "{raw}"
[output]
topic = "{output}"
schema = "{ROOT}/schemas/button_presses.avsc"
[dead_letter]
topic = "{output}.dead"
[place]
files = {json.dumps([os.path.abspath(f) for f in mmdb])}
{place}""")


# The presses with one field renamed, so that the press kernel does not match and the general one runs them.
GENERAL = """
[source]
topic = "{raw}"
format = "json"
[source.fields]
session_id = "uuid"
timestamp = "timestamp-micros"
cohort = "int?"
action = "string"
ip = "string?"
[[transforms]]
enrich = "ip"
[[transforms]]
rename = {{ action = "what" }}
[output]
topic = "{output}"
key = "session_id"
[dead_letter]
topic = "{output}.dead"
[place]
files = {files}
"""


def relaying_general(raw: str, output: str, mmdb: list[str]) -> Daemon:
    """The same by a pipeline of transforms."""
    create(output)
    create(f"{output}.dead")
    return Daemon(output, GENERAL.format(raw=raw, output=output, files=json.dumps([os.path.abspath(f) for f in mmdb])))


def relay(raw: str, events: int, mmdb: list[str], run: str) -> dict:
    return measured(relaying(raw, f"bench_out_{run}", mmdb), events)


def relay_general(raw: str, events: int, mmdb: list[str], run: str) -> dict:
    return measured(relaying_general(raw, f"bench_general_{run}", mmdb), events)


def measured(daemon: Daemon, events: int) -> dict:
    """Waits until all is relayed."""
    # Reading and verifying the GeoIP databases is done once a start, not per event: shown apart.
    daemon.wait(lambda: "relaying, each event" in daemon.log.read_text(), "start")
    start_cpu, started = cpu_so_far(daemon.process.pid), time.monotonic()
    # Rendering the metrics is work of the process that is measured, so they are asked for seldom.
    first = daemon.wait(lambda: daemon.metric("pressline_records_in_total") and time.monotonic(), "first batch")
    daemon.wait(lambda: daemon.metric("pressline_records_in_total") >= events, "end", pause=0.1)
    ended = time.monotonic()
    usage = daemon.stop()
    return {"cpu": usage["cpu"] - start_cpu, "start_cpu": start_cpu, "rss_mb": usage["rss_mb"],
            "seconds": ended - started, "seconds_flowing": ended - first}


MEASURES = {"read only": read_only, "pass-through, transactions": pass_through, "pressline run, exactly once": relay,
            "the same with one field renamed: the general kernel": relay_general}


def table(results: dict[str, list[dict]], events: int, mmdb: list[str]) -> str:
    lines = [
        f"{events:,} events, {PARTITIONS} partitions, lz4, {len(results['read only'])} rounds in turns; GeoIP files "
        f"{', '.join(Path(f).name for f in mmdb)} ({sum(os.path.getsize(f) for f in mmdb) / 1e6:.0f} MB); machine: "
        f"{machine()}; {time.strftime('%Y-%m-%d')}", "",
        "| | CPU s per million events: min | median | events/s: max | median | peak RSS MB |", "|---|---|---|---|---|---|"]
    for name, runs in results.items():
        cpu = [r["cpu"] * 1e6 / events for r in runs]
        speed = [events / r["seconds"] for r in runs]
        lines.append(f"| {name} | {min(cpu):.2f} | {statistics.median(cpu):.2f} | {max(speed):,.0f} | "
                     f"{statistics.median(speed):,.0f} | {max(r['rss_mb'] for r in runs):.0f} |")
    bare, ours, general = list(results.values())[1:]
    ratios, slower = ([a["cpu"] / b["cpu"] for a, b in zip(*pair)] for pair in ((ours, bare), (general, ours)))
    lines += ["", f"pressline's CPU over the pass-through's, round by round: {', '.join(f'{r:.2f}' for r in ratios)}; "
              f"the general kernel's over the press kernel's: {', '.join(f'{r:.2f}' for r in slower)}; "
              f"reading and checking the GeoIP files at start: {statistics.median(r['start_cpu'] for r in ours):.2f} CPU s; "
              f"with the group's first join left out {max(events / r['seconds_flowing'] for r in ours):,.0f} events/s at best"]
    return "\n".join(lines)


def idle(raw: str, mmdb: list[str]) -> str:
    daemon = relaying(raw, f"bench_idle_{os.getpid()}", mmdb)
    daemon.wait(lambda: daemon.metric("pressline_lag_records") == 0 and daemon.metric("pressline_records_in_total"), "end")
    time.sleep(6)
    before, began = cpu_so_far(daemon.process.pid), time.monotonic()
    time.sleep(30)
    share = (cpu_so_far(daemon.process.pid) - before) / (time.monotonic() - began)
    daemon.stop()
    return f"\nIdle, over 30 s: {share:.2%} of a core"


def delay(mmdb: list[str], seconds: int) -> str:
    rate = 10_000
    raw, output = f"bench_delay_raw_{os.getpid()}", f"bench_delay_{os.getpid()}"
    create(raw)
    daemon = relaying(raw, output, mmdb)
    daemon.wait(lambda: daemon.metric("pressline_assigned_partitions") == PARTITIONS, "assignment")
    reader = subprocess.Popen([PEER, "delay", BOOTSTRAP, output, str(rate * seconds)], stdout=subprocess.PIPE, text=True)
    time.sleep(5)
    # Without --count it sends live: each event carries the time at which it is sent.
    generator = subprocess.Popen([PRESSLINE, "generate", "--topic", raw, "--rate", str(rate), "--malformed", "0",
                                  "--bootstrap-servers", BOOTSTRAP], stdout=sys.stderr)
    try:
        output_text = reader.communicate(timeout=seconds * 3 + 60)[0]
    except subprocess.TimeoutExpired:
        reader.kill()
        output_text = "not all events came"
    generator.send_signal(signal.SIGINT)
    generator.wait(30)
    daemon.stop()
    return f"\nDelay at {rate:,} events/s, from the record's timestamp to a read_committed consumer: {output_text.strip()}"


def machine() -> str:
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return f"{os.cpu_count()} cores, {model[1] if model else 'unknown'}"


if __name__ == "__main__":
    sys.exit(main())
