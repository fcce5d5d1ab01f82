#!/usr/bin/env bash
# Guess:     A value that does not fit its type is refused by the writer.
# Happens:   fastavro refuses what has the wrong kind of object (a number for a string), but makes a fitting value of most others: 3.7
#            for a long is 3, "no" for a boolean is true, 1e300 for a float is infinity. An int may have more than 32 bits: fastavro,
#            Apache's Python library and npm's avsc read it whole, while ClickHouse refuses the file, and with it all its rows.
#            Apache's Python library refuses to write any of the four.
# Versions:  fastavro 1.13.1, avro 1.12.2, chdb-core 26.9.0 (PyPI)
# pressline: an int beyond 32 bits is a dead letter of its own (the datum does not fit its schema), and the records beside it are
#            written. What was changed before it was sent cannot be seen.
set -euo pipefail
. "$(dirname "$0")/common.sh"

pip_install fastavro==1.13.1 avro==1.12.2 chdb-core==26.9.0
run_python <<'END'
import io, json
from importlib.metadata import version

import avro.io, avro.schema, fastavro
from chdb import session

print("fastavro", version("fastavro"), "avro", version("avro"), "chdb-core", version("chdb-core"))


def attempt(action):
    try:
        return repr(action())
    except Exception as error:
        return "refused: " + type(error).__name__


def by_fastavro(schema, value):
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema, value)
    return out.getvalue()


def by_avro(schema, value):
    avro.io.DatumWriter(avro.schema.parse(json.dumps(schema))).write(value, avro.io.BinaryEncoder(io.BytesIO()))


for schema, value in (("string", 5), ("long", 3.7), ("boolean", "no"), ("float", 1e300), ("int", 2**40)):
    back = attempt(lambda: fastavro.schemaless_reader(io.BytesIO(by_fastavro(schema, value)), schema))
    print(f"{value!r} as {schema}: fastavro {back}; avro {attempt(lambda: by_avro(schema, value))}")

with open("ints.avro", "wb") as file:
    schema = {"type": "record", "name": "Row", "fields": [{"name": "a", "type": "int"}]}
    fastavro.writer(file, schema, [{"a": 1}, {"a": 2**40}])
try:
    print("ClickHouse:", session.Session("db").query("SELECT a FROM file('ints.avro', 'Avro')", "TSV"))
except Exception as error:
    print("ClickHouse:", str(error).split("exception: ")[-1].split("::")[-1].strip())
END
as_stated <<'END'
fastavro 1.13.1 avro 1.12.2 chdb-core 26.9.0
5 as string: fastavro refused: TypeError; avro refused: AvroTypeException
3.7 as long: fastavro 3; avro refused: AvroTypeException
'no' as boolean: fastavro True; avro refused: AvroTypeException
1e+300 as float: fastavro inf; avro refused: OverflowError
1099511627776 as int: fastavro 1099511627776; avro refused: AvroTypeException
ClickHouse: Exception: Value out of range for Avro int: 1099511627776. (AVRO_EXCEPTION)
END
