"""Real Debezium under a random workload, pressline killed on the way: each table at the source equals the one in PostgreSQL and the
view `_current` in ClickHouse, row by row; and of a table without a key the log of its changes has each record of the topic once.

    tests/stack/stack.py run -- python3 -m tests.cdc.run [--changes 3000] [--kills 4] [--seed 1]

The same tables go through topics in Avro, each with a pipeline file, and in JSON with its schema, by one file for all. Beside them, a table whose rows cannot all be written shows
what is refused and how. Exit code 1 when anything is wrong.
"""

import argparse
import collections
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from tests.harness import interpreter

interpreter.require_packages()

from confluent_kafka.admin import AdminClient, NewTopic  # noqa: E402

from tests.cdc import tables  # noqa: E402
from tests.cdc.tables import KEYLESS, LACKING, ODD, SOURCE, TABLES, TARGET, connect, seeded  # noqa: E402
from tests.cdc.workload import Workload  # noqa: E402
from tests.harness.paths import ROOT  # noqa: E402
from tests.harness.topics import Registry, read_all  # noqa: E402
from tests.stack.services.debezium import Connector, Debezium  # noqa: E402

FORMATS = ("avro", "connect_json")
PATIENCE = 300
BINARY = Path(os.environ.get("PRESSLINE_BINARY", ROOT / "target/release/pressline"))
_SINKS = """
[sink.postgres]
host = "127.0.0.1"
port = {port}
database = "{target}"
user = "{user}"
password_file = "postgres.password"
table = "{schema}.{table}"
mode = "upsert"
deletes = true
pk_mode = "record_key"
{more}offsets_table = "{schema}.offsets"
batch.max_rows = 200
consumer.max_dead_share = 0.5
[sink.clickhouse]
url = "{clickhouse}"
database = "{target}"
user = "{clickhouse_user}"
password_file = "clickhouse.password"
table = "{table}{suffix}"
mode = "upsert"
deletes = true
pk_mode = "record_key"
auto_create = true
batch.max_rows = 200
batch.max_wait_ms = 200
consumer.max_dead_share = 0.5
"""
_KEYED = 'mode = "upsert"\ndeletes = true\npk_mode = "record_key"\n'


