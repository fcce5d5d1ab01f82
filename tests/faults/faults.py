"""The faults. Each is a function (world, times, random) that does its fault `times` times under load; what must hold in
the end for every one of them (nothing lost, nothing duplicated, in order, right) is checked by the caller."""

import signal
import struct
import time
from dataclasses import dataclass, field
from functools import partial

from confluent_kafka import TopicPartition

from tests.faults import descriptors, poison
from tests.faults.offset_fetch import as_before, editing, without_offsets
from tests.faults.orders_world import OrdersWorld
from tests.harness import proxy
from tests.harness.proxy import Rule
from tests.harness.stack import stack
from tests.harness.waiting import PATIENCE, Failure, await_that
from tests.harness.world import BREAKABLE, PARTITIONS, PAST_TIMEOUTS, RELEASE, World

EAGER = {"kafka.consumer.partition.assignment.strategy": "range"}
# What librdkafka logs must not decide what the relay notices.
QUIET = {"log.level": "error"}
COOPERATIVE = {"kafka.consumer.partition.assignment.strategy": "cooperative-sticky"}


def kill(world, times, random):
    """kill -9 at random times: mostly under load, sometimes in the midst of the recovery from the last one."""
    pair = world.start_pair()
    for count in range(times):
        time.sleep(random.uniform(0, 1.2))
        begun = time.monotonic()
        name = random.choice("ab")
        pair[name].kill()
        pair[name] = world.start(name)
        if count % 2 or count == times - 1:
            world.recovered(begun)


def kill_at(point):
    """kill -9 at a fail point."""

    def fault(world, times, random):
        pair = world.start_pair()
        for _ in range(times):
            name = random.choice("ab")
            pair[name].terminate()
            pair[name].await_exit(10, 0)
            doomed = world.start(name, fail_point=f"{point}:{random.randint(1, 12)}", binary=BREAKABLE)
            if doomed.await_exit(60) != -signal.SIGABRT:
                raise Failure(f"{point} was not what ended it: {doomed.tail()}")
            begun = time.monotonic()
            pair[name] = world.start(name)
            world.recovered(begun)

    return fault


def stall(world, times, random):
    """kill -9 inside a transaction, with the default time-outs: the next start ends what was left open, so readers of
    committed records never wait for the transaction's time-out."""
    pair = world.start_pair()
    for _ in range(times):
        name = random.choice("ab")
        pair[name].terminate()
        pair[name].await_exit(10, 0)
        doomed = world.start(name, fail_point=f"before_commit:{random.randint(2, 12)}", binary=BREAKABLE)
        doomed.await_exit(60)
        begun = time.monotonic()
        pair[name] = world.start(name)
        world.recovered(begun)
        if world.recoveries[-1] > 5:
            world.fail(f"readers of committed records stood still for {world.recoveries[-1]:.1f} s")


def stop_and_continue(world, times, random):
    """SIGSTOP past session and transaction time-outs, then SIGCONT: the zombie commits nothing. Every other time it is
    stopped for certain inside a transaction, between a Produce and its answer; else whenever it comes."""
    pair = world.start_pair()
    for count in range(times):
        time.sleep(random.uniform(0, 0.5))
        zombie = pair[random.choice("ab")]
        if count % 2 == 0:
            answer = world.proxy.add(Rule(zombie.client, proxy.PRODUCE, "delay", "response", seconds=1))
            await_that("a Produce", answer.hit.is_set, pause=0.001)
            world.proxy.remove(answer)
        begun = time.monotonic()
        zombie.send(signal.SIGSTOP)
        world.recovered(begun)
        time.sleep(max(0, begun + PAST_TIMEOUTS - time.monotonic()))
        begun = time.monotonic()
        zombie.send(signal.SIGCONT)
        await_that("the zombie to be ready again", lambda: zombie.ready()[0] == 200)
        world.recovered(begun)


def churn(world, times, random):
    """Instances join and leave every few seconds."""
    world.start_pair()
    guests = []
    for count in range(times * 2):
        begun = time.monotonic()
        if len(guests) == 2 or guests and random.random() < 0.5:
            guests.pop(0).terminate()
        else:
            guests.append(world.start(f"guest{count % 2}{count // 2}"))
        time.sleep(random.uniform(0.7, 2.0))
        if count % 2:
            world.recovered(begun)


