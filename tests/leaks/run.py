"""No address leaves pressline: every byte that does leave it is searched for every address that went in, in every form.

    tests/stack/stack.py run -- python3 -m tests.leaks.run --addresses 100000
    ... --only transforms

First the search itself is tried: it must find nothing in the records without their addresses. Then records with so
many different addresses, where they belong and where they do not, go through the relay and both sinks, logging all they
can, while processes panic with the record in the message and are aborted in the midst of it. What left them (topics,
committed offsets and their notes, all that was sent to Kafka, traffic with registry, geocoder and databases, rows, logs,
pages, command line and environment, files) must hold no address: 0 hits. Then a build that leaks on purpose, in each form at
each place, must be caught in every one; the same two of a pipeline of transforms (transforms.py). Last, the same two of the web
app, visited from a fiftieth of the addresses (site_visits.py).

Forms and what is left out of them: forms.py. Ends with `N passed, M failed`; exit code 1 when anything failed.
"""

import argparse
import faulthandler
import ipaddress
import os
import re
import signal
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

from tests.harness import interpreter

interpreter.require_packages()

from tests.harness.waiting import PATIENCE, await_that  # noqa: E402
from tests.leaks import records  # noqa: E402
from tests.leaks import site_visits  # noqa: E402
from tests.leaks.forms import forms  # noqa: E402
from tests.leaks.search import Searcher, report  # noqa: E402
from tests.leaks.stage import BINARY, Stage  # noqa: E402
from tests.leaks.transforms import TransformsStage, moved  # noqa: E402

# Where a process ends, in turn; the next one takes over.
_ENDS = ("panic_in_record:50", "after_produce:3", "pg_after_copy:2", "ch_after_insert:2", "during_end_txn:3")
# Captures that may well be empty.
_MAY_BE_EMPTY = {"files"}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--addresses", type=int, default=int(os.environ.get("PRESSLINE_LEAKS_ADDRESSES", 100_000)))
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--only", choices=[name for name, _ in TESTS])
    arguments = parser.parse_args()
    if not BINARY.exists():
        parser.error(f"{BINARY} is missing: make build-faults")
    print(f"seed {arguments.seed}", flush=True)
    begun, failures, passed = time.monotonic(), [], 0
    chosen = [test for name, test in TESTS if arguments.only in (None, name)]
    for test in chosen:
        found = test(arguments)
        failures += found
        passed += not found
    for failure in failures[:50]:
        print(f"    {failure}")
    failed = len(chosen) - passed
    print(f"{time.monotonic() - begun:.0f} s\n{passed} passed, {failed} failed", flush=True)
    return 1 if failed else 0


def sound(arguments):
    """What is wrong with a build that does not leak on purpose."""
    return _sound(Stage, "leaks", arguments.addresses, arguments.seed, lambda _, record: record)


