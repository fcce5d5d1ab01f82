"""CPU seconds per million rows of the loader and of the server, rows per second and peak memory of pressline's sinks, each
beside what its database does at best with the same rows: `\\copy ... (format binary)` from a file, and one `INSERT ... FORMAT
Native` from a file; that also in as many inserts as pressline makes of them. ClickHouse merges no parts meanwhile: it does that
when it likes, for a while after the rows are in, and as much for parts of any origin. In the same run and in turns. Prints a
Markdown table.

Run it through `make bench`, which starts the services.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import psycopg

from tests.bench.bench import BOOTSTRAP, PARTITIONS, REGISTRY, ROOT, Daemon, create, generate, machine, peer, relaying, usage_of
from tests.harness.group import Group

# The columns that people want, without indexes: what is compared is the loading.
POSTGRES_COLUMNS = """session_id uuid NOT NULL, "timestamp" timestamptz NOT NULL, cohort smallint, action text NOT NULL,
    country_name text NOT NULL, country_code char(2) NOT NULL, subdivision_name text NOT NULL, subdivision_code varchar(8) NOT NULL,
    city_name text NOT NULL, latitude double precision, longitude double precision, accuracy_km integer, time_zone text"""
# Versions of the presses' schema in one topic, each with one of so many more fields, which are null.
VERSIONS = {"2 versions of the schema in turns": 2, "200 versions of the schema at random": 200}
EXTRAS = [f"extra_{number}" for number in range(8)]
# The pace is that of these first rows: the last batch waits for rows that do not come (`batch.max_wait_ms`).
PACED = 0.8
# What pressline inserts at once by default, of a partition.
INSERT_ROWS = 100_000


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--rounds", type=int, default=3)
    options = arguments.parse_args()
    if not BOOTSTRAP or not os.environ.get("PRESSLINE_TEST_POSTGRES"):
        print("PRESSLINE_TEST_BOOTSTRAP and PRESSLINE_TEST_POSTGRES are not set: run `make bench`", file=sys.stderr)
        return 2
    topic = presses(options.rows)
    mixed = {name: in_versions(topic, options.rows, count) for name, count in VERSIONS.items()}
    results: dict[str, list[dict]] = {}

    def note(name: str, result: dict) -> None:
        results.setdefault(name, []).append(result)
        print(f"{name}: {json.dumps(result)}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as folder:
        databases = [Postgres(folder), ClickHouse(folder)]
        for number in range(options.rounds):
            note("read only, bare rdkafka", peer("read", topic, options.rows))
            for database in databases:
                note(f"pressline to {database.title}", sink([database], topic, options.rows, number))
                for title, result in database.floors(options.rows):
                    note(title, result)
                # As the topic holds them while writers are upgraded one by one.
                for name, of_versions in mixed.items():
                    title = f"pressline to {database.title}, {name}"
                    note(title, sink([database], of_versions, options.rows, options.rounds + 1 + number, EXTRAS))
        note("pressline to both in one process", sink(databases, topic, options.rows, options.rounds))
    print(table(results, options))
    return 0


def presses(rows: int) -> str:
    """A topic of so many presses, written by pressline's relay."""
    raw, output, mmdb = f"bench_raw_{os.getpid()}", f"bench_presses_{os.getpid()}", [str(ROOT / "data/demo.mmdb")]
    generate(raw, rows, mmdb)
    daemon = relaying(raw, output, mmdb)
    daemon.wait(lambda: daemon.metric("pressline_records_written_total") >= rows, "end of the relay", pause=0.2)
    daemon.stop()
    return output