def same_instance(world, times, random):
    """The same instance is started a second time: one of the two leaves and says why, the other goes on."""
    world.start_pair()
    for _ in range(times):
        time.sleep(random.uniform(0, 0.3))
        twins = [i for i in world.instances if i.name == "a" and i.process.poll() is None]
        for twin in twins:
            twin.may_end = True
        begun = time.monotonic()
        twins.append(world.start("a"))
        twins[-1].may_end = True

        def ended():
            return [twin for twin in twins if twin.process.poll() is not None]

        await_that("one of the twins to leave", ended)
        world.recovered(begun)
        time.sleep(1.5)
        if len(ended()) != 1:
            raise Failure(f"{len(ended())} of two twins left: {' || '.join(twin.tail() for twin in twins)}")
        loser = ended()[0]
        if loser.process.returncode != 3 or "fenced by another process" not in loser.log():
            raise Failure(f"the loser ended with {loser.process.returncode}: {loser.tail()}")
        twins.remove(loser)
        twins[0].may_end = False


def broker_kill(world, times, random):
    """The broker is killed and started again on its data."""
    world.start_pair()

    def kill_and_restart():
        stack("kill", "kafka", "-9")
        stack("restart", "kafka")

    for _ in range(times):
        time.sleep(random.uniform(0, 0.5))
        world.recovered(world.together.do(kill_and_restart))


def broker_stop(seconds):
    """The broker stands still."""

    def fault(world, times, random):
        world.start_pair()

        def stop_and_continue():
            stack("kill", "kafka", "-STOP")
            try:
                time.sleep(seconds)
            finally:
                stack("kill", "kafka", "-CONT")

        for _ in range(times):
            time.sleep(random.uniform(0, 0.5))
            world.recovered(world.together.do(stop_and_continue))

    return fault


def terminate(world, times, random):
    """SIGTERM in mid-batch: out in under 10 s with code 0, nothing half done."""
    pair = world.start_pair()
    for _ in range(times):
        time.sleep(random.uniform(0, 0.5))
        name = random.choice("ab")
        begun = time.monotonic()
        pair[name].terminate()
        pair[name].await_exit(10, 0)
        world.notes.append(f"out after {time.monotonic() - begun:.1f} s")
        pair[name] = world.start(name)
        world.recovered(begun)


def registry_away(world, times, random):
    """The registry is away while one instance is killed and started again: it waits and says so, the other goes on."""
    pair = world.start_pair()
    for _ in range(times):
        begun = world.together.do(lambda: stack("kill", "registry", "-9"))
        name = random.choice("ab")
        pair[name].kill()
        pair[name] = world.start(name)
        await_that(
            "it to say what it waits for", lambda: pair[name].ready()[0] == 503 and "schema" in pair[name].ready()[1]
        )
        world.recovered(begun)
        begun = world.together.do(lambda: stack("restart", "registry"))
        await_that("it to be ready", lambda: pair[name].ready()[0] == 200)
        world.recovered(begun)


def black_hole(world, times, random):
    """Answers of the broker to one instance stop without a closed connection: it is unready, its memory is bounded, and
    it recovers."""
    pair = world.start_pair()
    victim = pair["a"]
    for _ in range(times):
        before = victim.memory_kb()
        begun = time.monotonic()
        direction = random.choice(["request", "response"])
        world.proxy.black_hole(victim.client, [direction])
        await_that("it to be unready", lambda: victim.ready()[0] == 503)
        if direction == "request":  # else the group hears its heartbeats and waits for it, as it must
            world.recovered(begun)
        time.sleep(random.uniform(0, 2))
        grown = victim.memory_kb("VmHWM") - before
        if grown > 80_000:
            world.fail(f"grew by {grown} kB behind a black hole")
        begun = time.monotonic()
        world.proxy.lift(victim.client)
        await_that("it to be ready again", lambda: victim.ready()[0] == 200)
        world.recovered(begun)


