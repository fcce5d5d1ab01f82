"""One run's world: topics, group and configuration of its own, a steady load, pressline processes, and the reading of
what came out while it comes out."""

import io
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import fastavro
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.harness.checker import Tally, is_bad, session_id
from tests.harness.group import Group, Unanswered
from tests.harness.paths import ROOT
from tests.harness.places import Places
from tests.harness.stack import service
from tests.harness.together import Together
from tests.harness.waiting import PATIENCE, Failure, await_that

FOLDER = ROOT / "target" / "faults"
RELEASE = Path(os.environ.get("PRESSLINE_FAULTS_RELEASE", ROOT / "target" / "release" / "pressline"))
# With the features fail-points and mutants; see the Makefile.
BREAKABLE = Path(os.environ.get("PRESSLINE_FAULTS_BREAKABLE", FOLDER / "pressline"))
PARTITIONS = 4
# Kafka's own waits, as short as their order allows: request < message < transaction < session.
SHORT = {
    "kafka.properties.socket.timeout.ms": 2000,
    "kafka.producer.message.timeout.ms": 2500,
    "kafka.producer.transaction.timeout.ms": 3000,
    "kafka.consumer.session.timeout.ms": 4000,
    "kafka.consumer.heartbeat.interval.ms": 400,
    # As long a rebalance waits for members that are no more, where the coordinator does not notice it: see docs/operations.md.
    "kafka.consumer.max.poll.interval.ms": 30_000,
}
# Past all of these, with what the broker adds to them (it looks for dead transactions once a second).
PAST_TIMEOUTS = 6.5
# Of the usual events a second; less where many runs go on at once, whose own work would be most of the machine's.
LOAD = float(os.environ.get("PRESSLINE_FAULTS_LOAD", 1))
# Seconds for which records that are sent wait for others. Not less, since librdkafka spins in the last millisecond of each wait: with
# short ones most of the machine was the harness's.
LINGER = 0.1
# How often a world's threads look: where many go on at once, their looking would be most of the machine's work.
TICK = 0.02 if LOAD > 0.5 else 0.05 if LOAD > 0.05 else 0.15
_BASE_US = 1_750_000_000_000_000
_ACTIONS = ("EnterPage", "PressButton", "ExitPage")
PLACES = Places([str(ROOT / "data" / "demo.mmdb")])
# A few that the demo database knows, and some that no database can.
_ADDRESSES = ("10.1.2.3", "192.168.7.7", "127.0.0.1", "fd00::1")


def count_uncommitted(bootstrap, topic):
    """Records of a topic, those of aborted transactions too: that there are some shows that a fault hit one."""
    options = {
        "group.id": "faults",
        "enable.partition.eof": True,
        "isolation.level": "read_uncommitted",
        "log_level": 0,
    }
    consumer = Consumer({"bootstrap.servers": bootstrap, "enable.auto.commit": False, **options})
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    count, ends, deadline = 0, 0, time.monotonic() + PATIENCE
    while ends < PARTITIONS and time.monotonic() < deadline:
        messages = consumer.consume(10_000, timeout=0.1)
        errors = sum(message.error() is not None for message in messages)
        count, ends = count + len(messages) - errors, ends + errors
    consumer.close()
    return count


def known_addresses():
    """Addresses of the demo database, found by asking it, and special ones."""
    import maxminddb

    found = []
    with maxminddb.open_database(str(ROOT / "data" / "demo.mmdb")) as reader:
        for network, record in reader:
            if record.get("city") and PLACES.of(network[0])["country_code"] != "--":
                found.append(str(network[0]))
            if len(found) == 40:
                break
    return (*found[::3], *_ADDRESSES)


ADDRESSES = known_addresses()


def expected(partition, sequence):
    """What the output must hold for a sound input."""
    address = ADDRESSES[(sequence + partition) % len(ADDRESSES)]
    place = PLACES.of(ipaddress.ip_address(address))
    return {
        "timestamp": _BASE_US + sequence,
        "cohort": sequence % 5 or None,
        "action": _ACTIONS[sequence % 3],
        **{name: place[name] for name in ("country_code", "subdivision_name", "city_name")},
    }