def transforms(arguments):
    """The same of a pipeline of transforms, and with fewer addresses: sinks, crashes and pages are the same."""
    failures = _sound(TransformsStage, "transforms", arguments.addresses // 5, arguments.seed, moved)
    return failures + _leaking(TransformsStage, "leaking-transforms", arguments.seed, moved, but="value")


def _sound(stages, name, count, seed, moved):
    addresses = records.canaries(count, records.networks(), seed)
    with ThreadPoolExecutor(1) as pool, stages(name, batch=max(20, count // 50)) as stage:
        searching = pool.submit(Searcher, addresses)  # it takes its time, in processes of its own
        stage.send(moved(number, records.record(number, address)) for number, address in enumerate(addresses))
        for end in _ENDS:
            _run_to(stage, end)
        last = stage.start()
        written, dead = stage.await_settled(len(addresses))
        stage.remember_proc(last)
        failures = [] if (code := last.terminate()) == 0 else [f"the last process ended with {code}"]
        failures += [f"a core dump: {name}" for name in stage.core_files()]
        captures = stage.captures()
        searcher = searching.result()
        print(
            f"{len(addresses):,} addresses in sound records and {records.kinds()} wrong kinds: {written:,} written, "
            f"{dead:,} dead letters, {stage.filtered:,} filtered, {len(_ENDS)} crashes; {searcher.needles:,} needles",
            flush=True,
        )
        blank = records.without_addresses(len(addresses))
        failures += report(searcher, {"the input without its addresses": blank} | captures)
        failures += [
            f"nothing was captured: {name}"
            for name, content in captures.items()
            if not (content or name in _MAY_BE_EMPTY)
        ]
        if captures["files"]:
            failures.append(f"pressline wrote files: {captures['files'][:100]}")
        if failures:
            stage.keep = True
            failures.append(f"logs in {stage.folder}")
    return failures


def _run_to(stage, end):
    """A process up to this end of it. The one that panics goes on with another worker, until it is killed."""
    process = stage.start(fail_point=end)
    if end.startswith("panic"):
        await_that(f"a panic at {end}", lambda: "panic at" in process.log(), PATIENCE)
        await_that("another worker", lambda: process.log().count("partitions assigned") > 3, PATIENCE)
        process.kill()
    else:
        await_that(f"the end at {end}", lambda: process.process.poll() is not None, PATIENCE)


def leaking(arguments):
    """Forms and places of a leak on purpose that were not found."""
    return _leaking(Stage, "leaking", arguments.seed, lambda _, record: record)


def _leaking(stages, name, seed, moved, but=None):
    leaks = [leak for leak in _leaks(seed) if leak[0] != but]
    addresses = list(dict.fromkeys(address for _, address, _ in leaks))
    with stages(name, partitions=1, batch=20_000) as stage:
        listed = stage.folder / "leaks"
        listed.write_text("".join(f"{place}\t{address}\t{form.needle.hex()}\n" for place, address, form in leaks))
        pairs = (pair for number, address in enumerate(addresses) for pair in _pair(number, address))
        stage.send(moved(number // 2, record) for number, record in enumerate(pairs))
        process = stage.start(environment={"PRESSLINE_MUTANT": "leak", "PRESSLINE_LEAK": str(listed)})
        stage.await_settled(2 * len(addresses))
        stage.remember_proc(process)
        time.sleep(1)  # for the pages to be read once more
        process.terminate()
        captures, searcher = stage.captures(), Searcher(addresses)
    found = {name: {(hit.address, hit.form) for hit in searcher.find(content)} for name, content in captures.items()}
    missed = [
        f"a leak at {place} was not found: {form.name} of an address in {name}"
        for place, address, form in leaks
        for name in _CAUGHT_IN[place]
        if (address, form.name) not in found[name]
    ]
    caught = Counter(place for place, _, _ in leaks)
    print("| leak at | forms | looked for in |\n|---|---:|---|")
    for place, count in caught.items():
        print(f"| {place} | {count} | {', '.join(_CAUGHT_IN[place])} |")
    print(f"{len(leaks)} leaks on purpose, {len(missed)} missed", flush=True)
    return missed


# Place of a leak → captures that must show it.
_CAUGHT_IN = {
    "value": ["topics", "kafka traffic", "postgres traffic", "postgres rows", "clickhouse traffic", "clickhouse rows"],
    "key": ["topics", "kafka traffic"],
    "header": ["topics", "kafka traffic"],
    "dead": ["topics", "kafka traffic"],
    "timestamp": ["topics"],
    "offset": ["offsets", "kafka traffic"],
    "log": ["log 0"],
    "stdout": ["log 0"],
    "metric": ["pages"],
    "file": ["files"],
    "registry": ["registry traffic"],
    "geocoder": ["geocoder traffic"],
}
_MOST_NOTED = 4000


def _leaks(seed):
    """(place, address, form): each form of an address of its own, at every place that can hold it."""
    some = records.canaries(200, [], seed)
    by_version = {version: [a for a in some if ipaddress.ip_address(a).version == version] for version in (4, 6)}
    leaks, noted = [], 0
    for addresses in by_version.values():
        names = [form.name for form in forms(addresses[0])]
        for name, address in zip(names, addresses):
            # A form that this address lacks (for URLs, no such letter in it) is left out.
            form = next((form for form in forms(address) if form.name == name), None)
            if form is None:
                continue
            places = ["key", "header", "dead", "log", "stdout", "file", "registry", "geocoder"]
            if _is_text(form.needle):
                places += ["value", "metric"]
                noted += len(form.needle) + 1
                places += ["offset"] if noted < _MOST_NOTED else []
            if form.alone and form.name.startswith("integer"):
                places.append("timestamp")
            leaks += [(place, address, form) for place in places]
    return leaks


def _is_text(content):
    return re.fullmatch(rb"[ -~]+", content) is not None


def _pair(number, address):
    """A record that is written and one that becomes a dead letter."""
    good, bad = records.sound(2 * number, address), records.sound(2 * number + 1, address) | {"cohort": "Nonsense"}
    return records.plain(good), records.plain(bad)


TESTS = (
    ("sound", sound),
    ("leaking", leaking),
    ("transforms", transforms),
    ("web-sound", site_visits.sound),
    ("web-leaking", site_visits.leaking),
)

if __name__ == "__main__":
    # Where it stood, when it is ended from outside for taking too long.
    faulthandler.register(signal.SIGTERM, all_threads=True, chain=True)
    # Threads of librdkafka may hang: leave without waiting for them.
    code = main()
    sys.stdout.flush()
    os._exit(code)