def silent_about_topics(world, times, random):
    """The brokers do not say whether the topic is still the same one, which each batch asks on a topic so quiet: batches wait for
    the answer, and nobody leaves the group for it."""
    pair = world.start_pair()
    counts = ("pressline_rebalances_total", "pressline_worker_restarts_total")

    def count():
        return [one.metric(name) for one in pair.values() for name in counts]

    for _ in range(times):
        # Both have partitions, but the last round of a cooperative rebalance, which moves none, may still come.
        before, now = None, count()
        while before != now:
            time.sleep(2)
            before, now = now, count()
        begun = time.monotonic()
        rule = world.proxy.add(Rule(pair["a"].client, proxy.METADATA, "drop", times=None))
        await_that("it to ask about the topic", rule.hit.is_set)
        time.sleep(13)  # a question may take 10
        world.proxy.remove(rule)
        world.recovered(begun)
        after = count()
        if after != before:
            world.fail(f"the group was disturbed: {before} became {after}")


def black_hole_at_offsets(world, times, random):
    """Requests to the broker vanish from the moment on in which a transaction's offsets are sent: it is unready within the
    transaction's time, also while the broker stays away, and recovers."""
    pair = world.start_pair()
    victim = pair["a"]
    for _ in range(times):
        lost = world.proxy.add(Rule(victim.client, proxy.TXN_OFFSET_COMMIT, "drop"))
        await_that("a TxnOffsetCommit", lost.hit.is_set, pause=0.001)
        begun = time.monotonic()
        world.proxy.black_hole(victim.client, ["request"])
        try:
            await_that("it to be unready", lambda: victim.ready()[0] == 503, 30)
            world.notes.append(f"unready after {time.monotonic() - begun:.1f} s")
        finally:
            world.proxy.remove(lost)
            world.proxy.lift(victim.client)
        begun = time.monotonic()
        await_that("it to be ready again", lambda: victim.ready()[0] == 200)
        world.recovered(begun)


def forgotten_offsets(world, times, random):
    """The coordinator answers without an error what it has not: offsets of before to an instance that takes over the other's
    partitions, then none at all to one that starts. Both wait until it answers as it should."""
    pair = world.start_pair()
    for _ in range(times):
        begun = time.monotonic()
        stale = _hand_over(world, pair, random)
        await_that("an OffsetFetch", stale.hit.is_set)
        time.sleep(random.uniform(1, 2))
        _remembers(world, stale)
        world.recovered(begun)
        begun = time.monotonic()
        _leave(pair["a"])
        gone = _forgets(world, pair["a"], without_offsets)
        pair["a"] = world.start("a")
        await_that("an OffsetFetch", gone.hit.is_set)
        time.sleep(random.uniform(0.5, 1.5))
        _remembers(world, gone)
        pair["b"] = world.start("b")
        world.recovered(begun)


def lost_offsets(world, times, random):
    """The coordinator goes on answering offsets of before: who takes over the other's partitions refuses, in words, and begins
    nowhere; started again when the coordinator has them, it goes on."""
    pair = world.start_pair()
    for _ in range(times):
        begun = time.monotonic()
        pair["a"].may_end = True
        stale = _hand_over(world, pair, random)
        code = pair["a"].await_exit(PATIENCE)
        if code != 1 or "but this process has committed" not in pair["a"].log():
            raise Failure(f"ended with {code}, not with a refusal: {pair['a'].tail()}")
        _remembers(world, stale)
        pair |= {name: world.start(name) for name in "ab"}
        world.recovered(begun)


def _hand_over(world, pair, random):
    """The one leaves its partitions to the other, which is told offsets of before; the rule that does so."""
    before = world.kept()

    def both_went_on():
        now = world.kept()
        owns_some = pair["a"].metric("pressline(?:_sink)?_assigned_partitions") > 0
        return owns_some and all(now.get(partition, 0) > offset for partition, offset in before.items())

    # Of partitions that it never had, the one that stays can know nothing; what it has committed itself tells it.
    await_that("both to go on", both_went_on, pause=0.1)
    time.sleep(random.uniform(0, 0.5))
    stale = _forgets(world, pair["a"], as_before(before))
    _leave(pair["b"])
    return stale


def _leave(instance):
    """At once, so that the next assignment is not waited for."""
    instance.terminate()
    instance.await_exit(10, 0)


def _forgets(world, instance, change):
    edit = editing(change)
    return world.proxy.add(Rule(instance.client, proxy.OFFSET_FETCH, "edit", "response", times=None, edit=edit))


