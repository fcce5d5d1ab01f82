"""Faults of PostgreSQL and the way to it."""

import json
import os
import time
from pathlib import Path

from tests.harness.stack import stack
from tests.harness.tables import Unreachable, patiently
from tests.harness.waiting import Failure, await_that
from tests.stack.services.postgres import Postgres

# A COMMIT that waits this long before it is on disk can be hit by a kill: the most that PostgreSQL takes.
_COMMIT_DELAY_US = 100_000


def terminate_backends(world, times, random):
    """pg_terminate_backend again and again, of all our connections."""
    world.start_pair()
    table, ended = world.tables["postgres"], 0
    for _ in range(times):
        begun = time.monotonic()
        for _ in range(8):
            time.sleep(random.uniform(0, 0.4))
            ended += len(table.run_sql(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {_ours(world)}"))
        world.recovered(begun)
    world.notes.append(f"{ended} connections ended")
    if not ended:
        world.fail("no connection of ours was there to be ended")


def lost_commit_answer(world, times, random):
    """COMMIT is done or not, its answer is lost with the connection: the sink finds out which."""
    world.start_pair()
    for _ in range(times):
        link = world.links[random.choice("ab")]["postgres"]
        time.sleep(random.uniform(0, 0.3))
        begun = time.monotonic()
        link.lose_answer(after=b"COMMIT")
        await_that("a COMMIT", link.trapped.is_set)
        world.recovered(begun)


def kill_in_commit(world, times, random):
    """PostgreSQL is killed while a COMMIT of ours runs, and started again on its data."""
    table = world.tables["postgres"]
    settings = {"commit_delay": _COMMIT_DELAY_US, "commit_siblings": 0}
    for name, value in settings.items():
        table.run_sql(f"ALTER DATABASE {table.database} SET {name} = {value}")
    try:
        world.start_pair()
        for _ in range(times):
            await_that("a COMMIT", lambda: _commits(world), pause=0.002)
            time.sleep(random.uniform(0, 0.05))
            _server().kill()
            world.notes.append("killed with a COMMIT under way")
            stack("restart", "postgres")
            world.recovered(time.monotonic())
    finally:
        for name in settings:
            patiently(lambda: table.run_sql(f"ALTER DATABASE {table.database} RESET {name}"), "PostgreSQL")


def kill_server(world, times, random):
    """PostgreSQL is killed at any time and started again on its data."""
    world.start_pair()

    def kill_and_restart():
        _server().kill()
        time.sleep(random.uniform(0, 1))
        stack("restart", "postgres")

    for _ in range(times):
        time.sleep(random.uniform(0, 0.5))
        world.recovered(world.together.do(kill_and_restart))


def restored(world, times, random):
    """Table and positions are set back to an older copy, together, as a restored backup does: the sink rewinds by
    itself, although the group's offsets are further on."""
    world.start_pair()
    table = world.tables["postgres"]
    for _ in range(times):
        with table.connect() as own:
            own.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            own.execute(f"CREATE TABLE {table.schema}.old_rows AS TABLE {table.table}")
            own.execute(f"CREATE TABLE {table.schema}.old_positions AS TABLE {table.offsets}")
            own.execute("COMMIT")
        time.sleep(random.uniform(0.5, 1.5))
        world.flow()
        begun = time.monotonic()
        with table.connect() as own:
            own.execute("BEGIN")
            own.execute(f"TRUNCATE {table.table}")
            own.execute(f"INSERT INTO {table.table} TABLE {table.schema}.old_rows")
            back = own.execute(
                f'UPDATE {table.offsets} n SET next_offset = o.next_offset FROM {table.schema}.old_positions o '
                'WHERE (n.pipeline, n.topic, n."partition") = (o.pipeline, o.topic, o."partition") '
                "AND n.next_offset > o.next_offset"
            ).rowcount
            own.execute(f"DROP TABLE {table.schema}.old_rows, {table.schema}.old_positions")
            own.execute("COMMIT")
        if not back:
            world.fail("the copy was not older than what it replaced")
        world.recovered(begun)


def column_added(world, times, random):
    """A column that may be null is added under load: the sink goes on."""
    world.start_pair()
    table = world.tables["postgres"]
    for count in range(times):
        time.sleep(random.uniform(0, 0.5))
        begun = time.monotonic()
        table.run_sql(f"ALTER TABLE {table.table} ADD COLUMN added_{count} text")
        world.recovered(begun)
        begun = time.monotonic()
        table.run_sql(f"ALTER TABLE {table.table} DROP COLUMN added_{count}")
        world.recovered(begun)


def column_altered(world, times, random):
    """A column's type is changed under load to one that fits as well but is written otherwise, then to and fro, so that it
    may be as it was before by the time the sink looks: the sink goes on."""
    world.start_pair()
    table = world.tables["postgres"]
    for _ in range(times):
        for kind in ("integer", "smallint"):
            time.sleep(random.uniform(0, 0.5))
            begun = time.monotonic()
            table.run_sql(f"ALTER TABLE {table.table} ALTER COLUMN cohort TYPE {kind}")
            world.recovered(begun)
        begun = time.monotonic()
        for kind in 10 * ("integer", "smallint"):
            table.run_sql(f"ALTER TABLE {table.table} ALTER COLUMN cohort TYPE {kind}")
            time.sleep(random.uniform(0, 0.02))
        world.recovered(begun)


def column_dropped(world, times, random):
    """A column that is loaded is dropped under load: this sink stops and says so, relay and the other sink go on. With
    the column back, a new start loads all the rest."""
    table = world.tables["postgres"]
    world.gone["postgres"] = {"time_zone"}  # values of rows that were there before are gone
    pair = world.start_pair()
    for _ in range(times):
        begun = time.monotonic()
        table.run_sql(f"ALTER TABLE {table.table} DROP COLUMN time_zone")
        world.stopped.add("postgres")
        for instance in pair.values():
            await_that("the sink to stop and /readyz to say why", lambda: _says(instance, "time_zone"))
        world.recovered(begun)  # of the others
        table.run_sql(f"ALTER TABLE {table.table} ADD COLUMN time_zone text")
        for instance in pair.values():
            instance.may_fail = True  # by its exit code it tells that a sink had stopped
            instance.terminate()
            if instance.await_exit(10) != 1:
                raise Failure(f"the exit code does not tell of the stopped sink: {instance.tail()}")
        world.stopped.clear()
        pair = {name: world.start(name) for name in pair}
        begun = time.monotonic()
        world.recovered(begun)


def bad_rows(world, times, random):
    """One row in 97 breaks a CHECK that only the table knows: those become dead letters, all others are written. Then
    kills, so that some are given up twice."""
    pair = world.start_pair()
    for _ in range(times):
        name = random.choice("ab")
        begun = time.monotonic()
        pair[name].kill()
        pair[name] = world.start(name)
        # Each bad row costs ClickHouse a dozen inserts and commits to find.
        world.recovered(begun, 400)


def _says(instance, word):
    status, text = instance.ready()
    return status == 503 and word in text


def _ours(world):
    return f"application_name = 'pressline/{world.name}'"


def _commits(world):
    """How many of our connections are in the statement that ends with COMMIT."""
    try:
        rows = world.tables["postgres"].run_sql(
            f"SELECT 1 FROM pg_stat_activity WHERE {_ours(world)} AND state = 'active' AND query LIKE '%COMMIT'"
        )
    except Unreachable:
        return 0
    return len(rows)


def _server():
    """The stack's PostgreSQL, to be killed from here: starting the stack's own command takes longer than a COMMIT."""
    state = Path(os.environ["PRESSLINE_TEST_STACK"])
    return Postgres(state.parent, json.loads(state.read_text())["ports"])
