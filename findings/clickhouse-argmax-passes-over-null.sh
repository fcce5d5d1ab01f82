#!/usr/bin/env bash
# Guess:     argMax(value, version) is the value of the newest version, the usual way to read the current row without FINAL.
# Happens:   It is the newest value that is not NULL. A field that was set to NULL goes on with the value it had before, and a row
#            read by several argMax is one that never was: each column from another version. FINAL, and argMax of a tuple, give NULL.
# Versions:  ClickHouse 26.9.2 (PyPI chdb-core 26.9.0)
# pressline: compares tables with topics by the rows themselves, never by aggregates of them.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install chdb-core==26.9.0
run_python <<'END'
from chdb import session

database = session.Session("db")


def ask(sql):
    return str(database.query(sql, "TSV")).strip().replace("\t", " ")


print("ClickHouse", ask("SELECT version()"))
ask("CREATE DATABASE d")
ask("""CREATE TABLE d.t (id Int32, version Int32, email Nullable(String), city Nullable(String))
       ENGINE = ReplacingMergeTree(version) ORDER BY id""")
ask("INSERT INTO d.t VALUES (1, 1, 'someone@example.org', 'Oslo')")
ask("INSERT INTO d.t VALUES (1, 2, NULL, 'Bergen')")
print("FINAL:", ask("SELECT email, city FROM d.t FINAL"))
print("argMax:", ask("SELECT argMax(email, version), argMax(city, version) FROM d.t GROUP BY id"))
print("argMax of a tuple:", ask("SELECT argMax(tuple(email), version).1, argMax(tuple(city), version).1 FROM d.t GROUP BY id"))
END
as_stated <<'END'
ClickHouse 26.9.2.1
FINAL: \N Bergen
argMax: someone@example.org Bergen
argMax of a tuple: \N Bergen
END