class Pressline:
    """The program with a pipeline for each table and format."""

    def __init__(self, folder):
        self.folder, self.process, self.kills, self._names = Path(folder), None, 0, []
        (self.folder / "pipelines").mkdir()
        (self.folder / "refused").mkdir()
        (self.folder / "postgres.password").write_text(os.environ["PRESSLINE_TEST_POSTGRES_PASSWORD"])
        (self.folder / "clickhouse.password").write_text(os.environ["PRESSLINE_TEST_CLICKHOUSE_PASSWORD"])
        # Files that a pipeline names lie beside it.
        for name in ("postgres.password", "clickhouse.password"):
            (self.folder / "pipelines" / name).symlink_to(self.folder / name)
            (self.folder / "refused" / name).symlink_to(self.folder / name)
        (self.folder / "pressline.toml").write_text(
            f'[http]\nlisten = "127.0.0.1:0"\n[kafka]\nbootstrap_servers = "{os.environ["PRESSLINE_TEST_BOOTSTRAP"]}"\n'
            f'[registry]\nurl = "{os.environ["PRESSLINE_TEST_REGISTRY"]}"\n[log]\nlevel = "info"\n'
        )

    def pipeline(self, format, table, mode="upsert", folder="pipelines"):
        """Loads a table's topic into both databases."""
        text = self._file(format, table.name, f'topic = "{prefix(format)}.public.{table.name}"', mode, skips=table in (LACKING, ODD))
        if table is LACKING:
            text = text[: text.index("[sink.clickhouse]")]
        file = self.folder / folder / f"{format}_{table.name}{'' if folder == 'pipelines' else '_again'}.toml"
        file.write_text(text)
        self._names += [file.stem] if folder == "pipelines" else []
        return file

    def pipelines_by_pattern(self, format, pattern, tables):
        """Loads the topics of these tables by one file."""
        text = self._file(format, "${topic.2}", f'topics = "{prefix(format)}.public.{pattern}"')
        (self.folder / "pipelines" / f"{format}.toml").write_text(text)
        self._names += [f"{format}.{table.name}" for table in tables]

    @staticmethod
    def _file(format, table, topic, mode="upsert", skips=False):
        sinks = _SINKS.format(
            port=os.environ["PRESSLINE_TEST_POSTGRES"].rsplit(":", 1)[1],
            user=os.environ["PRESSLINE_TEST_POSTGRES_USER"],
            clickhouse=os.environ["PRESSLINE_TEST_CLICKHOUSE"],
            clickhouse_user=os.environ["PRESSLINE_TEST_CLICKHOUSE_USER"],
            target=TARGET,
            table=table,
            schema=format,
            suffix=f"_{format}",
            more='toast = "skip"\n' if skips else "",
        )
        if mode == "insert":
            sinks = sinks.replace(_KEYED, "")
        return f'[source]\n{topic}\nformat = "{format}"\nenvelope = "debezium"\ntruncate = "apply"\n{sinks}'

    def start(self):
        """Starts it."""
        log = open(self.folder / "pressline.log", "ab")
        self.process = subprocess.Popen([BINARY, "run"], cwd=self.folder, stdout=log, stderr=subprocess.STDOUT)

    def pipelines(self):
        """Their names."""
        return list(self._names)

    def command(self, *words):
        """Another command of the program's."""
        done = subprocess.run([BINARY, *words], cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{words}: {done.stderr}")

    def refusal(self, file):
        """What it says of a pipeline that it does not run."""
        done = subprocess.run([BINARY, "run", file], cwd=self.folder, capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout + done.stderr if done.returncode else "it was run"

    def kill(self):
        """As kill -9 does."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.kills += 1

    def stop(self):
        """Asks it to end."""
        self.process.terminate()
        self.process.wait(60)

    def log(self):
        """What it has stopped for, and its last lines."""
        lines = (self.folder / "pressline.log").read_text(errors="replace").splitlines()
        loud = [line for line in lines[:-10] if " ERROR " in line]
        return "\n".join([*loud[:20], *lines[-10:]])


def prefix(format):
    """Of the topics in this format."""
    return f"cdc_{format}"


def differences(table, schema, suffix):
    """What is not equal, in words."""
    found = []
    source = tables.postgres_rows(table, SOURCE)
    found += _differences(f"postgres {schema}.{table.name}", source, tables.postgres_rows(table, TARGET, schema))
    if table is LACKING:
        return found
    values = tables.source_values(table)
    found += _differences(f"clickhouse {table.name}{suffix}_current", values, tables.clickhouse_values(table, suffix))
    return found


def log_differences(format):
    """What is not in the logs of the table without a key as it is in its topic, in words."""
    messages = read_all(os.environ["PRESSLINE_TEST_BOOTSTRAP"], _topic(format, KEYLESS))
    messages = [message for message in messages if message.value() is not None]
    sent = [(message.topic(), message.partition(), message.offset()) for message in messages]
    found = tables.clickhouse_log(f"_{format}")
    wrong = []
    if sorted(sent) != sorted(at for at, _ in found):
        counts = collections.Counter(at for at, _ in found)
        doubled, missing = [at for at in counts if counts[at] > 1], sorted(set(sent) - set(counts))
        wrong.append(f"clickhouse unkeyed_{format}: {len(doubled)} twice {doubled[:3]}, {len(missing)} missing {missing[:3]}")
    rows = sorted((row for _, row in found), key=repr)
    if rows != tables.postgres_log(format):
        wrong.append(f"postgres {format}.unkeyed: other rows than in ClickHouse")
    registry = Registry(os.environ["PRESSLINE_TEST_REGISTRY"])
    decode = registry.decode if format == "avro" else lambda value: json.loads(value)["payload"]
    expected = {at: _logged(decode(message.value())) for at, message in zip(sent, messages, strict=True)}
    other = [at for at, row in found if expected.get(at) != row]
    wrong += [f"clickhouse unkeyed_{format}: other than in the topic: {other[:3]}"] if other else []
    return wrong


def _logged(event):
    row = event["before" if event["op"] == "d" else "after"] or {"a": None, "b": None}
    return event["op"], row["a"], row["b"]


def _topic(format, table):
    return f"{prefix(format)}.public.{table.name}"


def _differences(what, source, target):
    if source == target:
        return []
    missing, extra = source.keys() - target.keys(), target.keys() - source.keys()
    other = [key for key in source.keys() & target.keys() if source[key] != target[key]]
    examples = [(source[key], target[key]) for key in other[:2]]
    return [f"{what}: {len(missing)} missing, {len(extra)} that are gone at the source, {len(other)} other: {examples}"]


def await_equal(pressline, kinds):
    """Waits until all is equal; what is not after the time."""
    end = time.monotonic() + PATIENCE
    found = ["nothing was compared"]
    while found and time.monotonic() < end:
        time.sleep(1)
        if pressline.process.poll() is not None:
            return [f"pressline ended with {pressline.process.returncode}"]
        try:
            found = [text for kind in kinds for text in differences(*kind)]
            found += [text for format in FORMATS for text in log_differences(format)]
        except OSError as error:  # the view is not there yet
            found = [str(error)]
    return found


def dead_letters(topic):
    """Sink and reason → how many, of a dead-letter topic."""
    counts = {}
    for message in read_all(os.environ["PRESSLINE_TEST_BOOTSTRAP"], topic):
        headers = {name: value.decode() for name, value in message.headers()}
        what = headers["pressline.sink"], headers["pressline.reason"], headers["pressline.field"]
        counts[what] = counts.get(what, 0) + 1
    return counts


def make_dead_letter_topics(topics):
    """As `pressline topics create` does, of topics that are not there yet."""
    admin = AdminClient({"bootstrap.servers": os.environ["PRESSLINE_TEST_BOOTSTRAP"]})
    for made in admin.create_topics([NewTopic(f"{topic}.dead", 1, 1) for topic in topics]).values():
        made.result()


def under_load(given, chance, workload, pressline, kinds):
    """Changes, kills, and then the comparison; what is wrong."""
    pressline.start()
    worker = threading.Thread(target=workload.run, args=[given.changes])
    worker.start()
    for _ in range(given.kills):
        time.sleep(chance.uniform(1, 6))
        pressline.kill()
        pressline.start()
    worker.join()
    begun = time.monotonic()
    wrong = await_equal(pressline, kinds)
    if not wrong:
        counts = ", ".join(f"{count} {what}" for what, count in workload.counts.items())
        rows = sum(len(tables.postgres_rows(table, SOURCE)) for table in [*TABLES, LACKING])
        print(
            f"ok    {rows} rows after {counts} and {pressline.kills} kills are equal in {2 * len(kinds) - len(FORMATS)} tables, "
            f"{time.monotonic() - begun:.0f} s after the last change",
            flush=True,
        )
        ops = collections.Counter(op for format in FORMATS for _, (op, *_) in tables.clickhouse_log(f"_{format}"))
        print(f"ok    each record of a table without a key is once in the log, in both databases: {dict(ops)}", flush=True)
        if set(ops) != {"r", "c", "u", "d", "t"}:
            wrong.append(f"the log has no row of each kind: {dict(ops)}")
        records = read_all(os.environ["PRESSLINE_TEST_BOOTSTRAP"], _topic("avro", LACKING))
        lacking = sum(b"__debezium_unavailable_value" in (message.value() or b"") for message in records)
        print(f"ok    rows of which {lacking} changes lacked values are equal in PostgreSQL", flush=True)
        if not lacking:
            wrong.append("no change lacked a value")
    for format in FORMATS:
        for table in [*TABLES, LACKING, KEYLESS]:
            topic = f"{prefix(format)}.public.{table.name}.dead"
            if dead := dead_letters(topic):
                wrong.append(f"{topic}: {dead}")
    return wrong


def written_again(pressline, kinds):
    """All records are written into ClickHouse once more, and meanwhile nothing may be seen of it; what is wrong."""
    pressline.stop()
    # A row of the log is no change of a row that is there: written again, it would be there twice.
    for name in (name for name in pressline.pipelines() if not name.endswith((KEYLESS.name, LACKING.name))):
        pressline.command("offsets", "set", "--pipeline", name, "--sink", "clickhouse", "--to", "beginning", "--yes")
    pressline.start()
    looks, end = 0, time.monotonic() + 15
    while time.monotonic() < end:
        for found in [*(differences(*kind) for kind in kinds), *map(log_differences, FORMATS)]:
            if found:
                return [f"while all is written again: {found}"]
        looks += 1
    print(f"ok    nothing is seen of it while all is written again into ClickHouse (looked {looks} times)", flush=True)
    return []


def refused(pressline):
    """What cannot be kept equal is refused or becomes a dead letter; what is wrong."""
    topic = f"{prefix('avro')}.public.{ODD.name}"
    with connect(SOURCE) as source:
        source.execute("INSERT INTO odd SELECT n, now(), 'today', 'x', repeat('y', 9000) FROM generate_series(1, 20) n")
        source.execute("INSERT INTO odd VALUES (21, 'infinity', NULL, 'x', NULL), (22, now(), '-infinity', 'x', NULL)")
        source.execute("UPDATE odd SET note = 'z' WHERE id = 1; UPDATE odd SET id = 30 WHERE id = 2")
    # In PostgreSQL the update leaves the value as it is; the changed key has no row yet.
    lacking = {"postgres": 1, "clickhouse": 2}
    reasons = {("out_of_range", "at"): 1, ("out_of_range", "day"): 1}
    expected = {(sink, *what): count for sink in lacking for what, count in reasons.items()}
    expected |= {(sink, "unavailable_value", "body"): count for sink, count in lacking.items()}
    end, found = time.monotonic() + PATIENCE, {}
    while found != expected and time.monotonic() < end:
        time.sleep(1)
        found = dead_letters(f"{topic}.dead")
    wrong = [] if found == expected else [f"{topic}.dead: {found}, expected {expected}"]
    said = pressline.refusal(pressline.pipeline("avro", KEYLESS, folder="refused"))
    if "the table at the source has no primary key" not in said or 'set mode = "insert"' not in said:
        wrong.append(f"a table without a key was not refused: {said}")
    rows, source = tables.postgres_rows(ODD, TARGET, "avro"), tables.postgres_rows(ODD, SOURCE)
    # The changed key's old row is gone, and its new one is not whole.
    if rows != {key: row for key, row in source.items() if int(key[0]) < 21}:
        wrong.append(f"odd: rows {sorted(rows)}, or values of theirs")
    if not wrong:
        print(f"ok    refused: {found}; a table without a key", flush=True)
    return wrong


def main():
    """The test."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=3000)
    parser.add_argument("--kills", type=int, default=4)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    given = parser.parse_args()
    print(f"seed {given.seed}", flush=True)
    chance = seeded(given.seed)
    tables.make_databases(FORMATS)
    workload = Workload(chance)
    workload.run(given.changes // 10)  # what the snapshot finds
    with tempfile.TemporaryDirectory(prefix="pressline-cdc-") as folder:
        names = [f"public.{table.name}" for table in [*TABLES, LACKING, ODD, KEYLESS]]
        connectors = [Connector(prefix(format), names, format, SOURCE) for format in FORMATS]
        debezium = Debezium(Path(folder) / "debezium", *connectors)
        pressline = Pressline(folder)
        kinds = []
        for format in FORMATS:
            kinds += [(table, format, f"_{format}") for table in [*TABLES, LACKING]]
            pressline.pipeline(format, LACKING)
            if format == "connect_json":
                # Neither the table without a key nor the odd one ends so.
                pressline.pipelines_by_pattern(format, "*s", TABLES)
            else:
                for table in TABLES:
                    pressline.pipeline(format, table)
            pressline.pipeline(format, KEYLESS, mode="insert")
        pressline.pipeline("avro", ODD)
        make_dead_letter_topics(f"{prefix(format)}.{name}" for format in FORMATS for name in names)
        begun = time.monotonic()
        debezium.launch()
        try:
            debezium.await_ready()
            print(f"ok    Debezium follows {len(names)} tables twice after {time.monotonic() - begun:.0f} s", flush=True)
            wrong = under_load(given, chance, workload, pressline, kinds)
            wrong += refused(pressline)
            wrong += written_again(pressline, kinds) if not wrong else []
        finally:
            debezium.stop()
            if pressline.process and pressline.process.poll() is None:
                pressline.stop()
        for text in wrong:
            print(f"WRONG {text}", flush=True)
        if wrong:
            print(pressline.log())
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