def press(run, partition, sequence):
    """An input's value."""
    fields = {
        "session_id": session_id(run, partition, sequence),
        "timestamp": _BASE_US + sequence,
        "cohort": sequence % 5 or None,
        "action": "Nonsense" if is_bad(partition, sequence) else _ACTIONS[sequence % 3],
        "ip": ADDRESSES[(sequence + partition) % len(ADDRESSES)],
    }
    return json.dumps(fields, separators=(",", ":")).encode()


class World:
    """Everything of one run; a context manager that leaves nothing running."""

    def __init__(
        self, name, rate=1000, settings=None, proxied=False, mutant=None, binary=RELEASE, partitions=PARTITIONS
    ):
        self.run = int.from_bytes(os.urandom(4), "big")
        self.name = f"{name}-{self.run:08x}"
        self.bootstrap = service("BOOTSTRAP")
        self.raw, self.out = f"{self.name}-raw", f"{self.name}-out"
        self.dead = f"{self.raw}.dead"
        self.group = f"pressline.{self.name}"
        self.rate, self.mutant, self.partitions = rate * LOAD, mutant, partitions
        self.binary = BREAKABLE if mutant else binary
        self.settings = {**SHORT, **(settings or {})}
        self.proxied = proxied
        self.folder = FOLDER / "runs" / self.name
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        self.relay_group = Group(self.bootstrap, self.group, self.raw, partitions)
        self.instances = []
        self.recoveries, self.failures, self.notes = [], [], []
        self.load = self.monitor = None
        self.poisoned = set()  # further (partition, sequence) that must become dead letters
        self.refused = self.may_go_on = False  # it must not run any more; a skip of what was deleted is none
        self.proxy = None
        self.together = Together(1)  # with the worlds that a service's fault hits at once

    def __enter__(self):
        self.folder.mkdir(parents=True)
        self.create_topics(*self.topics())
        self._write_configuration()
        self.begin()
        return self

    def topics(self):
        """Topics that are made at the start and deleted at the end."""
        return [self.raw, self.out, self.dead]

    def begin(self):
        """Starts load and reading."""
        self.load = Load(self)
        self.monitor = Monitor(self)

    def __exit__(self, kind, *_):
        try:
            if self.load:
                self.load.end()
        finally:
            for instance in self.instances:
                instance.kill()
            if self.monitor:
                self.monitor.end()
            self.relay_group.close()
        if kind is None and not self.failures:
            shutil.rmtree(self.folder, ignore_errors=True)
            for future in self.admin.delete_topics(self.topics()).values():
                try:
                    future.result(20)
                except Exception:  # noqa: BLE001 - one may be gone, which was the test
                    pass

    def create_topics(self, *topics):
        """Makes topics of the world's number of partitions."""
        for topic, future in self.admin.create_topics([NewTopic(t, self.partitions, 1) for t in topics]).items():
            try:
                future.result(30)
            except Exception as error:  # noqa: BLE001
                raise Failure(f"topic {topic} cannot be made: {error}") from None

    def brokers(self):
        """Where pressline finds the broker."""
        return service("BOOTSTRAP_PROXIED") if self.proxied else self.bootstrap

    def _write_configuration(self):
        (self.folder / "pressline.toml").write_text(
            f'[http]\nlisten = "127.0.0.1:0"\n[kafka]\nbootstrap_servers = "{self.brokers()}"\n'
            f'[registry]\nurl = "{service("REGISTRY")}"\ntimeout_ms = 2000\n'
        )
        (self.folder / "pipelines").mkdir()
        (self.folder / "pipelines" / f"{self.name}.toml").write_text(
            f'[source]\ntopic = "{self.raw}"\n[output]\ntopic = "{self.out}"\n'
            f'schema = "{ROOT}/schemas/button_presses.avsc"\n[place]\nfiles = ["{ROOT}/data/demo.mmdb"]\n'
        )

    def start(self, instance, fail_point=None, binary=None, **settings):
        """Starts a pressline process."""
        started = Instance(self, instance, fail_point, binary or self.binary, settings)
        self.instances.append(started)
        return started

    def start_pair(self, **settings):
        """Two live instances with records flowing through both."""
        pair = {}
        for name in "ab":
            pair[name] = self.start(name, **settings)

        def both():
            self.check_running()
            return all(instance.has_partitions() for instance in pair.values())

        await_that("both instances to own partitions", both)
        self.flow()
        return pair

    def flow(self, seconds=PATIENCE):
        """Waits until what was sent by now is visible; without a fault before it, it counts as no recovery."""
        self._await_sent(dict(self.load.sent), seconds)

    def recovered(self, since, seconds=PATIENCE):
        """Waits until all that was sent by now is visible; notes how long after `since` that was."""
        self._await_sent(dict(self.load.sent), seconds)
        self.recoveries.append(time.monotonic() - since)

    def _await_sent(self, sent, seconds):
        def holds():
            self.check_running()
            return all(self.monitor.newest.get(p, -1) >= count - 1 for p, count in sent.items())

        await_that("the output to go on", holds, seconds)

    def check_running(self):
        """No process that should run has ended."""
        for instance in self.instances:
            if not instance.may_end and instance.process.poll() is not None:
                raise Failure(f"instance {instance.name} ended with {instance.process.returncode}: {instance.tail()}")

    def fail(self, text):
        """Notes what is wrong; the run goes on to its verdict."""
        self.failures.append(text)

    def finish(self):
        """Stops the load, waits until all is relayed, stops the processes, reads to the end; the verdict."""
        sent = self.load.end_whole()
        try:
            await_that(
                "the group's offsets to reach the end",
                lambda: (self.check_running(), self.committed() == sent)[1],
                pause=0.2,
            )
        except Failure as failure:
            self.fail(f"{failure}: {self.committed()} of {sent}")
        for instance in self.instances:
            instance.terminate()
        for instance in self.instances:
            instance.await_exit(10, 0)
        self.monitor.read_to_end()
        return self.monitor.tally.verdict(sent)

    def left(self):
        """The verdict where nothing runs any more: what was relayed before must be all there is."""
        self.monitor.read_to_end()
        sent = dict(self.load.sent)
        if self.may_go_on:
            sent = {p: max(count, self.monitor.newest.get(p, -1) + 1) for p, count in sent.items()}
        return self.monitor.tally.verdict(sent)

    def kept(self):
        """Committed offsets that something rests on."""
        return self.committed()

    def committed(self):
        """Committed offset of each partition."""
        try:
            return {partition: offset for partition, (offset, _) in self.relay_group.offsets().items()}
        except Unanswered:
            return {}


