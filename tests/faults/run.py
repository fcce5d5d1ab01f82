"""Does faults to running pressline processes under load: no event may be lost, doubled, out of order or wrong.

    tests/stack/stack.py run -- python3 -m tests.faults.run --suite test
    ... --suite soak --times 50 --kills 200        fewer; goes on where it was left
    ... --suite soak --only kill --seed 7          one fault
    ... --suite mutants                            each guarantee broken on purpose must be caught
    ... --suite load-test, load-soak, load-mutants the same for the sinks

Several at once, each with services of its own: PRESSLINE_STACK_FOLDER=target/stack-a PRESSLINE_FAULTS_LOAD=0.3 (of the usual
events a second) for one, `--only` telling which faults are whose. PRESSLINE_FAULTS_RESULTS is the folder of the sums by fault
(else target/faults).

Ends with a table in Markdown and `N passed, M failed`; exit code 1 when anything failed.
"""

import argparse
import dataclasses
import faulthandler
import functools
import itertools
import os
import random
import shutil
import signal
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.harness import interpreter

interpreter.require_packages()

from tests.faults import faults  # noqa: E402
from tests.faults import load_faults  # noqa: E402
from tests.faults.results import COUNTS, Results  # noqa: E402
from tests.harness.proxy import Proxy  # noqa: E402
from tests.harness.stack import service  # noqa: E402
from tests.harness.together import BrokenOff, Together  # noqa: E402
from tests.harness.waiting import Failure  # noqa: E402
from tests.harness.world import BREAKABLE, FOLDER, RELEASE, count_uncommitted  # noqa: E402

SUITES = ["test", "soak", "mutants", "load-test", "load-soak", "load-mutants"]
_lock = threading.Lock()


@functools.cache
def the_proxy():
    """The proxy, when the first fault needs it."""
    return Proxy(service("BOOTSTRAP_PROXIED"), service("PROXY_UPSTREAM"))


def do(fault, times, seed, mutant=None, together=None):
    """One run of a fault; its result, as it goes into the file. None where it was broken off for another's failure."""
    begun = time.monotonic()
    result = {"fault": fault.name, "times": times, "seed": seed, "mutant": mutant, "failures": []}
    world = None
    try:
        with fault.world(
            mutant or fault.name, settings=fault.settings, proxied=fault.proxied, mutant=mutant, binary=fault.binary
        ) as world:
            world.together = together or world.together
            if fault.proxied:
                with _lock:
                    world.proxy = the_proxy()
            found = _run(fault, world, times, seed, result)
            verdicts = found if isinstance(found, dict) else {"": found}
            for name in COUNTS:
                result[name] = sum(getattr(verdict, name) for verdict in verdicts.values())
            if isinstance(found, dict):
                result["each"] = {name: {c: getattr(v, c) for c in COUNTS} for name, v in found.items()}
            else:
                result["aborted"] = count_uncommitted(world.bootstrap, world.out) - found.written
            for name, verdict in verdicts.items():
                if not verdict.sound:
                    what = "; ".join(verdict.examples[:5]) or "inputs are not written + dead"
                    world.fail(f"{name}: {what}" if name else what)
            result["failures"] += world.failures
            world.failures = list(result["failures"])  # keeps the folder
    except BrokenOff:
        return None
    except Exception as error:  # noqa: BLE001 - every failure is a result
        result["failures"].append(str(error) if isinstance(error, Failure) else traceback.format_exc())
    finally:
        if together and result["failures"]:
            together.break_off()
    if world is not None:
        result |= {"recovery": round(max(world.recoveries, default=0), 1), "notes": sorted(set(world.notes))}
        if result["failures"]:
            result["folder"] = str(world.folder)
    return result | {"seconds": round(time.monotonic() - begun, 1), "at": time.strftime("%Y-%m-%d %H:%M:%S")}


def _run(fault, world, times, seed, result):
    """The verdict; of a world with databases, one for each."""
    try:
        fault.do(world, times, random.Random(seed))
    except Failure as failure:
        # What came out until then is looked at all the same: it may tell more.
        result["failures"].append(str(failure))
        for instance in world.instances:
            if instance.process.poll() is None:
                instance.send(18)  # SIGCONT
    return world.left() if world.refused else world.finish()


