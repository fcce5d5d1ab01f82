"""Faults of the topic that is loaded and of its broker."""

import signal
import time

from confluent_kafka import TopicPartition

from tests.faults.load_kills import ends_refusing
from tests.harness.waiting import Failure, await_that
from tests.harness.world import PARTITIONS

_SAYS = ("made again", "has no committed offsets", "lies past the topic's end")


def made_again(running):
    """The topic is deleted and made again, and is then longer than before, while the process stands still or while none
    runs: a refusal must follow that says so, at the next start too, and nothing of the new topic is loaded."""

    def fault(world, times, random):
        one = world.start("a")
        await_that("some load", lambda: min(world.load.sent.values()) > 300)
        world.load.end()
        world.flow()
        for database in world.tables:
            await_that(f"the positions of {database}", lambda: world.positions(database) == world.load.sent)
        one.may_end = True
        if running:
            one.send(signal.SIGSTOP)
        else:
            one.terminate()
            one.await_exit(10, 0)
        _make_again(world)
        begun = time.monotonic()
        world.refused = True
        if running:
            one.send(signal.SIGCONT)
        else:
            one = world.start("a")
        _refuses(world, one)
        world.recoveries.append(time.monotonic() - begun)
        _refuses(world, world.start("a"))

    return fault


def _refuses(world, instance):
    """Ends with the refusals of all sinks."""
    ends_refusing(instance, _SAYS)
    for database in world.tables:
        lines = [line for line in instance.log().splitlines() if database in line and any(s in line for s in _SAYS)]
        if not lines:
            raise Failure(f"the sink {database} does not say that the topic was made again: {instance.tail()}")


def _make_again(world):
    for future in world.admin.delete_topics([world.out]).values():
        future.result(20)

    def made():
        try:
            world.create_topics(world.out)
        except Failure:
            return False
        return True

    await_that("the topic to be made again", made, pause=0.2)
    before = dict(world.load.sent)
    for partition in range(PARTITIONS):
        for _ in range(2 * before[partition] + 50):
            world.load.send_one(partition)
    world.load._producer.flush(30)
    world.load.sent = before


def retention(world, times, random):
    """Records are deleted before they are loaded: a refusal that says so, nothing is skipped."""
    one = world.start("a")
    await_that("some load", lambda: min(world.load.sent.values()) > 300)
    world.load.end()
    world.flow()
    one.terminate()
    one.await_exit(10, 0)
    before = dict(world.load.sent)
    for partition in range(PARTITIONS):
        for _ in range(50):
            world.load.send_one(partition)
    world.load._producer.flush(30)
    world.load.sent = before
    parts = [TopicPartition(world.out, p, before[p] + 10) for p in range(PARTITIONS)]
    for future in world.admin.delete_records(parts).values():
        future.result(20)
    world.refused = True
    begun = time.monotonic()
    ends_refusing(world.start("a"), ("were deleted by retention",))
    world.recoveries.append(time.monotonic() - begun)