def in_versions(topic: str, rows: int, count: int) -> str:
    """The topic's records in another one, each in one of so many versions of the schema: two in turns, more at random."""
    from confluent_kafka import Consumer, Producer, TopicPartition

    schema = json.loads((ROOT / "schemas/button_presses.avsc").read_text())
    ids = []
    for number in range(count):
        extra = {"name": EXTRAS[number % len(EXTRAS)], "type": ["null", "string"], "default": None}
        version = {**schema, "doc": f"version {number}", "fields": [*schema["fields"], extra]}
        request = urllib.request.Request(f"{REGISTRY}/subjects/{topic}-{number}/versions",
                                         json.dumps({"schema": json.dumps(version)}).encode(),
                                         {"Content-Type": "application/vnd.schemaregistry.v1+json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            ids.append(json.load(answer)["id"].to_bytes(4, "big"))
    mixed = f"{topic}_mixed_{count}"
    create(mixed)
    consumer = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": mixed, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topic, partition, 0) for partition in range(PARTITIONS)])
    producer = Producer({"bootstrap.servers": BOOTSTRAP, "queue.buffering.max.messages": 1_000_000, "linger.ms": 50})
    chance, copied = random.Random(1), 0
    while copied < rows:
        for record in consumer.consume(10_000, 1):
            value = record.value()
            # The field that the version has more is null: the first branch of its union.
            version = ids[record.offset() % 2] if count == 2 else chance.choice(ids)
            producer.produce(mixed, b"\0" + version + value[5:] + b"\0", partition=record.partition())
            copied += 1
        producer.flush()
    consumer.close()
    return mixed


def sink(databases: list, topic: str, rows: int, number: int, extras: Sequence[str] = ()) -> dict:
    """Loads the topic into new tables, with more columns for text; figures of the loader and of the servers."""
    for database in databases:
        database.make_measured()
        database.add(extras)
    before = [database.server_cpu() for database in databases]
    daemon = Daemon(f"{topic}_{databases[0].name}_{number}",
                    f'[sink]\ntopic = "{topic}"\n' + "".join(database.settings() for database in databases))
    assigned = lambda: daemon.log.read_text().count("partitions assigned") == len(databases)
    first = daemon.wait(lambda: assigned() and time.monotonic(), "assignment")
    # Neither the sink nor its database is asked how far it is: a page of metrics costs the one, a query the other a millisecond
    # or two, and nobody asks fifty times a second. Behind the last presses the relay's transactions have left their markers.
    groups = [Group(BOOTSTRAP, f"pressline.{daemon.name}.{database.name}", topic, PARTITIONS) for database in databases]
    ends = [group.end() - (0 if extras else PARTITIONS) for group in groups]
    paced = daemon.wait(lambda: min(loaded := [group.reached() for group in groups]) >= PACED * rows and sum(loaded), "pace")
    seconds = (time.monotonic() - first) * rows * len(databases) / paced
    daemon.wait(lambda: all(group.reached() >= end for group, end in zip(groups, ends)), "end of the load", pause=0.1)
    usage = daemon.stop()
    for group in groups:
        group.close()
    for database in databases:
        database.must_hold(rows)
    server = sum(database.server_cpu() - start for database, start in zip(databases, before))
    return {"cpu": usage["cpu"], "server": server, "seconds": seconds, "rss_mb": usage["rss_mb"]}


def tree_cpu(pid: int) -> float:
    """CPU seconds of a process, of those it started, and of those of them that have ended."""
    found, parents = {}, {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        own = int(stat.parent.name)
        parents[own] = int(fields[1])
        found[own] = sum(int(field) for field in fields[11:15])
    tree = {pid}
    while grown := {own for own, parent in parents.items() if parent in tree} - tree:
        tree |= grown
    return sum(found.get(own, 0) for own in tree) / os.sysconf("SC_CLK_TCK")


def timed(command: list[str], **more) -> dict:
    """Runs a loader of the database's own; its figures."""
    began = time.monotonic()
    process = subprocess.Popen(command, **more)
    usage = usage_of(process)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    return {**usage, "seconds": time.monotonic() - began}


class Postgres:
    name, title = "postgres", "PostgreSQL"

    def __init__(self, folder: str):
        variable = lambda name: os.environ[f"PRESSLINE_TEST_POSTGRES{name}"]
        self.address = variable("")
        self.host, self.port = self.address.rsplit(":", 1)
        self.user, self.password, self.database = variable("_USER"), variable("_PASSWORD"), variable("_DATABASE")
        self.file, self.password_file = Path(folder) / "rows.pgcopy", Path(folder) / "postgres.password"
        self.password_file.write_text(self.password)
        self.connection = psycopg.connect(host=self.host, port=self.port, user=self.user, password=self.password,
                                          dbname=self.database, autocommit=True)

    def make(self) -> None:
        self.connection.execute(f"DROP TABLE IF EXISTS bench_presses; CREATE TABLE bench_presses ({POSTGRES_COLUMNS})")
        self.connection.execute("CHECKPOINT")

    def make_measured(self) -> None:
        self.make()

    def add(self, columns: Sequence[str]) -> None:
        for column in columns:
            self.connection.execute(f"ALTER TABLE bench_presses ADD COLUMN {column} text")

    def settings(self, address: str = "") -> str:
        """The sink's table; `address`: by which it is reached, if not its own."""
        host, port = (address or self.address).rsplit(":", 1)
        return (f'[sink.postgres]\nhost = "{host}"\nport = {port}\ndatabase = "{self.database}"\nuser = "{self.user}"\n'
                f'sslmode = "disable"\npassword_file = "{self.password_file}"\ntable = "bench_presses"\n')

    def server_cpu(self) -> float:
        return tree_cpu(int(os.environ["PRESSLINE_TEST_POSTGRES_PID"]))

    def must_hold(self, rows: int) -> None:
        found = self.connection.execute("SELECT count(*) FROM bench_presses").fetchone()[0]
        if found != rows:
            raise SystemExit(f"PostgreSQL holds {found} rows of {rows}")

    def floors(self, rows: int) -> Iterator[tuple[str, dict]]:
        self._psql(f"\\copy bench_presses TO '{self.file}' (format binary)")
        self.make()
        before = self.server_cpu()
        result = self._psql(f"\\copy bench_presses FROM '{self.file}' (format binary)")
        self.must_hold(rows)
        yield "`\\copy (format binary)`", {**result, "server": self.server_cpu() - before}

    def _psql(self, command: str) -> dict:
        where = f"host={self.host} port={self.port} user={self.user} dbname={self.database}"
        return timed(["psql", "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", where, "--command", command],
                     env=os.environ | {"PGPASSWORD": self.password})


class ClickHouse:
    name, title = "clickhouse", "ClickHouse"

    def __init__(self, folder: str):
        variable = lambda name: os.environ[f"PRESSLINE_TEST_CLICKHOUSE{name}"]
        self.url, self.user, self.password, self.database = (variable(n) for n in ("", "_USER", "_PASSWORD", "_DATABASE"))
        self.address = self.url.removeprefix("http://")
        self.file, self.password_file = Path(folder) / "rows.native", Path(folder) / "clickhouse.password"
        self.password_file.write_text(self.password)

    def make(self) -> None:
        self.ask("DROP TABLE IF EXISTS bench_presses")
        text = (ROOT / "sql/clickhouse/button_presses.sql").read_text()
        self.ask(text.split(";\n")[0].replace("CREATE TABLE button_presses", "CREATE TABLE bench_presses", 1))

    def make_measured(self) -> None:
        self.make()
        self.ask("SYSTEM STOP MERGES bench_presses")

    def add(self, columns: Sequence[str]) -> None:
        for column in columns:
            self.ask(f"ALTER TABLE bench_presses ADD COLUMN {column} Nullable(String)")

    def settings(self, address: str = "") -> str:
        """The sink's table; `address`: by which it is reached, if not its own."""
        return (f'[sink.clickhouse]\nurl = "http://{address or self.address}"\ndatabase = "{self.database}"\nuser = "{self.user}"\n'
                f'password_file = "{self.password_file}"\ntable = "bench_presses"\n')

    def server_cpu(self) -> float:
        # Without what the HTTP server in Python takes that stands before the engine here.
        with urllib.request.urlopen(f"{self.url}/front/cpu", timeout=60) as answer:
            return tree_cpu(int(os.environ["PRESSLINE_TEST_CLICKHOUSE_PID"])) - float(answer.read())

    def must_hold(self, rows: int) -> None:
        found = int(self.ask("SELECT count() FROM bench_presses"))
        if found != rows:
            raise SystemExit(f"ClickHouse holds {found} rows of {rows}")

    def floors(self, rows: int) -> Iterator[tuple[str, dict]]:
        # In the topic's order, as pressline has them: sorted ones, as they are in the table, save the server its sorting.
        def native(which: str, number: int = 0) -> Path:
            file = self.file.with_suffix(f".{number}")
            file.write_bytes(self.ask(f"SELECT * FROM bench_presses {which} ORDER BY _partition, _offset FORMAT Native"))
            return file

        spans = self.ask("SELECT _partition, min(_offset), max(_offset) FROM bench_presses "
                         f"GROUP BY _partition, intDiv(_offset, {INSERT_ROWS}) ORDER BY ALL").decode().splitlines()
        whole = [native("")]
        cut = [native(f"WHERE _partition = {partition} AND _offset BETWEEN {low} AND {high}", number)
               for number, (partition, low, high) in enumerate((span.split("\t") for span in spans), 1)]
        for title, files in (("one `INSERT ... FORMAT Native`", whole), (f"the same in {len(cut)} of them", cut)):
            yield title, self._insert(files, rows)

    def _insert(self, files: list[Path], rows: int) -> dict:
        self.make_measured()
        before, runs = self.server_cpu(), []
        query = urllib.parse.urlencode({"database": self.database, "query": "INSERT INTO bench_presses FORMAT Native"})
        for file in files:
            # Uploaded as it is read: --data-binary would read it whole, and not more than 2 GB.
            runs.append(timed(["curl", "--silent", "--show-error", "--fail", "--header", f"X-ClickHouse-User: {self.user}",
                               "--header", f"X-ClickHouse-Key: {self.password}", "--request", "POST", "--upload-file",
                               file, f"{self.url}/?{query}"]))
        self.must_hold(rows)
        sums = {name: sum(run[name] for run in runs) for name in ("cpu", "seconds")}
        return {**sums, "rss_mb": max(run["rss_mb"] for run in runs), "server": self.server_cpu() - before}

    def ask(self, sql: str) -> bytes:
        headers = {"X-ClickHouse-User": self.user, "X-ClickHouse-Key": self.password}
        request = urllib.request.Request(f"{self.url}/?database={self.database}", sql.encode(), headers)
        try:
            with urllib.request.urlopen(request, timeout=600) as answer:
                return answer.read()
        except urllib.error.HTTPError as error:
            raise SystemExit(f"ClickHouse: {error.read().decode()[:500]}\n{sql[:200]}") from None


def table(results: dict[str, list[dict]], options: argparse.Namespace) -> str:
    lines = [
        f"{options.rows:,} presses, 3 partitions, {options.rounds} rounds in turns; machine: {machine()}; "
        f"{time.strftime('%Y-%m-%d')}", "",
        "| | loader, CPU s per million rows: min | median | server: min | median | rows/s: max | median | peak RSS MB |",
        "|---|---|---|---|---|---|---|---|"]
    for name, runs in results.items():
        million = 1e6 / options.rows
        loader, server = ([run[part] * million for run in runs if part in run] for part in ("cpu", "server"))
        speed = [options.rows / run["seconds"] for run in runs]
        servers = f"{min(server):.2f} | {statistics.median(server):.2f}" if server else "|"
        lines.append(f"| {name} | {min(loader):.2f} | {statistics.median(loader):.2f} | {servers} "
                     f"| {max(speed):,.0f} | {statistics.median(speed):,.0f} | {max(run['rss_mb'] for run in runs):.0f} |")
    lines += ["", f"rows/s of pressline from the assignment of its partitions until {PACED:.0%} were loaded, of the others their whole "
              "run; both at once: rows of the topic, each of which goes into both tables."]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
