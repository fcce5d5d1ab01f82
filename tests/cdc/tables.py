"""The tables of the test: what they are at the source, and how rows are read from source and targets to be compared."""

import json
import os
import random
import urllib.request
from datetime import date, datetime, timedelta, timezone
from datetime import time as datetime_time
from decimal import Decimal

import psycopg

SOURCE, TARGET = "cdc_source", "cdc_target"
# Years that all three databases hold; a snapshot of Debezium's takes dates before Christ for such of our era.
_FIRST = datetime(1900, 1, 1)
_SECONDS = 200 * 365 * 86_400
_LETTERS = "aöß漢🐟 '\"\\\t\n{}"


class Table:
    """One table. `columns` are name → type; the key comes first."""

    def __init__(self, name, key, columns, extra="SELECT"):
        self.name, self.key, self.columns, self.extra = name, key, columns, extra

    def ddl(self):
        """As it is made at the source, and in the target."""
        columns = ", ".join(f'"{name}" {kind}' for name, kind in self.columns.items())
        return f"CREATE TABLE {self.name} ({columns}, PRIMARY KEY ({', '.join(self.key)}))"

    def random_row(self, random, key):
        """A row with this key."""
        rest = list(self.columns)[len(self.key) :]
        return [*key, *(_value(random, self.columns[name]) for name in rest)]


CUSTOMERS = Table(
    "customers",
    ["id"],
    {
        "id": "bigint",
        "name": "text NOT NULL",
        "balance": "numeric(12,2)",
        "score": "double precision",
        "born": "date",
        "seen": "timestamptz",
        "updated": "timestamp",
        "opens": "time",
        # ClickHouse has no Nullable(Array).
        "tags": "text[] NOT NULL",
        "counts": "int[] NOT NULL",
        "document": "jsonb",
        "token": "uuid",
        "is_active": "boolean",
        "mood": "mood",
        "small": "smallint",
    },
)
ORDERS = Table(
    "orders",
    ["region", "number"],
    {"region": "text", "number": "int", "quantity": "int NOT NULL", "note": "varchar(40)", "due": "timestamp(3)"},
)
# An update that leaves `body` alone does not write it to the log; with this identity, Debezium finds it in the old row.
DOCUMENTS = Table(
    "documents",
    ["id"],
    {"id": "uuid", "title": "text", "body": "text"},
    "ALTER TABLE documents ALTER body SET STORAGE EXTERNAL; ALTER TABLE documents REPLICA IDENTITY FULL",
)
TABLES = [CUSTOMERS, ORDERS, DOCUMENTS]
# The same without that identity: PostgreSQL's sink leaves such values as they are. A changed key would be a row that is not whole.
LACKING = Table(
    "report",
    ["id"],
    {"id": "int", "title": "text", "body": "varchar", "data": "bytea", "words": "varchar[]"},
    "ALTER TABLE report ALTER body SET STORAGE EXTERNAL, ALTER data SET STORAGE EXTERNAL, ALTER words SET STORAGE EXTERNAL",
)
# Of its rows some cannot be written: infinite times, and a long value that is not in the log of an update.
ODD = Table(
    "odd",
    ["id"],
    {"id": "int", "at": "timestamptz", "day": "date", "note": "text", "body": "text"},
    "ALTER TABLE odd ALTER body SET STORAGE EXTERNAL",
)
# Without a key it cannot be kept equal: it is loaded as a log.
KEYLESS = Table("unkeyed", [], {"a": "int", "b": "text"})


def _value(chance, kind):
    if "NOT NULL" not in kind and chance.random() < 0.1:
        return None
    kind = kind.removesuffix(" NOT NULL")
    text = "".join(chance.choice(_LETTERS) for _ in range(chance.randint(0, 12)))
    moment = _FIRST + timedelta(seconds=chance.randrange(_SECONDS), microseconds=chance.randrange(10**6))
    makers = {
        "text": lambda: text if chance.random() < 0.9 else text * 800,
        "varchar(40)": lambda: text,
        "varchar": lambda: text * 800,
        "bytea": lambda: text.encode() * 800,
        "varchar[]": lambda: [text * 400, None, text],
        "numeric(12,2)": lambda: Decimal(chance.randrange(-(10**11), 10**11)) / 100,
        "double precision": lambda: chance.choice([chance.uniform(-1e9, 1e9), 0.1, 1e300, -5e-324]),
        "date": moment.date,
        "timestamptz": lambda: moment.replace(tzinfo=timezone.utc),
        "timestamp": lambda: moment,
        "timestamp(3)": lambda: moment.replace(microsecond=moment.microsecond // 1000 * 1000),
        "time": moment.time,
        "text[]": lambda: [text[:n] for n in range(chance.randint(0, 3))],
        "int[]": lambda: [chance.randrange(-(2**31), 2**31) for _ in range(chance.randint(0, 3))],
        "jsonb": lambda: json.dumps({"n": chance.randrange(1000), "text": text}),
        "boolean": lambda: chance.random() < 0.5,
        "mood": lambda: chance.choice(["sad", "ok", "happy"]),
        "smallint": lambda: chance.randrange(-(2**15), 2**15),
        "int": lambda: chance.randrange(-(2**31), 2**31),
        "uuid": lambda: random_uuid(chance),
    }
    return makers[kind]()


def random_uuid(chance):
    """As text."""
    digits = f"{chance.getrandbits(128):032x}"
    return "-".join([digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]])


