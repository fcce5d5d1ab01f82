"""Both databases of the test services, each with the table button_presses in a database of its own."""

import json
import os
import re
import urllib.error
import urllib.request
from datetime import datetime, timezone
from decimal import Decimal

import psycopg
from psycopg import sql

from tests.harness.paths import ROOT

# The columns of sql/*/button_presses.sql that come from the topic.
COLUMNS = (
    "session_id", "timestamp", "cohort", "action", "country_name", "country_code", "subdivision_name", "subdivision_code",
    "city_name", "latitude", "longitude", "accuracy_km", "time_zone",
)  # fmt: skip


def question_files(database):
    """sql/questions/DATABASE in the order of the files' numbers."""
    return sorted((ROOT / "sql/questions" / database).glob("*.sql"))


class Postgres:
    """The test server; its user may make databases."""

    name = "postgres"

    def __init__(self, database):
        self.database = database
        with self._connect(os.environ["PRESSLINE_TEST_POSTGRES_DATABASE"]) as server:
            server.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(database)))
            server.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(database)))
        self._connection = self._connect(database)
        # What a session's own time zone is must not matter.
        self._connection.execute("SET TIME ZONE 'Asia/Kathmandu'")
        self.run_file(ROOT / "sql/postgres/button_presses.sql")

    def run_file(self, path):
        """All statements of a file."""
        self._connection.execute(path.read_text())

    def insert(self, presses):
        """Rows as the topic has them."""
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        with self._connection.cursor() as cursor:
            with cursor.copy(sql.SQL("COPY button_presses ({}) FROM STDIN").format(columns)) as copy:
                for press in presses:
                    copy.write_row([press[column] for column in COLUMNS])

    def insert_build(self, used_from, build):
        """A row of place_builds."""
        self._connection.execute("INSERT INTO place_builds VALUES (%s, %s)", [used_from, build])

    def select(self, query):
        """Rows as dicts: times and dates as texts in UTC, numbers plain."""
        cursor = self._connection.execute(query)
        names = [column.name for column in cursor.description]
        return [{name: self._plain(name, cell) for name, cell in zip(names, row)} for row in cursor], names

    def columns(self, view):
        """Their names."""
        return [column.name for column in self._connection.execute(f"SELECT * FROM {view} LIMIT 0").description]

    def views(self):
        """All names."""
        found = self._connection.execute("SELECT viewname FROM pg_views WHERE schemaname = 'public'")
        return {row[0] for row in found}

    def _plain(self, name, cell):
        if isinstance(cell, Decimal):
            raise AssertionError(f"postgres: column {name} is numeric, expected bigint or double precision")
        if isinstance(cell, datetime):
            return cell.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S.%f")
        return cell if cell is None or isinstance(cell, (bool, int, float, str)) else str(cell)

    def _connect(self, database):
        host, port = os.environ["PRESSLINE_TEST_POSTGRES"].split(":")
        user, password = (os.environ[f"PRESSLINE_TEST_POSTGRES_{key}"] for key in ("USER", "PASSWORD"))
        return psycopg.connect(host=host, port=port, user=user, password=password, dbname=database, autocommit=True)


class ClickHouse:
    """The test column store."""

    name = "clickhouse"
    # More settings of each query, each after a comma.
    settings = ""

    def __init__(self, database):
        self.database = database
        self._run(f"DROP DATABASE IF EXISTS {database}", "default")
        self._run(f"CREATE DATABASE {database}", "default")
        self.run_file(ROOT / "sql/clickhouse/button_presses.sql")

    def run_file(self, path):
        """All statements of a file; its comments have lines of their own."""
        text = re.sub(r"(?m)^\s*--.*$", "", path.read_text())
        for statement in filter(None, map(str.strip, text.split(";"))):
            self._run(statement)

    def insert(self, presses):
        """Rows as the topic has them."""
        lines = []
        for offset, press in enumerate(presses):
            row = {column: press[column] for column in COLUMNS} | {"_topic": "questions", "_partition": 0, "_offset": offset}
            lines.append(json.dumps(row | {"timestamp": press["timestamp"].strftime("%Y-%m-%d %H:%M:%S.%f")}))
        self._run("INSERT INTO button_presses FORMAT JSONEachRow\n" + "\n".join(lines))

    def insert_build(self, used_from, build):
        """A row of place_builds."""
        self._run(f"INSERT INTO place_builds VALUES ('{used_from:%Y-%m-%d %H:%M:%S}', '{build}')")

    def select(self, query):
        """Rows as dicts: times and dates as texts in UTC, numbers plain; NaN is a text, which no oracle has."""
        settings = "output_format_json_quote_64bit_integers = 0, output_format_json_quote_denormals = 1" + self.settings
        names, *rows = map(json.loads, self._run(f"{query} SETTINGS {settings} FORMAT JSONCompactEachRowWithNames").splitlines())
        return [dict(zip(names, row)) for row in rows], names

    def columns(self, view):
        """Their names."""
        query = f"SELECT name FROM system.columns WHERE database = currentDatabase() AND table = '{view}' ORDER BY position"
        return [row["name"] for row in self.select(query)[0]]

    def views(self):
        """All names."""
        return {row["name"] for row in self.select("SELECT name FROM system.tables WHERE database = currentDatabase() AND engine = 'View'")[0]}

    def _run(self, statement, database=None):
        address = f"{os.environ['PRESSLINE_TEST_CLICKHOUSE']}/?database={database or self.database}"
        user, key = (os.environ[f"PRESSLINE_TEST_CLICKHOUSE_{word}"] for word in ("USER", "PASSWORD"))
        headers = {"X-ClickHouse-User": user, "X-ClickHouse-Key": key}
        try:
            with urllib.request.urlopen(urllib.request.Request(address, statement.encode(), headers), timeout=300) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            raise AssertionError(f"clickhouse: {error.read().decode()[:800]}\n{statement[:2000]}") from None
