"""One, two and three processes on six partitions under steady load: how evenly the work is shared, how long outputs pause
when a process joins, is started again, leaves or is killed, and that nothing is lost or duplicated meanwhile; with and
without static membership, all time-outs as they are by default.

    tests/stack/stack.py run -- python3 -m tests.faults.scaling [--rate 3000] [--seconds 10]

A pause is the longest time that a read_committed reader saw between two outputs of the same input partition. Prints a
table in Markdown; exit code 1 when anything was lost, doubled, out of order or wrong, or the work shared unevenly.
"""

import argparse
import os
import sys
import time

from tests.harness import interpreter

interpreter.require_packages()

from tests.harness.waiting import await_that  # noqa: E402
from tests.harness.world import RELEASE, SHORT, World  # noqa: E402

PARTITIONS = 6
# Of the events in a steady stretch, how far a process may be from its partitions' share of them.
_UNEVEN = 0.1
# A member that is gone without a word is missed after the session time-out of 30 s.
_PATIENCE = 120


class Run:
    """Processes under load, and the rows of the table."""

    def __init__(self, world, static, options):
        self.world, self.static, self.options = world, static, options
        self.live, self.rows = [], []

    def steady(self):
        """Each process's share while nothing happens, and the longest pause."""
        before = [one.metric("pressline_records_in_total") for one in self.live]
        self.world.monitor.gaps.clear()
        time.sleep(self.options.seconds)
        gap = max(self.world.monitor.gaps.values())
        counts = [one.metric("pressline_records_in_total") - start for one, start in zip(self.live, before)]
        shares = [count / max(sum(counts), 1) for count in counts]
        expected = 1 / len(self.live)
        if any(abs(share - expected) > _UNEVEN * expected for share in shares):
            self.world.fail(f"{len(self.live)} processes, uneven shares {shares}")
        self._row(f"{len(self.live)} running", gap, " · ".join(f"{share:.1%}" for share in shares))

    def event(self, name, act):
        """Does something to the processes; the pause until all partitions are shared out again and flow."""
        self.world.monitor.gaps.clear()
        act()
        even = PARTITIONS / len(self.live)
        await_that(
            f"{len(self.live)} processes to have {even:g} partitions each",
            lambda: all(one.metric("pressline_assigned_partitions") == even for one in self.live),
            _PATIENCE,
            0.1,
        )
        self.world.flow(_PATIENCE)
        # A cooperative rebalance comes in two steps.
        time.sleep(2)
        self.world.flow(_PATIENCE)
        self._row(name, max(self.world.monitor.gaps.values()), "")

    def join(self, name):
        """One more process."""
        self.live.append(self.world.start(name, **{"source.static_membership": str(self.static).lower()}))

    def leave(self):
        """The last process is told to stop."""
        gone = self.live.pop()
        gone.terminate()
        gone.await_exit(10, 0)

    def restart(self):
        """The last process is stopped and started again, as at a new release."""
        name = self.live[-1].name
        self.leave()
        self.join(name)

    def kill(self):
        """The last process is killed and started again."""
        gone = self.live.pop()
        gone.kill()
        self.join(gone.name)

    def _row(self, what, gap, shares):
        self.rows.append(f"| {'static' if self.static else 'dynamic'} | {what} | {gap:.2f} | {shares} |")
        print(self.rows[-1], file=sys.stderr, flush=True)


def measure(static, options):
    """The rows of one kind of membership, and what failed."""
    name = f"scaling-{'static' if static else 'dynamic'}"
    settings = dict.fromkeys(SHORT) | dict(pair.split("=", 1) for pair in options.set)
    with World(name, options.rate, settings, partitions=PARTITIONS) as world:
        run = Run(world, static, options)
        run.event("first process starts", lambda: run.join("a"))
        run.rows.pop()  # nothing flowed before it
        run.steady()
        run.event("second process joins", lambda: run.join("b"))
        run.steady()
        run.event("third process joins", lambda: run.join("c"))
        run.steady()
        run.event("one of three is started again", run.restart)
        run.event("one of three is killed and started again", run.kill)
        run.event("one of three leaves", run.leave)
        run.event("one of two leaves", run.leave)
        verdict = world.finish()
        if not verdict.sound:
            world.fail("; ".join(verdict.examples[:5]) or "inputs are not written + dead")
        counts = ", ".join(f"{getattr(verdict, n):,} {n}" for n in ("inputs", "written", "dead", "lost", "doubled"))
        summary = f"{name}: {counts}, {verdict.disordered:,} out of order, {verdict.wrong:,} wrong"
        print(summary, file=sys.stderr, flush=True)
        return run.rows, summary, world.failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=int, default=3000, help="events per second")
    parser.add_argument("--seconds", type=float, default=10, help="length of a steady stretch")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="of pressline, for all processes")
    options = parser.parse_args()
    if not RELEASE.exists():
        parser.error(f"{RELEASE} is missing: make build")
    rows, summaries, failures = [], [], []
    for static in (False, True):
        more, summary, failed = measure(static, options)
        rows, summaries, failures = rows + more, summaries + [summary], failures + failed
    print(f"{options.rate} events/s, {PARTITIONS} partitions, {' '.join(options.set)} {time.strftime('%Y-%m-%d')}\n")
    print("| membership | | longest pause, s | share of each process |\n|---|---|---:|---|")
    print("\n".join(rows) + "\n\n" + "\n".join(summaries))
    print("\n".join(f"FAILED: {failure}" for failure in failures))
    return 1 if failures else 0


if __name__ == "__main__":
    # Threads of librdkafka may hang with a broker that was disturbed: leave without waiting for them.
    code = main()
    sys.stdout.flush()
    os._exit(code)