class Load:
    """Sends to all partitions at a steady rate until its end; a record's offset is its sequence."""

    def __init__(self, world):
        self._world = world
        self.sent = dict.fromkeys(range(world.partitions), 0)
        self.failed, self.error = 0, None
        self._settled = 0
        self._stop = threading.Event()
        self._producer = Producer(
            {"bootstrap.servers": world.bootstrap, "enable.idempotence": True, "linger.ms": LINGER * 1000, "log_level": 0}
        )
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _delivered(self, error, _message):
        self._settled += 1
        if error is not None:
            self.failed, self.error = self.failed + 1, error

    def _send(self):
        # The first record of each partition alone: where a partition was made a moment ago, a busy broker may refuse one batch and
        # take the next, and librdkafka then believes that both are there. (A partition that knows the producer refuses gaps.)
        for partition in self.sent:
            self.send_one(partition)
        self._producer.flush(60)
        most_under_way = max(3 * LINGER * self._world.rate / self._world.partitions, 20)
        begun, due = time.monotonic(), 0
        while not self._stop.is_set():
            due = int((time.monotonic() - begun) * self._world.rate / self._world.partitions)
            # After a stall, not all that was missed at once.
            due = min(due, self.sent[0] + 200)
            # Nor more at once than three batches of a partition: while five wait for a broker and a sixth is due, librdkafka's thread
            # spins, and the broker, slow since the machine is busy, gets slower by that.
            due = min(due, self._settled // self._world.partitions + most_under_way)
            while self.sent[0] < due:
                for partition in self.sent:
                    self.send_one(partition)
            self._producer.poll(0)
            time.sleep(TICK)
        self._producer.flush(60)

    def send_one(self, partition):
        """One more record to a partition."""
        sequence = self.sent[partition]
        topic, *record = self.record(partition, sequence)
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                self._producer.produce(topic, *record, partition=partition, on_delivery=self._delivered)
                break
            except BufferError:
                self._producer.poll(0.1)
            except KafkaException as error:  # the producer may have looked while the topic was being made again
                if error.args[0].code() != KafkaError._UNKNOWN_TOPIC or time.monotonic() > deadline:
                    raise
                self._producer.poll(0.1)
        self.sent[partition] = sequence + 1

    def record(self, partition, sequence):
        """Topic and value of a record, and its key where it has one."""
        return self._world.raw, press(self._world.run, partition, sequence)

    def end(self):
        """Stops; returns when all is delivered."""
        self._stop.set()
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise Failure("the harness could not send its last records")

    def end_whole(self):
        """The same where nothing may be missing; what was sent, by partition."""
        self.end()
        if self.failed:
            raise Failure(f"the harness could not send {self.failed} records: {self.error}")
        return dict(self.sent)


class Monitor:
    """Reads output and dead letters, read_committed, as they come."""

    def __init__(self, world):
        self._world = world
        self.tally = self.new_tally()
        self.newest = {}  # input partition → highest sequence seen
        self.gaps = {}  # input partition → longest seconds between two outputs, since somebody cleared it
        self._seen_at = {}
        self._schemas = {}
        self._stop = threading.Event()
        self._asked, self._ended = threading.Event(), threading.Event()
        self.error = None
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def topics(self):
        """What is read."""
        return self._world.out, self._world.dead

    def new_tally(self):
        """Holds what comes out against what must."""
        return Tally(self._world.run, expected, lambda p, s: is_bad(p, s) or (p, s) in self._world.poisoned)

    def fields(self, message):
        """The fields of an output; raises ValueError where they cannot be read."""
        return self._decode(message.value())

    def _read(self):
        try:
            self._read_until_told()
        except Exception as error:  # noqa: BLE001 - told where it is waited for
            self.error = error
            self._ended.set()

    def _read_until_told(self):
        consumer = Consumer(
            {
                "bootstrap.servers": self._world.bootstrap,
                "group.id": "faults",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "auto.offset.reset": "error",
                "fetch.wait.max.ms": 50,
                "log_level": 0,
            }
        )
        everything = [TopicPartition(t, p, OFFSET_BEGINNING) for t in self.topics() for p in range(self._world.partitions)]
        consumer.assign(everything)
        at_end, ending = set(), False
        while not self._stop.is_set():
            for message in consumer.consume(2000, timeout=TICK):
                key = message.topic(), message.partition()
                if message.error() is None:
                    at_end.discard(key)
                    self._see(message)
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    at_end.add(key)
                elif not message.error().retriable() and message.error().code() not in (
                    KafkaError._ALL_BROKERS_DOWN,
                    KafkaError._TRANSPORT,
                ):
                    raise Failure(f"{key}: {message.error()}")
            if self._asked.is_set():
                # Ends that were reported before mean nothing now: from where it stands, each must be reached again.
                self._asked.clear()
                at_end.clear()
                consumer.assign(self._positions(consumer, everything))
                ending = True
            if ending and len(at_end) == len(everything):
                self._ended.set()
        consumer.close()

    @staticmethod
    def _positions(consumer, everything):
        positions = consumer.position(everything)
        return [
            TopicPartition(p.topic, p.partition, p.offset if p.offset >= 0 else OFFSET_BEGINNING) for p in positions
        ]

    def _see(self, message):
        where = message.topic(), message.partition(), message.offset()
        if message.topic() == self._world.dead:
            headers = {name: (value or b"").decode() for name, value in message.headers() or []}
            partition, sequence = int(headers["pressline.partition"]), int(headers["pressline.offset"])
            self.tally.dead(partition, sequence, where)
        else:
            try:
                fields = self.fields(message)
            except (ValueError, EOFError, IndexError, TypeError) as error:
                self.tally.undecodable(f"{where}: {error}")
                return
            seen = self.tally.written(fields, where)
            if seen is None:
                return
            partition, sequence = seen
        if sequence > self.newest.get(partition, -1):
            self.newest[partition] = sequence
        self._note_gap(partition)

    def _note_gap(self, partition):
        now = time.monotonic()
        self.gaps[partition] = max(self.gaps.get(partition, 0), now - self._seen_at.get(partition, now))
        self._seen_at[partition] = now

    def _decode(self, value):
        if not value or value[0] != 0:
            raise ValueError("not the Confluent wire format")
        schema = self._schema(int.from_bytes(value[1:5], "big"))
        datum = io.BytesIO(value)
        datum.seek(5)
        fields = fastavro.schemaless_reader(datum, schema)
        if datum.tell() != len(value):
            raise ValueError("bytes after the end of the datum")
        return fields

    def _schema(self, number):
        if number not in self._schemas:
            # From the file, not the registry, which may be away; the number was given for this file's schema.
            schema = json.loads((ROOT / "schemas" / "button_presses.avsc").read_text())
            for item in schema["fields"]:
                if isinstance(item["type"], dict):
                    item["type"] = item["type"]["type"]
            self._schemas[number] = fastavro.parse_schema(schema)
        return self._schemas[number]

    def read_to_end(self):
        """Returns when everything committed was read."""
        self._asked.set()
        if not self._ended.wait(PATIENCE):
            raise Failure("the end of the output was not reached")
        if self.error:
            raise Failure(f"reading the output: {self.error!r}")

    def end(self):
        """Stops. librdkafka may hang in closing a consumer after its broker was disturbed: that is not waited for."""
        self._stop.set()
        self._thread.join(PATIENCE)


class Instance:
    """A pressline process."""

    def __init__(self, world, name, fail_point, binary, settings):
        self.name, self.client = name, f"{world.name}-{name}"
        self.may_end = fail_point is not None
        self._log = world.folder / f"{name}-{len(world.instances)}.log"
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PRESSLINE_")}
        if world.mutant:
            environment["PRESSLINE_MUTANT"] = world.mutant
        if fail_point:
            environment["PRESSLINE_FAIL_POINT"] = fail_point
        sets = {**world.settings, "instance": name, "kafka.properties.client.id": self.client, **settings}
        self._port = None
        if sets.get("log.level") == "error":  # where it listens is not in the log then
            with socket.create_server(("127.0.0.1", 0)) as free:
                self._port = free.getsockname()[1]
            sets["http.listen"] = f"127.0.0.1:{self._port}"
        words = [word for key, value in sets.items() if value is not None for word in ("--set", f"{key}={value}")]
        with open(self._log, "wb") as log:
            self.process = subprocess.Popen(
                [str(binary), "run", *words],
                cwd=world.folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def has_partitions(self):
        """Whether it was given some."""
        if self._port:
            return self.metric("pressline_assigned_partitions") > 0
        return "partitions assigned" in self.log()

    def log(self):
        """What it said so far."""
        return self._log.read_text(errors="replace")

    def tail(self):
        """The last it said."""
        return " | ".join(self.log().splitlines()[-4:])

    def send(self, number):
        """Sends a signal."""
        self.process.send_signal(number)

    def kill(self):
        """kill -9."""
        self.may_end = True
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def terminate(self):
        """SIGTERM, if it runs."""
        if self.process.poll() is None:
            self.may_end = True
            self.send(signal.SIGTERM)
            self._asked = True

    _asked = False
    may_fail = False  # another exit code than 0 is no failure

    def await_exit(self, seconds, code=None):
        """Waits for the end; the exit code. With `code`, another one is a failure (of one that was asked to stop)."""
        try:
            found = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise Failure(f"instance {self.name} still runs after {seconds} s: {self.tail()}") from None
        if code is not None and self._asked and not self.may_fail and found != code:
            raise Failure(f"instance {self.name} ended with {found}, not {code}: {self.tail()}")
        return found

    def await_log(self, text, seconds=PATIENCE):
        """Waits for a text in its log."""
        await_that(f"{text!r} in the log of {self.name}", lambda: text in self.log(), seconds)

    def address(self):
        """Host and port of its pages; None while there is no server."""
        if self._port:
            return "127.0.0.1", self._port
        found = re.search(r"http://([0-9.]+):([0-9]+)/metrics", self.log())
        return (found[1], int(found[2])) if found else None

    def ready(self):
        """Status and text of /readyz; (0, "") while there is no server."""
        address = self.address()
        if not address:
            return 0, ""
        try:
            with urllib.request.urlopen(f"http://{address[0]}:{address[1]}/readyz", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name):
        """Sum of a metric over its labels; 0 while there is no server."""
        try:
            with urllib.request.urlopen("http://{}:{}/metrics".format(*self.address()), timeout=5) as answer:
                return sum(float(n) for n in re.findall(rf"^{name}(?:{{.*}})? (\S+)$", answer.read().decode(), re.M))
        except (OSError, TypeError):
            return 0

    def memory_kb(self, what="VmRSS"):
        """Resident memory now, or VmHWM at most, in kB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{what}:\s+(\d+)", text)[1])
