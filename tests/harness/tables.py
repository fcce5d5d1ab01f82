"""The tables of a load's world, made from the recommended ones and read by clients of their own: psycopg, and
ClickHouse's own SELECT over HTTP.

The order within a partition cannot be seen in a table, so it is not judged: rows are read in the order of their origin.
"""

import http.client
import io
import json
import os
import re
import urllib.error
import urllib.parse
import urllib.request

import psycopg

from tests.harness.checker import origin, session_id
from tests.harness.paths import ROOT
from tests.harness.rows import COHORT_LIMIT, FIELDS
from tests.harness.stack import service
from tests.harness.waiting import Failure, await_that
from tests.harness.world import PARTITIONS

_LAST = (1 << 40) - 1


class Unreachable(Exception):
    """The database does not answer now."""


class PostgresTable:
    """A schema of its own with the recommended table and pressline's positions."""

    name = "postgres"

    def __init__(self, run):
        self.run, self.schema = run, f"load_{run:08x}"
        self.table, self.offsets = f"{self.schema}.button_presses", f"{self.schema}.pressline_offsets"
        self.address = service("POSTGRES")
        self.database = service("POSTGRES_DATABASE")
        self.user, self.password = service("POSTGRES_USER"), service("POSTGRES_PASSWORD")
        self._connection = None

    def connect(self):
        """A new connection, in autocommit."""
        host, _, port = self.address.rpartition(":")
        try:
            return psycopg.connect(
                host=host, port=port, user=self.user, password=self.password, dbname=self.database,
                autocommit=True, connect_timeout=10,
            )  # fmt: skip
        except psycopg.OperationalError as error:
            raise Unreachable(str(error)) from None

    def run_sql(self, sql):
        """Statements; the rows of the last one that has any."""
        try:
            if self._connection is None:
                self._connection = self.connect()
            cursor = self._connection.execute(sql)
            return cursor.fetchall() if cursor.description else []
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            self._close()
            raise Unreachable(str(error)) from None

    def make(self):
        """Makes schema and table."""
        self.run_sql(f"CREATE SCHEMA {self.schema}")
        with self.connect() as own:
            own.execute(f"SET search_path TO {self.schema}")
            own.execute((ROOT / "sql" / "postgres" / "button_presses.sql").read_text())
            own.execute(f"ALTER TABLE button_presses ADD CONSTRAINT known_cohort CHECK (cohort < {COHORT_LIMIT})")

    def drop(self):
        """Drops everything."""
        self.run_sql(f"DROP SCHEMA IF EXISTS {self.schema} CASCADE")
        self._close()

    def _close(self):
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def newest(self):
        """Partition → highest sequence in the table."""
        found = {}
        for partition in range(PARTITIONS):
            low, high = session_id(self.run, partition, 0), session_id(self.run, partition, _LAST)
            rows = self.run_sql(
                f"SELECT session_id::text FROM {self.table} WHERE session_id BETWEEN '{low}' AND '{high}' "
                "ORDER BY session_id DESC LIMIT 1"
            )
            if rows:
                found[partition] = origin(rows[0][0])[2]
        return found

    def count(self):
        """Events in the table, each counted once."""
        return int(self.run_sql(f"SELECT count(DISTINCT session_id) FROM {self.table}")[0][0])

    def positions(self):
        """Partition → next offset by pressline's table; empty while there is none."""
        try:
            return dict(self.run_sql(f'SELECT "partition", next_offset FROM {self.offsets} WHERE strpos(pipeline, \'/\') = 0'))
        except psycopg.errors.UndefinedTable:
            return {}

    def rows(self, missing=()):
        """All rows, with the fields' names; columns in `missing` were dropped by a fault."""
        columns = [_POSTGRES_READS.get(name, f'"{name}"') for name in FIELDS if name not in missing]
        names = [name for name in FIELDS if name not in missing]
        with self.connect() as own, own.transaction(), own.cursor("rows") as cursor:
            cursor.itersize = 20_000
            for row in cursor.execute(f"SELECT {', '.join(columns)} FROM {self.table} ORDER BY session_id"):
                yield dict(zip(names, row))

    def doubled_coordinates(self):
        """Records whose coordinates are there twice: this table has none."""
        return 0


_POSTGRES_READS = {
    "session_id": "session_id::text",
    "timestamp": '(extract(epoch FROM "timestamp") * 1000000)::bigint',
    "action": "action::text",
}


