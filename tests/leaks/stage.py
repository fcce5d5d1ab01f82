"""One run's stage: topics, tables and configuration of its own, and pressline with everything captured that leaves."""

import json
import mmap
import os
import re
import resource
import shutil
import subprocess
from pathlib import Path

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.harness.group import Group
from tests.harness.paths import ROOT
from tests.harness.stack import service
from tests.harness.tables import ClickHouseTable, PostgresTable
from tests.harness.waiting import PATIENCE, Failure, await_that
from tests.leaks import records
from tests.leaks.capture import Pages, Tap
from tests.leaks.geocoder import Geocoder

FOLDER = ROOT / "target" / "leaks"
# With the features fail-points and mutants; see the Makefile.
BINARY = Path(os.environ.get("PRESSLINE_LEAKS_BINARY", ROOT / "target" / "faults" / "pressline"))
PARTITIONS = 4
_MIN_ADDRESSES = 65_536
_INTERNAL = ("__consumer_offsets", "__transaction_state")
_SETTINGS = {
    # As talkative as it can be.
    "log.level": "trace",
    "kafka.properties.debug": "all",
    # A new process takes its predecessor's place at once.
    "instance": "leaks",
    "source.static_membership": "true",
    "sink.postgres.consumer.static_membership": "true",
    "sink.clickhouse.consumer.static_membership": "true",
    "kafka.properties.socket.timeout.ms": "2000",
    "kafka.producer.message.timeout.ms": "2500",
    "kafka.producer.transaction.timeout.ms": "3000",
    "kafka.consumer.session.timeout.ms": "6000",
    "kafka.consumer.heartbeat.interval.ms": "1000",
    # What is tapped must not be compressed.
    "kafka.producer.compression.type": "none",
    "sink.clickhouse.compress": "false",
    # Half of what comes is bad.
    "dead_letter.max_dead_share": "1.0",
    "source.max_record_bytes": "20000",
}