def _remembers(world, rule):
    world.proxy.remove(rule)
    if rule.error:
        raise Failure(f"an answer could not be edited: {rule.error!r}")


def refused(harm, running):
    """The ingress topic is harmed, while the process stands still or while none runs: a refusal must follow that says
    what happened, at the next start too, and nothing is skipped."""

    def fault(world, times, random):
        for _ in range(times):
            _refusing(world, harm, running)

    return fault


def _refusing(world, harm, running):
    one = world.start("a")
    await_that("some load", lambda: min(world.load.sent.values()) > 300)
    world.load.end()
    world.flow()
    await_that("the offsets", lambda: world.committed() == world.load.sent)
    if not running:
        one.terminate()
        one.await_exit(10, 0)
    else:
        one.may_end = True
        one.send(signal.SIGSTOP)
    begun = time.monotonic()
    words = harm(world)
    if running:
        one.send(signal.SIGCONT)
    else:
        one = world.start("a")
        one.may_end = True
    code = one.await_exit(60)
    world.recoveries.append(time.monotonic() - begun)
    if code != 1 or not any(word in one.log() for word in words):
        raise Failure(f"ended with {code}, not with a refusal that says {words}: {one.tail()}")
    again = world.start("a")
    again.may_end = True
    if again.await_exit(60) != 1 or not any(word in again.log() for word in words):
        raise Failure(f"the next start did not refuse: {again.tail()}")
    world.refused = True


def _make_again(world):
    """The topic is deleted and made again, and is then longer than before."""
    for future in world.admin.delete_topics([world.raw]).values():
        future.result(20)

    def made():
        try:
            world.create_topics(world.raw)
        except Failure:
            return False
        return True

    await_that("the topic to be made again", made, pause=0.2)
    _send_more(world, 2)
    return ("was deleted and made again", "has no committed offsets", "lies past the topic's end")


def _pass_position(world):
    """Records are sent, and deleted as retention does before they are relayed, except the last."""
    _send_more(world, 1)
    low = {p: world.load.sent[p] + 10 for p in range(PARTITIONS)}
    parts = [TopicPartition(world.raw, p, offset) for p, offset in low.items()]
    for future in world.admin.delete_records(parts).values():
        future.result(20)
    # A fetch may have been answered before they were deleted: what follows the position without a gap is no skip.
    world.may_go_on = True
    return ("were deleted by retention",)


def _send_more(world, factor):
    """More records, beyond those that count."""
    before = dict(world.load.sent)
    # The first alone: it answers the fetch that waits at the broker, which so has none of the others.
    for count in (lambda _: 1, lambda sent: factor * sent + 50):
        for partition, sent in before.items():
            for _ in range(count(sent)):
                world.load.send_one(partition)
        world.load._producer.flush(30)
    world.load.sent = before


def held_end_txn(world, times, random):
    """An EndTxn is held until the client's next transaction has written something, and sent on before its offsets are;
    then the client is killed. Were the late EndTxn to hit the new transaction, its records would come twice."""
    pair = world.start_pair()
    for _ in range(times):
        begun = _comes_late(world, pair["a"], world.proxy.add(Rule(pair["a"].client, proxy.END_TXN, "hold")))
        pair["a"] = world.start("a")
        world.recovered(begun)


def held_end_txn_closed(world, times, random):
    """The same where the connection is closed as well, for the second time in half a minute: librdkafka sends the EndTxn
    again on another one, within milliseconds, and is silent about it."""
    pair = world.start_pair()
    for _ in range(times):
        for last in (False, True):
            # Of connections younger than two seconds librdkafka complains in other words, which it would not suppress.
            time.sleep(2.5)
            late = world.proxy.add(Rule(pair["a"].client, proxy.END_TXN, "hold-and-close"))
            begun = time.monotonic()
            if last:
                begun = _comes_late(world, pair["a"], late)
                pair["a"] = world.start("a")
            else:
                await_that("an EndTxn", late.hit.is_set)
                world.proxy.remove(late)
            world.recovered(begun)


