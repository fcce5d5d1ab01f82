"""A load's world: an Avro topic that is filled at a steady rate, tables of its own, and processes that load the one into
the others. A `LoadWorld` writes the Avro topic itself, so a record's offset is its sequence; in a `ChainWorld` pressline's
own relay fills it from raw presses."""

import functools
import ipaddress
from concurrent.futures import ThreadPoolExecutor

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition

from tests.harness.checker import Tally, Verdict, is_bad
from tests.harness.group import Group, Unanswered
from tests.harness.link import Link
from tests.harness.paths import ROOT
from tests.harness.places import Names
from tests.harness.rows import Rows, register
from tests.harness.stack import service
from tests.harness.tables import TABLES, Unreachable, patiently
from tests.harness.waiting import PATIENCE, Failure, await_that
from tests.harness.world import ADDRESSES, LOAD, PARTITIONS, PLACES, Load, World
from tests.harness.world import expected as expected_press

# What a request may take; below the session's time-out, so that a stopped owner's insert is over before the next begins.
CLICKHOUSE_TIMEOUT_MS = 3000


class LoadWorld(World):
    """Everything of one run; a context manager that leaves nothing running.

    `linked`: each process reaches its databases through links of its own (`links[instance][database]`). `dense` and
    `padding`: see `Rows`; `batch`: milliseconds by database; `window`: see `ClickHouseTable`."""

    def __init__(
        self,
        name,
        databases=tuple(TABLES),
        dense=False,
        padding=0,
        linked=False,
        batch=None,
        rate=500,
        window=None,
        **more,
    ):
        super().__init__(name, rate=rate, **more)
        self.rows = Rows(self.run, dense, padding)
        self.tables = {database: TABLES[database](self.run) for database in databases if database in TABLES}
        if "clickhouse" in self.tables:
            self.tables["clickhouse"].window = window
        self.group = f"pressline.{self.name}"
        self.letters = f"{self.out}.dead"
        self.groups = {
            database: Group(self.bootstrap, f"{self.group}.{database}", self.out, PARTITIONS) for database in databases
        }
        self.linked, self.links = linked, {}
        self.batch = {"postgres": 100, "clickhouse": 300} | (batch or {})
        # Few enough that a batch is long in its time, and PostgreSQL gets its first rows while the last are read.
        self.most_rows = {"postgres": max(int(100 * LOAD), 10)}
        self.gone = {}  # database → columns that a fault dropped
        self.stopped = set()  # databases whose sinks a fault has stopped for good
        self._newest = {}

    def topics(self):
        return [self.out, self.letters]

    def begin(self):
        for table in self.tables.values():
            table.make()
        self.schema_id = register(service("REGISTRY"), self.out)
        self.load = self._start_load()

    def _start_load(self):
        return AvroLoad(self)

    def __exit__(self, kind, *rest):
        super().__exit__(kind, *rest)
        for group in self.groups.values():
            group.close()
        for links in self.links.values():
            for link in links.values():
                link.close()
        if kind is None and not self.failures:
            for table in self.tables.values():
                try:
                    table.drop()
                except (Unreachable, Failure) as error:
                    print(f"{self.name}: {table.table} stays: {error}", flush=True)

    def _write_configuration(self):
        (self.folder / "pressline.toml").write_text(
            f'[http]\nlisten = "127.0.0.1:0"\n[kafka]\nbootstrap_servers = "{self.brokers()}"\n'
            f'[registry]\nurl = "{service("REGISTRY")}"\ntimeout_ms = 2000\n'
        )
        (self.folder / "pipelines").mkdir()
        text = self._pipeline() + "".join(self._sink(table) for table in self.tables.values())
        (self.folder / "pipelines" / f"{self.name}.toml").write_text(text)

    def _pipeline(self):
        return f'[sink]\ntopic = "{self.out}"\n'

    def _sink(self, table):
        password = self.folder / f"{table.name}.password"
        password.write_text(table.password)
        if table.name == "postgres":
            host, _, port = table.address.rpartition(":")
            where = f'host = "{host}"\nport = {port}\nsslmode = "disable"\noffsets_table = "{table.offsets}"\n'
        else:
            where = f'url = "{table.address}"\ntimeout_ms = {CLICKHOUSE_TIMEOUT_MS}\n'
        most = f"max_rows = {self.most_rows[table.name]}\n" if table.name in self.most_rows else ""
        return (
            f'[sink.{table.name}]\n{where}database = "{table.database}"\nuser = "{table.user}"\n'
            f'password_file = "{password}"\ntable = "{table.table}"\nconnect_timeout_ms = 2000\n'
            f"[sink.{table.name}.batch]\nmax_wait_ms = {self.batch[table.name]}\n{most}"
            f"[sink.{table.name}.consumer]\nmax_dead_share = 0.5\n"
        )

    def start(self, instance, fail_point=None, binary=None, **settings):
        """Starts a pressline process."""
        if self.linked:
            if instance not in self.links:
                addresses = {name: table.address.removeprefix("http://") for name, table in self.tables.items()}
                self.links[instance] = {name: Link(address) for name, address in addresses.items()}
            settings = self._ways(self.links[instance]) | settings
        return super().start(instance, fail_point, binary, **settings)

    @staticmethod
    def _ways(links):
        ways = {}
        if "postgres" in links:
            ways |= {"sink.postgres.host": "127.0.0.1", "sink.postgres.port": links["postgres"].port}
        if "clickhouse" in links:
            ways["sink.clickhouse.url"] = f"http://127.0.0.1:{links['clickhouse'].port}"
        return ways

    def start_pair(self, **settings):
        """Two live instances, both of which load into every database."""
        pair = {name: self.start(name, **settings) for name in "ab"}
        wanted = {(name, database) for name in pair for database in self.tables}

        def owned():
            self.check_running()
            return {(name, database) for name in pair for database in self.tables if owns(pair[name], database)}

        await_that("both instances to own partitions for each sink", lambda: owned() == wanted, pause=0.1)
        self.flow()
        return pair

    def newest(self, database):
        """Partition → highest sequence in the table, as far as is known."""
        try:
            found = self.tables[database].newest()
        except Unreachable:  # a fault may have seen to that
            return self._newest.get(database, {})
        self._newest[database] = found
        return found

    def is_loaded(self, database, sent):
        """Whether all of `sent` that can be in the table, or newer ones, are in it."""
        newest = self.newest(database)
        return all(newest.get(p, -1) >= self.last_sound(p, count) for p, count in sent.items())

    def last_sound(self, partition, count):
        """The last of `count` sequences that reaches the table; -1 for none."""
        return next((s for s in range(count - 1, -1, -1) if not self.is_bad(partition, s)), -1)

    def is_bad(self, partition, sequence):
        """Whether this input must become a dead letter."""
        return self.rows.is_bad(partition, sequence)

    def _await_sent(self, sent, seconds):
        left = set(self.tables) - self.stopped

        def holds():
            self.check_running()
            left.difference_update([database for database in left if self.is_loaded(database, sent)])
            return not left

        try:
            await_that("the rows", holds, seconds, pause=0.1)
        except Failure as failure:
            found = {database: self._newest.get(database) for database in left}
            raise Failure(f"{failure}: sent {sent}, in the tables {found}") from None

    def finish(self):
        """Stops the load, waits until all is loaded, stops the processes, reads the tables; a verdict of each."""
        sent = self.load.end_whole()
        try:
            self._await_sent(sent, 5 * PATIENCE)
            self._await_positions(sent)
        except Failure as failure:
            self.fail(str(failure))
        for instance in self.instances:
            instance.terminate()
        for instance in self.instances:
            try:
                instance.await_exit(10, 0)
            except Failure as failure:
                self.fail(str(failure))
        return self.left()

    def _await_positions(self, sent):
        """Dead letters at the end of a partition move only the position."""
        for database in self.tables:
            await_that(
                f"the positions of {database} to reach the end",
                lambda: (self.check_running(), self.positions(database) == sent)[1],
                pause=0.2,
            )

    def positions(self, database):
        """Partition → position, by where the sink keeps it; empty while that cannot be read. For ClickHouse only settled
        ones: a range that was begun but not ended is none."""
        try:
            if database == "postgres":
                return self.tables[database].positions()
            return {p: offset for p, (offset, note) in self.group_offsets(database).items() if "pending=" not in note}
        except Exception:  # noqa: BLE001 - database or coordinator may be away
            return {}

    def kept(self):
        """Of the ClickHouse sink: PostgreSQL's positions are in its table."""
        found = patiently(lambda: self.group_offsets("clickhouse"), "the group's offsets")
        return {partition: offset for partition, (offset, _) in found.items()}

    def group_offsets(self, database):
        """Partition → the group's committed offset and what was noted with it."""
        try:
            return self.groups[database].offsets()
        except Unanswered as error:
            raise Unreachable(str(error)) from None

    def left(self):
        """The verdict of each database by what is in it."""
        sent, letters = dict(self.load.sent), self.read_letters(self.letters)
        with ThreadPoolExecutor(len(self.tables)) as pool:
            verdicts = pool.map(lambda table: self._judge(table, sent, letters), self.tables.values())
            return dict(zip(self.tables, verdicts))

    def _judge(self, table, sent, letters) -> Verdict:
        tally = Tally(self.run, functools.partial(self.expected, table.name), self.is_bad)
        for row in patiently(lambda: list(table.rows(self.gone.get(table.name, ()))), f"the rows of {table.name}"):
            tally.written(row, (table.name, 0, 0))
            for remark in self.remarks(row):
                tally.wrong(f"session {row['session_id']}: {remark}")
        for partition, sequence in sorted(self.dead_inputs(table.name, letters)):
            tally.dead(partition, sequence, (self.letters, 0, 0))
        verdict = tally.verdict(sent)
        again = patiently(table.doubled_coordinates, "the coordinates")
        if again:
            verdict.doubled = max(verdict.doubled, again)
            verdict.examples.append(f"{again} rows of {table.table} have the coordinates of another")
        return verdict

    def expected(self, database, partition, sequence):
        """The row of an input."""
        fields = self.rows.fields(partition, sequence)
        if database == "clickhouse":
            fields |= {"_topic": self.out, "_partition": partition, "_offset": sequence}
        return {name: value for name, value in fields.items() if name not in self.gone.get(database, ())}

    @staticmethod
    def remarks(_row):
        """What is wrong with a row beyond what `expected` knows."""
        return ()

    @staticmethod
    def dead_inputs(database, letters):
        """Inputs that this sink gave up; each once, for a dead letter may be written again."""
        return {(partition, offset) for sink, partition, offset in letters if sink == database}

    def read_letters(self, topic):
        """(sink or "", partition, offset) of all dead letters of a topic, with how often each is there in the notes."""
        options = {"group.id": "faults", "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
        consumer = Consumer({"bootstrap.servers": self.bootstrap, **options})
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(PARTITIONS)])
        found, at_end = [], set()

        def read():
            for message in consumer.consume(5000, timeout=0.2):
                if message.error() is None:
                    headers = {name: (value or b"").decode() for name, value in message.headers() or []}
                    where = int(headers["pressline.partition"]), int(headers["pressline.offset"])
                    found.append((headers.get("pressline.sink", ""), *where))
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    at_end.add(message.partition())
            return len(at_end) == PARTITIONS

        await_that(f"the end of {topic}", read)
        consumer.close()
        if len(found) > len(set(found)):
            self.notes.append(f"{len(found) - len(set(found))} dead letters came again")
        return set(found)