class Stage:
    """Everything of one run; a context manager that leaves no process running."""

    def __init__(self, name, partitions=PARTITIONS, batch=2000, settings=None):
        number = int.from_bytes(os.urandom(4), "big")
        self.name, self.partitions = f"{name}-{number:08x}", partitions
        self.raw, self.out = f"{self.name}-raw", f"{self.name}-out"
        self.dead = [f"{self.raw}.dead", f"{self.out}.dead"]
        self.settings = _SETTINGS | {"batch.max_records": str(batch), **(settings or {})}
        self.folder = FOLDER / self.name
        self.home = self.folder / "home"
        self.cache_file = self.home / "geocoder.cache"
        self.bootstrap = service("BOOTSTRAP")
        self.admin = AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})
        self.tables = [PostgresTable(number), ClickHouseTable(number)]
        self.processes = []
        self.filtered = 0  # inputs of which nothing is to come
        self.without_column = []  # fields that the tables have not
        self._seen_proc = []
        self.keep = False  # for somebody to look at

    def __enter__(self):
        self.home.mkdir(parents=True)
        topics = [NewTopic(topic, self.partitions, 1) for topic in (self.raw, *self.outputs(), *self.dead)]
        for future in self.admin.create_topics(topics).values():
            future.result(30)
        for table in self.tables:
            table.make()
        registry = service("REGISTRY").removeprefix("http://")
        self.registry, self._registry_path = Tap(registry.partition("/")[0]), registry.partition("/")[2]
        self.postgres, self.clickhouse = (Tap(table.address.removeprefix("http://")) for table in self.tables)
        self._stub = Geocoder()
        self.geocoder = Tap(f"127.0.0.1:{self._stub.port}")
        # The broker's answers hold the raw records: only what is sent to it.
        _, _, port = service("BOOTSTRAP_PROXIED").rpartition(":")
        self.kafka = Tap(service("PROXY_UPSTREAM"), int(port), both=False)
        self.pages = Pages()
        self._configure()
        return self

    def __exit__(self, kind, *_):
        for process in self.processes:
            process.kill()
        self.pages.end()
        for tap in (self.registry, self.postgres, self.clickhouse, self.geocoder, self.kafka):
            tap.close()
        self._stub.close()
        if kind is None and not self.keep:
            for table in self.tables:
                table.drop()
            for future in self.admin.delete_topics([self.raw, *self.outputs(), *self.dead]).values():
                future.result(30)
            shutil.rmtree(self.folder, ignore_errors=True)

    def outputs(self):
        """Topics that values are written to; the sinks read the first."""
        return [self.out]

    def _configure(self):
        (self.home / "pressline.toml").write_text(
            f'[http]\nlisten = "127.0.0.1:0"\n[kafka]\nbootstrap_servers = "{service("BOOTSTRAP_PROXIED")}"\n'
            f'[registry]\nurl = "http://127.0.0.1:{self.registry.port}/{self._registry_path}"\n'
        )
        text = self._pipeline()
        for table, tap in zip(self.tables, (self.postgres, self.clickhouse)):
            (self.home / f"{table.name}.password").write_text(table.password)
            if table.name == "postgres":
                where = (
                    f'host = "127.0.0.1"\nport = {tap.port}\nsslmode = "disable"\noffsets_table = "{table.offsets}"\n'
                )
            else:
                where = f'url = "http://127.0.0.1:{tap.port}"\n'
            text += (
                f'[sink.{table.name}]\n{where}database = "{table.database}"\nuser = "{table.user}"\n'
                f'password_file = "../{table.name}.password"\ntable = "{table.table}"\n'
                f"columns.ignore = {json.dumps(self.without_column)}\n"
                f"[sink.{table.name}.batch]\nmax_rows = 5000\nmax_wait_ms = 200\n"
            )
        (self.home / "pipelines").mkdir()
        (self.home / "pipelines" / f"{self.name}.toml").write_text(text)
        self._own_files = {path for path in self.home.rglob("*") if path.is_file()}

    def _pipeline(self):
        headers = ", ".join(f'"{name}"' for name in records.ALLOWED)
        return (
            f'[source]\ntopic = "{self.raw}"\nheaders = [{headers}]\n[output]\ntopic = "{self.out}"\n'
            f'schema = "{ROOT}/schemas/button_presses.avsc"\n[place]\nfiles = ["{ROOT}/data/demo.mmdb"]\n'
            # So many that most cities are given as their subdivisions, whose coordinates only the geocoder knows.
            f"min_addresses = {_MIN_ADDRESSES}\n"
            f'[place.geocoder]\nurl = "http://127.0.0.1:{self.geocoder.port}"\ncontact = "tests@example.org"\n'
            f'requests_per_second = 100\ncache_file = "{self.cache_file}"\n'
        )

    def send(self, made):
        """Sends records (key, value, headers, time) to the ingress topic."""
        producer = Producer({"bootstrap.servers": self.bootstrap, "linger.ms": 20, "log_level": 0})
        for number, (key, value, headers, time) in enumerate(made):
            more = {} if time is None else {"timestamp": time}
            while True:
                try:
                    producer.produce(self.raw, value, key, number % self.partitions, headers=headers, **more)
                    break
                except BufferError:
                    producer.poll(0.1)
        if producer.flush(60):
            raise Failure("the records cannot be sent")

    def start(self, fail_point=None, environment=None, **settings):
        """Starts pressline."""
        process = Process(self, ["run"], fail_point, environment or {}, settings)
        self.processes.append(process)
        self.pages.watch(process)
        return process

    def start_web(self, environment=None, **settings):
        """Starts a web app."""
        process = Process(self, ["web", "--pipeline", self.name], None, environment or {}, settings)
        self.processes.append(process)
        return process

    def remember_proc(self, process):
        """What anybody on the machine can read of a running process."""
        for name in ("cmdline", "environ"):
            self._seen_proc.append(Path(f"/proc/{process.process.pid}/{name}").read_bytes())

    def count(self, topics, committed=True):
        """Records of these topics."""
        return sum(1 for _ in self.read(topics, committed))

    def read(self, topics, committed):
        """All records of topics; with `committed` not those of aborted transactions."""
        level = "read_committed" if committed else "read_uncommitted"
        options = {"group.id": "leaks", "enable.auto.commit": False, "enable.partition.eof": True, "log_level": 0}
        consumer = Consumer({"bootstrap.servers": self.bootstrap, "isolation.level": level, **options})
        known = self.admin.list_topics(timeout=10).topics
        parts = [TopicPartition(t, p, OFFSET_BEGINNING) for t in topics for p in known[t].partitions]
        consumer.assign(parts)
        ends = 0
        while ends < len(parts):
            for message in consumer.consume(10_000, timeout=0.2):
                if message.error() is None:
                    yield message
                elif message.error().code() == KafkaError._PARTITION_EOF:
                    ends += 1
        consumer.close()

    def await_settled(self, inputs):
        """Waits until every input is an output or a dead letter, and every output a row in both tables."""
        process = self.processes[-1]

        def holds(so=lambda: True):
            if process.process.poll() is not None:
                raise RuntimeError(f"pressline ended with {process.process.returncode}, see {process.log_file}")
            return so()

        patience = PATIENCE + inputs / 1000
        relay = Group(self.bootstrap, f"pressline.{self.name}", self.raw, self.partitions)
        await_that("the relay", lambda: holds(lambda: relay.reached() == relay.end()), patience, 0.3)
        relay.close()
        written, dead = self.count(self.outputs()), self.count(self.dead[:1])
        if written + dead + self.filtered != inputs:
            raise RuntimeError(
                f"of {inputs} records {written} were written, {dead} became dead letters and {self.filtered} are filtered"
            )
        loaded = self.count([self.out])

        def rows():
            return all(
                table.run_sql(f"SELECT count(*) FROM {table.table}")[0] in ((loaded,), str(loaded))
                for table in self.tables
            )

        await_that(f"{loaded} rows in each table", lambda: holds(rows), patience, 0.3)
        return written, dead

    def captures(self):
        """Name → bytes of everything that left; call it when the processes have ended."""
        known = self._own_files | {self.cache_file}
        files = [path for path in self.home.rglob("*") if path.is_file() and path not in known]
        return {
            "topics": self._topics(),
            "offsets": self._offset_notes(),
            "kafka traffic": self.kafka.content(),
            "registry traffic": self.registry.content(),
            "geocoder traffic": self.geocoder.content(),
            "geocoder cache": self.cache_file.read_bytes() if self.cache_file.exists() else b"",
            "postgres traffic": self.postgres.content(),
            "clickhouse traffic": self.clickhouse.content(),
            "postgres rows": self._postgres_rows(),
            "clickhouse rows": "\n".join(self.tables[1].run_sql(f"SELECT * FROM {self.tables[1].table}")).encode(),
            **{f"log {number}": _mapped(process.log_file) for number, process in enumerate(self.processes)},
            "pages": self.pages.content(),
            "proc": b"\n".join(self._seen_proc),
            "files": b"\n".join(
                str(path.relative_to(self.home)).encode() + b"\n" + path.read_bytes() for path in files
            ),
        }

    def core_files(self):
        """Core dumps that lie where the processes ran."""
        return [path.name for path in self.home.rglob("core*")]

    def _topics(self):
        pieces = []
        for message in self.read([*self.outputs(), *self.dead], committed=False):
            pieces += [message.key() or b"", message.value() or b"", b"%d" % message.timestamp()[1]]
            for name, value in message.headers() or ():
                pieces += [name.encode(), value or b""]
        return b"\n".join(pieces)

    def _offset_notes(self):
        """Committed offsets with what is noted beside them, members and transactions, as the broker keeps them. (A
        client cannot be asked: librdkafka's copy of a note has no end.)"""
        named = [m for m in self.read(_INTERNAL, committed=False) if self.name.encode() in (m.key() or b"")]
        return b"\n".join(part or b"" for message in named for part in (message.key(), message.value()))

    def _postgres_rows(self):
        postgres = self.tables[0]
        rows = [
            row[0]
            for table in (postgres.table, postgres.offsets)
            for row in postgres.run_sql(f"SELECT t::text FROM {table} t")
        ]
        return "\n".join(rows).encode()