def _comes_late(world, instance, late):
    """The EndTxn that the rule holds comes in the next transaction, before its offsets; then the client is killed. When."""
    await_that("an EndTxn", late.hit.is_set)
    written = world.proxy.add(Rule(instance.client, proxy.PRODUCE, "pass", "response"))
    offsets = world.proxy.add(Rule(instance.client, proxy.ADD_OFFSETS, "hold"))
    await_that("the next transaction", lambda: written.hit.is_set() and offsets.hit.is_set())
    answer = world.proxy.release(late)[0]
    code = struct.unpack_from(">h", answer, 12)[0] if answer else None
    world.notes.append(f"the late EndTxn was answered with error {code}")
    if code == 0:
        world.fail("a late EndTxn was accepted while the next transaction was open")
    begun = time.monotonic()
    instance.kill()
    for rule in (late, written, offsets):
        world.proxy.remove(rule)
    return begun


def unanswered_end_txn(world, times, random):
    """EndTxn is done but never answered, until the client gives up: it must ask what became of it."""
    pair = world.start_pair()
    for _ in range(times):
        already = pair["a"].metric("pressline_transactions_aborted_total")
        begun = time.monotonic()
        rule = world.proxy.add(Rule(pair["a"].client, proxy.END_TXN, "drop", "response", times=None))
        try:
            await_that("it to give up", lambda: pair["a"].metric("pressline_transactions_aborted_total") > already)
        finally:
            world.proxy.remove(rule)
        world.recovered(begun)


def late_init(world, times, random):
    """An InitProducerId goes astray, is sent again, and comes when the producer's transactions are under way: the broker takes
    it for another process's. The instance knows better and goes on."""
    pair = world.start_pair()
    for _ in range(times):
        begun = time.monotonic()
        late = world.proxy.add(Rule(pair["a"].client, proxy.INIT_PRODUCER_ID, "hold"))
        pair["a"].kill()
        pair["a"] = world.start("a")
        await_that("an InitProducerId", late.hit.is_set)
        await_that("it to be ready", lambda: pair["a"].ready()[0] == 200)
        world.recovered(begun)
        begun = time.monotonic()
        request = late.held[0][1]
        answer = world.proxy.release(late)[0]
        if answer is None:
            raise Failure("the late InitProducerId was not answered")
        code = struct.unpack_from(">h", answer, 13 if struct.unpack_from(">h", request, 6)[0] >= 2 else 12)[0]
        world.notes.append(f"the late InitProducerId was answered with error {code}")
        if code == 0:  # else it came in the midst of a commit, which the broker lets end first
            await_that(
                "it to be thrown out", lambda: (world.check_running(), "transaction aborted" in pair["a"].log())[1]
            )
        world.recovered(begun)
        world.proxy.remove(late)


def lost_answer(api):
    """One answer of the broker is lost."""

    def fault(world, times, random):
        pair = world.start_pair()
        for _ in range(times):
            disturb(world, pair, random, Rule(pair["a"].client, api, "drop", "response"))

    return fault


def cuts(api):
    """Requests or responses of one API are lost, late (longer than the client waits) or cut in the middle."""

    def fault(world, times, random):
        pair = world.start_pair()
        for _ in range(times):
            action, stage = random.choice(["drop", "delay", "cut"]), random.choice(["request", "response"])
            rule = Rule(
                pair["a"].client, api, action, stage, times=random.choice([1, 1, 2]), seconds=random.uniform(0.5, 3)
            )
            disturb(world, pair, random, rule)

    return fault


def disturb(world, pair, random, rule):
    """Waits until the rule hit and its effects are over."""
    begun = time.monotonic()
    world.proxy.add(rule)
    if rule.api == proxy.INIT_PRODUCER_ID:  # asked at a start only
        pair["a"].kill()
        pair["a"] = world.start("a")
    await_that(f"a {proxy.NAMES[rule.api]}", rule.hit.is_set)
    time.sleep(random.uniform(0, 0.3))
    world.recovered(begun)
    world.proxy.remove(rule)


@dataclass
class Fault:
    """A fault's place in the suites."""

    name: str
    do: object
    test: int = 2  # times in `test`; 0: not in it
    soak: int = 200
    at_once: int = 5  # times in one run of it
    alone: bool = False  # it disturbs a service that others use
    by_itself: bool = False  # and it cannot hit several worlds at once
    proxied: bool = False
    breakable: bool = False
    settings: dict = field(default_factory=dict)
    world: object = World  # makes the world it is done to

    @property
    def binary(self):
        """What is put to the test: the release, unless the fault is in the process itself."""
        return BREAKABLE if self.breakable else RELEASE