class ClickHouseTable:
    """A table of its own, like the recommended one; `window`: inserts whose tokens the engine remembers, if not as many
    as there."""

    name = "clickhouse"

    def __init__(self, run, window=None):
        self.run, self.window = run, window
        self.address = service("CLICKHOUSE")
        self.database = service("CLICKHOUSE_DATABASE")
        self.user = service("CLICKHOUSE_USER")
        self.password = service("CLICKHOUSE_PASSWORD")
        self.table = f"presses_{run:08x}"

    def run_sql(self, sql):
        """One statement; the answer's lines."""
        return list(self._lines(sql))

    def _lines(self, sql):
        headers = {"X-ClickHouse-User": self.user, "X-ClickHouse-Key": self.password}
        address = f"{self.address}/?{urllib.parse.urlencode({'database': self.database})}"
        try:
            request = urllib.request.Request(address, sql.encode(), headers)
            # As a whole: of an answer that was cut off, single lines would be taken for what there is.
            with urllib.request.urlopen(request, timeout=60) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            text = error.read().decode(errors="replace")[:500]
            if error.code == 503:
                raise Unreachable(text) from None
            raise Failure(f"ClickHouse refuses {sql[:100]}: {text}") from None
        except (OSError, http.client.IncompleteRead) as error:
            raise Unreachable(str(error)) from None
        for line in io.BytesIO(text):
            yield line.decode().rstrip("\n")

    def front(self, kind, **options):
        """Orders a failure from the front, for the next inserts of anybody."""
        words = urllib.parse.urlencode({"kind": kind, **options})
        with urllib.request.urlopen(urllib.request.Request(f"{self.address}/front/fault?{words}", b""), timeout=30):
            pass

    def front_log(self):
        """The inserts into this table that the front remembers."""
        try:
            with urllib.request.urlopen(f"{self.address}/front/log", timeout=30) as answer:
                return [entry for entry in json.load(answer) if self.table in entry["statement"]]
        except OSError as error:
            raise Unreachable(str(error)) from None

    def make(self):
        """Makes the table."""
        text = (ROOT / "sql" / "clickhouse" / "button_presses.sql").read_text()
        statement = re.search(r"^CREATE TABLE button_presses$.*?;$", text, re.DOTALL | re.MULTILINE)[0]
        if self.window is not None:
            statement = re.sub(r"deduplication_window = \d+", f"deduplication_window = {self.window}", statement)
        self.run_sql(statement.rstrip(";").replace("button_presses", self.table, 1))
        check = f"ifNull(cohort, 0) < {COHORT_LIMIT}"
        self.run_sql(f"ALTER TABLE {self.table} ADD CONSTRAINT known_cohort CHECK {check}")

    def drop(self):
        """Drops it."""
        self.run_sql(f"DROP TABLE IF EXISTS {self.table}")

    def newest(self):
        """Partition → highest sequence in the table."""
        # Not max(session_id): ClickHouse compares UUIDs by their second half first.
        lines = self.run_sql(
            f"SELECT max(toString(session_id)) FROM {self.table} GROUP BY substring(toString(session_id), 20, 7)"
        )
        return {where[1]: where[2] for where in map(origin, lines) if where}

    def count(self):
        """Events in the table, each counted once."""
        return int(self.run_sql(f"SELECT uniqExact(session_id) FROM {self.table}")[0])

    def rows(self, missing=()):
        """All rows, with the fields' names and those of the coordinates."""
        names = [name for name in (*FIELDS, "_topic", "_partition", "_offset") if name not in missing]
        reads = {"session_id": "toString(session_id)", "timestamp": "toUnixTimestamp64Micro(timestamp)"}
        columns = ", ".join(reads.get(name, f"`{name}`") for name in names)
        sql = f"SELECT {columns} FROM {self.table} ORDER BY toString(session_id)"
        settings = "output_format_json_quote_64bit_integers = 0, output_format_json_quote_denormals = 1"
        for line in self._lines(f"{sql} SETTINGS {settings} FORMAT JSONCompactEachRow"):
            yield dict(zip(names, json.loads(line)))

    def doubled_coordinates(self):
        """Records whose coordinates are there more than once, as ClickHouse itself counts them."""
        return int(self.run_sql(f"SELECT count() - uniqExact((_topic, _partition, _offset)) FROM {self.table}")[0])


TABLES = {
    table.name: table
    for table in (PostgresTable, ClickHouseTable)
    if table.name in os.environ.get("PRESSLINE_FAULTS_DATABASES", table.name)
}


def patiently(read, what):
    """What `read` gives once the database answers."""
    found = []

    def answered():
        try:
            found.append(read())
        except Unreachable:
            return False
        return True

    await_that(what, answered, pause=0.2)
    return found[-1]