class AvroLoad(Load):
    """Writes the Avro topic itself."""

    def record(self, partition, sequence):
        world = self._world
        return world.out, world.rows.value(world.schema_id, partition, sequence)


class ChainWorld(LoadWorld):
    """Raw presses, pressline's relay and its sinks in the same processes."""

    def __init__(self, name, **more):
        super().__init__(name, **more)
        # Loaded at full speed.
        self.most_rows = {}
        self.dead = f"{self.raw}.dead"
        self._names = Names()

    def topics(self):
        return [self.raw, self.dead, self.out, self.letters]

    def begin(self):
        for table in self.tables.values():
            table.make()
        World.begin(self)

    def _pipeline(self):
        return (
            f'[source]\ntopic = "{self.raw}"\n[output]\ntopic = "{self.out}"\n'
            f'schema = "{ROOT}/schemas/button_presses.avsc"\n[place]\nfiles = ["{ROOT}/data/demo.mmdb"]\n'
        )

    def is_bad(self, partition, sequence):
        return is_bad(partition, sequence)

    def expected(self, database, partition, sequence):
        place = PLACES.of(ipaddress.ip_address(ADDRESSES[(sequence + partition) % len(ADDRESSES)]))
        fields = expected_press(partition, sequence) | place
        return {name: value for name, value in fields.items() if name not in self.gone.get(database, ())}

    def remarks(self, row):
        """The file of places does not hold the country's name and the subdivision's code."""
        return self._names.faults(row)

    def dead_inputs(self, database, letters):
        """What the relay gave up; the sinks have nothing to refuse here."""
        found = LoadWorld.dead_inputs(database, letters)
        if found:
            self.fail(f"{database} gave up {len(found)} sound rows, such as {sorted(found)[:3]}")
        return {(partition, offset) for _, partition, offset in self._relay_letters}

    def left(self):
        """The relay's verdict beside those of the databases."""
        self._relay_letters = self.read_letters(self.dead)
        relay = World.left(self)
        return {"relay": relay} | LoadWorld.left(self)

    def _await_positions(self, sent):
        """Offsets of the topic between are not the inputs', and its partitions not theirs: that the newest of each input partition is in a
        table does not mean that all are. So they are counted."""
        sound = sum(not self.is_bad(p, s) for p, count in sent.items() for s in range(count))
        for database in set(self.tables) - self.stopped:
            await_that(
                f"all {sound} events to be in {database}",
                lambda: (self.check_running(), self._count(database) >= sound)[1],
                5 * PATIENCE,
                pause=0.5,
            )

    def _count(self, database):
        try:
            return self.tables[database].count()
        except Unreachable:  # a fault may have seen to that
            return 0


def owns(instance, database):
    """Whether this sink was given partitions in the process."""
    lines = instance.log().splitlines()
    return any("partitions assigned" in line and f".{database}" in line for line in lines)