_POINTS = ("after_produce", "after_send_offsets", "before_commit", "during_end_txn", "after_commit")
_PATIENT = {"source.static_membership": "true"} | dict.fromkeys(
    (
        "kafka.producer.message.timeout.ms",
        "kafka.producer.transaction.timeout.ms",
        "kafka.consumer.session.timeout.ms",
        "kafka.consumer.max.poll.interval.ms",
    )
)

FAULTS = [
    Fault("kill", kill, test=10, soak=1000, at_once=10),
    *(Fault(f"kill-{point.replace('_', '-')}", kill_at(point)) for point in _POINTS),
    # The same to a pipeline of transforms beside the presses.
    Fault("kill-orders", kill, test=5, at_once=10, world=OrdersWorld),
    Fault("stall", stall, settings=_PATIENT),
    Fault("stop-and-continue", stop_and_continue, proxied=True),
    Fault("churn-eager", churn, settings=EAGER),
    Fault("churn-cooperative", churn, settings=COOPERATIVE),
    Fault("same-instance", same_instance),
    Fault("terminate", terminate),
    Fault("poison", poison.poison, settings=poison.SETTINGS, soak=20),
    Fault("descriptors", descriptors.exhausted, settings=descriptors.SETTINGS, soak=20),
    Fault("topic-made-again-running", refused(_make_again, True), at_once=1),
    Fault("topic-made-again-away", refused(_make_again, False), at_once=1),
    Fault("retention-running", refused(_pass_position, True), at_once=1),
    Fault("retention-away", refused(_pass_position, False), at_once=1),
    Fault("held-end-txn", held_end_txn, proxied=True),
    Fault("held-end-txn-closed", held_end_txn_closed, test=1, proxied=True),
    Fault("held-end-txn-quiet", held_end_txn, test=1, proxied=True, settings=QUIET),
    Fault("held-end-txn-closed-quiet", held_end_txn_closed, test=1, proxied=True, settings=QUIET),
    Fault("lost-offset-commit-answer", lost_answer(proxy.TXN_OFFSET_COMMIT), proxied=True),
    Fault("late-init", late_init, proxied=True),
    Fault("unanswered-end-txn", unanswered_end_txn, test=0, proxied=True),
    *(Fault(f"cuts-{name}", cuts(api), test=0, proxied=True) for api, name in proxy.NAMES.items()),
    *(
        Fault(f"cuts-{name}-quiet", cuts(api), test=0, soak=20, proxied=True, settings=QUIET)
        for api, name in proxy.NAMES.items()
    ),
    Fault("black-hole", black_hole, proxied=True),
    Fault("silent-about-topics", silent_about_topics, test=1, soak=20, proxied=True, world=partial(World, rate=10)),
    # Where librdkafka alone waits for ever (confluentinc/librdkafka#5456).
    Fault("black-hole-at-offsets", black_hole_at_offsets, test=1, proxied=True),
    Fault("forgotten-offsets", forgotten_offsets, proxied=True, settings={"source.start": "beginning"}),
    Fault("lost-offsets", lost_offsets, test=0, soak=5, at_once=1, proxied=True),
    Fault("registry-away", registry_away, alone=True),
    Fault("broker-kill", broker_kill, alone=True),
    Fault("broker-stop", broker_stop(12), soak=0, alone=True),
    Fault("broker-stop-30", broker_stop(30), test=0, alone=True),
]
BY_NAME = {fault.name: fault for fault in FAULTS}

# Mutant → the fault that must catch it, and what catching it looks like.
MUTANTS = {
    "auto_commit": "kill",
    "rewind_from_memory": "unanswered-end-txn",
    "keep_producer": "held-end-txn",
    "log_as_shown": "held-end-txn-closed",
    "poll_inside": "churn-eager",
    "position_left": "kill",
    "random_transactional_id": "stall",
    "floor_ignored": "forgotten-offsets",
    "absence_believed": "forgotten-offsets",
    "http_gives_up": "descriptors",
}