class Process:
    """A pressline process, whose core would be dumped if it let that happen."""

    def __init__(self, stage, command, fail_point, environment, settings):
        self.log_file = stage.folder / f"{len(stage.processes)}.log"
        own = {name: value for name, value in os.environ.items() if not name.startswith("PRESSLINE_")} | environment
        if fail_point:
            own["PRESSLINE_FAIL_POINT"] = fail_point
        words = [word for name, value in (stage.settings | settings).items() for word in ("--set", f"{name}={value}")]
        with open(self.log_file, "wb") as log:
            self.process = subprocess.Popen(
                [str(BINARY), *command, *words],
                cwd=stage.home,
                env=own,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_allow_core,
            )

    def log(self):
        """What it said so far."""
        return self.log_file.read_text(errors="replace")

    def address(self):
        """Host and port of its pages; None before it has any."""
        with open(self.log_file, errors="replace") as log:
            found = re.search(r"metrics on http://([0-9.]+):([0-9]+)/metrics", log.read(100_000))
        return (found[1], int(found[2])) if found else None

    def kill(self):
        """kill -9."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def terminate(self):
        """Stops it as an operator would; its exit code."""
        self.process.terminate()
        return self.process.wait(20)


def _mapped(path):
    """A file's content, without reading it at once: logs can be gigabytes."""
    with open(path, "rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""


def _allow_core():
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