def connect(database, autocommit=True):
    """To the test server."""
    host, port = os.environ["PRESSLINE_TEST_POSTGRES"].rsplit(":", 1)
    return psycopg.connect(
        host=host,
        port=port,
        user=os.environ["PRESSLINE_TEST_POSTGRES_USER"],
        password=os.environ["PRESSLINE_TEST_POSTGRES_PASSWORD"],
        dbname=database,
        autocommit=autocommit,
    )


def make_databases(schemas):
    """Source and target, empty; the tables of the target, in each schema, are made by hand, as somebody would who wants the same types."""
    with connect(os.environ["PRESSLINE_TEST_POSTGRES_DATABASE"]) as server:
        for name in (SOURCE, TARGET):
            server.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
            server.execute(f"CREATE DATABASE {name}")
    clickhouse(f"DROP DATABASE IF EXISTS {TARGET}")
    clickhouse(f"CREATE DATABASE {TARGET}")
    for name in (SOURCE, TARGET):
        with connect(name) as database:
            database.execute("CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')")
            for table in [*TABLES, LACKING, ODD] if name == SOURCE else ():
                database.execute(table.ddl())
                database.execute(table.extra)
            if name == SOURCE:
                database.execute("CREATE TABLE unkeyed (a int, b text); ALTER TABLE unkeyed REPLICA IDENTITY FULL")
            for schema in schemas if name == TARGET else ():
                database.execute(f"CREATE SCHEMA {schema}; SET search_path = {schema}, public")
                for table in [*TABLES, LACKING, ODD]:
                    database.execute(table.ddl())
                database.execute("CREATE TABLE unkeyed (_op text, a int, b text)")


def clickhouse(query):
    """The answer as text."""
    request = urllib.request.Request(os.environ["PRESSLINE_TEST_CLICKHOUSE"], query.encode())
    request.add_header("X-ClickHouse-User", os.environ["PRESSLINE_TEST_CLICKHOUSE_USER"])
    request.add_header("X-ClickHouse-Key", os.environ["PRESSLINE_TEST_CLICKHOUSE_PASSWORD"])
    with urllib.request.urlopen(request, timeout=60) as answer:
        return answer.read().decode()


def postgres_rows(table, database, schema="public"):
    """Key → row, as PostgreSQL's own texts."""
    columns = ", ".join(f'"{name}"::text' for name in table.columns)
    with connect(database) as connection:
        connection.execute("SET TIME ZONE 'UTC'; SET extra_float_digits = 3")
        rows = connection.execute(f"SELECT {columns} FROM {schema}.{table.name}").fetchall()
    return {row[: len(table.key)]: row for row in rows}


def source_values(table):
    """Key → row, as values that ClickHouse's are compared with."""
    with connect(SOURCE) as connection:
        connection.execute("SET TIME ZONE 'UTC'")
        columns = ", ".join(f'"{name}"::text' if kind == "jsonb" else f'"{name}"' for name, kind in table.columns.items())
        rows = connection.execute(f"SELECT {columns} FROM {table.name}").fetchall()
    return _by_key(table, [[_plain(value) for value in row] for row in rows])


def clickhouse_values(table, suffix):
    """The same of the view that shows each row as it is now."""
    settings = "output_format_json_quote_64bit_integers=0, output_format_json_quote_decimals=1, output_format_json_quote_denormals=1"
    columns = ", ".join(f"`{name}`" for name in table.columns)
    answer = clickhouse(f"SELECT {columns} FROM {TARGET}.{table.name}{suffix}_current FORMAT JSONCompactEachRow SETTINGS {settings}")
    # Not splitlines(): JSON may hold other line ends as they are.
    rows = [json.loads(line, parse_float=float) for line in answer.split("\n") if line]
    kinds = list(table.columns.values())
    return _by_key(table, [[_of_clickhouse(value, kind) for value, kind in zip(row, kinds, strict=True)] for row in rows])


def postgres_log(schema):
    """The rows of a log, sorted as texts."""
    with connect(TARGET) as connection:
        return sorted(connection.execute(f"SELECT _op, a, b FROM {schema}.unkeyed").fetchall(), key=repr)


def clickhouse_log(suffix):
    """Topic, partition and offset, and the row, of each row of a log."""
    answer = clickhouse(f"SELECT _topic, _partition, _offset, _op, a, b FROM {TARGET}.unkeyed{suffix} FORMAT JSONCompactEachRow")
    rows = [json.loads(line) for line in answer.split("\n") if line]
    return [((topic, partition, int(offset)), (op, a, b)) for topic, partition, offset, op, a, b in rows]


def _by_key(table, rows):
    found = {tuple(row[: len(table.key)]): tuple(row) for row in rows}
    if len(found) != len(rows):
        raise AssertionError(f"{table.name}: a key is there twice")
    return found


def _plain(value):
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, datetime_time):
        # `auto_create` takes microseconds since midnight.
        return ((value.hour * 60 + value.minute) * 60 + value.second) * 10**6 + value.microsecond
    if isinstance(value, list):
        return tuple(value)
    if isinstance(value, float | Decimal | bool | int | date) or value is None:
        return value
    return str(value)


def _of_clickhouse(value, kind):
    if value is None:
        return None
    if kind.startswith("numeric"):
        return Decimal(value)
    if kind == "timestamptz":
        return datetime.fromisoformat(value)
    if kind.startswith("timestamp"):
        # `auto_create` takes the number: a local time is no instant.
        return datetime(1970, 1, 1) + timedelta(microseconds=value * (1000 if kind == "timestamp(3)" else 1))
    if kind == "date":
        return date.fromisoformat(value)
    if kind == "double precision":
        return float(value)
    return tuple(value) if isinstance(value, list) else value


def seeded(seed):
    """A source of chance that can be had again."""
    return random.Random(seed)