def work(arguments, results):
    """(fault, times) still to do, from the suite and what was done; in turn, so that what is broken off has done some of each."""
    is_test = arguments.suite.endswith("test")
    if is_test or arguments.fresh:
        results.forget()
    turns = []
    for fault in arguments.catalogue.FAULTS:
        if arguments.only and fault.name not in arguments.only:
            continue
        wanted = fault.test if is_test else fault.soak
        if fault.name == "kill" and arguments.kills is not None:
            wanted = arguments.kills
        elif fault.name != "kill" and arguments.times is not None and (wanted or arguments.only):
            wanted = arguments.times
        left = wanted - results.done(fault.name)
        at_once = fault.at_once if is_test or fault.at_once == 1 else arguments.at_once or fault.at_once
        turns.append([(fault, min(at_once, left - some)) for some in range(0, left, at_once)])
    return [item for turn in itertools.zip_longest(*turns) for item in turn if item]


def kept(arguments):
    """The suite's results so far."""
    return Results(Path(os.environ.get("PRESSLINE_FAULTS_RESULTS", FOLDER)) / f"{arguments.suite}.jsonl")


def table(arguments, results):
    """Results in Markdown."""
    return results.table(arguments.catalogue is load_faults)


def suite(arguments, seeds):
    """Runs what is to do, the faults that leave services alone side by side."""
    results = kept(arguments)
    todo = work(arguments, results)
    total = len(todo)
    count = 0

    def one(item, together=None):
        nonlocal count
        fault, times = item
        result = do(fault, times, seeds.randrange(1 << 32), together=together)
        with _lock:
            count += 1
            if result:
                results.add(result)
                say(count, total, result)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(one, [item for item in todo if not item[0].alone]))
    with ThreadPoolExecutor(arguments.hit_at_once) as pool:
        for _, items in itertools.groupby(sorted((i for i in todo if i[0].alone), key=_kind), _kind):
            items = list(items)
            for worlds in _in_groups(items, 1 if items[0][0].by_itself else arguments.hit_at_once):
                together = Together(len(worlds))
                list(pool.map(functools.partial(one, together=together), worlds))
    return results


def _kind(item):
    """The same of worlds that a service's fault can hit at once."""
    return item[0].name, item[1]


def _in_groups(items, most):
    return (items[first : first + most] for first in range(0, len(items), most))


def say(count, total, result):
    """One line of progress."""
    mark = "FAILED" if result["failures"] else "ok"
    print(
        f"[{count}/{total}] {result['fault']} x{result['times']}: {mark}, {result.get('inputs', 0)} inputs, recovery "
        f"{result.get('recovery', 0)} s, {result['seconds']} s {' · '.join(result.get('notes', []))[:200]}",
        flush=True,
    )
    for failure in result["failures"]:
        print(f"    {failure}", flush=True)
    if result["failures"]:
        print(f"    seed {result['seed']}, logs in {result.get('folder')}", flush=True)


def mutants(arguments, seeds):
    """Each mutant must be caught by its fault, and the same build without a mutant must pass it."""
    by_name = arguments.catalogue.BY_NAME
    hunted = arguments.catalogue.MUTANTS.items()
    chosen = {m: by_name[name] for m, name in hunted if not arguments.only or m in arguments.only}
    sound = [
        dataclasses.replace(by_name[name], breakable=True) for name in dict.fromkeys(f.name for f in chosen.values())
    ]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        passes = [pool.submit(do, fault, fault.test or 2, seeds.randrange(1 << 32)) for fault in sound]
        hunts = {m: pool.submit(hunt, m, fault, random.Random(seeds.random())) for m, fault in chosen.items()}
        for number, future in enumerate(passes, 1):
            say(number, len(passes), future.result())
        rows = [hunt.result() for hunt in hunts.values()]
    failed = sum(bool(future.result()["failures"]) for future in passes) + sum(not caught for _, caught in rows)
    lines = [
        "| mutant | fault | runs | lost | doubled | out of order | caught by |",
        "|---|---|---:|---:|---:|---:|---|",
    ]
    lines += [row for row, _ in rows]
    return "\n".join(lines), len(passes) + len(rows) - failed, failed


