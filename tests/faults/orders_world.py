"""A world with two pipelines in each process: the presses, and orders that a pipeline file's transforms filter, route to a
second topic and enrich by an address in a record of theirs.

What must become of each order is worked out here from its partition and sequence alone; nothing of it comes from pressline or
from the pipeline file.
"""

import io
import ipaddress
import json

import fastavro

from tests.harness.checker import Tally, is_bad, session_id
from tests.harness.group import Group, Unanswered
from tests.harness.paths import ROOT
from tests.harness.waiting import Failure, await_that
from tests.harness.world import ADDRESSES, PLACES, Load, Monitor, World

_BASE_US = 1_750_000_000_000_000
_DISHES = ("cod & chips", "chips & chips", "plaice & chips")
_TRANSFORMS = """
[source.fields]
order_id = "string"
order_time = "timestamp-micros"
count = "int"
order = "array<string>"
till = { name = "string", where = "string?" }

[[transforms]]
filter = "count > 0 && !till.name.startsWith('test')"

[[transforms]]
enrich = "till.where"
prefix = "till_"
fields = ["country_code", "city_name"]

[[transforms]]
route = '"plaice & chips" in order'
topic = "COOK"

[[transforms]]
rename = { "till.name" = "taken_by" }

[[transforms]]
drop = ["till"]
"""
# As the pipeline's schema is derived, without logical types, so that fastavro gives numbers as they are written.
_SCHEMA = fastavro.parse_schema(
    {
        "type": "record",
        "name": "order",
        "fields": [
            {"name": "count", "type": "int"},
            {"name": "order", "type": {"type": "array", "items": "string"}},
            {"name": "order_id", "type": "string"},
            {"name": "order_time", "type": "long"},
            {"name": "till_country_code", "type": "string"},
            {"name": "till_city_name", "type": "string"},
            {"name": "taken_by", "type": "string"},
        ],
    }
)


def address(partition, sequence):
    """Where an order's till stands; some do not say."""
    number = sequence + 2 * partition
    return None if number % 11 == 10 else ADDRESSES[number % len(ADDRESSES)]


def till(sequence):
    """The name of an order's till; those for tests are filtered out."""
    return f"test {sequence % 3}" if sequence % 7 == 3 else f"till {sequence % 5}"


def count(partition, sequence):
    """How many; of none there is nothing to do."""
    return (sequence + partition) % 4


def dishes(partition, sequence):
    """One to three."""
    first = sequence * 31 + partition
    return [_DISHES[(first + dish * dish) % 3] for dish in range(1 + sequence % 3)]


def is_filtered(partition, sequence):
    """Whether nothing is written of it. Filters stand before the lookup, so a bad address changes nothing about it."""
    return count(partition, sequence) == 0 or sequence % 7 == 3


def is_dead(partition, sequence):
    """Whether its address is none, and it gets as far as the lookup."""
    return is_bad(partition, sequence) and not is_filtered(partition, sequence)


def expected(partition, sequence):
    """What an order that is written must hold, and whether it is the cook's."""
    where = address(partition, sequence)
    place = PLACES.of(where and ipaddress.ip_address(where))
    ordered = dishes(partition, sequence)
    return {
        "count": count(partition, sequence),
        "order": ordered,
        "order_time": _BASE_US + sequence,
        "till_country_code": place["country_code"],
        "till_city_name": place["city_name"],
        "taken_by": till(sequence),
        "is the cook's": "plaice & chips" in ordered,
    }


class OrdersWorld(World):
    """The presses' world with orders beside; both must come out as they should."""

    def __init__(self, name, **more):
        super().__init__(name, **more)
        self.orders = Orders(self)

    def topics(self):
        return super().topics() + self.orders.topics()

    def _write_configuration(self):
        super()._write_configuration()
        (self.folder / "pipelines" / f"{self.orders.name}.toml").write_text(self.orders.pipeline())

    def begin(self):
        super().begin()
        self.orders.begin()

    def __exit__(self, *exception):
        try:
            self.orders.end()
        finally:
            super().__exit__(*exception)

    def _await_sent(self, sent, seconds):
        of_orders = dict(self.orders.load.sent)
        super()._await_sent(sent, seconds)
        await_that("the orders to go on", lambda: (self.check_running(), self.orders.are_out(of_orders))[1], seconds)

    def finish(self):
        self.orders.await_relayed()
        verdicts = {"presses": super().finish(), "orders": self.orders.verdict()}
        self.notes.append(f"{verdicts['orders'].filtered:,} orders filtered")
        return verdicts

    def left(self):
        return {"presses": super().left(), "orders": self.orders.verdict()}


