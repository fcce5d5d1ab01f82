"""Faults of the processes themselves that both sinks must stand: kills, stops, late writes, rebalances, outages."""

import signal
import time

from tests.harness.load_world import owns
from tests.harness.waiting import Failure, await_that
from tests.harness.world import PAST_TIMEOUTS


def stop_and_continue(world, times, random):
    """SIGSTOP past the session's time-out while the process is writing, then SIGCONT: the zombie writes nothing more."""
    pair = world.start_pair()
    for count in range(times):
        name = random.choice("ab")
        zombie, link = pair[name], world.links[name][_one_of(world, count)]
        sent = link.sent
        # As soon as it sends something the database has a part of it and not the rest.
        await_that("it to write", lambda: link.sent > sent + 1000, pause=0.001)
        begun = time.monotonic()
        zombie.send(signal.SIGSTOP)
        world.recovered(begun)
        _sleep_until(begun + PAST_TIMEOUTS)
        begun = time.monotonic()
        zombie.send(signal.SIGCONT)
        await_that("the zombie to be ready again", lambda: zombie.ready()[0] == 200)
        world.recovered(begun)


def late_write(world, times, random):
    """What a process sends to the database is held up on its way, the process stopped; when others own its partitions and
    have written what it was about to write, both go on. Nothing of the late write may count."""
    pair = world.start_pair()
    for count in range(times):
        name = random.choice("ab")
        zombie, link = pair[name], world.links[name][_one_of(world, count)]
        sent = link.sent + random.randint(0, 20_000)
        await_that("it to write", lambda: link.sent > sent, pause=0.001)
        link.hold()
        await_that("a write to be held up", lambda: link.held > 0, pause=0.001)
        begun = time.monotonic()
        zombie.send(signal.SIGSTOP)
        world.recovered(begun)
        _sleep_until(begun + PAST_TIMEOUTS)
        begun = time.monotonic()
        link.release()
        await_that("the late write to be on its way", lambda: link.held == 0)
        time.sleep(random.uniform(0, 0.5))
        zombie.send(signal.SIGCONT)
        await_that("the zombie to be ready again", lambda: zombie.ready()[0] == 200)
        world.recovered(begun)


def first_start(world, times, random):
    """Processes start for the first time at once, with nothing of theirs in the database and records waiting."""
    await_that("records to wait", lambda: min(world.load.sent.values()) > 500)
    begun = time.monotonic()
    for name in "abcd"[: 1 + times]:
        world.start(name)
    world.recovered(begun)


def outage(database, seconds=60, most_kb=250_000, growth_kb=16_000):
    """One database is away for a minute under 2,000 events a second: memory stays flat, the other sink and the relay go
    on, and the sink catches up by itself."""

    def fault(world, times, random):
        pair = world.start_pair()
        others = [name for name in world.tables if name != database]
        for _ in range(times):
            begun, sent = time.monotonic(), sum(world.load.sent.values())
            for name in pair:
                world.links[name][database].cut()
            samples = []
            while (elapsed := time.monotonic() - begun) < seconds:
                now = dict(world.load.sent)
                for other in others:
                    await_that(
                        f"{other} to go on without {database}",
                        lambda: (world.check_running(), world.is_loaded(other, now))[1],
                        pause=0.1,
                    )
                samples.append((elapsed, max(instance.memory_kb() for instance in pair.values())))
                time.sleep(0.5)
            rate = (sum(world.load.sent.values()) - sent) / (time.monotonic() - begun)
            _judge_memory(world, database, seconds, samples, rate, most_kb, growth_kb)
            await_that(f"{database} to be told of by /readyz", lambda: _names_it(pair, database))
            for name in pair:
                world.links[name][database].restore()
            begun = time.monotonic()
            world.recovered(begun, 180)

    return fault


def rebalanced_while_away(database):
    """All partitions are taken away while the sink waits for its database, the wait ends while they are nobody's, and the
    same come back: they must be read on, although the wait had paused them."""

    def fault(world, times, random):
        pair = world.start_pair()
        for count in range(times):
            patient, other = random.sample("ab", 2)
            for name in pair:
                world.links[name][database].cut()
            await_that(f"{database} to be told of by /readyz", lambda: _names_it(pair, database))
            # The group waits for a stopped member until its session ends: so long the patient one has no partitions.
            pair[other].send(signal.SIGSTOP)
            before = pair[patient].log().count("partitions revoked")
            guest = world.start(f"guest{count}")
            await_that("partitions to go", lambda: pair[patient].log().count("partitions revoked") > before, pause=0.1)
            for name in pair:
                world.links[name][database].restore()
            await_that("the group to be whole again", lambda: owns(guest, database), pause=0.1)
            begun = time.monotonic()
            pair[other].send(signal.SIGCONT)
            world.recovered(begun)
            guest.terminate()
            guest.await_exit(10, 0)

    return fault


def _judge_memory(world, database, seconds, samples, rate, most_kb, growth_kb):
    """The process fills its queues first; from a third of the time on nothing may grow any more."""
    early = max(kb for at, kb in samples if at < seconds / 3)
    late = max(kb for at, kb in samples if at >= seconds / 3)
    world.notes.append(f"without {database}: {rate:.0f} events/s, {early // 1000} MB, then {late // 1000} MB")
    if late > early + growth_kb:
        world.fail(f"memory grew from {early} kB to {late} kB while {database} was away")
    if late > most_kb:
        world.fail(f"memory is {late} kB while {database} is away")


def _names_it(pair, database):
    return all(instance.ready()[0] == 503 and database in instance.ready()[1] for instance in pair.values())


def load_all(count):
    """No fault: so many presses through the relay into every table, as fast as they go."""

    def fault(world, times, random):
        for _ in range(times):
            while sum(world.load.sent.values()) < count:
                time.sleep(0.1)
        world.load.end()
        begun = time.monotonic()
        instances = [world.start("a"), world.start("b")]
        world.recovered(begun, 240)
        world.notes.append(f"{sum(world.load.sent.values())} presses in {world.recoveries[-1]:.1f} s")
        _await_no_lag(instances)

    return fault


def _await_no_lag(instances):
    """When all is loaded every gauge of lag says 0 and stays there, the marker after the last record notwithstanding."""
    names = [f"pressline_{leg}lag_{unit}" for leg in ("", "sink_") for unit in ("records", "seconds")]
    lag = lambda: {name: sum(one.metric(name) for one in instances) for name in names}
    # The figures are librdkafka's, every 5 s: nothing must change for longer.
    settled, deadline = 0, time.monotonic() + 20
    while settled < 30:
        found = lag()
        if any(found.values()) and time.monotonic() > deadline:
            raise Failure(f"there is lag although all is loaded: {found}")
        settled = 0 if any(found.values()) else settled + 1
        time.sleep(0.2)


def _one_of(world, count):
    """The databases in turn."""
    names = list(world.tables)
    return names[count % len(names)]


def _sleep_until(moment):
    time.sleep(max(0, moment - time.monotonic()))


def ends_refusing(instance, words, seconds=60):
    """Waits for the process to end with a refusal that holds one of these texts."""
    instance.may_end = True
    code = instance.await_exit(seconds)
    if code != 1 or not any(word in instance.log() for word in words):
        raise Failure(f"ended with {code}, not with a refusal that says one of {words}: {instance.tail()}")
