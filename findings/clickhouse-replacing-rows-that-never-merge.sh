#!/usr/bin/env bash
# Guess:     After OPTIMIZE ... FINAL a ReplacingMergeTree holds one row for each key, as SELECT ... FINAL shows.
# Happens:   Parts of different partitions are never merged. When the column of PARTITION BY changes, the old version stays for good
#            beside the new one: FINAL hides it, and every reader without FINAL, or with do_not_merge_across_partitions_select_final
#            (a usual advice for speed), counts the key twice. A condition in an explicit PREWHERE looks below FINAL and finds
#            versions that have been replaced. And three versions in one insert are one row at once, without any merge
#            (optimize_on_insert), so that the count of rows does not tell whether all were taken.
# Versions:  ClickHouse 26.9.2 (PyPI chdb-core 26.9.0)
# pressline: exactly_once refuses the engine, since the table itself must tell which records it holds.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install chdb-core==26.9.0
run_python <<'END'
from chdb import session

database = session.Session("db")


def ask(sql):
    return str(database.query(sql, "TSV")).strip().replace("\t", " ").replace("\n", ", ")


print("ClickHouse", ask("SELECT version()"))
ask("CREATE DATABASE d")
ask("CREATE TABLE d.t (id Int32, version Int32, state String) ENGINE = ReplacingMergeTree(version) ORDER BY id PARTITION BY state")
ask("INSERT INTO d.t VALUES (1, 1, 'open'), (1, 2, 'open'), (1, 3, 'open')")
print("three versions in one insert, rows:", ask("SELECT count() FROM d.t"))
ask("INSERT INTO d.t VALUES (1, 4, 'paid')")
ask("OPTIMIZE TABLE d.t FINAL")
print("after OPTIMIZE FINAL:", ask("SELECT * FROM d.t ORDER BY version"))
print("with FINAL:", ask("SELECT * FROM d.t FINAL"))
setting = "SETTINGS do_not_merge_across_partitions_select_final = 1"
print("with FINAL and the setting:", ask(f"SELECT * FROM d.t FINAL ORDER BY version {setting}"))
print("FINAL WHERE open:", ask("SELECT count() FROM d.t FINAL WHERE state = 'open'"))
print("FINAL PREWHERE open:", ask("SELECT count() FROM d.t FINAL PREWHERE state = 'open'"))
END
as_stated <<'END'
ClickHouse 26.9.2.1
three versions in one insert, rows: 1
after OPTIMIZE FINAL: 1 3 open, 1 4 paid
with FINAL: 1 4 paid
with FINAL and the setting: 1 3 open, 1 4 paid
FINAL WHERE open: 0
FINAL PREWHERE open: 1
END