class Orders:
    """The orders of a world: topics, pipeline, load and what is read of them."""

    def __init__(self, world):
        self._world = world
        self.run, self.bootstrap, self.partitions = world.run, world.bootstrap, world.partitions
        self.rate, self.poisoned = world.rate / 2, frozenset()
        self.name = f"{world.name}-orders"
        self.raw, self.out, self.cook = f"{self.name}-in", f"{self.name}-out", f"{self.name}-cook"
        self.dead = f"{self.raw}.dead"
        self._group = Group(self.bootstrap, f"pressline.{self.name}", self.raw, self.partitions)
        self.load = self.monitor = None

    def topics(self):
        """Topics of theirs."""
        return [self.raw, self.out, self.cook, self.dead]

    def pipeline(self):
        """Their pipeline file."""
        return (
            f'[source]\ntopic = "{self.raw}"\nformat = "json"\n{_TRANSFORMS.replace("COOK", self.cook)}'
            f'[output]\ntopic = "{self.out}"\nkey = "order_id"\n[place]\nfiles = ["{ROOT}/data/demo.mmdb"]\n'
        )

    def begin(self):
        """Starts load and reading."""
        self.load, self.monitor = OrderLoad(self), OrderMonitor(self)

    def end(self):
        """Stops both."""
        if self.load:
            self.load.end()
        if self.monitor:
            self.monitor.end()
        self._group.close()

    def are_out(self, sent):
        """Whether the last of `sent` that comes out is there, or a newer one."""
        return all(self.monitor.newest.get(p, -1) >= self._last_out(p, count) for p, count in sent.items())

    @staticmethod
    def _last_out(partition, count):
        return next((s for s in range(count - 1, -1, -1) if not is_filtered(partition, s)), -1)

    def await_relayed(self):
        """Stops the load and waits until everything is relayed: of what is filtered only the offsets tell."""
        self.load.end_whole()
        try:
            await_that("the orders' offsets to reach the end", self._is_read, pause=0.2)
        except Failure as failure:
            self._world.fail(f"{failure}: sent {self.load.sent}")

    def _is_read(self):
        self._world.check_running()
        try:
            offsets = self._group.offsets()
        except Unanswered:  # its coordinator may be busy with a member that was killed
            return False
        return {partition: offset for partition, (offset, _) in offsets.items()} == self.load.sent

    def verdict(self):
        """Reads to the end."""
        self.monitor.read_to_end()
        return self.monitor.tally.verdict(dict(self.load.sent))


class OrderLoad(Load):
    """Takes orders."""

    def record(self, partition, sequence):
        ordered = {
            "order_id": session_id(self._world.run, partition, sequence),
            "order_time": _BASE_US + sequence,
            "count": count(partition, sequence),
            "order": dishes(partition, sequence),
            "till": {
                "name": till(sequence),
                "where": "behind the counter" if is_bad(partition, sequence) else address(partition, sequence),
            },
        }
        return self._world.raw, json.dumps(ordered).encode()


class OrderMonitor(Monitor):
    """Reads both topics of orders."""

    def topics(self):
        return self._world.out, self._world.cook, self._world.dead

    def new_tally(self):
        return Tally(self._world.run, expected, is_dead, is_filtered)

    def fields(self, message):
        datum = io.BytesIO(message.value())
        if datum.read(1) != b"\0" or len(datum.read(4)) != 4:
            raise ValueError("not the Confluent wire format")
        found = fastavro.schemaless_reader(datum, _SCHEMA)
        if datum.read(1):
            raise ValueError("bytes after the end of the datum")
        if message.key() != found["order_id"].encode():
            raise ValueError(f"the key of order {found['order_id']} is {message.key()!r}")
        return found | {"session_id": found["order_id"], "is the cook's": message.topic() == self._world.cook}
