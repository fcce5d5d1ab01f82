"""Faults of ClickHouse and the way to it. Those of answers are ordered from the front that stands before the engine; it
runs one insert at a time, so races between two inserts inside the server are not among them."""

import time

from tests.harness.load_world import CLICKHOUSE_TIMEOUT_MS
from tests.harness.stack import stack
from tests.harness.waiting import await_that


def answers(kind, hit, **options):
    """A few inserts in a row go wrong in one way; `hit(entry)`: whether the front's log shows that it did."""

    def fault(world, times, random):
        world.start_pair()
        table = world.tables["clickhouse"]

        def hits():
            return sum(hit(entry) for entry in table.front_log())

        for _ in range(times):
            time.sleep(random.uniform(0, 0.5))
            before, count = hits(), random.randint(1, 3)
            begun = time.monotonic()
            table.front(kind, count=count, **options)
            await_that(f"{kind} to happen {count} times", lambda: hits() >= before + count, pause=0.1)
            world.recovered(begun)

    return fault


def down(world, times, random):
    """Nothing but 503 for some seconds."""
    world.start_pair()
    table = world.tables["clickhouse"]

    def away():
        table.front("down")
        try:
            time.sleep(random.uniform(1, 5))
        finally:
            table.front("clear")

    for _ in range(times):
        world.recovered(world.together.do(away))


def kill_server(world, times, random):
    """The engine's process is killed, sometimes in an insert, and started again on its data."""
    world.start_pair()

    def kill_and_restart():
        stack("kill", "clickhouse", "-9")
        stack("restart", "clickhouse")

    for _ in range(times):
        time.sleep(random.uniform(0, 1))
        world.recovered(world.together.do(kill_and_restart))


def lost_answer(world, times, random):
    """The connection breaks between an insert and its answer."""
    world.start_pair()
    for _ in range(times):
        link = world.links[random.choice("ab")]["clickhouse"]
        time.sleep(random.uniform(0, 0.3))
        begun = time.monotonic()
        link.lose_answer(after=b"INSERT")
        await_that("an insert", link.trapped.is_set)
        world.recovered(begun)


def refused_with(code):
    """Whether an entry of the front's log is a refusal of this code."""
    return lambda entry: str(entry["result"]).startswith(f"Code: {code}.")


def ran(entry):
    """Whether it was run."""
    return entry["result"] == "ok"


ANSWERS = {
    "lose-response": answers("lose_response", lambda entry: entry.get("response") == "lost"),
    "lose-request": answers("lose_request", lambda entry: entry["result"] == "lost"),
    "slow-answer": answers("slow_answer", ran, ms=CLICKHOUSE_TIMEOUT_MS + 1500),
    # Begun only after its sender gave it up and has written the range again: its token tells.
    "slow-insert": answers("slow", ran, ms=CLICKHOUSE_TIMEOUT_MS + 1500),
    "too-many-parts": answers("too_many_parts", refused_with(252)),
    "read-only-disk": answers("read_only_disk", refused_with(164)),
}