def hunt(mutant, fault, seeds):
    """Does the mutant's fault to it until it is caught, a few times at most; its row of the table, and what caught it."""
    for run in range(1, 5):
        result = do(fault, fault.test or 2, seeds.randrange(1 << 32), mutant)
        caught = evidence(mutant, result)
        if caught:
            print(f"{mutant} is caught by {fault.name}, run {run}: {caught}", flush=True)
            shutil.rmtree(result["folder"], ignore_errors=True)
            break
        print(f"{mutant} got past {fault.name}, run {run}: {result['failures']}", flush=True)
    counts = " | ".join(str(result.get(key, 0)) for key in ("lost", "doubled", "disordered"))
    return f"| {mutant} | {fault.name} | {run} | {counts} | {caught or '**survived**'} |", caught


def evidence(mutant, result):
    """What gave the mutant away; only what it is meant to break counts, not that a run failed somehow."""
    if mutant == "random_transactional_id":
        return next((text for text in result["failures"] if "stood still" in text or "not within" in text), "")
    if mutant == "http_gives_up":
        return next((text for text in result["failures"] if "out of descriptors" in text or "its pages" in text), "")
    if mutant == "deletes_ignored":
        return next((text[:80] for text in result["failures"] if "was deleted, and is there" in text), "")
    found = [f"{result[key]} {key}" for key in ("lost", "doubled", "disordered") if result.get(key)]
    return ", ".join(found)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suite", choices=SUITES, default="test")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="faults (or mutants) by name")
    parser.add_argument("--times", type=int, default=_number("PRESSLINE_SOAK_TIMES"), help="of each fault but kill")
    parser.add_argument("--kills", type=int, default=_number("PRESSLINE_SOAK_KILLS"), help="random kills")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--jobs", type=int, default=4, help="faults side by side")
    parser.add_argument("--at-once", type=int, metavar="N", help="soak: times that a pair of processes stands in one run")
    parser.add_argument("--hit-at-once", type=int, default=1, metavar="N", help="pairs that a service's fault hits at once")
    parser.add_argument("--fresh", action="store_true", help="soak: forget what was done")
    parser.add_argument("--table", action="store_true", help="print what is done so far, and do nothing")
    arguments = parser.parse_args()
    arguments.catalogue = load_faults if arguments.suite.startswith("load-") else faults
    known = {*faults.BY_NAME, *faults.MUTANTS, *load_faults.BY_NAME, *load_faults.MUTANTS}
    unknown = set(arguments.only or ()) - known
    if unknown:
        here = ", ".join(arguments.catalogue.BY_NAME)
        parser.error(f"no such fault: {', '.join(sorted(unknown))}; in this suite there are {here}")
    if arguments.only and not set(arguments.only) & {*arguments.catalogue.BY_NAME, *arguments.catalogue.MUTANTS}:
        print(f"{arguments.suite}: none of these are in this suite")
        return 0
    if arguments.table:
        print(table(arguments, kept(arguments)))
        return 0
    for binary in (RELEASE, BREAKABLE):
        if not binary.exists():
            parser.error(f"{binary} is missing: make build-faults")
    FOLDER.mkdir(parents=True, exist_ok=True)
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    seeds = random.Random(seed)
    begun = time.monotonic()
    if arguments.suite.endswith("mutants"):
        text, passed, failed = mutants(arguments, seeds)
    else:
        results = suite(arguments, seeds)
        text = table(arguments, results)
        passed, failed = results.passed, len(results.failed)
        for run in results.failed:
            text += f"\n\n{run['fault']} FAILED: " + "; ".join(run["failures"])
    print(f"\n{text}\n\n{time.monotonic() - begun:.0f} s\n{passed} passed, {failed} failed", flush=True)
    return 1 if failed or not passed else 0


def _number(name):
    text = os.environ.get(name)
    return int(text) if text else None


if __name__ == "__main__":
    # Where it stood, when it is ended from outside for taking too long.
    faulthandler.register(signal.SIGTERM, all_threads=True, chain=True)
    # Threads of librdkafka may hang with a broker that was disturbed: leave without waiting for them.
    code = main()
    sys.stdout.flush()
    os._exit(code)
