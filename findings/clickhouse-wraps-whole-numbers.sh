#!/usr/bin/env bash
# Guess:     A whole number that a column cannot hold is refused, as ClickHouse refuses 1e20 for an Int32 and "-1" for a UInt64.
# Happens:   Whole numbers are cut to their low bits, in JSON, CSV, VALUES and Avro alike, and the insert succeeds: 300 into a UInt8 is
#            44, 2^64-1 into an Int64 is -1, day 70000 into a Date is in 1982. The same Avro reader refuses a double that is out of
#            range, and the same JSON reader a minus sign before an unsigned number.
# Versions:  ClickHouse 26.9.2 (PyPI chdb-core 26.9.0), Avro files by fastavro 1.13.1
# pressline: lets ClickHouse convert nothing: it compares each value with the column's range and sends Native blocks of the column's
#            own types; a value out of range is a dead letter.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install chdb-core==26.9.0 fastavro==1.13.1
run_python <<'END'
import fastavro
from chdb import session

database = session.Session("db")


def ask(sql):
    try:
        return str(database.query(sql, "TSV")).strip().replace("\t", " ").replace("\n", ", ")
    except Exception as error:
        return "refused: " + str(error).rsplit("(", 1)[-1].split(")")[0]


print("ClickHouse", ask("SELECT version()"))
ask("CREATE DATABASE d")
for column, form, data in (
    ("UInt8", "JSONEachRow", '{"x": 300}'), ("UInt8", "CSV", "300"), ("UInt8", "Values", "(300)"),
    ("Int32", "JSONEachRow", '{"x": 5000000000}'), ("Int64", "JSONEachRow", '{"x": 18446744073709551615}'),
    ("Date", "JSONEachRow", '{"x": 70000}'), ("UInt64", "JSONEachRow", '{"x": -1}'), ("UInt64", "Values", "(-1)"),
):
    ask("DROP TABLE IF EXISTS d.t")
    ask(f"CREATE TABLE d.t (x {column}) ENGINE = MergeTree ORDER BY tuple()")
    answer = ask(f"INSERT INTO d.t FORMAT {form} {data}")
    print(f"{form} {data} into {column}: {answer or ask('SELECT x FROM d.t')}")

for avro_type, value, columns in (("long", 5_000_000_000, ("Int32", "UInt8", "Decimal(9, 2)", "DateTime")), ("double", 1e20, ("Int32",))):
    with open("x.avro", "wb") as file:
        fastavro.writer(file, {"type": "record", "name": "R", "fields": [{"name": "x", "type": avro_type}]}, [{"x": value}])
    for column in columns:
        print(f"Avro {avro_type} {value} as {column}:", ask(f"SELECT x FROM file('x.avro', 'Avro', 'x {column}')"))
END
as_stated <<'END'
ClickHouse 26.9.2.1
JSONEachRow {"x": 300} into UInt8: 44
CSV 300 into UInt8: 44
Values (300) into UInt8: 44
JSONEachRow {"x": 5000000000} into Int32: 705032704
JSONEachRow {"x": 18446744073709551615} into Int64: -1
JSONEachRow {"x": 70000} into Date: 1982-03-23
JSONEachRow {"x": -1} into UInt64: refused: CANNOT_PARSE_NUMBER
Values (-1) into UInt64: 18446744073709551615
Avro long 5000000000 as Int32: 705032704
Avro long 5000000000 as UInt8: 0
Avro long 5000000000 as Decimal(9, 2): 7050327.04
Avro long 5000000000 as DateTime: 1992-05-05 02:25:04
Avro double 1e+20 as Int32: refused: VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
END
